"""The signature of a version: `manifest.dsse.json` beside the manifest, the one file that is ever added to it.

What is verified is what is loaded. The manifest was read once, and `StoredPlan` keeps the digest of those very bytes;
the envelope is read once, and its statement must name that digest and, for each file, the digest that the manifest
has. A file is read later, once, and its bytes are digested on their way to the engine library: they go there if the
digest is the manifest's, which is the statement's. No path is trusted between the two, so nothing is lost if somebody
replaces a file in between; a child process that tries a plan out opens it anew, and holds it against the same record.
"""

from __future__ import annotations

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
from edge_runtime.plan.store import SIGNATURE, Signer, StoredPlan
from edge_runtime.plan.trust import TrustPolicy, signer_of


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


def signer(key: PrivateKey, pack_sha256: str = "") -> Signer:
    """What signs a version, as `PlanStore.publish` takes it, so that there is no moment without a signature.

    A key with role `device-built` says that the plan was built on a device, any other one that it was on a host.
    `pack_sha256` is the digest of the pack that it was built from.
    """
    builder = DEVICE_BUILDER if key.role == DEVICE_BUILT else HOST_BUILDER

    def sign(stored: StoredPlan) -> bytes:
        payload = statement_text(stored, builder, pack_sha256).encode()
        signature = EnvelopeSignature(key.public.id, key.sign(pae(PAYLOAD_TYPE, payload)))
        return envelope_text(Envelope(payload, (signature,))).encode()

    return sign


def sign_version(stored: StoredPlan, sign: Signer) -> None:
    """Signs a version that is there, if its files are what its manifest says; a signature that it has is replaced.

    Raises:
        PlanCorruptError: a file isn't what the manifest says.
        PlanError: the signature can't be written.
    """
    check_files(stored)
    path = stored.folder / SIGNATURE
    try:
        write_atomically(path, sign(stored))
    except OSError as error:
        raise PlanError(f"{path}: can't be written ({error.strerror}); nothing was signed") from error


def check_files(stored: StoredPlan) -> None:
    """Reads every file of a version once.

    Raises:
        PlanCorruptError: one isn't what the manifest says.
    """
    for record in stored.manifest.files:
        for _ in stored.file(record):
            pass


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
    if not stored.is_signed:
        if policy.require_signed:
            raise PlanUntrustedError(
                f"{what}: isn't signed, and [trust] require_signed is on; "
                f"edge-runtime sign {stored.manifest.name}@{stored.manifest.version} --key FILE"
            )
        return SignatureVerdict()
    with opened(path) as file:
        text = file.read(MAX_NBYTES + 1)
    envelope = envelope_from_text(text, str(path))
    found = signer_of(envelope, policy, what)
    provenance = provenance_from_payload(envelope.payload, str(path))
    if found.role == DEVICE_BUILT and not provenance.is_device_built:
        found = signer_of(envelope, policy, f"{what}, built by {provenance.builder[:128]}", [VENDOR])
    _check_subjects(subjects_of(stored), provenance, what)
    return SignatureVerdict(found, provenance)


def _check_subjects(here: Dict[str, str], provenance: Provenance, what: str) -> None:
    signed = dict(provenance.subjects)
    for name in dict.fromkeys([*here, *signed]):  # the manifest first, by which all others differ
        if here.get(name) != signed.get(name):
            expected, got = (f"{one[:12]}…" if one else "none" for one in (signed.get(name), here.get(name)))
            raise PlanUntrustedError(
                f"{what}: {name}: expected sha256 {expected}, which was signed, got {got}; "
                "get the version again from whom it came, or build and sign it again"
            )
