"""A network from ONNX, with every problem that TensorRT's parser names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, List, Mapping, Sequence, Tuple

from edge_runtime.builder.tensorrt.request import BuildRequest
from edge_runtime.errors import ConfigError, UnsupportedModelError
from edge_runtime.tensorrt_api import Capability, MessageLog, TensorRT, dtype_of, failure_text
from edge_runtime.tensors import DYNAMIC, Shape, ShapeRange, TensorSpec

_FLOATS = ("FLOAT", "HALF")
_NO_PLUGIN = re.compile(r"plugin not found|(could|can)\s?not find plugin", re.I)


@dataclass(frozen=True)
class ParserProblem:
    """What the parser says of a node; `name` is "" where it doesn't name it, `index` -1 where it means the model."""

    code: str
    text: str
    index: int = -1
    name: str = ""
    operator: str = ""

    @property
    def line(self) -> str:
        """For a person."""
        node = f"node {self.name or self.index}" + (f" ({self.operator})" if self.operator else "")
        return f"{node}: {self.text}" if self.index >= 0 or self.name else self.text


class ParseError(UnsupportedModelError):
    """TensorRT's parser refuses a model; `problems` are what it said."""

    def __init__(self, message: str, problems: Sequence[ParserProblem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class Network:
    """A parsed network. It holds the parser too, whose memory the network's weights are in."""

    def __init__(self, library: TensorRT, builder: Any, logger: Any, is_strongly_typed: bool) -> None:
        self.definition = builder.create_network(_creation_flags(library, is_strongly_typed))
        if self.definition is None:
            raise UnsupportedModelError(f"{library.text}: no network can be made with the types of the ONNX")
        self._library = library
        self._parser = library.module.OnnxParser(self.definition, logger)

    def parse(self, path: str, log: MessageLog) -> None:
        """Reads an ONNX file; weights beside it are found.

        Raises:
            ParseError: the parser refuses it, or found nothing in it.
        """
        is_parsed = self._parser.parse_from_file(path)
        problems = [_problem(self._parser.get_error(index)) for index in range(self._parser.num_errors)]
        if not is_parsed or problems:
            found = "; ".join(dict.fromkeys(problem.line for problem in problems)) or failure_text("", log)
            raise ParseError(f"{self._library.text} can't parse the model: {found.lstrip(': ')}", problems)
        if not self.definition.num_outputs or not self.definition.num_layers:
            raise ParseError(f"{self._library.text}: found no layers and outputs in {path}; export the model again")

    @property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """Inputs with TensorRT's own types, as far as a tensor of ours can hold them."""
        return tuple(_spec(self.definition.get_input(index)) for index in range(self.definition.num_inputs))

    @property
    def outputs(self) -> Tuple[TensorSpec, ...]:
        """Outputs, likewise; an output that hasn't a known rank has no dimensions."""
        return tuple(_spec(self.definition.get_output(index)) for index in range(self.definition.num_outputs))

    def layers(self) -> List[Any]:
        """All layers."""
        return [self.definition.get_layer(index) for index in range(self.definition.num_layers)]

    def hold(self, names: Sequence[str], precision: str, nodes: AbstractSet[str]) -> Tuple[str, ...]:
        """Holds the layers of these ONNX nodes to a precision (`FLOAT`, `HALF`); the names that no layer has.

        `nodes` are the names of all ONNX nodes.
        """
        self._library.require(Capability.PRECISION_CONSTRAINTS, "nodes that are kept in float")
        dtype = getattr(self._library.module.DataType, precision)
        wanted, found = set(names), set()
        for layer in self.layers():
            node = _node_of(layer, nodes)
            if node in wanted:
                found.add(node)
                _hold(layer, dtype)
        return tuple(name for name in names if name not in found)


def _node_of(layer: Any, nodes: AbstractSet[str]) -> str:
    """The ONNX node that a layer is of, "" if that isn't known: of a node's several layers the later are numbered."""
    said = re.findall(r"\[ONNX Layer: (.*?)\]", getattr(layer, "metadata", "") or "")
    candidates = (layer.name, *said, re.sub(r"_\d+$", "", layer.name))
    return next((name for name in candidates if name in nodes), "")


def _creation_flags(library: TensorRT, is_strongly_typed: bool) -> int:
    names = ["EXPLICIT_BATCH"] if library.has(Capability.EXPLICIT_BATCH) else []
    if is_strongly_typed and not library.has(Capability.ALWAYS_STRONG):
        library.require(Capability.STRONG_TYPING, "a strongly typed network")
        names.append("STRONGLY_TYPED")
    flags = library.module.NetworkDefinitionCreationFlag if names else None
    return sum(1 << int(getattr(flags, name)) for name in names)


def _hold(layer: Any, dtype: Any) -> None:
    """Holds a layer's arithmetic, and those of its outputs that are numbers with a fraction, to a type."""
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    halves = [index for index, tensor in enumerate(outputs) if tensor is not None and tensor.dtype.name in _FLOATS]
    if not halves:
        return
    layer.precision = dtype
    for index in halves:
        layer.set_output_type(index, dtype)


def _problem(error: Any) -> ParserProblem:
    text = " ".join((error.desc() or "").split())
    if text.lower() in ("", "false"):
        text = "isn't supported by TensorRT's parser"
    elif _NO_PLUGIN.search(text):
        text += "; name its library in [backend] plugins"
    names = [getattr(error, attribute)() if hasattr(error, attribute) else "" for attribute in _NODE_FACTS]
    return ParserProblem(error.code().name, text, error.node(), *names)


_NODE_FACTS = ("node_name", "node_operator")


def _spec(tensor: Any) -> TensorSpec:
    try:
        shape: Shape = tuple(int(size) for size in tensor.shape)
    except ValueError:  # a rank that isn't known has no length
        shape = ()
    return TensorSpec(tensor.name, dtype_of(tensor.dtype, f"tensor {tensor.name!r}"), shape)


def check_profile(network: Network, profile: Mapping[str, ShapeRange]) -> None:
    """Holds a profile against the network's inputs, before TensorRT does it late or not at all.

    Raises:
        ConfigError: a name, rank or size that doesn't fit, or a shape that depends on an input's values.
    """
    specs = {spec.name: spec for spec in network.inputs}
    unknown = sorted(profile.keys() - specs.keys())
    missing = sorted(specs.keys() - profile.keys())
    if unknown or missing:
        raise ConfigError(f"optimization profile: expected inputs {sorted(specs)}, got {sorted(profile)}")
    for index, (name, spec) in enumerate(specs.items()):
        tensor, limits = network.definition.get_input(index), profile[name]
        if tensor.is_shape_tensor:
            raise ConfigError(
                f"input {name!r} decides shapes inside the model; TensorRT needs its values when it builds: "
                f"give it one, [input.{name}] value = ..."
            )
        if len(limits.minimum) != len(spec.shape):
            raise ConfigError(
                f"optimization profile: input {name!r}: expected {len(spec.shape)} dimensions, got {limits}"
            )
        for axis, size in enumerate(spec.shape):
            if size != DYNAMIC and (limits.minimum[axis], limits.maximum[axis]) != (size, size):
                raise ConfigError(
                    f"optimization profile: input {name!r}: axis {axis} is {size} in the model, got {limits}"
                )


def problem_records(problems: Sequence[ParserProblem]) -> List[Dict[str, Any]]:
    """Problems as JSON holds them."""
    return [dict(vars(problem)) for problem in problems]


def prepare_network(network: Network, request: BuildRequest) -> List[str]:
    """Holds layers to the precision that the request names; notes for the user."""
    notes = []
    for names, precision in ((request.float_layers, "FLOAT"), (request.half_layers, "HALF")):
        missing = network.hold(names, precision, set(request.nodes)) if names else ()
        if missing:
            notes.append(
                f"{len(missing)} nodes that should compute in {precision.lower()} are no layers of TensorRT's: "
                f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
            )
    return notes
