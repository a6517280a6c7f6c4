"""What the server does under overload, abuse and accidents, each held against its goal.

    python benchmarks/robustness.py [--only 3,4,16] [--seconds 5] [--conformance] [--json FILE]

Everything runs on loopback against `edge-runtime serve` in a process of its own; memory, descriptors, threads and
processor time are the kernel's figures of that process. Where a figure says something about others too, Triton stands
beside ours (`make serving-peers`): the tritonserver of PyTriton's wheel with its python backend, as it comes.
Load comes from processes that share the cores with the server: a load whose generator was late is marked, and one that
it or others disturbed proves nothing against the server (`not measured`). Exit status 1 if a goal isn't held.
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
from typing import Any, Callable, Dict, Iterator, List, Tuple

from rich.console import Console
from rich.table import Table
from robustness import conformance, crashes, listeners, mix, overload, regions, soak, stopping
from robustness.nets import build
from robustness.places import environment
from robustness.rows import NOT_HELD, NOT_MEASURED, Row
from serving.places import BENCH

WIDTH_OF_A_FILE = 170
# In a child process, as the other benchmarks have it.
ENVIRONMENT = (
    "import json; from edge_runtime.profiler.environment import read_environment as e; print(json.dumps(e().rows()))"
)
console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)

Part = Callable[[argparse.Namespace], Iterator[Row]]
# In the order in which they run: 5 and 16 fork, which is sound as long as gRPC has started no threads here.
PARTS: Dict[str, Tuple[str, Part]] = {
    "5": ("soak", lambda _: soak.soak_rows()),
    "16": ("regions of clients that die", lambda _: regions.rows()),
    "1": ("conformance", lambda _: conformance.rows()),
    "1.2": ("what ended another server", lambda _: crashes.rows()),
    "3": ("overload", lambda options: overload.rows(options.seconds)),
    "4": ("fairness", lambda _: mix.rows()),
    "6": ("refusals and mutations", lambda _: soak.refusal_rows()),
    "10": ("SIGTERM under load", lambda _: stopping.drain_rows()),
    "15": ("no descriptors left", lambda _: stopping.descriptor_rows()),
    "17": ("listeners and tokens", lambda _: listeners.listener_rows()),
    "19": ("hostile names in the log", lambda _: listeners.log_rows()),
    "22": ("two servers in one place", lambda _: stopping.place_rows()),
}


def main() -> int:
    """Measures what was asked for, prints the table and the environment; 0 if all goals are held."""
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    begin_s = time.monotonic()
    build()
    rows: List[Row] = []
    is_whole = True
    for name in (name for name in PARTS if name in options.only):
        label, part = PARTS[name]
        console.print(f"figure {name}: {label}", markup=False, highlight=False)
        try:
            rows.extend(part(options))
        except KeyboardInterrupt:
            is_whole = False
            break
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            rows.append(Row(name, label, f"ended early: {type(error).__name__}: {error}", 0, NOT_MEASURED))
            is_whole = False
    rows.sort(key=lambda row: float(row.figure.split()[0]))
    console.print(table(rows))
    found = read_environment()
    load = f"generators and server shared {len(os.sched_getaffinity(0))} cores"
    for label, text in [*found, ("load", load), ("took", f"{time.monotonic() - begin_s:.0f} s")]:
        console.print(f"{label}: {text}", markup=False, highlight=False)
    write(options.json, rows, dict(found))
    return int(not is_whole or any(row.verdict == NOT_HELD for row in rows))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = ", ".join(f"{name} {label}" for name, (label, _) in PARTS.items())
    parser.add_argument("--only", type=_names, default=[name for name in PARTS if name != "1"], help=f"of {figures}")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load of figure 3 lasts")
    parser.add_argument("--conformance", action="store_true", help="figure 1 too: run the server's tests (minutes)")
    parser.add_argument("--json", type=Path, default=BENCH / "robustness.json", help="where the result goes")
    options = parser.parse_args()
    if options.conformance and "1" not in options.only:
        options.only = ["1", *options.only]
    return options


def table(rows: List[Row]) -> Table:
    """All rows."""
    made = Table("figure", "server", "goal", "measured", "n", "")
    for row in rows:
        made.add_row(row.figure, row.server, row.goal, row.measured, f"{row.n:,}", row.verdict)
    return made


def read_environment() -> List[List[str]]:
    """Label and text of every figure of this machine."""
    command = [sys.executable, "-c", ENVIRONMENT]
    done = subprocess.run(command, check=True, env=environment(), stdout=subprocess.PIPE, text=True)
    found: List[List[str]] = json.loads(done.stdout)
    return found


def write(path: Path, rows: List[Row], found: Dict[str, Any]) -> None:
    """The result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": found, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    console.print(f"result: {path}", markup=False, highlight=False)


def _names(text: str) -> List[str]:
    found = [name for name in text.split(",") if name]
    unknown = [name for name in found if name not in PARTS]
    if unknown or not found:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: expected of {','.join(PARTS)}")
    return found


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
