"""Nothing that the files of a board hold may make a reader raise."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Callable, List

import pytest
from fakes.boards import READ_FILES, orin_nano_jp6, tree
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.device.container import is_container
from edge_runtime.device.identity import identify
from edge_runtime.device.l4t import l4t_release
from edge_runtime.device.memory import read_memory
from edge_runtime.device.permissions import read_permissions
from edge_runtime.device.power_mode import current_power_mode, default_power_mode, has_pinned_clocks, power_modes

READERS: List[Callable[[Path], object]] = [
    identify,
    lambda root: (identify(root).jetpack, identify(root).dla_cores, identify(root).record()),
    l4t_release,
    read_memory,
    read_permissions,
    is_container,
    power_modes,
    current_power_mode,
    default_power_mode,
    has_pinned_clocks,
]
# Pieces that the readers look for, so that made-up contents get past their first line.
PIECES = [
    b"nvidia,tegra234\0", b"p3767-", b"0005", b"# R36 (release), REVISION: ", b"4.7", b"Package: nvidia-l4t-core\n",
    b"Status: install ok installed\n", b"Version: ", b"36.4.7-", b"pmode:", b"< POWER_MODEL ID=", b" NAME=", b" >\n",
    b"< PM_CONFIG DEFAULT=", b"MemTotal: ", b"MemAvailable:", b" kB\n", b"0::/", b"4:memory:/", b"..", b"/", b"max",
    b"\xff\xfe", b"\xd9\xa4", b"-1", b"9" * 30, b"\n", b"\0", b"\x1b[2J", b"video:x:", b":", b"inactive_file ",
]  # fmt: skip
CONTENT = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))


def read_all(root: Path) -> None:
    for read in READERS:
        read(root)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(READ_FILES), CONTENT, min_size=1))
def test_no_content_makes_a_reader_raise(files: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        read_all(tree(Path(folder), files))


@pytest.mark.parametrize("name", READ_FILES)
@pytest.mark.parametrize("damage", ["folder", "loop", "dangling", "huge"])
def test_no_kind_of_file_makes_a_reader_raise(tmp_path: Path, name: str, damage: str) -> None:
    path = orin_nano_jp6(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if damage == "folder":
        path.mkdir()
    elif damage == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to(path if damage == "loop" else "nowhere")
    read_all(tmp_path)


@pytest.mark.parametrize("folder", ["dev", "dev/nvgpu", "dev/dri", "sys/devices/system/cpu", "usr/lib", "proc"])
def test_a_folder_that_is_a_loop_of_links_makes_no_reader_raise(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)
    read_all(tmp_path)
