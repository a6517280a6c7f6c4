from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_runtime.engine.engine import Engine
from edge_runtime.engine.loading import EngineOptions
from edge_runtime.errors import BackendError, ConfigError, InvalidRequestError
from edge_runtime.tensors import ShapeRange

BATCHED = {"x": ShapeRange((1, 4), (1, 4), (8, 4))}
SCORES = {"scores": (-1, 3)}


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


@pytest.fixture
def engine(classifier: bytes, make_engine: Callable[..., Engine]) -> Engine:
    return make_engine(classifier, BATCHED, SCORES, slots=2)


def test_answers_are_onnx_runtimes_at_every_batch_in_any_order(engine: Engine, classifier: bytes) -> None:
    session = onnxruntime.InferenceSession(classifier, providers=["CPUExecutionProvider"])
    for n in (3, 8, 1, 3, 5, 8, 1):
        x = rows(n, seed=n)
        np.testing.assert_allclose(
            engine.infer({"x": x})["scores"], session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6
        )


def test_answers_are_the_callers_own(engine: Engine) -> None:
    first = engine.infer({"x": rows(2)})["scores"]
    kept = first.copy()
    for _ in range(4):
        engine.infer({"x": rows(2, seed=9)})
    np.testing.assert_array_equal(first, kept)


def test_threads_get_their_own_answers(engine: Engine) -> None:
    expected = {seed: engine.infer({"x": rows(1 + seed % 8, seed)})["scores"] for seed in range(40)}
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda seed: engine.infer({"x": rows(1 + seed % 8, seed)})["scores"], range(40))
    for seed, answer in enumerate(got):
        np.testing.assert_allclose(answer, expected[seed], rtol=1e-6)


def test_arrays_that_are_not_contiguous_are_read_right(engine: Engine) -> None:
    x = rows(6)
    np.testing.assert_array_equal(engine.infer({"x": x[::2]})["scores"], engine.infer({"x": x[::2].copy()})["scores"])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "'x' is missing"),
        ({"x": rows(1), "y": rows(1)}, "unknown input 'y'"),
        ({"x": rows(9)}, "batch 9 is over max_batch_size 8"),
        ({"x": rows(1).astype(np.float64)}, "expected data type FP32, got FP64"),
        ({"x": [[1, 2, 3, 4]]}, "expected a NumPy array, got list"),
        ({"x": rows(0)}, "expected shape"),
        ({"x": np.array([["a"] * 4])}, "no tensor type"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(engine: Engine, feeds: dict, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        engine.infer(feeds)


def test_output_shapes_that_depend_on_the_data_are_followed(make_engine: Callable[..., Engine]) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    engine = make_engine(model, {"x": ShapeRange.fixed((4,))}, {"y": (1, -1)})
    for values in ([1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]):
        x = np.array(values, np.float32)
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], [np.flatnonzero(x)])


def test_a_model_that_fails_on_zeros_is_warmed_on_ones(make_engine: Callable[..., Engine]) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with make_engine(model, {"x": ShapeRange.fixed((2,))}, {"y": ()}) as engine:
        assert engine.infer({"x": np.ones(2, np.float32)})["y"] == 0


def test_bytes_that_are_no_model_are_refused(make_engine: Callable[..., Engine]) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime can't load it"):
        make_engine(b"not a model", BATCHED, SCORES)


def test_a_plan_with_other_outputs_than_its_manifest_is_refused(
    classifier: bytes, make_engine: Callable[..., Engine]
) -> None:
    with pytest.raises(BackendError, match="got \\['x', 'scores'\\]"):
        make_engine(classifier, BATCHED, {"other": (-1, 3)})


def test_close_waits_for_the_run_and_ends_later_calls(engine: Engine) -> None:
    entered, leave, closed = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with engine.slot():
            entered.set()
            leave.wait(10)

    def close() -> None:
        engine.close()
        closed.set()

    holder, closer = threading.Thread(target=hold), threading.Thread(target=close)
    holder.start()
    entered.wait(10)
    closer.start()
    assert not closed.is_set()
    leave.set()
    holder.join(10)
    closer.join(10)
    assert closed.is_set()
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.infer({"x": rows(1)})


@pytest.mark.parametrize("options", [{"slots": 0}, {"threads_per_run": 0}])
def test_an_engine_without_slots_or_threads_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError):
        EngineOptions(**options)


def test_close_returns_while_other_threads_keep_asking(engine: Engine) -> None:
    answered, refused = [], []

    def ask() -> None:
        try:
            while True:
                answered.append(engine.infer({"x": rows(1)}))
        except BackendError as error:
            refused.append(error)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    closers = [threading.Thread(target=engine.close) for _ in range(2)]
    for closer in closers:
        closer.start()
    for thread in (*closers, *askers):
        thread.join(20)
        assert not thread.is_alive()
    assert len(refused) == 8


def test_outputs_that_are_inputs_or_constants_are_given_back(make_engine: Callable[..., Engine]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("y", ["n", 2]), ("x", ["n", 2]), ("c", [2]))
        ],
        [helper.make_tensor("c", TensorProto.FLOAT, [2], [5.0, 6.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    outputs = {"y": (-1, 2), "x": (-1, 2), "c": (2,)}
    with make_engine(model, {"x": ShapeRange((1, 2), (1, 2), (4, 2))}, outputs) as engine:
        for n in (1, 3, 1, 1, 3):
            x = np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)
            got = engine.infer({"x": x})
            np.testing.assert_array_equal(got["x"], x)
            np.testing.assert_array_equal(got["y"], np.maximum(x, 0))
            np.testing.assert_array_equal(got["c"], [5, 6])


def test_a_profile_that_no_memory_holds_is_refused(classifier: bytes, make_engine: Callable[..., Engine]) -> None:
    with pytest.raises(BackendError, match="smaller shapes"):
        make_engine(classifier, {"x": ShapeRange((1, 4), (1, 4), (10**13, 4))}, SCORES)
