from __future__ import annotations

import json

import pytest

from edge_runtime.errors import InvalidRequestError
from edge_runtime.wire import json_text
from edge_runtime.wire.json_text import parsed_object


def test_an_object_is_read_with_its_numbers_as_they_are() -> None:
    assert parsed_object(b'{"a": [1, 2.5, -3e2], "b": "\xc3\xa9"}') == {"a": [1, 2.5, -300.0], "b": "é"}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"1", b"null", b'{"a": 1,}', b"{'a': 1}", b'{"a": 1} x', b'{"a": NaN}', b'{"a": -Infinity}'],
)
def test_what_is_not_a_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parsed_object(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1"])
def test_only_utf_8_is_read(encoding: str) -> None:
    with pytest.raises(InvalidRequestError):
        parsed_object('{"a": "é"}'.encode(encoding))


def nested(depth: int) -> bytes:
    return b'{"x": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_a_hundred_levels_are_read_and_no_more() -> None:
    assert parsed_object(nested(100))
    with pytest.raises(InvalidRequestError, match="100 levels"):
        parsed_object(nested(101))
    with pytest.raises(InvalidRequestError):
        parsed_object(nested(250_000))


@pytest.mark.parametrize("part", [b"[],", b"{},", b'{"a": []},'])
def test_a_million_arrays_and_objects_are_read_and_no_more(part: bytes) -> None:
    each = part.count(b"[") + part.count(b"{")
    assert parsed_object(b'{"a": [' + part * (999_998 // each) + b"0]}")
    with pytest.raises(InvalidRequestError, match="arrays and objects"):
        parsed_object(b'{"a": [' + part * 1_000_000 + b"0]}")


@pytest.mark.parametrize("text", ["[" * 200, "]" * 200, '\\"' + "[" * 200, "\\\\", '\\\\\\"' + "{" * 200])
def test_brackets_in_strings_are_no_levels(text: str) -> None:
    assert parsed_object(f'{{"{text}": "{text}"}}'.encode()) == json.loads(f'{{"{text}": "{text}"}}')


def test_closing_brackets_in_a_string_hide_no_level() -> None:
    with pytest.raises(InvalidRequestError, match="100 levels"):
        parsed_object(b'{"' + b"]" * 200 + b'": 1, ' + nested(120)[1:])


@pytest.mark.parametrize("parse_int", [json_text._PARSE_INT, json_text._bounded_int], ids=["here", "old Python"])
def test_a_number_of_very_many_digits_is_refused(monkeypatch, parse_int) -> None:
    monkeypatch.setattr(json_text, "_PARSE_INT", parse_int)
    assert parsed_object(b'{"a": ' + b"1" * 4000 + b"}")["a"] > 0
    with pytest.raises(InvalidRequestError, match="too large"):
        parsed_object(b'{"a": ' + b"1" * 100_000 + b"}")


def test_a_long_text_of_escapes_takes_little_time_and_memory() -> None:
    text = b'{"a": "' + b'\\"' * 2_000_000 + b'", "b": ' + b"[" * 90 + b"]" * 90 + b', "c": ' + b"[]" * 20
    with pytest.raises(InvalidRequestError, match="not valid JSON"):
        parsed_object(text)
