from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator

import pytest
from fakes.tegrastats import ALWAYS, LINE, fake_tegrastats, parsed

from edge_runtime.device.telemetry.sources.tegrastats import TegrastatsSource, find_tegrastats
from edge_runtime.errors import TelemetryError

PATIENT_S = 20.0
HANGING = "exec sleep 600"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., TegrastatsSource]]:
    sources = []

    def start(*commands: str, interval_s: float = 0.02, **options: object) -> TegrastatsSource:
        path = fake_tegrastats(tmp_path, *commands)
        sources.append(TegrastatsSource(path, parsed, interval_s, **options))
        return sources[-1]

    yield start
    for source in sources:
        source.close()


def child_of(source: TegrastatsSource) -> int:
    return source._child._process.pid


def is_gone(pid: int) -> bool:
    """Whether no such process is left, not even a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_lines_become_samples_at_the_interval_asked_for(started: Callable[..., TegrastatsSource]) -> None:
    source = started(f'echo "{LINE} $1 $2"', ALWAYS, interval_s=0.05)
    for _ in range(3):
        sample = source.read(PATIENT_S)
        assert sample is not None
        assert sample.power_mw["VDD_IN"].cur_mw == 13798
    assert (source.origin.source, source.is_paced, source.restarts) == ("tegrastats", True, 0)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo 'made-up failure' >&2; exit 3", "ended with exit status 3: made-up failure"),
        ("printf 'first\\nlast\\n\\n' >&2; exit 1", "ended with exit status 1: last"),
        ("exit 0", "ended with exit status 0$"),
        ("kill -KILL $$", "was ended by SIGKILL$"),
        ("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1", "ended with exit status 1: x{300}$"),
        (f"{HANGING} >/dev/null", "closed its output"),
    ],
)
def test_its_end_is_an_error_with_its_last_words(
    started: Callable[..., TegrastatsSource], command: str, message: str
) -> None:
    with pytest.raises(TelemetryError, match=message):
        started(command).read(PATIENT_S)


def test_samples_before_its_end_are_given_first(started: Callable[..., TegrastatsSource]) -> None:
    source = started(f"echo '{LINE}'", "exit 3")
    assert source.read(PATIENT_S) is not None
    with pytest.raises(TelemetryError, match="status 3"):
        source.read(PATIENT_S)


def test_it_ends_though_a_child_of_its_own_holds_its_terminal_and_that_ends_too(
    started: Callable[..., TegrastatsSource], tmp_path: Path
) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    source = started(f"exec 3>'{fifo}'", "sleep 600 &", "exit 3")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(fifo.read_bytes)  # until the last process that holds it is gone
        with pytest.raises(TelemetryError, match="status 3"):
            source.read(PATIENT_S)
        assert ended.result(PATIENT_S) == b""


def test_it_is_started_anew_a_bounded_number_of_times(started: Callable[..., TegrastatsSource]) -> None:
    class Clock:
        now_ns = 0

        def __call__(self) -> int:
            self.now_ns += 40_000_000_000  # past every pause, without waiting for it
            return self.now_ns

    source = started("exit 3", interval_s=100.0, clock=Clock())
    messages = []
    for _ in range(12):
        with pytest.raises(TelemetryError) as failure:
            source.read(1e6)
        messages.append(str(failure.value))
    assert source.restarts == 8
    assert ["isn't started again" in message for message in messages] == [False] * 9 + [True] * 3


def test_a_pause_before_a_restart_is_no_wait_beyond_the_callers(started: Callable[..., TegrastatsSource]) -> None:
    source = started("exit 3")
    for _ in range(2):
        with pytest.raises(TelemetryError):
            source.read(PATIENT_S)
    assert source.read(0.0) is None


def test_noise_alone_is_an_error_that_shows_it(started: Callable[..., TegrastatsSource]) -> None:
    source = started("while :; do echo 'NV Power Mode: 15W'; sleep 0.01; done")

    def read_on() -> None:
        while source.read(0.05) is None:
            pass

    with pytest.raises(TelemetryError, match="no samples: 'NV Power Mode: 15W'"):
        read_on()


def test_silence_is_none(started: Callable[..., TegrastatsSource]) -> None:
    assert started(HANGING).read(0.01) is None


def test_one_that_hangs_is_ended_and_started_anew(started: Callable[..., TegrastatsSource]) -> None:
    clock = [0]
    source = started(HANGING, clock=lambda: clock[0])
    assert source.read(0.0) is None
    pid = child_of(source)
    clock[0] = 11_000_000_000
    with pytest.raises(TelemetryError, match="gave no sample for 11 s and was ended"):
        source.read(0.0)
    assert is_gone(pid)
    assert source.read(0.0) is None
    assert source.restarts == 1


@pytest.mark.parametrize(
    "commands",
    [
        [f"yes '{LINE}'"],
        ["head -c 3000000 /dev/zero | tr '\\0' x", "echo", ALWAYS],
        ["head -c 200000 /dev/urandom", "echo", ALWAYS],
        [f"printf '%s' '{LINE}' | head -c 60", "sleep 0.1", f"printf '%s\\n' '{LINE}' | tail -c +61", ALWAYS],
        ["date", ALWAYS],
    ],
    ids=["flood", "megabytes", "binary", "halves", "date"],
)
def test_samples_are_found_in_whatever_it_prints(started: Callable[..., TegrastatsSource], commands: list) -> None:
    source = started(*commands)
    for _ in range(3):
        sample = None
        while sample is None:
            sample = source.read(PATIENT_S)
        assert sample.power_mw["VDD_IN"].cur_mw == 13798


def test_a_flood_gives_no_more_samples_than_twice_its_rate(started: Callable[..., TegrastatsSource]) -> None:
    source = started(f"yes '{LINE}'", interval_s=100.0)
    assert source.read(PATIENT_S) is not None
    assert source.read(0.2) is None


@pytest.mark.parametrize("commands", [[ALWAYS], ["trap '' TERM HUP INT", "sleep 600 & wait", HANGING]])
def test_closing_leaves_no_process_and_no_descriptor(started: Callable[..., TegrastatsSource], commands: list) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = started(*commands)
    source.read(0.05)
    pid = child_of(source)
    source.close()
    source.close()
    assert is_gone(pid)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert source.read(1.0) is None


def test_it_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    fake_tegrastats(tmp_path, f"exec 3>'{fifo}'", f"echo '{LINE}'", HANGING)
    code = (
        "from pathlib import Path; from fakes.tegrastats import parsed; "
        "from edge_runtime.device.telemetry.sources.tegrastats import TegrastatsSource; "
        f"s = TegrastatsSource(Path({str(tmp_path / 'tegrastats')!r}), parsed, 0.02); print(s.read(20.0), flush=True); "
        "input()"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[3]), str(Path(__file__).parents[4])])
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner, fifo.open("rb") as held:
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
        assert held.read() == b""  # ends when the last process that holds it is gone


def test_what_cant_be_run_is_said(tmp_path: Path) -> None:
    source = TegrastatsSource(tmp_path / "nowhere", parsed, 0.1)
    with pytest.raises(TelemetryError, match="nowhere can't be run"):
        source.read(PATIENT_S)
    source.close()


def test_it_is_found_on_path_or_where_releases_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tegrastats(tmp_path) is None
    path = fake_tegrastats(tmp_path / "usr/sbin", "exit 0")
    assert find_tegrastats(tmp_path) == path
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/tegrastats").write_text("may not be run")
    assert find_tegrastats(tmp_path) == path
    monkeypatch.setenv("PATH", str(path.parent))
    assert find_tegrastats() == path
