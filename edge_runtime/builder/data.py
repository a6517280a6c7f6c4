"""The samples of a build: where they come from, and that they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, Sequence

from edge_runtime.builder.recipe import DataTable, Recipe
from edge_runtime.calibration.function import FunctionSource
from edge_runtime.calibration.npz import NpzSource
from edge_runtime.calibration.sample import Sample, SampleSource, overlap
from edge_runtime.calibration.samples import batched, split
from edge_runtime.errors import ConfigError, DataError, InvalidRequestError
from edge_runtime.tensors import DType, Signature, TensorSpec


@dataclass(frozen=True)
class BuildData:
    """Calibration and held-out samples; None where the recipe has none. `is_split`: held out of one source."""

    calibration: SampleSource | None
    held_out: SampleSource | None
    is_split: bool = False

    def keys(self) -> Dict[str, Any]:
        """What identifies the data, without running anything."""
        return {name: source.key() if source else None for name, source in self._sources()}

    def verified_keys(self) -> Dict[str, Any]:
        """The keys with digests of all samples; runs the functions that yield them."""
        return {name: source.verified_key() if source else None for name, source in self._sources()}

    def check_disjoint(self) -> None:
        """Raises DataError if a held-out row is a calibration row too."""
        if self.calibration is None or self.held_out is None or self.is_split:
            return
        shared = overlap(self.calibration, self.held_out)
        if shared:
            raise DataError(
                f"{shared} held-out rows are in the calibration data too, so the gate would measure what was "
                "calibrated on; hold other samples out"
            )

    def _sources(self) -> Sequence[tuple[str, SampleSource | None]]:
        return (("calibration", self.calibration), ("held_out", self.held_out))


def data_of(recipe: Recipe, inputs: Sequence[TensorSpec] = ()) -> BuildData:
    """The sources that a recipe names; without `inputs` they can be asked for their keys only.

    Calibration data without held-out data is parted: every fourth sample is held out.
    """
    calibration = _source(recipe, recipe.tables.calibration, inputs)
    held_out = _source(recipe, recipe.tables.held_out, inputs)
    if calibration is not None and held_out is None:
        return BuildData(*split(calibration), is_split=True)
    return BuildData(calibration, held_out)


def _source(recipe: Recipe, table: DataTable, inputs: Sequence[TensorSpec]) -> SampleSource | None:
    if table.data is None:
        return None
    if table.is_function:
        return FunctionSource(table.data, table.arguments, table.data_version, recipe.folder, inputs)
    path = recipe.path(table.data)
    if not path.is_file():
        raise ConfigError(f"model {recipe.name!r}: no such data file: {path}; correct the path")
    return NpzSource(path, inputs)


def fitting_batches(source: SampleSource, signature: Signature, size: int, what: str) -> Iterator[Sample]:
    """Samples joined to batches of about `size` rows within the profile, or single where the model has no batch axis.

    A rest of fewer rows than the smallest batch is left out.

    Raises:
        DataError: a sample (`what` says of which data) has a shape outside the profile, or there are too few rows.
    """
    least = 1
    if signature.max_batch_size:
        least = max(limits.minimum[0] for limits in signature.profile.values())
        size = max(least, min(size, signature.max_batch_size))
    else:
        size = 1
    done = 0
    for sample in batched(source, size, signature.inputs):
        if done and (sample.rows or least) < least:
            return
        try:
            for name, value in sample.feeds.items():
                signature.check_input(name, DType.from_numpy(value.dtype), value.shape)
            signature.check_shapes({name: value.shape for name, value in sample.feeds.items()})
        except InvalidRequestError as error:
            raise DataError(f"{what} sample {done}: {error}; widen the input's shapes or drop it") from None
        yield sample
        done += sample.rows or 1
