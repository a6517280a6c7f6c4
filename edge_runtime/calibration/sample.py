"""What every source of calibration or held-out data yields, and how its content is digested."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, Protocol, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BLANK = bytes(16)


@dataclass(frozen=True, eq=False)
class Sample:
    """One feed of a model and, where known, what should come out.

    `feeds` have the shapes that the model takes, batch axis included; `label` holds the class ids of their rows;
    `expected` holds outputs by name. Arrays may be read-only and are not written to again by the source. `is_batch`
    is False where axis 0 of a feed isn't a batch of any size, so that its rows aren't independent. `is_sequence` is
    True where the sample follows from the one before it, so that it can be neither batched nor held out by itself.
    """

    feeds: Dict[str, Array]
    label: Array | None = None
    expected: Dict[str, Array] | None = None
    is_batch: bool = True
    is_sequence: bool = False

    @property
    def rows(self) -> int | None:
        """The size of the batch axis that all feeds share; None where they share none."""
        sizes = {feed.shape[0] if feed.ndim else None for feed in self.feeds.values()}
        return sizes.pop() if self.is_batch and not self.is_sequence and len(sizes) == 1 else None


class SampleSource(Protocol):
    """Samples that can be read again and again, one at a time, in the same order."""

    def key(self) -> Dict[str, Any]:
        """What identifies the data, for JSON: digests of what it comes from; nothing is run."""

    def verified_key(self, content: str | None = None) -> Dict[str, Any]:
        """The key plus, where that doesn't pin them down, a digest of the samples themselves.

        `content` is that digest if it is known already; they are read for it otherwise.
        """

    def count(self) -> int | None:
        """The number of samples; None where only reading them tells."""

    def __iter__(self) -> Iterator[Sample]: ...


class ContentDigest:
    """The SHA-256 of all that samples hold, in their order."""

    def __init__(self) -> None:
        self._digest: Any = hashlib.sha256()

    def update(self, sample: Sample) -> None:
        """Takes the next sample."""
        named = {"feeds": sample.feeds, "expected": sample.expected or {}}
        if sample.label is not None:
            named["label"] = {"label": sample.label}
        for group, arrays in named.items():
            for name in sorted(arrays):
                array = arrays[name]
                self._digest.update(_header(f"{group}/{name}", array.dtype, array.shape))
                self._digest.update(np.ascontiguousarray(array))
        self._digest.update(b"end of sample")

    def hexdigest(self) -> str:
        """The digest so far."""
        return str(self._digest.hexdigest())


def content_sha256(samples: Iterable[Sample]) -> str:
    """The digest of all that `samples` hold, in their order."""
    digest = ContentDigest()
    for sample in samples:
        digest.update(sample)
    return digest.hexdigest()


def row_fingerprints(sample: Sample) -> Iterator[bytes]:
    """What tells each row of the feeds from others, in 16 bytes (of a whole feed where inputs share no batch axis).

    Equal numbers of one type are equal, 0.0 and -0.0 too; so are rows that differ only in how many zeros pad the ends
    of their axes, and rows of nothing but zeros are `BLANK`.
    """
    names = sorted(sample.feeds)
    rows = sample.rows
    for row in range(1 if rows is None else rows):
        yield _fingerprint(
            {name: np.asarray(sample.feeds[name] if rows is None else sample.feeds[name][row]) for name in names}
        )


def _fingerprint(arrays: Dict[str, Array]) -> bytes:
    digest: Any = hashlib.sha256()
    is_blank = True
    for name, padded in arrays.items():
        array = _without_padding(padded)
        is_blank = is_blank and not array.size
        digest.update(_header(name, array.dtype, array.shape))
        digest.update(np.ascontiguousarray(array + array.dtype.type(0) if array.dtype.kind == "f" else array))
    return BLANK if is_blank else bytes(digest.digest()[: len(BLANK)])


def _without_padding(array: Array) -> Array:
    """`array` without the zeros at the ends of its axes."""
    is_used = array.astype(np.bool_)
    for axis in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != axis)
        used = np.flatnonzero(is_used.any(axis=others))
        end = int(used[-1]) + 1 if used.size else 0
        part = (slice(None),) * axis + (slice(end),)
        array, is_used = array[part], is_used[part]
    return array if array.ndim or is_used else array.reshape(1)[:0]


def _header(name: str, dtype: np.dtype[Any], shape: Tuple[int, ...]) -> bytes:
    return repr((name, dtype.str, shape)).encode("utf-8", "backslashreplace")
