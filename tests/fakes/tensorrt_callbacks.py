"""The classes that people derive from: logger, profiler, calibrators, output allocator, progress monitor."""

# ruff: noqa: F821, A002 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import sys
from typing import Any


def _pure(name: str) -> Any:
    raise RuntimeError(f'Tried to call pure virtual function "{name}"')


class ILogger:
    _is_callback = True

    def __init__(self) -> None:
        self._is_constructed = True

    def log(self, severity: Severity, msg: str) -> None:
        _pure("ILogger::log")


class Logger:
    """TensorRT's own; it writes to standard output."""

    _is_callback = True

    def __init__(self, min_severity: Severity | None = None) -> None:
        self._is_constructed = True
        self.min_severity = type(self).WARNING if min_severity is None else min_severity

    min_severity = None

    def log(self, severity: Severity, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            sys.stdout.write(f"[TRT] {msg}\n")


class IProfiler:
    _is_callback = True

    def __init__(self) -> None:
        self._is_constructed = True

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        _pure("IProfiler::reportLayerTime")


class IProgressMonitor:
    _is_callback = True

    def __init__(self) -> None:
        self._is_constructed = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        _pure("IProgressMonitor::phaseStart")

    def step_complete(self, phase_name: str, step: int) -> bool:
        return bool(_pure("IProgressMonitor::stepComplete"))

    def phase_finish(self, phase_name: str) -> None:
        _pure("IProgressMonitor::phaseFinish")


class IOutputAllocator:
    _is_callback = True

    def __init__(self) -> None:
        self._is_constructed = True

    def reallocate_output(self, tensor_name: str, memory: object, size: int, alignment: int) -> object:
        return _pure("IOutputAllocator::reallocateOutput")

    def notify_shape(self, tensor_name: str, shape: Dims) -> None:
        _pure("IOutputAllocator::notifyShape")


class IInt8EntropyCalibrator2:
    _is_callback = True
    _algorithm = "ENTROPY_CALIBRATION_2"
    _title = "EntropyCalibration2"

    def __init__(self) -> None:
        self._is_constructed = True

    def get_batch_size(self) -> int:
        return int(_pure("IInt8Calibrator::getBatchSize"))

    def get_algorithm(self) -> Any:
        return getattr(self._module.CalibrationAlgoType, self._algorithm)

    def get_batch(self, names: list) -> Any:
        _pure("IInt8Calibrator::getBatch")

    def read_calibration_cache(self) -> Any:
        _pure("IInt8Calibrator::readCalibrationCache")

    def write_calibration_cache(self, cache: buffer) -> None:
        _pure("IInt8Calibrator::writeCalibrationCache")


class IInt8MinMaxCalibrator:
    _is_callback = True
    _algorithm = "MINMAX_CALIBRATION"
    _title = "MinMaxCalibration"
    __init__ = IInt8EntropyCalibrator2.__init__
    get_batch_size = IInt8EntropyCalibrator2.get_batch_size
    get_algorithm = IInt8EntropyCalibrator2.get_algorithm
    get_batch = IInt8EntropyCalibrator2.get_batch
    read_calibration_cache = IInt8EntropyCalibrator2.read_calibration_cache
    write_calibration_cache = IInt8EntropyCalibrator2.write_calibration_cache


class IPluginRegistry:
    def _setup(self, logger: Any = None) -> None:
        self._logger = logger

    plugin_creator_list = property(lambda self: [])
    all_creators = property(lambda self: [])

    def get_plugin_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        return None

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        return None

    def load_library(self, plugin_path: str) -> Any:
        board = self._module._board
        if plugin_path not in board.plugin_libraries:
            sys.stderr.write(f"Unable to open library: {plugin_path}\n")
            return None
        board.loaded_libraries.append(plugin_path)
        return object()

    def deregister_library(self, handle: object) -> None:
        return None
