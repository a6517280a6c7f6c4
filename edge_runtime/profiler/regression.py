"""Whether a benchmark is worse than its baseline, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.evaluation.latency import min_samples
from edge_runtime.evaluation.session_ratio import Change, Estimate, Statistic, change, estimate
from edge_runtime.profiler.baseline import Baseline, SessionRecord
from edge_runtime.profiler.conditions import Difference, check_conditions, differences
from edge_runtime.profiler.pace import best_pace_ns, interrupted_share, paced_change, quiet_calls, readings
from edge_runtime.profiler.quality import quality_drop
from edge_runtime.profiler.settings import RegressionSettings

Array = npt.NDArray[Any]
Rows = Callable[[SessionRecord], List[Array]]

PASSED, REGRESSED, INCONCLUSIVE, NOT_COMPARED = "passed", "regressed", "inconclusive", "not compared"
_MOST_INTERRUPTED = 0.05  # of the calls, from where on throughput is that of the neighbours
_MOST_IN_TAIL = 0.005  # from where on p99 is
_HARDEST = 2.0  # the power of the yardstick's ratio by which a neighbour may slow a call
_TAIL_SPREAD = 3.0  # sessions differ that many times as much in p99 as in p50


@dataclass(frozen=True)
class Verdict:
    """One metric: `ratio` is now over then with its interval, `limit` where it is too much; None is not known.

    `needed_n` is how many calls a session would need for a verdict, None where more calls wouldn't help.
    """

    metric: str
    verdict: str
    baseline: float | None
    now: float | None
    ratio: float | None
    low: float | None
    high: float | None
    limit: float
    why: str = ""
    needed_n: int | None = None

    def text(self) -> str:
        """The metric and what is wrong with it, for a message."""
        if self.ratio is None:
            return f"{self.metric}: {self.why}"
        ends = "" if self.low is None or self.high is None else f" ({self.low:.3f}-{self.high:.3f})"
        return f"{self.metric} is {self.ratio:.3f}{ends} of it, limit {self.limit:.3f}"


@dataclass(frozen=True)
class Regression:
    """All verdicts, what differs between the two, and the whole's verdict."""

    verdicts: Tuple[Verdict, ...]
    differences: Tuple[Difference, ...]
    sessions: int
    machine: Dict[str, Any]
    limits: RegressionSettings

    @property
    def verdict(self) -> str:
        """`regressed` if any metric is, else `inconclusive` if any is, else `passed`."""
        found = {one.verdict for one in self.verdicts}
        return next((name for name in (REGRESSED, INCONCLUSIVE) if name in found), PASSED)

    @property
    def is_failed(self) -> bool:
        """Whether the command fails by it."""
        return self.verdict == REGRESSED or (self.limits.strict and self.verdict == INCONCLUSIVE)

    def machine_text(self) -> str:
        """How fast the machine was against then, for a person."""
        pace, quiet = self.machine["yardstick_ratio"], self.machine.get("quiet_calls")
        text = "the machine's own pace isn't known"
        if pace is not None:
            text = f"the machine takes {pace['ratio']:.2f} times as long as then for the yardstick"
        return text if quiet is None else f"{text}; quiet calls: {quiet['baseline']:,} then, {quiet['now']:,} now"

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {
            "verdict": self.verdict,
            "failed": self.is_failed,
            "metrics": [asdict(one) for one in self.verdicts],
            "differences": [asdict(one) for one in self.differences],
            "baseline_sessions": self.sessions,
            "machine": self.machine,
            "limits": self.limits.model_dump(mode="json"),
        }

    def rows(self) -> List[Tuple[str, ...]]:
        """A row a metric, for a table."""
        return [
            (
                one.metric,
                one.verdict,
                _number(one.baseline),
                _number(one.now),
                "" if one.ratio is None else f"{one.ratio:.3f} ({_number(one.low)}-{_number(one.high)})",
                f"{one.limit:.3f}",
                one.why,
            )
            for one in self.verdicts
        ]


