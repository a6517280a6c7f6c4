from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable

import pytest

from edge_runtime.errors import ConfigError, LadderError
from edge_runtime.plan.ladder import LadderTable
from edge_runtime.plan.serving import ServingTable, serving_table, with_rungs


def read(tmp_path: Path, text: str) -> LadderTable:
    (tmp_path / "m.toml").write_text(f"[serving.ladder]\n{text}\n")
    return serving_table(tmp_path, "m", environ={}).ladder


def reader(root: Path) -> Callable[[str], ServingTable]:
    return partial(serving_table, root, environ={})


def test_a_model_has_no_ladder_unless_its_recipe_names_rungs() -> None:
    assert ServingTable().ladder == LadderTable()
    assert LadderTable().rungs == ()


def test_thresholds_for_the_return_follow_from_the_others(tmp_path: Path) -> None:
    found = read(
        tmp_path, 'rungs = ["m-int8"]\nheadroom_c = 8\npower_budget_w = 10\nqueue_delay_ms = 4\nmiss_share = 0.2'
    )
    assert found.rungs == ("m-int8",)
    assert (found.calm_headroom_c, found.calm_power_w, found.calm_queue_ms, found.calm_misses) == (13, 9, 2, 0.1)
    own = "headroom_c = 8\nheadroom_return_c = 9.5"
    assert read(tmp_path, own).calm_headroom_c == 9.5


def test_variables_set_it_too(tmp_path: Path) -> None:
    environ = {"EDGE_RUNTIME_SERVING__LADDER__RUNGS": '["small"]', "EDGE_RUNTIME_SERVING__LADDER__DWELL_S": "3"}
    found = serving_table(tmp_path, "m", environ=environ).ladder
    assert (found.rungs, found.dwell_s) == (("small",), 3.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rung = []", "unknown key 'ladder.rung'.*rungs"),
        ('rungs = ["a", "a"]', "each once"),
        ('rungs = ["../a"]', "model name '../a'"),
        ("headroom_c = 8\nheadroom_return_c = 8", "calm side of headroom_c 8, got 8"),
        ("miss_share = 0.1\nmiss_return = 0.2", "calm side of miss_share 0.1, got 0.2"),
        ("power_return_w = 5", "power_return_w is for power_budget_w, which isn't set"),
        ("return_dwell_s = 60\nmost_return_dwell_s = 30", "at least return_dwell_s"),
        ("dwell_s = 0", "greater than or equal to 1"),
        ('on_throttle = "yes"', "valid boolean"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(tmp_path, text)


def test_rungs_are_served_too_and_theirs_each_once(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[serving.ladder]\nrungs = ["int8", "small"]\n')
    (tmp_path / "int8.toml").write_text('[serving.ladder]\nrungs = ["small", "smallest"]\n')
    stored = ["int8", "m", "other", "small", "smallest"]
    assert with_rungs(tmp_path, ["other", "m", "m"], stored, reader(tmp_path)) == [
        "other",
        "m",
        "int8",
        "small",
        "smallest",
    ]


def test_of_a_list_that_many_share_those_behind_a_model_are_its_rungs() -> None:
    shared = LadderTable(rungs=("fp16", "int8", "small"))
    assert [shared.below(name) for name in ("big", "fp16", "small")] == [shared.rungs, ("int8", "small"), ()]


def test_a_rung_that_is_not_in_the_store_is_named_with_what_builds_it(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[serving.ladder]\nrungs = ["int8"]\n')
    with pytest.raises(LadderError, match=r"model 'm': rung 'int8'.*isn't in .*edge-runtime build .*/int8\.toml"):
        with_rungs(tmp_path, ["m"], ["m"], reader(tmp_path))
    assert with_rungs(tmp_path, ["m"], None, reader(tmp_path)) == ["m", "int8"]
