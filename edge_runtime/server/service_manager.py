"""What the process tells the service manager that started it, by systemd's protocol `sd_notify`."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Callable, Mapping

logger = logging.getLogger(__name__)

_MAX_STATUS = 1024  # characters; a datagram that is too long would be lost whole
_MOST_DIGITS = 18  # of a time, which systemd keeps in 64 bits


class ServiceManager:
    """Tells a service manager how the process does; says nothing where there is none. Any thread may call it.

    A message that can't be sent is logged once, and ends nothing: the manager then does what it does with a service
    that says nothing.

    Args:
        address: of its socket, with `@` first in the abstract namespace; None where there is none.
        watchdog_s: how long it waits for a sign of life; None: forever.
        clock_ns: CLOCK_MONOTONIC.

    Attributes:
        watchdog_s: as above, and as `wait_longer` has changed it since.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_s: float | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        self._clock_ns = clock_ns
        self._has_failed = False

    @property
    def is_there(self) -> bool:
        """Whether anybody is told."""
        return self._address is not None

    def starting(self, status: str, timeout_s: float) -> None:
        """Says how far the start is, and that it goes on for `timeout_s` at most."""
        self._tell(STATUS=status, EXTEND_TIMEOUT_USEC=_us(timeout_s))

    def ready(self, status: str) -> None:
        """Says that the service does its work, after a start or a reload."""
        self._tell(READY=1, STATUS=status)

    def status(self, status: str) -> None:
        """Says in words how the service does."""
        self._tell(STATUS=status)

    def reloading(self) -> None:
        """Says that settings are read anew; `ready` ends that."""
        self._tell(RELOADING=1, MONOTONIC_USEC=self._clock_ns() // 1000)

    def stopping(self, status: str, timeout_s: float) -> None:
        """Says that the service ends, within `timeout_s`."""
        self._tell(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=_us(timeout_s))

    def alive(self) -> None:
        """A sign of life."""
        self._tell(WATCHDOG=1)

    def wait_longer(self, watchdog_s: float) -> None:
        """Has the manager wait that long for signs of life from here on."""
        self.watchdog_s = watchdog_s
        self._tell(WATCHDOG_USEC=_us(watchdog_s))

    def _tell(self, **values: object) -> None:
        if self._address is None:
            return
        text = "".join(f"{name}={_one_line(str(value))}\n" for name, value in values.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # one that doesn't listen must hold nothing up
                sender.sendto(text.encode(), address)
        except OSError as error:
            if not self._has_failed:
                logger.warning("the service manager at %s can't be told: %s", self._address, error.strerror or error)
            self._has_failed = True


NOBODY = ServiceManager()


def service_manager(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> ServiceManager:
    """The manager that has started this process, by what it has put into the environment."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return ServiceManager()
    return ServiceManager(address, _watchdog_s(environ, os.getpid() if pid is None else pid))


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    text, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    is_ours = not whose or whose == str(pid)
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) / 1e6 if is_ours and is_number and int(text) else None


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_STATUS]
