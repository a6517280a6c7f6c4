"""What candidates are measured by: the metric of the recipe, and feeds to time them on."""

from __future__ import annotations

import contextlib
from typing import Callable

from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.recipe import Recipe
from edge_runtime.calibration.sample import Sample
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendError
from edge_runtime.evaluation.metrics import Metric, metric_from_name
from edge_runtime.evaluation.user_function import UserFunction
from edge_runtime.tensors import Feeds, filled


def metric_of(recipe: Recipe, sample: Sample) -> Metric:
    """The metric that `[metric]` names; without a name accuracy if the held-out `sample` is labelled, else cosine."""
    table = recipe.tables.metric
    name = table.name or ("accuracy" if sample.label is not None else "cosine")
    return metric_from_name(name, table.output, recipe.folder, table.better)


def metric_key(recipe: Recipe) -> str | None:
    """The digest of the metric's module, which isn't run; None for a metric of ours.

    Raises:
        ConfigError: there is no such module.
    """
    name = recipe.tables.metric.name or ""
    return UserFunction(name, recipe.folder).module_sha256() if ":" in name else None


def call_of(engine: Engine, feeds: Feeds) -> Callable[[], object]:
    """One inference, to be timed."""
    return lambda: engine.infer(feeds)


def usual_feeds(model: FloatModel, engine: Engine, sample: Sample | None) -> Feeds:
    """Feeds for timing: those of a held-out sample if its shapes are the most usual ones.

    Else zeros or ones of those shapes, whichever `engine` runs on first, and that sample as it is after them.
    """
    inputs = model.graph.inputs
    usual = {spec.name: model.profile[spec.name].optimum for spec in inputs}
    if sample is not None and {name: value.shape for name, value in sample.feeds.items()} == usual:
        return sample.feeds
    zeros, ones = ({spec.name: filled(usual[spec.name], spec.dtype, number) for spec in inputs} for number in (0, 1))
    candidates = [zeros, ones, *([sample.feeds] if sample is not None else [])]
    for feeds in candidates[:-1]:
        with contextlib.suppress(BackendError):
            engine.infer(feeds)
            return feeds
    return candidates[-1]
