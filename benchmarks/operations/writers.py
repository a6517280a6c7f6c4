"""What writes files that must survive: a process that says what it believes safe, and a check of what is left.

`python -m operations.writers KIND FOLDER [--rounds N]` prints a line when it begins, then `DURABLE n` for each thing
that is safe from then on; with `--check n` it exits 0 if the folder is good and holds at least what was claimed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.store import PlanStore

_MODEL = "m"
_SIZES = (1 << 10, 1 << 18, 3 << 20)

Writer = Callable[[Path], Iterator[int]]
Check = Callable[[Path, int], str]


def plan_bytes(version: int) -> bytes:
    """Any bytes, of one of a few sizes."""
    rng = random.Random(version)
    return rng.randbytes(rng.choice(_SIZES)) if sys.version_info >= (3, 9) else os.urandom(rng.choice(_SIZES))


def _manifest(version: int, plan: bytes) -> Manifest:
    tensor: Dict[str, Any] = {"name": "x", "dtype": "FP32", "shape": [2]}
    return Manifest.model_validate(
        {
            "name": _MODEL,
            "version": version,
            "created": "",
            "edge_runtime": "0",
            "build_key": str(version),
            "precision": "fp32",
            "plan": {"file": "model.onnx", "sha256": hashlib.sha256(plan).hexdigest(), "nbytes": len(plan)},
            "source": {"source": "m.onnx", "digest": "", "files": {}},
            "data": {},
            "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
            "device": {},
            "inputs": [tensor],
            "outputs": [{**tensor, "name": "y"}],
            "profile": {"x": {"min": [2], "opt": [2], "max": [2]}},
            "max_batch_size": 0,
            "candidates": [],
        }
    )


def publish(folder: Path) -> Iterator[int]:
    """New versions of one model, each with a plan of another size."""
    store = PlanStore(folder / "engines")
    for number in itertools.count(1):
        plan = plan_bytes(number)
        made = store.publish(_MODEL, lambda version, plan=plan: _manifest(version, plan), {"model.onnx": plan}, False)
        yield made.manifest.version


def check_published(folder: Path, claimed: int) -> str:
    """Every version that is there is whole, and the served one isn't older than what was claimed."""
    store = PlanStore(folder / "engines")
    for version in store.versions(_MODEL):
        store.open(_MODEL, version).read_plan()
    if not claimed:
        return ""
    served = store.open(_MODEL).manifest.version
    return "" if served >= claimed else f"version {served} is served, {claimed} was said to be there"


def switch(folder: Path) -> Iterator[int]:
    """The served version, set to one and another of three."""
    store = PlanStore(folder / "engines")
    for number in range(3):
        plan = plan_bytes(number)
        store.publish(_MODEL, lambda version, plan=plan: _manifest(version, plan), {"model.onnx": plan}, False)
    for number in itertools.count():
        store.serve(_MODEL, number % 3 + 1)
        yield number + 1


def check_switched(folder: Path, claimed: int) -> str:
    """What was switched to last is served, or what comes after it."""
    if not claimed:
        return check_published(folder, 0)
    served = PlanStore(folder / "engines").open(_MODEL)
    served.read_plan()
    expected = {(claimed - 1 + later) % 3 + 1 for later in (0, 1)}
    found = served.manifest.version
    return "" if found in expected else f"version {found} is served, one of {sorted(expected)} was switched to"


KINDS: Dict[str, Tuple[Writer, Check]] = {
    "publish": (publish, check_published),
    "switch": (switch, check_switched),
}


def main() -> int:
    """Writes, or checks."""
    from operations.fleet_writers import KINDS as FLEET_KINDS  # noqa: PLC0415  (which uses this module)
    from operations.pack_writers import KINDS as PACK_KINDS  # noqa: PLC0415

    kinds = {**KINDS, **FLEET_KINDS, **PACK_KINDS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(kinds))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=sys.maxsize)
    parser.add_argument("--check", metavar="CLAIMED")
    options = parser.parse_args()
    writer, check = kinds[options.kind]
    try:
        if options.check is not None:
            problem = check(options.folder, int(options.check or 0))
            sys.stdout.write(f"{problem}\n")
            return int(bool(problem))
        _claim("ready")
        for claim in itertools.islice(writer(options.folder), options.rounds):
            _claim(f"DURABLE {claim}")
    except EdgeRuntimeError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _claim(text: str) -> None:
    """A line, by another system call than files are written by, which faults are injected into."""
    os.writev(1, [f"{text}\n".encode()])


if __name__ == "__main__":
    sys.exit(main())
