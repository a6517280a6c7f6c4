from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

import pytest
from fakes.boards import clocks, power, tree

from edge_runtime.builder.builder import build
from edge_runtime.builder.job import BuildOptions
from edge_runtime.builder.progress import LoggedProgress
from edge_runtime.builder.recipe import make_recipe
from edge_runtime.device.power_mode import PowerMode
from edge_runtime.errors import ConfigError, PlanNotFoundError
from edge_runtime.plan.store import PlanStore
from edge_runtime.provisioning.sweep import SweepTools, sweep
from edge_runtime.provisioning.sweep_modes import Modes, modes_of
from edge_runtime.provisioning.sweep_plans import SweptPlan, built_plans, stored_plans
from edge_runtime.provisioning.sweep_settings import SweepSettings

QUICK = {"n": 10, "rounds": 2, "warm_up": 1}
HERE = Modes(None)
LOW, HIGH = PowerMode(1, "7W"), PowerMode(0, "15W")


class Setter:
    """A made-up setter of modes, which notes what it is told; those in `stuck` don't change."""

    def __init__(self, *stuck: str) -> None:
        self.calls: list[str] = []
        self._stuck = stuck

    def set(self, mode: PowerMode) -> None:
        self.calls.append(mode.name)
        if mode.name in self._stuck:
            raise ConfigError(f"{mode.name} wants a reboot")

    @contextlib.contextmanager
    def restored(self, mode: PowerMode) -> Iterator[None]:
        try:
            yield
        finally:
            self.calls.append(f"back to {mode.name}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, classifier: bytes) -> PlanStore:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "m.onnx").write_bytes(classifier)
    tables = {"model": {"path": "m.onnx", "max_batch": 6}, "precision": {"policy": "fp32"}}
    build(make_recipe(tables, "m", folder), BuildOptions(folder / "engines", folder / "cache"))
    return PlanStore(folder / "engines")


@pytest.fixture
def tools() -> SweepTools:
    return SweepTools(LoggedProgress(), Setter(), None, "no sensor")


def swept(store: PlanStore, tools: SweepTools, modes: Modes = HERE, **settings: Any) -> dict[str, Any]:
    chosen = SweepSettings(**{**QUICK, **settings})
    record = sweep("m", stored_plans(store, "m", chosen.precisions), modes, chosen, tools)
    return json.loads(json.dumps(record, allow_nan=False))  # type: ignore[no-any-return]


def test_every_batch_size_is_measured_and_missing_plans_are_refused_with_why(
    store: PlanStore, tools: SweepTools
) -> None:
    record = swept(store, tools)
    assert record["schema"] == "edge_runtime.sweep/1"
    labels = [point["label"] for point in record["points"] if point["refused"] is None]
    assert labels == [f"fp32, batch {batch}" for batch in (1, 2, 4, 6)]
    refused = {point["label"]: point["refused"] for point in record["points"] if point["refused"]}
    assert set(refused) == {"fp16", "int8"}
    assert "--build makes one" in refused["int8"]
    for point in record["points"][:4]:
        assert point["n"] == 10
        assert point["samples_per_s"] > 0
        assert (point["energy_mj"], point["quality"], point["p99_ms"]) == (None, None, None)
    assert "energy: no sensor" in record["not_measured"]
    assert record["recommended"] in labels
    assert sum(point["is_recommended"] for point in record["points"]) == 1


def test_a_batch_that_the_plan_was_not_built_for_is_refused(store: PlanStore, tools: SweepTools) -> None:
    record = swept(store, tools, precisions=("fp32",), batches=(1, 7))
    assert [point["refused"] for point in record["points"]] == [
        None,
        "batch 7: expected 1 to 6, as the plan was built for",
    ]


def test_no_point_is_recommended_where_none_keeps_the_limits(store: PlanStore, tools: SweepTools) -> None:
    record = swept(store, tools, precisions=("fp32",), batches=(1,), min_throughput=1e12, min_quality=0.9)
    assert record["recommended"] is None
    (point,) = record["points"]
    assert "at least 1e+12 is wanted; quality isn't known, at least 0.9 is wanted" in point["why_not"]
    assert point["is_pareto"]


def test_energy_is_a_samples_share_of_its_call_and_why_it_is_missing_is_said(store: PlanStore) -> None:
    answers = iter([(6.0, ""), (None, "too short")])
    tools = SweepTools(LoggedProgress(), Setter(), lambda _: next(answers))
    record = swept(store, tools, precisions=("fp32",), batches=(2, 4), objective="energy")
    assert [point["energy_mj"] for point in record["points"]] == [3.0, None]
    assert record["recommended"] == "fp32, batch 2"
    assert record["points"][1]["is_pareto"] is False
    assert "energy of fp32, batch 4: too short" in record["not_measured"]


def test_energy_that_cannot_be_had_cannot_be_chosen_by(store: PlanStore, tools: SweepTools) -> None:
    for settings in ({"objective": "energy"}, {"max_energy_mj": 1.0}):
        with pytest.raises(ConfigError, match="no sensor"):
            swept(store, tools, **settings)


def test_modes_are_visited_there_and_back_and_the_old_one_is_restored(store: PlanStore) -> None:
    setter = Setter()
    tools = SweepTools(LoggedProgress(), setter, None, "")
    record = swept(store, tools, Modes(HIGH, (LOW, HIGH)), precisions=("fp32",), batches=(1,))
    assert setter.calls == ["7W", "15W", "15W", "7W", "back to 15W"]
    assert [(point["power_mode"], point["n"]) for point in record["points"]] == [("7W", 10), ("15W", 10)]


def test_a_mode_that_does_not_come_is_refused_and_the_others_are_measured(store: PlanStore) -> None:
    tools = SweepTools(LoggedProgress(), Setter("7W"), None, "")
    record = swept(store, tools, Modes(HIGH, (LOW, HIGH)), precisions=("fp32",), batches=(1,))
    assert [point["refused"] for point in record["points"]] == ["7W wants a reboot", None]
    assert record["recommended"] == "fp32, batch 1, 15W"


def test_the_mode_is_restored_when_a_signal_ends_the_sweep(store: PlanStore) -> None:
    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    setter = Setter()
    tools = SweepTools(LoggedProgress(), setter, interrupted)
    with pytest.raises(KeyboardInterrupt):
        swept(store, tools, Modes(HIGH, (LOW,)), precisions=("fp32",), batches=(1,))
    assert setter.calls[-1] == "back to 15W"


def test_what_is_built_for_a_sweep_is_served_by_nobody(store: PlanStore, tmp_path: Path) -> None:
    folder = store.root.parent
    tables = {"model": {"path": "m.onnx"}, "precision": {"policy": "fp32"}}
    recipes = {
        "fp32": make_recipe(tables, "m", folder),
        "int8": make_recipe({**tables, "precision": {"policy": "int8"}}, "m", folder),
    }
    before = store.versions("m")
    found = built_plans(recipes, tmp_path / "own", tmp_path / "cache", LoggedProgress())
    assert found[0].plan is not None
    assert found[0].plan.folder.parent.parent == tmp_path / "own"
    assert (found[1].plan, found[1].refused[:10]) == (None, "not built:")
    assert store.versions("m") == before


def test_the_energy_of_a_replayed_board_is_said_to_be_an_example(store: PlanStore, tools: SweepTools) -> None:
    origin = {"replay_of": "a.log", "made_up": None, "label": "replay of a.log"}
    record = swept(store, replace(tools, energy=lambda _: (5.0, ""), origin=origin), batches=(1,))
    example = "replayed power over this machine's calls: an example, not a measurement"
    assert f"energy: {example} (replay of a.log)" in record["not_measured"]
    assert record["points"][0]["energy_mj"] == 5.0


def test_a_plan_that_failed_its_gate_is_never_recommended(store: PlanStore, tools: SweepTools) -> None:
    plan = store.open("m")
    forced = replace(plan, manifest=plan.manifest.model_copy(update={"forced": True}))
    settings = SweepSettings(**QUICK, batches=(1,))
    record = sweep("m", [SweptPlan("fp32", forced)], HERE, settings, tools)
    assert record["recommended"] is None
    assert "failures of the gate 1, at most 0 is wanted" in record["points"][0]["why_not"]


def test_a_model_without_plans_is_refused(store: PlanStore) -> None:
    with pytest.raises(PlanNotFoundError):
        stored_plans(store, "n", ("fp32",))


def test_modes_are_commands_where_they_may_not_be_set(tmp_path: Path) -> None:
    tree(tmp_path, power("pmode:0000", {0: "15W", 1: "7W"}, 0))
    found = modes_of((), False, tmp_path)
    assert found.visited == ()
    assert found.commands == (
        "sudo nvpmodel -m 1  # 7W; then sweep again",
        "sudo nvpmodel -m 0  # 15W, as it is now",
    )
    assert found.not_measured == ("power mode 7W: not set without --apply-power-modes",)
    assert [mode.name for mode in modes_of(("7W",), True, tmp_path).visited] == ["7W"]


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        ({}, (), "no /etc/nvpmodel.conf"),
        (power("pmode:0000", {0: "15W"}, 0), ("15w",), "did you mean '15W'"),
        (power(None, {0: "15W"}, 0), (), "which one holds now isn't known"),
        ({**power("pmode:0000", {0: "15W"}, 0), **clocks((9, 9))}, (), "jetson_clocks pins the clocks"),
    ],
)
def test_modes_are_not_set_where_that_could_not_be_undone(
    tmp_path: Path, files: Any, wanted: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        modes_of(wanted, True, tree(tmp_path, files))
