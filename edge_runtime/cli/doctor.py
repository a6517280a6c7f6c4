"""`edge-runtime doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_runtime.cli.flags import engines_option, json_option
from edge_runtime.cli.output import Output, configure_logging

if TYPE_CHECKING:
    from edge_runtime.provisioning.doctor import Diagnosis


def command(engines: Path = engines_option(), is_json: bool = json_option()) -> None:
    """Say what this machine can run, and what is missing. Exit status 1 if plans can't be built or served here."""
    from edge_runtime.provisioning.doctor import diagnose

    configure_logging()
    output = Output(is_json)
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
