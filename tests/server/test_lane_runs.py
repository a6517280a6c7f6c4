"""The lane's server: what its connections may do, over made-up model tables on a loop of their own."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes.lane_models import lane_engines
from fakes.lane_server import LaneServer, MadeUpModel, RawClient

from edge_runtime.client.lane import Frames
from edge_runtime.errors import BackendError, InvalidRequestError, QueueFullError, RemoteError, ServerUnavailableError
from edge_runtime.server.lane_holdings import LaneLimits
from edge_runtime.wire import lane as wire
from edge_runtime.wire.lane import LaneOpen

LARGE = {"x": (1 << 17,)}
ROW = {"x": (1, 4)}


@pytest.fixture(scope="module")
def engines():
    made = lane_engines()
    yield made
    for engine in made.values():
        engine.close()


@pytest.fixture
def serve(engines, tmp_path):
    """`serve(uses_slots, limits, shared_nbytes)`: a server of all models, that run at once."""
    servers = []

    def start(uses_slots=True, limits=None, shared_nbytes=1 << 30):
        models = {name: MadeUpModel(engine, uses_slots) for name, engine in engines.items()}
        servers.append(LaneServer(str(tmp_path / f"s{len(servers)}"), models, limits, shared_nbytes))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def raw():
    """`raw(server)`: a client that speaks the lane's bytes by hand."""
    made = []

    def connect(server, begins_with=wire.MAGIC):
        made.append(RawClient(server.path, begins_with))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def mapped_memory() -> int:
    """How many shared memories this process has mapped."""
    return Path("/proc/self/maps").read_text().count("/memfd:frames")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_2_4_sealed_the_memory_that_the_server_makes(serve, raw):
    client = raw(serve())
    client.open("double", ROW)
    (descriptor,) = client.descriptors
    nbytes = os.fstat(descriptor).st_size
    for size in (0, nbytes + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, 1033, 0)
    assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")


def test_a_run_reads_and_writes_just_the_memory_that_is_shared(serve):
    server = serve()
    with Frames(server.path, LaneOpen("large", "", LARGE), 10) as frames:
        frames[0].inputs["x"].fill(1)
        frames[0].run()
        (request,) = server.models["large"].seen
        given, written = request.inputs["x"], request.slot.run()["y"]
        frames[0].inputs["x"].fill(7)
        assert (given == 7).all()
        written.fill(5)
        assert (frames[0].outputs["y"] == 5).all()


def test_answers_of_one_turn_of_the_loop_are_one_write(serve, raw):
    server = serve()
    client = raw(server)
    region = client.open("double", ROW, frames=8)
    client.send(b"".join(wire.run_message(region, frame, frame + 1) for frame in range(8)))
    data = client.socket.recv(4096)
    assert len(data) == 8 * wire.RECORD_NBYTES
    model = server.models["double"]
    model.holds = True
    client.send(b"".join(wire.run_message(region, frame, frame + 1) for frame in range(8)))
    server.until(lambda: len(model.waiting) == 8)

    def run_all():
        for _ in range(8):
            model.begin()
            model.finish()

    server.call(run_all)
    assert len(client.socket.recv(4096)) == 8 * wire.RECORD_NBYTES


def test_a_busy_frame_is_refused_and_its_run_goes_on(serve, raw):
    server = serve()
    model = server.models["double"]
    client = raw(server)
    region = client.open("double", ROW)
    model.holds = True
    client.send(wire.run_message(region, 0, 5) + wire.run_message(region, 0, 6))
    assert "frame 0 is in use" in client.failure().text
    server.call(lambda: (model.begin(), model.finish()))
    record, _ = client.answer()
    assert (record.kind, record.request_id) == (wire.DONE, 5)
    assert model.statistics.counts == {"OTHER": 1}


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (wire.run_message(99, 0, 1), "NOT_FOUND"),
        (wire.run_message(1, 3, 1), "INVALID_ARGUMENT"),
        (wire.run_message(1, 2**32 - 1, 1), "INVALID_ARGUMENT"),
        (wire.message(wire.Record(wire.CLOSE, region=99)), "NOT_FOUND"),
        (wire.message(wire.Record(wire.OPEN), b"{}"), "INVALID_ARGUMENT"),
        (wire.open_message(1, LaneOpen("../etc\n", "", {})), "NOT_FOUND"),
        (wire.open_message(1, LaneOpen("double", "2", ROW)), "NOT_FOUND"),
        (wire.open_message(1, LaneOpen("double", "", {"x": (2**62, 2**62)})), "INVALID_ARGUMENT"),
    ],
)
def test_wrong_messages_are_refused_and_the_connection_lives_on(serve, raw, message, status):
    client = raw(serve())
    region = client.open("double", ROW, frames=3)
    client.send(message)
    found = client.failure()
    assert (found.status, "\n" in found.text) == (status, False)
    client.send(wire.run_message(region, 0, 9))
    assert client.answer()[0].request_id == 9


