"""A model becomes a plan."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import Any, Iterator, Mapping, Tuple

from edge_runtime.builder.auction import Auction, finalists, hold_auction, int8_tables, keeps_histograms, layer_errors
from edge_runtime.builder.calibrate import check_calib_cache
from edge_runtime.builder.candidates import CandidateInputs
from edge_runtime.builder.data import BuildData, ExaminedData, data_of
from edge_runtime.builder.float_model import OUTPUT_REMEDY, FloatModel, answering, float_model
from edge_runtime.builder.gate import Decision, GateRules, TimeAgainst, best_int8, decide
from edge_runtime.builder.golden import golden_run
from edge_runtime.builder.job import BuildOptions, Job, job_of
from edge_runtime.builder.maker import OnnxRuntimeMaker, PlanMaker
from edge_runtime.builder.preflight import check_room, room_of
from edge_runtime.builder.progress import LoggedProgress, Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.builder.records import Result, candidate_record, manifest_of, sensitivity_records
from edge_runtime.builder.reference import Reference, Scoring
from edge_runtime.builder.scorings import scorings_of
from edge_runtime.builder.tensorrt.maker import TensorRTMaker, device_trial
from edge_runtime.builder.trial import Trial, Tried
from edge_runtime.engine.engine import EngineInfo
from edge_runtime.errors import EdgeRuntimeError, GateError, UnsupportedModelError
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.plan.manifest import SensitivityRecord
from edge_runtime.plan.signature import sign_version
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.tensors import DType

__all__ = ["BuildOptions", "BuiltPlan", "build"]

_DEAR = 1.1  # latency of a chain over that of the plan uncut, from which on it is said what may help


@dataclass(frozen=True)
class BuiltPlan(StoredPlan):
    """A plan in the store that was just built, or was there already for the same build key.

    `sensitivity` has the groups of layers that INT8 hurts, the worst first, if that was measured.
    """

    is_reused: bool
    sensitivity: Tuple[SensitivityRecord, ...] = ()


def build(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> BuiltPlan:
    """Builds, measures and publishes the plan that a recipe describes, or finds it unchanged.

    Args:
        recipe: a recipe, the path of one, or its tables (relative paths then start in the current folder).
        options: where things are kept.
        progress: hears stages and notes.

    Raises:
        ConfigError: the recipe is wrong.
        GateError: nothing passed, and nothing was published.
        ShortageError: there is too little disk or memory.
        EdgeRuntimeError: the model, the data or the backend failed.
    """
    job = job_of(recipe, options or BuildOptions(), progress or LoggedProgress())
    reused, is_rebuild = _reused(job)
    if reused is not None:
        return _explained(job, reused)
    PlanStore(job.options.engines).check_writable(job.recipe.name)
    check_room(job.recipe.name, job.source_nbytes, room_of(job.options.engines))
    if job.policy in ("auto", "int8") and not job.int8_problem and keeps_histograms(job.recipe.tables.calibration):
        check_calib_cache(job.options.calib_cache)
    model = float_model_of(job)
    with answering(job.recipe, model) as answer:
        return _built(job, model, data_of(job.recipe, model.graph.inputs, answer), is_rebuild)


def _built(job: Job, model: FloatModel, data: BuildData, is_rebuild: bool) -> BuiltPlan:
    given, examined = inputs_of(job, data)
    part = model.runnable
    scorings = scorings_of(job.recipe, examined, has_plugins=part is not model)
    first_rules, rules = gate_rules(job, scorings.first), gate_rules(job, scorings.final)
    with Reference(part, scorings.first, job.progress) as reference, _device(job, model) as maker:
        trial = Trial(reference, OnnxRuntimeMaker(reference, model.cuts if maker is None else ()))
        given = given if maker is None else maker.inputs(given)
        auction = hold_auction(trial, part, given, first_rules)
        if maker is None:
            decision = decide(auction.tried, rules, timed(trial, job))
            latency = _split_latency(trial, model, decision, job)
        else:
            candidates, beaten = finalists(auction, first_rules)
            with device_trial(maker, reference, scorings.final, candidates[0]) as there:
                tried = [there.run(one, is_optional=one.precision != rules.policy) for one in candidates]
                decision = decide(tried, rules, timed(there, job), beaten)
                latency = _split_latency(there, model, decision, job)
        if job.options.explain:
            auction = _with_errors(trial, part, given, auction, best_int8(auction.tried, first_rules))
        result = Result(model.graph, decision, auction.errors, rules.metric, examined.keys, model.cuts, latency)
        return _published(job, maker or trial.maker, reference, result, is_rebuild)


@contextlib.contextmanager
def _device(job: Job, model: FloatModel) -> Iterator[TensorRTMaker | None]:
    """What makes TensorRT's plans, if that is the backend.

    Raises:
        UnsupportedModelError: the model has plugins, which only TensorRT runs, or an output that it can't give.
    """
    if not job.backend.is_tensorrt:
        if model.graph.plugin_nodes:
            raise UnsupportedModelError(
                f"model {job.recipe.name!r}: its operators in [backend] plugin_ops are TensorRT's, and backend "
                f"{job.backend.name} has none; use backend tensorrt, or export the model without them"
            )
        yield None
        return
    for output in model.graph.passed_through:
        raise UnsupportedModelError(
            f"model {job.recipe.name!r}: output {output!r} is an input too, which TensorRT can't give; {OUTPUT_REMEDY}"
        )
    for spec in (*model.graph.inputs, *model.graph.outputs):
        if spec.dtype in (DType.BYTES, DType.BF16):
            raise UnsupportedModelError(
                f"model {job.recipe.name!r}: tensor {spec.name!r} holds {spec.dtype.value}, which backend "
                f"{job.backend.name} isn't built with; use backend onnxruntime, or export the model without it"
            )
    with TensorRTMaker(job, model) as maker:
        yield maker


def _reused(job: Job) -> tuple[BuiltPlan | None, bool]:
    """The plan of an earlier build with the same key, made the served one; or whether its data has changed since."""
    store = PlanStore(job.options.engines)
    found = store.find(job.recipe.name, job.key)
    if job.options.again:
        return None, found is not None
    if found is None or (found.manifest.forced and not job.recipe.tables.gate.publish_failed):
        return None, False
    if job.options.seal is not None and not found.is_sealed:
        job.progress.note(f"{found.folder} isn't encrypted; building again")
        return None, True
    if job.options.verify_data:
        job.progress.stage("verifying the data")
        recorded = found.manifest.data
        model = float_model_of(job)
        with answering(job.recipe, model) as answer:
            now = data_of(job.recipe, model.graph.inputs, answer).examined().keys
        if now != {"calibration": recorded.calibration, "held_out": recorded.held_out}:
            job.progress.note("the data functions yield other samples than before; building again")
            return None, True
    if found.manifest.target is not None and found.manifest.target.is_reduced:
        job.progress.note(
            "memory was short when this plan was built, so it may be slower than need be: build it --again"
        )
    store.serve(job.recipe.name, found.manifest.version)
    return _built_plan(job, found, is_reused=True), False


def float_model_of(job: Job) -> FloatModel:
    """The checked float model of a job."""
    job.progress.stage("checking the model")
    info = EngineInfo(job.recipe.name, 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    model = float_model(job.recipe, info)
    for name, cut in zip(job.recipe.tables.model.split, model.cuts):
        if cut != name:
            job.progress.note(
                f"[model] split {name!r} lies between QuantizeLinear and DequantizeLinear: the model is cut at {cut!r}"
            )
    return model


def inputs_of(job: Job, data: BuildData) -> Tuple[CandidateInputs, ExaminedData]:
    """What candidates are made with, and the data examined."""
    job.progress.stage("examining the data")
    examined = data.examined()
    for note in examined.notes:
        job.progress.note(note)
    given = CandidateInputs(
        recipe=job.recipe,
        data=examined.data,
        calibration_key=examined.keys["calibration"],
        calib_cache=job.options.calib_cache,
        progress=job.progress,
        int8_problem=job.int8_problem,
        data_problem=examined.refusal,
    )
    return given, examined


def gate_rules(job: Job, scoring: Scoring | None) -> GateRules:
    """What must hold of a candidate."""
    gate, metric = job.recipe.tables.gate, scoring.metric if scoring else None
    max_drop = gate.max_drop if gate.max_drop is not None else metric.default_limit if metric else 0.0
    return GateRules(job.policy, metric, max_drop, gate.min_gain, gate.publish_failed)


def timed(trial: Trial, job: Job) -> TimeAgainst:
    """Times candidates of a trial for as long as the recipe says."""
    budget_s = job.recipe.tables.gate.latency_budget_s
    return lambda wider, narrower: trial.latency(wider, narrower, budget_s)


def _split_latency(trial: Trial, model: FloatModel, decision: Decision, job: Job) -> LatencyRatio | None:
    """What the parts of the chosen candidate take over its plan uncut, which is said; None if there is none of both."""
    chosen = decision.chosen
    if not model.cuts or chosen is None:
        return None
    parts = f"split into {len(model.cuts) + 1} plans at {', '.join(model.cuts)}"
    if chosen.unrun:
        job.progress.note(f"{parts}: latency against the plan uncut not measured: {chosen.unrun}")
        return None
    try:
        latency = trial.split_latency(chosen.candidate, job.recipe.tables.gate.latency_budget_s)
    except EdgeRuntimeError as error:
        job.progress.note(f"{parts}: latency against the plan uncut not measured: {error}")
        return None
    remedy = "; cut it between blocks, or less often" if latency.low > _DEAR else ""
    text = f"latency {latency.ratio:.2f} ({latency.low:.2f}-{latency.high:.2f}) of the plan uncut{remedy}"
    job.progress.note(f"{parts}: {text}")
    return latency


def _with_errors(
    trial: Trial, model: FloatModel, given: CandidateInputs, auction: Auction, best: Tried | None
) -> Auction:
    """The auction with the layers that INT8 hurts, measured if that wasn't needed for a decision, and can be."""
    if auction.errors:
        return auction
    try:
        table = best.candidate.table if best else None
        table = table or next(iter(int8_tables(model, given).values()))
        return replace(auction, errors=layer_errors(model, given, table, trial.macs))
    except EdgeRuntimeError as error:
        given.progress.note(f"nothing to explain: {error}")
        return auction


