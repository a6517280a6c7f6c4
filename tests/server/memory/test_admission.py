from __future__ import annotations

from pathlib import Path

import pytest
from fakes.multiplying_plans import publish

from edge_runtime.errors import InsufficientMemoryError
from edge_runtime.plan.store import StoredPlan
from edge_runtime.server.memory.admission import Admission
from edge_runtime.server.memory.ledger import MemoryLedger, MemoryLimits
from edge_runtime.server.memory.needs import MemoryNeeds

MIB = 1 << 20
GPU = {"name": "tensorrt", "version": "10.3.0", "platform": "tensorrt_plan", "device": "gpu:0"}


@pytest.fixture
def stored(tmp_path: Path) -> StoredPlan:
    return publish(tmp_path / "engines", "m", 2)


def machine(root: Path, available_mib: int, resident_mib: int = 100) -> Path:
    """A made-up /proc; its process has never had more than it has now."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text(f"MemFree: 1 kB\nMemAvailable: {available_mib << 10} kB\n")
    (root / "proc/self/status").write_text(f"VmHWM:\t{resident_mib << 10} kB\nVmRSS:\t{resident_mib << 10} kB\n")
    return root


def admission(root: Path, available_mib: int = 4000, needs: MemoryNeeds | None = None, **options: bool) -> Admission:
    ledger = MemoryLedger(MemoryLimits(), lambda: available_mib * MIB)
    return Admission(ledger, needs or MemoryNeeds(), root=machine(root, available_mib), **options)


def held_mib(admitting: Admission) -> dict[str, tuple[float, bool]]:
    return {name: (round(need.nbytes / MIB), need.is_measured) for name, need in admitting.ledger.held.items()}


def test_a_load_that_is_alone_is_measured_by_the_processs_growth(stored: StoredPlan, tmp_path: Path) -> None:
    admitting = admission(tmp_path)
    assert not admitting.need(stored, 2).is_measured
    with admitting.admitted(stored, 2):
        machine(tmp_path, 4000, resident_mib=130)
    assert held_mib(admitting) == {"m": (30, True)}
    assert admitting.need(stored, 2).nbytes == 30 * MIB
    assert not admitting.need(stored, 1).is_measured  # other slots may need other memory


def test_an_engine_in_another_process_is_measured_by_what_the_machine_has_less(
    stored: StoredPlan, tmp_path: Path
) -> None:
    admitting = admission(tmp_path, in_process=False)
    with admitting.admitted(stored, 2):
        machine(tmp_path, 3930)
    assert held_mib(admitting) == {"m": (70, True)}


def test_loads_beside_each_other_arent_measured(stored: StoredPlan, tmp_path: Path) -> None:
    admitting, other = admission(tmp_path), publish(tmp_path / "engines", "other", 3)
    with admitting.admitted(stored, 2), admitting.admitted(other, 2):
        machine(tmp_path, 4000, resident_mib=500)
    assert held_mib(admitting) == {"m": (48, False), "other": (48, False)}


def test_a_failed_load_is_neither_held_nor_measured(stored: StoredPlan, tmp_path: Path) -> None:
    admitting = admission(tmp_path)
    with pytest.raises(ValueError, match="broken"), admitting.admitted(stored, 2):
        raise ValueError("broken")
    assert held_mib(admitting) == {}
    assert not admitting.need(stored, 2).is_measured


def test_what_was_measured_decides_the_next_time(stored: StoredPlan, tmp_path: Path) -> None:
    needs = MemoryNeeds()
    with admission(tmp_path, needs=needs).admitted(stored, 2):
        machine(tmp_path, 4000, resident_mib=700)
    refused = pytest.raises(InsufficientMemoryError, match=r"needs 600 MiB \(measured\)")
    with refused, admission(tmp_path, 599, needs).admitted(stored, 2):
        raise AssertionError("it was admitted")


def test_only_the_first_on_a_gpu_brings_its_context(tmp_path: Path) -> None:
    first, second = (publish(tmp_path / "engines", name, 2, backend=GPU) for name in "ab")
    admitting = admission(tmp_path)
    with admitting.admitted(first, 2), admitting.admitted(second, 2):
        pass
    assert held_mib(admitting) == {"a": (560, False), "b": (48, False)}


@pytest.mark.parametrize(("is_kept", "is_known"), [(True, False), (True, True), (False, False)])
def test_a_start_loads_one_after_another_only_what_it_can_learn_for_good(
    stored: StoredPlan, tmp_path: Path, is_kept: bool, is_known: bool
) -> None:
    admitting = admission(tmp_path, needs=MemoryNeeds(tmp_path / "needs.json" if is_kept else None))
    if is_known:
        with admitting.admitted(stored, 2):
            pass
    assert admitting.is_to_measure(stored, 2) == (is_kept and not is_known)
