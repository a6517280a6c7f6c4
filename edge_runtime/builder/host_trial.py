"""A recipe tried out on ONNX Runtime, wherever its plan will be built: what is packed is made of this."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Dict, Iterator, List

from edge_runtime.builder.auction import hold_auction, keeps_histograms
from edge_runtime.builder.builder import float_model_of, gate_rules, inputs_of, timed
from edge_runtime.builder.calibrate import check_calib_cache
from edge_runtime.builder.candidates import MIXED, Candidate
from edge_runtime.builder.data import ExaminedData, data_of
from edge_runtime.builder.float_model import FloatModel, answering
from edge_runtime.builder.gate import Decision, GateRules, best_int8, decide
from edge_runtime.builder.job import BuildOptions, Job, job_of
from edge_runtime.builder.maker import OnnxRuntimeMaker
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.builder.records import candidate_record
from edge_runtime.builder.reference import Reference
from edge_runtime.builder.scorings import scorings_of
from edge_runtime.builder.trial import Trial, Tried
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.errors import GateError
from edge_runtime.plan.manifest import CandidateRecord


@dataclass(frozen=True)
class HostTrial:
    """What became of a recipe's candidates here; the data can be read only inside `tried_on_host`.

    `int8` is the INT8 candidate that is best, None if there is none.
    """

    job: Job
    model: FloatModel
    examined: ExaminedData
    decision: Decision
    rules: GateRules
    int8: Candidate | None

    @property
    def tables(self) -> Dict[str, CalibrationTable]:
        """The calibration tables by what made them: of a mixed INT8 that one alone of which it is known to do."""
        best = self.int8
        if best is not None and best.name == MIXED and best.table is not None:
            return {str(best.calibrator): best.table}
        tried = [one.tried.candidate for one in self.decision.judged]
        return {str(one.calibrator): one.table for one in tried if one.table is not None}

    @property
    def kept_float(self) -> List[str]:
        """The nodes that a mixed INT8 leaves in float; empty for others."""
        best = self.int8
        return sorted(best.excluded) if best is not None and best.name == MIXED else []

    @property
    def candidates(self) -> List[CandidateRecord]:
        """Every candidate as a manifest has it."""
        return [candidate_record(judged, self.rules.metric) for judged in self.decision.judged]


@contextlib.contextmanager
def tried_on_host(recipe: Recipe, options: BuildOptions, progress: Progress) -> Iterator[HostTrial]:
    """Tries a recipe's candidates on ONNX Runtime; nothing is published.

    Raises:
        ConfigError: the recipe is wrong.
        GateError: nothing passed.
        EdgeRuntimeError: the model or the data failed.
    """
    job = job_of(_for_onnxruntime(recipe), options, progress)
    if job.policy in ("auto", "int8") and keeps_histograms(recipe.tables.calibration):
        check_calib_cache(options.calib_cache)
    model = float_model_of(job)
    with answering(job.recipe, model) as answer:
        data = data_of(job.recipe, model.graph.inputs, answer)
        given, examined = inputs_of(job, data)
        part = model.runnable
        scoring = scorings_of(job.recipe, examined, has_plugins=part is not model).first
        rules = gate_rules(job, scoring)
        with Reference(part, scoring, job.progress) as reference:
            trial = Trial(reference, OnnxRuntimeMaker(reference))
            auction = hold_auction(trial, part, given, rules)
            decision = decide(auction.tried, rules, timed(trial, job))
        found = HostTrial(job, model, examined, decision, rules, _candidate(best_int8(auction.tried, rules)))
        if decision.chosen is None:
            raise GateError(
                f"model {recipe.name!r}: {decision.reason}; nothing was packed "
                "(a wider precision, other calibration data, or --publish-failed)",
                found.candidates,
            )
        yield found


def _candidate(tried: Tried | None) -> Candidate | None:
    return None if tried is None else tried.candidate


def _for_onnxruntime(recipe: Recipe) -> Recipe:
    """The recipe for the CPU of this machine."""
    tables = recipe.tables
    backend = tables.backend.model_copy(update={"name": "onnxruntime", "device": None})
    return replace(recipe, tables=tables.model_copy(update={"backend": backend}))
