"""What one pass over samples shows: how many, which, and what their values are like."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Counter as CounterType
from typing import Dict, Iterable, Mapping

from edge_runtime.calibration.input_statistics import InputStatistics, RunningStatistics
from edge_runtime.calibration.sample import BLANK, ContentDigest, Sample, row_fingerprints
from edge_runtime.errors import DataError


@dataclass(frozen=True)
class Examination:
    """What `examined` found; about 150 bytes a row, and 50 more for each input, beside the first sample.

    `fingerprints` counts the rows that have each (see `row_fingerprints`); a sample without a batch axis is one row.
    `content_sha256` is what `SampleSource.verified_key` takes.
    """

    samples: int
    rows: int
    content_sha256: str
    fingerprints: Mapping[bytes, int]
    inputs: Mapping[str, InputStatistics]
    first: Sample

    @property
    def duplicates(self) -> int:
        """How many rows occurred before."""
        return self.rows - len(self.fingerprints)

    def rows_in(self, other: Examination) -> int:
        """How many rows occur in `other` too; rows of zeros don't count."""
        return sum(
            count
            for fingerprint, count in self.fingerprints.items()
            if fingerprint != BLANK and fingerprint in other.fingerprints
        )


def examined(samples: Iterable[Sample], calibration: Examination | None = None) -> Examination:
    """All that is to be known of `samples`, in one pass; held-out ones are also measured against `calibration`.

    Raises:
        DataError: there is none, or what reading them raises.
    """
    digest = ContentDigest()
    fingerprints: CounterType[bytes] = Counter()
    inputs: Dict[str, RunningStatistics] = {}
    first: Sample | None = None
    count = 0
    for sample in samples:
        first = first or sample
        count += 1
        digest.update(sample)
        fingerprints.update(row_fingerprints(sample))
        for name, feed in sample.feeds.items():
            if name not in inputs:
                inputs[name] = RunningStatistics(feed.dtype, calibration.inputs.get(name) if calibration else None)
            inputs[name].update(feed, sample.rows)
    if first is None:
        raise DataError("no sample was given; expected at least one")
    rows = sum(fingerprints.values())
    statistics = {name: running.result() for name, running in inputs.items()}
    return Examination(count, rows, digest.hexdigest(), fingerprints, statistics, first)
