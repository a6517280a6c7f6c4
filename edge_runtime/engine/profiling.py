"""From a plan on disk to the time that each of its layers takes."""

from __future__ import annotations

from typing import Callable, Dict

from edge_runtime.engine import onnxruntime_layers
from edge_runtime.engine.layers import LayerProfile, ProfileOptions
from edge_runtime.engine.loading import EngineOptions, engine_info, tensorrt_options
from edge_runtime.engine.tensorrt import profiling as tensorrt_profiling
from edge_runtime.engine.tensorrt.loading import engines_root
from edge_runtime.engine.tensorrt_layers import profile_from_tensorrt
from edge_runtime.plan.board import ONNXRUNTIME
from edge_runtime.plan.store import StoredPlan
from edge_runtime.plan.target import check_target, preflight
from edge_runtime.tensorrt_api import LIBRARIES
from edge_runtime.tensors import DType, Feeds

Profiler = Callable[[StoredPlan, Feeds, ProfileOptions], LayerProfile]


def _on_onnxruntime(plan: StoredPlan, feeds: Feeds, options: ProfileOptions) -> LayerProfile:
    return onnxruntime_layers.profiled_layers(plan.open_files(), feeds, options, f"model {plan.manifest.name!r}")


def _on_tensorrt(plan: StoredPlan, feeds: Feeds, options: ProfileOptions) -> LayerProfile:
    manifest = plan.manifest
    info = engine_info(manifest)
    settings = tensorrt_options(info, EngineOptions(plugins=options.plugins), manifest.target, engines_root(plan))
    what = f"model {manifest.name!r}"
    raw = tensorrt_profiling.profiled_layers(plan.open_files(), manifest.signature, feeds, options, settings, what)
    nodes = manifest.target.nodes if manifest.target else ()
    return profile_from_tensorrt(info.backend, raw.inspector, raw.runs, raw.whole_us, nodes)


_PROFILERS: Dict[str, Profiler] = {ONNXRUNTIME: _on_onnxruntime, **dict.fromkeys(LIBRARIES, _on_tensorrt)}


def profile_layers(plan: StoredPlan, feeds: Feeds, options: ProfileOptions) -> LayerProfile:
    """The layers of a plan on the backend that it was built for, each timed in every run.

    The plan is loaded anew, with its backend's profiling on, which costs time: a run takes longer than without.

    Raises:
        InvalidRequestError: `feeds` don't fit the model.
        PlanError: corrupt, or for another backend or board.
        BackendError: the engine library failed, or can't time layers.
    """
    if plan.manifest.backend.name == ONNXRUNTIME:
        check_target(plan.manifest)
    else:
        preflight(plan, plugins=options.plugins)
    signature = plan.manifest.signature
    for name, value in feeds.items():
        signature.check_input(name, DType.from_numpy(value.dtype), value.shape)
    signature.check_shapes({name: value.shape for name, value in feeds.items()})
    return _PROFILERS[plan.manifest.backend.name](plan, feeds, options)
