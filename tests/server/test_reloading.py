from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.served_models import Clock, DrivenModel, ListeningManager, table_of

from edge_runtime.errors import ConfigError
from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.reloading import Reloading, Told
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.inference import Schedule

TRUST = {"require_signed": True}


class Rig:
    """A server's parts that a reload changes; `told` is what its configuration says."""

    def __init__(self, has_configuration: bool = True) -> None:
        self.model: Any = DrivenModel("a", Clock())
        self.model.serving, self.model.usual, self.model.is_pinned = ServingTable(deadline_ms=5), None, False
        self.first = self.told = Told(ServerSettings(), TRUST, {"a": self.model.serving})
        self.manager = ListeningManager()
        self.heartbeat = SimpleNamespace(golden_interval_s=10.0)
        self.levels: list[str] = []
        self.renewed = 0
        self.access_error = self.config_error = ""
        self.fault: Exception | None = None
        log: Any = SimpleNamespace(let_pass=self.levels.append)
        self.reloading = Reloading(ServerSettings(), table_of(self.model), self, self.heartbeat, log)  # type: ignore[arg-type]
        self.has_configuration = has_configuration

    def renewal(self) -> Any:
        if self.access_error:
            raise ConfigError(self.access_error)
        return self._renew

    def _renew(self) -> None:
        self.renewed += 1

    def read(self, models: Any) -> Told:
        assert list(models) == ["a"]
        if self.config_error:
            raise ConfigError(self.config_error)
        if self.fault is not None:
            raise self.fault
        return self.told

    def tell(self, trust: Any = TRUST, serving: Any = (), **settings: Any) -> None:
        self.told = Told(ServerSettings(**settings), trust, {"a": ServingTable(**{"deadline_ms": 5, **dict(serving)})})

    def reload(self) -> str:
        """Reloads; what the manager is told at the end."""
        configuration: Any = self if self.has_configuration else None
        asyncio.run(self.reloading.reload(configuration, self.manager))
        names = [name for name, _ in self.manager.told]
        assert names == ["RELOADING", "MONOTONIC_USEC", "READY", "STATUS"]
        status = self.manager.told[-1][1]
        self.manager.told.clear()
        return status


def test_live_keys_hold_at_once() -> None:
    rig = Rig()
    rig.tell(
        log_level="DEBUG", golden_interval_s=3, drain_s=1, serving={"deadline_ms": 7, "priority": 1, "pinned": True}
    )
    assert rig.reload() == "serves a 3 (int8); 0 wait"
    assert (rig.levels, rig.heartbeat.golden_interval_s, rig.reloading.settings.drain_s) == (["DEBUG"], 3, 1)
    assert rig.model.usual == Schedule(1, 7_000_000)
    assert rig.model.is_pinned
    assert rig.renewed == 1


def test_what_needs_a_restart_is_named_each_time_and_the_rest_holds(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.tell({"require_signed": False}, http="127.0.0.1:1", slots=3, serving={"batching": "on", "priority": 2})
    expected = "need a restart to hold: server.http, server.slots, trust.require_signed, serving.batching of a"
    for _ in range(2):
        assert rig.reload().endswith(expected)
    assert expected in caplog.text
    assert rig.model.serving == ServingTable(deadline_ms=5, priority=2)
    assert rig.reloading.settings.slots is None


@pytest.mark.parametrize("part", ["access_error", "config_error"])
def test_one_part_that_is_wrong_changes_nothing(part: str, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.tell(log_level="DEBUG", drain_s=1, serving={"priority": 1})
    setattr(rig, part, "/etc/x.toml: line 3")
    with caplog.at_level(logging.ERROR):
        assert rig.reload().endswith("nothing was changed by the reload: /etc/x.toml: line 3")
    assert "nothing was changed by the reload: /etc/x.toml: line 3" in caplog.text
    assert (rig.levels, rig.renewed, rig.model.usual) == ([], 0, None)
    assert rig.reloading.settings == ServerSettings()


def test_what_nobody_foresaw_of_a_file_changes_nothing_and_the_next_reload_holds() -> None:
    rig = Rig()
    rig.tell(log_level="DEBUG")
    rig.fault = RuntimeError("a file that nobody foresaw")
    assert rig.reload().endswith("nothing was changed by the reload: unexpected RuntimeError")
    assert (rig.levels, rig.renewed) == ([], 0)
    rig.fault = None
    rig.reload()
    assert (rig.levels, rig.renewed) == (["DEBUG"], 1)


def test_a_level_that_an_administrator_has_set_stays_unless_the_settings_have_another() -> None:
    rig = Rig()
    rig.reload()
    assert rig.levels == []


def test_without_a_configuration_tokens_and_certificates_are_read_all_the_same() -> None:
    rig = Rig(has_configuration=False)
    rig.reload()
    assert (rig.renewed, rig.reloading.settings) == (1, ServerSettings())
