"""A slot of TensorRT: an execution context, a stream of its own, and memory that both sides reach."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, Tuple

import numpy.typing as npt

from edge_runtime.device.cuda.memory import DeviceBuffer
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.engine.chain import UNLINKED, Links
from edge_runtime.engine.tensorrt.execution import Execution
from edge_runtime.engine.tensorrt.gpu_use import give_back
from edge_runtime.engine.tensorrt.graphs import ShapeGraphs
from edge_runtime.engine.tensorrt.memory_kind import AUTO
from edge_runtime.engine.tensorrt.placement import OWN, Placement
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot_tensors import RunKey, Shaped, SlotTensors
from edge_runtime.engine.tensorrt.tensor_memory import TensorMemory
from edge_runtime.errors import BackendError, DeviceLostError
from edge_runtime.tensors import Shape

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


class TensorRTSlot:
    """Memory for the profile's largest shapes; a run copies in, computes and copies out on the slot's own stream.

    At shapes that were seen before, a run allocates nothing. `run` and `close` wait for the stream, so memory is never
    given back or written to while the GPU uses it.

    Attributes:
        left: numbers of placements on which nothing runs any more, from any thread; their graphs go with the next run.
        submitted_ns: when all of the last run was on the stream, copies too (`time.perf_counter_ns`).
    """

    def __init__(self, shared: PlanEngine, read_plan: Callable[[], bytes], links: Links = UNLINKED) -> None:
        self._shared = shared
        self._links = links
        self._gpu = shared.gpu
        self._cuda = shared.gpu.cuda
        self._shapes: Dict[str, Shape] = {}
        self.left: Deque[int] = deque()
        self.submitted_ns = 0
        self._last: RunKey | None = None
        shared.acquire()
        try:
            with contextlib.ExitStack() as owned:
                owned.callback(shared.release)
                self._construct(owned, read_plan)
                self._owned = owned.pop_all()
        except DeviceLostError as error:
            raise self._gpu.lose(error) from error

    def _construct(self, owned: contextlib.ExitStack, read_plan: Callable[[], bytes]) -> None:
        self._gpu.enter()
        self._stream = Stream(self._cuda)
        owned.callback(give_back, self._stream)
        self._done = Event(self._cuda, blocking=True)
        owned.callback(give_back, self._done)
        self._tensors = SlotTensors(self._shared, owned, self._links)
        self._main, self._graphs = self._contexts(owned, read_plan)
        owned.callback(self._drain)
        self._tensors.reserve(self._main)
        if self._graphs and self._tensors.follows_data:
            self._graphs.close()
            self._graphs = None

    def _contexts(
        self, owned: contextlib.ExitStack, read_plan: Callable[[], bytes]
    ) -> Tuple[Execution, ShapeGraphs | None]:
        shared, stream = self._shared, self._stream.handle
        is_on_host = any(tensor.is_host for tensor in shared.tensors)
        has_graphs = shared.options.graphs == AUTO and self._cuda.has_graphs and not is_on_host
        make: Callable[[], Execution] | None = None
        if has_graphs and shared.shares_scratch:
            make = self._sharing(owned)
            main = make()
        else:
            main = Execution(*shared.new_context(stream, read_plan), shared.tensors, stream)
        owned.callback(main.close)
        if not has_graphs:
            return main, None
        graphs = ShapeGraphs(self._cuda, self._stream, main, make, shared.what)
        owned.callback(graphs.close)
        return main, graphs

    def _sharing(self, owned: contextlib.ExitStack) -> Callable[[], Execution]:
        """A maker of contexts that run one after the other on the same scratch memory."""
        shared, stream, scratch = self._shared, self._stream.handle, 0
        if shared.scratch_nbytes:
            buffer = DeviceBuffer(self._cuda, shared.scratch_nbytes, "scratch")
            owned.callback(give_back, buffer)
            scratch = buffer.address
        return lambda: Execution(*shared.new_sharing_context(stream, scratch), shared.tensors, stream)

    @property
    def context(self) -> Any:
        """The `IExecutionContext` of runs without a graph."""
        return self._main.context

    @property
    def has_deciding_values(self) -> bool:
        """Whether what inputs hold, and not their shapes alone, decides whether there can be a run."""
        return self._tensors.follows_data or any(tensor.is_host for tensor in self._shared.tensors)

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of this slot's memory for an input; `shape` lies inside the profile."""
        self._shapes[name] = shape
        return self._tensors.memory[name].view(shape)

    def memory_of(self, name: str) -> TensorMemory:
        """The memory of a tensor, for a slot of a later part of a chain, which is closed before this one."""
        return self._tensors.memory[name]

    def run(self, place: Placement = OWN) -> Dict[str, Array]:
        """Runs what is bound; outputs hold until the next run. Those that lie elsewhere (`place`) aren't among them.

        Raises:
            InvalidRequestError: a value of an input doesn't fit what TensorRT computes with.
            UnfitInputsError: shapes, or values that decide some, don't fit together.
            EnqueueError: TensorRT refuses the run.
            DeviceLostError: the GPU was lost to this process, now or before.
            BackendError: TensorRT or CUDA failed otherwise; its text is in the message.
        """
        self._gpu.enter()
        try:
            return self._run(place)
        except DeviceLostError as error:
            raise self._gpu.lose(error) from error
        except BaseException:
            self._drain()
            raise

    def _run(self, place: Placement) -> Dict[str, Array]:
        while self.left:
            number = self.left.popleft()
            self._tensors.forget(number)
            if self._graphs:
                self._graphs.forget(number)
        tensors, shapes = self._tensors, {spec.name: self._shapes[spec.name] for spec in self._shared.signature.inputs}
        tensors.narrow(shapes)
        key = tuple(shapes.values()), place.number
        shaped = tensors.known(key)
        if shaped is None or self._graphs is None or not self._graphs.launch(key):
            shaped = self._run_plainly(key, shapes, place)
        else:
            self._wait()
        tensors.widen(shaped)
        return shaped.outputs

    def _run_plainly(self, key: RunKey, shapes: Dict[str, Shape], place: Placement) -> Shaped:
        """Runs without a graph, and captures one for the next time."""
        tensors, graphs = self._tensors, self._graphs
        execution = graphs.execution(key) if graphs else self._main
        is_repeated = execution.is_settled and key == self._last
        self._last = key
        generation = tensors.generation
        shaped = tensors.shaped(execution, shapes, place)
        if graphs and tensors.generation != generation:
            graphs.forget()
        with tensors.asked():
            self._submit(execution, shaped)
        answered = tensors.decided(shaped)
        for copy in answered.copies_out:
            copy.submit(self._stream)
        self._wait()
        execution.is_settled = True
        if graphs and not shaped.is_fixed:
            self._graphs = None
            graphs.close()
        elif graphs and (is_repeated or execution is not self._main):
            graphs.capture(key, execution, lambda: self._submit(execution, shaped))
        return answered

    def _submit(self, execution: Execution, shaped: Shaped) -> None:
        for copy in shaped.copies_in:
            copy.submit(self._stream)
        execution.enqueue()
        for copy in shaped.copies_out:
            copy.submit(self._stream)

    def _wait(self) -> None:
        self._done.record(self._stream)
        self.submitted_ns = time.perf_counter_ns()
        self._done.synchronize()
        self._tensors.settle()

    def _drain(self) -> None:
        """Waits for what a failed run left on the stream, so that its memory can be used again."""
        try:
            self._stream.synchronize()
        except DeviceLostError as error:
            self._gpu.lose(error)
        except BackendError as error:
            logger.info("%s: %s", self._shared.what, error)

    def close(self) -> None:
        """Gives context, stream and memory back, and the engine with its last slot; idempotent."""
        with contextlib.suppress(BackendError):  # of a lost GPU, all that Python holds is let go of
            self._gpu.enter()
        self._owned.close()
