from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Callable

import pytest
from fakes.signed_versions import FILES, made_trust, publish

from edge_runtime.errors import ConfigError, PlanCorruptError, PlanSealedError
from edge_runtime.plan.contents import StoredFile
from edge_runtime.plan.golden import GOLDEN_FILE
from edge_runtime.plan.header import header_of
from edge_runtime.plan.manifest import FileRecord
from edge_runtime.plan.plan_key import CREDENTIAL, VARIABLE, PlanKey, new_plan_key, plan_key, write_plan_key
from edge_runtime.plan.sealed import CHUNK_NBYTES, SealedFile, file_of, sealed_chunks
from edge_runtime.plan.signature import check_signature, sign_version, signer
from edge_runtime.plan.store import open_plan

HEADER_NBYTES = 124
FULL = CHUNK_NBYTES + 16  # a chunk and its tag


@pytest.fixture
def key() -> PlanKey:
    return new_plan_key()


@pytest.fixture
def seal(tmp_path: Path, key: PlanKey) -> Callable[..., SealedFile]:
    """An encrypted file with some content, in a file of its own."""

    def sealed(content: bytes, name: str = "model.plan", by: PlanKey = key) -> SealedFile:
        record = FileRecord(file=name, sha256=hashlib.sha256(content).hexdigest(), nbytes=len(content))
        path = tmp_path / f"{name}.enc"
        path.write_bytes(b"".join(sealed_chunks(content, record, by)))
        return SealedFile(path, record, lambda: key)

    return sealed


def content(nbytes: int, seed: int = 0) -> bytes:
    import random

    return random.Random(seed).randbytes(nbytes) if hasattr(random.Random, "randbytes") else os.urandom(nbytes)


