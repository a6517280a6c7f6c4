"""When what failed is tried again; by a clock that the test moves."""

from __future__ import annotations

import asyncio
from typing import Any, Callable

import pytest
from fakes.versioned_plans import VersionedPlans

from edge_runtime.errors import BackendUnavailableError, InsufficientMemoryError, PlanCorruptError, PlanError
from edge_runtime.server.accelerators import Accelerators
from edge_runtime.server.follower import Follower
from edge_runtime.server.keeping import Keeping, Refusal
from edge_runtime.server.loads import Loads
from edge_runtime.server.models import ModelTable
from edge_runtime.server.repository import ModelRepository
from edge_runtime.server.settings import ServerSettings


def tries(plans: VersionedPlans, until_s: float, **keeping: Any) -> list[float]:
    """When loads are tried, by a look each second."""
    found: list[float] = []

    async def main() -> None:
        now_s = 0.0
        accelerators, loads = Accelerators(ServerSettings()), Loads(plans, plans.ledger)
        refused = {
            name: Refusal(version, plans.fails[name, int(version)]) for name, version in plans.versions().items()
        }
        kept = Keeping(names=None, refused=refused, **keeping)
        models = ModelTable([])
        repository = ModelRepository(models, accelerators, loads, kept)
        follower = Follower(models, repository, loads, kept, clock=lambda: now_s)
        while now_s < until_s:
            before = len(plans.tried)
            await follower.look()
            await asyncio.gather(*follower.under_way, return_exceptions=True)
            found.extend([now_s] * (len(plans.tried) - before))
            now_s += 1.0
        await accelerators.close(1.0)
        await repository.close(1.0)
        loads.close()

    asyncio.run(main())
    return found


@pytest.mark.parametrize("error", [BackendUnavailableError("no GPU"), InsufficientMemoryError("900 MiB")])
def test_what_only_lacks_something_is_tried_again_ever_less_often_up_to_once_a_minute(error) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 1] = error
    assert tries(plans, 250, is_staying_up=True) == [1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_what_is_broken_is_tried_again_only_when_the_store_changes() -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 1] = PlanCorruptError("broken")
    assert tries(plans, 100, is_staying_up=True) == []


@pytest.fixture
def serve_later() -> Callable[[VersionedPlans], None]:
    """Has another version served from the third look on."""

    def arrange(plans: VersionedPlans) -> None:
        stamps, looks = plans.stamps, iter(range(1000))

        def later() -> Any:
            if next(looks) == 2:
                plans.serve("m", 2)
            return stamps()

        plans.stamps = later  # type: ignore[method-assign]

    return arrange


def test_a_store_that_cant_be_read_is_said_once_and_that_it_can_be_again(caplog: pytest.LogCaptureFixture) -> None:
    plans, looks = VersionedPlans(m=1), iter(range(1000))
    plans.fails["m", 1] = PlanCorruptError("broken")
    stamps = plans.stamps

    def flaky() -> Any:
        if next(looks) in range(10, 90):
            raise PlanError("/srv/engines: can't be read (Input/output error)")
        return stamps()

    plans.stamps = flaky  # type: ignore[method-assign]
    assert tries(plans, 100, is_staying_up=True) == []
    assert [line for line in caplog.messages if "looked at" in line] == [
        "the store can't be looked at: /srv/engines: can't be read (Input/output error)",
        "the store can be looked at again",
    ]


def test_a_change_of_the_store_doesnt_wait_for_the_next_try(serve_later) -> None:
    plans = VersionedPlans(m=1)
    plans.fails["m", 1] = PlanCorruptError("broken")
    serve_later(plans)
    assert tries(plans, 100, is_staying_up=True) == [2]
    assert plans.tried == [("m", 2)]
