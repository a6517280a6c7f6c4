"""Tokens and TLS of our clients."""

from __future__ import annotations

import pytest

from edge_runtime.client.address import address_from_url
from edge_runtime.client.client import Client
from edge_runtime.client.credentials import Credentials
from edge_runtime.errors import ConfigError


def test_a_token_does_not_show_in_texts() -> None:
    address = address_from_url("https://h:1", None, Credentials(token="secret"))
    assert "secret" not in f"{address!r} {address} {address.credentials!r}"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"token": ""}, "token"),
        ({"token": "a\r\nb"}, "token"),
        ({"token": "é"}, "token"),
        ({"certificate": "c"}, "both"),
        ({"key": "k"}, "both"),
    ],
)
def test_credentials_that_cannot_be_sent_are_refused(given: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Credentials(**given)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "grpcs://127.0.0.1:1"])
def test_files_of_tls_that_are_not_there_are_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"absent.pem.*No such file"):
        Client(url, credentials=Credentials(ca="absent.pem"))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_url_with_an_s_means_tls(protocol: str) -> None:
    address = address_from_url(f"{protocol}s://h:1")
    assert (address.protocol, address.is_secure, str(address)) == (protocol, True, f"{protocol}s://h:1")
    with pytest.raises(ConfigError, match=f"got {protocol}"):
        address_from_url(f"{protocol}s://h:1", {"http": "grpc", "grpc": "http"}[protocol])
