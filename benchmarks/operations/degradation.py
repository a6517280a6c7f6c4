"""Deadlines under heat, with a ladder and without: one table, on virtual time.

    python benchmarks/operations/degradation.py [--seeds 5] [--json]

The same Poisson requests with deadlines come to one lane while a board heats up, throttles and cools down. The
scheduler, the ladder, the window of misses and what is told of throttling and headroom are the server's own. SIMULATED
are the board, whose heat is the made-up ramp of `tools/make_heat_ramp.py` and which gets no cooler by less work, and
the runs: 8 ms of the model and 4 ms of its rung, 20 % either way, stretched by the clock that the ramp holds the GPU to
(1020 to 612 MHz). Nothing here was measured on a board.

Before, during and after are until the first throttled sample, until the last, and from then on. A miss is a request
that was refused, given up or answered late; a flap a step down less than `most_return_dwell_s` after a return. Exit
status 1 unless the ladder misses fewer in all and during the throttling, never flaps, and has returned at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from robustness.rows import Row, verdict_of
from virtual_accelerator import Trace, VirtualAccelerator

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.sources.recording import Recording, read_recording
from edge_runtime.device.telemetry.throttling import ThrottleState, ThrottleWatch
from edge_runtime.plan.ladder import LadderTable
from edge_runtime.profiler.environment import read_environment
from edge_runtime.scheduling.ladder import Ladder, Pressure, Step
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import PATIENCE_NS, Dispatch, ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server.conditions import Conditions
from edge_runtime.server.recent_demand import RecentDemand
from edge_runtime.server.statistics import Totals

RAMP = Path(__file__).resolve().parents[2] / "tests/data/boards/orin-nano-heat-ramp.jsonl"
RUNGS_MS = {"model": 8.0, "rung": 4.0}
DEADLINE_MS = 60.0
LOAD = 0.7  # of the model's capacity while nothing is throttled
SPREAD = 0.2
TABLE = LadderTable(
    rungs=("rung",), headroom_c=10, miss_share=0.1, dwell_s=5, return_dwell_s=10, most_return_dwell_s=300
)
FIGURE = "24 degradation under heat"
PHASES = ("before", "during", "after")
_MS, _S = 1_000_000, 1_000_000_000
_LOOK_NS = _S // 2
_FULL_MHZ = 1020.0


class HeatedBoard:
    """The ramp by its own time: what is told of it, and how much longer runs take."""

    def __init__(self, ramp: Recording) -> None:
        self._ns = [round(at_s * _S) for at_s in ramp.times_s]
        self.samples = ramp.samples
        watch = ThrottleWatch()
        self.states = [watch.update(Stamped(at_ns, sample)) for at_ns, sample in zip(self._ns, ramp.samples)]
        hot = [at_ns for at_ns, sample in zip(self._ns, ramp.samples) if sample.cooling["gpu-throttle-alert"]]
        self.throttled_ns = hot[0], hot[-1] + _S
        self.end_ns = self._ns[-1] + _S

    def at(self, now_ns: int) -> int:
        """Which sample holds."""
        return max(bisect_right(self._ns, now_ns) - 1, 0)

    def stretch(self, now_ns: int) -> float:
        """How much longer than at full clocks a run takes that begins then."""
        limits = self.samples[self.at(now_ns)].gpu_limits
        assert limits is not None
        assert limits.max_mhz is not None
        return _FULL_MHZ / limits.max_mhz

    def phase(self, now_ns: int) -> str:
        """Before, during or after the throttling."""
        first_ns, last_ns = self.throttled_ns
        return PHASES[0] if now_ns < first_ns else PHASES[1] if now_ns < last_ns else PHASES[2]


class HeatedAccelerator(VirtualAccelerator):
    """One lane on that board, whose requests go to the rung of the ladder, if there is one; it looks twice a second."""

    def __init__(self, board: HeatedBoard, seed: int, has_ladder: bool) -> None:
        self._times = ServiceTimes()
        scheduler = Scheduler(self._times, 1, patience_ns=PATIENCE_NS)
        for name, typical_ms in RUNGS_MS.items():
            scheduler.register(ModelPolicy(name, 2, 256))
            for share in (1 - SPREAD, 1.0, 1 + SPREAD):
                self._times.seed(name, 0, 1, round(typical_ms * share * _MS))
        super().__init__(scheduler, 1, self._duration_ns)
        self._board = board
        self._spread = random.Random(seed)
        self._ladder = Ladder(TABLE, 2) if has_ladder else None
        self._demand = RecentDemand(TABLE.window_s)
        self._learnt = Conditions(None, None)
        self._look_ns = 0
        self.steps: List[Tuple[int, Step]] = []

    def offer(self, request: Request) -> None:
        """Hands a request to the rung of now."""
        while self._look_ns <= self.now_ns:
            self._look(self._look_ns)
            self._look_ns += _LOOK_NS
        request.model = list(RUNGS_MS)[0 if self._ladder is None else self._ladder.rung]
        super().offer(request)

    def _look(self, now_ns: int) -> None:
        index = self._board.at(now_ns)
        now = Conditions(None, self._board.samples[index].hottest_c)
        if self._learnt.temperature_c is None or now.differ_from(self._learnt):
            self._learnt = now
            self._times.relearn()
        if self._ladder is None:
            return
        wait_ms, misses = self._demand.take(_totals(self._trace), self.scheduler.waiting(), now_ns)
        step = self._ladder.update(_pressure(self._board.states[index], wait_ms, misses), now_ns)
        if step is not None:
            self.steps.append((now_ns, step))
            self._demand.clear()

    def _duration_ns(self, dispatch: Dispatch) -> int:
        share = self._spread.uniform(1 - SPREAD, 1 + SPREAD)
        return round(RUNGS_MS[dispatch.model] * share * self._board.stretch(self.now_ns) * _MS)


def _pressure(state: ThrottleState, wait_ms: float | None, misses: float | None) -> Pressure:
    return Pressure(bool(state.active), state.headroom_c, None, wait_ms, misses)


def _totals(trace: Trace) -> Totals:
    """As the server counts: what was given up counts as refused."""
    found, refused = Totals(), 0
    for each in trace.outcomes.values():
        if each.answered_ns is not None and each.started_ns is not None:
            found.success += 1
            found.late += not each.is_in_time
            found.parts_ns[0] += each.started_ns - each.request.arrival_ns
        refused += each.refused_ns is not None or each.expired_ns is not None
    found.failures["REJECTED"] = refused
    return found


def requests(end_ns: int, seed: int) -> List[Request]:
    """Poisson arrivals, each with its deadline."""
    chance, at_ns, found = random.Random(seed), 0.0, []
    mean_ns = RUNGS_MS["model"] * _MS / LOAD
    while True:
        at_ns += chance.expovariate(1 / mean_ns)
        if at_ns >= end_ns:
            return found
        request = Request("", {}, dict, print, round(at_ns))
        request.deadline_ns = request.arrival_ns + round(DEADLINE_MS * _MS)
        found.append(request)


def played(board: HeatedBoard, seed: int, has_ladder: bool) -> Tuple[Dict[str, Dict[str, int]], HeatedAccelerator]:
    """What became of the requests of each phase."""
    accelerator = HeatedAccelerator(board, seed, has_ladder)
    trace = accelerator.run(requests(board.end_ns, seed))
    found = {phase: dict.fromkeys(("offered", "refused", "late", "by_rung"), 0) for phase in PHASES}
    for each in trace.outcomes.values():
        of_phase = found[board.phase(each.request.arrival_ns)]
        of_phase["offered"] += 1
        of_phase["refused"] += each.answered_ns is None
        of_phase["late"] += each.answered_ns is not None and not each.is_in_time
        of_phase["by_rung"] += each.answered_ns is not None and each.request.model == "rung"
    return found, accelerator


def flaps(steps: Sequence[Tuple[int, Step]]) -> int:
    """Steps down less than `most_return_dwell_s` after a return."""
    pairs = zip(steps, steps[1:])
    return sum(
        before.target < before.source and after.target > after.source and to_ns - at_ns < TABLE.most_return_dwell_s * _S
        for (at_ns, before), (to_ns, after) in pairs
    )


def result(seeds: int = 5) -> Dict[str, Any]:
    """Everything that was counted, over as many traces."""
    ramp = read_recording(RAMP)
    board = HeatedBoard(ramp)
    record: Dict[str, Any] = {
        "schema": "edge_runtime.benchmark.degradation/1",
        "simulated": "board, heat, clocks and runs; the scheduler and the ladder are the server's",
        "made_up": ramp.made_up,
        "seeds": seeds,
        "throttled_s": [each / _S for each in board.throttled_ns],
        "ladder": TABLE.model_dump(mode="json"),
    }
    for name, has_ladder in (("without", False), ("with", True)):
        runs = [played(board, seed, has_ladder) for seed in range(seeds)]
        phases = {
            phase: {key: sum(found[phase][key] for found, _ in runs) for key in runs[0][0][phase]} for phase in PHASES
        }
        phases["all"] = {key: sum(phases[phase][key] for phase in PHASES) for key in phases[PHASES[0]]}
        record[name] = phases
    record["switches"] = [len(each.steps) for _, each in runs]
    record["flaps"] = sum(flaps(each.steps) for _, each in runs)
    record["steps"] = [
        {"at_s": at_ns / _S, "from": step.source, "to": step.target, "reason": step.reason, "why": step.text}
        for at_ns, step in runs[0][1].steps
    ]
    has_returned = all(each.steps and each.steps[-1][1].target == 0 for _, each in runs)
    record["has_returned"] = has_returned
    is_better = all(_missed(record["with"][phase]) < _missed(record["without"][phase]) for phase in ("during", "all"))
    record["is_held"] = is_better and has_returned and record["flaps"] == 0
    return record


def heat_rows(_: argparse.Namespace) -> Iterator[Row]:
    """The figure as a line of a report; all numbers of the board and of the runs are simulated."""
    record = result()
    without, with_it = (record[name]["during"] for name in ("without", "with"))
    shares = f"missed {_share(without)} without a ladder, {_share(with_it)} with it"
    text = f"{shares}; {max(record['switches'])} switches, {record['flaps']} flaps"
    goal = "under made-up heat: fewer deadlines missed than without a ladder, no flapping, back when it is cool"
    yield Row(FIGURE, goal, text, without["offered"], verdict_of(record["is_held"]), "simulated")


def _missed(counts: Dict[str, int]) -> int:
    return counts["refused"] + counts["late"]


def _share(counts: Dict[str, int]) -> str:
    return f"{_missed(counts) / counts['offered']:.1%}"


def table(record: Dict[str, Any]) -> Table:
    """The one table."""
    first_s, last_s = record["throttled_s"]
    title = (
        f"deadlines of {DEADLINE_MS:g} ms at {LOAD:.0%} load; heat MADE UP, throttled {first_s:g} to {last_s:g} s; "
        f"runs SIMULATED; {record['seeds']} traces"
    )
    found = Table(title=title, title_justify="left")
    for column in ("", "requests", "ladder", "refused", "late", "missed", "answered by the rung", "switches", "flaps"):
        found.add_column(column, justify="left" if column in ("", "ladder") else "right")
    for phase in (*PHASES, "all"):
        for name in ("without", "with"):
            counts = record[name][phase]
            is_last = phase == "all" and name == "with"
            found.add_row(
                phase if name == "without" else "",
                f"{counts['offered']:,}" if name == "without" else "",
                name,
                f"{counts['refused']:,}",
                f"{counts['late']:,}",
                _share(counts),
                f"{counts['by_rung']:,}",
                f"{max(record['switches'])} a trace at most" if is_last else "",
                str(record["flaps"]) if is_last else "",
            )
    return found


def main() -> None:
    """Plays it, prints the table, and exits with 1 if the goal isn't held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="traces")
    parser.add_argument("--json", action="store_true", help="print the record instead of the table")
    options = parser.parse_args()
    record = result(options.seeds)
    if options.json:
        sys.stdout.write(json.dumps({**record, "environment": read_environment().record()}) + "\n")
    else:
        console = Console(width=140)
        console.print(table(record))
        for step in record["steps"]:
            console.print(f"first trace, {step['at_s']:g} s: rung {step['from']} to {step['to']}: {step['why']}")
        console.print("held" if record["is_held"] else "NOT HELD")
    sys.exit(0 if record["is_held"] else 1)


if __name__ == "__main__":
    main()
