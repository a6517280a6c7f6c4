"""From a model and its calibration data to histograms and tables, once for each model and data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

from edge_runtime import __version__
from edge_runtime.builder.data import Answer, BuildData, data_of, fitting_batches
from edge_runtime.builder.float_model import FloatModel, answering, float_model
from edge_runtime.builder.key import digest_of
from edge_runtime.builder.progress import LoggedProgress, Progress
from edge_runtime.builder.recipe import CalibrationTable as Settings
from edge_runtime.builder.recipe import Recipe
from edge_runtime.calibration.calibrator import ALGORITHMS, Calibrator, calibrator_from_name
from edge_runtime.calibration.collect import Array, collect, table_from_histograms
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.histogram_file import (
    HISTOGRAMS_FILE,
    StoredHistograms,
    read_histograms,
    write_histograms,
)
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.calibration.table import DEFAULT_TENSORRT_VERSION, CalibrationTable
from edge_runtime.engine.engine import EngineInfo
from edge_runtime.errors import CalibrationError, ConfigError, UnsupportedModelError
from edge_runtime.graph.activations import content_digest, float_activations, with_activations
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.quantize import quantizable
from edge_runtime.onnxruntime_api import SessionOptions, load_session, translated
from edge_runtime.plan.files import obstacle
from edge_runtime.tensors import Feeds


@dataclass(frozen=True)
class CalibrationInputs:
    """What a model is calibrated with; `data_key` identifies the samples by all that they hold.

    `batch_size` rows are run at once, where the model is batched.
    """

    source: SampleSource
    data_key: Any
    calib_cache: Path
    progress: Progress
    batch_size: int = 1


@dataclass(frozen=True)
class Calibration:
    """The histograms of a model's activations, and the folder that keeps them and the tables made of them."""

    stored: StoredHistograms
    folder: Path
    is_reused: bool

    @property
    def histograms(self) -> Mapping[str, Histogram]:
        """The histogram of each tensor."""
        return self.stored.histograms

    def tables(
        self, settings: Settings, tensorrt_version: str = DEFAULT_TENSORRT_VERSION
    ) -> Dict[str, CalibrationTable]:
        """The table of each algorithm, written into the folder as `<algorithm>.cache`.

        Raises:
            CalibrationError: a file can't be written, or an activation is above float32's range.
        """
        tables = {name: table_from_histograms(self.histograms, calibrator_of(settings, name)) for name in ALGORITHMS}
        for name, table in tables.items():
            table.write(self.folder / f"{name}.cache", tensorrt_version)
        return tables


