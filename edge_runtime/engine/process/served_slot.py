"""A slot in the process that has the plan: it runs what its channel asks for, on tensors in shared memory."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Set, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.engine.process.blocks import Blocks
from edge_runtime.engine.process.channel import Channel, Frame, Kind
from edge_runtime.engine.process.tensors import (
    APART,
    Answer,
    Place,
    bytes_from_answer,
    pieces_of,
    record_from_place,
    shapes_from_bytes,
)
from edge_runtime.errors import BackendError, EdgeRuntimeError
from edge_runtime.tensors import DType, Shape, Signature, TensorSpec, element_count
from edge_runtime.wire.elements import on_the_wire, strings_from_bytes

Array = npt.NDArray[Any]


class ServedSlot:
    """One slot of the engine and the channel to its user; used by one thread.

    Inputs that the slot has in shared memory are written there by the user. Others lie in memory beside it and are
    copied for each run, as are outputs that the slot leaves elsewhere. Strings travel in the frames.
    """

    def __init__(self, slot: Any, signature: Signature, segment_count: int, channel: Channel, blocks: Blocks) -> None:
        self._slot = slot
        self._signature = signature
        self._segment_count = segment_count
        self._channel = channel
        self._blocks = blocks
        self._staged: Dict[str, Array] = {}
        self._apart: Dict[str, Array] = {}
        self._bound: bytes | None = None
        self._shapes: Dict[str, Shape] = {}
        self._announced: Set[int] = set()
        self._last: Mapping[str, Array] = {}
        self._last_head = b""
        self.places = {spec.name: self._place(spec) for spec in signature.inputs}

    def _place(self, spec: TensorSpec) -> Place | None:
        """Where an input's user writes it."""
        if spec.dtype is DType.BYTES:
            return None
        limits = self._signature.profile[spec.name]
        largest = self._blocks.place_of(self._slot.bind(spec.name, limits.maximum))
        smallest = self._blocks.place_of(self._slot.bind(spec.name, limits.minimum))
        if largest is not None and largest == smallest:
            return largest
        self._staged[spec.name] = staged = self._blocks.allocate(element_count(limits.maximum), spec.dtype.numpy)
        return self._blocks.place_of(staged)

    def describe(self, control: Channel, number: int, end: int) -> None:
        """Tells the user of the slot: where its inputs are, with their memory and the socket `end`."""
        blocks = sorted({place.block for place in self.places.values() if place is not None})
        self._announced.update(blocks)
        record = {
            "inputs": {name: record_from_place(place) for name, place in self.places.items()},
            "blocks": blocks,
        }
        descriptors = [end, *(self._blocks.descriptor_of(block) for block in blocks)]
        control.send(Kind.SLOT, number, json.dumps(record).encode(), b"", descriptors)

    def answer(self, frame: Frame) -> None:
        """Runs a segment and answers what it made.

        Raises:
            EdgeRuntimeError: the run failed, of which the user wasn't told.
            OSError: the user is gone.
        """
        if frame.number == 0:
            self._bind(frame)
        is_last = frame.number == self._segment_count - 1
        outputs = self._slot.run() if self._segment_count == 1 else self._slot.run_segment(frame.number)
        if not is_last:
            self._channel.send(Kind.DONE, frame.number)
        elif self._last_head and all(outputs[name] is value for name, value in self._last.items()):
            self._channel.send(Kind.DONE, frame.number, self._last_head)
        else:
            self._send(frame.number, outputs)

    def fail(self, error: EdgeRuntimeError) -> None:
        """Answers why there is no answer."""
        self._channel.send(Kind.FAILED, 0, failure_text(error))

    def _bind(self, frame: Frame) -> None:
        if frame.head != self._bound:
            shapes = shapes_from_bytes(frame.head)
            self._shapes = {spec.name: shape for spec, shape in zip(self._signature.inputs, shapes)}
            for name, shape in self._shapes.items():
                self._slot.bind(name, shape)
            self._bound = frame.head
        for name, staged in self._staged.items():
            shape = self._shapes[name]
            np.copyto(self._slot.bind(name, shape), staged[: element_count(shape)].reshape(shape))
        if frame.payload:
            self._take_strings(frame.payload)

    def _take_strings(self, payload: bytes) -> None:
        names = [spec.name for spec in self._signature.inputs if spec.dtype is DType.BYTES]
        sizes = [int.from_bytes(payload[8 * index : 8 * index + 8], "little") for index in range(len(names))]
        for name, piece in zip(names, pieces_of(payload[8 * len(names) :], sizes)):
            shape = self._shapes[name]
            np.copyto(self._slot.bind(name, shape), strings_from_bytes(piece, shape, f"input {name!r}"))

    def _send(self, segment: int, outputs: Mapping[str, Array]) -> None:
        placed: List[Tuple[Place, Shape]] = []
        payload: List[bytes] = []
        is_kept = True  # whether the same arrays would be described in the same way again
        for spec in self._signature.outputs:
            value = outputs[spec.name]
            if value.dtype != spec.dtype.numpy:
                raise BackendError(f"output {spec.name!r}: expected {spec.dtype.value}, got {value.dtype}")
            place = self._blocks.place_of(value) if value.nbytes and not value.dtype.hasobject else None
            is_kept = is_kept and place is not None
            if place is None:
                place = self._placed(spec, value, payload)
            placed.append((place, tuple(value.shape)))
        used = {place.block for place, _ in placed if place.block != APART}
        there = self._blocks.numbers
        added, dropped = tuple(used - self._announced), tuple(self._announced - there)
        self._announced = (self._announced | used) & there
        head = bytes_from_answer(Answer(tuple(placed), added, dropped))
        descriptors = [self._blocks.descriptor_of(number) for number in added]
        self._channel.send(Kind.DONE, segment, head, b"".join(payload), descriptors)
        self._last = outputs
        self._last_head = bytes_from_answer(Answer(tuple(placed))) if is_kept else b""

    def _placed(self, spec: TensorSpec, value: Array, payload: List[bytes]) -> Place:
        """Puts an output that lies elsewhere where its user finds it."""
        if spec.dtype is DType.BYTES or not value.nbytes:
            payload.append(on_the_wire(value).tobytes())
            return Place(APART, 0, len(payload[-1]))
        memory = self._apart.get(spec.name)
        if memory is None or memory.size < value.size:
            memory = self._apart[spec.name] = self._blocks.allocate(value.size, spec.dtype.numpy)
        np.copyto(memory[: value.size].reshape(value.shape), value)
        place = self._blocks.place_of(memory)
        assert place is not None
        return place


def failure_text(error: EdgeRuntimeError) -> bytes:
    """An error as a frame's head has it."""
    return json.dumps({"type": type(error).__name__, "message": str(error)}).encode()
