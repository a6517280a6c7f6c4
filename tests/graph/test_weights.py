from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph import check, weights
from edge_runtime.graph.model import load_model, model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.weights import WEIGHTS_FILE, weights_apart
from edge_runtime.tensors import ShapeRange

N = helper.make_node
LIMIT = 9000
FEED = {"x": np.linspace(-1, 1, 80, dtype=np.float32).reshape(2, 40)}


@pytest.fixture
def low_limit(monkeypatch):
    """Messages of more than 9000 bytes count as over 2 GiB."""
    monkeypatch.setattr(weights, "LIMIT_NBYTES", LIMIT)


@pytest.fixture
def products(proto):
    """y = x @ a @ b + c, its weights 25 kB."""
    rng = np.random.default_rng(0)
    nodes = [N("MatMul", ["x", "a"], ["h"]), N("MatMul", ["h", "b"], ["p"]), N("Add", ["p", "c"], ["y"])]
    given = {name: rng.normal(size=(40, 80)[::step]).astype(np.float32) for name, step in (("a", 1), ("b", -1))}
    return proto(nodes, {"x": ["n", 40]}, {**given, "c": np.ones(40, np.float32)})


@pytest.fixture
def write(tmp_path):
    """A function that writes a model's files into an empty folder and returns the path of the first."""

    def written(files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else b"".join(content))
        return tmp_path / "model.onnx"

    return written


def test_a_model_that_fits_is_one_file(products):
    model = model_from_bytes(products.SerializeToString(), "net.onnx")
    assert model.to_files() == {"model.onnx": model.serialize()}


def test_a_larger_model_has_its_weights_on_pages_of_a_second_file(products, write, low_limit):
    model = model_from_bytes(products.SerializeToString(), "net.onnx")
    with pytest.raises(UnsupportedModelError, match="over 2 GiB"):
        model.serialize()
    path = write(model.to_files())
    onnx.checker.check_model(str(path))
    places = weights_apart(path.read_bytes(), "net.onnx")
    assert [(place.name, place.offset, place.nbytes) for place in places] == [("a", 0, 12800), ("b", 16384, 12800)]
    assert path.with_name(WEIGHTS_FILE).stat().st_size == 16384 + 12800
    assert len(path.read_bytes()) < 1000


def test_what_was_written_in_two_files_loads_as_it_was(products, write, low_limit, run, tmp_path, monkeypatch):
    model = load_model(write(model_from_bytes(products.SerializeToString(), "net.onnx").to_files()))
    assert [name for name, _ in model.files] == ["model.onnx", WEIGHTS_FILE]
    chunks = model.to_files()[WEIGHTS_FILE]
    assert b"".join(chunks) == b"".join(chunks) == (tmp_path / WEIGHTS_FILE).read_bytes()
    monkeypatch.undo()
    np.testing.assert_array_equal(run(model, FEED)["y"], run(products.SerializeToString(), FEED)["y"])


@pytest.mark.tensorrt
def test_tensorrt_reads_both_files(products, write, low_limit):
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 only")
    path = write(model_from_bytes(products.SerializeToString(), "net.onnx").to_files())
    logger = trt.Logger(trt.ILogger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path))
    products = [network.get_layer(index).type for index in range(network.num_layers)]
    assert products.count(trt.LayerType.MATRIX_MULTIPLY) == 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    element=st.sampled_from(sorted(weights.DTYPES)),
    shapes=st.lists(st.sampled_from([(), (3,), (1024,), (1025,), (40, 40), (0, 9), (2, 1, 600)]), max_size=4),
)
def test_every_plain_type_and_shape_survives_the_two_files(element, shapes):
    dtype = weights.DTYPES[element].numpy
    model = onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="net"))
    for index, shape in enumerate([*shapes, (2000,)]):
        values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(values, f"w{index}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "LIMIT_NBYTES", model.ByteSize() - 1)
        files = weights.files_of(model, "net.onnx")
    data = b"".join(files[WEIGHTS_FILE])
    for place in weights_apart(files["model.onnx"], "net.onnx"):
        values = np.frombuffer(data, place.dtype.numpy, int(np.prod(place.shape)), place.offset).reshape(place.shape)
        np.testing.assert_array_equal(values, numpy_helper.to_array(model.graph.initializer[int(place.name[1:])]))


def test_values_outside_of_raw_data_get_into_the_file_too(low_limit):
    model = onnx.ModelProto()
    model.graph.initializer.add(name="w", dims=[3000], data_type=TensorProto.FLOAT, float_data=range(3000))
    files = weights.files_of(model, "net.onnx")
    np.testing.assert_array_equal(np.frombuffer(b"".join(files[WEIGHTS_FILE]), np.float32), range(3000))


def test_a_part_has_files_of_its_own(low_limit):
    model = onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="net"))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(3000, dtype=np.float32), "w"))
    files = weights.files_of(model, "net.onnx", "model.2.onnx")
    assert list(files) == ["model.2.onnx", "model.2.onnx.data"]
    (place,) = weights_apart(files["model.2.onnx"], "net.onnx")
    assert (place.name, place.shape) == ("w", (3000,))


