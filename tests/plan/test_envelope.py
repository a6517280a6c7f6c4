from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from edge_runtime.errors import PlanUntrustedError
from edge_runtime.plan.envelope import (
    MAX_NBYTES,
    PAYLOAD_TYPE,
    Envelope,
    EnvelopeSignature,
    envelope_from_text,
    envelope_text,
    pae,
)
from edge_runtime.plan.keys import VENDOR, PrivateKey, new_key, public_key_text

# The test vector of DSSE's protocol.md: ECDSA over P-256 and SHA-256, the signature as r and s one behind the other.
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
SIGNATURE = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return new_key("vendor", VENDOR)


@pytest.fixture(scope="module")
def envelope(key: PrivateKey) -> Envelope:
    payload = b'{"a":"\xc3\xa9"}'
    return Envelope(payload, (EnvelopeSignature(key.public.id, key.sign(pae(PAYLOAD_TYPE, payload))),))


def test_the_bytes_that_are_signed_are_those_of_the_specification() -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    signed = pae("http://example.com/HelloWorld", b"hello world")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    raw = base64.b64decode(SIGNATURE)
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = ec.EllipticCurvePublicNumbers(X, Y, ec.SECP256R1()).public_key()
    public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))  # raises unless it is right


def test_lengths_are_of_bytes() -> None:
    assert pae("é", b"\xff") == b"DSSEv1 2 \xc3\xa9 1 \xff"


def test_an_envelope_reads_as_it_was_written(envelope: Envelope) -> None:
    assert envelope_from_text(envelope_text(envelope).encode(), "e") == envelope


def test_another_implementation_verifies_an_envelope(key: PrivateKey, envelope: Envelope) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    public = load_pem_public_key(public_key_text(key.public).partition("role: vendor\n")[2].encode())
    theirs = SSlibKey.from_crypto(public, keyid=key.public.id)
    found = dsse.Envelope.from_dict(json.loads(envelope_text(envelope)))
    assert list(found.verify([theirs], 1)) == [key.public.id]
    found.payload += b" "
    with pytest.raises(Exception, match="Found: 0"):
        found.verify([theirs], 1)


def changed(envelope: Envelope, **changes: Any) -> bytes:
    return json.dumps({**json.loads(envelope_text(envelope)), **changes}).encode()


def doubled(envelope: Envelope) -> bytes:
    text = envelope_text(envelope)
    return f'{text[:-1]},"payload":"AAAA"}}'.encode()


SIGNED = {"keyid": "k", "sig": "AAAA"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda e: b"", "expected JSON"),
        (lambda e: b"[]", "expected an object"),
        (lambda e: b"\xff", "expected JSON"),
        (lambda e: b"[" * 100_000, "expected JSON"),
        (lambda e: b" " * (MAX_NBYTES + 1), "bytes at most"),
        (doubled, "'payload' is there twice"),
        (lambda e: changed(e, more=1), "expected the names"),
        (lambda e: changed(e, payloadType="text/plain"), "expected payloadType"),
        (lambda e: changed(e, signatures=[]), "1 to 16 signatures, got none"),
        (lambda e: changed(e, signatures=[SIGNED] * 17), "1 to 16 signatures"),
        (lambda e: changed(e, signatures=[{"sig": "AAAA"}]), "the names keyid, sig"),
        (lambda e: changed(e, signatures=["AAAA"]), "the names keyid, sig"),
        (lambda e: changed(e, signatures=[{**SIGNED, "keyid": 1}]), "expected a key id"),
        (lambda e: changed(e, payload="AAA"), "base64"),
        (lambda e: changed(e, payload="AAB="), "base64"),  # of one byte more bits than it has
        (lambda e: changed(e, payload="AA AA"), "base64"),
        (lambda e: changed(e, payload="-_-_"), "base64"),
        (lambda e: changed(e, payload="é"), "base64"),
        (lambda e: changed(e, payload=None), "base64"),
    ],
)
def test_anything_but_its_one_form_is_refused(envelope: Envelope, make: Any, reason: str) -> None:
    with pytest.raises(PlanUntrustedError, match=reason):
        envelope_from_text(make(envelope), "e")
