"""The pure parts of `benchmarks/robustness.py`: what it reads, how it counts, and what it holds against its goals."""

from __future__ import annotations

import importlib
import json
import random
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TCP = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n"
    "   1: 0100007F:1F40 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n"
)


@pytest.fixture(scope="module")
def part():
    """Imports a module of the benchmark by its name."""

    def load(name):
        sys.path.insert(0, str(BENCHMARKS))
        try:
            return importlib.import_module(f"robustness.{name}")
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([], "not measured"),
        ([1.0] * 661, "not measured"),
        ([1.0] * 661 + [99.0], "held"),
        ([1.0] * 600 + [99.0] * 62, "NOT HELD"),
        ([99.0] * 64, "NOT HELD"),
        ([1.0] * 64, "not measured"),
    ],
)
def test_a_p99_is_judged_from_662_samples_on_and_a_lower_percentile_only_against_it(part, latencies, expected):
    rows = part("rows")
    assert rows.p99_verdict(rows.tail_of(latencies), 20.0) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(662, "p99 5.0 ms (n 662; early stopping 5.0)"), (64, "too few for a p99"), (2, "for more")]
)
def test_a_tail_says_from_how_many_samples_it_comes(part, count, expected):
    rows = part("rows")
    assert expected in rows.tail_text(rows.tail_of([5.0] * count))


def test_arrivals_are_seeded_and_as_many_as_the_rate_says(part):
    load = part("load")
    times = list(load.arrivals_s(200.0, 10.0, seed=3))
    assert times == sorted(times) == list(load.arrivals_s(200.0, 10.0, seed=3))
    assert 1800 < len(times) < 2200
    assert times[-1] < 10.0


def test_a_sum_has_all_of_its_parts(part):
    load = part("load")
    first, second = load.Tally(sent=3, lost=1), load.Tally(sent=1)
    first.add(200, 5.0, True)
    first.add(200, 7.0, False)
    second.add(503, 1.0, True)
    second.add(500, 1.0, True)
    whole = load.sum_of([first, second])
    assert (whole.sent, whole.lost, whole.goodput, whole.others) == (4, 1, 1, {"500": 1})
    assert (whole.ok_ms, whole.refused_ms) == ([5.0, 7.0], [1.0])


def level(part, load, goodput, late_ms=(), foreign_cores=0.0):
    return part("overload").Level(load, part("load").Tally(goodput=goodput, late_ms=list(late_ms)), 2.0, foreign_cores)


@pytest.mark.parametrize(("goodputs", "expected"), [([100, 200, 180], 0.9), ([0, 0], 0.0)])
def test_goodput_is_held_against_its_peak(part, goodputs, expected):
    assert part("overload").kept_of_peak([level(part, 1.0, each) for each in goodputs]) == expected


@pytest.mark.parametrize(
    ("late_ms", "foreign_cores", "expected"),
    [(1.0, 0.0, "NOT HELD"), (50.0, 0.0, "not measured"), (1.0, 0.5, "not measured")],
)
def test_a_disturbed_load_proves_nothing_against_a_server(part, late_ms, foreign_cores, expected):
    disturbed = level(part, 2.0, 1, [late_ms] * 700, foreign_cores)
    assert (disturbed.judged("NOT HELD"), disturbed.judged("held")) == (expected, "held")


@pytest.mark.parametrize(
    ("head", "expected"),
    [(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: y", 12), (b"HTTP/1.1 503 X\r\ncontent-length:7", 7), (b"", 0)],
)
def test_the_length_of_an_answer_is_read_from_its_head(part, head, expected):
    assert part("http_load").length_in(head) == expected


def test_listeners_are_read_from_the_kernels_table(part):
    assert part("listeners").listeners_in(TCP) == [("127.0.0.1:8000", "4711")]


@pytest.mark.parametrize(
    ("text", "expected"), [("00000000", "0.0.0.0"), ("00000000000000000000000001000000", "[0:0:0:0:0:0:0:1]")]
)
def test_hosts_are_read_in_the_machines_byte_order(part, text, expected):
    assert part("listeners").host_of(text) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("metrics", ["/metrics"]),
        ("v2/?", ["/v2", "/v2/"]),
        (
            r"v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?",
            ["/v2/models/double", "/v2/models/double/versions/1"],
        ),
        (r"v2/(?:a|b/[^/]+/c)(?:/.*)?", ["/v2/a", "/v2/a/x", "/v2/b/double/c", "/v2/b/double/c/x"]),
    ],
)
def test_a_route_gives_a_path_for_each_of_its_alternatives(part, pattern, expected):
    paths = part("listeners").paths_of(pattern)
    assert paths == expected
    assert all(re.fullmatch(pattern, path[1:]) for path in paths)


def test_every_route_of_the_router_is_asked(part):
    asked = part("listeners").http_routes()
    assert {("GET", "/v2/health/live"), ("POST", "/v2/models/double/infer"), ("GET", "/metrics")} <= set(asked)
    assert all(re.fullmatch(r"/[\w./]*", path) for _, path in asked)


def test_every_method_of_the_protocol_is_called(part):
    asked = part("listeners").rpc_paths()
    assert {"/inference.GRPCInferenceService/ModelInfer", "/grpc.health.v1.Health/Check"} <= set(asked)


@pytest.mark.parametrize(
    "line",
    ["INJECTED x", "2026-01-01 ERROR INJECTED", "a\x1b[31m", "x" * 4097, "WARNING SECRET-TENSOR-SECRET", "a\u202eb"],
)
def test_what_a_client_could_have_put_into_a_log_is_a_fault(part, line):
    good = "WARNING edge_runtime.server: 'a\\r\\nINJECTED x' is unknown"
    assert part("listeners").log_faults([good, line, ""]) == [line]


def test_mutations_are_seeded_and_change_something(part):
    mutated = part("soak").mutated
    data = bytes(range(100))
    first = [mutated(data, random.Random(seed)) for seed in range(50)]
    assert first == [mutated(data, random.Random(seed)) for seed in range(50)]
    assert sum(each != data for each in first) > 45


def test_a_doubled_tensor_is_twice_its_numbers(part):
    requests = part("requests")
    tensor = requests.rows(2, random.Random(0))
    assert len(requests.doubled(tensor)) == len(tensor) == 512
    assert json.loads(requests.infer_head(len(tensor)))["inputs"][0]["shape"] == [2, 64]


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"error": {"type": "ConfigError", "message": "no\\nplace"}}\nmore', "no place"), ("Traceback x", "Traceback x")],
)
def test_an_error_is_said_on_one_line(part, text, expected):
    assert part("stopping").message_of(text) == expected


@pytest.mark.parametrize(("line", "expected"), [("== 12 passed, 1 skipped in 3.0s ==", 12), ("no tests ran", 0)])
def test_passed_tests_are_counted_from_the_last_line(part, line, expected):
    assert part("conformance").passed_in(line) == expected


def test_a_field_of_the_process_status_is_in_bytes(part):
    assert part("ours").status_nbytes("VmHWM:\t  10 kB\nRssAnon:\t   3 kB\n", "RssAnon") == 3072
