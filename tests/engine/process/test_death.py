from __future__ import annotations

import signal

import pytest

from edge_runtime.engine.process.death import REASONS, death_from


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        (-signal.SIGSEGV, "crashed", "was ended by SIGSEGV (the | last)"),
        (-signal.SIGKILL, "killed", "was ended by SIGKILL, by somebody or for want of memory (the | last)"),
        (-64, "crashed", "was ended by SIGRTMAX (the | last)"),
        (-70, "crashed", "was ended by signal 70 (the | last)"),
        (0, "exited", "ended with status 0 (the | last)"),
        (70, "device_lost", "lost the GPU (the | last)"),
        (None, "exited", "doesn't end, even by SIGKILL, and was left behind (the | last)"),
    ],
)
def test_a_death_is_told_with_its_signal_and_the_last_lines(status: int, reason: str, text: str) -> None:
    death = death_from(status, ["the", "", "last"])
    assert (death.reason, death.text) == (reason, text)
    assert reason in REASONS
