from __future__ import annotations

import pytest

from edge_runtime.client.address import Address, address_from_url
from edge_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        ("http://127.0.0.1:8000", None, Address("http", "127.0.0.1", 8000)),
        ("http://127.0.0.1:8000/", "http", Address("http", "127.0.0.1", 8000)),
        ("http://board.local:80/edge/", None, Address("http", "board.local", 80, "/edge")),
        ("grpc://[::1]:8001", None, Address("grpc", "::1", 8001)),
        ("localhost:8000", None, Address("http", "localhost", 8000)),
        ("localhost:8001", "grpc", Address("grpc", "localhost", 8001)),
        ("unix:///run/x.sock", None, Address("http", "", 0, socket_path="/run/x.sock")),
        ("unix:///run/x.sock", "grpc", Address("grpc", "", 0, socket_path="/run/x.sock")),
    ],
)
def test_an_address_is_read_from_a_url(url, protocol, expected):
    assert address_from_url(url, protocol) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http://host",
        "http://host:0",
        "http://host:65536",
        "http://host:port",
        "ftp://host:21",
        "http://user:secret@host:80",
        "http://host:80/?a=b",
        "http://host:80/#a",
        "grpc://host:80/path",
        "http://ho st:80",
        "http://host:80/\r\nX: y",
        "http://h\u00f6st:80",
        "http://[::1:80",
        "http://" + "a" * 70 + ":80",
        "unix://",
        "unix:///",
        "unix://host/x",
        "unix:/run/x",
        "unix:///run/x y",
        "unix:///run/\0",
    ],
)
def test_any_other_form_is_refused(url):
    with pytest.raises(ConfigError, match="expected http://HOST:PORT, grpc://HOST:PORT"):
        address_from_url(url)


def test_a_protocol_that_contradicts_the_url_is_refused():
    with pytest.raises(ConfigError, match="expected protocol grpc, got http"):
        address_from_url("http://host:80", "grpc")
    with pytest.raises(ConfigError, match="expected one of http, grpc"):
        address_from_url("host:80", "ftp")


def test_a_socket_path_longer_than_the_kernels_is_refused():
    assert address_from_url("unix:///" + "a" * 106).socket_path
    with pytest.raises(ConfigError, match="at most 107 bytes, got 108"):
        address_from_url("unix:///" + "a" * 107)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "grpc://[::1]:8001", "http://host:80/edge", "unix:///run/x"])
def test_an_address_is_printed_as_it_is_read(url):
    assert str(address_from_url(url)) == url
