"""A slot of a process as its user has it: the channel to it, and its tensors' memory."""

from __future__ import annotations

import json
import mmap
import os
import threading
from typing import Any, Dict, List, Mapping, Tuple, Type

import numpy as np
import numpy.typing as npt

from edge_runtime import errors
from edge_runtime.device.sealed_memory import mapped_memory
from edge_runtime.engine.process.channel import Channel, Frame, Kind
from edge_runtime.engine.process.tensors import (
    APART,
    Answer,
    Place,
    answer_from_bytes,
    bytes_from_shapes,
    pieces_of,
)
from edge_runtime.errors import BackendError, EdgeRuntimeError
from edge_runtime.tensors import DType, Shape, Signature, element_count, fill
from edge_runtime.wire.elements import on_the_wire, strings_from_bytes

Array = npt.NDArray[Any]


class GoneError(Exception):
    """The process at the other end is gone."""


class SlotLink:
    """One slot of one process; used by one thread at a time, but for `break_off` and `retire`.

    It takes the channel and the descriptors that came with the slot's description.
    """

    def __init__(self, channel: Channel, signature: Signature, record: Mapping[str, Any], memory: List[int]) -> None:
        self._channel = channel
        self._signature = signature
        self._blocks: Dict[int, mmap.mmap] = _mapped(record["blocks"], memory)
        self._inputs = {
            name: None if place is None else Place(place["block"], place["offset"])
            for name, place in record["inputs"].items()
        }
        self._string_names = [spec.name for spec in signature.inputs if spec.dtype is DType.BYTES]
        self._views: Dict[str, Array] = {}
        self._heads: Tuple[Tuple[Shape, ...], bytes] = ((), b"")
        self._last_head = b""
        self._last: Dict[str, Array] = {}
        self._in_use = threading.Lock()
        self.is_broken = False

    def view(self, name: str, shape: Shape) -> Array:
        """Where the values of an input are written.

        Raises:
            GoneError: the process has ended.
        """
        with self._in_use:
            if self.is_broken:
                raise GoneError
            view = self._views.get(name)
            if view is None or view.shape != shape:
                view = self._views[name] = self._made_view(name, shape)
            return view

    def _made_view(self, name: str, shape: Shape) -> Array:
        dtype, place = self._signature.input(name).dtype, self._inputs[name]
        if place is not None:
            return self._at(place, dtype, shape)
        view = np.empty(shape, dtype.numpy)
        fill(view, 0)
        return view

    def run(self, segment: int, shapes: Tuple[Shape, ...]) -> Dict[str, Array]:
        """Runs a segment, the first one on inputs of these shapes; the outputs, of the last one only.

        Raises:
            GoneError: the process ended before it answered.
            EdgeRuntimeError: the run failed.
        """
        with self._in_use:
            if self.is_broken:
                raise GoneError
            try:
                if segment == 0:
                    self._channel.send(Kind.RUN, 0, self._head(shapes), self._strings())
                else:
                    self._channel.send(Kind.RUN, segment)
            except OSError:
                raise self._gone() from None
            frame = self._channel.receive()
            if frame is None:
                raise self._gone()
            if frame.kind is Kind.FAILED:
                raise error_from_text(frame.head)
            if frame.head and frame.head == self._last_head:
                return self._last
            return self._outputs(frame) if frame.head else {}

    def _gone(self) -> GoneError:
        self.is_broken = True
        return GoneError()

    def _head(self, shapes: Tuple[Shape, ...]) -> bytes:
        if shapes != self._heads[0] or not self._heads[1]:
            self._heads = (shapes, bytes_from_shapes(shapes))
        return self._heads[1]

    def _strings(self) -> bytes:
        if not self._string_names:
            return b""
        pieces = [on_the_wire(self._views[name]).tobytes() for name in self._string_names]
        return b"".join([*(len(piece).to_bytes(8, "little") for piece in pieces), *pieces])

    def _outputs(self, frame: Frame) -> Dict[str, Array]:
        answer = answer_from_bytes(frame.head)
        self._blocks.update(_mapped(answer.added, list(frame.descriptors)))
        for number in answer.dropped:
            self._blocks.pop(number, None)
        outputs = self._read(answer, frame.payload)
        is_kept = not (answer.added or answer.dropped or frame.payload)
        self._last, self._last_head = outputs, frame.head if is_kept else b""
        return outputs

    def _read(self, answer: Answer, payload: bytes) -> Dict[str, Array]:
        apart = pieces_of(payload, [place.nbytes for place, _ in answer.outputs if place.block == APART])
        outputs: Dict[str, Array] = {}
        for spec, (place, shape) in zip(self._signature.outputs, answer.outputs):
            if place.block != APART:
                outputs[spec.name] = self._at(place, spec.dtype, shape)
            elif spec.dtype is DType.BYTES:
                outputs[spec.name] = strings_from_bytes(next(apart), shape, f"output {spec.name!r}")
            else:
                outputs[spec.name] = np.frombuffer(next(apart), spec.dtype.numpy).reshape(shape)
        return outputs

    def _at(self, place: Place, dtype: DType, shape: Shape) -> Array:
        block = self._blocks[place.block]
        return np.frombuffer(block, dtype.numpy, element_count(shape), place.offset).reshape(shape)

    def break_off(self) -> None:
        """Lets a run that waits for its answer fail, on any thread, and every further one."""
        self.is_broken = True
        self._channel.shut_down()

    def retire(self) -> None:
        """Gives the socket and the memory back, once a run that was under way has failed; views keep theirs."""
        self.break_off()
        with self._in_use:
            self._channel.close()
            self._blocks.clear()
            self._views.clear()
            self._last = {}


def _mapped(numbers: Any, descriptors: List[int]) -> Dict[int, mmap.mmap]:
    """Blocks of memory by number, of descriptors that are closed."""
    try:
        return {number: mapped_memory(descriptor) for number, descriptor in zip(numbers, descriptors)}
    except (OSError, ValueError) as error:
        raise BackendError(f"memory of the engine's process can't be mapped ({error})") from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def error_from_text(text: bytes) -> EdgeRuntimeError:
    """The other process's error, in this one."""
    content = json.loads(text)
    kind: Type[EdgeRuntimeError] = getattr(errors, content["type"], BackendError)
    return kind(content["message"])
