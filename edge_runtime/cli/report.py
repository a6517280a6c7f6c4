"""The report of a build for whom made the pack: written by `build --report`, shown by `inspect`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional

import typer

from edge_runtime.cli.tables import show_candidates
from edge_runtime.errors import EdgeRuntimeError

if TYPE_CHECKING:
    from edge_runtime.builder.builder import BuiltPlan
    from edge_runtime.builder.job import BuildOptions
    from edge_runtime.builder.recipe import Recipe
    from edge_runtime.cli.output import Output


def report_option() -> Any:
    """`--report`."""
    return typer.Option(
        None, "--report", metavar="FILE.json", help="Write what came of it, signed if there is a key (docs/packs.md)."
    )


@contextlib.contextmanager
def reporting(
    path: Optional[Path], recipe: Recipe, options: BuildOptions, key: Optional[Path]
) -> Iterator[Callable[[BuiltPlan], BuiltPlan]]:
    """What a plan is passed through that was built in the block; it is reported, and so is what is raised instead.

    Raises:
        ConfigError: the key can't be used.
        PlanError: the report can't be written.
    """
    if path is None:
        yield lambda built: built
        return
    from edge_runtime.provisioning.device_key import found_key
    from edge_runtime.provisioning.verdict import verdict_of_error, verdict_of_plan, write_verdict

    private = found_key(key)

    def heard(built: BuiltPlan) -> BuiltPlan:
        write_verdict(path, verdict_of_plan(recipe, built, options.trust), private)
        return built

    try:
        yield heard
    except EdgeRuntimeError as error:
        write_verdict(path, verdict_of_error(recipe, error, options.trust), private)
        raise


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
