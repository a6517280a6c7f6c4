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
