"""The data audit: wrong data sets are caught, and right ones pass."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from edge_runtime.calibration.audit import Audit, audit
from edge_runtime.calibration.sample import Sample

ROOT = Path(__file__).parents[2]


def samples(**arrays: np.ndarray) -> list[Sample]:
    count = len(next(iter(arrays.values())))
    return [Sample({name: array[i : i + 1] for name, array in arrays.items()}) for i in range(count)]


def found(calibration: dict, held_out: dict | None) -> list[str]:
    audited = audit(samples(**calibration), None if held_out is None else samples(**held_out))
    return [finding.what for finding in audited.findings]


def refused(calibration: np.ndarray, held_out: np.ndarray | None) -> list[str]:
    result = audit(samples(x=calibration), None if held_out is None else samples(x=held_out))
    return [finding.what for finding in result.refusals]


@pytest.fixture(scope="module")
def lines() -> tuple[np.ndarray, np.ndarray]:
    """Rendered text lines in [-1, 1], padded with zeros: calibration and held-out ones."""
    spec = importlib.util.spec_from_file_location("text_direction_lines", ROOT / "engines" / "text_direction.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    halves = [
        np.concatenate([feeds["x"] for feeds, _ in module.lines(half, 16)]) for half in ("calibration", "held_out")
    ]
    return halves[0], halves[1]


NOISE = np.random.default_rng(0)
WRONG = {
    "0..255": (lambda x: (x + 1) * 127.5, ["normalisation"]),
    "0..1": (lambda x: (x + 1) / 2, ["normalisation"]),
    "a tenth": (lambda x: x / 10, ["normalisation"]),
    "shifted": (lambda x: x + 5, ["normalisation"]),
    "uniform noise": (lambda x: NOISE.uniform(-1, 1, x.shape), ["noise"]),
    "normal noise": (lambda x: NOISE.normal(size=x.shape), ["noise"]),
    "noise in 0..255": (lambda x: NOISE.integers(0, 256, x.shape), ["noise", "normalisation"]),
    "one line": (lambda x: np.repeat(x[:1], len(x), axis=0), ["equal"]),
    "zeros": (np.zeros_like, ["equal"]),
    "flat colours": (lambda x: np.broadcast_to(x[:, :, :1, 30:31].mean(1, keepdims=True), x.shape), ["constant"]),
}


@pytest.mark.parametrize(("change", "what"), WRONG.values(), ids=WRONG)
def test_wrong_images_are_refused(lines, change, what):
    calibration, held_out = lines
    assert refused(change(calibration).astype(np.float32), held_out) == what


@pytest.mark.parametrize("rows", [4, 8, 16, 32])
def test_images_that_werent_normalised_are_refused_from_four_rows_on(lines, rows):
    calibration, held_out = lines
    assert refused((calibration[:rows] + 1) * 127.5, held_out[:rows]) == ["normalisation"]


def test_held_out_data_in_another_interval_shows_too(lines):
    assert refused(lines[0], (lines[1] + 1) / 2) == ["normalisation"]


def test_what_is_said_names_the_input_both_sides_and_a_remedy(lines):
    calibration, held_out = lines
    (finding,) = audit(samples(x=(calibration + 1) * 127.5), samples(x=held_out)).refusals
    assert finding.text == (
        "input 'x' is normalised otherwise in calibration data: values of 2 to 255, 173.5 +/- 69.72, "
        "held-out values of -0.9686 to 1, 0.1937 +/- 0.6063; prepare both alike"
    )


def test_the_right_halves_pass_without_a_word(lines):
    assert found({"x": lines[0]}, {"x": lines[1]}) == []
    assert found({"x": lines[1]}, {"x": lines[0]}) == []
    assert found({"x": lines[0]}, None) == []


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 16])
def test_few_right_rows_are_noted_and_not_refused(lines, rows):
    result = audit(samples(x=lines[0][:rows]), samples(x=lines[1]))
    assert result.refusals == ()
    assert result.findings[0].text.startswith(f"there are {rows} calibration rows, expected 32 or more")


def test_channels_in_another_order_arent_claimed(lines):
    assert found({"x": lines[0][:, ::-1].copy()}, {"x": lines[1]}) == []


def test_duplicates_are_noted(lines):
    repeated = np.concatenate([lines[0], lines[0][:2]])
    assert found({"x": repeated}, {"x": lines[1]}) == ["duplicates"]
    assert found({"x": np.concatenate([lines[0], lines[0][:1]])}, {"x": lines[1]}) == []


def test_blank_rows_are_noted(lines):
    blank = np.concatenate([lines[0], np.full_like(lines[0][:3], 0.5)])
    assert found({"x": blank}, {"x": lines[1]}) == ["duplicates", "constant-rows"]
    assert "constant-rows" not in found({"x": blank}, {"x": blank + 0.01})


def test_clipped_values_are_noted(lines):
    assert found({"x": np.clip(lines[0] * 3 + 1, -1, 1)}, {"x": lines[1]}) == ["saturated"]


def test_a_range_that_isnt_covered_is_noted(lines):
    dim = np.clip(lines[0], -0.9, 0.7)
    assert "outside" in found({"x": dim}, {"x": lines[1]})


def test_values_that_lie_wholly_outside_are_refused():
    rng = np.random.default_rng(0)
    assert refused(rng.uniform(0, 10, (12, 3)), rng.uniform(11, 60, (12, 3))) in (["normalisation"], ["outside"])
    assert refused(rng.uniform(0, 1, (12, 3)), rng.uniform(1.1, 2, (12, 3))) in (["normalisation"], ["outside"])


def test_ids_that_never_occurred_are_noted():
    rng = np.random.default_rng(0)
    mask = np.ones((40, 12), np.int64)
    calibration, held_out, same = (rng.integers(low, low + 100, (40, 12)) for low in (0, 100, 0))
    assert found({"ids": calibration, "mask": mask}, {"ids": held_out, "mask": mask}) == ["unseen"]
    assert found({"ids": calibration, "mask": mask}, {"ids": same, "mask": mask}) == []


def test_findings_of_a_sequence_against_another_are_notes():
    rng = np.random.default_rng(0)
    steps = [[Sample({"h": rng.normal(m, 0.1, (1, 64))}, is_sequence=True) for _ in range(40)] for m in (0, 9)]
    result = audit(*steps)
    assert [(finding.level, finding.what) for finding in result.findings] == [("note", "normalisation")]


def smooth(rng: np.random.Generator, rows: int, *shape: int) -> np.ndarray:
    image = np.cumsum(np.cumsum(rng.normal(size=(rows, *shape)), axis=-1), axis=-2)
    image /= np.abs(image).max(axis=tuple(range(1, image.ndim)), keepdims=True)
    return (image * rng.uniform(0.2, 1, (rows,) + (1,) * len(shape))).astype(np.float32)


def padded(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.normal(1, 1, (rows, 64, 8)) * (np.arange(64) < rng.integers(2, 65, (rows, 1)))[..., None]


def drawn_states(rng: np.random.Generator, rows: int) -> np.ndarray:
    states = np.tanh(np.cumsum(rng.normal(0, 0.3, (4 * rows, 16)), axis=0))
    states[0] = 0
    return rng.permutation(states)[:rows]


NATURAL: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "images": lambda rng, n: smooth(rng, n, 3, 16, 16),
    "images of bytes": lambda rng, n: ((smooth(rng, n, 16, 16, 3) + 1) * 127).astype(np.uint8),
    "strokes on black": lambda rng, n: np.maximum(smooth(rng, n, 1, 16, 16), 0),
    "masks": lambda rng, n: (smooth(rng, n, 1, 16, 16) > 0.1).astype(np.float32),
    "flat rows": lambda rng, n: rng.uniform(-1, 1, (n, 1, 1, 1)) + rng.normal(0, 1e-3, (n, 3, 8, 8)),
    "padded sequences": padded,
    "sound of any loudness": lambda rng, n: rng.normal(size=(n, 1, 300)) * rng.lognormal(0, 1, (n, 1, 1)),
    "table": lambda rng, n: rng.normal(size=(n, 5)) * [1, 10, 100, 0.1, 1],
    "heavy tails": lambda rng, n: rng.lognormal(0, 2, (n, 1)),
    "no moments": lambda rng, n: rng.standard_cauchy((n, 32)),
    "one-hot": lambda rng, n: np.eye(32, dtype=np.float32)[rng.permutation(32)[:n]],
    "sparse": lambda rng, n: (rng.random((n, 200)) < 0.05) * rng.lognormal(0, 1, (n, 200)),
    "states": drawn_states,
    "tokens": lambda rng, n: rng.zipf(1.5, (n, 16)).clip(0, 20_000) * (np.arange(16) < rng.integers(2, 17, (n, 1))),
    "zeros to begin with": lambda rng, n: rng.normal(size=(n, 8)) * (np.arange(n)[:, None] > 0),
}


@pytest.mark.parametrize("make", NATURAL.values(), ids=NATURAL)
@pytest.mark.parametrize(("rows", "held_out"), [(1, 1), (1, 16), (2, 2), (2, 32), (4, 16), (8, 8), (16, 4), (32, 32)])
def test_natural_variety_is_never_refused(make, rows, held_out):
    for seed in range(5):
        rng = np.random.default_rng([seed, rows, held_out])
        calibration = make(rng, rows)
        assert refused(calibration, make(rng, held_out)) == []


def test_states_that_stay_zero_beside_other_inputs_pass():
    rng = np.random.default_rng(0)
    sets = [{"h": np.zeros((40, 16), np.float32), "x": rng.normal(size=(40, 9))} for _ in range(2)]
    assert found(*sets) == []


def test_states_that_were_never_fed_on_are_refused():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 9))
    assert "constant" in found({"h": np.zeros((40, 16)), "x": x}, {"h": rng.normal(size=(40, 16)), "x": x + 1})


def test_the_audit_keeps_what_both_passes_found(lines):
    result: Audit = audit(samples(x=lines[0]), samples(x=lines[1]))
    assert (result.calibration.rows, result.held_out.rows) == (32, 32)
    assert result.held_out.inputs["x"].outside == 0
    assert len(result.calibration.inputs["x"].channel_mean) == 3


def test_a_channel_that_is_normalised_otherwise_is_noted() -> None:
    rng = np.random.default_rng(0)
    gains = np.array([1, 3, 9], np.float32).reshape(3, 1, 1)

    def samples(factors):
        return [Sample({"x": (rng.normal(size=(1, 3, 8, 8)) * factors).astype(np.float32)}) for _ in range(40)]

    found = {finding.what for finding in audit(samples(gains), samples(gains[::-1])).findings}
    assert "channels" in found
    assert "channels" not in {finding.what for finding in audit(samples(gains), samples(gains)).findings}
