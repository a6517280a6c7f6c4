"""The fake engine runs plans with real results, and is as hard on its callers as TensorRT."""

from __future__ import annotations

import gc
import json
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from fakes.cuda import FakeCuda
from fakes.tensorrt import SURFACES, VERSIONS, fake_tensorrt
from fakes.tensorrt_running import ROWS, Running, X, Y, bound, dense
from fakes.tensorrt_session import Session, dense_model, onnx_model
from onnx import TensorProto
from onnx.helper import make_node

BY_INDEX = ("8.2", "8.4", "8.5", "8.6")
BY_NAME = ("8.5", "8.6", "10.3", "10.13", "11.4")


@pytest.mark.parametrize("surface", BY_NAME)
def test_a_plan_runs_by_name(surface: str) -> None:
    found = dense(surface)
    context, output = bound(found)
    assert context.execute_async_v3(found.stream)
    assert found.cuda.view(output, 4)[0] == 0xDB  # nothing has run yet
    found.finish()
    np.testing.assert_array_equal(found.read(output, (2, 3)), Y)


@pytest.mark.parametrize("surface", BY_INDEX)
def test_a_plan_runs_by_index(surface: str) -> None:
    found = dense(surface)
    context, output = found.engine.create_execution_context(), found.room(24)
    assert context.set_binding_shape(0, (2, 4))
    assert tuple(context.get_binding_shape(1)) == (2, 3)
    assert context.execute_async_v2([found.put(X), output], stream_handle=found.stream)
    found.finish()
    np.testing.assert_array_equal(found.read(output, (2, 3)), Y)


def test_tensors_are_described_by_name() -> None:
    engine = dense("10.3").engine
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert [(n, engine.get_tensor_mode(n).name, engine.get_tensor_dtype(n).name) for n in names] == [
        ("x", "INPUT", "FLOAT"),
        ("y", "OUTPUT", "FLOAT"),
    ]
    assert [tuple(engine.get_tensor_shape(name)) for name in names] == [(-1, 4), (-1, 3)]
    assert [tuple(shape) for shape in engine.get_tensor_profile_shape("x", 0)] == list(ROWS)
    assert engine.get_tensor_location("x").name == "DEVICE"
    with pytest.raises(ValueError, match=">= 0"):
        len(engine.get_tensor_shape("z"))


def test_bindings_are_there_once_for_each_profile() -> None:
    engine = dense("8.2", [{"x": ROWS}, {"x": ((8, 4), (16, 4), (32, 4))}]).engine
    assert (engine.num_bindings, engine.num_optimization_profiles) == (4, 2)
    assert [engine.get_binding_name(index) for index in range(4)] == ["x", "y", "x [profile 1]", "y [profile 1]"]
    assert (engine.get_binding_index("y"), engine["y"], engine[1]) == (1, 1, "y")
    assert [engine.binding_is_input(index) for index in range(4)] == [True, False, True, False]
    assert tuple(engine.get_profile_shape(1, 2)[2]) == (32, 4)


def test_the_bindings_of_the_chosen_profile_are_used() -> None:
    found = dense("8.2", [{"x": ((1, 4), (1, 4), (1, 4))}, {"x": ROWS}])
    context, output = found.engine.create_execution_context(), found.room(24)
    assert context.set_optimization_profile_async(1, found.stream)
    assert not context.set_binding_shape(0, (2, 4))  # that is profile 0's
    assert context.set_binding_shape(2, (2, 4))
    assert context.execute_async_v2([0, 0, found.put(X), output], found.stream)
    found.finish()
    np.testing.assert_array_equal(found.read(output, (2, 3)), Y)
    with pytest.raises(AssertionError, match="segfault: enqueueV2 reads 4 bindings"):
        context.execute_async_v2([found.put(X), output], found.stream)


@pytest.mark.parametrize(("surface", "is_shared"), [("8.2", False), ("8.6", False), ("10.3", True), ("11.4", True)])
def test_contexts_share_a_profile_from_10_on(surface: str, is_shared: bool) -> None:
    found = dense(surface)
    first, second = found.engine.create_execution_context(), found.engine.create_execution_context()
    assert (second.active_optimization_profile == 0) is is_shared
    if not is_shared:
        with pytest.raises(RuntimeError, match="Error in set optimization profile"):
            second.set_optimization_profile_async(0, found.stream)
        assert "Profile 0 has been chosen by another IExecutionContext" in found.session.take()
        del first
        gc.collect()
        assert second.set_optimization_profile_async(0, found.stream)


def test_8_6_shares_a_profile_if_the_plan_was_built_for_it() -> None:
    def config(session: Session) -> Any:
        made = session.config(x=ROWS)
        made.set_preview_feature(session.module.PreviewFeature.PROFILE_SHARING_0806, True)
        return made

    found = Running("8.6", dense_model(), config)
    contexts = [found.engine.create_execution_context() for _ in range(2)]
    assert [context.active_optimization_profile for context in contexts] == [0, 0]


