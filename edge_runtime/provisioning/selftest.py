"""Whether this code works on this machine: a small net built, run in every way, and compared with ONNX Runtime."""

from __future__ import annotations

import contextlib
import mmap
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime import __version__, tensorrt_api
from edge_runtime.builder.backend import int8_problem, local_backend
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import BackendTable, make_recipe
from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.errors import BackendError, EdgeRuntimeError
from edge_runtime.evaluation.distance import Agreement
from edge_runtime.graph.specimen import SIDE, specimen
from edge_runtime.plan.board import ONNXRUNTIME
from edge_runtime.plan.files import temporary_folder
from edge_runtime.provisioning.cuda_check import cuda_checks

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
SCHEMA = 1

# Least cosine to float that a precision must keep on the small net; TF32 is float to TensorRT.
_LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}
_BATCHES = (1, 3, 8)
_MOST_BATCH = max(_BATCHES)

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Step:
    """One thing that was tried: `state` is `ok`, `failed` or `skipped`, `text` says what came of it."""

    name: str
    state: str
    text: str
    seconds: float


@dataclass
class SelfTest:
    """All steps so far, and the machine that they were run on."""

    device: DeviceInfo
    versions: Dict[str, str | None]
    steps: List[Step] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing failed."""
        return all(step.state != FAILED for step in self.steps)

    def record(self) -> Dict[str, Any]:
        """As JSON holds it, to be attached to an issue. Error texts may name files of this machine."""
        return {
            "schema": SCHEMA,
            "sound": self.is_sound,
            "device": self.device.record(),
            "versions": self.versions,
            "steps": [asdict(step) for step in self.steps],
        }


def selftest(table: BackendTable, progress: Progress) -> SelfTest:
    """Tries CUDA, then builds and runs a small net in every precision and mode of the backend that `table` means.

    What fails is a step of the result; nothing is raised for it.

    Raises:
        BackendError: there is no temporary folder to work in.
    """
    device = identify()
    test = SelfTest(device, _versions())
    backend = None
    with _step(test, progress, "backend") as say:
        backend = local_backend(table, device)
        say(f"{backend.name} {backend.version} on {backend.device}")
    if backend is None:
        return test
    runs_here = device.has_gpu or not backend.is_tensorrt
    modes: Tuple[Tuple[str, str], ...] = (("auto", "auto"),)
    if backend.is_tensorrt and runs_here:
        modes = _try_cuda(test, progress, table.gpu)
    with temporary_folder("selftest") as folder:
        workshop = _Workshop(folder, table, progress, runs_here)
        expected: List[Outputs] = []
        with _step(test, progress, "reference") as say:
            workshop.prepare()
            expected += _reference(workshop)
            say("float on ONNX Runtime")
        for precision in _LEAST_COSINE if expected else ():
            problem = int8_problem(backend.name, device) if precision == "int8" else ""
            if problem:
                test.steps.append(Step(f"build {precision}", SKIPPED, problem, 0.0))
            else:
                _try_precision(test, workshop, precision, expected, modes)
    return test


def _versions() -> Dict[str, str | None]:
    libraries = {name: tensorrt_api.installed(name) for name in tensorrt_api.LIBRARIES}
    return {"edge_runtime": __version__, "numpy": np.__version__, **libraries}


class _Attempt:
    """A step under way."""

    def __init__(self, test: SelfTest, progress: Progress, name: str) -> None:
        self._test = test
        self._name = name
        self._text = ""
        self._start_s = time.monotonic()
        progress.stage(name)

    def __enter__(self) -> Callable[[str], None]:
        return self._say

    def _say(self, text: str) -> None:
        self._text = text

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> bool:
        is_ours = isinstance(error, EdgeRuntimeError)
        if error is None or is_ours:
            state = FAILED if is_ours else OK
            took_s = round(time.monotonic() - self._start_s, 3)
            self._test.steps.append(Step(self._name, state, str(error) if is_ours else self._text, took_s))
        return is_ours


def _step(test: SelfTest, progress: Progress, name: str) -> _Attempt:
    return _Attempt(test, progress, name)


def _try_cuda(test: SelfTest, progress: Progress, ordinal: int) -> Tuple[Tuple[str, str], ...]:
    """Tries CUDA; the kinds of memory and of graphs in which it can run, none if it can't."""
    cuda = None
    with _step(test, progress, "CUDA") as say:
        cuda = open_cuda(ordinal)
        cuda.use_device(ordinal)
        device = cuda.attributes(ordinal)
        test.versions["cuda"] = cuda.name
        major, minor = device.compute_capability
        say(f"{device.name}, compute capability {major}.{minor}, by {cuda.name}")
    if cuda is None:
        return ()
    for name, check in cuda_checks(device, cuda.has_graphs):
        if isinstance(check, str):
            test.steps.append(Step(name, SKIPPED, check, 0.0))
            continue
        with _step(test, progress, name) as say:
            say(check(cuda))
    kinds = ("copy", "mapped") if device.can_map_host else ("copy",)
    return tuple((memory, graphs) for memory in kinds for graphs in (("auto", "off") if cuda.has_graphs else ("off",)))


