"""What every source of calibration or held-out data yields, and how its content is digested."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """One feed of a model and, where known, what should come out.

    `feeds` have the shapes that the model takes, batch axis included; `label` holds the class ids of their rows;
    `expected` holds outputs by name. Arrays may be read-only and are not written to again by the source. `is_batch`
    is False where axis 0 of a feed isn't a batch of any size, so that its rows aren't independent.
    """

    feeds: Dict[str, Array]
    label: Array | None = None
    expected: Dict[str, Array] | None = None
    is_batch: bool = True

    @property
    def rows(self) -> int | None:
        """The size of the batch axis that all feeds share; None where they share none."""
        sizes = {feed.shape[0] if feed.ndim else None for feed in self.feeds.values()}
        return sizes.pop() if self.is_batch and len(sizes) == 1 else None


class SampleSource(Protocol):
    """Samples that can be read again and again, one at a time, in the same order."""

    def key(self) -> Dict[str, Any]:
        """What identifies the data, for JSON: digests of what it comes from; nothing is run."""

    def verified_key(self) -> Dict[str, Any]:
        """The key plus, where that doesn't pin them down, a digest of the samples themselves."""

    def count(self) -> int | None:
        """The number of samples; None where only reading them tells."""

    def __iter__(self) -> Iterator[Sample]: ...


def content_sha256(samples: Iterable[Sample]) -> str:
    """The digest of all that `samples` hold, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        named = {"feeds": sample.feeds, "expected": sample.expected or {}}
        if sample.label is not None:
            named["label"] = {"label": sample.label}
        for group, arrays in named.items():
            for name in sorted(arrays):
                _add(digest, f"{group}/{name}", arrays[name])
        digest.update(b"end of sample")
    return digest.hexdigest()


def fingerprints(samples: Iterable[Sample]) -> Iterator[str]:
    """The SHA-256 of every row of the feeds (of a whole feed where inputs share no batch axis)."""
    for sample in samples:
        names = sorted(sample.feeds)
        for row in range(sample.rows or 0):
            yield _sha256((name, sample.feeds[name][row]) for name in names)
        if sample.rows is None:
            yield _sha256((name, sample.feeds[name]) for name in names)


def overlap(calibration: Iterable[Sample], held_out: Iterable[Sample]) -> int:
    """How many rows of `held_out` occur in `calibration` too."""
    seen = set(fingerprints(calibration))
    return sum(fingerprint in seen for fingerprint in fingerprints(held_out))


def _sha256(arrays: Iterable[tuple[str, Array]]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays:
        _add(digest, name, np.asarray(array))
    return digest.hexdigest()


def _add(digest: Any, name: str, array: Array) -> None:
    digest.update(repr((name, array.dtype.str, array.shape)).encode("utf-8", "backslashreplace"))
    digest.update(np.ascontiguousarray(array))
