"""What signatures and encryption cost: signing and verifying a version, loading it signed, and encrypting it.

    python benchmarks/signing.py engines/text-direction/1 [--n 500] [--mib 64]

The version is copied into a folder that is removed again, and signed there by a key made for that. Loads without and
with a signature, and encrypted, take turns within one run; their ratios are of the medians. Encryption runs over
random bytes in memory, and once through a file that was just written (in the page cache, not from the disk).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Tuple

from rich.console import Console
from rich.table import Table

from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.plan.keys import VENDOR, new_key, write_key_pair
from edge_runtime.plan.manifest import FileRecord
from edge_runtime.plan.plan_key import new_plan_key, write_plan_key
from edge_runtime.plan.sealed import SealedFile, sealed_chunks
from edge_runtime.plan.signature import check_signature, sign_version, signer
from edge_runtime.plan.store import PlanStore, StoredPlan, open_plan
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.profiler.environment import read_environment

MIB = 1 << 20


@dataclass(frozen=True)
class Versions:
    """The same plan three times: not signed, signed, and signed and encrypted."""

    plain: StoredPlan
    signed: StoredPlan
    sealed: StoredPlan


def main() -> None:
    """Measures, prints the figures and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="a version's folder")
    parser.add_argument("--n", type=int, default=500, help="how often each is done; loads a tenth of it")
    parser.add_argument("--mib", type=int, default=64, help="how much is encrypted")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*signing(given.plan, given.n, folder), *encryption(given.mib, folder)]
    table = Table("what", "n", "p50", "p90", title=f"{given.plan}", title_justify="left")
    for row in rows:
        table.add_row(*row)
    environment = Table(title="Environment", title_justify="left", show_header=False)
    for line in read_environment().rows():
        environment.add_row(*line)
    Console().print(table, environment)


def signing(plan: Path, n: int, folder: Path) -> List[Tuple[str, ...]]:
    """Rows about a version's signature."""
    key = new_key("benchmark", VENDOR)
    write_key_pair(key, folder / "trusted.d")
    policy = TrustPolicy(folder=folder / "trusted.d")
    versions = copies(open_plan(plan), folder)
    for one in (versions.signed, versions.sealed):
        sign_version(one, signer(key))
    sign = signer(key)
    rows = [
        row("sign: statement and envelope", timed(lambda: sign(versions.signed), n)),
        row("sign a version: files checked, fsync", timed(lambda: sign_version(versions.signed, sign), n)),
        row("verify: keys, envelope and statement", timed(lambda: check_signature(versions.signed, policy), n)),
        row("read the manifest", timed(lambda: open_plan(versions.signed.folder), n)),
    ]
    return rows + loads(versions, policy, max(10, n // 10))


def copies(plan: StoredPlan, folder: Path) -> Versions:
    """The plan as three versions of a store."""
    store = PlanStore(folder / "engines")
    key = new_plan_key()
    os.environ["EDGE_RUNTIME_TRUST__PLAN_KEY"] = str(write_plan_key(key, "plan", folder / "keys"))
    files = {record.file: plan.file(record).read() for record in plan.manifest.files}
    made = [
        store.publish(
            plan.manifest.name,
            lambda version: plan.manifest.model_copy(update={"version": version}),
            files,
            is_new=False,
            seal=seal,
        )
        for seal in (None, None, key)
    ]
    return Versions(*made)


def loads(versions: Versions, policy: TrustPolicy, n: int) -> List[Tuple[str, ...]]:
    """Rows about loading, in turns."""
    options = EngineOptions(warm_up_runs=0)
    named = {
        "load, not signed": (versions.plain, policy),
        "load, signed": (versions.signed, policy),
        "load, signed and encrypted": (versions.sealed, policy),
    }
    times: dict = {name: [] for name in named}
    for _ in range(n):
        for name, (stored, wanted) in named.items():
            times[name] += timed(lambda s=stored, w=wanted: load(s.folder, options, w).close(), 1, warm_up=0)
    rows = [row(name, found) for name, found in times.items()]
    base = statistics.median(times["load, not signed"])
    for name in ("load, signed", "load, signed and encrypted"):
        rows.append((f"{name} / not signed", str(n), f"{statistics.median(times[name]) / base:.3f}", ""))
    return rows


def encryption(mib: int, folder: Path) -> List[Tuple[str, ...]]:
    """Rows about throughput."""
    data, key = os.urandom(mib * MIB), new_plan_key()
    record = FileRecord(file="f", sha256=hashlib.sha256(data).hexdigest(), nbytes=len(data))
    path = folder / "f.enc"
    path.write_bytes(b"".join(sealed_chunks(data, record, key)))
    plain = folder / "f"
    plain.write_bytes(data)
    n = 5
    found = [
        ("encrypt in memory (SHA-256 of the plain text with it)", lambda: drained(sealed_chunks(data, record, key))),
        ("decrypt a file (SHA-256 of the plain text with it)", lambda: drained(SealedFile(path, record, lambda: key))),
        ("SHA-256 alone", lambda: hashlib.sha256(data).digest()),
    ]
    rows = []
    for name, act in found:
        rates = sorted(mib / seconds for seconds in timed(act, n))
        rows.append((f"{name}, MiB/s", str(n), f"{statistics.median(rates):,.0f}", f"{rates[0]:,.0f}"))
    shutil.rmtree(folder, ignore_errors=True)
    return rows


def drained(chunks: object) -> None:
    """Reads all chunks."""
    for _ in chunks:  # type: ignore[attr-defined]
        pass


def timed(act: Callable[[], object], n: int, warm_up: int = 3) -> List[float]:
    """Seconds of each of `n` calls."""
    for _ in range(warm_up):
        act()
    found = []
    for _ in range(n):
        start = time.perf_counter()
        act()
        found.append(time.perf_counter() - start)
    return found


def row(name: str, seconds: List[float]) -> Tuple[str, ...]:
    """A row in microseconds."""
    ordered = sorted(seconds)
    return (
        f"{name}, µs",
        str(len(seconds)),
        *(f"{1e6 * ordered[int(q * (len(ordered) - 1))]:,.0f}" for q in (0.5, 0.9)),
    )


if __name__ == "__main__":
    sys.exit(main())
