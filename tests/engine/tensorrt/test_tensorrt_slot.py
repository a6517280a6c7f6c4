from __future__ import annotations

import contextlib
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict

import numpy as np
import pytest
from fakes.cuda import DISCRETE, NANO, ORIN, POISON, FakeCuda
from onnx import TensorProto

from edge_runtime.errors import BackendError, DeviceLostError, InvalidRequestError
from edge_runtime.tensors import ShapeRange

BATCHED = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
FIXED = {"x": ShapeRange.fixed((2, 4))}
ALLOCATIONS = (
    "allocate_device",
    "allocate_host",
    "free_device",
    "free_host",
    "create_stream",
    "create_event",
    "end_capture",
    "destroy_graph",
)
Feeds = Dict[str, np.ndarray]
Reference = Callable[[bytes, Feeds], Feeds]


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def allocations(cuda: FakeCuda) -> Dict[str, int]:
    return {name: cuda.counts[name] for name in ALLOCATIONS}


def put(slot: Any, **feeds: np.ndarray) -> None:
    for name, value in feeds.items():
        np.copyto(slot.bind(name, value.shape), value)


@pytest.mark.parametrize("memory", ["auto", "mapped", "copy"])
@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_answers_are_onnx_runtimes_at_every_batch_in_any_order(
    rig: Any, classifier: bytes, run_onnx: Reference, memory: str, graphs: str
) -> None:
    engine = rig.engine(classifier, BATCHED, slots=2, memory=memory, graphs=graphs)
    for n in (3, 8, 1, 3, 3, 3, 5, 8, 1, 1):
        x = rows(n, seed=n)
        got = engine.infer({"x": x})["scores"]
        np.testing.assert_allclose(got, run_onnx(classifier, {"x": x})["scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("device", [ORIN, NANO, DISCRETE], ids=lambda device: device.name)
def test_every_kind_of_device_gives_the_same_answers(
    make_rig: Callable[..., Any], classifier: bytes, run_onnx: Reference, device: Any
) -> None:
    rig = make_rig("8.2", FakeCuda(device))
    engine = rig.engine(classifier, BATCHED)
    for n in (1, 8, 2, 2, 2):
        x = rows(n, seed=n)
        np.testing.assert_allclose(
            engine.infer({"x": x})["scores"], run_onnx(classifier, {"x": x})["scores"], rtol=1e-5
        )


def test_two_inputs_of_two_types_and_two_outputs(
    rig: Any, make_model: Callable[..., bytes], run_onnx: Reference
) -> None:
    model = make_model(
        [("Mul", ["a", "a"], ["p"], {}), ("Greater", ["p", "b"], ["q"], {}), ("Add", ["a", "b"], ["r"], {})],
        {"a": (TensorProto.FLOAT, ["n", 3]), "b": (TensorProto.FLOAT, [3])},
        {"q": (TensorProto.BOOL, ["n", 3]), "r": (TensorProto.FLOAT, ["n", 3])},
    )
    profile = {"a": ShapeRange((1, 3), (2, 3), (4, 3)), "b": ShapeRange.fixed((3,))}
    engine = rig.engine(model, profile)
    feeds = {"a": rows(4)[:, :3].copy(), "b": rows(1, 5)[0, :3].copy()}
    expected = run_onnx(model, feeds)
    for _ in range(3):
        got = engine.infer(feeds)
        assert list(got) == ["q", "r"]
        np.testing.assert_array_equal(got["q"], expected["q"])
        np.testing.assert_allclose(got["r"], expected["r"])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorProto.INT64, np.int64), (TensorProto.BOOL, np.bool_), (TensorProto.FLOAT16, np.float16)],
)
def test_data_types_arrive_as_the_model_has_them(
    rig: Any, make_model: Callable[..., bytes], kind: int, dtype: Any
) -> None:
    shape = (kind, ["n", 3])
    model = make_model([("Concat", ["x", "x"], ["y"], {"axis": 1})], {"x": shape}, {"y": (kind, ["n", 6])})
    engine = rig.engine(model, {"x": ShapeRange((1, 3), (1, 3), (4, 3))})
    for n in (1, 4, 4, 4):
        x = np.random.default_rng(n).integers(0, 2, (n, 3)).astype(dtype)
        got = engine.infer({"x": x})["y"]
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.concatenate([x, x], axis=1))


