"""Figure 14: an encrypted plan whose file was changed, in every way that encryption in chunks invites.

A spy stands in the engine library's place: what reaches it was not refused in time.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Iterator, List, Tuple
from unittest import mock

from robustness.rows import Row, verdict_of

from edge_runtime.engine.loading import load
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.plan.plan_key import new_plan_key, write_plan_key
from edge_runtime.plan.sealed import CHUNK_NBYTES, HEADER_NBYTES
from edge_runtime.plan.store import StoredPlan
from operations.secrecy import Site, build

_FULL_NBYTES = CHUNK_NBYTES + 16  # a chunk and its tag
_FLIPS, _TRUNCATIONS = 200, 100
_SEED = 14

Damage = Tuple[str, bytes]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """One row of all kinds."""
    del options
    goal = "each refused before the engine library sees a byte"
    with tempfile.TemporaryDirectory(prefix="edge-runtime-tampering-") as name:
        site = Site(Path(name), Path(name))
        write_plan_key(new_plan_key(), "plan", site.memory)
        write_plan_key(new_plan_key(), "other", site.memory)
        stored, twin = (build(site, is_encrypted=True, seed=seed, name=f"m{seed}") for seed in (1, 2))
        with mock.patch.dict(os.environ, site.environment):
            tried, passed = _tried(stored, damages(stored.plan_path.read_bytes(), twin.plan_path.read_bytes()))
        for kind, key in (("wrong key", "other.key"), ("no key", "absent.key")):
            with mock.patch.dict(os.environ, {"EDGE_RUNTIME_TRUST__PLAN_KEY": str(site.memory / key)}):
                more, also = _tried(stored, [(kind, stored.plan_path.read_bytes())])
            tried, passed = tried + more, passed + also
    kinds = ", ".join(f"{count} {kind}" for kind, count in tried.items())
    count = sum(tried.values())
    text = f"{count - len(passed)} of {count} refused: {kinds}" + (f"; passed: {passed[0]}" if passed else "")
    yield Row("14 encrypted plan tampered with", goal, text, count, verdict_of(not passed))


def damages(whole: bytes, twin: bytes) -> Iterator[Damage]:
    """What becomes of a file of some chunks; `twin` is another one of the same size by the same key."""
    rng = random.Random(_SEED)
    head, chunks = whole[:HEADER_NBYTES], _chunks(whole)
    for first in range(len(chunks)):
        yield "chunks left out", head + b"".join(chunks[:first] + chunks[first + 1 :])
        yield "chunks doubled", head + b"".join(chunks[: first + 1] + chunks[first:])
        for second in range(first):
            order = list(chunks)
            order[first], order[second] = order[second], order[first]
            yield "chunks swapped", head + b"".join(order)
    for number in range(len(chunks)):
        borders = HEADER_NBYTES + number * _FULL_NBYTES
        yield "truncations", whole[:borders]
        yield "splices", whole[:borders] + twin[borders:]
        yield "splices", twin[:borders] + whole[borders:]
        theirs = _chunks(twin)[number]
        yield "splices", head + b"".join([*chunks[:number], theirs, *chunks[number + 1 :]])
    yield "other files", twin
    for _ in range(_TRUNCATIONS):
        yield "truncations", whole[: rng.randrange(len(whole))]
    for _ in range(_FLIPS):
        changed = bytearray(whole)
        bit = rng.randrange(8 * len(whole))
        changed[bit // 8] ^= 1 << bit % 8
        yield "flipped bits", bytes(changed)


def _chunks(file: bytes) -> List[bytes]:
    return [file[at : at + _FULL_NBYTES] for at in range(HEADER_NBYTES, len(file), _FULL_NBYTES)]


def _tried(stored: StoredPlan, found: Iterator[Damage] | List[Damage]) -> Tuple[Counter[str], List[str]]:
    """How many of each kind were tried, and those that came through; the file is as it was then."""
    import onnxruntime  # noqa: PLC0415

    tried: Counter[str] = Counter()
    passed: List[str] = []
    whole = stored.plan_path.read_bytes()
    for kind, data in found:
        stored.plan_path.write_bytes(data)
        tried[kind] += 1
        with mock.patch.object(onnxruntime, "InferenceSession", side_effect=AssertionError) as library:
            try:
                load(stored.folder).close()
            except (EdgeRuntimeError, AssertionError) as error:
                if library.called or isinstance(error, AssertionError):
                    passed.append(kind)
            else:
                passed.append(kind)
    stored.plan_path.write_bytes(whole)
    return tried, passed
