"""A real browser without a window, led through DevTools; tests of pages skip where none is installed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, AsyncIterator, Iterator

import aiohttp
import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


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

    async def until(self, expression: str) -> None:
        end = time.monotonic() + 30
        while not await self.value(expression):
            assert time.monotonic() < end, expression

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def texts(self, selector: str) -> list[str]:
        return list(await self.value(f"[...document.querySelectorAll('{selector}')].map((node) => node.textContent)"))

    def of(self, *methods: str) -> list[Any]:
        return [each for each in self.told if each["method"] in methods]


@contextlib.asynccontextmanager
async def page_in(browser: str, profile: Path) -> AsyncIterator[Page]:
    with browsing(browser, profile) as address:
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://{address}/json/new?about:blank") as answer:
                target = (await answer.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(target, max_msg_size=0) as devtools:
                yield Page(devtools)
