from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes.signed_versions import FILES, Trust, made_trust, publish, signed

from edge_runtime.errors import ConfigError, PlanCorruptError, PlanError, PlanRollbackError, PlanUntrustedError
from edge_runtime.plan import envelope as envelopes
from edge_runtime.plan.envelope import Envelope, EnvelopeSignature, envelope_from_text, envelope_text, pae
from edge_runtime.plan.keys import VENDOR, PrivateKey, new_key
from edge_runtime.plan.provenance import DEVICE_BUILDER, HOST_BUILDER, statement_text
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.signature import check_signature, sign_version, signer
from edge_runtime.plan.store import SIGNATURE, PlanStore, StoredPlan, open_plan
from edge_runtime.plan.trust import TrustPolicy


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return made_trust(tmp_path / "trusted.d")


def statement_of(stored: StoredPlan) -> dict:
    content = (stored.folder / SIGNATURE).read_bytes()
    return json.loads(envelope_from_text(content, "e").payload)


def put_envelope(stored: StoredPlan, payload: bytes, *keys: PrivateKey) -> None:
    signed_bytes = pae(envelopes.PAYLOAD_TYPE, payload)
    signatures = tuple(EnvelopeSignature(key.public.id, key.sign(signed_bytes)) for key in keys)
    (stored.folder / SIGNATURE).write_text(envelope_text(Envelope(payload, signatures)))


