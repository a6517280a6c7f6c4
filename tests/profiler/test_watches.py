from __future__ import annotations

import gc
import threading

import pytest

from edge_runtime.profiler.cpu_watch import CpuReading, CpuUse, CpuWatch, busy_from_stat
from edge_runtime.profiler.gc_watch import GcPause, GcWatch

S = 1_000_000_000
STAT = b"cpu  1283218 45 180720 1132424 6013 7 14873 59385 11 12\ncpu0 1 2 3 4\n"


def test_every_collection_while_it_is_open_is_stamped_with_its_generation():
    clock = iter(range(10, 1000, 10)).__next__
    with GcWatch(clock) as watch:
        gc.collect(1)
        gc.collect(2)
    gc.collect(0)
    assert [pause.generation for pause in watch.pauses] == [1, 2]
    assert watch.pauses[0] == GcPause(10, 20, 1)


def test_a_collection_that_was_under_way_is_left_out():
    with GcWatch(lambda: 5) as watch:
        gc.callbacks[-1]("stop", {"generation": 2})
    assert watch.pauses == ()


def test_busy_time_is_all_but_idling_and_guests():
    assert busy_from_stat(STAT, 100) == (1283218 + 45 + 180720 + 7 + 14873 + 59385) * S // 100


@pytest.mark.parametrize("text", [b"", b"cpu0 1 2 3 4\n", b"cpu 1 2\n", b"cpu 1 2 x 4\n"])
def test_what_is_not_the_line_of_all_cores_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|invalid"):
        busy_from_stat(text, 100)


def test_others_are_what_this_process_did_not_use():
    use = CpuUse([CpuReading(0, 0, 0), CpuReading(S, 3 * S // 2, S), CpuReading(2 * S, 2 * S, 3 * S // 2)], 2)
    share = use.between(S // 2, S // 2)
    assert share is not None
    assert (share.others, share.own, share.is_full) == (0.5, 1.0, False)
    assert use.between(3 * S, 4 * S) is None
    assert not use.is_too_short


def test_the_watch_reads_at_once_and_ends_with_its_block(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_bytes(STAT)
    before = threading.active_count()
    with CpuWatch(root=tmp_path) as watch:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    use = watch.use()
    assert use is not None
    assert (use.is_too_short, use.between(0, 10 * S)) == (True, None)


def test_without_proc_the_load_of_others_is_unknown(tmp_path):
    with CpuWatch(root=tmp_path) as watch:
        pass
    assert watch.use() is None
