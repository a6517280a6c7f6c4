"""The weights of a plan in memory, where its ONNX doesn't hold them."""

from __future__ import annotations

from typing import Any, Dict, Iterable

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import BackendError, ModelError, PlanCorruptError
from edge_runtime.plan.contents import PlanFiles

Array = npt.NDArray[Any]


def read_weights(plan: PlanFiles, what: str) -> Dict[str, Array]:
    """The weights that lie apart from a plan's ONNX by tensor name, all of them views of one buffer.

    Raises:
        PlanCorruptError: the ONNX refers to other bytes than there are, or these aren't what the manifest names.
        BackendError: there is too little memory for them.
    """
    if plan.weights is None:
        return {}
    from edge_runtime.graph.weights import weights_apart  # noqa: PLC0415  (needs onnx, as no other engine does)

    try:
        places = weights_apart(plan.model, what)
    except ModelError as error:
        raise PlanCorruptError(f"{error}") from error
    nbytes = max((place.offset + place.nbytes for place in places), default=0)
    try:
        buffer = np.empty(nbytes, np.uint8)
    except MemoryError:
        raise BackendError(f"{what}: its weights take {nbytes:,} bytes, which this machine hasn't free") from None
    _fill(buffer, plan.weights, what)
    return {
        place.name: buffer[place.offset : place.offset + place.nbytes].view(place.dtype.numpy).reshape(place.shape)
        for place in places
    }


def _fill(buffer: Array, chunks: Iterable[bytes], what: str) -> None:
    position = 0
    for chunk in chunks:
        end = position + len(chunk)
        if end <= buffer.size:
            buffer[position:end] = np.frombuffer(chunk, np.uint8)
        position = end
    if position != buffer.size:
        raise PlanCorruptError(
            f"{what}: its ONNX refers to {buffer.size} bytes of weights, got {position}; build the plan again"
        )
