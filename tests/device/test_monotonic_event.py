from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.device.monotonic_event import MonotonicEvent

_WAITS = "import time; from edge_runtime.device.monotonic_event import MonotonicEvent as E; E().wait(0.0105)"
_BY_WALL_CLOCK = re.compile(r"FUTEX_CLOCK_REALTIME.*tv_sec|CLOCK_REALTIME, TIMER_ABSTIME")


def test_a_wait_ends_no_sooner_than_it_is_to() -> None:
    begun_s = time.monotonic()
    assert not MonotonicEvent().wait(0.0105)
    assert time.monotonic() - begun_s >= 0.0105


@pytest.mark.parametrize("timeout_s", [-1.0, 0.0, 60.0])
def test_what_is_set_is_not_waited_for(timeout_s: float) -> None:
    event = MonotonicEvent()
    event.set()
    event.set()
    assert event.wait(timeout_s)
    assert event.is_set()


def test_all_that_wait_are_woken() -> None:
    event, woken = MonotonicEvent(), []
    threads = [threading.Thread(target=lambda: woken.append(event.wait(60.0))) for _ in range(3)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join()
    assert woken == [True] * 3


def test_a_cleared_event_is_waited_for_anew() -> None:
    event = MonotonicEvent()
    event.set()
    event.clear()
    event.clear()
    assert (event.is_set(), event.wait(0.0)) == (False, False)
    event.set()
    assert event.wait(60.0)


def test_its_descriptors_go_with_it() -> None:
    event = MonotonicEvent()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    del event
    assert len(os.listdir("/proc/self/fd")) == before - 2  # noqa: PTH208


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_system_call_of_a_wait_goes_by_the_wall_clock(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    command = ["strace", "-f", "-o", str(log), "-e", "trace=futex,poll,select,clock_nanosleep,ppoll,pselect6"]
    subprocess.run([*command, sys.executable, "-c", _WAITS], check=True)
    calls = log.read_text()
    assert "poll([{fd=" in calls
    assert not _BY_WALL_CLOCK.search(calls)
