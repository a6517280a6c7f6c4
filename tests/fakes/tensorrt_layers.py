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
        for weight in _weights_of(node, weights):
            if weight not in constants:
                name = names.unique(weight)
                constants[weight] = f"{name}_output"
                found.append((name, Origin("CONSTANT", "", "Constant", (), (constants[weight],))))
        inputs = tuple(constants.get(name, name) for name in node.input if name in activations or name in constants)
        outputs = tuple(name for name in node.output if name)
        kind = _TYPE_BY_OP.get(node.op_type, "PLUGIN_V2")
        if node.op_type == "Gemm" and len(node.input) == 3:
            found.extend(_gemm(names, title, inputs, outputs))
        else:
            found.append((names.unique(title), Origin(kind, title, node.op_type, inputs, outputs)))
    return found


def _weights_of(node: onnx.NodeProto, weights: Set[str]) -> List[str]:
    if node.op_type in _OWN_WEIGHTS:
        return []
    slots = SHAPE_SLOTS.get(node.op_type, ())
    return [name for slot, name in enumerate(node.input) if name in weights and slot not in slots]


def _gemm(names: _Names, title: str, inputs: Sequence[str], outputs: Tuple[str, ...]) -> Iterator[Tuple[str, Origin]]:
    name, wide = names.unique(title), names.unique("ONNXTRT_Broadcast")
    product, added = f"{name}_output", f"{wide}_output"
    yield name, Origin("MATRIX_MULTIPLY", title, "Gemm", tuple(inputs[:2]), (product,))
    yield wide, Origin("SHUFFLE", "", "Reshape", tuple(inputs[2:]), (added,))
    yield names.unique(title), Origin("ELEMENTWISE", title, "Gemm", (product, added), outputs)


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
