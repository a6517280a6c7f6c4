"""The inputs and outputs of one slot: their memory, and what one set of input shapes means for it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy.typing as npt

from edge_runtime.engine.chain import UNLINKED, Links
from edge_runtime.engine.tensorrt.chain_memory import CrossingMemory, LentMemory
from edge_runtime.engine.tensorrt.execution import Execution
from edge_runtime.engine.tensorrt.memory_kind import memory_kind
from edge_runtime.engine.tensorrt.output_allocator import OutputRequest, make_output_allocator
from edge_runtime.engine.tensorrt.placement import OWN, Placement
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.signature_check import engine_outputs
from edge_runtime.engine.tensorrt.tensor_io import EngineTensor, UnfitInputsError
from edge_runtime.engine.tensorrt.tensor_memory import Copy, TensorMemory
from edge_runtime.errors import BackendError, DeviceLostError
from edge_runtime.tensorrt_api import Capability, failure_text
from edge_runtime.tensors import DYNAMIC, Shape

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
ShapeKey = Tuple[Shape, ...]
RunKey = Tuple[ShapeKey, int]  # shapes, and the number of the placement

_MOST_SHAPES = 256


@dataclass
class Shaped:
    """What one set of input shapes decides: copies, and the shapes and arrays of outputs that lie in the slot's memory.

    `is_fixed`: nothing else decides them. Else it is good for one run.
    """

    copies_in: List[Copy]
    copies_out: List[Copy]
    shapes: Dict[str, Shape]
    outputs: Dict[str, Array]
    is_fixed: bool = True


class SlotTensors:
    """The `memory` by tensor name, and what is known of the input shapes that were seen."""

    def __init__(self, shared: PlanEngine, owned: contextlib.ExitStack, links: Links = UNLINKED) -> None:
        self.generation = 0
        self._is_outgrown = False
        self._shared = shared
        self._signature = shared.signature
        self.memory: Dict[str, TensorMemory] = {}
        self._addresses: Dict[str, int] = {}
        self._shaped: Dict[RunKey, Shaped] = {}
        self._requests: Dict[str, OutputRequest] = {}
        owned.callback(self._shaped.clear)  # its arrays keep the memory
        specs = (*self._signature.inputs, *engine_outputs(self._signature))
        dtypes = {spec.name: spec.dtype for spec in specs}
        for tensor in shared.tensors:
            memory = _linked(tensor, links, shared) or TensorMemory(
                shared.gpu.cuda, tensor, dtypes[tensor.name], self._kind_of, shared.what
            )
            owned.callback(memory.close)
            self.memory[tensor.name] = memory
            if tensor.is_input:
                self._fit(memory, self._signature.profile[tensor.name].maximum)
            elif tensor.name in links.lends:
                self._fit(memory, links.lends[tensor.name])
                memory.is_lent = True
        memories = self.memory.values()
        self._host_inputs = [m.tensor.name for m in memories if m.tensor.is_host and m.tensor.is_input]
        self._converted_inputs = [m for m in memories if m.is_converted and m.tensor.is_input]
        self._converted_outputs = [m for m in memories if m.is_converted and not m.tensor.is_input]
        self._output_names = [m.tensor.name for m in memories if not m.tensor.is_input]

    def _kind_of(self, nbytes: int) -> str:
        options = self._shared.options
        return memory_kind(nbytes, self._shared.gpu.attributes, options.memory, options.measured)

    def _fit(self, memory: TensorMemory, shape: Shape) -> None:
        if memory.fit(memory.nbytes(shape)):
            self._addresses[memory.tensor.name] = memory.address
            self._shaped.clear()
            self.generation += 1
            self._is_outgrown = True

    def reserve(self, execution: Execution) -> None:
        """Makes room for the outputs of the largest inputs, if these fit together.

        Raises:
            BackendUnavailableError: data decides an output's shape, which this TensorRT can't have.
            BackendError: there is too little memory.
        """
        if self._host_inputs:
            return
        largest = {name: limits.maximum for name, limits in self._signature.profile.items()}
        try:
            execution.set_shapes(largest, self._shared.what)
            found = {name: execution.io.output_shape(name) for name in self._output_names}
        except DeviceLostError:
            raise
        except BackendError as error:
            logger.info("%s: memory for its outputs isn't reserved: %s", self._shared.what, error)
            return
        for name, shape in found.items():
            if shape is not None and DYNAMIC in shape:
                self._follow(execution, name)
            elif shape is not None:
                self._fit(self.memory[name], shape)

    @property
    def follows_data(self) -> bool:
        """Whether the data of a run decides the shape of an output."""
        return bool(self._requests)

    def narrow(self, shapes: Mapping[str, Shape]) -> None:
        """Gives TensorRT what callers wrote in a data type that it hasn't.

        Raises:
            InvalidRequestError: a value has no place in the type that it has.
        """
        for memory in self._converted_inputs:
            memory.narrow(shapes[memory.tensor.name])

    def known(self, key: RunKey) -> Shaped | None:
        """What was found for these shapes before."""
        return self._shaped.get(key)

    def forget(self, placement: int) -> None:
        """Drops what was found for a placement, by its number."""
        for key in [key for key in self._shaped if key[1] == placement]:
            del self._shaped[key]

    def shaped(self, execution: Execution, shapes: Dict[str, Shape], place: Placement = OWN) -> Shaped:
        """What these shapes mean; the context is set to them, with the addresses that they take.

        Raises:
            UnfitInputsError: shapes, or values that decide some, don't fit together.
            BackendError: TensorRT refuses the shapes, or there is too little memory.
        """
        execution.set_shapes(shapes, self._shared.what)
        for name in self._host_inputs:
            execution.io.set_values(name, self.memory[name].values(shapes[name]))
        key = tuple(shapes[spec.name] for spec in self._signature.inputs), place.number
        found = self._shaped.get(key)
        if found is None:
            found = self._learnt(execution, shapes, place)
            if found.is_fixed:
                if len(self._shaped) >= _MOST_SHAPES:
                    self._shaped.clear()
                self._shaped[key] = found
        addresses = {**self._addresses, **place.mapped}
        execution.bind({name: address for name, address in addresses.items() if name not in self._requests})
        return found

    def _learnt(self, execution: Execution, shapes: Dict[str, Shape], place: Placement) -> Shaped:
        decided: Dict[str, Shape] = {}
        for name in self._output_names:
            shape = execution.io.output_shape(name)
            if shape is None:
                text = f"{self._shared.what}: output {name!r} has no shape for inputs of {shapes}"
                raise UnfitInputsError(failure_text(text, self._shared.log, "they don't fit together"))
            if DYNAMIC in shape:
                self._follow(execution, name)
            else:
                self._fit(self.memory[name], shape)
                decided[name] = shape
        inputs = [place.copy(self.memory[name], shape) for name, shape in shapes.items()]
        outputs = [place.copy(self.memory[name], shape) for name, shape in decided.items()]
        is_fixed = not self._host_inputs and len(decided) == len(self._output_names)
        everything = {**shapes, **decided}
        return Shaped(
            [copy for copy in inputs if copy],
            [copy for copy in outputs if copy],
            decided,
            {
                spec.name: self.memory[spec.name].view(everything[spec.name])
                for spec in self._signature.outputs
                if spec.name in everything and spec.name not in place.hosts
            },
            is_fixed,
        )

    def _follow(self, execution: Execution, name: str) -> None:
        """Lets the context find memory for an output while it runs."""
        self._shared.library.require(Capability.OUTPUT_ALLOCATOR, f"{self._shared.what}: data decides output {name!r}")
        if name not in self._requests:
            memory = self.memory[name]
            self._requests[name] = OutputRequest(lambda nbytes: _grown(memory, nbytes))
        execution.follow(name, lambda: make_output_allocator(self._shared.library, self._requests[name]))

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Enqueue inside the block: what goes wrong while TensorRT asks for memory is raised at its end."""
        for request in self._requests.values():
            request.begin()
        try:
            yield
        finally:
            for request in self._requests.values():
                request.check()

    def decided(self, shaped: Shaped) -> Shaped:
        """`shaped` with what the data of the run decided, whose copies alone are still to be made; it was enqueued."""
        if not self._requests:
            return Shaped([], [], shaped.shapes, shaped.outputs)
        copies: List[Copy] = []
        decided: Dict[str, Shape] = {}
        for name, request in self._requests.items():
            if request.shape is None:
                raise BackendError(f"{self._shared.what}: TensorRT didn't say what shape output {name!r} has")
            memory = self.memory[name]
            decided[name] = request.shape
            copy = memory.copy(memory.nbytes(request.shape))
            copies.extend([copy] if copy else [])
        views = {name: self.memory[name].view(shape) for name, shape in decided.items()}
        outputs = {**shaped.outputs, **views}
        order = [spec.name for spec in self._signature.outputs if spec.name in outputs]
        return Shaped([], copies, {**shaped.shapes, **decided}, {name: outputs[name] for name in order}, False)

    def widen(self, shaped: Shaped) -> None:
        """Gives callers what TensorRT wrote in a data type that they don't expect; the stream has finished."""
        for memory in self._converted_outputs:
            memory.widen(shaped.shapes[memory.tensor.name])

    def settle(self) -> None:
        """Gives back what was outgrown; the stream has finished."""
        if self._is_outgrown or self._requests:
            self._is_outgrown = False
            for memory in self.memory.values():
                memory.settle()


def _linked(tensor: EngineTensor, links: Links, shared: PlanEngine) -> TensorMemory | None:
    """The memory of a tensor that goes from one part of a chain to another; None for any other."""
    if tensor.name in links.lent:
        return LentMemory(shared.gpu.cuda, tensor, links.lent[tensor.name], shared.what)
    return CrossingMemory(shared.gpu.cuda, tensor, shared.what) if tensor.name in links.hidden else None


def _grown(memory: TensorMemory, nbytes: int) -> int:
    """The address of memory for so many bytes, with room for more if it had to grow before."""
    if memory.address and nbytes > memory.capacity:
        nbytes = max(nbytes, 2 * memory.capacity)
    memory.fit(nbytes)
    return memory.address
