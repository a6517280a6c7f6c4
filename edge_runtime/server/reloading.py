"""Settings that change while the server runs: read anew as a whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Protocol, Sequence

from pydantic import BaseModel

from edge_runtime.errors import ConfigError
from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.accelerators import serve_as
from edge_runtime.server.administration import ServerLog
from edge_runtime.server.heartbeat import Heartbeat, status_text
from edge_runtime.server.listeners import Listeners
from edge_runtime.server.models import ModelTable
from edge_runtime.server.service_manager import ServiceManager
from edge_runtime.server.settings import ServerSettings

logger = logging.getLogger(__name__)

LIVE = ("log_level", "golden_interval_s", "drain_s")
"""Keys of `[server]` that hold at once."""

LIVE_SERVING = ("deadline_ms", "priority", "pinned")
"""Keys of `[serving]` that hold at once."""


@dataclass(frozen=True)
class Told:
    """What files, variables and flags say: of the server, of trust, and how each model wants to be served."""

    settings: ServerSettings
    trust: Mapping[str, Any]
    serving: Mapping[str, ServingTable]


class Configuration(Protocol):
    """Where a server's settings come from.

    Attributes:
        first: what it was started with.
    """

    first: Told

    @property
    def is_reloadable(self) -> bool:
        """Whether there is something that may say other than it did."""

    def read(self, models: Sequence[str]) -> Told:
        """What it says now, of the server and of these models; raises ConfigError. Called on a thread of its own."""


class Reloading:
    """Lets other settings hold when that is asked for; used on the loop's thread.

    Everything is read and checked before anything changes. Keys that hold only from a start on are named, in the log
    and to the manager.

    Attributes:
        settings: what holds now.
    """

    def __init__(
        self,
        settings: ServerSettings,
        models: ModelTable,
        listeners: Listeners,
        heartbeat: Heartbeat,
        log: ServerLog | None = None,
    ) -> None:
        self.settings = settings
        self._models = models
        self._listeners = listeners
        self._heartbeat = heartbeat
        self._log = log

    async def reload(self, configuration: Configuration | None, manager: ServiceManager) -> None:
        """Reads everything anew and lets it hold; a failure is logged and told, and changes nothing."""
        manager.reloading()
        try:
            renew = self._listeners.renewal()
            told = await _read(configuration, [model.name for model in self._models])
        except ConfigError as error:
            self._keep(str(error), manager)
            return
        except Exception as error:  # the top frame of what is read: the next reload must come, and the manager waits
            logger.exception("the files can't be read anew")
            self._keep(f"unexpected {type(error).__name__}", manager)
            return
        renew()
        waiting = [] if told is None or configuration is None else self._apply(told, configuration.first)
        logger.info("settings, tokens and certificates were read anew")
        text = f"need a restart to hold: {', '.join(waiting)}" if waiting else ""
        if text:
            logger.warning("settings that were changed %s", text)
        manager.ready("; ".join(filter(None, (status_text(self._models), text))))

    def _keep(self, why: str, manager: ServiceManager) -> None:
        logger.error("nothing was changed by the reload: %s", why)
        manager.ready(f"{status_text(self._models)}; nothing was changed by the reload: {why}")

    def _apply(self, told: Told, first: Told) -> List[str]:
        """Lets hold what can, and names the keys that can't."""
        before, now = self.settings, told.settings
        self.settings = before.model_copy(update={key: getattr(now, key) for key in LIVE})
        self._heartbeat.golden_interval_s = now.golden_interval_s
        if self._log is not None and now.log_level != before.log_level:
            self._log.let_pass(now.log_level)
        waiting = [f"server.{key}" for key in _differing(self.settings, now)]
        waiting += [f"trust.{key}" for key, value in told.trust.items() if value != first.trust[key]]
        for model in self._models:
            wanted = told.serving.get(model.name, model.serving)
            serve_as(model, model.serving.model_copy(update={key: getattr(wanted, key) for key in LIVE_SERVING}))
            waiting += [f"serving.{key} of {model.name}" for key in _differing(model.serving, wanted)]
        return waiting


async def _read(configuration: Configuration | None, models: Sequence[str]) -> Told | None:
    if configuration is None:
        return None
    read: Callable[[], Told] = lambda: configuration.read(models)  # noqa: E731  (typed, for the executor)
    return await asyncio.get_running_loop().run_in_executor(None, read)


def _differing(one: BaseModel, other: BaseModel) -> List[str]:
    return [key for key in type(one).model_fields if getattr(one, key) != getattr(other, key)]
