"""`edge-runtime pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

import typer

from edge_runtime.builder.recipe import CALIBRATIONS, METRICS, CalibrationTable, GateTable, MetricTable
from edge_runtime.cli.flags import flag, given, json_option, one_of
from edge_runtime.cli.keys import CREDENTIAL, key_option
from edge_runtime.cli.output import Output, configure_logging
from edge_runtime.cli.output_file import check_output_file
from edge_runtime.cli.source import recipe_from
from edge_runtime.cli.tables import show_candidates
from edge_runtime.errors import GateError

if TYPE_CHECKING:
    from edge_runtime.builder.recipe import Recipe
    from edge_runtime.provisioning.packing import MadePack, PackOptions


def command(
    source: Path = typer.Argument(..., metavar="RECIPE.toml|MODEL.onnx", help="A recipe, or an ONNX model."),
    out: Path = typer.Option(..., "--out", metavar="NAME.pack", help="The file to write; a pack there is replaced."),
    key: Optional[Path] = key_option("--key", "Sign the pack with this private key of a vendor"),
    release: Optional[int] = typer.Option(
        None,
        "--release",
        min=1,
        max=10**9 - 1,
        metavar="N",
        help="Number of the pack, which only rises (default: one more than that of the pack that is replaced, or 1).",
    ),
    held_out: bool = typer.Option(
        True, "--held-out/--no-held-out", help="Take the held-out samples along, by which the device judges its plans."
    ),
    algorithm: Optional[str] = flag(
        CalibrationTable, "algorithm", "--algorithm", metavar="|".join(CALIBRATIONS), callback=one_of(CALIBRATIONS)
    ),
    metric: Optional[str] = flag(
        MetricTable, "name", "--metric", metavar="|".join(METRICS), callback=one_of(METRICS, or_function=True)
    ),
    publish_failed: Optional[bool] = flag(GateTable, "publish_failed", "--publish-failed"),
    calib_cache: Path = typer.Option(Path("calib_cache"), "--calib-cache", help="Folder of the calibration tables."),
    is_json: bool = json_option(),
) -> None:
    """Try a recipe out on this machine, and put all that a device needs to build its plan into one file.

    The file holds the ONNX, the calibration tables, the recipe, the held-out samples and what came of it here, each
    under its digest and all under one signature. Nothing of it is code.
    """
    from edge_runtime.plan.keys import find_private_key
    from edge_runtime.provisioning.packing import PackOptions

    configure_logging()
    tables: Dict[str, Any] = {
        "calibration": given(algorithm=algorithm),
        "metric": given(name=metric),
        "gate": given(publish_failed=publish_failed),
    }
    check_output_file(out, "--out")
    recipe = recipe_from(source, tables)
    private = None if key is None else find_private_key(CREDENTIAL, key)
    output = Output(is_json)
    _print(_packed(recipe, out, PackOptions(calib_cache, private, release, held_out), output), output)


def _packed(recipe: Recipe, out: Path, options: PackOptions, output: Output) -> MadePack:
    """The pack; if the gate refuses all, the candidates are shown all the same."""
    from edge_runtime.provisioning.packing import pack

    try:
        with output.progress() as progress:
            return pack(recipe, out, options, progress)
    except GateError as error:
        if not output.is_json:
            show_candidates(f"{recipe.name}: refused", error.candidates, output)
        raise


def _print(made: MadePack, output: Output) -> None:
    statement = made.statement
    if output.is_json:
        output.document(
            {
                "pack": str(made.path),
                "sha256": made.sha256,
                "nbytes": made.nbytes,
                "model": statement.model,
                "release": statement.release,
                "signed": made.is_signed,
                "members": {one.name: {"sha256": one.sha256, "nbytes": one.nbytes} for one in statement.members},
                "record": made.record.model_dump(mode="json", by_alias=True),
            }
        )
        return
    show_candidates(f"{statement.model} on this machine", made.record.candidates, output)
    rows = [[one.name, f"{one.nbytes:,}", f"{one.sha256[:12]}…"] for one in statement.members]
    output.table(f"{made.path}: {statement.model} release {statement.release}", ("member", "bytes", "sha256"), rows)
    output.say(f"packed: {made.path} ({made.nbytes:,} bytes, sha256 {made.sha256})")
    if not made.is_signed:
        output.say(
            "NOT SIGNED: devices that require signatures refuse it, and others can't tell who made it (--key FILE)"
        )
