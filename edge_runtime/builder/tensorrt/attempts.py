"""A build that tries again with less memory, and says all that the parser refuses."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import List, Tuple

from edge_runtime.builder.progress import Progress
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.builder.tensorrt.build_plan import OutOfMemoryError, OverLimitError, WorkspaceError
from edge_runtime.builder.tensorrt.child import BuildChild, ChildOptions, parser_problems
from edge_runtime.builder.tensorrt.ladder import MIB, Ceiling, Rung, ceiling_of, first_workspace, rungs
from edge_runtime.builder.tensorrt.network import ParseError, ParserProblem
from edge_runtime.builder.tensorrt.request import BuildRequest, Built, built_from_record
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.device.memory import read_memory
from edge_runtime.errors import BackendError, EdgeRuntimeError
from edge_runtime.graph.extract import single_nodes
from edge_runtime.graph.model import OnnxModel

_STEPS = 1000


@dataclass(frozen=True)
class Attempts:
    """The tries of one build; `what` names it, and `child` says how processes are run."""

    graph: OnnxModel
    table: BackendTable
    device: DeviceInfo
    progress: Progress
    what: str
    child: ChildOptions = field(default_factory=ChildOptions)

    def run(self, request: BuildRequest) -> Tuple[Built, Rung]:
        """Builds with what memory there is, then with less of it, as long as memory is the reason for failing.

        Raises:
            ParseError: naming every node that the parser refuses.
            OutOfMemoryError: naming every try.
            WorkspaceError: a kernel needs more than the workspace.
            EdgeRuntimeError: anything else.
        """
        failures: List[str] = []
        is_over = False
        held = self._held()
        for rung in rungs(self._first(held), held):
            if failures:
                self.progress.note(f"{self.what}: {failures[-1]}; trying {rung.text}")
            try:
                return self._widened(request, rung, held), rung
            except OutOfMemoryError as error:
                failures.append(f"with {rung.text}: {error}")
                is_over = isinstance(error, OverLimitError)
            except WorkspaceError as error:
                failures.append(f"with {rung.text}: {error}")
                raise WorkspaceError(
                    f"{self.what}: {'; '.join(failures)}; set [backend] workspace_mib higher, or free memory for it"
                ) from None
            except ParseError as error:
                raise self._explained(error, request) from None
            except BackendError as error:
                raise self._hinted(error) from None
        raise OutOfMemoryError(
            f"{self.what}: memory ran out, {'; '.join(failures)}; {self._remedy(failures, is_over)}, "
            "or build for smaller shapes (--shape)"
        )

    def _remedy(self, failures: List[str], is_over: bool) -> str:
        """What gives a build more memory, when the last try was ended by the ceiling or by something else."""
        if is_over and self.table.memory_limit_mib is not None:
            return f"raise [backend] memory_limit_mib, which is {self.table.memory_limit_mib}"
        wants_workspace = self.table.workspace_mib is not None and "insufficient workspace" in failures[0].lower()
        first = f"raise [backend] workspace_mib, which is {self.table.workspace_mib}, " if wants_workspace else ""
        return f"{first}end other programs, add swap"

    def _hinted(self, error: BackendError) -> BackendError:
        """Newer TensorRT doesn't say that a kernel wants more workspace than it may have: it just finds none."""
        if self.table.workspace_mib is None or "find any implementation" not in str(error):
            return error
        hint = f"raise [backend] workspace_mib, which is {self.table.workspace_mib}, or leave it out"
        return type(error)(f"{error}; {hint}")

    def _widened(self, request: BuildRequest, rung: Rung, held: int | None) -> Built:
        """A build that may take all of the ceiling as workspace if it turns out that half of it is too little."""
        try:
            return self._once(request, rung)
        except WorkspaceError as error:
            is_ours = self.table.workspace_mib is None and not rung.is_reduced
            if not is_ours or held is None or rung.workspace_nbytes is None:
                raise
            self.progress.note(f"{self.what}: {error}; trying a workspace of {held // MIB} MiB")
            return self._once(request, replace(rung, workspace_nbytes=held))

    def _ceiling(self) -> Ceiling:
        memory = read_memory(self.child.root)
        limit = None if self.table.memory_limit_mib is None else self.table.memory_limit_mib * MIB
        return ceiling_of(memory.total_nbytes, memory.available_nbytes, limit)

    def _held(self) -> int | None:
        return self._ceiling().held_nbytes

    def _first(self, held: int | None) -> Rung:
        wanted = None if self.table.workspace_mib is None else self.table.workspace_mib * MIB
        is_shared = self.device.kind == "jetson"
        return Rung(first_workspace(is_shared, held, wanted), self.table.optimization_level)

    def _once(self, request: BuildRequest, rung: Rung) -> Built:
        tried = replace(request, workspace_nbytes=rung.workspace_nbytes, optimization_level=rung.optimization_level)
        self.progress.stage(f"building {self.what}", _STEPS)
        done = [0]

        def advance(thousandths: int) -> None:
            self.progress.advance(thousandths - done[0])
            done[0] = thousandths

        child = BuildChild(tried.to_json(), replace(self.child, ceiling=self._ceiling()))
        built = built_from_record(child.result(advance))
        advance(_STEPS)  # an old TensorRT tells nothing on the way
        return built

    def _explained(self, error: ParseError, request: BuildRequest) -> ParseError:
        """The parser stops at the first node that it refuses; each node alone shows the others."""
        names = self.graph.node_order
        problems = [
            problem
            if problem.name or not 0 <= problem.index < len(names)
            else replace(problem, name=names[problem.index])
            for problem in error.problems
        ]
        known = {problem.name for problem in problems}
        with contextlib.suppress(EdgeRuntimeError, OSError):  # what is known already is told all the same
            with tempfile.TemporaryDirectory(dir=Path(request.plan).parent) as folder:
                alone = self._problems_of_nodes(Path(folder), request)
            problems += [problem for problem in alone if problem.name not in known]
        if not problems:
            return error
        lines = [problem.line for problem in problems]
        text = "; ".join(lines[:20]) + (f"; and {len(lines) - 20} more" if len(lines) > 20 else "")
        nodes = "1 node" if len(lines) == 1 else f"{len(lines)} nodes"
        return ParseError(f"{self.what}: the parser refuses {nodes}: {text}", problems)

    def _problems_of_nodes(self, folder: Path, request: BuildRequest) -> List[ParserProblem]:
        nodes, paths = [], []
        for index, node in enumerate(single_nodes(self.graph)):
            path = folder / f"{index}.onnx"
            path.write_bytes(node.onnx)
            nodes.append((node.name, node.operator))
            paths.append(path)
        found = []
        for (name, operator), problems in zip(nodes, parser_problems(request, paths, self.child)):
            found += [replace(problem, index=0, name=name, operator=operator) for problem in problems]
        return found
