"""Inspector JSON in the structures of TensorRT 8.2 to 11, with made-up layers and times: nothing here ran on a GPU."""

from __future__ import annotations

import json

import pytest

from edge_runtime.engine.tensorrt_layers import InspectedLayer, inspected_layers, profile_from_tensorrt
from edge_runtime.errors import BackendError


def tensor(name: str, text: str) -> dict:
    return {"Name": name, "Dimensions": [1, 8], "Format/Datatype": text}


OLD = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv + relu",
            "LayerType": "Reformat",
            "Inputs": [tensor("x", "Row major linear FP32")],
            "Outputs": [
                tensor("Reformatted Input Tensor 0 to conv + relu", "Thirty-two wide channel row major Int8 format")
            ],
            "TacticValue": "0x0",
        },
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                tensor("Reformatted Input Tensor 0 to conv + relu", "Thirty-two wide channel row major Int8 format")
            ],
            "Outputs": [tensor("h", "Row major linear FP16 format")],
            "TacticName": "sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32",
        },
        {
            "Name": "gemm",
            "LayerType": "MatrixMultiply",
            "Inputs": [tensor("h", "N/A due to dynamic shapes")],
            "Outputs": [tensor("y", "N/A due to dynamic shapes")],
            "TacticName": "sm80_xmma_gemm_f16f16_f16f16_f16_tn",
        },
    ],
    "Bindings": ["x", "y"],
}
NEW = {
    "Layers": [
        {
            "Name": "__myl_Fused_myl0_0",
            "LayerType": "kgen",
            "Inputs": [{"Name": "x", "Dimensions": [1, 8], "Format": "LINEAR", "Datatype": "Half"}],
            "Outputs": [{"Name": "h", "Dimensions": [1, 8], "Format": "LINEAR", "Datatype": "BFloat16"}],
            "Metadata": "[ONNX Layer: conv]\u001e[ONNX Layer: relu]",
        },
        {"Name": "gemm_myl0_1", "LayerType": "gemm", "Inputs": [], "Outputs": [{"Name": "y", "DataType": "FP8"}]},
    ],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Half", "Dimensions": [1, 8]}],
}
NAMES = [layer["Name"] for layer in OLD["Layers"]]


def runs(*rows: tuple[str, float], count: int = 2) -> list[list[tuple[str, float]]]:
    return [list(rows)] * count


def test_the_schema_up_to_10_is_read() -> None:
    layers = inspected_layers(json.dumps(OLD))
    assert [layer.precision for layer in layers] == ["FP32 to INT8", "INT8 to FP16", "FP16"]
    assert [layer.kind for layer in layers] == ["Reformat", "CaskConvolution", "MatrixMultiply"]


def test_the_schema_of_11_is_read() -> None:
    first, second = inspected_layers(json.dumps(NEW))
    assert (first.precision, second.precision) == ("FP16 to BF16", "FP8")
    assert "relu" in first.metadata


def test_layers_that_are_only_names_are_read() -> None:
    assert inspected_layers(json.dumps({"Layers": NAMES})) == tuple(InspectedLayer(name) for name in NAMES)
    profile = profile_from_tensorrt("tensorrt", json.dumps({"Layers": NAMES}), runs(*((n, 1) for n in NAMES)), [])
    assert [layer.kind for layer in profile.layers] == ["Reformat", "", ""]
    assert "without detailed profiling" in profile.notes[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Half", "FP16"),
        ("Float", "FP32"),
        ("Int8", "INT8"),
        ("UInt8", "UINT8"),
        ("BFloat16", "BF16"),
        ("Int64", "INT64"),
        ("Bool", "BOOL"),
        ("FP4E2M1", "FP4"),
        ("FP8", "FP8"),
        ("Channel major FP16 format where channel % 8 == 0", "FP16"),
        ("Four wide channel vectorized row major Int8 format.", "INT8"),
        ("Row major Int32 format", "INT32"),
        ("N/A due to dynamic shapes", ""),
    ],
)
def test_data_types_are_found_in_the_inspectors_words(text: str, expected: str) -> None:
    layers = {"Layers": [{"Name": "l", "Inputs": [tensor("x", text)], "Outputs": [tensor("y", text)]}]}
    assert inspected_layers(json.dumps(layers))[0].precision == expected


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"Layers": {}}', '{"Layers": [1]}', '{"Layers": null}'])
def test_another_schema_is_refused(text: str) -> None:
    with pytest.raises(BackendError, match="TensorRT's inspector: expected"):
        inspected_layers(text)


