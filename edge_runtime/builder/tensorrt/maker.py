"""Candidates as TensorRT plans: each is built once, in a child process."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, Tuple

from edge_runtime import tensorrt_api
from edge_runtime.builder.candidates import Candidate, CandidateInputs
from edge_runtime.builder.data import fitting_batches
from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.job import Job, plugin_records
from edge_runtime.builder.maker import Made
from edge_runtime.builder.tensorrt.attempts import Attempts
from edge_runtime.builder.tensorrt.form import IMPLICIT, Form, Wish, form_of
from edge_runtime.builder.tensorrt.graphs import NetworkInputs, network_inputs
from edge_runtime.builder.tensorrt.request import BuildRequest, Built, with_types
from edge_runtime.builder.tensorrt.spool import write_batches
from edge_runtime.builder.tensorrt.workshop import FileChunks, work_folder
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_files
from edge_runtime.errors import BackendUnavailableError, EdgeRuntimeError
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.files import Content
from edge_runtime.plan.manifest import TargetRecord
from edge_runtime.plan.target import compute_capability_of
from edge_runtime.tensors import Signature

PLAN_FILE = "model.plan"

_Key = Tuple[str, FrozenSet[str]]


class TensorRTMaker:
    """Makes plans for this board. A context manager: plans lie in a folder of its own until they are published."""

    def __init__(self, job: Job, model: FloatModel) -> None:
        self._job = job
        self._model = model
        self._library = tensorrt_api.load(job.backend.name)
        self._table = job.recipe.tables.backend
        self._made: Dict[_Key, Made] = {}
        self._capability = compute_capability_of(job.device, self._table.gpu)
        self._plugins = plugin_records(job.recipe)
        self._exit = contextlib.ExitStack()
        self._folder = Path()

    def __enter__(self) -> TensorRTMaker:
        self._folder = self._exit.enter_context(work_folder(self._job.options.engines))
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def inputs(self, given: CandidateInputs) -> CandidateInputs:
        """What candidates are made with, when the best of them are built here."""
        can_calibrate = self._library.has(tensorrt_api.Capability.CALIBRATOR)
        return replace(
            given,
            is_final=False,
            scales_all=not given.int8_problem and self._needs_all_scales(),
            on_device=self._calibrated if can_calibrate else None,
        )

    def _needs_all_scales(self) -> bool:
        """Whether INT8 comes from a cache, where a tensor without a scale stays float."""
        try:
            return self._form("int8").name == IMPLICIT
        except EdgeRuntimeError:  # which building an INT8 candidate says
            return False

    def _form(self, precision: str) -> Form:
        rest = self._job.recipe.tables.precision.rest
        wish = Wish(precision, rest, self._table.int8, self._table.dla_core is not None)
        return form_of(wish, self._library.capabilities)

    def make(self, candidate: Candidate) -> Made:
        """The plan of a candidate, built when it is first asked for.

        Raises:
            EdgeRuntimeError: it can't be built.
        """
        key = (candidate.name, candidate.excluded)
        if key not in self._made:
            self._made[key] = self._make(candidate)
        return self._made[key]

    def _make(self, candidate: Candidate) -> Made:
        form = self._form(candidate.precision)
        precision = self._job.recipe.tables.precision
        given = network_inputs(candidate, form, self._model.single.graph, precision, self._library.version)
        plan = self._folder / f"{len(self._made)}.plan"
        what = f"{candidate.name} with {self._library.text}"
        built = self._attempts(given, what).run(self._request(given, form, plan))
        signature = self._signature(given, built)
        contents: Dict[str, Content] = {PLAN_FILE: FileChunks(plan)}
        return Made(candidate, PlanFiles(contents), signature, given.graph, self._target(form), built.notes)

    def _attempts(self, given: NetworkInputs, what: str) -> Attempts:
        return Attempts(given.graph, self._table, self._job.device, self._job.progress, what)

    def _request(self, given: NetworkInputs, form: Form, plan: Path) -> BuildRequest:
        onnx = self._written(given, plan.with_suffix(""))
        return BuildRequest(
            library=self._library.name,
            onnx=str(onnx),
            plan=str(plan),
            profile=self._model.profile,
            is_strongly_typed=form.is_typed,
            flags=form.flags,
            optimization_level=self._table.optimization_level,
            timing_cache=str(self._timing_cache()),
            calibration_cache=given.calibration_cache,
            float_layers=given.float_layers,
            half_layers=given.half_layers,
            dla_core=self._table.dla_core,
            device=self._table.gpu,
            is_version_compatible=self._table.version_compatible,
            hardware_compatibility=self._table.hardware_compatibility,
            compute_capabilities=tuple(self._table.compute_capabilities),
            plugins=tuple(record.path for record in self._plugins),
        )

    def _written(self, given: NetworkInputs, folder: Path) -> Path:
        folder.mkdir()
        files = given.graph.to_files()
        for name, content in files.items():
            with (folder / name).open("wb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
        return folder / next(iter(files))

    def _timing_cache(self) -> Path:
        """The file for this library on this GPU; another device's tactics are worth nothing here."""
        facts = [self._library.text, self._job.device.board, self._capability, self._job.device.soc]
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        return (self._job.options.engines / ".timing" / f"{key}.cache").absolute()

    def _signature(self, given: NetworkInputs, built: Built) -> Signature:
        """What the plan takes and gives: the model's names and shapes in TensorRT's types."""
        graph = given.graph
        return Signature(
            with_types(graph.inputs, built.inputs), with_types(graph.outputs, built.outputs), self._model.profile
        )

    def _target(self, form: Form) -> TargetRecord:
        mode = current_power_mode()
        capability = None if self._table.compute_capabilities else self._capability
        return TargetRecord(
            form=form.name,
            compute_capability=capability,
            gpu=self._job.device.board,
            dla_core=self._table.dla_core,
            l4t=self._job.device.l4t,
            power_mode=None if mode is None else mode.name,
            version_compatible=self._table.version_compatible,
            hardware_compatibility=self._table.hardware_compatibility,
            plugins=self._plugins,
        )

    @contextlib.contextmanager
    def opened(self, made: Made) -> Iterator[Engine]:
        """An engine over a plan that this board runs.

        Raises:
            BackendUnavailableError: there is no GPU here.
            BackendError: TensorRT refuses the plan.
        """
        job = self._job
        if not job.device.has_gpu:
            raise BackendUnavailableError("this machine has no NVIDIA GPU")
        text = f"{job.backend.name} {job.backend.version}"
        info = EngineInfo(job.recipe.name, 1, text, job.backend.platform, made.candidate.precision, job.backend.device)
        options = EngineOptions(warm_up_runs=1)
        with engine_from_files(made.plan, info, made.signature, options) as engine:
            yield engine

    def _calibrated(self, source: SampleSource) -> CalibrationTable:
        """The scales that TensorRT's own calibrator finds on the GPU."""
        job, single = self._job, self._model.single
        names = [spec.name for spec in single.graph.inputs]
        folder = self._folder / "calibration"
        size = job.recipe.tables.calibration.batch_size
        batches = fitting_batches(source, single.signature, size, "calibration")
        written, skipped = write_batches(folder, names, batches)
        if skipped:
            job.progress.note(
                f"calibration: {skipped} of {written + skipped} batches have another shape, and are left out"
            )
        given = NetworkInputs(single.graph)
        form = form_of(Wish("int8", int8="implicit"), self._library.capabilities)
        request = replace(
            self._request(given, form, self._folder / "calibrated.plan"),
            calibration_folder=str(folder),
            timing_cache="",
        )
        built = self._attempts(given, f"calibrating with {self._library.text}").run(request)
        return CalibrationTable.from_cache_text(built.calibration_cache, "TensorRT's calibration")
