"""A transport's server on a free loopback port, and raw clients of it."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest
from fakes.http2_client import RawClient
from fakes.http2_server import Http2Fixture


@pytest.fixture(scope="module")
def http2() -> Iterator[Http2Fixture]:
    """A server with limits small enough to reach, for tests that leave it as it was."""
    with Http2Fixture(
        max_message_bytes=1 << 20, stream_window_bytes=1 << 17, connection_window_bytes=1 << 21, max_frame_bytes=1 << 17
    ) as started:
        yield started


@pytest.fixture
def serving_http2() -> Callable[..., Http2Fixture]:
    """`with serving_http2(idle_timeout_s=0.1) as server`: one with limits of one's own."""
    return Http2Fixture


@pytest.fixture
def client(http2: Http2Fixture) -> Iterator[RawClient]:
    """A greeted connection to `http2`."""
    with RawClient(http2.address) as connected:
        yield connected


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Callable[[], Any]:
    """`quiet()`: fails if anything was logged above DEBUG."""

    def check() -> None:
        assert not [record for record in caplog.records if record.levelname != "DEBUG"]

    return check
