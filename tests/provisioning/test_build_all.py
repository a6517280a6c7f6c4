from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from fakes.fleets import publish, quick_build, write_recipe
from fakes.heard import Heard

from edge_runtime.builder.progress import Progress
from edge_runtime.errors import ConfigError, PlanError, StoreBusyError
from edge_runtime.plan.keys import DEVICE_BUILT, new_key, write_key_pair
from edge_runtime.plan.progress import progress_text, read_progress
from edge_runtime.plan.store import PlanStore
from edge_runtime.provisioning.build_all import FleetReport, build_all
from edge_runtime.provisioning.recipe_build import (
    BUILT,
    FAILED,
    REFUSED,
    SKIPPED,
    UNCHANGED,
    FleetOptions,
    Outcome,
)
from edge_runtime.provisioning.sources import Source
from edge_runtime.provisioning.store_turn import store_turn


@pytest.fixture
def options(tmp_path: Path) -> FleetOptions:
    return FleetOptions(tmp_path / "engines", tmp_path / "calib_cache")


def run(options: FleetOptions, heard: Heard | None = None) -> FleetReport:
    return build_all(options, heard or Heard(), build_one=quick_build)


def states(report: FleetReport) -> List[str]:
    return [f"{outcome.model} {outcome.state}" for outcome in report.outcomes]


def test_what_is_built_stays_and_what_changed_is_built(options: FleetOptions) -> None:
    for model in ("a", "b"):
        write_recipe(options.engines, model)
    heard = Heard()
    assert states(run(options, heard)) == ["a built", "b built"]
    assert heard.stages == ["a: reading the recipe", "a: publishing", "b: reading the recipe", "b: publishing"]
    assert states(run(options)) == ["a unchanged", "b unchanged"]
    write_recipe(options.engines, "b", more="[gate]\nmax_drop = 0.5\n")
    assert states(run(options)) == ["a unchanged", "b built"]


def test_a_recipe_that_fails_keeps_no_other_from_being_built(options: FleetOptions) -> None:
    write_recipe(options.engines, "a").write_text("[model\n")
    write_recipe(options.engines, "b")
    write_recipe(options.engines, "c")

    def refusing(source: Source, options: FleetOptions, progress: Progress) -> Outcome:
        if source.model == "b":
            return Outcome("b", REFUSED, str(source.path), reason="int8 loses too much")
        return quick_build(source, options, progress)

    report = build_all(options, Heard(), build_one=refusing)
    assert states(report) == ["a failed", "b refused", "c built"]
    assert (report.is_good, report.bad) == (False, ["a", "b"])
    assert "not valid TOML" in report.outcomes[0].reason
    assert progress_text(options.engines, "b") == "building it failed: refused: int8 loses too much"
    assert progress_text(options.engines, "c") == "a new version was built"


@pytest.mark.parametrize(
    ("state", "good"), [(BUILT, True), (UNCHANGED, True), (FAILED, False), (REFUSED, False), (SKIPPED, False)]
)
def test_a_run_is_good_if_every_model_has_its_plan(state: str, good: bool) -> None:
    report = FleetReport((Outcome("a", BUILT, ""), Outcome("m", state, "")), False)
    assert report.is_good is good
    assert report.record()["is_good"] is good


def test_a_run_that_is_cut_short_is_gone_on_with(options: FleetOptions) -> None:
    for model in ("a", "b"):
        write_recipe(options.engines, model)

    def cut(source: Source, options: FleetOptions, progress: Progress) -> Outcome:
        if source.model == "b":
            raise KeyboardInterrupt
        return quick_build(source, options, progress)

    with pytest.raises(KeyboardInterrupt):
        build_all(options, Heard(), build_one=cut)
    assert progress_text(options.engines, "b") == "being built: reading the recipe"
    assert states(run(options)) == ["a unchanged", "b built"]


def test_old_versions_go_once_the_new_one_is_there(options: FleetOptions) -> None:
    write_recipe(options.engines, "m")
    store = PlanStore(options.engines)
    for _ in range(4):
        publish(store, "m")
    report = run(FleetOptions(options.engines, options.calib_cache, keep=1))
    assert list(report.outcomes[0].removed) == [1, 2, 3]
    assert store.versions("m") == [4, 5]


def test_nothing_is_removed_where_building_failed(options: FleetOptions) -> None:
    write_recipe(options.engines, "m").write_text("[model\n")
    store = PlanStore(options.engines)
    for _ in range(4):
        publish(store, "m")
    run(options)
    assert store.versions("m") == [1, 2, 3, 4]


def test_a_version_that_cannot_be_removed_is_told_and_the_plan_is_built_all_the_same(
    options: FleetOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(options.engines, "m")

    def failing(store: PlanStore, name: str, keep: int) -> None:
        raise PlanError("versions can't be removed")

    monkeypatch.setattr(PlanStore, "prune", failing)
    heard = Heard()
    assert states(run(options, heard)) == ["m built"]
    assert heard.notes == ["m: versions can't be removed"]


def test_a_second_run_is_refused_before_it_touches_anything(options: FleetOptions) -> None:
    write_recipe(options.engines, "m")
    with store_turn(options.engines), pytest.raises(StoreBusyError):
        run(options)
    assert read_progress(options.engines) is None


def test_a_store_without_recipes_is_good(options: FleetOptions) -> None:
    assert run(options).record() == {"schema": 1, "is_good": True, "has_key": False, "models": []}


def test_a_key_that_cannot_be_used_is_told_before_anything_is_built(options: FleetOptions, tmp_path: Path) -> None:
    write_recipe(options.engines, "m")
    with pytest.raises(ConfigError):
        run(FleetOptions(options.engines, options.calib_cache, sign=tmp_path / "absent.key"))
    assert PlanStore(options.engines).models() == []
    private, _ = write_key_pair(new_key("device", DEVICE_BUILT), tmp_path / "keys")
    assert run(FleetOptions(options.engines, options.calib_cache, sign=private)).has_key
