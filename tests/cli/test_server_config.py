from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pytest

from edge_runtime.cli.server_config import ServerConfig
from edge_runtime.errors import ConfigError
from edge_runtime.plan.serving import with_rungs
from edge_runtime.plan.trust import trust_settings

Configure = Callable[..., ServerConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """`configure(text, flags=…, environ=…)`: what a server with that file is told."""

    def make(text: str | None = "", environ: Any = (), **others: Any) -> ServerConfig:
        file = tmp_path / "server.toml"
        if text is not None:
            file.write_text(text)
        return ServerConfig(tmp_path / "engines", file, environ=dict(environ), **others)

    return make


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], None]:
    """Writes the recipe of model `a`."""
    (tmp_path / "engines").mkdir()
    return lambda text: (tmp_path / "engines/a.toml").write_text(text) and None


def test_rungs_that_the_file_names_are_served_too(configure, tmp_path: Path) -> None:
    told = configure('[serving.ladder]\nrungs = ["a", "a-int8"]')
    assert with_rungs(tmp_path, ["a"], ["a", "a-int8"], told.serving) == ["a", "a-int8"]


def test_without_a_file_all_is_as_by_default(tmp_path: Path) -> None:
    assert ServerConfig(tmp_path, environ={}).first.settings.http == "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("environ", "flags", "expected"),
    [
        ({}, {}, 7),
        ({"EDGE_RUNTIME_SERVER__SLOTS": "8"}, {}, 8),
        ({"EDGE_RUNTIME_SERVER__SLOTS": "8"}, {"slots": 9}, 9),
    ],
)
def test_flags_come_before_variables_and_these_before_the_file(configure, environ, flags, expected) -> None:
    assert configure("[server]\nslots = 7", environ, flags=flags).first.settings.slots == expected


@pytest.mark.parametrize(
    ("text", "wishes", "environ", "expected"),
    [
        ("", {}, {}, 20),
        ("[serving]\ndeadline_ms = 30", {}, {}, 30),
        ("[serving]\ndeadline_ms = 30", {}, {"EDGE_RUNTIME_SERVING__DEADLINE_MS": "40"}, 40),
        ("[serving]\ndeadline_ms = 30", {"deadline_ms": 50}, {"EDGE_RUNTIME_SERVING__DEADLINE_MS": "40"}, 50),
    ],
)
def test_a_recipe_comes_before_the_files_serving_table(configure, recipe, text, wishes, environ, expected) -> None:
    recipe(text)
    told = configure("[serving]\ndeadline_ms = 20\npriority = 2", environ, wishes=wishes)
    assert told.serving("a").deadline_ms == expected
    assert told.read(["a"]).serving["a"].priority == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server", r"server\.toml: not valid TOML"),
        ("[sever]", r"server\.toml: unknown section \[sever\]: .*server"),
        ("server = 1", r"server\.toml: server: expected a table"),
        ("[server]\nhtpp = 'x'", r"server\.toml: \[server\]: unknown key 'htpp': .*http"),
        ("[server]\nslots = 0", r"server\.toml: \[server\]: slots"),
        ("[serving]\nbatching = 'maybe'", r"server\.toml: \[serving\]: batching"),
        ("[trust]\nfloor = 1", r"server\.toml: \[trust\]: floor"),
        ("[server]\nhttp = '0.0.0.0:80'", "others reach it, which needs TLS"),
        (None, r"server\.toml: can't be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(configure, text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(text)


def test_a_failed_read_leaves_what_was_read_before(configure, tmp_path: Path) -> None:
    told = configure("[serving]\npriority = 1")
    (tmp_path / "server.toml").write_text("[serving]\npriority = 'high'")
    with pytest.raises(ConfigError):
        told.read(["a"])
    assert told.serving("a").priority == 1


def test_trust_of_the_file_holds_for_all_that_ask_the_environment_but_below_variables(configure) -> None:
    text = "[trust]\nrequire_signed = true\nfolder = '/a \"b\" ö'\nfloor = '7'"
    environ = {"EDGE_RUNTIME_TRUST__FLOOR": "/other"}
    told = configure(text, environ)
    told.export_trust(environ)
    asked = trust_settings(environ)
    assert (asked.require_signed, asked.folder, asked.floor) == (True, '/a "b" ö', "/other")
    assert told.first.trust == asked.model_dump()
    assert "EDGE_RUNTIME_TRUST__FOLDER" not in os.environ
