"""Enqueues of a fake execution context: ONNX Runtime runs when the stream gets there."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
from fakes.tensorrt_binding import call_back
from fakes.tensorrt_board import internal_error
from fakes.tensorrt_context_state import ALIGNMENT, ContextState
from fakes.tensorrt_model import ShapeConflictError

from edge_runtime.errors import BackendError


class Launch:
    """One enqueue: what it reads and writes was fixed then; `run` is what the stream does later."""

    def __init__(
        self, context: Any, addresses: Dict[str, int], shapes: Dict[str, Tuple[int, ...]], stream: int = 0
    ) -> None:
        self.context, self.addresses, self.shapes, self.stream = context, addresses, shapes, stream
        self.values = dict(context._values)
        self.scratch = context._scratch

    def shares_scratch(self, other: Launch) -> bool:
        """Whether the scratch memory of two overlaps."""
        if self.scratch is None or other.scratch is None:
            return False
        (start, size), (other_start, other_size) = self.scratch, other.scratch
        return start < other_start + other_size and other_start < start + size

    def places(self, is_input: bool) -> List[Tuple[int, int]]:
        """Device address and bytes of each input or output that has a known size."""
        return [
            (self.addresses[tensor.name], self._nbytes(tensor))
            for tensor in self.context._engine._tensors
            if tensor.is_input is is_input and not tensor.is_shape and tensor.name in self.addresses
        ]

    def run(self) -> Dict[str, np.ndarray[Any, Any]]:
        """Reads the inputs, runs the model, and writes the outputs that have an address."""
        engine = self.context._engine
        if self.scratch:
            self.context._module._cuda.view(*self.scratch)[:] = 0xA5
        feeds = {name: np.array(value, engine._by_name[name].numpy) for name, value in self.values.items()}
        for tensor in engine._tensors:
            if tensor.is_input and not tensor.is_shape:
                feeds[tensor.name] = self._view(tensor).copy()
        results = engine._runnable.run(feeds)
        for tensor in engine._tensors:
            if not tensor.is_input and tensor.name in self.addresses:
                self._view(tensor)[...] = results[tensor.name].astype(tensor.numpy)
        self.context._has_run = True
        return results

    def _nbytes(self, tensor: Any) -> int:
        return int(np.prod(self.shapes[tensor.name], dtype=np.int64)) * tensor.numpy.itemsize

    def _view(self, tensor: Any) -> np.ndarray[Any, Any]:
        found = self.context._module._cuda.view(self.addresses[tensor.name], self._nbytes(tensor))
        return found.view(tensor.numpy).reshape(self.shapes[tensor.name])


class Enqueueing(ContextState):
    """What running by name and by index have in common."""

    def _enqueue(self, addresses: Dict[str, int], stream: int, method: str) -> bool:
        if not self._is_ready(method):
            return False
        launch = Launch(self, addresses, self._all_shapes(), stream)
        self._check_alone(launch)
        is_captured = self._module._cuda._stream(stream).capture is not None
        waits = self._has_allocators() or (self._profiler is not None and self._emits)
        if is_captured and self._warm != self._state():
            return self._complain(method, "one enqueue without capture is needed first, after each change of shapes")
        if is_captured and waits:
            return self._complain(method, "the stream is captured, and this enqueue needs to synchronize it")
        self._warm, self._last_stream = self._state(), stream
        try:
            if self._has_allocators():
                return self._run_now(launch)
            self._put(launch, is_captured)
            if waits:
                self._module._cuda.synchronize_stream(stream)
                self._report()
        except BackendError as error:  # CUDA's, which TensorRT logs
            internal_error(self._logger, "context.cpp::enqueue::1", f"Cuda Runtime ({error})", 1)
            return False
        return True

    def _put(self, launch: Launch, is_captured: bool) -> None:
        writes = launch.places(False) + ([self._scratch] if self._scratch else [])
        run = launch.run if is_captured else lambda: self._land(launch)
        self._module._cuda.enqueue(launch.stream, run, launch.places(True), writes)
        if not is_captured:
            self._in_flight.append(launch)
            self._module._launches.append(launch)

    def _check_alone(self, launch: Launch) -> None:
        """A context, and scratch memory, serve one stream at a time."""
        others = {other.stream for other in self._in_flight} - {launch.stream}
        assert not others, f"one execution context on two streams at once: {launch.stream:#x} and {others.pop():#x}"
        for other in self._module._launches:
            if other.stream != launch.stream and other.shares_scratch(launch):
                raise AssertionError("two execution contexts use the same scratch memory at once, on two streams")

    def _land(self, launch: Launch) -> None:
        try:
            launch.run()
        finally:
            self._in_flight.remove(launch)
            self._module._launches.remove(launch)

    def _run_now(self, launch: Launch) -> bool:
        """Outputs whose size their data decides: it waits, and asks for memory during the enqueue."""
        cuda, stream = self._module._cuda, launch.stream
        cuda.synchronize_stream(stream)
        launch.addresses = {n: at for n, at in launch.addresses.items() if self._allocators.get(n) is None}
        results = launch.run()
        for name, allocator in self._allocators.items():
            if allocator is None:
                continue
            tensor = self._engine._by_name[name]
            result = np.ascontiguousarray(results[name].astype(tensor.numpy))
            address = self._reallocated(allocator, name, max(result.nbytes, 1), stream)
            if not address:
                return self._complain("enqueueV3", f"the output allocator gave no memory for {name}")
            self._addresses[name] = address
            if result.nbytes:
                cuda.view(address, result.nbytes)[:] = result.reshape(-1).view(np.uint8)
            shape = self._module.Dims(result.shape)
            call_back(lambda a=allocator, n=name, s=shape: a.notify_shape(n, s), "notify_shape")
        if self._profiler is not None and self._emits:
            self._report()
        return True

    def _reallocated(self, allocator: Any, name: str, nbytes: int, stream: int) -> int:
        """Asks as that version does: from 10 on with the stream, if the class has such a method."""
        arguments: List[Any] = [name, self._addresses.get(name, 0), nbytes, ALIGNMENT]
        method = getattr(allocator, "reallocate_output_async", None) if self._module._major >= 10 else None
        if method is not None:
            return int(call_back(lambda: method(*arguments, stream), "reallocate_output_async", 0) or 0)
        method = getattr(allocator, "reallocate_output", None)
        assert method is not None, f"{type(allocator).__name__} has no method that gives memory"
        return int(call_back(lambda: method(*arguments), "reallocate_output", 0) or 0)

    def _report(self) -> None:
        for index, layer in enumerate(self._engine._layers):
            report = self._profiler.report_layer_time
            if self._module._surface != "8.2":
                call_back(lambda r=report, n=layer["name"], i=index: r(n, float(i + 1)), "report_layer_time")
                continue
            try:
                report(layer["name"], float(index + 1))
            except Exception as error:
                raise AssertionError(f"std::terminate: report_layer_time raised {error!r}") from error
        self._has_run = False

    def _is_ready(self, method: str) -> bool:
        problem = self._problem()
        return not problem or self._complain(method, problem)

    def _problem(self) -> str:
        """Why it can't run now."""
        if self._module._board.enqueue_error:
            return str(self._module._board.enqueue_error)
        if not self._has_memory:
            return "no device memory was given to this context"
        if self._profile < 0:
            return "no optimization profile was chosen, and 0 is another context's"
        missing = self._missing()
        if missing:
            return f"input shapes or values are missing: {', '.join(missing)}"
        try:
            shapes = self._all_shapes()
        except ShapeConflictError as conflict:
            return str(conflict)
        unknown = [name for name, shape in shapes.items() if -1 in shape and self._allocators.get(name) is None]
        return f"the size of {', '.join(unknown)} depends on data: set an output allocator" if unknown else ""

    def _has_allocators(self) -> bool:
        return any(allocator is not None for allocator in self._allocators.values())

    def report_to_profiler(self) -> bool:
        if self._profiler is None or not (self._has_run or self._in_flight):
            return self._complain("reportToProfiler", "there is no profiler, or nothing has run since it was attached")
        self._module._cuda.synchronize_stream(self._last_stream)
        self._report()
        return True
