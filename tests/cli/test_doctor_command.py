from __future__ import annotations

import json
from typing import Callable

import pytest

from edge_runtime.cli.main import main
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.provisioning import doctor
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding

REMEDY = "sudo usermod -aG render,video $USER, then log in again, which is a line that is longer than any table"
FINDINGS = [
    Finding("python", OK, "3.10.12 on aarch64"),
    Finding("permissions", WARNING, "this process can't read and write /dev/nvmap (group video)", REMEDY),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Runs the command over findings; gives its exit status and what it printed."""
    monkeypatch.setattr("edge_runtime.cli.doctor.configure_logging", lambda: None)

    def call(findings: list, *flags: str) -> tuple[int, str]:
        found = doctor.Diagnosis(DeviceInfo("jetson", "board", "aarch64", "cpu"), findings)
        monkeypatch.setattr(doctor, "diagnose", lambda engines: found)
        with pytest.raises(SystemExit) as ending:
            main(["doctor", *flags])
        return int(ending.value.code or 0), capsys.readouterr().out

    return call


def test_each_remedy_is_one_line_that_can_be_copied(run: Callable[..., tuple]) -> None:
    code, text = run(FINDINGS)
    assert code == 0
    assert f"  permissions: {REMEDY}" in text.splitlines()


def test_nothing_is_said_of_remedies_where_none_is_needed(run: Callable[..., tuple]) -> None:
    assert "mends" not in run(FINDINGS[:1])[1]


def test_the_document_has_the_remedies(run: Callable[..., tuple]) -> None:
    code, text = run(FINDINGS, "--json")
    document = json.loads(text)
    assert (code, document["sound"]) == (0, True)
    assert [finding["remedy"] for finding in document["findings"]] == ["", REMEDY]
    assert document["device"]["module"] == ""


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_failed_finding_is_exit_status_1(run: Callable[..., tuple], flags: list) -> None:
    assert run([Finding("gpu", FAILED, "no device", "nvidia-smi")], *flags)[0] == 1
