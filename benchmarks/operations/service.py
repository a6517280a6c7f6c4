"""Figures 7, 8 and 18: the service under a real systemd, as its tests measure it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Iterator

from robustness.rows import NOT_MEASURED, Row, verdict_of
from serving.places import ROOT, own_environment

from operations.places import FOLDER

_FIGURES = FOLDER / "service.json"
_GOAL = "what tests/service holds it to"


def rows(_: argparse.Namespace) -> Iterator[Row]:
    """Runs the tests, and gives what they measured; a test that fails for another reason is a row of its own."""
    _FIGURES.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "systemd", "tests/service"]
    done = subprocess.run(command, cwd=ROOT, env=own_environment(), capture_output=True, text=True, check=False)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-200:]
    found = json.loads(_FIGURES.read_text()) if _FIGURES.exists() else []
    for each in found:
        yield Row(f"{each['number']} {_subject(each['goal'])}", each["goal"], each["measured"], each["n"],
                  verdict_of(each["is_held"]))  # fmt: skip
    if not found:
        yield Row("7 under systemd", _GOAL, summary, 0, NOT_MEASURED)
    elif done.returncode:
        yield Row("7 its tests", _GOAL, summary, 1, verdict_of(is_held=False))


def _subject(goal: str) -> str:
    return goal.partition(":")[0].partition(" <=")[0]
