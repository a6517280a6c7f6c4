"""The live page, its snapshots and its events, on both HTTP transports; and in a real browser where there is one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
from fakes.board_readings import RAMP
from fakes.browser import BROWSER, in_a_browser, page_in

from edge_runtime.client import Client
from edge_runtime.client.address import address_from_url
from edge_runtime.client.http import HttpTransport
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.provisioning.serving_load import serving_load
from edge_runtime.server.board import BoardReading
from edge_runtime.server.live.feed import LiveFeed

EVENTS = b"GET /live/events HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(
    scope="module", params=[pytest.param({}, id="own"), pytest.param({"http_transport": "aiohttp"}, id="aiohttp")]
)
def watched(request: pytest.FixtureRequest, serving: Any) -> Iterator[Any]:
    with serving("identity", "pair", **request.param) as server:
        yield server


def asked(server: Any, count: int) -> None:
    with Client(f"http://{server.bound.http}") as client:
        for _ in range(count):
            client.infer("identity", {"x": np.ones((2, 4), np.float32)})


@contextlib.contextmanager
def events(server: Any) -> Iterator[Any]:
    """Reads snapshots as they come."""
    with server.connection() as connection, connection.makefile("rb") as file:
        connection.sendall(EVENTS)
        head = b"".join(iter(file.readline, b"\r\n")).decode().lower()
        assert "200 ok" in head
        assert "content-type: text/event-stream" in head

        def following() -> Iterator[Any]:
            for line in file:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

        yield following()


def test_the_page_is_one_document_that_loads_nothing(watched: Any) -> None:
    reply = watched.ask("GET", "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    text = reply.body.decode()
    policy = reply.headers["content-security-policy"]
    for name in ("style", "script"):
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.findall(r"(?:src|href)=\"(?!data:|live|metrics)", text)
    assert "innerHTML" not in text


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405)])
def test_the_page_is_for_reading(watched: Any, method: str, status: int) -> None:
    reply = watched.exchange(f"{method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())[0]
    assert reply.status == status


def test_a_snapshot_says_what_each_model_did(watched: Any) -> None:
    before = watched.ask("GET", "/live").json["models"][0]["total"]
    asked(watched, 3)
    watched.infer("identity", b"{")
    found = watched.ask("GET", "/live").json
    (model, _) = found["models"]
    assert (model["name"], model["version"], model["device"], model["state"]) == ("identity", "3", "cpu", "ready")
    assert model["total"]["succeeded"] == model["total"]["latency"]["n"] == before["succeeded"] + 3
    assert model["total"]["failed"]["OTHER"] == before["failed"]["OTHER"] + 1
    assert found["server"]["ready"] is True
    assert found["board"]["power_mw"] is None


def test_two_snapshots_tell_how_busy_the_server_was(watched: Any) -> None:
    transport = HttpTransport(address_from_url(f"http://{watched.bound.http}"), 20.0)
    before = transport.snapshot()
    asked(watched, 3)
    found = serving_load(before, transport.snapshot(), 10.0, "identity")
    transport.close()
    assert (found.requests, found.miss_share, found.slack_ms) == (3, 0.0, None)
    assert 0 < found.utilisation < 0.5


def test_watchers_get_a_snapshot_at_once_and_then_each_second(watched: Any) -> None:
    with events(watched) as found:
        first = next(found)["models"][0]
        asked(watched, 5)
        while True:
            model = next(found)["models"][0]
            if model["total"]["succeeded"] == first["total"]["succeeded"] + 5:
                break
        for window in model["windows"]:
            assert window["requests_per_s"] > 0
            assert window["latency"]["n"] >= 5
            assert window["latency"]["p50_ms"] > window["wait"]["p50_ms"] > 0
            assert window["latency"]["p90_ms"] is window["latency"]["p99_ms"] is None


def test_so_many_may_watch_and_places_come_free(watched: Any) -> None:
    with contextlib.ExitStack() as watching:
        for _ in range(16):
            next(watching.enter_context(events(watched)))
        reply = watched.ask("GET", "/live/events")
        assert reply.status == 503
        assert reply.headers["retry-after"] == "10"
        assert watched.ask("GET", "/v2/health/ready").status == 200
        assert watched.ask("GET", "/live").status == 200
    while watched.ask("GET", "/live/events").status == 503:
        pass  # the server hasn't seen yet that they left


class FakeSnapshots:
    """Snapshots of a given size, which are counted."""

    def __init__(self, nbytes: int = 0) -> None:
        self.nbytes = nbytes
        self.taken = 0
        self.are_many = threading.Event()

    def take(self, board: BoardReading) -> dict[str, str]:
        self.taken += 1
        if self.taken == 60:
            self.are_many.set()
        return {"filling": "x" * self.nbytes}


class LeftFeed(LiveFeed):
    """Says when a watcher is forgotten; it makes a snapshot every hundredth of a second."""

    def __init__(self, nbytes: int) -> None:
        self.snapshots = FakeSnapshots(nbytes)
        super().__init__(self.snapshots, 0.01)  # type: ignore[arg-type]
        self.left = threading.Event()

    def watch(self, send: Callable[[bytes], None]) -> Callable[[], None]:
        leave = super().watch(send)

        def leave_and_say() -> None:
            leave()
            self.left.set()

        return leave_and_say


@pytest.fixture(params=["own", "aiohttp"])
def fed(request: pytest.FixtureRequest, serving: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`fed(nbytes, settings)`: a server whose feed has events of that size, and the feed."""

    @contextlib.contextmanager
    def start(nbytes: int = 0, **settings: Any) -> Iterator[tuple[Any, LeftFeed]]:
        feed = LeftFeed(nbytes)
        monkeypatch.setattr("edge_runtime.server.listeners.live_feed", lambda *_: feed)
        with serving("identity", http_transport=request.param, **settings) as server:
            yield server, feed

    return start


