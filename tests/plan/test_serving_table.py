from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.plan.serving import ServingTable, serving_table

RECIPE = '[model]\npath = "m.onnx"\n[serving]\ndeadline_ms = 50\npriority = 2\nbatching = "off"\n'


def test_a_model_without_a_recipe_is_served_as_any_other(tmp_path: Path) -> None:
    assert serving_table(tmp_path, "m", environ={}) == ServingTable()


def test_a_model_of_a_pack_is_served_as_its_newest_release_says_unless_there_is_a_recipe(tmp_path: Path) -> None:
    for release in (9, 10):
        folder = tmp_path / ".packs/m" / str(release)
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(RECIPE.replace("50", str(release)))
    assert serving_table(tmp_path, "m", environ={}).deadline_ms == 10
    (tmp_path / "m.toml").write_text(RECIPE)
    assert serving_table(tmp_path, "m", environ={}).deadline_ms == 50


def test_flags_come_before_variables_and_those_before_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(RECIPE)
    environ = {"EDGE_RUNTIME_SERVING__DEADLINE_MS": "40", "EDGE_RUNTIME_SERVING__PRIORITY": "1"}
    table = serving_table(tmp_path, "m", {"deadline_ms": 30}, environ)
    assert (table.deadline_ms, table.priority, table.batching) == (30, 1, "off")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[serving]\ndeadline = 1\n", "did you mean 'deadline_ms'"),
        ("[serving]\ndeadline_ms = 0\n", "deadline_ms"),
        ("[serving]\npriority = -1\n", "priority"),
        ("[serving]\npriority = true\n", "priority"),
        ('[serving]\nbatching = "yes"\n', "batching"),
        ("serving = 3\n", "expected a table"),
        ("[serving\n", "not valid TOML"),
    ],
)
def test_a_wrong_table_is_a_configuration_error(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        serving_table(tmp_path, "m", environ={})
