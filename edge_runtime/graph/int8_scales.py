"""The scale of every int8 input: calibrated for activations, computed for weights."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edge_runtime.errors import CalibrationError, ModelError
from edge_runtime.graph.rules import Edge, Site
from edge_runtime.graph.topology import constants

Float32s = npt.NDArray[np.float32]

_LARGEST = 127  # symmetric: -128 is never used
_LARGEST_BIAS = 2**30  # of 2**31 in int32
_LARGEST_SCALE = 1e30
_SMALLEST_SCALE = np.finfo(np.float32).tiny


class Scales:
    """The scales of the inputs of sites: positive float32, as TensorRT and ONNX Runtime take them.

    Those of weights are so large that the bias in steps of input scale x weight scale fits into int32: backends
    quantise the float bias in such steps, and one of a nearly dead channel would overflow, unnoticed.
    """

    def __init__(
        self, model: str, graph: onnx.GraphProto, sites: Sequence[Site], activations: Mapping[str, float]
    ) -> None:
        """Take the model's name (for messages), and amax / 127 of each activation.

        Raises:
            CalibrationError: the scale of an activation isn't a positive float32.
            ModelError: a bias is NaN or infinite.
        """
        self._model = model
        self._known = constants(graph)
        self._activations = activations
        self._floors: Dict[Tuple[str, int | None], Any] = {}
        for site in sites:
            self._protect_bias(site)

    def of(self, edge: Edge) -> Float32s:
        """One scale, or one for each index of the edge's axis.

        Raises:
            CalibrationError: the scale of an activation isn't a positive float32.
            ModelError: a weight is NaN or infinite.
        """
        return self._of_weight(edge) if edge.is_constant else self._of_activation(edge.tensor)

    def weight(self, tensor: str) -> Float32s:
        """The values of a constant.

        Raises:
            ModelError: one is NaN or infinite.
        """
        values: Float32s = onnx.numpy_helper.to_array(self._known[tensor])
        if not np.isfinite(values).all():
            raise ModelError(f"{self._model}: weight {tensor!r} holds NaN or infinity; export a sound model")
        return values

    def _protect_bias(self, site: Site) -> None:
        first, *others = site.edges
        if not site.bias or first.is_constant or not others[0].is_constant:
            return
        edge = others[0]
        bias = np.abs(self.weight(site.bias).astype(np.float64))
        bias = bias.reshape(-1, bias.shape[-1]).max(axis=0) if bias.ndim else bias
        if edge.axis is None or bias.size not in (1, self._known[edge.tensor].dims[edge.axis]):
            bias = bias.max()
        floor = np.minimum(bias / self._of_activation(first.tensor) / _LARGEST_BIAS, _LARGEST_SCALE)
        key = (edge.tensor, edge.axis)
        self._floors[key] = np.maximum(self._floors.get(key, _SMALLEST_SCALE), floor)

    def _of_activation(self, tensor: str) -> Float32s:
        with np.errstate(over="ignore"):
            scale = np.array(self._activations[tensor], np.float32)
        if not (math.isfinite(scale) and scale > 0):
            raise CalibrationError(
                f"{self._model}: the scale of tensor {tensor!r} is {self._activations[tensor]}; "
                "expected a positive float32; calibrate again with samples that reach this tensor"
            )
        return scale

    def _of_weight(self, edge: Edge) -> Float32s:
        values = self.weight(edge.tensor)
        others = tuple(axis for axis in range(values.ndim) if axis != edge.axis)
        scale = np.abs(values).max(axis=None if edge.axis is None else others) / np.float32(_LARGEST)
        harmless = scale.max() if scale.max() >= _SMALLEST_SCALE else 1.0
        scale = np.where(scale < _SMALLEST_SCALE, harmless, scale)
        floor = self._floors.get((edge.tensor, edge.axis), _SMALLEST_SCALE)
        return np.asarray(np.maximum(scale, floor), np.float32)
