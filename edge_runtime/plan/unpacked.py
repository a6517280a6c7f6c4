"""A pack whose members lie in a folder, which is still exactly that pack."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping

from pydantic import ValidationError

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.contents import StoredFile, opened
from edge_runtime.plan.envelope import MAX_NBYTES
from edge_runtime.plan.files import Content
from edge_runtime.plan.keys import PublicKey
from edge_runtime.plan.manifest import CandidateRecord, FileRecord, Record, SourceRecord
from edge_runtime.plan.pack import (
    ENVELOPE,
    RECORD,
    PackStatement,
    pack_chunks,
    signer_of_pack,
    statement_from_envelope,
)
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json
from edge_runtime.plan.trust import TrustPolicy

DIGEST = "pack.sha256"


class PackRecord(Record):
    """`pack.json`: whose model a pack brings, what its host made of it, and with what.

    `source` is the ONNX that the host had; `data` identifies its samples; `device` is the host.
    """

    format: int
    model: str
    release: int
    edge_runtime: str
    source: SourceRecord
    data: Dict[str, Any]
    device: Dict[str, Any]
    candidates: List[CandidateRecord]
    reason: str
    notes: List[str]


@dataclass(frozen=True)
class UnpackedPack:
    """A pack in a folder; `sha256` is the digest of its file, `signer` is None where nobody signed it."""

    folder: Path
    statement: PackStatement
    signer: PublicKey | None
    sha256: str


def is_unpacked(folder: Path) -> bool:
    """Whether a folder says that it holds a pack."""
    return os.path.lexists(folder / ENVELOPE)


def unpacked_pack(folder: Path, policy: TrustPolicy) -> UnpackedPack:
    """The pack in a folder, every member of which was read once.

    Raises:
        PlanCorruptError: a member isn't what the statement says, or there is something else.
        PlanUntrustedError: nobody signed it who is trusted with packs, or a signature is wrong.
        PlanTargetError: it is of a later format.
        ConfigError: a trusted key can't be read or isn't a key, or somebody who shouldn't could change them.
    """
    path = folder / ENVELOPE
    with opened(path) as file:
        text = file.read(MAX_NBYTES + 1)
    statement, envelope = statement_from_envelope(text, str(path))
    signer = signer_of_pack(envelope, policy, str(path))
    names = {ENVELOPE, *(member.name for member in statement.members)}
    extra = sorted({*os.listdir(folder)} - names - {DIGEST})  # noqa: PTH208  (names are wanted)
    if extra:
        raise PlanCorruptError(f"{folder}: {extra[0][:128]!r} isn't of the pack; unpack it again")
    digest = hashlib.sha256()
    for chunk in pack_chunks(text, statement, _contents(folder, statement)):
        digest.update(chunk)
    return UnpackedPack(folder, statement, signer, digest.hexdigest())


def _contents(folder: Path, statement: PackStatement) -> Mapping[str, Content]:
    return {
        one.name: StoredFile(folder / one.name, FileRecord(file=one.name, sha256=one.sha256, nbytes=one.nbytes))
        for one in statement.members
    }


def record_from_text(text: bytes, statement: PackStatement, source: str) -> PackRecord:
    """What `pack.json` says.

    Raises:
        PlanCorruptError: it isn't a record of this pack.
    """
    try:
        record = PackRecord.model_validate(object_from_json(text))
    except (AmbiguousJsonError, ValidationError) as error:
        raise PlanCorruptError(f"{source}: {RECORD}: {str(error).splitlines()[0]}; get the pack again") from None
    found = (record.model, record.release)
    if found != (statement.model, statement.release):
        raise PlanCorruptError(
            f"{source}: {RECORD}: expected model {statement.model!r} release {statement.release}, "
            f"got {found[0][:128]!r} release {found[1]}; get the pack again"
        )
    return record
