"""What is made of a source of samples: parts and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from edge_runtime.calibration.feeds import has_batch_axis
from edge_runtime.calibration.sample import Array, ContentDigest, Sample, SampleSource
from edge_runtime.errors import DataError
from edge_runtime.tensors import TensorSpec


def split(source: SampleSource, every: int = 4) -> Tuple[SampleSource, SampleSource]:
    """The calibration part and the held-out part of `source`: the first of every `every` samples is held out.

    The parts refuse samples that follow from each other (`Sample.is_sequence`): what is held out must be independent.
    """
    assert every > 1
    return _Part(source, every, is_held_out=False), _Part(source, every, is_held_out=True)


@dataclass(frozen=True)
class _Part:
    source: SampleSource
    every: int
    is_held_out: bool

    def key(self) -> Dict[str, Any]:
        return self._key_from(self.source.key())

    def verified_key(self, content: str | None = None) -> Dict[str, Any]:
        return self._key_from(self.source.verified_key(content))  # of the whole source, not of the part

    def count(self) -> int | None:
        total = self.source.count()
        if total is None:
            return None
        held_out = -(-total // self.every)
        return held_out if self.is_held_out else total - held_out

    def __iter__(self) -> Iterator[Sample]:
        """The part's samples.

        Raises:
            DataError: none is left for calibration, because there is one sample only; or they are a sequence.
        """
        index = -1
        for index, sample in enumerate(self.source):
            if sample.is_sequence:
                raise DataError(
                    f"samples of a sequence follow from each other, so every {self.every}th can't be held out; "
                    "give held-out data apart"
                )
            if (index % self.every == 0) == self.is_held_out:
                yield sample
        if index == 0 and not self.is_held_out:
            raise DataError("one sample can't be both for calibration and held out; give two, or held-out data apart")

    def _key_from(self, source: Dict[str, Any]) -> Dict[str, Any]:
        return {"kind": "part", "every": self.every, "is_held_out": self.is_held_out, "source": source}


@dataclass(frozen=True)
class Unchanged:
    """A source that says so if a whole pass over it yields other samples than those of the digest."""

    source: SampleSource
    content_sha256: str

    def key(self) -> Dict[str, Any]:
        """The source's."""
        return self.source.key()

    def verified_key(self, content: str | None = None) -> Dict[str, Any]:
        """The source's."""
        return self.source.verified_key(content or self.content_sha256)

    def count(self) -> int | None:
        """The source's."""
        return self.source.count()

    def __iter__(self) -> Iterator[Sample]:
        """The samples.

        Raises:
            DataError: at the end, if they were others.
        """
        digest = ContentDigest()
        for sample in self.source:
            digest.update(sample)
            yield sample
        if digest.hexdigest() != self.content_sha256:
            raise DataError(
                "the data function yields other samples each time that it runs, so nothing can be compared; "
                "give its random numbers a seed, and let it change nothing that it reads"
            )


def batched(samples: Iterable[Sample], size: int, inputs: Sequence[TensorSpec] = ()) -> Iterator[Sample]:
    """Consecutive samples joined along axis 0, up to `size` rows a feed, in the same order.

    Samples are joined where they have a batch axis, targets included, and equal types and further dimensions; others
    pass as they are, and so do all if one of `inputs` (the plan's, which may fix more than the model) has no dynamic
    axis 0.
    """
    if not has_batch_axis(inputs):
        size = 0
    group: List[Sample] = []
    rows = 0
    for sample in samples:
        layout = _layout(sample)
        count = sample.rows or 0
        if group and (layout is None or layout != _layout(group[0]) or rows + count > size):
            yield _joined(group)
            group, rows = [], 0
        group.append(sample)
        rows += count
    if group:
        yield _joined(group)


def _layout(sample: Sample) -> Tuple[Any, ...] | None:
    """What must be equal in samples that are joined; None where a sample can't be."""
    arrays = [*sample.feeds.values(), *(sample.expected or {}).values()]
    if sample.label is not None:
        arrays.append(sample.label)
    if sample.rows is None or any(not array.ndim or array.shape[0] != sample.rows for array in arrays):
        return None
    return (
        _shapes(sample.feeds),
        _shapes(sample.expected or {}),
        None if sample.label is None else _shapes({"label": sample.label}),
    )


def _shapes(arrays: Dict[str, Array]) -> List[Tuple[Any, ...]]:
    return [(name, arrays[name].dtype.str, arrays[name].shape[1:]) for name in sorted(arrays)]


def _joined(group: Sequence[Sample]) -> Sample:
    if len(group) == 1:
        return group[0]
    labels = [sample.label for sample in group if sample.label is not None]
    return Sample(
        _concatenated([sample.feeds for sample in group]),
        np.concatenate(labels) if labels else None,
        _concatenated([sample.expected or {} for sample in group]) or None,
    )


def _concatenated(group: Sequence[Dict[str, Array]]) -> Dict[str, Array]:
    return {name: np.concatenate([arrays[name] for arrays in group]) for name in group[0]}
