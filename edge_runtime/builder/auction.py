"""Every candidate of a build tried: fp32, fp16, INT8 by each calibrator, and mixed where no INT8 is accurate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from edge_runtime.builder.calibrate import CalibrationInputs, calibrated, calibrated_tensors, calibration_source
from edge_runtime.builder.candidates import Candidate, CandidateInputs, CandidateMaker
from edge_runtime.builder.data import fitting_batches
from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.gate import GateRules, Judged, best_int8, judged_before
from edge_runtime.builder.mixed import GroupError, kept_float
from edge_runtime.builder.recipe import CalibrationTable as Settings
from edge_runtime.builder.sensitivity import group_errors
from edge_runtime.builder.trial import Trial, Tried
from edge_runtime.calibration.table import CalibrationTable, import_table
from edge_runtime.errors import CalibrationError, ConfigError, EdgeRuntimeError
from edge_runtime.graph.groups import groups
from edge_runtime.graph.ranges import with_ranges
from edge_runtime.tensors import Feeds, element_count

ON_DEVICE = "tensorrt"
_RUN_NBYTES = 2 << 20
_MOST_ROWS = 8


@dataclass(frozen=True)
class Auction:
    """What was tried, and the groups by the error that each makes alone, where that was measured."""

    tried: Tuple[Tried, ...]
    errors: Tuple[GroupError, ...] = ()


def hold_auction(trial: Trial, model: FloatModel, given: CandidateInputs, rules: GateRules) -> Auction:
    """Tries what the policy asks for. Under `auto` a candidate that can't be made or run is said to be unavailable.

    Raises:
        EdgeRuntimeError: a precision that was asked for by name can't be made or run.
    """
    is_optional = rules.policy == "auto"
    widest = Candidate("fp32", "fp32", lambda: model.graph)
    is_whole = not (given.is_final and model.cuts)  # the reference is; what is published may be in parts
    tried = [trial.reference(widest) if is_whole else trial.run(widest, is_optional=False)]
    has_half = rules.policy in ("auto", "fp16") or (rules.policy == "int8" and given.precision.rest == "fp16")
    maker = CandidateMaker(model, given.precision, _ranges(model, given) if has_half else None)
    if rules.policy in ("auto", "fp16"):
        tried.append(trial.run(maker.fp16(), is_optional) if given.is_final else Tried(maker.fp16()))
    if rules.policy not in ("auto", "int8"):
        return Auction(tuple(tried))
    try:
        if given.int8_problem:
            raise ConfigError(given.int8_problem)
        tables = int8_tables(model, given)
    except EdgeRuntimeError as error:
        if not is_optional:
            raise
        return Auction((*tried, Tried(Candidate("int8", "int8", lambda: model.graph), problem=str(error))))
    int8 = [maker.int8(name, table) for name, table in tables.items()]
    tried += [trial.run(candidate, is_optional=True) for candidate in int8]
    if not is_optional and all(one.problem for one in tried[-len(int8) :]):
        trial.run(int8[0], is_optional=False)  # which raises what the problem is
    return _with_mixed(trial, maker, given, rules, tried)


def finalists(auction: Auction, rules: GateRules) -> Tuple[List[Candidate], List[Judged]]:
    """What to build for another backend: the widths of float that were asked for and the best INT8; and the others."""
    best = best_int8(auction.tried, rules)
    wanted = [one for one in auction.tried if not one.problem and (one.candidate.precision != "int8" or one is best)]
    others = [one for one in auction.tried if one not in wanted]
    return [one.candidate for one in wanted], judged_before(others, best, rules)


def keeps_histograms(settings: Settings) -> bool:
    """Whether INT8 is calibrated on samples here, so that histograms are kept."""
    return settings.data is not None and not settings.imported and settings.algorithm != ON_DEVICE


def int8_tables(model: FloatModel, given: CandidateInputs) -> Dict[str, CalibrationTable]:
    """The scales for what gets quantised, by calibrator; all from the same histograms.

    Raises:
        ConfigError: there is no calibration data.
        UnsupportedModelError: the model has nothing to quantise.
        CalibrationError: activations are NaN, infinite or never seen.
    """
    settings = given.recipe.tables.calibration
    if settings.imported:
        return {
            algorithm: _imported_table(model, given, given.recipe.path(path))
            for algorithm, path in settings.imported.items()
        }
    source = calibration_source(given.recipe, given.data, given.data_problem)
    if settings.algorithm == ON_DEVICE:
        if given.on_device is None:
            raise ConfigError(
                f"[calibration] algorithm = \"{ON_DEVICE}\" is TensorRT's own calibrator, which this backend hasn't; "
                "use auto"
            )
        return {ON_DEVICE: given.on_device(source)}
    inputs = CalibrationInputs(source, given.calibration_key, given.calib_cache, given.progress, settings.batch_size)
    tables = calibrated(model.single, inputs, given.scales_all).tables(settings)
    return tables if settings.algorithm == "auto" else {settings.algorithm: tables[settings.algorithm]}


def _imported_table(model: FloatModel, given: CandidateInputs, path: Path) -> CalibrationTable:
    tensors = calibrated_tensors(model.single.graph)
    table, missing = import_table(path, tensors)
    if missing:
        given.progress.note(
            f"{path} has no scale for {len(missing)} of {len(tensors)} tensors, which stay in float: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
        )
    return table


def _with_mixed(
    trial: Trial, maker: CandidateMaker, given: CandidateInputs, rules: GateRules, tried: Sequence[Tried]
) -> Auction:
    """What was tried, and a mixed candidate if INT8 was measured and isn't accurate."""
    best = best_int8(tried, rules)
    if best is None or best.quality is None or best.candidate.table is None or rules.is_accurate(best.quality):
        return Auction(tuple(tried))
    if given.data.calibration is None:
        given.progress.note(
            "no mixed INT8 was tried: which layers hurt is measured on calibration data, of which there is none"
        )
        return Auction(tuple(tried))
    try:
        errors = layer_errors(maker.model, given, best.candidate.table, trial.macs)
    except EdgeRuntimeError as error:
        given.progress.note(f"no mixed INT8 was tried: {error}")
        return Auction(tuple(tried))
    attempts: Dict[FrozenSet[str], Tried] = {}
    table, calibrator = best.candidate.table, best.candidate.calibrator or ""

    def passes(nodes: FrozenSet[str]) -> bool:
        attempts[nodes] = trial.run(maker.int8(calibrator, table, nodes), is_optional=True)
        return rules.is_accurate(attempts[nodes].quality)

    kept = kept_float(errors, passes, given.precision.min_int8)
    final = attempts[kept] if kept is not None else best_int8(list(attempts.values()), rules)
    return Auction((*tried, *([final] if final is not None else [])), errors)


