"""Figures held against goals: measured part by part, printed as one table with the environment, kept as JSON."""

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
from typing import Any, Callable, Iterator, List, Mapping, Sequence, Tuple

from rich.console import Console
from rich.table import Table
from robustness.rows import NOT_HELD, NOT_MEASURED, Row
from serving.places import own_environment

WIDTH_OF_A_FILE = 170
# In a child process, for a benchmark that forks must have started no threads.
ENVIRONMENT = (
    "import json; from edge_runtime.profiler.environment import read_environment as e; print(json.dumps(e().rows()))"
)
console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)

Part = Callable[[argparse.Namespace], Iterator[Row]]
Parts = Mapping[str, Tuple[str, Part]]


def say(text: str) -> None:
    """A line."""
    console.print(text, markup=False, highlight=False)


def reported(parts: Parts, options: argparse.Namespace, load: str) -> int:
    """Measures `options.only` of the parts in their order, prints all and writes `options.json`; 0 if all is held.

    A part that ends early is `not measured`, as is what comes after Ctrl-C. SIGTERM and SIGHUP end it in order.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    begin_s = time.monotonic()
    rows: List[Row] = []
    is_whole = True
    for name in (name for name in parts if name in options.only):
        label, part = parts[name]
        say(f"figure {name}: {label}")
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
    for label, text in [*found, ("load", load), ("took", f"{time.monotonic() - begin_s:.0f} s")]:
        say(f"{label}: {text}")
    write(options.json, rows, dict(found))
    return int(not is_whole or any(row.verdict == NOT_HELD for row in rows))


def table(rows: Sequence[Row]) -> Table:
    """All rows."""
    made = Table("figure", "server", "goal", "measured", "n", "")
    for row in rows:
        made.add_row(row.figure, row.server, row.goal, row.measured, f"{row.n:,}", row.verdict)
    return made


def read_environment() -> List[List[str]]:
    """Label and text of every figure of this machine."""
    command = [sys.executable, "-c", ENVIRONMENT]
    done = subprocess.run(command, check=True, env=own_environment(), stdout=subprocess.PIPE, text=True)
    found: List[List[str]] = json.loads(done.stdout)
    return found


def write(path: Path, rows: Sequence[Row], found: Mapping[str, Any]) -> None:
    """The result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": found, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    say(f"result: {path}")


def names_of(parts: Mapping[str, object]) -> Callable[[str], List[str]]:
    """What reads the value of `--only`."""

    def names(text: str) -> List[str]:
        found = [name for name in text.split(",") if name]
        unknown = [name for name in found if name not in parts]
        if unknown or not found:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: expected of {','.join(parts)}")
        return found

    return names


def figures_of(parts: Parts) -> str:
    """The parts by name, for `--help`."""
    return ", ".join(f"{name} {label}" for name, (label, _) in parts.items())


def shared_cores() -> str:
    """What is to be said of a load that shares its cores with what it is for."""
    return f"generators and server shared {len(os.sched_getaffinity(0))} cores"


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)
