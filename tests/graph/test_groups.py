from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.groups import groups
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable

N = helper.make_node
IMAGE = {"x": ["n", 4, 8, 8]}


def ones(*shape):
    return np.ones(shape, np.float32)


def conv(source, target, weight="w", **settings):
    return N("Conv", [source, weight], [target], target, pads=[1, 1, 1, 1], **settings)


def matmul(first, second, target):
    return N("MatMul", [first, second], [target], target)


def kinds(model):
    """The kind and the nodes of each group; nodes are named like their outputs."""
    return [(group.kind, *group.nodes) for group in groups(model)]


def test_first_and_last_layers_are_found_through_light_nodes(build):
    nodes = [
        N("Relu", ["x"], ["r"]),
        conv("r", "a"),
        N("AveragePool", ["a"], ["p"], kernel_shape=[2, 2]),
        conv("p", "b"),
        N("Relu", ["b"], ["s"]),
        conv("s", "c"),
        N("Resize", ["c", "", "scales"], ["big"]),
        N("Sigmoid", ["big"], ["y"]),
    ]
    weights = {"w": ones(4, 4, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)}
    assert kinds(build(nodes, IMAGE, weights)) == [("first", "a"), ("layer", "b"), ("head", "c")]


def test_what_is_both_first_and_last_is_the_head(build):
    model = build([matmul("x", "w", "h"), N("Softmax", ["h"], ["y"])], {"x": ["n", 3]}, {"w": ones(3, 3)})
    assert kinds(model) == [("head", "h")]


def test_an_output_that_is_read_inside_too_ends_a_head(build):
    nodes = [matmul("x", "w", "a"), matmul("a", "w", "b"), matmul("b", "w", "c")]
    model = build(nodes, {"x": ["n", 3]}, {"w": ones(3, 3)}, outputs=["b", "c"])
    assert kinds(model) == [("first", "a"), ("head", "b"), ("head", "c")]


def test_the_head_of_an_embedding_lies_before_its_normalisation(build):
    nodes = [
        matmul("x", "w", "a"),
        matmul("a", "w", "e"),
        N("ReduceL2", ["e"], ["l"], axes=[1]),
        N("Div", ["e", "l"], ["y"]),
    ]
    assert kinds(build(nodes, {"x": ["n", 3]}, {"w": ones(3, 3)})) == [("first", "a"), ("head", "e")]


def test_left_out_inputs_and_outputs_connect_nothing(build):
    nodes = [
        N("LSTM", ["z", "i", "h"], ["", "state"], hidden_size=2),
        N("Clip", ["x", "", "most"], ["c"]),
        conv("c", "a"),
        conv("a", "y"),
    ]
    weights = {"w": ones(4, 4, 3, 3), "i": ones(1, 8, 3), "h": ones(1, 8, 2), "most": np.float32(6)}
    model = build(nodes, {**IMAGE, "z": [5, "n", 3]}, weights, outputs=["state", "y"])
    assert kinds(model) == [("first", "a"), ("head", "y")]


def test_whose_shape_is_read_is_no_head(build):
    nodes = [
        conv("x", "a"),
        conv("a", "b"),
        N("Shape", ["b"], ["shape"]),
        conv("b", "c"),
        N("Reshape", ["c", "shape"], ["y"]),
    ]
    model = build(nodes, {"x": ["n", 4, "h", "v"]}, {"w": ones(4, 4, 3, 3)})
    assert kinds(model) == [("first", "a"), ("layer", "b"), ("head", "c")]


def test_a_residual_add_goes_with_its_convolution_and_its_other_operand_is_residual_too(build):
    nodes = [
        conv("x", "stem"),
        conv("stem", "short"),
        conv("stem", "a"),
        N("Relu", ["a"], ["r"]),
        conv("r", "b"),
        N("Add", ["b", "short"], ["sum"], "sum"),
        conv("sum", "y"),
    ]
    model = build(nodes, IMAGE, {"w": ones(4, 4, 3, 3)})
    assert kinds(model) == [
        ("first", "stem"),
        ("residual", "short"),
        ("layer", "a"),
        ("residual", "b", "sum"),
        ("head", "y"),
    ]


def test_a_residual_ends_the_search_for_heads_but_a_skip_from_the_input_does_not(build):
    nodes = [conv("x", "a"), conv("a", "b"), N("Add", ["b", "a"], ["y"], "y"), N("Add", ["c", "x"], ["z"], "z")]
    nodes.insert(2, conv("b", "c"))
    model = build(nodes, IMAGE, {"w": ones(4, 4, 3, 3)}, outputs=["y", "z"])
    assert ("head", "c", "z") in kinds(model)
    assert ("layer", "b") in kinds(model)


