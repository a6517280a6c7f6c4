"""Layers: those that the parser makes of ONNX nodes, and those that are left of them in an engine."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

import onnx
from fakes.tensorrt_model import SHAPE_SLOTS

_LAYER_TYPES = {
    "ACTIVATION": "Relu Sigmoid Tanh LeakyRelu Elu Selu Clip HardSigmoid Softplus Softsign ThresholdedRelu Gelu",
    "CONVOLUTION": "Conv",
    "DECONVOLUTION": "ConvTranspose",
    "POOLING": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool",
    "MATRIX_MULTIPLY": "MatMul Gemm",
    "ELEMENTWISE": "Add Sub Mul Div Pow Min Max And Or Xor Equal Greater Less Mod",
    "UNARY": "Abs Neg Exp Log Sqrt Sin Cos Erf Not Floor Ceil Round Reciprocal Sign",
    "SHUFFLE": "Reshape Transpose Flatten Squeeze Unsqueeze DepthToSpace",
    "REDUCE": "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL2",
    "SCALE": "BatchNormalization",
    "SOFTMAX": "Softmax LogSoftmax",
    "CONCATENATION": "Concat",
    "SLICE": "Slice Split Pad Expand Tile",
    "GATHER": "Gather GatherND GatherElements",
    "TOPK": "TopK ArgMax ArgMin",
    "RESIZE": "Resize Upsample",
    "CONSTANT": "Constant",
    "SHAPE": "Shape Size",
    "QUANTIZE": "QuantizeLinear",
    "DEQUANTIZE": "DequantizeLinear",
    "SELECT": "Where",
    "FILL": "ConstantOfShape Range",
    "LRN": "LRN",
    "NON_ZERO": "NonZero",
    "NMS": "NonMaxSuppression",
    "NORMALIZATION": "InstanceNormalization LayerNormalization GroupNormalization",
    "CAST": "Cast",
}
_TYPE_BY_OP = {op: name for name, ops in _LAYER_TYPES.items() for op in ops.split()}


# Their weights are part of the layer; those of others come from constants.
_OWN_WEIGHTS = {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LayerNormalization"}
_FUSED = {"ACTIVATION", "ELEMENTWISE"}
_FUSING = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"}


class Origin(NamedTuple):
    """What a layer is made of; `node` is the name of an ONNX node, or empty for what the parser adds."""

    kind: str
    node: str
    op: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


class _Names:
    """Names of layers, none twice: a taken one gets a number, which counts through the whole network."""

    def __init__(self) -> None:
        self._taken: Set[str] = set()
        self._next = 0

    def unique(self, wanted: str) -> str:
        name = wanted
        while name in self._taken:
            name, self._next = f"{wanted}_{self._next}", self._next + 1
        self._taken.add(name)
        return name


def layers_of(graph: onnx.GraphProto, activations: Set[str]) -> List[Tuple[str, Origin]]:
    """The layers of a graph with their names: weights are constants, and a Gemm adds its bias in one of its own."""
    weights = {tensor.name for tensor in graph.initializer}
    names, constants = _Names(), {}  # type: Any, Dict[str, str]
    found: List[Tuple[str, Origin]] = []
    for node in graph.node:
        title = node.name or f"node_of_{node.output[0]}"
        own = _weights_of(node, weights)
        is_gemm = node.op_type == "Gemm" and len(node.input) == 3
        found.extend(_constants(names, constants, own[:-1] if is_gemm and node.input[2] in own else own))
        kept = [name for name in node.input if name in activations or name in own]
        if is_gemm:
            found.extend(_gemm(names, constants, title, node, own))
            continue
        inputs = tuple(constants.get(name, name) for name in kept)
        kind = _TYPE_BY_OP.get(node.op_type, "PLUGIN_V2")
        origin = Origin(kind, title, node.op_type, inputs, tuple(filter(None, node.output)))
        found.append((names.unique(title), origin))
    return found


def _constants(names: _Names, constants: Dict[str, str], weights: Sequence[str]) -> Iterator[Tuple[str, Origin]]:
    """Layers for weights that have none yet."""
    for weight in weights:
        if weight not in constants:
            name = names.unique(weight)
            constants[weight] = f"{name}_output"
            yield name, Origin("CONSTANT", "", "Constant", (), (constants[weight],))


def _weights_of(node: onnx.NodeProto, weights: Set[str]) -> List[str]:
    if node.op_type in _OWN_WEIGHTS:
        return []
    slots = SHAPE_SLOTS.get(node.op_type, ())
    return [name for slot, name in enumerate(node.input) if name in weights and slot not in slots]


def _gemm(
    names: _Names, constants: Dict[str, str], title: str, node: onnx.NodeProto, weights: Sequence[str]
) -> Iterator[Tuple[str, Origin]]:
    """A product, and a sum with the bias, which gets its dimensions first."""
    left, right, bias = (constants.get(name, name) for name in node.input)
    name = names.unique(title)
    yield name, Origin("MATRIX_MULTIPLY", title, "Gemm", (left, right), (f"{name}_output",))
    yield from _constants(names, constants, [node.input[2]] if node.input[2] in weights else [])
    wide = names.unique("ONNXTRT_Broadcast")
    yield wide, Origin("SHUFFLE", "", "Reshape", (constants.get(bias, bias),), (f"{wide}_output",))
    inputs = (f"{name}_output", f"{wide}_output")
    yield names.unique(title), Origin("ELEMENTWISE", title, "Gemm", inputs, tuple(node.output))


def engine_layers(record: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The layers of the record, an activation or sum fused with what it alone follows: `conv + relu`."""
    uses: Dict[str, int] = {}  # how many layers read a tensor
    for layer in record["layers"]:
        for name in layer["inputs"]:
            uses[name] = uses.get(name, 0) + 1
    results = {tensor["name"] for tensor in record["outputs"]}
    found: List[Dict[str, Any]] = []
    for layer in record["layers"]:
        if layer["type"] == "CONSTANT" or not layer["node"]:
            continue
        before = next((other for other in found if set(other["outputs"]) & set(layer["inputs"])), None)
        if (
            layer["type"] in _FUSED
            and before is not None
            and before["type"] in _FUSING
            and all(uses.get(name) == 1 and name not in results for name in before["outputs"])
        ):
            before["name"] += f" + {layer['name']}"
            before["members"].append(layer["node"])
            before["inputs"] += [name for name in layer["inputs"] if name not in before["outputs"]]
            before["outputs"] = layer["outputs"]
        else:
            found.append({**layer, "inputs": list(layer["inputs"]), "members": [layer["node"]]})
    return found
