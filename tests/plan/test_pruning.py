from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from plan.test_store import publish

from edge_runtime.errors import PlanCorruptError, PlanError, PlanNotFoundError
from edge_runtime.plan import writing
from edge_runtime.plan.store import PlanStore
from edge_runtime.plan.writing import superseded


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "engines")


@pytest.mark.parametrize(
    ("versions", "served", "keep", "gone"),
    [
        ([1, 2, 3, 4, 5], 5, 2, [1, 2]),
        ([1, 2, 3, 4, 5], 5, 0, [1, 2, 3, 4]),
        ([1, 2, 3, 4, 5], 3, 1, [1]),
        ([1, 2, 3, 4, 5], 5, 1, [1, 2, 3]),
        ([4, 9, 11], 11, 2, []),
        ([7], 7, 0, []),
        ([], 0, 2, []),
    ],
)
def test_the_served_version_and_the_newest_below_it_stay(
    versions: List[int], served: int, keep: int, gone: List[int]
) -> None:
    assert superseded(versions, served, keep) == gone


def test_old_versions_go_and_their_numbers_are_not_used_again(store: PlanStore) -> None:
    for _ in range(5):
        publish(store)
    assert store.prune("m", 2) == [1, 2]
    assert (store.versions("m"), store.served("m")) == ([3, 4, 5], 5)
    assert store.prune("m", 2) == []
    assert store.prune("m", 0) == [3, 4]
    assert publish(store).manifest.version == 6
    assert sorted(path.name for path in (store.root / "m").iterdir()) == [".highest", "5", "6"]


def test_going_back_keeps_what_is_served_and_what_is_newer(store: PlanStore) -> None:
    for _ in range(4):
        publish(store)
    store.serve("m", 2)
    assert store.prune("m", 0) == [1]
    assert (store.versions("m"), store.served("m")) == ([2, 3, 4], 2)


def test_a_current_that_leads_nowhere_keeps_everything(store: PlanStore) -> None:
    publish(store), publish(store)
    (store.root / "m/current").write_text("9\n")
    with pytest.raises(PlanNotFoundError):
        store.prune("m", 0)
    assert store.versions("m") == [1, 2]


def test_a_model_without_versions_gets_no_folder(store: PlanStore) -> None:
    assert store.prune("m", 2) == []
    assert not store.root.exists()


def test_what_was_read_stays_and_what_is_read_too_late_is_refused(store: PlanStore) -> None:
    early, late = publish(store), publish(store)
    parts = early.open_parts()
    publish(store)
    store.prune("m", 0)
    assert parts[0].files.model == b"plan bytes"
    with pytest.raises(PlanCorruptError):
        late.open_parts()


def test_a_version_that_cannot_be_removed_is_told(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store), publish(store)

    def full(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(writing, "sync_folder", full)
    with pytest.raises(PlanError, match="versions can't be removed"):
        store.prune("m", 0)
    assert store.open("m").read_plan()


def test_trash_of_a_killed_run_is_cleared_by_the_next_writer(store: PlanStore, tmp_path: Path) -> None:
    publish(store)
    (store.root / "m/1").rename(store.root / "m/.trash-1-ab")
    (tmp_path / "kept").mkdir()
    (store.root / "m/.trash-link").symlink_to(tmp_path / "kept")
    publish(store)
    assert sorted(path.name for path in (store.root / "m").iterdir()) == [".highest", "2"]
    assert (tmp_path / "kept").is_dir()


def test_a_pruner_killed_at_any_moment_leaves_whole_plans(store: PlanStore) -> None:
    publish(store)
    code = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from plan.test_store import PlanStore, publish\n"
        f"store = PlanStore(Path({str(store.root)!r}))\n"
        "print('ready', flush=True)\n"
        "while True: publish(store); store.prune('m', 2)\n"
    )
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        before = store.versions("m")[-1]
        while store.versions("m")[-1] < before + 5:
            os.sched_yield()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        versions = store.versions("m")
        assert all(store.open("m", version).read_plan() for version in versions)
        assert len(versions) <= 4
    store.prune("m", 2)
    assert not [path for path in (store.root / "m").iterdir() if path.name.startswith(".trash")]
