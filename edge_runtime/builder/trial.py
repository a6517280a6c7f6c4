"""Candidates tried: loaded, compared with the float model on held-out samples, and timed."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Dict, Iterator, List, Mapping, Set, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.data import fitting_batches
from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.measure import call_of, usual_feeds
from edge_runtime.builder.progress import Progress
from edge_runtime.calibration.sample import Sample, SampleSource
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.evaluation.distance import Agreement, AgreementScore
from edge_runtime.evaluation.latency import LatencyRatio, TimingOptions, interleaved
from edge_runtime.evaluation.loss import Loss
from edge_runtime.evaluation.metrics import Metric, Scorer
from edge_runtime.evaluation.score import Score
from edge_runtime.graph.groups import groups
from edge_runtime.graph.macs import int8_share, mac_tensors, macs, quantised_nodes
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensors import Feeds, Signature

_BATCH = 16
_KEPT_NBYTES = 256 << 20

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Quality:
    """A candidate's score on the held-out samples, what it loses of float's, and how near its answers are."""

    score: Score
    loss: Loss
    agreement: AgreementScore


@dataclass(frozen=True)
class Tried:
    """What became of a candidate: its size and quality (None: no held-out data), or the problem that it has.

    Of INT8 also the share of multiply-accumulates that are in INT8, and the nodes that could be and aren't.
    """

    candidate: Candidate
    nbytes: int | None = None
    int8_macs: float | None = None
    kept_float: Tuple[str, ...] = ()
    quality: Quality | None = None
    problem: str = ""


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


class Trial:
    """Tries candidates, one loaded at a time beside the float model. A context manager."""

    def __init__(self, model: FloatModel, scoring: Scoring | None, progress: Progress) -> None:
        self._model = model
        self._scoring = scoring
        self._progress = progress
        self._float = model.opened(model.graph, "fp32")
        self._references = _References(self._float)
        self._baseline: Scorer | None = None
        try:
            self.feeds = usual_feeds(model, self._float, scoring.first if scoring else None)
        except BaseException:
            self._float.close()
            raise

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._float.close()

    def reference(self, candidate: Candidate) -> Tried:
        """The float model itself.

        Raises:
            DataError: the held-out samples can't be scored.
        """
        quality = None
        if self._scoring is not None:
            self._baseline, agreement = self._scored(self._scoring, candidate, self._float)
            score = self._baseline.result()
            lost = 0.0 if math.isfinite(score.value) else math.inf
            quality = Quality(score, Loss(lost, lost, lost, score.n), agreement)
        return Tried(candidate, PlanFiles(self._model.graph.to_files()).nbytes, quality=quality)

    def run(self, candidate: Candidate, is_optional: bool) -> Tried:
        """Tries one candidate; the float model must have been scored before.

        Raises:
            EdgeRuntimeError: it can't be made, loaded or run, and isn't optional.
        """
        try:
            graph = candidate.make()
            plan = PlanFiles(graph.to_files())
            with self._model.opened_plan(plan, graph, candidate.precision) as engine:
                engine.infer(typed(self.feeds, engine.signature))
                quality = self._quality(candidate, engine)
            tried = Tried(candidate, plan.nbytes, quality=quality)
            return self._weighed(tried, graph) if candidate.precision == "int8" else tried
        except EdgeRuntimeError as error:
            if not is_optional:
                raise
            return Tried(candidate, problem=str(error))

    def latency(self, wider: Candidate, narrower: Candidate, budget_s: float) -> LatencyRatio:
        """The latency of one candidate over another's, both timed in one run on the same feeds."""
        self._progress.stage(f"timing {narrower.name} against {wider.name}")
        with contextlib.ExitStack() as stack:
            calls = []
            for candidate in (wider, narrower):
                engine = self._float
                if candidate.precision != "fp32":
                    engine = stack.enter_context(self._model.opened(candidate.make(), candidate.precision))
                calls.append(call_of(engine, typed(self.feeds, engine.signature)))
            return interleaved(*calls, options=TimingOptions(budget_s=budget_s)).ratios[1]

    @cached_property
    def macs(self) -> Dict[str, int]:
        """Multiply-accumulates of each node on the feeds that are timed."""
        model = self._model.single
        graph = with_extra_outputs(model.graph, mac_tensors(model.graph))
        with model.opened(graph, "fp32") as engine:
            outputs = engine.infer(self.feeds)
        return macs(model.graph, {name: value.shape for name, value in {**outputs, **self.feeds}.items()})

    @cached_property
    def _quantisable(self) -> Set[str]:
        """The nodes that could be in INT8 and have multiply-accumulates."""
        return {node for group in groups(self._model.single.graph) for node in group.nodes} & self.macs.keys()

    def _weighed(self, tried: Tried, graph: OnnxModel) -> Tried:
        """With the share of the work that is in INT8, and the nodes that could be and aren't."""
        kept = self._quantisable - quantised_nodes(graph)
        return replace(tried, int8_macs=int8_share(graph, self.macs), kept_float=tuple(sorted(kept)))

    def _quality(self, candidate: Candidate, engine: Engine) -> Quality | None:
        if self._scoring is None:
            return None
        assert self._baseline is not None
        scorer, agreement = self._scored(self._scoring, candidate, engine)
        return Quality(scorer.result(), self._scoring.metric.compare(self._baseline, scorer), agreement)

    def _scored(self, scoring: Scoring, candidate: Candidate, engine: Engine) -> Tuple[Scorer, AgreementScore]:
        kept = f" with {len(candidate.excluded)} nodes in float" if candidate.excluded else ""
        self._progress.stage(f"scoring {candidate.name}{kept} on held-out samples", scoring.held_out.count())
        scorer, agreement = scoring.metric.start(), Agreement()
        for index, sample in enumerate(scoring.batches(self._model.signature)):
            reference = self._references.of(index, sample)
            outputs = reference if engine is self._float else engine.infer(typed(sample.feeds, engine.signature))
            scorer.update(outputs, sample, reference)
            agreement.update(outputs, reference)
            self._progress.advance((sample.rows or 1) if self._model.signature.max_batch_size else 1)
        return scorer, agreement.result()


class _References:
    """The float model's outputs for the held-out samples: kept up to 256 MiB, computed anew beyond."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: List[Outputs] = []
        self._nbytes = 0

    def of(self, index: int, sample: Sample) -> Outputs:
        """The outputs for the sample of that number; samples come in the same order every time."""
        if index < len(self._kept):
            return self._kept[index]
        outputs = self._engine.infer(sample.feeds)
        if index == len(self._kept) and self._nbytes < _KEPT_NBYTES:
            self._kept.append(outputs)
            self._nbytes += sum(value.nbytes for value in outputs.values())
        return outputs


def typed(feeds: Feeds, signature: Signature) -> Feeds:
    """`feeds` in the types that a plan takes: one with FP16 inputs gets FP16."""
    with np.errstate(over="ignore"):
        return {name: value.astype(signature.input(name).dtype.numpy, copy=False) for name, value in feeds.items()}
