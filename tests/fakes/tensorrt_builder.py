"""The fake builder: what TensorRT refuses is refused, and a plan records all that was asked for.

The record (`plan_record`) has `flags`, `network_flags`, `is_strongly_typed`, `profiles` (shapes and values), `inputs`,
`outputs`, `layers` (name, type, op, node, inputs, outputs, precision, output_types, device, tactic), `pools` and
`workspace_nbytes`, `calibration` (cache, scales, batches, is_from_cache), `timing` (hits, misses),
`optimization_level`, `verbosity`, `hardware_compatibility`, `default_device`, `dla_core`, `preview`,
`compute_capability`, `version`.
"""

# ruff: noqa: F821, N815 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import zlib
from typing import Any, Dict, Iterator, List

from fakes.tensorrt_binding import host_memory, make
from fakes.tensorrt_board import internal_error, log, usage_error
from fakes.tensorrt_calibration import calibrated
from fakes.tensorrt_plan import plan_bytes
from fakes.tensorrt_progress import Progress
from fakes.tensorrt_rules import Refusal, check_network, opt_shapes


class Builder:
    def __init__(self, logger: ILogger | Logger) -> None:
        self._logger = logger
        self._settings: Dict[str, Any] = {"max_threads": 1, "max_batch_size": 1}
        if not self._module._board.has_driver:
            log(logger, "ERROR", "CUDA initialization failure with error: 35.")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    logger = property(lambda self: self._logger)
    platform_has_fast_fp16 = property(lambda self: self._module._board.has_fast_fp16)
    platform_has_fast_int8 = property(lambda self: self._module._board.has_int8)
    platform_has_tf32 = property(lambda self: self._module._board.compute_capability >= (8, 0))
    num_DLA_cores = property(lambda self: self._module._board.dla_cores)
    max_DLA_batch_size = property(lambda self: 4096)

    @property
    def max_threads(self) -> int:
        return int(self._settings["max_threads"])

    @max_threads.setter
    def max_threads(self, value: int) -> None:
        self._settings["max_threads"] = value

    @property
    def max_batch_size(self) -> int:
        return int(self._settings["max_batch_size"])

    @max_batch_size.setter
    def max_batch_size(self, value: int) -> None:
        self._settings["max_batch_size"] = value

    def create_network(self, flags: size = 0) -> Any:
        known = sum(1 << int(flag) for flag in self._module.NetworkDefinitionCreationFlag.__members__.values())
        if flags & ~known:
            text = (
                "Parameter check failed, condition: flagSet.toU32() < (1U << EnumMax<NetworkDefinitionCreationFlag>())."
            )
            usage_error(self._module, self._logger, "IBuilder::createNetworkV2", text)
            return None
        return make(self._module, "INetworkDefinition", self, int(flags), self._logger)

    def create_builder_config(self) -> Any:
        return make(self._module, "IBuilderConfig", self, self._logger)

    def create_optimization_profile(self) -> Any:
        return make(self._module, "IOptimizationProfile", self._logger)

    def get_plugin_registry(self) -> Any:
        return self._module.get_plugin_registry()

    def reset(self) -> None:
        return None

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        return not self._refused(network, config)

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        if self._refused(network, config):
            return None
        progress = Progress(self._module, self._logger, config)
        if not progress.run([layer.name for layer in network._layers]):
            return None
        calibration: Dict[str, Any] = {}
        if config._has("INT8") and config._settings["int8_calibrator"] is not None and not _has_scales(network):
            calibration = self._calibration(network, config)
            if not calibration["scales"]:
                text = "Calibration failure occurred with no scaling factors detected."
                internal_error(self._logger, "standardEngineBuilder.cpp::initCalibrationParams::1", text)
                return None
        timing = _timing(network, config)
        if timing["misses"] and config._has("ERROR_ON_TIMING_CACHE_MISS"):
            internal_error(self._logger, "timingCache.cpp::find::1", "a tactic is missing in the timing cache")
            return None
        record = {**_record(self._module, network, config), "calibration": calibration, "timing": timing}
        plan = plan_bytes(self._module._surface, record, network._model.SerializeToString())
        return host_memory(self._module, plan)

    def _refused(self, network: Any, config: Any) -> bool:
        try:
            for warning in check_network(self._module, network, config):
                log(self._logger, "WARNING", warning)
        except Refusal as refusal:
            if refusal.is_usage:
                usage_error(self._module, self._logger, "IBuilder::buildSerializedNetwork", str(refusal), 4)
            else:
                internal_error(self._logger, refusal.place, str(refusal), refusal.code)
            return True
        return False

    def _calibration(self, network: Any, config: Any) -> Dict[str, Any]:
        profile = config._calibration_profile
        if profile is None and config._profiles:
            log(self._logger, "WARNING", "Calibration Profile is not defined. Running calibration with Profile 0")
            profile = config._profiles[0]
        shapes = opt_shapes(network, profile)
        found = calibrated(self._module, self._logger, config._settings["int8_calibrator"], network._inputs, shapes)
        for name in sorted(network._activations):
            if found["is_from_cache"] and name not in found["scales"]:
                text = f"Missing scale and zero-point for tensor {name}, expect fall back to non-int8 implementation"
                log(self._logger, "WARNING", text)
        return found


