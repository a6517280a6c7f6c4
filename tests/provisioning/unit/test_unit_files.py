from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.provisioning.unit.unit_files import InstalledUnit, installed_unit

NAME = "a.service"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def unit(root: Path) -> InstalledUnit:
    write(
        root, f"etc/systemd/system/{NAME}", "[Service]\n# User=no\nUser=one\nDeviceAllow=/dev/a rw\nStateDirectory=s\n"
    )
    found = installed_unit(root, NAME)
    assert found is not None
    return found


def test_what_is_not_installed_is_none(tmp_path: Path) -> None:
    assert installed_unit(tmp_path, NAME) is None


def test_drop_ins_come_after_the_unit_by_name_and_one_in_etc_hides_its_namesake(tmp_path: Path) -> None:
    write(tmp_path, f"etc/systemd/system/{NAME}.d/20-x.conf", "[Service]\nUser=three\nDeviceAllow=/dev/b rw\n")
    write(tmp_path, f"usr/lib/systemd/system/{NAME}.d/30-y.conf", "[Service]\nUser = four\n")
    write(tmp_path, f"run/systemd/system/{NAME}.d/20-x.conf", "[Service]\nUser=hidden\nDeviceAllow=/dev/c rw\n")
    write(tmp_path, f"etc/systemd/system/{NAME}.d/99-z.conf.bak", "[Service]\nUser=no drop-in\n")
    found = unit(tmp_path)
    assert (found.value("User"), found.values("DeviceAllow")) == ("four", ["/dev/a rw", "/dev/b rw"])


def test_an_empty_value_takes_back_those_before_it(tmp_path: Path) -> None:
    write(tmp_path, f"etc/systemd/system/{NAME}.d/1.conf", "[Service]\nDeviceAllow=\nDeviceAllow=/dev/d r\n")
    assert unit(tmp_path).values("DeviceAllow") == ["/dev/d r"]


def test_variables_are_those_of_the_unit_then_of_its_files(tmp_path: Path) -> None:
    lines = 'Environment=A=1 "B=2 and more"\nEnvironment=A=3\nEnvironmentFile=-/etc/default/a\nEnvironmentFile=/no\n'
    write(tmp_path, f"etc/systemd/system/{NAME}.d/1.conf", f"[Service]\n{lines}")
    write(tmp_path, "etc/default/a", "# C=0\nC='4 5'\nB=6\n")
    assert unit(tmp_path).environ == {"A": "3", "B": "6", "C": "4 5", "STATE_DIRECTORY": "/var/lib/s"}


@pytest.mark.parametrize("hierarchy", ["", "unified/", "systemd/"])
def test_its_processes_are_those_of_its_control_group(tmp_path: Path, hierarchy: str) -> None:
    assert unit(tmp_path).pids == []
    write(tmp_path, f"sys/fs/cgroup/{hierarchy}system.slice/{NAME}/cgroup.procs", "812\n811\n")
    assert unit(tmp_path).pids == [811, 812]
