from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Dict, Mapping

import pytest

from edge_runtime.errors import EdgeRuntimeError, PlanCorruptError, PlanTargetError, PlanUntrustedError
from edge_runtime.plan.envelope import Envelope, envelope_text
from edge_runtime.plan.keys import PrivateKey
from edge_runtime.plan.pack import ENVELOPE, PackReader, PackStatement, member_of, pack_chunks, signer_of_pack
from edge_runtime.plan.trust import TrustPolicy
from tests.fakes.signed_versions import Trust, made_trust

CONTENTS = {"pack.json": b"{}", "recipe.toml": b"x" * 512, "model.onnx": b"m" * 700, "max.cache": b""}


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return made_trust(tmp_path / "trusted.d")


def made(contents: Mapping[str, bytes] = CONTENTS, key: PrivateKey | None = None) -> bytes:
    statement = PackStatement("m", 3, tuple(member_of(name, content) for name, content in contents.items()))
    return b"".join(pack_chunks(statement.envelope(key), statement, contents))


def read(data: bytes, policy: TrustPolicy | None = None) -> Dict[str, bytes]:
    """All members, once everything about the pack was checked."""
    reader = PackReader(io.BytesIO(data), len(data), "p.pack")
    if policy is not None:
        signer_of_pack(reader.envelope, policy, "p.pack")
    found = {member.name: b"".join(chunks) for member, chunks in reader.members()}
    reader.end()
    return found


def test_what_is_packed_is_what_is_read_and_any_tar_lists_it(tmp_path: Path) -> None:
    data = made()
    assert read(data) == CONTENTS
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == [ENVELOPE, *CONTENTS]
    (tmp_path / "p.pack").write_bytes(data)
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "p.pack")], capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == ([ENVELOPE, *CONTENTS], "")


def test_a_pack_is_the_same_bytes_each_time(trust: Trust) -> None:
    assert made(key=trust.vendor) == made(key=trust.vendor)


@pytest.mark.parametrize("is_signed", [True, False])
def test_no_single_flipped_bit_anywhere_passes(trust: Trust, is_signed: bool) -> None:
    data = made(key=trust.vendor if is_signed else None)
    for index in range(len(data)):
        flipped = bytearray(data)
        flipped[index] ^= 1 << (index % 8)
        with pytest.raises((PlanCorruptError, PlanUntrustedError, PlanTargetError)):
            read(bytes(flipped), trust.policy)


def test_no_beginning_of_a_pack_passes_nor_one_with_more_behind_it() -> None:
    data = made()
    for end in range(0, len(data), 512):
        with pytest.raises(PlanCorruptError):
            read(data[:end])
    for more in (b"\0" * 512, b"x"):
        with pytest.raises(PlanCorruptError):
            read(data + more)


def test_only_a_vendors_key_signs_packs(trust: Trust) -> None:
    strict = TrustPolicy(require_signed=True, folder=trust.folder)
    assert read(made(key=trust.vendor), strict) == CONTENTS
    assert read(made(), trust.policy) == CONTENTS
    for data, policy in ((made(), strict), (made(key=trust.device), trust.policy)):
        with pytest.raises(PlanUntrustedError):
            read(data, policy)


def statement(**changes: Any) -> Dict[str, Any]:
    content: Dict[str, Any] = json.loads(PackStatement("m", 3, tuple(map(member_of, CONTENTS, CONTENTS.values()))).text)
    for name, value in changes.items():
        (content if name in content else content["predicate"])[name] = value
    return content


def subjects(*names: object) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": "0" * 64}} for name in names]


def sized(*names: str, nbytes: object = 1) -> Dict[str, Any]:
    return {"subject": subjects(*names), "sizes": dict.fromkeys(names, nbytes)}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "../m"},
        {"model": 1},
        {"release": 0},
        {"release": True},
        {"release": 10**12},
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"subject": subjects()},
        {"subject": "x"},
        {"sizes": {}},
        sized("pack.json", "recipe.toml"),
        sized("recipe.toml", "pack.json", "model.onnx"),
        sized("pack.json", "recipe.toml", "model.onnx", "model.onnx"),
        sized("pack.json", "recipe.toml", "model.onnx", "../evil"),
        sized("pack.json", "recipe.toml", "model.onnx", "/etc/passwd"),
        sized("pack.json", "recipe.toml", "model.onnx", "a/b"),
        sized("pack.json", "recipe.toml", "model.onnx", "evil.py"),
        sized("pack.json", "recipe.toml", "model.onnx", ENVELOPE),
        sized("pack.json", "recipe.toml", "model.onnx", nbytes=-1),
        sized("pack.json", "recipe.toml", "model.onnx", nbytes=1.0),
        sized("pack.json", "recipe.toml", "model.onnx", nbytes=True),
        sized("pack.json", "recipe.toml", "model.onnx", nbytes=1 << 40),
        {"more": 1},
    ],
)
def test_a_statement_that_says_something_else_is_refused(changes: Dict[str, Any]) -> None:
    payload = json.dumps(statement(**changes), separators=(",", ":")).encode()
    text = envelope_text(Envelope(payload, ())).encode()
    data = b"".join(pack_chunks(text, PackStatement("m", 3, ()), {}))
    with pytest.raises(PlanUntrustedError):
        read(data)


def test_a_later_format_says_what_to_do() -> None:
    text = envelope_text(Envelope(json.dumps(statement(format=2)).encode(), ())).encode()
    with pytest.raises(PlanTargetError, match="update edge_runtime"):
        read(b"".join(pack_chunks(text, PackStatement("m", 3, ()), {})))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_member_of_another_kind_is_refused(kind: bytes) -> None:
    data = made()
    second = 512 + -(-len(PackReader(io.BytesIO(data), len(data), "p").envelope_text) // 512) * 512
    info = tarfile.TarInfo("pack.json")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(PlanCorruptError, match=r"expected pack\.json"):
        read(data[:second] + info.tobuf(tarfile.USTAR_FORMAT) + data[second + 512 :])


@pytest.mark.parametrize("data", [b"", b"x" * 5000, bytes(10240), b"PK\3\4" + bytes(2000)])
def test_what_is_no_pack_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(EdgeRuntimeError):
        read(data)
