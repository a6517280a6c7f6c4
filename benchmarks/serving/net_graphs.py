"""ONNX graphs of three sizes with weights from a fixed seed: opset 17, float32, dynamic batch."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

_OPSET, _IR = 17, 8
_SMALL_CHANNELS = ((32, 2), (48, 1), (64, 2), (96, 1), (96, 2), (128, 1))
# Output channels and stride of each depthwise and pointwise pair.
_MOBILENET = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def tiny() -> bytes:
    """An MLP of 64-64-64-16: 256 bytes in, 64 out."""
    net = _Graph(seed=1)
    value = "x"
    for rows, columns in ((64, 64), (64, 64)):
        value = net.add("Relu", [net.dense(value, rows, columns)])
    return net.model(net.dense(value, 64, 16), (64,), (16,))


def small() -> bytes:
    """Six convolutions on 3x96x96: 110,592 bytes in, 40 out."""
    net = _Graph(seed=2)
    value, channels = "x", 3
    for width, stride in _SMALL_CHANNELS:
        value, channels = net.convolution(value, (channels, width), 3, stride), width
    return net.model(net.classifier(value, channels, 10), (3, 96, 96), (10,))


def medium() -> bytes:
    """MobileNetV1's shape on 3x224x224: 602,112 bytes in, 4,000 out."""
    net = _Graph(seed=3)
    value, channels = net.convolution("x", (3, 32), 3, 2), 32
    for width, stride in _MOBILENET:
        value = net.convolution(value, (channels, channels), 3, stride, groups=channels)
        value, channels = net.convolution(value, (channels, width), 1, 1), width
    return net.model(net.classifier(value, channels, 1000), (3, 224, 224), (1000,))


class _Graph:
    """Nodes and weights as they are added; a value is named by its node's number."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: List[Any] = []
        self._weights: List[Any] = []

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node's output."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def dense(self, value: str, rows: int, columns: int) -> str:
        """A full layer."""
        return self.add("Gemm", [value, self._weight((rows, columns), rows), self._weight((columns,), rows)])

    def convolution(self, value: str, channels: Tuple[int, int], kernel: int, stride: int, groups: int = 1) -> str:
        """A convolution that keeps the size but for its stride, and a ReLU."""
        depth = channels[0] // groups
        weight = self._weight((channels[1], depth, kernel, kernel), depth * kernel * kernel)
        inputs = [value, weight, self._weight((channels[1],), 100)]
        pads = [kernel // 2] * 4
        out = self.add("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        return self.add("Relu", [out])

    def classifier(self, value: str, channels: int, classes: int) -> str:
        """The mean of each channel, then a full layer."""
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [value])])
        return self.dense(flat, channels, classes)

    def model(self, output: str, input_shape: Sequence[int], output_shape: Sequence[int]) -> bytes:
        """The finished model, with input `x` and output `y`."""
        self._nodes.append(helper.make_node("Identity", [output], ["y"]))
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("x", input_shape), ("y", output_shape))
        ]
        graph = helper.make_graph(self._nodes, "net", ends[:1], ends[1:], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def _weight(self, shape: Tuple[int, ...], fan_in: int) -> str:
        name = f"w{len(self._weights)}"
        values = self._random.standard_normal(shape) * np.sqrt(2 / fan_in)
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name
