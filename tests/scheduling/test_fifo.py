from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import QueueFullError, ServerUnavailableError
from edge_runtime.scheduling.fifo import FirstComeQueue
from edge_runtime.scheduling.request import Request


def request() -> Request:
    return Request({}, encode=dict, emit=print, arrival_ns=0)


def test_requests_run_in_the_order_of_their_arrival() -> None:
    queue, requests = FirstComeQueue(3), [request() for _ in range(3)]
    for each in requests:
        queue.admit(each)
    assert [queue.next() for _ in range(4)] == [*requests, None]


def test_one_more_than_the_capacity_is_refused_and_leaves_the_rest_as_it_was() -> None:
    queue, first = FirstComeQueue(1), request()
    queue.admit(first)
    with pytest.raises(QueueFullError, match="1 requests waiting"):
        queue.admit(request())
    assert (len(queue), queue.next()) == (1, first)
    queue.admit(request())


def test_a_closed_queue_admits_nothing_and_still_gives_what_waits() -> None:
    queue, first = FirstComeQueue(2), request()
    queue.admit(first)
    queue.close()
    with pytest.raises(ServerUnavailableError, match="shutting down") as caught:
        queue.admit(request())
    assert not isinstance(caught.value, QueueFullError)
    assert queue.next() is first


def test_a_withdrawn_request_gives_its_place_away() -> None:
    queue, gone = FirstComeQueue(1), request()
    queue.admit(gone)
    assert queue.withdraw(gone)
    assert not queue.withdraw(gone)
    queue.admit(request())
    assert queue.next() is not gone


@given(st.lists(st.sampled_from(["admit", "next", "withdraw"]), max_size=60), st.integers(1, 4))
def test_it_behaves_as_a_bounded_list(steps: list[str], capacity: int) -> None:
    queue, model = FirstComeQueue(capacity), deque()
    for step in steps:
        if step == "admit" and len(model) < capacity:
            model.append(request())
            queue.admit(model[-1])
        elif step == "next":
            assert queue.next() is (model.popleft() if model else None)
        elif step == "withdraw" and model:
            assert queue.withdraw(model.pop())
        assert len(queue) == len(model)
