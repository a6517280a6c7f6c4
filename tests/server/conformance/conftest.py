"""One server of all the tiny models, on each transport: our own and others', over TCP and over the Unix socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator

import pytest

MODELS = ("identity", "pair", "fixed", "scalar", "types", "root", "nonzero", "picky", "large")
LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}


class Relay:
    """A TCP address that leads to a Unix socket, for clients that know only the former."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,)).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._path)
            answers = threading.Thread(target=self._copy, args=(server, client))
            answers.start()
            self._copy(client, server)
            answers.join()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def over_unix() -> Callable[[Any], ContextManager[Any]]:
    """`with over_unix(server) as same`: the server as clients of its Unix socket have it, whatever they speak."""

    @contextlib.contextmanager
    def moved(server: Any) -> Iterator[Any]:
        with contextlib.closing(Relay(server.bound.unix)) as relay:
            bound = replace(server.bound, http=relay.address, grpc=f"unix:{server.bound.unix}")
            yield replace(server, bound=bound, is_over_unix=True)

    return moved


@pytest.fixture(scope="session", params=["own", "own-unix", "libraries", "libraries-unix"])
def server(
    request: pytest.FixtureRequest, serving: Any, over_unix: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """For tests that leave it as it was. On the Unix socket gRPC is always our own; no client may share memory."""
    libraries, _, medium = request.param.partition("-")
    unix = str(Path(tmp_path_factory.mktemp("socket"), "s"))
    settings = LIBRARIES if libraries == "libraries" else {}
    with serving(*MODELS, unix=unix, allow_client_shm=False, **settings) as started:
        if not medium:
            yield started
            return
        with over_unix(started) as moved:
            yield moved
