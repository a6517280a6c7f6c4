"""Batch and shapes: a configuration's dims held against the ONNX, and the profile that both give."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from edge_runtime.errors import nearest
from edge_runtime.provisioning.triton.draft import CPU_TYPES, Draft, Range
from edge_runtime.provisioning.triton.fates import honoured, lost
from edge_runtime.tensors import DYNAMIC, DType, TensorSpec
from edge_runtime.wire.model_config import dtype_name

COMPLETED_BATCH = 4  # what Triton's ONNX backend takes where a model can batch and no size is given
OPEN_BATCH = 8  # the recipe's own default


def draft_shapes(draft: Draft, ranges: Mapping[str, Range]) -> None:
    """Sets `[model] max_batch` and `[input.NAME]`; `ranges` are profiles that the configuration gives by input."""
    _check_names(draft)
    if draft.problems:
        return
    batch = _batch(draft)
    optimum = _optimum(draft, batch)
    for spec in draft.facts.inputs:
        index, entry = _entry(draft.config.message.input, spec.name)
        merged = _merged(draft, spec, entry, batch)
        if merged is not None:
            _draft_input(draft, spec, merged, (optimum, batch or OPEN_BATCH), ranges)
            _report_input(draft, spec, index, batch)
    for spec in draft.facts.outputs:
        index, entry = _entry(draft.config.message.output, spec.name)
        if entry is not None:
            draft.fates[f"output[{index}]"] = honoured(f"{spec.name!r}, {_type(spec)} as in the ONNX")
            if entry.HasField("reshape"):
                draft.fates[f"output[{index}].reshape"] = lost(
                    f"answers have the model's own shape, {_text(spec.shape)}"
                )
    unnamed = [spec.name for spec in draft.facts.outputs if _entry(draft.config.message.output, spec.name)[1] is None]
    if unnamed and draft.config.message.output:
        draft.fates["output (others)"] = lost(
            f"answers have the outputs that aren't named here too: {', '.join(unnamed)}"
        )


def _check_names(draft: Draft) -> None:
    """Finds what Triton wouldn't load either: names and types that aren't those of the ONNX."""
    message, facts = draft.config.message, draft.facts
    for kind, tensors, specs in (("input", message.input, facts.inputs), ("output", message.output, facts.outputs)):
        known: Dict[str, DType] = {spec.name: spec.dtype for spec in specs}
        for tensor in tensors:
            dtype = known.get(tensor.name)
            if dtype is None:
                draft.problems.append(f"the ONNX has no {kind} {tensor.name!r}: {nearest(tensor.name, known)}")
            elif dtype_name(tensor) not in ("", dtype.value):
                draft.problems.append(
                    f"{kind} {tensor.name!r} is {dtype_name(tensor)} in the configuration and {dtype.value} in the ONNX"
                )
    if message.input:
        given = {tensor.name for tensor in message.input}
        absent = [spec.name for spec in facts.inputs if spec.name not in given]
        draft.problems += [f"the configuration lacks input {name!r} of the ONNX" for name in absent]


def _batch(draft: Draft) -> int:
    """The largest batch, 0 where the model has no batch axis of Triton's."""
    message, facts = draft.config.message, draft.facts
    batch = int(message.max_batch_size)
    if batch > 0:
        draft.set("model", "max_batch", batch)
        draft.fates["max_batch_size"] = honoured(f"[model] max_batch = {batch}")
        return batch
    ranks = {spec.name: len(spec.shape) for spec in facts.inputs}
    if facts.can_batch and all(len(_dims(one)) == ranks[one.name] - 1 for one in message.input):
        draft.set("model", "max_batch", COMPLETED_BATCH)
        draft.fates["max_batch_size"] = honoured(f"[model] max_batch = {COMPLETED_BATCH}, as Triton completes it")
        return COMPLETED_BATCH
    if draft.config.line("max_batch_size") is not None:
        draft.fates["max_batch_size"] = honoured("the dims are whole shapes")
    return 0


