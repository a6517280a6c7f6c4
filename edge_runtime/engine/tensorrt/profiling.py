"""What TensorRT says of the layers of a plan, and how long each took: the raw material of a layer profile."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any, List, Tuple

import numpy as np

from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.tensorrt.options import OFF, TensorRTOptions
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
from edge_runtime.errors import BackendError
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensorrt_api import Capability, TensorRT, failure_text, load, translated
from edge_runtime.tensors import Feeds, Signature

Row = Tuple[str, float]


@dataclass(frozen=True)
class RawProfile:
    """The inspector's JSON; the rows (layer, milliseconds) of each timed run in order; how long each run took."""

    inspector: str
    runs: Tuple[Tuple[Row, ...], ...]
    whole_us: Tuple[float, ...]


class LayerTimes:
    """What TensorRT's profiler reported since it was last taken. What goes wrong is kept: TensorRT can't pass it on."""

    def __init__(self) -> None:
        self._rows: List[Row] = []
        self._error: BaseException | None = None

    def add(self, name: Any, milliseconds: Any) -> None:
        """One layer of one run; never raises."""
        try:
            self._rows.append((str(name), float(milliseconds)))
        except BaseException as error:  # noqa: BLE001  (raised by `take`: in 8.2 it would end the process)
            self._error = error

    def take(self) -> Tuple[Row, ...]:
        """The rows, which are forgotten then; raises what went wrong in the callback."""
        rows, self._rows = tuple(self._rows), []
        if self._error is not None:
            raise self._error
        return rows


def make_profiler(library: TensorRT, times: LayerTimes) -> Any:
    """An `IProfiler` that fills `times`; it must outlive the execution context that it is given to."""
    base: Any = library.module.IProfiler

    class Bridge(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times.add(layer_name, ms)

    return Bridge()


def profiled_layers(
    plan: PlanFiles,
    signature: Signature,
    feeds: Feeds,
    options: ProfileOptions,
    settings: TensorRTOptions,
    what: str,
) -> RawProfile:
    """Times every layer of a plan that is loaded for it, without CUDA graphs, for these are launched as a whole.

    `feeds` fit the signature.

    Raises:
        BackendUnavailableError: this machine has no GPU, or this TensorRT no profiler or no inspector.
        BackendError: the plan can't be loaded, a run failed, or TensorRT doesn't report.
    """
    cuda = open_cuda(settings.device)
    library = load(settings.library)
    library.require(Capability.PROFILER, what)
    shared = PlanEngine(plan.model, signature, library, cuda, replace(settings, graphs=OFF), what)
    times = LayerTimes()
    profiler = make_profiler(library, times)
    with contextlib.closing(TensorRTSlot(shared, lambda: plan.model)) as slot:
        slot.context.profiler = profiler
        slot.context.enqueue_emits_profile = False  # else each run would wait for its report
        for name, value in feeds.items():
            np.copyto(slot.bind(name, value.shape), value)
        runs = [_timed(slot, times, shared) for _ in range(options.warm_up + options.runs)][options.warm_up :]
        inspector = inspector_text(shared, slot.context)
        return RawProfile(inspector, tuple(rows for rows, _ in runs), tuple(whole_us for _, whole_us in runs))


def _timed(slot: TensorRTSlot, times: LayerTimes, shared: PlanEngine) -> Tuple[Tuple[Row, ...], float]:
    """The rows of one run, and the microseconds that it took."""
    start = time.perf_counter()
    slot.run()
    whole_us = (time.perf_counter() - start) * 1e6
    with shared.log:
        if not slot.context.report_to_profiler():
            raise BackendError(failure_text(f"{shared.what}: TensorRT reports no layers", shared.log))
    return times.take(), whole_us


def inspector_text(shared: PlanEngine, context: Any) -> str:
    """What the engine's inspector says of all layers as JSON, at the shapes of a context.

    Raises:
        BackendUnavailableError: this TensorRT has no inspector.
    """
    library = shared.library
    library.require(Capability.INSPECTOR, shared.what)
    with translated(f"{shared.what}: the engine can't be inspected", shared.log):
        inspector = shared.first.create_engine_inspector()
        inspector.execution_context = context
        return str(inspector.get_engine_information(library.module.LayerInformationFormat.JSON))
