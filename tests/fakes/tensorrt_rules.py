"""What a fake build checks before it builds, in TensorRT's words where they are known."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

_SLOW = "{} support requested on hardware without native {} support, performance will be negatively affected."


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Why there is no plan."""

    def __init__(
        self, text: str, place: str = "network.cpp::validate::1", code: int = 4, is_usage: bool = False
    ) -> None:
        super().__init__(text)
        self.place, self.code, self.is_usage = place, code, is_usage


def check_network(module: Any, network: Any, config: Any) -> Iterator[str]:
    """Raises Refusal for what TensorRT wouldn't build; gives the warnings."""
    if network._model is None or not network._outputs:
        raise Refusal("Network must have at least one output", is_usage=True)
    if module._board.build_error:
        raise Refusal(module._board.build_error, "builder.cpp::buildSerializedNetwork::1", 2)
    if module._major < 10:
        assert network._parser() is not None, "segfault: the weights of this network were its parser's, which is gone"
    _check_profiles(network, config)
    yield from _check_precision(module, network, config)
    _check_dla(module, network, config)
    _check_workspace(module, config)


def opt_shapes(network: Any, profile: Any) -> Dict[str, Tuple[int, ...]]:
    """The shape of each input that a profile is best at."""
    given = {} if profile is None else profile._shapes
    return {tensor.name: given.get(tensor.name, [tensor._shape] * 3)[1] for tensor in network._inputs}


def _check_profiles(network: Any, config: Any) -> None:
    dynamic = [tensor for tensor in network._inputs if -1 in tensor._shape or tensor.is_shape_tensor]
    if dynamic and not config._profiles:
        text = "Network has dynamic or shape inputs, but no optimization profile has been defined."
        raise Refusal(text, is_usage=True)
    for index, profile in enumerate(config._profiles):
        for tensor in dynamic:
            _check_tensor(tensor, profile, index)


def _check_tensor(tensor: Any, profile: Any, index: int) -> None:
    if tensor.is_shape_tensor and tensor.name not in profile._values:
        raise Refusal(f"Shape tensor {tensor.name} is missing values in profile {index}.", is_usage=True)
    if -1 not in tensor._shape:
        return
    if tensor.name not in profile._shapes:
        raise Refusal(f"Dynamic input tensor {tensor.name} is missing dimensions in profile {index}.", is_usage=True)
    shapes: List[Tuple[int, ...]] = profile._shapes[tensor.name]
    if len(shapes[0]) != len(tensor._shape):
        raise Refusal(
            f"Dynamic-shaped input tensor {tensor.name} has {len(tensor._shape)} dimensions but profile {index} has "
            f"{len(shapes[0])} dimensions.",
            is_usage=True,
        )
    for axis, (size, *limits) in enumerate(zip(tensor._shape, *shapes)):
        if size != -1 and any(limit != size for limit in limits):
            raise Refusal(
                f"Dimension mismatch for tensor {tensor.name} and profile {index}. At dimension axis {axis}, profile "
                f"has min={limits[0]}, opt={limits[1]}, max={limits[2]} but tensor has {size}.",
                is_usage=True,
            )


def _check_precision(module: Any, network: Any, config: Any) -> Iterator[str]:
    board = module._board
    has_scales = any(layer._origin.op in ("QuantizeLinear", "DequantizeLinear") for layer in network._layers)
    if has_scales and not board.has_int8:
        raise Refusal(
            "Networks with QuantizeLayer/DequantizeLayer layers require hardware with Int8 support",
            "builder.cpp::buildSerializedNetwork::1",
        )
    if network._is_strongly_typed:
        _check_strong(network, config)
        return
    if has_scales and not config._has("INT8"):
        raise Refusal(
            "int8 precision has been set for a layer or layer output, but int8 is not configured in the builder"
        )
    for layer in network._layers:
        asked = [layer._precision, *layer._output_types.values()]
        for name, flag, text in (("HALF", "FP16", "fp16"), ("INT8", "INT8", "int8")):
            if any(kind is not None and kind.name == name for kind in asked) and not config._has(flag):
                raise Refusal(
                    f"{text} precision has been set for a layer or layer output, but {text} is not configured in the "
                    "builder"
                )
    if config._has("FP16") and not board.has_fast_fp16:
        yield _SLOW.format("Half2", "FP16")
    if config._has("INT8") and not board.has_int8:
        yield _SLOW.format("Int8", "Int8")
    if config._has("INT8") and not has_scales and config._settings["int8_calibrator"] is None:
        yield "Calibrator is not being used. Users must provide dynamic range for all tensors."
        if not all(
            tensor._range
            for tensor in map(network._tensors.get, network._activations)
            if tensor.dtype.name in ("FLOAT", "HALF")
        ):
            raise Refusal(
                "Calibration failure occurred with no scaling factors detected. This could be due to no int8 "
                "calibrator or insufficient custom scales for network layers.",
                "standardEngineBuilder.cpp::initCalibrationParams::1",
            )


def _check_strong(network: Any, config: Any) -> None:
    for flag in ("FP16", "INT8", "BF16", "FP8", "INT4", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"):
        if config._has(flag):
            raise Refusal(f"k{flag} is set, but the network is strongly typed", is_usage=True)
    if any(layer._precision is not None or layer._output_types for layer in network._layers):
        raise Refusal("layer precisions can't be set in a strongly typed network", is_usage=True)
    if config._settings["int8_calibrator"] is not None:
        raise Refusal("a strongly typed network can't be calibrated", is_usage=True)


def _check_dla(module: Any, network: Any, config: Any) -> None:
    board = module._board
    wanted = [layer for layer in network._layers if config.get_device_type(layer).name == "DLA"]
    if not wanted:
        return
    core = config._settings["DLA_core"]
    if not board.dla_cores or core >= board.dla_cores:
        raise Refusal(
            f"DLA core {core} isn't there: this platform has {board.dla_cores}", "builder.cpp::validateDLA::1"
        )
    if module._major < 11 and not network._is_strongly_typed and not (config._has("FP16") or config._has("INT8")):
        raise Refusal("DLA requires FP16 or INT8 precision", "builder.cpp::validateDLA::1")
    for layer in wanted:
        if not config.can_run_on_DLA(layer) and not config._has("GPU_FALLBACK"):
            raise Refusal(
                f"{layer.name}: {layer.type.name} layer is not supported on DLA and GPU fallback is not enabled",
                "builder.cpp::validateDLA::1",
            )


def _check_workspace(module: Any, config: Any) -> None:
    """8.2 allows nothing until somebody sets a limit; later ones allow all that there is."""
    limit = config._pools.get("WORKSPACE", 0 if module._surface == "8.2" else None)
    if limit is not None and limit < module._board.workspace_nbytes:
        raise Refusal(
            "Could not find any implementation for node due to insufficient workspace: insufficient memory, "
            f"{module._board.workspace_nbytes} bytes are needed and {limit} allowed",
            "optimizer.cpp::computeCosts::1",
            10,
        )
