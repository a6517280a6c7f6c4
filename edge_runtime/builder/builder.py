"""A model becomes a plan."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Mapping

from edge_runtime import __version__
from edge_runtime.builder.backend import Backend, local_backend
from edge_runtime.builder.candidates import Candidate, CandidateInputs, FloatModel, make_candidates
from edge_runtime.builder.data import BuildData, data_of
from edge_runtime.builder.gate import Decision, GateRules, decide
from edge_runtime.builder.key import build_key
from edge_runtime.builder.measure import (
    Quality,
    measure_latency,
    measure_quality,
    metric_key,
    metric_of,
    usual_feeds,
)
from edge_runtime.builder.profile import axes_of, profile_of
from edge_runtime.builder.progress import LoggedProgress, Progress
from edge_runtime.builder.recipe import Recipe, check_names, load_recipe, make_recipe, name_of
from edge_runtime.builder.source import model_path
from edge_runtime.calibration.sample import SampleSource
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.errors import BackendError, GateError
from edge_runtime.evaluation.metrics import Metric
from edge_runtime.graph.model import load_model, source_digest
from edge_runtime.graph.portable import portable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.plan.manifest import (
    BackendRecord,
    DataRecord,
    Manifest,
    PlanRecord,
    SourceRecord,
    range_record,
    tensor_record,
)
from edge_runtime.plan.store import PlanStore, StoredPlan, default_root
from edge_runtime.tensors import Feeds

PLAN_FILE = "model.onnx"


@dataclass(frozen=True)
class BuildOptions:
    """Where plans and calibration tables are kept, and whether data functions are run before a plan is re-used."""

    engines: Path = field(default_factory=default_root)
    calib_cache: Path = Path("calib_cache")
    verify_data: bool = False


@dataclass(frozen=True)
class BuiltPlan(StoredPlan):
    """A plan in the store that was just built, or was there already for the same build key."""

    is_reused: bool


@dataclass(frozen=True)
class _Job:
    """All that is known before the model is opened."""

    recipe: Recipe
    options: BuildOptions
    progress: Progress
    backend: Backend
    device: DeviceInfo
    onnx_path: Path
    key: str


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
        EdgeRuntimeError: the model, the data or the backend failed.
    """
    job = _job(recipe, options or BuildOptions(), progress or LoggedProgress())
    reused, is_rebuild = _reused(job)
    if reused is not None:
        return reused
    PlanStore(job.options.engines).check_writable(job.recipe.name)
    model = _float_model(job)
    data = data_of(job.recipe, model.graph.inputs)
    data.check_disjoint()
    if data.is_split:
        job.progress.note("no held-out data: every fourth calibration sample is held out, the others calibrate")
    keys = data.verified_keys()
    given = CandidateInputs(job.recipe, data, keys["calibration"], job.options.calib_cache, job.progress)
    candidates, table = make_candidates(model, given)
    decision = _measured(job, model, data, candidates)
    plan = next(candidate.plan for candidate in candidates if candidate.precision == decision.chosen)
    assert plan is not None
    return _published(job, model, _Result(decision, plan, table, keys, is_rebuild))


def _job(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any], options: BuildOptions, progress: Progress
) -> _Job:
    if isinstance(recipe, Mapping):
        recipe = make_recipe(recipe, name_of(recipe), Path.cwd())
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(Path(recipe))
    device = identify()
    backend = local_backend(recipe.tables.backend, device)
    path = model_path(recipe)
    model_digest, _ = source_digest(path)
    digests = {"model": model_digest, "data": data_of(recipe).keys(), "metric": metric_key(recipe)}
    key = build_key(recipe.tables, digests, backend, device)
    return _Job(recipe, options, progress, backend, device, path, key)


def _reused(job: _Job) -> tuple[BuiltPlan | None, bool]:
    """The plan of an earlier build with the same key, made the served one; or whether its data has changed since."""
    store = PlanStore(job.options.engines)
    found = store.find(job.recipe.name, job.key)
    if found is None or (found.manifest.forced and not job.recipe.tables.gate.publish_failed):
        return None, False
    if job.options.verify_data:
        job.progress.stage("verifying the data")
        recorded = found.manifest.data
        now = data_of(job.recipe, load_model(job.onnx_path).inputs).verified_keys()
        if now != {"calibration": recorded.calibration, "held_out": recorded.held_out}:
            job.progress.note("the data functions yield other samples than before; building again")
            return None, True
    store.serve(job.recipe.name, found.manifest.version)
    return BuiltPlan(found.folder, found.manifest, is_reused=True), False


