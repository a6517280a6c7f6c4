"""`edge-runtime sweep`."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

import typer

from edge_runtime.cli.flags import engines_option, flag, given, json_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.cli.source import recipe_from
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.errors import ConfigError, NoChoiceError, UsageError
from edge_runtime.provisioning.sweep_settings import SweepSettings

if TYPE_CHECKING:
    from edge_runtime.cli.output import StageProgress
    from edge_runtime.profiler.board import WatchedBoard
    from edge_runtime.provisioning.sweep import SweepTools
    from edge_runtime.provisioning.sweep_plans import SweptPlan


def command(
    source: str = typer.Argument(..., metavar="MODEL|RECIPE.toml", help="Name of a model with plans, or a recipe."),
    precisions: Optional[str] = flag(SweepSettings, "precisions", "--precisions", metavar="fp32,fp16,int8"),
    batches: Optional[str] = flag(SweepSettings, "batches", "--batches", metavar="1,4,16"),
    power_modes: Optional[str] = flag(SweepSettings, "power_modes", "--power-modes", metavar="NAME,NAME"),
    apply_power_modes: bool = typer.Option(
        False, "--apply-power-modes", help="Set power modes with nvpmodel, and the one of now at the end."
    ),
    build: bool = typer.Option(False, "--build", help="Build every precision of the recipe into --sweep-engines."),
    sweep_engines: Path = typer.Option(
        Path("sweep-engines"), "--sweep-engines", help="With --build: folder of its plans, which nothing serves."
    ),
    calib_cache: Path = typer.Option(Path("calib_cache"), "--calib-cache", help="Folder of the calibration tables."),
    n: Optional[int] = flag(SweepSettings, "n", "-n", minimum=10),
    budget_s: Optional[float] = flag(SweepSettings, "budget_s", "--budget-s"),
    threads: Optional[int] = flag(SweepSettings, "threads", "--threads", minimum=1),
    board: Optional[str] = flag(SweepSettings, "board", "--board", metavar="SOURCE"),
    energy: Optional[bool] = flag(SweepSettings, "energy", "--energy/--no-energy"),
    objective: Optional[str] = flag(SweepSettings, "objective", "--objective", metavar="latency|energy|throughput"),
    max_latency_ms: Optional[float] = flag(SweepSettings, "max_latency_ms", "--max-latency-ms"),
    max_energy_mj: Optional[float] = flag(SweepSettings, "max_energy_mj", "--max-energy-mj"),
    min_quality: Optional[float] = flag(SweepSettings, "min_quality", "--min-quality"),
    min_throughput: Optional[float] = flag(SweepSettings, "min_throughput", "--min-throughput"),
    html: Optional[Path] = typer.Option(None, "--html", metavar="S.html", help="Where to draw the points."),
    engines: Path = engines_option(),
    is_json: bool = json_option(),
) -> None:
    """Measure a model in every precision, batch size and power mode; say which to take, or exit with 1 if none fits."""
    configure_logging()
    flags = given(
        precisions=_words(precisions),
        batches=_words(batches),
        power_modes=_words(power_modes),
        n=n,
        budget_s=budget_s,
        threads=threads,
        board=board,
        energy=energy,
        objective=objective,
        max_latency_ms=max_latency_ms,
        max_energy_mj=max_energy_mj,
        min_quality=min_quality,
        min_throughput=min_throughput,
    )
    settings = _settings(flags)
    is_recipe = source.lower().endswith((".toml", ".onnx"))
    if build and not is_recipe:
        raise UsageError(f"--build: {source!r} is a model; give the recipe that it is built from")
    if html is not None:
        check_output_file(html, "--html")
        _page_maker()
    output = Output(is_json)
    folders = (engines, sweep_engines, calib_cache)
    _tell(_swept(source, settings, (build, is_recipe, apply_power_modes), folders, output), html, output)


def _tell(record: Mapping[str, Any], html: Optional[Path], output: Output) -> None:
    """Writes and prints it all; raises EdgeRuntimeError then if no point is left to take."""
    if html is not None:
        write_output_file(html, _page_maker()(record), "--html")
    _print(record, output)
    _check_choice(record)


def _settings(flags: Mapping[str, Any]) -> SweepSettings:
    """What the environment and the flags ask for, if there is such a board."""
    from edge_runtime.device.telemetry.board import check_board

    layer = merged(environment_layer(os.environ, ("sweep",)).get("sweep", {}), flags)
    settings = validated(SweepSettings, layer, "[sweep]")
    check_board(settings.board)
    return settings


def _swept(
    source: str, settings: SweepSettings, modes: Sequence[bool], folders: Sequence[Path], output: Output
) -> Dict[str, Any]:
    from edge_runtime.device.telemetry.board import open_board
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.profiler.board import watched_board
    from edge_runtime.provisioning.sweep import sweep
    from edge_runtime.provisioning.sweep_modes import modes_of
    from edge_runtime.provisioning.sweep_plans import stored_plans

    is_built, is_recipe, is_applied = modes
    engines, sweep_engines, calib_cache = folders
    visited = modes_of(settings.power_modes, is_applied)
    model = recipe_from(Path(source), {}).name if is_recipe else source
    with output.progress() as progress:
        if is_built:
            plans = _built(Path(source), settings, (engines, sweep_engines, calib_cache), progress)
        else:
            plans = stored_plans(PlanStore(engines), model, settings.precisions)
        with watched_board(open_board(settings.board, settings.interval_s)) as board:
            return sweep(model, plans, visited, settings, _tools(progress, board, settings))


def _built(source: Path, settings: SweepSettings, folders: Sequence[Path], progress: StageProgress) -> List[SweptPlan]:
    from edge_runtime.provisioning.sweep_plans import built_plans

    engines, own, calib_cache = folders
    if own.resolve() == engines.resolve():
        raise UsageError(f"--sweep-engines {own}: what is built there would be served; give another folder")
    recipes = {}
    for precision in settings.precisions:
        recipe = recipe_from(source, {"precision": {"policy": precision}})
        gate = recipe.tables.gate.model_copy(update={"publish_failed": True})
        recipes[precision] = replace(recipe, tables=recipe.tables.model_copy(update={"gate": gate}))
    return built_plans(recipes, own, calib_cache, progress)


def _tools(progress: StageProgress, board: WatchedBoard, settings: SweepSettings) -> SweepTools:
    from edge_runtime.device.nvpmodel import NvpModel
    from edge_runtime.profiler.energy_probe import EnergyProbe
    from edge_runtime.provisioning.sweep import SweepTools

    facts = board.facts(0)
    why = "not asked for"
    if settings.energy:
        why = "" if board.tells_power() else facts.choice
    return SweepTools(progress, NvpModel(), None if why else EnergyProbe(board), why, facts.record()["origin"])


def _page_maker() -> Any:
    try:
        return importlib.import_module("edge_runtime.profiler.sweep_html").sweep_html
    except ModuleNotFoundError as error:
        raise ConfigError(f"--html: {error.name} isn't installed; pip install edge-runtime[report]") from None


def _words(text: Optional[str]) -> Optional[List[str]]:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _print(record: Mapping[str, Any], output: Output) -> None:
    if output.is_json:
        output.document(record)
        return
    from edge_runtime.profiler.replayed import marked

    header = ("point", "p50 ms", "p99 ms", "samples/s", marked("energy mJ", record["origin"]), "quality", "")
    output.table(f"sweep of {record['target']['model']}", header, [_row(point) for point in record["points"]])
    for line in record["not_measured"]:
        output.say(f"not measured: {line}")
    for line in record["commands"]:
        output.say(f"to run by hand: {line}")
    if record["recommended"] is not None:
        objective = record["limits"]["objective"]
        output.say(f"recommended: {record['recommended']}, the best by {objective} of those that keep the limits")


def _row(point: Mapping[str, Any]) -> List[str]:
    if point["refused"] is not None:
        return [point["label"], "", "", "", "", "", f"refused: {point['refused']}"]
    mark = "recommended" if point["is_recommended"] else "frontier" if point["is_pareto"] else ""
    why = point["why_not"] or ""
    return [
        point["label"],
        _number(point["p50_ms"]),
        _number(point["p99_ms"]),
        _number(point["samples_per_s"]),
        _number(point["energy_mj"]),
        _number(point["quality"]),
        "; ".join(part for part in (mark, why) if part),
    ]


def _number(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.4g}"


def _check_choice(record: Mapping[str, Any]) -> None:
    """Raises NoChoiceError if no point was recommended."""
    if record["recommended"] is None:
        raise NoChoiceError(f"no point keeps the limits: {_reasons(record)}; loosen one, or try other points")


def _reasons(record: Mapping[str, Any]) -> str:
    found = [f"{point['label']}: {point['refused'] or point['why_not']}" for point in record["points"]]
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
