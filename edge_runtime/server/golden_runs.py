"""Golden runs of served models: asked like any other inference, and held against what the plan answered before."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple
from typing import Counter as Counts

import numpy as np

from edge_runtime.errors import EdgeRuntimeError, RequestError, ServerUnavailableError
from edge_runtime.plan.golden import Golden
from edge_runtime.scheduling.request import Outputs, Request
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.prometheus import Families, Family, labels_of
from edge_runtime.tensors import Feeds

logger = logging.getLogger(__name__)

GOLDEN = "golden run"
"""The kind of hindrance that is kept here."""

_LEAST_PATIENCE_NS = 1_000_000_000
_COMPARED_HERE_NBYTES = 64 << 10  # in less time than a thread takes to begin
_MARGIN = 3


class Checked:
    """A model, and what is known of its golden runs; it was right when it was loaded.

    Attributes:
        ended_ns: when its last golden run ended that ran, by the requests' clock.
        waits_since_ns: since when one is wanted that hasn't ended; None: none is.
        is_under_way: whether one waits or runs.
        bad: how many in a row were wrong, or failed.
        is_late: whether it is told of as late.
    """

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.ended_ns = model.now_ns()
        self.waits_since_ns: int | None = None
        self.is_under_way = False
        self.bad = 0
        self.is_late = False

    @property
    def has_moved_ns(self) -> int:
        """When a run of it ended last, whoever asked; those that another model makes in its place don't count."""
        if self.model.place is not self.model.home:
            return self.ended_ns
        return max(self.ended_ns, self.model.statistics.last_run_ns)

    @property
    def is_away(self) -> bool:
        """Whether the process of its engine is being replaced, so that nothing can run."""
        keeper = self.model.engine.keeper
        return keeper is not None and bool(keeper.hindrance)

    @property
    def can_be_asked(self) -> bool:
        """Whether there is an input that it is known to run on."""
        return self.model.golden is not None


