"""Files of Python's standard library as magika sees them, for `magika.toml`.

What magika sees of a file decides by its checksum to which part it belongs, a quarter of all being for calibration: so
files that look the same are in one part.
"""

from __future__ import annotations

import collections
import itertools
import sysconfig
import zlib
from pathlib import Path
from typing import Counter, Dict, Iterator, Tuple

import numpy as np

BLOCK, PART, PADDING, LEAST = 4096, 1024, 256, 8
_PARTS = {"calibration": {0}, "held_out": {1, 2, 3}}
_FOREIGN = {"__pycache__", "site-packages", "dist-packages", "ensurepip"}
_OF_A_KIND = 12


def files(part: str, count: int) -> Iterator[Dict[str, np.ndarray]]:
    """Feeds `{"bytes": int32[1, 2048]}`: `count` files of one part, of which no two look the same to magika."""
    for _, tokens in itertools.islice(named_files(part), count):
        yield {"bytes": tokens[None]}


def named_files(part: str) -> Iterator[Tuple[Path, np.ndarray]]:
    """Files of one part in an order that mixes them: all of Python's, and up to 12 of each other suffix."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    ours = [path for path in inside if path.suffix != ".txt" and not _FOREIGN & set(path.parts)]
    seen = set()
    kinds: Counter[str] = collections.Counter()
    for path in sorted(ours, key=lambda path: (zlib.crc32(path.as_posix().encode()), path)):
        tokens = features((folder / path).read_bytes())
        checksum = zlib.crc32(tokens.tobytes())
        is_usable = tokens[LEAST - 1] != PADDING and checksum % 4 in _PARTS[part] and checksum not in seen
        if is_usable and (path.suffix == ".py" or kinds[path.suffix] < _OF_A_KIND):
            seen.add(checksum)
            kinds[path.suffix] += 1
            yield path, tokens


def features(content: bytes) -> np.ndarray:
    """The first and last 1024 bytes of a file without the white space around it, int32[2048]; 256 is padding."""
    head, tail = content[:BLOCK].lstrip()[:PART], content[-BLOCK:].rstrip()[-PART:]
    tokens = np.full(2 * PART, PADDING, np.int32)
    tokens[: len(head)] = list(head)
    tokens[tokens.size - len(tail) :] = list(tail)
    return tokens
