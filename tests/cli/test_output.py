from __future__ import annotations

import json

import pytest

from edge_runtime.cli.output import Output

STEERING = "a\x1b[2Jb\x07c\x9bd\ud800e\re\x7f"
ESCAPED = r"a\x1b[2Jb\x07c\x9bd\ud800e\re\x7f"


def test_what_would_steer_the_terminal_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(is_json=False)
    output.say(f"{STEERING}\nnext")
    output.table(STEERING, (STEERING, "plain"), [(STEERING, "x\ny\tz")])
    out = capsys.readouterr().out
    assert out.startswith(f"{ESCAPED}\nnext\n")
    assert out.count(ESCAPED) == 4
    assert r"x\ny\tz" in out


def test_stages_are_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(is_json=False).progress() as progress:
        progress.stage(STEERING)
    assert capsys.readouterr().err == f"{ESCAPED}\n"


def test_a_document_has_text_as_it_is_and_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    content = {"nan": float("nan"), "in": [float("inf"), 1.5, (float("-inf"),)], "text": STEERING}
    Output(is_json=True).document(content)
    assert json.loads(capsys.readouterr().out) == {"nan": None, "in": [None, 1.5, [None]], "text": STEERING}
