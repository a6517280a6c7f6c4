"""jetson-stats' jtop as a source, where it is asked for: it runs as root, and so knows the memory controller.

Its service and this client talk in one version; 4.2 to 7.2 give the same words. Units: mW, °C, kHz, kB.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any, Callable

from edge_runtime.device.monotonic_event import MonotonicEvent
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.jtop_record import sample_from_jtop
from edge_runtime.errors import TelemetryError

_PAUSE_NS = 2_000_000_000


class JtopSource:
    """A client of jtop's service, connected at once; one that is lost is connected anew, every 2 s at most.

    The service has a pace of its own, set by whoever connected first.
    """

    is_paced = True

    def __init__(
        self,
        interval_s: float = 1.0,
        module: str = "",
        library: Any = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Connects.

        Raises:
            TelemetryError: jetson-stats isn't installed, its service isn't running, or may not be used.
        """
        self.origin = Origin("jtop", module=module)
        self.restarts = 0
        self._interval_s = interval_s
        self._library = library or _imported()
        self._clock = clock
        self._arrived = MonotonicEvent()
        self._again_ns = 0
        self._client: Any = self._connected()

    def read(self, timeout_s: float) -> TelemetrySample | None:
        """What the service sends next; None if nothing came in `timeout_s`.

        Raises:
            TelemetryError: the service ended, or was lost.
        """
        if self._client is None:
            if self._clock() < self._again_ns:
                return None
            self._client = self._connected()
            self.restarts += 1
        has_arrived = self._arrived.wait(timeout_s)
        self._arrived.clear()
        try:
            if not self._client.ok(spin=True):
                raise TelemetryError("jtop: its service ended the connection")
            return sample_from_jtop(self._client, self.origin.module) if has_arrived else None
        except TelemetryError:
            self._lose()
            raise
        except Exception as error:  # jtop raises whatever its thread met
            self._lose()
            raise TelemetryError(f"jtop: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Disconnects."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> Any:
        self._again_ns = self._clock() + _PAUSE_NS
        client = self._library.jtop(interval=self._interval_s)
        client.attach(lambda _: self._arrived.set())
        try:
            client.start()
        except (self._library.JtopException, OSError, EOFError) as error:
            raise TelemetryError(f"jtop: {error}") from error
        return client

    def _lose(self) -> None:
        self._again_ns = self._clock() + _PAUSE_NS
        self.close()


def _imported() -> Any:
    try:
        return import_module("jtop")
    except ImportError as error:
        raise TelemetryError("jtop needs jetson-stats; run: pip install 'edge-runtime[jetson]'") from error
