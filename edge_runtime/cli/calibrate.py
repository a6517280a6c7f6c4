"""`edge-runtime calibrate`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import typer

from edge_runtime.builder.recipe import CALIBRATIONS, CalibrationTable, DataTable, ModelTable
from edge_runtime.calibration.table import DEFAULT_TENSORRT_VERSION
from edge_runtime.cli.flags import flag, given, json_option, one_of, shape_tables
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file
from edge_runtime.cli.source import data_path, recipe_from
from edge_runtime.errors import CalibrationError, UsageError

if TYPE_CHECKING:
    from edge_runtime.builder.calibrate import Calibration


def _checked_version(value: str) -> str:
    from edge_runtime.calibration.table import CalibrationTable as Table

    try:
        Table({}).to_cache_text(value)
    except CalibrationError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def command(
    source: Path = typer.Argument(..., metavar="RECIPE.toml|MODEL.onnx", help="A recipe, or an ONNX model."),
    name: Optional[str] = flag(ModelTable, "name", "--name"),
    max_batch: Optional[int] = flag(ModelTable, "max_batch", "--max-batch", minimum=1),
    shape: List[str] = typer.Option(
        [], "--shape", metavar="NAME=MIN,OPT,MAX", help="Shapes of an input, such as x=1x48,8x48,16x48."
    ),
    calibration: Optional[Path] = flag(CalibrationTable, "data", "--calibration", metavar="C.npz"),
    held_out: Optional[Path] = flag(DataTable, "data", "--held-out", metavar="H.npz"),
    algorithm: Optional[str] = flag(
        CalibrationTable, "algorithm", "--algorithm", metavar="|".join(CALIBRATIONS), callback=one_of(CALIBRATIONS)
    ),
    all_activations: bool = typer.Option(
        False, "--all-activations", help="Calibrate every float tensor: a cache that TensorRT finds complete."
    ),
    tensorrt_version: str = typer.Option(
        DEFAULT_TENSORRT_VERSION,
        "--tensorrt-version",
        metavar="VERSION",
        help="TensorRT that the table is for.",
        callback=_checked_version,
    ),
    calib_cache: Path = typer.Option(Path("calib_cache"), "--calib-cache", help="Folder of the calibration tables."),
    output: Optional[Path] = typer.Option(
        None, "--output", metavar="FILE.cache", help="Also write the table of --algorithm to this file."
    ),
    is_json: bool = json_option(),
) -> None:
    """Make only the calibration tables of a recipe or an ONNX model: TensorRT's cache text, one an algorithm.

    The samples are those that a build calibrates on. `auto` prints the table of entropy. What was counted before on an
    unchanged model and data is used again.
    """
    from edge_runtime.builder.calibrate import calibrate

    configure_logging()
    tables: Dict[str, Any] = {
        "model": given(name=name, max_batch=max_batch),
        "input": shape_tables(shape),
        "calibration": given(data=data_path(calibration), algorithm=algorithm),
        "held_out": given(data=data_path(held_out)),
    }
    check_output(output)
    recipe = recipe_from(source, tables)
    settings = recipe.tables.calibration
    printed = "entropy" if settings.algorithm == "auto" else settings.algorithm
    out = Output(is_json)
    start = time.monotonic()
    with out.progress() as progress:
        made = calibrate(recipe, calib_cache, progress, all_activations)
        table = made.tables(settings, tensorrt_version)[printed]
    path = made.folder / f"{printed}.cache"
    if output is not None:
        path = output
        table.write(path, tensorrt_version)
    about = {"algorithm": printed, "tensors": len(table.scales), "seconds": round(time.monotonic() - start, 3)}
    _print(made, path, about, out)


def check_output(path: Optional[Path]) -> None:
    """Refuse to replace what isn't a calibration cache.

    Raises:
        UsageError: the name doesn't end in .cache, something else has it, or no file can have it.
    """
    if path is None:
        return
    if path.suffix != ".cache":
        raise UsageError(f"--output {path}: expected a name that ends in .cache")
    check_output_file(path, "--output")


def _print(made: Calibration, path: Path, about: Dict[str, Any], output: Output) -> None:
    document = {
        "table": str(path),
        "nbytes": path.stat().st_size,
        **about,
        "samples": made.stored.samples,
        "folder": str(made.folder),
        "reused": made.is_reused,
    }
    if output.is_json:
        output.document(document)
        return
    output.table("calibration", ("", ""), [(label, str(value)) for label, value in document.items()])
