"""Where a recipe's module:function is found, and what loading it leaves behind."""

from __future__ import annotations

import hashlib
import sys

import pytest

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.evaluation.user_function import UserFunction


def test_a_file_in_the_folder_comes_before_an_installed_module(tmp_path):
    (tmp_path / "json.py").write_text("def dumps(): return 'ours'")
    assert UserFunction("json:dumps", tmp_path).load()() == "ours"
    assert UserFunction("json:dumps", tmp_path / "elsewhere").load()([]) == "[]"


def test_a_dotted_module_is_a_file_in_a_subfolder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text("def f(): return 1")
    assert UserFunction("a.b:f", tmp_path).load()() == 1


def test_the_digest_is_the_files_and_a_change_is_loaded_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    function = UserFunction("changing:f", tmp_path)
    for value in (1, 2):  # same size and second: a bytecode cache would answer with the first
        (tmp_path / "changing.py").write_text(f"def f(): return {value}")
        assert function.load()() == value
        assert function.module_sha256() == hashlib.sha256(f"def f(): return {value}".encode()).hexdigest()
    assert not (tmp_path / "__pycache__").exists()


def test_an_installed_modules_digest_needs_no_import(tmp_path):
    sys.modules.pop("this", None)
    assert len(UserFunction("this:x", tmp_path).module_sha256()) == 64
    assert "this" not in sys.modules


def test_neighbours_can_be_imported_and_the_path_is_as_before(tmp_path):
    (tmp_path / "er_neighbour.py").write_text("VALUE = 5")
    (tmp_path / "host.py").write_text("import er_neighbour\ndef f(): return er_neighbour.VALUE")
    before = list(sys.path)
    assert UserFunction("host:f", tmp_path).load()() == 5
    assert sys.path == before
    del sys.modules["er_neighbour"]


def test_dataclasses_work_in_the_module(tmp_path):
    (tmp_path / "made.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass A:\n    n: int\ndef f(): return A(3).n"
    )
    assert UserFunction("made:f", tmp_path).load()() == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("absent_module:f", "no module 'absent_module'"),
        ("absent.deeper:f", "no module 'absent.deeper'"),
        ("json.absent:f", "no module 'json.absent'"),
        ("made:g", "no function 'g' in .*made.py; valid: f"),
        ("made:VALUE", "no function 'VALUE'"),
        ("sys:exit", "has no file"),
        ("__main__:f", "no module '__main__'|has no file|no function"),
    ],
)
def test_what_isnt_there_is_the_recipes_mistake(tmp_path, spec, message):
    (tmp_path / "made.py").write_text("VALUE = 1\ndef f(): return 1")
    with pytest.raises(ConfigError, match=message):
        UserFunction(spec, tmp_path).load()


@pytest.mark.parametrize("body", ["def f(:", "import absent_dependency", "raise RuntimeError('no data')"])
def test_a_module_that_fails_says_why_and_isnt_kept(tmp_path, body):
    (tmp_path / "made.py").write_text(body)
    before = set(sys.modules)
    with pytest.raises(DataError, match=r"SyntaxError|absent_dependency|no data") as error:
        UserFunction("made:f", tmp_path).load()
    assert error.value.__cause__ is not None
    assert set(sys.modules) == before
