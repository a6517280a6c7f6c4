"""Readiness by engines in processes of their own, which may be away for a time."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import Callable

from edge_runtime.engine.engine import Keeping
from edge_runtime.server.models import ModelTable, ServedModel

PROCESS = "process"
"""The kind of hindrance that is kept here."""


def watch_engines(models: ModelTable, moved: Callable[[], object] = bool) -> None:
    """Has a model hindered while the process of its engine is away, from here on; called on the loop's thread.

    `moved` is called there too, whenever one has gone away or come back.
    """
    loop = asyncio.get_running_loop()
    watched: weakref.WeakSet[Keeping] = weakref.WeakSet()

    def look(_: ServedModel | None = None) -> None:
        here = {model.name: model.engine.keeper for model in models}
        for key in [key for key in models.hindrances if key[1] == PROCESS and here.get(key[0]) is None]:
            del models.hindrances[key]
        for name, keeper in here.items():
            if keeper is None:
                continue
            if keeper not in watched:
                watched.add(keeper)
                keeper.watch(_on(loop, look_again))
            if keeper.hindrance:
                models.hindrances[name, PROCESS] = keeper.hindrance
            else:
                models.hindrances.pop((name, PROCESS), None)

    def look_again() -> None:
        look()
        moved()

    models.changed.append(look)
    look()


def _on(loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> Callable[[], None]:
    """Calls `look` on the loop's thread, from any other; not any more once the loop is closed."""

    def called() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(look)

    return called