def _explained(job: Job, plan: BuiltPlan) -> BuiltPlan:
    """A re-used plan with the layers that INT8 hurts, measured now if its manifest doesn't have them."""
    if plan.sensitivity or not job.options.explain:
        return plan
    model = float_model_of(job)
    with answering(job.recipe, model) as answer, Reference(model.runnable, None, job.progress) as reference:
        trial = Trial(reference, OnnxRuntimeMaker(reference))
        given, _ = inputs_of(job, data_of(job.recipe, model.graph.inputs, answer))
        auction = _with_errors(trial, model.runnable, given, Auction(()), None)
    return replace(plan, sensitivity=tuple(sensitivity_records(auction.errors)))


def _published(job: Job, maker: PlanMaker, reference: Reference, result: Result, is_rebuild: bool) -> BuiltPlan:
    decision = result.decision
    if decision.chosen is None:
        raise GateError(
            f"model {job.recipe.name!r}: {decision.reason}; nothing was published "
            "(a wider precision, other calibration data, or --publish-failed)",
            [candidate_record(judged, result.metric) for judged in decision.judged],
            sensitivity_records(result.errors),
        )
    for warning in decision.warnings:
        job.progress.note(warning)
    job.progress.stage("publishing")
    made = maker.make(decision.chosen.candidate)
    for note in made.notes:
        job.progress.note(note)
    golden = golden_run(made, reference, maker)
    content, record = (b"", None) if golden is None else golden.to_file(made.signature)
    stored = PlanStore(job.options.engines).publish(
        job.recipe.name,
        lambda version: manifest_of(job, made, replace(result, golden=record), version),
        made.contents if record is None else {**made.contents, record.file.file: content},
        is_new=not is_rebuild,
        seal=job.options.seal,
        sign=job.options.sign,
    )
    return _built_plan(job, stored, is_reused=False)


def _built_plan(job: Job, stored: StoredPlan, is_reused: bool) -> BuiltPlan:
    if job.options.sign is not None and not stored.is_signed:
        sign_version(stored, job.options.sign)
    sensitivity = tuple(stored.manifest.sensitivity)
    return BuiltPlan(stored.folder, stored.manifest, stored.manifest_sha256, is_reused, sensitivity)
