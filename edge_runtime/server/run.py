"""One run of a model: inputs into a slot's rows, compute, outputs out of them as answers."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.engine import Engine, Slot
from edge_runtime.errors import BackendError, DeviceLostError, EdgeRuntimeError, RequestError, ServerUnavailableError
from edge_runtime.scheduling.request import DELIVERED, Request
from edge_runtime.server.statistics import RunTimes

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Clock = Callable[[], int]


class Run(RunTimes):
    """Requests that share a run, and its times; used by one thread at a time.

    After the last segment, `outcomes` has for each request what its `encode` made of its rows, or the error that it
    ends in, and the slot is back in its pool. `parts` are the runs that were made instead of one that failed. No run
    after one that `has_lost_device` can succeed in this process.
    """

    __slots__ = ("_clock", "_engine", "_slot", "has_lost_device", "is_failed", "outcomes", "parts", "requests", "rows")

    def __init__(self, engine: Engine, requests: Sequence[Request], rows: int, clock: Clock) -> None:
        self._engine = engine
        self._slot: Slot | None = None
        self._clock = clock
        self.requests = requests
        self.rows = rows
        self.outcomes: List[Any] = []
        self.parts: Sequence[Run] = ()
        self.is_failed = False
        self.has_lost_device = False

    def segment(self, index: int, is_last: bool, slot: Slot | None = None) -> bool:
        """Runs one plan of the chain, in `slot` or in one that it waits for; whether the run goes on after it."""
        requests, clock = self.requests, self._clock
        try:
            if index == 0:
                self.start_ns = self.input_done_ns = self.infer_done_ns = clock()
                self._slot = requests[0].slot or slot or self._engine.acquire()
                self._copy_inputs(self._slot)
                self.input_done_ns = self.infer_done_ns = clock()
            outputs = _run(self._slot, index, is_last)
            if not is_last:
                return True
            self.infer_done_ns = clock()
            self.outcomes = [requests[0].encode(outputs)] if len(requests) == 1 else self._answers(outputs)
        except DeviceLostError as error:
            logger.critical("model %s: %s", self._engine.info.name, error)
            self.has_lost_device = True
            self._fail(ServerUnavailableError("the server has lost its GPU, and is started again; try again later"))
        except EdgeRuntimeError as error:
            self._fail_or_part(error)
        except Exception as error:  # the top frame of a run: its requests must hear of it
            logger.exception("model %s: a run failed", self._engine.info.name)
            self._fail(BackendError(f"unexpected {type(error).__name__}"))
        self.output_done_ns = clock()
        self._release()
        return False

    def deliver(self) -> bool:
        """Lets requests send their answers from this thread, those that can; whether all have."""
        is_all = True
        for index, request in enumerate(self.requests):
            if request.deliver is not None and not isinstance(self.outcomes[index], EdgeRuntimeError):
                self.outcomes[index] = request.deliver(self.outcomes[index])
                if self.outcomes[index] is DELIVERED:
                    request.inputs = {}  # their memory may be used again before this run is emitted
            is_all = is_all and self.outcomes[index] is DELIVERED
        return is_all

    def emit(self) -> None:
        """Hands the outcomes out, on the loop's thread."""
        for request, outcome in zip(self.requests, self.outcomes):
            try:
                request.emit(outcome)
            except Exception:  # one answer that can't be sent must not keep others from theirs
                logger.exception("model %s: an answer can't be given out", request.model)

    def _copy_inputs(self, slot: Slot) -> None:
        first = self.requests[0]
        if first.slot is not None:
            return
        if len(self.requests) == 1:
            for name, value in first.inputs.items():
                np.copyto(slot.bind(name, value.shape), value)
        else:
            self._copy_rows(slot)

    def _copy_rows(self, slot: Slot) -> None:
        for name, value in self.requests[0].inputs.items():
            memory, start = slot.bind(name, (self.rows, *value.shape[1:])), 0
            for request in self.requests:
                end = start + request.rows
                np.copyto(memory[start:end], request.inputs[name])
                start = end

    def _answers(self, outputs: Mapping[str, Array]) -> List[Any]:
        wrong = [name for name, value in outputs.items() if value.shape[:1] != (self.rows,)]
        if wrong:
            raise BackendError(f"output {wrong[0]!r} has another number of rows than the inputs")
        start, answers = 0, []
        for request in self.requests:
            end = start + request.rows
            own: Dict[str, Array] = {name: value[start:end] for name, value in outputs.items()}
            answers.append(_encoded(request, own))
            start = end
        return answers

    def _fail_or_part(self, error: EdgeRuntimeError) -> None:
        """Ends one request in the error; of several, each runs again alone, so that one can't spoil the others."""
        if len(self.requests) == 1:
            self._fail(error)
            return
        logger.info("model %s: a run of %d requests failed: %s", self._engine.info.name, len(self.requests), error)
        self._release()
        self.outcomes = []
        self.is_failed = True
        for request in self.requests:
            alone = Run(self._engine, (request,), request.rows, self._clock)
            for index in range(self._engine.segment_count):
                if not alone.segment(index, index == self._engine.segment_count - 1):
                    break
            self.outcomes += alone.outcomes
            self.has_lost_device = self.has_lost_device or alone.has_lost_device
            self.parts = [*self.parts, alone]
        self.infer_done_ns = self._clock()

    def _fail(self, error: EdgeRuntimeError) -> None:
        if not isinstance(error, (RequestError, ServerUnavailableError)):  # whoever knows why has logged that
            logger.error("model %s: %s", self._engine.info.name, error)
        self.outcomes = [error] * len(self.requests)
        self.is_failed = True

    def _release(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None and self.requests[0].slot is None:
            self._engine.release(slot)


def _run(slot: Any, index: int, is_last: bool) -> Mapping[str, Array]:
    if index == 0 and is_last:
        return slot.run()  # type: ignore[no-any-return]
    return slot.run_segment(index) or {}


def _encoded(request: Request, outputs: Mapping[str, Array]) -> Any:
    try:
        return request.encode(outputs)
    except EdgeRuntimeError as error:
        return error
    except Exception as error:  # one request's answer must not take the others' with it
        logger.exception("model %s: an answer can't be encoded", request.model)
        return BackendError(f"unexpected {type(error).__name__}")
