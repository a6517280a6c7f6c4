"""A sample as JSON has it, there and back.

What wasn't told has no key; `temps_c`, `power_mw` and `total_power` are always there. Inside a part, null is a value
that its source doesn't tell. `constants` is only written where the usual rule (`constants_in`) doesn't give it.
"""

from __future__ import annotations

import datetime
from typing import Any, Callable, Dict, Mapping, Tuple, TypeVar

from edge_runtime.device.telemetry.constants import constants_in
from edge_runtime.device.telemetry.sample import (
    Bus,
    Cpu,
    Gpu,
    HardwareEngine,
    Iram,
    Limits,
    Number,
    Rail,
    Ram,
    Swap,
    TelemetrySample,
    TotalPower,
)
from edge_runtime.errors import DataError

T = TypeVar("T")
_BEYOND = 1 << 63  # no number of a board is that large, and a float can't hold any
_KEYS = frozenset(TelemetrySample.__dataclass_fields__) - {"mts_pct"} | {"mts"}


def record_from_sample(sample: TelemetrySample) -> Dict[str, Any]:
    """The sample as a record of plain values, its keys in the order in which tegrastats prints them."""
    record: Dict[str, Any] = {
        "timestamp": sample.timestamp,
        "ram": _told(sample.ram),
        "swap": _told(sample.swap),
        "iram": _told(sample.iram),
        "cpus": sample.cpus if sample.cpus is None else [_all(cpu) for cpu in sample.cpus],
        "emc": _all(sample.emc),
        "gr3d": _all(sample.gr3d),
        "gr3d2": _all(sample.gr3d2),
        "engines": {name: _engine(engine) for name, engine in sample.engines.items()} or None,
        "ape_mhz": sample.ape_mhz,
        "mts": sample.mts_pct and dict(zip(("fg_pct", "bg_pct"), sample.mts_pct)),
        "avp": _all(sample.avp),
        "edp_limit_mhz": sample.edp_limit_mhz,
        "temps_c": dict(sample.temps_c),
        "temps_peak_c": dict(sample.temps_peak_c) or None,
        "constants": None if sample.constants == constants_in(sample.temps_c) else list(sample.constants),
        "power_mw": {name: _rail(rail) for name, rail in sample.power_mw.items()},
        "cooling": dict(sample.cooling) or None,
        "over_current_events": dict(sample.over_current_events) or None,
        "trips_c": dict(sample.trips_c) or None,
        "gpu_limits": _all(sample.gpu_limits),
        "cpu_limits": [_all(limits) for limits in sample.cpu_limits] or None,
        "unknown": list(sample.unknown) or None,
    }
    told = {key: value for key, value in record.items() if value is not None}
    told["total_power"] = _all(sample.total_power)
    return told


def sample_from_record(record: Any) -> TelemetrySample:
    """The sample that the record was made of.

    Raises:
        DataError: it isn't the record of a sample; the message names the place.
    """
    _Reader.mapping(record, "sample")
    unknown = sorted(set(record) - _KEYS)
    if unknown:
        raise DataError(f"sample: unknown key {unknown[0]!r}")
    read = _Reader(record)
    temps_c = read.table("temps_c", _temperature)
    constants = tuple(read.items("constants", _text)) if "constants" in record else constants_in(temps_c)
    cpus = read.optional("cpus", lambda value, where: _list(value, where, _nullable(_cpu)))
    return TelemetrySample(
        timestamp=read.optional("timestamp", _timestamp),
        ram=read.optional("ram", _part(Ram, _count)),
        swap=read.optional("swap", _part(Swap, _count)),
        iram=read.optional("iram", _part(Iram, _count)),
        cpus=cpus,
        emc=read.optional("emc", _part(Bus, _number)),
        gr3d=read.optional("gr3d", _gpu),
        gr3d2=read.optional("gr3d2", _gpu),
        engines=read.table("engines", _engine_from),
        ape_mhz=read.optional("ape_mhz", _number),
        mts_pct=read.optional("mts", _mts),
        avp=read.optional("avp", _part(Bus, _number)),
        edp_limit_mhz=read.optional("edp_limit_mhz", _number),
        temps_c=temps_c,
        temps_peak_c=read.table("temps_peak_c", _temperature),
        constants=constants,
        power_mw=read.table("power_mw", _rail_from),
        total_power=read.optional("total_power", _total),
        cooling=read.table("cooling", _count),
        over_current_events=read.table("over_current_events", _count),
        trips_c=read.table("trips_c", _number),
        gpu_limits=read.optional("gpu_limits", _part(Limits, _number)),
        cpu_limits=read.items("cpu_limits", _nullable(_part(Limits, _number))),
        unknown=read.items("unknown", _text),
    )


def _all(part: Any) -> Dict[str, Any] | None:
    if part is None:
        return None
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(part).items()}


def _told(part: Any) -> Dict[str, Any] | None:
    return None if part is None else {key: value for key, value in vars(part).items() if value is not None}