def layer_errors(
    model: FloatModel, given: CandidateInputs, table: CalibrationTable, macs: Mapping[str, int]
) -> Tuple[GroupError, ...]:
    """The groups that INT8 would quantise, by the error of each alone on calibration samples, the worst first."""
    single = model.single
    kept = frozenset(given.precision.keep_float)
    candidates = [group for group in groups(single.graph) if not kept.issuperset(group.nodes)]
    given.progress.stage("measuring which layers hurt")
    errors = group_errors(single, table.scales, candidates, _few_feeds(single, given))
    total = sum(macs.values()) or 1
    weighed = [replace(one, macs=sum(macs.get(node, 0) for node in one.nodes) / total) for one in errors]
    return tuple(sorted(weighed, key=lambda one: (-one.error, one.group)))


def _few_feeds(model: FloatModel, given: CandidateInputs) -> Iterator[Feeds]:
    """Calibration samples in batches of up to 2 MiB."""
    source = given.data.calibration
    if source is None:
        raise CalibrationError("which layers hurt is measured on calibration samples; give [calibration] data")
    signature = model.signature
    row_nbytes = sum(
        element_count(signature.profile[spec.name].optimum[1:]) * spec.dtype.itemsize for spec in signature.inputs
    )
    rows = max(1, min(_MOST_ROWS, _RUN_NBYTES // max(row_nbytes, 1)))
    return (sample.feeds for sample in fitting_batches(source, signature, rows, "calibration"))


def _ranges(model: FloatModel, given: CandidateInputs) -> Dict[str, float] | None:
    """The largest |x| of each float activation over all samples; None where that can't be measured, which is noted."""
    single = model.single
    graph, tensors = with_ranges(single.graph)
    largest: Dict[str, float] = {}
    problem = "there are no samples; give [calibration] or [held_out] data"
    for what, source in (("calibration", given.data.calibration), ("held-out", given.data.held_out)):
        if source is None:
            continue
        given.progress.stage(f"measuring the range of activations on {what} samples", source.count())
        try:
            with single.opened(graph, "fp32") as engine:
                for sample in fitting_batches(source, single.signature, 1, what):
                    outputs = engine.infer(sample.feeds)
                    for output, tensor in tensors.items():
                        largest[tensor] = float(np.maximum(largest.get(tensor, 0.0), outputs[output]))
                    given.progress.advance()
        except EdgeRuntimeError as error:
            problem = str(error)
    if not largest:
        given.progress.note(f"what overflows in FP16 isn't known: {problem}")
    return largest or None
