"""DSSE v1: bytes and who signed them, in one JSON document (https://github.com/secure-systems-lab/dsse).

Read more strictly than DSSE asks, so that an envelope has one form: no unknown names, a key id with every signature,
base64 of the standard alphabet alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Dict, Tuple

from edge_runtime.errors import PlanUntrustedError
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_NBYTES = 4 << 20

_MOST_SIGNATURES = 16


@dataclass(frozen=True)
class EnvelopeSignature:
    """One signature, and the id of the key that it says it is of."""

    key_id: str
    signature: bytes


@dataclass(frozen=True)
class Envelope:
    """What was signed, and the signatures; nothing of it is worth anything before one was verified."""

    payload: bytes
    signatures: Tuple[EnvelopeSignature, ...]
    payload_type: str = PAYLOAD_TYPE

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures are over."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: type and bytes, each behind its length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope_text(envelope: Envelope) -> str:
    """The JSON text of an envelope, without a byte that isn't needed."""
    content = {
        "payload": _base64(envelope.payload),
        "payloadType": envelope.payload_type,
        "signatures": [{"keyid": one.key_id, "sig": _base64(one.signature)} for one in envelope.signatures],
    }
    return json.dumps(content, separators=(",", ":"))


def envelope_from_text(data: bytes, source: str, fewest: int = 1) -> Envelope:
    """The envelope in `data`, of which no signature was verified yet; `source` names it in messages.

    It has `fewest` signatures or more: DSSE asks for one.

    Raises:
        PlanUntrustedError: it is too large, or isn't an envelope of ours in every byte.
    """
    if len(data) > MAX_NBYTES:
        raise _unfit(source, f"{MAX_NBYTES:,} bytes at most", f"{len(data):,}")
    try:
        content = object_from_json(data)
    except AmbiguousJsonError as error:
        raise _unfit(source, "JSON", str(error)) from None
    _check_names(content, ("payload", "payloadType", "signatures"), source)
    if content["payloadType"] != PAYLOAD_TYPE:
        raise _unfit(source, f"payloadType {PAYLOAD_TYPE!r}", repr(content["payloadType"])[:128])
    entries = content["signatures"]
    if not isinstance(entries, list) or not fewest <= len(entries) <= _MOST_SIGNATURES:
        raise _unfit(source, f"{fewest} to {_MOST_SIGNATURES} signatures", "none" if not entries else "something else")
    return Envelope(_bytes(content["payload"], source), tuple(_signature(entry, source) for entry in entries))


def _signature(entry: object, source: str) -> EnvelopeSignature:
    _check_names(entry, ("keyid", "sig"), source)
    assert isinstance(entry, dict)
    key_id = entry["keyid"]
    if not isinstance(key_id, str):
        raise _unfit(source, "a key id", repr(key_id)[:128])
    return EnvelopeSignature(key_id, _bytes(entry["sig"], source))


def _check_names(content: object, names: Tuple[str, ...], source: str) -> None:
    found: Dict[str, Any] = content if isinstance(content, dict) else {}
    if set(found) != set(names):
        raise _unfit(source, f"the names {', '.join(names)}", ", ".join(sorted(found))[:128] or "none")


def _bytes(text: object, source: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        data = None
    if data is None or _base64(data) != text:
        raise _unfit(source, "base64 in its one form", repr(text)[:64])
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unfit(source: str, expected: str, got: str) -> PlanUntrustedError:
    return PlanUntrustedError(f"{source}: not a signature: expected {expected}, got {got}; sign it again")