def test_tensors_of_types_without_arrays_stay_inside(products, low_limit):
    odd = products.graph.initializer.add(name="odd", dims=[1100], data_type=TensorProto.BFLOAT16, raw_data=bytes(2200))
    files = weights.files_of(products, "net.onnx")
    assert odd in list(onnx.ModelProto.FromString(files["model.onnx"]).graph.initializer)
    assert [place.name for place in weights_apart(files["model.onnx"], "net.onnx")] == ["a", "b"]


def test_a_model_too_large_without_its_weights_is_unsupported(products, low_limit):
    products.doc_string = "x" * LIMIT
    with pytest.raises(UnsupportedModelError, match="besides its weights"):
        weights.files_of(products, "net.onnx")


def test_weights_that_only_nodes_or_subgraphs_hold_are_unsupported(products, monkeypatch):
    model_from_bytes(products.SerializeToString(), "net.onnx")
    monkeypatch.setattr(check, "LIMIT_NBYTES", LIMIT)
    model_from_bytes(products.SerializeToString(), "net.onnx")
    products.graph.node.add(op_type="Constant", output=["k"]).attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR, t=numpy_helper.from_array(np.zeros(LIMIT + 1, np.int8))
    )
    with pytest.raises(UnsupportedModelError, match="initializers of the main graph"):
        model_from_bytes(products.SerializeToString(), "net.onnx")


def test_no_library_is_given_the_weights(products, monkeypatch):
    sizes = []

    def watched(library, name):
        function = getattr(library, name)

        def call(model, *args, **kwargs):
            sizes.append(model.ByteSize())
            return function(model, *args, **kwargs)

        monkeypatch.setattr(library, name, call)

    watched(onnx.checker, "check_model")
    watched(onnx.shape_inference, "infer_shapes")
    watched(onnx.version_converter, "convert_version")
    watched(onnx.inliner, "inline_local_functions")
    products.opset_import[0].version = 12
    double = [N("Add", ["a", "a"], ["b"])]
    products.functions.append(helper.make_function("own", "Double", ["a"], ["b"], double, products.opset_import))
    products.opset_import.add(domain="own", version=1)
    products.graph.node.insert(0, N("Double", ["x"], ["twice"], domain="own"))
    products.graph.node[1].input[0] = "twice"
    model = model_from_bytes(products.SerializeToString(), "net.onnx")
    made = portable(with_shapes(model, {"x": ShapeRange.fixed((2, 40))}))
    assert max(sizes) < 3000 < len(made.serialize())
    assert {tensor.name for tensor in made.proto.graph.initializer} >= {"a", "b", "c"}


def test_a_copy_without_weights_has_all_the_rest(products):
    products.doc_string, products.graph.doc_string = "about", "the graph"
    products.metadata_props.add(key="k", value="v")
    before = products.SerializeToString()
    bare = weights.without_weights(products)
    assert [len(tensor.raw_data) for tensor in bare.graph.initializer] == [0, 0, 160]
    weights.restore_weights(bare, products)
    assert bare.SerializeToString() == before == products.SerializeToString()


@pytest.mark.parametrize(
    ("location", "offset", "nbytes", "word"),
    [
        ("other.data", 0, 12800, "'other.data'"),
        ("/etc/passwd", 0, 12800, "inside the model's folder"),
        (WEIGHTS_FILE, 4, 12800, "byte 4"),
        (WEIGHTS_FILE, 0, 12, "expected 12800 bytes"),
    ],
)
def test_references_of_another_kind_than_ours_are_refused(products, location, offset, nbytes, word):
    tensor = products.graph.initializer[0]
    tensor.ClearField("raw_data")
    weights.refer(tensor, location, offset, nbytes)
    with pytest.raises(ModelError, match=word):
        weights_apart(products.SerializeToString(), "net.onnx")
