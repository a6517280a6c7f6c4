"""Memory that a server shares with one client: sealed, in frames, each with an engine's slot over it."""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any, Callable, Dict, List, Mapping, Protocol, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.device.sealed_memory import sealed_memory
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.user_memory import unfit_output
from edge_runtime.errors import ServerUnavailableError, TooLargeError
from edge_runtime.scheduling.request import Outputs, Request
from edge_runtime.server.under_way import UnderWay
from edge_runtime.tensors import TensorSpec, element_count
from edge_runtime.wire.lane import LaneLayout, LaneTensor

Array = npt.NDArray[Any]


class FailureCounter(Protocol):
    """A model's statistics, as far as a lane adds to them."""

    def add_failure(self, reason: str, duration_ns: int) -> None:
        """Counts a request that got no answer."""


class LaneModel(Protocol):
    """A served model. `submit` may emit before it returns; all of it is used on the loop's thread."""

    @property
    def engine(self) -> Engine:
        """What runs."""

    @property
    def key(self) -> str:
        """What requests name it by."""

    @property
    def lent(self) -> UnderWay:
        """Counts the regions that its engine may be bound to, from before they are made until they are freed."""

    @property
    def statistics(self) -> FailureCounter:
        """The model's counters."""

    @property
    def is_retired(self) -> bool:
        """Whether it is served no more: it was unloaded, or loaded anew."""

    def submit(self, request: Request) -> None:
        """Takes a request in; raises ServerUnavailableError if it doesn't."""

    def cancel(self, request: Request) -> bool:
        """Whether a request was withdrawn: it won't run, and won't be emitted."""

    def now_ns(self) -> int:
        """The clock that requests' arrivals are read from."""

    def runs_here(self, request: Request) -> bool:
        """Whether a request would run on the loop's thread."""


class MemoryBudget:
    """How many bytes may be shared, by one connection or (`within`) by all of them; used on one thread."""

    def __init__(self, nbytes: int, within: MemoryBudget | None = None) -> None:
        self.nbytes = nbytes
        self.left = nbytes
        self._within = within

    def check(self, nbytes: int) -> None:
        """Raises TooLargeError for more than may ever be shared."""
        if nbytes > self.nbytes:
            raise TooLargeError(f"the tensors take {nbytes} bytes, more than the {self.nbytes} that are shared at most")

    def take(self, nbytes: int) -> None:
        """Reserves memory until `give_back`.

        Raises:
            TooLargeError: it is more than may ever be shared.
            ServerUnavailableError: it is more than is left now.
        """
        self.check(nbytes)
        if nbytes > self.left:
            raise ServerUnavailableError("no more memory is shared now; close frames, or try again later")
        if self._within is not None:
            self._within.take(nbytes)
        self.left -= nbytes

    def give_back(self, nbytes: int) -> None:
        """Ends a reservation."""
        self.left += nbytes
        if self._within is not None:
            self._within.give_back(nbytes)


class Frame:
    """The tensors of one run at a time, in shared memory.

    Attributes:
        request: what is under way, or None; `request_id` is its client's number for it.
        feeds: the inputs, for a request.
        told_early: how many runs were ended before they were emitted.
        slot: the engine's slot over this memory; None if the inputs must be copied into one of the pool.
    """

    __slots__ = (
        "_bools",
        "_targets",
        "feeds",
        "index",
        "region",
        "request",
        "request_id",
        "slot",
        "told_early",
    )

    def __init__(self, region: Region, index: int, memory: Mapping[str, Array]) -> None:
        layout = region.layout
        self.region = region
        self.index = index
        self.request: Request | None = None
        self.request_id = 0
        self.told_early = 0
        self.slot = region.model.engine.slot_over(memory)
        self.feeds = {tensor.name: memory[tensor.name] for tensor in layout.inputs}
        self._targets = {tensor.name: memory[tensor.name] for tensor in layout.outputs}
        self._bools: List[Tuple[Array, Array]] = []
        for name, given in self.feeds.items() if self.slot is None else ():
            if given.dtype == np.bool_:
                self._bools.append((np.zeros_like(given), given.view(np.uint8)))
                self.feeds[name] = self._bools[-1][0]

    def prepare(self) -> None:
        """Makes booleans of whatever bytes a client wrote for them, unless the slot does."""
        for private, given in self._bools:
            np.not_equal(given, 0, out=private)

    def encode(self, outputs: Outputs) -> None:
        """Copies the outputs into the frame, unless the slot wrote them there.

        Raises:
            InvalidRequestError: their shapes depend on the data, and now aren't those of the frame.
        """
        for name, target in self._targets.items():
            value = outputs[name]
            if value is target:
                continue
            if value.shape != target.shape:
                raise unfit_output(name, value.shape, target.shape)
            np.copyto(target, value)

    def emit(self, outcome: Any) -> None:
        """Tells the region's owner how the run ended."""
        self.region.finished(self, outcome)

    def close(self) -> None:
        """Gives the slot back and lets the memory go."""
        if self.slot is not None:
            self.slot.close()
        self.slot = None
        self.feeds = {}
        self._targets = {}
        self._bools = []


