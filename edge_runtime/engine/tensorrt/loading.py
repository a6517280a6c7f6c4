"""From the bytes of a plan to slots that run it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Callable

from edge_runtime.device.cuda.loading import open_cuda
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.engine.tensorrt.memory_kind import FILE, device_key, read_measured
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
from edge_runtime.engine.tensorrt.trial_child import trial_run_in_child
from edge_runtime.engine.tensorrt.trial_request import TrialRequest
from edge_runtime.engine.tensorrt.verified import is_verified, mark_verified, verified_key
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.store import StoredPlan
from edge_runtime.tensorrt_api import TensorRT, load
from edge_runtime.tensors import Signature

logger = logging.getLogger(__name__)


def slot_maker(
    plan: PlanFiles,
    signature: Signature,
    options: TensorRTOptions,
    what: str,
    cuda: Cuda | None = None,
    library: TensorRT | None = None,
) -> Callable[[], TensorRTSlot]:
    """A maker of slots that share the engine of a plan; the engine is given back with the last of them.

    CUDA and TensorRT are loaded unless they are given; CUDA first, for a TensorRT without a driver may end the process.

    Raises:
        BackendUnavailableError: this machine lacks a GPU, a plugin library, or something that the options ask for.
        BackendError: TensorRT can't load the plan, or it has other inputs or outputs than `signature`.
    """
    cuda = cuda or open_cuda(options.device)
    shared = PlanEngine(plan.model, signature, library or load(options.library), cuda, options, what)
    return lambda: TensorRTSlot(shared, lambda: plan.model)


def try_out_once(stored: StoredPlan, options: TensorRTOptions, what: str) -> None:
    """Runs a plan that never ran on this board in a process of its own, which it may end; remembers that it ran.

    Raises:
        BackendUnavailableError: this machine lacks a GPU or the library.
        BackendError: the plan can't be used here.
    """
    cuda = open_cuda(options.device)
    capability = cuda.attributes(options.device).compute_capability
    key = verified_key(load(options.library).text, capability)
    root, record = engines_root(stored), stored.manifest.plan
    if is_verified(root, record.sha256, key):
        return
    answer = trial_run_in_child(TrialRequest(stored.plan_path, record, stored.manifest.signature, options, what))
    if answer.get("problem"):
        logger.info("%s: its trial run couldn't be fed: %s", what, answer["problem"])
    mark_verified(root, record.sha256, key)


def engines_root(stored: StoredPlan) -> Path:
    """The folder of all plans that a stored plan lies in."""
    return stored.folder.resolve().parent.parent


def with_measured_memory(options: TensorRTOptions, root: Path) -> TensorRTOptions:
    """The options with what was measured of the GPU's memory, if it was."""
    attributes = open_cuda(options.device).attributes(options.device)
    return replace(options, measured=read_measured(root / FILE, device_key(attributes)))
