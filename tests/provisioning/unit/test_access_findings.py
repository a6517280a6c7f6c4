from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes import boards
from fakes.installed_services import UNITS, drop_in, installed_board

from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding
from edge_runtime.provisioning.unit.access_findings import devices_finding, limits_finding
from edge_runtime.provisioning.unit.installed import Account, InstalledService, installed_service


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return installed_board(tmp_path)


def service(root: Path) -> InstalledService:
    found = installed_service(root)
    assert found is not None
    return found


def devices(root: Path) -> Finding:
    return devices_finding(service(root))


def test_nodes_that_the_users_may_open_are_counted(root: Path) -> None:
    finding = devices(root)
    assert (finding.state, "6 device nodes" in finding.text) == (OK, True)


def test_a_node_that_its_mode_closes_to_the_user_is_named_and_what_cuda_does_not_need_is_not(root: Path) -> None:
    (root / "dev/nvmap").chmod(0o600)
    (root / "dev/nvhost-dbg-gpu").chmod(0o600)
    finding = devices(root)
    assert finding.state == FAILED
    assert finding.text == "user edge-runtime can't read and write /dev/nvmap"


def test_the_group_that_opens_a_node_is_the_remedy(root: Path) -> None:
    gid = os.getgid() or 44
    if os.getgid() == 0:
        os.chown(root / "dev/nvmap", -1, gid)
    groups = boards.GROUPS.replace("video:x:44:", f"gpu-users:x:{gid}:")
    (root / "etc/group").write_text(groups)
    (root / "dev/nvmap").chmod(0o660)
    assert devices(root).remedy.startswith("sudo usermod -aG gpu-users edge-runtime && ")


def test_a_node_that_came_after_the_unit_has_to_be_let_in(root: Path) -> None:
    boards.tree(root, {"dev/nvidia0": ""})
    (root / "dev/nvidia0").chmod(0o666)
    finding = devices(root)
    assert (finding.state, finding.remedy) == (FAILED, "sudo edge-runtime install-unit --now")
    assert "doesn't allow /dev/nvidia0" in finding.text
    for unit in UNITS:
        drop_in(root, "90-more.conf", "DeviceAllow=/dev/nvidia0 rw", unit=unit)
    assert devices(root).state == OK


@pytest.mark.parametrize(
    ("uid", "is_in_group", "mode", "can_use"),
    [
        (0, False, 0o000, True),
        (123456, False, 0o666, True),
        (123456, False, 0o660, False),
        (123456, True, 0o660, True),
        (123456, True, 0o606, False),
    ],
)
def test_a_mode_lets_users_in_by_owner_group_and_others(
    tmp_path: Path, uid: int, is_in_group: bool, mode: int, can_use: bool
) -> None:
    path = tmp_path / "node"
    path.touch()
    path.chmod(mode)
    groups = frozenset({path.stat().st_gid} if is_in_group else {123456})
    assert Account("x", uid, groups).can_use(path) == can_use


@pytest.mark.parametrize(
    ("limit", "state"), [("infinity", OK), ("8G", OK), ("8G:infinity", OK), ("64K", WARNING), ("8388608", WARNING)]
)
def test_a_unit_that_may_lock_little_is_told(root: Path, limit: str, state: str) -> None:
    drop_in(root, "90-limit.conf", f"LimitMEMLOCK={limit}")
    finding = limits_finding(service(root))
    assert finding.state == state
    assert bool(finding.remedy) == (state == WARNING)


def test_a_process_that_was_started_under_another_limit_is_told(root: Path) -> None:
    boards.tree(
        root,
        {
            f"sys/fs/cgroup/system.slice/{UNITS[0]}/cgroup.procs": "4711\n",
            "proc/4711/limits": "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  65536  bytes\n",
        },
    )
    finding = limits_finding(service(root))
    assert (finding.state, "65536 bytes" in finding.text) == (WARNING, True)
