"""Small ONNX models, and what tests do with any TensorRT again and again."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def onnx_model(
    nodes: Sequence[Any], inputs: Dict[str, Any], outputs: Sequence[Any], opset: int = 13, **weights: Any
) -> bytes:
    """A model; an input is a shape of float32, or (ONNX element type, shape); an output a name, or (name, type)."""
    typed = {n: given if isinstance(given, tuple) else (TensorProto.FLOAT, given) for n, given in inputs.items()}
    results = [given if isinstance(given, tuple) else (given, TensorProto.FLOAT) for given in outputs]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, *given) for name, given in typed.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in results],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def dense_model(rows: Any = "n", opset: int = 13) -> bytes:
    """x [rows, 4] -> y [rows, 3] = max(x @ w + b, 0), with w 0..11 and b -20."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="fc"),
        helper.make_node("Relu", ["h"], ["y"], name="act"),
    ]
    w, b = np.arange(12, dtype=np.float32).reshape(4, 3), np.full(3, -20, np.float32)
    return onnx_model(nodes, {"x": [rows, 4]}, ["y"], opset, w=w, b=b)


class Session:
    """A builder, the messages that were logged, and the steps from ONNX to a plan."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.messages: List[Tuple[str, str]] = []
        messages = self.messages

        class Log(module.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                messages.append((severity.name, msg))

        self.logger = Log()
        self.builder = module.Builder(self.logger)

    def take(self, severity: str = "ERROR") -> str:
        """The messages of a severity so far, which are forgotten then."""
        found = [text for level, text in self.messages if level == severity]
        self.messages.clear()
        return "\n".join(found)

    def network(self, *flags: str) -> Any:
        kinds = self.module.NetworkDefinitionCreationFlag
        names = [*(["EXPLICIT_BATCH"] if hasattr(kinds, "EXPLICIT_BATCH") else []), *flags]
        return self.builder.create_network(sum(1 << int(getattr(kinds, name)) for name in names))

    def parsed(self, model: bytes, *flags: str) -> Tuple[Any, Any]:
        """A network and the parser that read it."""
        network = self.network(*flags)
        parser = self.module.OnnxParser(network, self.logger)
        errors = [] if parser.parse(model) else [parser.get_error(i).desc() for i in range(parser.num_errors)]
        assert not errors, errors
        return network, parser

    def config(self, *flags: str, **profile: Sequence[Tuple[int, ...]]) -> Any:
        """A configuration with flags, and with one profile if shapes are given."""
        config = self.builder.create_builder_config()
        for flag in flags:
            config.set_flag(getattr(self.module.BuilderFlag, flag))
        if profile:
            added = self.builder.create_optimization_profile()
            for name, shapes in profile.items():
                added.set_shape(name, *shapes)
            assert config.add_optimization_profile(added) == 0
        return config

    def plan(self, model: bytes, config: Any) -> bytes:
        network, parser = self.parsed(model)
        built = self.builder.build_serialized_network(network, config)
        assert built is not None, self.messages
        assert parser.num_errors == 0
        return bytes(built)
