"""Figures 11 and 12: what a power cut, a kill at any system call and a failing disk leave behind."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from robustness.rows import NOT_MEASURED, Row, verdict_of

from operations.disk import Disk, missing, new_disk
from operations.places import own_environment, own_module

_MOST_MS = 900.0
_SYSTEM_CALLS = ("write", "pwrite64", "fsync", "rename", "renameat", "renameat2", "mkdir", "unlink", "unlinkat")
_FAULTS = (("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EROFS"))
_PATIENCE_S = 60.0
_FIRST_FAILURES = 3


def power_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Cuts at random moments, for each kind of writer."""
    goal = f"{options.cuts} of {options.cuts} good: nothing torn, nothing lost that was said to be there"
    if missing():
        yield Row("11 power cuts", goal, missing(), 0, NOT_MEASURED)
        return
    for kind in options.writers:
        with new_disk() as disk:
            failures, claims = _cut(disk, kind, options.cuts, random.Random(11))
        good = options.cuts - len(failures)
        text = f"{good} of {options.cuts} good; {claims} were cut after something was said to be there"
        if failures:
            text += f"; first: {' | '.join(failures[:_FIRST_FAILURES])}"
        yield Row(f"11 power cuts, {kind}", goal, text, options.cuts, verdict_of(not failures))


def _cut(disk: Disk, kind: str, cuts: int, rng: random.Random) -> Tuple[List[str], int]:
    """What was wrong after some of the cuts, and in how many cases the writer had claimed something."""
    failures: List[str] = []
    claims = 0
    for number in range(cuts):
        disk.format()
        disk.mount()
        subprocess.run(["sync"], check=True)
        claimed = _written(disk, kind, rng.uniform(0, _MOST_MS) / 1e3, rng.random() < 0.5)
        disk.unmount()
        disk.mount()
        claims += bool(claimed)
        problems = [_problem(kind, disk.folder, claim) for claim in claimed or [""]]
        if all(problems):
            failures.append(f"cut {number}, claimed {claimed}: {problems[0]}")
        disk.unmount()
    return failures, claims


def _written(disk: Disk, kind: str, wait_s: float, flushes_log: bool) -> List[str]:
    """The last claim of a writer that was running when the power was cut, and the one before.

    The writer may have printed the last one just after the cut, in which case the one before it must hold.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            own_module("writers", kind, str(disk.folder)),
            env=own_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()  # it is about to write
        relay = subprocess.Popen(["cat"], stdin=process.stdout, stdout=said)
        time.sleep(wait_s)
        disk.cut_power(flushes_log)
        said.flush()
        said.seek(0)
        claimed = [line.split(None, 1)[1] for line in said.read().splitlines() if line.startswith("DURABLE ")]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        relay.wait()
    return claimed[:-3:-1]


def _problem(kind: str, folder: Path, claim: str) -> str:
    """What is wrong with what a writer left, "" if nothing is."""
    done = subprocess.run(
        own_module("writers", kind, str(folder), "--check", claim),
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit {done.returncode}")


def kill_rows(options: argparse.Namespace) -> Iterator[Row]:
    """A writer killed at each of its first mutating system calls."""
    faults = [(call, "signal=KILL:when={}") for call in _SYSTEM_CALLS]
    return _traced_rows(options, "11 killed at a system call", "old or new, both valid", faults)


def fault_rows(options: argparse.Namespace) -> Iterator[Row]:
    """A disk that is full, fails or can't be written."""
    faults = [(call, f"error={error}:when={{}}+") for call, error in _FAULTS]
    return _traced_rows(options, "12 failing disk", "the error is told, no partial file, what was there stays", faults)


def _traced_rows(
    options: argparse.Namespace, figure: str, goal: str, faults: Sequence[Tuple[str, str]]
) -> Iterator[Row]:
    """Each writer with each fault at each of its first calls of that name."""
    if shutil.which("strace") is None:
        yield Row(figure, goal, "needs strace (apt-get install strace)", 0, NOT_MEASURED)
        return
    for kind in options.writers:
        failures: List[str] = []
        tried = 0
        for call, fault in faults:
            for when in range(1, options.calls + 1):
                with tempfile.TemporaryDirectory(prefix="edge-runtime-fault-") as name:
                    problem, was_hit = _traced(kind, Path(name), f"{call}:{fault.format(when)}")
                if not was_hit:
                    break
                tried += 1
                failures += [f"{call}:{fault.format(when)}: {problem}"] if problem else []
        text = f"{tried - len(failures)} of {tried} good" + (f"; first: {failures[0]}" if failures else "")
        yield Row(f"{figure}, {kind}", goal, text, tried, verdict_of(not failures and tried > 0))


def _traced(kind: str, folder: Path, fault: str) -> Tuple[str, bool]:
    """What is wrong after a writer met a fault, and whether it did meet it."""
    call = fault.partition(":")[0]
    log = folder.parent / f"{folder.name}.strace"
    words = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={fault}"]
    try:
        done = subprocess.run(
            [*words, *own_module("writers", kind, str(folder), "--rounds", "2")],
            env=own_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
        was_hit = "INJECTED" in log.read_text() or "killed by SIGKILL" in log.read_text()
    finally:
        log.unlink(missing_ok=True)
    claimed = [line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("DURABLE ")]
    problem = _problem(kind, folder, claimed[-1] if claimed else "")
    if "error=" in fault and was_hit and done.returncode != 1:
        problem = problem or f"exit {done.returncode} where 1 is expected"
    if "error=" in fault and was_hit and "Traceback" in done.stderr:
        problem = problem or f"an error that isn't ours: {done.stderr.strip().splitlines()[-1]}"
    return problem, was_hit
