"""Ladders of served models: each look at the board and at the requests may lead a model down or back by one rung."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Callable, Dict, Sequence, Set, Tuple

from edge_runtime.errors import LadderError
from edge_runtime.plan.ladder import LadderTable
from edge_runtime.scheduling.ladder import Ladder, Pressure, Step
from edge_runtime.server.accelerators import Accelerators
from edge_runtime.server.board import BoardReading
from edge_runtime.server.ladder_view import LadderView
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.places import Place, RungStatistics
from edge_runtime.server.recent_demand import RecentDemand
from edge_runtime.server.rung_check import check_rung

logger = logging.getLogger(__name__)

_EVERY_S = 0.5


class LadderedModel:
    """A model whose requests run in one of several places, and how it came to the one that they run in now.

    `places` has the model's own first. The engines of `below` are kept until their places are given up.
    """

    def __init__(
        self, model: ServedModel, table: LadderTable, below: Sequence[ServedModel], places: Sequence[Place]
    ) -> None:
        self.model = model
        self.below = tuple(below)
        self.places = tuple(places)
        self.ladder = Ladder(table, len(places))
        self._table = table
        self.names = (f"{model.name}/{model.version}", *(place.label for place in places[1:]))
        self._demand = RecentDemand(table.window_s)
        self._switches: Dict[Tuple[str, str, str], int] = {}
        self._why = ""
        self._since_ns: int | None = None

    def goes_on_from(self, before: LadderedModel) -> None:
        """Stands where the same ladder stood that another version of the model, or of a rung, had."""
        if before._table == self._table and len(before.places) == len(self.places):
            self.ladder, self._demand, self._switches = before.ladder, before._demand, before._switches
            self._why, self._since_ns = before._why, before._since_ns
            self._demand.clear()

    @property
    def place(self) -> Place:
        """Where new requests run: on its rung, or while that one's process is away, on the next above that is there."""
        upwards = self.places[self.ladder.rung :: -1]
        return next((each for each in upwards if not _is_away(each)), upwards[0])

    def look(self, board: BoardReading, now_ns: int) -> Step | None:
        """The step that the figures of now lead to."""
        if self._since_ns is None:
            self._since_ns = now_ns
        wait_ms, misses = self._demand.take(self.model.statistics.totals, self.model.pending, now_ns)
        step = self.ladder.update(_pressure(board, wait_ms, misses), now_ns)
        if step is not None:
            key = self.names[step.source], self.names[step.target], step.reason
            self._switches[key] = self._switches.get(key, 0) + 1
            self._why, self._since_ns = step.text, now_ns
            self._demand.clear()  # the new rung is judged by what comes from here on
        return step

    def view(self, now_ns: int) -> LadderView:
        """What is told of it."""
        since_s = 0.0 if self._since_ns is None else (now_ns - self._since_ns) / 1e9
        totals = tuple(place.work.statistics.totals for place in self.places)
        wait_s = self.ladder.return_dwell_s
        return LadderView(self.names, self.ladder.rung, self._why, since_s, wait_s, totals, dict(self._switches))


