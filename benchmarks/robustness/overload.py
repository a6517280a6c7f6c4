"""Figure 3: more requests than a server can answer, at random times, whether answers come or not."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import Iterator, List, Sequence

from robustness import peer
from robustness.load import GRPC, HTTP, Order, Tally, measured, sum_of
from robustness.nets import CHAIN
from robustness.others import FOREIGN_CORES, Others
from robustness.ours import Ours, serving
from robustness.rows import BESIDE, NOT_HELD, NOT_MEASURED, Row, p99_verdict, tail_of, tail_text, verdict_of

UNDER = (0.5, 0.9)
OVER = (1.0, 1.5, 2.0)  # one after the other, several times: how fast the machine is changes meanwhile
PEER_OVER = (1.0, 2.0)
ROUNDS = 3
QUEUE = 256  # as it comes
_GENERATORS = 2
_CAPACITY_S = 2.5
_LEAST_OF_PEAK = 0.9
_ON_THE_WAY = 1.1  # of what a client sees go by: requests and answers that are in its own process or the kernel
_REFUSED_MS = 20.0
_FLAT_NBYTES = 8 << 20
_LATE_MS = 20.0  # a generator whose 99th percentile is later than that wasn't the load that was asked for


@dataclass(frozen=True)
class Level:
    """What came of one load, as a multiple of the capacity, once or several times."""

    load: float
    tally: Tally
    seconds: float
    foreign_cores: float = 0.0

    @property
    def goodput_per_s(self) -> float:
        """Answers a second."""
        return self.tally.goodput / self.seconds

    @property
    def late_ms(self) -> float:
        """The 99th percentile of how late requests were sent, the longest if they are few."""
        late = tail_of(self.tally.late_ms)
        return 0.0 if late is None else late.p99_ms or late.max_ms

    @property
    def late_text(self) -> str:
        """A mark on a load that was late."""
        return f"; GENERATOR LATE, p99 {self.late_ms:.0f} ms" if self.late_ms > _LATE_MS else ""

    def judged(self, verdict: str) -> str:
        """A verdict: of a late generator, or beside others' load, only a goal that is held all the same proves much."""
        is_disturbed = self.late_ms > _LATE_MS or self.foreign_cores > FOREIGN_CORES
        return NOT_MEASURED if verdict == NOT_HELD and is_disturbed else verdict


def rows(seconds: float) -> Iterator[Row]:
    """Ours at every load over HTTP and gRPC, then Triton's at capacity and twice of it."""
    for way in (HTTP, GRPC):
        with serving(["--slots", "1"]) as ours:
            address = ours.http if way == HTTP else ours.grpc
            yield from _ours(ours, way, address, seconds)
    for way in (HTTP, GRPC):  # each with one of its own: what waits after an overload has no bound
        with contextlib.suppress(peer.UnavailableError), peer.triton(CHAIN) as triton:
            address = triton.http if way == HTTP else triton.grpc
            per_s = capacity_per_s(way, address)
            order = Order(way, address, CHAIN, seconds)
            rounds = [_played(triton, order, per_s, PEER_OVER) for _ in range(ROUNDS)]
            yield _goodput_row(way, [], rounds, per_s, triton.label)
            yield _refused_row(way, highest(rounds), triton.label)
            yield _admitted_row(way, highest(rounds), triton.label)


def _ours(ours: Ours, way: str, address: str, seconds: float) -> Iterator[Row]:
    per_s = capacity_per_s(way, address)
    order = Order(way, address, CHAIN, seconds)
    under = _played(ours, order, per_s, UNDER)
    rounds, rss = [], [ours.rss()]
    for _ in range(ROUNDS):
        rounds.append(_played(ours, order, per_s, OVER))
        rss.append(ours.rss())
    yield _goodput_row(way, under, rounds, per_s)
    yield _refused_row(way, highest(rounds))
    yield _admitted_row(way, highest(rounds))
    text = f"{rss[0] / 2**20:.0f} MiB; after each round {', '.join(f'{each / 2**20:.0f}' for each in rss[1:])}"
    verdict = verdict_of(rss[-1] - rss[1] < _FLAT_NBYTES)  # the first overload makes the allocator larger
    sent = sum(level.tally.sent for levels in rounds for level in levels)
    yield Row(f"3 memory, {way}", "flat: < 8 MiB from the first round to the last", text, sent, verdict)


def capacity_per_s(way: str, address: str) -> float:
    """Answers a second with four requests under way."""
    order = Order(way, address, CHAIN, _CAPACITY_S, concurrency=4)
    return measured([order]).goodput / _CAPACITY_S


