"""Figure 1 in short: what the server's tests say."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Iterator

from serving.places import ROOT

from robustness.places import TESTS, environment
from robustness.rows import Row, verdict_of

_MOST_S = 900.0


def rows() -> Iterator[Row]:
    """The result of `pytest tests/server`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(TESTS)],
        check=False, cwd=ROOT, env=environment(), timeout=_MOST_S, text=True, capture_output=True,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    yield Row("1 conformance", "all pass", last, passed_in(last), verdict_of(done.returncode == 0))


def passed_in(line: str) -> int:
    """How many tests passed, from pytest's last line."""
    found = re.search(r"(\d+) passed", line)
    return int(found[1]) if found else 0
