"""One server's turn in a round: started once, looked at while idle, then under each load."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Mapping, Sequence, Tuple

from serving import client_cells, h2load, perf_analyzer, raw
from serving.latencies import Load
from serving.nets import Net
from serving.probe import probe
from serving.processes import busy_s
from serving.results import Ceiling, Cell, Footprint, Results
from serving.servers import Running, Server, running
from serving.ways import CLIENT_HTTP, CLIENT_SHM, GRPC, HTTP, Target, UnavailableError

ONE_AT_A_TIME = ("det",)  # so slow that 16 at once say nothing new, and take long
WITH_CEILING = ("small", "medium")  # tiny is bound by its transport, not by the cores
_PATIENCE_S, _SETTLE_S = 60.0, 1.0
_LEAST_REQUESTS, _LEAST_TURNS = 30, 4
_OWN_CLIENT = (CLIENT_HTTP, CLIENT_SHM)
_ANALYZED_SERVERS, _ANALYZED_NETS, _ANALYZED_ROUNDS = ("ours", "triton"), ("tiny",), 2


@dataclass(frozen=True)
class Plan:
    """How long a cell takes, how many rounds, and how many processes make the ceiling."""

    seconds: float
    rounds: int
    cores: int
    idle_s: float = 3.0
    has_perf_analyzer: bool = False


@dataclass(frozen=True)
class Turn:
    """A server in a round; `raws` is the engine's own p50 in us by net, measured just before."""

    number: int
    server: Server
    nets: Sequence[Net]
    plan: Plan
    results: Results
    raws: Mapping[str, float]

    def add(self, way: str, net: str, concurrency: int, load: Load, raw_p50_us: float | None = None) -> None:
        """Keeps a cell; `raw_p50_us` is the engine's own at that time, if it was measured anew."""
        if raw_p50_us is None:
            raw_p50_us = 0.0 if self.server.is_engineless else self.raws[net]
        cell = Cell(self.number, self.server.name, way, net, concurrency, load, raw_p50_us)
        self.results.cells.append(cell)

    def skip(self, what: str, reason: object) -> None:
        """Keeps the reason why something of this server wasn't measured."""
        self.results.skipped[f"{self.server.name}, {what}"] = str(reason)


def cell_seconds(seconds: float, raw_p50_us: float, concurrency: int) -> float:
    """How long a cell takes, so that slow nets answer often enough and each connection takes a few turns."""
    requests = _LEAST_REQUESTS if concurrency == 1 else _LEAST_TURNS * concurrency
    return max(seconds, requests * raw_p50_us / 1e6)


def take_turn(turn: Turn) -> None:
    """Measures all of it.

    Raises:
        UnavailableError: the server can't be had here.
        RuntimeError: it didn't start, or never answered right.
    """
    with _started(turn) as (it, start_s, targets):
        idle = (0, 0.0, 0.0) if turn.server.is_engineless else _idle(it, turn.plan.idle_s)
        for net in turn.nets:
            for target in targets:
                _load(turn, target, net)
        if set(_OWN_CLIENT) & set(turn.server.ways):
            _own_client(turn, it)
        pss_loaded, processes = it.tree.pss_bytes(), len(it.tree.processes())
        pss_idle, idle_cores, foreign_cores = idle
        sizes = (start_s, pss_idle, pss_loaded, idle_cores, foreign_cores, processes)
        if not turn.server.is_engineless:
            turn.results.footprints.append(Footprint(turn.number, turn.server.name, *sizes))
        if turn.plan.has_perf_analyzer and turn.number < _ANALYZED_ROUNDS and turn.server.name in _ANALYZED_SERVERS:
            _perf_analyzer(turn, it)


