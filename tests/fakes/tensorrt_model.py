"""What the fakes ask of an ONNX model: its tensors as TensorRT has them, its shapes, its results."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, shape_inference

# Which inputs of an operator are read as a shape.
SHAPE_SLOTS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "Slice": (1, 2, 3, 4),
    "Resize": (3,),
    "TopK": (1,),
    "Range": (0, 1, 2),
    "Pad": (1,),
    "OneHot": (1,),
}
_SHAPE_OPS = {"Cast", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "Add", "Sub", "Mul", "Div", "Identity"}
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress"}
NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT64": np.int64,
}


def type_name(element: int, major: int, minor: int) -> str | None:
    """TensorRT's data type of an ONNX element type; None where that version has none."""
    names = {
        TensorProto.FLOAT: "FLOAT",
        TensorProto.DOUBLE: "FLOAT",
        TensorProto.FLOAT16: "HALF",
        TensorProto.INT8: "INT8",
        TensorProto.INT32: "INT32",
        TensorProto.INT64: "INT64" if major >= 10 else "INT32",
        TensorProto.BOOL: "BOOL",
    }
    if (major, minor) >= (8, 5):
        names[TensorProto.UINT8] = "UINT8"
    if major >= 10:
        names[TensorProto.BFLOAT16] = "BF16"
    return names.get(element)


def shape_of(value: onnx.ValueInfoProto) -> Tuple[int, ...]:
    """The dimensions of a value, -1 for what isn't known."""
    if not value.type.tensor_type.HasField("shape"):
        return ()
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else -1
        for dim in value.type.tensor_type.shape.dim
    )


def real_inputs(graph: onnx.GraphProto) -> List[onnx.ValueInfoProto]:
    """The inputs that aren't weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def shape_inputs(graph: onnx.GraphProto) -> Set[str]:
    """The inputs that are read as shapes, directly or through arithmetic of shapes."""
    makers = {output: node for node in graph.node for output in node.output}
    wanted = [
        node.input[slot] for node in graph.node for slot in SHAPE_SLOTS.get(node.op_type, ()) if slot < len(node.input)
    ]
    seen: Set[str] = set()
    while wanted:
        name = wanted.pop()
        if name and name not in seen:
            seen.add(name)
            node = makers.get(name)
            if node is not None and node.op_type in _SHAPE_OPS:
                wanted.extend(node.input)
    return {value.name for value in real_inputs(graph) if value.name in seen}


def depends_on_data(graph: onnx.GraphProto) -> Set[str]:
    """The tensors that come after an operator whose output's size its data decides."""
    found: Set[str] = set()
    for node in graph.node:
        if node.op_type in DATA_DEPENDENT or found.intersection(node.input):
            found.update(node.output)
    return found


class ShapeConflictError(Exception):
    """The shapes of the inputs don't go together."""


def _add_plugins(model: onnx.ModelProto) -> None:
    """Says what the one plugin that the fakes can run computes: Swish_TRT, x * sigmoid(x)."""
    for domain in {node.domain for node in model.graph.node if node.op_type == "Swish_TRT"}:
        body = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
        opsets = [entry for entry in model.opset_import if not entry.domain]
        model.functions.append(helper.make_function(domain, "Swish_TRT", ["x"], ["y"], body, opsets))


class Runnable:
    """An ONNX model that ONNX Runtime runs on the CPU."""

    def __init__(self, model: bytes) -> None:
        self.model = onnx.load_model_from_string(model)
        _add_plugins(self.model)
        self.inputs = {value.name: value for value in real_inputs(self.model.graph)}
        self.outputs = [value.name for value in self.model.graph.output]
        self.dependent = depends_on_data(self.model.graph)
        self._shapes: Dict[Any, Dict[str, Tuple[int, ...]]] = {}

    @functools.cached_property
    def session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            self.model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["QDQSelectorActionTransformer"],  # whose INT8 kernels saturate on some CPUs
        )

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> Dict[str, np.ndarray[Any, Any]]:
        """The outputs; inputs are taken as TensorRT has them and turned into the model's types."""
        typed = {name: value.astype(self._numpy_of(name), copy=False) for name, value in feeds.items()}
        return dict(zip(self.outputs, self.session.run(self.outputs, typed)))

    def output_shapes(
        self, shapes: Mapping[str, Sequence[int]], values: Mapping[str, np.ndarray[Any, Any]]
    ) -> Dict[str, Tuple[int, ...]]:
        """The shape of each output for inputs of these shapes; -1 where the data decides."""
        key = (
            tuple(sorted((n, tuple(s)) for n, s in shapes.items())),
            tuple((n, v.tobytes()) for n, v in values.items()),
        )
        if key not in self._shapes:
            try:
                found = self.run({n: values.get(n, np.zeros(s, self._numpy_of(n))) for n, s in shapes.items()})
            except Exception as error:  # ONNX Runtime has a class for each of its errors
                raise ShapeConflictError(f"shapes {dict(shapes)} don't go together: {error}") from error
            known = self._inferred(shapes) if self.dependent.intersection(self.outputs) else {}
            self._shapes[key] = {
                name: known.get(name, (-1,) * value.ndim) if name in self.dependent else value.shape
                for name, value in found.items()
            }
        return self._shapes[key]

    def _inferred(self, shapes: Mapping[str, Sequence[int]]) -> Dict[str, Tuple[int, ...]]:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        for value in real_inputs(copy.graph):
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name]):
                dim.dim_value = int(size)
        for value in copy.graph.output:
            value.type.tensor_type.ClearField("shape")
        inferred = shape_inference.infer_shapes(copy, data_prop=True)
        return {value.name: shape_of(value) for value in inferred.graph.output}

    def _numpy_of(self, name: str) -> Any:
        return helper.tensor_dtype_to_np_dtype(self.inputs[name].type.tensor_type.elem_type)
