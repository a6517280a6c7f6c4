"""What must hold: each bar is a figure of every round, and the median of the rounds is held against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Sequence

from serving.latencies import Figure, Series, best, figure_of, ratio
from serving.places import TRITON_LABEL
from serving.results import Footprint, Results
from serving.ways import CLIENT_SHM, GRPC, HTTP

OURS, TRITON, TRITONS, PEERS = "ours", "triton", ("triton", "triton2"), ("triton", "triton2", "mlserver")
PASS, FAIL, NOT_MEASURED = "pass", "FAIL", "not measured"


@dataclass(frozen=True)
class Bar:
    """A limit on a figure; `stretch` is a better one to reach, which nothing depends on. `is_open`: the limit fails."""

    name: str
    figure: Callable[[Results], Series]
    limit: float
    is_least: bool = False  # the figure must be at least the limit
    stretch: float | None = None
    is_open: bool = False

    def holds(self, value: float, limit: float) -> bool:
        """Whether a value is within a limit."""
        if value == limit:
            return not self.is_open
        return value > limit if self.is_least else value < limit

    def text(self) -> str:
        """The limit in words."""
        sign = (">" if self.is_least else "<") + ("" if self.is_open else "=")
        return f"{sign} {self.limit:g}" + ("" if self.stretch is None else f" (stretch {self.stretch:g})")


@dataclass(frozen=True)
class Verdict:
    """A bar with what was found; no figure if it wasn't measured."""

    bar: Bar
    figure: Figure | None

    @property
    def result(self) -> str:
        """PASS, FAIL or NOT_MEASURED."""
        if self.figure is None:
            return NOT_MEASURED
        return PASS if self.bar.holds(self.figure.median, self.bar.limit) else FAIL

    @property
    def is_stretch_reached(self) -> bool:
        """Whether the stretch was reached too."""
        stretch = self.bar.stretch
        return self.figure is not None and stretch is not None and self.bar.holds(self.figure.median, stretch)


def judged(results: Results, bars: Sequence[Bar] | None = None) -> List[Verdict]:
    """Every bar with its figure."""
    return [Verdict(bar, figure_of(bar.figure(results))) for bar in (all_bars() if bars is None else bars)]


def all_bars() -> List[Bar]:
    """The bars, in the order of the report."""
    return [
        *_overhead_bars(HTTP, HTTP, {"tiny": (0.35, None), "small": (0.5, 0.4), "medium": (0.6, None)}),
        *_overhead_bars(GRPC, GRPC, {"tiny": (0.4, None), "small": (0.6, 0.45), "medium": (1.0, 0.75)}),
        *_overhead_bars(CLIENT_SHM, HTTP, {"tiny": (0.15, None), "small": (0.2, None), "medium": (0.15, None)}),
        *(_throughput_bar(way, limit) for way, limit in ((HTTP, 2.0), (GRPC, 1.3))),
        *(
            _saturation_bar(way, net, limit)
            for net, limit in (("small", 0.8), ("medium", 0.85))
            for way in (HTTP, GRPC)
        ),
        *(_tail_bar(way) for way in (HTTP, GRPC)),
        Bar("start to the first right answer, s", lambda results: results.footprint(OURS, lambda it: it.start_s), 0.8),
        _memory_bar("idle", lambda it: it.pss_idle_bytes),
        _memory_bar("after load", lambda it: it.pss_loaded_bytes),
        Bar("processor when idle, cores", lambda results: results.footprint(OURS, lambda it: it.idle_cores), 0.005),
    ]


def _overhead_bars(way: str, against: str, limits: dict[str, tuple[float, float | None]]) -> List[Bar]:
    def bar(net: str, limit: float, stretch: float | None) -> Bar:
        return Bar(
            f"{net}, {way}: p50 over raw, to {TRITON_LABEL}, {against}",
            lambda results: ratio(results.overhead_us(OURS, way, net), results.overhead_us(TRITON, against, net)),
            limit,
            stretch=stretch,
        )

    return [bar(net, *pair) for net, pair in limits.items()]


def _throughput_bar(way: str, limit: float) -> Bar:
    def figure(results: Results) -> Series:
        return ratio(results.per_s([OURS], [way], "tiny"), results.per_s(TRITONS, [way], "tiny"))

    return Bar(f"tiny, {way}, 16 at once: requests/s, to the best of {TRITON_LABEL}", figure, limit, is_least=True)


def _saturation_bar(way: str, net: str, limit: float) -> Bar:
    def figure(results: Results) -> Series:
        return ratio(results.per_s([OURS], [way], net), results.ceiling(net))

    return Bar(f"{net}, {way}, 16 at once: requests/s, to the engine alone on all cores", figure, limit, is_least=True)


def _tail_bar(way: str) -> Bar:
    return Bar(f"medium, {way}, 16 at once: p99 to p50", lambda results: results.tail(OURS, way, "medium"), 1.3)


def _memory_bar(when: str, value: Callable[[Footprint], float]) -> Bar:
    def figure(results: Results) -> Series:
        least = best([results.footprint(peer, value) for peer in PEERS], is_least=True)
        return ratio(results.footprint(OURS, value), least)

    return Bar(f"memory (PSS) {when}, to the least of {TRITON_LABEL}, and MLServer", figure, 1.0, is_open=True)