def test_a_signed_version_says_who_signed_what(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    verdict = check_signature(open_plan(stored.folder), trust.policy)
    assert verdict.signer == trust.vendor.public
    assert verdict.provenance is not None
    assert set(verdict.provenance.subjects) == {"manifest.json", *FILES}
    assert "signed by 'vendor' (role vendor" in verdict.text
    assert verdict.record()["signer"]["key_id"] == trust.vendor.public.id


def test_a_signature_is_the_one_file_that_is_added(tmp_path: Path, trust: Trust) -> None:
    stored = publish(tmp_path / "engines")
    before = {path.name: path.read_bytes() for path in stored.folder.iterdir()}
    sign_version(stored, signer(trust.vendor))
    after = {path.name: path.read_bytes() for path in stored.folder.iterdir()}
    assert after.pop(SIGNATURE)
    assert after == before


def test_a_statement_names_what_the_plan_was_made_from(tmp_path: Path, trust: Trust) -> None:
    stored = publish(tmp_path / "engines")
    sign_version(stored, signer(trust.device, pack_sha256="5" * 64))
    statement = statement_of(stored)
    definition = statement["predicate"]["buildDefinition"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert definition["externalParameters"] == {"model": "m", "version": 1, "precision": "fp32"}
    assert {one["name"]: one["digest"]["sha256"][0] for one in definition["resolvedDependencies"]} == {
        "m.onnx": "1",
        "m.data": "2",
        "calibration data": "3",
        "calibration table": "4",
        "pack": "5",
    }
    assert statement["predicate"]["runDetails"]["builder"]["id"] == DEVICE_BUILDER
    provenance = check_signature(stored, trust.policy).provenance
    assert provenance is not None
    assert provenance.pack_sha256 == "5" * 64


def test_what_is_damaged_is_not_signed(tmp_path: Path, trust: Trust) -> None:
    stored = publish(tmp_path / "engines")
    (stored.folder / "golden.npz").write_bytes(b"another")
    with pytest.raises(PlanCorruptError):
        sign_version(stored, signer(trust.vendor))
    assert not stored.is_signed


def test_a_signature_that_cannot_be_written_is_said(
    tmp_path: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = publish(tmp_path / "engines")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_runtime.plan.files.os.fsync", full)
    with pytest.raises(PlanError, match=r"manifest\.dsse\.json: can't be written \(No space"):
        sign_version(stored, signer(trust.vendor))
    assert [path.name for path in stored.folder.iterdir() if "dsse" in path.name] == []


def test_no_signature_passes_unless_one_is_required(tmp_path: Path, trust: Trust) -> None:
    stored = publish(tmp_path / "engines")
    assert check_signature(stored, trust.policy).text == "not signed"
    with pytest.raises(PlanUntrustedError, match=r"isn't signed.*edge-runtime sign m@1 --key FILE") as raised:
        check_signature(stored, TrustPolicy(require_signed=True, folder=trust.folder))
    assert raised.value.exit_code == 78


def test_a_wrong_signature_is_refused_though_none_is_required(tmp_path: Path, trust: Trust) -> None:
    first, second = (signed(tmp_path / "engines", trust.vendor) for _ in range(2))
    shutil.copy(first.folder / SIGNATURE, second.folder / SIGNATURE)
    with pytest.raises(PlanUntrustedError, match=r"manifest\.json: expected sha256 .*, which was signed, got"):
        check_signature(second, trust.policy)


def test_a_stranger_is_refused_though_none_is_required(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", new_key("vendor", VENDOR))
    with pytest.raises(PlanUntrustedError, match="isn't trusted"):
        check_signature(stored, trust.policy)


def test_a_device_vouches_only_for_what_was_built_on_one(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.device)
    assert check_signature(stored, trust.policy).text.count("built on a device") == 1
    put_envelope(stored, statement_text(stored, HOST_BUILDER).encode(), trust.device)
    with pytest.raises(PlanUntrustedError, match=f"built by {HOST_BUILDER}: expected a signature .* role vendor"):
        check_signature(stored, trust.policy)
    put_envelope(stored, statement_text(stored, HOST_BUILDER).encode(), trust.device, trust.vendor)
    assert check_signature(stored, trust.policy).signer == trust.vendor.public


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b'{"a":1,"a":2}',
        b'{"_type":[],"subject":7,"predicateType":"","predicate":{}}',
    ],
)
def test_what_is_signed_must_be_a_statement_about_a_plan(tmp_path: Path, trust: Trust, payload: bytes) -> None:
    stored = publish(tmp_path / "engines")
    put_envelope(stored, payload, trust.vendor)
    with pytest.raises(PlanUntrustedError, match="no statement about a plan"):
        check_signature(stored, trust.policy)


@pytest.mark.parametrize("key", ["_type", "predicateType"])
def test_a_statement_of_another_kind_is_refused(tmp_path: Path, trust: Trust, key: str) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    put_envelope(stored, json.dumps({**statement_of(stored), key: "https://example.com"}).encode(), trust.vendor)
    with pytest.raises(PlanUntrustedError, match="of another kind"):
        check_signature(stored, trust.policy)


def test_subjects_are_all_files_and_no_others(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    statement = statement_of(stored)
    for subjects in (statement["subject"][:-1], [*statement["subject"], {"name": "n", "digest": {"sha256": "0"}}]):
        put_envelope(stored, json.dumps({**statement, "subject": subjects}).encode(), trust.vendor)
        with pytest.raises(PlanUntrustedError, match="expected sha256"):
            check_signature(stored, trust.policy)
    put_envelope(stored, json.dumps({**statement, "subject": statement["subject"] * 2}).encode(), trust.vendor)
    with pytest.raises(PlanUntrustedError, match="is there twice"):
        check_signature(stored, trust.policy)


def test_the_bytes_that_were_parsed_are_the_ones_that_are_verified(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    read = open_plan(stored.folder)
    (stored.folder / "manifest.json").write_text("replaced after it was read")
    assert check_signature(read, trust.policy).signer == trust.vendor.public
    assert read.read_plan() == FILES["model.onnx"]


def test_a_file_replaced_between_check_and_load_is_refused(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    check_signature(stored, trust.policy)
    (stored.folder / "model.onnx").write_bytes(b"the grapH" * 20)
    with pytest.raises(PlanCorruptError):
        stored.open_files()


def test_a_version_below_the_floor_is_refused(tmp_path: Path, trust: Trust) -> None:
    first, second = (signed(tmp_path / "engines", trust.vendor) for _ in range(2))
    policy = TrustPolicy(folder=trust.folder, floor=tmp_path / "floor.json")
    check_signature(first, policy)
    RollbackFloor(tmp_path / "floor.json").raise_floor("m", 2)
    check_signature(second, policy)
    with pytest.raises(PlanRollbackError, match=r"expected version 2 or later, .*: edge-runtime rollback m"):
        check_signature(first, policy)


def test_an_old_version_under_a_new_number_is_refused(tmp_path: Path, trust: Trust) -> None:
    first, second = (signed(tmp_path / "engines", trust.vendor) for _ in range(2))
    shutil.rmtree(second.folder)
    shutil.copytree(first.folder, second.folder)
    with pytest.raises(PlanCorruptError, match="expected 'm' version 2, got 'm' version 1"):
        PlanStore(tmp_path / "engines").open("m", 2)


def test_a_signature_that_is_a_link_is_refused(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    (stored.folder / SIGNATURE).rename(tmp_path / "elsewhere")
    (stored.folder / SIGNATURE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlanCorruptError):
        check_signature(stored, trust.policy)
    (stored.folder / SIGNATURE).unlink()
    (stored.folder / SIGNATURE).symlink_to(tmp_path / "absent")
    with pytest.raises(PlanCorruptError):
        check_signature(stored, trust.policy)


def test_a_trust_folder_that_others_can_write_to_refuses_every_signature(tmp_path: Path, trust: Trust) -> None:
    stored = signed(tmp_path / "engines", trust.vendor)
    trust.folder.chmod(0o777)
    with pytest.raises(ConfigError, match="nobody else to write it"):
        check_signature(stored, trust.policy)
