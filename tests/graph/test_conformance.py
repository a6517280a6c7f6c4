"""What TensorRT says to the graphs that we make: real builds, for which no GPU is needed."""

from __future__ import annotations

import platform
import struct
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.graph.float64 import single_precision
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.tensors import ShapeRange

HAS_WHEEL = sys.platform == "linux" and platform.machine() == "x86_64"
pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(not HAS_WHEEL, reason="tensorrt-rtx has wheels with a builder for x86-64 Linux only"),
]
N = helper.make_node


@pytest.fixture
def plan():
    """A function that builds a model for a profile and returns the plan's bytes."""
    import tensorrt_rtx as trt

    class Messages(trt.ILogger):
        def __init__(self):
            super().__init__()
            self.errors = []

        def log(self, severity, text):
            if severity <= trt.ILogger.ERROR and "cudaError" not in text:  # without a driver that is mere noise
                self.errors.append(text)

    def build(model, profile):
        messages = Messages()
        builder = trt.Builder(messages)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, messages)
        assert parser.parse(model.serialize()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
        config = builder.create_builder_config()
        shapes = builder.create_optimization_profile()
        for name, limits in profile.items():
            shapes.set_shape(name, limits.minimum, limits.optimum, limits.maximum)
        assert config.add_optimization_profile(shapes) >= 0
        built = builder.build_serialized_network(network, config)
        assert built is not None, messages.errors
        return bytes(built)

    return build


def weight_nbytes(plan_bytes):
    """Bytes of weights in a plan; the rest is kernels, as CUDA source that grows with their number."""
    return struct.unpack_from("<Q", plan_bytes, 56)[0]


def batches(*shape, most=8):
    return ShapeRange((1, *shape), (4, *shape), (most, *shape))


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "size"), [("cls", (3, 48, 192)), pytest.param("det", (3, 64, 96), marks=pytest.mark.slow)]
)
def test_real_networks_build_in_float_fp16_and_int8(real_model, real_feeds, max_scales, plan, name, size):
    profile = {"x": batches(*size)}
    model = portable(with_shapes(real_model(name), profile))
    quantised = insert_qdq(model, max_scales(model, real_feeds(name)))
    plain, half, int8, folded = (
        plan(each, profile) for each in (model, to_fp16(model), quantised, fold_weights(quantised))
    )
    assert len(half) < len(plain)
    assert weight_nbytes(int8) < 0.5 * weight_nbytes(plain)
    assert weight_nbytes(folded) <= weight_nbytes(int8)


OTHERS = {
    "rec": {"x": ShapeRange((1, 3, 48, 160), (1, 3, 48, 160), (2, 3, 48, 320))},
    "magika": {"bytes": batches(2048)},
    "minilm": {key: ShapeRange((1, 4), (2, 8), (4, 16)) for key in ("input_ids", "attention_mask")},
}


def other_networks():
    """Those of OTHERS with their profiles; TensorRT takes long for the biggest."""
    return [pytest.param(*item, marks=[pytest.mark.slow] * (item[0] == "rec")) for item in OTHERS.items()]


@pytest.mark.parametrize(("name", "profile"), other_networks())
def test_other_real_networks_build_in_int8(real_model, real_feeds, max_scales, plan, name, profile):
    model = portable(with_shapes(real_model(name), profile))
    scales = max_scales(portable(real_model(name)), real_feeds(name))
    quantised = fold_weights(insert_qdq(model, scales))
    assert weight_nbytes(plan(quantised, profile)) < 0.8 * weight_nbytes(plan(model, profile))


def test_the_int8_plan_of_a_network_with_real_weights_is_smaller(build, max_scales, plan):
    weights = {"w": 0.05 * normal(256, 64, 3, 3), "v": 0.05 * normal(384, 256, 3, 3)}  # 4 MB
    nodes = [
        N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        N("Relu", ["a"], ["r"]),
        N("Conv", ["r", "v"], ["c"], pads=[1, 1, 1, 1]),
        N("Relu", ["c"], ["y"]),
    ]
    model, profile = build(nodes, {"x": ["n", 64, 8, 8]}, weights), {"x": batches(64, 8, 8)}
    quantised = insert_qdq(model, max_scales(model, {"x": normal(2, 64, 8, 8)}))
    plain, int8, folded = (plan(each, profile) for each in (model, quantised, fold_weights(quantised)))
    assert max(len(int8), len(folded)) < 0.5 * len(plain)


