from __future__ import annotations

import asyncio
import logging
from typing import Any, Awaitable, Callable

import pytest
from fakes.served_models import RIGHT, WRONG, Clock, DrivenModel, ListeningManager, table_of

from edge_runtime.errors import BackendError
from edge_runtime.server.heartbeat import Heartbeat
from edge_runtime.server.models import ModelTable


class Rig:
    """A heartbeat over driven models; `after(s)` lets time pass and has it look."""

    def __init__(self, *models: DrivenModel, clock: Clock, watchdog_s: float | None = 10.0, interval_s: float = 10.0):
        self.table, self.clock, self.models = table_of(*models), clock, models
        self.manager = ListeningManager(watchdog_s)
        self.heartbeat = Heartbeat(self.table, self.manager, interval_s)

    async def after(self, seconds: float, times: int = 1) -> int:
        """Looks after that many seconds, several times; how many signs of life there were since."""
        before = self.manager.signs
        for _ in range(times):
            self.clock.s += seconds
            self.heartbeat.look()
            await settled()
        return self.manager.signs - before

    async def answered(self, model: DrivenModel, outputs: Any = RIGHT) -> int:
        """Has a golden run end; how many signs of life there were since."""
        before = self.manager.signs
        model.answer(outputs)
        await settled()
        return self.manager.signs - before

    @property
    def problem(self) -> str:
        return self.table.problem()


async def settled() -> None:
    """Returns when what was compared in another thread is known here."""
    await asyncio.gather(*(each for each in asyncio.all_tasks() if each is not asyncio.current_task()))


def driven(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    """A test that is a coroutine."""

    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


@driven
async def test_the_first_look_gives_a_sign_for_what_was_verified_at_the_start() -> None:
    clock = Clock()
    rig = Rig(DrivenModel("a", clock), clock=clock)
    assert await rig.after(0) == 1


@driven
async def test_an_idle_model_is_asked_and_only_its_answer_gives_a_sign() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    assert await rig.after(3) == 0
    assert len(model.asked) == 1
    clock.s += 0.01
    assert await rig.answered(model) == 1
    assert rig.problem == ""


@driven
async def test_a_clients_run_spares_the_model_the_golden_run() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    clock.s += 1
    model.serves_a_client()
    assert await rig.after(1) == 1
    assert not model.asked


@driven
async def test_a_model_that_clients_keep_busy_is_asked_all_the_same_now_and_then() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock, interval_s=10)
    asked_at = []
    for _ in range(25):
        clock.s += 0.5
        model.serves_a_client()
        await rig.after(0.5)
        if model.asked:
            asked_at.append(clock.s)
            await rig.answered(model)
    assert len(asked_at) == 2
    assert 10 <= asked_at[1] - asked_at[0] <= 11


@driven
async def test_nothing_that_ends_means_no_sign_and_a_model_that_is_late() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    assert await rig.after(3, times=10) == 0
    assert len(model.asked) == 1
    assert "its golden run hasn't ended in time" in rig.problem
    assert await rig.answered(model) == 1
    assert rig.problem == ""


@driven
async def test_what_is_slow_but_ends_is_alive() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    for _ in range(5):
        assert await rig.after(3, times=3) == 0
        assert await rig.answered(model) == 1
    assert rig.problem == ""


@driven
async def test_a_run_that_takes_long_makes_the_manager_wait_longer_and_lateness_later() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    model.longest_run_ns = 5_000_000_000
    rig = Rig(model, clock=clock, watchdog_s=10)
    await rig.after(0)
    assert ("WATCHDOG_USEC", "20000000") in rig.manager.told
    await rig.after(4, times=3)
    assert rig.problem == ""
    await rig.after(4, times=2)
    assert "hasn't ended in time" in rig.problem


@driven
async def test_every_accelerator_must_move() -> None:
    clock = Clock()
    cpu, gpu = DrivenModel("a", clock), DrivenModel("b", clock, device="gpu")
    rig = Rig(cpu, gpu, clock=clock)
    await rig.after(0)
    await rig.after(3)
    assert await rig.answered(cpu) == 0
    assert await rig.answered(gpu) == 1


@driven
async def test_the_models_of_an_accelerator_are_asked_in_turn() -> None:
    clock = Clock()
    models = [DrivenModel(name, clock) for name in "abc"]
    rig = Rig(*models, clock=clock, interval_s=1000)
    asked = []
    for _ in range(6):
        await rig.after(3)
        for model in models:
            if model.asked:
                asked.append(model.name)
                await rig.answered(model)
    assert asked[:5] == ["a", "b", "c", "a", "b"]


@driven
async def test_a_wrong_answer_hinders_and_a_second_in_a_row_ends_the_signs_until_one_is_right() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    await rig.after(3)
    assert await rig.answered(model, WRONG) == 1
    assert "its last golden run was wrong: output 'y'" in rig.problem
    await rig.after(3)
    assert await rig.answered(model, WRONG) == 0
    model.serves_a_client()
    assert await rig.after(3) == 0
    await rig.after(10)
    assert await rig.answered(model) == 1
    assert rig.problem == ""


