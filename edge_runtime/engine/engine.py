"""An engine: a signature, a pool of slots, and one way to run."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Protocol

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import BackendError, DeviceLostError, InvalidRequestError
from edge_runtime.tensors import DType, Feeds, Shape, Signature, fill

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


class Slot(Protocol):
    """One preallocated set of inputs and outputs; used by one thread at a time."""

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of the slot's own memory for an input of a checked shape."""

    def run(self) -> Dict[str, Array]:
        """Runs what is bound; the outputs are views that hold until the slot runs again or is released."""

    def close(self) -> None:
        """Gives the memory back; idempotent."""


class SegmentedSlot(Slot, Protocol):
    """A slot of an engine of several segments, which can be run one by one, with other work in between."""

    @property
    def segment_count(self) -> int:
        """How many segments a run has."""

    def run_segment(self, index: int) -> Dict[str, Array] | None:
        """Runs one segment, from 0 on in order; the last one gives what `run` does, those before it None."""


class Keeping(Protocol):
    """Keeps the process that an engine runs in, where that is another one; any thread may ask it."""

    @property
    def hindrance(self) -> str:
        """Why nothing can run now; "" if it can."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often the process was replaced, by reason."""

    def watch(self, changed: Callable[[], object]) -> None:
        """Has `changed` called, on some thread, whenever there is another `hindrance`."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is: said in metadata, metrics, health and reports.

    `backend` is for people, `platform` the library and its kind of plan; `library_version` is that of the library that
    built the plan, where it is known.
    """

    name: str
    version: int
    backend: str
    platform: str
    precision: str
    device: str
    library_version: str = ""

    @property
    def library(self) -> str:
        """The engine library, by its module's name."""
        return self.platform.rpartition("_")[0]


def _check_bytes(name: str, value: Array) -> None:
    for index, element in enumerate(value.ravel()):
        if not isinstance(element, bytes):
            raise InvalidRequestError(
                f"input {name!r}: element {index} of {value.size}: expected bytes, got {type(element).__name__}; "
                "text has encode()"
            )


class Engine:
    """A loaded plan. Any thread may call `infer`; as many run at once as there are slots.

    `segment_count` is how many dispatch units a run is: above 1, every slot is a `SegmentedSlot`. `keeper` is there if
    runs are in another process: then they may wait for it without end, or be refused with ServerUnavailableError.
    """

    keeper: Keeping | None = None

    def __init__(
        self,
        info: EngineInfo,
        signature: Signature,
        make_slot: Callable[[], Slot],
        slots: int,
        make_slot_over: Callable[[Mapping[str, Array], Engine], Slot | None] | None = None,
        segment_count: int = 1,
    ) -> None:
        self._make_slot_over = make_slot_over
        self._shares_warmth = getattr(make_slot, "shares_warmth", False)
        self.segment_count = segment_count
        self.info = info
        self.signature = signature
        self._slots: list[Slot] = []
        self._idle: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._is_closing = False
        with contextlib.ExitStack() as undo:
            for _ in range(slots):
                self._slots.append(make_slot())
                undo.callback(self._slots[-1].close)
            undo.pop_all()
        for slot in self._slots:
            self._idle.put(slot)

    @property
    def slot_count(self) -> int:
        """How many runs can be under way at once."""
        return len(self._slots)

    def slot_over(self, memory: Mapping[str, Array]) -> Slot | None:
        """A slot over its user's memory, by tensor name; None where the backend can't have one.

        It stands beside the pool's slots, or runs on one of them.

        The arrays are contiguous, of fixed shapes that pass the signature's checks, one for every input and output. The
        caller closes the slot before the memory goes and before the engine is closed.
        """
        return None if self._make_slot_over is None else self._make_slot_over(memory, self)

    def infer(self, feeds: Feeds) -> Dict[str, Array]:
        """The outputs for one set of inputs, as arrays that the caller owns.

        Waits for a free slot.

        Raises:
            InvalidRequestError: a name, data type or shape that the plan wasn't built for.
            BackendError: the engine library failed, or the engine is closed.
        """
        self.check(feeds)
        with self.slot() as slot:
            for name, value in feeds.items():
                np.copyto(slot.bind(name, value.shape), value)
            return {name: value.copy() for name, value in slot.run().items()}

    def check(self, feeds: Feeds) -> None:
        """Raises InvalidRequestError unless `feeds` are arrays that the plan was built for."""
        if not isinstance(feeds, Mapping):
            raise InvalidRequestError(f"feeds: expected arrays by input name, got {type(feeds).__name__}")
        for name, value in feeds.items():
            if not isinstance(value, np.ndarray):
                raise InvalidRequestError(f"input {name!r}: expected a NumPy array, got {type(value).__name__}")
            self.signature.check_input(name, DType.from_numpy(value.dtype), value.shape)
            if value.dtype.hasobject:
                _check_bytes(name, value)
        self.signature.check_shapes({name: value.shape for name, value in feeds.items()})

    def acquire(self) -> Slot:
        """A slot that is the caller's until `release`; waits until one is free.

        Raises:
            BackendError: the engine is closed.
        """
        if self._is_closing:
            raise self._closed()
        slot = self._idle.get()
        if slot is None or self._is_closing:
            self._idle.put(slot)
            raise self._closed()
        return slot

    def try_acquire(self) -> Slot | None:
        """A slot that is the caller's until `release`, or None if none is free or the engine is closed."""
        try:
            slot = self._idle.get_nowait()
        except queue.Empty:
            return None
        if self._is_closing:
            self._idle.put(slot)
            return None
        return slot

    def release(self, slot: Slot) -> None:
        """Gives back a slot from `acquire`, once."""
        self._idle.put(slot)

    @contextlib.contextmanager
    def slot(self) -> Iterator[Slot]:
        """A slot for the length of the block; waits until one is free.

        Raises:
            BackendError: the engine is closed.
        """
        slot = self.acquire()
        try:
            yield slot
        finally:
            self.release(slot)

    def _closed(self) -> BackendError:
        return BackendError(f"engine {self.info.name!r} is closed; load the plan again")

    def warm_up(self, runs: int = 1) -> None:
        """Runs every slot at its profile's largest, smallest and most usual shapes, on zeros, or on ones if it can't.

        Where one slot warms all, the others run at the most usual shapes only.
        A model that can run on neither (it may be fed a shape, say) stays cold, which is logged.
        """
        sizes = ("maximum", "minimum", "optimum")
        with self._closing, contextlib.ExitStack() as stack:
            for index, slot in enumerate([stack.enter_context(self.slot()) for _ in self._slots]):
                for size in (sizes[-1:] if index and self._shares_warmth else sizes) * runs:
                    self._warm(slot, {name: getattr(limits, size) for name, limits in self.signature.profile.items()})

    def _warm(self, slot: Slot, shapes: Mapping[str, Shape]) -> None:
        for value in (0, 1):
            for name, shape in shapes.items():
                fill(slot.bind(name, shape), value)
            try:
                slot.run()
            except DeviceLostError:
                raise
            except BackendError as error:  # a size or a divisor that is fed in can't be zero
                failure = error
            else:
                return
        logger.warning("not warmed up: %s", failure)

    def close(self) -> None:
        """Waits for running inferences, then gives the slots back; idempotent."""
        self._is_closing = True
        with self._closing:
            while self._slots:
                slot = self._idle.get()
                if slot is not None:
                    slot.close()
                    self._slots.remove(slot)
            self._idle.put(None)
            self._make_slot_over = None  # which has the plan, and with it most of the memory

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
