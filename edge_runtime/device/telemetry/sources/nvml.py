"""An NVIDIA GPU through NVML: discrete ones, and in part a Thor's. What NVML doesn't support is None.

An Orin's driver answers NotSupported to nearly everything; sysfs is the source there.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any, Callable, Dict, Set

from edge_runtime.device.telemetry.sample import Bus, Gpu, Limits, Rail, TelemetrySample, TotalPower
from edge_runtime.device.telemetry.source import Origin, Source
from edge_runtime.errors import TelemetryError

_RAIL = "gpu"
_ZONE = "gpu"
# What slows a GPU down against its will, by the bit of NVML's reasons; power caps and heat, by software and hardware.
_REASONS = {
    "SwPowerCap": "nvml-sw-power-cap",
    "HwSlowdown": "nvml-hw-slowdown",
    "SwThermalSlowdown": "nvml-sw-thermal-slowdown",
    "HwThermalSlowdown": "nvml-hw-thermal-slowdown",
    "HwPowerBrakeSlowdown": "nvml-hw-power-brake-slowdown",
}
# After these nothing more can be had from this connection; all others are of one question.
_FATAL = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "GPU_IS_LOST", "RESET_REQUIRED", "LIB_RM_VERSION_MISMATCH")


class NvmlSource:
    """GPU `index` of NVML; `host`, which it then owns, gives everything that isn't the GPU's.

    `emc` is the GPU's own memory: how much of the time it was read or written, and its clock. `cooling` has a mark for
    each reason that slows the GPU down: 1 while it acts.
    """

    is_paced = False

    def __init__(self, host: Source | None = None, index: int = 0, library: Any = None) -> None:
        """Connects.

        Raises:
            TelemetryError: nvidia-ml-py isn't installed, there is no such GPU, or NVML tells nothing about it.
        """
        self._host = host
        self._nvml = library or _imported()
        self._unsupported: Set[str] = set()
        self._is_closed = False
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise TelemetryError(f"NVML can't be started: {error}") from error
        try:
            self._gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
            name = self._nvml.nvmlDeviceGetName(self._gpu)
            self.origin = Origin("nvml", module=name.decode(errors="replace") if isinstance(name, bytes) else str(name))
            self._trips_c = self._read_trips()
            if not any(self._readings().values()):
                raise TelemetryError(f"NVML tells nothing about {self.origin.module}: its driver doesn't support it")
        except self._nvml.NVMLError as error:
            self._shut_down()
            raise TelemetryError(f"NVML has no GPU {index}: {error}") from error
        except TelemetryError:
            self._shut_down()
            raise

    def read(self, timeout_s: float = 0.0) -> TelemetrySample:
        """The GPU now, and the host.

        Raises:
            TelemetryError: the GPU or its driver is gone.
        """
        readings = self._readings()
        host = None if self._host is None else self._host.read(timeout_s)
        if host is None:
            host = TelemetrySample()
        readings["temps_c"] = {**host.temps_c, **readings["temps_c"]}
        readings["cooling"] = {**host.cooling, **readings["cooling"]}
        readings["trips_c"] = {**host.trips_c, **self._trips_c}
        return replace(host, **readings)

    def close(self) -> None:
        """Disconnects, and closes the host's source."""
        self._shut_down()
        if self._host is not None:
            self._host.close()

    def _readings(self) -> Dict[str, Any]:
        nvml = self._nvml
        power_mw = self._asked("nvmlDeviceGetPowerUsage")
        used = self._asked("nvmlDeviceGetUtilizationRates")
        clock = self._asked("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
        memory_clock = self._asked("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
        highest = self._asked("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM)
        temperature = self._asked("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
        has_gpu = used is not None or clock is not None
        has_memory = used is not None or memory_clock is not None
        clocks = None if clock is None else (clock,)
        return {
            "gr3d": Gpu(None if used is None else used.gpu, clocks) if has_gpu else None,
            "emc": Bus(None if used is None else used.memory, memory_clock) if has_memory else None,
            "gpu_limits": None if highest is None else Limits(None, highest),
            "temps_c": {} if temperature is None else {_ZONE: float(temperature)},
            "power_mw": {} if power_mw is None else {_RAIL: Rail(power_mw)},
            "total_power": None if power_mw is None else TotalPower(power_mw, (_RAIL,), "gpu"),
            "cooling": self._marks(),
        }

    def _marks(self) -> Dict[str, int]:
        """NVML renamed "throttle" reasons to "event" reasons; drivers and bindings have either or both."""
        for word in ("Event", "Throttle"):
            reasons = self._asked(f"nvmlDeviceGetCurrentClocks{word}Reasons")
            if reasons is not None:
                bits = {
                    mark: getattr(self._nvml, f"nvmlClocks{word}Reason{name}", 0) for name, mark in _REASONS.items()
                }
                return {mark: int(bool(reasons & bit)) for mark, bit in bits.items() if bit}
        return {}

    def _read_trips(self) -> Dict[str, float]:
        slowdown = self._asked("nvmlDeviceGetTemperatureThreshold", self._nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        return {} if not slowdown else {_ZONE: float(slowdown)}

    def _asked(self, function: str, *arguments: Any) -> Any:
        """NVML's answer; None where it has none. What isn't supported once is not asked again."""
        key = f"{function}{arguments}"
        call: Callable[..., Any] | None = getattr(self._nvml, function, None)
        if call is None or key in self._unsupported:
            return None
        try:
            return call(self._gpu, *arguments)
        except self._nvml.NVMLError as error:
            nvml = self._nvml
            if error.value in [getattr(nvml, f"NVML_ERROR_{name}", None) for name in _FATAL]:
                raise TelemetryError(f"NVML lost {self.origin.module}: {error}") from error
            if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                self._unsupported.add(key)
            return None

    def _shut_down(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:  # a driver that is gone has shut down already
                return


def _imported() -> Any:
    try:
        return import_module("pynvml")
    except ImportError as error:
        raise TelemetryError("NVML needs nvidia-ml-py; run: pip install 'edge-runtime[nvml]'") from error
