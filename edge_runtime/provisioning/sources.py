"""What the plans of a store are built from: its recipes, and the packs that were unpacked into it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping

from edge_runtime.builder.recipe import Recipe, load_recipe
from edge_runtime.device.files import names_in, text_of
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.plan.pack import ENVELOPE
from edge_runtime.plan.recipe_file import PACKS, RECIPE
from edge_runtime.plan.unpacked import DIGEST, is_unpacked

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Source:
    """A recipe of a model; of one that can't be read, `problem` says why.

    `pack_sha256` is the digest of the pack that it came in, "" if it came in none.
    """

    model: str
    path: Path
    is_pack: bool = False
    pack_sha256: str = ""
    problem: str = ""

    @property
    def flags(self) -> Mapping[str, Mapping[str, Any]]:
        """What is laid over the recipe's tables: a pack's model is called as its folder is."""
        return {"model": {"name": self.model}} if self.is_pack else {}

    def recipe(self) -> Recipe:
        """The recipe.

        Raises:
            ConfigError: it is wrong.
        """
        return load_recipe(self.path, self.flags)


def sources_of(engines: Path) -> List[Source]:
    """All sources of a store by the names of their models, each of which has one that has no problem at most.

    Of a pack the newest release counts. Where two would make the same model, the first recipe does, before a pack: to
    build both in turn would change what is served each time.
    """
    recipes = [engines / name for name in names_in(engines) if name.endswith(".toml") and not name.startswith(".")]
    found = [_named(Source(path.stem, path)) for path in recipes]
    found += [source for name in names_in(engines / PACKS) for source in _newest_release(engines / PACKS / name)]
    makers: dict[str, Source] = {}
    for index, source in enumerate(found):
        if source.problem:
            continue
        first = makers.setdefault(source.model, source)
        if first is not source:
            problem = f"model {source.model!r} is made by {first.path} already; remove one of both, or set [model] name"
            found[index] = Source(source.model, source.path, source.is_pack, source.pack_sha256, problem)
    return sorted(found, key=lambda source: (source.model, source.is_pack, source.path))


def _named(source: Source) -> Source:
    try:
        return Source(source.recipe().name, source.path)
    except EdgeRuntimeError as error:
        return Source(source.model, source.path, problem=str(error))


def _newest_release(folder: Path) -> List[Source]:
    """The newest release of one pack's folder; none if there is no whole one."""
    if not MODEL_NAME.fullmatch(folder.name):
        return []
    numbers = [name for name in names_in(folder) if re.fullmatch(r"[1-9][0-9]{0,8}", name)]
    releases = [int(name) for name in numbers if (folder / name / RECIPE).is_file()]
    if not releases:
        return []
    newest = folder / str(max(releases))
    digest = text_of(newest / DIGEST, 128).strip()
    problem = "" if is_unpacked(newest) else f"{newest}: its {ENVELOPE} is gone; unpack the pack again"
    return [Source(folder.name, newest / RECIPE, True, digest if _SHA256.fullmatch(digest) else "", problem)]
