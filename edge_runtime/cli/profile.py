"""`edge-runtime profile`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional

import typer

from edge_runtime.cli.feeds import feeds_from_npz
from edge_runtime.cli.flags import engines_option, flag, given, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.profiler.settings import ProfileSettings

if TYPE_CHECKING:
    from edge_runtime.profiler.profile_report import ProfileReport
    from edge_runtime.tensors import Feeds


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="Name of the model."),
    n: Optional[int] = flag(ProfileSettings, "n", "-n", minimum=1),
    duration_s: Optional[float] = flag(ProfileSettings, "duration_s", "--duration-s"),
    warm_up: Optional[int] = flag(ProfileSettings, "warm_up", "--warm-up", minimum=1),
    concurrency: Optional[int] = flag(ProfileSettings, "concurrency", "--concurrency", minimum=1),
    rate_per_s: Optional[float] = flag(ProfileSettings, "rate_per_s", "--rate"),
    batch: Optional[int] = flag(ProfileSettings, "batch", "--batch", minimum=1),
    seed: Optional[int] = flag(ProfileSettings, "seed", "--seed", minimum=0),
    threads: Optional[int] = flag(ProfileSettings, "threads", "--threads", minimum=1),
    layers: Optional[bool] = flag(ProfileSettings, "layers", "--layers/--no-layers"),
    layer_runs: Optional[int] = flag(ProfileSettings, "layer_runs", "--layer-runs", minimum=1),
    board: Optional[str] = flag(ProfileSettings, "board", "--board", metavar="SOURCE"),
    interval_s: Optional[float] = flag(ProfileSettings, "interval_s", "--interval-s"),
    baseline_s: Optional[float] = flag(ProfileSettings, "baseline_s", "--baseline-s"),
    inputs: Optional[Path] = typer.Option(
        None, "--input", metavar="I.npz", help="One array per input, under its name, as one feed (default: random)."
    ),
    html: Optional[Path] = typer.Option(
        None, "--html", metavar="R.html", help="Where to write a report with pictures; needs the extra `report`."
    ),
    trace: Optional[Path] = typer.Option(
        None, "--trace", metavar="T.json", help="Where to write every call, its stages and the board, for Perfetto."
    ),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Explain the latency of a plan in this process: stage by stage, outlier by outlier, beside what the board did.

    Power and heat need a board and are reported as not measured without one.
    """
    from edge_runtime.device.telemetry.board import check_board

    configure_logging()
    flags = given(
        n=n,
        duration_s=duration_s,
        warm_up=warm_up,
        concurrency=concurrency,
        rate_per_s=rate_per_s,
        batch=batch,
        seed=seed,
        threads=threads,
        layers=layers,
        layer_runs=layer_runs,
        board=board,
        interval_s=interval_s,
        baseline_s=baseline_s,
    )
    settings = _settings(flags)
    check_board(settings.board)
    _check_files(html, trace)
    feeds = None if inputs is None else feeds_from_npz(inputs)
    output = Output(is_json)
    report = _profiled(engines, model, settings, feeds, output)
    _tell(report, html, trace, output)


def _settings(flags: Mapping[str, Any]) -> ProfileSettings:
    """What the environment and the flags ask for; the end that a flag gives replaces any of the environment's."""
    ends = ("n", "duration_s")
    layer = environment_layer(os.environ, ("profile",)).get("profile", {})
    if any(end in flags for end in ends):
        layer = {key: value for key, value in layer.items() if key not in ends}
    return validated(ProfileSettings, merged(layer, flags), "[profile]")


def _profiled(
    engines: Path, model: str, settings: ProfileSettings, feeds: Optional[Feeds], output: Output
) -> ProfileReport:
    from edge_runtime.device.telemetry.board import open_board
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.profiler.board import watched_board
    from edge_runtime.profiler.profile import profile

    plan = PlanStore(engines).open(model)
    opened = open_board(settings.board, settings.interval_s)
    with output.progress() as progress, watched_board(opened, settings.expected_s) as board:
        return profile(plan, settings, feeds, board, progress=progress)


def _check_files(html: Optional[Path], trace: Optional[Path]) -> None:
    """Raises UsageError or ConfigError, before anything is measured, if a file can't be written or drawn."""
    for path, name in ((html, "--html"), (trace, "--trace")):
        if path is not None:
            check_output_file(path, name)
    if html is not None and trace is not None and html.resolve() == trace.resolve():
        raise UsageError(f"--html and --trace are both {html}; give each a name of its own")
    if html is not None:
        from edge_runtime.profiler.pages.canvas import require_matplotlib

        require_matplotlib()


def _tell(report: ProfileReport, html: Optional[Path], trace: Optional[Path], output: Output) -> None:
    """Writes and prints it all; a file that can't be written at the end costs nobody the report."""
    try:
        _write(report, html, trace)
    except EdgeRuntimeError:
        _print(report, output)
        raise
    _print(report, output)


def _write(report: ProfileReport, html: Optional[Path], trace: Optional[Path]) -> None:
    if trace is not None:
        from edge_runtime.profiler.profile_trace import profile_trace

        text = json.dumps(profile_trace(report), allow_nan=False, separators=(",", ":"))
        write_output_file(trace, text.encode(), "--trace")
    if html is not None:
        from edge_runtime.profiler.html_report import html_report

        write_output_file(html, html_report(report.record()), "--html")


def _print(report: ProfileReport, output: Output) -> None:
    from edge_runtime.profiler import profile_text as text

    if output.is_json:
        output.document(report.record())
        return
    output.table(f"profile {report.target['model']}", ("", ""), text.figure_rows(report))
    output.table("where the time goes", text.STAGE_HEADER, text.stage_rows(report))
    if report.layers is not None:
        output.table("slowest layers", text.LAYER_HEADER, text.layer_rows(report))
    found, calls = report.outliers, len(report.timed.load.calls)
    title = f"{len(found.found):,} of {calls:,} calls above {found.threshold_ns / 1e6:.3f} ms (1.5 x p50)"
    if found.found:
        output.table(title, text.OUTLIER_HEADER, text.outlier_rows(report))
    else:
        output.say(title)
    output.table("board", ("", ""), text.board_rows(report))
    for line in text.advice(report):
        output.say(f"next: {line}")
