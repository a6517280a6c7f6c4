"""The fakes refuse what TensorRT refuses, and a plan says what was asked for."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes.tensorrt import SURFACES, fake_tensorrt, plan_model, plan_record
from fakes.tensorrt_session import Session, dense_model, onnx_model
from onnx import TensorProto
from onnx.helper import make_node

ROWS = ((1, 4), (2, 4), (8, 4))
every_surface = pytest.mark.parametrize("surface", SURFACES)


def session(surface: str = "10.3", **board: Any) -> Session:
    return Session(fake_tensorrt(surface, **board))


def build(found: Session, model: bytes, config: Any, *flags: str) -> Any:
    network, parser = found.parsed(model, *flags)
    plan = found.builder.build_serialized_network(network, config)
    assert parser.num_errors == 0
    return plan


def scaled_model(zero_point: bool = True, **weights: Any) -> bytes:
    names = ["s", "z"] if zero_point else ["s"]
    nodes = [
        make_node("QuantizeLinear", ["x", *names], ["q"], name="quantize"),
        make_node("DequantizeLinear", ["q", *names], ["y"], name="dequantize"),
    ]
    return onnx_model(nodes, {"x": [4]}, ["y"], s=np.float32(0.1), **({"z": np.int8(0)} if zero_point else {}))


@every_surface
def test_names_of_other_versions_arent_there(surface: str) -> None:
    module = fake_tensorrt(surface)
    config = session(surface).builder.create_builder_config()
    assert hasattr(config, "max_workspace_size") == (surface < "9" and surface[0] == "8")
    assert hasattr(module.ICudaEngine, "num_io_tensors") == (surface not in ("8.2", "8.4"))
    assert hasattr(module, "IProgressMonitor") == (surface[:2] in ("10", "11"))
    assert not hasattr(module, "nptype")
    with pytest.raises(AttributeError):
        config.no_such_setting = 1


@every_surface
def test_a_plan_begins_as_tensorrts_do(surface: str) -> None:
    found = session(surface)
    plan = bytes(build(found, dense_model(), found.config(x=ROWS)))
    if surface in ("8.2", "8.4", "8.5"):
        assert plan[:4] == b"ptrt"
        assert plan[8] == {"8.2": 205, "8.4": 213, "8.5": 232}[surface]
    else:
        assert plan[:8] == b"ftrt\0\0\0\0"
        assert ".".join(map(str, plan[24:26])) == surface
    assert int.from_bytes(plan[16:24], "little") == len(plan)


def test_a_plan_says_what_was_asked_for() -> None:
    found = session("10.3", dla_cores=1)
    trt, config = found.module, found.config("FP16", "GPU_FALLBACK", x=ROWS)
    config.builder_optimization_level = 4
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    config.default_device_type, config.DLA_core = trt.DeviceType.DLA, 0
    plan = build(found, dense_model(), config)
    record = plan_record(plan)
    assert record["flags"] == ["FP16", "GPU_FALLBACK", "TF32"]
    assert record["profiles"] == [{"shapes": {"x": [[1, 4], [2, 4], [8, 4]]}, "values": {}}]
    assert (record["optimization_level"], record["workspace_nbytes"], record["verbosity"]) == (4, 1 << 20, "DETAILED")
    assert (record["hardware_compatibility"], record["default_device"], record["dla_core"]) == ("AMPERE_PLUS", "DLA", 0)
    assert {layer["name"]: layer["device"] for layer in record["layers"]}["act"] == "DLA"
    assert plan_model(plan) == onnx.load_model_from_string(dense_model()).SerializeToString()


def test_layers_keep_the_precision_that_they_are_held_to() -> None:
    found = session("8.6")
    network, parser = found.parsed(dense_model())
    layer = next(one for one in network if one.name == "fc")
    layer.precision = found.module.DataType.FLOAT
    layer.set_output_type(0, found.module.DataType.HALF)
    plan = found.builder.build_serialized_network(network, found.config("FP16", "OBEY_PRECISION_CONSTRAINTS", x=ROWS))
    kept = next(one for one in plan_record(plan)["layers"] if one["name"] == "fc")
    assert (kept["precision"], kept["output_types"], parser.num_errors) == ("FLOAT", ["HALF"], 0)


def test_a_precision_needs_its_flag() -> None:
    found = session("8.6")
    network, _parser = found.parsed(dense_model())
    network[0].precision = found.module.DataType.HALF
    assert found.builder.build_serialized_network(network, found.config(x=ROWS)) is None
    assert "fp16 is not configured in the builder" in found.take()


@pytest.mark.parametrize("flag", ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"])
def test_a_strongly_typed_network_takes_no_precision_flags(flag: str) -> None:
    found = session("10.3")
    assert build(found, dense_model(), found.config(flag, x=ROWS), "STRONGLY_TYPED") is None
    assert "strongly typed" in found.take()


def test_a_plan_says_that_it_is_strongly_typed() -> None:
    for surface, flags, expected in (("10.3", ("STRONGLY_TYPED",), True), ("10.3", (), False), ("11.4", (), True)):
        found = session(surface)
        plan = build(found, dense_model(), found.config(x=ROWS), *flags)
        assert plan_record(plan)["is_strongly_typed"] is expected


@pytest.mark.parametrize("surface", ["8.2", "8.4", "8.5", "8.6"])
def test_a_network_of_8_must_ask_for_an_explicit_batch(surface: str) -> None:
    found = session(surface)
    network = found.builder.create_network()
    parser = found.module.OnnxParser(network, found.logger)
    assert not parser.parse(dense_model())
    assert "explicit batch dimension" in parser.get_error(0).desc()


@pytest.mark.parametrize(("surface", "highest"), [("8.2", 13), ("8.5", 17), ("10.3", 20)])
def test_opsets_above_the_parsers_are_refused(surface: str, highest: int) -> None:
    for opset, is_known in ((highest, True), (highest + 1, False)):
        found = session(surface)
        network = found.network()
        assert found.module.OnnxParser(network, found.logger).parse(dense_model(opset=opset)) is is_known


def test_a_parser_doesnt_keep_its_network() -> None:
    found = session()
    parser = found.module.OnnxParser(found.network(), found.logger)
    gc.collect()
    with pytest.raises(AssertionError, match="segfault: the network"):
        parser.parse(dense_model())


def test_the_weights_of_a_network_of_8_are_its_parsers() -> None:
    found = session("8.6")
    network, parser = found.parsed(dense_model())
    del parser
    gc.collect()
    with pytest.raises(AssertionError, match="segfault: the weights"):
        found.builder.build_serialized_network(network, found.config(x=ROWS))


@pytest.mark.parametrize(("surface", "count"), [("8.6", 1), ("10.3", 2)])
def test_operators_that_the_board_lacks_are_errors(surface: str, count: int) -> None:
    found = session(surface, unsupported_ops=frozenset({"Relu", "Gemm"}))
    network = found.network()
    parser = found.module.OnnxParser(network, found.logger)
    assert not parser.parse(dense_model())
    assert parser.num_errors == count
    assert (parser.get_error(0).node(), hasattr(parser.get_error(0), "node_name")) == (0, surface == "10.3")
    assert not parser.supports_operator("Relu")


def test_which_parts_of_a_model_are_supported() -> None:
    found = session("10.3", unsupported_ops=frozenset({"Relu"}))
    network = found.network()
    parser = found.module.OnnxParser(network, found.logger)
    assert parser.supports_model(dense_model()) == (False, [([0], True), ([1], False)])
    assert not parser.supports_model_v2(dense_model())
    assert [parser.is_subgraph_supported(index) for index in range(parser.num_subgraphs)] == [True, False]
    assert parser.get_subgraph_nodes(1) == [1]


def test_operators_of_a_plugin_library_are_known_once_it_is_loaded() -> None:
    model = onnx_model([make_node("Mine", ["x"], ["y"], name="own", domain="my.ops")], {"x": [4]}, ["y"])
    found = session("10.3", plugin_libraries={"/opt/mine.so": ("Mine",)})
    network = found.network()
    assert not found.module.OnnxParser(network, found.logger).parse(model)
    assert found.module.get_plugin_registry().load_library("/opt/mine.so") is not None
    assert found.module.OnnxParser(network, found.logger).parse(model)


def test_a_plugin_library_that_ctypes_loaded_counts_too() -> None:
    library = next(path for path in Path("/proc/self/maps").read_text().split() if path.endswith(".so"))
    model = onnx_model([make_node("Mine", ["x"], ["y"], name="own", domain="my.ops")], {"x": [4]}, ["y"])
    assert session("10.3", plugin_libraries={library: ["Mine"]}).parsed(model)


@pytest.mark.parametrize("surface", SURFACES)
def test_integers_of_64_bits_stay_from_10_on(surface: str) -> None:
    model = onnx_model([make_node("Cast", ["i"], ["y"], to=1)], {"i": (TensorProto.INT64, [4])}, ["y"])
    network, _parser = session(surface).parsed(model)
    assert network.get_input(0).dtype.name == ("INT32" if surface[0] == "8" else "INT64")


@pytest.mark.parametrize(("surface", "is_known"), [("8.4", False), ("8.5", True)])
def test_uint8_comes_with_8_5(surface: str, is_known: bool) -> None:
    model = onnx_model([make_node("Cast", ["i"], ["y"], to=1)], {"i": (TensorProto.UINT8, [4])}, ["y"])
    found = session(surface)
    network = found.network()
    assert found.module.OnnxParser(network, found.logger).parse(model) is is_known


@pytest.mark.parametrize("compute_capability", [(5, 3), (6, 2)])
def test_scales_need_int8_hardware(compute_capability: tuple) -> None:
    found = session("8.2", compute_capability=compute_capability)
    assert not found.builder.platform_has_fast_int8
    assert build(found, scaled_model(), found.config("INT8")) is None
    assert "require hardware with Int8 support" in found.take()


def test_scales_need_a_zero_point_below_10() -> None:
    for surface, is_read in (("8.6", False), ("10.3", True)):
        found = session(surface)
        network = found.network()
        assert found.module.OnnxParser(network, found.logger).parse(scaled_model(zero_point=False)) is is_read


def test_int8_weights_arent_read_by_8_2() -> None:
    nodes = [
        make_node("DequantizeLinear", ["w", "s", "z"], ["d"], name="weights"),
        make_node("MatMul", ["x", "d"], ["y"], name="product"),
    ]
    weights = {"w": np.ones((4, 3), np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    for surface, is_read in (("8.2", False), ("8.4", True)):
        found = session(surface)
        network = found.network()
        parser = found.module.OnnxParser(network, found.logger)
        assert parser.parse(onnx_model(nodes, {"x": [2, 4]}, ["y"], **weights)) is is_read


def test_too_little_workspace_fails_the_build() -> None:
    for surface in ("8.2", "10.3"):
        for limit, is_enough in ((999, False), (1000, True)):
            found = session(surface, workspace_nbytes=1000)
            config = found.config(x=ROWS)
            if surface == "8.2":
                config.max_workspace_size = limit
            else:
                config.set_memory_pool_limit(found.module.MemoryPoolType.WORKSPACE, limit)
            assert (build(found, dense_model(), config) is not None) is is_enough
            assert ("insufficient memory" in found.take()) is not is_enough


def test_8_2_allows_no_workspace_until_it_is_told() -> None:
    found = session("8.2", workspace_nbytes=1)
    assert build(found, dense_model(), found.config(x=ROWS)) is None


def test_a_board_can_fail_every_build() -> None:
    found = session(build_error="out of luck")
    assert build(found, dense_model(), found.config(x=ROWS)) is None
    assert "out of luck" in found.take()


def test_no_driver_means_no_builder() -> None:
    with pytest.raises(TypeError, match="factory function returned nullptr"):
        session(has_driver=False)


def test_shape_tensors_need_values() -> None:
    model = onnx_model([make_node("Reshape", ["x", "s"], ["y"])], {"x": [4], "s": (TensorProto.INT64, [2])}, ["y"])
    found = session()
    config, profile = found.config(), found.builder.create_optimization_profile()
    config.add_optimization_profile(profile)
    assert build(found, model, config) is None
    assert "Shape tensor s is missing values" in found.take()
    profile.set_shape_input("s", [1, 1], [2, 2], [4, 4])
    assert build(found, model, config) is not None


def test_dla_needs_a_core_a_precision_and_a_fallback() -> None:
    found = session("8.6", dla_cores=1)
    trt = found.module

    def config(*flags: str) -> Any:
        made = found.config(*flags, x=ROWS)
        made.default_device_type, made.DLA_core = trt.DeviceType.DLA, 0
        return made

    assert build(found, dense_model(), config()) is None
    assert "DLA requires FP16 or INT8" in found.take()
    assert build(found, dense_model(), config("FP16")) is None
    assert "not supported on DLA and GPU fallback is not enabled" in found.take()
    assert build(found, dense_model(), config("FP16", "GPU_FALLBACK")) is not None


def test_a_dla_core_that_isnt_there_is_refused() -> None:
    found = session("8.6")
    config = found.config()
    config.DLA_core = 0
    assert config.DLA_core == -1
    assert "getNbDLACores" in found.take()


def test_a_timing_cache_is_filled_and_used() -> None:
    found = session()
    first = found.config(x=ROWS)
    first.set_timing_cache(first.create_timing_cache(b""), False)
    misses = plan_record(build(found, dense_model(), first))["timing"]
    second = found.config(x=ROWS)
    second.set_timing_cache(second.create_timing_cache(bytes(first.get_timing_cache().serialize())), False)
    hits = plan_record(build(found, dense_model(), second))["timing"]
    assert misses["hits"] == hits["misses"] == 0
    assert misses["misses"] == hits["hits"] > 0


def test_a_timing_cache_of_another_gpu_isnt_taken() -> None:
    orin, thor = session(), session(compute_capability=(11, 0))
    data = bytes(orin.config().create_timing_cache(b"").serialize())
    config = thor.config()
    assert not config.set_timing_cache(config.create_timing_cache(data), False)
    assert config.get_timing_cache() is None
    assert config.set_timing_cache(config.create_timing_cache(data), True)


def test_a_timing_cache_of_another_version_is_none_or_empty() -> None:
    data = bytes(session("8.5").config().create_timing_cache(b"").serialize())
    assert session("8.6").config().create_timing_cache(data) is None
    assert session("10.3").config().create_timing_cache(data) is not None


def test_external_weights_are_found_beside_the_file(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(dense_model())
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, size_threshold=0, location="weights.bin")
    found = session()
    network = found.network()
    parser = found.module.OnnxParser(network, found.logger)
    assert parser.parse_from_file(str(path))
    (tmp_path / "weights.bin").unlink()
    other = found.network()
    assert not found.module.OnnxParser(other, found.logger).parse_from_file(str(path))
