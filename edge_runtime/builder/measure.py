"""What candidates are like, measured: answers on held-out samples, latency in one run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Callable, Dict, Mapping

import numpy as np

from edge_runtime.builder.candidates import FloatModel
from edge_runtime.builder.data import fitting_batches
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendError
from edge_runtime.evaluation.distance import Agreement, AgreementScore
from edge_runtime.evaluation.latency import LatencyRatio, TimingOptions, interleaved
from edge_runtime.evaluation.metrics import Metric, metric_from_name
from edge_runtime.evaluation.score import Score
from edge_runtime.evaluation.user_function import UserFunction
from edge_runtime.tensors import Feeds

_BATCH = 16


@dataclass(frozen=True)
class Quality:
    """A candidate's score on the held-out samples, and how near its answers are to float's."""

    score: Score
    agreement: AgreementScore


def metric_of(recipe: Recipe, held_out: SampleSource) -> Metric:
    """The metric that `[metric]` names; without a name accuracy if samples are labelled, else cosine."""
    table = recipe.tables.metric
    name = table.name
    if name is None:
        first = next(iter(held_out), None)
        name = "accuracy" if first is not None and first.label is not None else "cosine"
    return metric_from_name(name, table.output, recipe.folder)


def metric_key(recipe: Recipe) -> str | None:
    """The digest of the metric's module, which isn't run; None for a metric of ours.

    Raises:
        ConfigError: there is no such module.
    """
    name = recipe.tables.metric.name or ""
    return UserFunction(name, recipe.folder).module_sha256() if ":" in name else None


def measure_quality(
    engines: Mapping[str, Engine], model: FloatModel, held_out: SampleSource, metric: Metric, progress: Progress
) -> Dict[str, Quality]:
    """Every engine's quality, `fp32` being the reference; one pass over the samples for all of them."""
    scorers = {name: metric.start() for name in engines}
    agreements = {name: Agreement() for name in engines}
    progress.stage("measuring accuracy on held-out samples", held_out.count())
    size = 1 if ":" in metric.name else _BATCH  # a function of the user's gets the samples as they are
    for sample in fitting_batches(held_out, model.signature, size, "held-out"):
        reference = engines["fp32"].infer(sample.feeds)
        for name, engine in engines.items():
            outputs = reference if name == "fp32" else engine.infer(sample.feeds)
            scorers[name].update(outputs, sample, reference)
            agreements[name].update(outputs, reference)
        progress.advance((sample.rows or 1) if model.signature.max_batch_size else 1)
    return {name: Quality(scorers[name].result(), agreements[name].result()) for name in engines}


def measure_latency(wider: Engine, narrower: Engine, feeds: Feeds, budget_s: float) -> LatencyRatio:
    """The latency of one engine over the other's, both timed in one run on the same feeds."""
    comparison = interleaved(_call(wider, feeds), _call(narrower, feeds), options=TimingOptions(budget_s=budget_s))
    return comparison.ratios[1]


def _call(engine: Engine, feeds: Feeds) -> Callable[[], object]:
    return lambda: engine.infer(feeds)


def usual_feeds(model: FloatModel, engine: Engine, held_out: SampleSource | None) -> Feeds:
    """Feeds for timing: the first held-out sample if its shapes are the most usual ones.

    Else zeros or ones of those shapes, whichever `engine` runs on first, and that sample as it is after them.
    """
    usual = {spec.name: model.profile[spec.name].optimum for spec in model.graph.inputs}
    sample = next(iter(held_out), None) if held_out is not None else None
    if sample is not None and {name: value.shape for name, value in sample.feeds.items()} == usual:
        return sample.feeds
    zeros = {spec.name: np.zeros(usual[spec.name], spec.dtype.numpy) for spec in model.graph.inputs}
    ones = {name: np.ones_like(value) for name, value in zeros.items()}
    candidates = [zeros, ones, *([sample.feeds] if sample is not None else [])]
    for feeds in candidates[:-1]:
        with contextlib.suppress(BackendError):
            engine.infer(feeds)
            return feeds
    return candidates[-1]
