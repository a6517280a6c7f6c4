"""The share of classes that are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataError, nearest
from edge_runtime.evaluation.bootstrap import Resampling, percentile_interval
from edge_runtime.evaluation.intervals import wilson_interval
from edge_runtime.evaluation.loss import Loss, Losses
from edge_runtime.evaluation.score import Array, LabelledSample, Outputs, Score

_COUNTED_AT_ONCE = 1 << 20
_RULE_OF_THREE = 3.0


class Accuracy:
    """Classes of `output` (default: the first float output) against labels, expected outputs or the reference.

    It keeps a bit for every class, at most a byte for a sample of one.
    """

    def __init__(self, output: str | None = None) -> None:
        self._output = output
        self._right = bytearray()
        self._n = 0

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Compares the classes of one sample.

        Raises:
            DataError: no such output, no classes in it, or a target of another shape.
        """
        expected = sample.expected or {}
        name = self._output or _default_output(outputs, expected)
        for given in (name, *expected):
            if given not in outputs:
                raise DataError(f"output {given!r} is none of the model's; {nearest(given, outputs)}")
        got = _classes(outputs[name], name)
        target = expected[name] if name in expected else reference[name]
        want = _classes(target, name) if sample.label is None else _checked_label(sample.label, outputs[name])
        got, want = _rows(got), _rows(want)
        if got.shape != want.shape:
            raise DataError(
                f"output {name!r} has classes of shape {list(got.shape)}, the target {list(want.shape)}; "
                "expected one class id for each"
            )
        self._right += np.packbits(got == want).tobytes()
        self._n += got.size

    def score(self, resampling: Resampling) -> Score:  # noqa: ARG002
        """The accuracy, with Wilson's interval.

        Raises:
            DataError: there was no row.
        """
        if not self._n:
            raise DataError("accuracy needs at least one held-out row; got none")
        right = _count(self._bits())
        return Score(right / self._n, *wilson_interval(right, self._n), self._n)

    def compare(self, candidate: Any, value: float, losses: Losses, resampling: Resampling) -> Loss:
        """The loss, by a bootstrap of the pairs of right and wrong; classes count as independent of each other.

        Where none went wrong (or right), up to three of n may still do so: the rule of three of J. A. Hanley and
        A. Lippman-Hand, JAMA 249 (1983), 1743.
        """
        ours, theirs, n = self._bits(), candidate._bits(), self._n
        if len(ours) != len(theirs) or candidate._n != n:
            return Loss(value, None, None, n)
        both = _count(ours & theirs)
        lost, gained = _count(ours) - both, _count(theirs) - both
        pairs = np.array([both, lost, gained, n - both - lost - gained])
        drawn = np.random.default_rng(resampling.seed).multinomial(n, pairs / n, size=resampling.count)
        baseline = drawn[:, 0] + drawn[:, 1]
        low, high = percentile_interval(losses(baseline, drawn[:, 0] + drawn[:, 2], baseline))
        right = both + lost
        if low is None or high is None or not right:
            return Loss(value, None, None, n)
        if not gained:
            low = min(low, (lost - min(_RULE_OF_THREE, n - right)) / right)
        if not lost:
            high = max(high, (min(_RULE_OF_THREE, right) - gained) / right)
        return Loss(value, low, high, n, fewest=0, rate=0.5 if lost else 1.0)

    def _bits(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(bytes(self._right), np.uint8)


def _count(bits: npt.NDArray[np.uint8]) -> int:
    parts = (bits[start : start + _COUNTED_AT_ONCE] for start in range(0, len(bits), _COUNTED_AT_ONCE))
    return sum(int(np.unpackbits(part).sum()) for part in parts)


def _default_output(outputs: Outputs, expected: Outputs) -> str:
    """The first float output of those that `expected` names, or of all; else of integers, then of strings."""
    for kinds in ("f", "iu", "O"):
        numbers = [name for name, array in outputs.items() if array.dtype.kind in kinds]
        if numbers:
            return next((name for name in numbers if name in expected), numbers[0])
    raise DataError(
        "accuracy: the model has no output of numbers or strings; use a metric of your own (module:function)"
    )


def _classes(output: Array, name: str) -> Array:
    if output.dtype.kind in "iuO":
        return output
    if output.dtype.kind != "f":
        raise DataError(f"accuracy: output {name!r} has type {output.dtype}, expected class scores or class ids")
    scores = _scores(output)
    if not scores.ndim or scores.shape[-1] < 2:
        raise DataError(
            f"accuracy: output {name!r} has shape {list(output.shape)}: one score doesn't say a class; "
            "expected two or more in the last axis: use metric cosine, mse, max-abs or your own (module:function)"
        )
    classes: Array = scores.argmax(axis=-1)
    return classes


def _scores(output: Array) -> Array:
    """`output` without the axes of size 1 behind its classes, such as those of [N, C, 1, 1]."""
    while output.ndim > 2 and output.shape[-1] == 1:
        output = output[..., 0]
    return output


def _checked_label(label: Array, output: Array) -> Array:
    if output.dtype.kind == "O":
        raise DataError(
            "label: got class ids, but the output is of strings; leave the label out, or use a metric of your own"
        )
    count = _scores(output).shape[-1] if output.dtype.kind == "f" else None
    if count is not None and label.size and not 0 <= label.min() <= label.max() < count:
        raise DataError(f"label: got class ids from {label.min()} to {label.max()}, expected 0 to {count - 1}")
    return label


def _rows(classes: Array) -> Array:
    """`classes` without axes of size 1, which labels and outputs may have or not."""
    rows: Array = np.atleast_1d(classes.squeeze())
    return rows
