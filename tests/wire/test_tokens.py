from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.wire.tokens import new_token, parsed_tokens, token_line

TEXT = "token-of-a-robot-0123456789"
LINE = token_line("robot", False, TEXT)


def test_a_token_is_found_by_its_text_and_kept_by_its_digest_alone() -> None:
    found = parsed_tokens(f"# fleet\n\n{LINE}\n{token_line('ops', True, 'other')}\n", "f").find(
        b"Bearer " + TEXT.encode()
    )
    assert found is not None
    assert (found.name, found.is_admin) == ("robot", False)
    assert TEXT not in LINE


@pytest.mark.parametrize("scheme", [b"bearer ", b"BEARER  "])
def test_the_scheme_may_be_written_in_any_case(scheme: bytes) -> None:
    assert parsed_tokens(LINE, "f").find(scheme + TEXT.encode()) is not None


@pytest.mark.parametrize(
    "presented",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        TEXT.encode(),
        b"Basic " + TEXT.encode(),
        b"Bearer x" + TEXT.encode(),
        b"\xff" * 99,
    ],
)
def test_nothing_else_is_a_token(presented: bytes | None) -> None:
    assert parsed_tokens(LINE, "f").find(presented) is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no token in it"),
        ("# nothing", "no token in it"),
        ("robot infer sha256:12", "line 1: expected NAME"),
        (f"{LINE}\nrobot root sha256:{'0' * 64}", "line 2: expected NAME"),
        (f"{LINE}\n{LINE}", "line 2: token robot is there twice"),
        (TEXT, "line 1: expected NAME"),
    ],
)
def test_a_file_with_anything_else_is_refused_by_line_without_showing_it(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        parsed_tokens(text, "tokens f")
    assert TEXT not in str(caught.value)


def test_tokens_are_long_and_differ() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 43


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 129])
def test_a_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(ConfigError, match="token name"):
        token_line(name, False, TEXT)
