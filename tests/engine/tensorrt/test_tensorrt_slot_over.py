"""Slots over their user's memory, on the fake GPU."""

from __future__ import annotations

import gc
import logging
import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import numpy as np
import pytest
from fakes.cuda import DISCRETE, NANO, ORIN, FakeCuda
from onnx import TensorProto

from edge_runtime.engine.tensorrt import graphs
from edge_runtime.errors import DeviceLostError, InvalidRequestError
from edge_runtime.tensors import ShapeRange

WIDE = 1200  # of float32 is more than what is copied for being small
FIXED = {"x": ShapeRange.fixed((2, WIDE))}
BATCHED = {"x": ShapeRange((1, WIDE), (2, WIDE), (8, WIDE))}
SURFACES = ["8.2", "8.6", "10.3", "11.4"]


@pytest.fixture(scope="module")
def wide(make_model: Callable[..., bytes]) -> bytes:
    """x f32[n, 1200] -> y = x + x."""
    shape = (TensorProto.FLOAT, ["n", WIDE])
    return make_model([("Add", ["x", "x"], ["y"], {})], {"x": shape}, {"y": shape})


class Frames:
    """Arrays in one mmap, each frame's from a page of its own on; as a server's shared memory is."""

    def __init__(self, frames: int, align: int = 256, **tensors: Tuple[Any, Tuple[int, ...]]) -> None:
        sizes = {name: int(np.prod(shape)) * np.dtype(dtype).itemsize for name, (dtype, shape) in tensors.items()}
        stride = -(-sum(-(-size // align) * align for size in sizes.values()) // 4096) * 4096
        memory = mmap.mmap(-1, stride * frames)
        self.arrays: list[Dict[str, np.ndarray]] = []
        for index in range(frames):
            at, arrays = index * stride, {}
            for name, (dtype, shape) in tensors.items():
                arrays[name] = np.frombuffer(memory, dtype, int(np.prod(shape)), at).reshape(shape)
                at += -(-sizes[name] // align) * align
            self.arrays.append(arrays)

    def __getitem__(self, index: int) -> Dict[str, np.ndarray]:
        return self.arrays[index]


def pair(count: int = 1, rows: int = 2) -> Frames:
    return Frames(count, x=(np.float32, (rows, WIDE)), y=(np.float32, (rows, WIDE)))


def fill(memory: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    value = np.random.default_rng(seed).normal(size=memory["x"].shape).astype(np.float32)
    memory["x"][:] = value
    return value


@pytest.fixture
def over() -> Iterator[Callable[..., Any]]:
    """A maker of slots over memory, which are closed at the end."""
    slots = []

    def make(engine: Any, memory: Mapping[str, np.ndarray]) -> Any:
        slots.append(engine.slot_over(memory))
        return slots[-1]

    yield make
    for slot in slots:
        if slot is not None:
            slot.close()
            slot.close()


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("memory", ["auto", "mapped", "copy"])
@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_runs_read_and_write_their_users_memory(
    make_rig: Any, wide: bytes, over: Any, surface: str, memory: str, graphs: str
) -> None:
    engine = make_rig(surface).engine(wide, BATCHED, memory=memory, graphs=graphs)
    frames = pair(3)
    slots = [over(engine, frames[index]) for index in range(3)]
    for seed in range(12):
        value = fill(frames[seed % 3], seed)
        outputs = slots[seed % 3].run()
        assert outputs["y"] is frames[seed % 3]["y"]
        np.testing.assert_allclose(outputs["y"], 2 * value)
        x = np.full((1 + seed % 8, WIDE), seed, np.float32)
        np.testing.assert_allclose(engine.infer({"x": x})["y"], 2 * x)  # the pool's own memory is as it was


@pytest.mark.parametrize(("memory", "copies"), [("mapped", 0), ("copy", 2)])
def test_mapped_memory_is_used_where_it_lies_and_other_is_copied_by_the_gpu_alone(
    make_rig: Any, wide: bytes, over: Any, memory: str, copies: int
) -> None:
    rig = make_rig()
    engine = rig.engine(wide, FIXED, memory=memory, graphs="off")
    frames = pair()
    slot = over(engine, frames[0])
    for seed in range(3):
        before = rig.cuda.counts["copy_async"]
        value = fill(frames[0], seed)
        slot.run()
        np.testing.assert_allclose(frames[0]["y"], 2 * value)
        assert rig.cuda.counts["copy_async"] - before == copies
    with engine.slot() as pooled:
        assert not (pooled.bind("x", (2, WIDE)) == frames[0]["x"]).any()  # nobody copied it there


def each_in_turn(engine: Any, slots: list, times: int) -> None:
    for _ in range(times):
        for slot in slots:
            slot.run()
        engine.infer({"x": np.zeros((2, WIDE), np.float32)})


@pytest.mark.parametrize("surface", ["10.3", "11.4"])
@pytest.mark.parametrize("profile", [FIXED, BATCHED], ids=["fixed", "batched"])
def test_every_place_has_a_graph_and_a_context_of_its_own(
    make_rig: Any, wide: bytes, over: Any, surface: str, profile: Any
) -> None:
    rig = make_rig(surface)
    engine = rig.engine(wide, profile)
    frames = pair(3)
    slots = [over(engine, frames[index]) for index in range(3)]
    each_in_turn(engine, slots, 3)
    captured, launched = rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]
    assert captured == 4
    with engine.slot() as pooled:
        assert len({id(found.execution) for found in pooled._graphs._captured.values()}) == 4
    for seed, slot in enumerate(slots):
        value = fill(frames[seed], seed)
        slot.run()
        np.testing.assert_allclose(frames[seed]["y"], 2 * value)
    assert (rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]) == (captured, launched + 3)


@pytest.mark.parametrize("surface", ["8.2", "8.6"])
def test_where_contexts_share_nothing_the_graph_goes_with_the_place(
    make_rig: Any, wide: bytes, over: Any, surface: str
) -> None:
    rig = make_rig(surface)
    rig.cuda._attributes = ORIN
    engine = rig.engine(wide, FIXED)
    frames = pair(2)
    slots = [over(engine, frames[index]) for index in range(2)]
    each_in_turn(engine, slots, 4)
    assert rig.cuda.counts["end_capture"] == 0  # none came twice in a row
    for seed in range(5):
        value = fill(frames[1], seed)
        np.testing.assert_allclose(slots[1].run()["y"], 2 * value)
    assert (rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]) == (1, 3)
    each_in_turn(engine, slots, 1)
    assert rig.cuda.counts["destroy_graph"] == 1


def test_a_place_that_can_not_be_captured_counts_by_its_shape(make_rig: Any, wide: bytes, over: Any) -> None:
    rig = make_rig()
    engine = rig.engine(wide, BATCHED)
    frames = pair(9)
    for _ in range(9):
        rig.cuda.fail_next("end_capture", 901)
    for index in range(9):
        over(engine, frames[index]).run()
    captured = rig.cuda.counts["end_capture"]
    for _ in range(2):
        engine.infer({"x": np.zeros((5, WIDE), np.float32)})
    assert rig.cuda.counts["end_capture"] == captured + 1


def test_a_warm_run_allocates_nothing(rig: Any, wide: bytes, over: Any) -> None:
    slot = over(rig.engine(wide, FIXED), pair()[0])
    for _ in range(3):
        slot.run()
    names = ("allocate_device", "allocate_host", "register_host", "create_stream", "create_event", "end_capture")
    before = [rig.cuda.counts[name] for name in names]
    for _ in range(5):
        slot.run()
    assert [rig.cuda.counts[name] for name in names] == before


def test_closing_gives_the_memory_back_and_drops_the_graph_with_the_next_run(rig: Any, wide: bytes, over: Any) -> None:
    engine = rig.engine(wide, FIXED)
    for _ in range(3):
        engine.infer({"x": np.zeros((2, WIDE), np.float32)})
    slot = over(engine, pair()[0])
    for _ in range(3):
        slot.run()
    alive = len(rig.cuda.alive())
    slot.close()
    gc.collect()
    assert len(rig.cuda.alive()) == alive - 1
    engine.infer({"x": np.zeros((2, WIDE), np.float32)})
    assert len(rig.cuda.alive()) == alive - 2


def test_closing_the_engine_frees_memory_that_a_place_was_forgotten_in(make_rig: Any, wide: bytes) -> None:
    rig = make_rig()
    engine = rig.engine(wide, FIXED)
    slot = engine.slot_over(pair()[0])
    for _ in range(3):
        slot.run()
        engine.infer({"x": np.zeros((2, WIDE), np.float32)})
    slot.close()
    engine.infer({"x": np.zeros((2, WIDE), np.float32)})
    with engine.slot() as pooled:
        assert len(pooled._tensors._shaped) == 1
    engine.close()
    assert rig.cuda.alive() == []


def test_more_places_than_there_are_graphs_are_served(make_rig: Any, wide: bytes, over: Any) -> None:
    rig = make_rig()
    engine = rig.engine(wide, FIXED)
    frames = pair(graphs.MOST_GRAPHS + 4)
    slots = [over(engine, memory) for memory in frames.arrays]
    for seed in range(10 * len(slots)):
        index = seed % len(slots)
        value = fill(frames[index], seed)
        np.testing.assert_allclose(slots[index].run()["y"], 2 * value)
    assert rig.cuda.counts["end_capture"] < graphs.MOST_GRAPHS + 40
    assert rig.cuda.counts["launch_graph"] > 220


@pytest.mark.parametrize("device", [NANO, ORIN, DISCRETE], ids=lambda device: device.name)
def test_where_memory_of_others_can_not_be_pinned_there_is_no_such_slot(
    make_rig: Any, wide: bytes, over: Any, device: Any
) -> None:
    engine = make_rig("8.2", FakeCuda(device)).engine(wide, FIXED)
    assert (over(engine, pair()[0]) is None) is (device is NANO)


def test_memory_that_is_pinned_already_or_belongs_to_nobody_gets_no_slot(
    make_rig: Any, wide: bytes, over: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_rig().engine(wide, FIXED)
    frames = pair()
    assert over(engine, frames[0]) is not None
    with caplog.at_level(logging.INFO, "edge_runtime.engine.tensorrt.slot_over"):
        assert over(engine, frames[0]) is None
    assert "its user's memory is copied" in caplog.text
    caplog.clear()
    assert over(engine, {name: np.zeros((2, WIDE), np.float32) for name in "xy"}) is None
    assert over(engine, {**pair()[0], "y": pair()[0]["y"]}) is None


@pytest.mark.parametrize("kind", ["mapped", "copy"])
def test_what_lies_where_tensorrt_takes_no_address_is_copied(make_rig: Any, wide: bytes, over: Any, kind: str) -> None:
    memory = Frames(1, 64, x=(np.float32, (2, WIDE)), y=(np.float32, (2, WIDE)))[0]
    assert memory["y"].ctypes.data % 256
    slot = over(make_rig().engine(wide, FIXED, memory=kind), memory)
    for seed in range(4):
        value = fill(memory, seed)
        np.testing.assert_allclose(slot.run()["y"], 2 * value)


def test_another_shape_is_refused(make_rig: Any, wide: bytes, over: Any) -> None:
    memory = pair()[0]
    slot = over(make_rig().engine(wide, BATCHED), memory)
    assert slot.bind("x", (2, WIDE)) is memory["x"]
    with pytest.raises(InvalidRequestError, match=r"input 'x': expected shape \[2, 1200\], got \[1, 1200\]"):
        slot.bind("x", (1, WIDE))


@pytest.mark.parametrize("memory", ["mapped", "copy"])
def test_small_inputs_indices_and_booleans_are_copied_before_the_run(
    make_rig: Any, make_model: Callable[..., bytes], over: Any, memory: str
) -> None:
    """Whoever shares the memory may write while the GPU reads: the fake GPU runs when somebody waits for it."""
    rig = make_rig()
    kinds = {"big": (TensorProto.FLOAT, np.float32), "few": (TensorProto.FLOAT, np.float32)}
    kinds.update({"index": (TensorProto.INT32, np.int32), "flag": (TensorProto.BOOL, np.bool_)})
    shapes = {name: (4,) if name == "few" else (5000,) for name in kinds}
    model = make_model(
        [("Concat", [name, name], [f"{name}_out"], {"axis": 0}) for name in kinds],
        {name: (kind, shapes[name]) for name, (kind, _) in kinds.items()},
        {f"{name}_out": (kind, [2 * shapes[name][0]]) for name, (kind, _) in kinds.items()},
    )
    engine = rig.engine(model, {name: ShapeRange.fixed(shape) for name, shape in shapes.items()}, memory=memory)
    tensors = {name: (dtype, shapes[name]) for name, (_, dtype) in kinds.items()}
    outputs = {f"{name}_out": (dtype, (2 * shapes[name][0],)) for name, (dtype, _) in list(tensors.items())}
    given = Frames(1, **tensors, **outputs)[0]
    slot = over(engine, given)
    given["flag"].view(np.uint8)[:] = 255
    slot.run()
    assert set(given["flag_out"].view(np.uint8).tolist()) == {1}
    wait, changed = rig.cuda.synchronize_event, []

    def change_and_wait(event: int) -> None:
        if not changed:
            changed.append(True)
            for name in kinds:
                given[name].fill(0)
        wait(event)

    for name in kinds:
        given[name].fill(1)
    rig.cuda.synchronize_event = change_and_wait
    slot.run()
    seen = {name for name in kinds if not given[f"{name}_out"].all()}
    assert seen == {"big"}


@pytest.mark.parametrize("memory", ["mapped", "copy"])
@pytest.mark.parametrize("shape", [(1200, 2), (3, 800), (3, 900)])
def test_another_shape_by_the_values_of_an_input_is_refused(
    make_rig: Any, make_model: Callable[..., bytes], over: Any, memory: str, shape: Tuple[int, int]
) -> None:
    model = make_model(
        [("Resize", ["x", "", "", "s"], ["y"], {"mode": "nearest"})],
        {"x": (TensorProto.FLOAT, [2, 1200]), "s": (TensorProto.INT64, [2])},
        {"y": (TensorProto.FLOAT, ["a", "b"])},
    )
    profile = {"x": ShapeRange.fixed((2, 1200)), "s": ShapeRange.fixed((2,))}
    engine = make_rig().engine(model, profile, memory=memory, values={"s": ((1, 1), (2, 1200), (2400, 2400))})
    given = Frames(1, x=(np.float32, (2, 1200)), s=(np.int64, (2,)), y=(np.float32, (2, 1200)))[0]
    slot = over(engine, given)
    given["x"][:] = np.arange(2400).reshape(2, 1200)
    given["s"][:] = (2, 1200)
    np.testing.assert_array_equal(slot.run()["y"], given["x"])
    given["s"][:] = shape
    with pytest.raises(InvalidRequestError, match=r"output 'y' has shape \[.*\] for these inputs, not \[2, 1200\]"):
        slot.run()
    given["s"][:] = (2, 1200)
    np.testing.assert_array_equal(slot.run()["y"], given["x"])


@pytest.mark.parametrize("surface", ["8.2", "8.6", "10.3"])
def test_a_type_that_tensorrt_lacks_is_converted(
    make_rig: Any, make_model: Callable[..., bytes], over: Any, surface: str
) -> None:
    names = {"i": (TensorProto.INT64, [1200]), "x": (TensorProto.FLOAT, [1200])}
    model = make_model(
        [("Add", ["i", "i"], ["j"], {}), ("Add", ["x", "x"], ["y"], {})],
        names,
        {"j": (TensorProto.INT64, [1200]), "y": (TensorProto.FLOAT, [1200])},
    )
    engine = make_rig(surface, FakeCuda(ORIN)).engine(model, {name: ShapeRange.fixed((1200,)) for name in names})
    given = Frames(1, **{n: (t, (1200,)) for n, t in zip("ixjy", (np.int64, np.float32, np.int64, np.float32))})[0]
    slot = over(engine, given)
    for start in range(5):
        given["i"][:] = np.arange(1200) + start
        given["x"][:] = start
        slot.run()
        np.testing.assert_array_equal(given["j"], 2 * given["i"])
        np.testing.assert_array_equal(given["y"], 2 * given["x"])


def test_an_output_that_may_be_indices_does_not_change_during_the_run(
    make_rig: Any, make_model: Callable[..., bytes], over: Any
) -> None:
    """A later layer may read it, and whoever shares the memory may write there."""
    model = make_model(
        [("ArgMax", ["x"], ["i"], {"axis": 1, "keepdims": 0}), ("Gather", ["t", "i"], ["y"], {})],
        {"x": (TensorProto.FLOAT, [1200, 3])},
        {"i": (TensorProto.INT64, [1200]), "y": (TensorProto.FLOAT, [1200])},
        {"t": np.arange(3, dtype=np.float32)},
    )
    rig = make_rig()
    engine = rig.engine(model, {"x": ShapeRange.fixed((1200, 3))}, memory="mapped")
    given = Frames(1, x=(np.float32, (1200, 3)), i=(np.int64, (1200,)), y=(np.float32, (1200,)))[0]
    slot = over(engine, given)
    assert set(slot._place.mapped) == {"x", "y"}
    given["x"][:] = np.random.default_rng(0).normal(size=(1200, 3))
    slot.run()
    np.testing.assert_array_equal(given["i"], given["x"].argmax(axis=1))
    np.testing.assert_array_equal(given["y"], given["i"])


def test_threads_that_open_run_and_close_frames_beside_others(make_rig: Any, wide: bytes) -> None:
    rig = make_rig()
    engine = rig.engine(wide, BATCHED, slots=2)

    def frames(seed: int) -> None:
        for turn in range(4):
            given = pair(2, 1 + (seed + turn) % 3)
            slots = [engine.slot_over(memory) for memory in given.arrays]
            for run in range(10):
                value = fill(given[run % 2], run)
                slots[run % 2].run()
                np.testing.assert_array_equal(given[run % 2]["y"], 2 * value)
            for slot in slots:
                slot.close()

    def infer(seed: int) -> None:
        for run in range(40):
            x = np.full((1 + (seed + run) % 8, WIDE), run, np.float32)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], 2 * x)

    with ThreadPoolExecutor(5) as pool:
        for done in [*[pool.submit(frames, seed) for seed in range(3)], *[pool.submit(infer, seed) for seed in (3, 4)]]:
            done.result()


def test_outputs_whose_shapes_follow_the_data_are_copied_and_others_than_there_is_room_for_refused(
    make_rig: Any, make_model: Callable[..., bytes], over: Any
) -> None:
    model = make_model(
        [("NonZero", ["x"], ["at"], {}), ("Add", ["x", "x"], ["y"], {})],
        {"x": (TensorProto.FLOAT, [1200])},
        {"at": (TensorProto.INT64, [1, "n"]), "y": (TensorProto.FLOAT, [1200])},
    )
    engine = make_rig("10.3").engine(model, {"x": ShapeRange.fixed((1200,))})
    memory = Frames(1, x=(np.float32, (1200,)), y=(np.float32, (1200,)), at=(np.int64, (1, 3)))[0]
    slot = over(engine, memory)
    memory["x"][[1, 5, 9]] = 1
    np.testing.assert_array_equal(slot.run()["at"], [[1, 5, 9]])
    memory["x"][7] = 1
    with pytest.raises(InvalidRequestError, match=r"output 'at' has shape \[1, 4\] for these inputs, not \[1, 3\]"):
        slot.run()
    memory["x"][9] = 0
    np.testing.assert_array_equal(slot.run()["at"], [[1, 5, 7]])
    np.testing.assert_array_equal(memory["y"], 2 * memory["x"])


def test_outputs_that_nobody_asked_for_may_lie_elsewhere(make_rig: Any, wide: bytes, over: Any) -> None:
    frames = pair()
    memory = {"x": frames[0]["x"], "y": np.zeros((2, WIDE), np.float32)}
    value = fill(memory, 1)
    np.testing.assert_allclose(over(make_rig().engine(wide, FIXED), memory).run()["y"], 2 * value)


def test_a_lost_gpu_is_told_and_the_memory_let_go_of(make_rig: Any, wide: bytes, over: Any) -> None:
    rig = make_rig()
    engine = rig.engine(wide, FIXED)
    slot = over(engine, pair()[0])
    slot.run()
    rig.cuda.fail_next("synchronize_event", 700)
    with pytest.raises(DeviceLostError):
        slot.run()
    with pytest.raises(DeviceLostError):
        engine.slot_over(pair()[0])
