"""The callback classes of the product, made from the real base classes of NVIDIA's bindings."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
from fakes.tensorrt import SURFACES, fake_tensorrt
from fakes.tensorrt_bindings import VERSIONS, Bindings

from edge_runtime.tensorrt_api import from_module

# Makes each callback that the library has a base for; prints its base, and the arguments of what it overrides.
CODE = """
import inspect, json

def callbacks(library):
    from edge_runtime.builder.tensorrt.calibrator import StoredErrors, make_calibrator
    from edge_runtime.builder.tensorrt.monitor import make_monitor
    from edge_runtime.engine.tensorrt.output_allocator import OutputRequest, make_output_allocator
    from edge_runtime.engine.tensorrt.profiling import LayerTimes, make_profiler
    from edge_runtime.tensorrt_api import MessageLog, make_logger

    makers = {
        "ILogger": lambda: make_logger(library, MessageLog()),
        "IInt8EntropyCalibrator2": lambda: make_calibrator(library, None, StoredErrors()),
        "IProgressMonitor": lambda: make_monitor(library, print, bool, StoredErrors()),
        "IOutputAllocator": lambda: make_output_allocator(library, OutputRequest(int)),
        "IProfiler": lambda: make_profiler(library, LayerTimes()),
    }
    found = {}
    for base, make in makers.items():
        if hasattr(library.module, base):
            made = make()
            assert isinstance(made, getattr(library.module, base))
            found[base] = {
                name: list(inspect.signature(value).parameters)[1:]
                for name, value in vars(type(made)).items()
                if inspect.isfunction(value) and not name.startswith("_")
            }
    return found
"""
REAL = """
import tensorrt_bindings
from edge_runtime.tensorrt_api import from_module
print(json.dumps(callbacks(from_module("tensorrt", tensorrt_bindings))))
"""
# What TensorRT calls, and from where on it may be missing.
MUST = {
    "ILogger": {"log"},
    "IInt8EntropyCalibrator2": {"get_batch_size", "get_batch", "read_calibration_cache", "write_calibration_cache"},
    "IProgressMonitor": {"phase_start", "step_complete", "phase_finish"},
    "IOutputAllocator": {"reallocate_output", "reallocate_output_async", "notify_shape"},
    "IProfiler": {"report_layer_time"},
}


def expected(version: str) -> set:
    gone = {"8.6.1": {"IProgressMonitor"}, "11.4": {"IInt8EntropyCalibrator2"}}
    return set(MUST) - gone.get(version, set())


@pytest.mark.parametrize("version", VERSIONS)
def test_callbacks_derive_from_the_real_classes(version: str, bindings: Callable[[str], Bindings]) -> None:
    found: Dict[str, Dict[str, Any]] = bindings(version).run(CODE + REAL)
    assert set(found) == expected(version)
    for base, methods in found.items():
        assert set(methods) >= MUST[base], base


@pytest.mark.parametrize("version", VERSIONS)
def test_overridden_methods_have_the_arguments_of_the_real_ones(
    version: str, bindings: Callable[[str], Bindings]
) -> None:
    real = bindings(version)
    for base, methods in real.run(CODE + REAL).items():
        for name, arguments in methods.items():
            wanted = real.callback(base, name)
            assert wanted is None or tuple(arguments) == wanted, (base, name)
            assert wanted is not None or (version, name) == ("8.6.1", "reallocate_output_async"), (base, name)


@pytest.mark.parametrize("surface", SURFACES)
def test_callbacks_derive_from_the_fakes_too(surface: str) -> None:
    room: Dict[str, Any] = {}
    exec(CODE, room)
    library = from_module("tensorrt", fake_tensorrt(surface))
    assert set(room["callbacks"](library)) == {base for base in MUST if hasattr(library.module, base)}