def _rail(rail: Rail) -> Dict[str, Number]:
    values = {"cur": rail.cur_mw, "avg": rail.avg_mw, "peak": rail.peak_mw}
    return {key: value for key, value in values.items() if value is not None}


def _engine(engine: HardwareEngine) -> Dict[str, Any]:
    return {"on": engine.is_on, "load_pct": engine.load_pct, "freq_mhz": engine.freq_mhz}


class _Reader:
    """The parts of one record."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record

    @staticmethod
    def mapping(value: Any, where: str, keys: frozenset[str] | None = None) -> Mapping[str, Any]:
        """`value`, which is an object, with none but the `keys` where these are given."""
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _wrong(where, "an object", value)
        if keys is not None and not set(value) <= keys:
            raise _wrong(where, f"no keys but {', '.join(sorted(keys))}", value)
        return value

    def optional(self, key: str, read: Callable[[Any, str], T]) -> T | None:
        value = self._record.get(key)
        return None if value is None else read(value, key)

    def table(self, key: str, read: Callable[[Any, str], T]) -> Dict[str, T]:
        values = self.mapping(self._record.get(key, {}), key)
        return {name: read(value, f"{key}.{name}") for name, value in values.items()}

    def items(self, key: str, read: Callable[[Any, str], T]) -> Tuple[T, ...]:
        return _list(self._record.get(key, []), key, read)


def _wrong(where: str, expected: str, got: Any) -> DataError:
    text = repr(got)
    return DataError(f"sample: {where}: expected {expected}, got {text if len(text) <= 60 else text[:57] + '...'}")


def _list(value: Any, where: str, read: Callable[[Any, str], T]) -> Tuple[T, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(where, "a list", value)
    return tuple(read(item, f"{where}[{index}]") for index, item in enumerate(value))


def _nullable(read: Callable[[Any, str], T]) -> Callable[[Any, str], T | None]:
    return lambda value, where: None if value is None else read(value, where)


def _number(value: Any, where: str) -> Number:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _BEYOND:  # false of NaN
        return value
    raise _wrong(where, "a number", value)


def _count(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _BEYOND:
        return value
    raise _wrong(where, "a whole number, 0 or more", value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    return value


def _timestamp(value: Any, where: str) -> str:
    try:
        datetime.datetime.fromisoformat(_text(value, where))
    except ValueError:
        raise _wrong(where, "a time as YYYY-MM-DDTHH:MM:SS", value) from None
    return str(value)


def _temperature(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where)


def _part(kind: Callable[..., T], read: Callable[[Any, str], Any]) -> Callable[[Any, str], T]:
    """Reads a part whose fields are all of one sort; which of them may be missing is the dataclass's own affair."""
    fields = frozenset(kind.__dataclass_fields__)  # type: ignore[attr-defined]

    def part(value: Any, where: str) -> T:
        values = _Reader.mapping(value, where, fields)
        try:
            return kind(**{key: _nullable(read)(item, f"{where}.{key}") for key, item in values.items()})
        except TypeError:
            raise _wrong(where, f"{', '.join(sorted(fields))}", value) from None

    return part


_cpu = _part(Cpu, _number)


def _gpu(value: Any, where: str) -> Gpu:
    values = _Reader.mapping(value, where, frozenset(("load_pct", "freq_mhz")))
    clocks = values.get("freq_mhz")
    return Gpu(
        _nullable(_number)(values.get("load_pct"), f"{where}.load_pct"),
        None if clocks is None else _list(clocks, f"{where}.freq_mhz", _number),
    )


def _mts(value: Any, where: str) -> Tuple[Number, Number]:
    values = _Reader.mapping(value, where, frozenset(("fg_pct", "bg_pct")))
    return _number(values.get("fg_pct"), f"{where}.fg_pct"), _number(values.get("bg_pct"), f"{where}.bg_pct")


def _engine_from(value: Any, where: str) -> HardwareEngine:
    values = _Reader.mapping(value, where, frozenset(("on", "load_pct", "freq_mhz")))
    if not isinstance(values.get("on"), bool):
        raise _wrong(f"{where}.on", "true or false", values.get("on"))
    load, clock = (_nullable(_number)(values.get(key), f"{where}.{key}") for key in ("load_pct", "freq_mhz"))
    return HardwareEngine(values["on"], load, clock)


def _rail_from(value: Any, where: str) -> Rail:
    values = _Reader.mapping(value, where, frozenset(("cur", "avg", "peak")))
    average, peak = (_nullable(_number)(values.get(key), f"{where}.{key}") for key in ("avg", "peak"))
    return Rail(_number(values.get("cur"), f"{where}.cur"), average, peak)


def _total(value: Any, where: str) -> TotalPower:
    values = _Reader.mapping(value, where, frozenset(("cur_mw", "rails", "how")))
    rails = _list(values.get("rails"), f"{where}.rails", _text)
    return TotalPower(_number(values.get("cur_mw"), f"{where}.cur_mw"), rails, _text(values.get("how"), f"{where}.how"))
