from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes.boards import NVHOST_NODES, orin_nano_jp6, pc, tree

from edge_runtime.device.permissions import DeviceNode, Permissions, read_permissions

VIDEO, RENDER, DEBUG = 44, 104, 999


def node(name: str, gid: int = VIDEO, can_use: bool = False, is_open: bool = True) -> DeviceNode:
    names = {0: "root", VIDEO: "video", RENDER: "render", DEBUG: "debug"}
    return DeviceNode(name, names.get(gid, str(gid)), gid, is_open, can_use)


def test_the_nodes_of_an_orin_are_found(tmp_path: Path) -> None:
    found = read_permissions(orin_nano_jp6(tmp_path), can_use=lambda path: False)
    names = {node.name for node in found.nodes}
    assert {"nvmap", "nvhost-ctrl-gpu", "nvgpu/igpu0/ctrl", "dri/renderD128"} <= names
    assert [node.name for node in found.closed_for_rendering] == ["dri/renderD128"]
    assert "nvhost-dbg-gpu" in names - {node.name for node in found.closed}
    assert "nvgpu/igpu0/power" in names - {node.name for node in found.closed}


def test_the_nodes_of_a_pc_are_found(tmp_path: Path) -> None:
    found = read_permissions(pc(tmp_path), can_use=lambda path: False)
    assert {node.name for node in found.closed} == {"nvidia0", "nvidiactl", "nvidia-uvm"}


def test_folders_and_dangling_links_are_no_nodes(tmp_path: Path) -> None:
    (tmp_path / "dev/nvidia-caps").mkdir(parents=True)
    (tmp_path / "dev/nvidia0").symlink_to("nowhere")
    (tmp_path / "dev/nvidiactl").symlink_to("nvidiactl")
    assert read_permissions(tmp_path).nodes == []


@pytest.mark.parametrize(("mode", "is_open"), [(0o660, True), (0o640, False), (0o600, False)])
def test_the_group_is_named_by_the_board_itself(tmp_path: Path, mode: int, is_open: bool) -> None:
    tree(tmp_path, {"dev/nvmap": "", "etc/group": f"broken\nnv-users:x:{os.getgid()}:\n"})
    (tmp_path / "dev/nvmap").chmod(mode)
    (found,) = read_permissions(tmp_path).nodes
    assert (found.group, found.gid, found.is_open_to_group) == ("nv-users", os.getgid(), is_open)


def test_a_group_without_a_name_goes_by_its_number(tmp_path: Path) -> None:
    (found,) = read_permissions(tree(tmp_path, {"dev/nvmap": ""})).nodes
    assert found.group == str(os.getgid())


def test_by_default_the_process_itself_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "nvmap")
    found = read_permissions(tree(tmp_path, NVHOST_NODES))
    assert [node.name for node in found.closed] == ["nvmap"]
    assert os.getegid() in found.own_gids


@pytest.mark.parametrize(
    ("nodes", "own", "missing"),
    [
        ([node("nvmap"), node("nvhost-gpu")], {1000}, ["video"]),
        ([node("nvmap"), node("dri/renderD128", RENDER)], {1000}, ["render", "video"]),
        ([node("nvmap", can_use=True), node("dri/renderD128", RENDER)], {1000, VIDEO}, ["render"]),
        ([node("nvmap")], {1000, VIDEO}, []),
        ([node("nvmap", gid=0)], {1000}, []),
        ([node("nvmap", is_open=False)], {1000}, []),
        ([node("nvhost-dbg-gpu", DEBUG)], {1000}, []),
        ([node("nvmap", gid=4711)], {1000}, ["4711"]),
    ],
)
def test_the_missing_groups_are_those_that_would_open_what_is_needed(nodes: list, own: set, missing: list) -> None:
    assert Permissions(nodes, own).missing_groups == missing
