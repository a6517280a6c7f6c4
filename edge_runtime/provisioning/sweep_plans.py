"""The plans of a model in each precision: those in the store, or built for the sweep into a store of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from edge_runtime.builder.builder import build
from edge_runtime.builder.job import BuildOptions
from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import Recipe
from edge_runtime.errors import EdgeRuntimeError, PlanError
from edge_runtime.plan.store import PlanStore, StoredPlan


@dataclass(frozen=True)
class SweptPlan:
    """A precision and its plan; without one, `refused` says why."""

    precision: str
    plan: StoredPlan | None
    refused: str = ""


def stored_plans(store: PlanStore, model: str, precisions: Sequence[str]) -> List[SweptPlan]:
    """Of each precision the newest version that was made from the same ONNX model as the served one.

    Raises:
        PlanNotFoundError: the model has no plan at all.
    """
    served = store.open(model)
    found: Dict[str, StoredPlan] = {served.manifest.precision: served}
    others: Dict[str, str] = {}
    for version in reversed(store.versions(model)):
        try:
            plan = store.open(model, version)
        except PlanError as error:
            others.setdefault("", str(error))
            continue
        precision = plan.manifest.precision
        if plan.manifest.source.digest != served.manifest.source.digest:
            others.setdefault(precision, f"version {version} is of another ONNX model than what is served")
        else:
            found.setdefault(precision, plan)
    return [SweptPlan(one, found.get(one), "" if one in found else _missing(one, others)) for one in precisions]


def _missing(precision: str, others: Mapping[str, str]) -> str:
    known = others.get(precision) or others.get("")
    return f"no version in the store{f' ({known})' if known else ''}; --build makes one for the sweep"


def built_plans(recipes: Mapping[str, Recipe], store: Path, calib_cache: Path, progress: Progress) -> List[SweptPlan]:
    """The plan of each precision's recipe, built into `store`, which nothing serves; what fails is refused."""
    options = BuildOptions(store, calib_cache)
    found = []
    for precision, one in recipes.items():
        try:
            built = build(one, options, progress)
        except EdgeRuntimeError as error:
            found.append(SweptPlan(precision, None, f"not built: {error}"))
            continue
        got = built.manifest.precision
        if got != precision:
            found.append(SweptPlan(precision, None, f"the recipe falls back to {got} on this board"))
        else:
            found.append(SweptPlan(precision, built))
    return found
