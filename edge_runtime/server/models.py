"""The models that are served, and what is said about them; the same for every transport."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any, Callable, Dict, Hashable, Iterator, List, Sequence, Set, Tuple, TypeVar

from edge_runtime import __version__
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import EdgeRuntimeError, RequestError, ServerUnavailableError, UnknownNameError
from edge_runtime.plan.golden import Golden
from edge_runtime.plan.serving import ServingTable
from edge_runtime.scheduling.request import Outputs, Period, Request
from edge_runtime.server.absence import Absences
from edge_runtime.server.administration import Administration
from edge_runtime.server.dispatcher import Dispatcher
from edge_runtime.server.ladder_view import LadderView
from edge_runtime.server.memory.ledger import MemoryLedger
from edge_runtime.server.model_documents import model_config, model_metadata
from edge_runtime.server.places import Place, Routes
from edge_runtime.server.prometheus import Families
from edge_runtime.server.statistics import ModelStatistics, statistics_record
from edge_runtime.server.under_way import UnderWay
from edge_runtime.server.work import Work
from edge_runtime.tensors import Feeds
from edge_runtime.wire.inference import NO_HURRY, InferAnswer, InferRequest, Schedule, clipped

EXTENSIONS = (
    "binary_tensor_data",
    "model_repository",
    "model_configuration",
    "statistics",
    "parameters",
    "schedule_policy",
)

_NOT_READY = "the server is shutting down or not ready; try again later"

T = TypeVar("T")


class ServedModel:
    """An engine, the dispatcher that runs it, and its counters; used on the loop's thread.

    Args:
        work: the engine as the dispatcher knows it.
        dispatcher: of the accelerator that the engine runs on.
        usual: the schedule of requests that don't say.
        golden: what it must answer to one input, if that is known.

    Attributes:
        key: what the dispatcher knows it by: another one for each time that a plan is loaded.
        under_way: its inferences; the engine isn't closed before they end.
        lent: memory of clients that the engine is bound to; nor before that is free.
        is_retired: it isn't in the table any more, and takes no requests but those that have begun.
        is_pinned: it stays loaded, whatever else needs the memory.
        place: where new requests run; `ModelTable.move` changes it.
        ladder: how it degrades, None if it doesn't.
        serving: how it wants to be served.
    """

    def __init__(
        self, work: Work, dispatcher: Dispatcher, usual: Schedule = NO_HURRY, golden: Golden | None = None
    ) -> None:
        self.engine: Engine = work.engine
        self.statistics: ModelStatistics = work.statistics
        self.golden = golden
        self.key = work.name
        self.queue_size = work.policy.queue_size
        self.name = work.engine.info.name
        self.version = str(work.engine.info.version)
        self.submit = dispatcher.submit
        self.cancel = dispatcher.cancel
        self.now_ns = dispatcher.now_ns
        self.runs_here = dispatcher.runs_here
        self.home = self.place = Place(work, dispatcher)
        self.ladder: Callable[[], LadderView] | None = None
        self._dispatchers = {self.key: dispatcher}
        self.under_way = UnderWay()
        self.lent = UnderWay()
        self.is_retired = False
        self.is_pinned = False
        self.serving = ServingTable()
        self._loaded_ns = dispatcher.now_ns()
        self.usual = usual
        self._has_batches = bool(work.engine.signature.max_batch_size)
        self._first_input = work.engine.signature.inputs[0].name if work.engine.signature.inputs else ""

    @property
    def pending(self) -> int:
        """Requests that wait and don't run yet."""
        return sum([dispatcher.pending(key) for key, dispatcher in self._dispatchers.items()])

    def add_place(self, place: Place) -> None:
        """Lets requests run in another place too."""
        self._dispatchers[place.work.name] = place.dispatcher
        if place.dispatcher is not self.home.dispatcher:  # which finds the engine by the request itself
            routes = Routes(self._dispatchers)
            self.submit, self.cancel, self.runs_here = routes.submit, routes.cancel, routes.runs_here

    async def remove_place(self, place: Place) -> None:
        """Forgets a place where no new requests run, once those that do have ended."""
        await place.dispatcher.remove(place.work.name)
        del self._dispatchers[place.work.name]

    @property
    def longest_run_ns(self) -> int:
        """What its longest run is planned with; 0 where nothing is known."""
        return self.home.dispatcher.longest_ns(self.key)

    @property
    def idle_ns(self) -> int:
        """How long ago it ran last, or was loaded; 0 while anything of it is under way, or has its memory bound."""
        if self.under_way.count or self.lent.count or self.pending:
            return 0
        return self.now_ns() - max(self._loaded_ns, self.statistics.last_run_ns)

    def metadata(self) -> Dict[str, Any]:
        """The protocol's model metadata."""
        return model_metadata(self.name, self.version, self.engine)

    def config(self) -> Dict[str, Any]:
        """Triton's model configuration."""
        return model_config(self.name, self.engine)

    def statistics_record(self) -> Dict[str, Any]:
        """The protocol's statistics of this model."""
        return statistics_record(self.name, self.version, self.statistics.totals)

    @contextlib.contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """A block in which a client's mistake is counted as a failed request."""
        start_ns = self.now_ns()
        try:
            yield
        except RequestError:
            self.statistics.add_failure("OTHER", self.now_ns() - start_ns)
            raise

    def rows_of(self, inputs: Feeds) -> int:
        """How many samples some inputs are."""
        return len(inputs[self._first_input]) if self._has_batches else 1

    def request(
        self,
        inputs: Feeds,
        schedule: Schedule,
        encode: Callable[[Outputs], Any],
        emit: Callable[[Any], None],
        arrival_ns: int,
        timeout_ns: int | None = None,
    ) -> Request:
        """A request for `submit`; `timeout_ns` is what the transport itself says of its deadline."""
        work = self.place.work
        request = Request(work.name, inputs, encode, emit, arrival_ns, self.rows_of(inputs))
        if schedule is not NO_HURRY or self.usual is not NO_HURRY or timeout_ns is not None:
            request.priority = schedule.priority or self.usual.priority
            request.deadline_ns = self.deadline_ns(schedule.budget_ns, timeout_ns, arrival_ns)
            if schedule.period_ns is not None:
                request.stream = _period(work.name, schedule)
        if work.policy.max_batch > 1:
            request.group = tuple((name, value.shape[1:]) for name, value in inputs.items())
        return request

    def complete(self, request: Request) -> None:
        """Lets a request's own priority, or else the model's, hold, and the earlier of both deadlines."""
        request.priority = request.priority or self.usual.priority
        if self.usual.budget_ns is not None:
            usual_ns = request.arrival_ns + self.usual.budget_ns
            request.deadline_ns = usual_ns if request.deadline_ns is None else min(request.deadline_ns, usual_ns)

    def deadline_ns(self, budget_ns: int | None, timeout_ns: int | None, arrival_ns: int) -> int | None:
        """The earliest deadline of a request's own, its transport's and the model's default."""
        shortest = self.usual.budget_ns
        for each in (budget_ns, timeout_ns):
            if each is not None and (shortest is None or each < shortest):
                shortest = each
        return None if shortest is None else arrival_ns + shortest

    async def infer(
        self,
        received: InferRequest,
        arrival_ns: int,
        encode: Callable[[InferAnswer], T],
        timeout_ns: int | None = None,
        client: Hashable = None,
    ) -> T:
        """Runs a checked request of a client and gives back what `encode` made of the answer.

        `encode` is called on the thread that ran it, on views that hold only until it returns.

        Raises:
            ServerUnavailableError: the queue is full, or the deadline can't be kept.
            EdgeRuntimeError: the run failed, or `encode` did.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        rung = self.place.label

        def encoded(outputs: Outputs) -> T:
            return encode(InferAnswer(self.name, self.version, received.id, outputs, rung))

        under_way = self.under_way
        emit = partial(_settle, done, under_way)
        request = self.request(received.inputs, received.schedule, encoded, emit, arrival_ns, timeout_ns)
        request.client = client
        request.is_light = False
        under_way.begun()
        try:
            self.submit(request)
        except BaseException:
            under_way.ended()
            raise
        try:
            return await done
        except asyncio.CancelledError:
            if self.cancel(request):
                under_way.ended()
            raise


def _period(key: str, schedule: Schedule) -> Period:
    return Period((key, schedule.stream), schedule.period_ns or 0, schedule.budget_ns or 0)


def _settle(done: asyncio.Future[Any], under_way: UnderWay, outcome: Any) -> None:
    under_way.ended()
    if done.done():
        return
    if isinstance(outcome, EdgeRuntimeError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


class ModelTable:
    """All served models, and whether the server is ready; used on the loop's thread.

    Attributes:
        administration: what changes the table, and what else may be changed of the server.
        hindrances: why a model isn't ready though inferences are taken, by its name ("": the whole server) and what is
            told of it; whoever enters one takes it out again.
        absent: the models that ought to be here, and aren't.
        metrics: what else there is to tell on the page of metrics.
        remark: what is to be said of a model, though it may be ready.
        ledger: what memory the models have; None where nobody keeps account.
        epoch: another number whenever the table has changed: who keeps what it found here must look again.
        on_request: called once, before the next inference is taken in or refused.
        changed: called then, with the model that isn't served any more, or None: for those who keep what holds a model.
    """

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.is_ready = False
        self.administration = Administration()
        self.hindrances: Dict[Tuple[str, str], str] = {}
        self.absent = Absences()
        self.metrics: List[Callable[[], Families]] = []
        self.remark: Callable[[str], str] = self.problem
        self.ledger: MemoryLedger | None = None
        self.epoch = 0
        self.on_request: Callable[[], object] | None = None
        self.changed: List[Callable[[ServedModel | None], None]] = []
        self._models = {model.name: model for model in models}
        self._retired: List[ServedModel] = []
        self._unloaded: Set[str] = set()

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def find(self, name: str, version: str = "", is_to_run: bool = False) -> ServedModel:
        """The model of that name; the version, if one is given, must be the loaded one.

        `is_to_run` says that it is wanted now: one that gave way to others is loaded again.

        Raises:
            UnknownNameError: there is none.
            ServerUnavailableError: it is absent.
        """
        model = self._models.get(name)
        if model is None:
            self.absent.check(name, is_to_run)
            text = " was unloaded" if name in self._unloaded else ""
            raise UnknownNameError(f"model {clipped(name)}{text}" if text else f"unknown model {clipped(name)}")
        if version not in ("", model.version):
            raise UnknownNameError(f"model {clipped(name)} has no version {clipped(version)} loaded")
        return model

    def has(self, name: str, version: str = "") -> bool:
        """Whether `find` would find it."""
        try:
            self.find(name, version)
        except (UnknownNameError, ServerUnavailableError):
            return False
        return True

    def problem(self, name: str | None = None) -> str:
        """Why the server isn't ready, or one model of it isn't; "" if it is."""
        if not self.is_ready:
            return _NOT_READY
        found = [
            f"model {model}: {why}" if model else why
            for (model, _), why in self.hindrances.items()
            if name is None or model in ("", name)
        ]
        return "; ".join(found)

    def check_healthy(self, name: str | None = None) -> None:
        """Raises ServerUnavailableError, which says why, unless the server is ready, or one model of it."""
        problem = self.problem(name)
        if problem:
            raise ServerUnavailableError(problem)

    def check_admission(self, model: ServedModel) -> None:
        """Raises ServerUnavailableError, and counts it, while no inferences of `model` are taken."""
        if self.on_request is not None:
            tell, self.on_request = self.on_request, None
            tell()
        if not self.is_ready:
            model.statistics.add_failure("REJECTED", 0)
            raise ServerUnavailableError(_NOT_READY)

    @contextlib.contextmanager
    def admission(self, model: ServedModel) -> Iterator[None]:
        """A block in which an inference of `model` is under way: a drain waits for its end.

        Raises:
            ServerUnavailableError: the server drains or isn't ready.
        """
        self.check_admission(model)
        model.under_way.begun()
        try:
            yield
        finally:
            model.under_way.ended()

    def put(self, model: ServedModel) -> ServedModel | None:
        """Serves a model from here on; gives the one that had its name, which is retired."""
        before = self._models.get(model.name)
        self._models[model.name] = model
        self.absent.pop(model.name, None)
        self._unloaded.discard(model.name)
        self._change(before)
        return before

    def remove(self, name: str) -> ServedModel:
        """Serves a model no more, and gives it.

        Raises:
            UnknownNameError: there is none of that name.
        """
        model = self.find(name)
        del self._models[name]
        self._unloaded.add(name)
        self._change(model)
        return model

    def move(self, model: ServedModel, place: Place) -> None:
        """Runs new requests of a model in one of its places; those that are under way end where they began."""
        model.place = place
        self._change(None)

    def _change(self, retired: ServedModel | None) -> None:
        self.epoch += 1
        if retired is not None:
            retired.is_retired = True
            self._retired.append(retired)
        for tell in self.changed:
            tell(retired)

    async def ended(self, retired: ServedModel) -> None:
        """Returns when nothing of a model that was served is under way."""
        await retired.under_way.idle()
        self._retired.remove(retired)

    async def idle(self) -> None:
        """Returns when no inference is under way; none must begin meanwhile."""
        for model in [*self, *self._retired]:
            await model.under_way.idle()

    def index(self, is_ready_only: bool) -> List[Dict[str, str]]:
        """The repository index."""
        found = []
        for model in self:
            problem = self.problem(model.name)
            if not problem or not is_ready_only:
                state, reason = ("UNAVAILABLE", problem if self.is_ready else "") if problem else ("READY", "")
                found.append({"name": model.name, "version": model.version, "state": state, "reason": reason})
        return found


def server_metadata(has_client_regions: bool, has_log: bool) -> Dict[str, Any]:
    """The protocol's server metadata, for clients who may or may not share memory and see what is logged."""
    extensions = [*EXTENSIONS, *(["logging"] if has_log else [])]
    extensions += ["system_shared_memory"] if has_client_regions else []
    return {"name": "edge_runtime", "version": __version__, "extensions": extensions}
