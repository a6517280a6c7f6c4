"""What `unpack` writes: releases of a pack, old ones that go, and which was the highest."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Dict, Iterator, Tuple

from edge_runtime.plan.pack import RECORD, PackStatement, member_of, pack_chunks
from edge_runtime.plan.recipe_file import PACKS, RECIPE
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.plan.unpacked import unpacked_pack
from edge_runtime.provisioning.unpacking import KEPT_OLDER, unpack
from operations.writers import Check, Writer, plan_bytes

_MODEL = "m"
_MOST = KEPT_OLDER + 2  # one more may be there between publishing and removing


def _pack(release: int) -> bytes:
    """A pack with a model of another size each time; unpacking doesn't open it."""
    source = {"source": "m.onnx", "digest": "", "files": {}}
    record = {"format": 1, "model": _MODEL, "release": release, "edge_runtime": "0", "source": source}
    record = {**record, "data": {}, "device": {}, "candidates": [], "reason": "", "notes": []}
    contents = {
        RECORD: json.dumps(record).encode(),
        RECIPE: f'[model]\nname = "{_MODEL}"\npath = "model.onnx"\n'.encode(),
        "model.onnx": plan_bytes(release),
    }
    statement = PackStatement(_MODEL, release, tuple(map(member_of, contents, contents.values())))
    return b"".join(pack_chunks(statement.envelope(None), statement, contents))


def _unpack(folder: Path, release: int) -> None:
    with tempfile.NamedTemporaryFile(suffix=".pack") as file:
        file.write(_pack(release))
        file.flush()
        unpack(Path(file.name), folder / "engines", TrustPolicy())


def releases(folder: Path) -> Iterator[int]:
    """One release of a model after another."""
    for release in itertools.count(1):
        _unpack(folder, release)
        yield release


def check_releases(folder: Path, claimed: int) -> str:
    """What is there is whole, no older than what was claimed and no more than is kept; the next run goes on with it."""
    packs = folder / "engines" / PACKS
    model = packs / _MODEL
    found = sorted(int(path.name) for path in model.iterdir() if path.name.isdigit()) if model.is_dir() else []
    for release in found:
        unpacked_pack(model / str(release), TrustPolicy())
    if max(found, default=0) < claimed:
        return f"releases {found} are there, {claimed} was said to be"
    if len(found) > _MOST:
        return f"{len(found)} releases are there, expected {_MOST} at most: {found}"
    _unpack(folder, max(found, default=0) + 1)
    left = [
        str(path) for path in packs.rglob(".*") if path.name.startswith((".trash", ".stage")) or ".tmp" in path.name
    ]
    return f"the next run left {left}" if left else ""


KINDS: Dict[str, Tuple[Writer, Check]] = {"unpack": (releases, check_releases)}
