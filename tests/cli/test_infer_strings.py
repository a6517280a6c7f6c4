"""What `infer` makes of strings besides a table."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.cli.infer import _described, _storable
from edge_runtime.errors import DataError


def test_strings_that_json_has_no_word_for_are_left_out_with_the_reason() -> None:
    found = _described(np.array([b"\xff"], object))
    assert (found["data"], found["omitted"]) == (None, "not UTF-8; use --output")


def test_a_string_that_a_file_would_cut_short_is_refused() -> None:
    assert _storable("y", np.array([[b"a"], [b"bc"]], object)).tolist() == [[b"a"], [b"bc"]]
    with pytest.raises(DataError, match="output 'y': a string ends in a zero byte"):
        _storable("y", np.array([b"a\0"], object))
