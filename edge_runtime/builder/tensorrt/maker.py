"""Candidates as TensorRT plans: each is built once, in a child process."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, Tuple

from edge_runtime import tensorrt_api
from edge_runtime.builder.candidates import Candidate, CandidateInputs
from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.job import Job
from edge_runtime.builder.maker import Made
from edge_runtime.builder.reference import Reference, Scoring
from edge_runtime.builder.tensorrt.form import IMPLICIT, Form
from edge_runtime.builder.tensorrt.graphs import NetworkInputs, Profile, network_inputs, network_parts
from edge_runtime.builder.tensorrt.ladder import Rung
from edge_runtime.builder.tensorrt.on_device import calibrated_on_device
from edge_runtime.builder.tensorrt.orders import orders_of
from edge_runtime.builder.tensorrt.request import with_types
from edge_runtime.builder.tensorrt.settings import check_settings
from edge_runtime.builder.tensorrt.workshop import FileChunks, work_folder
from edge_runtime.builder.trial import Trial
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.engine.chain import part_text
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_parts, tensorrt_options
from edge_runtime.engine.tensorrt.loading import board_key, try_out_once
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.trial_request import TrialRequest
from edge_runtime.engine.tensorrt.verified import is_verified
from edge_runtime.errors import BackendUnavailableError, EdgeRuntimeError
from edge_runtime.graph.quantize import insert_qdq
from edge_runtime.plan.contents import PlanFiles, PlanPart, part_file
from edge_runtime.tensors import Signature

PLAN_FILE = "model.plan"

_Key = Tuple[str, FrozenSet[str], Tuple[str, ...]]


@dataclass(frozen=True)
class BuiltFiles(Made):
    """Plans that lie in files until they are published."""

    paths: Tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Part:
    """A plan that was built, and the file that it lies in."""

    part: PlanPart
    path: Path
    notes: Tuple[str, ...]
    rung: Rung


class TensorRTMaker:
    """Makes plans for this board. A context manager: plans lie in a folder of its own until they are published.

    Entering it checks `[backend]`, so that a wrong setting costs no calibration.
    """

    def __init__(self, job: Job, model: FloatModel) -> None:
        self.model = model
        self._job = job
        self._library = tensorrt_api.load(job.backend.name)
        self._orders = orders_of(job, model, self._library)
        self._made: Dict[_Key, BuiltFiles] = {}
        self._numbers = itertools.count()
        self._scales: CalibrationTable | None = None
        self._exit = contextlib.ExitStack()
        self._folder = Path()

    def __enter__(self) -> TensorRTMaker:
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(work_folder(self._job.options.engines))
            check_settings(self._orders, self._folder)
            self._exit = stack.pop_all()
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

    def _calibrated(self, source: SampleSource) -> CalibrationTable:
        """The scales that TensorRT finds on the GPU; found once."""
        if self._scales is None:
            self._scales = calibrated_on_device(self._orders, self._folder, source)
        return self._scales

    def _needs_all_scales(self) -> bool:
        """Whether INT8 comes from a cache, where a tensor without a scale stays float."""
        try:
            return self._orders.form("int8").name == IMPLICIT
        except EdgeRuntimeError:  # which building an INT8 candidate says
            return False

    def make(self, candidate: Candidate) -> BuiltFiles:
        """The plan of a candidate, or those of its parts, built when first asked for.

        Raises:
            EdgeRuntimeError: it can't be built.
        """
        return self._once(candidate, self.model.cuts)

    def make_whole(self, candidate: Candidate) -> BuiltFiles:
        """The plan of a candidate as if the model weren't split, built when first asked for.

        Raises:
            EdgeRuntimeError: it can't be built.
        """
        return self._once(candidate, ())

    def _once(self, candidate: Candidate, cuts: Tuple[str, ...]) -> BuiltFiles:
        key = (candidate.name, candidate.excluded, cuts)
        if key not in self._made:
            self._made[key] = self._make(candidate, cuts)
        return self._made[key]

    def _make(self, candidate: Candidate, cuts: Tuple[str, ...]) -> BuiltFiles:
        form = self._orders.form(candidate.precision)
        precision = self._job.recipe.tables.precision
        given = network_inputs(candidate, form, self.model.single.graph, precision)
        shares = network_parts(given, cuts, self.model.profile)
        built = [
            self._built(share, form, number, part_text(candidate.name, number, len(shares)))
            if cuts
            else self._built(share, form, number, candidate.name)
            for number, share in enumerate(shares)
        ]
        graph = given.graph
        if form.name == IMPLICIT and candidate.table is not None:  # what is in INT8 can be seen in Q/DQ nodes only
            graph = insert_qdq(graph, candidate.table.scales, candidate.excluded)
        specs = [spec for one in built for spec in (*one.part.signature.inputs, *one.part.signature.outputs)]
        rung = next((one.rung for one in built if one.rung.is_reduced), built[0].rung)
        return BuiltFiles(
            candidate,
            tuple(one.part for one in built),
            Signature(
                with_types(given.graph.inputs, specs), with_types(given.graph.outputs, specs), self.model.profile
            ),
            graph,
            self._orders.target(form, given, rung),
            tuple(note for one in built for note in one.notes),
            tuple(one.path for one in built),
        )

    def _built(self, share: Tuple[NetworkInputs, Profile], form: Form, number: int, what: str) -> _Part:
        """The plan of one part, or of the whole."""
        given, profile = share
        plan = self._folder / f"{next(self._numbers)}.plan"
        request = replace(self._orders.request(given, form, plan), profile=profile)
        built, rung = self._orders.carry_out(given, request, what)
        signature = Signature(
            with_types(given.graph.inputs, built.inputs), with_types(given.graph.outputs, built.outputs), profile
        )
        files = PlanFiles({part_file(PLAN_FILE, number): FileChunks(plan)})
        return _Part(PlanPart(files, signature, given.graph.node_order), plan, built.notes, rung)

    @contextlib.contextmanager
    def opened(self, made: Made) -> Iterator[Engine]:
        """An engine over a plan, or over a chain of them, that this board runs.

        Raises:
            BackendUnavailableError: there is no GPU here.
            BackendError: TensorRT refuses the plan.
        """
        job = self._job
        assert isinstance(made, BuiltFiles)
        if not job.device.has_gpu:
            raise BackendUnavailableError("this machine has no NVIDIA GPU")
        text = f"{job.backend.name} {job.backend.version}"
        info = EngineInfo(job.recipe.name, 1, text, job.backend.platform, made.candidate.precision, job.backend.device)
        options = EngineOptions(plugins=tuple(record.path for record in self._orders.plugins))
        root = job.options.engines
        self._try_out(made, tensorrt_options(info, options, root=root), root)
        with engine_from_parts(made.parts, info, made.signature, options, root) as engine:
            yield engine

    def _try_out(self, made: BuiltFiles, options: TensorRTOptions, root: Path) -> None:
        """Runs plans that are new in processes of their own, which they may end; they are known here from then on.

        Raises:
            BackendError: it can't be used.
        """
        key = board_key(options)
        for number, (part, path) in enumerate(zip(made.parts, made.paths)):
            name = made.candidate.name
            if len(made.parts) > 1:
                name = part_text(name, number, len(made.parts))
            what = f"{name} with {self._library.text}"
            request = TrialRequest(path, part.files.record, part.signature, options, what)
            if not is_verified(root, request.record.sha256, key):
                self._job.progress.stage(f"trying {name} out")
            try_out_once(request, root, key)


@contextlib.contextmanager
def device_trial(
    maker: TensorRTMaker, reference: Reference, scoring: Scoring | None, widest: Candidate
) -> Iterator[Trial]:
    """Trials of this board's plans, against the float model on ONNX Runtime.

    ONNX Runtime can't run a model with plugins, so there the reference is the plan of `widest`, where it runs.
    """
    if maker.model.runnable is maker.model:
        yield Trial(reference, maker)
        return
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(maker.opened(maker.make(widest)))
        except BackendUnavailableError:
            there = reference
        else:
            there = Reference(maker.model, scoring, reference.progress, engine)
        yield Trial(there, maker)
