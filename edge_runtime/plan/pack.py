"""A pack: what a device builds a plan from, in one file with one signature.

It is an uncompressed tar whose every byte follows from its statement and its members: headers have one form, padding is
zeros, and nothing comes after the end. So nothing of a tar is interpreted (no links, no paths, no other kinds of
members), a changed bit anywhere is found, and the digest of the file can be had from the unpacked members again.

The first member is a DSSE envelope with an in-toto Statement v1: its subjects are all further members, in their order,
and its predicate has their sizes, so that both are known, and vouched for, before anything else is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterator, List, Mapping, Tuple

from edge_runtime.errors import PlanCorruptError, PlanTargetError, PlanUntrustedError
from edge_runtime.plan.envelope import (
    MAX_NBYTES,
    PAYLOAD_TYPE,
    Envelope,
    EnvelopeSignature,
    envelope_from_text,
    envelope_text,
    pae,
)
from edge_runtime.plan.files import Content
from edge_runtime.plan.keys import VENDOR, PrivateKey, PublicKey
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.plan.provenance import STATEMENT_TYPE
from edge_runtime.plan.recipe_file import RECIPE
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json
from edge_runtime.plan.trust import TrustPolicy, signer_of

FORMAT = 1
PREDICATE_TYPE = "urn:edge-runtime:pack:v1"
ENVELOPE = "pack.dsse.json"
RECORD = "pack.json"
MODEL = "model.onnx"
INT8_MODEL = "int8.onnx"
HELD_OUT = "held-out.npz"
TABLES = {algorithm: f"{algorithm}.cache" for algorithm in ("entropy", "percentile", "mse", "max", "imported")}
WEIGHTS = ".data"  # what is added to the name of an ONNX for the file of its weights

MAX_RELEASE = 10**9 - 1
MAX_MEMBER_NBYTES = 8 * (1 << 30) - 1  # what a tar's header holds in its oldest form
MAX_TEXT_NBYTES = 4 << 20  # of a member that is read at once

_REQUIRED = (RECORD, RECIPE, MODEL)
_ALLOWED = (*_REQUIRED, MODEL + WEIGHTS, INT8_MODEL, INT8_MODEL + WEIGHTS, *TABLES.values(), HELD_OUT)
_TEXTS = (RECORD, RECIPE)
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_CHUNK_NBYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """A file of a pack."""

    name: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class PackStatement:
    """What the signature of a pack is over: whose model it is, which release, and its members in their order."""

    model: str
    release: int
    members: Tuple[Member, ...]

    @property
    def text(self) -> str:
        """The statement as JSON, in its one form."""
        subjects = [{"name": one.name, "digest": {"sha256": one.sha256}} for one in self.members]
        sizes = {one.name: one.nbytes for one in self.members}
        predicate = {"format": FORMAT, "model": self.model, "release": self.release, "sizes": sizes}
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        return json.dumps(statement, separators=(",", ":"))

    def envelope(self, key: PrivateKey | None) -> bytes:
        """The envelope of the statement, signed if there is a key."""
        payload = self.text.encode()
        signatures: Tuple[EnvelopeSignature, ...] = ()
        if key is not None:
            signatures = (EnvelopeSignature(key.public.id, key.sign(pae(PAYLOAD_TYPE, payload))),)
        return envelope_text(Envelope(payload, signatures)).encode()

    def nbytes(self, envelope_nbytes: int) -> int:
        """The size of the pack."""
        sizes = [envelope_nbytes, *(one.nbytes for one in self.members)]
        return sum(_BLOCK + size + _padding(size) for size in sizes) + len(_END)


def member_of(name: str, content: Content) -> Member:
    """A member with what it holds, which is read once.

    Raises:
        PlanCorruptError: it is larger than a pack can hold.
    """
    digest, nbytes = hashlib.sha256(), 0
    for chunk in [content] if isinstance(content, bytes) else content:
        digest.update(chunk)
        nbytes += len(chunk)
    if nbytes > _most_nbytes(name):
        raise PlanCorruptError(f"{name}: expected {_most_nbytes(name):,} bytes at most in a pack, got {nbytes:,}")
    return Member(name, nbytes, digest.hexdigest())


def pack_chunks(envelope: bytes, statement: PackStatement, contents: Mapping[str, Content]) -> Iterator[bytes]:
    """The bytes of a pack.

    Raises:
        PlanCorruptError: a member isn't what the statement says.
    """
    yield _header(ENVELOPE, len(envelope))
    yield envelope + bytes(_padding(len(envelope)))
    for member in statement.members:
        yield _header(member.name, member.nbytes)
        content = contents[member.name]
        digest, nbytes = hashlib.sha256(), 0
        for chunk in [content] if isinstance(content, bytes) else content:
            digest.update(chunk)
            nbytes += len(chunk)
            yield chunk
        if (nbytes, digest.hexdigest()) != (member.nbytes, member.sha256):
            raise PlanCorruptError(f"{member.name}: changed while the pack was made; make it again")
        yield bytes(_padding(nbytes))
    yield _END


def statement_from_envelope(text: bytes, source: str) -> Tuple[PackStatement, Envelope]:
    """What an envelope says, of which no signature was verified yet; `source` names it in messages.

    Raises:
        PlanUntrustedError: it isn't an envelope, or not one about a pack, in every byte.
        PlanTargetError: the pack is of a later format.
    """
    envelope = envelope_from_text(text, source, fewest=0)
    if envelope_text(envelope).encode() != text:
        raise _unfit(source, "an envelope in its one form")
    try:
        content = object_from_json(envelope.payload)
        kinds = (content["_type"], content["predicateType"])
        found = content["predicate"]["format"]
    except (AmbiguousJsonError, KeyError, TypeError) as error:
        raise _unfit(source, f"a statement about a pack ({error})") from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise _unfit(source, f"a statement about a pack, got {str(kinds[1])[:64]!r}")
    if isinstance(found, int) and not isinstance(found, bool) and found > FORMAT:
        raise PlanTargetError(f"{source}: pack format {found}, expected {FORMAT} at most; update edge_runtime")
    statement = _statement(content, source)
    if statement.text.encode() != envelope.payload:
        raise _unfit(source, "a statement in its one form")
    return statement, envelope


def _statement(content: Mapping[str, Any], source: str) -> PackStatement:
    try:
        predicate, subjects = content["predicate"], content["subject"]
        model, release, sizes = predicate["model"], predicate["release"], predicate["sizes"]
        members = tuple(Member(one["name"], sizes[one["name"]], one["digest"]["sha256"]) for one in subjects)
    except (KeyError, TypeError) as error:
        raise _unfit(source, f"a statement about a pack ({error!r})") from None
    if not isinstance(model, str) or not MODEL_NAME.fullmatch(model):
        raise _unfit(source, f"a model's name, got {str(model)[:64]!r}")
    if not _is_count(release) or not 1 <= release <= MAX_RELEASE:
        raise _unfit(source, f"a release from 1 to {MAX_RELEASE}, got {str(release)[:32]}")
    for member in members:
        _check_member(member, source)
    names = [member.name for member in members]
    if names != [name for name in _ALLOWED if name in names]:
        raise _unfit(source, f"members in their order and once each, got {', '.join(names)}")
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise _unfit(source, f"a member {missing[0]}")
    return PackStatement(model, release, members)


def _check_member(member: Member, source: str) -> None:
    if member.name not in _ALLOWED:
        raise _unfit(source, f"members of known names, got {str(member.name)[:64]!r}")
    if not _is_count(member.nbytes) or not 0 <= member.nbytes <= _most_nbytes(member.name):
        most = _most_nbytes(member.name)
        raise _unfit(source, f"0 to {most:,} bytes of {member.name}, got {str(member.nbytes)[:32]}")
    if not isinstance(member.sha256, str) or not _SHA256.fullmatch(member.sha256):
        raise _unfit(source, f"the sha256 of {member.name}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _most_nbytes(name: str) -> int:
    return MAX_TEXT_NBYTES if name in _TEXTS else MAX_MEMBER_NBYTES


def signer_of_pack(envelope: Envelope, policy: TrustPolicy, source: str) -> PublicKey | None:
    """Who signed a pack; None if nobody did, and the policy lets that pass.

    Raises:
        PlanUntrustedError: nobody did who is trusted with packs, or a signature is wrong.
        ConfigError: a trusted key can't be read or isn't a key, or somebody who shouldn't could change them.
    """
    if envelope.signatures:
        return signer_of(envelope, policy, source, [VENDOR])
    if policy.require_signed:
        raise PlanUntrustedError(
            f"{source}: isn't signed, and [trust] require_signed is on; it takes one of edge-runtime pack --key FILE"
        )
    return None


class PackReader:
    """A pack that is read once from its beginning to its end; what it yields is worth nothing before `end`.

    Raises:
        PlanCorruptError: its beginning isn't a pack's.
        PlanUntrustedError: its envelope isn't one about a pack.
        PlanTargetError: it is of a later format.
    """

    def __init__(self, file: BinaryIO, nbytes: int, source: str) -> None:
        self._file = file
        self._source = source
        self._digest = hashlib.sha256()
        size = self._envelope_nbytes(self._read(_BLOCK))
        self.envelope_text = self._padded(size)
        self.statement, self.envelope = statement_from_envelope(self.envelope_text, source)
        expected = self.statement.nbytes(size)
        if nbytes != expected:
            raise self._corrupt(f"expected {expected:,} bytes, got {nbytes:,}")

    def members(self) -> Iterator[Tuple[Member, Iterator[bytes]]]:
        """Each member with its chunks, which must be read to their end before the next one.

        Raises:
            PlanCorruptError: a member isn't what the statement says.
        """
        for member in self.statement.members:
            self._check_header(member)
            yield member, self._chunks(member)

    def end(self) -> str:
        """The SHA-256 of the pack, all of which was read.

        Raises:
            PlanCorruptError: there is something else behind the last member.
        """
        if self._read(len(_END)) != _END or self._file.read(1):
            raise self._corrupt("expected nothing but zeros after the last member")
        return self._digest.hexdigest()

    def _envelope_nbytes(self, header: bytes) -> int:
        digits = header[124:135]
        size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
        if not 0 < size <= MAX_NBYTES or header != _header(ENVELOPE, size):
            raise self._corrupt(f"isn't a pack: expected it to begin with {ENVELOPE} of {MAX_NBYTES:,} bytes at most")
        return size

    def _check_header(self, member: Member) -> None:
        if self._read(_BLOCK) != _header(member.name, member.nbytes):
            raise self._corrupt(f"expected {member.name} of {member.nbytes:,} bytes next, as the statement says")

    def _chunks(self, member: Member) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for start in range(0, member.nbytes, _CHUNK_NBYTES):
            chunk = self._read(min(_CHUNK_NBYTES, member.nbytes - start))
            digest.update(chunk)
            yield chunk
        self._check_padding(member.nbytes)
        if digest.hexdigest() != member.sha256:
            expected, got = f"{member.sha256[:12]}…", f"{digest.hexdigest()[:12]}…"
            raise self._corrupt(f"{member.name}: expected sha256 {expected}, got {got}")

    def _padded(self, nbytes: int) -> bytes:
        data = self._read(nbytes)
        self._check_padding(nbytes)
        return data

    def _check_padding(self, nbytes: int) -> None:
        if any(self._read(_padding(nbytes))):
            raise self._corrupt("expected nothing but zeros between members")

    def _read(self, nbytes: int) -> bytes:
        data = self._file.read(nbytes)
        if len(data) != nbytes:
            raise self._corrupt("ends too early")
        self._digest.update(data)
        return data

    def _corrupt(self, problem: str) -> PlanCorruptError:
        return PlanCorruptError(f"{self._source}: {problem}; get the pack again from whom it came")


def _unfit(source: str, expected: str) -> PlanUntrustedError:
    return PlanUntrustedError(f"{source}: not a pack's signature: expected {expected}; get the pack again")


def _padding(nbytes: int) -> int:
    return -nbytes % _BLOCK


def _header(name: str, nbytes: int) -> bytes:
    """A member's header in the form of POSIX 1003.1-1990 (ustar): a regular file of nobody's, as old as can be."""
    fields: List[bytes] = [
        name.encode().ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0",  # user
        b"0000000\0",  # group
        b"%011o\0" % nbytes,
        b"00000000000\0",  # time
        b" " * 8,  # the checksum, while it is counted
        b"0",
        bytes(100),  # of a link
        b"ustar\0" + b"00",
        bytes(32 + 32),  # names of user and group
        b"0000000\0" * 2,  # of a device
        bytes(155 + 12),
    ]
    fields[6] = b"%06o\0 " % sum(b"".join(fields))
    return b"".join(fields)
