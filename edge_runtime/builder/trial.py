"""Candidates tried: made, loaded, compared with the float model on held-out samples, and timed."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Dict, Set, Tuple

import numpy as np

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.maker import Made, PlanMaker
from edge_runtime.builder.measure import call_of
from edge_runtime.builder.reference import Reference
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendUnavailableError, EdgeRuntimeError
from edge_runtime.evaluation.distance import Agreement, AgreementScore
from edge_runtime.evaluation.latency import LatencyRatio, TimingOptions, interleaved
from edge_runtime.evaluation.loss import Loss
from edge_runtime.evaluation.score import Score
from edge_runtime.graph.groups import groups
from edge_runtime.graph.macs import int8_share, mac_tensors, macs, quantised_nodes
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.tensors import Feeds, Signature


@dataclass(frozen=True)
class Quality:
    """A candidate's score on the held-out samples, what it loses of float's, and how near its answers are."""

    score: Score
    loss: Loss
    agreement: AgreementScore


@dataclass(frozen=True)
class Tried:
    """What became of a candidate: its size and quality (None: no held-out data), or the problem that it has.

    Of INT8 also the share of multiply-accumulates that are in INT8, and the nodes that could be and aren't. A plan that
    was made, but has no device to run on here, has the reason in `unrun`.
    """

    candidate: Candidate
    nbytes: int | None = None
    int8_macs: float | None = None
    kept_float: Tuple[str, ...] = ()
    quality: Quality | None = None
    problem: str = ""
    unrun: str = ""
    is_reference: bool = False


class Trial:
    """Tries candidates beside the float model, one loaded at a time, as the plans of one maker."""

    def __init__(self, reference: Reference, maker: PlanMaker) -> None:
        self.maker = maker
        self._reference = reference
        self._model = reference.model

    def reference(self, candidate: Candidate) -> Tried:
        """The float model itself.

        Raises:
            DataError: the held-out samples can't be scored.
        """
        quality = None
        if self._reference.scoring is not None:
            scorer, agreement = self._reference.scored
            score = scorer.result()
            lost = 0.0 if math.isfinite(score.value) else math.inf
            quality = Quality(score, Loss(lost, lost, lost, score.n), agreement)
        return Tried(candidate, self.maker.make(candidate).nbytes, quality=quality, is_reference=True)

    def run(self, candidate: Candidate, is_optional: bool) -> Tried:
        """Tries one candidate.

        Raises:
            EdgeRuntimeError: it can't be made, loaded or run, and isn't optional.
        """
        try:
            made = self.maker.make(candidate)
            tried = Tried(candidate, made.nbytes)
            if candidate.precision == "int8":
                tried = self._weighed(tried, made.graph)
            return self._measured(made, tried)
        except EdgeRuntimeError as error:
            if not is_optional:
                raise
            return Tried(candidate, problem=str(error))

    def _measured(self, made: Made, tried: Tried) -> Tried:
        try:
            with self.maker.opened(made) as engine:
                engine.infer(typed(self._reference.feeds, engine.signature))
                return replace(tried, quality=self._quality(made.candidate, engine))
        except BackendUnavailableError as error:
            return replace(tried, unrun=str(error))

    def latency(self, wider: Candidate, narrower: Candidate, budget_s: float) -> LatencyRatio:
        """The latency of one candidate over another's, both timed in one run on the same feeds."""
        self._reference.progress.stage(f"timing {narrower.name} against {wider.name}")
        return self._ratio(self.maker.make(wider), self.maker.make(narrower), budget_s)

    def split_latency(self, candidate: Candidate, budget_s: float) -> LatencyRatio:
        """The latency of a candidate in parts over that of its plan uncut, both timed in one run on the same feeds."""
        self._reference.progress.stage(f"timing {candidate.name} in parts against the whole")
        return self._ratio(self.maker.make_whole(candidate), self.maker.make(candidate), budget_s)

    def _ratio(self, first: Made, second: Made, budget_s: float) -> LatencyRatio:
        with contextlib.ExitStack() as stack:
            calls = []
            for made in (first, second):
                engine = stack.enter_context(self.maker.opened(made))
                calls.append(call_of(engine, typed(self._reference.feeds, engine.signature)))
            return interleaved(*calls, options=TimingOptions(budget_s=budget_s)).ratios[1]

    @cached_property
    def macs(self) -> Dict[str, int]:
        """Multiply-accumulates of each node on the feeds that are timed."""
        model = self._model.runnable.single
        graph = with_extra_outputs(model.graph, mac_tensors(model.graph))
        with model.opened(graph, "fp32") as engine:
            outputs = engine.infer(self._reference.feeds)
        fed = {**outputs, **self._reference.feeds}
        return macs(model.graph, {name: value.shape for name, value in fed.items()})

    @cached_property
    def _quantisable(self) -> Set[str]:
        """The nodes that could be in INT8 and have multiply-accumulates."""
        return {node for group in groups(self._model.runnable.single.graph) for node in group.nodes} & self.macs.keys()

    def _weighed(self, tried: Tried, graph: OnnxModel) -> Tried:
        """With the share of the work that is in INT8, and the nodes that could be and aren't."""
        kept = self._quantisable - quantised_nodes(graph)
        return replace(tried, int8_macs=int8_share(graph, self.macs), kept_float=tuple(sorted(kept)))

    def _quality(self, candidate: Candidate, engine: Engine) -> Quality | None:
        scoring = self._reference.scoring
        if scoring is None:
            return None
        baseline, _ = self._reference.scored
        kept = f" with {len(candidate.excluded)} nodes in float" if candidate.excluded else ""
        self._reference.progress.stage(f"scoring {candidate.name}{kept} on held-out samples", scoring.held_out.count())
        scorer, agreement = scoring.metric.start(), Agreement()
        for index, sample in enumerate(scoring.batches(self._model.signature)):
            reference = self._reference.outputs(index, sample)
            outputs = engine.infer(typed(sample.feeds, engine.signature))
            scorer.update(outputs, sample, reference)
            agreement.update(outputs, reference)
            self._reference.count(sample)
        return Quality(scorer.result(), scoring.metric.compare(baseline, scorer), agreement.result())


def typed(feeds: Feeds, signature: Signature) -> Feeds:
    """`feeds` in the types that a plan takes: one with FP16 inputs gets FP16."""
    with np.errstate(over="ignore"):
        return {name: value.astype(signature.input(name).dtype.numpy, copy=False) for name, value in feeds.items()}
