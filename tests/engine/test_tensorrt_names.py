"""Names of layers in the forms that TensorRT 8.2 to 11 gives them; the graphs are made up."""

from __future__ import annotations

import pytest

from edge_runtime.engine.tensorrt_names import NodeNames

GRAPH = [
    "/stem/Conv",
    "/stem/Relu",
    "a",
    "a + b",
    "f(x), g",
    "/m.0/Sigmoid",
    "/m.0/Mul",
    "add_2",
    "Relu_2",
    "/head/Gemm",
]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("/stem/Conv", ["/stem/Conv"]),
        ("/stem/Conv + /stem/Relu", ["/stem/Conv", "/stem/Relu"]),
        ("PWN(PWN(/m.0/Sigmoid), /m.0/Mul)", ["/m.0/Sigmoid", "/m.0/Mul"]),
        ("PWN(PWN(PWN(/m.0/Sigmoid), PWN(/m.0/Mul)), PWN(add_2))", ["/m.0/Sigmoid", "/m.0/Mul", "add_2"]),
        ("/stem/Conv + PWN(PWN(/m.0/Sigmoid), PWN(/m.0/Mul))", ["/stem/Conv", "/m.0/Sigmoid", "/m.0/Mul"]),
        ("/stem/Conv + /stem/Relu || /head/Gemm", ["/stem/Conv", "/stem/Relu", "/head/Gemm"]),
        (
            "w/read:0 + (Unnamed Layer* 14) [Shuffle] + unsqueeze_node_after_w/read:0 + add_2 + Relu_2",
            ["add_2", "Relu_2"],
        ),
        ("/head/Gemm_myl0_3", ["/head/Gemm"]),
        ("/m_0/Mul_myl109_5", ["/m.0/Mul"]),
        ("SLICE: add_2", ["add_2"]),
        ("a + b + a", ["a + b", "a"]),
        ("PWN(f(x), g, add_2)", ["f(x), g", "add_2"]),
        ("__myl_MulMaxSubExpSum_myl109_3", []),
        ("(Unnamed Layer* 3) [Shuffle]", []),
        ("copied_squeeze_after_add_2", []),
        ("[trainStation1]", []),
        ("Reformatting CopyNode for Input Tensor 0 to /stem/Conv + /stem/Relu", []),
        ("Reformatting CopyNode for Output Tensor 0 to {ForeignNode[a.../head/Gemm]}", []),
        ("/stem/Conv + /stem/Relu input reformatter 0", []),
        ("not in the graph + neither", []),
        ("", []),
    ],
)
def test_known_nodes_are_found_in_a_layers_name(layer: str, expected: list[str]) -> None:
    assert NodeNames(GRAPH).of_layers([(layer, "")]) == [tuple(expected)]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("[ONNX Layer: /stem/Conv]", ["/stem/Conv"]),
        ("[ONNX Layer: /stem/Conv]\x1e[ONNX Layer: /stem/Relu]", ["/stem/Conv", "/stem/Relu"]),
        ("[ONNX Layer: /stem/Conv]\x1f[ONNX Layer: /stem/Relu]", ["/stem/Conv", "/stem/Relu"]),
        ("[ONNX Layer: a][ONNX Layer: add_2][ONNX Layer: a]", ["a", "add_2"]),
        ("[ONNX Layer: w[0]] and]", ["w[0]] and"]),
    ],
)
def test_metadata_says_more_than_the_name(metadata: str, expected: list[str]) -> None:
    assert NodeNames(GRAPH).of_layers([("__myl_Fused_myl0_1", metadata)]) == [tuple(expected)]


def test_a_range_holds_the_nodes_in_between_that_no_other_layer_names() -> None:
    layers = [("/stem/Conv + /stem/Relu", ""), ("{ForeignNode[/stem/Conv.../m.0/Mul]}", ""), ("add_2", "")]
    found = NodeNames(GRAPH).of_layers(layers)
    assert found[1] == ("a", "a + b", "f(x), g", "/m.0/Sigmoid", "/m.0/Mul")


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("{ForeignNode[add_2]}", ("add_2",)),
        ("{ForeignNode[w[Constant].../head/Gemm]}", ("/head/Gemm",)),
        ("{ForeignNode[/head/Gemm...a]}", ("/head/Gemm", "a")),
        ("{ForeignNode[w...v]}", ()),
    ],
)
def test_a_range_with_unknown_ends_has_those_that_are_known(layer: str, expected: tuple[str, ...]) -> None:
    assert NodeNames(GRAPH).of_layers([(layer, "")]) == [expected]


def test_names_with_dots_at_the_ends_of_a_range_are_told_apart() -> None:
    names = NodeNames(["x.", "y", ".z"])
    assert names.of_layers([("{ForeignNode[x.....z]}", "")]) == [("x.", "y", ".z")]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv1 + relu1", ("conv1", "relu1")),
        ("PWN(PWN(sig), f(x))", ("sig", "f(x)")),
        ("conv1 || conv2 + (Unnamed Layer* 3) [Shuffle]", ("conv1", "conv2")),
        ("gemm_myl0_3", ("gemm",)),
        ("__myl_Mul_myl0_1", ()),
        ("{ForeignNode[first...last]}", ("first", "last")),
        ("copied_squeeze_after_add_3", ()),
        ("[HostToDeviceCopy 0]", ()),
    ],
)
def test_without_the_graph_a_name_is_taken_apart(layer: str, expected: tuple[str, ...]) -> None:
    assert NodeNames([]).of_layers([(layer, "")]) == [expected]