@pytest.mark.parametrize(("shape", "group", "kind"), [((4, 1, 3, 3), 4, "depthwise"), ((4, 2, 3, 3), 2, "layer")])
def test_depthwise_convolutions_are_told_from_grouped_ones(build, shape, group, kind):
    nodes = [conv("x", "a"), conv("a", "b", "d", group=group), conv("b", "y")]
    model = build(nodes, IMAGE, {"w": ones(4, 4, 3, 3), "d": ones(*shape)})
    assert kinds(model)[1] == (kind, "b")


def attention(source="h", name=""):
    return [
        *[matmul(source, f"w{role}", f"{name}{role}") for role in "qkv"],
        N("Transpose", [f"{name}k"], [f"{name}kt"], perm=[0, 2, 1]),
        matmul(f"{name}q", f"{name}kt", f"{name}scores"),
        N("Mul", [f"{name}scores", "half"], [f"{name}scaled"]),
        N("Add", [f"{name}scaled", "mask"], [f"{name}masked"]),
        N("Softmax", [f"{name}masked"], [f"{name}p"]),
        matmul(f"{name}p", f"{name}v", f"{name}mixed"),
        matmul(f"{name}mixed", "wq", f"{name}o"),
        N("Add", [f"{name}o", source], [f"{name}r"]),
    ]


def test_a_transformer_has_projections_and_attention_products_in_groups(build):
    nodes = [matmul("x", "wq", "h"), *attention(), *attention("r", "2"), matmul("2r", "wq", "y")]
    weights = {**{f"w{role}": ones(6, 6) for role in "qkv"}, "half": np.float32(0.5)}
    model = build(nodes, {"x": ["n", "t", 6], "mask": ["n", 1, "t"]}, weights)
    assert kinds(model) == [
        ("first", "h"),
        ("projections", "q", "k", "v"),
        ("attention", "scores", "mixed"),
        ("layer", "o"),
        ("projections", "2q", "2k", "2v"),
        ("attention", "2scores", "2mixed"),
        ("layer", "2o"),
        ("head", "y"),
    ]


def test_in_cross_attention_the_query_stands_alone(build):
    nodes = [matmul("x", "w", "h"), matmul("z", "w", "g"), *attention()[:-1]]
    nodes[2] = matmul("g", "wq", "q")
    nodes.append(matmul("o", "w", "y"))
    weights = {"w": ones(6, 6), **{f"w{role}": ones(6, 6) for role in "qkv"}, "half": np.float32(0.5)}
    model = build(nodes, {"x": ["n", "t", 6], "z": ["n", "t", 6], "mask": ["n", 1, "t"]}, weights)
    assert kinds(model)[2:5] == [("layer", "q"), ("projections", "k", "v"), ("attention", "scores", "mixed")]


def test_a_softmax_after_no_product_of_activations_is_no_attention(build):
    nodes = [matmul("x", "w", "h"), N("Softmax", ["h"], ["p"]), matmul("p", "x", "m"), matmul("m", "w", "y")]
    model = build(nodes, {"x": ["n", 3, 3]}, {"w": ones(3, 3)})
    assert kinds(model) == [("first", "h"), ("layer", "m"), ("head", "y")]


def test_two_heads_of_one_tensor_stay_apart(build):
    model = build(
        [matmul("x", "w", "h"), matmul("h", "w", "y"), matmul("h", "w", "z")],
        {"x": ["n", 3]},
        {"w": ones(3, 3)},
        outputs=["y", "z"],
    )
    assert kinds(model) == [("first", "h"), ("head", "y"), ("head", "z")]


def test_groups_need_names_and_portable_gives_them(build):
    model = build([N("MatMul", ["x", "w"], ["a"]), N("MatMul", ["a", "w"], ["y"])], {"x": ["n", 3]}, {"w": ones(3, 3)})
    with pytest.raises(UnsupportedModelError, match="portable"):
        groups(model)
    assert [group.kind for group in groups(portable(model))] == ["first", "head"]


def test_a_model_without_products_has_no_groups(build):
    assert groups(build([N("Relu", ["x"], ["y"])], IMAGE)) == ()


def quantised_nodes(model):
    made = {output for node in model.proto.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return {node.name for node in model.proto.graph.node if made.intersection(node.input)}


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_groups_of_real_models_share_out_the_quantised_nodes(real_model, name):
    model = portable(real_model(name))
    scales = dict.fromkeys(quantizable(model), 0.1)
    every = [node for group in groups(model) for node in group.nodes]
    assert len(every) == len(set(every))
    assert set(every) == quantised_nodes(insert_qdq(model, scales))
    third = groups(model)[2]
    rest = insert_qdq(model, scales, frozenset(third.nodes))
    assert quantised_nodes(rest) == set(every) - set(third.nodes)


def test_real_transformers_have_their_attention_found(real_model):
    found = {name: [group.kind for group in groups(portable(real_model(name)))] for name in ("rec", "minilm")}
    assert {name: kinds.count("attention") for name, kinds in found.items()} == {"rec": 2, "minilm": 3}
    assert found["minilm"].count("projections") == 2
    assert found["minilm"][0] == "first"
    assert found["rec"][-1] == "head"
