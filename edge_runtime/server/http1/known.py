"""Binary inferences whose heads were seen before: what is left is to find the tensors and to frame the answer."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import numpy as np

from edge_runtime.scheduling.request import Outputs
from edge_runtime.server.models import ServedModel
from edge_runtime.tensors import DType
from edge_runtime.wire.http_infer import HEAD_LENGTH, InferHead

_KEPT_ANSWERS = 64


class KnownInference:
    """Requests to one model with one JSON head, all tensors of which are binary both ways."""

    __slots__ = ("_answers", "_identity", "_names", "head", "model")

    def __init__(self, model: ServedModel, head: InferHead) -> None:
        self.model = model
        self.head = head
        self._names = [output.name for output in head.outputs]
        self._identity: Dict[str, Any] = {"model_name": model.name, "model_version": model.version}
        if head.id:
            self._identity["id"] = head.id
        self._answers: Dict[Tuple[Any, ...], bytes] = {}

    def encode(self, outputs: Outputs) -> bytes:
        """The whole HTTP answer: its head, made once for every set of shapes, and a copy of the outputs."""
        arrays: List[Any] = [outputs[name] for name in self._names]
        shapes = tuple([array.shape for array in arrays])
        head = self._answers.get(shapes)
        if head is None:
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            head = self._answers[shapes] = self._head(arrays)
        pieces: List[Any] = [head]
        pieces += [array if array.flags.c_contiguous else np.ascontiguousarray(array) for array in arrays]
        return b"".join(pieces)

    def _head(self, arrays: List[Any]) -> bytes:
        described = [
            {
                "name": name,
                "datatype": DType.from_numpy(array.dtype).value,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": array.nbytes},
            }
            for name, array in zip(self._names, arrays)
        ]
        text = json.dumps({**self._identity, "outputs": described}, separators=(",", ":")).encode()
        length = len(text) + sum(array.nbytes for array in arrays)
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{HEAD_LENGTH}: {len(text)}\r\n"
            f"Content-Length: {length}\r\nServer: edge_runtime\r\n\r\n"
        ).encode() + text
