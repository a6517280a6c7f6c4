"""The top of a report of a profile: what was measured, what nobody may overlook, and the figures that matter."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

import numpy as np

from edge_runtime.profiler.outliers import OF_THE_BOARD
from edge_runtime.profiler.pages.document import banner, text
from edge_runtime.profiler.pages.energy_plot import why_no_energy
from edge_runtime.profiler.pages.reading import amount, has_values, items, number, plain, section, series, with_error
from edge_runtime.profiler.pages.timeline_plot import zone_lines
from edge_runtime.profiler.replayed import energy_words, marked

Tile = Tuple[str, str, str]


def title(record: Mapping[str, Any]) -> str:
    """The model's name, with its version where it has one."""
    target = section(record, "target")
    version = target.get("version")
    return f"{target.get('model') or 'unnamed model'}{'' if version in (None, '') else f' version {version}'}"


def header(record: Mapping[str, Any]) -> str:
    """Name, precision, backend, machine and moment."""
    target, environment = section(record, "target"), section(record, "environment")
    load = section(record, "load")
    what = [target.get("precision"), target.get("backend") or target.get("platform"), target.get("device")]
    board = environment.get("board")
    where = [
        None if board == "none" else board,
        section(record, "board").get("power_mode") or environment.get("power_mode"),
        environment.get("kernel"),
        record.get("created"),
    ]
    lines = (_joined(what), _joined(where), _joined([_load_text(load)]))
    return (
        f"<header>\n<h1>{text(title(record), 120)}</h1>\n"
        + "\n".join(f"<p>{line}</p>" for line in lines if line)
        + "\n</header>"
    )


def _load_text(load: Mapping[str, Any]) -> str:
    completed, elapsed = number(load.get("completed")), number(load.get("elapsed_s"))
    if load.get("kind") == "poisson":
        kind = f"open loop, Poisson arrivals at {amount(load.get('rate_per_s'), 'calls/s', 'an unknown rate')}"
    elif load.get("kind"):
        callers = number(load.get("concurrency"))
        kind = "closed loop" + ("" if callers is None else f", {callers:,.0f} caller{'' if callers == 1 else 's'}")
    else:
        return ""
    done = "" if completed is None else f", {completed:,.0f} calls"
    return kind + done + ("" if elapsed is None else f" in {amount(elapsed, 's')}")


def _joined(parts: List[Any]) -> str:
    return " \u00b7 ".join(text(part, 120) for part in parts if part)


def banners(record: Mapping[str, Any]) -> str:
    """Whether the board's figures are replayed or made up, what of them is missing, and what went wrong."""
    origin, telemetry = section(record, "board", "origin"), section(record, "telemetry")
    what = "Power, energy, temperatures, clocks, loads and throttling on this page are"
    loud = [f"{what} {words}. Latency was measured." for words in replayed(origin)]
    quiet = []
    if not has_values(series(telemetry.get("total_mw"))):
        quiet.append(_not_measured(record, "power", "Power and energy were not measured"))
    if not zone_lines(telemetry):
        quiet.append(_not_measured(record, "temperature", "Temperature was not measured"))
    alarms = [f"The source of telemetry: {plain(alarm)}" for alarm in items(section(record, "board"), "alarms")[:5]]
    return banner("origin", loud) + banner("missing-part", [*quiet, *alarms])


def replayed(origin: Mapping[str, Any]) -> List[str]:
    """What `origin` says of numbers that are no measurement of this machine; nothing where they are one."""
    label = plain(origin.get("label") or origin.get("replay_of") or "")
    if origin.get("replay_of"):
        return [f"not measured: from a {label}"]
    return [f"made up: {plain(origin['made_up'])}"] if origin.get("made_up") else []


def _not_measured(record: Mapping[str, Any], name: str, sentence: str) -> str:
    entries = [plain(each) for each in items(record, "not_measured")]
    why = next((each.partition(":")[2].strip() for each in entries if each.partition(":")[0].strip() == name), "")
    return f"{sentence}{': ' + why if why else ''}."


def tiles(record: Mapping[str, Any]) -> str:
    """The figures that matter, each with what it rests on."""
    found = [
        *_latency(section(record, "latency")),
        _throughput(record),
        _energy(record),
        _heat(section(record, "telemetry"), section(record, "board", "origin")),
        _outliers(section(record, "outliers"), section(record, "board", "origin")),
        _cold_start(section(record, "cold_start")),
    ]
    return "<dl>\n" + "\n".join(_tile(*each) for each in found) + "\n</dl>"