@pytest.mark.parametrize(
    ("begins_with", "message"),
    [
        (b"\0LANE\2\r\n", b""),
        (b"GET /v2 HTTP/1.1\r\n\r\n", b""),
        (wire.MAGIC, bytes(32)),
        (wire.MAGIC, wire.message(wire.Record(wire.OPENED))),
        (wire.MAGIC, wire.message(wire.Record(wire.OPEN), bytes(2**16 + 1))),
        (wire.MAGIC, wire.message(wire.Record(wire.RUN), bytes(1))),
    ],
)
def test_what_is_not_the_lanes_is_answered_once_and_ends_the_connection(serve, raw, begins_with, message):
    client = raw(serve(), begins_with + message)
    assert client.failure().status == "INVALID_ARGUMENT"
    assert client.is_closed()


def test_a_truncated_message_waits_and_a_closed_connection_frees_it(serve, raw):
    server = serve()
    client = raw(server)
    client.send(wire.open_message(1, LaneOpen("double", "", ROW))[:-1])
    client.close()
    server.until(lambda: server.protocols[0].is_lost)
    assert server.models["double"].seen == []


def test_a_region_closed_during_a_run_goes_after_it(serve, raw):
    gc.collect()
    before = mapped_memory()
    server = serve()
    model = server.models["large"]
    client = raw(server)
    region = client.open("large", LARGE)
    model.holds = True
    client.send(wire.run_message(region, 0, 5))
    server.until(lambda: model.waiting)
    server.call(model.begin)
    client.send(wire.message(wire.Record(wire.CLOSE, region=region, request_id=6)))
    assert client.answer()[0].request_id == 6
    client.send(wire.run_message(region, 0, 7))
    assert client.failure().status == "NOT_FOUND"
    assert server.budget.left < server.budget.nbytes
    server.call(model.finish)
    assert client.answer()[0] == wire.Record(wire.DONE, region=region, request_id=5)
    server.until(lambda: server.budget.left == server.budget.nbytes)
    model.seen.clear()
    gc.collect()
    assert mapped_memory() == before


def test_a_lost_connection_withdraws_what_waits_and_what_runs_keeps_its_memory(serve, raw):
    server = serve()
    model = server.models["large"]
    client = raw(server)
    region = client.open("large", LARGE, frames=3)
    model.holds = True
    client.send(b"".join(wire.run_message(region, frame, frame + 1) for frame in range(3)))
    server.until(lambda: len(model.waiting) == 3)
    server.call(model.begin)
    client.close()
    server.until(lambda: server.protocols[0].is_lost)
    assert (model.cancelled, len(model.waiting)) == (2, 0)
    assert server.budget.left < server.budget.nbytes
    server.call(model.finish)
    server.until(lambda: server.budget.left == server.budget.nbytes)


def test_a_connection_lost_while_shapes_are_learnt_leaves_nothing(serve, raw):
    server = serve()
    model = server.models["double"]
    model.holds = True
    for is_running in (False, True):
        client = raw(server)
        client.send(wire.open_message(1, LaneOpen("double", "", ROW)))
        server.until(lambda: model.waiting)
        if is_running:
            server.call(model.begin)
        client.close()
        server.until(lambda: server.protocols[-1].is_lost)
        assert not model.waiting
    server.call(model.finish)
    assert server.budget.left == server.budget.nbytes


