"""Where a store has the recipe of a model: its own, else that of a pack."""

from __future__ import annotations

from pathlib import Path

PACKS = ".packs"
RECIPE = "recipe.toml"


def recipe_file(root: Path, model: str) -> Path | None:
    """`<root>/<model>.toml`, else the recipe in the newest release of the model's pack; None if there is neither."""
    own = root / f"{model}.toml"
    if own.exists():
        return own
    packed = [path for path in (root / PACKS / model).glob(f"*/{RECIPE}") if path.parent.name.isdecimal()]
    return max(packed, key=lambda path: int(path.parent.name)) if packed else None
