"""jtop without a service: the calls and records of jetson-stats 4.3.2 and 7.2.2, read in their sources.

Values are those of real lines of tegrastats of the same module.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

RAIL = {"volt": 5000, "curr": 1, "avg": 1, "online": True}


class JtopException(Exception):  # noqa: N818  (as jtop names it)
    pass


ORIN_NANO: Dict[str, Any] = {
    "memory": {
        "RAM": {"tot": 7607 << 10, "used": 5530 << 10, "free": 500 << 10, "buffers": 0, "cached": 0, "lfb": 2},
        "SWAP": {"tot": 3804 << 10, "used": 436 << 10, "cached": 0, "table": {}},
        "EMC": {"cur": 2133000, "max": 2133000, "min": 204000, "val": 31, "online": True},
    },
    "cpu": {
        "total": {"user": 1.0, "nice": 0.0, "system": 1.0, "idle": 98.0},
        "cpu": [
            {
                "online": True,
                "user": 10.0,
                "nice": 0.5,
                "system": 2.0,
                "idle": 87.5,
                "freq": {"cur": 1510400, "min": 729600, "max": 1510400},
            },
            {"online": False},
        ],
    },
    "gpu": {
        "gpu": {
            "type": "integrated",
            "status": {"railgate": False, "tpc_pg_mask": False, "3d_scaling": True, "load": 99.0},
            "freq": {"governor": "nvhost_podgov", "cur": 624750, "max": 624750, "min": 306000, "GPC": [621435, 0]},
            "power_control": "auto",
        }
    },
    "engine": {"APE": {"APE": {"online": True, "cur": 174000}}, "NVENC": {"NVENC": {"online": False, "cur": 0}}},
    "temperature": {
        "cpu": {"temp": 66.0, "online": True},
        "cv0": {"temp": -256, "online": False},
        "tj": {"temp": 67.406, "online": True},
    },
    # The input rail is moved from `rail` to `tot`; a USB-C supply stays among the rails.
    "power": {
        "rail": {
            "VDD_CPU_GPU_CV": {**RAIL, "power": 5531, "crit": 1, "warn": 1},
            "VDD_SOC": {**RAIL, "power": 2833, "crit": 1, "warn": 1},
            "ucsi_source_psy_2_00081": {**RAIL, "power": 60000, "status": "Charging"},
        },
        "tot": {**RAIL, "power": 13798, "name": "VDD_IN"},
    },
}
AGX_XAVIER_POWER = {
    "rail": {
        name: {**RAIL, "power": power}
        for name, power in [("GPU", 18401), ("CPU", 2301), ("SOC", 4602), ("CV", 0), ("VDDRQ", 2914), ("SYS5V", 4632)]
    },
    "tot": {"power": 999999, "avg": 1},  # jtop's own sum: whatever it is, it is not to be used
}
THOR_GPU = {
    "Thor": {
        "type": "integrated",
        "status": {"load": 0.0, "3d_scaling": True},
        "freq": {"governor": "nvml", "cur": 1575, "max": 0, "min": 0},
        "power_control": "nvml",
    }
}


class FakeJtop:
    """A library whose `jtop` is a client of a made-up service."""

    JtopException = JtopException

    def __init__(self, record: Dict[str, Any], failures: int = 0) -> None:
        self.record = record
        self.failures = failures
        self.is_running = True
        self.error: BaseException | None = None
        self.clients: list[_Client] = []

    def jtop(self, interval: float = 1.0) -> _Client:
        self.clients.append(_Client(self, interval))
        return self.clients[-1]

    def send(self) -> None:
        for observer in self.clients[-1].observers:
            observer(self.clients[-1])


class _Client:
    def __init__(self, library: FakeJtop, interval: float) -> None:
        self.interval = interval
        self.observers: set[Callable[[Any], Any]] = set()
        self.is_open = False
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return self._library.record[name]

    def attach(self, observer: Callable[[Any], Any]) -> None:
        self.observers.add(observer)

    def start(self) -> None:
        if self._library.failures:
            self._library.failures -= 1
            raise JtopException("The jtop.service is not active. Please run:\nsudo jtop --install-service")
        self.is_open = True

    def ok(self, spin: bool = False) -> bool:
        assert spin, "it would wait, and then be closed for good"
        if self._library.error is not None:
            raise self._library.error
        return self._library.is_running

    def close(self) -> None:
        self.is_open = False
