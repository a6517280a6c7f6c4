"""`edge-runtime install-unit`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Optional

import typer

from edge_runtime.cli.flags import json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import EdgeRuntimeError, UsageError


def command(
    root: Path = typer.Option(
        Path("/"), "--root", metavar="FOLDER", help="Root of the system, such as that of an image."
    ),
    program: Optional[Path] = typer.Option(
        None, "--program", metavar="PATH", help="The command as it is there (default: this one)."
    ),
    sockets: bool = typer.Option(
        False, "--sockets", help="Let systemd listen, and start the server with the first connection."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be written."),
    now: bool = typer.Option(False, "--now", help="Run the commands that put it to use, too."),
    is_json: bool = json_option(),
) -> None:
    """Install the server, and what builds its plans, as services of systemd, and make the device's key.

    Says which files are new, changed or as they were, and the commands that put them to use. Run again after an update
    of JetPack: the device nodes that the services may open are those that are there then.
    """
    from edge_runtime.provisioning.unit.installation import install, planned
    from edge_runtime.provisioning.unit.site import own_program, read_site

    configure_logging()
    if now and (dry_run or root != Path("/")):
        raise UsageError("--now: is for this system, with what was written; leave --dry-run and --root out")
    found = planned(read_site(root, program or own_program(sys.executable)), sockets)
    if not dry_run:
        install(found)
    output = Output(is_json)
    if not is_json:
        for step in found.steps:
            output.say(f"{step.state:9} {step.path}")
    for line in found.commands:
        if now:
            _run(line)
        elif not is_json:
            output.say(f"run: {line}")
    if is_json:
        output.document({**found.record(), "written": not dry_run, "started": now})


def _run(line: str) -> None:
    done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeRuntimeError(f"{line}: {(done.stderr or done.stdout).strip() or f'ended with {done.returncode}'}")