def _tile(name: str, value: str, rest: str) -> str:
    kind = "" if any(each.isdigit() for each in value) else " class=absent"
    below = f"<dd>{text(rest)}</dd>" if rest else ""
    return f"<div><dt>{text(name)}</dt><dd{kind}>{text(value, 120)}</dd>{below}</div>"


def _latency(latency: Mapping[str, Any]) -> List[Tile]:
    n = number(latency.get("n"))
    tails = {name: _tail(latency, name) for name in ("p90", "p99")}
    jitter = number(latency.get("jitter_p99_over_p50"))
    rest = "" if jitter is None else f"; p99 is {jitter:.3g} times p50"
    return [
        ("Latency p50", amount(latency.get("p50_ms"), "ms"), "n unknown" if n is None else f"of {n:,.0f} calls"),
        ("Latency p90", *tails["p90"]),
        ("Latency p99", tails["p99"][0], tails["p99"][1] + rest),
    ]


def _tail(latency: Mapping[str, Any], name: str) -> Tuple[str, str]:
    value, bound = number(latency.get(f"{name}_ms")), number(latency.get(f"{name}_bound_ms"))
    if value is None:
        return str(section(latency, "n_too_small").get(name) or "not measured"), ""
    below = "no bound: n too small" if bound is None else f"at 99 % confidence below {amount(bound, 'ms')}"
    return amount(value, "ms"), below


def _throughput(record: Mapping[str, Any]) -> Tile:
    throughput = section(record, "throughput")
    samples = number(throughput.get("samples_per_s"))
    rest = "" if samples is None else f"{amount(samples)} samples/s"
    return "Throughput", amount(throughput.get("calls_per_s"), "calls/s"), rest


def _energy(record: Mapping[str, Any]) -> Tile:
    why = why_no_energy(record)
    if why is not None:
        return "Energy per inference", "not measured", "" if why == "energy was not measured" else f"refused: {why}"
    energy = section(record, "energy")
    gross, net = (
        with_error(section(energy, name).get("value"), section(energy, name).get("standard_error"), "mJ")
        for name in ("gross_mj", "net_mj")
    )
    example = energy_words(section(record, "board", "origin"))
    below = f"; {example}" if example else ""
    if number(section(energy, "net_mj").get("value")) is None:
        why = plain(energy.get("refused") or "idle part not known")
        return "Energy per inference, gross", gross, f"{why}{below}"
    return "Energy per inference, net", net, f"without the idle part; gross {gross}{below}"


def _heat(telemetry: Mapping[str, Any], origin: Mapping[str, Any]) -> Tile:
    zones = zone_lines(telemetry)
    if not zones:
        return "Hottest zone", "not measured", ""
    name, (_, values) = zones[0]
    headroom, slope = number(telemetry.get("headroom_c")), number(telemetry.get("slope_c_per_s"))
    zone = telemetry.get("headroom_zone")
    of_zone = "" if not zone else f" of {plain(zone, 40)}"
    if headroom is None:
        rest = "headroom not known"
    elif headroom <= 0:
        rest = f"the trip point{of_zone} was reached"
    else:
        moved = "" if slope is None else f", {slope * 60:+.2f} \u00b0C a minute".replace("-", "\u2212")
        rest = f"at the least {headroom:.1f} \u00b0C to the trip point{of_zone}{moved}"
    return marked("Hottest zone", origin), f"{float(np.nanmax(values)):.1f} \u00b0C {plain(name, 24)}", rest


def _outliers(outliers: Mapping[str, Any], origin: Mapping[str, Any]) -> Tile:
    n, threshold = number(outliers.get("n")), number(outliers.get("threshold_ms"))
    counts = {plain(name, 24): number(count) for name, count in section(outliers, "by_cause").items()}
    causes = ", ".join(
        f"{marked(name, origin if name in OF_THE_BOARD else {})} {count:,.0f}"
        for name, count in counts.items()
        if count
    )
    name = "Outliers" if threshold is None else f"Outliers above {amount(threshold, 'ms')}"
    return name, "not measured" if n is None else f"{n:,.0f}", causes


def _cold_start(cold: Mapping[str, Any]) -> Tile:
    return "First inference", amount(cold.get("first_inference_ms"), "ms"), f"load {amount(cold.get('load_ms'), 'ms')}"
