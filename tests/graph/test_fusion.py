from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_runtime.errors import ModelError
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.fusion import ExecutedNode, fused_nodes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq

N = helper.make_node
REAL = ["cls", "det", "rec", "magika", "minilm"]
LAYOUT = {"ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Cast", "QuantizeLinear", "DequantizeLinear"}
UNUSED = {"Shape", "Size", "Slice", "Concat", "Neg", "Reciprocal", "ConstantOfShape"}  # steps that 1.19 leaves in FP16
STEPS = {"Softmax", "Identity", "Clip", "LayerNormalization"}  # that some versions run as several nodes


@pytest.fixture
def optimised(tmp_path):
    """A function that gives a model's bytes as ONNX Runtime runs them."""

    def executed(data):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "executed.onnx")
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return (tmp_path / "executed.onnx").read_bytes()

    return executed


@pytest.fixture
def plan(real_model, real_feeds, max_scales):
    """A function that gives a real model as a plan of a precision."""

    def make(name, precision):
        model = portable(real_model(name))
        if precision == "int8":
            return fold_weights(insert_qdq(model, max_scales(model, real_feeds(name))))
        return to_fp16(model, {}) if precision == "fp16" else model

    return make


def proto_bytes(nodes, inputs, weights=(), output="y"):
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    tensors = [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights]
    graph = helper.make_graph(nodes, "net", floats, made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", REAL)
def test_every_executed_node_of_a_real_plan_is_traced_and_no_other_claims_the_same(plan, optimised, name, precision):
    data = plan(name, precision).serialize()
    found = fused_nodes(data, optimised(data))
    assert {node.kind for node in found if not node.nodes} <= LAYOUT | (UNUSED if precision == "fp16" else set())
    kinds = {node.name: node.op_type for node in onnx.load_from_string(data).graph.node}
    claims = Counter(each for node in found for each in node.nodes)
    assert set(claims) <= set(kinds)
    assert {kinds[each] for each, count in claims.items() if count > 1} <= {*STEPS, "DequantizeLinear"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", REAL)
def test_a_fused_product_holds_one_product(plan, optimised, name, precision):
    data = plan(name, precision).serialize()
    kinds = {node.name: node.op_type for node in onnx.load_from_string(data).graph.node}
    products = ("Conv", "ConvTranspose", "MatMul", "Gemm")
    fused = [node for node in fused_nodes(data, optimised(data)) if any(kind in node.kind for kind in products)]
    held = [[name for name in node.nodes if kinds[name] in products] for node in fused]
    assert {len(names) for names in held} == {1}
    assert sorted(name for (name,) in held) == sorted(name for name, kind in kinds.items() if kind in products)


def test_what_one_node_computes_is_named_in_the_models_order(optimised):
    nodes = [N("Gemm", ["x", "w"], ["h"], name="product"), N("Relu", ["h"], ["y"], name="rectified")]
    data = proto_bytes(nodes, {"x": (2, 3)}, [("w", (3, 4))])
    (node,) = fused_nodes(data, optimised(data))
    assert node.nodes == ("product", "rectified")


def test_an_operator_that_is_run_in_steps_is_each_steps_node(optimised):
    data = proto_bytes([N("HardSwish", ["x"], ["y"], name="swish")], {"x": (2, 3)})
    steps = fused_nodes(data, optimised(data))
    assert len(steps) > 1
    assert {step.nodes for step in steps} == {("swish",)}


def test_a_node_without_a_name_goes_by_its_output():
    data = proto_bytes([N("Relu", ["x"], ["y"])], {"x": (2, 3)})
    assert fused_nodes(data, data) == (ExecutedNode("", "Relu", ("node_of_y",)),)


def test_a_changed_layout_stems_from_no_node():
    data = proto_bytes([N("Relu", ["x"], ["h"], name="a"), N("Exp", ["h"], ["y"], name="b")], {"x": (2, 3)})
    turned = [
        N("Transpose", ["x"], ["t"], name="before"),
        N("Relu", ["t"], ["h_turned"], name="a"),
        N("Transpose", ["h_turned"], ["h"], name="after"),
        N("Exp", ["h"], ["y"], name="b"),
    ]
    found = fused_nodes(data, proto_bytes(turned, {"x": (2, 3)}))
    assert [node.nodes for node in found] == [(), ("a",), (), ("b",)]


def test_a_node_with_a_subgraph_is_traced_through_what_that_reads(optimised):
    yes = helper.make_graph([N("Exp", ["h"], ["e"])], "yes", [], [helper.make_tensor_value_info("e", 1, (2, 3))])
    no = helper.make_graph([N("Neg", ["h"], ["n"])], "no", [], [helper.make_tensor_value_info("n", 1, (2, 3))])
    nodes = [
        N("Abs", ["x"], ["h"], name="before"),
        N("ReduceMax", ["x"], ["m"], name="largest", keepdims=0),
        N("Cast", ["m"], ["c"], name="chosen", to=TensorProto.BOOL),
        N("If", ["c"], ["y"], name="branch", then_branch=yes, else_branch=no),
    ]
    data = proto_bytes(nodes, {"x": (2, 3)})
    assert {node.kind: node.nodes for node in fused_nodes(data, optimised(data))}["If"] == ("branch",)


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(ModelError, match="the optimised graph"):
        fused_nodes(proto_bytes([N("Relu", ["x"], ["y"])], {"x": (2,)}), b"garbage")
