"""Parts of a model built by the real TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Tuple

import pytest
from fakes.immortal import Immortals

from edge_runtime.builder.tensorrt.build_plan import Hooks, build_plan
from edge_runtime.builder.tensorrt.graphs import NetworkInputs, Profile, network_parts
from edge_runtime.builder.tensorrt.request import BuildRequest, Built
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.model import OnnxModel, load_model
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.plan.header import HEADER_NBYTES, header_from_bytes
from edge_runtime.tensorrt_api import load
from edge_runtime.tensors import DType, ShapeRange

pytestmark = pytest.mark.tensorrt

PROFILE = {"x": ShapeRange((1, 3, 48, 192), (1, 3, 48, 192), (4, 3, 48, 192))}


@pytest.fixture(scope="module")
def net(real_path: Callable[[str], Path]) -> OnnxModel:
    """The text direction net, whose batch is open."""
    pytest.importorskip("tensorrt_rtx")
    return portable(with_shapes(load_model(real_path("cls")), PROFILE))


def built(shares: Tuple[Tuple[NetworkInputs, Profile], ...], folder: Path) -> List[Built]:
    found = []
    for number, (given, profile) in enumerate(shares):
        (folder / f"{number}.onnx").write_bytes(given.graph.serialize())
        paths = [str(folder / f"{number}.{kind}") for kind in ("onnx", "plan")]
        request = BuildRequest("tensorrt_rtx", paths[0], paths[1], profile, True, timing_cache=str(folder / "t.cache"))
        found.append(build_plan(request, load("tensorrt_rtx"), Hooks(kept=Immortals())))
        assert header_from_bytes(Path(paths[1]).read_bytes()[:HEADER_NBYTES], "m").library == "tensorrt_rtx"
    return found


@pytest.mark.parametrize(
    ("cuts", "crossing"),
    [
        (["elementwise_add_4"], [["elementwise_add_4"]]),
        (["conv2d_63.tmp_1", "hardswish_12.tmp_0"], [["hardswish_2.tmp_0", "conv2d_63.tmp_1"], ["hardswish_12.tmp_0"]]),
    ],
)
def test_every_part_is_built_with_the_tensors_that_cross(
    net: OnnxModel, tmp_path: Path, cuts: List[str], crossing: List[List[str]]
) -> None:
    found = built(network_parts(NetworkInputs(net), cuts, PROFILE), tmp_path)
    assert [[spec.name for spec in part.inputs] for part in found] == [["x"], *crossing]
    assert [[spec.name for spec in part.outputs] for part in found[:-1]] == crossing
    assert {spec.shape[0] for part in found for spec in (*part.inputs, *part.outputs)} == {-1}


def quantised(model: OnnxModel) -> OnnxModel:
    return insert_qdq(model, dict.fromkeys(quantizable(model), 0.05))


@pytest.mark.parametrize(
    ("made", "dtype"), [(quantised, DType.FP32), (to_fp16, DType.FP16), (lambda m: to_fp16(quantised(m)), DType.FP16)]
)
def test_parts_in_a_narrower_precision_are_built_too(net: OnnxModel, tmp_path: Path, made: Any, dtype: DType) -> None:
    shares = network_parts(NetworkInputs(made(net)), ["elementwise_add_4"], PROFILE)
    first, second = built(shares, tmp_path)
    assert [spec.dtype for spec in (*first.outputs, *second.inputs)] == [dtype, dtype]
