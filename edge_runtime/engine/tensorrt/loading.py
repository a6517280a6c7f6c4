"""From the bytes of a plan to slots that run it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Mapping, Sequence

import numpy.typing as npt

from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.device.identity import identify
from edge_runtime.engine.chain import Links, part_text
from edge_runtime.engine.tensorrt.memory_kind import FILE, device_key, read_measured
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
from edge_runtime.engine.tensorrt.slot_over import Pool, TensorRTSlotOver, slot_over
from edge_runtime.engine.tensorrt.trial_child import trial_run_in_child
from edge_runtime.engine.tensorrt.trial_request import TrialRequest
from edge_runtime.engine.tensorrt.verified import is_verified, mark_verified, verified_key
from edge_runtime.plan.contents import PlanFiles, PlanPart
from edge_runtime.plan.store import StoredPlan
from edge_runtime.tensorrt_api import TensorRT, load
from edge_runtime.tensors import Signature

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


def slot_maker(
    plan: PlanFiles,
    signature: Signature,
    options: TensorRTOptions,
    what: str,
    cuda: Cuda | None = None,
    library: TensorRT | None = None,
) -> SlotMaker:
    """A maker of slots that share the engine of a plan; the engine is given back with the last of them.

    CUDA and TensorRT are loaded unless they are given; CUDA first, for a TensorRT without a driver may end the process.

    Raises:
        BackendUnavailableError: this machine lacks a GPU, a plugin library, or something that the options ask for.
        BackendError: TensorRT can't load the plan, or it has other inputs or outputs than `signature`.
    """
    cuda = cuda or open_cuda(options.device)
    shared = PlanEngine(plan.model, signature, library or load(options.library), cuda, options, what)
    return SlotMaker(shared, plan)


class SlotMaker:
    """Makes slots that share an engine: called for one with memory of its own, or `over` its user's memory."""

    def __init__(self, shared: PlanEngine, plan: PlanFiles) -> None:
        self._shared = shared
        self._plan = plan

    def __call__(self) -> TensorRTSlot:
        """A slot with memory of its own."""
        return TensorRTSlot(self._shared, lambda: self._plan.model)

    def over(self, memory: Mapping[str, Array], pool: Pool) -> TensorRTSlotOver | None:
        """A slot over memory that the caller keeps until the slot is closed; see `Engine.slot_over`."""
        return slot_over(self._shared, memory, pool)


class PartMaker:
    """Makes slots of one part of a chain, which share the engine of its plan."""

    def __init__(self, shared: PlanEngine, plan: PlanFiles) -> None:
        self._shared = shared
        self._plan = plan
        specs = (*shared.signature.inputs, *shared.signature.outputs)
        dtypes = {spec.name: spec.dtype for spec in specs}
        self._on_device = {
            tensor.name for tensor in shared.tensors if not tensor.is_host and tensor.dtype is dtypes[tensor.name]
        }

    def can_share(self, name: str) -> bool:
        """Whether a tensor lies on the device, in the data type that callers see."""
        return name in self._on_device

    def linked(self, links: Links) -> TensorRTSlot:
        """A slot that hangs together with those of other parts."""
        return TensorRTSlot(self._shared, lambda: self._plan.model, links)


def part_makers(parts: Sequence[PlanPart], options: TensorRTOptions, what: str) -> List[PartMaker]:
    """Makers of the slots of all parts of a chain, each part with an engine of its own.

    Raises:
        BackendUnavailableError: this machine lacks a GPU, a plugin library, or something that the options ask for.
        BackendError: TensorRT can't load a plan, or it has other inputs or outputs than it should.
    """
    cuda, library = open_cuda(options.device), load(options.library)
    makers: List[PartMaker] = []
    with contextlib.ExitStack() as undo:
        for number, part in enumerate(parts):
            text = part_text(what, number, len(parts))
            shared = PlanEngine(part.files.model, part.signature, library, cuda, options, text)
            undo.callback(_give_back, shared)
            makers.append(PartMaker(shared, part.files))
        undo.pop_all()
    return makers


def _give_back(shared: PlanEngine) -> None:
    """Closes an engine that no slot used."""
    shared.acquire()
    shared.release()


def board_key(options: TensorRTOptions) -> str:
    """What plans are verified for here: this board, its library, and the device that the options name.

    Raises:
        BackendUnavailableError: this machine lacks a GPU or the library.
    """
    gpu = open_cuda(options.device).attributes(options.device)
    device = f"gpu:{options.device}" if options.dla_core is None else f"dla:{options.dla_core}"
    return verified_key(load(options.library).text, gpu, identify(), device)


def try_out_once(request: TrialRequest, root: Path, key: str) -> None:
    """Runs a plan that never ran on this board in a process of its own, which it may end; remembers that it ran.

    `root` is the folder of all plans, `key` is what `board_key` gives. A plan that made-up data alone keeps from
    running is as good as one that ran; one that may be kept by anything else is tried again each time.

    Raises:
        PlanCorruptError: the file isn't what its record says.
        BackendUnavailableError: this machine lacks a GPU or the library.
        BackendError: the plan can't be used here.
    """
    sha256 = request.record.sha256
    if is_verified(root, sha256, key):
        return
    answer = trial_run_in_child(request)
    if not answer.get("ran"):
        logger.warning("%s: loads, but hasn't run on made-up data: %s", request.what, answer.get("problem"))
        return
    if answer.get("problem"):
        logger.info("%s: its trial run couldn't be fed: %s", request.what, answer["problem"])
    mark_verified(root, sha256, key)


def engines_root(stored: StoredPlan) -> Path:
    """The folder of all plans that a stored plan lies in."""
    return stored.folder.resolve().parent.parent


def with_measured_memory(options: TensorRTOptions, root: Path) -> TensorRTOptions:
    """The options with what was measured of the GPU's memory, by the folder of all plans, if it was.

    Raises:
        BackendUnavailableError: this machine lacks a GPU.
    """
    attributes = open_cuda(options.device).attributes(options.device)
    return replace(options, measured=read_measured(root / FILE, device_key(attributes)))
