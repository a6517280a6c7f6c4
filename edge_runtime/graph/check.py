"""What a model must be before anything else looks at it."""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Collection, Dict, List, Sequence, Set

import onnx
import onnx.checker
import onnx.defs
import onnx.inliner

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph.source import LIMIT_NBYTES, all_tensors, has_external_data, stored_nbytes, tensor_nbytes
from edge_runtime.graph.topology import all_graphs, all_nodes, node_graphs
from edge_runtime.graph.weights import is_large, restore_weights, without_weights

PLUGIN_DOMAIN = "TRT"  # as exporters for TensorRT call it
ML_DOMAIN = "ai.onnx.ml"  # ONNX's own, of classical machine learning: encoders of strings, trees

_DEEPEST = 12  # onnx 1.17 infers the types of a branch anew for each level above it


def check_header(proto: onnx.ModelProto, name: str) -> None:
    """Refuse an IR version or operator set that the installed onnx doesn't know, and write `ai.onnx` as "".

    Raises:
        ModelError: there is none, or the operator set is there twice.
        UnsupportedModelError: it is too new.
    """
    if proto.ir_version < 1:
        raise ModelError(f"{name}: no IR version: truncated, or not an ONNX model; export it again")
    if proto.ir_version > onnx.IR_VERSION:
        raise UnsupportedModelError(
            f"{name}: IR version {proto.ir_version} is newer than onnx {metadata.version('onnx')} knows "
            f"({onnx.IR_VERSION}); upgrade onnx or export with an older IR version"
        )
    versions: List[int] = []
    for opset in proto.opset_import:
        _shorten_domain(opset)
        if not opset.domain:
            versions.append(opset.version)
    if len(versions) != 1 or versions[0] < 1:
        raise ModelError(f"{name}: expected one version of the standard operators, got {versions}; export it again")
    newest = onnx.defs.onnx_opset_version()
    if versions[0] > newest:
        raise UnsupportedModelError(
            f"{name}: opset {versions[0]} is newer than onnx {metadata.version('onnx')} knows ({newest}); "
            "upgrade onnx or export with an older opset"
        )


def _shorten_domain(owner: onnx.OperatorSetIdProto | onnx.NodeProto) -> None:
    if owner.domain == "ai.onnx":
        owner.domain = ""


def is_plugin(node: onnx.NodeProto) -> bool:
    """Whether no standard of ONNX has the operator of a checked node."""
    return bool(node.domain) and node.domain != ML_DOMAIN


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of the standard operators."""
    return int(next(opset.version for opset in proto.opset_import if not opset.domain))


def inlined(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with calls of its own functions replaced by their bodies.

    Raises:
        ModelError: functions call each other in a circle, or can't be inlined.
    """
    if not proto.functions:
        return proto
    calls = {
        (function.domain, function.name): {(node.domain, node.op_type) for node in all_nodes(function)}
        for function in proto.functions
    }
    while calls:
        leaves = {key for key, called in calls.items() if not called & calls.keys()}
        if not leaves:
            raise ModelError(f"{name}: functions call each other in a circle: {sorted(calls)}")
        calls = {key: called for key, called in calls.items() if key not in leaves}
    try:
        result = onnx.inliner.inline_local_functions(without_weights(proto))
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{name}: its functions can't be inlined: {first_line(error)}") from error
    restore_weights(result, proto)
    del result.functions[:]  # what is still called is an unknown operator to check_operators
    return result


def check_operators(proto: onnx.ModelProto, name: str, plugin_ops: Collection[str] = ()) -> None:
    """Refuse operators outside the standard domains, or unknown at the model's opset, and subgraphs nested too deep.

    Those of `plugin_ops` that the standard doesn't know pass in the main graph, and get a domain of their own.

    Raises:
        UnsupportedModelError: naming domain, operator and node.
    """
    if _depth(proto.graph) > _DEEPEST:
        raise UnsupportedModelError(f"{name}: subgraphs are nested more than {_DEEPEST} deep; export a flatter model")
    ml_opset = next((entry.version for entry in proto.opset_import if entry.domain == ML_DOMAIN), 1)
    for node in proto.graph.node:
        if node.op_type in plugin_ops and (node.domain or not is_operator(node.op_type, opset_of(proto))):
            _shorten_domain(node)
            node.domain = node.domain or PLUGIN_DOMAIN
        else:
            _check_operator(node, opset_of(proto), ml_opset, name)
        for inner in (inner for graph in node_graphs(node) for inner in all_nodes(graph)):
            _check_operator(inner, opset_of(proto), ml_opset, name)
    _import_domains(proto)


def _check_operator(node: onnx.NodeProto, opset: int, ml_opset: int, name: str) -> None:
    _shorten_domain(node)
    if node.domain == ML_DOMAIN and is_operator(node.op_type, ml_opset, ML_DOMAIN):
        return
    if node.domain:
        raise UnsupportedModelError(
            f"{name}: operator {node.op_type!r} of domain {node.domain!r} (node {_title(node)}); "
            "expected standard ONNX operators only, or ones that [backend] plugin_ops names"
        )
    if not is_operator(node.op_type, opset):
        raise UnsupportedModelError(
            f"{name}: operator {node.op_type!r} (node {_title(node)}) is not one of opset {opset}, "
            "nor named in [backend] plugin_ops"
        )


