from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ConfigError, UnsupportedModelError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.split import split, split_tensors, tensors_around
from edge_runtime.tensors import ShapeRange

ROWS = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
node = helper.make_node


def chained(parts, feeds, run):
    """The outputs of all parts, each fed with what the model takes and earlier parts gave."""
    known = dict(feeds)
    for part in parts:
        assert set(part.profile) == {spec.name for spec in part.model.inputs}
        known.update(run(part.model, {spec.name: known[spec.name] for spec in part.model.inputs}))
    return known


def names(parts):
    return [([s.name for s in part.model.inputs], [s.name for s in part.model.outputs]) for part in parts]


def check_equal(model, cuts, feeds, run, profile=ROWS):
    parts = split(model, cuts, profile)
    for part in parts:
        onnx.checker.check_model(part.model.proto, full_check=True)
    known = chained(parts, feeds, run)
    for name, value in run(model, feeds).items():
        np.testing.assert_array_equal(known[name], value)
    return parts


def rows(n=2, k=4, seed=0):
    return {"x": np.random.default_rng(seed).integers(-4, 5, (n, k)).astype(np.float32)}


def test_a_line_of_nodes_is_cut_where_it_is_named(build, run):
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Abs", ["b"], ["c"]),
        node("Exp", ["c"], ["y"]),
    ]
    parts = check_equal(build(nodes, {"x": ["n", 4]}), ["a", "c"], rows(), run)
    assert names(parts) == [(["x"], ["a"]), (["a"], ["c"]), (["c"], ["y"])]
    assert parts[1].model.inputs[0].axes == ("batch", "")
    assert parts[1].profile == {"a": ROWS["x"]}


def test_what_skips_a_cut_is_carried_along(build, run):
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Exp", ["b"], ["c"]),
        node("Add", ["c", "a"], ["d"]),
        node("Add", ["d", "x"], ["y"]),
    ]
    parts = check_equal(build(nodes, {"x": ["n", 4]}), ["b", "c"], rows(), run)
    assert names(parts) == [(["x"], ["a", "b"]), (["b"], ["c"]), (["x", "a", "c"], ["y"])]


def test_a_part_has_what_its_tensor_needs_whatever_the_order_of_the_file(build, run):
    nodes = [
        node("Exp", ["x"], ["other"]),
        node("Relu", ["x"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Add", ["b", "other"], ["y"]),
    ]
    parts = check_equal(build(nodes, {"x": ["n", 4]}), ["a"], rows(), run)
    assert [len(part.model.node_order) for part in parts] == [1, 3]
    assert names(parts)[0] == (["x"], ["a"])


def test_outputs_come_from_any_part(build, run):
    nodes = [
        node("Relu", ["x"], ["early"]),
        node("Neg", ["early"], ["b"]),
        node("Abs", ["b"], ["middle"]),
        node("Exp", ["b"], ["c"]),
        node("Add", ["c", "early"], ["late"]),
    ]
    model = build(nodes, {"x": ["n", 4]}, outputs=("late", "early", "middle"))
    parts = check_equal(model, ["b"], rows(), run)
    assert names(parts) == [(["x"], ["early", "b"]), (["early", "b"], ["late", "middle"])]


def test_an_output_that_is_an_input_or_a_constant_comes_from_the_last_part(build, run):
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])]
    model = build(nodes, {"x": ["n", 4]}, {"k": np.ones(2, np.float32)}, outputs=("y", "x", "k"))
    parts = split(model, ["a"], ROWS)
    assert names(parts) == [(["x"], ["a"]), (["x", "a"], ["y", "x", "k"])]


def test_an_input_that_nothing_reads_goes_to_the_last_part(build):
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])]
    profile = {**ROWS, "unused": ShapeRange.fixed((3,))}
    parts = split(build(nodes, {"x": ["n", 4], "unused": [3]}), ["a"], profile)
    assert [sorted(part.profile) for part in parts] == [["x"], ["a", "unused"]]


