from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.builder.tensorrt.network import ParserProblem, _node_of, _problem

NODES = frozenset({"/head/MatMul", "/head/MatMul_1", "fc", "conv 1"})


@pytest.mark.parametrize(
    ("layer", "node"),
    [
        ({"name": "fc"}, "fc"),
        ({"name": "fc_0"}, "fc"),
        ({"name": "/head/MatMul_1", "metadata": "[ONNX Layer: /head/MatMul_1]"}, "/head/MatMul_1"),
        ({"name": "/head/MatMul_1"}, "/head/MatMul_1"),
        ({"name": "ONNXTRT_Broadcast", "metadata": "[ONNX Layer: fc]"}, "fc"),
        ({"name": "(Unnamed Layer* 3) [Shuffle]", "metadata": ""}, ""),
        ({"name": "ONNXTRT_Broadcast_7"}, ""),
        ({"name": "conv 1"}, "conv 1"),
    ],
)
def test_a_layer_belongs_to_the_node_of_its_name_or_of_its_metadata(layer: Any, node: str) -> None:
    assert _node_of(SimpleNamespace(**layer), NODES) == node


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("false", "isn't supported by TensorRT's parser"),
        ("", "isn't supported by TensorRT's parser"),
        ("Plugin not found, is it there?", "Plugin not found, is it there?; name its library in [backend] plugins"),
        ("Axis is 9", "Axis is 9"),
    ],
)
def test_what_the_parser_says_gets_its_remedy(said: str, text: str) -> None:
    code = SimpleNamespace(name="UNSUPPORTED_NODE")
    error = SimpleNamespace(desc=lambda: said, code=lambda: code, node=lambda: 1)
    assert _problem(error).text == text


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (ParserProblem("c", "bad", 3, "n", "Foo"), "node n (Foo): bad"),
        (ParserProblem("c", "bad", 3), "node 3: bad"),
        (ParserProblem("c", "bad"), "bad"),
    ],
)
def test_a_problem_names_its_node_as_far_as_the_parser_does(problem: ParserProblem, line: str) -> None:
    assert problem.line == line