def _float_model(job: _Job) -> FloatModel:
    """The model checked, narrowed to its shapes, and made portable."""
    job.progress.stage("checking the model")
    model = load_model(job.onnx_path)
    tables = job.recipe.tables
    profile = profile_of(model.inputs, tables)
    check_names(tables.precision.keep_float, model.node_names, "[precision] keep_float: the model has no node")
    check_names([tables.metric.output], [spec.name for spec in model.outputs], "[metric] the model has no output")
    graph = portable(with_shapes(model, profile, axes_of(tables)))
    name = job.recipe.name
    info = EngineInfo(name, 1, f"{job.backend.name} {job.backend.version}", job.backend.platform, "fp32", "cpu")
    return FloatModel(graph, profile, info)


def _measured(job: _Job, model: FloatModel, data: BuildData, candidates: list[Candidate]) -> Decision:
    """The gate's decision on candidates that are loaded, compared on held-out samples, and timed.

    Raises:
        GateError: the precision that was asked for failed.
        BackendError: the backend can't load it.
    """
    tables = job.recipe.tables
    metric: Metric | None = None
    quality: Dict[str, Quality] = {}
    with contextlib.ExitStack() as stack:
        engines, candidates, feeds = _loaded(job, model, candidates, data.held_out, stack)
        if data.held_out is not None:
            metric = metric_of(job.recipe, data.held_out)
            quality = measure_quality(engines, model, data.held_out, metric, job.progress)
        max_drop = tables.gate.max_drop if tables.gate.max_drop is not None else metric.default_limit if metric else 0.0
        rules = GateRules(
            tables.precision.policy, metric, max_drop, tables.gate.max_latency_ratio, tables.gate.publish_failed
        )
        if len(engines) > 1:
            job.progress.stage("comparing latency")
        decision = decide(
            candidates,
            quality,
            rules,
            lambda wider, narrower: measure_latency(
                engines[wider], engines[narrower], feeds, tables.gate.latency_budget_s
            ),
        )
    if decision.chosen is None:
        raise GateError(
            f"model {job.recipe.name!r}: {decision.reason}; nothing was published "
            "(a wider precision, other calibration data, or --publish-failed)"
        )
    return decision


def _loaded(
    job: _Job,
    model: FloatModel,
    candidates: list[Candidate],
    held_out: SampleSource | None,
    stack: contextlib.ExitStack,
) -> tuple[Dict[str, Engine], list[Candidate], Feeds]:
    """An engine for each candidate, and feeds to time them on.

    Under `auto` a candidate that the backend refuses, or can't run on those feeds, becomes unavailable.
    """
    engines: Dict[str, Engine] = {}
    feeds: Feeds = {}
    usable = []
    for candidate in candidates:
        usable.append(candidate)
        if candidate.plan is None:
            continue
        try:
            info = model.info_of(candidate.precision)
            engine = stack.enter_context(engine_from_bytes(candidate.plan, info, model.signature, EngineOptions()))
            if candidate.precision != "fp32":
                feeds = feeds or usual_feeds(model, engines["fp32"], held_out)
                engine.infer(feeds)
        except BackendError as error:
            if job.recipe.tables.precision.policy != "auto" or candidate.precision == "fp32":
                raise
            usable[-1] = Candidate(candidate.precision, None, str(error))
            continue
        engines[candidate.precision] = engine
    return engines, usable, feeds


@dataclass(frozen=True)
class _Result:
    decision: Decision
    plan: bytes
    table: CalibrationTable | None
    data_keys: Mapping[str, Any]
    is_rebuild: bool


def _published(job: _Job, model: FloatModel, result: _Result) -> BuiltPlan:
    job.progress.stage("publishing")
    stored = PlanStore(job.options.engines).publish(
        job.recipe.name,
        lambda version: _manifest(job, model, result, version),
        {PLAN_FILE: result.plan},
        is_new=not result.is_rebuild,
    )
    return BuiltPlan(stored.folder, stored.manifest, is_reused=False)


def _manifest(job: _Job, model: FloatModel, result: _Result, version: int) -> Manifest:
    signature = model.signature
    decision, table = result.decision, result.table
    assert decision.chosen is not None
    return Manifest(
        name=job.recipe.name,
        version=version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edge_runtime=__version__,
        build_key=job.key,
        precision=decision.chosen,
        forced=decision.is_forced,
        plan=PlanRecord(file=PLAN_FILE, sha256=hashlib.sha256(result.plan).hexdigest(), nbytes=len(result.plan)),
        source=SourceRecord(source=job.onnx_path.name, digest=model.graph.digest, files=dict(model.graph.files)),
        data=DataRecord(
            **result.data_keys,
            table_sha256=hashlib.sha256(table.to_cache_text().encode()).hexdigest() if table else None,
        ),
        backend=BackendRecord(
            name=job.backend.name,
            version=job.backend.version,
            platform=job.backend.platform,
            device=job.backend.device,
        ),
        device=job.device.record(),
        inputs=[tensor_record(spec) for spec in signature.inputs],
        outputs=[tensor_record(spec) for spec in signature.outputs],
        profile={name: range_record(limits) for name, limits in signature.profile.items()},
        max_batch_size=signature.max_batch_size,
        candidates=decision.records,
    )
