"""`edge-runtime build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import typer

from edge_runtime.builder.recipe import (
    BACKENDS,
    CALIBRATIONS,
    METRICS,
    PRECISIONS,
    BackendTable,
    CalibrationTable,
    DataTable,
    GateTable,
    MetricTable,
    ModelTable,
    PrecisionTable,
)
from edge_runtime.cli.flags import engines_option, flag, given, json_option, one_of, shape_tables
from edge_runtime.cli.fleet import fleet_options, keep_option, show_build_all
from edge_runtime.cli.keys import key_option, seal_of, signer_of
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.report import report_option
from edge_runtime.cli.source import absolute, data_path, recipe_from
from edge_runtime.cli.tables import show_candidates, show_sensitivity
from edge_runtime.errors import GateError, UsageError

if TYPE_CHECKING:
    from edge_runtime.builder.builder import BuiltPlan
    from edge_runtime.builder.job import BuildOptions
    from edge_runtime.builder.recipe import Recipe
    from edge_runtime.provisioning.recipe_build import FleetOptions

_METRIC_NAMES = "|".join(METRICS)
_SPLIT = ModelTable.model_fields["split"].description
_ALGORITHM_NAMES = "|".join(CALIBRATIONS)


def command(
    source: Optional[Path] = typer.Argument(None, metavar="[RECIPE.toml|MODEL.onnx]", help="A recipe, or a model."),
    is_all: bool = typer.Option(False, "--all", help="Build the recipes and packs of the store that aren't built yet."),
    name: Optional[str] = flag(ModelTable, "name", "--name"),
    precision: Optional[str] = flag(
        PrecisionTable, "policy", "--precision", metavar="|".join(PRECISIONS), callback=one_of(PRECISIONS)
    ),
    max_batch: Optional[int] = flag(ModelTable, "max_batch", "--max-batch", minimum=1),
    split: List[str] = typer.Option([], "--split", metavar="TENSOR", help=_SPLIT),
    shape: List[str] = typer.Option(
        [], "--shape", metavar="NAME=MIN,OPT,MAX", help="Shapes of an input: x=1x3x48x192,8x3x48x192,16x3x48x192."
    ),
    calibration: Optional[Path] = flag(CalibrationTable, "data", "--calibration", metavar="C.npz"),
    held_out: Optional[Path] = flag(DataTable, "data", "--held-out", metavar="H.npz"),
    algorithm: Optional[str] = flag(
        CalibrationTable, "algorithm", "--algorithm", metavar=_ALGORITHM_NAMES, callback=one_of(CALIBRATIONS)
    ),
    table: Optional[Path] = flag(CalibrationTable, "table", "--table", metavar="TENSORRT.cache"),
    metric: Optional[str] = flag(
        MetricTable, "name", "--metric", metavar=_METRIC_NAMES, callback=one_of(METRICS, or_function=True)
    ),
    max_drop: Optional[float] = flag(GateTable, "max_drop", "--max-drop", minimum=0),
    min_gain: Optional[float] = flag(GateTable, "min_gain", "--min-gain", minimum=0),
    publish_failed: Optional[bool] = flag(GateTable, "publish_failed", "--publish-failed"),
    backend: Optional[str] = flag(
        BackendTable, "name", "--backend", metavar="|".join(BACKENDS), callback=one_of(BACKENDS)
    ),
    engines: Path = engines_option(),
    calib_cache: Path = typer.Option(Path("calib_cache"), "--calib-cache", help="Folder of the calibration tables."),
    verify_data: bool = typer.Option(False, "--verify-data", help="Compare what data functions yield before re-using."),
    explain: bool = typer.Option(False, "--explain", help="Measure how much each group of layers loses by INT8 alone."),
    again: bool = typer.Option(False, "--again", help="Build anew, though nothing changed."),
    keep: Optional[int] = keep_option("Versions to keep below the served one (default: all; with --all 2)."),
    sign: Optional[Path] = key_option("--sign", "Sign the plan with this private key"),
    encrypt: bool = typer.Option(False, "--encrypt", help="Encrypt the plan for this device (docs/signing.md)."),
    report: Optional[Path] = report_option(),
    is_json: bool = json_option(),
) -> None:
    """Build a plan from a recipe or an ONNX model, and publish it if it passes the gate.

    An unchanged recipe, model, data, backend and device is recognised, and its plan used again.
    """
    configure_logging()
    tables: Dict[str, Any] = {
        "model": given(name=name, max_batch=max_batch, split=split or None),
        "input": shape_tables(shape),
        "calibration": given(data=data_path(calibration), algorithm=algorithm, table=absolute(table)),
        "held_out": given(data=data_path(held_out)),
        "metric": given(name=metric),
        "precision": given(policy=precision),
        "gate": given(max_drop=max_drop, min_gain=min_gain, publish_failed=publish_failed),
        "backend": given(name=backend),
    }
    fleet, beyond = fleet_options(engines, calib_cache, keep, sign, encrypt, report), (verify_data, explain, again)
    if is_all:
        _check_alone(source, [*tables.values(), *beyond])
        show_build_all(fleet, Output(is_json))
    else:
        _build_one(source, tables, fleet, beyond, keep is not None, Output(is_json))


def _build_one(
    source: Optional[Path],
    tables: Mapping[str, Mapping[str, Any]],
    fleet: FleetOptions,
    beyond: Tuple[bool, bool, bool],
    prunes: bool,
    output: Output,
) -> None:
    from edge_runtime.builder.job import BuildOptions
    from edge_runtime.plan.store import PlanStore
    from edge_runtime.provisioning.device_key import found_key
    from edge_runtime.provisioning.verdict import reporting

    if source is None:
        raise UsageError("build what? give a recipe or an ONNX model, or --all for every recipe of the store")
    recipe = recipe_from(source, tables)
    verify_data, explain, again = beyond
    keys = seal_of(fleet.encrypt), signer_of(fleet.sign)
    options = BuildOptions(fleet.engines, fleet.calib_cache, verify_data, explain, again, *keys)
    with reporting(fleet.report, recipe, options.trust, found_key(fleet.sign)) as heard:
        built = heard(_built(recipe, options, output))
    removed = PlanStore(fleet.engines).prune(recipe.name, fleet.keep) if prunes else []
    _print(built, explain, output, removed)


def _check_alone(source: Optional[Path], flags: Sequence[object]) -> None:
    """Raises UsageError if something is said of one model where all are built."""
    if source is not None or any(flags):
        raise UsageError("--all builds what the recipes of the store say: leave the source and flags of a recipe out")


def _built(recipe: Recipe, options: BuildOptions, output: Output) -> BuiltPlan:
    """The plan; if the gate refuses all, the candidates are shown all the same."""
    from edge_runtime.builder.builder import build

    try:
        with output.progress() as progress:
            return build(recipe, options, progress)
    except GateError as error:
        if not output.is_json:
            show_candidates(f"{recipe.name}: refused", error.candidates, output)
            show_sensitivity(error.candidates, error.sensitivity if options.explain else (), output)
        raise


def _print(built: BuiltPlan, explain: bool, output: Output, removed: Sequence[int]) -> None:
    manifest = built.manifest
    if output.is_json:
        document = manifest.model_dump(mode="json", by_alias=True)
        layers = [record.model_dump(mode="json") for record in built.sensitivity]
        head = {"plan": str(built.folder), "reused": built.is_reused, "removed": list(removed)}
        output.document({**head, "manifest": document, "sensitivity": layers})
        return
    title = f"{manifest.name} on {manifest.backend.name} {manifest.backend.version}"
    show_candidates(title, manifest.candidates, output)
    show_sensitivity(manifest.candidates, built.sensitivity if explain else (), output)
    for note in manifest.notes if built.is_reused and not explain else ():
        output.say(note)
    done = "unchanged, re-used" if built.is_reused else "published"
    output.say(f"{done}: {built.folder} ({manifest.precision}, {manifest.total_nbytes:,} bytes)")
    if manifest.reason:
        output.say(f"chosen {manifest.reason}")
    if removed:
        output.say(f"removed old versions: {', '.join(map(str, removed))}")
