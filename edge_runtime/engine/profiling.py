"""From a plan on disk to the time that each of its layers takes."""

from __future__ import annotations

from typing import Callable, Dict

from edge_runtime.engine import onnxruntime_layers
from edge_runtime.engine.layers import LayerProfile, ProfileOptions
from edge_runtime.errors import BackendError
from edge_runtime.plan.store import StoredPlan
from edge_runtime.plan.target import check_target
from edge_runtime.tensors import DType, Feeds

Profiler = Callable[[StoredPlan, Feeds, ProfileOptions], LayerProfile]


def _on_onnxruntime(plan: StoredPlan, feeds: Feeds, options: ProfileOptions) -> LayerProfile:
    return onnxruntime_layers.profiled_layers(plan.open_files(), feeds, options, f"model {plan.manifest.name!r}")


_PROFILERS: Dict[str, Profiler] = {"onnxruntime": _on_onnxruntime}


def profile_layers(plan: StoredPlan, feeds: Feeds, options: ProfileOptions) -> LayerProfile:
    """The layers of a plan on the backend that it was built for, each timed in every run.

    The plan is loaded anew, with its backend's profiling on, which costs time: a run takes longer than without.

    Raises:
        InvalidRequestError: `feeds` don't fit the model.
        PlanError: corrupt, or for another backend or board.
        BackendError: the engine library failed, or can't time layers.
    """
    check_target(plan.manifest)
    signature, backend = plan.manifest.signature, plan.manifest.backend.name
    for name, value in feeds.items():
        signature.check_input(name, DType.from_numpy(value.dtype), value.shape)
    signature.check_shapes({name: value.shape for name, value in feeds.items()})
    if backend not in _PROFILERS:
        raise BackendError(f"plan {plan.manifest.name!r}: backend {backend!r} can't time layers; leave --layers out")
    return _PROFILERS[backend](plan, feeds, options)