def _import_domains(proto: onnx.ModelProto) -> None:
    """Imports the domains of the nodes, and no others."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    used = dict.fromkeys(node.domain for node in proto.graph.node if node.domain)
    del proto.opset_import[:]
    proto.opset_import.add(domain="", version=versions[""])
    for domain in used:
        proto.opset_import.add(domain=domain, version=versions.get(domain, 1))


def _depth(graph: onnx.GraphProto) -> int:
    """How deep subgraphs are nested; counted up to one more than is allowed."""
    level, depth = [graph], 0
    while level and depth <= _DEEPEST:
        level = [inner for each in level for node in each.node for inner in node_graphs(node)]
        depth += bool(level)
    return depth


def check_kernels(proto: onnx.ModelProto, name: str) -> None:
    """Refuse convolutions by a constant without spatial axes, at which onnx 1.17 crashes.

    Raises:
        ModelError: naming the node.
    """
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) > 1 and ranks.get(node.input[1], 3) < 3:
            raise ModelError(
                f"{name}: {node.op_type} (node {_title(node)}) has a weight of rank {ranks[node.input[1]]}, "
                "expected 3 or more; export the model again"
            )


@functools.lru_cache(maxsize=4096)
def is_operator(op_type: str, opset: int, domain: str = "") -> bool:
    """Whether a domain of ONNX's own has an operator at an opset."""
    try:
        onnx.defs.get_schema(op_type, opset, domain)
    except (onnx.defs.SchemaError, TypeError):  # TypeError: a name that isn't text
        return False
    return True


def check_tensors(proto: onnx.ModelProto, name: str) -> None:
    """Refuse sparse and segmented tensors, external data and values of another number than the shape says.

    Raises:
        ModelError: naming the tensor.
        UnsupportedModelError: a sparse tensor or a segment, or over 2 GiB outside of the main graph's initializers.
    """
    attributes = (attribute for node in all_nodes(proto.graph) for attribute in node.attribute)
    if any(graph.sparse_initializer for graph in all_graphs(proto.graph)) or any(
        attribute.HasField("sparse_tensor") for attribute in attributes
    ):
        raise UnsupportedModelError(f"{name}: sparse weights can't be handled; export dense ones")
    besides = -sum(tensor_nbytes(tensor) or 0 for tensor in proto.graph.initializer)
    for tensor in all_tensors(proto):
        if has_external_data(tensor):
            raise ModelError(f"{name}: tensor {tensor.name!r} lies in another file, which a model in memory can't have")
        if tensor.HasField("segment"):
            raise UnsupportedModelError(f"{name}: tensor {tensor.name!r} is a segment of one; export it whole")
        expected, got = tensor_nbytes(tensor), stored_nbytes(tensor)
        if any(size < 0 for size in tensor.dims) or expected not in (None, got):
            raise ModelError(
                f"{name}: tensor {tensor.name!r} of shape {list(tensor.dims)} holds {got} bytes, "
                f"expected {expected}; the file is damaged"
            )
        besides += got
    if besides > LIMIT_NBYTES:
        raise UnsupportedModelError(
            f"{name}: over 2 GiB in attributes of its nodes and in subgraphs; "
            "export its weights as initializers of the main graph"
        )


def check_names(proto: onnx.ModelProto, name: str) -> None:
    """Refuse a tensor that nothing makes, that is made or given twice or that is read before it is made.

    Raises:
        ModelError: naming the tensor and the node.
    """
    _check_graph_names(proto.graph, set(), name)
    seen: Set[str] = set()
    for value in proto.graph.output:  # of a branch, two may be one tensor
        if value.name in seen:
            raise ModelError(f"{name}: two graph outputs are called {value.name!r}; export it with one of each name")
        seen.add(value.name)


def _check_graph_names(graph: onnx.GraphProto, visible: Set[str], name: str) -> None:
    own: Dict[str, str] = {}
    outer = frozenset(visible)
    for value in (*graph.input, *graph.initializer):
        _add_names([value.name], own, "the graph's inputs and initializers", name)
    made_later = {output for node in graph.node for output in node.output}
    visible |= own.keys()
    for node in graph.node:
        if not isinstance(node.name, str):
            raise ModelError(f"{name}: node name {node.name!r} isn't UTF-8 text; the file is damaged")
        for read in node.input:
            if read and read not in visible:
                problem = "later (the graph has a cycle or isn't sorted)" if read in made_later else "by nothing"
                raise ModelError(f"{name}: node {_title(node)} reads {read!r}, which is made {problem}")
        for inner in node_graphs(node):
            _check_graph_names(inner, visible, name)
        _add_names([output for output in node.output if output], own, f"node {_title(node)}", name)
        visible.update(node.output)
    for value in graph.output:
        if value.name not in visible:
            raise ModelError(f"{name}: graph output {value.name!r} is made by nothing")
    visible -= own.keys() - outer


def _add_names(names: Sequence[str], own: Dict[str, str], maker: str, model: str) -> None:
    for tensor in names:
        if not isinstance(tensor, str):
            raise ModelError(f"{model}: tensor name {tensor!r} of {maker} isn't UTF-8 text; the file is damaged")
        if not tensor:
            raise ModelError(f"{model}: a tensor of {maker} has no name")
        if tensor in own:
            raise ModelError(f"{model}: tensor {tensor!r} is made twice: by {own[tensor]} and by {maker}")
        own[tensor] = maker


def run_checker(proto: onnx.ModelProto, name: str) -> None:
    """Refuse what ONNX's own checker refuses.

    Raises:
        ModelError: with the checker's text.
    """
    bare = without_weights(proto)
    for tensor, original in zip(bare.graph.initializer, proto.graph.initializer):
        if is_large(original) and original.HasField("raw_data") and tensor_nbytes(original) is not None:
            tensor.dims[:] = [0]  # no value is missing then
        elif is_large(original):
            tensor.CopyFrom(original)
    try:
        onnx.checker.check_model(bare)
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{name}: not a valid ONNX model: {first_line(error)}; export it again") from error


def first_line(error: BaseException) -> str:
    """The first line of a library's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _title(node: onnx.NodeProto) -> str:
    return repr(node.name or f"{node.op_type} -> {', '.join(map(str, node.output))}")
