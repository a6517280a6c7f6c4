"""How an engine's tensors are asked for, given shapes and addresses, and set to work: by name or by index.

TensorRT 8.5 and later know tensors by name. Before, they are bindings by index, once for each optimization profile.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Iterator, List, Protocol, Tuple, Type

import numpy.typing as npt

from edge_runtime.errors import BackendError
from edge_runtime.tensorrt_api import Capability, MessageLog, TensorRT, dtype_of, failure_text, translated
from edge_runtime.tensors import DYNAMIC, DType, Shape

Array = npt.NDArray[Any]


class UnfitInputsError(BackendError):
    """Shapes and values of inputs from which no shape of an output follows."""


class EnqueueError(BackendError):
    """TensorRT refuses to put a run on its stream."""


@dataclass(frozen=True)
class Limits:
    """Smallest, most usual and largest shape of an input in one optimization profile."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def contains(self, shape: Shape) -> bool:
        """Whether a concrete shape lies inside."""
        return len(shape) == len(self.minimum) and all(
            low <= size <= high for low, size, high in zip(self.minimum, shape, self.maximum)
        )

    def __str__(self) -> str:
        return f"{list(self.minimum)}..{list(self.maximum)}"


@dataclass(frozen=True)
class EngineTensor:
    """An input or output as the engine has it; -1 is a dynamic dimension.

    `is_host`: TensorRT reads or writes it in the CPU's memory, for its values decide shapes. `profiles` are the limits
    of an input in each optimization profile.
    """

    name: str
    is_input: bool
    dtype: DType
    shape: Shape
    is_host: bool
    profiles: Tuple[Limits, ...] = ()


class TensorIO(Protocol):
    """The tensors of one engine and, but for `tensors`, of one execution context of it.

    Each method that TensorRT refuses raises BackendError with what TensorRT logged.
    """

    def tensors(self) -> Tuple[EngineTensor, ...]:
        """All inputs and outputs, in the engine's order."""

    def use_profile(self, index: int, stream: int) -> bool:
        """Makes an optimization profile the context's; False if another context has it to itself.

        Shapes and addresses have to be given again after a change.
        """

    def set_shape(self, name: str, shape: Shape) -> None:
        """Gives an input its shape."""

    def set_values(self, name: str, values: Array) -> None:
        """Gives an input in the CPU's memory its values, which stay where they are until the run is over.

        Raises:
            UnfitInputsError: no optimization profile holds them (with a TensorRT that looks at them so early).
        """

    def output_shape(self, name: str) -> Shape | None:
        """The shape of an output for the inputs' shapes, -1 where data decides; None if the inputs don't fit."""

    def bind(self, name: str, address: int) -> None:
        """Gives a tensor the address that TensorRT reads or writes."""

    def set_output_allocator(self, name: str, allocator: Any) -> None:
        """Lets an `IOutputAllocator` find the memory of an output whose shape its data decides."""

    def enqueue(self, stream: int) -> None:
        """Puts one run on a stream.

        Raises:
            EnqueueError: TensorRT refuses that.
        """


def tensor_io(library: TensorRT, engine: Any, context: Any, log: MessageLog, what: str) -> TensorIO:
    """The way that the library offers; `context` may be None if only `tensors` is asked.

    Raises:
        BackendUnavailableError: it offers none that is known.
    """
    if library.has(Capability.NAME_IO):
        return NameIO(library, engine, context, log, what)
    library.require(Capability.INDEX_IO, what)
    return IndexIO(library, engine, context, log, what)


class _Calls:
    """What both ways share: the objects, and refusals in our words."""

    def __init__(self, library: TensorRT, engine: Any, context: Any, log: MessageLog, what: str) -> None:
        self._library = library
        self._engine = engine
        self._context = context
        self._log = log
        self._what = what

    def use_profile(self, index: int, stream: int) -> bool:
        """See `TensorIO`."""
        if self._context.active_optimization_profile == index:
            return True
        with self._log, contextlib.suppress(RuntimeError):
            return bool(self._context.set_optimization_profile_async(index, stream))
        return False

    @contextlib.contextmanager
    def _refusals(self, action: str, kind: Type[BackendError] = BackendError) -> Iterator[List[bool]]:
        """Raises what TensorRT says if a call inside the block raises, or its answer, which goes in the list, is no."""
        answers: List[bool] = []
        try:
            with translated(f"{self._what}: TensorRT can't {action}", self._log):
                yield answers
        except BackendError as error:
            raise kind(str(error)) from error.__cause__
        if not all(answers):
            raise kind(failure_text(f"{self._what}: TensorRT can't {action}", self._log))


