"""Reading a record whose parts may each be missing: null, absent, empty, NaN, or of a kind that wasn't expected."""

from __future__ import annotations

import math
import unicodedata
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.float64]
Pair = Tuple[Series, Series]

_LARGEST = 1e15  # a number beyond it is no measurement, and no axis can show it
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def section(record: Any, *path: str) -> Mapping[str, Any]:
    """The object at `path`, an empty one where there is none."""
    for name in path:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record if isinstance(record, Mapping) else {}


def rows(record: Mapping[str, Any], name: str) -> List[Mapping[str, Any]]:
    """The objects of the list `name`."""
    return [row for row in items(record, name) if isinstance(row, Mapping)]


def items(record: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The list `name`, an empty one where there is none."""
    value = record.get(name)
    return value if isinstance(value, (list, tuple)) else ()


def number(value: Any) -> float | None:
    """A finite number; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return None
    return float(value) if -_LARGEST < value < _LARGEST else None


def series(values: Any) -> Series:
    """Numbers of a list; NaN where one is missing."""
    if not isinstance(values, (list, tuple)):
        return np.empty(0)
    try:  # many numbers at once
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.array([math.nan if (value := number(each)) is None else value for each in values])
    return np.where(np.abs(found) < _LARGEST, found, math.nan) if found.ndim == 1 else np.empty(0)


def over_time(record: Mapping[str, Any], times: str, values: Any) -> Pair:
    """The moments of `record[times]`, ascending, and the `values` that belong to them."""
    at, found = series(record.get(times)), series(values)
    length = min(at.size, found.size)
    at, found = at[:length], found[:length]
    is_known = np.isfinite(at)
    at, found = at[is_known], found[is_known]
    order = np.argsort(at, kind="stable")
    return at[order], found[order]


def named_series(record: Mapping[str, Any], name: str, times: str = "at_s") -> Dict[str, Pair]:
    """The series of the object `name` that have a value at all, by their names."""
    found = {str(key): over_time(record, times, values) for key, values in section(record, name).items()}
    return {key: pair for key, pair in found.items() if has_values(pair[1])}


def has_values(values: Series) -> bool:
    """Whether any value is known."""
    return bool(np.isfinite(values).any())


def plain(value: Any, limit: int = 400) -> str:
    """Text that is safe to show: one line, nothing invisible, at most `limit` characters, the middle left out."""
    text = str(value)
    if len(text) > 4 * limit:
        text = text[: 2 * limit] + text[-2 * limit :]
    text = "".join(" " if each in "\t\r\n" else _visible(each) for each in text)
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail - 1]}\u2026{text[-tail:]}"


def _visible(character: str) -> str:
    return "\ufffd" if unicodedata.category(character) in _HIDDEN else character


def amount(value: Any, unit: str = "", absent: str = "not measured") -> str:
    """A number in about four digits with its unit; `absent` where there is none."""
    found = number(value)
    if found is None:
        return absent
    size = abs(found)
    digits = 0 if size >= 1000 or found == int(found) else 1 if size >= 100 else 2 if size >= 10 else 3
    if 0 < size < 0.001:
        return f"{found:.3g}{unit and ' ' + unit}"
    return f"{found:,.{digits}f}{unit and ' ' + unit}"


def with_error(value: Any, error: Any, unit: str) -> str:
    """A number and its standard error, both to the second digit of the error."""
    found, spread = number(value), number(error)
    if found is None or spread is None or spread <= 0:
        return amount(value, unit)
    digits = min(max(1 - math.floor(math.log10(spread)), 0), 9)
    return f"{found:,.{digits}f} \u00b1 {spread:,.{digits}f} {unit}"
