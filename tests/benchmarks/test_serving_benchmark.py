"""The pure parts of `benchmarks/serving.py`: what it reads, how it counts, and what it holds against its bars."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LOG = "1795656482298134\t200\t676\n1795656482298846\t200\t718\n1795656482299572\t200\t623\n"
SUMMARY = """finished in 900.67ms, 1448.57 req/s, 533.31KB/s
requests: 1014 total, 1014 started, 1014 done, 1014 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 1014 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 373.32KB (382278) total, 177.76KB (182022) headers (space savings 0.00%), 257.62KB (263800) data
"""
REPORT = (
    "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency\n"
    "1,1385.7,12,721,815,890,1210\n"
)
STAT = "4242 (a (b) c) S 17 4242 9 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 3 0 777 1 2 3"


@pytest.fixture(scope="module")
def part():
    """Imports a module of the benchmark by its name, or the benchmark itself."""

    def load(name):
        sys.path.insert(0, str(BENCHMARKS))
        try:
            if name != "serving":
                return importlib.import_module(f"serving.{name}")
            spec = importlib.util.spec_from_file_location("serving_benchmark", BENCHMARKS / "serving.py")
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = loaded
            spec.loader.exec_module(loaded)
            return loaded
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load


def net(part):
    return part("nets").Net("tiny", "x", (1, 64), False, "y", 2, 64, 155)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_the_smallest_value_that_the_share_does_not_exceed(part, share, expected):
    assert part("latencies").quantile([4, 1, 3, 2], share) == expected


def test_a_load_has_its_quantiles_and_its_rate(part):
    load = part("latencies").load_from_latencies([10.0] * 98 + [50.0] * 2, seconds=0.5)
    assert (load.n, load.p50_us, load.p99_us, load.per_s) == (100, 10, 50, 200)


def test_a_figure_is_the_median_of_the_rounds_with_its_spread(part):
    figure = part("latencies").figure_of({0: 3.0, 1: 1.0, 2: 8.0})
    assert (figure.median, figure.low, figure.high, figure.rounds) == (3, 1, 8, 3)


def test_no_rounds_are_no_figure(part):
    assert part("latencies").figure_of({}) is None


def test_a_ratio_pairs_the_rounds_that_have_both(part):
    assert part("latencies").ratio({0: 1.0, 1: 3.0, 2: 5.0}, {1: 2.0, 2: 0.0, 3: 1.0}) == {1: 1.5}


def test_a_ratio_to_a_negative_overhead_is_none(part):
    assert part("latencies").ratio({0: 1.0}, {0: -2.0}) == {}


@pytest.mark.parametrize(("is_least", "expected"), [(True, {0: 1, 1: 4}), (False, {0: 2, 1: 4})])
def test_the_best_is_taken_in_each_round(part, is_least, expected):
    assert part("latencies").best([{0: 1, 1: 4}, {0: 2}], is_least) == expected


def test_h2loads_log_gives_each_latency(part):
    assert part("h2load").latencies_from_log(LOG) == [676, 718, 623]


@pytest.mark.parametrize(
    ("log", "message"),
    [("", "no answer at all"), (LOG + "1\t503\t5\n2\t-1\t5\n", "answers with status -1, 503; expected 200 only")],
)
def test_a_log_without_good_answers_is_an_error(part, log, message):
    with pytest.raises(RuntimeError, match=message):
        part("h2load").latencies_from_log(log)


def test_a_summary_of_whole_answers_is_accepted(part):
    part("h2load").check_summary(SUMMARY, least_nbytes=260, concurrency=1)


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        (SUMMARY, r"answers of 260 bytes on average; the output alone has 300"),
        (SUMMARY.replace("0 failed, 0 errored", "2 failed, 1 errored"), "2 requests failed, 1 broke off"),
        ("finished", "lacks `requests` or `traffic`"),
    ],
)
def test_a_summary_of_short_or_broken_answers_is_an_error(part, summary, message):
    with pytest.raises(RuntimeError, match=message):
        part("h2load").check_summary(summary, least_nbytes=300, concurrency=16)


def test_h2load_is_asked_for_grpc_over_http2(part):
    h2load, ways = part("h2load"), part("ways")
    target = ways.Target(ways.GRPC, "127.0.0.1:1")
    flags = h2load.flags(target, net(part), h2load.Demand(16, 1.5))
    assert flags[:5] == ["-c16", "-t1", "-m1", "-D", "1500ms"]
    assert "--h1" not in flags
    assert "content-type: application/grpc" in flags
    assert h2load.url(target, net(part)) == "http://127.0.0.1:1/inference.GRPCInferenceService/ModelInfer"


def test_h2load_is_sent_to_a_unix_socket(part):
    h2load, ways = part("h2load"), part("ways")
    target = ways.Target(ways.UNIX, "/tmp/edge.sock")
    flags = h2load.flags(target, net(part), h2load.Demand(1, 1))
    assert "--h1" in flags
    assert flags[flags.index("-B") + 1] == "unix:/tmp/edge.sock"
    assert h2load.url(target, net(part)) == "http://localhost/v2/models/tiny/infer"


def test_perf_analyzers_report_is_read(part):
    load = part("perf_analyzer").load_from_report(REPORT)
    assert (load.p50_us, load.p99_us, load.per_s) == (721, 1210, 1385.7)


@pytest.mark.parametrize("text", ["", REPORT.splitlines()[0], "Concurrency\n1\n"])
def test_an_unreadable_report_is_an_error(part, text):
    with pytest.raises(RuntimeError, match="its report can't be read"):
        part("perf_analyzer").load_from_report(text)


def test_a_line_of_the_process_table_is_read_behind_the_command(part):
    entry = part("processes").entry_from_stat(STAT)
    assert (entry.parent, entry.session, entry.started) == (17, 9, 777)


def test_the_machines_busy_time_leaves_out_idle_and_waiting(part):
    tick = part("processes").os.sysconf("SC_CLK_TCK")
    assert part("processes").busy_s("cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 9") == 63 / tick


def test_members_are_the_session_and_all_descendants(part):
    processes = part("processes")
    table = {
        pid: processes.Entry(parent, session, 0)
        for pid, parent, session in [(10, 1, 10), (11, 1, 10), (12, 11, 12), (13, 12, 12), (20, 1, 20), (1, 0, 1)]
    }
    assert processes.members(10, table) == {10, 11, 12, 13}


def test_a_tree_is_ended_with_what_left_its_session(part, monkeypatch, tmp_path):
    processes = part("processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path)
    child = "import os, subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)"
    command = [sys.executable, "-c", f"{child}; input()"]
    with processes.started(command, "test", stdin=processes.subprocess.PIPE, stdout=processes.subprocess.PIPE) as tree:
        grandchild = int(tree.process.stdout.readline())
        assert grandchild in tree.processes()
        assert tree.pss_bytes() > 0
    assert tree.process.returncode == -processes.signal.SIGTERM
    assert not processes._is_running(grandchild)


def test_each_round_reverses_the_last(part):
    assert [part("rounds").order_of(number, "ABC") for number in range(3)] == [list("ABC"), list("CBA"), list("ABC")]


@pytest.fixture
def run(part, monkeypatch):
    """What `measure` does with fake servers: returns what was called, in order, and the results."""

    def measured(names, rounds, take_turn=lambda turn: None):
        done = []
        module = part("rounds")
        load = part("latencies").Load(1, 5.0, 6.0, 7.0)
        servers = [SimpleNamespace(name=name, label=name) for name in names]
        monkeypatch.setattr(module.raw, "measure", lambda nets, seconds: done.append("raw") or {"tiny": load})

        def turn_taken(turn):
            done.append(turn.server.name)
            take_turn(turn)

        monkeypatch.setattr(module, "take_turn", turn_taken)
        results = part("results").Results()
        plan = part("turn").Plan(seconds=1.0, rounds=rounds, cores=2)
        module.measure(servers, [net(part)], plan, results, lambda line: None)
        return done, results

    return measured


def test_the_engine_alone_is_measured_before_every_server(run):
    done, results = run(["a", "b"], rounds=2)
    assert done == ["raw", "a", "raw", "b", "raw", "b", "raw", "a"]
    assert [(cell.round, cell.server) for cell in results.raws] == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]


def test_a_server_that_cannot_be_had_is_named_once_and_not_tried_again(part, run):
    def turn(turn):
        raise part("ways").UnavailableError("no network")

    done, results = run(["a"], rounds=3, take_turn=turn)
    assert done == ["raw", "a"]
    assert results.skipped == {"a": "no network"}


def test_a_server_that_fails_in_one_round_is_tried_in_the_next(run):
    def turn(turn):
        if turn.number == 0:
            raise RuntimeError("it ended")

    done, results = run(["a"], rounds=2, take_turn=turn)
    assert done.count("a") == 2
    assert results.skipped == {"a, round 1": "it ended"}


@pytest.mark.parametrize(
    ("raw_us", "concurrency", "expected"), [(10, 1, 1.0), (100_000, 1, 3.0), (11_000, 16, 1.0), (50_000, 16, 3.2)]
)
def test_slow_nets_get_longer_cells(part, raw_us, concurrency, expected):
    assert part("turn").cell_seconds(1.0, raw_us, concurrency) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ({}, 1.0, "pass"),
        ({}, 1.01, "FAIL"),
        ({"is_open": True}, 1.0, "FAIL"),
        ({"is_least": True}, 1.0, "pass"),
        ({"is_least": True}, 0.99, "FAIL"),
    ],
)
def test_a_bar_is_held_against_the_median(part, kind, value, expected):
    bars = part("bars")
    bar = bars.Bar("it", lambda results: {0: value, 1: 0.0, 2: 9.0}, 1.0, **kind)
    assert bars.judged(None, [bar])[0].result == expected


def test_a_bar_without_a_figure_is_neither_passed_nor_failed(part):
    verdicts = part("bars").judged(part("results").Results())
    assert {verdict.result for verdict in verdicts} == {"not measured"}


def test_a_stretch_is_reached_apart_from_the_bar(part):
    bars = part("bars")
    bar = bars.Bar("it", dict, 0.5, stretch=0.4)
    verdicts = [bars.judged({0: value}, [bar])[0] for value in (0.45, 0.4)]
    assert [(verdict.result, verdict.is_stretch_reached) for verdict in verdicts] == [("pass", False), ("pass", True)]


def results_of(part, rows):
    """Results of rows (round, server, way, concurrency, p50, raw p50, requests/s) on tiny."""
    load, cell = part("latencies").Load, part("results").Cell
    cells = [
        cell(number, server, way, "tiny", concurrency, load(1, p50, p50, per_s), raw)
        for number, server, way, concurrency, p50, raw, per_s in rows
    ]
    return part("results").Results(cells=cells)


def named(part, results, name):
    return next(each for each in part("bars").judged(results) if each.bar.name.startswith(name))


def test_latency_is_compared_over_the_engines_own_in_the_same_round(part):
    rows = [
        (0, "ours", "HTTP", 1, 110.0, 10.0, 1),
        (0, "triton", "HTTP", 1, 410.0, 10.0, 1),
        (1, "ours", "HTTP", 1, 120.0, 20.0, 1),
        (1, "triton", "HTTP", 1, 220.0, 20.0, 1),
        (2, "ours", "HTTP", 1, 130.0, 30.0, 1),
    ]
    verdict = named(part, results_of(part, rows), "tiny, HTTP: p50")
    assert (verdict.figure.low, verdict.figure.median, verdict.figure.high) == (0.25, 0.375, 0.5)
    assert verdict.result == "FAIL"


def test_throughput_is_compared_with_the_better_number_of_instances(part):
    rows = [
        (0, "ours", "HTTP", 16, 1.0, 1.0, 900.0),
        (0, "triton", "HTTP", 16, 1.0, 1.0, 300.0),
        (0, "triton2", "HTTP", 16, 1.0, 1.0, 400.0),
        (0, "triton2", "gRPC", 16, 1.0, 1.0, 800.0),
    ]
    verdict = named(part, results_of(part, rows), "tiny, HTTP, 16 at once")
    assert (verdict.figure.median, verdict.result) == (2.25, "pass")


def test_memory_must_be_below_every_peers(part):
    footprint = part("results").Footprint
    sizes = {"ours": 150, "triton": 200, "mlserver": 140, "grpc-inline": 60}
    prints = [footprint(0, name, 1.0, size, size, 0.0, 0.0, 1) for name, size in sizes.items()]
    verdict = named(part, part("results").Results(footprints=prints), "memory (PSS) idle")
    assert verdict.figure.median == pytest.approx(150 / 140)
    assert verdict.result == "FAIL"


def test_the_command_line_takes_lists_with_commas(part, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serving.py", "--servers", "ours,triton", "--models", "tiny,small"])
    options = part("serving").arguments()
    assert (options.servers, options.models) == (["ours", "triton"], ["tiny", "small"])


def test_an_unknown_server_is_refused_with_the_names_there_are(part, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serving.py", "--servers", "tritan"])
    with pytest.raises(SystemExit):
        part("serving").arguments()
    assert "tritan: expected of ours,triton" in capsys.readouterr().err


def test_quick_is_one_round_without_the_slowest_net(part, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serving.py", "--quick"])
    options = part("serving").arguments()
    plan = part("serving").plan_of(options)
    assert (plan.rounds, options.models) == (1, ["tiny", "small", "medium"])


def test_a_peer_that_could_not_be_set_up_is_named_with_the_reason(part, monkeypatch, tmp_path):
    setup = part("setup_peers")

    def fail():
        raise setup.SetupError("pip: ERROR: no\n network")

    monkeypatch.setattr(setup, "BENCH", tmp_path)
    monkeypatch.setitem(setup._MAKERS, "triton", fail)
    assert setup.set_up("triton") == "pip: ERROR: no\n network"
    assert setup.why_not_set_up("triton") == "not set up (pip: ERROR: no network); make serving-peers"


def test_a_peer_is_set_up_once(part, monkeypatch, tmp_path):
    setup = part("setup_peers")
    made = []
    monkeypatch.setattr(setup, "BENCH", tmp_path)
    monkeypatch.setitem(setup._MAKERS, "tools", lambda: made.append("tools"))
    assert (setup.set_up("tools"), setup.set_up("tools"), made) == (None, None, ["tools"])
