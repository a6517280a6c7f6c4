"""Latencies of one cell as figures, and several rounds of one figure as their median and spread."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Dict, Mapping, Sequence

Series = Dict[int, float]  # a figure of each round


@dataclass(frozen=True)
class Load:
    """What one load came to: answers, their latencies in us, and answers a second."""

    n: int
    p50_us: float
    p99_us: float
    per_s: float


@dataclass(frozen=True)
class Figure:
    """The median of several rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float
    rounds: int


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all don't exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def load_from_latencies(latencies_us: Sequence[float], seconds: float) -> Load:
    """The figures of a load that took so many seconds."""
    p50, p99 = quantile(latencies_us, 0.5), quantile(latencies_us, 0.99)
    return Load(len(latencies_us), p50, p99, len(latencies_us) / seconds)


def figure_of(series: Mapping[int, float]) -> Figure | None:
    """The median of the rounds; None if there are none."""
    values = list(series.values())
    return Figure(statistics.median(values), min(values), max(values), len(values)) if values else None


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> Series:
    """The ratio in each round that has both; one to nothing or less isn't one."""
    return {number: value / below[number] for number, value in above.items() if below.get(number, 0) > 0}


def best(series: Sequence[Mapping[int, float]], is_least: bool) -> Series:
    """The best of several figures in each round that has any."""
    rounds = sorted({number for each in series for number in each})
    choose = min if is_least else max
    return {number: choose(each[number] for each in series if number in each) for number in rounds}
