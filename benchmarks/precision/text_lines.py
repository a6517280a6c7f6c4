"""Rendered lines of text with their characters as class ids, for `rec.toml`, and the error rate of what is read.

Lines are drawn from seeds, so they are the same on every machine with the same Pillow. A text belongs wholly to one
half: the parity of its checksum, whatever the case of its letters, says to which.
"""

from __future__ import annotations

import itertools
import random
import zlib
from importlib import metadata
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFont

HEIGHT, WIDTH, LONGEST = 48, 320, 24
HALVES = {"calibration": 0, "held_out": 1}
_BLANK = 0
_WORDS = (
    "after again amber angle answer apple April autumn balance basket before bicycle blanket border bottle branch "
    "bridge bright butter camera candle carbon castle centre chapel cheese circle clever cloud coffee copper corner "
    "cotton cousin danger degree deliver desert dinner distance doctor double eleven engine evening factory family "
    "feather fifteen finger flower forest Friday garden gentle glass golden guitar hammer harbour height honest hotel "
    "hundred island jacket January journey kitchen ladder lantern laser leather lemon letter library little machine "
    "market meadow metal middle minute mirror Monday morning mountain museum narrow needle nothing number ocean office "
    "orange oxygen packet palace paper parcel pencil people phrase picture pillow planet pocket power quarter quiet "
    "rabbit railway record reply ribbon river rocket salad school season second shadow signal silver simple sister "
    "sixty smooth square station summer sunset switch table tailor temple thirty thunder ticket timber tomato tower "
    "travel tunnel turnip uncle under valley velvet village violet voltage wagon water weather weekend willow window "
    "winter wisdom wooden yellow zebra zinc"
).split()


def lines(half: str, count: int) -> Iterator[Tuple[Dict[str, np.ndarray], np.ndarray]]:
    """Feeds `{"x": float32[1, 3, 48, 320]}` and the class ids of their characters, int32[1, 24], blanks behind."""
    ids = _class_ids()
    for text, rng in itertools.islice(texts(half), count):
        label = np.full((1, LONGEST), _BLANK, np.int32)
        label[0, : len(text)] = [ids[character] for character in text]
        yield {"x": _network_input(render(text, rng))}, label


def error_rate(outputs: Sequence[Dict[str, np.ndarray]], samples: Sequence[Any]) -> float:
    """Characters to insert, delete or replace in what is read, over the characters that are there; 0 is best."""
    wrong = there = 0
    for output, sample in zip(outputs, samples):
        (scores,) = output.values()
        for row, label in zip(scores, sample.label):
            truth = [int(character) for character in label if character != _BLANK]
            wrong += _distance(_read(row), truth)
            there += len(truth)
    return wrong / there


def texts(half: str) -> Iterator[Tuple[str, random.Random]]:
    """Texts of one half without end, none twice, each with the generator that draws it."""
    seen = set()
    for seed in itertools.count():
        rng = random.Random(seed)
        text = _text(rng)
        folded = text.lower()
        if folded not in seen and len(text) <= LONGEST and zlib.crc32(folded.encode()) % 2 == HALVES[half]:
            seen.add(folded)
            yield text, rng


def render(text: str, rng: random.Random) -> Image.Image:
    """One line of text, small and noisy as from a cheap camera, cropped to itself with a little air around."""
    font = ImageFont.load_default(size=rng.randint(12, 26))
    left, top, right, bottom = font.getbbox(text)
    margin_x, margin_y = rng.randint(1, 4), rng.randint(1, 3)
    paper, ink = rng.randint(150, 255), rng.randint(0, 120)
    if rng.random() < 0.2:
        paper, ink = ink, paper
    image = Image.new("L", (round(right - left) + 2 * margin_x, round(bottom - top) + 2 * margin_y), paper)
    ImageDraw.Draw(image).text((margin_x - left, margin_y - top), text, font=font, fill=ink)
    return noisy(image, rng)


def noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image in colour, with noise of its own in each channel."""
    deviation = 24 * rng.random()
    pixels = np.asarray(image, np.float32)[:, :, None]
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, deviation, (*pixels.shape[:2], 3))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def normalized(image: Image.Image) -> np.ndarray:
    """The pixels as PP-OCR's nets take them: float32[3, height, width], BGR, in [-1, 1]."""
    pixels = np.asarray(image, dtype=np.float32)[:, :, ::-1]
    return (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5


def _text(rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.randint(1, 3))]
    style = rng.choice((str, str.lower, str.upper, str.capitalize))
    number = (
        [rng.choice(("{}", "{}%", "#{}", "({})", "{}.5")).format(rng.randint(2, 9999))] if rng.random() < 0.4 else []
    )
    return " ".join([style(word) for word in words] + number)


def _network_input(image: Image.Image) -> np.ndarray:
    """The line 48 high, at most 320 wide, padded right."""
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    padded = np.zeros((1, 3, HEIGHT, WIDTH), dtype=np.float32)
    padded[0, :, :, :width] = normalized(image.resize((width, HEIGHT), Image.BILINEAR))
    return padded


def _class_ids() -> Dict[str, int]:
    """The class of each character: the net carries its list, class 0 is CTC's blank, the last one the space."""
    path = metadata.distribution("rapidocr-onnxruntime").locate_file(
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
    )
    properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    characters = [*properties["character"].splitlines(), " "]
    return {character: index for index, character in enumerate(characters, start=1)}


def _read(scores: np.ndarray) -> List[int]:
    """The class ids that CTC reads greedily: the best of each step, repeats joined, blanks and outer spaces dropped."""
    best = scores.argmax(axis=-1)
    starts = np.concatenate(([True], best[1:] != best[:-1]))
    ids = best[starts & (best != _BLANK)]
    inked = np.flatnonzero(ids != scores.shape[-1] - 1)
    return [int(index) for index in ids[inked[0] : inked[-1] + 1]] if inked.size else []


def _distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein's distance."""
    if one == other:
        return 0
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
