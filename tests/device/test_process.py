from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.device.process import ProcessIdentity, is_alive, own_process


def test_this_process_is_alive_and_one_that_ended_is_not() -> None:
    own = own_process()
    assert own.pid == os.getpid()
    assert own.start_ticks
    assert is_alive(own) is True
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert is_alive(replace(own, pid=child.pid)) is False


def test_a_number_that_came_back_is_another_process() -> None:
    own = own_process()
    assert is_alive(replace(own, start_ticks=(own.start_ticks or 0) + 1)) is False
    assert is_alive(replace(own, boot_id="another")) is False
    assert is_alive(replace(own, pid_namespace="pid:[1]")) is None


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine whose /proc hides the processes of others."""
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("boot\n")
    return tmp_path


@pytest.mark.parametrize(
    ("error", "alive"),
    [(None, True), (PermissionError, True), (ProcessLookupError, False), (OverflowError, False)],
)
def test_what_proc_hides_is_asked_of_the_kernel(machine: Path, error: type[Exception] | None, alive: bool) -> None:
    def signal(pid: int, number: int) -> None:
        assert (pid, number) == (7, 0)
        if error is not None:
            raise error

    assert is_alive(ProcessIdentity(7, 5, "boot", ""), machine, signal) is alive


def test_a_name_with_blanks_and_brackets_does_not_shift_the_start(machine: Path) -> None:
    (machine / "proc/7").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (machine / "proc/7/stat").write_text(f"7 (a) b (c)) S {fields}\n")
    assert is_alive(ProcessIdentity(7, 22, "boot", ""), machine) is True
    assert is_alive(ProcessIdentity(7, 23, "boot", ""), machine) is False
