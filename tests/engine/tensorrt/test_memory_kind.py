from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.cuda import DISCRETE, NANO, ORIN

from edge_runtime.engine.tensorrt.memory_kind import (
    MeasuredMemory,
    device_key,
    memory_kind,
    read_measured,
    write_measured,
)
from edge_runtime.errors import BackendError, BackendUnavailableError

KIB = 1 << 10
UNMAPPABLE = dataclasses.replace(ORIN, can_map_host=False)
XAVIER = dataclasses.replace(ORIN, compute_capability=(7, 2))


@pytest.mark.parametrize(
    ("nbytes", "device", "mode", "expected"),
    [
        (64 * KIB, ORIN, "auto", "mapped"),
        (64 * KIB + 1, ORIN, "auto", "copy"),
        (1, XAVIER, "auto", "mapped"),
        (1, NANO, "auto", "copy"),
        (1, DISCRETE, "auto", "copy"),
        (1, UNMAPPABLE, "auto", "copy"),
        (1 << 30, ORIN, "mapped", "mapped"),
        (1 << 30, DISCRETE, "mapped", "mapped"),
        (1, ORIN, "copy", "copy"),
    ],
)
def test_the_rule_until_a_board_was_measured(nbytes: int, device: Any, mode: str, expected: str) -> None:
    assert memory_kind(nbytes, device, mode, None) == expected


@pytest.mark.parametrize(
    ("largest", "nbytes", "device", "expected"),
    [
        (KIB, KIB, NANO, "mapped"),
        (KIB, KIB + 1, ORIN, "copy"),
        (0, 1, ORIN, "copy"),
        (None, 1 << 30, NANO, "mapped"),
        (None, 1, UNMAPPABLE, "copy"),
    ],
)
def test_what_was_measured_overrules_the_rule(largest: int | None, nbytes: int, device: Any, expected: str) -> None:
    assert memory_kind(nbytes, device, "auto", MeasuredMemory(largest, "a test")) == expected


def test_what_was_measured_does_not_overrule_a_choice() -> None:
    assert memory_kind(1, ORIN, "copy", MeasuredMemory(None, "a test")) == "copy"


def test_mapped_memory_on_a_device_that_has_none_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="'mapped': Fake Orin can't map the CPU's memory; use 'copy'"):
        memory_kind(1, UNMAPPABLE, "mapped", None)


def test_measurements_are_kept_by_device(tmp_path: Path) -> None:
    path = tmp_path / ".memory.json"
    assert read_measured(path, device_key(ORIN)) is None
    write_measured(path, device_key(ORIN), MeasuredMemory(4 * KIB, "first"))
    write_measured(path, device_key(NANO), MeasuredMemory(None, "second"))
    write_measured(path, device_key(ORIN), MeasuredMemory(0, "third"))
    assert read_measured(path, device_key(ORIN)) == MeasuredMemory(0, "third")
    assert read_measured(path, device_key(NANO)) == MeasuredMemory(None, "second")
    assert read_measured(path, device_key(XAVIER)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        "[" * 100_000,
        '{"schema": 2, "devices": {}}',
        '{"schema": 1}',
        '{"schema": 1, "devices": []}',
        '{"schema": 1, "devices": {"Fake Orin 8.7": 3}}',
        '{"schema": 1, "devices": {"Fake Orin 8.7": {"largest_mapped_nbytes": -1, "source": ""}}}',
        '{"schema": 1, "devices": {"Fake Orin 8.7": {"largest_mapped_nbytes": true, "source": ""}}}',
        '{"schema": 1, "devices": {"Fake Orin 8.7": {"largest_mapped_nbytes": 5}}}',
    ],
)
def test_a_file_that_cannot_be_understood_is_ignored_and_said(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".memory.json"
    path.write_text(text)
    assert read_measured(path, device_key(ORIN)) is None
    assert len(caplog.records) == 1
    assert "measure again" in caplog.text
    write_measured(path, device_key(ORIN), MeasuredMemory(7, "again"))
    assert read_measured(path, device_key(ORIN)) == MeasuredMemory(7, "again")
    assert json.loads(path.read_text())["schema"] == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"none/\.memory\.json: can't be written \(No such file"):
        write_measured(tmp_path / "none" / ".memory.json", "d", MeasuredMemory(1, "x"))