def _has_scales(network: Any) -> bool:
    return any(layer._origin.op in ("QuantizeLinear", "DequantizeLinear") for layer in network._layers)


def _timing(network: Any, config: Any) -> Dict[str, int]:
    """Looks every layer up in the timing cache, and puts in what is missing."""
    cache = config._timing_cache
    if cache is None or config._has("DISABLE_TIMING_CACHE"):
        return {"hits": 0, "misses": len(network._layers)}
    keys = [f"{layer.type.name}:{layer.name}" for layer in network._layers]
    hits = sum(key in cache._tactics for key in keys)
    if not config._has("ERROR_ON_TIMING_CACHE_MISS"):
        cache._tactics.update({key: zlib.crc32(key.encode()) for key in keys if key not in cache._tactics})
    return {"hits": hits, "misses": len(keys) - hits}


def _record(module: Any, network: Any, config: Any) -> Dict[str, Any]:
    settings = config._settings
    level = settings.get("hardware_compatibility_level")
    return {
        "version": module.__version__,
        "compute_capability": list(module._board.compute_capability),
        "flags": [name for name in module.BuilderFlag.__members__ if config._has(name)],
        "network_flags": network._flags,
        "name": network.name,
        "is_strongly_typed": network._is_strongly_typed,
        "workspace_nbytes": config._pools.get("WORKSPACE"),
        "pools": dict(config._pools),
        "optimization_level": settings["builder_optimization_level"],
        "verbosity": settings["profiling_verbosity"].name,
        "hardware_compatibility": level.name if level is not None else None,
        "avg_timing_iterations": settings["avg_timing_iterations"],
        "max_aux_streams": settings["max_aux_streams"],
        "default_device": settings["default_device_type"].name,
        "dla_core": settings["DLA_core"],
        "preview": [name for name, is_on in config._features.items() if is_on],
        "quantization_flags": config._quantization_flags,
        "profiles": [_profile(network, profile) for profile in config._profiles] or [_profile(network, None)],
        "inputs": [_tensor(tensor) for tensor in network._inputs],
        "outputs": [_tensor(tensor) for tensor in network._outputs],
        "layers": list(_layers(network, config)),
    }


def _profile(network: Any, profile: Any) -> Dict[str, Any]:
    """Min, opt and max of every input; what a profile says of tensors that aren't inputs is dropped."""
    fixed = {tensor.name: [tensor._shape] * 3 for tensor in network._inputs}
    given = {} if profile is None else {name: shapes for name, shapes in profile._shapes.items() if name in fixed}
    values = {} if profile is None else profile._values
    return {"shapes": {**fixed, **given}, "values": values}


def _tensor(tensor: Any) -> Dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.name,
        "shape": list(tensor._shape),
        "is_shape": tensor.is_shape_tensor,
    }


def _layers(network: Any, config: Any) -> Iterator[Dict[str, Any]]:
    for layer in network._layers:
        is_on_dla = config.get_device_type(layer).name == "DLA" and config.can_run_on_DLA(layer)
        types: List[Any] = [layer._output_types.get(index) for index in range(layer.num_outputs)]
        yield {
            "name": layer.name,
            "type": layer.type.name,
            "op": layer._origin.op,
            "node": layer._origin.node,
            "inputs": list(layer._origin.inputs),
            "outputs": list(layer._origin.outputs),
            "precision": layer._precision.name if layer._precision is not None else None,
            "output_types": [kind.name if kind is not None else None for kind in types],
            "device": "DLA" if is_on_dla else "GPU",
            "tactic": zlib.crc32(layer.name.encode()),
        }
