"""Shape inputs, sizes that data decides, and profilers on the fake execution context."""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import pytest
from fakes.tensorrt_running import Running, X, Y, bound, dense
from fakes.tensorrt_session import Session, dense_model, onnx_model
from onnx import TensorProto
from onnx.helper import make_node


def reshape(surface: str) -> Running:
    model = onnx_model([make_node("Reshape", ["x", "s"], ["y"])], {"x": [4], "s": (TensorProto.INT64, [2])}, ["y"])

    def config(session: Session) -> Any:
        made, profile = session.config(), session.builder.create_optimization_profile()
        profile.set_shape_input("s", [1, 1], [2, 2], [4, 4])
        made.add_optimization_profile(profile)
        return made

    return Running(surface, model, config)


def test_a_shape_input_is_read_in_host_memory() -> None:
    found = reshape("10.3")
    values, context = np.array([2, 2], np.int64), found.engine.create_execution_context()
    assert found.engine.get_tensor_location("s").name == "HOST"
    assert found.engine.get_tensor_profile_values(0, "s") == [[1, 1], [2, 2], [4, 4]]
    assert context.infer_shapes() == ["s"]
    assert context.set_tensor_address("s", values.ctypes.data)
    assert tuple(context.get_tensor_shape("y")) == (2, 2)


def test_a_shape_input_is_set_by_its_binding() -> None:
    found = reshape("8.2")
    context = found.engine.create_execution_context()
    assert found.engine.is_shape_binding(1)
    assert context.set_shape_input(1, [4, 1])
    assert (tuple(context.get_binding_shape(2)), context.get_shape(1)) == ((4, 1), [4, 1])


def test_shapes_that_dont_go_together_have_no_length() -> None:
    nodes = [make_node("Add", ["a", "b"], ["y"])]
    found = Running(
        "10.3",
        onnx_model(nodes, {"a": ["n"], "b": ["m"]}, ["y"]),
        profiles=[{"a": ((1,), (2,), (8,)), "b": ((1,), (2,), (8,))}],
    )
    context = found.engine.create_execution_context()
    assert context.set_input_shape("a", (2,))
    assert context.set_input_shape("b", (3,))
    with pytest.raises(ValueError, match=">= 0"):
        tuple(context.get_tensor_shape("y"))


NON_ZERO = onnx_model([make_node("NonZero", ["x"], ["y"])], {"x": [4]}, [("y", TensorProto.INT64)])


def allocator(found: Running, calls: List[Any], with_stream: bool) -> Any:
    class Allocator(found.trt.IOutputAllocator):  # type: ignore[misc]
        def __init__(self) -> None:
            found.trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
            calls.append(("room", tensor_name, size))
            return found.room(size)

        if with_stream:

            def reallocate_output_async(
                self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
            ) -> int:
                calls.append(("room on stream", tensor_name, size))
                return found.room(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            calls.append(("shape", tensor_name, tuple(shape)))

    return Allocator()


@pytest.mark.parametrize(("surface", "nbytes", "first"), [("8.5", 8, "room"), ("10.3", 16, "room on stream")])
def test_an_allocator_learns_a_size_that_data_decides(surface: str, nbytes: int, first: str) -> None:
    found, calls = Running(surface, NON_ZERO), []
    context = found.engine.create_execution_context()
    assert tuple(context.get_tensor_shape("y")) == (1, -1)
    assert context.get_max_output_size("y") == 2 * nbytes
    made = allocator(found, calls, with_stream=True)
    context.set_tensor_address("x", found.put(np.array([0, 5, 0, 7], np.float32)))
    assert context.set_output_allocator("y", made)
    assert context.execute_async_v3(found.stream)
    assert calls == [(first, "y", nbytes), ("shape", "y", (1, 2))]
    kind = np.int64 if surface == "10.3" else np.int32
    assert found.read(context.get_tensor_address("y"), (1, 2), kind).tolist() == [[1, 3]]


def test_a_size_that_data_decides_needs_an_allocator() -> None:
    found = Running("10.3", NON_ZERO)
    context = found.engine.create_execution_context()
    context.set_tensor_address("x", found.put(np.zeros(4, np.float32)))
    context.set_tensor_address("y", found.room(64))
    assert not context.execute_async_v3(found.stream)
    assert "set an output allocator" in found.session.take()


def profiler(found: Running, rows: List[Tuple[str, float]], fails: bool = False) -> Any:
    class Profiler(found.trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            found.trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            if fails:
                raise ValueError("broken")
            rows.append((layer_name, ms))

    return Profiler()


def test_a_profiler_makes_an_enqueue_wait_unless_it_is_asked() -> None:
    found, rows = dense("10.3"), []
    context, output = bound(found)
    listener = profiler(found, rows)
    context.profiler = listener
    assert context.execute_async_v3(found.stream)
    assert [name for name, _ in rows] == ["fc + fc_0 + act"]
    assert found.cuda.pending(found.stream) == []
    context.enqueue_emits_profile = False
    assert context.execute_async_v3(found.stream)
    assert (len(rows), found.cuda.pending(found.stream)) == (1, ["kernel"])
    assert context.report_to_profiler()
    assert len(rows) == 2
    assert not context.report_to_profiler()
    np.testing.assert_array_equal(found.read(output, (2, 3)), Y)


def test_what_a_profiler_raises_ends_the_process_on_8_2(capfd: pytest.CaptureFixture) -> None:
    for surface in ("8.2", "10.3"):
        found = Running(surface, dense_model(rows=2))
        context, output = found.engine.create_execution_context(), found.room(24)
        listener = profiler(found, [], fails=True)
        context.profiler = listener
        if surface == "8.2":
            with pytest.raises(AssertionError, match="std::terminate"):
                context.execute_async_v2([found.put(X), output], found.stream)
        else:
            assert bound(found, context)[0].execute_async_v3(found.stream)
    assert "Exception caught in report_layer_time()" in capfd.readouterr().err
