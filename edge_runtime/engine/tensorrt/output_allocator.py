"""Memory for outputs whose shape their data decides: TensorRT asks for it while it puts a run on the stream."""

from __future__ import annotations

from typing import Any, Callable

from edge_runtime.tensorrt_api import TensorRT
from edge_runtime.tensors import Shape


class OutputRequest:
    """What TensorRT asked of one output, and said of it, in the run that is under way.

    `allocate` gives the address of at least so many bytes. What it raises is kept: TensorRT can't pass it on.
    """

    def __init__(self, allocate: Callable[[int], int]) -> None:
        self.shape: Shape | None = None
        self._allocate = allocate
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Forgets the last run."""
        self.shape = None
        self._error = None

    def answer(self, nbytes: int) -> int:
        """The address for TensorRT; 0, which is a refusal, if there is none."""
        try:
            return self._allocate(nbytes)
        except BaseException as error:  # noqa: BLE001  (raised by `check`: TensorRT would swallow it)
            self._error = error
            return 0

    def check(self) -> None:
        """Raises what went wrong in a callback."""
        if self._error is not None:
            raise self._error


def make_output_allocator(library: TensorRT, request: OutputRequest) -> Any:
    """An `IOutputAllocator` that fills `request`; it must outlive the execution context that it is given to."""
    base: Any = library.module.IOutputAllocator

    class Bridge(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:  # noqa: ARG002
            return request.answer(size)

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:  # noqa: ARG002
            return request.answer(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:  # noqa: ARG002
            request.shape = tuple(int(length) for length in shape)

    return Bridge()
