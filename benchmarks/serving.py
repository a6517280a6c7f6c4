"""What serving costs, ours and others': all servers in one run, interleaved, as ratios, against bars.

    python benchmarks/serving.py [--quick] [--servers ours,triton] [--models tiny,small] [--rounds 4] [--json FILE]

Each round starts every server once, in the reverse order of the last round, with the engine alone (ONNX Runtime, one
thread) measured just before. Other servers come from `make serving-peers`; what isn't there is named with the reason.
Triton's is the tritonserver of PyTriton's wheel with its python backend, whose model runs ONNX Runtime in a process of
its own: Triton's backend in C++ isn't in any package. Exit status 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Collection, List, Sequence, Tuple

from rich.console import Console
from serving.bars import FAIL, Verdict, judged
from serving.h2load import binary
from serving.latencies import Figure
from serving.nets import NAMES, prepared
from serving.places import BENCH, own_environment
from serving.processes import may_raise_priority
from serving.report import foreign_load_text, print_report
from serving.results import Results
from serving.rounds import measure
from serving.servers import SERVERS, build
from serving.turn import Plan

QUICK_NETS = ("tiny", "small", "medium")
WIDTH_OF_A_FILE = 150
QUICK_HELP = "one round of short cells, without det and perf_analyzer: 2 minutes instead of 15"
# In a child process: the benchmark itself must not share the engine's pages with a server whose memory it measures.
ENVIRONMENT = (
    "import json; from edge_runtime.profiler.environment import read_environment as e; print(json.dumps(e().rows()))"
)
console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)


def main() -> int:
    """Measures, prints the tables and the environment, writes the JSON file; 0 if no bar is missed."""
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    begin_s = time.monotonic()
    is_raised = may_raise_priority()
    environment = read_environment()
    results, is_whole = measured(options)
    verdicts = judged(results)
    print_report(console, results, options.models, verdicts)
    for label, text in [
        *environment,
        ("other load", foreign_load_text(results)),
        ("priority", priority_text(is_raised)),
        ("took", f"{time.monotonic() - begin_s:.0f} s"),
    ]:
        console.print(f"{label}: {text}", highlight=False)
    write(options.json, results, verdicts, {"environment": dict(environment), "is_priority_raised": is_raised})
    return int(not is_whole or any(verdict.result == FAIL for verdict in verdicts))


def measured(options: argparse.Namespace) -> Tuple[Results, bool]:
    """What was measured, and whether it is all that was asked for."""
    results = Results()
    try:
        binary()
        nets = prepared(options.models)
        if "ours" in options.servers:
            try:
                build(nets)
            except RuntimeError as error:
                results.skipped["ours"] = str(error)
        measure([SERVERS[name] for name in options.servers], nets, plan_of(options), results, console.print)
    except (KeyboardInterrupt, RuntimeError, subprocess.CalledProcessError) as error:
        console.print(f"ended early: {str(error) or 'interrupted'}; what follows was measured until then", markup=False)
        return results, False
    return results, True


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=QUICK_HELP)
    parser.add_argument("--servers", type=_names_of(SERVERS), default=list(SERVERS), help="of " + ",".join(SERVERS))
    parser.add_argument("--models", type=_names_of(NAMES), help="of " + ",".join(NAMES))
    parser.add_argument("--rounds", type=int, help="how often each server is started")
    parser.add_argument("--json", type=Path, default=BENCH / "serving.json", help="where the result goes")
    options = parser.parse_args()
    options.models = options.models or list(QUICK_NETS if options.quick else NAMES)
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    """How long and how often."""
    cores = len(os.sched_getaffinity(0))
    if options.quick:
        return Plan(seconds=0.6, rounds=options.rounds or 1, cores=cores, idle_s=2.0)
    return Plan(seconds=1.0, rounds=options.rounds or 4, cores=cores, has_perf_analyzer=True)


def read_environment() -> List[List[str]]:
    """Label and text of every figure of this machine."""
    command = [sys.executable, "-c", ENVIRONMENT]
    done = subprocess.run(command, check=True, env=own_environment(), stdout=subprocess.PIPE, text=True)
    rows: List[List[str]] = json.loads(done.stdout)
    return rows


def priority_text(is_raised: bool) -> str:
    """Whether other load could disturb the run."""
    if is_raised:
        return "servers and load ran before other sessions (autogroup -15)"
    return "as any other's: /proc/self/autogroup isn't writable, so other load disturbs these figures"


def write(path: Path, results: Results, verdicts: Sequence[Verdict], context: dict[str, Any]) -> None:
    """The result as JSON."""
    bars = [
        {"name": each.bar.name, "limit": each.bar.text(), "figure": _record(each.figure), "result": each.result}
        for each in verdicts
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**context, "bars": bars, **results.record()}, indent=1) + "\n")
    console.print(f"result: {path}", highlight=False)


def _record(figure: Figure | None) -> dict[str, Any] | None:
    return None if figure is None else asdict(figure)


def _names_of(valid: Collection[str]) -> Callable[[str], List[str]]:
    def names(text: str) -> List[str]:
        found = [name for name in text.split(",") if name]
        unknown = [name for name in found if name not in valid]
        if unknown or not found:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: expected of {','.join(valid)}")
        return found

    return names


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
