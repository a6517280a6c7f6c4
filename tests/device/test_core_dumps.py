from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CRASHING = """
import ctypes, os, resource, signal, sys
from edge_runtime.device.core_dumps import forbid_core_dumps

resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
if sys.argv[1] == "forbidden":
    forbid_core_dumps()
    forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""


def crashed(word: str, folder: Path) -> tuple[list[str], bool]:
    """The limit and the flag that a process had, and whether the kernel says that it dumped its core."""
    command = [sys.executable, "-c", CRASHING, word]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read().split()
        assert process.wait(20) == -signal.SIGSEGV
    return said, any(folder.iterdir())


def test_a_process_that_forbids_it_has_no_limit_and_no_flag_for_core_dumps(tmp_path: Path) -> None:
    assert crashed("forbidden", tmp_path) == (["0", "0"], False)


def test_another_process_is_as_it_was(tmp_path: Path) -> None:
    (limit, is_dumpable), has_dumped = crashed("allowed", tmp_path)
    assert is_dumpable == "1"
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii").strip()
    if limit == "0" or pattern.startswith(("|", "/", "@")):
        pytest.skip("core dumps can't be allowed here, or go elsewhere")
    assert has_dumped
