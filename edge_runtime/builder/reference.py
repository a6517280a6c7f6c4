"""The float model on ONNX Runtime: what every candidate is compared with, whatever it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Iterator, List, Mapping, Tuple

import numpy.typing as npt

from edge_runtime.builder.data import fitting_batches
from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.measure import usual_feeds
from edge_runtime.builder.progress import Progress
from edge_runtime.calibration.sample import Sample, SampleSource
from edge_runtime.engine.engine import Engine
from edge_runtime.evaluation.distance import Agreement, AgreementScore
from edge_runtime.evaluation.metrics import Metric, Scorer
from edge_runtime.tensors import Signature

_BATCH = 16
_KEPT_NBYTES = 256 << 20

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Scoring:
    """What candidates are scored by, and on: held-out samples, the first of which is at hand."""

    metric: Metric
    held_out: SampleSource
    first: Sample

    def batches(self, signature: Signature) -> Iterator[Sample]:
        """The samples in batches; a function of the user's gets them as they are."""
        size = 1 if ":" in self.metric.name else _BATCH
        return fitting_batches(self.held_out, signature, size, "held-out")


class Reference:
    """The float model loaded, and its outputs for the held-out samples: kept up to 256 MiB, computed anew beyond.

    `feeds` are what candidates are timed on. A context manager, which closes the engine, even one that it was given.
    """

    def __init__(
        self, model: FloatModel, scoring: Scoring | None, progress: Progress, engine: Engine | None = None
    ) -> None:
        self.model = model
        self.scoring = scoring
        self.progress = progress
        self.engine = engine or model.opened(model.graph, "fp32")
        self._kept: List[Outputs] = []
        self._nbytes = 0
        try:
            self.feeds = usual_feeds(model, self.engine, scoring.first if scoring else None)
        except BaseException:
            self.engine.close()
            raise

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    @cached_property
    def scored(self) -> Tuple[Scorer, AgreementScore]:
        """The float model's score on the held-out samples, which there must be, and how near it is to itself.

        That is as near as can be, unless its answers aren't numbers.
        """
        assert self.scoring is not None
        self.progress.stage("scoring fp32 on held-out samples", self.scoring.held_out.count())
        scorer, agreement = self.scoring.metric.start(), Agreement()
        for index, sample in enumerate(self.scoring.batches(self.model.signature)):
            outputs = self.outputs(index, sample)
            scorer.update(outputs, sample, outputs)
            agreement.update(outputs, outputs)
            self.count(sample)
        return scorer, agreement.result()

    def outputs(self, index: int, sample: Sample) -> Outputs:
        """The outputs for the sample of that number; samples come in the same order every time."""
        if index < len(self._kept):
            return self._kept[index]
        outputs = self.engine.infer(sample.feeds)
        if index == len(self._kept) and self._nbytes < _KEPT_NBYTES:
            self._kept.append(outputs)
            self._nbytes += sum(value.nbytes for value in outputs.values())
        return outputs

    def count(self, sample: Sample) -> None:
        """Says that a sample was scored."""
        self.progress.advance((sample.rows or 1) if self.model.signature.max_batch_size else 1)