def _optimum(draft: Draft, batch: int) -> int:
    """The batch that plans are timed and tuned for."""
    path = "dynamic_batching.preferred_batch_size"
    preferred = [int(size) for size in draft.config.message.dynamic_batching.preferred_batch_size if 1 <= size <= batch]
    if not preferred:
        if draft.config.line(path) is not None:
            draft.fates[path] = lost("none of them is a batch that the model takes")
        return 1
    draft.fates[path] = honoured(
        f"the opt shapes have a batch of {max(preferred)}; a run takes any number up to {batch}"
    )
    return max(preferred)


def _entry(tensors: Sequence[Any], name: str) -> Tuple[int, Any]:
    return next(((index, one) for index, one in enumerate(tensors) if one.name == name), (0, None))


def _dims(tensor: Any) -> List[int]:
    return list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


def _merged(draft: Draft, spec: TensorSpec, entry: Any, batch: int) -> List[int] | None:
    """The shape with every size that either side knows; None after a problem."""
    if entry is None or (not entry.dims and not entry.HasField("reshape")):
        declared = [DYNAMIC if batch and index == 0 else size for index, size in enumerate(spec.shape)]
    else:
        declared = [*([DYNAMIC] if batch else []), *_dims(entry)]
    axis = spec.shape[:1]
    is_batched = not batch or axis == (DYNAMIC,) or (batch == 1 and axis == (1,))  # or fixed, for Triton
    fits = len(declared) == len(spec.shape) and all(
        DYNAMIC in (ours, theirs) or ours == theirs for ours, theirs in zip(spec.shape, declared)
    )
    if not fits or not is_batched:
        draft.problems.append(
            f"input {spec.name!r} has shape {_text(declared)} by the configuration and {_text(spec.shape)} in the "
            "ONNX; make them agree (Triton wouldn't load it either)"
        )
        return None
    return [theirs if ours == DYNAMIC else ours for ours, theirs in zip(spec.shape, declared)]


def _draft_input(
    draft: Draft, spec: TensorSpec, merged: List[int], batches: Tuple[int, int], ranges: Mapping[str, Range]
) -> None:
    """Sets `[input.NAME]` where the ONNX alone doesn't give the profile."""
    optimum, largest = batches
    table = f"input.{spec.name}"
    if spec.name in ranges and all(len(shape) == len(merged) for shape in ranges[spec.name]):
        draft.tables[table] = dict(zip(("min", "opt", "max"), ranges[spec.name]))
        return
    rest = merged[1:]
    if DYNAMIC in rest:
        sizes = _text([1 if index == 0 and size == DYNAMIC else size for index, size in enumerate(merged)])
        draft.missing.append(
            f"[input.{_key(spec.name)}] needs min, opt and max: no size is given for each -1 of {sizes}"
        )
        return
    if list(spec.shape) == merged and (optimum == 1 or merged[:1] != [DYNAMIC]):
        return
    if merged[:1] != [DYNAMIC]:
        draft.tables[table] = {"shape": merged}
        return
    draft.tables[table] = {"min": [1, *rest], "opt": [optimum, *rest], "max": [largest, *rest]}


def _report_input(draft: Draft, spec: TensorSpec, index: int, batch: int) -> None:
    message = draft.config.message
    if not message.input:
        return
    entry = message.input[index]
    text = f"{spec.name!r}, {_type(spec)} {_text(spec.shape)} as in the ONNX"
    draft.fates[f"input[{index}]"] = honoured(text)
    if spec.dtype in CPU_TYPES and entry.optional:
        draft.fates[f"input[{index}].optional"] = lost("every request must send it")
    if not batch and spec.shape and spec.shape[0] == DYNAMIC and f"input.{spec.name}" not in draft.tables:
        limit = lost(f"axis 0 may be 1 to {OPEN_BATCH}; for more set [model] max_batch")
        draft.fates[f"input[{index}].dims"] = limit if not entry.HasField("reshape") else honoured(text)
    if entry.HasField("reshape"):
        shape = _text([*([DYNAMIC] if batch else []), *entry.reshape.shape])
        draft.fates[f"input[{index}].reshape"] = lost(f"clients send the model's own shape, {shape}")


def _type(spec: TensorSpec) -> str:
    version = " (from ONNX Runtime 1.20 on)" if spec.dtype is DType.BF16 else ""
    return spec.dtype.value + version


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _text(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
