"""A made-up store whose models' versions tell themselves by their answers: version n gives n times its input."""

from __future__ import annotations

import threading
from typing import Callable

import numpy as np

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.errors import EdgeRuntimeError, PlanNotFoundError
from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.accelerators import Prepared
from edge_runtime.server.loads import Stamp
from edge_runtime.server.memory.ledger import MemoryLedger, MemoryLimits, Need
from edge_runtime.server.warm_up import Measured, RunTime
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

USUAL = ServingTable()
SIGNATURE = Signature(
    (TensorSpec("x", DType.FP32, (-1, 4), ("batch", "")),),
    (TensorSpec("y", DType.FP32, (-1, 4), ("batch", "")),),
    {"x": ShapeRange((1, 4), (1, 4), (8, 4))},
)


class _Slot:
    is_closed = False

    def __init__(self, version: int) -> None:
        self._version = version

    def bind(self, name: str, shape: tuple) -> np.ndarray:
        self._array = np.empty(shape, np.float32)
        return self._array

    def run(self) -> dict[str, np.ndarray]:
        assert not self.is_closed
        return {"y": self._array * self._version}

    def close(self) -> None:
        self.is_closed = True


def versioned(name: str, version: int, usual_ns: int = 0, serving: ServingTable = USUAL) -> Prepared:
    """A model that gives `version` times its input; `usual_ns` over 150,000 has it run in lanes."""
    info = EngineInfo(name, version, "made up 1.0", "onnxruntime_onnx", "fp32", "cpu")
    engine = Engine(info, SIGNATURE, lambda: _Slot(version), 2)
    times = (RunTime(0, 1, usual_ns, usual_ns),) if usual_ns else ()
    return Prepared(engine, Measured(times, False), serving)


class VersionedPlans:
    """A source of plans. `serve` says what is served; what `fails` says isn't loaded; `before` is called in each load.

    Each model needs `need_nbytes` of the ledger.
    """

    def __init__(self, ledger: MemoryLedger | None = None, need_nbytes: int = 1, **served: int) -> None:
        self.ledger = ledger or MemoryLedger(MemoryLimits(), lambda: None)
        self.need_nbytes = need_nbytes
        self.fails: dict[tuple[str, int], EdgeRuntimeError] = {}
        self.tried: list[tuple[str, int]] = []
        self.made: list[Prepared] = []
        self.before: Callable[[str], object] = lambda name: None
        self.usual_ns = 0
        self.serving: dict[str, ServingTable] = {}
        self._lock = threading.Lock()
        self._served = dict(served)
        self._changed = dict.fromkeys(served, 0)

    def serve(self, name: str, version: int) -> None:
        """Serves a version from now on; the same one once more is one whose files were put there anew."""
        with self._lock:
            self._served[name] = version
            self._changed[name] = self._changed.get(name, 0) + 1

    def versions(self) -> dict[str, str]:
        with self._lock:
            return {name: str(version or "") for name, version in self._served.items()}

    def served(self, name: str) -> str:
        return self.versions().get(name, "")

    def stamps(self) -> dict[str, Stamp]:
        return {name: Stamp(version, self._changed[name]) for name, version in self.versions().items()}

    def load(self, name: str, version: str) -> Prepared:
        if not version:
            raise PlanNotFoundError(f"/srv/secret/{name}: no plan")
        return self._load(name, int(version))

    def load_stand_in(self, name: str, version: str) -> Prepared:
        for number in range(int(version) - 1, 0, -1):
            if (name, number) not in self.fails:
                return self._load(name, number)
        raise PlanNotFoundError(f"/srv/secret/{name}: no older version")

    def _load(self, name: str, version: int) -> Prepared:
        self.tried.append((name, version))
        with self.ledger.admitted(name, Need(self.need_nbytes)):
            self.before(name)
            if (name, version) in self.fails:
                raise self.fails[name, version]
            made = versioned(name, version, self.usual_ns, self.serving.get(name, USUAL))
        self.made.append(made)
        return made

    def tidy(self) -> None:
        pass
