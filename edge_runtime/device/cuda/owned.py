"""What is given back exactly once: by `close`, or, with a warning, when it is forgotten."""

from __future__ import annotations

import logging
import warnings
import weakref
from typing import Callable, List, TypeVar

from edge_runtime.errors import BackendError

logger = logging.getLogger(__name__)

Self = TypeVar("Self", bound="Owned")


class Owned:
    """A handle or an address of CUDA and the call that gives it back; a context manager.

    One that is collected unclosed is given back as well, with a ResourceWarning and a line in the log. At the end of
    the process nothing is done: the driver takes everything back.
    """

    def __init__(self, what: str, handle: int, release: Callable[[int], None]) -> None:
        self.what = what
        self._lease = Lease(what, handle, release)
        self._forgotten = weakref.finalize(self, _collect, self._lease)
        self._forgotten.atexit = False

    @property
    def is_closed(self) -> bool:
        """Whether it was closed; what is kept for views that are alive counts as closed."""
        return self._lease.is_closing

    def close(self) -> None:
        """Gives it back; does nothing the second time.

        Raises:
            BackendError: CUDA refused; it counts as closed all the same.
        """
        self._forgotten.detach()
        self._lease.close()

    def _open_handle(self) -> int:
        if self._lease.is_closing:
            raise BackendError(f"{self.what} is closed; make a new one")
        return self._lease.handle

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.what}{', closed' if self.is_closed else ''}>"


class Lease:
    """Gives a handle back once it is closed and no view is left, on whatever thread that happens.

    Nothing here takes a lock: views end inside the garbage collector, which can interrupt any line on any thread.
    """

    def __init__(self, what: str, handle: int, release: Callable[[int], None]) -> None:
        self.what = what
        self.handle = handle
        self.is_closing = False
        self._release = release
        self._views: set[object] = set()
        self._once: List[int] = [handle]

    def close(self) -> None:
        """Gives the handle back, now or with the last view."""
        self.is_closing = True
        self._free_if_unused()

    def hold(self, view: object) -> None:
        """Keeps the handle for as long as `view` is alive.

        Raises:
            BackendError: it is closed.
        """
        token = object()
        self._views.add(token)
        if self.is_closing:
            self._let_go(token)
            raise BackendError(f"{self.what} is closed; make a new one")
        weakref.finalize(view, self._let_go, token).atexit = False

    def _let_go(self, token: object) -> None:
        self._views.discard(token)
        if not self.is_closing:
            return
        try:
            self._free_if_unused()
        except BackendError as error:  # nobody is there to raise it to
            logger.warning("%s: not given back: %s", self.what, error)

    def _free_if_unused(self) -> None:
        if self._views:
            return
        try:
            handle = self._once.pop()
        except IndexError:
            return
        self._release(handle)


def _collect(lease: Lease) -> None:
    try:
        lease.close()
    except BackendError as error:
        logger.warning("%s: not given back: %s", lease.what, error)
    logger.warning("%s was never closed", lease.what)
    warnings.warn(f"{lease.what} was never closed", ResourceWarning, stacklevel=2)
