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
        "https://host:443",
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
    ],
)
def test_any_other_form_is_refused(url):
    with pytest.raises(ConfigError, match="expected http://HOST:PORT or grpc://HOST:PORT"):
        address_from_url(url)


def test_a_protocol_that_contradicts_the_url_is_refused():
    with pytest.raises(ConfigError, match="expected protocol grpc, got http"):
        address_from_url("http://host:80", "grpc")
    with pytest.raises(ConfigError, match="expected one of http, grpc"):
        address_from_url("host:80", "ftp")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "grpc://[::1]:8001", "http://host:80/edge"])
def test_an_address_is_printed_as_it_is_read(url):
    assert str(address_from_url(url)) == url
