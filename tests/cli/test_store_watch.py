from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from fakes.multiplying_plans import flip_a_bit, publish

from edge_runtime.cli.store_watch import StoreWatch
from edge_runtime.errors import PlanError
from edge_runtime.plan.store import PlanStore


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path, clock: Clock) -> StoreWatch:
    """Of a store with two versions of `m`, that has seen it for a while."""
    for factor in (1, 2):
        publish(tmp_path, "m", factor)
    found = StoreWatch(tmp_path, clock)
    for clock.now_s in range(10):
        found.stamps()
    return found


def served(watch: StoreWatch) -> dict[str, str]:
    return {name: stamp.version for name, stamp in watch.stamps().items()}


def test_each_change_of_what_is_served_is_seen(watch: StoreWatch, tmp_path: Path) -> None:
    assert served(watch) == {"m": "2"}
    publish(tmp_path, "m", 3)
    assert served(watch) == {"m": "3"}
    PlanStore(tmp_path).serve("m", 1)
    assert served(watch) == {"m": "1"}
    (tmp_path / "m" / "current").unlink()
    assert served(watch) == {"m": "3"}
    publish(tmp_path, "other", 1)
    assert served(watch) == {"m": "3", "other": "1"}


def test_files_that_are_put_there_anew_are_seen(watch: StoreWatch, tmp_path: Path) -> None:
    before = watch.stamps()["m"]
    plan = tmp_path / "m" / "2" / "model.onnx"
    plan.with_name("new").write_bytes(plan.read_bytes())
    plan.with_name("new").replace(plan)
    assert watch.stamps()["m"] != before


def test_changes_within_one_tick_of_the_file_systems_clock_are_seen(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for factor in (1, 2):
        publish(tmp_path, "m", factor)
    monkeypatch.setattr("edge_runtime.cli.store_watch._changed_ns", lambda path: 7)
    watch = StoreWatch(tmp_path, clock)
    assert served(watch) == {"m": "2"}
    clock.now_s = 1.0
    publish(tmp_path, "m", 3)
    assert served(watch) == {"m": "3"}


def test_a_store_that_rests_is_hardly_read(watch: StoreWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    read: List[str] = []
    monkeypatch.setattr(PlanStore, "versions", lambda self, name: read.append(name))
    assert served(watch) == {"m": "2"}
    assert read == []


@pytest.mark.parametrize("pointer", ["9", "x", ""])
def test_a_pointer_to_nothing_is_a_stamp_of_its_own(watch: StoreWatch, tmp_path: Path, pointer: str) -> None:
    (tmp_path / "m" / "current").write_text(pointer)
    assert served(watch) == {"m": ""}


def test_what_is_no_model_is_left_out(watch: StoreWatch, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert served(watch) == {"m": "2"}


def test_a_store_that_cant_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="can't be read"):
        StoreWatch(tmp_path / "none").stamps()


def test_damage_alone_changes_nothing_that_is_served(watch: StoreWatch, tmp_path: Path) -> None:
    before = watch.stamps()
    flip_a_bit(tmp_path / "m" / "2" / "model.onnx")
    assert watch.stamps() == before