def calibrate(
    recipe: Recipe, calib_cache: Path, progress: Progress | None = None, all_activations: bool = False
) -> Calibration:
    """The calibration of a recipe's model on its calibration data; nothing is built.

    The samples are those that a build calibrates on: without held-out data every fourth is held out.

    Raises:
        ConfigError: the recipe is wrong or names no calibration data.
        EdgeRuntimeError: the model, the data or the backend failed.
    """
    check_calib_cache(calib_cache)
    heard = progress or LoggedProgress()
    heard.stage("checking the model")
    model = float_model(recipe, EngineInfo(recipe.name, 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu"))
    with answering(recipe, model) as answer:
        return calibrated(model.runnable.single, _inputs(recipe, model, answer, calib_cache, heard), all_activations)


def _inputs(
    recipe: Recipe, model: FloatModel, answer: Answer | None, calib_cache: Path, progress: Progress
) -> CalibrationInputs:
    """The calibration data, examined as a build does."""
    data = data_of(recipe, model.graph.inputs, answer)
    calibration_source(recipe, data, problem="")
    progress.stage("examining the data")
    examined = data.examined()
    source = calibration_source(recipe, examined.data, examined.refusal)
    for note in examined.notes:
        progress.note(note)
    batch_size = recipe.tables.calibration.batch_size
    return CalibrationInputs(source, examined.keys["calibration"], calib_cache, progress, batch_size)


def check_calib_cache(folder: Path) -> None:
    """Raises ConfigError, before any work is done and with nothing made, if calibrations can't be kept in a folder."""
    found = obstacle(folder)
    if found is not None:
        raise ConfigError(f"{found}: can't be written, so no calibration could be kept; give another --calib-cache")


def calibration_source(recipe: Recipe, data: BuildData, problem: str) -> SampleSource:
    """The calibration samples.

    Raises:
        ConfigError: there are none.
        CalibrationError: they are no good, for which `problem` is the reason.
    """
    if data.calibration is None:
        raise ConfigError(
            f"model {recipe.name!r}: int8 needs calibration data; give --calibration C.npz or [calibration] data"
        )
    if problem:
        raise CalibrationError(f"model {recipe.name!r}: {problem}")
    return data.calibration


def calibrated_tensors(model: OnnxModel) -> Tuple[str, ...]:
    """The activations that need a scale.

    Raises:
        UnsupportedModelError: the model has nothing to quantise.
    """
    tensors = quantizable(model)
    if not tensors:
        raise UnsupportedModelError(
            f"{model.name}: no float Conv, Gemm, MatMul or ConvTranspose, so INT8 would change nothing; "
            "build it as fp32 or fp16"
        )
    return tensors


def calibrator_of(settings: Settings, algorithm: str) -> Calibrator:
    """The calibrator of that name, as `[calibration]` sets it."""
    return calibrator_from_name(algorithm, settings.max_clipped, settings.percentile)


def calibrated(model: FloatModel, given: CalibrationInputs, all_activations: bool = False) -> Calibration:
    """The histograms of what gets quantised, or of all activations; stored ones if model, shapes and data are the same.

    Of the further activations those are left out, with a note, that have no values, or any that is NaN or infinite.

    Raises:
        UnsupportedModelError: the model has nothing to quantise.
        CalibrationError: what gets quantised is NaN, infinite or never seen.
        DataError: a sample doesn't fit the model.
    """
    required = calibrated_tensors(model.graph)
    tensors = tuple(dict.fromkeys((*required, *float_activations(model.graph)))) if all_activations else required
    shapes = {name: str(limits) for name, limits in model.profile.items()}
    key = digest_of([__version__, content_digest(model.graph), shapes, given.data_key, tensors])
    folder = given.calib_cache / model.info.name / key[:32]
    stored = _read(folder / HISTOGRAMS_FILE, key, given.progress)
    if stored is not None and set(required) <= stored.histograms.keys() <= set(tensors):
        return Calibration(stored, folder, is_reused=True)
    run = _Runner(model.graph, tensors, bool(model.signature.max_batch_size), given.progress)
    given.progress.stage("calibrating", given.source.count())
    samples = fitting_batches(given.source, model.signature, given.batch_size, "calibration")
    histograms = collect(run, samples, tensors, set(tensors).difference(required), is_overlapped=True)
    _note_left_out([name for name in tensors if name not in histograms], given.progress)
    stored = StoredHistograms(histograms, run.samples, key)
    write_histograms(folder / HISTOGRAMS_FILE, stored)
    return Calibration(stored, folder, is_reused=False)


def _read(path: Path, key: str, progress: Progress) -> StoredHistograms | None:
    if not path.exists():
        return None
    try:
        stored = read_histograms(path)
    except CalibrationError as error:
        progress.note(str(error))
        return None
    if stored.key != key:
        progress.note(f"{path}: histograms of another model or other data; calibrating again")
        return None
    progress.note(f"histograms re-used: {path}")
    return stored


def _note_left_out(names: Sequence[str], progress: Progress) -> None:
    if names:
        progress.note(
            f"{len(names)} activations that aren't quantised get no scale (no value, or not finite): "
            f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        )


class _Runner:
    """A model on ONNX Runtime CPU that answers feeds with tensors of its main graph, in arrays of their own."""

    def __init__(self, model: OnnxModel, tensors: Sequence[str], is_batched: bool, progress: Progress) -> None:
        self.samples = 0
        self._is_batched = is_batched
        self._name = model.name
        self._progress = progress
        fed = {spec.name for spec in model.inputs}
        self._computed = [name for name in tensors if name not in fed]
        data, weights = with_activations(model, self._computed)
        cores = len(os.sched_getaffinity(0))
        threads = max(1, cores - 1)  # one counts what the others computed
        options = SessionOptions(intra_op_threads=threads, plans_memory=False)
        self._session = load_session(data, options, self._name, weights)

    def __call__(self, feeds: Feeds) -> Dict[str, Array]:
        with translated(f"{self._name}: the run failed"):
            values = self._session.run(self._computed, dict(feeds)) if self._computed else []  # no names mean all
        samples = min(map(len, feeds.values())) if self._is_batched else 1
        self.samples += samples
        self._progress.advance(samples)
        return {**feeds, **dict(zip(self._computed, values))}
