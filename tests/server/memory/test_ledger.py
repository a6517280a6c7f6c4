from __future__ import annotations

import threading

import pytest

from edge_runtime.device.memory import available_nbytes
from edge_runtime.errors import InsufficientMemoryError
from edge_runtime.server.memory.ledger import MemoryLedger, MemoryLimits, Need

MIB = 1 << 20


def ledger(available_mib: int | None = None, reserve_mib: int = 0, budget_mib: int | None = None) -> MemoryLedger:
    limits = MemoryLimits(reserve_mib * MIB, None if budget_mib is None else budget_mib * MIB)
    return MemoryLedger(limits, lambda: None if available_mib is None else available_mib * MIB)


def put(found: MemoryLedger, name: str, mib: int) -> None:
    with found.admitted(name, Need(mib * MIB)):
        pass


def test_what_fits_beside_the_reserve_is_admitted_and_one_mib_more_isnt() -> None:
    put(ledger(500, reserve_mib=200), "m", 300)
    with pytest.raises(InsufficientMemoryError) as caught:
        put(ledger(499, reserve_mib=200), "m", 300)
    text = str(caught.value)
    assert "needs 300 MiB (estimated) and 200 MiB must stay free, but 499 MiB are available" in text
    assert "memory_reserve_mib" in text
    assert caught.value.short_nbytes == MIB


def test_where_nothing_is_known_of_memory_nothing_is_refused() -> None:
    put(ledger(None, reserve_mib=200), "m", 1 << 20)


def test_loads_under_way_count_before_they_have_taken_anything() -> None:
    found = ledger(500)
    refused = pytest.raises(InsufficientMemoryError, match="300 MiB of which loads under way take")
    with found.admitted("a", Need(300 * MIB)), refused:
        put(found, "b", 300)
    put(found, "b", 300)


def test_of_two_loads_at_once_that_fit_alone_only_one_is_admitted() -> None:
    found, outcomes, both = ledger(500), [], threading.Barrier(2)

    def load(name: str) -> None:
        both.wait(10)
        try:
            with found.admitted(name, Need(300 * MIB)):
                both.wait(10)
                outcomes.append("admitted")
        except InsufficientMemoryError:
            outcomes.append("refused")
            both.wait(10)

    threads = [threading.Thread(target=load, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ["admitted", "refused"]


def test_the_budget_counts_what_is_held_but_not_what_is_to_be_replaced() -> None:
    found = ledger(budget_mib=500)
    put(found, "a", 300)
    put(found, "a", 400)
    with pytest.raises(InsufficientMemoryError, match="of the budget of 500 MiB 100 MiB are left"):
        put(found, "b", 101)
    put(found, "b", 100)
    found.forget("a")
    put(found, "c", 400)


def test_a_load_that_fails_holds_nothing() -> None:
    found = ledger(500, budget_mib=500)
    with pytest.raises(ValueError, match="broken"), found.admitted("a", Need(400 * MIB)):
        raise ValueError("broken")
    assert found.held == {}
    put(found, "b", 500)


def test_what_a_load_is_found_to_need_is_what_it_holds() -> None:
    found = ledger(500)
    with found.admitted("a", Need(400 * MIB)) as stay:
        assert stay.is_alone
        stay.need = Need(40 * MIB, is_measured=True)
    assert str(found.held["a"]) == "40 MiB (measured)"


def test_loads_beside_each_other_are_both_not_alone() -> None:
    found = ledger()
    with found.admitted("a", Need(1)) as first, found.admitted("b", Need(1)) as second:
        assert (first.is_alone, second.is_alone) == (False, False)


def test_it_goes_by_mem_available_and_the_control_group_never_by_mem_free(tmp_path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4194304 kB\nMemFree: 40000 kB\nMemAvailable: 2048000 kB\n")
    found = MemoryLedger(MemoryLimits(), lambda: available_nbytes(tmp_path))
    put(found, "m", 1999)
    group = tmp_path / "sys/fs/cgroup/er"
    group.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/er\n")
    (group / "memory.max").write_text(f"{512 * MIB}\n")
    (group / "memory.current").write_text(f"{112 * MIB}\n")
    with pytest.raises(InsufficientMemoryError, match="400 MiB are available"):
        put(found, "m", 401)
