"""What a fake build is told: configuration, optimization profiles, timing caches."""

# ruff: noqa: F821, A002 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

from fakes.tensorrt_binding import host_memory, make
from fakes.tensorrt_board import internal_error, log, usage_error

_ALL = 64 << 30


def _setting(name: str, kind: str) -> property:
    """A property that keeps what it is given, if it is of that kind."""

    def read(self: Any) -> Any:
        return self._settings[name]

    def write(self: Any, value: Any) -> None:
        self._settings[name] = value

    write.__annotations__ = {"value": kind}
    write.__name__ = name
    return property(read, write)


class IOptimizationProfile:
    def _setup(self, logger: Any) -> None:
        self._logger = logger
        self._shapes: Dict[str, List[Tuple[int, ...]]] = {}
        self._values: Dict[str, List[Tuple[int, ...]]] = {}
        self._settings: Dict[str, Any] = {"extra_memory_target": 1.0}

    extra_memory_target = _setting("extra_memory_target", "float")

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None:
        shapes = []
        for what, shape in (("min", min), ("opt", opt), ("max", max)):
            shapes.append(tuple(int(size) for size in shape))
            if any(size < 0 for size in shapes[-1]):
                caller, text = "IOptimizationProfile::setDimensions", "Parameter check failed, condition: x >= 0."
                usage_error(self._module, self._logger, caller, text)
                raise RuntimeError(f"Shape provided for {what} is inconsistent with other shapes.")
        self._shapes[input] = shapes

    def get_shape(self, input: str) -> List[Any]:
        if input not in self._shapes:
            text = f"Cannot get dimensions for input: {input}. Input is not present in this OptimizationProfile"
            usage_error(self._module, self._logger, "IOptimizationProfile::getDimensions", text, 4)
            return []
        return [self._module.Dims(shape) for shape in self._shapes[input]]

    def set_shape_input(self, input: str, min: ints, opt: ints, max: ints) -> None:
        values = [tuple(int(value) for value in given) for given in (min, opt, max)]
        for what, before, given in (("opt", values[0], values[1]), ("max", values[1], values[2])):
            if len(before) != len(given) or any(low > high for low, high in zip(before, given)):
                raise RuntimeError(f"{what} input provided for shape tensor is inconsistent with other inputs.")
        self._values[input] = values

    def get_shape_input(self, input: str) -> List[List[int]]:
        return [list(values) for values in self._values.get(input, [])]

    def __bool__(self) -> bool:
        wrong = [
            name
            for name, (low, best, high) in [*self._shapes.items(), *self._values.items()]
            if not len(low) == len(best) == len(high) or not all(a <= b <= c for a, b, c in zip(low, best, high))
        ]
        if wrong:
            text = (
                f"Invalid optimization profiles for input tensors {', '.join(wrong)}, please ensure that the "
                "optimization profiles satisfy MIN<=OPT<=MAX."
            )
            usage_error(self._module, self._logger, "IOptimizationProfile::isValid", text, 4)
        return not wrong


class ITimingCache:
    """Tactics by layer, for one version and one compute capability."""

    def _setup(self, tactics: Dict[str, int], compute_capability: List[int]) -> None:
        self._tactics, self._compute_capability = tactics, compute_capability

    def serialize(self) -> Any:
        content = {
            "version": self._module.__version__,
            "compute_capability": self._compute_capability,
            "tactics": self._tactics,
        }
        return host_memory(self._module, b"timing" + json.dumps(content).encode())

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if input_cache._compute_capability != self._compute_capability and not ignore_mismatch:
            return False
        self._tactics.update(input_cache._tactics)
        return True

    def reset(self) -> bool:
        self._tactics.clear()
        return True


