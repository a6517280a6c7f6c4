from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from fakes.installed_services import UNITS, drop_in, installed_board
from fakes.signed_versions import publish, signed

from edge_runtime.plan.keys import read_private_key
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding
from edge_runtime.provisioning.unit.installed import InstalledService, installed_service
from edge_runtime.provisioning.unit.places import Places, below
from edge_runtime.provisioning.unit.trust_findings import (
    credentials_finding,
    floor_finding,
    plans_finding,
    trust_finding,
)

STRICT = "Environment=EDGE_RUNTIME_TRUST__REQUIRE_SIGNED=true"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return installed_board(tmp_path)


@pytest.fixture
def engines(root: Path) -> Path:
    return below(root, Places().engines)


def finding(look: Callable[[InstalledService], Finding], root: Path) -> Finding:
    service = installed_service(root)
    assert service is not None
    return look(service)


def test_a_key_that_is_handed_over_and_is_not_there_keeps_the_unit_from_starting(root: Path) -> None:
    assert finding(credentials_finding, root).text == "signing.key"
    below(root, Places().device_key).unlink()
    found = finding(credentials_finding, root)
    assert (found.state, UNITS[1] in found.text) == (FAILED, True)


def test_a_key_that_others_can_read_is_told(root: Path) -> None:
    below(root, Places().device_key).chmod(0o640)
    found = finding(credentials_finding, root)
    assert (found.state, "got 640" in found.text) == (WARNING, True)
    assert str(Places().device_key) in found.remedy


def test_a_key_of_plans_that_came_after_the_units_has_to_be_handed_over(root: Path) -> None:
    path = below(root, Places().plan_key)
    path.touch(0o600)
    assert finding(credentials_finding, root).state == WARNING
    drop_in(root, "90-key.conf", f"LoadCredential=plan.key:{Places().plan_key}")
    assert finding(credentials_finding, root).text == "plan.key, signing.key"


def test_a_systemd_without_credentials_is_no_fault(tmp_path: Path) -> None:
    found = finding(credentials_finding, installed_board(tmp_path, systemd="245.4-4ubuntu3"))
    assert (found.state, "before 247" in found.text) == (OK, True)


def test_plans_of_nobody_are_told_where_they_would_be_loaded(root: Path) -> None:
    found = finding(trust_finding, root)
    assert (found.state, "nobody signed" in found.text) == (WARNING, True)


def test_a_trust_folder_that_others_can_write_fails(root: Path) -> None:
    drop_in(root, "90-strict.conf", STRICT)
    below(root, Places().trusted).chmod(0o777)
    found = finding(trust_finding, root)
    assert (found.state, "chmod go-w" in found.text) == (FAILED, True)


def test_no_key_is_no_plan(root: Path) -> None:
    drop_in(root, "90-strict.conf", STRICT, "Environment=EDGE_RUNTIME_TRUST__FOLDER=/nowhere")
    found = finding(trust_finding, root)
    assert (found.state, "no plan can be loaded" in found.text) == (FAILED, True)


def test_the_settings_of_trust_are_those_of_the_servers_file(root: Path) -> None:
    below(root, Places().config).write_text('[trust]\nfloor = ""\n')
    assert finding(floor_finding, root).state == WARNING


def test_a_version_above_the_floor_is_good_and_one_below_it_fails(root: Path, engines: Path) -> None:
    publish(engines)
    assert "all versions may be loaded" in finding(floor_finding, root).text
    floor = RollbackFloor(root / "var/lib/edge-runtime/floor.json")
    floor.raise_floor("m", 1)
    assert finding(floor_finding, root).text == "m from version 1 on"
    floor.raise_floor("m", 3)
    assert finding(floor_finding, root).text == "m: expected version 3 or later, got 1"


def test_a_floor_that_is_damaged_fails(root: Path, engines: Path) -> None:
    publish(engines)
    path = root / "var/lib/edge-runtime/floor.json"
    path.parent.mkdir()
    path.write_text("{}")
    assert finding(floor_finding, root).state == FAILED


def test_plans_are_told_with_who_signed_them(root: Path, engines: Path) -> None:
    assert "no plan yet" in finding(plans_finding, root).text
    signed(engines, read_private_key(below(root, Places().device_key)))
    assert finding(plans_finding, root).text == "m version 1 signed by device"


def test_a_plan_that_nobody_signed_fails_where_it_has_to_be_signed(root: Path, engines: Path) -> None:
    publish(engines)
    assert finding(plans_finding, root).text == "m version 1 signed by nobody"
    drop_in(root, "90-strict.conf", STRICT)
    found = finding(plans_finding, root)
    assert (found.state, "isn't signed" in found.text) == (FAILED, True)
    assert found.remedy.startswith("edge-runtime verify m ")


def test_a_version_that_was_changed_after_it_was_signed_fails(root: Path, engines: Path) -> None:
    stored = signed(engines, read_private_key(below(root, Places().device_key)))
    path = stored.folder / "manifest.json"
    path.write_text(path.read_text() + "\n")
    assert finding(plans_finding, root).state == FAILED
