"""Small networks of every kind, each through the whole INT8 path, and what TensorRT says to them."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass, field

import numpy as np
import onnx.checker
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.groups import groups
from edge_runtime.graph.macs import int8_share, mac_tensors, macs
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.switches import with_switches
from edge_runtime.onnxruntime_api import SessionOptions, load_session
from edge_runtime.tensors import ShapeRange


def f(*shape):
    """Weights that keep the size of what they are applied to."""
    return (np.random.default_rng(shape).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


@dataclass
class Net:
    """A network: its nodes in ONNX's text form, where `conv` keeps the size of the image."""

    text: str
    weights: dict
    inputs: dict = field(default_factory=lambda: {"x": (["n", 4, 8, 8], f(2, 4, 8, 8))})  # declared shape and values
    outputs: tuple = ("y",)
    adds: int = 0  # how many nodes are to be quantised besides convolutions and products
    bodies: dict = field(default_factory=dict)  # subgraphs, by the output of their node and the attribute

    def nodes(self):
        text = self.text.replace("conv(", "Conv<pads=[1,1,1,1]>(")
        nodes = [onnx.parser.parse_node(part.strip()) for part in re.split("[;\n]", text) if part.strip()]
        for (output, attribute), graph in self.bodies.items():
            node = next(node for node in nodes if output in node.output)
            node.attribute.append(helper.make_attribute(attribute, graph))
        return nodes

    def sites(self):
        """How many nodes are to be quantised."""
        products = ("Conv", "ConvTranspose", "Gemm", "MatMul")
        return self.adds + sum(node.op_type in products for node in self.nodes())

    def feeds(self):
        return {name: values for name, (_, values) in self.inputs.items()}

    def profile(self):
        """The shapes of the feed, and twice the size where an axis is open."""
        return {
            name: ShapeRange(v.shape, v.shape, tuple(s if isinstance(d, int) else 2 * s for d, s in zip(dims, v.shape)))
            for name, (dims, v) in self.inputs.items()
        }


def layer_norm(source, target):
    """Layer normalisation as exporters below opset 17 write it."""
    return f"""
        {target}_mean = ReduceMean<axes=[-1]>({source}); {target}_d = Sub({source}, {target}_mean)
        {target}_square = Pow({target}_d, two); {target}_var = ReduceMean<axes=[-1]>({target}_square)
        {target}_safe = Add({target}_var, eps); {target}_std = Sqrt({target}_safe)
        {target} = Div({target}_d, {target}_std)"""


ATTENTION = """
        q = MatMul(n1, wq); k = MatMul(n1, wk); v = MatMul(n1, wv); qh = Reshape(q, heads)
        kh = Reshape(k, heads); vh = Reshape(v, heads); qt = Transpose<perm=[0,2,1,3]>(qh)
        kt = Transpose<perm=[0,2,3,1]>(kh); vt = Transpose<perm=[0,2,1,3]>(vh); scores = MatMul(qt, kt)
        scaled = Div(scores, root2); masked = Where(mask, scaled, minus); p = Softmax<axis=-1>(masked)
        mixed = MatMul(p, vt); back = Transpose<perm=[0,2,1,3]>(mixed); merged = Reshape(back, width)
        projected = MatMul(merged, wo); res = Add(projected, n1)"""
FEED_FORWARD = """
        u = MatMul(n2, up); ub = Add(u, bias); z = Div(ub, root2); e = Erf(z); e1 = Add(e, one)
        g2 = Mul(ub, e1); g = Mul(g2, half); d = MatMul(g, down); y = Add(d, n2)"""
CONSTANTS = {"zero": 0, "one": 1, "two": 2, "six": 6, "half": 0.5, "eps": 1e-5, "root2": 2**0.5, "minus": -1e4}
NUMBERS = {name: np.float32(value) for name, value in CONSTANTS.items()}
HEADS = {"heads": np.array([0, 0, 2, 8]), "width": np.array([0, 0, 16]), **{f"w{role}": f(16, 16) for role in "qkvo"}}
SEQUENCE = {"x": (["n", "t", 16], f(2, 5, 16))}
MASK = {"mask": ([1, 1, 1, "t"], np.array([[[[True, True, True, True, False]]]]))}
ROWS = {"x": (["n", 16], f(3, 16))}
SIDES = [0, 0, 1, 1, 0, 0, 1, 1]
WINDOW = {"starts": np.array([1]), "ends": np.array([7]), "axes": np.array([2])}
NORM = {"gamma": f(6) + 1, "beta": f(6), "mean": f(6), "var": f(6) ** 2 + 1}


