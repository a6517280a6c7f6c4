"""Our clients by TLS, with tokens and certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from edge_runtime.client.async_client import AsyncClient
from edge_runtime.client.client import Client
from edge_runtime.client.credentials import Credentials
from edge_runtime.errors import RemoteError, ServerUnavailableError
from edge_runtime.wire.tokens import token_line


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of TLS by what they are."""
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(folder / "ca")
    for name, host in (("server", "127.0.0.1"), ("client", "robot@example.org")):
        made = authority.issue_cert(host)
        (folder / name).write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        (folder / f"{name}.key").touch(mode=0o600)
        (folder / f"{name}.key").write_bytes(made.private_key_pem.bytes())
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture
def secure(serving: Any, files: dict[str, str], tmp_path: Path) -> Any:
    """A server that asks for a certificate and the token `token`."""
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("robot", False, "token"))
    made = {"tls_certificate": files["server"], "tls_key": files["server.key"], "tls_client_ca": files["ca"]}
    return serving("identity", "large", tokens=str(tokens), **made)


ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_clients_infer_by_tls_with_a_certificate_and_a_token(secure: Any, files: dict[str, str], protocol: str) -> None:
    full = Credentials("token", files["ca"], files["client"], files["client.key"])
    with secure as server:
        url = f"{protocol}s://{getattr(server.bound, protocol)}"
        with Client(url, credentials=full) as client:
            assert client.is_ready("identity")
            assert np.array_equal(client.infer("identity", {"x": ROWS})["y"], ROWS)

        async def infer() -> Any:
            client = AsyncClient(url, credentials=full)
            try:
                return (await client.infer("identity", {"x": ROWS}))["y"]
            finally:
                await client.close()

        assert np.array_equal(asyncio.run(infer()), ROWS)
        with Client(url, credentials=Credentials("wrong", *list(full.__dict__.values())[1:])) as client:
            with pytest.raises(RemoteError) as refused:
                client.metadata()
            assert refused.value.status in (401, "UNAUTHENTICATED")
        with Client(url, timeout_s=5, credentials=Credentials("token", files["ca"])) as client, pytest.raises(
            (RemoteError, ServerUnavailableError)
        ):
            client.metadata()


def test_what_is_long_goes_by_tls_too(secure: Any, files: dict[str, str]) -> None:
    full = Credentials("token", files["ca"], files["client"], files["client.key"])
    rows = np.random.default_rng(0).random(1 << 17, np.float32)
    with secure as server, Client(f"https://{server.bound.http}", credentials=full) as client:
        assert np.array_equal(client.infer("large", {"x": rows})["y"], rows)


def test_a_server_that_is_not_trusted_gets_nothing(secure: Any, files: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "ca"
    trustme.CA().cert_pem.write_to_path(other)
    untrusting = Credentials("t", str(other))
    with secure as server, Client(f"https://{server.bound.http}", credentials=untrusting) as client, pytest.raises(
        ServerUnavailableError, match=r"(?i)certificate"
    ):
        client.metadata()
