"""All connections of the shared-memory lane, and the models as they see them."""

from __future__ import annotations

import os
from typing import Any, Dict, Set

from edge_runtime.scheduling.request import Request
from edge_runtime.server.lane import LaneProtocol
from edge_runtime.server.lane_holdings import LaneLimits
from edge_runtime.server.lane_region import MemoryBudget, unserved
from edge_runtime.server.models import ModelTable, ServedModel

_MOST_NBYTES = 512 << 20  # and no more than an eighth of the machine's memory


class Lanes:
    """A protocol factory; its connections share one budget of memory."""

    def __init__(self, models: ModelTable) -> None:
        self._models = models
        self._known: Dict[ServedModel, LaneModel] = {}
        memory_nbytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._budget = MemoryBudget(min(_MOST_NBYTES, memory_nbytes // 8))
        self._open: Set[LaneProtocol] = set()
        models.changed.append(self._forget)

    def __call__(self) -> LaneProtocol:
        """The protocol of one connection."""
        connection = LaneProtocol(self, LaneLimits(), self._budget, lost=self._open.discard)
        self._open.add(connection)
        return connection

    def find(self, name: str, version: str = "") -> LaneModel:
        """The model of that name.

        Raises:
            UnknownNameError: there is none.
        """
        model = self._models.find(name, version, is_to_run=True)
        if model not in self._known:
            self._known[model] = LaneModel(self._models, model)
        return self._known[model]

    def _forget(self, model: ServedModel | None) -> None:
        """Closes what is open for a model that is served no more."""
        known = None if model is None else self._known.pop(model, None)
        if known is not None:
            for connection in list(self._open):
                connection.forget(known)

    def close(self) -> None:
        """Ends each connection behind its last answer."""
        for connection in list(self._open):
            connection.close()

    def abort(self) -> None:
        """Ends the connections whose clients don't read."""
        for connection in list(self._open):
            connection.abort()


class LaneModel:
    """A served model whose requests a drain waits for, and which have the model's usual deadline and priority."""

    def __init__(self, models: ModelTable, model: ServedModel) -> None:
        self._models = models
        self._model = model
        self.key = model.key
        self.engine = model.engine
        self.lent = model.lent
        self.statistics = model.statistics
        self.now_ns = model.now_ns
        self.runs_here = model.runs_here

    def submit(self, request: Request) -> None:
        """Takes a request in.

        Raises:
            ServerUnavailableError: it can't be, now.
        """
        model, emit = self._model, request.emit

        def emitted(outcome: Any) -> None:
            model.under_way.ended()
            emit(outcome)

        self._models.check_admission(model)
        if model.is_retired:
            raise unserved()
        model.complete(request)
        request.emit = emitted
        model.under_way.begun()
        try:
            model.submit(request)
        except BaseException:
            model.under_way.ended()
            raise

    def cancel(self, request: Request) -> bool:
        """Whether a request was withdrawn: it won't run, and won't be emitted."""
        is_withdrawn = self._model.cancel(request)
        if is_withdrawn:
            self._model.under_way.ended()
        return is_withdrawn

    @property
    def is_retired(self) -> bool:
        """Whether it was unloaded, or loaded anew, since it was looked up."""
        return self._model.is_retired
