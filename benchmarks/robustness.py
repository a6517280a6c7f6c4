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
import sys
from pathlib import Path
from typing import Dict, Tuple

from goal_report import Part, figures_of, names_of, reported, shared_cores
from robustness import conformance, crashes, listeners, mix, overload, regions, soak, stopping
from robustness.nets import build
from serving.places import BENCH

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
    build()
    return reported(PARTS, options, shared_cores())


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in PARTS if name != "1"]
    parser.add_argument("--only", type=names_of(PARTS), default=usual, help=f"of {figures_of(PARTS)}")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load of figure 3 lasts")
    parser.add_argument("--conformance", action="store_true", help="figure 1 too: run the server's tests (minutes)")
    parser.add_argument("--json", type=Path, default=BENCH / "robustness.json", help="where the result goes")
    options = parser.parse_args()
    if options.conformance and "1" not in options.only:
        options.only = ["1", *options.only]
    return options


if __name__ == "__main__":
    sys.exit(main())