def test_values_that_the_narrower_type_of_8_x_lacks_are_refused(
    make_rig: Callable[..., Any], make_model: Callable[..., bytes]
) -> None:
    shape = (TensorProto.INT64, [2])
    model = make_model([("Add", ["x", "x"], ["y"], {})], {"x": shape}, {"y": shape})
    engine = make_rig("8.2").engine(model, {"x": ShapeRange.fixed((2,))})
    np.testing.assert_array_equal(engine.infer({"x": np.array([-3, 2**30 - 1])})["y"], [-6, 2**31 - 2])
    for value in (2**31, -(2**31) - 1):
        with pytest.raises(InvalidRequestError, match=f"input 'x': expected values of INT32, .*, got {value}"):
            engine.infer({"x": np.array([0, value])})
    np.testing.assert_array_equal(engine.infer({"x": np.array([1, 2])})["y"], [2, 4])


def test_a_scalar_goes_in_and_out(rig: Any, make_model: Callable[..., bytes]) -> None:
    scalar = (TensorProto.FLOAT, [])
    model = make_model([("Add", ["x", "x"], ["y"], {})], {"x": scalar}, {"y": scalar})
    engine = rig.engine(model, {"x": ShapeRange.fixed(())})
    for value in (1.5, -2.0, 3.0):
        got = engine.infer({"x": np.array(value, np.float32)})["y"]
        assert got.shape == ()
        assert got == 2 * value


def test_an_output_without_elements_is_given(rig: Any, make_model: Callable[..., bytes]) -> None:
    model = make_model(
        [("Slice", ["x", "zero", "zero"], ["y"], {}), ("Neg", ["x"], ["z"], {})],
        {"x": (TensorProto.FLOAT, ["n", 4])},
        {"y": (TensorProto.FLOAT, [0, 4]), "z": (TensorProto.FLOAT, ["n", 4])},
        {"zero": np.array([0], np.int64)},
    )
    engine = rig.engine(model, BATCHED)
    for n in (1, 3, 3):
        got = engine.infer({"x": rows(n)})
        assert got["y"].shape == (0, 4)
        np.testing.assert_array_equal(got["z"], -rows(n))


def test_an_output_that_is_an_input_is_handed_on(rig: Any, doubling: bytes, signature_for: Callable[..., Any]) -> None:
    signature = signature_for(doubling, BATCHED)
    both = type(signature)(signature.inputs, (*signature.outputs, signature.inputs[0]), signature.profile)
    engine = rig.engine(doubling, BATCHED, signature=both)
    for n in (2, 5, 5, 5):
        got = engine.infer({"x": rows(n, n)})
        assert list(got) == ["y", "x"]
        np.testing.assert_array_equal(got["x"], rows(n, n))
        np.testing.assert_allclose(got["y"], 2 * rows(n, n))