class NameIO(_Calls):
    """Tensors by name."""

    def tensors(self) -> Tuple[EngineTensor, ...]:
        """See `TensorIO`."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return tuple(self._tensor(name) for name in names)

    def _tensor(self, name: str) -> EngineTensor:
        engine = self._engine
        is_input = engine.get_tensor_mode(name).name == "INPUT"
        if engine.get_tensor_format(name).name != "LINEAR":
            raise _not_served(f"{self._what}: tensor {name!r}", engine.get_tensor_format_desc(name))
        count = engine.num_optimization_profiles if is_input else 0
        profiles = [engine.get_tensor_profile_shape(name, index) for index in range(count)]
        return EngineTensor(
            name,
            is_input,
            dtype_of(engine.get_tensor_dtype(name), f"{self._what}: tensor {name!r}"),
            _shape(engine.get_tensor_shape(name)) or (),
            engine.get_tensor_location(name).name == "HOST",
            _limits(profiles),
        )

    def set_shape(self, name: str, shape: Shape) -> None:
        """See `TensorIO`."""
        with self._refusals(f"set input {name!r} to shape {list(shape)}") as answers:
            answers.append(self._context.set_input_shape(name, shape))

    def set_values(self, name: str, values: Array) -> None:
        """See `TensorIO`."""
        self.bind(name, values.ctypes.data)

    def output_shape(self, name: str) -> Shape | None:
        """See `TensorIO`."""
        with self._log:
            return _shape(self._context.get_tensor_shape(name))

    def bind(self, name: str, address: int) -> None:
        """See `TensorIO`."""
        with self._refusals(f"take the memory of tensor {name!r}") as answers:
            answers.append(self._context.set_tensor_address(name, address))

    def set_output_allocator(self, name: str, allocator: Any) -> None:
        """See `TensorIO`."""
        with self._refusals(f"let output {name!r} find its memory") as answers:
            answers.append(self._context.set_output_allocator(name, allocator))

    def enqueue(self, stream: int) -> None:
        """See `TensorIO`."""
        with self._refusals("run it", EnqueueError) as answers:
            answers.append(self._context.execute_async_v3(stream))


class IndexIO(_Calls):
    """Tensors by index: profile p has those from p times the number of tensors on."""

    def __init__(self, library: TensorRT, engine: Any, context: Any, log: MessageLog, what: str) -> None:
        super().__init__(library, engine, context, log, what)
        self._count = engine.num_bindings // max(1, engine.num_optimization_profiles)
        self._indices = {engine.get_binding_name(index): index for index in range(self._count)}
        self._first = 0
        self._addresses = [0] * engine.num_bindings

    def tensors(self) -> Tuple[EngineTensor, ...]:
        """See `TensorIO`."""
        return tuple(self._tensor(name, index) for name, index in self._indices.items())

    def _tensor(self, name: str, index: int) -> EngineTensor:
        engine = self._engine
        is_input = engine.binding_is_input(index)
        count = engine.num_optimization_profiles if is_input else 0
        profiles = [engine.get_profile_shape(profile, index) for profile in range(count)]
        is_host = engine.get_location(index).name == "HOST"
        if is_host and not is_input:
            raise _not_served(f"{self._what}: output {name!r}", "a shape tensor")
        return EngineTensor(
            name,
            is_input,
            dtype_of(engine.get_binding_dtype(index), f"{self._what}: tensor {name!r}"),
            _shape(engine.get_binding_shape(index)) or (),
            is_host,
            _limits(profiles),
        )

    def use_profile(self, index: int, stream: int) -> bool:
        """See `TensorIO`."""
        if not super().use_profile(index, stream):
            return False
        self._first = index * self._count
        self._addresses = [0] * len(self._addresses)
        return True

    def set_shape(self, name: str, shape: Shape) -> None:
        """See `TensorIO`."""
        with self._refusals(f"set input {name!r} to shape {list(shape)}") as answers:
            answers.append(self._context.set_binding_shape(self._index(name), shape))

    def set_values(self, name: str, values: Array) -> None:
        """See `TensorIO`."""
        with self._refusals(f"take the values of input {name!r}", UnfitInputsError) as answers:
            answers.append(self._context.set_shape_input(self._index(name), values.ravel().tolist()))
        self.bind(name, values.ctypes.data)

    def output_shape(self, name: str) -> Shape | None:
        """See `TensorIO`."""
        with self._log:
            return _shape(self._context.get_binding_shape(self._index(name)))

    def bind(self, name: str, address: int) -> None:
        """See `TensorIO`."""
        self._addresses[self._index(name)] = address

    def set_output_allocator(self, name: str, allocator: Any) -> None:  # noqa: ARG002
        """See `TensorIO`; no TensorRT with indices has it."""
        self._library.require(Capability.OUTPUT_ALLOCATOR, f"{self._what}: data decides output {name!r}")

    def enqueue(self, stream: int) -> None:
        """See `TensorIO`."""
        with self._refusals("run it", EnqueueError) as answers:
            answers.append(self._context.execute_async_v2(self._addresses, stream))

    def _index(self, name: str) -> int:
        return self._first + self._indices[name]


def _not_served(tensor: str, got: str) -> BackendError:
    return BackendError(f"{tensor}: expected values one after another in the GPU's memory, got {got}; build it again")


def _shape(dims: Any) -> Shape | None:
    """A `Dims` of TensorRT as a shape; None for its invalid one, whose length is negative."""
    try:
        return tuple(int(size) for size in dims)
    except ValueError:
        return None


def _limits(profiles: List[Any]) -> Tuple[Limits, ...]:
    """The limits of each profile; a profile that says nothing of the tensor leaves nothing to choose."""
    found = []
    for profile in profiles:
        shapes = [_shape(dims) for dims in profile]
        if len(shapes) != 3 or any(shape is None or DYNAMIC in shape for shape in shapes):
            return ()
        found.append(Limits(*(shape for shape in shapes if shape is not None)))
    return tuple(found)
