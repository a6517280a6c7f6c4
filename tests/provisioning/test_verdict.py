from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.builder.recipe import load_recipe
from edge_runtime.errors import GateError, PlanError, PlanUntrustedError
from edge_runtime.plan.keys import VENDOR, new_key
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.provisioning.verdict import (
    VerdictRecord,
    read_verdict,
    verdict_of_error,
    verdict_of_plan,
    write_verdict,
)
from tests.fakes.packs import Device, Host


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def record(**changes: Any) -> VerdictRecord:
    fields = {"model": "m", "state": "failed", "reason": "it broke", "edge_runtime": "0", "device": {}}
    return VerdictRecord(**{**fields, "candidates": [], "notes": [], **changes})


def test_what_a_device_made_of_a_pack_is_read_by_its_maker(device: Device, tmp_path: Path, classifier: bytes) -> None:
    made = Host(tmp_path / "host", classifier).pack()
    path = device.unpack(made.path).recipe
    first, again = device.build(path), device.build(path)
    recipe = load_recipe(path, environ={})
    found = verdict_of_plan(recipe, first, device.policy())
    write_verdict(tmp_path / "v.json", found, device.trust.device)
    read = read_verdict(tmp_path / "v.json", device.policy(require_signed=True))
    assert (read.record, read.signer) == (found, device.trust.device.public)
    assert (found.state, found.pack_sha256, found.manifest_sha256) == ("published", made.sha256, first.manifest_sha256)
    assert verdict_of_plan(recipe, again, device.policy()).state == "unchanged"


def test_a_refusal_is_reported_with_its_candidates(device: Device, tmp_path: Path, classifier: bytes) -> None:
    made = Host(tmp_path / "host", classifier).pack()
    recipe = load_recipe(device.unpack(made.path).recipe, environ={})
    error = GateError("int8: too bad", made.record.candidates)
    found = verdict_of_error(recipe, error, device.policy())
    assert (found.state, found.reason, found.pack_sha256) == ("refused", "int8: too bad", made.sha256)
    assert found.candidates == made.record.candidates


def test_without_a_key_it_is_plain_and_taken_only_where_none_is_required(device: Device, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    write_verdict(path, record(), None)
    assert json.loads(path.read_text())["predicate"]["reason"] == "it broke"
    assert read_verdict(path, device.policy()).signer is None
    with pytest.raises(PlanUntrustedError, match="isn't signed"):
        read_verdict(path, device.policy(require_signed=True))


def test_a_changed_report_and_one_of_a_stranger_are_refused(device: Device, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    write_verdict(path, record(), new_key("stranger", VENDOR))
    with pytest.raises(PlanUntrustedError, match="isn't trusted"):
        read_verdict(path, device.policy())
    write_verdict(path, record(), device.trust.device)
    content = json.loads(path.read_text())
    payload = base64.b64decode(content["payload"]).replace(b"it broke", b"it works")
    path.write_text(json.dumps({**content, "payload": base64.b64encode(payload).decode()}))
    with pytest.raises(PlanUntrustedError, match="is wrong"):
        read_verdict(path, device.policy())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"_type": 1, "predicateType": 2}', '{"payload": 1}', "\xff"])
def test_what_is_no_report_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "v.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(PlanUntrustedError):
        read_verdict(path, TrustPolicy())


def test_a_report_that_cant_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlanError, match="can't be written"):
        write_verdict(tmp_path / "file/v.json", record(), None)