@dataclass(frozen=True)
class _Workshop:
    folder: Path
    table: BackendTable
    progress: Progress
    runs_here: bool

    def build(self, precision: str) -> BuiltPlan:
        """The plan of the net in a precision."""
        shapes = [[rows, 3, SIDE, SIDE] for rows in (1, 1, _MOST_BATCH)]
        tables = {
            "model": {"path": "specimen.onnx"},
            "input": {"image": dict(zip(("min", "opt", "max"), shapes))},
            "calibration": {"data": "calibration.npz"},
            "held_out": {"data": "held-out.npz"},
            "precision": {"policy": precision},
            "gate": {
                "latency_budget_s": 0.5,
                "max_drop": 1 - _LEAST_COSINE[precision],
                "publish_failed": not self.runs_here,
            },
            "backend": self.table.model_dump(),
        }
        return self._built(f"specimen-{precision}", tables)

    def reference(self) -> BuiltPlan:
        """The plan of the net in float on ONNX Runtime."""
        tables = {
            "model": {"path": "specimen.onnx", "max_batch": _MOST_BATCH},
            "precision": {"policy": "fp32"},
            "backend": {"name": ONNXRUNTIME},
        }
        return self._built("reference", tables)

    def _built(self, name: str, tables: Dict[str, Any]) -> BuiltPlan:
        recipe = make_recipe(tables, name, self.folder, environ={})  # a recipe of its own, whatever is set
        return build(recipe, BuildOptions(self.folder / "engines", self.folder / "calib_cache"), self.progress)

    def prepare(self) -> None:
        """Writes the net and its data."""
        (self.folder / "specimen.onnx").write_bytes(specimen())
        images = self.images(256)
        np.savez(self.folder / "calibration.npz", image=images[:192])
        np.savez(self.folder / "held-out.npz", image=images[192:])

    def images(self, count: int) -> Array:
        """Smooth images, as a camera's are, from a seed."""
        noise = np.random.default_rng(21).normal(size=(count, 3, SIDE, SIDE))
        smooth = noise.cumsum(axis=2).cumsum(axis=3)
        largest: Array = np.abs(smooth).max(axis=(1, 2, 3), keepdims=True)
        return np.asarray(smooth / largest, np.float32)


def _try_precision(
    test: SelfTest, workshop: _Workshop, precision: str, expected: List[Outputs], modes: Sequence[Tuple[str, str]]
) -> None:
    plan = None
    with _step(test, workshop.progress, f"build {precision}") as say:
        plan = workshop.build(precision)
        say(f"{plan.manifest.plan.total_nbytes:,} bytes; {plan.manifest.reason}")
    if plan is None:
        return
    if not workshop.runs_here:
        test.steps.append(Step(f"run {precision}", SKIPPED, "this machine has no NVIDIA GPU: built, not run", 0.0))
        return
    for memory, graphs in modes:
        what = f"run {precision}" + (f", {memory} memory, graphs {graphs}" if len(modes) > 1 else "")
        with _step(test, workshop.progress, what) as say:
            say(_compared(plan, workshop, expected, EngineOptions(memory=memory, graphs=graphs)))
    with _step(test, workshop.progress, f"layers of {precision}") as say:
        profile = profile_layers(plan, {"image": workshop.images(1)}, ProfileOptions(runs=3, warm_up=1, threads=1))
        named = sum(bool(layer.nodes) for layer in profile.layers)
        say(f"{len(profile.layers)} layers timed, {named} of them with their ONNX nodes")


def _reference(workshop: _Workshop) -> Iterator[Outputs]:
    with load(workshop.reference()) as engine:
        for rows in _BATCHES:
            yield engine.infer({"image": workshop.images(rows)})


def _compared(plan: BuiltPlan, workshop: _Workshop, expected: List[Outputs], options: EngineOptions) -> str:
    """Runs each batch three times, so that a captured graph runs too, and holds all answers against float's."""
    agreement, in_place = Agreement(), 0
    with load(plan, options) as engine:
        for rows, reference in zip(_BATCHES, expected):
            images = workshop.images(rows)
            answers = [engine.infer({"image": images}) for _ in range(3)]
            shared = list(_in_shared_memory(engine, images, answers[0], 3))
            in_place += bool(shared)
            answers += shared
            for answer in answers:
                agreement.update(answer, reference)
            if any(not np.array_equal(answers[0][name], answer[name]) for answer in answers for name in answer):
                raise BackendError(f"batch {rows}: equal inputs gave different answers")
    cosine = agreement.result().cosine
    least = _LEAST_COSINE[plan.manifest.precision]
    if not cosine >= least:
        raise BackendError(f"cosine to float on ONNX Runtime: expected {least} or more, got {cosine:.6f}")
    shared_memory = "used in place" if in_place else "can't be used in place"
    batches = ", ".join(map(str, _BATCHES))
    return f"batches of {batches}: cosine to float {cosine:.6f}; a client's memory {shared_memory}"


def _in_shared_memory(engine: Engine, images: Array, like: Outputs, runs: int) -> Iterator[Dict[str, Array]]:
    """Answers of runs over memory of somebody else and of others in turn; none where the engine copies that."""
    tensors = {"image": images, **like}
    places = [0]
    for array in tensors.values():
        places.append(places[-1] - -array.nbytes // mmap.PAGESIZE * mmap.PAGESIZE)
    shared = mmap.mmap(-1, places[-1])
    memory = {
        name: np.frombuffer(shared, array.dtype, array.size, place).reshape(array.shape)
        for (name, array), place in zip(tensors.items(), places)
    }
    np.copyto(memory["image"], images)
    slot = engine.slot_over(memory)
    if slot is None:
        return
    with contextlib.closing(slot):
        for _ in range(runs):
            yield {name: value.copy() for name, value in slot.run().items()}
            yield engine.infer({"image": images})  # from the slot's own memory, in between
