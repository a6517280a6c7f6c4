"""TensorRT's inspector JSON (of 8.2 to 10, and of 11) and its profiler's times as a profile of layers.

Nothing here needs TensorRT: it takes what `EngineInspector` and `IProfiler` said.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from edge_runtime.engine.layers import LayerProfile, LayerTimes, precision_text
from edge_runtime.engine.tensorrt_names import NodeNames, is_reformat
from edge_runtime.errors import BackendError

Row = Tuple[str, float]  # what `report_layer_time` is called with: a layer's name, and milliseconds

_TYPES = {
    "BF16": r"bf16|bfloat16",
    "FP16": r"fp16|half|float16",
    "FP8": r"fp8\w*|f8\w*",
    "FP4": r"fp4\w*|f4\w*",
    "FP32": r"fp32|tf32|float|float32",
    "BOOL": r"bool",
    **{f"{sign}INT{bits}": rf"{sign}int{bits}" for sign in ("", "U") for bits in (4, 8, 32, 64)},
}
_WORDS = [(name, re.compile(rf"\b(?:{words})\b", re.IGNORECASE)) for name, words in _TYPES.items()]
_TACTICS = [
    ("INT8", re.compile(r"i8i8|int8|imma|_i8816|_i16832")),
    ("FP8", re.compile(r"e4m3|f8f8")),
    ("BF16", re.compile(r"bf16")),
    ("FP16", re.compile(r"f16f16|h884|h1688|h16816|hcudnn|hgemm|fp16|_half")),
    ("FP32", re.compile(r"f32f32|tf32|scudnn|sgemm|fp32")),
]
_NAMES_ONLY = "the plan was built without detailed profiling: its layers have names, but neither kind nor precision"


@dataclass(frozen=True)
class InspectedLayer:
    """A layer as the inspector describes it; "" is what it doesn't say. `metadata` names ONNX nodes, from 8.6 on."""

    name: str
    kind: str = ""
    precision: str = ""
    metadata: str = ""


def inspected_layers(text: str) -> Tuple[InspectedLayer, ...]:
    """The layers in what `get_engine_information` gave as JSON, in execution order.

    Raises:
        BackendError: it isn't of any schema known here.
    """
    try:
        content = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise BackendError(f"TensorRT's inspector: expected JSON, got {text[:60]!r} ({error})") from None
    layers = content.get("Layers") if isinstance(content, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, (str, dict)) for layer in layers):
        raise BackendError(f"TensorRT's inspector: expected an object with a list 'Layers', got {text[:60]!r}")
    return tuple(InspectedLayer(layer) if isinstance(layer, str) else _described(layer) for layer in layers)


def profile_from_tensorrt(
    backend: str,
    inspector: str,
    runs: Sequence[Sequence[Row]],
    whole_us: Sequence[float],
    node_names: Sequence[str] = (),
) -> LayerProfile:
    """The layers that TensorRT's profiler timed, as the inspector describes them.

    `runs` are the calls of `report_layer_time` in each timed run, in their order, and `whole_us` what each run took.
    `node_names` are those of the ONNX that the plan was built from, in its order; without them a layer's nodes are
    read from what TensorRT calls it.

    Raises:
        BackendError: no run has times, or the inspector's text is of no known schema.
    """
    described = inspected_layers(inspector)
    sequences = Counter(tuple(name for name, _ in rows) for rows in runs if rows)
    if not sequences:
        raise BackendError(f"{backend}: its profiler reported no layer; profile without a CUDA graph")
    names = sequences.most_common(1)[0][0]
    kept = [index for index, rows in enumerate(runs) if tuple(name for name, _ in rows) == names]
    layers = _matched(names, described)
    notes = [_NAMES_ONLY] if not any(layer.kind for layer in described) else []
    if len(kept) < len(runs):
        notes.append(f"{len(runs) - len(kept)} of {len(runs)} runs reported other layers than most and are left out")
    if len(described) > len(names):
        notes.append(f"{len(described) - len(names)} of the engine's {len(described)} layers reported no time")
    nodes = NodeNames(node_names).of_layers((layer.name, layer.metadata) for layer in layers)
    return LayerProfile(
        backend=backend,
        layers=tuple(
            LayerTimes(
                name=name,
                kind=layer.kind or ("Reformat" if is_reformat(name) else ""),
                precision=layer.precision,
                nodes=nodes[place],
                durations_us=tuple(runs[index][place][1] * 1e3 for index in kept),
            )
            for place, (name, layer) in enumerate(zip(names, layers))
        ),
        runs=len(kept),
        whole_us=tuple(whole_us[index] for index in kept) if len(whole_us) == len(runs) else (),
        notes=tuple(notes),
    )


def _matched(names: Sequence[str], described: Sequence[InspectedLayer]) -> List[InspectedLayer]:
    """What the inspector says of each timed layer: by name, in order where one repeats; or by place if counts match."""
    waiting: Dict[str, List[InspectedLayer]] = defaultdict(list)
    for layer in reversed(described):
        waiting[layer.name].append(layer)
    by_name = [waiting[name].pop() if waiting[name] else None for name in names]
    if len(names) == len(described):
        return list(described) if None in by_name else [layer for layer in by_name if layer is not None]
    return [layer or InspectedLayer(name) for name, layer in zip(names, by_name)]


def _described(layer: Mapping[str, Any]) -> InspectedLayer:
    before, after = (_data_type(layer.get(key)) for key in ("Inputs", "Outputs"))
    return InspectedLayer(
        name=str(layer.get("Name", "")),
        kind=str(layer.get("LayerType", "")),
        precision=precision_text(before, after) or _tactic_type(str(layer.get("TacticName", ""))),
        metadata=str(layer.get("Metadata", "")),
    )


def _data_type(tensors: Any) -> str:
    """The data type of the first tensor, "" where the inspector can't say (as with dynamic shapes in 8.x)."""
    first = tensors[0] if isinstance(tensors, list) and tensors else None
    if not isinstance(first, dict):
        return ""
    text = str(next((first[key] for key in ("Datatype", "DataType", "Format/Datatype") if key in first), ""))
    return next((name for name, words in _WORDS if words.search(text)), "")


def _tactic_type(tactic: str) -> str:
    return next((name for name, words in _TACTICS if words.search(tactic)), "")
