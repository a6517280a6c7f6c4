"""The time between two starts of a service that fail."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Callable, Iterator

from edge_runtime.errors import ConfigError, EdgeRuntimeError

if TYPE_CHECKING:
    from edge_runtime.server.service_manager import ServiceManager

PAUSE_S = 5.0
_MARGIN_S = 10.0


@contextlib.contextmanager
def pausing(manager: ServiceManager, wait: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """A block whose failure is passed on after a pause, which a manager is told of that would start it anew at once.

    One that was killed is started without: a start that fails fails again, and its log would fill the disk. A
    configuration that is wrong isn't tried again by itself.
    """
    try:
        yield
    except ConfigError:
        raise
    except EdgeRuntimeError as error:
        if manager.is_there:
            manager.starting(f"can't serve: {error}; ends after {PAUSE_S:g} s", PAUSE_S + _MARGIN_S)
            wait(PAUSE_S)
        raise