@pytest.mark.parametrize("nbytes", [0, 1, CHUNK_NBYTES - 1, CHUNK_NBYTES, CHUNK_NBYTES + 1, 2 * CHUNK_NBYTES])
def test_what_is_encrypted_is_read_back(seal: Callable[..., SealedFile], nbytes: int) -> None:
    plain = content(nbytes)
    file = seal(plain)
    assert file.read() == plain
    assert b"".join(file) == plain
    assert file.path.stat().st_size == HEADER_NBYTES + nbytes + 16 * max(1, -(-nbytes // CHUNK_NBYTES))


def test_pieces_of_any_size_are_encrypted_in_chunks_of_one(key: PlanKey) -> None:
    plain = content(3 * CHUNK_NBYTES + 5)
    record = FileRecord(file="f", sha256=hashlib.sha256(plain).hexdigest(), nbytes=len(plain))
    for size in (700_001, CHUNK_NBYTES, 2 * CHUNK_NBYTES + 1):
        pieces = [plain[start : start + size] for start in range(0, len(plain), size)]
        lengths = [len(chunk) for chunk in sealed_chunks(pieces, record, key)]
        assert lengths == [HEADER_NBYTES, FULL, FULL, FULL, 5 + 16]


def test_no_two_files_share_a_key_or_a_nonce(seal: Callable[..., SealedFile]) -> None:
    first, second = (seal(bytes(100)).path.read_bytes() for _ in range(2))
    assert first[HEADER_NBYTES:] != second[HEADER_NBYTES:]
    assert first[64:124] != second[64:124]


def test_what_is_not_the_record_is_not_encrypted(key: PlanKey) -> None:
    record = FileRecord(file="f", sha256="0" * 64, nbytes=3)
    with pytest.raises(PlanCorruptError, match="wasn't encrypted"):
        list(sealed_chunks(b"abc", record, key))


def swapped(data: bytes) -> bytes:
    first, second = data[HEADER_NBYTES:][:FULL], data[HEADER_NBYTES + FULL :][:FULL]
    return data[:HEADER_NBYTES] + second + first + data[HEADER_NBYTES + 2 * FULL :]


@pytest.mark.parametrize(
    "damage",
    [
        swapped,
        lambda data: data[:HEADER_NBYTES] + data[HEADER_NBYTES + FULL :],  # the first chunk cut out
        lambda data: data[: HEADER_NBYTES + 2 * FULL],  # the last one cut off
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[: HEADER_NBYTES - 1],
        lambda data: b"",
        lambda data: data[:-FULL] + data[HEADER_NBYTES : HEADER_NBYTES + FULL],  # a chunk twice
    ],
)
def test_chunks_that_are_cut_swapped_or_doubled_are_refused(
    seal: Callable[..., SealedFile], damage: Callable[[bytes], bytes]
) -> None:
    file = seal(content(3 * CHUNK_NBYTES))
    file.path.write_bytes(damage(file.path.read_bytes()))
    with pytest.raises(PlanCorruptError, match="build the plan again"):
        file.read()


def test_a_truncated_file_is_refused_though_its_header_agrees(key: PlanKey, tmp_path: Path) -> None:
    """The chunk that is last in the file isn't the one that was encrypted as the last one."""
    plain = content(2 * CHUNK_NBYTES)
    record = FileRecord(file="f", sha256=hashlib.sha256(plain).hexdigest(), nbytes=len(plain))
    data = b"".join(sealed_chunks(plain, record, key))
    short = FileRecord(file="f", sha256=hashlib.sha256(plain[:CHUNK_NBYTES]).hexdigest(), nbytes=CHUNK_NBYTES)
    forged = data[:17] + bytes.fromhex(short.sha256) + short.nbytes.to_bytes(8, "big") + data[57:]
    (tmp_path / "f.enc").write_bytes(forged[: HEADER_NBYTES + FULL])
    with pytest.raises(PlanCorruptError, match="isn't the header that was written"):
        SealedFile(tmp_path / "f.enc", short, lambda: key).read()


def test_two_files_cannot_be_spliced(seal: Callable[..., SealedFile]) -> None:
    one, other = seal(content(2 * CHUNK_NBYTES, 1), "one"), seal(content(2 * CHUNK_NBYTES, 2), "other")
    mine, theirs = one.path.read_bytes(), other.path.read_bytes()
    for spliced in (
        mine[: HEADER_NBYTES + FULL] + theirs[HEADER_NBYTES + FULL :],
        mine[:HEADER_NBYTES] + theirs[HEADER_NBYTES:],
        mine[:57] + theirs[57:HEADER_NBYTES] + mine[HEADER_NBYTES:],  # with the other's nonce and key
    ):
        one.path.write_bytes(spliced)
        with pytest.raises(PlanCorruptError):
            one.read()
    one.path.write_bytes(theirs)
    with pytest.raises(PlanCorruptError, match="isn't the file that the manifest names"):
        one.read()


def test_every_flipped_bit_of_a_header_is_refused(seal: Callable[..., SealedFile]) -> None:
    file = seal(b"plain")
    data = file.path.read_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.path.write_bytes(changed)
        with pytest.raises((PlanCorruptError, PlanSealedError)):
            file.read()


def test_a_wrong_key_and_no_key_are_named(seal: Callable[..., SealedFile], key: PlanKey) -> None:
    file = seal(b"plain", by=new_plan_key())
    with pytest.raises(PlanSealedError, match=f"and the key here is {key.id.hex()}"):
        file.read()

    def none() -> PlanKey:
        raise ConfigError("no key: looked for it")

    with pytest.raises(PlanSealedError, match="is encrypted: no key: looked for it"):
        SealedFile(file.path, file.record, none).read()


def test_the_beginning_is_read_without_the_rest(seal: Callable[..., SealedFile]) -> None:
    plain = b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(CHUNK_NBYTES)
    file = seal(plain)
    with file.path.open("r+b") as damaged:
        damaged.seek(-1, os.SEEK_END)
        damaged.write(b"\0")
    assert header_of(file).version == (10, 3, 0, 30)
    assert file.beginning(4) == (b"ftrt", len(plain))


@pytest.fixture
def device(tmp_path: Path, key: PlanKey, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of this device's key."""
    path = write_plan_key(key, "plan", tmp_path / "keys")
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", str(path))
    return path


def test_a_version_is_encrypted_as_it_is_published(tmp_path: Path, key: PlanKey, device: Path) -> None:
    stored = publish(tmp_path / "engines", seal=key)
    names = {path.name for path in stored.folder.iterdir()}
    assert names == {"manifest.json", *(f"{name}.enc" for name in FILES)}
    assert stored.is_sealed
    assert stored.plan_path.name == "model.onnx.enc"
    read = open_plan(stored.folder)
    assert read.read_plan() == FILES["model.onnx"]
    assert b"".join(read.open_files().weights or ()) == FILES["model.weights"]
    assert read.manifest == stored.manifest
    assert GOLDEN_FILE in FILES


def test_plain_text_is_on_no_disk(tmp_path: Path, key: PlanKey, device: Path) -> None:
    publish(tmp_path / "engines", seal=key).read_plan()
    for path in (tmp_path / "engines").rglob("*"):
        if path.is_file():
            assert not any(plain[:32] in path.read_bytes() for plain in FILES.values()), path


def test_a_version_is_signed_for_its_plain_text(tmp_path: Path, key: PlanKey, device: Path) -> None:
    trust = made_trust(tmp_path / "trusted.d")
    stored = publish(tmp_path / "engines", seal=key)
    sign_version(stored, signer(trust.device))
    assert check_signature(stored, trust.policy).signer == trust.device.public


def test_a_plain_and_an_encrypted_version_are_not_taken_for_each_other(
    tmp_path: Path, key: PlanKey, device: Path
) -> None:
    plain, sealed = publish(tmp_path / "engines"), publish(tmp_path / "engines", seal=key)
    assert [plain.is_sealed, sealed.is_sealed] == [False, True]
    assert isinstance(file_of(plain.folder, plain.manifest.plan), StoredFile)


def test_a_key_comes_from_a_credential_a_file_or_the_environment(
    tmp_path: Path, key: PlanKey, device: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"EDGE_RUNTIME_TRUST__PLAN_KEY": str(tmp_path / "absent"), VARIABLE: "0" * 64}
    assert plan_key(environ) == PlanKey(bytes(32))
    assert VARIABLE in caplog.text
    assert "000" not in caplog.text
    environ["EDGE_RUNTIME_TRUST__PLAN_KEY"] = str(device)
    assert plan_key(environ) == key
    (tmp_path / CREDENTIAL).write_text("1" * 64)
    (tmp_path / CREDENTIAL).chmod(0o400)
    assert plan_key({**environ, "CREDENTIALS_DIRECTORY": str(tmp_path)}) == PlanKey(b"\x11" * 32)


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o600])
def test_a_key_that_others_can_read_or_anybody_write_is_refused(device: Path, mode: int) -> None:
    device.chmod(mode)
    with pytest.raises(ConfigError, match=f"expected mode 400 or less, got {mode:o}"):
        plan_key({"EDGE_RUNTIME_TRUST__PLAN_KEY": str(device)})


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n\n"])
def test_what_is_no_key_is_refused_and_not_quoted(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError) as raised:
        plan_key({VARIABLE: text, "EDGE_RUNTIME_TRUST__PLAN_KEY": "/nowhere"})
    assert text[:10] not in str(raised.value) or not text


def test_a_key_is_never_printed_or_replaced(key: PlanKey, device: Path) -> None:
    assert key.raw.hex() not in repr(key)
    assert repr(key.raw) not in repr(key)
    with pytest.raises(ConfigError, match="is there already"):
        write_plan_key(key, "plan", device.parent)