def test_a_watcher_who_leaves_is_forgotten(fed: Any) -> None:
    with fed() as (server, feed):
        with events(server) as found:
            next(found)
        assert feed.left.wait(10)


def test_a_watcher_who_does_not_read_is_dropped(fed: Any) -> None:
    with fed(1 << 20, body_timeout_s=0.3) as (server, feed), server.connection() as connection:
        connection.sendall(EVENTS)
        assert feed.left.wait(20)


def test_little_is_kept_for_a_watcher_who_does_not_read(fed: Any, watch_rss: Any) -> None:
    with fed(1 << 20) as (server, feed), server.connection() as connection:
        grown = watch_rss()
        connection.sendall(EVENTS)
        assert feed.snapshots.are_many.wait(20)
        assert grown() < 20 << 20


def test_no_limit_of_time_ends_a_stream_that_is_read(fed: Any) -> None:
    with fed(idle_timeout_s=0.2, body_timeout_s=0.2) as (server, _), events(server) as found:
        start = time.monotonic()
        while time.monotonic() < start + 1:
            next(found)


def test_a_drain_ends_a_stream_as_http_says_and_answers_nothing_behind_it(fed: Any, http_message: Any) -> None:
    with fed() as (server, _), server.connection() as connection:
        connection.sendall(EVENTS + http_message("GET", "/v2/health/live"))
        received = b""
        while b"}\n\n" not in received:
            received += connection.recv(1 << 16)
        server.signal()
        received += b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert received.count(b"HTTP/1.1") == 1
        assert received.endswith((b"}\n\n", b"}\n\n\r\n0\r\n\r\n"))  # the connection's end says it, or the last chunk
        server.thread.join(10)
        assert server.outcome == [True]


def test_who_watches_must_ask_again_once_tokens_are_read_anew(fed: Any) -> None:
    with fed() as (server, feed), events(server) as found:
        next(found)
        server.reload()
        for _ in found:
            pass
        assert feed.left.is_set()


