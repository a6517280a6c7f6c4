"""What a fake execution context knows: profile, shapes, values, memory and settings."""

# ruff: noqa: F821 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import ctypes
from typing import Any, Dict, List, Tuple

import numpy as np
from fakes.tensorrt_board import log, usage_error
from fakes.tensorrt_model import ShapeConflictError

ALIGNMENT = 256


class ContextState:
    def _setup(self, engine: Any, has_memory: bool) -> None:
        self._engine, self._logger = engine, engine._logger  # a context keeps its engine
        self._shapes: Dict[str, Tuple[int, ...]] = {}
        self._values: Dict[str, Tuple[int, ...]] = {}
        self._addresses: Dict[str, int] = {}
        self._allocators: Dict[str, Any] = {}
        self._profiler: Any = None
        self._emits, self._has_run = True, False
        self._has_memory = has_memory
        self._scratch: Tuple[int, int] | None = None  # what somebody else gave; TensorRT's own isn't modelled
        self._in_flight: List[Any] = []
        self._warm: Any = None
        self._last_stream = 0
        self._title = "Unnamed Execution Context 0"
        self._settings: Dict[str, Any] = {"persistent_cache_limit": 0, "nvtx_verbosity": None, "consumed": 0}
        self._profile = -1
        if not self._choose(0):
            text = "Could not set default profile 0 for execution context. Profile index must be set explicitly."
            log(self._logger, "WARNING", text)

    engine = property(lambda self: self._engine)
    all_binding_shapes_specified = property(lambda self: not self._missing())
    all_shape_inputs_specified = property(lambda self: not self._missing())

    @property
    def name(self) -> str:
        return self._title

    @name.setter
    def name(self, value: str) -> None:
        self._title = value

    @property
    def profiler(self) -> Any:
        return self._profiler

    @profiler.setter
    def profiler(self, value: IProfiler | None) -> None:
        self._profiler = value

    @property
    def enqueue_emits_profile(self) -> bool:
        return self._emits

    @enqueue_emits_profile.setter
    def enqueue_emits_profile(self, value: bool) -> None:
        self._emits = bool(value)

    active_optimization_profile = property(lambda self: self._profile)

    @property
    def _before_10_active_optimization_profile(self) -> int:
        return self._profile

    @_before_10_active_optimization_profile.setter
    def _before_10_active_optimization_profile(self, value: int) -> None:
        if not self._choose(value):
            raise RuntimeError("Error in set optimization profile.")

    def set_optimization_profile_async(self, profile_index: int, stream_handle: size) -> bool:
        if not self._choose(profile_index):
            raise RuntimeError("Error in set optimization profile async.")
        return True

    @property
    def device_memory(self) -> Any:
        raise AttributeError("unreadable attribute")

    @device_memory.setter
    def device_memory(self, value: size) -> None:
        self._give_scratch(int(value), self._engine._scratch_nbytes, "setDeviceMemory")

    def set_device_memory(self, memory: size, size: size) -> None:
        self._give_scratch(int(memory), int(size), "setDeviceMemoryV2")

    def _give_scratch(self, address: int, nbytes: int, method: str) -> None:
        needed = self._engine._scratch_nbytes
        if self._has_memory and self._scratch is None:
            self._complain(method, "this context has memory of its own")
        elif address % ALIGNMENT or nbytes < needed:
            self._complain(method, f"{nbytes} bytes at {address:#x} were given and {needed} aligned bytes are needed")
        else:
            self._scratch, self._has_memory = (address, needed), True

    def update_device_memory_size_for_shapes(self) -> int:
        return int(self._engine.device_memory_size_v2)

    @property
    def persistent_cache_limit(self) -> int:
        return int(self._settings["persistent_cache_limit"])

    @persistent_cache_limit.setter
    def persistent_cache_limit(self, value: size) -> None:
        self._settings["persistent_cache_limit"] = value

    @property
    def nvtx_verbosity(self) -> Any:
        return self._settings["nvtx_verbosity"] or self._engine.profiling_verbosity

    @nvtx_verbosity.setter
    def nvtx_verbosity(self, value: ProfilingVerbosity) -> None:
        self._settings["nvtx_verbosity"] = value

    def set_input_consumed_event(self, event: size) -> bool:
        self._settings["consumed"] = event
        return True

    def get_input_consumed_event(self) -> int:
        return int(self._settings["consumed"])

    def _choose(self, profile: int) -> bool:
        engine = self._engine
        if not 0 <= profile < len(engine._profiles):
            return self._complain("setOptimizationProfile", f"there is no optimization profile {profile}")
        others = [chosen for context, chosen in engine._chosen.items() if context is not self]
        if engine._is_dynamic and not engine._shares_profiles and profile in others:
            return self._complain(
                "setOptimizationProfile",
                f"Profile {profile} has been chosen by another IExecutionContext. Use another profileIndex or destroy "
                "the IExecutionContext that use this profile.",
            )
        if profile != self._profile:
            self._shapes, self._values, self._warm = {}, {}, None
        self._profile = engine._chosen[self] = int(profile)
        return True

    def _inputs(self) -> List[Any]:
        return [tensor for tensor in self._engine._tensors if tensor.is_input]

    def _missing(self) -> List[str]:
        return [
            tensor.name
            for tensor in self._inputs()
            if (-1 in tensor.shape and tensor.name not in self._shapes)
            or (tensor.is_shape and tensor.name not in self._values)
        ]

    def _shapes_of_inputs(self) -> Dict[str, Tuple[int, ...]]:
        return {tensor.name: self._shapes.get(tensor.name, tensor.shape) for tensor in self._inputs()}

    def _all_shapes(self) -> Dict[str, Tuple[int, ...]]:
        inputs = self._shapes_of_inputs()
        values = {
            name: np.array(value, self._engine._by_name[name].numpy).reshape(inputs[name])
            for name, value in self._values.items()
        }
        return {**inputs, **self._engine._runnable.output_shapes(inputs, values)}

    def _dims_now(self, tensor: Any) -> Any:
        try:
            return self._module.Dims(self._shape_now(tensor))
        except ShapeConflictError as conflict:
            self._complain("getTensorShape", str(conflict))
            return self._module.Dims._invalid()

    def _shape_now(self, tensor: Any) -> Tuple[int, ...]:
        if tensor.is_input:
            return self._shapes_of_inputs()[tensor.name]
        return tensor.shape if self._missing() else self._all_shapes()[tensor.name]

    def _set_shape(self, tensor: Any, shape: Tuple[int, ...], method: str) -> bool:
        if self._profile < 0:
            return self._complain(method, "no optimization profile was chosen")
        is_fixed = len(shape) == len(tensor.shape) and all(own in (-1, new) for own, new in zip(tensor.shape, shape))
        if not is_fixed:
            return self._complain(
                method,
                f"Static dimension mismatch while setting input shape for {tensor.name}. "
                f"Set dimensions are {list(shape)}. Expected dimensions are {list(tensor.shape)}.",
            )
        low, _, high = self._engine._profiles[self._profile]["shapes"][tensor.name]
        if not all(least <= size <= most for least, size, most in zip(low, shape, high)):
            return self._complain(
                method,
                f"Set dimension {list(shape)} for tensor {tensor.name} does not satisfy any optimization profiles. "
                f"Valid range for profile {self._profile}: {list(low)}..{list(high)}.",
            )
        self._shapes[tensor.name] = shape
        return True

    def _state(self) -> Any:
        return self._profile, tuple(sorted(self._shapes.items())), tuple(sorted(self._values.items()))

    def _host_values(self, tensor: Any, memory: int) -> Tuple[int, ...]:
        """The values of a shape input, which is in host memory."""
        size = int(np.prod(self._shapes_of_inputs()[tensor.name], dtype=np.int64)) * tensor.numpy.itemsize
        return tuple(np.frombuffer(ctypes.string_at(memory, size), tensor.numpy).tolist())

    def _complain(self, method: str, text: str) -> bool:
        usage_error(self._module, self._logger, f"IExecutionContext::{method}", text)
        return False
