"""The float model that all candidates are made from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Iterator, Mapping, Sequence, Tuple

from edge_runtime.builder.data import Answer
from edge_runtime.builder.profile import axes_of, profile_of, values_of
from edge_runtime.builder.recipe import Recipe, check_names
from edge_runtime.builder.source import model_path
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_parts
from edge_runtime.errors import ConfigError, UnsupportedModelError
from edge_runtime.graph.float64 import single_precision
from edge_runtime.graph.freeze import with_values
from edge_runtime.graph.model import OnnxModel, load_model
from edge_runtime.graph.plugins import without_plugins
from edge_runtime.graph.portable import portable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.split import split_tensors, tensors_around
from edge_runtime.plan.contents import PlanFiles, PlanPart
from edge_runtime.tensors import ShapeRange, Signature

OUTPUT_REMEDY = "give the output a name of its own, and make it with an Identity node"


@dataclass(frozen=True)
class FloatModel:
    """A model's graph, what it takes, whose it is, and the tensors that it is to be cut at, if any."""

    graph: OnnxModel
    profile: Mapping[str, ShapeRange]
    info: EngineInfo
    cuts: Tuple[str, ...] = ()

    @property
    def signature(self) -> Signature:
        """Inputs, outputs and profile."""
        return self.signature_of(self.graph)

    def signature_of(self, graph: OnnxModel) -> Signature:
        """What a graph made from this one takes and gives."""
        return Signature(graph.inputs, graph.outputs, self.profile)

    @cached_property
    def _standard(self) -> OnnxModel:
        return without_plugins(self.graph)

    @property
    def runnable(self) -> FloatModel:
        """The part that ONNX Runtime runs: all of it, unless plugins implement some of its operators."""
        return self if self._standard is self.graph else replace(self, graph=self._standard)

    @cached_property
    def _single(self) -> OnnxModel:
        return single_precision(self.graph)

    def opened(self, graph: OnnxModel, precision: str) -> Engine:
        """An engine over a graph made from this one; the caller closes it.

        Raises:
            BackendError: the engine library refuses it.
        """
        return self.opened_plan(PlanFiles(graph.to_files()), graph, precision)

    def opened_plan(self, plan: PlanFiles, graph: OnnxModel, precision: str) -> Engine:
        """An engine over a plan that was made of `graph`; the caller closes it.

        Raises:
            BackendError: the engine library refuses it.
        """
        return self.opened_parts((PlanPart(plan, self.signature_of(graph)),), graph, precision)

    def opened_parts(self, parts: Sequence[PlanPart], graph: OnnxModel, precision: str) -> Engine:
        """An engine over a chain of plans that were made of `graph`, or over one; the caller closes it.

        Raises:
            BackendError: the engine library refuses it.
        """
        info = replace(self.info, precision=precision)
        return engine_from_parts(parts, info, self.signature_of(graph), EngineOptions(warm_up_runs=0))

    @property
    def single(self) -> FloatModel:
        """The same model computing in float32 where it does in float64."""
        return replace(self, graph=self._single)


def opened_model(recipe: Recipe) -> OnnxModel:
    """A recipe's model checked, without the inputs to which the recipe gives values.

    Raises:
        ConfigError: no such file, or a value that doesn't fit.
        ModelError: the model is broken or can't be used.
    """
    model = load_model(model_path(recipe), recipe.tables.backend.plugin_ops)
    _check_plugin_ops(model, recipe.tables.backend.plugin_ops)
    return with_values(model, values_of(recipe.tables))


def _check_plugin_ops(model: OnnxModel, names: Sequence[str]) -> None:
    """Raises ConfigError if a name isn't that of an operator in the main graph that no standard has."""
    found = sorted(model.plugin_operators)
    wrong = [name for name in names if name not in found]
    if wrong:
        raise ConfigError(
            f"[backend] plugin_ops {wrong[0]!r}: {model.name} has no operator of that name that isn't a standard one; "
            + (f"expected {', '.join(found)}" if found else "all that it has are standard, so leave plugin_ops out")
        )


def float_model(recipe: Recipe, info: EngineInfo) -> FloatModel:
    """A recipe's model checked, narrowed to its shapes, and made portable.

    Raises:
        ConfigError: no such file, or a name, value or shape that doesn't fit.
        ModelError: the model is broken or can't be used.
        UnsupportedModelError: nothing in it can be run, or it can't be split as `[model] split` says.
    """
    tables = recipe.tables
    model = opened_model(recipe)
    profile = profile_of(model.inputs, tables)
    given_names = model.node_names
    around = tensors_around(model, tables.model.split)
    check_names([tables.metric.output], [spec.name for spec in model.outputs], "[metric] the model has no output")
    model = with_shapes(model, profile, axes_of(tables))  # under one name, so that earlier copies are freed
    graph = portable(model)
    if not graph.node_order:
        raise UnsupportedModelError(f"{graph.name}: has no nodes, so that nothing can be run; {OUTPUT_REMEDY}")
    names = given_names | graph.node_names  # nodes without a name, or with one that another has, got a new one
    check_names(tables.precision.keep_float, names, "[precision] keep_float: the model has no node")
    cuts = split_tensors(graph, tables.model.split, profile, around) if tables.model.split else ()
    return FloatModel(graph, profile, info, cuts)


@contextlib.contextmanager
def answering(recipe: Recipe, model: FloatModel) -> Iterator[Answer | None]:
    """What answers the recipe's data functions for the length of the block: the float model if one is `stateful`."""
    tables = recipe.tables
    if not (tables.calibration.stateful or tables.held_out.stateful):
        yield None
        return
    with model.runnable.opened(model.runnable.graph, "fp32") as engine:
        yield engine.infer
