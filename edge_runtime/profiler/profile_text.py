"""A profile in words: the rows of its tables, and what to look at next."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from edge_runtime.profiler.environment import NOT_MEASURED
from edge_runtime.profiler.outliers import (
    CLOCK_RAMP,
    GC,
    OF_THE_BOARD,
    OTHER_LOAD,
    OVER_CURRENT,
    QUEUED,
    THROTTLE,
    UNKNOWN,
)
from edge_runtime.profiler.profile_report import ProfileReport
from edge_runtime.profiler.replayed import energy_words, marked

Rows = List[Tuple[str, ...]]

STAGE_HEADER = ("stage", "mean ms", "p50 ms", "p90 ms", "p99 ms", "share")
OUTLIER_HEADER = ("cause", "n", "slowest ms", "the slowest one")
LAYER_HEADER = ("layer", "kind", "median ms", "share")

_MOST_LAYERS = 5
_MOST_ADVICE = 4
_ADVICE = {
    THROTTLE: "the board throttled: cool it, or take a power mode that it can hold",
    OVER_CURRENT: "over-current events: a stronger supply, or a lower power mode",
    CLOCK_RAMP: "clocks ramp up late: `sudo jetson_clocks`, or a governor that holds them",
    GC: "garbage collection stops calls: make fewer objects beside them",
    QUEUED: "calls wait for others: more callers, a lower rate, or batches",
    OTHER_LOAD: "other processes take the cores: stop them, or give this one its own (taskset, a cpuset)",
    UNKNOWN: "most outliers have no known cause: --trace T.json shows each of them beside what the board did",
}


def figure_rows(report: ProfileReport) -> Rows:
    """Label and text of what was measured, under which load, and how fast it is."""
    latency, load, settings = report.latency, report.timed.load, report.settings
    target = " ".join(str(report.target[key]) for key in ("model", "precision", "backend", "device"))
    tensors = ", ".join(
        f"{name} {row['dtype']} {'x'.join(map(str, row['shape'])) or 'scalar'}" for name, row in report.inputs.items()
    )
    jitter = "n too small" if report.jitter is None else f"{report.jitter:.2f}"
    samples = [] if report.samples_per_s is None else [("", f"{report.samples_per_s:,.1f} samples/s")]
    asked = f"closed loop, {settings.concurrency} caller{'' if settings.concurrency == 1 else 's'}"
    if settings.rate_per_s is not None:
        asked = f"open loop, {settings.rate_per_s:g} calls/s (Poisson), {settings.concurrency} at once"
    return [
        ("plan", f"{target}, version {report.target['version']}"),
        ("input", f"{report.input_source}: {tensors}"),
        ("load", f"{asked}: {len(load.calls):,} of {load.offered:,} calls in {load.elapsed_ns / 1e9:.1f} s"),
        ("cold start", f"load {report.cold_start.load_ms:.1f} ms, first {report.cold_start.first_inference_ms:.3f} ms"),
        ("warm-up", report.settling.text),
        *latency.rows()[1:],
        *samples,
        ("jitter p99/p50", jitter),
    ]


def stage_rows(report: ProfileReport) -> Rows:
    """A row for each stage; of one that the backend doesn't tell apart, why."""
    return [_stage_row(stage) for stage in report.stages]


def outlier_rows(report: ProfileReport) -> Rows:
    """A row for each cause that was found, the most frequent first."""
    rows: List[Tuple[int, Tuple[str, ...]]] = []
    for cause, count in report.outliers.by_cause().items():
        if count:
            slowest = max((o for o in report.outliers.found if o.cause == cause), key=lambda o: o.latency_ns)
            rows.append((count, (cause, f"{count:,}", f"{slowest.latency_ns / 1e6:.3f}", slowest.detail)))
    return [row for _, row in sorted(rows, key=lambda row: -row[0])]


def board_rows(report: ProfileReport) -> Rows:
    """Label and text of what the board did, or why that isn't known."""
    environment, status, untold = report.environment, report.board.status, report.untold
    origin = report.board.origin
    rows: Rows = [("board", environment.device.board), ("power mode", environment.power_mode or "unknown")]
    if status is not None:
        jitter = "" if status.jitter_ms_p99 is None else f", jitter p99 {status.jitter_ms_p99:.1f} ms"
        rows.append(("telemetry", f"{status.origin.label}, every {status.interval_s:.3g} s{jitter}"))
    if "power" not in untold:
        rows.append(("power", marked(_power(report), origin)))
        rows.extend(_energy_row(label, text, origin) for label, text in report.energy.rows() if label != "power")
    if "temperature" not in untold:
        rows.append(("temperature", marked(_temperature(report), origin)))
    if "throttling" not in untold:
        spans = [f"{span.cause} ({span.where}): {span.detail}" for span in report.throttled]
        rows.append(("throttling", marked("; ".join(spans[:3]) or "none seen", origin)))
    rows.extend(("alarm", alarm) for alarm in report.board.alarms[:3])
    reasons: Dict[str, List[str]] = {}
    for name, why in untold.items():
        reasons.setdefault(why, []).append(name)
    return [*rows, *((", ".join(names), f"{NOT_MEASURED}: {why}") for why, names in reasons.items())]


