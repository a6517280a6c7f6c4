"""`edge-runtime verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from edge_runtime.cli.flags import engines_option, flag, json_option
from edge_runtime.cli.keys import policy_of
from edge_runtime.cli.named_plan import named_plan, plan_argument
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.plan.trust import TrustSettings

if TYPE_CHECKING:
    from edge_runtime.plan.signature import SignatureVerdict
    from edge_runtime.plan.store import StoredPlan
    from edge_runtime.plan.trust import TrustPolicy


def command(
    target: str = plan_argument(),
    folder: Optional[str] = flag(TrustSettings, "folder", "--trusted", metavar="FOLDER"),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Check a plan's signature and its files, and say who vouches for it.

    Exits 0 if a trusted key signed it and every file is what was signed, 78 if nobody did who is trusted or the version
    is below the floor, 1 if a file is damaged.
    """
    from edge_runtime.errors import PlanUntrustedError
    from edge_runtime.plan.signature import check_files, check_signature

    configure_logging()
    stored, policy = named_plan(target, engines), policy_of(folder)
    verdict = check_signature(stored, policy)
    if verdict.signer is None:
        name, version = stored.manifest.name, stored.manifest.version
        raise PlanUntrustedError(
            f"plan {name!r} version {version}: isn't signed; edge-runtime sign {name}@{version} --key FILE"
        )
    check_files(stored)
    _print(stored, verdict, policy, Output(is_json))


def _print(stored: StoredPlan, verdict: SignatureVerdict, policy: TrustPolicy, output: Output) -> None:
    manifest = stored.manifest
    lowest = _lowest(policy, manifest.name)
    if output.is_json:
        output.document(
            {
                "plan": str(stored.folder),
                "model": manifest.name,
                "version": manifest.version,
                "signature": verdict.record(),
                "digests": "ok",
                "encrypted": stored.is_sealed,
                "trusted": str(policy.folder),
                "floor": lowest,
            }
        )
        return
    assert verdict.signer is not None
    assert verdict.provenance is not None
    signer, provenance = verdict.signer, verdict.provenance
    rows: List[List[str]] = [
        ["signed by", f"{signer.name}, role {signer.role}, of {policy.folder}"],
        ["key", signer.id],
        ["built", "on a device" if provenance.is_device_built else "on a host"],
        *([["from pack", provenance.pack_sha256]] if provenance.pack_sha256 else []),
        *([name, f"as signed, sha256 {sha256[:12]}…"] for name, sha256 in provenance.subjects.items()),
        ["lowest version allowed", "any" if lowest is None else str(lowest)],
    ]
    output.table(f"{manifest.name} version {manifest.version}: trusted", ("", ""), rows)


def _lowest(policy: TrustPolicy, model: str) -> Optional[int]:
    from edge_runtime.plan.rollback_floor import RollbackFloor

    return None if policy.floor is None else RollbackFloor(policy.floor).lowest(model)
