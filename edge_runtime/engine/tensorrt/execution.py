"""One execution context: shapes and addresses go to TensorRT only where they changed."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Sequence

from edge_runtime.engine.tensorrt.tensor_io import EngineTensor, TensorIO
from edge_runtime.errors import BackendError
from edge_runtime.tensors import DYNAMIC, Shape


class Execution:
    """A context of an engine and what was set in it; used with one stream, by one thread at a time.

    `is_settled`: it has run at the shapes that it has, so that nothing of theirs is left to be set up.
    """

    def __init__(self, context: Any, io: TensorIO, tensors: Sequence[EngineTensor], stream: int) -> None:
        self.context = context
        self.io = io
        self.is_settled = False
        self._inputs = [tensor for tensor in tensors if tensor.is_input]
        self._stream = stream
        self._shapes: Dict[str, Shape] = {}
        self._addresses: Dict[str, int] = {}
        self._profile = context.active_optimization_profile
        self._taken: set[int] = set()
        self._allocators: Dict[str, Any] = {}

    def set_shapes(self, shapes: Mapping[str, Shape], what: str) -> None:
        """Gives all inputs their shapes.

        Raises:
            BackendError: no optimization profile holds them, or TensorRT refuses them.
        """
        if self._shapes == shapes:
            return
        self.is_settled = False
        self._use_profile(shapes, what)
        changed = [tensor for tensor in self._inputs if self._shapes.get(tensor.name) != shapes[tensor.name]]
        self._shapes = {}  # until all of them are set, none is known
        for tensor in changed:
            if DYNAMIC in tensor.shape:
                self.io.set_shape(tensor.name, shapes[tensor.name])
        self._shapes = dict(shapes)

    def _use_profile(self, shapes: Mapping[str, Shape], what: str) -> None:
        """Takes the first profile that holds the shapes and that no other context has to itself."""
        dynamic = [tensor for tensor in self._inputs if tensor.profiles and DYNAMIC in tensor.shape]
        count = min((len(tensor.profiles) for tensor in dynamic), default=0)
        fitting = [
            index
            for index in range(count)
            if all(tensor.profiles[index].contains(shapes[tensor.name]) for tensor in dynamic)
        ]
        for index in fitting:
            if index == self._profile:
                return
            if index not in self._taken and self.io.use_profile(index, self._stream):
                self._profile = index
                self._shapes, self._addresses = {}, {}
                return
            self._taken.add(index)
        if dynamic:
            state = "is free: load it with one slot" if fitting else "holds them: build it for them"
            raise BackendError(f"{what}: inputs of {dict(shapes)}: no optimization profile {state}")

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Gives tensors the addresses that TensorRT reads and writes."""
        for name, address in addresses.items():
            if self._addresses.get(name) != address:
                self.io.bind(name, address)
                self._addresses[name] = address

    def follow(self, name: str, make_allocator: Callable[[], Any]) -> None:
        """Lets an output find its memory while it runs; the allocator is made once."""
        if name not in self._allocators:
            self._allocators[name] = make_allocator()
            self.io.set_output_allocator(name, self._allocators[name])

    def enqueue(self) -> None:
        """Puts one run on the stream."""
        self.io.enqueue(self._stream)

    def close(self) -> None:
        """Gives the context back, once its stream has finished; idempotent."""
        self.context = None
        del self.io
