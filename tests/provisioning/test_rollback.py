from __future__ import annotations

from pathlib import Path

import pytest
from fakes.multiplying_plans import SIGNATURE, flip_a_bit, publish
from fakes.stored_plans import stored_board_plan

from edge_runtime.errors import PlanCorruptError, PlanNotFoundError, PlanTargetError, PlanUntrustedError
from edge_runtime.plan.rollback_floor import RollbackFloor
from edge_runtime.plan.store import PlanStore
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.provisioning.rollback import roll_back

POLICY = TrustPolicy(folder=Path("/none"))


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    """Three versions of `m`, of which the highest is served."""
    for factor in (1, 2, 3):
        publish(tmp_path / "engines", "m", factor)
    return PlanStore(tmp_path / "engines")


def test_the_version_before_is_served_and_then_the_one_before_that(store: PlanStore) -> None:
    for before, after in ((3, 2), (2, 1)):
        done = roll_back(store, "m", POLICY)
        assert (done.before, done.after.manifest.version, store.served("m")) == (before, after, after)


def test_a_named_version_may_be_a_later_one(store: PlanStore) -> None:
    roll_back(store, "m", POLICY, to=1)
    assert roll_back(store, "m", POLICY, to=3).before == 1
    assert store.served("m") == 3
    assert not roll_back(store, "m", POLICY, to=3).is_change


@pytest.mark.parametrize("file", ["model.onnx", "golden.npz"])
def test_a_damaged_version_is_passed_over_and_refused_where_it_is_named(store: PlanStore, file: str) -> None:
    flip_a_bit(store.root / "m" / "2" / file)
    with pytest.raises(PlanCorruptError):
        roll_back(store, "m", POLICY, to=2)
    assert store.served("m") == 3
    done = roll_back(store, "m", POLICY)
    assert done.after.manifest.version == 1
    assert [each.version for each in done.skipped] == [2]


def test_a_version_for_another_board_is_refused(store: PlanStore) -> None:
    publish(store.root, "m", 4, backend={"name": "other", "version": "1", "platform": "other_onnx", "device": "cpu"})
    with pytest.raises(PlanTargetError):
        roll_back(store, "m", POLICY, to=4)


def test_from_a_gpu_to_the_cpu_it_goes_only_by_name(store: PlanStore) -> None:
    stored_board_plan(store.root, b"ftrt", SIGNATURE)
    with pytest.raises(PlanNotFoundError, match="version 3: it is for the CPU"):
        roll_back(store, "m", POLICY)
    assert roll_back(store, "m", POLICY, to=3).before == 4


def test_without_a_sound_older_version_it_says_why_of_each_and_changes_nothing(store: PlanStore) -> None:
    roll_back(store, "m", POLICY, to=2)
    flip_a_bit(store.root / "m" / "1" / "model.onnx")
    with pytest.raises(PlanNotFoundError, match=r"(?s)no sound version before 2.*version 1: .*model\.onnx"):
        roll_back(store, "m", POLICY)
    assert store.served("m") == 2


def test_a_pointer_to_nothing_is_mended(store: PlanStore) -> None:
    (store.root / "m" / "current").write_text("9\n")
    done = roll_back(store, "m", POLICY)
    assert (done.before, store.served("m")) == (None, 3)


@pytest.mark.parametrize(("name", "to"), [("none", None), ("m", 9)])
def test_what_isnt_there_is_said(store: PlanStore, name: str, to: int | None) -> None:
    with pytest.raises(PlanNotFoundError):
        roll_back(store, name, POLICY, to)


def test_the_floor_is_lowered_to_what_the_operator_went_back_to(store: PlanStore, tmp_path: Path) -> None:
    policy, floor = TrustPolicy(folder=Path("/none"), floor=tmp_path / "floor.json"), tmp_path / "floor.json"
    RollbackFloor(floor).raise_floor("m", 3)
    roll_back(store, "m", policy)
    assert RollbackFloor(floor).lowest("m") == 2
    roll_back(store, "m", policy, to=3)
    assert RollbackFloor(floor).lowest("m") == 2  # it rises when that version was loaded and found good


def test_what_nobody_vouches_for_is_refused_where_that_is_asked(store: PlanStore) -> None:
    with pytest.raises(PlanUntrustedError):
        roll_back(store, "m", TrustPolicy(require_signed=True, folder=Path("/none")), to=1)
    assert store.served("m") == 3
