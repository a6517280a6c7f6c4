from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.model import OnnxModel, load_model
from edge_runtime.graph.plugins import without_plugins
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.tensors import ShapeRange

OPS = ["EfficientNMS_TRT", "Swish_TRT"]
BATCH = {"x": ShapeRange((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))}


def detector(domain: str) -> bytes:
    """x f32[n, 3, 8, 8] -> boxes and scores -> EfficientNMS_TRT, and a plain output beside it."""
    weights = {
        "w": np.ones((4, 3, 1, 1), np.float32),
        "v": np.ones((2, 3, 1, 1), np.float32),
        "flat": np.array([0, 64, 4]),
        "flat2": np.array([0, 64, 2]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="box"),
        helper.make_node("Reshape", ["c", "flat"], ["boxes"], name="boxes"),
        helper.make_node("Conv", ["x", "v"], ["d"], name="score"),
        helper.make_node("Reshape", ["d", "flat2"], ["logits"], name="logits"),
        helper.make_node("Sigmoid", ["logits"], ["scores"], name="scores"),
        helper.make_node(
            "EfficientNMS_TRT",
            ["boxes", "scores"],
            ["num", "det", "conf", "cls"],
            name="nms",
            domain=domain,
            max_output_boxes=10,
            plugin_version="1",
        ),
        helper.make_node("Mul", ["conf", "conf"], ["confidence"], name="after"),
    ]
    values = {"num": (TensorProto.INT32, ["n", 1]), "det": (TensorProto.FLOAT, ["n", 10, 4])}
    values.update({"confidence": (TensorProto.FLOAT, ["n", 10]), "logits": (TensorProto.FLOAT, ["n", 64, 2])})
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(name, *what) for name, what in values.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture(params=["", "TRT", "my.company"])
def model(request: Any, tmp_path: Path) -> OnnxModel:
    (tmp_path / "m.onnx").write_bytes(detector(request.param))
    return portable(with_shapes(load_model(tmp_path / "m.onnx", OPS), BATCH))


def test_an_operator_of_a_plugin_passes_only_where_it_is_named(tmp_path: Path) -> None:
    for domain in ("", "TRT"):
        (tmp_path / "m.onnx").write_bytes(detector(domain))
        with pytest.raises(UnsupportedModelError, match=r"EfficientNMS_TRT.*nms.*\[backend\] plugin_ops"):
            load_model(tmp_path / "m.onnx", ["Swish_TRT"])


def test_it_keeps_its_attributes_and_tensors(model: OnnxModel) -> None:
    (node,) = [node for node in model.proto.graph.node if node.op_type == "EfficientNMS_TRT"]
    assert model.plugin_nodes == {"nms"}
    assert [attribute.name for attribute in node.attribute] == ["max_output_boxes", "plugin_version"]
    assert [spec.name for spec in model.outputs] == ["num", "det", "confidence", "logits"]
    assert {entry.domain for entry in model.proto.opset_import} == {"", node.domain}


def test_the_standard_part_ends_before_the_plugin(model: OnnxModel) -> None:
    part = without_plugins(model)
    assert not part.plugin_nodes
    assert [spec.name for spec in part.outputs] == ["logits", "boxes", "scores"]
    assert without_plugins(part) is part
    assert quantizable(part) == quantizable(model) == ("x",)


def test_it_goes_through_every_precision(model: OnnxModel) -> None:
    half = to_fp16(model)
    quantised = insert_qdq(model, {"x": 0.1})
    for each in (half, quantised, to_fp16(quantised)):
        (node,) = [node for node in each.proto.graph.node if node.op_type == "EfficientNMS_TRT"]
        assert list(node.output)[:2] == ["num", "det"]
        assert _types(each, list(node.input)) == (TensorProto.FLOAT, TensorProto.FLOAT)


def _types(model: OnnxModel, names: List[str]) -> Tuple[int, ...]:
    from edge_runtime.graph.inference import tensor_types

    types = tensor_types(model.proto)
    return tuple(types[name].tensor_type.elem_type for name in names)


def test_a_model_of_plugins_alone_has_no_part_to_run(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Swish_TRT", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModelError, match="nothing can be run before its plugins"):
        without_plugins(load_model(tmp_path / "m.onnx", OPS))
