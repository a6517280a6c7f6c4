"""NVML without a GPU: the functions of `pynvml` that a source of telemetry calls, with errors of the same shape.

Names and constants are held against the real nvidia-ml-py by `test_nvml.py`. The GPU and all values are made up.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict

CONSTANTS = {
    "NVML_CLOCK_SM": 1,
    "NVML_CLOCK_MEM": 2,
    "NVML_TEMPERATURE_GPU": 0,
    "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN": 1,
    "NVML_ERROR_UNINITIALIZED": 1,
    "NVML_ERROR_NOT_SUPPORTED": 3,
    "NVML_ERROR_INVALID_ARGUMENT": 2,
    "NVML_ERROR_NOT_FOUND": 6,
    "NVML_ERROR_DRIVER_NOT_LOADED": 9,
    "NVML_ERROR_TIMEOUT": 10,
    "NVML_ERROR_LIBRARY_NOT_FOUND": 12,
    "NVML_ERROR_FUNCTION_NOT_FOUND": 13,
    "NVML_ERROR_GPU_IS_LOST": 15,
    "NVML_ERROR_RESET_REQUIRED": 16,
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": 18,
}
REASONS = {
    "GpuIdle": 1,
    "SwPowerCap": 4,
    "HwSlowdown": 8,
    "SwThermalSlowdown": 32,
    "HwThermalSlowdown": 64,
    "HwPowerBrakeSlowdown": 128,
}
ANSWERS: Dict[str, Any] = {
    "nvmlDeviceGetName": "NVIDIA Made-Up 1",
    "nvmlDeviceGetPowerUsage": 61500,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87, memory=41),
    "nvmlDeviceGetClockInfo": lambda kind: {1: 1830, 2: 7001}[kind],
    "nvmlDeviceGetMaxClockInfo": 2100,
    "nvmlDeviceGetTemperature": 71,
    "nvmlDeviceGetTemperatureThreshold": 93,
    "nvmlDeviceGetCurrentClocksEventReasons": 4 | 32,
}


class NVMLError(Exception):
    """As pynvml's: made with a code, which it keeps."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return f"NVML Error with code {self.value}"


class FakeNvml:
    """One GPU; an answer that is an NVMLError is raised, one that is None is a function that the library lacks."""

    NVMLError = NVMLError

    def __init__(self, gpus: int = 1, starts: int | None = None, **answers: Any) -> None:
        for name, value in CONSTANTS.items():
            setattr(self, name, value)
        for name, bit in REASONS.items():
            setattr(self, f"nvmlClocksEventReason{name}", bit)
            setattr(self, f"nvmlClocksThrottleReason{name}", bit)
        self.answers = {**ANSWERS, **answers}
        self.connections = 0
        self.calls: list[str] = []
        self._gpus = gpus
        self._start_error = starts

    def nvmlInit(self) -> None:
        if self._start_error is not None:
            raise NVMLError(self._start_error)
        self.connections += 1

    def nvmlShutdown(self) -> None:
        self.connections -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index >= self._gpus:
            raise NVMLError(CONSTANTS["NVML_ERROR_INVALID_ARGUMENT"])
        return f"handle {index}"

    def __getattr__(self, name: str) -> Any:
        answer = self.__dict__.get("answers", {}).get(name)
        if answer is None:
            raise AttributeError(name)

        def call(handle: str, *arguments: Any) -> Any:
            assert handle == "handle 0"
            self.calls.append(name)
            current = self.answers[name]
            if isinstance(current, NVMLError):
                raise current
            return current(*arguments) if callable(current) else current

        return call
