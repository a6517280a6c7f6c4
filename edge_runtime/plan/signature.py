"""The signature of a version: `manifest.dsse.json` beside the manifest, the one file that is ever added to it.

What is verified is what is loaded. The manifest was read once, and `StoredPlan` keeps the digest of those very bytes;
the envelope is read once, and its statement must name that digest and, for each file, the digest that the manifest
has. A file is read later, once, and its bytes are digested on their way to the engine library: they go there if the
digest is the manifest's, which is the statement's. No path is trusted between the two, so nothing is lost if somebody
replaces a file in between; a child process that tries a plan out opens it anew, and holds it against the same record.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict

from edge_runtime.errors import PlanError, PlanUntrustedError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.envelope import (
    MAX_NBYTES,
    PAYLOAD_TYPE,
    Envelope,
    EnvelopeSignature,
    envelope_from_text,
    envelope_text,
    pae,
)
from edge_runtime.plan.files import write_atomically
from edge_runtime.plan.keys import DEVICE_BUILT, VENDOR, PrivateKey, PublicKey
from edge_runtime.plan.provenance import (
    DEVICE_BUILDER,
    HOST_BUILDER,
    Provenance,
    provenance_from_payload,
    statement_text,
    subjects_of,
)
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.store import StoredPlan
from edge_runtime.plan.trust import TrustPolicy, signer_of

SIGNATURE = "manifest.dsse.json"


@dataclass(frozen=True)
class SignatureVerdict:
    """Who vouches for a version, and for what; both None where there is no signature, and none is required."""

    signer: PublicKey | None = None
    provenance: Provenance | None = None

    @property
    def text(self) -> str:
        """In one line."""
        if self.signer is None or self.provenance is None:
            return "not signed"
        pack = f" from pack {self.provenance.pack_sha256[:12]}…" if self.provenance.pack_sha256 else ""
        where = "on a device" if self.provenance.is_device_built else "on a host"
        return (
            f"signed by {self.signer.name!r} (role {self.signer.role}, key {self.signer.id[:12]}…), "
            f"built {where}{pack}, {len(self.provenance.subjects)} files"
        )

    def record(self) -> Dict[str, Any]:
        """As JSON has it."""
        if self.signer is None or self.provenance is None:
            return {"signed": False}
        return {
            "signed": True,
            "signer": {"name": self.signer.name, "role": self.signer.role, "key_id": self.signer.id},
            "builder": self.provenance.builder,
            "pack_sha256": self.provenance.pack_sha256 or None,
            "subjects": dict(self.provenance.subjects),
        }


def is_signed(stored: StoredPlan) -> bool:
    """Whether there is a signature, be it right or wrong."""
    return os.path.lexists(stored.folder / SIGNATURE)


def sign_version(stored: StoredPlan, key: PrivateKey, pack_sha256: str = "") -> SignatureVerdict:
    """Signs a version whose files are what its manifest says; a signature that is there is replaced.

    A key with role `device-built` says that the plan was built on a device, any other one that it was on a host.
    `pack_sha256` is the digest of the pack that it was built from.

    Raises:
        PlanCorruptError: a file isn't what the manifest says.
        PlanError: the signature can't be written.
    """
    for record in stored.manifest.files:
        for _ in stored.file(record):
            pass
    builder = DEVICE_BUILDER if key.role == DEVICE_BUILT else HOST_BUILDER
    payload = statement_text(stored, builder, pack_sha256).encode()
    signer = key.public
    envelope = Envelope(payload, (EnvelopeSignature(signer.id, key.sign(pae(PAYLOAD_TYPE, payload))),))
    path = stored.folder / SIGNATURE
    try:
        write_atomically(path, envelope_text(envelope).encode())
    except OSError as error:
        raise PlanError(f"{path}: can't be written ({error.strerror}); nothing was signed") from error
    return SignatureVerdict(signer, provenance_from_payload(payload, str(path)))


def check_signature(stored: StoredPlan, policy: TrustPolicy) -> SignatureVerdict:
    """Who vouches for a version; a signature that is there is verified whatever the policy says.

    Raises:
        PlanUntrustedError: the signature is wrong or of nobody who is trusted with this; or there is none, and the
            policy requires one; or the version is below the floor.
        ConfigError: a trusted key can't be read or isn't a key, or somebody who shouldn't could change them.
    """
    manifest = stored.manifest
    verdict = _verdict(stored, policy)
    if policy.floor is not None:
        RollbackFloor(policy.floor).check(manifest.name, manifest.version)
    return verdict


def _verdict(stored: StoredPlan, policy: TrustPolicy) -> SignatureVerdict:
    path = stored.folder / SIGNATURE
    what = f"plan {stored.manifest.name!r} version {stored.manifest.version}"
    if not os.path.lexists(path):
        if policy.require_signed:
            raise PlanUntrustedError(
                f"{what}: isn't signed, and [trust] require_signed is on; "
                f"edge-runtime sign {stored.manifest.name}@{stored.manifest.version} --key FILE"
            )
        return SignatureVerdict()
    with opened(path) as file:
        text = file.read(MAX_NBYTES + 1)
    envelope = envelope_from_text(text, str(path))
    signer = signer_of(envelope, policy, what)
    provenance = provenance_from_payload(envelope.payload, str(path))
    if signer.role == DEVICE_BUILT and not provenance.is_device_built:
        signer = signer_of(envelope, policy, f"{what}, built by {provenance.builder[:128]}", [VENDOR])
    _check_subjects(subjects_of(stored), provenance, what)
    return SignatureVerdict(signer, provenance)


def _check_subjects(here: Dict[str, str], provenance: Provenance, what: str) -> None:
    signed = dict(provenance.subjects)
    for name in sorted({*here, *signed}):
        if here.get(name) != signed.get(name):
            expected, got = (f"{one[:12]}…" if one else "none" for one in (signed.get(name), here.get(name)))
            raise PlanUntrustedError(
                f"{what}: {name}: expected sha256 {expected}, which was signed, got {got}; "
                "get the version again from whom it came, or build and sign it again"
            )
