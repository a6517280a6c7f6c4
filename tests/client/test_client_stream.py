from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_runtime.client import AsyncClient, Client
from edge_runtime.client.request import Hurry
from edge_runtime.client.stream import Stream
from edge_runtime.client.stream_async import AsyncStream
from edge_runtime.client.stream_line import POLICIES, StreamLine
from edge_runtime.errors import (
    ConfigError,
    DeadlineExpiredError,
    DeadlineRefusedError,
    InvalidRequestError,
    QueueFullError,
    RemoteError,
    ServerUnavailableError,
)

NONE = Hurry()


def line(in_flight=2, when_full="wait", clock=lambda: 0.0):
    return StreamLine(in_flight, when_full, clock)


def put(one, count):
    return [one.put({}, NONE) for _ in range(count)]


def started(one):
    return [entry.sequence for entry in iter(one.next, None)]


def taken(one):
    return [(result.sequence, result.dropped) for result in one.take_all()]


def test_as_many_run_as_may_and_results_come_in_order():
    one = line(2)
    put(one, 2)
    assert not one.has_room
    first, second = one.next(), one.next()
    assert one.next() is None
    one.finish(second, {"y": 2})
    assert one.take() is None
    one.finish(first, {"y": 1})
    assert one.has_room
    assert [(result.sequence, result.outputs) for result in one.take_all()] == [(0, {"y": 1}), (1, {"y": 2})]


@pytest.mark.parametrize(
    ("when_full", "count", "left", "dropped"),
    [("drop_oldest", 6, [4, 5], {"newer": 2}), ("newest_wins", 6, [5], {"newer": 3})],
)
def test_what_waits_too_long_is_dropped_for_newer_ones_and_told(when_full, count, left, dropped):
    one = line(2, when_full)
    put(one, 2)
    running = [one.next(), one.next()]
    put(one, count - 2)
    for entry in running:
        one.finish(entry, {})
    assert taken(one) == [(0, {}), (1, {})]
    entries = list(iter(one.next, None))
    assert [entry.sequence for entry in entries] == left
    for entry in entries:
        one.finish(entry, {})
    assert taken(one)[0] == (left[0], dropped)
    assert one.counts.dropped == dropped
    assert (one.counts.put, one.counts.done) == (6, 6 - sum(dropped.values()))


def test_nothing_is_dropped_while_runs_are_free():
    one = line(2, "newest_wins")
    put(one, 3)
    assert started(one) == [0, 1]
    assert one.counts.dropped == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeadlineRefusedError("x"), "deadline"),
        (DeadlineExpiredError("x"), "deadline"),
        (QueueFullError("x"), "queue full"),
    ],
)
def test_refusals_are_drops_that_the_next_result_tells(error, reason):
    one = line(2)
    put(one, 2)
    first, second = one.next(), one.next()
    one.finish(second, {})
    one.finish(first, error)
    assert taken(one) == [(1, {reason: 1})]


def test_what_cannot_be_in_time_any_more_is_not_sent():
    now = [0.0]
    one = line(1, "drop_oldest", lambda: now[0])
    one.put({}, NONE)
    running = one.next()
    one.put({}, Hurry(100))
    now[0] = 0.06
    one.finish(running, {})
    entry = one.next()
    assert entry.hurry.deadline_ms == pytest.approx(40)
    one.put({}, Hurry(100))
    one.finish(entry, {})
    now[0] = 0.17
    assert one.next() is None
    assert one.counts.dropped == {"deadline": 1}


def test_other_errors_are_raised_in_their_turn_and_the_next_result_is_there():
    one = line(3)
    put(one, 3)
    entries = list(iter(one.next, None))
    one.finish(entries[2], {})
    one.finish(entries[1], RemoteError("broken", 500))
    one.finish(entries[0], {})
    assert taken(one) == [(0, {})]
    with pytest.raises(RemoteError):
        one.take_all()
    assert taken(one) == [(2, {})]
    assert (one.counts.done, one.counts.failed) == (2, 1)


@pytest.mark.parametrize("when_full", POLICIES)
def test_results_that_nobody_takes_are_bounded(when_full):
    one = line(1, when_full)
    for _ in range(200):
        if one.has_room:
            one.put({}, NONE)
            one.finish(one.next(), {})
    if when_full == "wait":
        assert (one.counts.put, len(taken(one))) == (64, 64)
    else:
        assert one.counts.dropped == {"unread": 136}
        assert taken(one)[0] == (136, {"unread": 136})
        assert (one.counts.put, one.counts.done) == (200, 64)


def test_an_ended_line_is_over_when_all_is_taken():
    one = line(1, "drop_oldest")
    put(one, 3)
    entry = one.next()
    one.end(drops_waiting=True)
    assert not one.is_over
    one.finish(entry, {})
    assert taken(one) == [(1, {"newer": 1})]
    assert one.is_over
    assert one.counts.dropped == {"newer": 1, "closed": 1}


@pytest.mark.parametrize("arguments", [(0, "wait"), (65, "wait"), (1.5, "wait"), (True, "wait"), (1, "drop")])
def test_impossible_numbers_and_policies_are_refused(arguments):
    with pytest.raises(ConfigError):
        StreamLine(*arguments)


def doubled(feeds, hurry):
    return {"y": 2 * feeds["x"]}


