from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes.cuda import ORIN

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.engine.tensorrt.verified import is_verified, mark_verified, verified_key

DIGEST = "a" * 64
BOARD = DeviceInfo("jetson", "Jetson AGX Orin", "aarch64", "", "tegra234", "p3701-0005", "36.4.3")
KEY = verified_key("tensorrt 10.3.0", ORIN, BOARD, "gpu:0")


def test_a_plan_is_verified_for_a_digest_and_a_key(tmp_path: Path) -> None:
    assert not is_verified(tmp_path, DIGEST, KEY)
    mark_verified(tmp_path, DIGEST, KEY)
    mark_verified(tmp_path, DIGEST, KEY)
    assert is_verified(tmp_path, DIGEST, KEY)
    assert not is_verified(tmp_path, "b" * 64, KEY)
    (marker,) = (tmp_path / ".verified").iterdir()
    assert marker.name.startswith(f"{DIGEST}-")
    assert marker.read_text() == f"{KEY}\n"


@pytest.mark.parametrize(
    "other",
    [
        verified_key("tensorrt 10.3.1", ORIN, BOARD, "gpu:0"),
        verified_key("tensorrt 10.3.0", replace(ORIN, compute_capability=(7, 2)), BOARD, "gpu:0"),
        verified_key("tensorrt 10.3.0", replace(ORIN, name="another"), BOARD, "gpu:0"),
        verified_key("tensorrt 10.3.0", ORIN, replace(BOARD, board="another"), "gpu:0"),
        verified_key("tensorrt 10.3.0", ORIN, replace(BOARD, module="p3767-0000"), "gpu:0"),
        verified_key("tensorrt 10.3.0", ORIN, replace(BOARD, l4t="36.4.4"), "gpu:0"),
        verified_key("tensorrt 10.3.0", ORIN, BOARD, "gpu:1"),
        verified_key("tensorrt 10.3.0", ORIN, BOARD, "dla:0"),
    ],
)
def test_another_board_library_or_device_has_to_try_again(tmp_path: Path, other: str) -> None:
    mark_verified(tmp_path, DIGEST, KEY)
    assert not is_verified(tmp_path, DIGEST, other)


def test_a_library_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    mark_verified(tmp_path, DIGEST, verified_key("../../etc/x\n1", ORIN, BOARD, "gpu:0"))
    assert [path.parent.name for path in tmp_path.rglob(f"{DIGEST}*")] == [".verified"]


def test_where_nothing_can_be_written_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".verified").write_text("a file, no folder")
    mark_verified(tmp_path, DIGEST, "key")
    assert not is_verified(tmp_path, DIGEST, "key")
    assert "the plan is tried out each time it is loaded" in caplog.text
