from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.plan import cryptography_api, secret_file
from edge_runtime.plan.keys import (
    DEVICE_BUILT,
    VARIABLE,
    VENDOR,
    PrivateKey,
    find_private_key,
    new_key,
    private_key_from_text,
    private_key_text,
    public_key_from_text,
    public_key_text,
    read_private_key,
    write_key_pair,
)


@pytest.fixture
def key() -> PrivateKey:
    return new_key("line-1", DEVICE_BUILT)


def test_a_signature_of_rfc_8032_is_made_and_verified() -> None:
    private = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    public = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    signature = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert cryptography_api.public_from_private(private) == public
    assert cryptography_api.sign(private, b"\xaf\x82") == signature
    assert cryptography_api.is_signature(public, signature, b"\xaf\x82")
    assert not cryptography_api.is_signature(public, signature, b"\xaf\x83")
    assert not cryptography_api.is_signature(public, signature[:-1], b"\xaf\x82")


def test_keys_read_as_they_were_written(key: PrivateKey) -> None:
    assert private_key_from_text(private_key_text(key), "k") == key
    assert public_key_from_text(public_key_text(key.public), "k") == key.public
    assert key.public.id == hashlib.sha256(key.public.raw).hexdigest()


def test_a_private_key_is_never_printed(key: PrivateKey) -> None:
    assert "raw" not in repr(key)


def test_a_pair_of_files_is_private_where_it_must_be(key: PrivateKey, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private, public = write_key_pair(key, tmp_path / "keys")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private, public)] == [0o600, 0o644]
    assert read_private_key(private) == key
    with pytest.raises(ConfigError, match="is there already"):
        write_key_pair(key, tmp_path / "keys")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_openssl_reads_both_files(key: PrivateKey, tmp_path: Path) -> None:
    private, public = write_key_pair(key, tmp_path)
    told = subprocess.run(["openssl", "pkey", "-in", private, "-pubout"], capture_output=True, text=True, check=True)
    assert told.stdout == public.read_text().partition(f"{DEVICE_BUILT}\n")[2]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_use_is_refused(key: PrivateKey, tmp_path: Path, mode: int) -> None:
    private, _ = write_key_pair(key, tmp_path)
    private.chmod(mode)
    with pytest.raises(ConfigError, match=f"expected mode 600 or less, got {mode:o}"):
        read_private_key(private)


def test_a_key_of_another_user_is_refused(key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, _ = write_key_pair(key, tmp_path)
    owner = private.stat().st_uid or 1234
    monkeypatch.setattr(
        secret_file.os, "fstat", lambda handle: os.stat_result((0o100600, 0, 0, 1, owner, 0, 9, 0, 0, 0))
    )
    monkeypatch.setattr(secret_file.os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=f"expected it to belong to root or to user {owner + 1}"):
        read_private_key(private)


def test_a_link_is_no_key(key: PrivateKey, tmp_path: Path) -> None:
    private, _ = write_key_pair(key, tmp_path)
    (tmp_path / "link").symlink_to(private)
    with pytest.raises(ConfigError, match="can't be read"):
        read_private_key(tmp_path / "link")


def test_a_credential_comes_before_a_file_and_a_file_before_the_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {name: new_key(name, VENDOR) for name in ("credential", "file", "variable")}
    environ = {VARIABLE: private_key_text(keys["variable"])}
    assert find_private_key("signing.key", tmp_path / "absent", environ).name == "variable"
    assert VARIABLE in caplog.text
    assert "BEGIN" not in caplog.text
    file, _ = write_key_pair(keys["file"], tmp_path)
    assert find_private_key("signing.key", file, environ).name == "file"
    (tmp_path / "credentials").mkdir()
    credential = tmp_path / "credentials/signing.key"
    credential.write_text(private_key_text(keys["credential"]))
    credential.chmod(0o440)  # as systemd's are, whose user is named by an ACL
    environ[secret_file.CREDENTIALS] = str(credential.parent)
    assert find_private_key("signing.key", file, environ).name == "credential"
    credential.chmod(0o444)
    with pytest.raises(ConfigError, match="or less, got 444"):
        find_private_key("signing.key", file, environ)


def test_no_key_at_all_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"credential signing.key of systemd, {tmp_path}/k, \${VARIABLE}"):
        find_private_key("signing.key", tmp_path / "k", {})


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "-x", "a b", "a\n", "a" * 65])
def test_names_that_no_file_should_have_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="key name"):
        new_key(name, VENDOR)


@pytest.mark.parametrize("damage", ["name", "role", "kind", "pem", "empty", "type"])
def test_a_file_that_is_no_key_is_refused_and_not_quoted(key: PrivateKey, damage: str) -> None:
    text = private_key_text(key)
    broken = {
        "name": text.partition("\n")[2],
        "role": text.replace(DEVICE_BUILT, "root"),
        "kind": public_key_text(key.public),
        "pem": text.replace("MC4C", ""),
        "empty": "",
        "type": text.replace("MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2Vu"),  # X25519
    }[damage]
    with pytest.raises(ConfigError) as raised:
        private_key_from_text(broken, "k")
    assert "MC4C" not in str(raised.value)


def test_a_library_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cryptography.hazmat.primitives.asymmetric.ed25519", "cryptography.hazmat.primitives.serialization"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="pip install 'cryptography>=42'"):
        private_key_text(new_key("k", VENDOR))
