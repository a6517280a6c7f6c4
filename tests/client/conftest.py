from __future__ import annotations

import socket
import threading
from typing import Callable, List

import pytest

Script = List[List[bytes]]


class ScriptedServer:
    """A made-up server: for each connection in turn, one scripted piece of bytes a request, then it closes.

    With the connections used up it refuses. `requests` holds what it received.
    """

    def __init__(self, script: Script, reads_bodies: bool = True) -> None:
        self.requests: List[bytes] = []
        self.connection_done = threading.Semaphore(0)
        self._script = script
        self._reads_bodies = reads_bodies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        with self._listener:
            for answers in self._script:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                connection.settimeout(10)
                with connection:
                    for answer in answers:
                        self.requests.append(self._request(connection))
                        connection.sendall(answer)
                self.connection_done.release()

    def _request(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        while self._reads_bodies and len(body) < size:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def stop(self) -> None:
        self._thread.join(0 if self._thread is threading.current_thread() else 15)


@pytest.fixture
def scripted():
    """Starts made-up servers: `scripted([[answer, ...], ...])`."""
    servers: List[ScriptedServer] = []

    def start(script: Script, reads_bodies: bool = True) -> ScriptedServer:
        servers.append(ScriptedServer(script, reads_bodies))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def http_answer() -> Callable[..., bytes]:
    """Builds an HTTP answer: `http_answer(body, status=200, head_length=None)`."""

    def build(body: bytes = b"", status: int = 200, head_length: object = None, extra: str = "") -> bytes:
        length = "" if head_length is None else f"Inference-Header-Content-Length: {head_length}\r\n"
        return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{length}{extra}\r\n".encode() + body

    return build


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