def test_the_page_is_on_the_unix_socket_too(serving: Any, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with serving("identity", unix=str(path)) as server, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(EVENTS)
        with connection.makefile("rb") as file:
            event = next(line for line in file if line.startswith(b"data: "))
        assert json.loads(event[6:])["models"][0]["name"] == "identity"
        assert server.ask("GET", "/").status == 200


def test_a_feed_makes_one_snapshot_for_all_and_none_for_nobody() -> None:
    async def run() -> None:
        snapshots = FakeSnapshots()
        feed = LiveFeed(snapshots, 0.01)  # type: ignore[arg-type]
        got: list[list[bytes]] = [[], []]
        have = [asyncio.Event(), asyncio.Event()]

        def send(index: int, event: bytes) -> None:
            got[index].append(event)
            if len(got[index]) == 5:
                have[index].set()

        leaves = [feed.watch(partial(send, index)) for index in range(2)]
        for each in have:
            await each.wait()
        assert [events[0] for events in got] == [b"retry: 2000\n\n"] * 2
        assert snapshots.taken == max(map(len, got)) - 1
        for leave in (*leaves, *leaves):
            leave()
        assert feed._task is None

    asyncio.run(run())


def test_who_comes_later_gets_the_newest_snapshot_at_once() -> None:
    async def run() -> None:
        feed = LiveFeed(FakeSnapshots(), 1000)  # type: ignore[arg-type]
        first: asyncio.Queue[bytes] = asyncio.Queue()
        second: asyncio.Queue[bytes] = asyncio.Queue()
        feed.watch(first.put_nowait)
        assert [await first.get(), await first.get()] == [b"retry: 2000\n\n", b'data: {"filling": ""}\n\n']
        feed.watch(second.put_nowait)
        assert await second.get() == b'retry: 2000\n\ndata: {"filling": ""}\n\n'
        feed.close()
        assert [await first.get(), await second.get()] == [b"", b""]
        with pytest.raises(ServerUnavailableError, match="shutting down"):
            feed.watch(first.put_nowait)

    asyncio.run(run())


def test_a_feed_takes_no_more_watchers_than_it_may() -> None:
    async def run() -> None:
        feed = LiveFeed(FakeSnapshots())  # type: ignore[arg-type]
        leaves = [feed.watch(lambda _: None) for _ in range(16)]
        with pytest.raises(ServerUnavailableError, match="16 watch already"):
            feed.watch(lambda _: None)
        leaves[0]()
        feed.watch(lambda _: None)
        feed.close()

    asyncio.run(run())


def test_a_feed_that_fails_says_so_and_ends_its_streams(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def take(self, _: BoardReading) -> dict[str, str]:
            raise OSError("no board")

    async def run() -> None:
        feed = LiveFeed(Broken(), 0.01)  # type: ignore[arg-type]
        sent: asyncio.Queue[bytes] = asyncio.Queue()
        feed.watch(sent.put_nowait)
        assert [await sent.get(), await sent.get()] == [b"retry: 2000\n\n", b""]

    asyncio.run(run())
    assert caplog.messages == ["the live page failed"]


HOSTILE = "<img src=x onerror=alert(1)>&amp;'\"</script>"


@pytest.mark.slow
@in_a_browser
def test_a_browser_shows_the_page_and_asks_for_nothing_elsewhere(watched: Any, tmp_path: Path) -> None:
    url = f"http://{watched.bound.http}/"

    async def browse() -> None:
        async with page_in(str(BROWSER), tmp_path) as page:
            await page.open(url)
            await page.until("document.querySelectorAll('main section').length")
            assert await page.texts("[data-is=name]") == ["identity", "pair"]
            assert await page.texts("#state, #power") == ["ready", "not measured"]
            assert await page.texts("#fallback") == ["Runs on ONNX Runtime CPU, not on a GPU: identity, pair"]
            await asyncio.get_running_loop().run_in_executor(None, asked, watched, 3)
            await page.until("document.querySelector('[data-is=rate]').textContent > 0")
            assert (
                await page.texts("main section:first-of-type [data-is=percentiles] td:nth-child(4)")
                == ["n too small"] * 4
            )
            assert await page.texts("main section:last-of-type [data-is=percentiles] td:nth-child(4)") == ["\u2013"] * 4
            for width in (1100, 320):
                metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                await page.call("Emulation.setDeviceMetricsOverride", **metrics)
                assert await page.value("document.documentElement.scrollWidth") <= width
            asked_for = {each["params"]["request"]["url"] for each in page.of("Network.requestWillBeSent")}
            assert asked_for == {url, f"{url}live/events"}
            assert page.of("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []

    asyncio.run(browse())


@pytest.mark.slow
@in_a_browser
def test_a_browser_shows_a_replayed_board_as_such_and_when_it_throttles(serving: Any, tmp_path: Path) -> None:
    async def browse(url: str) -> None:
        async with page_in(str(BROWSER), tmp_path) as page:
            await page.open(url)
            await page.until("document.getElementById('throttle').textContent.startsWith('Throttled. ')")
            (replayed,) = await page.texts("#replayed")
            assert replayed.startswith(f"REPLAYED from {RAMP.name}: these numbers are not of this machine; made up: ")
            assert await page.value("document.getElementById('replayed').offsetHeight") > 0
            await page.until("document.getElementById('throttle').textContent.startsWith('Not throttled')")
            assert (await page.texts("#power, #rails th"))[1:] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
            await page.until("document.querySelector('#heat_line path').getAttribute('d').includes('L')")
            for width in (1100, 320):
                metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                await page.call("Emulation.setDeviceMetricsOverride", **metrics)
                assert await page.value("document.documentElement.scrollWidth") <= width
            assert page.of("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []

    with serving("identity", board=f"replay@8:{RAMP}") as server:
        asyncio.run(browse(f"http://{server.bound.http}/"))


@pytest.mark.slow
@in_a_browser
def test_a_browser_shows_which_rung_answers_and_why(serving: Any, factor_engine: Any, tmp_path: Path) -> None:
    async def browse(url: str) -> None:
        async with page_in(str(BROWSER), tmp_path) as page:
            await page.open(url)
            await page.until("document.querySelector('[data-is=ladder].bad') !== null")
            (text,) = await page.texts("[data-is=ladder].bad")
            assert text.startswith("Degraded: fast/3 answers, for ")
            assert " (1 switch; ladder: slow/3 → fast/3)" in text
            assert await page.texts("main section:last-of-type [data-is=ladder]:not([hidden])") == []
            await page.until("document.querySelector('[data-is=ladder]').textContent.startsWith('Not degraded, for ')")
            assert page.of("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []

    ladder = {"rungs": ["slow", "fast"], "headroom_c": 10, "dwell_s": 1, "return_dwell_s": 1}
    engines = [factor_engine("slow", 1), factor_engine("fast", 2)]
    with serving(*engines, serving={"ladder": ladder}, board=f"replay@10:{RAMP}") as server:
        asyncio.run(browse(f"http://{server.bound.http}/"))


@pytest.mark.slow
@in_a_browser
def test_a_browser_shows_that_a_board_fell_silent(serving: Any, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in RAMP.read_text().splitlines()[:4]]
    lines[-1]["at_s"] = 10_000
    recording = tmp_path / "gap.jsonl"
    recording.write_text("\n".join(map(json.dumps, lines)))

    async def browse(url: str) -> None:
        async with page_in(str(BROWSER), tmp_path / "profile") as page:
            await page.open(url)
            await page.until("!document.getElementById('alarm').hidden")
            (alarm,) = await page.texts("#alarm")
            assert "no sample for" in alarm
            assert await page.texts("#power, #temperature, #throttle") == [
                "Throttling: not known",
                "not measured",
                "not measured",
            ]

    with serving("identity", board=f"replay@20:{recording}") as server:
        asyncio.run(browse(f"http://{server.bound.http}/"))


@pytest.mark.slow
@in_a_browser
def test_names_of_a_board_are_only_ever_text_and_fit_a_phone(serving: Any, tmp_path: Path) -> None:
    long = "soc" * 3000
    sample = {
        "temps_c": {HOSTILE: 40, long: 50.5},
        "power_mw": {HOSTILE: {"cur": 5}, long: {"cur": 7000}},
        "total_power": None,
        "trips_c": {long: 99},
        "cooling": {f"{HOSTILE}-throttle-alert": 1, f"{long}-throttle-alert": 1},
    }
    recording = tmp_path / "names.jsonl"
    recording.write_text(json.dumps({"at_s": 0, "sample": sample, "made_up": HOSTILE + long}))

    async def browse(url: str) -> None:
        async with page_in(str(BROWSER), tmp_path / "profile") as page:
            await page.open(url)
            await page.until("document.querySelectorAll('#zones th').length === 2")
            assert await page.texts("#zones th, #rails th") == [HOSTILE, long] * 2
            for width in (1100, 320):
                metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                await page.call("Emulation.setDeviceMetricsOverride", **metrics)
                assert await page.value("document.documentElement.scrollWidth") <= width
                assert await page.value("document.getElementById('board').scrollWidth") <= width
            assert await page.value("document.querySelectorAll('img').length") == 0
            assert page.of("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening") == []

    with serving("identity", board=f"replay:{recording}") as server:
        asyncio.run(browse(f"http://{server.bound.http}/"))


@pytest.mark.slow
@in_a_browser
def test_the_name_of_a_model_is_only_ever_text(serving: Any, tiny_engine: Any, tmp_path: Path) -> None:
    engine = tiny_engine("identity")
    engine.info = replace(engine.info, name=HOSTILE)

    async def browse(url: str) -> None:
        async with page_in(str(BROWSER), tmp_path) as page:
            await page.open(url)
            await page.until("document.querySelectorAll('main section').length")
            assert await page.texts("[data-is=name]") == [HOSTILE]
            assert await page.value("document.querySelectorAll('img').length") == 0
            assert page.of("Log.entryAdded", "Page.javascriptDialogOpening") == []

    with serving(engine) as server:
        asyncio.run(browse(f"http://{server.bound.http}/"))


@pytest.mark.slow
@in_a_browser
def test_a_page_says_that_the_server_is_gone_and_comes_back_with_it(serving: Any, tmp_path: Path) -> None:
    async def browse() -> None:
        async with page_in(str(BROWSER), tmp_path) as page:
            with serving("identity") as server:
                await page.open(f"http://{server.bound.http}/")
                await page.until("document.querySelectorAll('main section').length")
                assert await page.value("document.getElementById('lost').hidden")
            await page.until("!document.getElementById('lost').hidden")
            assert await page.texts("#state") == ["no connection"]
            with serving("identity", http=server.bound.http):
                await page.until("document.getElementById('lost').hidden")
                assert await page.texts("#state") == ["ready"]

    asyncio.run(browse())
