from __future__ import annotations

import pytest
from fakes.served_models import ListeningManager

from edge_runtime.cli.pause import pausing
from edge_runtime.errors import ConfigError, EdgeRuntimeError, PlanCorruptError
from edge_runtime.server.service_manager import NOBODY, ServiceManager


@pytest.mark.parametrize(
    ("error", "manager", "expected"),
    [
        (PlanCorruptError("model m: damaged"), ListeningManager(), [5.0]),
        (PlanCorruptError("model m: damaged"), NOBODY, []),
        (ConfigError("[server]: http"), ListeningManager(), []),
    ],
)
def test_a_start_that_fails_under_a_manager_pauses(
    error: EdgeRuntimeError, manager: ServiceManager, expected: list[float]
) -> None:
    waits: list[float] = []
    with pytest.raises(type(error)), pausing(manager, waits.append):
        raise error
    assert waits == expected


def test_the_manager_is_told_why() -> None:
    manager = ListeningManager()
    with pytest.raises(PlanCorruptError), pausing(manager, lambda _: None):
        raise PlanCorruptError("model m: damaged")
    assert manager.told == [
        ("STATUS", "can't serve: model m: damaged; ends after 5 s"),
        ("EXTEND_TIMEOUT_USEC", "15000000"),
    ]
