"""An `Http2Server` on a loopback port in a thread of its own, whose methods do what transport tests need."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any, Callable, List, Tuple

from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.server import Http2Server

METHODS = ("Echo", "Later", "Hold", "Sized", "Fail", "Raise", "Facts", "Said")
STREAMING = [f"/s.S/{method}" for method in METHODS]


class Http2Fixture:
    """Methods of `/t.T/`: Echo, Later (echo when the loop comes round), Hold (until `release`), Sized (so many bytes
    as the message says), Fail, Raise, Facts (what the transport says of the call), Said (the one among these that the
    message names); others are UNIMPLEMENTED. Those of `/s.S/` are the same, but for streams of many messages.
    """

    def __init__(self, **limits: Any) -> None:
        self.held: List[UnaryCall] = []
        self.cancelled: List[UnaryCall] = []
        self.is_holding = threading.Semaphore(0)
        self.is_cancelled = threading.Semaphore(0)
        self.count = 0
        self._limits = Http2Limits(**limits)
        self._ready = threading.Event()
        self._stopped: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="http2")

    def __enter__(self) -> Http2Fixture:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self.server = Http2Server(self.handle, self._limits, streaming=STREAMING)
        listener = await self.loop.create_server(self.server, "127.0.0.1", 0)
        self.address: Tuple[str, int] = listener.sockets[0].getsockname()
        self._ready.set()
        await self._stopped.wait()
        listener.close()
        self.server.close_all()
        assert await self.server.closed(10)
        assert len(asyncio.all_tasks()) == 1

    @property
    def target(self) -> str:
        """The address for gRPC clients."""
        return f"127.0.0.1:{self.address[1]}"

    def run(self, function: Callable[[], Any]) -> Any:
        """The function's result, from the loop's thread."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is the test that fails
                future.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return future.result(20)

    def open_calls(self) -> int:
        """How many streams the server still knows."""
        return int(self.run(lambda: sum(len(each._connection.streams.calls) for each in self.server._connections)))

    def release(self) -> None:
        """Answers all calls that are held."""

        def reply() -> None:
            for call in self.held:
                call.reply(b"released ", call.message)
            self.held.clear()

        self.run(reply)

    def handle(self, call: UnaryCall) -> None:
        self.count += 1
        method = getattr(self, "do_" + call.path[len("/t.T/") :].lower(), None)
        if method is None:
            call.fail("UNIMPLEMENTED", f"unknown method {call.path}")
        else:
            method(call)

    def do_echo(self, call: UnaryCall) -> None:
        call.reply(call.message)

    def do_later(self, call: UnaryCall) -> None:
        self.loop.call_soon(call.reply, call.message)

    def do_hold(self, call: UnaryCall) -> None:
        def cancelled() -> None:
            self.held.remove(call)
            self.cancelled.append(call)
            self.is_cancelled.release()

        call.on_cancel = cancelled
        self.held.append(call)
        self.is_holding.release()

    def do_sized(self, call: UnaryCall) -> None:
        digits = bytes(byte for byte in bytes(call.message) if byte in b"0123456789")
        call.reply(bytes(int(digits or b"0")))

    def do_fail(self, call: UnaryCall) -> None:
        call.fail("NOT_FOUND", "no such thing: 100 % ü\n", (("x-reason", "it isn't there"),))

    def do_raise(self, call: UnaryCall) -> None:
        raise ValueError("made up")

    def do_facts(self, call: UnaryCall) -> None:
        metadata = {name.decode(): value.decode() for name, value in call.metadata}
        call.reply(repr({"timeout_ns": call.timeout_ns, "peer": call.peer, "metadata": metadata}).encode())

    def do_said(self, call: UnaryCall) -> None:
        said = bytes(call.message).decode("latin-1").partition(" ")[0]
        getattr(self, f"do_{said}", self.do_fail)(call)
