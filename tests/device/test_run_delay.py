from __future__ import annotations

import pytest

from edge_runtime.device.run_delay import UNKNOWN, RunDelay


@pytest.mark.parametrize(
    ("text", "delay_ns"),
    [("130724348 218728207 101\n", 218728207), ("0 0 0\n", UNKNOWN), ("", UNKNOWN), ("what\n", UNKNOWN)],
)
def test_the_wait_for_a_core_is_the_second_number(tmp_path, text, delay_ns):
    (tmp_path / "proc/thread-self").mkdir(parents=True)
    (tmp_path / "proc/thread-self/schedstat").write_text(text)
    with RunDelay(tmp_path) as delay:
        assert delay.read_ns() == delay_ns
    assert delay.read_ns() == UNKNOWN


def test_a_kernel_without_the_file_leaves_it_unknown(tmp_path):
    with RunDelay(tmp_path) as delay:
        assert delay.read_ns() == UNKNOWN
