from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import EdgeRuntimeError, ModelError, UnsupportedModelError
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.model import load_model, model_from_bytes, source_digest
from edge_runtime.graph.plugins import without_plugins
from edge_runtime.graph.portable import portable
from edge_runtime.tensors import DType

RELU = helper.make_node("Relu", ["x"], ["y"], "relu")


def value(name, shape=(1,), element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def assert_refused(proto, kind, *words):
    with pytest.raises(kind) as caught:
        model_from_bytes(proto.SerializeToString(), "net.onnx")
    assert type(caught.value) is kind
    for word in ("net.onnx", *words):
        assert word in str(caught.value)


def test_specs_tell_names_types_shapes_and_axes(build):
    model = build([RELU], {"x": ["n", 3, "h", "w"]})
    assert [(spec.name, spec.dtype, spec.shape, spec.axes) for spec in (*model.inputs, *model.outputs)] == [
        ("x", DType.FP32, (-1, 3, -1, -1), ("batch", "", "h", "w")),
        ("y", DType.FP32, (-1, 3, -1, -1), ("batch", "", "h", "w")),
    ]
    assert (model.opset, model.ir_version, model.name, model.node_names) == (13, 8, "net.onnx", {"relu"})


def test_serialized_model_loads_again_with_the_same_specs(build):
    model = build([RELU], {"x": ["n", "?", "?"]})
    again = model_from_bytes(model.serialize(), "again")
    assert (again.inputs, again.outputs) == (model.inputs, model.outputs)


def test_file_and_digest_agree_with_source_digest(tmp_path, proto):
    path = tmp_path / "a.onnx"
    path.write_bytes(proto([RELU], {"x": [1]}).SerializeToString())
    model = load_model(path)
    assert model.files == (("a.onnx", hashlib.sha256(path.read_bytes()).hexdigest()),)
    assert source_digest(path) == (model.digest, model.files)


@pytest.mark.parametrize("element", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL])
def test_inputs_of_every_plain_type_are_taken(build, element):
    model = build([helper.make_node("Identity", ["x"], ["y"])], [value("x", [2], element)])
    assert model.inputs[0].dtype == model.outputs[0].dtype


