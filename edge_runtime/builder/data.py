"""The samples of a build: where they come from, and that they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from edge_runtime.builder.recipe import DataTable, Recipe
from edge_runtime.calibration.audit import Finding, audited
from edge_runtime.calibration.examination import Examination, examined
from edge_runtime.calibration.function import FunctionSource
from edge_runtime.calibration.npz import NpzSource
from edge_runtime.calibration.sample import Sample, SampleSource
from edge_runtime.calibration.samples import Unchanged, batched, split
from edge_runtime.errors import ConfigError, DataError, InvalidRequestError
from edge_runtime.tensors import DType, Feeds, Signature, TensorSpec

Answer = Callable[[Feeds], Mapping[str, Any]]


@dataclass(frozen=True)
class BuildData:
    """Calibration and held-out samples, None where the recipe has none; `whole` is what both are parts of, if so."""

    calibration: SampleSource | None
    held_out: SampleSource | None
    whole: SampleSource | None = None

    def keys(self) -> Dict[str, Any]:
        """What identifies the data, without running anything."""
        return {name: source.key() if source else None for name, source in self._sources()}

    def examined(self) -> ExaminedData:
        """The data read once from end to end.

        Raises:
            DataError: it can't be read, or a held-out row is a calibration row too.
        """
        whole = self.whole or self.calibration
        calibration = examined(whole) if whole is not None else None
        held_out = None if self.whole or self.held_out is None else examined(self.held_out, calibration)
        shared = held_out.rows_in(calibration) if held_out is not None and calibration is not None else 0
        if self.whole is not None and calibration is not None and calibration.duplicates:
            parts = [examined(part) for part in (self.calibration, self.held_out) if part is not None]
            shared = parts[1].rows_in(parts[0])
        if shared:
            raise DataError(
                f"{shared} held-out rows are in the calibration data too, so the gate would measure what was "
                "calibrated on; hold other samples out"
            )
        seen = (calibration, calibration if self.whole else held_out)  # of a whole, the first sample is held out
        keys = {
            name: source.verified_key(each.content_sha256) if source and each else None
            for (name, source), each in zip(self._sources(), seen)
        }
        findings = audited(calibration, held_out).findings if calibration else ()
        first = seen[1].first if seen[1] else None
        return ExaminedData(self._pinned(*seen), keys, findings, first)

    def _pinned(self, calibration: Examination | None, held_out: Examination | None) -> BuildData:
        """The same data, which must not change from now on."""
        if self.whole is not None:
            assert calibration is not None
            whole = Unchanged(self.whole, calibration.content_sha256)
            return BuildData(*split(whole), whole)
        pinned = [
            Unchanged(source, seen.content_sha256) if source is not None and seen is not None else None
            for source, seen in ((self.calibration, calibration), (self.held_out, held_out))
        ]
        return BuildData(*pinned)

    def _sources(self) -> Sequence[tuple[str, SampleSource | None]]:
        return (("calibration", self.calibration), ("held_out", self.held_out))


@dataclass(frozen=True)
class ExaminedData:
    """The data, which must not change any more, what identifies it, what is to be said about it, and a sample."""

    data: BuildData
    keys: Mapping[str, Any]
    findings: Tuple[Finding, ...]
    first_held_out: Sample | None

    @property
    def notes(self) -> List[str]:
        """What a user should know, in words."""
        split = ["no held-out data: every fourth calibration sample is held out, the others calibrate"]
        return [finding.text for finding in self.findings] + (split if self.data.whole is not None else [])

    @property
    def refusal(self) -> str:
        """Why nothing can be calibrated on this data, "" if it can."""
        return "; ".join(finding.text for finding in self.findings if finding.level == "refuse")


def data_of(recipe: Recipe, inputs: Sequence[TensorSpec] = (), answer: Answer | None = None) -> BuildData:
    """The sources that a recipe names; without `inputs` they can be asked for their keys only.

    `answer` is the float model, for functions that are `stateful`. Calibration data without held-out data is parted:
    every fourth sample is held out.
    """
    calibration = _source(recipe, recipe.tables.calibration, inputs, answer)
    held_out = _source(recipe, recipe.tables.held_out, inputs, answer)
    if calibration is not None and held_out is None:
        return BuildData(*split(calibration), calibration)
    return BuildData(calibration, held_out)


def _source(
    recipe: Recipe, table: DataTable, inputs: Sequence[TensorSpec], answer: Answer | None
) -> SampleSource | None:
    if table.data is None:
        return None
    for spec in inputs:
        if spec.dtype in (DType.BYTES, DType.BF16):
            raise ConfigError(
                f"model {recipe.name!r}: no samples can be given to input {spec.name!r} of {spec.dtype.value}; leave "
                "[calibration] and [held_out] out and choose the precision by [precision] policy"
            )
    if table.is_function:
        answers = answer if table.stateful else None
        return FunctionSource(table.data, table.arguments, table.data_version, recipe.folder, inputs, answers)
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
