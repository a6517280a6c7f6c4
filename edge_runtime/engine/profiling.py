"""From a plan on disk to the time that each of its layers takes."""

from __future__ import annotations

from typing import Callable, Dict

from edge_runtime.engine import onnxruntime_layers
from edge_runtime.engine.chain import part_text
from edge_runtime.engine.chain_layers import joined_profile
from edge_runtime.engine.layers import LayerProfile, ProfileOptions
from edge_runtime.engine.loading import EngineOptions, admit, engine_from_files, engine_info, tensorrt_options
from edge_runtime.engine.tensorrt import profiling as tensorrt_profiling
from edge_runtime.engine.tensorrt.loading import engines_root
from edge_runtime.engine.tensorrt_layers import profile_from_tensorrt
from edge_runtime.plan.board import ONNXRUNTIME
from edge_runtime.plan.contents import PlanPart
from edge_runtime.plan.store import StoredPlan
from edge_runtime.tensorrt_api import LIBRARIES
from edge_runtime.tensors import DType, Feeds

PartProfiler = Callable[[PlanPart, Feeds, str], LayerProfile]


def _on_onnxruntime(plan: StoredPlan, options: ProfileOptions) -> PartProfiler:  # noqa: ARG001  (of a table)
    return lambda part, feeds, what: onnxruntime_layers.profiled_layers(part.files, feeds, options, what)


def _on_tensorrt(plan: StoredPlan, options: ProfileOptions) -> PartProfiler:
    manifest = plan.manifest
    info = engine_info(manifest)
    settings = tensorrt_options(info, EngineOptions(plugins=options.plugins), manifest.target, engines_root(plan))

    def profiled(part: PlanPart, feeds: Feeds, what: str) -> LayerProfile:
        raw = tensorrt_profiling.profiled_layers(part.files, part.signature, feeds, options, settings, what)
        nodes = part.nodes or (manifest.target.nodes if manifest.target else ())
        return profile_from_tensorrt(info.backend, raw.inspector, raw.runs, raw.whole_us, nodes)

    return profiled


_PROFILERS: Dict[str, Callable[[StoredPlan, ProfileOptions], PartProfiler]] = {
    ONNXRUNTIME: _on_onnxruntime,
    **dict.fromkeys(LIBRARIES, _on_tensorrt),
}


def profile_layers(plan: StoredPlan, feeds: Feeds, options: ProfileOptions) -> LayerProfile:
    """The layers of a plan on the backend that it was built for, each timed in every run; of a chain, part by part.

    The plan is loaded anew, with its backend's profiling on, which costs time: a run takes longer than without.

    Raises:
        InvalidRequestError: `feeds` don't fit the model.
        PlanError: corrupt, or for another backend or board.
        BackendError: the engine library failed, or can't time layers.
    """
    admit(plan, options.plugins)
    signature = plan.manifest.signature
    for name, value in feeds.items():
        signature.check_input(name, DType.from_numpy(value.dtype), value.shape)
    signature.check_shapes({name: value.shape for name, value in feeds.items()})
    profiler = _PROFILERS[plan.manifest.backend.name](plan, options)
    what, parts = f"model {plan.manifest.name!r}", plan.open_parts()
    if len(parts) == 1:
        return profiler(parts[0], feeds, what)
    known, profiles = dict(feeds), []
    for number, part in enumerate(parts):
        taken = {spec.name: known[spec.name] for spec in part.signature.inputs}
        profiles.append(profiler(part, taken, part_text(what, number, len(parts))))
        if number < len(parts) - 1:
            known.update(_answer(plan, part, taken, options))
    return joined_profile(profiles)


def _answer(plan: StoredPlan, part: PlanPart, feeds: Feeds, options: ProfileOptions) -> Feeds:
    """What a part gives for these feeds, which later parts take."""
    settings = EngineOptions(threads_per_run=options.threads, warm_up_runs=0, plugins=options.plugins)
    with engine_from_files(part.files, engine_info(plan.manifest), part.signature, settings) as engine:
        return engine.infer(feeds)