@contextlib.contextmanager
def _started(turn: Turn) -> Iterator[Tuple[Running, float, List[Target]]]:
    """The server, the seconds to its first right answer, and where all its answers are right."""
    with contextlib.ExitStack() as stack:
        with probe() as asked:
            it = stack.enter_context(running(turn.server, turn.nets))
            targets = [Target(way, address) for way, address in it.addresses.items()]
            first_s, right = None, []
            for target in targets:
                try:
                    answered_s = asked.first_answer(target, [] if turn.server.is_engineless else turn.nets, _PATIENCE_S)
                except RuntimeError as error:
                    turn.skip(target.way, error)
                    continue
                first_s = answered_s if first_s is None else first_s
                right.append(target)
        for way, reason in it.missing.items():
            turn.skip(way, reason)
        if first_s is None:
            raise RuntimeError(f"no right answer; see .bench/logs: {turn.results.skipped}")
        yield it, first_s - it.tree.started_s, right


def _idle(it: Running, seconds: float) -> Tuple[int, float, float]:
    """PSS, the cores that the server used, and those that all others did."""
    time.sleep(_SETTLE_S)
    begin = (time.monotonic(), it.tree.cpu_s(), busy_s(Path("/proc/stat").read_text()))
    time.sleep(seconds)
    end = (time.monotonic(), it.tree.cpu_s(), busy_s(Path("/proc/stat").read_text()))
    passed_s, own_s, all_s = (after - before for before, after in zip(begin, end))
    return it.tree.pss_bytes(), max(0.0, own_s) / passed_s, max(0.0, all_s - own_s) / passed_s


def _load(turn: Turn, target: Target, net: Net) -> None:
    for concurrency in turn.server.concurrencies:
        if concurrency > 1 and net.name in ONE_AT_A_TIME:
            continue
        seconds = cell_seconds(turn.plan.seconds, turn.raws[net.name], concurrency)
        try:
            with _alone_around(turn, net, concurrency) as raw_p50_us:
                load = h2load.load(target, net, h2load.Demand(concurrency, seconds))
        except RuntimeError as error:
            turn.skip(f"{target.way}, {net.name}, {concurrency} at once", error)
        else:
            turn.add(target.way, net.name, concurrency, load, raw_p50_us())


@contextlib.contextmanager
def _alone_around(turn: Turn, net: Net, concurrency: int) -> Iterator[Callable[[], float | None]]:
    """Measures the engine alone before and after the block, where its own pace changes by more than serving costs.

    What is given tells its p50 in us, the mean of both; None where it isn't measured anew. Of our own server under many
    requests, it is the ceiling that is measured so.
    """
    found: List[float] = []
    is_held = net.name in WITH_CEILING and not turn.server.is_engineless

    def measure() -> None:
        if is_held and concurrency == 1:
            found.append(raw.measure([net], turn.plan.seconds / 2)[net.name].p50_us)
        elif is_held and turn.server.name == "ours":
            per_s = raw.ceiling(net, turn.plan.seconds / 2, turn.plan.cores)
            turn.results.ceilings.append(Ceiling(turn.number, net.name, per_s))

    measure()
    yield lambda: sum(found) / len(found) if found else None
    measure()


def _own_client(turn: Turn, it: Running) -> None:
    for net in turn.nets:
        try:
            with _alone_around(turn, net, 1) as raw_p50_us:
                loads = client_cells.measure(it.addresses, [net], turn.plan.seconds)
        except RuntimeError as error:
            turn.skip(f"own client, {net.name}", error)
            continue
        for (way, name), load in loads.items():
            if isinstance(load, str):
                turn.skip(way, load)
            else:
                turn.add(way, name, 1, load, raw_p50_us())


def _perf_analyzer(turn: Turn, it: Running) -> None:
    try:
        perf_analyzer.check_set_up()
        declared = perf_analyzer.extensions(it.addresses[HTTP])
    except (UnavailableError, OSError, ValueError) as error:
        turn.skip("perf_analyzer", error)
        return
    for net in (net for net in turn.nets if net.name in _ANALYZED_NETS):
        for way in (HTTP, GRPC):
            for memory in perf_analyzer.MEMORIES:
                name = perf_analyzer.way_name(way, memory)
                try:
                    loads = perf_analyzer.measure(Target(way, it.addresses[way]), net, memory, declared)
                except (UnavailableError, RuntimeError) as error:
                    turn.skip(name, error)
                    continue
                for concurrency, load in loads.items():
                    turn.add(name, net.name, concurrency, load)
