from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import PlanError, StoreBusyError
from edge_runtime.provisioning.store_turn import LOCK, store_turn


def test_a_second_one_is_told_who_has_the_store(tmp_path: Path) -> None:
    with store_turn(tmp_path / "engines"):
        again = store_turn(tmp_path / "engines")
        with pytest.raises(StoreBusyError, match=f"process {os.getpid()} builds its plans") as raised:
            again.__enter__()
        assert raised.value.exit_code == 75
    with store_turn(tmp_path / "engines"):
        pass


def test_a_process_that_is_killed_leaves_the_store_free_and_its_strays_go(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge_runtime.provisioning.store_turn import store_turn\n"
        "with store_turn(Path(sys.argv[1])): print('has it', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"has it\n"
    with pytest.raises(StoreBusyError, match=f"process {child.pid} "), store_turn(tmp_path):
        raise AssertionError
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    (tmp_path / "..progress.json.0a.tmp").touch()
    with store_turn(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    for folder in (tmp_path, tmp_path / "elsewhere"):
        with pytest.raises(PlanError, match="can't be written"), store_turn(folder):
            raise AssertionError
