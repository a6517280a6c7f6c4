from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import pytest
from fakes.fleets import publish, quick_build, write_recipe
from fakes.heard import Heard

from edge_runtime.builder.progress import Progress
from edge_runtime.errors import BackendUnavailableError
from edge_runtime.plan.progress import progress_text
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.provisioning.rebuild import RebuildReport, misfits, rebuild
from edge_runtime.provisioning.recipe_build import FAILED, FleetOptions, Outcome
from edge_runtime.provisioning.sources import Source


@pytest.fixture
def options(tmp_path: Path) -> FleetOptions:
    return FleetOptions(tmp_path / "engines", tmp_path / "calib_cache")


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    folder = tmp_path / "requests"
    folder.mkdir()
    return folder


def run(options: FleetOptions, requests: Path | None = None) -> RebuildReport:
    return rebuild(options, requests, Heard(), build_one=quick_build)


def states(report: RebuildReport) -> List[str]:
    return [f"{outcome.model} {outcome.state}" for outcome in report.fleet.outcomes]


def test_a_plan_that_does_not_fit_is_built_anew_and_one_that_does_is_left(options: FleetOptions) -> None:
    store = PlanStore(options.engines)
    for model, backend in (("cpu", "onnxruntime"), ("other", "another_library")):
        write_recipe(options.engines, model)
        publish(store, model, backend=backend)
    assert list(misfits(store)) == ["other"]
    report = run(options)
    assert states(report) == ["other built"]
    assert "built for backend 'another_library'" in report.why["other"]
    assert (store.versions("cpu"), store.versions("other")) == ([1], [1, 2])
    assert run(options).fleet.outcomes == ()


def test_a_library_that_is_not_there_at_all_is_no_reason(
    options: FleetOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PlanStore(options.engines)
    publish(store, "gpu")
    publish(store, "broken")
    (store.root / "broken/1/manifest.json").write_text("{}")

    def missing(stored: StoredPlan) -> None:
        raise BackendUnavailableError("no GPU")

    monkeypatch.setattr("edge_runtime.provisioning.rebuild.preflight", missing)
    assert list(misfits(store)) == ["broken"]


def test_the_old_plan_is_served_until_the_new_one_is_there(options: FleetOptions) -> None:
    store = PlanStore(options.engines)
    write_recipe(options.engines, "m")
    publish(store, "m", backend="another_library")
    served = []

    def watching(source: Source, options: FleetOptions, progress: Progress) -> Outcome:
        served.append(store.served("m"))
        return quick_build(source, options, progress)

    rebuild(options, None, Heard(), build_one=watching)
    assert [*served, store.served("m")] == [1, 2]


def test_a_request_is_removed_when_it_is_answered(options: FleetOptions, requests: Path) -> None:
    write_recipe(options.engines, "m")
    (requests / "m").touch()
    (requests / "a b").touch()
    report = run(options, requests)
    assert (states(report), report.why, report.is_good) == (["m built"], {"m": "a server asked for it"}, True)
    assert list(requests.iterdir()) == []
    (requests / "m").touch()
    assert states(run(options, requests)) == ["m unchanged"]


def test_a_request_that_cannot_be_met_is_answered_too(options: FleetOptions, requests: Path) -> None:
    write_recipe(options.engines, "m")
    for model in ("m", "nobodys"):
        (requests / model).touch()

    def failing(source: Source, options: FleetOptions, progress: Progress) -> Outcome:
        return Outcome(source.model, FAILED, str(source.path), reason="no data")

    report = rebuild(options, requests, Heard(), build_one=failing)
    assert (states(report), report.is_good) == (["m failed", "nobodys failed"], False)
    assert list(requests.iterdir()) == []
    assert progress_text(options.engines, "m") == "building it failed: failed: no data"
    assert "no recipe of it" in progress_text(options.engines, "nobodys")
    run(options, requests)
    assert "no data" in progress_text(options.engines, "m")


def test_a_request_stays_while_its_build_is_cut_short(options: FleetOptions, requests: Path) -> None:
    write_recipe(options.engines, "m")
    (requests / "m").touch()

    def cut(source: Source, options: FleetOptions, progress: Progress) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(options, requests, Heard(), build_one=cut)
    assert states(run(options, requests)) == ["m built"]


def test_a_request_that_cannot_be_removed_is_told(options: FleetOptions, requests: Path) -> None:
    (requests / "full").mkdir()
    (requests / "full/file").touch()
    report = run(options, requests)
    assert (report.left, report.is_good, report.record()["requests_left"]) == (("full",), False, ["full"])


def test_a_model_of_a_pack_is_built_from_its_newest_release(options: FleetOptions, requests: Path) -> None:
    for release in ("1", "2"):
        folder = options.engines / ".packs/m" / release
        write_recipe(folder, "recipe")
        (folder / "pack.dsse.json").touch()
    (requests / "m").touch()
    (outcome,) = run(options, requests).fleet.outcomes
    assert outcome.source.endswith(".packs/m/2/recipe.toml")
    assert PlanStore(options.engines).models() == ["m"]


def test_the_record_is_for_programs(options: FleetOptions) -> None:
    empty: Dict[str, object] = {"schema": 1, "is_good": True, "has_key": False, "models": []}
    assert run(options).record() == {**empty, "why": {}, "requests_left": []}
