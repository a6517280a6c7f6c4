"""How a candidate becomes a plan that runs: the seam between the builder's story and an engine library."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ContextManager, Dict, Iterator, Mapping, Protocol, Sequence, Tuple

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.reference import Reference
from edge_runtime.engine.engine import Engine
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.split import split
from edge_runtime.plan.contents import PlanFiles, PlanPart, part_file
from edge_runtime.plan.files import Content
from edge_runtime.plan.manifest import TargetRecord
from edge_runtime.tensors import ShapeRange, Signature

PLAN_FILE = "model.onnx"


@dataclass(frozen=True)
class Made:
    """A candidate's plan, what it takes and gives, the graph that it was made of, and what should be known of it.

    A model that is split has a plan for each of its `parts`. `target` is what ties them to a board, None if nothing
    does.
    """

    candidate: Candidate
    parts: Tuple[PlanPart, ...]
    signature: Signature
    graph: OnnxModel
    target: TargetRecord | None = None
    notes: Tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """The size of all files."""
        return sum(part.files.nbytes for part in self.parts)

    @property
    def contents(self) -> Dict[str, Content]:
        """All files by name, the first part's first."""
        return {name: content for part in self.parts for name, content in part.files.contents.items()}


class PlanMaker(Protocol):
    """Makes plans of candidates for one backend."""

    def make(self, candidate: Candidate) -> Made:
        """The plan of a candidate; asking again costs little.

        Raises:
            EdgeRuntimeError: it can't be made.
        """

    def make_whole(self, candidate: Candidate) -> Made:
        """The plan of a candidate as if the model weren't split.

        Raises:
            EdgeRuntimeError: it can't be made.
        """

    def opened(self, made: Made) -> ContextManager[Engine]:
        """An engine over a plan, or over a chain of them, for the length of a block.

        Raises:
            BackendUnavailableError: there is no device for it here.
            BackendError: the engine library refuses it.
        """


class OnnxRuntimeMaker:
    """Plans are ONNX, and run on the CPU; that of the float model, uncut, is loaded already.

    Where there are `cuts`, a plan is a chain, which is what is tried and timed.
    """

    def __init__(self, reference: Reference, cuts: Sequence[str] = ()) -> None:
        self._model = reference.model
        self._float = reference.engine
        self._cuts = cuts

    def make(self, candidate: Candidate) -> Made:
        """The candidate's graph as files, or those of its parts."""
        return self._made(candidate, self._cuts)

    def make_whole(self, candidate: Candidate) -> Made:
        """The candidate's graph as files."""
        return self._made(candidate, ())

    def _made(self, candidate: Candidate, cuts: Sequence[str]) -> Made:
        graph = candidate.make()
        signature = self._model.signature_of(graph)
        if not cuts:
            return Made(candidate, (PlanPart(PlanFiles(graph.to_files()), signature),), signature, graph)
        return Made(candidate, onnx_parts(graph, cuts, self._model.profile), signature, graph)

    @contextlib.contextmanager
    def opened(self, made: Made) -> Iterator[Engine]:
        """An engine on ONNX Runtime."""
        if made.graph is self._model.graph and len(made.parts) == 1:
            yield self._float
            return
        with self._model.opened_parts(made.parts, made.graph, made.candidate.precision) as engine:
            yield engine


def onnx_parts(graph: OnnxModel, cuts: Sequence[str], profile: Mapping[str, ShapeRange]) -> Tuple[PlanPart, ...]:
    """The parts of a graph as ONNX plans.

    Raises:
        EdgeRuntimeError: it can't be cut there.
    """
    return tuple(
        PlanPart(
            PlanFiles(part.model.to_files(part_file(PLAN_FILE, number))),
            Signature(part.model.inputs, part.model.outputs, part.profile),
        )
        for number, part in enumerate(split(graph, cuts, profile))
    )
