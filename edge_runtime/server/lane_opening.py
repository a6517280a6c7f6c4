"""From what a client asks shared memory for to a region of it, step by step and off the loop where it takes long."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Callable, Dict, Hashable, List, Mapping, Sequence

import numpy as np

from edge_runtime.errors import BackendError, EdgeRuntimeError, InvalidRequestError, ServerUnavailableError
from edge_runtime.scheduling.request import Outputs, Request
from edge_runtime.server.lane_region import LaneModel, MemoryBudget, Region, unserved
from edge_runtime.tensors import DType, Shape, TensorSpec, element_count
from edge_runtime.wire.inference import WantedOutput, check_wanted
from edge_runtime.wire.lane import LaneOpen, layout_of

logger = logging.getLogger(__name__)


class Opening:
    """One region in the making. `done` is called once, with the region or the error, unless it is abandoned.

    Output shapes that the model doesn't fix are learnt by two runs, on zeros and on ones: where the two differ, they
    depend on the data, and no memory fits.

    Raises:
        RequestError: what is asked for doesn't fit the model or the budget; nothing was allocated.
    """

    def __init__(self, asked: LaneOpen, model: LaneModel, budget: MemoryBudget, done: Callable[[Any], None]) -> None:
        signature = model.engine.signature
        self._model = model
        self._budget = budget
        self._done = done
        self._frames = asked.frames
        self._request: Request | None = None
        self._outcomes: List[Any] = []
        self._is_abandoned = False
        for name, shape in asked.shapes.items():
            signature.check_input(name, signature.input(name).dtype, shape)
        signature.check_shapes(asked.shapes)
        names = asked.outputs or tuple(spec.name for spec in signature.outputs)
        check_wanted([WantedOutput(name, is_binary=True) for name in names], signature)
        self._wanted = names
        _check_sizes((*signature.inputs, *signature.outputs))
        self._inputs = tuple(TensorSpec(spec.name, spec.dtype, asked.shapes[spec.name]) for spec in signature.inputs)
        self.nbytes = 0
        self.client: Hashable = None
        budget.check(_nbytes(self._inputs) * self._frames)

    def begin(self) -> None:
        """Goes on to the next step."""
        outputs = self._model.engine.signature.outputs
        if any(spec.is_dynamic for spec in outputs):
            self._try(0)
        else:
            self._make({spec.name: spec.shape for spec in outputs})

    def abandon(self) -> None:
        """Says that nobody wants the region any more: it is freed when it is made."""
        self._is_abandoned = True
        if self._request is not None:
            self._model.cancel(self._request)

    def _try(self, value: int) -> None:
        feeds = {spec.name: np.broadcast_to(np.array(value, spec.dtype.numpy), spec.shape) for spec in self._inputs}
        engine = self._model.engine
        rows = self._inputs[0].shape[0] if engine.signature.max_batch_size else 1
        self._request = Request(self._model.key, feeds, _shapes, self._learnt, self._model.now_ns(), rows)
        self._request.client = self.client
        try:
            self._model.submit(self._request)
        except EdgeRuntimeError as error:
            self._done(error)

    def _learnt(self, outcome: Any) -> None:
        self._request = None
        self._outcomes.append(outcome)
        if self._is_abandoned:
            return
        if isinstance(outcome, ServerUnavailableError):
            self._done(outcome)
        elif len(self._outcomes) < 2:
            self._try(1)
        else:
            self._settle([shapes for shapes in self._outcomes if not isinstance(shapes, EdgeRuntimeError)])

    def _settle(self, found: Sequence[Dict[str, Shape]]) -> None:
        if not found:
            self._done(self._outcomes[-1])
        elif found[0] != found[-1]:
            name = next(name for name, shape in found[0].items() if shape != found[-1][name])
            self._done(
                InvalidRequestError(
                    f"output {name!r} has shapes that depend on the data ({list(found[0][name])}, then "
                    f"{list(found[-1][name])}), so no memory can be shared for it; send requests over HTTP or gRPC"
                )
            )
        else:
            self._make(found[0])

    def _make(self, shapes: Mapping[str, Shape]) -> None:
        signature = self._model.engine.signature
        inputs = {spec.name for spec in self._inputs}
        outputs = {spec.name: TensorSpec(spec.name, spec.dtype, shapes[spec.name]) for spec in signature.outputs}
        layout = layout_of(self._inputs, [outputs[name] for name in self._wanted], self._frames)
        hidden = tuple(spec for name, spec in outputs.items() if name not in inputs and name not in self._wanted)
        nbytes = layout.nbytes + _nbytes(hidden) * self._frames
        try:
            if self._model.is_retired:
                raise unserved()
            self._budget.take(nbytes)
        except EdgeRuntimeError as error:
            self._done(error)
            return
        self.nbytes = nbytes
        self._model.lent.begun()
        making = asyncio.get_running_loop().run_in_executor(None, Region, self._model, layout, hidden)
        making.add_done_callback(self._made)

    def _made(self, making: asyncio.Future[Region]) -> None:
        region = None if making.cancelled() or making.exception() else making.result()
        is_unwanted = self._is_abandoned or self._model.is_retired
        if region is not None and not is_unwanted:
            self._done(region)
            return
        if region is not None:
            os.close(region.descriptor)
            region.retire(self.give_back)
        else:
            self.give_back()
        if not self._is_abandoned:
            self._done(_error_of(making) if region is None else unserved())

    def give_back(self) -> None:
        """Says that the memory of the region is free, or was never had."""
        self._budget.give_back(self.nbytes)
        self._model.lent.ended()


def _error_of(making: asyncio.Future[Region]) -> EdgeRuntimeError:
    error = None if making.cancelled() else making.exception()
    if isinstance(error, EdgeRuntimeError):
        return error
    logger.error("shared memory can't be made", exc_info=error)
    return BackendError(f"unexpected {type(error).__name__}")


def _check_sizes(specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if spec.dtype is DType.BYTES:
            raise InvalidRequestError(
                f"tensor {spec.name!r} is of BYTES, whose elements have no fixed size, so that no shared memory fits; "
                "send the request over HTTP or gRPC"
            )


def _shapes(outputs: Outputs) -> Dict[str, Shape]:
    return {name: value.shape for name, value in outputs.items()}


def _nbytes(specs: Sequence[TensorSpec]) -> int:
    return sum(element_count(spec.shape) * spec.dtype.itemsize for spec in specs)