def test_a_stream_keeps_the_order_whatever_ends_first():
    gates = [threading.Event() for _ in range(4)]

    def infer(feeds, hurry):
        gates[feeds["x"]].wait(10)
        return doubled(feeds, hurry)

    with Stream(infer, StreamLine(4, "wait")) as stream:
        for number in range(4):
            assert stream.put({"x": number}) == number
        for gate in reversed(gates):
            gate.set()
        stream.end()
        assert [(result.sequence, result.outputs["y"]) for result in stream] == [(0, 0), (1, 2), (2, 4), (3, 6)]


def test_put_waits_for_the_consumer_and_all_threads_end():
    before = threading.active_count()
    with Stream(doubled, StreamLine(2, "wait")) as stream, ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [stream.put({"x": number}) for number in range(500)] and stream.end())
        assert [result.sequence for result in stream] == list(range(500))
        putting.result(10)
    assert threading.active_count() == before


def test_one_thread_takes_what_is_ready():
    seen = []
    with Stream(doubled, StreamLine(2, "wait")) as stream:
        for number in range(200):
            stream.put({"x": number})
            seen += [result.sequence for result in stream.ready()]
        stream.end()
        seen += [result.sequence for result in stream]
    assert seen == list(range(200))


def test_a_failure_is_raised_to_the_reader_who_may_go_on():
    def infer(feeds, hurry):
        if feeds["x"] == 1:
            raise ZeroDivisionError
        return doubled(feeds, hurry)

    with Stream(infer, StreamLine(1, "wait")) as stream:
        outcomes = []
        for number in range(3):
            stream.put({"x": number})
            try:
                outcomes.append(next(stream).sequence)
            except ZeroDivisionError:
                outcomes.append("failed")
    assert outcomes == [0, "failed", 2]


def test_closing_drops_what_waits_and_wakes_who_waits():
    entered, gate = threading.Event(), threading.Event()

    def infer(feeds, hurry):
        entered.set()
        gate.wait(10)
        return {}

    stream = Stream(infer, StreamLine(1, "wait"))
    stream.put({})
    entered.wait(10)
    with ThreadPoolExecutor(2) as pool:
        blocked = pool.submit(stream.put, {})
        reading = pool.submit(list, stream)
        stream.end()
        with pytest.raises(ServerUnavailableError, match="this stream was ended"):
            blocked.result(10)
        gate.set()
        stream.close()
        assert len(reading.result(10)) == 1
    stream.close()
    with pytest.raises(ServerUnavailableError):
        stream.put({})


def test_an_impossible_deadline_is_refused_at_once():
    with Stream(doubled, StreamLine(1, "wait")) as stream, pytest.raises(InvalidRequestError):
        stream.put({}, deadline_ms=-1)
    assert stream.counts.put == 0


def test_a_client_streams_to_its_server(scripted, http_answer):
    server = scripted([[http_answer(b'{"outputs": []}')] * 3])
    with Client(server.url) as client, client.stream("m", in_flight=1) as stream:
        for number in range(3):
            stream.put({"x": np.full(1, number, np.float32)}, deadline_ms=10_000, priority=2)
            assert next(stream).sequence == number
    assert stream.counts.done == 3
    assert all(b'"priority":2' in request for request in server.requests)


def run(test):
    asyncio.run(asyncio.wait_for(test, 20))


def test_an_async_stream_keeps_the_order_and_bounds_what_is_under_way():
    async def test():
        running, most, gates = [0], [0], {}

        async def infer(feeds, hurry):
            running[0] += 1
            most[0] = max(most[0], running[0])
            await asyncio.sleep(0)
            gates[feeds["x"]] = True
            running[0] -= 1
            return doubled(feeds, hurry)

        async def feed():
            for number in range(100):
                await stream.put({"x": number})
            stream.end()

        async with AsyncStream(infer, StreamLine(3, "wait")) as stream:
            feeding = asyncio.ensure_future(feed())
            found = [(result.sequence, result.outputs["y"]) async for result in stream]
            await feeding
        assert found == [(number, 2 * number) for number in range(100)]
        assert most[0] == 3

    run(test())


def test_closing_an_async_stream_abandons_what_is_under_way():
    async def test():
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def infer(feeds, hurry):
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        stream = AsyncStream(infer, StreamLine(1, "newest_wins"))
        for _ in range(3):
            await stream.put({})
        await entered.wait()
        await stream.close()
        await stream.close()
        assert cancelled.is_set()
        assert [result async for result in stream] == []
        assert stream.counts.dropped == {"newer": 1, "closed": 2}

    run(test())


def test_a_failure_in_an_async_stream_is_raised_to_the_reader():
    async def test():
        async def infer(feeds, hurry):
            raise RemoteError("broken", 500)

        async with AsyncStream(infer, StreamLine(1, "wait")) as stream:
            await stream.put({})
            with pytest.raises(RemoteError):
                await stream.__anext__()
            assert stream.ready() == []

    run(test())


def test_an_async_client_streams_to_its_server(scripted, http_answer):
    server = scripted([[http_answer(b'{"outputs": []}')] * 3])

    async def test():
        async with AsyncClient(server.url) as client, client.stream("m", in_flight=1) as stream:
            for number in range(3):
                await stream.put({"x": np.full(1, number, np.float32)}, deadline_ms=10_000)
                assert (await stream.__anext__()).sequence == number

    run(test())
    assert len(server.requests) == 3
