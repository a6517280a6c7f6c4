"""What candidates are scored by: on ONNX Runtime first, and on the device in the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator

from edge_runtime.builder.data import ExaminedData
from edge_runtime.builder.measure import metric_of
from edge_runtime.builder.recipe import Recipe
from edge_runtime.builder.reference import Scoring
from edge_runtime.calibration.sample import Sample, SampleSource
from edge_runtime.evaluation.metrics import metric_from_name


@dataclass(frozen=True)
class Scorings:
    """By what INT8 candidates are compared on ONNX Runtime, and by what the plan is judged; None: no held-out data.

    They differ for models with plugins, of which ONNX Runtime runs a part, with other outputs.
    """

    first: Scoring | None
    final: Scoring | None


def scorings_of(recipe: Recipe, examined: ExaminedData, has_plugins: bool) -> Scorings:
    """The scorings by the recipe's metric; a part of a model is scored by how near its outputs are to float's."""
    held_out, first = examined.data.held_out, examined.first_held_out
    if held_out is None or first is None:
        return Scorings(None, None)
    final = Scoring(metric_of(recipe, first), held_out, first)
    if not has_plugins:
        return Scorings(final, final)
    cosine = metric_from_name("cosine", None, recipe.folder)
    return Scorings(Scoring(cosine, _FeedsAlone(held_out), _feeds_alone(first)), final)


@dataclass(frozen=True)
class _FeedsAlone:
    """Samples without what should come out."""

    source: SampleSource

    def key(self) -> Dict[str, Any]:
        return self.source.key()

    def verified_key(self, content: str | None = None) -> Dict[str, Any]:
        return self.source.verified_key(content)

    def count(self) -> int | None:
        return self.source.count()

    def __iter__(self) -> Iterator[Sample]:
        return map(_feeds_alone, self.source)


def _feeds_alone(sample: Sample) -> Sample:
    return replace(sample, label=None, expected=None)
