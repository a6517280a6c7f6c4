"""Rendered text lines, upright (class 0) and turned by 180 degrees (class 1), for `text-direction.toml`.

Lines are drawn from seeds, so the two halves are the same on every machine with the same Pillow. A text belongs
wholly to one half: the parity of its checksum, whatever the case of its letters, says to which.
"""

from __future__ import annotations

import itertools
import random
import zlib
from typing import Dict, Iterator, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEIGHT, WIDTH = 48, 192
_HALVES = {"calibration": 0, "held_out": 1}
_WORDS = (
    "the of board power mode sensor camera frame engine latency budget thermal limit rail input output stream "
    "kernel memory buffer pinned mapped layer batch queue deadline slot table scale range model plan build serve "
    "measure report driver module carrier supply voltage current clock update version release station platform "
    "exit gate level north south east west street avenue market garden river bridge tower school office library "
    "open closed warning danger private public parking entrance ticket price total amount invoice number date"
).split()


def lines(half: str, texts: int = 256) -> Iterator[Tuple[Dict[str, np.ndarray], int]]:
    """Feeds `{"x": float32[1, 3, 48, 192]}` and labels: `texts` texts of one half, each in both directions."""
    for text, rng in itertools.islice(_texts(half), texts):
        image = _render(text, rng)
        for label, angle in enumerate((0, 180)):
            yield {"x": _network_input(image.rotate(angle))}, label


def _texts(half: str) -> Iterator[Tuple[str, random.Random]]:
    """Texts of one half without end, none twice, each with the generator that draws it."""
    seen = set()
    for seed in itertools.count():
        rng = random.Random(seed)
        text = _text(rng)
        folded = text.lower()
        if folded not in seen and zlib.crc32(folded.encode()) % 2 == _HALVES[half]:
            seen.add(folded)
            yield text, rng


def _render(text: str, rng: random.Random) -> Image.Image:
    """One line of text, cropped to itself with a little air around."""
    font = ImageFont.load_default(size=rng.randint(22, 40))
    left, top, right, bottom = font.getbbox(text)
    margin_x, margin_y = rng.randint(3, 10), rng.randint(2, 8)
    paper, ink = rng.randint(190, 255), rng.randint(0, 90)
    if rng.random() < 0.2:
        paper, ink = ink, paper
    size = (round(right - left) + 2 * margin_x, round(bottom - top) + 2 * margin_y)
    image = Image.new("RGB", size, (paper, paper, min(255, paper + rng.randint(0, 12))))
    ImageDraw.Draw(image).text((margin_x - left, margin_y - top), text, font=font, fill=(ink, ink, ink))
    return image


def _text(rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.randint(1, 3))]
    style = rng.choice((str.lower, str.upper, str.capitalize))
    number = [str(rng.randint(2, 9999))] if rng.random() < 0.3 else []
    return " ".join([style(word) for word in words] + number)


def _network_input(image: Image.Image) -> np.ndarray:
    """The image as the direction net was trained on: 48 high, at most 192 wide, padded right, BGR in [-1, 1]."""
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.BILINEAR), dtype=np.float32)[:, :, ::-1]
    padded = np.zeros((1, 3, HEIGHT, WIDTH), dtype=np.float32)
    padded[0, :, :, :width] = (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return padded
