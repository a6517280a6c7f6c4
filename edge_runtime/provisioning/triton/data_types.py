"""Text and BF16: what ONNX Runtime runs on the CPU, and TensorRT isn't built with."""

from __future__ import annotations

from edge_runtime.provisioning.triton.draft import CPU_TYPES, Draft
from edge_runtime.tensors import TensorSpec

CPU_KIND = 2


def check_types(draft: Draft, is_plan: bool) -> None:
    """Finds what can't be served of such types: both in one model, and a TensorRT plan (`is_plan`)."""
    specs = draft.facts.cpu_only
    first = {spec.dtype: spec.name for spec in reversed(specs)}
    if len(first) == len(CPU_TYPES):
        names = " and ".join(f"{dtype.value} ({first[dtype]!r})" for dtype in CPU_TYPES)
        draft.problems.append(f"it has tensors of {names}, not both of which run in one model; cast the latter")
    elif specs and is_plan:
        draft.problems.append(
            f"it is a TensorRT plan, and none is built with {_text(specs[0])}; set backend to onnxruntime to have the "
            "ONNX beside it on the CPU, or export that without it"
        )


def is_for_cpu(draft: Draft) -> bool:
    """Whether the configuration itself has the model run on the CPU."""
    groups = draft.config.message.instance_group
    return bool(groups) and all(group.kind == CPU_KIND for group in groups)


def cpu_reason(draft: Draft) -> str:
    """Why a model runs on the CPU though its configuration doesn't say so, "" if it doesn't."""
    specs = draft.facts.cpu_only
    return f"{_text(specs[0])} runs on ONNX Runtime's CPU only" if specs and not is_for_cpu(draft) else ""


def sample_problem(draft: Draft) -> str:
    """Why no samples can be given to calibrate on, "" if they can."""
    spec = next((spec for spec in draft.facts.inputs if spec.dtype in CPU_TYPES), None)
    return "" if spec is None else f"no samples can be given to {_text(spec)}"


def _text(spec: TensorSpec) -> str:
    return f"{spec.dtype.value} ({spec.name!r})"
