"""The live page, its snapshots and its events, on both HTTP transports; and in a real browser where there is one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import aiohttp
import numpy as np
import pytest

from edge_runtime.client import Client
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.server.live.feed import LiveFeed
from edge_runtime.server.live.snapshots import Snapshots
from edge_runtime.server.models import ModelTable

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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
        connection.sendall(b"GET /live/events HTTP/1.1\r\nHost: x\r\n\r\n")
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
    before = watched.ask("GET", "/live").json["models"][0]["succeeded"]
    asked(watched, 3)
    found = watched.ask("GET", "/live").json
    (model, _) = found["models"]
    assert (model["name"], model["version"], model["device"]) == ("identity", "3", "cpu")
    assert model["succeeded"] == before + 3
    assert found["server"]["ready"] is True
    assert found["board"]["power_mw"] is None


def test_watchers_get_a_snapshot_at_once_and_then_each_second(watched: Any) -> None:
    with events(watched) as found:
        first = next(found)["models"][0]
        asked(watched, 5)
        while True:
            model = next(found)["models"][0]
            if model["succeeded"] == first["succeeded"] + 5:
                break
        assert model["requests_per_s"] > 0
        assert model["latency"]["n"] >= 5
        assert model["latency"]["p50_ms"] > 0
        assert model["latency"]["p90_ms"] is model["latency"]["p99_ms"] is None


def test_so_many_may_watch_and_places_come_free(watched: Any) -> None:
    with contextlib.ExitStack() as watching:
        for _ in range(16):
            next(watching.enter_context(events(watched)))
        reply = watched.ask("GET", "/live/events")
        assert reply.status == 503
        assert reply.headers["retry-after"] == "10"
        assert watched.ask("GET", "/v2/health/ready").status == 200
    while watched.ask("GET", "/live/events").status == 503:
        pass  # the server hasn't seen yet that they left


def test_a_drain_ends_the_events(serving: Any) -> None:
    with serving("identity") as server, events(server) as found:
        next(found)
        server.signal()
        assert [snapshot["server"]["ready"] for snapshot in found][-1:] in ([], [True], [False])
        server.thread.join(20)
        assert server.outcome == [True]


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> tuple[Snapshots, Clock]:
    clock = Clock()
    return Snapshots(ModelTable([]), clock, lambda: 48.5), clock


def test_what_a_board_tells_is_shown(snapshots: tuple[Snapshots, Clock]) -> None:
    taker, clock = snapshots
    clock.now_ns = 90 * 10**9
    found = taker.take()
    assert found["board"] == {"temperature_c": 48.5, "power_mw": None}
    assert found["server"]["uptime_s"] == 90


def test_a_feed_makes_one_snapshot_for_all_and_none_for_nobody() -> None:
    class Counted:
        taken = forgotten = 0

        def take(self) -> dict:
            self.taken += 1
            return {}

        def forget(self) -> None:
            self.forgotten += 1

    async def run() -> None:
        counted, sent = Counted(), [asyncio.Event(), asyncio.Event()]
        feed = LiveFeed(counted, every_s=0.01)  # type: ignore[arg-type]
        got: list[list[bytes]] = [[], []]

        def send(index: int, event: bytes) -> None:
            got[index].append(event)
            if len(got[index]) == 3:
                sent[index].set()

        leaves = [feed.watch(lambda event, index=index: send(index, event)) for index in range(2)]
        for each in sent:
            await each.wait()
        assert counted.taken <= 2 + max(map(len, got)) - 1
        for leave in (*leaves, *leaves):
            leave()
        taken = counted.taken
        await asyncio.sleep(0.05)
        assert (counted.taken, counted.forgotten > 0) == (taken, True)

    asyncio.run(run())


def test_a_feed_takes_no_more_watchers_than_it_may() -> None:
    async def run() -> None:
        feed = LiveFeed(Snapshots(ModelTable([]), lambda: 0))
        leaves = [feed.watch(lambda _: None) for _ in range(16)]
        with pytest.raises(ServerUnavailableError, match="16 watch already"):
            feed.watch(lambda _: None)
        leaves[0]()
        leaves.append(feed.watch(lambda _: None))
        for leave in leaves:
            leave()

    asyncio.run(run())


@contextlib.contextmanager
def browsing(browser: str, profile: Path) -> Iterator[str]:
    """A browser without a window; HOST:PORT of its DevTools."""
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [*command, "--remote-debugging-port=0", "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        try:
            lines = iter(process.stderr.readline, b"")
            yield next(line.split()[-1].decode() for line in lines if b"DevTools listening on" in line).split("/")[2]
        finally:
            process.kill()


async def browsed(url: str, address: str) -> dict[str, Any]:
    """What a browser shows of a page, once a model is on it, what it asked for and what it complained of."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://{address}/json/new?about:blank") as answer:
            target = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(target, max_msg_size=0) as devtools:
            return await shown(Page(devtools), url)


class Page:
    """A page by DevTools: commands, and what it told meanwhile."""

    def __init__(self, devtools: aiohttp.ClientWebSocketResponse) -> None:
        self._devtools = devtools
        self._count = 0
        self.told: list[Any] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        self._count += 1
        await self._devtools.send_json({"id": self._count, "method": method, "params": parameters})
        while True:
            message = await self._devtools.receive_json(timeout=30)
            if message.get("id") == self._count:
                return message["result"]
            self.told.append(message)

    async def value(self, expression: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")


async def shown(page: Page, url: str) -> dict[str, Any]:
    for domain in ("Page", "Runtime", "Log", "Network"):
        await page.call(f"{domain}.enable")
    await page.call("Page.navigate", url=url)
    while not await page.value("document.querySelectorAll('section').length"):
        pass
    return {
        "state": await page.value("document.getElementById('state').textContent"),
        "names": await page.value("[...document.querySelectorAll('[data-is=name]')].map((node) => node.textContent)"),
        "power": await page.value("document.getElementById('power').textContent"),
        "fallback": await page.value("document.getElementById('fallback').textContent"),
        "overflows": await page.value("document.documentElement.scrollWidth > document.documentElement.clientWidth"),
        "asked": {
            each["params"]["request"]["url"] for each in page.told if each["method"] == "Network.requestWillBeSent"
        },
        "complaints": [
            each
            for each in page.told
            if each["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        ],
    }


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_and_asks_for_nothing_elsewhere(watched: Any, tmp_path: Path) -> None:
    url = f"http://{watched.bound.http}/"
    with browsing(str(BROWSER), tmp_path) as address:
        found = asyncio.run(browsed(url, address))
    assert (found["state"], found["names"]) == ("ready", ["identity", "pair"])
    assert found["power"] == "not measured"
    assert found["fallback"].endswith("identity, pair")
    assert found["asked"] == {url, f"{url}live/events"}
    assert found["complaints"] == []
    assert not found["overflows"]
