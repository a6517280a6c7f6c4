"""The builder against the real TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from fakes.immortal import Immortals
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.builder.tensorrt.build_plan import BuildCancelledError, Hooks, build_plan
from edge_runtime.builder.tensorrt.network import ParseError
from edge_runtime.builder.tensorrt.request import BuildRequest
from edge_runtime.errors import BackendUnavailableError, ConfigError
from edge_runtime.plan.header import HEADER_NBYTES, header_from_bytes
from edge_runtime.tensorrt_api import TensorRT, load
from edge_runtime.tensors import DType, ShapeRange

pytestmark = pytest.mark.tensorrt


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    pytest.importorskip("tensorrt_rtx")
    return load("tensorrt_rtx")


def network(channels: int = 8, layers: int = 12) -> bytes:
    """x f32[n, 3, 16, 16] -> y, through convolutions with random weights."""
    rng = np.random.default_rng(0)
    nodes, weights, before, width = [], [], "x", 3
    for index in range(layers):
        values = 0.1 * rng.normal(size=(channels, width, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        nodes.append(helper.make_node("Conv", [before, f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"relu{index}"))
        before, width = f"r{index}", channels
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info(before, TensorProto.FLOAT, ["n", channels, 16, 16])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


PROFILE = {"x": ShapeRange((1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))}


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., BuildRequest]:
    def made(model: bytes = network(), profile: Any = None, **settings: Any) -> BuildRequest:
        (tmp_path / "m.onnx").write_bytes(model)
        paths = str(tmp_path / "m.onnx"), str(tmp_path / "m.plan")
        return BuildRequest("tensorrt_rtx", *paths, profile or PROFILE, True, **settings)

    return made


def test_a_plan_is_written_with_its_tensors_and_a_header(rtx: TensorRT, request_of: Any) -> None:
    request = request_of()
    built = build_plan(request, rtx, Hooks(kept=Immortals()))
    assert [(spec.name, spec.dtype, spec.shape) for spec in built.inputs] == [("x", DType.FP32, (-1, 3, 16, 16))]
    assert built.outputs[0].dtype is DType.FP32
    header = header_from_bytes(Path(request.plan).read_bytes()[:HEADER_NBYTES], "m")
    assert header.text == f"tensorrt_rtx {rtx.version}"


def test_the_same_input_makes_the_same_bytes(rtx_plan: Callable[..., bytes]) -> None:
    assert rtx_plan() == rtx_plan()


def test_progress_grows_to_the_end(rtx: TensorRT, request_of: Any) -> None:
    shares: List[float] = []
    build_plan(request_of(), rtx, Hooks(shares.append, kept=Immortals()))
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1


def test_a_cancelled_build_stops_and_leaves_no_plan(rtx: TensorRT, request_of: Any) -> None:
    stop = threading.Event()
    request = request_of()

    def on_fraction(share: float) -> None:
        if share > 0.1:
            stop.set()

    with pytest.raises(BuildCancelledError):
        build_plan(request, rtx, Hooks(on_fraction, stop.is_set, Immortals()))
    assert not Path(request.plan).exists()


def test_an_exception_in_a_callback_reaches_the_caller(rtx: TensorRT, request_of: Any) -> None:
    def broken(share: float) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build_plan(request_of(), rtx, Hooks(broken, kept=Immortals()))


def test_a_parser_error_names_node_and_operator(rtx: TensorRT, request_of: Any) -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"], name="where")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2, "k"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(ParseError, match=r"node where \(NonZero\): ") as raised:
        build_plan(request_of(model, {"x": ShapeRange.fixed((2, 2))}), rtx, Hooks(kept=Immortals()))
    assert raised.value.problems[0].code == "UNSUPPORTED_NODE"


@pytest.mark.parametrize("model", [b"", b"\x08\x08", b"no ONNX at all"])
def test_what_is_no_model_is_refused(rtx: TensorRT, request_of: Any, model: bytes) -> None:
    with pytest.raises(ParseError):
        build_plan(request_of(model), rtx, Hooks(kept=Immortals()))


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"z": ShapeRange.fixed((1,))}, r"expected inputs \['x'\], got \['z'\]"),
        ({"x": ShapeRange.fixed((1, 3))}, "expected 4 dimensions"),
        ({"x": ShapeRange((1, 3, 16, 16), (1, 3, 16, 16), (1, 4, 16, 16))}, "axis 1 is 3 in the model"),
        ({**PROFILE, "w0": ShapeRange.fixed((1,))}, r"got \['w0', 'x'\]"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_before_the_build(
    rtx: TensorRT, request_of: Any, profile: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plan(request_of(profile=profile), rtx, Hooks(kept=Immortals()))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"flags": ("INT8",)}, BackendUnavailableError, "no builder flag INT8"),
        ({"dla_core": 0}, ConfigError, "finds 0 deep learning accelerators"),
        (
            {"hardware_compatibility": "ampere_plus"},
            BackendUnavailableError,
            r"^\[backend\] hardware_comp.*leave it out",
        ),
        ({"compute_capabilities": ("8.7",)}, ConfigError, r"'8\.7': .*expected 7\.5, 8\.0.* 8\.9.* 12\.0"),
        ({"calibration_cache": "TRT-100300-EntropyCalibration2\nx: 3c000000\n"}, BackendUnavailableError, "CALIBRATOR"),
        ({"float_layers": ("conv0",)}, BackendUnavailableError, "PRECISION_CONSTRAINTS"),
        (
            {"plugins": ("/nowhere/libplugin.so",)},
            BackendUnavailableError,
            r"plugin library /nowhere.*\[backend\] plugins",
        ),
    ],
)
def test_what_this_tensorrt_cannot_do_is_refused(
    rtx: TensorRT, request_of: Any, settings: Dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        build_plan(request_of(**settings), rtx, Hooks(kept=Immortals()))


def test_a_check_takes_the_settings_and_builds_nothing(rtx: TensorRT, request_of: Any) -> None:
    request = request_of(compute_capabilities=("8.9",), is_check=True)
    assert build_plan(request, rtx, Hooks(kept=Immortals())).notes == ()
    assert not Path(request.plan).exists()


def test_settings_reach_the_builder(rtx: TensorRT, request_of: Any) -> None:
    small = request_of(workspace_nbytes=16 << 20, optimization_level=0, compute_capabilities=("8.9",))
    assert build_plan(small, rtx, Hooks(kept=Immortals())).notes == ()
    header = header_from_bytes(Path(small.plan).read_bytes()[:HEADER_NBYTES], "m")
    assert header.capabilities == ((8, 9),)