def value(name, element=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, element, shape)


def branch(op_type):
    return helper.make_graph([helper.make_node(op_type, ["a"], ["b"])], op_type, [], [value("b")])


LOOP_BODY = helper.make_graph(
    [onnx.parser.parse_node(line) for line in ("m = MatMul(carried, w)", "next = Tanh(m)", "still = Identity(go)")],
    "body",
    [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("carried", shape=[3, 16])],
    [value("still", TensorProto.BOOL, []), value("next", shape=[3, 16])],
)

ZOO = {
    "conv-1d": Net("a = Conv<pads=[1,1]>(x, w); y = Relu(a)", {"w": f(6, 4, 3)}, {"x": (["n", 4, 9], f(2, 4, 9))}),
    "conv-3d": Net("y = Conv(x, w)", {"w": f(6, 2, 3, 3, 3)}, {"x": (["n", 2, 4, 5, 6], f(3, 2, 4, 5, 6))}),
    "conv-of-any-size": Net(
        'a = Conv<strides=[2,2]>(x, w); r = Relu(a); y = Conv<auto_pad="SAME_UPPER">(r, v)',
        {"w": f(4, 4, 3, 3), "v": f(2, 4, 3, 3)},
        {"x": (["n", 4, "h", "v_"], f(2, 4, 12, 10))},
    ),
    "conv-computed-weight": Net(
        "s = Sigmoid(w); k = Mul(s, z); y = conv(x, k)",
        {"w": f(4, 4, 3, 3)},
        {"x": ([2, 4, 8, 8], f(2, 4, 8, 8)), "z": ([1], np.ones(1, np.float32))},
    ),
    "conv-grouped-dilated": Net("y = Conv<group=2, dilations=[2,2]>(x, w)", {"w": f(6, 2, 3, 3)}),
    "conv-transposed": Net(
        """a = ConvTranspose<strides=[2,2]>(x, w, b); r = LeakyRelu(a)
        y = ConvTranspose<group=2, strides=[2,2], output_padding=[1,1]>(r, v)""",
        {"w": f(4, 6, 2, 2), "b": f(6), "v": f(6, 1, 3, 3)},
    ),
    "batch-norm": Net(
        "c = conv(x, w); b = BatchNormalization(c, gamma, beta, mean, var); y = Relu(b)", {"w": f(6, 4, 3, 3), **NORM}
    ),
    "pre-activation": Net(
        """a = conv(x, w); p = AveragePool<kernel_shape=[2,2]>(a)
        b = BatchNormalization(p, gamma, beta, mean, var); r = Relu(b); y = conv(r, v)""",
        {"w": f(6, 4, 3, 3), "v": f(4, 6, 3, 3), **NORM},
    ),
    "residual": Net(
        """short = Conv(x, s); a = conv(x, w); r = Relu(a); b = conv(r, v); sum = Add(b, short)
        t = Relu(sum); c = conv(t, v); sum2 = Add(t, c); p = GlobalAveragePool(sum2); f = Flatten(p)
        y = Gemm<transB=1>(f, g, bias)""",
        {"s": f(8, 4, 1, 1), "w": f(8, 4, 3, 3), "v": f(8, 8, 3, 3), "g": f(5, 8), "bias": f(5)},
        adds=2,
    ),
    "squeeze-excite": Net(
        """a = conv(x, w); r = Relu(a); p = GlobalAveragePool(r); d = Conv(p, down); dr = Relu(d)
        u = Conv(dr, up); gate = HardSigmoid(u); m = Mul(r, gate); y = conv(m, v)""",
        {"w": f(8, 4, 3, 3), "down": f(2, 8, 1, 1), "up": f(8, 2, 1, 1), "v": f(4, 8, 3, 3)},
    ),
    "mobile-block": Net(
        """a = Conv(x, expand); ah = HardSwish(a); c = Conv<pads=[1,1,1,1], group=16>(ah, depth)
        cc = Clip(c, zero, six); q = Conv(cc, shrink); y = Add(q, x)""",
        {"expand": f(16, 4, 1, 1), "depth": f(16, 1, 3, 3), "shrink": f(4, 16, 1, 1), **NUMBERS},
        adds=1,
    ),
    "u-net": Net(
        """a = conv(x, w); ar = Relu(a); m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(ar); b = conv(m, v)
        br = Relu(b); up = Resize<mode="nearest">(br, , scales); cat = Concat<axis=1>(up, ar)
        c = conv(cat, o); y = Sigmoid(c)""",
        {"w": f(8, 4, 3, 3), "v": f(8, 8, 3, 3), "o": f(1, 16, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "super-resolution": Net(
        """a = conv(x, w); ar = PRelu(a, slope); b = conv(ar, v); s = Add(b, x); c = conv(s, o)
        y = DepthToSpace<blocksize=2>(c)""",
        {"w": f(8, 4, 3, 3), "slope": f(8, 1, 1), "v": f(4, 8, 3, 3), "o": f(12, 4, 3, 3)},
        adds=1,
    ),
    "transformer": Net(
        layer_norm("x", "n1") + ATTENTION + layer_norm("res", "n2") + FEED_FORWARD,
        {**NUMBERS, **HEADS, "up": f(16, 32), "bias": f(32), "down": f(32, 16)},
        {**SEQUENCE, **MASK},
    ),
    "layer-normalization": Net(
        "l = LayerNormalization(x, g, b); y = MatMul(l, w)", {"g": f(16) + 1, "b": f(16), "w": f(16, 8)}, SEQUENCE
    ),
    "gated-mlp": Net(
        """a = MatMul(x, u); b = MatMul(x, v); s = Sigmoid(a); silu = Mul(a, s); m = Mul(silu, b)
        y = MatMul(m, w)""",
        {"u": f(16, 24), "v": f(16, 24), "w": f(24, 16)},
        SEQUENCE,
    ),
    "lstm": Net(
        """a = MatMul(x, w); s = Transpose<perm=[1,0,2]>(a); o = LSTM<hidden_size=6>(s, i, h)
        q = Squeeze(o, axis); y = MatMul(q, v)""",
        {"w": f(16, 8), "i": f(1, 24, 8), "h": f(1, 24, 6), "axis": np.array([1]), "v": f(6, 5)},
        SEQUENCE,
    ),
    "gru-both-ways": Net(
        """o = GRU<hidden_size=4, direction="bidirectional", linear_before_reset=1>(x, i, h, b)
        t = Transpose<perm=[0,2,1,3]>(o); r = Reshape(t, shape); m = MatMul(r, v)
        y = LogSoftmax<axis=-1>(m)""",
        {"i": f(2, 12, 16), "h": f(2, 12, 4), "b": f(2, 24), "shape": np.array([0, 0, 8]), "v": f(8, 5)},
        {"x": (["t", "n", 16], f(5, 2, 16))},
    ),
    "gemms": Net(
        """a = Gemm<alpha=0.5, beta=2.0>(x, w, b); r = Relu(a); c = Gemm<transB=1>(r, w)
        d = Gemm<transA=1>(c, x); y = Gemm(left, d)""",
        {"w": f(6, 8), "b": f(8), "left": f(3, 6)},
        {"x": ([3, 6], f(3, 6))},
    ),
    "matmuls": Net(
        "a = MatMul(stack, x); r = Relu(a); b = MatMul(r, w); y = MatMul(b, vector)",
        {"stack": f(2, 5, 6), "w": f(4, 8), "vector": f(8)},
        {"x": (["n", 2, 6, 4], f(3, 2, 6, 4))},
    ),
    "einsum": Net(
        """q = MatMul(x, w); s = Einsum<equation="nid,njd->nij">(q, x); p = Softmax<axis=-1>(s)
        y = MatMul(p, x)""",
        {"w": f(16, 16)},
        SEQUENCE,
    ),
    "embedding": Net(
        f"""e = Gather(table, x); {layer_norm("e", "n1")}
        h = MatMul(n1, w); t = Tanh(h); m = ReduceMean<axes=[1], keepdims=0>(t); y = MatMul(m, v)""",
        {**NUMBERS, "table": f(20, 16), "w": f(16, 16), "v": f(16, 4)},
        {"x": (["n", "t"], np.arange(10).reshape(2, 5))},
    ),
    "two-inputs-two-outputs": Net(
        """a = conv(x, w); b = conv(z, w); d = Sub(a, b); distance = Abs(d); c = conv(distance, v)
        y = Sigmoid(c)""",
        {"w": f(4, 4, 3, 3), "v": f(1, 4, 3, 3)},
        {"x": (["n", 4, 8, 8], f(2, 4, 8, 8)), "z": (["n", 4, 8, 8], f(2, 4, 64).reshape(2, 4, 8, 8))},
        outputs=("distance", "y"),
    ),
    "output-read-inside": Net(
        "a = MatMul(x, w); b = Relu(a); y = MatMul(b, v)",
        {"w": f(16, 16), "v": f(16, 16)},
        SEQUENCE,
        outputs=("a", "b", "y"),
    ),
    "if": Net(
        "a = conv(x, w); i = If(on); y = conv(a, v)",
        {"w": f(4, 4, 3, 3), "v": f(4, 4, 3, 3)},
        {"x": ([2, 4, 8, 8], f(2, 4, 8, 8)), "on": ([], np.array(True))},
        outputs=("i", "y"),
        bodies={("i", "then_branch"): branch("Relu"), ("i", "else_branch"): branch("Neg")},
    ),
    "loop": Net(
        "a = MatMul(x, w); b = Loop(three, on, a); c = Reshape(b, shape); y = MatMul(c, w)",
        {"w": f(16, 16), "three": np.array(3), "on": np.array(True), "shape": np.array([3, 16])},
        {"x": ([3, 16], f(3, 16))},
        bodies={("b", "body"): LOOP_BODY},
    ),
    "split-slice-pad": Net(
        """left, right = Split<axis=1>(x); p = Pad(left, pads); a = Conv(p, w)
        s = Slice(right, starts, ends, axes); t = Pad<mode="reflect">(s, pads); b = Conv(t, w)
        u = Pad(b, bottom); y = Add(a, u)""",
        {"w": f(4, 2, 3, 3), "pads": np.array(SIDES), "bottom": np.array([*[0] * 6, 2, 0]), **WINDOW},
        adds=1,
    ),
    "top-k": Net(
        "h = MatMul(x, w); s = Softmax<axis=-1>(h); y, indices = TopK(s, k)", {"w": f(16, 12), "k": np.array([3])}, ROWS
    ),
    "float64": Net(
        f"c = Cast<to={TensorProto.FLOAT}>(x); m = MatMul(c, w); y = Cast<to={TensorProto.DOUBLE}>(m)",
        {"w": f(16, 12)},
        {"x": (["n", 16], f(3, 16).astype(np.float64))},
    ),
    "grid-sample": Net(
        "a = conv(x, w); g = GridSample<align_corners=1>(a, grid); y = conv(g, w)",
        {"w": f(4, 4, 3, 3)},
        {"x": (["n", 4, 8, 8], f(2, 4, 8, 8)), "grid": (["n", 5, 5, 2], np.tanh(f(2, 5, 5, 2) * 5))},
    ),
    "constant-nodes": Net(
        """w = Constant<value_floats=[0.5, 0.25, -0.5, 1.0]>(); wr = Reshape(w, shape); wt = Transpose(wr)
        b = Constant<value_floats=[0.5, -0.5]>(); xr = Reshape(x, rows); m = MatMul(xr, wt); y = Add(m, b)""",
        {"shape": np.array([2, 2]), "rows": np.array([-1, 2])},
        ROWS,
    ),
    "nothing-to-quantise": Net("r = Relu(x); y = GlobalMaxPool(r)", {}),
}


def run(model, feeds, exact=False):
    """The outputs by name, with or without ONNX Runtime's int8 kernels."""
    if exact:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.serialize(), options, providers=["CPUExecutionProvider"])
    else:
        session = load_session(model.serialize(), SessionOptions(), "the net")
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds)))


