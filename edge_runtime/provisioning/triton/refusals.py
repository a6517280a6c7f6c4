"""Why a Triton model can't become a recipe, whatever its file holds."""

from __future__ import annotations

from typing import Any, List

from edge_runtime.wire.model_config import ModelConfig

ONNX_NAMES = ("onnxruntime_onnx", "onnxruntime")
PLAN_NAMES = ("tensorrt_plan", "tensorrt")
_STATES = "make the states inputs and outputs, keep them in the client, and remove sequence_batching"
_EXPORT = "export the model to ONNX, put it beside and set backend to onnxruntime"
_OTHERS = {
    "python": "its code runs in Triton only; keep it on the client's side, and import the models that it calls",
    "ensemble": "",  # its steps are named instead
    "pytorch": _EXPORT,
    "pytorch_libtorch": _EXPORT,
    "tensorflow": _EXPORT,
    "tensorflow_graphdef": _EXPORT,
    "tensorflow_savedmodel": _EXPORT,
    "openvino": "import the ONNX that its IR was converted from",
    "tensorrtllm": "a language model that streams needs its own server",
    "vllm": "a language model that streams needs its own server",
}


def refusals(config: ModelConfig) -> List[str]:
    """All reasons, each with what to do; none if it is a model that has one file and one answer a request."""
    message = config.message
    found = [*_backends(message), *_scheduling(message), *_made_tensors(message)]
    if message.model_transaction_policy.decoupled:
        found.append("it is decoupled: a request may have any number of answers; here it has one")
    return found


def is_plan(message: Any) -> bool:
    """Whether the configuration says that the model's file is a TensorRT plan."""
    return message.platform in PLAN_NAMES or message.backend in PLAN_NAMES


def _backends(message: Any) -> List[str]:
    return [
        f"{field} {name!r} isn't ONNX: {_OTHERS.get(name, _EXPORT)}"
        for field, name in (("platform", message.platform), ("backend", message.backend))
        if name and name not in (*ONNX_NAMES, *PLAN_NAMES) and _OTHERS.get(name, _EXPORT)
    ]


def _scheduling(message: Any) -> List[str]:
    if message.HasField("ensemble_scheduling") or message.platform == "ensemble":
        steps = ", ".join(dict.fromkeys(step.model_name for step in message.ensemble_scheduling.step))
        return [
            f"it is an ensemble: the server calls no models in turn; have the client call its steps ({steps or 'none'})"
        ]
    if message.HasField("sequence_batching"):
        return [f"it has sequence batching: the server keeps no state between requests; {_STATES}"]
    return []


def _made_tensors(message: Any) -> List[str]:
    found = []
    for field in ("batch_input", "batch_output"):
        names = [name for one in getattr(message, field) for name in one.target_name]
        if getattr(message, field):
            found.append(f"{field} ({', '.join(names)}): the server makes no tensors; send them, and remove {field}")
    return found