@driven
async def test_a_golden_run_that_fails_counts_like_a_wrong_one() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    for _ in range(2):
        await rig.after(3, times=2)
        await rig.answered(model, BackendError("CUDA error 700"))
    assert "its last golden run failed: CUDA error 700" in rig.problem
    assert await rig.after(3) == 0


@driven
async def test_a_full_queue_is_left_to_clients_and_their_runs_give_the_signs() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock, interval_s=1)
    model.pending = model.queue_size
    for _ in range(5):
        clock.s += 1
        model.serves_a_client()
        assert await rig.after(1) == 1
    assert not model.asked
    assert rig.problem == ""
    assert await rig.after(1, times=30) == 0
    assert "hasn't ended in time" in rig.problem


@driven
async def test_a_refused_golden_run_is_asked_for_again() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    model.is_refusing = True
    await rig.after(3, times=2)
    assert rig.problem == ""
    model.is_refusing = False
    await rig.after(0.5)
    assert await rig.answered(model) == 1


@driven
async def test_a_model_without_a_golden_run_is_stuck_only_while_a_client_waits() -> None:
    clock = Clock()
    model = DrivenModel("a", clock, has_golden=False)
    rig = Rig(model, clock=clock)
    assert await rig.after(3, times=5) == 5
    model.under_way.begun()
    await rig.after(3, times=5)
    assert "hasn't ended in time" in rig.problem
    assert await rig.after(3) == 0
    model.under_way.ended()
    assert await rig.after(3) == 1


@driven
async def test_a_model_whose_process_is_being_replaced_is_waited_for() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    model.engine.keeper = type("Keeper", (), {"hindrance": "its process ended", "restarts": {}})()
    assert await rig.after(3, times=10) == 10
    assert not model.asked


@driven
async def test_what_a_rung_of_its_ladder_runs_for_it_is_no_sign_of_the_model() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    model.place = object()
    for _ in range(10):
        clock.s += 1
        model.serves_a_client()
        assert await rig.after(1) == 0
    assert "hasn't ended in time" in rig.problem


@driven
async def test_a_swapped_model_begins_anew() -> None:
    clock = Clock()
    old, new = DrivenModel("a", clock), DrivenModel("a", clock, key="a (load 2)")
    rig = Rig(old, clock=clock)
    await rig.after(3, times=2)
    await rig.answered(old, WRONG)
    assert rig.problem
    rig.table.put(new)  # type: ignore[arg-type]
    await rig.after(3)
    assert rig.problem == ""


@driven
async def test_without_a_manager_the_models_are_asked_just_the_same() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock, watchdog_s=None)
    assert rig.heartbeat.period_s == 10
    await rig.after(10, times=2)
    await rig.answered(model, WRONG)
    assert "was wrong" in rig.problem
    assert rig.manager.signs == 0


@driven
async def test_the_status_says_what_is_served_and_what_is_amiss() -> None:
    clock = Clock()
    rig = Rig(DrivenModel("a", clock), clock=clock)
    await rig.after(0, times=3)
    rig.table.hindrances["a", "plan"] = "stands in"
    await rig.after(0)
    statuses = [text for name, text in rig.manager.told if name == "STATUS"]
    assert statuses == ["serves a 3 (int8); 0 wait", "not ready: model a: stands in"]


@driven
async def test_metrics_tell_age_outcome_and_signs() -> None:
    clock = Clock()
    model = DrivenModel("a", clock)
    rig = Rig(model, clock=clock)
    await rig.after(0)
    await rig.after(3)
    await rig.answered(model, WRONG)
    clock.s += 2
    assert samples(rig.table) == {
        'edge_runtime_golden_run_age_seconds{model="a",version="3"}': 2.0,
        'edge_runtime_golden_run_right{model="a",version="3"}': 0,
        'edge_runtime_golden_runs_total{model="a",outcome="wrong"}': 1,
        "edge_runtime_heartbeats_total{}": 2,
    }


def samples(table: ModelTable) -> dict[str, float]:
    families = [family for make in table.metrics for family in make()]
    return {f"{each.name}{{{labels}}}": value for each in families for labels, value in each.samples}


def test_a_look_that_fails_is_logged_and_the_next_comes(caplog: pytest.LogCaptureFixture) -> None:
    looks = []

    async def main() -> None:
        heartbeat = Heartbeat(table_of(), ListeningManager(0.003), 1)
        done = asyncio.Event()

        def look() -> None:
            looks.append(1)
            if len(looks) == 3:
                done.set()
            raise ValueError("x")

        heartbeat.look = look  # type: ignore[method-assign]
        task = asyncio.ensure_future(heartbeat.run())
        await asyncio.wait_for(done.wait(), 10)
        task.cancel()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert caplog.text.count("the heartbeat failed once") >= 3
