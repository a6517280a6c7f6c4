from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.server.addresses import address_text, check_access, check_free, tcp_address
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.unix_socket import UnixListener


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("127.9.9.9:0", ("127.9.9.9", 0)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("[::1]:8000", ("::1", 8000)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("192.168.1.5:80", ("192.168.1.5", 80)),
    ],
)
def test_tcp_addresses_are_served(text: str, expected: tuple[str, int]) -> None:
    assert tcp_address(text, "HTTP") == expected


@pytest.mark.parametrize("text", ["example.org:80", "1.2.3:80", "*:80", "127.0.0.1%lo:80"])
def test_a_host_is_an_ip_address(text: str) -> None:
    with pytest.raises(ConfigError, match="expected an IP address"):
        tcp_address(text, "HTTP")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8000",
        ":8000",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:\uff18\uff10",
    ],
)
def test_what_is_no_address_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        tcp_address(text, "gRPC")


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "[::1]:8000"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert address_text(*tcp_address(text, "HTTP")) == text


TLS = {"tls_certificate": "c.pem", "tls_key": "k.pem"}


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8000"])
@pytest.mark.parametrize("name", ["http", "grpc"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "TLS .* and tokens"),
        (TLS, "needs tokens"),
        ({"tokens": "t"}, "needs TLS"),
        ({**TLS, "tokens": "t"}, None),
        ({**TLS, "tls_client_ca": "a.pem"}, None),
    ],
)
def test_3_3_what_others_reach_needs_tls_and_a_way_to_tell_who_asks(
    address: str, name: str, given: dict, missing: str | None
) -> None:
    settings = ServerSettings(**{name: address, **given})
    if missing is None:
        check_access(settings)
        return
    with pytest.raises(ConfigError, match=missing):
        check_access(settings)


@pytest.mark.parametrize(
    "given",
    [
        {"tls_certificate": "c"},
        {"tls_key": "k"},
        {"tls_client_ca": "a"},
        {**TLS, "grpc_transport": "grpcio"},
    ],
)
def test_half_of_tls_is_refused(given: dict) -> None:
    with pytest.raises(ConfigError, match=r"TLS|--tls-client-ca"):
        check_access(ServerSettings(**given))


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_5_22_a_port_that_is_taken_is_known_before_anything_is_loaded(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings(
            **{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", name: address_text(*taken.getsockname())}
        )
        with pytest.raises(ConfigError, match=f"in use.*--{name}"):
            check_free(settings)


def test_5_22_a_socket_that_is_taken_is_known_before_anything_is_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    settings = ServerSettings(http="127.0.0.1:0", grpc="127.0.0.1:0", unix=path)
    check_free(settings)
    assert list(tmp_path.iterdir()) == []
    taken = UnixListener(path)
    with pytest.raises(ConfigError, match="another server listens"):
        check_free(settings)
    taken.close()
    taken.socket.close()
