"""CUDA graphs of whole runs, one for each set of input shapes and places: launching one costs the CPU a single call.

A graph holds for as long as the shapes and addresses of its execution context stay what they were. So each graph has a
context of its own, where contexts can share their scratch memory; else there is one, and it goes when they change.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Callable, Hashable, List, Tuple

from edge_runtime.device.cuda.port import Cuda
from edge_runtime.device.cuda.streams import Graph, Stream
from edge_runtime.engine.tensorrt.execution import Execution
from edge_runtime.engine.tensorrt.gpu_use import give_back
from edge_runtime.errors import BackendError, DeviceLostError

logger = logging.getLogger(__name__)

Key = Tuple[Hashable, int]  # shapes, and the number of the placement

MOST_GRAPHS = 32
_MOST_REFUSALS = 8
_HALVING_USES = 4096


@dataclass
class _Captured:
    """A graph and the context that it belongs to."""

    graph: Graph
    execution: Execution


class ShapeGraphs:
    """The graphs of one slot, by key; every failure but a lost device leaves the slot without that graph.

    `new_execution` makes a context that shares the slot's scratch memory; None if there is only `main`.
    """

    def __init__(
        self, cuda: Cuda, stream: Stream, main: Execution, new_execution: Callable[[], Execution] | None, what: str
    ) -> None:
        self._cuda = cuda
        self._stream = stream
        self._main = main
        self._new_execution = new_execution
        self._what = what
        self._captured: OrderedDict[Key, _Captured] = OrderedDict()
        self._spare: List[Execution] = []
        self._most = MOST_GRAPHS if new_execution else 1
        self._refused: set[Hashable] = set()  # shapes
        self._uses: Counter[Key] = Counter()
        self._counted = 0

    def launch(self, key: Key) -> bool:
        """Puts the run of a shape on the stream, if there is a graph of it."""
        found = self._captured.get(key)
        if found is None:
            return False
        try:
            found.graph.launch(self._stream)
        except DeviceLostError:
            raise
        except BackendError as error:
            self._drop(key)
            self._refuse(key, error)
            return False
        self._captured.move_to_end(key)
        self._count(key)
        return True

    def execution(self, key: Key) -> Execution:
        """The context to run a shape on without a graph: one that a graph can be captured from, if there is room."""
        if key in self._captured:  # what else is known of the shape was forgotten
            self._drop(key)
        if self._new_execution is None:
            self.forget()  # the context's shapes or addresses are about to change
            return self._main
        if key[0] in self._refused or len(self._refused) >= _MOST_REFUSALS:
            return self._main
        self._count(key)
        if not self._spare and len(self._captured) >= self._most:
            self._make_room(key)
        if not self._spare and len(self._captured) < self._most:
            self._make_spare(self._new_execution)
        return self._spare[-1] if self._spare else self._main

    def _make_room(self, key: Key) -> None:
        """Drops the graph that wasn't used for longest if the shape is in more use than that one's.

        So shapes in turn, more of them than there is room for, aren't captured over and over.
        """
        oldest = next(iter(self._captured), None)
        if oldest is not None and self._uses[key] > self._uses[oldest]:
            self._drop(oldest)

    def _count(self, key: Key) -> None:
        """Counts a use; now and then all counts are halved, for shapes go out of use."""
        self._uses[key] += 1
        self._counted += 1
        if self._counted >= _HALVING_USES:
            self._counted = 0
            self._uses = Counter({key: uses // 2 for key, uses in self._uses.items() if uses > 1})

    def _make_spare(self, make: Callable[[], Execution]) -> None:
        try:
            self._spare.append(make())
        except DeviceLostError:
            raise
        except BackendError as error:
            self._most = len(self._captured)
            logger.info("%s: runs with no more than %d CUDA graphs: %s", self._what, self._most, error)

    def capture(self, key: Key, execution: Execution, submit: Callable[[], None]) -> None:
        """Records what `submit` puts on the stream as the graph of a shape, after it was run once without one.

        The stream must have finished.
        """
        is_own = bool(self._spare) and execution is self._spare[-1]
        is_refused = key[0] in self._refused or len(self._refused) >= _MOST_REFUSALS
        if is_refused or not (is_own or self._new_execution is None):
            return
        try:
            graph = self._stream.capture(submit)
        except DeviceLostError:
            raise
        except BackendError as error:
            with contextlib.suppress(BackendError):
                self._cuda.abandon_capture(self._stream.handle)
            self._refuse(key, error)
            return
        if is_own:
            self._spare.pop()
        self._captured[key] = _Captured(graph, execution)

    def _refuse(self, key: Key, error: BackendError) -> None:
        self._refused.add(key[0])
        logger.info("%s: runs without a CUDA graph at shapes %s: %s", self._what, key[0], error)

    def forget(self, placement: int | None = None) -> None:
        """Drops all graphs, as addresses or the one context's shapes change; or those of a placement, by its number."""
        for key in list(self._captured):
            if placement in (None, key[1]):
                self._drop(key)

    def _drop(self, key: Key) -> None:
        found = self._captured.pop(key)
        if found.execution is not self._main:
            self._spare.append(found.execution)
        give_back(found.graph)

    def close(self) -> None:
        """Gives graphs and their contexts back, once the stream has finished; idempotent."""
        with contextlib.ExitStack() as stack:
            for execution in self._spare:
                stack.callback(execution.close)
            self._spare = []
            for found in self._captured.values():
                if found.execution is not self._main:
                    stack.callback(found.execution.close)
                stack.callback(give_back, found.graph)
            self._captured.clear()