def test_contexts_of_fixed_shapes_need_no_profile() -> None:
    found = Running("8.2", dense_model(rows=2))
    contexts = [found.engine.create_execution_context() for _ in range(3)]
    assert [context.active_optimization_profile for context in contexts] == [0, 0, 0]


def test_an_output_has_no_shape_until_all_inputs_have_one() -> None:
    found = dense("10.3")
    context = found.engine.create_execution_context()
    assert tuple(context.get_tensor_shape("y")) == (-1, 3)
    assert context.infer_shapes() == ["x"]
    assert context.set_input_shape("x", (5, 4))
    assert tuple(context.get_tensor_shape("y")) == (5, 3)
    assert context.infer_shapes() == []


@pytest.mark.parametrize("shape", [(9, 4), (0, 4), (2, 5), (2,), (2, 4, 1)])
def test_shapes_outside_the_profile_are_refused(shape: Tuple[int, ...]) -> None:
    context = dense("10.3").engine.create_execution_context()
    assert not context.set_input_shape("x", shape)
    assert not context.set_input_shape("y", shape)


def test_addresses_must_be_aligned() -> None:
    found = dense("10.3")
    context, output = bound(found)
    assert not context.set_tensor_address("y", output + 16)
    assert not context.set_tensor_address("z", output)
    with pytest.raises(TypeError):
        context.set_tensor_address("y", -1)


def test_unbound_tensors_and_missing_shapes_fail_the_enqueue() -> None:
    found = dense("10.3")
    context = found.engine.create_execution_context()
    assert not context.execute_async_v3(found.stream)
    assert "Neither address or allocator is set for input tensor x" in found.session.take()
    context.set_tensor_address("x", found.put(X))
    context.set_tensor_address("y", found.room(24))
    assert not context.execute_async_v3(found.stream)
    assert "input shapes or values are missing: x" in found.session.take()


def test_a_context_is_used_on_one_stream() -> None:
    found = dense("10.3")
    context, _ = bound(found)
    assert context.execute_async_v3(found.stream)
    other = found.cuda.create_stream()
    with pytest.raises(AssertionError, match="on two streams at once"):
        context.execute_async_v3(other)
    found.finish()
    assert context.execute_async_v3(other)


def test_memory_that_was_given_back_isnt_written() -> None:
    found = dense("10.3")
    context, output = bound(found)
    found.cuda.free_device(output)
    with pytest.raises(AssertionError, match="given back"):
        context.execute_async_v3(found.stream)


def test_a_capture_needs_one_run_before_it() -> None:
    found = dense("10.3")
    context, output = bound(found)
    found.cuda.begin_capture(found.stream)
    assert not context.execute_async_v3(found.stream)
    found.cuda.end_capture(found.stream)
    assert context.execute_async_v3(found.stream)
    found.finish()
    found.cuda.begin_capture(found.stream)
    assert context.execute_async_v3(found.stream)
    graph = found.cuda.end_capture(found.stream)
    found.cuda.view(output, 24)[:] = 0
    found.cuda.launch_graph(graph, found.stream)
    found.finish()
    np.testing.assert_array_equal(found.read(output, (2, 3)), Y)
    context.set_input_shape("x", (1, 4))
    found.cuda.begin_capture(found.stream)
    assert not context.execute_async_v3(found.stream)


