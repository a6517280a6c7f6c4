"""Packs of a small classifier, and devices that take them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
import onnxruntime

from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.recipe import Recipe, load_recipe, make_recipe
from edge_runtime.plan.keys import PrivateKey
from edge_runtime.plan.pack import PackReader, PackStatement, member_of, pack_chunks
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.provisioning.packing import MadePack, PackOptions, pack
from edge_runtime.provisioning.unpacking import Unpacked, unpack
from tests.fakes.heard import Heard
from tests.fakes.signed_versions import Trust, made_trust


class Host:
    """A folder with a model and its data, where packs are made."""

    def __init__(self, folder: Path, model: bytes) -> None:
        folder.mkdir()
        self.folder = folder
        self.heard = Heard()
        (folder / "m.onnx").write_bytes(model)
        rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        labels = session.run(None, {"x": rows})[0].argmax(axis=1)
        np.savez(folder / "c.npz", x=rows[:100])
        np.savez(folder / "h.npz", x=rows[100:], label=labels[100:])

    def recipe(self, tables: Mapping[str, Any] | None = None) -> Recipe:
        content: Dict[str, Any] = {
            "model": {"path": "m.onnx"},
            "calibration": {"data": "c.npz"},
            "held_out": {"data": "h.npz"},
            "precision": {"policy": "int8"},
            "gate": {"latency_budget_s": 0.1, "max_drop": 0.1},
        }
        for name, table in (tables or {}).items():
            content[name] = {**content.get(name, {}), **table}
        return make_recipe(content, "m", self.folder, environ={})

    def pack(
        self, tables: Mapping[str, Any] | None = None, key: PrivateKey | None = None, name: str = "m.pack", **how: Any
    ) -> MadePack:
        options = PackOptions(self.folder / "calib_cache", key, **how)
        return pack(self.recipe(tables), self.folder / name, options, self.heard)


class Device:
    """A store and whom it trusts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.engines = folder / "engines"
        self.packs = self.engines / ".packs"
        self.trust: Trust = made_trust(folder / "trusted.d")

    def policy(self, require_signed: bool = False) -> TrustPolicy:
        return TrustPolicy(require_signed, self.trust.folder)

    def unpack(self, path: Path, require_signed: bool = False, allows_older: bool = False) -> Unpacked:
        return unpack(path, self.engines, self.policy(require_signed), allows_older)

    def build(self, recipe: Path, require_signed: bool = False) -> BuiltPlan:
        options = BuildOptions(self.engines, self.engines.parent / "calib_cache", trust=self.policy(require_signed))
        return build(load_recipe(recipe, environ={}), options, Heard())

    @property
    def files(self) -> list[str]:
        """All that is in the store, by path."""
        return sorted(str(path.relative_to(self.engines)) for path in self.engines.rglob("*") if path.is_file())


def contents_of(data: bytes) -> Dict[str, bytes]:
    """The members of a pack."""
    reader = PackReader(io.BytesIO(data), len(data), "a pack")
    return {member.name: b"".join(chunks) for member, chunks in reader.members()}


def pack_bytes(contents: Mapping[str, bytes], release: int, key: PrivateKey | None = None, model: str = "m") -> bytes:
    """A pack of any members, with statement and digests that are right."""
    statement = PackStatement(model, release, tuple(map(member_of, contents, contents.values())))
    return b"".join(pack_chunks(statement.envelope(key), statement, contents))
