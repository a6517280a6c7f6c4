from __future__ import annotations

import pytest

from edge_runtime.config import validated
from edge_runtime.errors import ConfigError
from edge_runtime.server.settings import ServerSettings, address_text, loopback_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("127.9.9.9:0", ("127.9.9.9", 0)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("[::1]:8000", ("::1", 8000)),
    ],
)
def test_loopback_addresses_are_served(text: str, expected: tuple[str, int]) -> None:
    assert loopback_address(text, "HTTP") == expected


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "192.168.1.5:80", "example.org:80", "1.2.3:80", "*:80"])
def test_addresses_that_others_reach_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="only loopback"):
        loopback_address(text, "HTTP")


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
        loopback_address(text, "gRPC")


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "[::1]:8000"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert address_text(*loopback_address(text, "HTTP")) == text


@pytest.mark.parametrize(
    "values", [{"slots": 0}, {"queue_size": 0}, {"max_request_bytes": 10}, {"drain_s": -1}, {"htp": "x"}]
)
def test_settings_out_of_range_or_unknown_are_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        validated(ServerSettings, values, "[server]")
