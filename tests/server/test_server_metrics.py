from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from edge_runtime.engine.engine import EngineInfo
from edge_runtime.server.board import BoardReading
from edge_runtime.server.metrics import metrics_page
from edge_runtime.server.prometheus import CONTENT_TYPE
from edge_runtime.server.statistics import ModelStatistics, RunTimes

NO_BOARD = BoardReading(0)
VALUE = r'"(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{((?:[a-z]+={VALUE},?)*)\}})? ([0-9]+(?:\.[0-9]+)?)")


def model(name: str, pending: int = 0) -> Any:
    info = EngineInfo(name, 3, "onnxruntime 1.0", "onnxruntime_onnx", "int8", "cpu")
    return SimpleNamespace(
        name=name,
        version="3",
        statistics=ModelStatistics(),
        pending=pending,
        ladder=None,
        engine=SimpleNamespace(info=info, keeper=None),
    )


def parsed(page: str) -> dict[str, dict[str, float]]:
    """Samples by family and labels, read as strictly as Prometheus reads them."""
    families: dict[str, dict[str, float]] = {}
    kinds: dict[str, str] = {}
    assert page.endswith("\n")
    for line in page[:-1].split("\n"):
        if line.startswith("# HELP "):
            assert line.split(" ")[2] not in families, "a family in two places"
            current = line.split(" ")[2]
            families[current] = {}
        elif line.startswith("# TYPE "):
            kinds[line.split(" ")[2]] = line.split(" ")[3]
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] == current or (
                kinds[current] == "histogram"
                and match[1] in [f"{current}{part}" for part in ("_bucket", "_sum", "_count")]
            )
            key = match[1][len(current) :] + (match[2] or "")
            assert key not in families[current]
            families[current][key] = float(match[3])
    assert set(kinds) == set(families)
    assert set(kinds.values()) <= {"counter", "gauge", "histogram"}
    return families


def test_the_page_is_prometheus_text_with_tritons_names() -> None:
    first, second = model("a", pending=2), model("b")
    first.statistics.add_run(RunTimes(1_000, 3_000, 7_000, 15_999), [0], rows=4, wall_ms=0)
    first.statistics.add_failure("CANCELED", 1)
    page = parsed(metrics_page([first, second], is_ready=True, strangers={}, board=NO_BOARD))
    of_a = 'model="a",version="3"'
    assert set(page["nv_inference_request_success"]) == {of_a, 'model="b",version="3"'}
    assert page["nv_inference_request_success"][of_a] == page["nv_inference_exec_count"][of_a] == 1
    assert page["nv_inference_count"][of_a] == 4
    assert page["nv_inference_pending_request_count"][of_a] == 2
    assert page["nv_inference_request_failure"][f'{of_a},reason="CANCELED"'] == 1
    durations = [
        page[f"nv_inference_{part}_duration_us"][of_a]
        for part in ("request", "queue", "compute_input", "compute_infer", "compute_output")
    ]
    assert durations == [15, 1, 2, 4, 8]
    assert page["edge_runtime_ready"] == {"": 1}


def test_latencies_are_a_histogram_that_adds_up() -> None:
    one = model("a")
    for milliseconds in (0.4, 3, 3, 60_000):
        one.statistics.add_run(RunTimes(0, 0, 0, round(milliseconds * 1e6)), [0], rows=1, wall_ms=0)
    family = parsed(metrics_page([one], is_ready=True, strangers={}, board=NO_BOARD))[
        "nv_inference_first_response_histogram_ms"
    ]
    of_a = 'model="a",version="3"'
    counts = [family[f'_bucket{of_a},le="{bound}"'] for bound in ("0.5", "2", "5", "5000", "+Inf")]
    assert counts == [1, 1, 3, 3, 4]
    assert (family[f"_sum{of_a}"], family[f"_count{of_a}"]) == (60_006, 4)


def test_every_reason_is_there_from_the_beginning() -> None:
    failures = parsed(metrics_page([model("a")], is_ready=False, strangers={}, board=NO_BOARD))[
        "nv_inference_request_failure"
    ]
    assert sorted(failures.values()) == [0, 0, 0, 0]
    assert {labels.split('reason="')[1] for labels in failures} == {'REJECTED"', 'CANCELED"', 'BACKEND"', 'OTHER"'}


def test_label_values_are_escaped() -> None:
    page = parsed(metrics_page([model('a"b\\c\nd')], is_ready=True, strangers={}, board=NO_BOARD))
    assert 'model="a\\"b\\\\c\\nd",version="3"' in page["nv_inference_count"]


def test_the_page_of_a_server_says_what_it_is(server) -> None:
    answer = server.ask("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    labels = 'model="identity",version="3",backend="onnxruntime 1.0",device="cpu",precision="fp32"'
    assert parsed(answer.body.decode())["edge_runtime_model_info"][labels] == 1
