"""Rendered pages with the boxes of their lines, for `det.toml`, and the F1 score of the boxes that are found."""

from __future__ import annotations

import itertools
import random
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from text_lines import noisy, normalized, texts

SIZE = 480
_MARGIN, _GAP, _AIR = 12, 36, 3
_THRESHOLD, _BOX_THRESHOLD, _UNCLIP, _SMALLEST = 0.3, 0.5, 1.6, 3
Box = Tuple[int, int, int, int]


def pages(half: str, count: int) -> Iterator[Tuple[Dict[str, np.ndarray], np.ndarray]]:
    """Feeds `{"x": float32[1, 3, 480, 480]}` and the boxes of the lines: left, top, right, bottom, int32[1, n, 4]."""
    source = texts(half)
    for seed in range(count):
        rng = random.Random(f"{half} {seed}")
        image, boxes = _page(source, rng)
        yield {"x": normalized(noisy(image, rng))[None]}, np.array([boxes], np.int32)


def f1(outputs: Sequence[Dict[str, np.ndarray]], samples: Sequence[Any]) -> float:
    """F1 over all pages; a line is found if a box overlaps it by more than half of their union."""
    hits = found = there = 0
    for output, sample in zip(outputs, samples):
        (maps,) = output.values()
        for probability, truth in zip(maps[:, 0], sample.label):
            boxes = _boxes(probability)
            hits += int((_overlap(truth, boxes) > 0.5).any(axis=1).sum())
            found += len(boxes)
            there += len(truth)
    return 2 * hits / (found + there)


def _page(source: Iterator[Tuple[str, random.Random]], rng: random.Random) -> Tuple[Image.Image, List[Box]]:
    """Rows of text from top to bottom, one or two to a row."""
    paper, ink = rng.randint(190, 255), rng.randint(0, 110)
    if rng.random() < 0.2:
        paper, ink = ink, paper
    image = Image.new("L", (SIZE, SIZE), paper)
    draw = ImageDraw.Draw(image)
    boxes: List[Box] = []
    top = _MARGIN
    while True:
        font = ImageFont.load_default(size=rng.randint(14, 30))
        left, bottom = rng.randint(_MARGIN, SIZE // 3), top + sum(font.getmetrics())
        if bottom + _MARGIN > SIZE:
            return image, boxes
        for text, _ in itertools.islice(source, 2):
            right = left + round(font.getlength(text))
            if right + _MARGIN > SIZE:
                break
            draw.text((left, top), text, font=font, fill=ink)
            boxes.append((left - _AIR, top, right + _AIR, bottom))
            left = right + _GAP
        top = bottom + rng.randint(4, 14)


def _boxes(probability: np.ndarray) -> np.ndarray:
    """Boxes of text, float32[n, 4], from the map of its shrunk cores (the post-processing of DB, for upright boxes)."""
    boxes = []
    for left, top, right, bottom in _components(probability > _THRESHOLD).tolist():
        width, height = right - left, bottom - top
        sure = probability[top:bottom, left:right].mean() >= _BOX_THRESHOLD
        if sure and min(width, height) >= _SMALLEST:
            grow = width * height * _UNCLIP / (2 * (width + height))
            boxes.append((left - grow, top - grow, right + grow, bottom + grow))
    return np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, np.tile(probability.shape[::-1], 2))


def _components(mask: np.ndarray) -> np.ndarray:
    """The boxes of 8-connected regions, int[n, 4], by joining each run of pixels with those that it touches above."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    stride = edges.shape[1] + 1  # runs in reading order: those that a run touches are a range
    first = np.searchsorted(rows * stride + ends, (rows - 1) * stride + starts, "left")
    count = np.searchsorted(rows * stride + starts, (rows - 1) * stride + ends, "right") - first
    below = np.repeat(np.arange(rows.size), count)
    above = np.arange(below.size) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    regions, before = np.arange(rows.size), np.empty(0)
    while not np.array_equal(regions, before):
        before = regions.copy()
        np.minimum.at(regions, below, before[above])
        np.minimum.at(regions, above, before[below])
        regions = regions[regions]
    named, region_of = np.unique(regions, return_inverse=True)
    boxes = np.tile([mask.shape[1], mask.shape[0], 0, 0], (named.size, 1))
    for side, combine, values in ((0, np.minimum, starts), (1, np.minimum, rows), (2, np.maximum, ends)):
        combine.at(boxes[:, side], region_of, values)
    np.maximum.at(boxes[:, 3], region_of, rows + 1)
    return boxes


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of each box of one list with each of the other."""
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(end - start, 0, None).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)
