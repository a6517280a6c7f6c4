from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ConfigError, PlanUntrustedError
from edge_runtime.plan import trust
from edge_runtime.plan.envelope import PAYLOAD_TYPE, Envelope, EnvelopeSignature, pae
from edge_runtime.plan.keys import DEVICE_BUILT, VENDOR, PrivateKey, new_key, public_key_text
from edge_runtime.plan.trust import TrustPolicy, signer_of, trust_policy, trusted_keys

PAYLOAD = b"{}"


@pytest.fixture
def key() -> PrivateKey:
    return new_key("acme", VENDOR)


@pytest.fixture
def folder(tmp_path: Path, key: PrivateKey) -> Path:
    folder = tmp_path / "trusted.d"
    folder.mkdir(mode=0o755)
    put(folder, key)
    return folder


def put(folder: Path, key: PrivateKey) -> Path:
    path = folder / f"{key.name}.pub"
    path.write_text(public_key_text(key.public))
    path.chmod(0o644)
    return path


def envelope(*keys: PrivateKey) -> Envelope:
    signed = pae(PAYLOAD_TYPE, PAYLOAD)
    return Envelope(PAYLOAD, tuple(EnvelopeSignature(key.public.id, key.sign(signed)) for key in keys))


def test_the_keys_of_the_folder_are_trusted_and_nothing_else_there(folder: Path, key: PrivateKey) -> None:
    (folder / "README").write_text("no key")
    assert trusted_keys(folder) == (key.public,)
    assert trusted_keys(folder, is_strict=True) == (key.public,) or folder.stat().st_uid != 0
    assert trusted_keys(folder / "absent") == ()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_can_add_to_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:o}; chown root {folder}; chmod go-w {folder}"):
        trusted_keys(folder)


def test_a_key_that_others_can_change_is_refused(folder: Path) -> None:
    (folder / "acme.pub").chmod(0o664)
    with pytest.raises(ConfigError, match=r"acme\.pub: expected it to belong to root"):
        trusted_keys(folder)


def test_a_service_is_not_trusted_with_whom_it_trusts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = folder.stat().st_uid
    monkeypatch.setattr(trust.os, "geteuid", lambda: owner)
    trusted_keys(folder)
    if owner == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 4321, 4321)
        monkeypatch.setattr(trust.os, "geteuid", lambda: 4321)
        assert trusted_keys(folder)
    with pytest.raises(ConfigError, match="expected it to belong to root and nobody else to write it"):
        trusted_keys(folder, is_strict=True)


def test_a_folder_that_can_be_replaced_by_others_is_refused_when_signatures_are_required(
    folder: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    assert trusted_keys(folder)
    with pytest.raises(ConfigError, match=f"trust folder: {tmp_path}: expected"):
        trusted_keys(folder, is_strict=True)


def test_a_broken_key_a_link_or_the_same_key_twice_is_refused(folder: Path, key: PrivateKey) -> None:
    put(folder, PrivateKey("again", DEVICE_BUILT, key.raw))
    with pytest.raises(ConfigError, match="is there twice"):
        trusted_keys(folder)
    (folder / "again.pub").write_text("nonsense")
    with pytest.raises(ConfigError, match="edge-runtime keygen makes such a file"):
        trusted_keys(folder)
    (folder / "again.pub").unlink()
    (folder / "again.pub").symlink_to(folder / "acme.pub")
    with pytest.raises(ConfigError, match=r"again\.pub: can't be read"):
        trusted_keys(folder)


def test_the_signer_is_found_among_signatures_of_strangers(folder: Path, key: PrivateKey) -> None:
    stranger = new_key("stranger", VENDOR)
    assert signer_of(envelope(stranger, key), TrustPolicy(folder=folder), "m") == key.public


def test_a_signature_of_a_stranger_alone_is_refused(folder: Path) -> None:
    with pytest.raises(PlanUntrustedError, match=rf"m: signed by key \w+…, which isn't trusted: {folder} has acme"):
        signer_of(envelope(new_key("acme", VENDOR)), TrustPolicy(folder=folder), "m")


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path, key: PrivateKey) -> None:
    with pytest.raises(PlanUntrustedError, match=f"{tmp_path} has no key"):
        signer_of(envelope(key), TrustPolicy(folder=tmp_path), "m")


def test_a_wrong_signature_refuses_beside_a_right_one(folder: Path, key: PrivateKey) -> None:
    other = new_key("other", VENDOR)
    put(folder, other)
    right = envelope(key).signatures[0]
    wrong = EnvelopeSignature(other.public.id, right.signature)
    with pytest.raises(PlanUntrustedError, match="signature of key 'other' is wrong"):
        signer_of(Envelope(PAYLOAD, (right, wrong)), TrustPolicy(folder=folder), "m")


def test_a_role_that_was_not_asked_for_is_refused(folder: Path) -> None:
    device = new_key("device", DEVICE_BUILT)
    put(folder, device)
    with pytest.raises(PlanUntrustedError, match="role vendor, got one of 'device', whose role is device-built"):
        signer_of(envelope(device), TrustPolicy(folder=folder), "m", [VENDOR])


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, TrustPolicy()),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, TrustPolicy(floor=Path("/var/lib/a/floor.json"))),
        ({"STATE_DIRECTORY": "/var/lib/a", "EDGE_RUNTIME_TRUST__FLOOR": ""}, TrustPolicy()),
        ({"EDGE_RUNTIME_TRUST__FLOOR": "f"}, TrustPolicy(floor=Path("f"))),
        ({"EDGE_RUNTIME_TRUST__REQUIRE_SIGNED": "true"}, TrustPolicy(require_signed=True)),
        ({"EDGE_RUNTIME_TRUST__FOLDER": "/t"}, TrustPolicy(folder=Path("/t"))),
    ],
)
def test_the_policy_is_what_the_environment_says(environ: dict[str, str], expected: Any) -> None:
    assert trust_policy(environ) == expected


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'require_signed'"):
        trust_policy({"EDGE_RUNTIME_TRUST__REQUIRE_SIGNATURE": "true"})
