"""`edge-runtime rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from edge_runtime.cli.flags import engines_option, json_option
from edge_runtime.cli.fleet import check_outcomes, fleet_options, keep_option, show_outcomes
from edge_runtime.cli.keys import key_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import VerdictError


def command(
    requests: Optional[Path] = typer.Option(
        None,
        "--requests",
        metavar="FOLDER",
        help="Folder in which a server asks for plans, by files with models' names.",
    ),
    engines: Path = engines_option(),
    calib_cache: Path = typer.Option(Path("calib_cache"), "--calib-cache", help="Folder of the calibration tables."),
    keep: Optional[int] = keep_option("Versions to keep below the served one (default: 2)."),
    sign: Optional[Path] = key_option("--sign", "Sign the plans with this private key"),
    encrypt: bool = typer.Option(False, "--encrypt", help="Encrypt the plans for this device (docs/signing.md)."),
    is_json: bool = json_option(),
) -> None:
    """Build plans anew that no longer fit this machine, or that a server asked for, from their recipe or pack.

    The old plan is served until the new one is there.
    """
    from edge_runtime.provisioning.rebuild import rebuild
    from edge_runtime.server.service_manager import service_manager

    configure_logging()
    output = Output(is_json)
    with output.progress() as progress:
        report = rebuild(
            fleet_options(engines, calib_cache, keep, sign, encrypt), requests, progress, service_manager().status
        )
    if is_json:
        output.document(report.record())
    else:
        show_outcomes(f"plans of {engines} that are built anew", report.fleet, output)
        for model, reason in report.why.items():
            output.say(f"{model}: {reason}")
    check_outcomes(report.fleet)
    if report.left:
        raise VerdictError(f"requests that can't be removed from {requests}: {', '.join(report.left)}; remove them")
