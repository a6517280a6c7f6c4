from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edge_runtime.errors import CalibrationError, UnsupportedModelError
from edge_runtime.graph.groups import Group, groups
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable
from edge_runtime.graph.switches import with_switches

N = helper.make_node


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def run(model, feeds):
    """The outputs of ONNX Runtime without int8 kernels, so that Q/DQ rounds exactly where it stands."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.serialize(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def switched(made, feeds, on):
    return run(made.model, {**feeds, made.switch: np.array(on)})


def assert_same(got, expected):
    for one, other in zip(got, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max(initial=1))


@pytest.fixture
def net(build):
    """A residual net with a shared weight, a grouped convolution, a product of two activations and two outputs."""
    nodes = [
        N("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        N("Relu", ["a"], ["r"]),
        N("Conv", ["r", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        N("Add", ["c", "r"], ["s"]),
        N("ConvTranspose", ["s", "u"], ["t"], group=2),
        N("MatMul", ["t", "r"], ["m"]),
        N("Flatten", ["m"], ["f"]),
        N("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    weights = {"w": normal(4, 4, 3, 3), "b": normal(4) * 50, "u": normal(4, 2, 1, 1), "g": normal(5, 256)}
    weights["w"][1] *= np.float32(1e-12)  # its scale follows from the bias
    return portable(build(nodes, {"x": ["n", 4, 8, 8]}, weights, outputs=["y", "s"]))


FEEDS = {"x": normal(2, 4, 8, 8)}


def test_off_is_float_and_on_is_what_insert_qdq_makes(net, max_scales):
    scales, parts = max_scales(net, FEEDS), groups(net)
    made = with_switches(net, scales, parts)
    onnx.checker.check_model(made.model.proto, full_check=True)
    assert [spec.name for spec in made.model.inputs] == ["x", made.switch]
    assert made.model.inputs[-1].shape == (len(parts),)
    exact, rounded = run(net, FEEDS), run(insert_qdq(net, scales), FEEDS)
    assert_same(switched(made, FEEDS, [False] * len(parts)), exact)
    assert_same(switched(made, FEEDS, [True] * len(parts)), rounded)
    assert all(np.abs(one - other).max() > 1e-3 for one, other in zip(exact, rounded))


def test_each_group_alone_is_what_insert_qdq_makes_of_it(net, max_scales):
    scales, parts = max_scales(net, FEEDS), groups(net)
    made = with_switches(net, scales, parts)
    for part in parts:
        rest = frozenset(node for other in parts if other is not part for node in other.nodes)
        expected = run(insert_qdq(net, scales, rest), FEEDS)
        assert_same(switched(made, FEEDS, [other is part for other in parts]), expected)


@pytest.mark.parametrize("name", ["cls", pytest.param("minilm", marks=pytest.mark.slow)])
def test_real_models_switch_like_insert_qdq(real_model, real_feeds, max_scales, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    scales, parts = max_scales(model, feeds), groups(model)
    made = with_switches(model, scales, parts)
    exact = run(model, feeds)
    assert_same(switched(made, feeds, [False] * len(parts)), exact)
    for wanted in (parts, parts[2:3]):
        rest = frozenset(node for part in parts if part not in wanted for node in part.nodes)
        got, expected = (
            switched(made, feeds, [part in wanted for part in parts]),
            run(insert_qdq(model, scales, rest), feeds),
        )
        for one, other, base in zip(got, expected, exact):  # a value on the edge of a step may fall to either side
            assert np.linalg.norm(one - other) <= 0.1 * np.linalg.norm(other - base)


def test_the_optimised_session_stays_float_when_all_is_off(real_model, real_feeds, max_scales, run):
    model, feeds = portable(real_model("cls")), real_feeds("cls")
    parts = groups(model)
    made = with_switches(model, max_scales(model, feeds), parts)
    off = run(made.model, {**feeds, made.switch: np.zeros(len(parts), bool)})
    assert_same(off.values(), run(model, feeds).values())


def test_what_no_group_names_or_has_no_scale_stays_float(net, max_scales):
    scales = max_scales(net, FEEDS)
    first = groups(net)[0]
    made = with_switches(net, scales, [first])
    rest = frozenset(node for part in groups(net)[1:] for node in part.nodes)
    assert_same(switched(made, FEEDS, [True]), run(insert_qdq(net, scales, rest), FEEDS))
    bare = with_switches(net, {}, [first])
    assert_same(switched(bare, FEEDS, [True]), run(net, FEEDS))


def test_the_switch_takes_a_name_that_is_free(build):
    nodes = [N("MatMul", ["quantised_groups", "w"], ["y"], "product")]
    made = with_switches(
        build(nodes, {"quantised_groups": ["n", 3]}, {"w": normal(3, 2)}),
        {"quantised_groups": 0.1},
        [Group("product", "layer", ("product",))],
    )
    assert made.switch not in ("quantised_groups", "")
    assert made.model.inputs[-1].name == made.switch


def test_a_model_without_groups_runs_with_an_empty_switch(build):
    model = build([N("Relu", ["x"], ["y"])], {"x": ["n", 3]})
    made = with_switches(model, {}, groups(model))
    assert_same(switched(made, {"x": normal(2, 3)}, np.zeros(0, bool)), run(model, {"x": normal(2, 3)}))


def test_scales_and_opsets_are_refused_as_by_insert_qdq(build):
    arguments = [N("MatMul", ["x", "w"], ["y"], "product")], {"x": ["n", 3]}, {"w": normal(3, 2)}
    part = Group("product", "layer", ("product",))
    with pytest.raises(CalibrationError, match="'x'"):
        with_switches(build(*arguments), {"x": 0.0}, [part])
    with pytest.raises(UnsupportedModelError, match="opset 13, got 12"):
        with_switches(build(*arguments, opset=12), {"x": 0.1}, [part])


def test_the_chosen_inputs_name_the_tensors_that_they_replace(net, max_scales):
    made = with_switches(net, max_scales(net, FEEDS), groups(net))
    before = {node.name for node in net.proto.graph.node}
    added = [node for node in made.model.proto.graph.node if node.name not in before]
    assert {node.op_type for node in added} == {"QuantizeLinear", "DequantizeLinear", "Gather", "Where"}
    assert quantizable(net) == ("x", "r", "s", "t", "f")