def test_control_characters_may_stand_in_the_text_as_they_are() -> None:
    text = json.dumps(NEW).replace("\\u001e", "\x1e")
    assert inspected_layers(text)[0].metadata == "[ONNX Layer: conv]\x1e[ONNX Layer: relu]"


def test_times_are_joined_by_name_and_traced_to_nodes() -> None:
    rows = runs((NAMES[1], 0.5), (NAMES[0], 0.25), (NAMES[2], 0.125), count=3)
    profile = profile_from_tensorrt("tensorrt", json.dumps(OLD), rows, [900.0] * 3, ["conv", "relu", "gemm"])
    assert [layer.name for layer in profile.layers] == [NAMES[1], NAMES[0], NAMES[2]]
    assert [layer.nodes for layer in profile.layers] == [("conv", "relu"), (), ("gemm",)]
    assert profile.layers[0].durations_us == (500.0, 500.0, 500.0)
    assert (profile.runs, profile.whole_us, profile.layers[0].starts_us) == (3, (900.0,) * 3, ())


def test_names_that_differ_are_joined_by_place() -> None:
    profile = profile_from_tensorrt(
        "tensorrt", json.dumps(NEW), runs(("first", 1), ("second", 2)), [], ["conv", "relu"]
    )
    assert [(layer.name, layer.kind) for layer in profile.layers] == [("first", "kgen"), ("second", "gemm")]
    assert profile.layers[0].nodes == ("conv", "relu")


def test_a_name_that_repeats_is_joined_in_order() -> None:
    layers = {"Layers": [{"Name": "l", "LayerType": kind} for kind in ("one", "two")]}
    profile = profile_from_tensorrt("tensorrt", json.dumps(layers), runs(("l", 1), ("l", 2)), [])
    assert [layer.kind for layer in profile.layers] == ["one", "two"]


def test_layers_without_a_time_are_left_out_and_said() -> None:
    profile = profile_from_tensorrt("tensorrt", json.dumps(OLD), runs((NAMES[1], 1)), [])
    assert [layer.kind for layer in profile.layers] == ["CaskConvolution"]
    assert "2 of the engine's 3 layers reported no time" in profile.notes


def test_a_timed_layer_that_the_inspector_has_not_keeps_its_name() -> None:
    profile = profile_from_tensorrt("tensorrt", json.dumps(OLD), runs((NAMES[1], 1), ("new", 2)), [])
    assert [(layer.name, layer.kind) for layer in profile.layers] == [(NAMES[1], "CaskConvolution"), ("new", "")]


def test_a_run_with_other_layers_is_left_out_and_said() -> None:
    rows = [*runs((NAMES[1], 1)), [], [(NAMES[2], 1)]]
    profile = profile_from_tensorrt("tensorrt", json.dumps(OLD), rows, [1.0, 2.0, 3.0, 4.0])
    assert (profile.runs, profile.whole_us) == (2, (1.0, 2.0))
    assert profile.notes[0].startswith("2 of 4 runs reported other layers")


@pytest.mark.parametrize("rows", [[], [[]]])
def test_no_times_at_all_are_refused(rows: list) -> None:
    with pytest.raises(BackendError, match="reported no layer"):
        profile_from_tensorrt("tensorrt", json.dumps(OLD), rows, [])
