from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest
from pydantic import Field

from edge_runtime.config import Settings, environment_layer, merged, read_toml, validated
from edge_runtime.errors import ConfigError


class Inner(Settings):
    rate: float = 0.0


class Outer(Settings):
    inner: Inner = Inner()
    named: Dict[str, Inner] = Field({})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iner": {}}, "unknown key 'iner': did you mean 'inner'?"),
        ({"inner": {"rat": 1}}, "unknown key 'inner.rat': did you mean 'rate'?"),
        ({"named": {"x": {"rte": 1}}}, "unknown key 'named.x.rte': did you mean 'rate'?"),
        ({"inner": {"rate": "fast"}}, "inner.rate: .*got 'fast'"),
        ({"zzz": 1}, "valid: inner, named"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_the_nearest_valid_one(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(Outer, values, "recipe")


def test_environment_values_are_toml_where_that_parses_and_text_where_not() -> None:
    environ = {
        "EDGE_RUNTIME_GATE__MAX_DROP": "0.02",
        "EDGE_RUNTIME_PRECISION__POLICY": "int8",
        "EDGE_RUNTIME_INPUT__X__MIN": "[1, 3]",
        "EDGE_RUNTIME_SERVER__HTTP": "127.0.0.1:1",
        "EDGE_RUNTIME_ENGINES": "/x",
        "OTHER": "1",
    }
    assert environment_layer(environ, ("gate", "precision", "input")) == {
        "gate": {"max_drop": 0.02},
        "precision": {"policy": "int8"},
        "input": {"x": {"min": [1, 3]}},
    }


def test_an_unknown_section_in_the_environment_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gate'"):
        environment_layer({"EDGE_RUNTIME_GATTE__X": "1"}, ("gate",))


def test_higher_layers_win_table_by_table_and_variables_whatever_the_case_of_a_name() -> None:
    lower, higher = {"input": {"X": {"min": [1]}, "y": 1}}, {"input": {"x": {"min": [2]}}}
    assert merged(lower, higher, ignores_case=True) == {"input": {"X": {"min": [2]}, "y": 1}}
    assert set(merged(lower, higher)["input"]) == {"X", "x", "y"}


def test_variables_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ConfigError, match="plain value by another one"):
        environment_layer({"EDGE_RUNTIME_GATE__A": "1", "EDGE_RUNTIME_GATE__A__B": "2"}, ("gate",))


@pytest.mark.parametrize("content", [b"a = ", b"\xff", b"a = 1\na = 2", b"a = " + b"[" * 5000])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"r\.toml: not valid TOML"):
        read_toml(tmp_path / "r.toml")


def test_a_variable_that_no_reader_of_toml_bears_is_text() -> None:
    text = "[" * 5000
    assert environment_layer({"EDGE_RUNTIME_GATE__A": text}, ("gate",)) == {"gate": {"a": text}}


@pytest.mark.parametrize("rate", ["inf", "-inf", "nan"])
def test_a_number_that_is_none_is_a_wrong_value(tmp_path: Path, rate: str) -> None:
    (tmp_path / "r.toml").write_text(f"rate = {rate}")
    with pytest.raises(ConfigError, match="rate: Input should be a finite number"):
        validated(Inner, read_toml(tmp_path / "r.toml"), "recipe")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"r\.toml: can't be read"):
        read_toml(tmp_path / "r.toml")
