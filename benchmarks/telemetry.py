"""What sampling costs, how steady it is, and how soon a source that stopped is noticed.

    python benchmarks/telemetry.py [--seconds 10] [--rounds 5]

Cost and jitter of a sampler at 10 Hz over this machine's own sysfs and over made-up trees of boards (their files are
on a disk here, where each reading also asks whether the file was replaced, which a board's own sysfs doesn't need; but
a board's sensor may take longer to answer). Time to alarm for a fake tegrastats that is killed, and for one that falls
silent, in intervals since its last sample. The child's own cost is not in the figures. Exit status 1 if a goal is
missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from rich.console import Console
from rich.table import Table

from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.device.telemetry.sampler import Sampler
from edge_runtime.device.telemetry.sampling import SamplerStatus
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.device.telemetry.sources.tegrastats import TegrastatsSource
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.profiler.environment import read_environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fakes import board_trees
from fakes.tegrastats import ALWAYS, LINE, fake_tegrastats

RATE_HZ = 10
MOST_COST = 0.01
MOST_INTERVALS = 2.0
INTERVALS_S = (0.1, 0.5)
_PATIENCE_S = 30.0
_SLACK_INTERVALS = 0.25  # until the thread runs that was due at two intervals


def main() -> None:
    """Measures, prints two tables and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of sampling for each source")
    parser.add_argument("--rounds", type=int, default=5, help="of each end of a child")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        statuses = sampled(Path(folder), options.seconds)
        alarms = {(end, s): alarmed(Path(folder), end, s, options.rounds) for end in ENDS for s in INTERVALS_S}
    console.print(sampling_table(statuses))
    console.print(alarm_table(alarms))
    for label, text in read_environment().rows():
        console.print(f"{label}: {text}", highlight=False)
    costs = [status.cost_ratio or 0.0 for status in statuses.values()]
    waits = [wait for found in alarms.values() for wait in found]
    is_good = max(costs) < MOST_COST and max(waits) <= MOST_INTERVALS + _SLACK_INTERVALS
    console.print(f"goals: under {MOST_COST:.0%} of a core, alarm within {MOST_INTERVALS:g} intervals: {is_good}")
    sys.exit(0 if is_good else 1)


def sampled(folder: Path, seconds: float) -> Dict[str, SamplerStatus]:
    """How a sampler fared, by what it sampled, one after another."""
    roots: Dict[str, Path] = {"this machine": Path("/")}
    for name, make in board_trees.TREES.items():
        roots[f"made-up tree: {name}"] = make(folder / name)
    found = {}
    for name, root in roots.items():
        with Sampler(SysfsSource(root), 1 / RATE_HZ) as sampler:
            time.sleep(seconds)
            found[name] = sampler.status()
    return found


def killed(pid: Callable[[], int]) -> None:
    """Kills the child."""
    os.kill(pid(), signal.SIGKILL)


def silenced(pid: Callable[[], int]) -> None:
    """Stops the child where it is."""
    os.kill(pid(), signal.SIGSTOP)


ENDS = {"killed": killed, "silent": silenced}


def alarmed(folder: Path, end: str, interval_s: float, rounds: int) -> List[float]:
    """Intervals from what was done to the child (a silent one: from its last sample) to the alarm."""
    path = fake_tegrastats(folder / "bin", f"echo '{LINE}'", ALWAYS)
    return [one_alarm(path, end, interval_s) for _ in range(rounds)]


def one_alarm(path: Path, end: str, interval_s: float) -> float:
    """One of them."""
    source = TegrastatsSource(path, sample_from_line, interval_s)
    rung, three = threading.Event(), threading.Event()
    samples: List[Stamped] = []
    rung_ns: List[int] = []

    def on_sample(stamped: Stamped) -> None:
        samples.append(stamped)
        if len(samples) >= 3:
            three.set()

    def on_alarm(_: str) -> None:
        if done_ns:
            rung_ns.append(time.perf_counter_ns())
            rung.set()

    done_ns: List[int] = []
    with Sampler(source, interval_s, on_alarm=on_alarm, on_sample=on_sample):
        assert three.wait(_PATIENCE_S)
        done_ns.append(time.perf_counter_ns())
        ENDS[end](lambda: source._child._process.pid)
        assert rung.wait(_PATIENCE_S)
    since_ns = done_ns[0] if end == "killed" else samples[-1].at_ns
    return (rung_ns[0] - since_ns) / 1e9 / interval_s


def sampling_table(statuses: Dict[str, SamplerStatus]) -> Table:
    """Cost and jitter."""
    table = Table("source", "n", "missed", "cost, % of a core", "jitter p50 ms", "jitter p99 ms")
    for name, status in statuses.items():
        figures = (status.cost_ratio, status.jitter_ms_p50, status.jitter_ms_p99)
        cost, p50, p99 = ("unknown" if figure is None else figure for figure in figures)
        cells = (f"{cost:.3%}"[:-1], f"{p50:.3f}", f"{p99:.3f}")
        table.add_row(name, str(status.samples), str(status.missed), *cells)
    return table


def alarm_table(alarms: Dict[Tuple[str, float], List[float]]) -> Table:
    """Time to alarm."""
    table = Table("tegrastats (a fake)", "interval s", "n", "to alarm, intervals: p50", "worst")
    for (end, interval_s), waits in alarms.items():
        worst = max(waits)
        table.add_row(end, f"{interval_s:g}", str(len(waits)), f"{statistics.median(waits):.2f}", f"{worst:.2f}")
    return table


if __name__ == "__main__":
    main()