@pytest.mark.parametrize("content", [b"", b"text, not protobuf", b"\x00" * 64, bytes(range(256))])
def test_files_that_are_no_onnx_are_refused_by_path(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    for read in (load_model, source_digest):
        with pytest.raises(ModelError, match=r"bad\.onnx"):
            read(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(ModelError):
            load_model(path)


def test_every_truncation_is_refused(proto):
    data = proto([RELU], {"x": [1]}, {"w": np.ones(4, np.float32)}).SerializeToString()
    for end in range(len(data)):
        with pytest.raises(ModelError):
            model_from_bytes(data[:end], "net.onnx")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(edits=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_bytes_raise_nothing_but_our_own_errors(edits):
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    product = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph([product], "net", [value("x", ["n", 2])], [value("y", ["n", 2])], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data = bytearray(model.SerializeToString())
    for place, byte in edits:
        data[place % len(data)] = byte
    with contextlib.suppress(EdgeRuntimeError):
        to_fp16(portable(model_from_bytes(bytes(data), "net.onnx")))


def test_graph_without_outputs_is_refused(proto):
    assert_refused(proto([RELU], {"x": [1]}, outputs=[]), ModelError, "no outputs")


def test_graph_without_inputs_is_unsupported(proto):
    constant = helper.make_node("Constant", [], ["y"], value_float=1.0)
    assert_refused(proto([constant], {}), UnsupportedModelError, "no inputs")


def test_unknown_domain_is_named(proto):
    node = helper.make_node("FancyOp", ["x"], ["y"], "fancy", domain="com.acme")
    model = proto([node], {"x": [1]})
    model.opset_import.add(domain="com.acme", version=1)
    assert_refused(model, UnsupportedModelError, "FancyOp", "com.acme", "fancy")


def encoder(op_type="LabelEncoder"):
    table = {"keys_strings": ["a"], "values_int64s": [1]}
    return helper.make_node(op_type, ["x"], ["y"], "e", domain="ai.onnx.ml", **table)


def test_onnxs_own_operators_of_machine_learning_are_no_plugins(proto):
    raw = proto([encoder()], [value("x", ["n"], TensorProto.STRING)])
    raw.opset_import.add(domain="ai.onnx.ml", version=2)
    model = model_from_bytes(raw.SerializeToString(), "net.onnx")
    assert (model.plugin_nodes, without_plugins(model)) == (frozenset(), model)
    assert [spec.dtype for spec in (*model.inputs, *model.outputs)] == [DType.BYTES, DType.INT64]
    assert {entry.domain for entry in portable(model).proto.opset_import} == {"", "ai.onnx.ml"}


def test_an_unknown_operator_of_machine_learning_is_named(proto):
    raw = proto([encoder("Oracle")], [value("x", ["n"], TensorProto.STRING)])
    raw.opset_import.add(domain="ai.onnx.ml", version=2)
    assert_refused(raw, UnsupportedModelError, "'Oracle'", "'ai.onnx.ml'")


def test_unused_foreign_domain_and_long_standard_name_are_taken(proto):
    model = proto([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")], {"x": [1]})
    model.opset_import[0].domain = "ai.onnx"
    model.opset_import.add(domain="ai.onnx.ml", version=2)
    assert model_from_bytes(model.SerializeToString(), "net.onnx").opset == 13


def test_unknown_operator_of_the_standard_domain_is_named(proto):
    assert_refused(
        proto([helper.make_node("Frobnicate", ["x"], ["y"])], {"x": [1]}), UnsupportedModelError, "Frobnicate"
    )


def test_opset_and_ir_newer_than_the_library_are_unsupported(proto):
    assert_refused(proto([RELU], {"x": [1]}, opset=99), UnsupportedModelError, "opset 99")
    assert_refused(proto([RELU], {"x": [1]}, ir_version=99), UnsupportedModelError, "IR version 99")


def test_missing_and_doubled_opset_are_refused(proto):
    model = proto([RELU], {"x": [1]})
    model.opset_import.add(domain="ai.onnx", version=12)
    assert_refused(model, ModelError, "[13, 12]")
    del model.opset_import[:]
    assert_refused(model, ModelError, "[]")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Relu", ["ghost"], ["y"])], ["'ghost'", "nothing"]),
        ([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), RELU], ["'b'", "cycle"]),
        ([RELU, helper.make_node("Relu", ["x"], ["y"], "second")], ["'y'", "twice", "second"]),
        ([helper.make_node("Relu", ["x"], ["x"])], ["'x'", "twice"]),
        ([helper.make_node("Relu", ["x"], ["z"])], ["'y'", "nothing"]),
    ],
)
def test_broken_wiring_is_told_by_tensor(proto, nodes, words):
    assert_refused(proto(nodes, {"x": [1]}), ModelError, *words)


def test_two_outputs_of_one_name_are_refused(proto):
    assert_refused(proto([RELU], {"x": [1]}, outputs=("y", "y")), ModelError, "two graph outputs", "'y'")


def test_wiring_of_subgraphs_is_checked(proto):
    branch = helper.make_graph([helper.make_node("Relu", ["ghost"], ["r"])], "branch", [], [value("r")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert_refused(proto([node], [value("c", [], TensorProto.BOOL)]), ModelError, "'ghost'")


def test_names_that_are_no_text_are_refused(proto):
    data = proto([RELU], {"x": [1]}).SerializeToString().replace(b"relu", b"\xff\xfe\xff\xfe")
    with pytest.raises(ModelError, match="UTF-8"):
        model_from_bytes(data, "net.onnx")


@pytest.mark.parametrize("element", [TensorProto.FLOAT8E4M3FN, TensorProto.COMPLEX64])
def test_types_without_an_engine_are_unsupported_by_name(proto, element):
    model = proto([helper.make_node("Identity", ["text"], ["y"])], [value("text", [1], element)])
    assert_refused(model, UnsupportedModelError, "'text'", TensorProto.DataType.Name(element))


def test_sequence_input_and_output_are_unsupported_by_name(proto):
    sequence = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    model = proto([helper.make_node("SequenceLength", ["parts"], ["y"])], [sequence])
    assert_refused(model, UnsupportedModelError, "input 'parts'", "sequence")
    split = helper.make_node("SequenceConstruct", ["x"], ["y"])
    assert_refused(proto([split], {"x": [1]}), UnsupportedModelError, "output 'y'", "sequence")


def test_input_without_rank_is_unsupported_by_name(proto):
    assert_refused(proto([RELU], [value("x", None)]), UnsupportedModelError, "'x'", "shape")


def test_initializers_that_are_inputs_too_are_constants(build):
    add = helper.make_node("Add", ["x", "w"], ["y"])
    model = build([add], {"x": [2], "w": [2]}, {"w": np.ones(2, np.float32)}, ir_version=3, opset=7)
    assert [spec.name for spec in model.inputs] == ["x"]


def test_output_of_another_type_than_declared_is_refused(proto):
    model = proto([RELU], {"x": [1]}, outputs=[value("y", [1], TensorProto.INT64)])
    assert_refused(model, ModelError, "'y'", "INT64", "FLOAT")


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ([1, 3], (-1, 3)),  # stale: the batch was made dynamic later
        (["n", 7], (-1, -1)),  # contradicts what follows from the input
        ([None, None], (-1, 3)),
    ],
)
def test_output_shape_follows_the_graph_not_the_file(build, declared, shape):
    model = build([RELU], {"x": ["n", 3]}, outputs=[value("y", declared)])
    assert model.outputs[0].shape == shape


def test_raw_data_of_another_size_than_the_shape_is_refused(proto):
    model = proto([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2]}, {"w": np.ones(2, np.float32)})
    model.graph.initializer[0].dims[0] = 3
    assert_refused(model, ModelError, "'w'", "expected 12")
    model.graph.initializer[0].dims[0] = -2
    assert_refused(model, ModelError, "'w'")


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_another_number_of_values_than_the_shape_says_is_refused(proto, count):
    model = proto([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2]})
    model.graph.initializer.add(name="w", dims=[2], data_type=TensorProto.FLOAT, float_data=[1.0] * count)
    assert_refused(model, ModelError, "'w'", f"{4 * count} bytes, expected 8")


@pytest.mark.parametrize("size", [2, 2000])
def test_values_in_two_fields_and_segments_are_refused(proto, size):
    model = proto([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [size]}, {"w": np.ones(size, np.float32)})
    tensor = model.graph.initializer[0]
    tensor.segment.end = size
    assert_refused(model, UnsupportedModelError, "'w'", "segment")
    tensor.ClearField("segment")
    tensor.float_data.extend([1.0] * size)
    assert_refused(model, ModelError, "'w'", f"{8 * size} bytes, expected {4 * size}")


def test_sparse_weights_are_unsupported(proto):
    model = proto([RELU], {"x": [1]})
    model.graph.sparse_initializer.add().values.name = "s"
    assert_refused(model, UnsupportedModelError, "sparse")


def test_a_broken_node_is_told_even_if_the_output_has_no_type(proto):
    node = helper.make_node("TopK", ["x", "x"], ["y", "i"])
    assert_refused(proto([node], {"x": [4]}, opset=9), ModelError, "TopK")


def test_shapes_that_contradict_each_other_are_told(proto):
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    assert_refused(proto([conv], {"x": ["n", 2, 8]}, {"w": np.ones((2, 2, 3, 3), np.float32)}), ModelError, "Conv")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert_refused(proto([product], {"x": ["n", 2]}, {"w": np.ones((3, 3), np.float32)}), ModelError, "MatMul")


def test_wrong_attribute_is_refused_in_the_checkers_words(proto):
    assert_refused(proto([helper.make_node("Relu", ["x"], ["y"], speed=3)], {"x": [1]}), ModelError, "speed")


def test_own_functions_are_inlined(proto):
    double = helper.make_function(
        "own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    model = proto([helper.make_node("Double", ["x"], ["y"], domain="own")], {"x": [2]})
    model.opset_import.add(domain="own", version=1)
    model.functions.append(double)
    assert [node.op_type for node in model_from_bytes(model.SerializeToString(), "net.onnx").proto.graph.node] == [
        "Add"
    ]
    model.functions[0].node[0].CopyFrom(helper.make_node("Double", ["a"], ["b"], domain="own"))
    assert_refused(model, ModelError, "circle")


def test_loading_changes_nothing_in_the_answers(real_path, real_feeds, run):
    path, feeds = real_path("magika"), real_feeds("magika")
    expected = run(path.read_bytes(), feeds)
    for name, answer in run(load_model(path), feeds).items():
        np.testing.assert_array_equal(answer, expected[name])


@pytest.mark.parametrize("nodes", [6000])
def test_long_graphs_load_in_reasonable_time(build, nodes):
    chain = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(nodes)]
    assert build(chain, {"t0": ["n", 4]}, outputs=[f"t{nodes}"]).outputs[0].shape == (-1, 4)


def test_model_over_two_gib_is_unsupported(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(UnsupportedModelError, match="2 GiB"):
        load_model(path)


def test_version_of_onnx_is_in_the_message_about_opsets(proto):
    assert_refused(proto([RELU], {"x": [1]}, opset=99), UnsupportedModelError, onnx.__version__)


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_convolution_by_a_weight_without_spatial_axes_is_refused(proto, op_type, rank):
    node = helper.make_node(op_type, ["x", "w"], ["y"], "odd")
    net = proto([node], {"x": ["n", 3, 4, 4]}, {"w": np.ones((3,) * rank, np.float32)})
    assert_refused(net, ModelError, "'odd", f"rank {rank}", "expected 3 or more")


@pytest.mark.parametrize(("depth", "is_fine"), [(12, True), (13, False), (20, False)])
def test_subgraphs_nested_too_deep_are_refused(proto, depth, is_fine):
    branch = leaf()
    for level in range(depth):
        node = helper.make_node("If", ["c"], ["y"], f"if{level}", then_branch=branch, else_branch=leaf())
        branch = helper.make_graph([node], f"level{level}", [], [value("y", None)])
    net = proto([node], [value("x"), value("c", (), TensorProto.BOOL)])
    if is_fine:
        model_from_bytes(net.SerializeToString(), "net.onnx")
    else:
        with pytest.raises(UnsupportedModelError, match="nested more than 12 deep"):
            model_from_bytes(net.SerializeToString(), "net.onnx")


def leaf():
    return helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "leaf", [], [value("y", None)])


def test_a_vector_of_two_to_the_forty_is_no_reason_to_fill_the_memory(build):
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    model = build([cast], [value("x", (2**40,), TensorProto.INT64)])
    assert model.outputs[0].shape == (2**40,)