HEADER = ("metric", "verdict", "baseline", "now", "ratio (interval)", "limit", "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def compare(
    baseline: Baseline, now: Baseline, limits: RegressionSettings, allow: Sequence[str], file: str
) -> Regression:
    """Holds a benchmark, as a baseline of one session, against the one in `file`.

    Raises:
        ConfigError: it was measured under other conditions than those in `allow`.
    """
    found = [
        *check_conditions(baseline.conditions, now.conditions, allow, file),
        *differences(baseline.under_test, now.under_test, "under test"),
        *differences(baseline.noted, now.noted, "noted"),
    ]
    if baseline.plan_sha256 != now.plan_sha256:
        found.append(Difference("plan", _digests(baseline), _digests(now), "under test"))
    sessions = _Sessions(baseline.sessions, now.sessions[-1], limits, baseline.is_paired and now.is_paired)
    verdicts = (sessions.p50(), sessions.p99(), sessions.throughput(), _quality(baseline, now, limits))
    return Regression(verdicts, tuple(found), len(baseline.sessions), sessions.machine(), limits)


def _digests(baseline: Baseline) -> str:
    return ", ".join(digest[:12] for digest in baseline.plan_sha256)


class _Sessions:
    """The sessions of both sides; each method judges one metric of them."""

    def __init__(
        self, then: Sequence[SessionRecord], now: SessionRecord, limits: RegressionSettings, is_paired: bool
    ) -> None:
        self._then = then
        self._now = now
        self._limits = limits
        self._is_paired = is_paired
        self._n = sum(repeat.n for repeat in now.repeats)
        self._best_ns = best_pace_ns((*then, now))
        self._machine = self._changed([readings(one) for one in then], readings(now), np.mean, 0.0)

    def machine(self) -> Dict[str, Any]:
        """How fast the machine was by the yardstick, against then; and how many calls ran while it was quiet."""
        row: Dict[str, Any] = {"yardstick_best_us": self._best_ns / 1e3, "yardstick_ratio": None}
        if self._machine is not None:
            ratio, low, high = self._machine.interval(self._limits.confidence)
            row["yardstick_ratio"] = {"ratio": ratio, "low": low, "high": high}
        if self._is_paired:
            then, now = sum(map(self._quiet_count, self._then)), self._quiet_count(self._now)
            row["quiet_calls"] = {"baseline": then, "now": now}
        return row

    def p50(self) -> Verdict:
        """The median, of one caller's calls at equal pace of the machine; of several callers as the others are."""
        limit = 1 + self._limits.max_latency_pct / 100
        if not self._is_paired:
            return self._judged_raw("p50_ms", np.median, limit, self._limits.session_spread_pct)
        paced = paced_change(self._then, self._now, self._limits.session_spread_pct / 100)
        if paced.values_ms is None:
            return Verdict("p50_ms", INCONCLUSIVE, None, None, None, None, None, limit, paced.how)
        verdict = self._judged("p50_ms", paced.change, None, limit, paced.values_ms)
        return replace(verdict, why="; ".join(part for part in (paced.how, verdict.why) if part))

    def p99(self) -> Verdict:
        """The 99th percentile, if there are enough calls for one."""
        tail = self._limits.max_tail_pct
        limit = 1 + (self._limits.max_latency_pct if tail is None else tail) / 100
        fewest, counts = (
            min_samples(0.99),
            [sum(repeat.n for repeat in one.repeats) for one in (*self._then, self._now)],
        )
        if min(counts) < fewest:
            why = f"n too small ({min(counts):,} of {fewest:,})"
            return Verdict("p99_ms", NOT_COMPARED, None, None, None, None, None, limit, why, fewest)
        return self._judged_raw("p99_ms", _p99, limit, self._limits.session_spread_pct * _TAIL_SPREAD)

    def throughput(self) -> Verdict:
        """Calls a second, judged by the time a call takes."""
        limit = 1 / (1 - self._limits.max_throughput_drop_pct / 100)
        cost = self._judged_raw("calls_per_s", np.mean, limit, self._limits.session_spread_pct, self._costs)
        return Verdict(
            cost.metric,
            cost.verdict,
            _inverse(cost.baseline, 1e3),
            _inverse(cost.now, 1e3),
            _inverse(cost.ratio),
            _inverse(cost.high),
            _inverse(cost.low),
            1 / limit,
            cost.why,
            cost.needed_n,
        )

    def _costs(self, session: SessionRecord) -> List[Array]:
        if self._is_paired:
            return _durations(session)
        return [np.array([repeat.elapsed_ns / repeat.n]) for repeat in session.repeats]

    def _judged_raw(
        self, metric: str, statistic: Statistic, limit: float, spread_pct: float, rows: Rows | None = None
    ) -> Verdict:
        """Of calls left in peace. A verdict must hold without the machine's own change too."""
        rows = rows or _durations
        then, now = [rows(one) for one in self._then], rows(self._now)
        found = self._changed(then, now, statistic, spread_pct / 100)
        alone = None if found is None or self._machine is None else found.over(self._machine, _HARDEST)
        before = float(np.mean([statistic(np.concatenate(one)) for one in then]))
        values = (before / 1e6, float(statistic(np.concatenate(now))) / 1e6)
        taken = max(map(interrupted_share, (*self._then, self._now))) if self._is_paired else 0.0
        if taken > (_MOST_IN_TAIL if statistic is _p99 else _MOST_INTERRUPTED):
            why = f"{taken:.1%} of the calls of a session had to wait for a core that others had"
            return Verdict(metric, INCONCLUSIVE, *values, None, None, None, limit, why)
        return self._judged(metric, found, alone, limit, values)

    def _judged(
        self, metric: str, found: Change | None, alone: Change | None, limit: float, values: Tuple[float, float]
    ) -> Verdict:
        if found is None:
            return Verdict(metric, INCONCLUSIVE, *values, None, None, None, limit, "too few repeats with such calls")
        confidence = self._limits.confidence
        ratio, low, high = found.interval(confidence)
        verdict, why, needed = _verdict(low, high, limit), "", None
        if alone is not None and verdict != INCONCLUSIVE:
            _, low_alone, high_alone = alone.interval(confidence)
            if _verdict(low_alone, high_alone, limit) != verdict:
                assert self._machine is not None
                pace = self._machine.interval(confidence)[0]
                why = f"the machine itself takes {pace:.2f} times as long for the yardstick"
                return Verdict(metric, INCONCLUSIVE, *values, ratio, low, high, limit, why)
        if verdict == INCONCLUSIVE:
            longer = found.longer(limit, confidence)
            needed = None if longer is None else math.ceil(max(1.0, longer) * self._n)
            why = "the interval has the limit in it; "
            why += (
                f"about {_rounded(needed):,} calls are needed" if needed else "more sessions in the baseline may help"
            )
        return Verdict(metric, verdict, *values, ratio, low, high, limit, why, needed)

    def _quiet_count(self, session: SessionRecord) -> int:
        return sum(map(len, quiet_calls(session, self._best_ns)))

    @staticmethod
    def _changed(
        then: Sequence[Sequence[Array]], now: Sequence[Array], statistic: Statistic, spread: float
    ) -> Change | None:
        before: List[Estimate] = [one for one in (estimate(rows, statistic) for rows in then) if one is not None]
        after = estimate(now, statistic)
        return None if not before or after is None else change(before, after, spread)