def test_every_kind_of_product_builds_in_int8_and_fp16(build, max_scales, plan):
    nodes = [
        N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        N("Relu", ["a"], ["r"]),
        N("Conv", ["r", "w"], ["c"], pads=[1, 1, 1, 1]),
        N("Add", ["c", "r"], ["s"]),
        N("Conv", ["s", "depth"], ["d"], group=4),
        N("ConvTranspose", ["d", "up"], ["u"], strides=[2, 2]),
        N("ConvTranspose", ["u", "up2"], ["g"], group=2),
        N("GlobalAveragePool", ["g"], ["p"]),
        N("Flatten", ["p"], ["f"]),
        N("Gemm", ["f", "square", "b"], ["h"], alpha=0.5, beta=2.0),
        N("Gemm", ["h", "square"], ["k"], transB=1),
        N("Unsqueeze", ["k", "axis"], ["m"]),
        N("MatMul", ["m", "stack"], ["n"]),
        N("Transpose", ["n"], ["o"], perm=[0, 2, 1]),
        N("MatMul", ["square", "o"], ["left"]),
        N("MatMul", ["left", "n"], ["both"]),
        N("MatMul", ["both", "vector"], ["y"]),
    ]
    weights = {
        "w": normal(4, 4, 3, 3),
        "depth": normal(4, 1, 3, 3),
        "up": normal(4, 6, 2, 2),
        "up2": normal(6, 3, 2, 2),
        "square": normal(6, 6),
        "b": normal(6),
        "axis": np.array([1]),
        "stack": normal(1, 6, 6),
        "vector": normal(6),
    }
    model = build(nodes, {"x": ["n_", 4, 8, 8]}, weights)
    quantised = insert_qdq(model, max_scales(model, {"x": normal(2, 4, 8, 8)}))
    for each in (quantised, fold_weights(quantised), to_fp16(model)):
        assert plan(each, {"x": batches(4, 8, 8)})


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("cls", {"x": batches(3, 48, 192)}),
        pytest.param("det", {"x": batches(3, 64, 96)}, marks=pytest.mark.slow),
        *other_networks(),
    ],
)
def test_real_networks_build_in_fp16_with_int8(real_model, real_feeds, max_scales, plan, name, profile):
    model = portable(with_shapes(real_model(name), profile))
    scales = max_scales(portable(real_model(name)), real_feeds(name))
    quantised = fold_weights(insert_qdq(model, scales))
    both = plan(to_fp16(quantised, io="fp16"), profile)
    assert weight_nbytes(both) < weight_nbytes(plan(quantised, profile))


def test_recurrent_and_resizing_networks_build_in_fp16(build, plan):
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        N("Resize", ["c", "", "s"], ["u"], mode="linear"),
        N("GridSample", ["u", "grid"], ["g"]),
        N("InstanceNormalization", ["g", "four", "four"], ["i"]),
        N("Reshape", ["i", "shape"], ["q"]),
        N("LSTM", ["q", "gates", "states"], ["l", "h"], hidden_size=4),
        N("Squeeze", ["h", "zero"], ["y"]),
        N("LayerNormalization", ["y", "four"], ["z"]),
    ]
    weights = {
        "w": normal(4, 3, 3, 3),
        "s": np.array([1, 1, 2, 2], np.float32),
        "four": np.ones(4, np.float32),
        "shape": np.array([4, 1, 16]),
        "gates": normal(1, 16, 16),
        "states": normal(1, 16, 4),
        "zero": np.array([0]),
    }
    shapes = {"x": (1, 3, 8, 8), "grid": (1, 4, 4, 2)}
    model = build(nodes, shapes, weights, ["y", "z"], opset=17)
    for io in ("fp32", "fp16"):
        assert plan(to_fp16(model, io=io), {name: ShapeRange.fixed(shape) for name, shape in shapes.items()})


def test_a_double_network_builds_in_every_precision(build, max_scales, plan):
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 16])]
    nodes = [N("Gemm", ["x", "w", "b"], ["h"]), N("Softmax", ["h"], ["y"]), N("ArgMax", ["y"], ["label"], axis=1)]
    weights = {name: normal(*shape).astype(np.float64) for name, shape in {"w": (16, 8), "b": (8,)}.items()}
    model = portable(single_precision(build(nodes, inputs, weights, ["label", "y"])))
    quantised = fold_weights(insert_qdq(model, {"x_fp32": 0.1}))
    for each in (model, to_fp16(model), quantised, to_fp16(quantised)):
        assert plan(each, {"x": batches(16)})
