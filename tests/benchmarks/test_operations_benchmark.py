"""The pure parts of `benchmarks/operations.py`: what it looks for, and how it damages what it tries."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Callable

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def part() -> Callable[[str], ModuleType]:
    """Imports a module of the benchmark by its name."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(BENCHMARKS))
        try:
            return importlib.import_module(f"operations.{name}")
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load


@pytest.mark.parametrize(("offset", "expected"), [(0, 1), (4096, 1), (4099, 1), (1 << 20, 1)])
def test_a_stretch_of_plain_text_is_found_at_any_place_of_an_image(part, tmp_path, offset, expected) -> None:
    secrecy, disk = part("secrecy"), part("disk").Disk(tmp_path, 2 << 20)
    secret = bytes(range(100, 132))
    with disk.image.open("wb") as file:
        file.truncate(2 << 20)
        file.seek(offset)
        file.write(secret)
    assert secrecy.search(disk, frozenset([secret, secret[::-1]]))[0] == expected


def test_every_kind_of_damage_changes_the_file(part) -> None:
    tampering = part("tampering")
    head, full = tampering.HEADER_NBYTES, tampering.CHUNK_NBYTES + 16
    whole, twin = (bytes([n]) * head + b"".join(bytes([n, k]) * (full // 2) for k in range(3)) for n in (1, 2))
    found = list(tampering.damages(whole, twin))
    assert all(data != whole for _, data in found)
    counts = Counter(kind for kind, _ in found)
    assert (counts["chunks swapped"], counts["chunks left out"], counts["splices"]) == (3, 3, 9)


RUNNING, AWAY, BACK = ("m", 0.9, 1.1, 503), ("m", 1.2, 1.3, 503), ("m", 1.8, 2.0, 200)


@pytest.mark.parametrize(
    ("more", "expected", "is_held"),
    [
        ([], "0 lost, 0 wrong of 3; 1 that ran had their 503 after at most 100 ms", True),
        ([("m", 0.9, 5.0, 503)], "after at most 4000 ms", False),
        ([("m", 1.2, 1.3, 0)], "1 lost", False),
        ([("m", 0.1, 0.2, 200)], "1 wrong of 4", False),
        ([("other", 0.9, 1.1, 503)], "1 refused without cause, first other: why", False),
        ([("m", 2.1, 2.2, 503)], "1 refused without cause", False),
    ],
)
def test_only_what_met_its_own_models_crash_may_be_refused(part, more, expected, is_held) -> None:
    module = part("engine_process")
    asked = [module.Asked(*each, each == BACK, "why") for each in [RUNNING, AWAY, BACK, *more]]
    text, found = module.result_of(asked, [module.Crash("m", 1.0, 2.0)])
    assert expected in text
    assert found == is_held


def test_crashes_that_met_no_running_request_or_took_too_long_to_mend_show_nothing(part) -> None:
    module = part("engine_process")
    asked = [module.Asked(*each, each == BACK) for each in [RUNNING, AWAY, BACK]]
    assert module.result_of(asked, [module.Crash("m", 1.0, 4.1)])[1] is False
    assert module.result_of(asked[1:], [module.Crash("m", 1.0, 2.0)])[1] is False
