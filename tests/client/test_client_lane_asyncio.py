"""Frames of shared memory on asyncio, against our server of the lane."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from fakes.lane_models import lane_engines
from fakes.lane_server import LaneServer, MadeUpModel

from edge_runtime.client import AsyncClient, Client
from edge_runtime.errors import (
    ConfigError,
    InvalidRequestError,
    QueueFullError,
    RemoteError,
    ServerUnavailableError,
)


@pytest.fixture(scope="module")
def engines():
    made = lane_engines()
    yield made
    for engine in made.values():
        engine.close()


@pytest.fixture
def served(engines, tmp_path):
    server = LaneServer(str(tmp_path / "s"), {name: MadeUpModel(engine) for name, engine in engines.items()})
    yield server
    server.stop()


@pytest.fixture
def run(served):
    """`run(test)`: runs `test(client)` with a client on a loop of its own."""

    def on_a_loop(test, **options):
        async def with_client():
            async with AsyncClient(f"unix://{served.path}", **{"timeout_s": 10.0, **options}) as client:
                await test(client)

        asyncio.run(asyncio.wait_for(with_client(), 20))

    return on_a_loop


def test_frames_run_together_and_each_has_its_own_answer(run):
    async def test(client):
        async with await client.frames("double", {"x": (2, 4)}, 4) as frames:
            for _ in range(20):
                for number, frame in enumerate(frames):
                    frame.inputs["x"].fill(number)
                results = await asyncio.gather(*(frame.run(deadline_ms=1000, priority=1) for frame in frames))
                assert [result["y"].max() for result in results] == [0, 2, 4, 6]
                assert results[0] is frames[0].outputs

    run(test)


def test_a_frame_in_use_is_not_run_again(run, served):
    model = served.models["double"]

    async def test(client):
        async with await client.frames("double", {"x": (1, 4)}) as frames:
            model.holds = True
            first = asyncio.ensure_future(frames[0].run())
            await asyncio.sleep(0)
            with pytest.raises(InvalidRequestError, match="in use"):
                await frames[0].run()
            await on_the_server(served, lambda: finished(model))
            await first

    run(test)


async def on_the_server(served, function):
    """Waits until a run is there, then calls `function` on the server's loop."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, served.until, lambda: any(each.waiting for each in served.models.values()))
    await loop.run_in_executor(None, served.call, function)


def finished(model):
    model.begin()
    model.finish()


def test_a_cancelled_run_frees_its_frame_when_its_answer_comes(run, served):
    model = served.models["double"]

    async def test(client):
        async with await client.frames("double", {"x": (1, 4)}, 2) as frames:
            model.holds = True
            call = asyncio.ensure_future(frames[0].run())
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            with pytest.raises(InvalidRequestError, match="in use"):
                await frames[0].run()
            await on_the_server(served, lambda: finished(model))
            model.holds = False
            await frames[1].run()
            frames[0].inputs["x"].fill(4)
            assert ((await frames[0].run())["y"] == 8).all()

    run(test)


def test_refusals_and_failures_have_their_types(run, served):
    async def test(client):
        async with await client.frames("picky", {"x": (4,), "at": (1,)}) as frames:
            frames[0].inputs["at"][:] = 99
            with pytest.raises(RemoteError):
                await frames[0].run()
            served.models["picky"].refusal = QueueFullError("full", 0.5)
            with pytest.raises(QueueFullError) as caught:
                await frames[0].run()
            assert caught.value.retry_after_s == 0.5
        with pytest.raises(RemoteError, match="NOT_FOUND"):
            await client.frames("none", {})

    run(test)


def test_a_refused_run_is_tried_again(run, served):
    model, refused = served.models["double"], []

    def refuse(request):
        refused.append(request)
        if len(refused) < 3:
            raise QueueFullError("full", 0.001)
        request.emit(None)

    async def test(client):
        async with await client.frames("double", {"x": (1, 4)}) as frames:
            model.submit = refuse
            await frames[0].run()

    run(test, retries=2)
    assert len(refused) == 3


def test_a_silent_server_closes_the_frames_after_the_time_limit(run, served):
    async def test(client):
        async with await client.frames("double", {"x": (1, 4)}) as frames:
            served.models["double"].holds = True
            with pytest.raises(ServerUnavailableError, match=r"no answer within 0\.2 s"):
                await frames[0].run()
            with pytest.raises(ServerUnavailableError, match="these frames are closed"):
                await frames[0].run()

    run(test, timeout_s=0.2)


def test_a_server_that_goes_away_ends_the_runs(run, served):
    async def test(client):
        async with await client.frames("double", {"x": (1, 4)}) as frames:
            served.models["double"].holds = True
            call = asyncio.ensure_future(frames[0].run())
            await on_the_server(served, served.protocols[-1]._transport.abort)
            with pytest.raises(ServerUnavailableError):
                await call

    run(test)


def test_frames_leave_nothing_behind(run, served):
    async def test(client):
        for _ in range(3):
            frames = await client.frames("large", {"x": (1 << 17,)})
            await frames[0].run()
            frames.close()
            frames.close()

    run(test)
    served.until(lambda: served.budget.left == served.budget.nbytes)


def test_both_clients_open_frames_by_their_unix_address_only(served):
    with Client(f"unix://{served.path}") as client, client.frames("double", {"x": (1, 4)}, 2, ["y"], "1") as frames:
        frames[1].inputs["x"].fill(1)
        assert (frames[1].run(deadline_ms=1000)["y"] == 2).all()
        with pytest.raises(InvalidRequestError, match="count"):
            client.frames("double", {"x": (1, 4)}, 0)
        with pytest.raises(InvalidRequestError, match="shapes"):
            client.frames("double", {"x": (1.5, 4)})
    with pytest.raises(ConfigError, match="over a Unix socket only"), Client("http://127.0.0.1:1") as client:
        client.frames("double", {"x": (1, 4)})


def test_numpy_sizes_are_sizes(served):
    with Client(f"unix://{served.path}") as client, client.frames("double", {"x": np.array([1, 4])}) as frames:
        assert frames[0].inputs["x"].shape == (1, 4)