class Region:
    """Frames of one model over a sealed memory file, which neither side can shrink: reading it never faults.

    It is made on any thread, and then used on one. Who makes it owns `descriptor`.

    Raises:
        ServerUnavailableError: this machine has no memory or descriptor for it now.
        EdgeRuntimeError: the engine has no slot over it.
    """

    def __init__(self, model: LaneModel, layout: LaneLayout, hidden: Sequence[TensorSpec] = ()) -> None:
        self.model = model
        self.layout = layout
        self.key = model.key
        self.rows = _rows(model, layout)
        self.number = 0
        self.freed: Callable[[], None] = _nothing
        self.finished: Callable[[Frame, Any], None] = _nobody
        self.frames: List[Frame] = []
        self._running = 0
        self._freed: Callable[[], None] | None = None
        with contextlib.ExitStack() as undo:
            self.descriptor, memory = _frames_memory(layout.nbytes)
            undo.callback(os.close, self.descriptor)
            undo.callback(self._free)
            for index in range(layout.frames):
                self.frames.append(Frame(self, index, _arrays(memory, index, layout, hidden)))
            undo.pop_all()

    def begin(self, frame: Frame, request: Request, request_id: int) -> None:
        """Says that a frame is in use from now on."""
        frame.request = request
        frame.request_id = request_id
        self._running += 1

    def end(self, frame: Frame) -> None:
        """Says that a frame isn't in use any more."""
        frame.request = None
        self._running -= 1
        self._free_if_unused()

    def retire(self, freed: Callable[[], None]) -> None:
        """Frees the memory now, or after the runs that use it; `freed` is called then. Called once."""
        self._freed = freed
        self._free_if_unused()

    def _free_if_unused(self) -> None:
        if self._freed is not None and not self._running:
            self._free()
            self._freed()

    def _free(self) -> None:
        for frame in self.frames:
            frame.close()
        self.frames.clear()


def unserved() -> ServerUnavailableError:
    """Why a model takes no more requests from memory that was shared for it."""
    return ServerUnavailableError("the model was unloaded or loaded anew meanwhile; open its frames again")


def _frames_memory(nbytes: int) -> Tuple[int, mmap.mmap]:
    try:
        return sealed_memory("frames", nbytes)
    except OSError:
        raise ServerUnavailableError("this machine has no memory left to share; try again later") from None


def _arrays(memory: mmap.mmap, index: int, layout: LaneLayout, hidden: Sequence[TensorSpec]) -> Dict[str, Array]:
    """The tensors of a frame by name; outputs that nobody asked for (`hidden`) lie in memory that isn't shared."""
    shared = {tensor.name: _view(memory, index * layout.stride, tensor) for tensor in (*layout.outputs, *layout.inputs)}
    return {**shared, **{spec.name: np.zeros(spec.shape, spec.dtype.numpy) for spec in hidden}}


def _view(memory: mmap.mmap, start: int, tensor: LaneTensor) -> Array:
    count = element_count(tensor.shape)
    return np.frombuffer(memory, tensor.dtype.numpy, count, start + tensor.offset).reshape(tensor.shape)


def _rows(model: LaneModel, layout: LaneLayout) -> int:
    """How many samples a run has."""
    return layout.inputs[0].shape[0] if layout.inputs and model.engine.signature.max_batch_size else 1


def _nothing() -> None:
    """Nobody waits for the memory to be freed."""


def _nobody(frame: Frame, outcome: Any) -> None:
    """Stands for the owner of a region that nobody owns yet."""
