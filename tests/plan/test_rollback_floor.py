from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError, PlanRollbackError
from edge_runtime.plan.rollback_floor import RollbackFloor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/floor.json"


def test_without_a_file_every_version_may_be_loaded(path: Path) -> None:
    RollbackFloor(path).check("m", 1)
    assert not path.parent.exists()


def test_a_floor_rises_and_never_falls_by_itself(path: Path) -> None:
    floor = RollbackFloor(path)
    for version in (3, 2):
        floor.raise_floor("m", version)
    floor.raise_floor("other", 1)
    assert json.loads(path.read_text()) == {"schema": 1, "versions": {"m": 3, "other": 1}}
    floor.check("m", 3)
    floor.check("m", 4)
    with pytest.raises(PlanRollbackError, match="model 'm' version 2: expected version 3 or later"):
        floor.check("m", 2)


def test_an_operator_may_lower_it(path: Path) -> None:
    floor = RollbackFloor(path)
    floor.raise_floor("m", 3)
    floor.allow("m", 2)
    floor.check("m", 2)
    assert floor.lowest("m") == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": 2, "versions": {}}',
        '{"schema": 1, "versions": []}',
        '{"schema": 1, "versions": {"m": 1}, "more": 0}',
        '{"schema": 1, "versions": {"m": "3"}}',
        '{"schema": 1, "versions": {"m": true}}',
        '{"schema": 1, "versions": {"m": 0}}',
        '{"schema": 1, "versions": {"m": 3, "m": 1}}',
        '{"schema": 1, "versions": {"../m": 3}}',
    ],
)
def test_a_broken_file_refuses_and_stays_as_it_is(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    floor = RollbackFloor(path)
    for act in (floor.check, floor.raise_floor, floor.allow):
        with pytest.raises(PlanRollbackError, match=r"can't be read .* then remove the file"):
            act("m", 9)
    assert path.read_text() == content


def test_a_link_is_no_floor(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "absent")
    with pytest.raises(PlanRollbackError):
        RollbackFloor(path).check("m", 9)


def test_what_cannot_be_written_is_said(path: Path, tmp_path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(ConfigError, match="can't be written"):
        RollbackFloor(path).raise_floor("m", 1)


def _raise_each(path: Path, model: str) -> None:
    for version in range(1, 20):
        RollbackFloor(path).raise_floor(model, version)


def test_writers_do_not_lose_each_others_floors(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_raise_each, args=(path, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert json.loads(path.read_text())["versions"] == {"a": 19, "b": 19}
