"""`edge-runtime build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import typer

from edge_runtime.builder.recipe import (
    BACKENDS,
    METRICS,
    PRECISIONS,
    BackendTable,
    CalibrationTable,
    DataTable,
    GateTable,
    MetricTable,
    ModelTable,
    PrecisionTable,
    Recipe,
    load_recipe,
    make_recipe,
)
from edge_runtime.cli.flags import engines_option, flag, given, json_option, one_of, shape_tables
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.builder.builder import BuiltPlan
    from edge_runtime.plan.manifest import CandidateRecord

_METRIC_NAMES = "|".join(METRICS)


def command(
    source: Path = typer.Argument(..., metavar="RECIPE.toml|MODEL.onnx", help="A recipe, or an ONNX model."),
    name: Optional[str] = flag(ModelTable, "name", "--name"),
    precision: Optional[str] = flag(
        PrecisionTable, "policy", "--precision", metavar="|".join(PRECISIONS), callback=one_of(PRECISIONS)
    ),
    max_batch: Optional[int] = flag(ModelTable, "max_batch", "--max-batch", minimum=1),
    shape: List[str] = typer.Option(
        [],
        "--shape",
        metavar="NAME=MIN,OPT,MAX",
        help="Shapes of an input, such as x=1x3x48x192,8x3x48x192,16x3x48x192.",
    ),
    calibration: Optional[Path] = flag(CalibrationTable, "data", "--calibration", metavar="C.npz"),
    held_out: Optional[Path] = flag(DataTable, "data", "--held-out", metavar="H.npz"),
    metric: Optional[str] = flag(
        MetricTable, "name", "--metric", metavar=_METRIC_NAMES, callback=one_of(METRICS, or_function=True)
    ),
    max_drop: Optional[float] = flag(GateTable, "max_drop", "--max-drop", minimum=0),
    publish_failed: Optional[bool] = flag(GateTable, "publish_failed", "--publish-failed"),
    backend: Optional[str] = flag(
        BackendTable, "name", "--backend", metavar="|".join(BACKENDS), callback=one_of(BACKENDS)
    ),
    engines: Path = engines_option(),
    calib_cache: Path = typer.Option(Path("calib_cache"), "--calib-cache", help="Folder of the calibration tables."),
    verify_data: bool = typer.Option(
        False, "--verify-data", help="Run the data functions and compare what they yield before re-using a plan."
    ),
    is_json: bool = json_option(),
) -> None:
    """Build a plan from a recipe or an ONNX model, and publish it if it passes the gate.

    An unchanged recipe, model, data, backend and device is recognised, and its plan used again.
    """
    from edge_runtime.builder.builder import BuildOptions, build

    configure_logging()
    tables: Dict[str, Any] = {
        "model": given(name=name, max_batch=max_batch),
        "input": shape_tables(shape),
        "calibration": given(data=_resolved(calibration)),
        "held_out": given(data=_resolved(held_out)),
        "metric": given(name=metric),
        "precision": given(policy=precision),
        "gate": given(max_drop=max_drop, publish_failed=publish_failed),
        "backend": given(name=backend),
    }
    recipe = _recipe(source, {table: values for table, values in tables.items() if values})
    output = Output(is_json)
    options = BuildOptions(engines, calib_cache, verify_data)
    with output.progress() as progress:
        built = build(recipe, options, progress)
    _print(built, output)


def _recipe(source: Path, flags: Dict[str, Any]) -> Recipe:
    if source.suffix.lower() == ".toml":
        return load_recipe(source, flags)
    if source.suffix.lower() != ".onnx":
        raise UsageError(f"{source}: expected a recipe (.toml) or an ONNX model (.onnx)")
    return make_recipe({"model": {"path": source.name}}, source.stem, source.parent.resolve(), flags)


def _resolved(path: Optional[Path]) -> Optional[str]:
    """A path that still holds when it is read from another folder; module:function is left as it is."""
    if path is None or path.suffix != ".npz":
        return None if path is None else str(path)
    return str(path.resolve())


def _print(built: BuiltPlan, output: Output) -> None:
    manifest = built.manifest
    if output.is_json:
        document = manifest.model_dump(mode="json", by_alias=True)
        output.document({"plan": str(built.folder), "reused": built.is_reused, "manifest": document})
        return
    rows = [_row(candidate) for candidate in manifest.candidates]
    header = ("precision", "verdict", "metric", "cosine", "latency ratio", "bytes")
    output.table(f"{manifest.name} on {manifest.backend.name} {manifest.backend.version}", header, rows)
    for candidate in manifest.candidates:
        output.say(f"{candidate.precision} {candidate.verdict}: {candidate.reason}")
    done = "unchanged, re-used" if built.is_reused else "published"
    output.say(f"{done}: {built.folder} ({manifest.precision}, {manifest.plan.nbytes:,} bytes)")


def _row(candidate: CandidateRecord) -> List[str]:
    metric, agreement, latency = candidate.metric, candidate.agreement, candidate.latency
    return [
        candidate.precision,
        candidate.verdict,
        f"{metric.name} {_number(metric.value)}" if metric else "not measured",
        _number(agreement.cosine) if agreement else "not measured",
        f"{latency.ratio:.2f} ({latency.low:.2f}-{latency.high:.2f})" if latency else "not measured",
        f"{candidate.nbytes:,}" if candidate.nbytes is not None else "",
    ]


def _number(value: Optional[float]) -> str:
    return "not finite" if value is None else f"{value:.4f}"
