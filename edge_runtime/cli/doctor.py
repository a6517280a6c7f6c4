"""`edge-runtime doctor`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from edge_runtime.builder.recipe import BACKENDS, BackendTable
from edge_runtime.cli.flags import engines_option, flag, given, json_option, one_of
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.provisioning.doctor import Diagnosis
    from edge_runtime.provisioning.memory import MemoryReport
    from edge_runtime.provisioning.selftest import SelfTest

REPORT = Path("edge-runtime-selftest.json")


def command(
    selftest: bool = typer.Option(
        False,
        "--selftest",
        help="Build a small net, run it in every mode, compare with ONNX Runtime, and save a report for an issue.",
    ),
    memory: Optional[Path] = typer.Option(
        None,
        "--memory",
        metavar="RECIPE.toml|MODEL.onnx",
        help="Measure mapped, pinned and pageable memory for the model's tensor sizes; `auto` goes by it from then on.",
    ),
    backend: Optional[str] = flag(
        BackendTable, "name", "--backend", metavar="|".join(BACKENDS), callback=one_of(BACKENDS)
    ),
    report: Path = typer.Option(REPORT, "--output", metavar="REPORT.json", help="Where --selftest saves its report."),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Say what this machine can run, and what is missing. Exit status 1 if plans can't be built or served here."""
    configure_logging()
    output = Output(is_json)
    if selftest and memory is not None:
        raise UsageError("--selftest and --memory are two things; give one of them")
    if memory is not None:
        _measure(memory, engines, output)
    elif selftest:
        _test(_table(backend), report, output)
    else:
        _diagnose(engines, output)


def _table(backend: Optional[str]) -> BackendTable:
    from edge_runtime.config import environment_layer, merged, validated

    layers = merged(environment_layer(os.environ, ("backend",)).get("backend", {}), given(name=backend))
    return validated(BackendTable, layers, "[backend]")


def _diagnose(engines: Path, output: Output) -> None:
    from edge_runtime.provisioning.doctor import diagnose

    diagnosis = diagnose(engines)
    if output.is_json:
        output.document(diagnosis.record())
    else:
        _print(diagnosis, output)
    if not diagnosis.is_sound:
        raise typer.Exit(1)


def _print(diagnosis: Diagnosis, output: Output) -> None:
    """The findings as a table, and each remedy on a line of its own, to be copied."""
    rows = [(finding.subject, finding.state, finding.text) for finding in diagnosis.findings]
    output.table("doctor", ("subject", "state", "finding"), rows)
    if diagnosis.remedies:
        output.say("What mends it:")
    for finding in diagnosis.remedies:
        output.say(f"  {finding.subject}: {finding.remedy}")


def _test(table: BackendTable, path: Path, output: Output) -> None:
    from edge_runtime.provisioning.selftest import selftest

    check_output_file(path, "--output")
    with output.progress() as progress:
        test = selftest(table, progress)
    write_output_file(path, (json.dumps(test.record(), indent=2) + "\n").encode(), "--output")
    _show_test(test, path, output)
    if not test.is_sound:
        raise typer.Exit(1)


def _show_test(test: SelfTest, path: Path, output: Output) -> None:
    if output.is_json:
        output.document(test.record())
        return
    rows = [(step.name, step.state, f"{step.seconds:.1f}", step.text) for step in test.steps]
    output.table("doctor --selftest", ("step", "state", "seconds", "what came of it"), rows)
    failed = sum(step.state == "failed" for step in test.steps)
    output.say(f"{failed} of {len(rows)} steps failed; the report is in {path}" if failed else f"all is well; {path}")


def _measure(source: Path, engines: Path, output: Output) -> None:
    from edge_runtime.cli.source import recipe_from
    from edge_runtime.provisioning.memory import measure_memory

    recipe = recipe_from(source, {})
    with output.progress() as progress:
        measured = measure_memory(recipe, engines, progress)
    _show_memory(measured, output)


def _show_memory(measured: MemoryReport, output: Output) -> None:
    if output.is_json:
        output.document(measured.record())
        return
    output.table(measured.title, measured.header, measured.rows())
    output.say(measured.advice)