def _played(server: Ours | peer.Triton, order: Order, per_s: float, loads: Sequence[float]) -> List[Level]:
    """Each load in turn, by several generators."""
    levels = []
    for load in loads:
        rate = load * per_s / _GENERATORS
        orders = [replace(order, rate=rate, channels=2, seed=seed) for seed in range(_GENERATORS)]
        others = Others(server.tree)
        levels.append(Level(load, measured(orders), order.seconds, others.cores()))
    return levels


def goodput_text(levels: List[Level], per_s: float) -> str:
    """Answers a second at each load."""
    each = ", ".join(f"{level.load:g}x {level.goodput_per_s:.0f}" for level in levels)
    return f"{each}/s; capacity {per_s:.0f}/s"


def kept_of_peak(levels: List[Level]) -> float:
    """Goodput at the highest load over the best."""
    best = max(level.goodput_per_s for level in levels)
    return levels[-1].goodput_per_s / best if best else 0.0


def together(levels: Sequence[Level]) -> Level:
    """One load that was played several times, as if it had been once."""
    tally = sum_of([level.tally for level in levels])
    seconds = sum(level.seconds for level in levels)
    return Level(levels[0].load, tally, seconds, max(level.foreign_cores for level in levels))


def highest(rounds: List[List[Level]]) -> Level:
    """The highest load of all rounds."""
    return together([levels[-1] for levels in rounds])


def _goodput_row(way: str, under: List[Level], rounds: List[List[Level]], per_s: float, server: str = "ours") -> Row:
    levels = [*under, *(together(same) for same in zip(*rounds))]
    each = sorted(kept_of_peak(played) for played in rounds)
    kept = each[len(each) // 2]
    lost = sum(level.tally.lost + sum(level.tally.others.values()) for level in levels)
    text = f"median {kept:.0%} of {', '.join(f'{part:.0%}' for part in each)}: {goodput_text(levels, per_s)}"
    text += f"; {lost} lost or failed" if lost else ""
    text += "".join(f" ({level.load:g}x{level.late_text})" for level in levels if level.late_text)
    text += f"; others used at most {max(level.foreign_cores for level in levels):.1f} cores"
    verdict = levels[-1].judged(verdict_of(kept >= _LEAST_OF_PEAK)) if not lost else NOT_HELD
    sent = sum(level.tally.sent for level in levels)
    return Row(f"3 goodput, {way}", "2x: >= 90 % of peak", text, sent, _of(server, verdict), server)


def _refused_row(way: str, level: Level, server: str = "ours") -> Row:
    tail = tail_of(level.tally.refused_ms)
    text = f"refused {len(level.tally.refused_ms) / max(1, level.tally.sent):.0%}, {tail_text(tail)}{level.late_text}"
    verdict = _of(server, level.judged(p99_verdict(tail, _REFUSED_MS)))
    return Row(f"3 refusals, {way}", "2x: p99 < 20 ms", text, len(level.tally.refused_ms), verdict, server)


def _admitted_row(way: str, level: Level, server: str = "ours") -> Row:
    """The service time is the one of that very time: a wait counts by the answers that others got meanwhile.

    The cores are shared, and how many answers a second there are changes within a run; what goes by doesn't.
    """
    tally, limit = level.tally, QUEUE + 1
    between = gone_by(tally)
    tail = tail_of(tally.ok_ms)
    p99 = between[int(len(between) * 0.99)] if tail is not None and tail.p99_ms is not None else None
    verdict = NOT_MEASURED if p99 is None else level.judged(verdict_of(p99 <= limit * _ON_THE_WAY))
    waited = f"p99 {p99}, at most {between[-1]} answers of {limit} went by" if p99 is not None else "too few"
    return Row(
        f"3 admitted, {way}",
        f"2x: p99 <= (queue + 1) x service, {_ON_THE_WAY - 1:.0%} more on the way",
        f"{waited}; p50 {0 if tail is None else tail.p50_ms:.0f}, {tail_text(tail)}",
        tally.goodput,
        _of(server, verdict),
        server,
    )


def gone_by(tally: Tally) -> List[int]:
    """For each answer how many came from the sending of its request to it, itself among them; sorted."""
    at_s = sorted(tally.ok_at_s)
    return sorted(
        bisect_right(at_s, end_s) - bisect_left(at_s, end_s - took_ms / 1000)
        for end_s, took_ms in zip(tally.ok_at_s, tally.ok_ms)
    )


def _of(server: str, verdict: str) -> str:
    return verdict if server == "ours" else BESIDE
