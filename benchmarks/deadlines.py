"""How many deadlines are kept, and how soon a refusal comes: ours, earliest deadline first, first come first served.

    python benchmarks/deadlines.py [--requests 6000] [--seed 0]
    python benchmarks/deadlines.py --real [PLAN] [--requests 2000] [--seed 0]

Several models at 50 to 150 % of what one lane can do, on virtual time; service times vary by 20 % either way around
those that were learnt. C is a model's typical time. `missed`: taken in, and then answered late or dropped; `refused`:
turned away, `after ms` its arrival. With `--real` the same in real time: runs of a plan (default text-direction, from
`make engine`) at two sizes, by the clock, on whatever else this machine does; it has no bars.

Bars. At up to 90 % load nothing that was taken in misses, and at most 2 % are refused of what plain EDF keeps on the
same trace. EDF promises nothing and keeps some by breaking others; so "had to" says that at most 2 % were refused
needlessly: all others, or some that had been promised, would miss if the runs came out as long as they may. At 150 %
the answers in time are at least 90 % of their peak. The status is 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from typing import Any, Dict, List, Optional, Set

import deadlines_real
from clairvoyant import most_in_time
from deadline_hindsight import Watched
from deadline_mixes import MIXES, Mix
from deadline_policies import EarliestFirst, FirstCome
from rich.console import Console
from rich.table import Table
from virtual_accelerator import Trace, VirtualAccelerator

from edge_runtime.profiler.environment import read_environment
from edge_runtime.scheduling.request import Request

LOADS = (0.5, 0.7, 0.9, 1.1, 1.5)
CALM = 0.9  # up to here nothing that was taken in may miss
REFUSED_OF_MET = 0.02
KEPT_OF_PEAK = 0.9


@dataclasses.dataclass(frozen=True)
class Result:
    """What one policy made of one trace; requests without a deadline aren't counted.

    `missed`: taken in, and answered late or dropped later; `refused`: at once, or when their turn came, `refused_ms`
    after the arrival in the median; `had_to`: of those refused, where no promise could be made; `goodput`: answers in
    time a second; `useful`: the share of the time that went into them.
    """

    policy: str
    load: float
    offered: int
    met: Set[Request]
    refused: Set[Request]
    refused_ms: Optional[float]
    had_to: Set[Request]
    missed: int
    late: int
    goodput: float
    useful: float


def main() -> None:
    """Plays every mix at every load with all policies, and prints tables and bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--real", nargs="?", const="text-direction", metavar="PLAN", help="in real time, with this plan"
    )
    parser.add_argument("--requests", type=int, help="in each trace (default: 6000, in real time 2000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console()
    bars: List[Bar] = []
    requests = options.requests or (2000 if options.real else 6000)
    if options.real:
        played = deadlines_real.traces(options.real, requests, options.seed)
        results = [result(policy, load, mix, trace, set()) for policy, load, mix, trace in played]
        console.print(table(f"{options.real} at {deadlines_real.ROWS} rows, 6-20 C, in real time", results))
    for name in MIXES if not options.real else ():
        results = play(name, requests, options.seed)
        console.print(table(name, results))
        bars += judge(name, results)
    if not options.real:
        console.print(bar_table(bars))
        console.print(clairvoyant_table(options.seed))
    console.print(f"seed: {options.seed}, requests in each trace: {requests}, lanes: 1")
    for label, text in read_environment().rows():
        console.print(f"{label}: {text}", highlight=False)
    sys.exit(any(bar.verdict == "fail" for bar in bars))


def play(name: str, count: int, seed: int) -> List[Result]:
    """All policies on the same traces of a mix, one load after the other."""
    results = []
    for load in LOADS:
        mix = Mix(MIXES[name], load, count, seed)
        batch = {model: source.max_batch for model, source in mix.sources.items()}
        ours = Watched(mix.scheduler(seed), mix)
        policies: Dict[str, Any] = {"ours": ours, "EDF": EarliestFirst(batch), "FCFS": FirstCome(batch)}
        for policy, scheduler in policies.items():
            chains = {model: source.segments for model, source in mix.sources.items()} if scheduler is ours else {}
            trace = VirtualAccelerator(scheduler, 1, mix.duration_ns, chains).run(mix.requests)
            results.append(result(policy, load, mix, trace, ours.had_to))
    return results


def result(policy: str, load: float, mix: Mix, trace: Trace, had_to: Set[Request]) -> Result:
    """Counts a trace."""
    outcomes = [each for each in trace.outcomes.values() if each.request.deadline_ns is not None]
    met = {each.request for each in outcomes if each.is_in_time}
    late = sum(each.answered_ns is not None for each in outcomes) - len(met)
    at_once = {each.request for each in outcomes if each.refused_ns is not None}
    refused = {each.request: each.refused_ns or each.expired_ns or 0 for each in outcomes if each.answered_ns is None}
    delays = [(at - request.arrival_ns) / 1e6 for request, at in refused.items()]
    useful_ms = sum(mix.sources[request.model].cost_ms for request in met)
    return Result(
        policy=policy,
        load=load,
        offered=len(outcomes),
        met=met,
        refused=at_once if policy == "ours" else set(refused),
        refused_ms=statistics.median(delays) if delays else None,
        had_to=had_to if policy == "ours" else set(),
        missed=len(outcomes) - len(at_once) - len(met),
        late=late,
        goodput=len(met) / mix.span_ms * 1000,
        useful=useful_ms / mix.span_ms,
    )


@dataclasses.dataclass(frozen=True)
class Bar:
    """Something that must hold, and whether it does: "pass", "fail", or "had to" where no promise could be made."""

    mix: str
    text: str
    value: str
    verdict: str


def judge(name: str, results: List[Result]) -> List[Bar]:
    """The bars of a mix."""
    ours = {each.load: each for each in results if each.policy == "ours"}
    plain = {each.load: each for each in results if each.policy == "EDF"}
    calm = [load for load in LOADS if load <= CALM]
    missed = sum(ours[load].missed for load in calm)
    refused = {load: ours[load].refused & plain[load].met for load in calm}
    shares = {load: len(refused[load]) / len(plain[load].met) for load in calm}
    needless = {load: len(refused[load] - ours[load].had_to) / len(plain[load].met) for load in calm}
    kept = ours[max(LOADS)].goodput / max(each.goodput for each in ours.values())
    is_few, had_to = (max(each.values()) <= REFUSED_OF_MET for each in (shares, needless))
    return [
        Bar(name, "taken in and missed", str(missed), _verdict(missed == 0)),
        Bar(
            name,
            "refused of what EDF keeps",
            f"{_by_load(shares)}; needlessly {_by_load(needless)}",
            _verdict(is_few) if is_few or not had_to else "had to",
        ),
        Bar(name, "goodput at 150 % of its peak", f"{kept:.0%}", _verdict(kept >= KEPT_OF_PEAK)),
    ]


def _verdict(is_kept: bool) -> str:
    return "pass" if is_kept else "fail"


def _by_load(shares: Dict[float, float]) -> str:
    return " / ".join(f"{share:.1%}" for share in shares.values())


def table(name: str, results: List[Result]) -> Table:
    """Policies side by side."""
    made = Table("load", "policy", "missed", "late", "refused", "after ms", "in time/s", "useful", title=name)
    for each in results:
        after = "" if each.refused_ms is None else f"{each.refused_ms:.2f}"
        counts = [f"{count / each.offered:.1%}" for count in (each.missed, each.late, len(each.refused))]
        made.add_row(f"{each.load:.0%}", each.policy, *counts, after, f"{each.goodput:.1f}", f"{each.useful:.0%}")
    return made


def bar_table(bars: List[Bar]) -> Table:
    """All bars and whether they are kept."""
    made = Table("mix", "bar", "measured", "")
    for bar in bars:
        made.add_row(bar.mix, bar.text, bar.value, bar.verdict)
    return made


def clairvoyant_table(seed: int, traces: int = 200) -> Table:
    """Short traces against the most that anybody could keep who knew them from the start, true service times too."""
    title = f"in time, of what a clairvoyant schedule keeps; {traces} traces of 10 requests for each load"
    made = Table("load", "ours", "EDF", "FCFS", title=title)
    for load in LOADS:
        most, kept = 0, {"ours": 0, "EDF": 0, "FCFS": 0}
        for number in range(traces):
            mix = Mix(MIXES["medium, 5-10 C"], load, 10, seed + number)
            requests = mix.requests[:12]
            most += most_in_time([(each.arrival_ns, mix.alone_ns(each), each.deadline_ns or 0) for each in requests])
            batch = dict.fromkeys(mix.sources, 0)
            policies = {"ours": mix.scheduler(seed), "EDF": EarliestFirst(batch), "FCFS": FirstCome(batch)}
            for policy, scheduler in policies.items():
                trace = VirtualAccelerator(scheduler, 1, mix.duration_ns).run(requests)
                kept[policy] += sum(each.is_in_time for each in trace.outcomes.values())
        made.add_row(f"{load:.0%}", *[f"{count / most:.1%}" for count in kept.values()])
    return made


if __name__ == "__main__":
    main()
