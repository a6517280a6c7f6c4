from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edge_runtime.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model repository: a model that can be imported, and one that can't."""
    for name in ("good", "bad"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "1" / "model.onnx").write_bytes(classifier)
    (tmp_path / "models/good/config.pbtxt").write_text(
        'max_batch_size: 8\nresponse_cache { enable: true }\nzork: "\\033"'
    )
    (tmp_path / "models/bad/config.pbtxt").write_text('backend: "python"')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ending:
        main(["import-triton", *words])
    return int(ending.value.code or 0)


def test_without_an_output_it_shows_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "good") == 0
    text = capsys.readouterr().out
    assert re.search(r"response_cache +│ +│ lost +│ every request is run", text)
    assert "[model]\npath = " in text
    assert "nothing was written" in text
    assert [path.name for path in folder.iterdir()] == ["models"]


def test_what_can_be_imported_is_written_and_the_status_says_that_something_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "--output", "engines", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["complete"], document["output"], document["server"]) == (False, "engines", {})
    bad, good = document["models"]
    assert (bad["outcome"], bad["recipe"], len(bad["reasons"])) == ("refused", None, 1)
    assert (good["outcome"], good["recipe"], good["action"]) == ("complete", "engines/good.toml", "written")
    assert {"path": "zork", "line": 3} in [{key: one[key] for key in ("path", "line")} for one in good["fields"]]
    assert (folder / "engines/good.toml").read_text() == good["text"]
    assert run("models", "good", "--output", "engines") == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["models", "--force"], 2),
        (["absent"], 78),
        (["models", "absent"], 78),
        (["models/good"], 78),
        (["models", "--output", "models/good/config.pbtxt"], 78),
        ([], 2),
    ],
)
def test_statuses_are_those_of_other_verbs(folder: Path, words: list[str], code: int) -> None:
    assert run(*words) == code
