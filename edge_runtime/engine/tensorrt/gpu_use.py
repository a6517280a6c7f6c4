"""A GPU as the slots of an engine use it: current on each of their threads, and lost for all of them at once."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from edge_runtime.device.cuda.port import Cuda
from edge_runtime.errors import BackendError, DeviceLostError

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """What `close` gives back."""

    def close(self) -> None:
        """Gives it back; idempotent."""


def give_back(owner: Closable) -> None:
    """Closes it, and logs what CUDA says against that; of a lost GPU, the driver takes everything back."""
    try:
        owner.close()
    except DeviceLostError as error:
        logger.debug("%r: %s", owner, error)
    except BackendError as error:
        logger.warning("%r can't be given back: %s", owner, error)


class GpuUse:
    """One GPU, used by several threads. `attributes` say what it is."""

    def __init__(self, cuda: Cuda, ordinal: int, what: str) -> None:
        self.cuda = cuda
        self._ordinal = ordinal
        self._what = what
        self._thread = threading.local()
        self._lost = ""
        self._is_only_one = cuda.device_count() == 1
        self.enter()
        self.attributes = cuda.attributes(ordinal)

    def enter(self) -> None:
        """Makes the GPU current on the calling thread; once is enough where there is no other.

        Raises:
            DeviceLostError: it was lost.
        """
        if self._lost:
            raise DeviceLostError(self._lost)
        if not self._is_only_one or not hasattr(self._thread, "is_ready"):
            self.cuda.use_device(self._ordinal)
            self._thread.is_ready = True

    def lose(self, error: DeviceLostError) -> DeviceLostError:
        """Marks it as lost, which makes every later `enter` raise; the error to raise now."""
        self._lost = self._lost or f"{self._what}: the GPU is lost to this process, which must be restarted ({error})"
        return DeviceLostError(self._lost)

    @property
    def is_lost(self) -> bool:
        """Whether it was lost."""
        return bool(self._lost)