class IBuilderConfig:
    def _setup(self, builder: Any, logger: Any) -> None:
        self._builder, self._logger = builder, logger
        self._flags = 1 << int(self._module.BuilderFlag.TF32)
        self._pools: Dict[str, int] = {}
        self._profiles: List[Any] = []
        self._calibration_profile: Any = None
        self._timing_cache: Any = None
        self._devices: Dict[str, Any] = {}
        self._quantization_flags = 0
        self._features: Dict[str, bool] = {}
        self._settings: Dict[str, Any] = {
            "int8_calibrator": None,
            "progress_monitor": None,
            "default_device_type": self._module.DeviceType.GPU,
            "DLA_core": -1,
            "profiling_verbosity": self._module.ProfilingVerbosity.LAYER_NAMES_ONLY,
            "builder_optimization_level": 3,
            "engine_capability": self._module.EngineCapability.STANDARD,
            "avg_timing_iterations": 1,
            "min_timing_iterations": 1,
            "profile_stream": 0,
            "max_aux_streams": -1,
        }
        if hasattr(self._module, "HardwareCompatibilityLevel"):
            self._settings["hardware_compatibility_level"] = self._module.HardwareCompatibilityLevel.NONE

    int8_calibrator = _setting("int8_calibrator", "IInt8EntropyCalibrator2 | IInt8MinMaxCalibrator | None")
    progress_monitor = _setting("progress_monitor", "IProgressMonitor | None")
    default_device_type = _setting("default_device_type", "DeviceType")
    profiling_verbosity = _setting("profiling_verbosity", "ProfilingVerbosity")
    hardware_compatibility_level = _setting("hardware_compatibility_level", "HardwareCompatibilityLevel")
    engine_capability = _setting("engine_capability", "EngineCapability")
    avg_timing_iterations = _setting("avg_timing_iterations", "int")
    min_timing_iterations = _setting("min_timing_iterations", "int")
    profile_stream = _setting("profile_stream", "size")
    max_aux_streams = _setting("max_aux_streams", "int")
    num_optimization_profiles = property(lambda self: len(self._profiles))

    @property
    def DLA_core(self) -> int:
        return int(self._settings["DLA_core"])

    @DLA_core.setter
    def DLA_core(self, value: int) -> None:
        if not -1 <= value < self._module._board.dla_cores:
            text = f"Parameter check failed, condition: dlaCore < getNbDLACores(). DLA core {value}"
            usage_error(self._module, self._logger, "IBuilderConfig::setDLACore", text)
            return
        self._settings["DLA_core"] = int(value)

    @property
    def builder_optimization_level(self) -> int:
        return int(self._settings["builder_optimization_level"])

    @builder_optimization_level.setter
    def builder_optimization_level(self, value: int) -> None:
        if value < 0:
            text = "Parameter check failed, condition: level >= 0. Setting builder optimization level."
            usage_error(self._module, self._logger, "IBuilderConfig::setBuilderOptimizationLevel", text)
            return
        self._settings["builder_optimization_level"] = int(value)

    @property
    def flags(self) -> int:
        return self._flags

    @flags.setter
    def flags(self, value: size) -> None:
        self._flags = value

    @property
    def max_workspace_size(self) -> int:
        return self._pools.get("WORKSPACE", 0 if self._module._surface == "8.2" else _ALL)

    @max_workspace_size.setter
    def max_workspace_size(self, value: size) -> None:
        self._pools["WORKSPACE"] = int(value)

    def set_flag(self, flag: BuilderFlag) -> None:
        flags = self._module.BuilderFlag
        if flag.name == "EXCLUDE_LEAN_RUNTIME" and not self.get_flag(flags.VERSION_COMPATIBLE):
            text = "kEXCLUDE_LEAN_RUNTIME needs kVERSION_COMPATIBLE"
            usage_error(self._module, self._logger, "IBuilderConfig::setFlag", text)
            return
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag: BuilderFlag) -> bool:
        return bool(self._flags & (1 << int(flag)))

    def _has(self, name: str) -> bool:
        flag = getattr(self._module.BuilderFlag, name, None)
        return flag is not None and bool(self._flags & (1 << int(flag)))

    @property
    def quantization_flags(self) -> int:
        return self._quantization_flags

    @quantization_flags.setter
    def quantization_flags(self, value: size) -> None:
        self._quantization_flags = value

    def set_quantization_flag(self, flag: QuantizationFlag) -> None:
        self._quantization_flags |= 1 << int(flag)

    def clear_quantization_flag(self, flag: QuantizationFlag) -> None:
        self._quantization_flags &= ~(1 << int(flag))

    def get_quantization_flag(self, flag: QuantizationFlag) -> bool:
        return bool(self._quantization_flags & (1 << int(flag)))

    def set_preview_feature(self, feature: PreviewFeature, enable: bool) -> None:
        self._features[feature.name] = bool(enable)

    def get_preview_feature(self, feature: PreviewFeature) -> bool:
        return self._features.get(feature.name, False)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: size) -> None:
        if pool.name.startswith("DLA") and not self._module._board.dla_cores:
            text = "Parameter check failed, condition: false. Setting DLA memory pool size without a DLA."
            usage_error(self._module, self._logger, "IBuilderConfig::setMemoryPoolLimit", text)
            return
        if pool.name.startswith("DLA") and (pool_size < 4096 or pool_size & (pool_size - 1)):
            text = "Parameter check failed, condition: DLA pool sizes are powers of 2 of at least 4 KiB"
            usage_error(self._module, self._logger, "IBuilderConfig::setMemoryPoolLimit", text)
            return
        self._pools[pool.name] = int(pool_size)

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        return self._pools.get(pool.name, _ALL)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if not profile:
            text = "Parameter check failed, condition: profile->isValid()."
            usage_error(self._module, self._logger, "IBuilderConfig::addOptimizationProfile", text)
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        self._calibration_profile = profile if profile else None
        return self._calibration_profile is not None

    def get_calibration_profile(self) -> Any:
        return self._calibration_profile

    def create_timing_cache(self, serialized_timing_cache: buffer) -> Any:
        content = bytes(serialized_timing_cache)
        here = list(self._module._board.compute_capability)
        if not content:
            return make(self._module, "ITimingCache", {}, here)
        try:
            read = json.loads(content[6:]) if content[:6] == b"timing" else {}
        except ValueError:
            read = {}
        if read.get("version") != self._module.__version__ and self._module._major >= 10:
            log(self._logger, "WARNING", "Failed to deserialize timing cache. Returning an empty timing cache.")
            return make(self._module, "ITimingCache", {}, here)
        if read.get("version") != self._module.__version__:
            internal_error(self._logger, "timingCache.cpp::deserialize::1", "version or magic tag check failed", 1)
            return None
        return make(self._module, "ITimingCache", read["tactics"], read["compute_capability"])

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        here = list(self._module._board.compute_capability)
        if cache._compute_capability != here and not ignore_mismatch:
            log(self._logger, "ERROR", "Timing cache was made on another device; it isn't used.")
            return False
        self._timing_cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._timing_cache

    def set_device_type(self, layer: ILayer, device_type: DeviceType) -> None:
        self._devices[layer.name] = device_type

    def get_device_type(self, layer: ILayer) -> Any:
        return self._devices.get(layer.name, self._settings["default_device_type"])

    def is_device_type_set(self, layer: ILayer) -> bool:
        return layer.name in self._devices

    def reset_device_type(self, layer: ILayer) -> None:
        self._devices.pop(layer.name, None)

    def can_run_on_DLA(self, layer: ILayer) -> bool:
        board = self._module._board
        return board.dla_cores > 0 and layer._origin.op not in board.dla_unsupported_ops
