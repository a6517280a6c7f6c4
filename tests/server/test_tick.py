"""What the loop's thread runs in one turn, where several clients have something gathered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.errors import QueueFullError
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.server.tick import Tick, gave_way

RUN_NS = 100_000


@pytest.fixture
def tick() -> Tick:
    return Tick(lambda: None, lambda work, rows: RUN_NS * rows)


@pytest.fixture
def work() -> Any:
    """A made-up short model with a queue of 8."""
    return SimpleNamespace(name="m", inline_rows=8, policy=ModelPolicy("m", 1, 8))


def made(client: str, **options: Any) -> Request:
    request = Request("m", {}, dict, print, 0)
    request.client = client
    for name, value in options.items():
        setattr(request, name, value)
    return request


def order(tick: Tick) -> str:
    entries, late = tick.take(0)
    assert late == []
    return "".join(request.client for _, requests, _ in entries for request in requests)


def gather(tick: Tick, work: Any, *requests: Request) -> list[Request]:
    """Those that had to give their places up."""
    found = [tick.gather(work, request, 0) for request in requests]
    return [each for each in found if each is not None]


def test_clients_take_turns(tick, work) -> None:
    gather(tick, work, *[made(client) for client in "hhhhggi"])
    assert order(tick) == "hgihghh"


def test_what_is_left_for_the_next_turn_of_the_loop_keeps_nobody_waiting(tick, work) -> None:
    gather(tick, work, *[made("h") for _ in range(5)])
    entries, _ = tick.take(0)
    tick.put_back(entries[1:])
    gather(tick, work, made("g"))
    assert order(tick) == "hghhh"


@pytest.mark.parametrize(("deadline_ns", "expected"), [(3 * RUN_NS, "hhg"), (4 * RUN_NS, "hgh"), (None, "ghh")])
def test_a_deadline_goes_before_turns_if_not_any_order_would_keep_it(tick, work, deadline_ns, expected) -> None:
    gather(tick, work, *[made("h", deadline_ns=deadline_ns) for _ in range(2)], made("g", deadline_ns=4 * RUN_NS))
    assert order(tick) == expected


def test_a_priority_goes_before_turns(tick, work) -> None:
    gather(tick, work, made("g"), *[made("h", priority=1) for _ in range(2)])
    assert order(tick) == "hhg"


def test_clients_share_runs_in_turn(tick, work) -> None:
    work.policy = ModelPolicy("m", 1, 8, max_batch=3)
    gather(tick, work, *[made(client, group="g") for client in "hhhhg"])
    entries, _ = tick.take(0)
    assert ["".join(request.client for request in requests) for _, requests, _ in entries] == ["hgh", "hh"]


def test_a_full_queue_gives_the_newest_place_of_who_has_most_to_a_client_with_less_than_its_share(tick, work) -> None:
    flood = [made("h") for _ in range(6)]
    promised = [made("h", deadline_ns=10**9) for _ in range(2)]
    assert gather(tick, work, *flood, *promised) == []
    assert gather(tick, work, made("g"), made("g")) == [flood[5], flood[4]]
    with pytest.raises(QueueFullError):
        tick.gather(work, made("h"), 0)
    assert (tick.waiting("m"), order(tick).count("g")) == (8, 2)


def test_what_was_promised_doesnt_give_way(tick, work) -> None:
    gather(tick, work, *[made("h", deadline_ns=10**9) for _ in range(8)])
    with pytest.raises(QueueFullError):
        tick.gather(work, made("g"), 0)


def test_one_that_gave_way_is_told_when_to_come_again() -> None:
    assert gave_way().retry_after_s > 0