def test_a_context_without_memory_needs_some() -> None:
    found = dense("10.3")
    needed = found.engine.device_memory_size_v2
    context = found.engine.create_execution_context(found.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    context, _ = bound(found, context)
    assert not context.execute_async_v3(found.stream)
    context.set_device_memory(found.room(needed), needed - 1)
    assert not context.execute_async_v3(found.stream)
    context.set_device_memory(found.room(needed), needed)
    assert context.execute_async_v3(found.stream)


def test_scratch_memory_serves_one_stream_at_a_time() -> None:
    found = dense("10.3")
    needed = found.engine.device_memory_size_v2
    scratch, other = found.room(needed), found.cuda.create_stream()
    contexts = []
    for _ in range(2):
        made = found.engine.create_execution_context(found.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        made.set_device_memory(scratch, needed)
        contexts.append(bound(found, made)[0])
    assert contexts[0].execute_async_v3(found.stream)
    with pytest.raises(AssertionError, match="same scratch memory"):
        contexts[1].execute_async_v3(other)


def test_8_has_no_strategy() -> None:
    found = dense("8.6")
    with pytest.raises(TypeError):
        found.engine.create_execution_context(None)


@pytest.mark.parametrize("surface", SURFACES)
def test_plans_of_other_versions_are_refused(surface: str) -> None:
    found = dense(surface)
    for other in SURFACES:
        runtime = Session(fake_tensorrt(other, found.cuda))
        engine = runtime.module.Runtime(runtime.logger).deserialize_cuda_engine(found.plan)
        assert (engine is not None) is (other == surface)
        assert surface == other or "deserializ" in runtime.take()


def test_the_error_names_both_versions() -> None:
    found, other = dense("10.3"), Session(fake_tensorrt("10.13", FakeCuda()))
    assert other.module.Runtime(other.logger).deserialize_cuda_engine(found.plan) is None
    assert f"expecting library version {VERSIONS['10.13']} got 10.3.0.0" in other.take()


def test_plans_of_another_gpu_are_refused() -> None:
    found, other = dense("10.3"), Session(fake_tensorrt("10.3", FakeCuda(), compute_capability=(7, 2)))
    assert other.module.Runtime(other.logger).deserialize_cuda_engine(found.plan) is None
    assert "expecting compute 7.2 got compute 8.7" in other.take()


@pytest.mark.parametrize("broken", [b"", b"garbage" * 10, "truncated"])
def test_what_is_no_plan_is_refused(broken: Any) -> None:
    found = dense("10.3")
    plan = found.plan[:-1] if broken == "truncated" else broken
    assert found.runtime.deserialize_cuda_engine(plan) is None
    assert found.session.take()


def test_a_version_compatible_plan_needs_permission() -> None:
    found = Running("8.6", dense_model(rows=2))
    plan = found.session.plan(dense_model(rows=2), found.session.config("VERSION_COMPATIBLE"))
    assert found.runtime.deserialize_cuda_engine(plan) is None
    found.runtime.engine_host_code_allowed = True
    assert found.runtime.deserialize_cuda_engine(plan) is not None


def test_no_gpu_means_no_runtime() -> None:
    session = Session(fake_tensorrt("10.3"))
    with pytest.raises(TypeError, match="factory function returned nullptr"):
        session.module.Runtime(session.logger)


def test_integers_of_64_bits_are_32_below_10() -> None:
    model = onnx_model([make_node("Cast", ["i"], ["y"], to=1)], {"i": (TensorProto.INT64, [4])}, ["y"])
    for surface, kind in (("8.6", np.int32), ("10.3", np.int64)):
        found = Running(surface, model)
        context, output = found.engine.create_execution_context(), found.room(16)
        context.set_tensor_address("i", found.put(np.array([1, -2, 3, 4], kind)))
        context.set_tensor_address("y", output)
        assert context.execute_async_v3(found.stream)
        found.finish()
        assert found.read(output, (4,)).tolist() == [1, -2, 3, 4]


@pytest.mark.parametrize("surface", SURFACES)
def test_the_inspector_describes_layers(surface: str) -> None:
    def config(session: Session) -> Any:
        made = session.config(x=ROWS)
        made.profiling_verbosity = session.module.ProfilingVerbosity.DETAILED
        return made

    found = Running(surface, dense_model(), config)
    inspector = found.engine.create_engine_inspector()
    content: Dict[str, Any] = json.loads(inspector.get_engine_information(found.trt.LayerInformationFormat.JSON))
    assert [layer["Name"] for layer in content["Layers"]] == ["fc + fc_0 + act"]
    assert ("I/O Tensors" in content, "Bindings" in content) == ((True, False) if surface == "11.4" else (False, True))
    assert ("Metadata" in content["Layers"][0]) == (surface not in ("8.2", "8.4", "8.5"))


def test_the_inspector_has_names_alone_by_default() -> None:
    found = dense("8.6")
    text = found.engine.create_engine_inspector().get_engine_information(found.trt.LayerInformationFormat.JSON)
    assert json.loads(text) == {"Layers": ["fc + fc_0 + act"], "Bindings": ["x", "y"]}


def test_an_inspector_of_8_2_doesnt_keep_its_engine() -> None:
    found = dense("8.2")
    inspector = found.engine.create_engine_inspector()
    found.engine = None
    gc.collect()
    with pytest.raises(AssertionError, match="segfault: the engine of this inspector"):
        inspector.get_engine_information(found.trt.LayerInformationFormat.JSON)


def test_a_context_keeps_its_engine() -> None:
    found = dense("10.3")
    context, output = bound(found)
    found.engine = found.runtime = None
    gc.collect()
    assert context.execute_async_v3(found.stream)
    found.finish()
    np.testing.assert_array_equal(found.read(output, (2, 3)), Y)


def test_a_board_can_fail_contexts_and_runs() -> None:
    found = dense("10.3")
    context, _ = bound(found)
    found.trt._board.enqueue_error = "Cuda Runtime (unspecified launch failure)"
    assert not context.execute_async_v3(found.stream)
    assert "unspecified launch failure" in found.session.take()
    found.trt._board.context_error = "out of memory"
    assert found.engine.create_execution_context() is None


def test_an_error_of_cuda_is_logged_by_tensorrt() -> None:
    found = dense("10.3")
    context, _ = bound(found)
    found.cuda.fail_next("enqueue", 700)
    assert not context.execute_async_v3(found.stream)
    assert "Cuda Runtime" in found.session.take()