@pytest.mark.parametrize("error", [QueueFullError("full", 2.0), BackendError("inside")])
def test_an_open_whose_shapes_cannot_be_learnt_is_refused(serve, error):
    server = serve()
    server.models["double"].refusal = error
    with pytest.raises((QueueFullError, RemoteError)) as caught:
        Frames(server.path, LaneOpen("double", "", ROW), 10)
    assert "inside" not in str(caught.value)


def test_limits_of_a_connection_hold(serve, raw):
    server = serve(limits=LaneLimits(regions=2, frames=3, nbytes=5 << 19))
    client = raw(server)

    def refused(model, shapes, frames=1):
        client.send(wire.open_message(1, LaneOpen(model, "", shapes, (), frames)))
        return client.failure()

    assert "at most 3" in refused("double", ROW, 4).text
    assert "bytes, more than the 2621440" in refused("large", LARGE, 3).text
    first = client.open("large", LARGE, 2)
    assert refused("large", LARGE, 2).status == "UNAVAILABLE"
    client.open("double", ROW)
    assert "2 regions are open" in refused("double", ROW).text
    client.send(wire.message(wire.Record(wire.CLOSE, region=first)))
    client.answer()
    client.open("large", LARGE, 2)


def test_all_connections_share_one_budget(serve, raw):
    server = serve(shared_nbytes=3 << 20)
    first, second = raw(server), raw(server)
    first.open("large", LARGE, 2)
    second.send(wire.open_message(1, LaneOpen("large", "", LARGE, (), 2)))
    assert second.failure().status == "UNAVAILABLE"
    first.close()
    server.until(lambda: server.budget.left == server.budget.nbytes)
    second.open("large", LARGE, 2)


def test_a_client_that_never_reads_is_not_read_either(serve, raw):
    server = serve()
    client = raw(server)
    client.socket.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 1 << 26:
            sent += client.socket.send(wire.run_message(9, 0, 1) * 1000)
    assert sent < 1 << 26
    server.until(lambda: server.protocols[0].is_blocked)
    client.socket.settimeout(10)
    client.socket.shutdown(1)
    answered = 0
    while True:
        data = client.socket.recv(1 << 20)
        if not data:
            break
        answered += len(data)
    assert answered > 0


def test_a_descriptor_waits_until_the_client_reads_and_arrives_in_order(serve, raw):
    server = serve()
    client = raw(server)
    client.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.socket.send(wire.run_message(9, 0, 1) * 100)
    server.until(lambda: server.protocols[0].is_blocked)
    sender = server.protocols[0]._sender
    descriptor = os.open("/dev/null", os.O_RDONLY)
    server.call(lambda: (sender.add(wire.done_message(1, 2, 3), descriptor), sender.flush()))
    client.socket.settimeout(10)
    while not client.descriptors:
        record, _ = client.answer()
    assert len(client.descriptors) == 1
    assert (record.kind, record.request_id) in {(wire.FAILED, 1), (wire.DONE, 3)}


def test_a_closed_protocol_answers_what_runs_and_then_ends(serve, raw):
    server = serve()
    model = server.models["double"]
    client = raw(server)
    region = client.open("double", ROW)
    model.holds = True
    client.send(wire.run_message(region, 0, 5))
    server.until(lambda: model.waiting)
    server.call(server.protocols[0].close)
    server.call(lambda: (model.begin(), model.finish()))
    assert client.answer()[0].request_id == 5
    assert client.is_closed()


def test_a_model_that_is_served_no_more_takes_its_regions_along(serve, raw):
    server = serve()
    client = raw(server)
    first, second = client.open("double", ROW), client.open("large", LARGE)
    server.call(lambda: server.protocols[0].forget(server.models["double"]))
    client.send(wire.run_message(first, 0, 1))
    assert client.failure().status == "NOT_FOUND"
    client.send(wire.run_message(second, 0, 2))
    assert client.answer()[0].kind == wire.DONE


