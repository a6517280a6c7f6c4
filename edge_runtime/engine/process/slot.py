"""A slot of an engine whose process may be replaced at any moment."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict

import numpy.typing as npt

from edge_runtime.engine.process.link import GoneError, SlotLink
from edge_runtime.errors import DeviceLostError, ServerUnavailableError
from edge_runtime.tensors import Shape, Signature

Array = npt.NDArray[Any]

logger = logging.getLogger(__name__)


class ProcessSlot:
    """Binds and runs on the slot of the process that is there; what was bound to one process never runs on another.

    `link_of` gives that slot, or raises ServerUnavailableError; `gone` is the error of a run whose process ended.
    """

    def __init__(
        self,
        signature: Signature,
        segment_count: int,
        link_of: Callable[[], SlotLink],
        gone: Callable[[str], ServerUnavailableError],
    ) -> None:
        self.segment_count = segment_count
        self._names = [spec.name for spec in signature.inputs]
        self._link_of = link_of
        self._gone = gone
        self._link: SlotLink | None = None
        self._shapes: Dict[str, Shape] = {}

    def bind(self, name: str, shape: Shape) -> Array:
        """A writable view of memory that the process reads an input from.

        Raises:
            ServerUnavailableError: there is no process now.
        """
        link = self._current()
        try:
            view = link.view(name, shape)
        except GoneError:
            raise self._gone("its process has ended") from None
        self._shapes[name] = shape
        return view

    def _current(self) -> SlotLink:
        link = self._link_of()
        if link is not self._link:
            self._link = link
            self._shapes = {}
        return link

    def run(self) -> Dict[str, Array]:
        """Runs what is bound; the outputs are views that hold until the next run.

        Raises:
            ServerUnavailableError: the process ended, or was replaced since the inputs were bound.
            EdgeRuntimeError: the run failed.
        """
        outputs: Dict[str, Array] = {}
        for index in range(self.segment_count):
            outputs = self.run_segment(index) or {}
        return outputs

    def run_segment(self, index: int) -> Dict[str, Array] | None:
        """Runs one segment, from 0 on in order; the last one gives what `run` does, those before it None.

        Raises:
            ServerUnavailableError: the process ended, or was replaced since the inputs were bound.
            EdgeRuntimeError: the run failed.
        """
        link = self._current() if not self._names and index == 0 else self._link
        if link is None or link.is_broken or len(self._shapes) < len(self._names):
            raise self._gone("its process was replaced after the inputs were bound")
        try:
            outputs = link.run(index, tuple([self._shapes[name] for name in self._names]))
        except GoneError:
            raise self._gone("its process ended during the run") from None
        except DeviceLostError as error:  # which ends that process, not this one
            logger.error("%s", error)
            raise self._gone("its process lost the GPU during the run") from None
        return outputs if index == self.segment_count - 1 else None

    def close(self) -> None:
        """Lets the memory go; the process ends with the engine."""
        self._link = None
        self._shapes = {}
