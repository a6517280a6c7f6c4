"""What `build --all` and `rebuild` have in common: options, the table, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

import typer

from edge_runtime.errors import VerdictError

if TYPE_CHECKING:
    from edge_runtime.cli.output import Output
    from edge_runtime.provisioning.build_all import FleetReport
    from edge_runtime.provisioning.recipe_build import FleetOptions, Outcome

_KEEP = 2
_HEADER = ("model", "state", "version", "precision", "latency, or the reason", "seconds")


def keep_option(text: str) -> Any:
    """`--keep`."""
    return typer.Option(None, "--keep", min=0, metavar="N", help=text)


def fleet_options(
    engines: Path,
    calib_cache: Path,
    keep: Optional[int],
    sign: Optional[Path],
    encrypt: bool,
    report: Optional[Path] = None,
) -> FleetOptions:
    """The options of a run over all models."""
    from edge_runtime.provisioning.recipe_build import FleetOptions

    return FleetOptions(engines, calib_cache, _KEEP if keep is None else keep, sign, encrypt, report)


def show_build_all(options: FleetOptions, output: Output) -> None:
    """Builds all and shows it.

    Raises:
        VerdictError: a model has no plan as it should be.
    """
    from edge_runtime.provisioning.build_all import build_all
    from edge_runtime.server.service_manager import service_manager

    with output.progress() as progress:
        report = build_all(options, progress, service_manager().status)
    if output.is_json:
        output.document(report.record())
    else:
        show_outcomes(f"plans of {options.engines}", report, output)
    check_outcomes(report)


def show_outcomes(title: str, report: FleetReport, output: Output) -> None:
    """The table, and what is to be said of it."""
    if not report.outcomes:
        output.say(f"{title}: nothing to build")
        return
    output.table(title, _HEADER, [_row(outcome) for outcome in report.outcomes])
    for outcome in report.outcomes:
        if outcome.removed:
            output.say(f"{outcome.model}: removed old versions {', '.join(map(str, outcome.removed))}")
    unsigned = [outcome.model for outcome in report.outcomes if outcome.is_good and not outcome.is_signed]
    if unsigned and not report.has_key:
        output.say(f"not signed, for there is no key (--sign): {', '.join(unsigned)}")


def check_outcomes(report: FleetReport) -> None:
    """Raises VerdictError if a model has no plan as it should be."""
    if not report.is_good:
        count = len(report.outcomes)
        raise VerdictError(
            f"{len(report.bad)} of {count} models not built: {', '.join(report.bad)}; the report says why"
        )


def _row(outcome: Outcome) -> Sequence[object]:
    version = "" if outcome.version is None else str(outcome.version)
    text = _latency(outcome) if outcome.is_good else outcome.reason
    cells: List[object] = [outcome.model, outcome.state, version, outcome.precision, text]
    return [*cells, f"{outcome.duration_s:.1f}"]


def _latency(outcome: Outcome) -> str:
    """Of the chosen precision over another's; why there is none, if it wasn't measured."""
    latency = outcome.latency
    if latency is None:
        return outcome.reason
    return f"{latency['ratio']:.2f} ({latency['low']:.2f}-{latency['high']:.2f}) of {latency['against']}"