def test_shapes_that_begin_to_depend_on_the_data_are_refused_at_the_run(serve, raw):
    """The slot's check, by a made-up model whose outputs have another shape than those that were learnt."""
    server = serve(uses_slots=False)
    model = server.models["double"]
    with Frames(server.path, LaneOpen("double", "", ROW), 10) as frames:
        model.outcome = encoded
        with pytest.raises(RemoteError, match=r"shape \[2, 4\] for these inputs, not \[1, 4\]") as caught:
            frames[0].run()
    assert caught.value.status == "INVALID_ARGUMENT"
    assert model.statistics.counts == {"OTHER": 1}


def encoded(request):
    try:
        return request.encode({"y": np.zeros((2, 4), np.float32)})
    except InvalidRequestError as error:
        return error


def test_memory_and_descriptors_stay_flat_over_many_connections(serve):
    server = serve()

    def once():
        with Frames(server.path, LaneOpen("large", "", LARGE, (), 2), 10) as frames:
            frames[0].run()
        server.until(lambda: server.budget.left == server.budget.nbytes)
        server.models["large"].seen.clear()

    once()
    gc.collect()
    before = open_descriptors(), mapped_memory()
    for _ in range(30):
        once()
    gc.collect()
    assert (open_descriptors(), mapped_memory()) == before


def test_a_thousand_runs_allocate_no_tensors(serve, watch_rss):
    server = serve()
    with Frames(server.path, LaneOpen("large", "", LARGE), 10) as frames:
        frames[0].run()
        grown = watch_rss()
        for _ in range(1000):
            frames[0].run()
            server.models["large"].seen.clear()
        assert grown() < 1 << 20


def test_the_server_is_unavailable_when_memory_cannot_be_had(serve, monkeypatch):
    server = serve()

    def fails(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "posix_fallocate", fails)
    with pytest.raises(ServerUnavailableError, match="no memory left to share"):
        Frames(server.path, LaneOpen("large", "", LARGE), 10)
    assert server.budget.left == server.budget.nbytes


def test_damaged_messages_never_end_the_server(serve, raw):
    server = serve(limits=LaneLimits(regions=2, frames=2, nbytes=1 << 20))
    rng = np.random.default_rng(0)
    whole = wire.open_message(1, LaneOpen("double", "", ROW)) + wire.run_message(1, 0, 2, 5, 1) * 3
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), int(rng.integers(1, 6))):
            damaged[at] = int(rng.integers(0, 256))
        client = raw(server)
        client.send(bytes(damaged[: int(rng.integers(1, len(whole) + 1))]))
        with contextlib.suppress(OSError):  # the server may have ended the connection already
            client.socket.shutdown(1)
            while client.socket.recv(1 << 16):
                pass
        client.close()
    server.until(lambda: all(each.is_lost for each in server.protocols))
    server.until(lambda: server.budget.left == server.budget.nbytes)
    client = raw(server)
    client.send(wire.run_message(client.open("double", ROW), 0, 7))
    assert client.answer()[0].request_id == 7


def test_the_owner_of_connections_is_told_of_their_end(serve, raw):
    server = serve()
    raw(server).close()
    server.until(lambda: server.ended == server.protocols)


KILLED = """
import os, signal, sys
from fakes.lane_server import RawClient
from edge_runtime.wire import lane as wire
for number in range(200):
    child = os.fork()
    if not child:
        client = RawClient(sys.argv[1])
        if number % 4:
            region = client.open("large", {"x": (1 << 17,)}, 2)
            client.send(wire.run_message(region, 0, 1))
        else:
            client.send(wire.open_message(1, wire.LaneOpen("large", "", {"x": (1 << 17,)}))[: number % 50])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_two_hundred_clients_killed_in_the_middle_leave_nothing(serve):
    server = serve()
    gc.collect()
    before = open_descriptors(), mapped_memory()
    paths = os.pathsep.join(map(str, (Path(__file__).parents[1], Path(__file__).parents[2])))
    subprocess.run([sys.executable, "-c", KILLED, server.path], check=True, env={**os.environ, "PYTHONPATH": paths})
    server.until(lambda: len(server.protocols) == 200 and all(each.is_lost for each in server.protocols))
    server.until(lambda: server.budget.left == server.budget.nbytes)
    server.call(server.models["large"].seen.clear)
    gc.collect()
    assert (open_descriptors(), mapped_memory()) == before
