"""docs/jetson.md tells the truth: what it names exists, and its versions are those that the extras ask for."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement

from edge_runtime.cli.main import VERBS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "jetson.md").read_text()
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)]
INLINE = [
    " ".join(code.split())
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
]
CODE = [line.strip() for block in BLOCKS for line in block.splitlines()] + INLINE
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def commands() -> list[list[str]]:
    """Words of every `edge-runtime` command, after the program's name; those in a container too."""
    starts = (re.sub(r"^.* edge-runtime:jp[4-7] (?=[a-z])", "edge-runtime ", line) for line in CODE)
    found = [shlex.split(line, comments=True)[1:] for line in starts if line.startswith("edge-runtime ")]
    return [words for number, words in enumerate(found) if words not in found[:number]]


def flags_of(verb: str) -> set[str]:
    app = typer.Typer(add_completion=False)
    app.command()(importlib.import_module(f"edge_runtime.cli.{verb}").command)
    return {name for parameter in typer.main.get_command(app).params for name in parameter.opts}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_has_a_verb_and_flags_that_exist(words: list[str]) -> None:
    assert words[0] in VERBS
    assert {word for word in words[1:] if word.startswith("-")} <= flags_of(words[0])


def test_its_commands_are_found() -> None:
    assert {words[0] for words in commands()} == {"build", "doctor", "serve"}
    assert ["doctor", "--selftest"] in commands()


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {found for line in CODE for found in re.findall(r"\bmake ([a-z-]+)\b", line) if "apt-get" not in line}
    assert {"wheelhouse", "check-wheels"} <= named <= targets


def test_every_target_of_the_wheelhouse_is_a_jetpack_that_is_checked() -> None:
    tool = (ROOT / "tools" / "check_wheels.py").read_text()
    named = {found for line in CODE for found in re.findall(r"(?<![\w:/-])jp[0-9](?!-)", line)}
    assert named == {"jp4", "jp5", "jp6", "jp7"} == set(re.findall(r'Target\("(\w+)"', tool))


def test_every_extra_exists() -> None:
    named = {
        name
        for line in CODE
        for found in re.findall(r"(?:edge-runtime|'\.)\[([\w,]+)\]", line)
        for name in found.split(",")
    }
    assert {"jp4", "jp5", "jp6", "jp7"} <= named <= set(EXTRAS)


def test_every_file_of_this_repository_exists() -> None:
    named = {found for line in CODE for found in re.findall(r"(?<![\w/.:-])(?:docker|engines)/[\w.-]+", line)}
    assert len(named) >= 5
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(("extra", "package", "version"), re.findall(r"`(jp[0-9])` \| ([a-z-]+)(?: ([0-9.]+))?", TEXT))
def test_the_version_of_the_table_is_one_that_the_extra_takes(extra: str, package: str, version: str) -> None:
    (wanted,) = map(Requirement, EXTRAS[extra])
    assert wanted.name == package
    assert not version or wanted.specifier.contains(version)


def test_the_table_has_every_jetpack() -> None:
    assert re.findall(r"\| `(jp[0-9])` \|", TEXT) == ["jp4", "jp5", "jp6", "jp7"]


def test_what_was_not_run_on_a_board_says_so() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|") and "expected" in line]
    assert rows
    assert all("not run on a board" in row for row in rows)


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"^[A-Z_]{4,}$|TODO|TBD", TEXT, re.MULTILINE)