class GoldenRuns:
    """Makes golden runs of the models of a table, and hinders those whose answers are wrong or late; loop's thread.

    They are taken in like a client's requests without a deadline, so that they make no promise late, and are no part of
    any statistics. `ended` is called behind each that ran.
    """

    def __init__(self, models: ModelTable, ended: Callable[[], object]) -> None:
        self._models = models
        self._ended = ended
        self._checked: Dict[str, Checked] = {}
        self._comparing: Set[asyncio.Task[None]] = set()
        self._outcomes: Counts[Tuple[str, str]] = Counter()
        models.metrics.append(self._families)
        models.changed.append(lambda _: self.follow())

    def __iter__(self) -> Iterator[Checked]:
        return iter(self._checked.values())

    def follow(self) -> None:
        """Takes note of the models that are served now."""
        keys = {model.key for model in self._models}
        for key in [each for each in self._checked if each not in keys]:
            name = self._checked.pop(key).model.name
            self._models.hindrances.pop((name, GOLDEN), None)
        for model in self._models:
            if model.key not in self._checked:
                self._checked[model.key] = Checked(model)
                if model.golden is None:
                    logger.info("model %s: has no golden run: only its clients' runs tell that it works", model.name)
        for checked in self:
            if not checked.can_be_asked:
                checked.waits_since_ns = self._client_waits_since_ns(checked)

    @staticmethod
    def _client_waits_since_ns(checked: Checked) -> int | None:
        if not checked.model.under_way.count:
            return None
        return checked.waits_since_ns or checked.model.now_ns()

    def begin(self, checked: Checked) -> None:
        """Asks a model for a golden run, unless one is under way, or its queue is full."""
        model, golden = checked.model, checked.model.golden
        if golden is None or checked.is_under_way or checked.is_away:
            return
        now_ns = model.now_ns()
        if checked.waits_since_ns is None:
            checked.waits_since_ns = now_ns
        if model.pending >= model.queue_size:
            return  # or a client's request would have to give way
        request = Request(
            model.key, golden.inputs, _copied, partial(self._emitted, checked), now_ns, model.rows_of(golden.inputs)
        )
        request.is_light, request.is_counted = False, False
        checked.is_under_way = True
        try:
            model.submit(request)
        except ServerUnavailableError:
            checked.is_under_way = False

    def _emitted(self, checked: Checked, outcome: Any) -> None:
        if isinstance(outcome, EdgeRuntimeError):
            checked.is_under_way = False
            if not isinstance(outcome, (RequestError, ServerUnavailableError)):
                self._judged(checked, "failed", str(outcome))
            return
        golden = checked.model.golden
        assert golden is not None
        task = asyncio.ensure_future(self._compared(checked, golden, outcome))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def _compared(self, checked: Checked, golden: Golden, outputs: Feeds) -> None:
        try:
            if sum(value.nbytes for value in outputs.values()) <= _COMPARED_HERE_NBYTES:
                difference = golden.difference(outputs)
            else:
                difference = await asyncio.get_running_loop().run_in_executor(None, golden.difference, outputs)
        finally:
            checked.is_under_way = False
        self._judged(checked, "wrong" if difference else "right", difference)

    def _judged(self, checked: Checked, outcome: str, text: str) -> None:
        model = checked.model
        checked.ended_ns, checked.waits_since_ns, checked.is_late = model.now_ns(), None, False
        if model.is_retired:
            return
        self._outcomes[model.name, outcome] += 1
        if outcome == "right":
            if checked.bad:
                logger.warning("model %s: its golden run is right again", model.name)
            checked.bad = 0
            self._models.hindrances.pop((model.name, GOLDEN), None)
        else:
            checked.bad += 1
            what = f"its last golden run {'was wrong' if outcome == 'wrong' else 'failed'}: {text}"
            logger.error("model %s: %s (%d in a row)", model.name, what, checked.bad)
            self._models.hindrances[model.name, GOLDEN] = what
        self._ended()

    def look_for_late(self) -> None:
        """Hinders the models of which nothing has ended, a golden run or another, though there was time for it."""
        for checked in self._checked.values():
            waited_ns = self.waited_ns(checked)
            is_late = waited_ns > self.patience_ns(checked.model)
            if is_late == checked.is_late:
                continue
            checked.is_late = is_late
            name = checked.model.name
            if is_late:
                logger.error(
                    "model %s: its golden run hasn't ended for %.1f s, nor has any other", name, waited_ns / 1e9
                )
                self._models.hindrances[name, GOLDEN] = f"its golden run hasn't ended in time ({waited_ns / 1e9:.1f} s)"
            elif not checked.bad:
                self._models.hindrances.pop((name, GOLDEN), None)

    def waited_ns(self, checked: Checked) -> int:
        """How long a golden run has been waited for while no other run of the model ended."""
        if checked.waits_since_ns is None or checked.is_away:
            return 0
        return checked.model.now_ns() - max(checked.waits_since_ns, checked.has_moved_ns)

    def patience_ns(self, model: ServedModel) -> int:
        """How long it may be waited for: three times the longest run of its accelerator and what waits there."""
        beside = [each.model for each in self if each.model.engine.info.device == model.engine.info.device]
        longest_ns = max((each.longest_run_ns for each in beside), default=0)
        waiting_ns = sum(each.pending * each.longest_run_ns for each in beside)
        return max(_LEAST_PATIENCE_NS, _MARGIN * (longest_ns + waiting_ns))

    def _families(self) -> Families:
        known: List[Tuple[str, Checked]] = [
            (labels_of(model=each.model.name, version=each.model.version), each) for each in self if each.can_be_asked
        ]
        ages = [(labels, round((each.model.now_ns() - each.ended_ns) / 1e9, 3)) for labels, each in known]
        yield Family("edge_runtime_golden_run_age_seconds", "gauge", "Time since the last golden run ended", ages)
        rights = [(labels, int(not each.bad and not each.is_late)) for labels, each in known]
        yield Family("edge_runtime_golden_run_right", "gauge", "Whether the last one was in time and right", rights)
        runs = [(labels_of(model=name, outcome=outcome), count) for (name, outcome), count in self._outcomes.items()]
        yield Family("edge_runtime_golden_runs_total", "counter", "Golden runs while serving, by outcome", runs)


def _copied(outputs: Outputs) -> Feeds:
    return {name: np.array(value) for name, value in outputs.items()}
