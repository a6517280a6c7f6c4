"""Thresholds of a real network's activations on rendered text lines."""

from __future__ import annotations

from typing import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from PIL import Image, ImageDraw

from edge_runtime.calibration.calibrator import Entropy
from edge_runtime.calibration.collect import collect, table_from_histograms
from edge_runtime.calibration.sample import Sample
from edge_runtime.calibration.samples import batched


def text_line(text: str, is_turned: bool) -> np.ndarray:
    """f32[1, 3, 48, 192], as the text direction net takes it."""
    image = Image.new("RGB", (96, 24), "white")
    ImageDraw.Draw(image).text((4, 6), text, fill="black")
    image = image.rotate(180 * is_turned).resize((192, 48))
    return ((np.asarray(image, np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].copy()


def lines() -> Iterator[Sample]:
    for index in range(16):
        yield Sample({"x": text_line(f"line {index * 37}", bool(index % 2))})


@pytest.fixture(scope="module")
def activations(real_path):
    """The names of the activations of convolutions and clips, and a function from feeds to them."""
    model = onnx.load(str(real_path("cls")))
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Relu", "BatchNormalization")]
    model.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return names, lambda feeds: dict(zip(names, session.run(names, dict(feeds))))


def test_every_activation_keeps_20_db(activations):
    names, run = activations
    table = table_from_histograms(collect(run, lines(), names), Entropy())
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 1e-30)
    for sample in lines():
        for name, value in run(sample.feeds).items():
            scale = np.float32(table.scales[name])
            signal[name] += float(np.square(value).sum())
            noise[name] += float(np.square(value - np.clip(np.round(value / scale), -127, 127) * scale).sum())
    assert {name for name in names if signal[name] and 10 * np.log10(signal[name] / noise[name]) < 20} == set()


def test_batching_keeps_what_is_counted_up_to_the_networks_own_rounding(activations):
    names, run = activations
    single, joined = (collect(run, batched(lines(), size), names) for size in (1, 8))
    for name in names:
        assert single[name].total == joined[name].total
        assert single[name].amax == pytest.approx(joined[name].amax, rel=1e-3, abs=1e-5)
