from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.float64 import single_precision
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.inference import tensor_types
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable

N = helper.make_node
DOUBLE, FLOAT, INT64, BOOL = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


def value(name, shape, element=DOUBLE):
    return helper.make_tensor_value_info(name, element, shape)


def inner_doubles(model):
    edges = {spec.name for spec in (*model.inputs, *model.outputs)}
    types = tensor_types(model.proto)
    return {name for name, kind in types.items() if kind.tensor_type.elem_type == DOUBLE} - edges


def branch(name, op_type):
    nodes = [
        N("Constant", [], [f"{name}_k"], value=numpy_helper.from_array(np.array(2.0))),
        N("Mul", ["x", f"{name}_k"], [f"{name}_m"]),
        N(op_type, [f"{name}_m", "w"], [name]),
    ]
    return helper.make_graph(nodes, name, [], [value(name, [2, 4])])


def passing(name, source):
    return helper.make_graph([N("Identity", [source], [name])], name, [], [value(name, [2, 4])])


BODY = helper.make_graph(
    [N("Identity", ["go"], ["on"]), N("Add", ["h", "w"], ["s"]), N("Tanh", ["s"], ["t"])],
    "body",
    [value("i", [], INT64), value("go", [], BOOL), value("h", [2, 4])],
    [value("on", [], BOOL), value("t", [2, 4])],
)

NETS = {
    "classifier": (
        [
            N("Gemm", ["x", "a", "b"], ["h"]),
            N("Relu", ["h"], ["r"]),
            N("Softmax", ["r"], ["y"], axis=-1),
            N("ArgMax", ["y"], ["label"], axis=-1),
        ],
        {"a": normal(4, 3), "b": normal(3)},
        ["label", "y"],
    ),
    "constants": (
        [
            N("Constant", [], ["k"], value=numpy_helper.from_array(normal(4))),
            N("Shape", ["x"], ["s"]),
            N("ConstantOfShape", ["s"], ["z"], value=numpy_helper.from_array(np.array([1.5]))),
            N("Add", ["x", "z"], ["t"]),
            N("Mul", ["t", "k"], ["y"]),
        ],
        {},
        ["y"],
    ),
    "extremes": (
        [
            N("Abs", ["x"], ["p"]),
            N("Sub", ["p", "p"], ["zero"]),
            N("Add", ["zero", "eps"], ["t"]),
            N("Log", ["t"], ["l"]),
            N("Clip", ["x", "low", "high"], ["clip"]),
            N("Less", ["l", "clip"], ["less"]),
            N("Where", ["less", "clip", "x"], ["y"]),
        ],
        {"eps": np.array(1e-300), "low": np.array(-1.7e308), "high": np.array(np.inf)},
        ["y", "less"],
    ),
    "eye": (
        [N("EyeLike", ["square"], ["e"], dtype=DOUBLE), N("Add", ["e", "w"], ["y"])],
        {"square": normal(4, 4)},
        ["y"],
    ),
    "cast": ([N("Cast", ["label"], ["d"], to=DOUBLE), N("Add", ["d", "x"], ["y"])], {"label": np.array([[7]])}, ["y"]),
    "range": (
        [N("Range", ["start", "end", "step"], ["r"]), N("Mul", ["x", "r"], ["y"])],
        {"start": np.array(0.0), "end": np.array(4.0), "step": np.array(1.0)},
        ["y"],
    ),
    "if": ([N("If", ["c"], ["y"], then_branch=branch("t", "Add"), else_branch=branch("e", "Sub"))], {}, ["y"]),
    "if-of-names": (
        [N("Neg", ["x"], ["y"]), N("If", ["c"], ["z"], then_branch=passing("t", "x"), else_branch=passing("e", "y"))],
        {},
        ["y", value("z", [2, 4])],
    ),
    "loop": (
        [N("Loop", ["n", "yes", "x"], ["y"], body=BODY)],
        {"n": np.array(3), "yes": np.array(True)},
        [value("y", [2, 4])],
    ),
    "all-given-out": ([N("Relu", ["x"], ["r"]), N("Neg", ["r"], ["y"])], {}, ["x", "r", "y", "w"]),
    "sequence": (
        [
            N("SplitToSequence", ["x"], ["parts"], axis=0),
            N("ConcatFromSequence", ["parts"], ["t"], axis=0),
            N("Neg", ["t"], ["y"]),
        ],
        {},
        ["y"],
    ),
}


@pytest.fixture
def net(build):
    """A function that builds a net of the table: x double[2, 4] and c bool -> its outputs."""

    def built(name):
        nodes, weights, outputs = NETS[name]
        inputs = [value("x", [2, 4]), value("c", [], BOOL)]
        return build(nodes, inputs, {"w": normal(4), **weights}, outputs)

    return built


@pytest.mark.parametrize("name", NETS)
def test_double_nets_compute_in_float32_between_double_edges(net, run, name):
    model = net(name)
    single = single_precision(model)
    assert (single.inputs, single.outputs) == (model.inputs, model.outputs)
    assert not inner_doubles(single)
    for flag in (True, False):
        feeds = {"x": normal(2, 4), "c": np.array(flag)}
        answers = run(single, feeds)
        for output, expected in run(model, feeds).items():
            assert answers[output].dtype == expected.dtype
            np.testing.assert_allclose(answers[output], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["classifier", "constants", "if", "cast"])
def test_fp16_can_be_made_of_the_result(net, run, name):
    model = net(name)
    half = to_fp16(portable(single_precision(model)))
    assert (half.inputs, half.outputs) == (model.inputs, model.outputs)
    feeds = {"x": normal(2, 4), "c": np.array(True)}
    answers = run(half, feeds)
    for output, expected in run(model, feeds).items():
        np.testing.assert_allclose(answers[output], expected, rtol=0.01, atol=0.01)


def test_products_can_be_quantised_before_and_after_portable(net):
    model = net("classifier")
    assert not quantizable(model)
    for single in (portable(single_precision(model)), single_precision(portable(model))):
        assert quantizable(single) == ("x_fp32",)
        types = tensor_types(insert_qdq(single, {"x_fp32": 0.1}).proto)
        assert types["x_fp32_dequantized"].tensor_type.elem_type == FLOAT


def test_a_detour_through_double_is_no_cast_any_more(build):
    nodes = [N("Cast", ["x"], ["d"], to=DOUBLE), N("Neg", ["d"], ["n"]), N("Cast", ["n"], ["y"], to=FLOAT)]
    single = single_precision(build(nodes, {"x": (2,)}))
    assert [node.op_type for node in single.proto.graph.node] == ["Identity", "Neg", "Identity"]


@pytest.mark.parametrize("element", [FLOAT, TensorProto.FLOAT16, INT64])
def test_a_model_without_doubles_is_the_same_object(build, element):
    model = build([N("Add", ["x", "x"], ["y"])], [value("x", [2], element)])
    assert single_precision(model) is model


def test_constants_beyond_float32_stay_finite_and_not_zero(build):
    weights = {"k": np.array([1e300, -1e300, 1e-300, -1e-300, 0.0, np.inf, -np.inf, np.nan])}
    single = single_precision(build([N("Mul", ["x", "k"], ["y"])], [value("x", [8])], weights))
    limits = np.finfo(np.float32)
    expected = [limits.max, limits.min, limits.tiny, -limits.tiny, 0, np.inf, -np.inf, np.nan]
    (stored,) = (numpy_helper.to_array(tensor) for tensor in single.proto.graph.initializer)
    np.testing.assert_array_equal(stored, np.array(expected, np.float32))