def test_shared_initializers_and_constants_are_in_each_part_that_reads_them(build, run):
    constant = node("Constant", [], ["k"], value=numpy_helper.from_array(np.full(4, 2, np.float32)))
    nodes = [
        constant,
        node("MatMul", ["x", "w"], ["a"]),
        node("Mul", ["a", "k"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
        node("Mul", ["c", "k"], ["d"]),
        node("MatMul", ["d", "only"], ["y"]),
    ]
    weights = {"w": np.eye(4, dtype=np.float32) * 3, "only": np.ones((4, 2), np.float32)}
    parts = check_equal(build(nodes, {"x": ["n", 4]}, weights), ["b"], rows(), run)
    held = [sorted(tensor.name for tensor in part.model.proto.graph.initializer) for part in parts]
    assert held == [["w"], ["only", "w"]]
    assert ["k" in [n.output[0] for n in part.model.proto.graph.node] for part in parts] == [True, True]


def branch(name, nodes, output):
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def test_what_the_bodies_of_control_flow_capture_is_a_use(build, run):
    then = branch("then", [node("Add", ["early", "w"], ["t"])], "t")
    otherwise = branch("else", [node("Mul", ["late", "late"], ["e"])], "e")
    nodes = [
        node("Relu", ["x"], ["early"]),
        node("Neg", ["early"], ["b"]),
        node("Abs", ["b"], ["late"]),
        node("ReduceSum", ["late"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["positive"]),
        node("If", ["positive"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    weights = {"w": np.full(4, 7, np.float32), "zero": np.float32(5)}
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    model = build(nodes, {"x": ["n", 4]}, weights, outputs=[out])
    parts = check_equal(model, ["b"], rows(seed=1), run)
    assert names(parts)[1] == (["early", "b"], ["y"])
    check_equal(model, ["late"], {"x": np.zeros((2, 4), np.float32)}, run)


def test_names_inside_a_body_are_not_those_outside(build, run):
    body = branch("then", [node("Add", ["x", "x"], ["later"]), node("Neg", ["later"], ["t"])], "t")
    otherwise = branch("else", [node("Neg", ["x"], ["e"])], "e")
    nodes = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["positive"]),
        node("If", ["positive"], ["a"], then_branch=body, else_branch=otherwise),
        node("Relu", ["a"], ["b"]),
        node("Exp", ["b"], ["y"]),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    a = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    model = build(nodes, [a], {"zero": np.float32(0)}, outputs=[out])
    assert names(check_equal(model, ["b"], rows(), run, {"x": ShapeRange.fixed((2, 4))})) == [
        (["x"], ["b"]),
        (["b"], ["y"]),
    ]


def test_what_computes_shapes_is_in_the_part_that_needs_it(build, run):
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Shape", ["a"], ["shape"]),
        node("Gather", ["shape", "first"], ["rows"]),
        node("Concat", ["rows", "rest"], ["target"], axis=0),
        node("Neg", ["a"], ["b"]),
        node("Reshape", ["b", "target"], ["y"]),
    ]
    weights = {"first": np.array([0]), "rest": np.array([2, 2])}
    parts = check_equal(build(nodes, {"x": ["n", 4]}, weights), ["b"], rows(3), run)
    assert names(parts) == [(["x"], ["a", "b"]), (["a", "b"], ["y"])]
    with pytest.raises(ConfigError, match=r"'target': net\.onnx: that tensor holds a shape, not an activation"):
        split(build(nodes, {"x": ["n", 4]}, weights), ["target"], ROWS)


def quantised(build, nodes, weights, **kwargs):
    model = portable(build(nodes, {"x": ["n", 4]}, weights, **kwargs))
    return insert_qdq(model, dict.fromkeys(quantizable(model), 0.05))


def test_q_and_dq_are_copied_to_both_sides_so_that_int8_stays_int8(build, run):
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("MatMul", ["a", "w"], ["b"], name="one"),
        node("MatMul", ["a", "v"], ["c"], name="two"),
        node("Add", ["b", "c"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    model = quantised(build, nodes, {k: rng.normal(size=(4, 4)).astype(np.float32) for k in "wv"})
    parts = check_equal(model, ["b"], rows(), run)
    assert names(parts) == [(["x"], ["a", "b"]), (["a", "b"], ["y"])]
    for part in parts:
        ops = [n.op_type for n in part.model.proto.graph.node]
        assert ops.count("QuantizeLinear") == ops.count("DequantizeLinear") == 2


@pytest.mark.parametrize("name", ["a_int8", "a_dequantized", "a"])
def test_a_cut_between_q_and_dq_is_moved_before_the_q(build, run, name):
    nodes = [node("Relu", ["x"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    model = quantised(build, nodes, {"w": np.eye(4, dtype=np.float32)})
    assert split_tensors(model, [name], ROWS) == ("a",)
    assert names(check_equal(model, [name], rows(), run)) == [(["x"], ["a"]), (["a"], ["y"])]


LINE = [
    node("Relu", ["x"], ["alpha"]),
    node("Split", ["alpha"], ["beta", "gamma"], axis=1),
    node("Add", ["beta", "gamma"], ["delta"]),
    node("Mul", ["delta", "k"], ["y"]),
    node("Neg", ["alpha"], ["dead"]),
]


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        (["alpa"], r"split 'alpa': net.onnx has no tensor of that name: did you mean 'alpha'\?"),
        (["q"], "it can be cut at alpha, beta, gamma, delta$"),
        (["x"], "'x': net.onnx: that tensor is an input of the model; the nearest that it can be cut at is 'alpha'"),
        (["y"], "that tensor is an output of the model; the nearest that it can be cut at is 'delta'"),
        (["k"], "that tensor is a constant"),
        (["dead"], "that tensor leads to no output; the nearest that it can be cut at is 'alpha'"),
        (["delta", "alpha"], "'alpha': net.onnx makes it before 'delta', or with it; name tensors in the order"),
        (["beta", "gamma"], "'gamma': net.onnx makes it before 'beta', or with it"),
        (["alpha", "alpha"], "is cut at 'alpha' already; name it once"),
    ],
)
def test_a_tensor_that_cannot_be_cut_at_is_named_with_one_that_can(build, cuts, message):
    with pytest.raises(ConfigError, match=message):
        split(build(LINE, {"x": ["n", 4]}, {"k": np.ones(2, np.float32)}), cuts, ROWS)


def test_a_tensor_that_preparing_the_model_removes_is_told_with_its_neighbour(build):
    nodes = [
        node("Conv", ["x", "w"], ["conv"]),
        node("BatchNormalization", ["conv", "s", "b", "m", "v"], ["norm"]),
        node("Relu", ["norm"], ["r"]),
        node("Exp", ["r"], ["y"]),
    ]
    ones = np.ones(2, np.float32)
    weights = {"w": np.ones((2, 1, 1, 1), np.float32), "s": ones, "b": ones, "m": ones, "v": ones}
    model = build(nodes, {"x": ["n", 1, 3, 3]}, weights)
    profile = {"x": ShapeRange((1, 1, 3, 3), (1, 1, 3, 3), (4, 1, 3, 3))}
    prepared = portable(with_shapes(model, profile))
    near = tensors_around(model, ["conv"])
    with pytest.raises(ConfigError, match=r"'conv': .*isn't there any more.*nearest that it can be cut at is 'norm'"):
        split_tensors(prepared, ["conv"], profile, near)
    assert split_tensors(prepared, ["norm"], profile, near) == ("norm",)


@pytest.mark.parametrize(
    ("nodes", "cut", "message"),
    [
        ([node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["y"], to=1)], "i", "'i' .* shape can't be known before"),
        (
            [node("SequenceConstruct", ["x"], ["s"]), node("SequenceAt", ["s", "zero"], ["y"])],
            "s",
            "'s' .* its type can't be known",
        ),
        (
            [node("Cast", ["x"], ["h"], to=TensorProto.BFLOAT16), node("Cast", ["h"], ["y"], to=1)],
            "h",
            "'h' .* it holds BFLOAT16",
        ),
    ],
)
def test_a_tensor_that_cannot_go_from_part_to_part_is_refused(build, nodes, cut, message):
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["p", "q"])
    model = build(nodes, {"x": ["n", 4]}, {"zero": np.int64(0)}, outputs=[out])
    with pytest.raises(UnsupportedModelError, match=f"{message}.*cut it elsewhere, or not at all"):
        split(model, [cut], ROWS)


def test_sizes_that_no_axis_of_the_inputs_has_get_their_range(build, run):
    nodes = [node("Conv", ["x", "w"], ["a"], strides=[2]), node("Relu", ["a"], ["y"])]
    model = build(nodes, {"x": ["n", 1, "length"]}, {"w": np.ones((3, 1, 3), np.float32)})
    profile = {"x": ShapeRange((1, 1, 9), (2, 1, 15), (4, 1, 33))}
    _, part = split(model, ["a"], profile)
    assert part.profile["a"] == ShapeRange((1, 3, 4), (2, 3, 7), (4, 3, 16))
    assert part.model.inputs[0].shape == (-1, 3, -1)
    assert part.model.inputs[0].axes == ("batch", "", "a_dim2")


def test_a_model_keeps_opset_and_version(build):
    model = build([node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])], {"x": ["n", 4]}, opset=15, ir_version=7)
    assert {(part.model.opset, part.model.ir_version) for part in split(model, ["a"], ROWS)} == {(15, 7)}


UNARY, BINARY = ("Relu", "Neg", "Abs", "Sign", "Identity"), ("Add", "Sub", "Max", "Min")


@st.composite
def dags(draw):
    """A net of exact operators over small whole numbers, with several outputs, some of which others read."""
    tensors, nodes = ["x"], []
    for index in range(draw(st.integers(2, 12))):
        op = draw(st.sampled_from((*UNARY, *BINARY, "MatMul")))
        arity = 2 if op in BINARY else 1
        reads = [draw(st.sampled_from(tensors)) for _ in range(arity)]
        nodes.append(node(op, [*reads, *(["w"] if op == "MatMul" else [])], [f"t{index}"]))
        tensors.append(f"t{index}")
    made = tensors[1:]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    return nodes, dict.fromkeys([*outputs, made[-1]])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dags(), st.data())
def test_cut_at_any_tensors_a_net_gives_the_same(run, dag, data):
    nodes, outputs = dag
    weights = [numpy_helper.from_array(np.eye(4, k=1, dtype=np.float32) - np.eye(4, dtype=np.float32), "w")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name=name) for name in outputs], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = model_from_bytes(proto.SerializeToString(), "net.onnx")
    cuts = data.draw(st.lists(st.sampled_from([n.output[0] for n in nodes]), min_size=1, max_size=3, unique=True))
    try:
        split_tensors(model, cuts, ROWS)
    except ConfigError:
        return
    check_equal(model, cuts, rows(3), run)


def test_a_real_net_cut_anywhere_gives_the_same_bits(real_model, real_feeds):
    profile = {"x": ShapeRange((1, 3, 48, 192), (1, 3, 48, 192), (4, 3, 48, 192))}
    model = portable(with_shapes(real_model("cls"), profile))

    def run(one, feeds):  # as written: fusing nodes across a cut rounds otherwise
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(one.serialize(), options, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, feeds)))

    for cuts in (["pool2d_2.tmp_0", "hardswish_12.tmp_0"], ["conv2d_56.tmp_1"], ["elementwise_add_4", "tmp_6"]):
        check_equal(model, cuts, real_feeds("cls"), run, profile)


