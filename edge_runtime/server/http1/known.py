"""Binary inferences whose heads were seen before: what is left is to find the tensors and to frame the answer."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import numpy as np

from edge_runtime.scheduling.request import Outputs
from edge_runtime.server.models import ServedModel
from edge_runtime.server.origin import TRACEPARENT
from edge_runtime.tensors import DType
from edge_runtime.wire.elements import on_the_wire
from edge_runtime.wire.http_infer import HEAD_LENGTH, InferHead
from edge_runtime.wire.inference import RUNG_PARAMETER, Regions
from edge_runtime.wire.regions import write_outputs

_KEPT_ANSWERS = 64


class KnownInference:
    """Requests to one model with one JSON head, no tensor of which is JSON, neither way; of one trace, or of none."""

    __slots__ = ("_answers", "_identity", "_names", "_sent", "_trace", "head", "model")

    def __init__(self, model: ServedModel, head: InferHead, traceparent: str | None) -> None:
        self.model = model
        self.head = head
        self._names = [output.name for output in head.outputs]
        self._sent = [output.place is None for output in head.outputs]
        self._identity: Dict[str, Any] = {"model_name": model.name, "model_version": model.version}
        if head.id:
            self._identity["id"] = head.id
        if model.place.label:
            self._identity["parameters"] = {RUNG_PARAMETER: model.place.label}
        self._answers: Dict[Tuple[Any, ...], bytes] = {}
        self._trace = "" if traceparent is None else f"{TRACEPARENT}: {traceparent}\r\n"

    def encode(self, outputs: Outputs) -> bytes:
        """The whole HTTP answer: its head, made once for every set of shapes, and a copy of the outputs."""
        arrays: List[Any] = [outputs[name] for name in self._names]
        shapes = tuple([array.shape for array in arrays])
        head = self._answers.get(shapes)
        if head is None:
            head = self._kept_head(shapes, arrays)
        pieces: List[Any] = [head]
        pieces += [array if array.flags.c_contiguous else np.ascontiguousarray(array) for array in arrays]
        return b"".join(pieces)

    def encode_with(self, regions: Regions, outputs: Outputs) -> bytes:
        """The whole HTTP answer, without those outputs that go into regions, which are written there.

        Raises:
            RequestError: an output doesn't fit into its region.
        """
        arrays: List[Any] = [outputs[name] for name in self._names]
        shapes = tuple([array.shape for array in arrays])
        pieces: List[Any] = [self._answers.get(shapes) or self._kept_head(shapes, arrays)]
        pieces += [np.ascontiguousarray(array) for array, is_sent in zip(arrays, self._sent) if is_sent]
        write_outputs(outputs, self.head.outputs, regions)
        return b"".join(pieces)

    def _kept_head(self, shapes: Tuple[Any, ...], arrays: List[Any]) -> bytes:
        if len(self._answers) >= _KEPT_ANSWERS:
            self._answers.clear()
        head = self._answers[shapes] = self._head(arrays, [array.nbytes for array in arrays])
        return head

    def _head(self, arrays: List[Any], sizes: List[int]) -> bytes:
        described = [
            {
                "name": name,
                "datatype": DType.from_numpy(array.dtype).value,
                "shape": list(array.shape),
                **({"parameters": {"binary_data_size": size}} if is_sent else {}),
            }
            for name, array, size, is_sent in zip(self._names, arrays, sizes, self._sent)
        ]
        text = json.dumps({**self._identity, "outputs": described}, separators=(",", ":")).encode()
        length = len(text) + sum(size for size, is_sent in zip(sizes, self._sent) if is_sent)
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{HEAD_LENGTH}: {len(text)}\r\n"
            f"Content-Length: {length}\r\nServer: edge_runtime\r\n{self._trace}\r\n"
        ).encode() + text


class KnownStrings(KnownInference):
    """Requests for outputs some of which are BYTES, so that shapes don't say how long an answer is."""

    __slots__ = ()

    def encode(self, outputs: Outputs) -> bytes:
        """The whole HTTP answer, with a copy of the outputs."""
        arrays: List[Any] = [outputs[name] for name in self._names]
        raw = [np.ascontiguousarray(on_the_wire(array)) for array in arrays]
        pieces: List[Any] = [self._head(arrays, [array.nbytes for array in raw])]
        return b"".join(pieces + [array for array, is_sent in zip(raw, self._sent) if is_sent])

    def encode_with(self, regions: Regions, outputs: Outputs) -> bytes:
        """The whole HTTP answer, without those outputs that go into regions, which are written there.

        Raises:
            RequestError: an output doesn't fit into its region.
        """
        write_outputs(outputs, self.head.outputs, regions)
        return self.encode(outputs)


def known_inference(model: ServedModel, head: InferHead, traceparent: str | None) -> KnownInference:
    """What is kept of a head for the requests after it that have the same HTTP head, and so the same trace, if any."""
    signature = model.engine.signature
    has_strings = any(signature.output(output.name).dtype is DType.BYTES for output in head.outputs)
    return (KnownStrings if has_strings else KnownInference)(model, head, traceparent)
