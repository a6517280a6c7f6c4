"""The models that are served, and what is said about them; the same for every transport."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Sequence, TypeVar

from edge_runtime import __version__
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import EdgeRuntimeError, RequestError, ServerUnavailableError, UnknownNameError
from edge_runtime.scheduling.request import Outputs, Request
from edge_runtime.server.executor import Executor
from edge_runtime.server.statistics import ModelStatistics, statistics_record
from edge_runtime.tensors import TensorSpec
from edge_runtime.wire.inference import InferAnswer, InferRequest, clipped

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics", "parameters")

T = TypeVar("T")


@dataclass(frozen=True)
class ServedModel:
    """An engine, the threads that run it, and its counters."""

    engine: Engine
    executor: Executor
    statistics: ModelStatistics

    @property
    def name(self) -> str:
        """The model's name."""
        return self.engine.info.name

    @property
    def version(self) -> str:
        """The version that is loaded."""
        return str(self.engine.info.version)

    def metadata(self) -> Dict[str, Any]:
        """The protocol's model metadata; the batch axis is in the shapes."""
        signature, info = self.engine.signature, self.engine.info
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": info.platform,
            "inputs": [_tensor(spec) for spec in signature.inputs],
            "outputs": [_tensor(spec) for spec in signature.outputs],
        }

    def config(self) -> Dict[str, Any]:
        """Triton's model configuration; the batch axis isn't in the dimensions."""
        signature, info = self.engine.signature, self.engine.info
        first = 1 if signature.max_batch_size else 0
        kind = "KIND_CPU" if info.device == "cpu" else "KIND_GPU"
        return {
            "name": self.name,
            "platform": info.platform,
            "backend": info.library,
            "max_batch_size": signature.max_batch_size,
            "input": [_configured(spec, first) for spec in signature.inputs],
            "output": [_configured(spec, first) for spec in signature.outputs],
            "instance_group": [{"name": self.name, "count": self.engine.slot_count, "kind": kind}],
        }

    def statistics_record(self) -> Dict[str, Any]:
        """The protocol's statistics of this model."""
        return statistics_record(self.name, self.version, self.statistics.totals())

    @contextlib.contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """A block in which a client's mistake is counted as a failed request."""
        start_ns = self.executor.now_ns()
        try:
            yield
        except RequestError:
            self.statistics.add_failure("OTHER", self.executor.now_ns() - start_ns)
            raise

    async def infer(self, received: InferRequest, arrival_ns: int, encode: Callable[[InferAnswer], T]) -> T:
        """Runs a checked request and gives back what `encode` made of the answer.

        `encode` is called on the thread that ran it, on views that hold only until it returns.

        Raises:
            ServerUnavailableError: the queue is full.
            EdgeRuntimeError: the run failed, or `encode` did.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def encoded(outputs: Outputs) -> T:
            return encode(InferAnswer(self.name, self.version, received.id, outputs))

        def emit(outcome: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, done, outcome)

        rows = next((len(v) for v in received.inputs.values()), 1) if self.engine.signature.max_batch_size else 1
        request = Request(received.inputs, encoded, emit, arrival_ns, rows)
        self.executor.submit(request)
        try:
            return await done
        except asyncio.CancelledError:
            self.executor.cancel(request)
            raise


def _settle(done: asyncio.Future[Any], outcome: Any) -> None:
    if done.done():
        return
    if isinstance(outcome, EdgeRuntimeError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


class ModelTable:
    """All served models, whether the server is ready, and how many inferences are under way."""

    def __init__(self, engines: Sequence[Engine], queue_size: int) -> None:
        self.is_ready = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._models: Dict[str, ServedModel] = {}
        for engine in engines:
            statistics = ModelStatistics()
            self._models[engine.info.name] = ServedModel(engine, Executor(engine, statistics, queue_size), statistics)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def find(self, name: str, version: str = "") -> ServedModel:
        """The model of that name; the version, if one is given, must be the loaded one.

        Raises:
            UnknownNameError: there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise UnknownNameError(f"unknown model {clipped(name)}")
        if version not in ("", model.version):
            raise UnknownNameError(f"model {clipped(name)} has no version {clipped(version)} loaded")
        return model

    def has(self, name: str, version: str = "") -> bool:
        """Whether `find` would find it."""
        try:
            self.find(name, version)
        except UnknownNameError:
            return False
        return True

    def check_ready(self) -> None:
        """Raises ServerUnavailableError while no inferences are taken."""
        if not self.is_ready:
            raise ServerUnavailableError("the server is shutting down or not ready; try again later")

    def check_admission(self, model: ServedModel) -> None:
        """Raises ServerUnavailableError, and counts it, while no inferences of `model` are taken."""
        try:
            self.check_ready()
        except ServerUnavailableError:
            model.statistics.add_failure("REJECTED", 0)
            raise

    @contextlib.contextmanager
    def admission(self, model: ServedModel) -> Iterator[None]:
        """A block in which an inference of `model` is under way: a drain waits for its end.

        Raises:
            ServerUnavailableError: the server drains or isn't ready.
        """
        self.check_admission(model)
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def idle(self) -> None:
        """Returns when no inference is under way."""
        await self._idle.wait()

    def index(self, is_ready_only: bool) -> List[Dict[str, str]]:
        """The repository index."""
        state = "READY" if self.is_ready else "UNAVAILABLE"
        if is_ready_only and not self.is_ready:
            return []
        return [{"name": model.name, "version": model.version, "state": state, "reason": ""} for model in self]


def server_metadata() -> Dict[str, Any]:
    """The protocol's server metadata."""
    return {"name": "edge_runtime", "version": __version__, "extensions": list(EXTENSIONS)}


def _tensor(spec: TensorSpec) -> Dict[str, Any]:
    return {"name": spec.name, "datatype": spec.dtype.value, "shape": list(spec.shape)}


def _configured(spec: TensorSpec, first: int) -> Dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{spec.dtype.value}", "dims": list(spec.shape[first:])}
