from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fakes.boards import tree

from edge_runtime.device.run_delay import run_delay


@pytest.mark.parametrize(
    ("text", "expected"), [("161567 6212 2\n", 6212), ("161567", 0), ("", 0), ("a b c", 0), ("1 -2 3", 0)]
)
def test_the_wait_is_the_second_field(tmp_path: Path, text: str, expected: int) -> None:
    tree(tmp_path, {f"proc/self/task/{threading.get_native_id()}/schedstat": text})
    with run_delay(tmp_path) as delay:
        assert delay.total_ns() == expected


def test_a_kernel_that_does_not_count_has_no_wait(tmp_path: Path) -> None:
    with run_delay(tmp_path) as delay:
        assert delay.total_ns() == 0


def test_the_counter_here_never_goes_back() -> None:
    with run_delay() as delay:
        first = delay.total_ns()
        assert 0 <= first <= delay.total_ns()
