"""How tensors of a model's sizes reach the GPU fastest: measured on this board, and kept for `auto`."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

from edge_runtime import tensorrt_api
from edge_runtime.builder.backend import local_backend
from edge_runtime.builder.float_model import float_model
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.builder.tensorrt.probe import built_probe
from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda
from edge_runtime.device.cuda.streams import Stream
from edge_runtime.device.identity import identify
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_files
from edge_runtime.engine.tensorrt.memory_kind import FILE, MeasuredMemory, device_key, write_measured
from edge_runtime.errors import BackendUnavailableError, PlanError
from edge_runtime.evaluation.latency import LatencyRatio, TimingOptions, interleaved
from edge_runtime.plan.files import temporary_folder
from edge_runtime.tensors import element_count, filled

SCHEMA = 1

_SIZES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
_FLOAT_NBYTES = 4


@dataclass(frozen=True)
class SizeResult:
    """One size of a tensor: milliseconds of a run with it copied, and the others' latency over that.

    A run writes the input, lets a kernel read it and write an output of that size, and reads that. `pageable` is to the
    device and back from ordinary memory, which goes through pinned memory, over the same from pinned memory, without a
    kernel. `mapped` is None where the device can't map.
    """

    nbytes: int
    tensors: Tuple[str, ...]
    copy_ms: float
    mapped: LatencyRatio | None
    pageable: LatencyRatio

    @property
    def is_better_mapped(self) -> bool:
        """Whether mapped is surely not slower."""
        return self.mapped is not None and self.mapped.high <= 1


@dataclass(frozen=True)
class MemoryReport:
    """What was measured on a device, and where `auto` finds it."""

    device: str
    results: Tuple[SizeResult, ...]
    path: Path

    @property
    def largest_mapped_nbytes(self) -> int:
        """The largest size up to which every size was better mapped; 0 for none."""
        largest = 0
        for result in self.results:
            if not result.is_better_mapped:
                break
            largest = result.nbytes
        return largest

    @property
    def title(self) -> str:
        """For a table."""
        return f"memory on {self.device}: one run's latency over that with copies (95 %)"

    @property
    def header(self) -> Tuple[str, ...]:
        """Of the table."""
        return "bytes", "tensors", "pinned and copied, ms", "mapped", "pageable over pinned, copies alone", "best"

    def rows(self) -> List[Tuple[str, ...]]:
        """Of the table."""
        return [
            (
                f"{result.nbytes:,}",
                ", ".join(result.tensors),
                f"{result.copy_ms:.4f}",
                _ratio_text(result.mapped),
                _ratio_text(result.pageable),
                "mapped" if result.nbytes <= self.largest_mapped_nbytes else "copy",
            )
            for result in self.results
        ]

    @property
    def advice(self) -> str:
        """What follows, in words."""
        largest = self.largest_mapped_nbytes
        what = f"map tensors up to {largest:,} bytes and copy larger ones" if largest else "copy all tensors"
        return f"{what}: kept in {self.path}, which engines of this folder go by"

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {
            "schema": SCHEMA,
            "device": self.device,
            "sizes": [asdict(result) for result in self.results],
            "largest_mapped_nbytes": self.largest_mapped_nbytes,
            "file": str(self.path),
        }


def _ratio_text(ratio: LatencyRatio | None) -> str:
    return "can't" if ratio is None else f"{ratio.ratio:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def measure_memory(recipe: Recipe, engines: Path, progress: Progress, budget_s: float = 3.0) -> MemoryReport:
    """Measures mapped, pinned and pageable memory for the sizes of a recipe's tensors, and keeps the result.

    Each size takes about `budget_s` seconds.

    Raises:
        BackendUnavailableError: there is no GPU here, or no TensorRT.
        PlanError: the result couldn't be kept, so nothing was measured.
        EdgeRuntimeError: the model or the backend failed.
    """
    table, machine = recipe.tables.backend, identify()
    backend = local_backend(table, machine)
    if not backend.is_tensorrt or not machine.has_gpu:
        raise BackendUnavailableError(
            "memory: not measured, for there is no NVIDIA GPU here; run it on the board: edge-runtime doctor --memory"
        )
    _check_store(engines)
    cuda = open_cuda(table.gpu)
    cuda.use_device(table.gpu)
    device = cuda.attributes(table.gpu)
    named = _sizes_of(recipe)
    library = tensorrt_api.load(backend.name)
    with temporary_folder("memory") as folder:
        progress.stage("building the probe")
        plan, signature = built_probe(library, folder, max(named) // _FLOAT_NBYTES, table.gpu)
        info = EngineInfo("probe", 1, library.text, backend.platform, "fp32", f"gpu:{table.gpu}")
        with contextlib.ExitStack() as stack:
            engines_by_kind = {
                kind: stack.enter_context(engine_from_files(plan, info, signature, EngineOptions(memory=kind)))
                for kind in (("copy", "mapped") if device.can_map_host else ("copy",))
            }
            progress.stage("measuring", len(named))
            results = []
            for nbytes in sorted(named):
                results.append(_measured(nbytes, named[nbytes], engines_by_kind, cuda, budget_s))
                progress.advance()
    report = MemoryReport(device.name, tuple(results), engines / FILE)
    source = f"doctor --memory, {date.today().isoformat()}"
    write_measured(report.path, device_key(device), MeasuredMemory(report.largest_mapped_nbytes, source))
    return report


def _check_store(engines: Path) -> None:
    kept = engines / FILE
    try:
        engines.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(kept) and not stat.S_ISREG(os.lstat(kept).st_mode):
            raise PlanError(f"{kept}: isn't a regular file, so nothing was measured; remove it")
        with tempfile.TemporaryFile(dir=engines):
            pass
    except OSError as error:
        raise PlanError(f"{engines}: can't be written ({error.strerror}), so nothing was measured") from error


def _sizes_of(recipe: Recipe) -> Dict[int, Tuple[str, ...]]:
    """The bytes of the model's inputs and outputs at their largest shapes with their names, and sizes between."""
    model = float_model(recipe, EngineInfo(recipe.name, 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")).runnable
    shapes = {spec.name: model.profile[spec.name].maximum for spec in model.graph.inputs}
    with model.opened(model.graph, "fp32") as engine:
        zeros = {spec.name: filled(shapes[spec.name], spec.dtype, 0) for spec in model.graph.inputs}
        outputs = engine.infer(zeros)
    sizes = {spec.name: element_count(shapes[spec.name]) * spec.dtype.itemsize for spec in model.graph.inputs}
    sizes.update((name, value.nbytes) for name, value in outputs.items())
    found: Dict[int, List[str]] = {}
    for name, nbytes in sizes.items():
        found.setdefault(-(-max(nbytes, _FLOAT_NBYTES) // _FLOAT_NBYTES) * _FLOAT_NBYTES, []).append(name)
    largest = max(found)
    return {**{size: () for size in _SIZES if size < largest}, **{size: tuple(names) for size, names in found.items()}}


def _measured(
    nbytes: int, names: Tuple[str, ...], engines: Dict[str, Engine], cuda: Cuda, budget_s: float
) -> SizeResult:
    calls = [_run(engine, nbytes) for engine in engines.values()]
    runs = interleaved(*calls, options=TimingOptions(budget_s=budget_s * 2 / 3))
    with _copies(nbytes, cuda) as (pinned, pageable):
        copies = interleaved(pinned, pageable, options=TimingOptions(budget_s=budget_s / 3))
    mapped = runs.ratios[1] if len(calls) > 1 else None
    return SizeResult(nbytes, names, runs.summaries[0].p50_ms, mapped, copies.ratios[1])


def _run(engine: Engine, nbytes: int) -> Callable[[], object]:
    """A run as a server does it: bytes arrive in ordinary memory, and leave from there."""
    count = nbytes // _FLOAT_NBYTES
    source, sink = np.ones(count, np.float32), np.empty(count, np.float32)

    def run() -> None:
        with engine.slot() as slot:
            np.copyto(slot.bind("x", (count,)), source)
            np.copyto(sink, slot.run()["y"])

    return run


@contextlib.contextmanager
def _copies(nbytes: int, cuda: Cuda) -> Iterator[Tuple[Callable[[], object], Callable[[], object]]]:
    """To the device and back: what lies in pinned memory, and what has to go through it."""
    with DeviceBuffer(cuda, nbytes) as there, Stream(cuda) as stream, HostBuffer(cuda, nbytes) as buffer:
        ordinary, pinned = np.zeros(nbytes, np.uint8), buffer.array(np.uint8, (nbytes,))

        def pinned_copies() -> None:
            stream.copy(there.address, buffer.address, nbytes, CopyKind.HOST_TO_DEVICE)
            stream.copy(buffer.address, there.address, nbytes, CopyKind.DEVICE_TO_HOST)
            stream.synchronize()

        def pageable_copies() -> None:
            np.copyto(pinned, ordinary)
            pinned_copies()
            np.copyto(ordinary, pinned)

        yield pinned_copies, pageable_copies
