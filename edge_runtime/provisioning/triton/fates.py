"""What becomes of each field of a Triton configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Tuple

from edge_runtime.wire.model_config import ConfigField, ModelConfig, is_at

HONOURED, NOT_NEEDED, LOST = "honoured", "not needed", "lost"

_STEP = re.compile(r'[^.\[]+(?:\[(?:\d+|"(?:[^"\\]|\\.)*")\])?|\[[^\]]*\]')
_INDEX = re.compile(r'\[(?:\d+|"(?:[^"\\]|\\.)*")\]')


@dataclass(frozen=True)
class Fate:
    """What becomes of a field, and in words: as what, why not, or what is lost and what to do about it."""

    outcome: str
    text: str


@dataclass(frozen=True)
class FieldFate:
    """The fate of one field; `line` is None for what isn't written in the file."""

    path: str
    line: int | None
    value: str
    outcome: str
    text: str


def honoured(text: str) -> Fate:
    """A field that holds here too, as `text` says."""
    return Fate(HONOURED, text)


def not_needed(text: str) -> Fate:
    """A field that there is nothing to do for, because of `text`."""
    return Fate(NOT_NEEDED, text)


def lost(text: str) -> Fate:
    """A field that can't be honoured; `text` says what is lost, and what to do."""
    return Fate(LOST, text)


_ONNX = honoured("the ONNX is built for the machine's own backend")
_PINNED = not_needed("where tensors lie is measured, or set by EDGE_RUNTIME_SERVER__MEMORY")
_SHAPE = not_needed("the build sees in the ONNX which tensors are shapes")
_PLAIN = lost("tensors are row-major; send and take them so")

# By path, mostly without indices; one for a message is that of all fields below it.
STATIC: Mapping[str, Fate] = {
    "name": honoured("the recipe's name"),
    "platform": _ONNX,
    "backend": _ONNX,
    "runtime": not_needed("a plan's manifest says which library runs it"),
    "default_model_filename": honoured("[model] path"),
    "cc_model_filenames": not_needed("a plan is built on the GPU that it runs on"),
    "input.format": not_needed("it describes the dims; nothing is converted by it, in Triton either"),
    "input.is_shape_tensor": _SHAPE,
    "input.allow_ragged_batch": lost("requests of different shapes never share a run; each runs all the same"),
    "input.optional": lost("every request must send it; [input.NAME] value makes it a constant of the plan"),
    "input.is_non_linear_format_io": _PLAIN,
    "output.is_shape_tensor": _SHAPE,
    "output.label_filename": lost(
        "there is no classification: clients look labels up (a LabelEncoder in the ONNX gives them as text, on the CPU)"
    ),
    "output.is_non_linear_format_io": _PLAIN,
    "optimization.graph": lost("the build optimises the graph, always as far as it can"),
    "optimization.priority": lost("to run its requests before those of other models, set [serving] priority = 1"),
    "optimization.cuda.graphs": not_needed(
        "TensorRT's runs become CUDA graphs, unless EDGE_RUNTIME_SERVER__GRAPHS=off"
    ),
    "optimization.cuda.busy_wait_events": lost("there is no such setting"),
    "optimization.cuda.graph_spec": not_needed("a CUDA graph is made for each shape that repeats"),
    "optimization.cuda.output_copy_stream": lost("a slot has one stream; copies of one overlap the kernels of another"),
    "optimization.input_pinned_memory": _PINNED,
    "optimization.output_pinned_memory": _PINNED,
    "optimization.gather_kernel_buffer_threshold": not_needed("requests are copied straight to their rows of a run"),
    "optimization.eager_batching": lost("a run is put together when it starts"),
    "dynamic_batching.max_queue_delay_microseconds": lost(
        "nobody waits for a run to fill; requests that wait anyway share one"
    ),
    "dynamic_batching.preserve_ordering": lost(
        "answers on one gRPC stream come in the order of its requests; all others as their runs end"
    ),
    "dynamic_batching.priority_levels": not_needed("requests may have any priority from 1 on"),
    "dynamic_batching.priority_queue_policy": lost("a deadline and a queue's size are the model's, not a priority's"),
    "dynamic_batching.default_queue_policy.allow_timeout_override": not_needed(
        "requests may always bring a deadline; the shorter one holds"
    ),
    "instance_group.name": not_needed("slots have no names"),
    "instance_group.profile": lost("a plan has one profile: the shapes of the recipe"),
    "instance_group.rate_limiter": lost("runs are ordered by priority and deadline; there are no resources"),
    "instance_group.passive": lost("every model that is served answers"),
    "instance_group.host_policy": lost("threads aren't pinned; start the server with taskset or numactl"),
    'parameters["intra_op_thread_count"]': lost("a run uses the number of cores divided by EDGE_RUNTIME_SERVER__SLOTS"),
    'parameters["inter_op_thread_count"]': lost("the nodes of a run go one after another"),
    'parameters["execution_mode"]': lost("the nodes of a run go one after another"),
    "parameters": lost("a parameter of Triton's backend; nothing here reads it"),
    "metric_tags": lost("metrics have fixed labels; add others where they are collected"),
    "model_metrics": lost(
        "metrics have fixed families; nv_inference_first_response_histogram_ms is one, with bounds of its own"
    ),
    "model_warmup": not_needed("every slot is warmed at its shapes before the server is ready"),
    "model_operations": lost(
        "operators from libraries aren't loaded; those of TensorRT plugins go to [backend] plugins"
    ),
    "model_transaction_policy": not_needed("a request has one answer"),
    "model_repository_agents": lost("nothing runs when a model is loaded; a plan's SHA-256 is always checked"),
    "response_cache": lost("every request is run"),
}


