"""Models with operators of plugins: the part of them that is standard."""

from __future__ import annotations

from typing import List, Set

import onnx

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.check import ML_DOMAIN, is_plugin, run_checker
from edge_runtime.graph.inference import refresh_outputs, tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.topology import constants, drop_unused_initializers, names_read, node_graphs


def without_plugins(model: OnnxModel) -> OnnxModel:
    """The part of a model that no plugin's answer decides, or the model itself if it has no plugins.

    Its outputs are those of the model that are in that part, and what the plugins read of it.

    Raises:
        UnsupportedModelError: there is no such part, or a plugin reads a tensor whose type isn't known.
    """
    if not any(is_plugin(node) for node in model.proto.graph.node):
        return model
    proto = model.copied_proto()
    graph = proto.graph
    kept, read = _parted(graph)
    del graph.node[:]
    graph.node.extend(kept)
    made = {name for node in kept for name in node.output}
    types = tensor_types(model.proto)
    declared = {value.name: value for value in model.proto.graph.output}
    wanted = [name for name in (*declared, *read) if name in made]
    missing = [name for name in wanted if name not in declared and name not in types]
    if not wanted or missing:
        raise UnsupportedModelError(
            f"{model.name}: nothing can be run before its plugins"
            + (f": {missing[0]!r} has no type" if missing else "")
        )
    del graph.output[:]
    for name in dict.fromkeys(wanted):
        graph.output.add().CopyFrom(declared.get(name) or onnx.ValueInfoProto(name=name, type=types[name]))
    standard = [entry for entry in proto.opset_import if entry.domain in ("", ML_DOMAIN)]
    del proto.opset_import[:]
    proto.opset_import.extend(standard)
    drop_unused_initializers(graph)
    refresh_outputs(proto, model.name)
    run_checker(proto, model.name)
    return model.with_proto(proto)


def _parted(graph: onnx.GraphProto) -> tuple[List[onnx.NodeProto], List[str]]:
    """The nodes that no plugin's answer reaches, and what the others read."""
    reached: Set[str] = set()
    kept: List[onnx.NodeProto] = []
    read: List[str] = []
    known = constants(graph)
    for node in graph.node:
        names = [*node.input, *names_read(node_graphs(node))]
        if is_plugin(node) or not reached.isdisjoint(names):
            reached.update(node.output)
            read += [name for name in names if name and name not in known]
        else:
            kept.append(node)
    return kept, [name for name in dict.fromkeys(read) if name not in reached]