class Ladders:
    """The ladders of all models in a table, as it changes; used on the loop's thread.

    A model goes without its ladder while one of its rungs isn't loaded, and begins anew at its top after that. Where
    another version of a rung, or of the model itself, takes over, it goes on from the rung where it was.

    Args:
        read: what is known of the board; must not wait.
        clock: ns, monotonic.
        is_staying_up: whether a model goes without its ladder at the start too, where a rung can't stand in for it.

    Raises:
        LadderError: a rung can't stand in for its model, at the start.
    """

    def __init__(
        self,
        models: ModelTable,
        accelerators: Accelerators,
        read: Callable[[], BoardReading],
        clock: Callable[[], int] = time.perf_counter_ns,
        is_staying_up: bool = False,
    ) -> None:
        self._models = models
        self._accelerators = accelerators
        self._read = read
        self._clock = clock
        self._laddered: Dict[ServedModel, LadderedModel] = {}
        self._leaving: Set[asyncio.Future[None]] = set()
        self._is_moving = False
        self._said: Dict[str, str] = {}
        for model in models:
            if is_staying_up:
                self._attach_if_can_be(model)
            else:
                self._attach(model)
        models.changed.append(self._changed)

    def look(self) -> None:
        """Takes the figures of now in, and switches models where they lead to that."""
        if not self._laddered:
            return
        board, now_ns = self._read(), self._clock()
        for laddered in list(self._laddered.values()):
            step = laddered.look(board, now_ns)
            if step is not None:
                source, target = laddered.names[step.source], laddered.names[step.target]
                word = "steps down" if step.target > step.source else "returns"
                replayed = "" if board.status is None else board.status.origin.replay_of
                marked = f" (replayed board: {replayed})" if replayed else ""
                logger.warning(
                    "model %s %s from %s to %s: %s%s", laddered.model.name, word, source, target, step.text, marked
                )
        self.settle()

    def settle(self) -> None:
        """Lets requests run where they should: called when the process of an engine goes away, or comes back."""
        for laddered in list(self._laddered.values()):
            model, place = laddered.model, laddered.place
            if model.place is place:
                continue
            self._move(model, place)
            wanted, found = laddered.names[laddered.ladder.rung], laddered.names[laddered.places.index(place)]
            if found != wanted:
                logger.warning("model %s runs on %s while the process of %s is away", model.name, found, wanted)

    async def watch(self, pace: Callable[[float], float] = float) -> None:
        """Looks ever again; `pace` makes of the usual seconds between two looks those that hold now."""
        while True:
            try:
                self.look()
            except Exception:  # the top frame of the watch
                logger.exception("looking after the ladders failed")
            await asyncio.sleep(pace(_EVERY_S))

    def _changed(self, _: ServedModel | None) -> None:
        if self._is_moving:
            return
        served = set(self._models)
        before: Dict[str, LadderedModel] = {}
        for laddered in list(self._laddered.values()):
            if laddered.model not in served or not served.issuperset(laddered.below):
                self._detach(laddered)
                before[laddered.model.name] = laddered
        for model in served.difference(self._laddered):
            self._attach_if_can_be(model, before.get(model.name))

    def _attach_if_can_be(self, model: ServedModel, before: LadderedModel | None = None) -> None:
        try:
            self._attach(model, before)
        except LadderError as error:
            self._goes_without(model, str(error))

    def _attach(self, model: ServedModel, before: LadderedModel | None = None) -> None:
        table = model.serving.ladder
        names = table.below(model.name)
        if not names:
            return
        missing = [name for name in names if not self._models.has(name)]
        if missing:
            self._goes_without(model, f"not loaded: {', '.join(missing)}")
            for name in missing:
                self._models.absent.demand(name)  # nobody asks for a rung by its own name
            return
        below = [self._models.find(name) for name in names]
        for each in below:
            check_rung(model.name, model.engine.signature, each.name, each.engine.signature)
        own = model.home.work
        own.statistics = RungStatistics(model.statistics)
        rungs = [self._accelerators.rung(model, each, RungStatistics(model.statistics)) for each in below]
        for each, place in zip(below, rungs):
            each.lent.begun()
            model.add_place(place)
        self._said.pop(model.name, None)
        laddered = self._laddered[model] = LadderedModel(model, table, below, [model.home, *rungs])
        model.ladder = lambda: laddered.view(self._clock())
        if before is not None:
            laddered.goes_on_from(before)
            self._move(model, laddered.place)

    def _goes_without(self, model: ServedModel, why: str) -> None:
        if self._said.get(model.name) != why:  # or each change of the table would say it again
            self._said[model.name] = why
            logger.warning("model %s is served without its ladder until that changes: %s", model.name, why)

    def _detach(self, laddered: LadderedModel) -> None:
        del self._laddered[laddered.model]
        laddered.model.ladder = None
        self._move(laddered.model, laddered.model.home)
        leaving = asyncio.ensure_future(_left(laddered))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _move(self, model: ServedModel, place: Place) -> None:
        self._is_moving = True
        try:
            self._models.move(model, place)
        finally:
            self._is_moving = False


def _is_away(place: Place) -> bool:
    keeper = place.work.engine.keeper
    return keeper is not None and bool(keeper.hindrance)


async def _left(laddered: LadderedModel) -> None:
    """Gives up the places below, each once nothing of the model runs there any more."""
    for each, place in zip(laddered.below, laddered.places[1:]):
        await laddered.model.remove_place(place)
        each.lent.ended()


def _pressure(board: BoardReading, wait_ms: float | None, misses: float | None) -> Pressure:
    """What a ladder goes by; of the board only what may be told as being so now."""
    seen = board.fresh
    if seen is None:
        return Pressure(queue_delay_ms=wait_ms, miss_share=misses)
    throttle, total = seen.throttle, seen.stamped.sample.total_power
    is_throttled = bool(throttle.active) if throttle.active or throttle.is_known else None
    power_w = None if total is None else total.cur_mw / 1000
    return Pressure(is_throttled, throttle.headroom_c, power_w, wait_ms, misses)