def _energy_row(label: str, text: str, origin: Mapping[str, Any]) -> Tuple[str, str]:
    words = energy_words(origin)
    if words and label.startswith("energy per inference"):
        return label, f"{text}; {words}"
    return label, marked(text, origin) if label == "idle power" else text


def layer_rows(report: ProfileReport) -> Rows:
    """The layers that take most."""
    layers = [] if report.layers is None else report.layers.record()["layers"]
    worst = sorted(layers, key=lambda layer: -layer["share"])[:_MOST_LAYERS]
    return [(row["name"], row["kind"] or "", f"{row['median_ms']:.3f}", f"{row['share']:.1%}") for row in worst]


def advice(report: ProfileReport) -> List[str]:
    """What to look at next, the most important first."""
    return list(_advice(report))[:_MOST_ADVICE]


def _advice(report: ProfileReport) -> Iterator[str]:
    load, settings, stages = report.timed.load, report.settings, report.stages
    if report.is_overloaded:
        stopped = f"; stopped after {len(load.calls):,} of {load.offered:,} calls" if load.is_overloaded else ""
        yield (
            f"offered {settings.rate_per_s:g} calls/s, more than the capacity of about {report.capacity_per_s:,.0f}: "
            f"the queue grows without end, and latency is only that of this run{stopped}"
        )
    found = report.outliers.by_cause()
    causes: Sequence[str] = sorted((cause for cause in found if found[cause]), key=lambda cause: -found[cause])
    for cause in causes[:1] if report.is_overloaded else causes[:2]:
        if not (report.is_overloaded and cause == QUEUED):
            origin = report.board.origin if cause in OF_THE_BOARD else {}
            yield marked(f"{found[cause]:,} of {len(report.outliers.found):,} outliers: {_ADVICE[cause]}", origin)
    yield from (f"{name}: n too small ({least:,} needed)" for name, least in report.latency.too_small()[:1])
    outside = sum(stage["share"] or 0 for stage in stages if stage["name"] in ("parse", "copy in", "copy out", "frame"))
    if outside > 0.3:
        yield f"{outside:.0%} of the time is outside the model (parse, copies, frame): larger batches, or shared memory"
    if report.settling.calls is None:
        yield "latency wasn't stable in the first half of the warm-up: raise --warm-up"
    if "power" not in report.untold and report.energy.refused is not None:
        yield f"energy: {report.energy.refused}"
    if settings.rate_per_s is not None:
        late_ms = float(load.calls.late_ns.mean()) / 1e6
        if late_ms > 0.1 * report.latency.p50_ms:
            yield f"the load generator itself began calls {late_ms:.3f} ms late on average, which is in the latency"


def _stage_row(stage: Dict[str, Any]) -> Tuple[str, ...]:
    if not stage["n"]:
        return (stage["name"], "", "", "", "", stage["why"])
    values = (stage[key] for key in ("mean_ms", "p50_ms", "p90_ms", "p99_ms"))
    figures = ("" if value is None else f"{value:.3f}" for value in values)
    return (stage["name"], *figures, f"{stage['share']:.1%}")


def _power(report: ProfileReport) -> str:
    totals = [total for total in (stamped.sample.total_power for stamped in report.timed.samples) if total is not None]
    known_mw = [total.cur_mw for total in totals]
    mean_mw = sum(known_mw) / len(known_mw)
    return (
        f"mean {mean_mw:,.0f} mW, {min(known_mw):,.0f} to {max(known_mw):,.0f}, of {len(known_mw):,} samples "
        f"({totals[-1].how}: {', '.join(totals[-1].rails)})"
    )


def _temperature(report: ProfileReport) -> str:
    hottest = [value for value in (stamped.sample.hottest_c for stamped in report.timed.samples) if value is not None]
    text, state = f"{hottest[0]:.1f} to {hottest[-1]:.1f} °C, at most {max(hottest):.1f}", report.throttle_state
    if state is None or state.headroom_c is None:
        return text
    if state.headroom_c <= 0:
        return f"{text}; {state.headroom_zone} reached its trip point"
    return f"{text}; at the least {state.headroom_c:.1f} °C below the trip point of {state.headroom_zone}"
