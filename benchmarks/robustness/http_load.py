"""HTTP load on one epoll loop: each request has a connection to itself, the one that has been free the longest."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict

from robustness.load import Order, Tally, arrivals_s
from robustness.nets import WIDTH
from robustness.requests import connection, http_infer

_READ_NBYTES = 1 << 16
_GRACE_S = 4.0


@dataclass
class _Flight:
    socket: socket.socket
    sent_s: float = 0.0
    received: bytes = b""
    is_busy: bool = False


class HttpLoad:
    """Connections to one server, and the request that all of them send."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._request = http_infer(order.model, bytes(4 * WIDTH))
        self._poll = select.epoll()
        self._flights: Dict[int, _Flight] = {}
        self._free: Deque[_Flight] = deque()
        self.tally = Tally()
        self.in_flight = 0

    def open_loop(self) -> None:
        """Sends at seeded random times, whether answers come or not; waits a while for the last ones."""
        order, begin_s = self._order, self._order.start_s
        for offset_s in arrivals_s(order.rate, order.seconds, order.seed):
            self._wait(begin_s + offset_s)
            self.tally.late_ms.append((time.monotonic() - begin_s - offset_s) * 1000)
            self._send()
        self._wait(begin_s + order.seconds + _GRACE_S, is_last=True)

    def closed_loop(self) -> None:
        """Keeps so many requests under way until the time is over."""
        end_s = self._order.start_s + self._order.seconds
        self._wait(self._order.start_s)
        while time.monotonic() < end_s:
            while self.in_flight < self._order.concurrency:
                self._send()
            self._take(end_s)

    def _wait(self, until_s: float, is_last: bool = False) -> None:
        while time.monotonic() < until_s and (self.in_flight or not is_last):
            self._take(until_s)

    def _take(self, until_s: float) -> None:
        for descriptor, _ in self._poll.poll(max(0.0, until_s - time.monotonic())):
            self._read(self._flights[descriptor])

    def _send(self) -> None:
        flight = self._free.popleft() if self._free else self._connected()
        flight.is_busy, flight.received, flight.sent_s = True, b"", time.monotonic()
        self.in_flight += 1
        self.tally.sent += 1
        try:
            flight.socket.sendall(self._request)
        except OSError:
            self._lose(flight)

    def _connected(self) -> _Flight:
        made = connection(self._order.address)
        made.setblocking(False)
        flight = _Flight(made)
        self._flights[made.fileno()] = flight
        self._poll.register(made.fileno(), select.EPOLLIN)
        return flight

    def _read(self, flight: _Flight) -> None:
        try:
            data = flight.socket.recv(_READ_NBYTES)
        except OSError:
            data = b""
        if not data:
            self._lose(flight)
            return
        flight.received += data
        head, end, body = flight.received.partition(b"\r\n\r\n")
        if end and len(body) >= length_in(head):
            now_s = time.monotonic()
            is_in_time = now_s <= self._order.start_s + self._order.seconds
            self.tally.add(int(head[9:12]), (now_s - flight.sent_s) * 1000, is_in_time)
            flight.is_busy = False
            self.in_flight -= 1
            self._free.append(flight)

    def _lose(self, flight: _Flight) -> None:
        del self._flights[flight.socket.fileno()]
        flight.socket.close()
        if flight.is_busy:
            self.tally.lost += 1
            self.in_flight -= 1
        else:
            self._free.remove(flight)


def length_in(head: bytes) -> int:
    """The Content-Length of an answer's head."""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n")[0]) if found else 0
