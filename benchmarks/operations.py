"""A device's years in the field, each figure held against its goal: power cuts, failing disks, kills, hangs, heat.

    python benchmarks/operations.py [--only 11,12] [--cuts 60] [--json FILE]

Everything runs on this machine: power is cut on an ext4 of a loop device, system calls fail by strace, systemd runs in
namespaces. What needs root, or a program that isn't there, is `not measured`, as is all that only a board can show.
Exit status 1 if a goal isn't held.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, Tuple

from goal_report import Part, figures_of, names_of, reported, shared_cores
from operations import clock, degradation, engine_process, hot_swap, power_cuts, secrecy, service, tampering
from operations.fleet_writers import KINDS as FLEET_KINDS
from operations.pack_writers import KINDS as PACK_KINDS
from operations.places import FOLDER
from operations.writers import KINDS as STORE_KINDS

KINDS = {**STORE_KINDS, **FLEET_KINDS, **PACK_KINDS}
# In the order in which they run.
PARTS: Dict[str, Tuple[str, Part]] = {
    "7": ("the service under systemd: started, killed, hung", service.rows),
    "9": ("engine processes that crash or are stopped", engine_process.rows),
    "11": ("power cuts", power_cuts.power_rows),
    "11.1": ("killed at a system call", power_cuts.kill_rows),
    "12": ("failing disk", power_cuts.fault_rows),
    "14": ("encrypted plan on a disk", secrecy.rows),
    "14.1": ("encrypted plan tampered with", tampering.rows),
    "21": ("the wall clock set a day forward and back", clock.rows),
    "23": ("hot swap under load", hot_swap.rows),
    "24": ("degradation under heat", degradation.heat_rows),
}


def main() -> int:
    """Measures what was asked for, prints the table and the environment; 0 if all goals are held."""
    return reported(PARTS, arguments(), shared_cores())


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=names_of(PARTS), default=list(PARTS), help=f"of {figures_of(PARTS)}")
    parser.add_argument("--writers", type=names_of(KINDS), default=list(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--cuts", type=int, default=60, help="power cuts for each writer")
    parser.add_argument("--calls", type=int, default=12, help="how many of each system call are killed at or fail")
    parser.add_argument("--requests", type=int, default=10_000, help="requests with swaps under way, and without")
    parser.add_argument("--json", type=Path, default=FOLDER / "operations.json", help="where the result goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