def error(got, expected):
    """The largest error of a floating-point output, as a share of its norm."""
    return max(
        np.linalg.norm(got[name] - value) / (np.linalg.norm(value) or 1)
        for name, value in expected.items()
        if value.dtype.kind == "f"
    )


@pytest.fixture(params=ZOO)
def net(request):
    return ZOO[request.param]


@pytest.fixture
def model(net, build):
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), dims)
        for name, (dims, values) in net.inputs.items()
    ]
    return portable(build(net.nodes(), inputs, net.weights, net.outputs, opset=17))


@pytest.fixture
def scales(net, model, max_scales):
    return max_scales(model, net.feeds())


def int8_nodes(model):
    made = {output for node in model.proto.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return {node.name for node in model.proto.graph.node if made.intersection(node.input)}


def test_int8_runs_near_float_folded_or_not(net, model, scales):
    quantised = insert_qdq(model, scales)
    onnx.checker.check_model(quantised.proto, full_check=True)
    assert len(int8_nodes(quantised)) == net.sites()
    expected, answer = run(model, net.feeds()), run(quantised, net.feeds())
    assert error(answer, expected) < 0.05
    assert bool(error(answer, expected)) == bool(net.sites())
    folded = fold_weights(quantised)
    assert all((value == answer[name]).all() for name, value in run(folded, net.feeds()).items())
    assert [spec.name for spec in folded.outputs] == list(net.outputs)


def test_groups_share_out_the_quantised_nodes_and_switch_them(net, model, scales):
    parts, feeds = groups(model), net.feeds()
    every = [node for part in parts for node in part.nodes]
    assert sorted(every) == sorted(int8_nodes(insert_qdq(model, scales)))
    made = with_switches(model, scales, parts)
    for wanted in ((), parts, parts[:1], parts[-1:]):
        rest = frozenset(node for part in parts if part not in wanted for node in part.nodes)
        quantised = insert_qdq(model, scales, rest)
        assert int8_nodes(quantised) == set(every) - rest
        switch = np.array([part in wanted for part in parts], bool)
        answer = run(made.model, {**feeds, made.switch: switch}, exact=True)
        assert error(answer, run(quantised, feeds, exact=True)) < 1e-4


def test_all_multiply_accumulates_of_quantised_nodes_count_as_int8(net, model, scales):
    tensors = mac_tensors(model)
    seen = {**net.feeds(), **run(with_extra_outputs(model, tensors), net.feeds())}
    counts = macs(model, {name: seen[name].shape for name in tensors})
    quantised = insert_qdq(model, scales)
    int8 = sum(counts.get(name, 0) for name in int8_nodes(quantised))
    products = {
        node.name for node in model.proto.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
    }
    total = sum(count for name, count in counts.items() if name in products)  # not LSTM, GRU and Einsum
    assert int8_share(quantised, counts) == int8 / (total or 1)
    assert bool(int8) == bool(net.sites())


@pytest.fixture
def builds():
    """A function that says what keeps TensorRT from building a plan of a model for a profile: "" if nothing."""
    import tensorrt_rtx as trt

    def problem(model, profile):
        logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model.serialize()):
            return parser.get_error(0).desc()
        config = builder.create_builder_config()
        shapes = builder.create_optimization_profile()
        for name, limits in profile.items():
            shapes.set_shape(name, limits.minimum, limits.optimum, limits.maximum)
        config.add_optimization_profile(shapes)
        return "no plan" if builder.build_serialized_network(network, config) is None else ""

    return problem


with_tensorrt = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="tensorrt-rtx has wheels with a builder for x86-64 Linux only",
)


@pytest.mark.tensorrt
@with_tensorrt
def test_tensorrt_builds_the_int8_model(net, model, scales, builds):
    assert builds(fold_weights(insert_qdq(with_shapes(model, net.profile()), scales)), net.profile()) == ""


@pytest.mark.tensorrt
@with_tensorrt
@pytest.mark.parametrize("net", ["residual", "u-net", "transformer"], indirect=True)
def test_fp16_and_int8_go_together(net, model, scales, builds):
    quantised = fold_weights(insert_qdq(with_shapes(model, net.profile()), scales))
    half = to_fp16(quantised)
    assert builds(half, net.profile()) == ""
    assert error(run(half, net.feeds(), exact=True), run(model, net.feeds())) < 0.05
