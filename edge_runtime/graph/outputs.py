"""Activations made visible."""

from __future__ import annotations

from typing import Sequence

from edge_runtime.errors import ModelError, UnsupportedModelError, nearest
from edge_runtime.graph.axes import known_dims, set_shape, unused
from edge_runtime.graph.inference import tensor_types
from edge_runtime.graph.model import OnnxModel


def with_extra_outputs(model: OnnxModel, tensors: Sequence[str]) -> OnnxModel:
    """The model with these tensors as further outputs, after its own and in this order; no name comes twice.

    Inputs aren't made outputs: whoever feeds them has them, and ONNX Runtime would return the fed memory itself.

    Raises:
        ModelError: no tensor of the main graph has such a name.
        UnsupportedModelError: nobody can say the type or rank of a tensor.
    """
    proto = model.copied_proto()
    types = tensor_types(proto, data_prop=True)
    present = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    taken = {name for spec in (*model.inputs, *model.outputs) for name in spec.axes}
    for name in tensors:
        if name in present:
            continue
        if name not in types:
            raise ModelError(f"{model.name}: no tensor {name!r} in the graph: {nearest(name, types)}")
        dims = known_dims(types[name])
        if dims is None:
            raise UnsupportedModelError(
                f"{model.name}: the rank of tensor {name!r} can't be told, so it can't be shown"
            )
        present.add(name)
        value = proto.graph.output.add(name=name)
        value.type.tensor_type.elem_type = types[name].tensor_type.elem_type
        sizes = [dim if isinstance(dim, int) else unused(f"{name}_dim{axis}", taken) for axis, dim in enumerate(dims)]
        set_shape(value, sizes)
    return model.with_proto(proto)