@pytest.mark.parametrize(
    ("name", "cuts"),
    [("cls", ["elementwise_add_0", "elementwise_add_4", "elementwise_add_6"]), ("det", ["hardswish_75.tmp_0"])],
)
def test_a_real_net_cut_between_blocks_gives_the_same_bits_with_all_optimisations(
    real_model, real_feeds, run, name, cuts
):
    shape = {"cls": (3, 48, 192), "det": (3, 64, 96)}[name]
    profile = {"x": ShapeRange((1, *shape), (1, *shape), (4, *shape))}
    model = portable(with_shapes(real_model(name), profile))
    for batch in (1, 3):
        check_equal(model, cuts, real_feeds(name, batch), run, profile)


def test_a_tensor_that_shrinks_as_inputs_grow_cannot_cross(build):
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["rows"]),
        node("Concat", ["rows", "rest"], ["target"], axis=0),
        node("Reshape", ["z", "target"], ["a"]),
        node("ReduceSum", ["a"], ["b"], keepdims=0),
        node("Add", ["x", "b"], ["y"]),
    ]
    model = build(nodes, {"x": ["n", 4], "z": [24]}, {"first": np.array([0]), "rest": np.array([-1])})
    with pytest.raises(UnsupportedModelError, match=r"'a' .* its shapes \(1x24, 2x12, 8x3\) don't grow"):
        split(model, ["a"], {**ROWS, "z": ShapeRange.fixed((24,))})
