from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.ranges import with_ranges

N = helper.make_node


@pytest.fixture
def ranges_of(run):
    """A function that measures the ranges of a model's tensors over one feed."""

    def measured(model, feeds):
        metered, tensors = with_ranges(model)
        answers = run(metered, feeds)
        return {tensor: answers[output] for output, tensor in tensors.items()}

    return measured


def test_inputs_and_float_activations_are_measured_and_nothing_else(build, ranges_of):
    nodes = [N("MatMul", ["x", "w"], ["a"]), N("ArgMax", ["a"], ["i"]), N("Neg", ["a"], ["y"])]
    model = build(nodes, {"x": ["n", 2]}, {"w": np.eye(2, dtype=np.float32) * 3})
    found = ranges_of(model, {"x": np.array([[1, -2], [0.5, 1]], np.float32)})
    assert found == {"x": 2.0, "a": 6.0, "y": 6.0}


def test_ranges_are_scalars_after_the_models_own_outputs(build):
    model, tensors = with_ranges(build([N("Relu", ["x"], ["y"])], {"x": [2]}))
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("y", (2,)), ("x_range", ()), ("y_range", ())]
    assert tensors == {"x_range": "x", "y_range": "y"}


def test_a_tensor_that_has_the_name_of_a_range_keeps_it(build, ranges_of):
    model = build([N("Relu", ["x"], ["x_range"]), N("Neg", ["x_range"], ["y"])], {"x": [1]})
    assert ranges_of(model, {"x": np.array([-3], np.float32)}) == {"x": 3.0, "x_range": 0.0, "y": 0.0}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32(-3.4e38)])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_no_number_gets_lost(build, ranges_of, value, place):
    values = np.linspace(-1, 1, 1000, dtype=np.float32)
    values[place] = value
    found = ranges_of(build([N("Neg", ["x"], ["y"])], {"x": ["n"]}), {"x": values})
    np.testing.assert_array_equal([found["x"], found["y"]], np.abs([value, value]))


def test_an_empty_tensor_reaches_nowhere(build, ranges_of):
    nodes = [
        N("Greater", ["x", "k"], ["c"]),
        N("Compress", ["x", "c"], ["kept"], axis=0),
        N("Neg", ["kept"], ["y"]),
    ]
    model = build(nodes, {"x": ["n"]}, {"k": np.float32(5)})
    for largest in (1, 7):
        kept = largest if largest > 5 else 0
        found = ranges_of(model, {"x": np.array([largest, -0.5], np.float32)})
        assert found == {"x": largest, "kept": kept, "y": kept}


def test_subgraphs_and_other_types_are_left_alone(build, ranges_of):
    inner = helper.make_graph([N("Exp", ["x"], ["t"])], "t", [], [helper.make_tensor_value_info("t", 1, [2])])
    other = helper.make_graph([N("Neg", ["x"], ["e"])], "e", [], [helper.make_tensor_value_info("e", 1, [2])])
    nodes = [
        N("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        N("If", ["c"], ["y"], then_branch=inner, else_branch=other),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    model = build(nodes, inputs, outputs=["y", "half"])
    found = ranges_of(model, {"x": np.array([1, -2], np.float32), "c": np.array(False)})
    assert found == {"x": 2.0, "y": 2.0}


@settings(max_examples=40, deadline=None)
@given(values=arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32)))
def test_a_range_is_the_largest_magnitude(values):
    value = helper.make_tensor_value_info("x", 1, ["n"])
    graph = helper.make_graph([N("Identity", ["x"], ["y"])], "net", [value], [helper.make_empty_tensor_value_info("y")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model, _ = with_ranges(model_from_bytes(proto.SerializeToString(), "net"))
    import onnxruntime

    session = onnxruntime.InferenceSession(model.serialize(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["x_range"], {"x": values})[0], np.abs(values).max())


@pytest.mark.parametrize("name", ["det", "minilm"])
def test_ranges_of_real_models_agree_with_their_outputs(real_model, real_feeds, run, ranges_of, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    ranges = ranges_of(model, feeds)
    floats = {key: values for key, values in run(model, feeds).items() if values.dtype == np.float32}
    assert floats
    for output, expected in floats.items():
        np.testing.assert_allclose(ranges[output], np.abs(expected).max(), rtol=1e-4)
