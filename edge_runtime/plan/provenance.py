"""What a signature of a version says: an in-toto Statement v1 with SLSA's provenance v1.

Its subjects are the files of the version by their SHA-256. Times in it are for people: nothing is decided by them, for
a board's clock may stand in 1970.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping

from edge_runtime.errors import PlanUntrustedError
from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.store import MANIFEST, StoredPlan
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:edge-runtime:plan-build:v1"
HOST_BUILDER = "urn:edge-runtime:builder:host"
DEVICE_BUILDER = "urn:edge-runtime:builder:device"


@dataclass(frozen=True)
class Provenance:
    """What a statement says: the digests of its subjects, who built them, and from which pack ("": from none)."""

    subjects: Mapping[str, str]
    builder: str
    pack_sha256: str

    @property
    def is_device_built(self) -> bool:
        """Whether it says that the plan was built on a device."""
        return self.builder == DEVICE_BUILDER


def subjects_of(stored: StoredPlan) -> Dict[str, str]:
    """The SHA-256 of the manifest's bytes as they were read, and of each file that it names, encrypted or not."""
    return {MANIFEST: stored.manifest_sha256, **{record.file: record.sha256 for record in stored.manifest.files}}


def statement_text(stored: StoredPlan, builder: str, pack_sha256: str = "") -> str:
    """The statement about a version, as JSON; the pack that its manifest names counts before another."""
    manifest = stored.manifest
    pack_sha256 = manifest.source.pack or pack_sha256
    parameters = {"model": manifest.name, "version": manifest.version, "precision": manifest.precision}
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": parameters,
        "internalParameters": _internal(manifest),
        "resolvedDependencies": _dependencies(manifest, pack_sha256),
    }
    details = {
        "builder": {"id": builder, "version": {"edge_runtime": manifest.edge_runtime}},
        "metadata": {"invocationId": manifest.build_key, "finishedOn": manifest.created},
    }
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in subjects_of(stored).items()],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": definition, "runDetails": details},
    }
    return json.dumps(statement, separators=(",", ":"))


def _internal(manifest: Manifest) -> Dict[str, Any]:
    found: Dict[str, Any] = {"backend": manifest.backend.model_dump(mode="json")}
    if manifest.target is not None:
        found["target"] = manifest.target.model_dump(mode="json", exclude={"nodes"})
    return found


def _dependencies(manifest: Manifest, pack_sha256: str) -> List[Dict[str, Any]]:
    """What the plan was made from: its ONNX, the data, the table and the pack that brought them."""
    named = dict(manifest.source.files)
    for name in ("calibration", "held_out"):
        key = getattr(manifest.data, name) or {}
        if isinstance(key.get("sha256"), str):
            named[f"{name} data"] = key["sha256"]
    if manifest.data.table_sha256:
        named["calibration table"] = manifest.data.table_sha256
    if pack_sha256:
        named["pack"] = pack_sha256
    return [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in named.items()]


def provenance_from_payload(payload: bytes, what: str) -> Provenance:
    """What a statement says that a trusted key signed; `what` names it in messages.

    Raises:
        PlanUntrustedError: it is no statement about a plan.
    """
    try:
        statement = object_from_json(payload)
        definition = statement["predicate"]["buildDefinition"]
        kinds = (statement["_type"], statement["predicateType"], definition["buildType"])
        builder = statement["predicate"]["runDetails"]["builder"]["id"]
        subjects = _named_digests(statement["subject"])
        pack = _named_digests(definition["resolvedDependencies"]).get("pack", "")
    except (AmbiguousJsonError, KeyError, TypeError, IndexError) as error:
        raise PlanUntrustedError(
            f"{what}: what is signed is no statement about a plan ({error}); sign it again"
        ) from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE, BUILD_TYPE) or not isinstance(builder, str):
        raise PlanUntrustedError(f"{what}: what is signed is a statement of another kind ({kinds[2]!r}); sign it again")
    return Provenance(subjects, builder, pack)


def _named_digests(entries: Any) -> Dict[str, str]:
    found = {entry["name"]: entry["digest"]["sha256"] for entry in entries}
    if len(found) != len(entries) or not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise AmbiguousJsonError("a name is there twice, or isn't text")
    return found
