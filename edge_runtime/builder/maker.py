"""How a candidate becomes a plan that runs: the seam between the builder's story and an engine library."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ContextManager, Iterator, Protocol, Tuple

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.reference import Reference
from edge_runtime.engine.engine import Engine
from edge_runtime.graph.model import OnnxModel
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.manifest import TargetRecord
from edge_runtime.tensors import Signature


@dataclass(frozen=True)
class Made:
    """A candidate's plan, what it takes and gives, the graph that it was made of, and what should be known of it.

    `target` is what ties it to a board, None if nothing does.
    """

    candidate: Candidate
    plan: PlanFiles
    signature: Signature
    graph: OnnxModel
    target: TargetRecord | None = None
    notes: Tuple[str, ...] = ()


class PlanMaker(Protocol):
    """Makes plans of candidates for one backend."""

    def make(self, candidate: Candidate) -> Made:
        """The plan of a candidate; asking again costs little.

        Raises:
            EdgeRuntimeError: it can't be made.
        """

    def opened(self, made: Made) -> ContextManager[Engine]:
        """An engine over a plan, for the length of a block.

        Raises:
            BackendUnavailableError: there is no device for it here.
            BackendError: the engine library refuses it.
        """


class OnnxRuntimeMaker:
    """Plans are ONNX, and run on the CPU; that of the float model is loaded already."""

    def __init__(self, reference: Reference) -> None:
        self._model = reference.model
        self._float = reference.engine

    def make(self, candidate: Candidate) -> Made:
        """The candidate's graph as files."""
        graph = candidate.make()
        return Made(candidate, PlanFiles(graph.to_files()), self._model.signature_of(graph), graph)

    @contextlib.contextmanager
    def opened(self, made: Made) -> Iterator[Engine]:
        """An engine on ONNX Runtime."""
        if made.graph is self._model.graph:
            yield self._float
            return
        with self._model.opened_plan(made.plan, made.graph, made.candidate.precision) as engine:
            yield engine
