"""Small graphs, real models, and ONNX Runtime to run them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edge_runtime.graph.model import load_model, model_from_bytes
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.quantize import quantizable
from edge_runtime.onnxruntime_api import SessionOptions, load_session


def _float_value(name, shape):
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


@pytest.fixture
def proto():
    """A function that builds a ModelProto; inputs are value infos, or float shapes by name."""

    def build(nodes, inputs, weights=None, outputs=("y",), opset=13, ir_version=8):
        given = [_float_value(*item) for item in inputs.items()] if isinstance(inputs, dict) else inputs
        wanted = [onnx.ValueInfoProto(name=value) if isinstance(value, str) else value for value in outputs]
        initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
        graph = helper.make_graph(nodes, "net", given, wanted, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)

    return build


@pytest.fixture
def build(proto):
    """A function that builds a checked OnnxModel, with the arguments of `proto`."""

    def checked(*args, **kwargs):
        return model_from_bytes(proto(*args, **kwargs).SerializeToString(), "net.onnx")

    return checked


@pytest.fixture
def run():
    """A function that runs a model (or the bytes of one) on ONNX Runtime and returns its outputs by name."""

    def outputs(model, feeds):
        session = load_session(model if isinstance(model, bytes) else model.serialize(), SessionOptions(), "the net")
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds)))

    return outputs


@pytest.fixture
def max_scales(run):
    """A function that calibrates by the largest magnitude seen in one feed."""

    def scales(model, feeds):
        tensors = quantizable(model)
        seen = {**feeds, **run(with_extra_outputs(model, tensors), feeds)}
        return {name: (float(np.abs(seen[name]).max()) or 1.0) / 127 for name in tensors}

    return scales


@pytest.fixture
def real_model(real_path):
    """A function that gives a loaded real model, or skips."""
    return lambda name: load_model(real_path(name))


@pytest.fixture
def real_feeds():
    """A function that gives a feed for a real model."""
    rng = np.random.default_rng(7)

    def feeds(name, batch=2):
        if name == "magika":
            return {"bytes": rng.integers(0, 257, (batch, 2048), dtype=np.int32)}
        if name == "minilm":
            ids = rng.integers(1000, 20000, (batch, 9))
            return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        size = {"cls": (48, 192), "det": (64, 96), "rec": (48, 160)}[name]
        return {"x": rng.standard_normal((batch, 3, *size)).astype(np.float32)}

    return feeds