def field_fates(config: ModelConfig, fates: Mapping[str, Fate]) -> Tuple[FieldFate, ...]:
    """Exactly one fate for every field that is written, by line; `fates` are those that depend on the model.

    Keys of `fates` are paths, with indices or without; those that aren't written come first.
    """
    found: Dict[str, FieldFate] = {
        path: FieldFate(path, None, "", fate.outcome, fate.text)
        for path, fate in fates.items()
        if config.line(path) is None and not any(pattern_of(field.path) == path for field in config.fields)
    }
    for field in config.fields:
        at, fate = _fate(field, fates, _has_fields(field, config))
        if fate is not None and at not in found:
            fate = _unless_default(config, at, fate)
            value = field.text if field.path in (at, f"{at}.string_value") else ""
            found[at] = FieldFate(at, config.line(at), value, fate.outcome, fate.text)
    for field in config.unknown:
        text = "a field that Triton's configuration isn't known to have; nothing is done about it"
        found[field.path] = FieldFate(field.path, field.line, "", LOST, text)
    return tuple(sorted(found.values(), key=lambda one: one.line or 0))


def pattern_of(path: str) -> str:
    """A path without its indices."""
    return _INDEX.sub("", path)


def _has_fields(field: ConfigField, config: ModelConfig) -> bool:
    return field.is_message and any(one.path.startswith(f"{field.path}.") for one in config.fields)


def _fate(field: ConfigField, fates: Mapping[str, Fate], has_fields: bool) -> Tuple[str, Fate | None]:
    """The fate of a field and the path that it is of; a message that has fields needs none of its own."""
    for path in [field.path] if has_fields else list(_prefixes(field.path)):
        for known, key in ((fates, path), (fates, pattern_of(path)), (STATIC, path), (STATIC, pattern_of(path))):
            if key in known and not (has_fields and known is STATIC):
                return path, known[key]
    if has_fields:
        return field.path, None
    if field.is_message:
        return field.path, not_needed("nothing is set in it")
    return field.path, lost("not known to this import; nothing is done about it")


def _unless_default(config: ModelConfig, at: str, fate: Fate) -> Fate:
    """The fate, or that there is nothing to lose where all that is written there is the default."""
    written = [field for field in config.fields if is_at(field.path, at) and not field.is_message]
    is_default = bool(written) and all(field.is_default for field in written)
    return not_needed("it is the default") if fate.outcome == LOST and is_default else fate


def _prefixes(path: str) -> Iterator[str]:
    """The path and those of the messages that it is in, the innermost first."""
    steps: List[str] = _STEP.findall(path)
    for count in range(len(steps), 0, -1):
        yield ".".join(steps[:count])
