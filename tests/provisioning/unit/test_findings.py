from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
from fakes import boards
from fakes.installed_services import PROGRAM, UNITS, drop_in, installed_board

from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding
from edge_runtime.provisioning.unit.findings import service_findings
from edge_runtime.provisioning.unit.places import Places, below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return installed_board(tmp_path)


def found(root: Path) -> Dict[str, Finding]:
    return {finding.subject: finding for finding in service_findings(root)}


def test_a_machine_without_the_service_is_told_what_installs_it(tmp_path: Path) -> None:
    (finding,) = service_findings(boards.orin_nano_jp6(tmp_path))
    assert (finding.state, finding.remedy) == (OK, "")
    assert "edge-runtime install-unit" in finding.text


def test_a_service_as_it_was_installed_has_nothing_to_mend(root: Path) -> None:
    expected = [
        "service",
        *(f"service {part}" for part in ("devices", "credentials", "trust", "floor", "plans", "limits")),
    ]
    findings = found(root)
    assert list(findings) == expected
    # Signatures aren't required there, which is said.
    assert [f.subject for f in findings.values() if f.state != OK] == ["service trust"]


def test_it_is_said_whether_it_runs(root: Path) -> None:
    assert "not running" in found(root)["service"].text
    boards.tree(root, {f"sys/fs/cgroup/system.slice/{UNITS[0]}/cgroup.procs": "4711\n4712\n"})
    assert "running (process 4711)" in found(root)["service"].text


def test_a_user_that_was_not_made_is_all_that_is_said(root: Path) -> None:
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (finding,) = service_findings(root)
    assert (finding.state, finding.remedy) == (FAILED, "sudo systemd-sysusers")
    assert "there is no user edge-runtime" in finding.text


def test_a_program_that_is_gone_fails(root: Path) -> None:
    below(root, PROGRAM).unlink()
    (finding,) = service_findings(root)
    assert (finding.state, str(PROGRAM) in finding.text) == (FAILED, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[server]\nhtpp = 1\n", "did you mean 'http'"), ("[server\n", "not valid TOML"), ("[x]\n", "unknown section")],
)
def test_settings_that_the_server_would_refuse_fail(root: Path, text: str, expected: str) -> None:
    below(root, Places().config).write_text(text)
    (finding,) = service_findings(root)
    assert finding.state == FAILED
    assert expected in finding.text
    assert finding.remedy == f"sudo editor {Places().config}"


def test_a_store_that_is_not_there_is_told(root: Path) -> None:
    below(root, Places().engines).rmdir()
    assert found(root)["service"].state == WARNING


def test_the_store_is_the_one_that_the_unit_names(root: Path) -> None:
    drop_in(root, "90-store.conf", "Environment=EDGE_RUNTIME_ENGINES=/data/engines")
    assert "/data/engines isn't there" in found(root)["service"].text
