from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.engine.tensorrt.verified import is_verified, mark_verified, verified_key

DIGEST = "a" * 64


def test_a_plan_is_verified_for_one_library_and_one_kind_of_gpu(tmp_path: Path) -> None:
    key = verified_key("tensorrt 10.3.0", (8, 7))
    assert not is_verified(tmp_path, DIGEST, key)
    mark_verified(tmp_path, DIGEST, key)
    mark_verified(tmp_path, DIGEST, key)
    assert is_verified(tmp_path, DIGEST, key)
    assert not is_verified(tmp_path, "b" * 64, key)
    assert not is_verified(tmp_path, DIGEST, verified_key("tensorrt 10.3.1", (8, 7)))
    assert not is_verified(tmp_path, DIGEST, verified_key("tensorrt 10.3.0", (7, 2)))
    assert [path.name for path in (tmp_path / ".verified").iterdir()] == [f"{DIGEST}-tensorrt-10.3.0-8.7"]


def test_a_library_cannot_name_a_file_elsewhere() -> None:
    assert "/" not in verified_key("../../etc/x 1", (8, 7))


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".verified").write_text("a file, no folder")
    mark_verified(tmp_path, DIGEST, "key")
    assert not is_verified(tmp_path, DIGEST, "key")
    assert "the plan is tried out each time it is loaded" in caplog.text
