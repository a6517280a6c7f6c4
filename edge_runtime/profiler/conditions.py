"""What must be equal for two benchmarks to be compared, and what may differ because it is under test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Union
from urllib.parse import urlsplit

from edge_runtime.errors import ConfigError, nearest
from edge_runtime.profiler.report import BenchReport
from edge_runtime.profiler.yardstick import NAME as YARDSTICK

Value = Union[str, int, float, bool, None]

_OF_ENVIRONMENT = (
    "kind",
    "board",
    "module",
    "l4t",
    "machine",
    "cpu",
    "cores_usable",
    "power_mode",
    "cpu_governor",
    "cpu_max_clock_mhz",
    "cpu_clock_limit_mhz",
    "clocks_pinned",
)
_REMEDIES = {
    "power_mode": "set it back (sudo nvpmodel -m ID)",
    "clocks_pinned": "pin or free the clocks as they were (sudo jetson_clocks, or --restore)",
    "cpu_governor": "set it back (scaling_governor of cpufreq)",
    "cpu_clock_limit_mhz": "set it back (scaling_max_freq of cpufreq)",
    "cores_usable": "run on as many (taskset)",
    "inputs": "measure the same shapes (--batch, --input)",
    "concurrency": "give the same --concurrency",
    "threads": "give the same --threads",
}


@dataclass(frozen=True)
class Difference:
    """What differs and is no obstacle: `kind` is `under test`, `allowed` or `noted`."""

    key: str
    baseline: Value
    now: Value
    kind: str


def conditions(report: BenchReport) -> Dict[str, Value]:
    """What a comparison rests on, by key; None is unknown."""
    environment, target, settings = report.environment.record(), report.target, report.settings
    is_server = target["kind"] == "server"
    backend, _, version = str(target.get("backend", "")).partition(" ")
    return {
        "target": target["kind"],
        "model": target["model"],
        **{f"machine_{key}" if key == "kind" else key: environment[key] for key in _OF_ENVIRONMENT},
        "backend": str(target.get("platform")) if is_server else backend,
        "backend_version": None if is_server else version,
        "device": None if is_server else target["device"],
        "server": str(target["server"]).partition(" ")[0] if is_server else None,
        "server_host": _host(str(target["url"])) if is_server else None,
        "threads": None if is_server else target["threads_per_run"],
        "memory": settings.memory,
        "graphs": settings.graphs,
        "concurrency": settings.concurrency,
        "inputs": ", ".join(
            f"{name} {row['dtype']} {'x'.join(map(str, row['shape'])) or 'scalar'}"
            for name, row in sorted(report.inputs.items())
        ),
        "input_source": report.input_source,
        "yardstick": YARDSTICK,
    }


def under_test(report: BenchReport) -> Dict[str, Value]:
    """What a comparison is there to judge: it may differ, and is said."""
    target = report.target
    server_version = str(target.get("server", "")).partition(" ")[2] or None
    return {
        "version": target.get("version"),
        "precision": target.get("precision"),
        "edge_runtime": report.environment.versions.get("edge_runtime"),
        "server_version": server_version,
    }


def noted(report: BenchReport) -> Dict[str, Value]:
    """What hardly bears on a plan's latency, and is said where it differs."""
    environment = report.environment
    return {"kernel": environment.kernel, "python": environment.python, "numpy": environment.versions.get("numpy")}


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.hostname or f"{parts.scheme}:{parts.path}"


def check_conditions(
    baseline: Mapping[str, Value], now: Mapping[str, Value], allowed: Sequence[str], file: str
) -> List[Difference]:
    """The differences in `allowed`.

    Raises:
        ConfigError: another key differs, or `allowed` names one that there isn't.
    """
    for key in allowed:
        if key not in now:
            raise ConfigError(f"--allow {key}: there is no such condition; {nearest(key, now)}")
    unlike = [key for key in now if _is_unlike(baseline.get(key), now[key])]
    refused = [key for key in unlike if key not in allowed]
    if refused:
        lines = [f"{key}: expected {_text(baseline.get(key))}, got {_text(now[key])}{_remedy(key)}" for key in refused]
        flags = " ".join(f"--allow {key}" for key in refused)
        raise ConfigError(
            f"{file}: measured under other conditions, so nothing was compared: {'; '.join(lines)}. "
            f"Make them equal, save a baseline here, or accept the difference: {flags}"
        )
    return [Difference(key, baseline.get(key), now[key], "allowed") for key in unlike]


def differences(baseline: Mapping[str, Value], now: Mapping[str, Value], kind: str) -> List[Difference]:
    """Whatever differs, none of which is refused."""
    return [
        Difference(key, baseline.get(key), now[key], kind) for key in now if _is_unlike(baseline.get(key), now[key])
    ]


def _is_unlike(one: Value, other: Value) -> bool:
    return type(one) is not type(other) or one != other


def _remedy(key: str) -> str:
    return f" ({_REMEDIES[key]})" if key in _REMEDIES else ""


def _text(value: Any) -> str:
    return "unknown" if value is None else repr(value)
