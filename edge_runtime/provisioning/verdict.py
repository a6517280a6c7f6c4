"""What became of a build, to be sent to whom made the pack: a file that the device signs, if it has a key.

It is a DSSE envelope with an in-toto Statement v1, or without a key that statement alone. Its subjects are the pack,
the plan's manifest and the ONNX, as far as there are any; its predicate is what the gate said and on what.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

from pydantic import ValidationError

from edge_runtime import __version__
from edge_runtime.builder.builder import BuiltPlan
from edge_runtime.builder.recipe import Recipe
from edge_runtime.device.identity import identify
from edge_runtime.errors import EdgeRuntimeError, GateError, PlanError, PlanUntrustedError
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
from edge_runtime.plan.files import make_folder, write_atomically
from edge_runtime.plan.keys import PrivateKey, PublicKey
from edge_runtime.plan.manifest import BackendRecord, CandidateRecord, Record
from edge_runtime.plan.provenance import STATEMENT_TYPE
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json
from edge_runtime.plan.trust import TrustPolicy, signer_of
from edge_runtime.plan.unpacked import is_unpacked, unpacked_pack

FORMAT = 1
PREDICATE_TYPE = "urn:edge-runtime:verdict:v1"
PUBLISHED, UNCHANGED, REFUSED, FAILED = "published", "unchanged", "refused", "failed"


class VerdictRecord(Record):
    """What became of a model: `state` is published, unchanged, refused (by the gate) or failed; `reason` says why.

    `pack_sha256` and `manifest_sha256` are the digests of the pack that it was built from and of the manifest of its
    plan; None where there is none.
    """

    format: int = FORMAT
    model: str
    state: str
    reason: str
    edge_runtime: str
    device: Dict[str, Any]
    backend: Optional[BackendRecord] = None
    l4t: Optional[str] = None
    pack_sha256: Optional[str] = None
    source_digest: Optional[str] = None
    version: Optional[int] = None
    precision: Optional[str] = None
    manifest_sha256: Optional[str] = None
    plan_sha256: Optional[str] = None
    candidates: List[CandidateRecord]
    notes: List[str]

    @property
    def statement(self) -> str:
        """The statement about it, as JSON."""
        digests = {"pack": self.pack_sha256, "manifest.json": self.manifest_sha256, "source": self.source_digest}
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": one}} for name, one in digests.items() if one],
            "predicateType": PREDICATE_TYPE,
            "predicate": self.model_dump(mode="json", by_alias=True),
        }
        return json.dumps(statement, separators=(",", ":"))


@dataclass(frozen=True)
class Verdict:
    """What a file says, and who signed it; None: nobody did."""

    record: VerdictRecord
    signer: PublicKey | None


def verdict_of_plan(recipe: Recipe, built: BuiltPlan, policy: TrustPolicy) -> VerdictRecord:
    """What is to be said of a plan that was built, or was there already."""
    manifest = built.manifest
    return VerdictRecord(
        model=manifest.name,
        state=UNCHANGED if built.is_reused else PUBLISHED,
        reason=manifest.reason,
        edge_runtime=manifest.edge_runtime,
        device=manifest.device,
        backend=manifest.backend,
        l4t=None if manifest.target is None else manifest.target.l4t,
        pack_sha256=_pack_sha256(recipe.folder, policy) or manifest.source.pack,
        source_digest=manifest.source.digest,
        version=manifest.version,
        precision=manifest.precision,
        manifest_sha256=built.manifest_sha256,
        plan_sha256=manifest.plan.sha256,
        candidates=manifest.candidates,
        notes=manifest.notes,
    )


def verdict_of_error(recipe: Recipe, error: EdgeRuntimeError, policy: TrustPolicy) -> VerdictRecord:
    """What is to be said of a build that came to nothing."""
    return VerdictRecord(
        model=recipe.name,
        state=REFUSED if isinstance(error, GateError) else FAILED,
        reason=str(error),
        edge_runtime=__version__,
        device=identify().record(),
        pack_sha256=_pack_sha256(recipe.folder, policy),
        candidates=list(error.candidates) if isinstance(error, GateError) else [],
        notes=[],
    )


@contextlib.contextmanager
def reporting(
    path: Path | None, recipe: Recipe, policy: TrustPolicy, key: PrivateKey | None
) -> Iterator[Callable[[BuiltPlan], BuiltPlan]]:
    """What a plan is passed through that was built in the block; it is reported, and so is what is raised instead.

    None is written without a `path`.

    Raises:
        PlanError: the report can't be written.
    """
    if path is None:
        yield lambda built: built
        return
    file = path

    def heard(built: BuiltPlan) -> BuiltPlan:
        write_verdict(file, verdict_of_plan(recipe, built, policy), key)
        return built

    try:
        yield heard
    except EdgeRuntimeError as error:
        write_verdict(file, verdict_of_error(recipe, error, policy), key)
        raise


def _pack_sha256(folder: Path, policy: TrustPolicy) -> str | None:
    try:
        return unpacked_pack(folder, policy).sha256 if is_unpacked(folder) else None
    except EdgeRuntimeError:  # which is what the build failed for
        return None


def write_verdict(path: Path, record: VerdictRecord, key: PrivateKey | None) -> None:
    """Replaces a file by a verdict, signed if there is a key.

    Raises:
        PlanError: it can't be written.
    """
    text = payload = record.statement
    if key is not None:
        signature = EnvelopeSignature(key.public.id, key.sign(pae(PAYLOAD_TYPE, payload.encode())))
        text = envelope_text(Envelope(payload.encode(), (signature,)))
    try:
        make_folder(path.absolute().parent)
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise PlanError(f"{path}: the report can't be written ({error.strerror})") from error


def read_verdict(path: Path, policy: TrustPolicy) -> Verdict:
    """What a file of a device's says; a signature that is there is verified.

    Raises:
        PlanUntrustedError: it isn't a verdict, or its signature is wrong or of nobody who is trusted here; or there is
            none, and the policy requires one.
        PlanCorruptError: it can't be read.
    """
    source = str(path)
    with opened(path) as file:
        text = file.read(2 * MAX_NBYTES)
    try:
        content = object_from_json(text)
        if "payload" not in content:
            if policy.require_signed:
                raise PlanUntrustedError(
                    f"{source}: isn't signed, and [trust] require_signed is on; the device signs with build --sign FILE"
                )
            return Verdict(_record(content), None)
        envelope = envelope_from_text(text, source)
        signer = signer_of(envelope, policy, source)
        return Verdict(_record(object_from_json(envelope.payload)), signer)
    except (AmbiguousJsonError, ValidationError, KeyError, TypeError) as error:
        problem = str(error).splitlines()[0]
        raise PlanUntrustedError(f"{source}: isn't the report of a build ({problem}); get it again") from None


def _record(statement: Dict[str, Any]) -> VerdictRecord:
    kinds = (statement["_type"], statement["predicateType"])
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise AmbiguousJsonError(f"a statement of another kind: {str(kinds[1])[:64]!r}")
    return VerdictRecord.model_validate(statement["predicate"])
