"""The report of a build for whom made the pack: written by `build --report`, shown by `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List

import typer

from edge_runtime.cli.tables import show_candidates

if TYPE_CHECKING:
    from edge_runtime.cli.output import Output


def report_option() -> Any:
    """`--report`."""
    return typer.Option(
        None,
        "--report",
        metavar="FILE.json",
        help="Write what came of it, signed if there is a key (docs/packs.md); with --all into a folder.",
    )


def show_report(path: Path, output: Output) -> None:
    """A report that `build` wrote, once its signature is verified."""
    from edge_runtime.plan.trust import trust_policy
    from edge_runtime.provisioning.verdict import read_verdict

    verdict = read_verdict(path, trust_policy())
    record, signer = verdict.record, verdict.signer
    if output.is_json:
        who = None if signer is None else {"name": signer.name, "role": signer.role, "key_id": signer.id}
        output.document({"report": str(path), "signer": who, "verdict": record.model_dump(mode="json", by_alias=True)})
        return
    backend = record.backend
    rows: List[List[str]] = [
        ["signed by", "nobody" if signer is None else f"{signer.name}, role {signer.role}"],
        ["state", record.state],
        ["device", ", ".join(f"{name} {value}" for name, value in record.device.items() if value)],
        ["edge_runtime", record.edge_runtime],
        *([["backend", f"{backend.name} {backend.version} on {backend.device}"]] if backend else []),
        *([["L4T", record.l4t]] if record.l4t else []),
        *([["from pack", record.pack_sha256]] if record.pack_sha256 else []),
        *([["version", f"{record.version} ({record.precision})"]] if record.version else []),
        *([["manifest", record.manifest_sha256]] if record.manifest_sha256 else []),
    ]
    output.table(f"{record.model}: what a device made of it", ("", ""), rows)
    show_candidates("candidates", record.candidates, output)
    output.say(record.reason)
