"""What framing costs: one unary gRPC echo through our own HTTP/2, the h2 library and grpc.aio, interleaved in one run.

    python benchmarks/http2_framing.py [--rounds 5] [--seconds 2] [--body-bytes 256]

Needs h2load (apt-get install nghttp2-client) and `pip install "h2>=4,<5"`. Each server is a process of its own; h2load
and grpcio's client ask them in turn, in the opposite order every other round. The medians of the rounds are printed,
ratios to our own framing, and the environment. The library is used with its checks of headers switched off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import grpc
from rich.console import Console
from rich.table import Table

from edge_runtime.profiler.environment import read_environment
from edge_runtime.server.http2.server import Http2Server

PATH = "/echo.Echo/Echo"
WAYS = ("own", "h2", "grpc.aio")
COLUMNS = (
    "h2load, 1 at once: p50 us",
    "grpcio's client, 1 at once: p50 us",
    "h2load, 16 connections: requests/s",
    "h2load, 16 streams on one: requests/s",
)
_CLIENT_CALLS = 2000
_GOOD = re.compile(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx")


def main() -> None:
    """Measures, and prints a table and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load")
    parser.add_argument("--body-bytes", type=int, default=256)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(SERVERS[options.serve]())
        return
    if shutil.which("h2load") is None:
        parser.error("h2load isn't installed; run: apt-get install nghttp2-client")
    figures = measured(options.rounds, options.seconds, options.body_bytes)
    table = Table("way", *COLUMNS)
    for way in WAYS:
        cells = [statistics.median(column) for column in zip(*figures[way])]
        own = [statistics.median(column) for column in zip(*figures["own"])]
        table.add_row(way, *(f"{cell:,.0f} ({cell / base:.2f})" for cell, base in zip(cells, own)))
    console = Console()
    console.print(table)
    console.print(
        f"echo of {options.body_bytes} bytes, {options.rounds} rounds of {options.seconds:g} s; (ratio to own)"
    )
    for label, text in read_environment().rows():
        console.print(f"{label}: {text}", highlight=False)


def measured(rounds: int, seconds: float, body_bytes: int) -> Dict[str, List[Tuple[float, ...]]]:
    """The figures of every round, one for each column."""
    figures: Dict[str, List[Tuple[float, ...]]] = {way: [] for way in WAYS}
    body = b"x" * body_bytes
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "body").write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
        ports = {way: stack.enter_context(serving(way)) for way in WAYS}
        for number in range(rounds + 1):
            for way in WAYS if number % 2 else reversed(WAYS):
                load = h2load(ports[way], folder, seconds if number else 0.5)
                cells = (load(1, 1)[0], client_p50_us(ports[way], body), load(16, 1)[1], load(1, 16)[1])
                if number:  # the first round warms up
                    figures[way].append(cells)
    return figures


@contextlib.contextmanager
def serving(way: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    command = [sys.executable, __file__, "--serve", way]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def h2load(port: int, folder: Path, seconds: float) -> Callable[[int, int], Tuple[float, float]]:
    """Gives the median latency in microseconds, and requests/s, of a number of connections and streams on each."""

    def load(connections: int, streams: int) -> Tuple[float, float]:
        log = folder / "log"
        log.unlink(missing_ok=True)
        shape = [f"-c{connections}", f"-m{streams}", "-D", f"{round(seconds * 1000)}ms", "--warm-up-time=200ms"]
        sent = ["-d", str(folder / "body"), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        command = ["h2load", *shape, *sent, f"--log-file={log}", f"http://127.0.0.1:{port}{PATH}"]
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
        good = _GOOD.search(text)
        if good is None or not int(good.group(1)):
            raise RuntimeError(f"not all answers were good:\n{text}")
        latencies = [int(line.split("\t")[2]) for line in log.read_text().splitlines()]
        return statistics.median(latencies), len(latencies) / seconds

    return load


def client_p50_us(port: int, body: bytes) -> float:
    """The median latency of grpcio's synchronous client."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary(PATH)
        durations = []
        for _ in range(_CLIENT_CALLS):
            begin = time.perf_counter_ns()
            assert len(call(body)) == len(body)
            durations.append(time.perf_counter_ns() - begin)
    return statistics.median(durations[_CLIENT_CALLS // 10 :]) / 1000


async def serve_own() -> None:
    """Our own framing."""
    server = Http2Server(lambda call: call.reply(call.message))
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def serve_h2() -> None:
    """An asyncio protocol over the h2 library."""
    listener = await asyncio.get_running_loop().create_server(_h2_protocol(), "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def serve_grpc() -> None:
    """grpc.aio, without parsing of messages."""

    async def echo(message: bytes, _: Any) -> bytes:
        return message

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


def _h2_protocol() -> Any:
    """The class of the protocol; the library is only needed where it is served."""
    from h2 import events  # noqa: PLC0415
    from h2.config import H2Configuration  # noqa: PLC0415
    from h2.connection import H2Connection  # noqa: PLC0415

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            names = ("validate_inbound", "normalize_inbound", "validate_outbound", "normalize_outbound")
            off = {f"{name}_headers": False for name in names}
            self.connection = H2Connection(H2Configuration(client_side=False, header_encoding=None, **off))
            self.bodies: Dict[int, List[bytes]] = {}
            self.waiting: Dict[int, memoryview] = {}
            self.connection.initiate_connection()
            self.connection.increment_flow_control_window(1 << 24)
            self.send()

        def data_received(self, data: bytes) -> None:
            found = self.connection.receive_data(data)
            if any(isinstance(event, events.ConnectionTerminated) for event in found):
                self.transport.close()
                return
            for event in found:
                if isinstance(event, events.RequestReceived):
                    self.bodies[event.stream_id] = []
                elif isinstance(event, events.DataReceived):
                    self.bodies[event.stream_id].append(event.data)
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, events.StreamEnded):
                    self.answer(event.stream_id, b"".join(self.bodies.pop(event.stream_id)))
                elif isinstance(event, (events.WindowUpdated, events.RemoteSettingsChanged)):
                    for stream_id in list(self.waiting):
                        self.go_on(stream_id)
            self.send()

        def answer(self, stream_id: int, framed: bytes) -> None:
            head = [(b":status", b"200"), (b"content-type", b"application/grpc")]
            self.connection.send_headers(stream_id, head)
            self.waiting[stream_id] = memoryview(framed)
            self.go_on(stream_id)

        def go_on(self, stream_id: int) -> None:
            while True:
                rest = self.waiting[stream_id]
                window = self.connection.local_flow_control_window(stream_id)
                size = min(len(rest), window, self.connection.max_outbound_frame_size)
                if size <= 0:
                    break
                self.connection.send_data(stream_id, bytes(rest[:size]))
                self.waiting[stream_id] = rest[size:]
            if not self.waiting[stream_id]:
                del self.waiting[stream_id]
                self.connection.send_headers(stream_id, [(b"grpc-status", b"0")], end_stream=True)

        def send(self) -> None:
            if not self.transport.is_closing():
                self.transport.write(self.connection.data_to_send())

    return Protocol


SERVERS: Dict[str, Callable[[], Any]] = {"own": serve_own, "h2": serve_h2, "grpc.aio": serve_grpc}


if __name__ == "__main__":
    main()
