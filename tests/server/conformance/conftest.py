"""One server of all the tiny models, on each transport: our own and others', over TCP and over the Unix socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator

import pytest

MODELS = ("identity", "pair", "fixed", "scalar", "types", "root", "nonzero", "rows", "picky", "large", "canvas")
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


TRANSPORTS = (
    "own",
    "own-unix",
    pytest.param("libraries", marks=pytest.mark.slow),
    pytest.param("libraries-unix", marks=pytest.mark.slow),
)


@pytest.fixture(scope="session")
def carried(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ContextManager[Any]]:
    """`with carried("own-unix", *engines, **settings) as server`: a server as clients of one transport have it.

    On the Unix socket gRPC is always our own; no client may share memory unless the settings say so.
    """

    @contextlib.contextmanager
    def carry(transport: str, *engines: Any, **settings: Any) -> Iterator[Any]:
        library, _, medium = transport.partition("-")
        unix = str(Path(tmp_path_factory.mktemp("socket"), "s"))
        chosen = {"allow_client_shm": False, **(LIBRARIES if library == "libraries" else {}), **settings}
        with serving(*engines, unix=unix, **chosen) as started:
            if not medium:
                yield started
                return
            with contextlib.closing(Relay(unix)) as relay:
                bound = replace(started.bound, http=relay.address, grpc=f"unix:{unix}")
                yield replace(started, bound=bound, is_over_unix=True)

    return carry


@pytest.fixture(scope="session", params=TRANSPORTS)
def server(request: pytest.FixtureRequest, carried: Any) -> Iterator[Any]:
    """For tests that leave it as it was."""
    with carried(request.param, *MODELS) as started:
        yield started


@pytest.fixture(scope="module", params=TRANSPORTS)
def hasty(request: pytest.FixtureRequest, carried: Any) -> Iterator[Any]:
    """A server of short patience, so that half a request ends soon; its clients on TCP may share memory too."""
    limits = {"body_timeout_s": 0.2, "idle_timeout_s": 0.2}
    with carried(request.param, "identity", "pair", allow_client_shm=True, **limits) as started:
        yield started


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    """At the end of the test, the process has as many descriptors as before, as soon as closed connections are."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    end = time.monotonic() + 10
    while len(list(Path("/proc/self/fd").iterdir())) > before:
        assert time.monotonic() < end