@pytest.mark.parametrize("memory", ["mapped", "copy"])
@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_nothing_is_allocated_at_shapes_that_were_seen(rig: Any, classifier: bytes, memory: str, graphs: str) -> None:
    engine = rig.engine(classifier, BATCHED, memory=memory, graphs=graphs)
    engine.warm_up(2)
    before = allocations(rig.cuda)
    for n in (1, 2, 8, 8, 2, 1) * 3:
        engine.infer({"x": rows(n)})
    after = allocations(rig.cuda)
    if rig.module._surface in ("10.3", "11.4") or graphs == "off":
        assert after == before
    else:  # there a graph goes when the shape changes
        assert {name: after[name] for name in ALLOCATIONS[:6]} == {name: before[name] for name in ALLOCATIONS[:6]}


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_a_run_leaves_no_python_objects_behind(make_rig: Callable[..., Any], doubling: bytes, graphs: str) -> None:
    engine = make_rig().engine(doubling, FIXED, graphs=graphs)
    with engine.slot() as slot:
        put(slot, x=rows(2))

        def left_by(runs: int) -> int:
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(runs):
                slot.run()
            gc.collect()
            return len(gc.get_objects()) - before

        left_by(20)
        assert min(left_by(200) for _ in range(3)) < 20  # of three, for other threads of this process make objects too


def test_what_is_known_of_shapes_stays_within_bounds(make_rig: Callable[..., Any], doubling: bytes) -> None:
    engine = make_rig().engine(doubling, {"x": ShapeRange((1, 4), (1, 4), (400, 4))})
    for n in range(1, 400):
        np.testing.assert_allclose(engine.infer({"x": rows(n)})["y"], 2 * rows(n))
    with engine.slot() as slot:
        assert 0 < len(slot._tensors._shaped) <= 256
        assert len(slot._graphs._captured) == 32
    for n in (1, 2, 1, 2):  # they have graphs, though nothing else of them is known any more
        np.testing.assert_allclose(engine.infer({"x": rows(n)})["y"], 2 * rows(n))


def test_output_memory_grows_where_the_largest_inputs_do_not_give_the_largest_output(
    rig: Any, make_model: Callable[..., bytes], run_onnx: Reference
) -> None:
    # The output's first axis is 9 - n: it is longest for the shortest input.
    model = make_model(
        [
            ("Shape", ["x"], ["s"], {}),
            ("Slice", ["s", "zero", "one"], ["n"], {}),
            ("Sub", ["nine", "n"], ["m"], {}),
            ("Concat", ["m", "one"], ["shape"], {"axis": 0}),
            ("ReduceSum", ["x"], ["t"], {"keepdims": 0}),
            ("Expand", ["t", "shape"], ["y"], {}),
        ],
        {"x": (TensorProto.FLOAT, ["n", 4])},
        {"y": (TensorProto.FLOAT, ["m", 1])},
        {"zero": np.array([0], np.int64), "one": np.array([1], np.int64), "nine": np.array([9], np.int64)},
    )
    engine = rig.engine(model, BATCHED)
    for n in (8, 1, 4, 1, 8, 2, 2, 2, 1, 1, 1):
        feeds = {"x": rows(n, n)}
        np.testing.assert_allclose(engine.infer(feeds)["y"], run_onnx(model, feeds)["y"], rtol=1e-5)


def test_outputs_hold_until_the_slot_runs_again(rig: Any, doubling: bytes) -> None:
    with rig.engine(doubling, BATCHED).slot() as slot:
        put(slot, x=rows(2))
        first = slot.run()["y"]
        np.testing.assert_allclose(first, 2 * rows(2))
        put(slot, x=rows(2, 1))
        np.testing.assert_allclose(first, 2 * rows(2))
        slot.run()


def test_threads_get_their_own_answers(rig: Any, classifier: bytes, run_onnx: Reference) -> None:
    engine = rig.engine(classifier, BATCHED, slots=3)
    expected = {seed: run_onnx(classifier, {"x": rows(1 + seed % 8, seed)})["scores"] for seed in range(48)}
    with ThreadPoolExecutor(6) as pool:
        got = pool.map(lambda seed: engine.infer({"x": rows(1 + seed % 8, seed)})["scores"], range(48))
    for seed, answer in enumerate(got):
        np.testing.assert_allclose(answer, expected[seed], rtol=1e-5, atol=1e-6)


