"""The record of a profile with something in every place: made up, no board ever measured it."""

from __future__ import annotations

from typing import Any

import numpy as np

CAUSES = ("throttle", "over-current", "clock ramp", "gc", "other load", "queue", "unknown")


def profile_record(calls: int = 3000, seconds: float = 60.0, layers: int = 40) -> dict[str, Any]:
    """One run that gets slower while the board is throttled, from half of it to two thirds."""
    random = np.random.default_rng(7)
    start_s = np.sort(random.uniform(0, seconds, calls))
    is_throttled = (start_s > seconds / 2) & (start_s < seconds * 2 / 3)
    latency_ms = 4 + random.gamma(2, 0.15, calls) + 1.2 * is_throttled
    outliers = np.sort(random.choice(calls, max(calls // 100, 1), replace=False))
    latency_ms[outliers] *= random.uniform(1.8, 4, outliers.size)
    p50_ms = float(np.median(latency_ms))
    items = [
        {
            "at_s": float(start_s[index]),
            "latency_ms": float(latency_ms[index]),
            "cause": "throttle" if is_throttled[index] else CAUSES[place % 7],
            "detail": "made up",
        }
        for place, index in enumerate(outliers)
        if latency_ms[index] > 1.5 * p50_ms
    ]
    edges = np.linspace(latency_ms.min(), latency_ms.max() * 1.01, 50)
    return {
        "schema": "edge_runtime.profile/1",
        "target": {"kind": "engine", "model": "made-up-net", "version": 3, "precision": "int8", "backend": "made up"},
        "settings": {"n": calls, "concurrency": 2, "plugins": []},
        "input": {"source": "random, seed 0", "tensors": {"x": {"dtype": "FP32", "shape": [1, 3, 224, 224]}}},
        "environment": {"board": "made-up board", "kernel": "Linux 5.15", "versions": {"numpy": "1.24"}},
        "board": _board(),
        "cold_start": {"load_ms": 80.1, "first_inference_ms": 14.2},
        "load": {"kind": "poisson", "rate_per_s": calls / seconds, "completed": calls, "elapsed_s": seconds},
        "latency": _latency(latency_ms),
        "throughput": {"calls_per_s": calls / seconds, "samples_per_s": calls / seconds},
        "stages": _stages(calls),
        "timeline": {"start_s": start_s.tolist(), "latency_ms": latency_ms.tolist(), "thinned": False},
        "histogram": {"edges_ms": edges.tolist(), "counts": np.histogram(latency_ms, edges)[0].tolist()},
        "outliers": {
            "threshold_ms": 1.5 * p50_ms,
            "n": len(items),
            "by_cause": {cause: sum(item["cause"] == cause for item in items) for cause in CAUSES},
            "items": items,
            "listed": len(items),
        },
        "telemetry": _telemetry(seconds, random),
        "energy": {
            "total_kind": "sum-of-rails",
            "rails": ["GPU", "CPU", "SOC"],
            "baseline": {"mean_mw": 4000.0, "standard_error_mw": 9.0, "samples": 50, "duration_s": 5.0},
            "window": {"from_s": seconds / 60, "to_s": seconds * 0.98, "samples": 570, "gaps": 1},
            "inferences": calls,
            "gross_mj": {"value": 181.25, "standard_error": 1.25},
            "net_mj": {"value": 101.5, "standard_error": 1.75},
            "refused": None,
        },
        "layers": _layers(layers),
        "not_measured": ["load of the memory bus: this source doesn't tell it"],
    }


def _board() -> dict[str, Any]:
    return {
        "origin": {
            "source": "tegrastats",
            "replay_of": "made-up.log",
            "made_up": "all of it",
            "module": "none",
            "label": "replay of made-up.log, made up: all of it: not measured on this machine",
        },
        "verdicts": [["sysfs", "no hwmon below /sys"], ["replay", "in use"]],
        "interval_s": 0.1,
        "samples": 600,
        "age_s": 0.04,
        "jitter_ms": {"p50": 0.1, "p99": 0.9},
        "cost_pct_of_a_core": 0.4,
        "restarts": 0,
        "alarms": ["no sample for 0.3 s at 31.2 s"],
        "power_mode": "MAXN",
        "capabilities": {"fp16": True, "fp8": False},
    }


def _latency(latency_ms: Any) -> dict[str, Any]:
    p50, p90, p99 = (float(value) for value in np.percentile(latency_ms, (50, 90, 99)))
    return {
        "n": latency_ms.size,
        "mean_ms": float(latency_ms.mean()),
        "min_ms": float(latency_ms.min()),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p999_ms": None,
        "max_ms": float(latency_ms.max()),
        "p90_bound_ms": p90 * 1.02,
        "p99_bound_ms": p99 * 1.1,
        "p999_bound_ms": None,
        "n_too_small": {"p999": "n too small (6,636 needed)"},
        "jitter_p99_over_p50": p99 / p50,
    }


def _stages(calls: int) -> list[dict[str, Any]]:
    means = {"parse": 0.05, "queue": 0.4, "copy in": 0.1, "compute": 3.6, "copy out": 0.04, "frame": 0.03}
    whole = sum(means.values())
    timed = [
        {
            "name": name,
            "n": calls,
            "mean_ms": mean,
            "p50_ms": mean * 0.9,
            "p90_ms": mean * 1.4,
            "p99_ms": mean * 2.2,
            "share": mean / whole,
        }
        for name, mean in means.items()
    ]
    return [*timed, {"name": "enqueue", "n": 0, "mean_ms": None, "why": "this backend can't tell it apart"}]


def _telemetry(seconds: float, random: np.random.Generator) -> dict[str, Any]:
    at_s = np.arange(-seconds / 12, seconds, 0.1)
    works, throttled = at_s >= 0, (at_s > seconds / 2) & (at_s < seconds * 2 / 3)
    heat = 55 + 38 * (1 - np.exp(-np.maximum(at_s, 0) / (seconds / 5))) - 4 * throttled
    gpu_mw = np.where(works, 6000.0, 900.0) - 2500 * throttled + random.normal(0, 150, at_s.size)
    rails = {
        "GPU": gpu_mw,
        "CPU": np.where(works, 1500.0, 700.0) + random.normal(0, 80, at_s.size),
        "SOC": 1800 + random.normal(0, 30, at_s.size),
    }
    total: list[float | None] = sum(rails.values()).tolist()  # type: ignore[union-attr]
    total[200:230] = [None] * 30
    zones = {"gpu": heat, "cpu": heat - 2.5, "soc0": heat - 5, "soc1": heat - 5.4, "tj": heat + 0.4}
    return {
        "at_s": at_s.tolist(),
        "total_mw": total,
        "how": "sum-of-rails",
        "rails_mw": {name: values.tolist() for name, values in rails.items()},
        "zones_c": {**{name: values.tolist() for name, values in zones.items()}, "PMIC": [50.0] * at_s.size},
        "constants": ["PMIC"],
        "gpu_load_pct": np.where(works, 97.0, 3.0).tolist(),
        "gpu_mhz": np.where(throttled, 612.0, np.where(works, 1020.0, 306.0)).tolist(),
        "cpu_load_pct": np.where(works, 41.0, 8.0).tolist(),
        "throttled": [
            {"from_s": seconds / 2, "to_s": seconds * 2 / 3, "cause": "thermal", "where": "gpu", "detail": "state 3"},
            {"from_s": seconds * 0.8, "to_s": seconds * 0.81, "cause": "over-current", "where": "oc1", "detail": "+2"},
        ],
        "headroom_c": 6.2,
        "headroom_zone": "gpu",
        "slope_c_per_s": 0.031,
        "trips_c": {"gpu": 95.0, "cpu": 97.0},
    }


def _layers(count: int) -> dict[str, Any]:
    means = np.geomspace(0.6, 0.002, count)
    return {
        "backend": "made up",
        "runs": 100,
        "sum_ms": float(means.sum()),
        "whole_run_ms": float(means.sum()) * 1.05,
        "notes": ["timing a layer makes it slower"],
        "layers": [
            {
                "name": f"/features/features.{index}/conv/Conv + /features/features.{index}/Relu",
                "kind": "Convolution",
                "precision": ("INT8", "INT8", "FP16", "FP32")[index % 4],
                "nodes": [f"/features/features.{index}/conv/Conv"],
                "median_ms": float(mean),
                "mean_ms": float(mean),
                "p90_ms": float(mean) * 1.1,
                "min_ms": float(mean) * 0.9,
                "max_ms": float(mean) * 2,
                "share": float(mean / means.sum()),
            }
            for index, mean in enumerate(means)
        ],
    }
