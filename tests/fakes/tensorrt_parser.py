"""The fake ONNX parser: real ONNX in, the refusals that TensorRT's parser makes."""

# ruff: noqa: F821 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Tuple

import numpy as np
import onnx
from fakes.tensorrt_binding import make
from fakes.tensorrt_board import log
from fakes.tensorrt_model import real_inputs, type_name
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper

# The highest opset that a version's parser knows.
_OPSETS = {"8.2": 13, "8.4": 16, "8.5": 17, "8.6": 17, "10.3": 20, "10.13": 22, "11.4": 24}
_NOT_FOUND = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'


class Problem(NamedTuple):
    """What is wrong, and with which node; -1 is the model."""

    code: str
    text: str
    node: int = -1
    name: str = ""
    operator: str = ""


class ParserError:
    def _setup(self, problem: Problem) -> None:
        self._problem = problem

    def code(self) -> Any:
        return getattr(self._module.ErrorCode, self._problem.code)

    def desc(self) -> str:
        return self._problem.text

    def file(self) -> str:
        return "ModelImporter.cpp"

    def func(self) -> str:
        return "parseNode"

    def line(self) -> int:
        return 1

    def node(self) -> int:
        return self._problem.node

    def node_name(self) -> str:
        return self._problem.name

    def node_operator(self) -> str:
        return self._problem.operator

    def local_function_stack(self) -> List[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0

    def __str__(self) -> str:
        return f"In node {self._problem.node} (parseNode): {self._problem.code}: {self._problem.text}"


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = weakref.ref(network)  # a parser doesn't keep its network
        self._logger = logger
        self._errors: List[Any] = []
        self._subgraphs: List[Tuple[List[int], bool]] = []
        self._is_used = False
        self._flags = 0

    num_errors = property(lambda self: len(self._errors))
    num_subgraphs = property(lambda self: len(self._subgraphs))

    @property
    def flags(self) -> int:
        return self._flags

    @flags.setter
    def flags(self, value: size) -> None:
        self._flags = value

    def set_flag(self, flag: OnnxParserFlag) -> None:
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: OnnxParserFlag) -> None:
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag: OnnxParserFlag) -> bool:
        return bool(self._flags & (1 << int(flag)))

    def get_error(self, index: int) -> Any:
        if not 0 <= index < len(self._errors):
            log(self._logger, "ERROR", f"vector::_M_range_check: __n (which is {index}) >= this->size()")
            return None
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors = []

    def get_used_vc_plugin_libraries(self) -> List[str]:
        return []

    def parse(self, model: buffer, path: str | None = None) -> bool:
        return self._parsed(bytes(model), Path(path).parent if path else Path())

    def parse_from_file(self, model: str) -> bool:
        self._alive()
        if not Path(model).is_file():
            text = f"Input file cannot be found, or is not a regular file: {model}"
            return self._fail(Problem("INVALID_VALUE", text))
        return self._parsed(Path(model).read_bytes(), Path(model).parent)

    def supports_operator(self, op_name: str) -> bool:
        return op_name not in self._module._board.unsupported_ops and onnx.defs.has(op_name)

    def supports_model(self, model: buffer, path: str | None = None) -> Any:
        self._alive()
        loaded = onnx.load_model_from_string(bytes(model))
        self._subgraphs = self._parts(loaded)
        return all(is_good for _, is_good in self._subgraphs), self._subgraphs

    def supports_model_v2(self, model: buffer, path: str | None = None) -> bool:
        self._alive()
        loaded = onnx.load_model_from_string(bytes(model))
        self._subgraphs = self._parts(loaded)
        for problem in self._problems(loaded):
            self._fail(problem)
        return all(is_good for _, is_good in self._subgraphs)

    def is_subgraph_supported(self, index: int) -> bool:
        return self._subgraphs[index][1]

    def get_subgraph_nodes(self, index: int) -> List[int]:
        return self._subgraphs[index][0]

    def _alive(self) -> Any:
        network = self._network()
        assert network is not None, "segfault: the network of this parser is gone; the parser doesn't keep it"
        return network

    def _parsed(self, content: bytes, folder: Path) -> bool:
        network = self._alive()
        if network.num_layers:
            log(self._logger, "ERROR", "ModelImporter.cpp:1: Parse was called with a non-empty network definition")
            return False
        if self._is_used:
            return self._fail(Problem("MODEL_DESERIALIZE_FAILED", "A model was previously parsed!"))
        try:
            model = onnx.load_model_from_string(content)
            external_data_helper.load_external_data_for_model(model, str(folder))
        except DecodeError:
            return self._fail(Problem("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model."))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            return self._fail(Problem("INVALID_VALUE", f"Failed to open external weights: {error}"))
        self._is_used = len(content) > 0
        problems = list(self._problems(model))
        if self._module._major < 10:
            problems = problems[:1]  # it stops at the first
        for problem in problems:
            self._fail(problem)
        if not problems:
            if self._module._major < 10 and any(t.data_type == TensorProto.INT64 for t in model.graph.initializer):
                log(
                    self._logger,
                    "WARNING",
                    "Your ONNX model has been generated with INT64 weights: cast down to INT32.",
                )
            network._fill(model)
            network._parser = weakref.ref(self)  # the weights are the parser's
        return not problems

    def _fail(self, problem: Problem) -> bool:
        error = make(self._module, "ParserError", problem)
        self._errors.append(error)
        log(self._logger, "ERROR", f"ModelImporter.cpp:1: ERROR: {error}")
        return False

    def _parts(self, model: onnx.ModelProto) -> List[Tuple[List[int], bool]]:
        bad = {problem.node for problem in self._problems(model)}
        parts: List[Tuple[List[int], bool]] = []
        for index in range(len(model.graph.node)):
            is_good = index not in bad and -1 not in bad
            if parts and parts[-1][1] is is_good:
                parts[-1][0].append(index)
            else:
                parts.append(([index], is_good))
        return parts

    def _problems(self, model: onnx.ModelProto) -> Iterator[Problem]:
        network, surface = self._alive(), self._module._surface
        if network.has_implicit_batch_dimension:
            yield Problem(
                "INVALID_VALUE",
                "!_importer_ctx.network()->hasImplicitBatchDimension() && This version of the ONNX parser only "
                "supports networks with an explicit batch dimension",
            )
        opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        if opset > _OPSETS[surface]:
            yield Problem("UNSUPPORTED_GRAPH", f"ONNX opset {opset}; this parser knows {_OPSETS[surface]} and below")
        for value in real_inputs(model.graph):
            element = value.type.tensor_type.elem_type
            if type_name(element, self._module._major, self._module._minor) is None:
                yield Problem("UNSUPPORTED_NODE", f"input {value.name} has type {TensorProto.DataType.Name(element)}")
        for index, node in enumerate(model.graph.node):
            for code, text in self._node_problems(model, node):
                yield Problem(code, text, index, node.name, node.op_type)

    def _node_problems(self, model: onnx.ModelProto, node: onnx.NodeProto) -> Iterator[Tuple[str, str]]:
        board = self._module._board
        is_own = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)
        if node.op_type in board.unsupported_ops or not (is_own or node.op_type in board.plugin_ops):
            yield "INVALID_NODE" if self._module._major >= 10 else "UNSUPPORTED_NODE", _NOT_FOUND
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from self._scale_problems(model, node)

    def _scale_problems(self, model: onnx.ModelProto, node: onnx.NodeProto) -> Iterator[Tuple[str, str]]:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        points = weights.get(node.input[2]) if len(node.input) > 2 else None
        if len(node.input) < 3 and self._module._major < 10:
            yield "INVALID_NODE", f"(nbInputs == 3) && {node.op_type} needs a zero point"
        if points is not None and points.data_type not in (TensorProto.INT8, TensorProto.FLOAT8E4M3FN):
            yield "INVALID_NODE", "zero point must be INT8: only activation types allowed as input to this layer"
        elif points is not None and numpy_helper.to_array(points).any():
            yield "INVALID_NODE", "TensorRT only supports symmetric quantization: zero point must be 0"
        scale = weights.get(node.input[1])
        if scale is not None and not bool(np.all(numpy_helper.to_array(scale) > 0)):
            yield "INVALID_NODE", "Scale coefficients must all be positive"
        data = weights.get(node.input[0])
        if data is not None and data.data_type == TensorProto.INT32:
            yield "INVALID_NODE", "input has type Int32 but must have FP8, FP4, Int4, Int8, UInt8"
        if data is not None and data.data_type == TensorProto.INT8 and self._module._surface == "8.2":
            yield "UNSUPPORTED_NODE", "invalid weights type of Int8"
