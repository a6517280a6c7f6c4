"""What ONNX itself says about one node: the types of its outputs, and their values where it reads only constants."""

from __future__ import annotations

import math
from typing import Any, List, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference

from edge_runtime.graph.axes import set_shape
from edge_runtime.graph.inference import Types
from edge_runtime.graph.moves import moved
from edge_runtime.graph.topology import attribute_values, node_graphs
from edge_runtime.graph.weights import DTYPES, is_large

Array = npt.NDArray[Any]
Tensors = Mapping[str, onnx.TensorProto]

# Those of ONNX's reference implementation that work on whole arrays and agree with ONNX Runtime.
_MOVES = frozenset(
    "Cast CastLike Concat ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather Identity Pad Reshape Slice "
    "SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where".split()
)
_ARITHMETIC = frozenset(
    "Abs Add And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Cos CumSum Div Equal Exp "
    "Floor Gemm Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log MatMul Max Mean Min Mod Mul Neg Not Or Pow "
    "Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Round "
    "Sigmoid Sign Sin Softmax Sqrt Sub Sum Tanh Xor".split()
)
_ALIKE = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}  # before opset 16 ONNX infers no types of the first
_POOLS = ("AveragePool", "LpPool", "MaxPool")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_DISPUTED = (*_POOLS, *_CONVOLUTIONS, "Resize")

_INFERENCE_ERRORS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)
_EVALUATION_ERRORS = (  # it checks little, so that a wrong node ends in whatever NumPy or Python says
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    Warning,
)


def type_of(tensor: onnx.TensorProto) -> onnx.TypeProto:
    """The type of a constant."""
    value = onnx.ValueInfoProto()
    value.type.tensor_type.elem_type = tensor.data_type
    set_shape(value, list(tensor.dims))
    return value.type


def sizes_of(kind: onnx.TypeProto | None) -> List[int | None] | None:
    """The sizes of a tensor, None for each open one (0 is a size here); None alone if the rank is open."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
        for dim in kind.tensor_type.shape.dim
    ]


def nbytes_of(kind: onnx.TypeProto | None) -> int | None:
    """Bytes of a tensor, None where its sizes are open or NumPy has no such numbers."""
    sizes = sizes_of(kind)
    if kind is None or sizes is None or kind.tensor_type.elem_type not in DTYPES:
        return None
    known = [size for size in sizes if size is not None]
    return math.prod(known) * DTYPES[kind.tensor_type.elem_type].itemsize if len(known) == len(sizes) else None


def output_types(node: onnx.NodeProto, opset: int, types: Types, known: Tensors) -> Types:
    """The types that the outputs of a node get from those of its inputs and from what is `known` of their values.

    Empty where that can't be told, or where ONNX's inference and ONNX Runtime come to different sizes.
    """
    given = {name: types[name] for name in node.input if name and name in types}
    if (
        node.domain
        or len(given) < len(set(node.input) - {""})
        or any(node_graphs(node))
        or _is_disputed(node, given, known)
    ):
        return {}
    values = {name: known[name] for name in given if name in known and not is_large(known[name])}
    try:
        schema = onnx.defs.get_schema(_ALIKE.get(node.op_type, node.op_type), opset, "")
        versions = [onnx.helper.make_opsetid("", opset)]
        return dict(onnx.shape_inference.infer_node_outputs(schema, node, given, values, opset_imports=versions))
    except _INFERENCE_ERRORS:
        return {}


def is_evaluable(node: onnx.NodeProto, known: Tensors) -> bool:
    """Whether all that a node reads is known, and ONNX computes with it what ONNX Runtime does.

    In FP16 only what moves numbers: each backend rounds on its own there.
    """
    inputs = [name for name in node.input if name]
    if (
        node.domain
        or not (node.op_type in _MOVES or node.op_type in _ARITHMETIC)
        or not all(name in known for name in inputs)
    ):
        return False
    elements = {known[name].data_type for name in inputs}
    return elements <= DTYPES.keys() and (node.op_type in _MOVES or onnx.TensorProto.FLOAT16 not in elements)


def evaluated(node: onnx.NodeProto, opset: int, known: Tensors, types: Types) -> List[Array] | None:
    """The values of the outputs of a node, or None if it can't be computed cleanly or not to `types`."""
    outputs = [name for name in node.output if name]
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            arrays = {name: onnx.numpy_helper.to_array(known[name]) for name in node.input if name}
            values = moved(node, arrays) or _referenced(node, opset, arrays)
    except _EVALUATION_ERRORS:
        return None
    return values if all(_is_of(value, types[name]) for value, name in zip(values, outputs)) else None


def _referenced(node: onnx.NodeProto, opset: int, arrays: Mapping[str, Array]) -> List[Array]:
    """The outputs by ONNX's own implementation."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  (loading it takes 40 ms and 20 MB)

    graph = onnx.GraphProto(name="node", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in arrays)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    proto = onnx.ModelProto(ir_version=8, graph=graph, opset_import=[onnx.helper.make_opsetid("", opset)])
    return [np.asarray(value) for value in ReferenceEvaluator(proto).run(None, dict(arrays))]


def _is_of(value: Array, kind: onnx.TypeProto) -> bool:
    return value.dtype == DTYPES[kind.tensor_type.elem_type].numpy and list(value.shape) == sizes_of(kind)


def _is_disputed(node: onnx.NodeProto, types: Types, known: Tensors) -> bool:
    """Whether ONNX Runtime may give an output of another size than ONNX infers, or inference may crash (Conv, 1.17)."""
    settings = attribute_values(node) if node.op_type in _DISPUTED else {}
    if node.op_type in _POOLS:
        return bool(settings.get("ceil_mode", 0))
    if node.op_type in _CONVOLUTIONS:
        image, kernel = (sizes_of(types.get(name)) for name in node.input[:2])
        is_odd = node.op_type == "ConvTranspose" and settings.get("auto_pad", b"NOTSET") != b"NOTSET"
        return is_odd or image is None or kernel is None or len(image) != len(kernel)
    if node.op_type == "Resize" and not any(node.input[3:]):  # by factors
        factors = known.get(node.input[2]) if len(node.input) > 2 else None
        return factors is None or not all(float(each).is_integer() for each in onnx.numpy_helper.to_array(factors).flat)
    return "keep_aspect_ratio_policy" in settings
