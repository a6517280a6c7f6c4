"""One request through an engine as a server takes it, stamped at every stage."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, MutableSequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.engine import Engine
from edge_runtime.profiler.stages import ACQUIRED, COMPUTED, COPIED_IN, COPIED_OUT, END, PARSED, START, SUBMITTED
from edge_runtime.tensors import DType, Feeds
from edge_runtime.wire.elements import on_the_wire
from edge_runtime.wire.http_infer import body_from_answer, request_from_body
from edge_runtime.wire.inference import InferAnswer

Array = npt.NDArray[Any]
Clock = Callable[[], int]


class StagedCall:
    """Decodes a request's body, runs it in a slot of the engine and frames the answer; any thread may call it.

    Attributes:
        tells_submission: whether the engine's slots say when all of a run was enqueued.
    """

    def __init__(self, engine: Engine, feeds: Feeds, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._head_nbytes, body = http_body(feeds)
        self._body = memoryview(body)
        with engine.slot() as slot:
            self.tells_submission = hasattr(slot, "submitted_ns")

    def __call__(self, stamps: MutableSequence[int], at: int) -> None:
        """One call; its stamps go to their places behind `at`.

        Raises:
            BackendError: the engine library failed.
        """
        clock, engine, info = self._clock, self._engine, self._engine.info
        stamps[at + START] = clock()
        request = request_from_body(self._body, self._head_nbytes, info.name, "", engine.signature)
        stamps[at + PARSED] = clock()
        slot: Any = engine.acquire()
        try:
            stamps[at + ACQUIRED] = clock()
            for name, value in request.inputs.items():
                np.copyto(slot.bind(name, value.shape), value)
            stamps[at + COPIED_IN] = clock()
            outputs = slot.run()
            stamps[at + COMPUTED] = clock()
            if self.tells_submission:
                stamps[at + SUBMITTED] = slot.submitted_ns
            copies = {name: value.copy() for name, value in outputs.items()}
        finally:
            engine.release(slot)
        stamps[at + COPIED_OUT] = clock()
        body_from_answer(InferAnswer(info.name, str(info.version), request.id, copies), request.outputs)
        stamps[at + END] = clock()


def http_body(feeds: Feeds) -> Tuple[int, bytes]:
    """A request over HTTP, all tensors binary both ways: the length of its head, and the body."""
    rows: List[Dict[str, Any]] = []
    pieces: List[bytes] = []
    for name, value in feeds.items():
        array = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
        pieces.append(np.ascontiguousarray(on_the_wire(array)).tobytes())
        dtype, size = DType.from_numpy(array.dtype), {"binary_data_size": len(pieces[-1])}
        rows.append({"name": name, "shape": list(value.shape), "datatype": dtype.value, "parameters": size})
    head = {"inputs": rows, "parameters": {"binary_data_output": True}}
    text = json.dumps(head, separators=(",", ":")).encode()
    return len(text), b"".join([text, *pieces])