def _durations(session: SessionRecord) -> List[Array]:
    return [np.array(repeat.durations_ns, float) for repeat in session.repeats]


def _inverse(value: float | None, scale: float = 1.0) -> float | None:
    return None if value is None else scale / value


def _p99(values: Array) -> float:
    rank = math.ceil(0.99 * values.size) - 1
    return float(np.partition(values, rank)[rank])


def _verdict(low: float, high: float, limit: float) -> str:
    if low > limit:
        return REGRESSED
    return PASSED if high <= limit else INCONCLUSIVE


def _rounded(count: int | None) -> int:
    """To two digits: it is an estimate."""
    assert count is not None
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step


def _quality(baseline: Baseline, now: Baseline, limits: RegressionSettings) -> Verdict:
    limit = 1 - limits.max_quality_drop_pct / 100
    if baseline.quality is None or now.quality is None:
        why = baseline.quality_unknown if baseline.quality is None else now.quality_unknown
        return Verdict("quality", NOT_COMPARED, None, None, None, None, None, limit, why)
    then, here = baseline.quality, now.quality
    name, values = f"quality ({then.metric})", (then.value, here.value)
    found, why = quality_drop(then, here)
    if found is None:
        return Verdict(name, NOT_COMPARED, *values, None, None, None, limit, why)
    drop, surely = found
    verdict = PASSED if drop * 100 <= limits.max_quality_drop_pct else INCONCLUSIVE
    if surely * 100 > limits.max_quality_drop_pct:
        verdict = REGRESSED
    if verdict == INCONCLUSIVE:
        why = f"{then.n:,} held-out rows are too few to be sure"
    return Verdict(name, verdict, *values, 1 - drop, None, 1 - surely, limit, why)
