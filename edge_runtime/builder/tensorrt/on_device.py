"""INT8 scales by TensorRT's own calibrator, on the GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_runtime.builder.data import fitting_batches
from edge_runtime.builder.tensorrt.form import Wish, form_of
from edge_runtime.builder.tensorrt.graphs import NetworkInputs
from edge_runtime.builder.tensorrt.orders import Orders
from edge_runtime.builder.tensorrt.spool import write_batches
from edge_runtime.builder.tensorrt.workshop import writing
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.calibration.table import CalibrationTable


def calibrated_on_device(orders: Orders, folder: Path, source: SampleSource) -> CalibrationTable:
    """The scales that TensorRT finds on calibration samples; `folder` is for what is needed on the way.

    Raises:
        CalibrationError: there are no samples, or TensorRT didn't take all of them.
        EdgeRuntimeError: the network can't be built.
    """
    job, single = orders.job, orders.model.single
    names = [spec.name for spec in single.graph.inputs]
    size = job.recipe.tables.calibration.batch_size
    batches = folder / "batches"
    with writing(folder):
        written, skipped = write_batches(batches, names, fitting_batches(source, single.signature, size, "calibration"))
    if skipped:
        total = written + skipped
        job.progress.note(
            f"calibration: {skipped} of {total} batches have another shape than the first, and are left out"
        )
    given = NetworkInputs(single.graph)
    form = form_of(Wish("int8", int8="implicit"), orders.library.capabilities)
    request = orders.request(given, form, folder / "calibrated.plan")
    quick = replace(request, calibration_folder=str(batches), optimization_level=0)  # for its scales alone
    built, _ = orders.carry_out(given, quick, "calibrating")
    return CalibrationTable.from_cache_text(built.calibration_cache, "TensorRT's calibration")