def test_a_thread_makes_the_device_current_once(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    engine = rig.engine(doubling, FIXED)
    before = rig.cuda.counts["use_device"]

    def ask() -> None:
        for _ in range(5):
            engine.infer({"x": rows(2)})

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(20)
    ask()
    assert rig.cuda.counts["use_device"] == before + 1


def test_engines_on_two_devices_each_use_their_own(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig("10.3", FakeCuda(ORIN, devices=2))
    engines = [rig.engine(doubling, FIXED, device=ordinal) for ordinal in (0, 1)]
    for ordinal, engine in [*enumerate(engines)] * 3:
        engine.infer({"x": rows(2)})
        assert rig.cuda._thread.device == ordinal


def test_close_is_idempotent_and_use_after_it_is_refused(rig: Any, classifier: bytes) -> None:
    engine = rig.engine(classifier, BATCHED, slots=2)
    engine.infer({"x": rows(1)})
    engine.close()
    engine.close()
    rig.cuda.check_leaks()
    with pytest.raises(BackendError, match="closed"):
        engine.infer({"x": rows(1)})


def test_a_slot_can_be_closed_twice_and_its_engine_not_be_had_again(
    make_rig: Callable[..., Any], doubling: bytes
) -> None:
    rig = make_rig()
    make_slot = rig.maker(doubling, FIXED)
    slot = make_slot()
    slot.close()
    slot.close()
    with pytest.raises(BackendError, match="model 'm' is closed; load the plan again"):
        make_slot()


@pytest.mark.parametrize("memory", ["mapped", "copy"])
def test_a_construction_that_fails_anywhere_gives_everything_back(rig: Any, classifier: bytes, memory: str) -> None:
    calls = ("create_stream", "create_event", "allocate_host", "allocate_device")
    before = dict(rig.cuda.counts)
    rig.engine(classifier, BATCHED, slots=2, memory=memory).close()
    counts = {name: rig.cuda.counts[name] - before.get(name, 0) for name in calls}
    for name, after in [(name, after) for name, count in counts.items() for after in range(count)]:
        rig.cuda.fail_next(name, 2, after)
        with contextlib.suppress(BackendError):  # a slot that can't reserve memory for outputs asks again when it runs
            rig.engine(classifier, BATCHED, slots=2, memory=memory).close()
        assert not any(rig.cuda._failures.values()), f"call {after} of {name} wasn't made"
        rig.cuda.check_leaks()


def test_too_little_memory_names_the_tensor_and_the_remedy(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    with pytest.raises(BackendError, match=r"tensor 'x': .* bytes can't be had .*; build it for smaller shapes"):
        rig.engine(doubling, {"x": ShapeRange((1, 4), (1, 4), (10**12, 4))})


def test_a_failed_run_is_reported_and_the_next_one_is_right(rig: Any, doubling: bytes) -> None:
    engine = rig.engine(doubling, BATCHED, memory="copy", graphs="off")
    rig.cuda.fail_next("copy_async", 1, after=1)
    with pytest.raises(BackendError, match="invalid argument"):
        engine.infer({"x": rows(3)})
    np.testing.assert_allclose(engine.infer({"x": rows(3, 1)})["y"], 2 * rows(3, 1))


def test_what_tensorrt_says_is_in_the_error(rig: Any, doubling: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rig.engine(doubling, BATCHED, graphs="off")
    with engine.slot() as slot:
        put(slot, x=rows(2))
        slot.run()
        monkeypatch.setattr(type(slot.context), "_missing", lambda self: ["x"])
        with pytest.raises(BackendError, match=r"model 'm': TensorRT can't run it: .*missing: x"):
            slot.run()


@pytest.mark.parametrize("call", ["copy_async", "synchronize_event", "record_event"])
def test_a_lost_device_makes_every_slot_unusable_at_once(rig: Any, doubling: bytes, call: str) -> None:
    engine = rig.engine(doubling, FIXED, slots=2, memory="copy")
    rig.cuda.fail_next(call, 700)
    with pytest.raises(DeviceLostError, match="model 'm': the GPU is lost to this process, which must be restarted"):
        engine.infer({"x": rows(2)})
    counts = dict(rig.cuda.counts)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="must be restarted"):
            engine.infer({"x": rows(2)})
    assert dict(rig.cuda.counts) == counts
    engine.close()


@pytest.mark.parametrize("call", ["create_stream", "allocate_host", "allocate_device"])
def test_a_device_that_is_lost_while_a_slot_is_made_is_lost_for_all(
    make_rig: Callable[..., Any], doubling: bytes, call: str
) -> None:
    rig = make_rig()
    make_slot = rig.maker(doubling, FIXED, memory="copy")
    first = make_slot()
    rig.cuda.fail_next(call, 700)
    with pytest.raises(DeviceLostError, match="must be restarted"):
        make_slot()
    with pytest.raises(DeviceLostError, match="must be restarted"):
        first.run()
    first.close()


def test_outputs_are_read_only_after_the_stream_was_waited_for(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    with rig.engine(doubling, FIXED, graphs="off").slot() as slot:
        put(slot, x=rows(2))
        monkeypatch.setattr(slot, "_wait", lambda: None)
        assert set(slot.run()["y"].view(np.uint8).ravel().tolist()) == {POISON}
        monkeypatch.undo()
        np.testing.assert_allclose(slot.run()["y"], 2 * rows(2))


def test_a_run_waits_for_the_device_once(rig: Any, doubling: bytes) -> None:
    engine = rig.engine(doubling, FIXED)
    engine.warm_up(2)
    before = dict(rig.cuda.counts)
    engine.infer({"x": rows(2)})
    waits = ("synchronize_event", "synchronize_stream", "synchronize_device", "is_event_done")
    assert [rig.cuda.counts[name] - before.get(name, 0) for name in waits] == [1, 0, 0, 0]


def test_nothing_is_left_on_the_stream_by_a_failed_run(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    with rig.engine(doubling, FIXED, memory="copy", graphs="off").slot() as slot:
        put(slot, x=rows(2))
        rig.cuda.fail_next("record_event", 1)
        with pytest.raises(BackendError, match="invalid argument"):
            slot.run()
        assert rig.cuda.pending(slot._stream.handle) == []


def test_two_slots_overlap(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    engine = rig.engine(doubling, FIXED, slots=2, memory="copy", graphs="off")
    in_kernel, leave = threading.Event(), threading.Event()
    with engine.slot() as first, engine.slot() as second:
        for slot in (first, second):
            put(slot, x=rows(2))
            slot.run()
        launch = first._main.enqueue

        def held() -> None:
            rig.cuda.enqueue(first._stream.handle, lambda: (in_kernel.set(), leave.wait(20)))
            launch()

        first._main.enqueue = held
        thread = threading.Thread(target=first.run)
        thread.start()
        assert in_kernel.wait(20)
        np.testing.assert_allclose(second.run()["y"], 2 * rows(2))  # copies and computes while the first computes
        assert rig.cuda.pending(second._stream.handle) == []
        assert rig.cuda.pending(first._stream.handle)
        leave.set()
        thread.join(20)
    assert rig.cuda.counts["wait_event"] == rig.cuda.counts["synchronize_device"] == 0


@pytest.fixture
def non_zero(make_model: Callable[..., bytes]) -> bytes:
    """x f32[n, 4] -> where i64[2, m] of what isn't zero, and n f32[n, 4] that depends on no data."""
    return make_model(
        [("NonZero", ["x"], ["where"], {}), ("Neg", ["x"], ["n"], {})],
        {"x": (TensorProto.FLOAT, ["n", 4])},
        {"where": (TensorProto.INT64, [2, "m"]), "n": (TensorProto.FLOAT, ["n", 4])},
    )


@pytest.mark.parametrize("surface", ["8.6", "10.3", "11.4"])
@pytest.mark.parametrize("memory", ["mapped", "copy"])
def test_output_shapes_that_data_decides_are_followed(
    make_rig: Callable[..., Any], non_zero: bytes, surface: str, memory: str
) -> None:
    rig = make_rig(surface)
    engine = rig.engine(non_zero, BATCHED, slots=2, memory=memory)
    for n, share in ((1, 0.5), (8, 1), (3, 0), (3, 1), (8, 0.5), (1, 1), (8, 1)):
        x = (np.random.default_rng(n).uniform(size=(n, 4)) < share).astype(np.float32)
        got = engine.infer({"x": x})
        assert list(got) == ["where", "n"]
        np.testing.assert_array_equal(got["where"], np.stack(np.nonzero(x)))
        np.testing.assert_array_equal(got["n"], -x)
    assert rig.cuda.counts["begin_capture"] == 0


def test_memory_for_outputs_that_data_decides_is_kept(make_rig: Callable[..., Any], non_zero: bytes) -> None:
    rig = make_rig()
    engine = rig.engine(non_zero, BATCHED)
    engine.infer({"x": np.ones((8, 4), np.float32)})
    before = allocations(rig.cuda)
    for n in (1, 8, 3, 8):
        engine.infer({"x": np.ones((n, 4), np.float32)})
    assert allocations(rig.cuda) == before


def test_a_tensorrt_without_output_allocators_refuses_such_a_plan_when_it_is_loaded(
    make_rig: Callable[..., Any], non_zero: bytes
) -> None:
    with pytest.raises(BackendError, match=r"data decides output 'where': tensorrt 8\.2\.1\.8 has no OUTPUT_ALLOCATOR"):
        make_rig("8.2").engine(non_zero, BATCHED)


def test_what_fails_while_tensorrt_asks_for_memory_is_raised(
    make_rig: Callable[..., Any], non_zero: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    rig = make_rig("8.6")
    engine = rig.engine(non_zero, BATCHED, memory="copy")
    rig.cuda.fail_next("allocate_device", 2)
    with pytest.raises(BackendError, match=r"tensor 'where'.*out of memory"):
        engine.infer({"x": np.ones((8, 4), np.float32)})
    assert capfd.readouterr().err == ""  # the bindings would print it and go on
    np.testing.assert_array_equal(
        engine.infer({"x": np.ones((1, 4), np.float32)})["where"], [[0, 0, 0, 0], [0, 1, 2, 3]]
    )


@pytest.fixture
def expanding(make_model: Callable[..., bytes]) -> bytes:
    """x f32[1, 3] and shape i64[2] -> y, x expanded to that shape."""
    return make_model(
        [("Expand", ["x", "shape"], ["y"], {})],
        {"x": (TensorProto.FLOAT, [1, 3]), "shape": (TensorProto.INT64, [2])},
        {"y": (TensorProto.FLOAT, ["a", 3])},
    )


def test_the_values_of_shape_inputs_decide_shapes(rig: Any, expanding: bytes) -> None:
    profile = {"x": ShapeRange.fixed((1, 3)), "shape": ShapeRange.fixed((2,))}
    engine = rig.engine(expanding, profile, values={"shape": ((1, 3), (2, 3), (9, 3))})
    x = rows(1)[:, :3].copy()
    for n in (1, 4, 9, 9, 2):
        got = engine.infer({"x": x, "shape": np.array([n, 3])})["y"]
        np.testing.assert_array_equal(got, np.broadcast_to(x, (n, 3)))


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_a_slot_tells_when_its_last_run_was_all_enqueued(rig: Any, classifier: bytes, graphs: str) -> None:
    with rig.engine(classifier, BATCHED, graphs=graphs).slot() as slot:
        for _ in range(4):
            put(slot, x=rows(2))
            before_ns = time.perf_counter_ns()
            slot.run()
            assert before_ns < slot.submitted_ns < time.perf_counter_ns()
