"""`edge-runtime import-triton`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from edge_runtime.cli.flags import json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.provisioning.triton.importing import ImportedModel, ImportReport


def command(
    repository: Path = typer.Argument(..., metavar="REPOSITORY", help="The folder of a Triton model repository."),
    models: Optional[List[str]] = typer.Argument(None, metavar="[MODEL]...", help="Models to import (default: all)."),
    output: Optional[Path] = typer.Option(
        None, "--output", metavar="DIR", help="Folder to write recipes to, such as engines (default: just show them)."
    ),
    force: bool = typer.Option(False, "--force", help="Replace recipes that are there and say something else."),
    is_json: bool = json_option(),
) -> None:
    """Make recipes of the models of a Triton model repository, and say what becomes of each field of config.pbtxt.

    Exit status 1 if a model has no recipe that builds as it is; the others have theirs all the same.
    """
    from edge_runtime.provisioning.triton.importing import ImportOptions, import_repository

    configure_logging()
    if force and output is None:
        raise UsageError("--force is for --output DIR; nothing is written without it")
    out = Output(is_json)
    with out.progress() as progress:
        report = import_repository(repository, models or (), ImportOptions(output, force), progress.stage)
    if is_json:
        out.document(
            {
                "repository": str(repository),
                "output": None if output is None else str(output),
                "complete": report.is_complete,
                "models": [model.record() for model in report.models],
                "skipped": [{"name": name, "reason": reason} for name, reason in report.skipped],
                "server": dict(report.settings),
            }
        )
    else:
        _print(report, output, out)
    if not report.is_complete:
        raise typer.Exit(1)


def _print(report: ImportReport, output: Optional[Path], out: Output) -> None:
    for model in report.models:
        _print_model(model, output, out)
    for name, reason in report.skipped:
        out.say(f"skipped {name}: {reason}")
    if report.settings:
        variables = " ".join(f"EDGE_RUNTIME_SERVER__{name.upper()}={value}" for name, value in report.settings.items())
        out.say(f"serve with: {variables} edge-runtime serve")
    if output is None:
        out.say("nothing was written; --output engines writes the recipes")


def _print_model(model: ImportedModel, output: Optional[Path], out: Output) -> None:
    if model.fields:
        title = f"{model.name}: version {model.version}"
        rows = [(one.line, one.path, one.value, one.outcome, one.text) for one in model.fields]
        out.table(title, ("line", "field", "value", "becomes", "how"), rows)
    if output is None and model.text:
        out.say(f"{model.recipe}:\n{model.text}")
    for reason in model.reasons:
        out.say(f"{model.name} {model.outcome}: {reason}")
    if model.action != "none":
        out.say(f"{model.action}: {model.recipe}")
