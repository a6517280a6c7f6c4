"""The asyncio client behind the blocking one's methods, so that tests of one run with the other."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from edge_runtime.client import AsyncClient


class BlockingAsyncClient:
    """An `AsyncClient` on a loop in a thread of its own; any thread may use it."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._is_stopped = False
        self.client = self.call(self._made(url, options))

    async def _made(self, url: str, options: Any) -> AsyncClient:
        return AsyncClient(url, **options)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    @property
    def url(self) -> str:
        return self.client.url

    def is_live(self) -> bool:
        return self.call(self.client.is_live())

    def is_ready(self, *arguments: Any) -> bool:
        return self.call(self.client.is_ready(*arguments))

    def metadata(self, *arguments: Any) -> Any:
        return self.call(self.client.metadata(*arguments))

    def infer(self, *arguments: Any, **options: Any) -> Any:
        return self.call(self.client.infer(*arguments, **options))

    def close(self) -> None:
        self.call(self.client.close())

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self.close()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def __enter__(self) -> BlockingAsyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __del__(self) -> None:
        self.stop()
