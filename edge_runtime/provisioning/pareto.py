"""Which points of a sweep are worth having, and which one to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

Row = Mapping[str, Any]
Column = Tuple[str, bool]
"""The key of a figure, and whether more of it is better."""


def frontier(rows: Sequence[Row], columns: Sequence[Column]) -> List[bool]:
    """Which rows no other row beats: one that is as good in every column and better in one.

    A column that no row has doesn't count. A row that lacks a figure that others have can't be compared, and isn't on
    the frontier. Rows that are equal in all are on it together.
    """
    used = [column for column in columns if any(row.get(column[0]) is not None for row in rows)]
    scores = [_scores(row, used) for row in rows]
    return [
        mine is not None and bool(used) and not any(other is not None and _beats(other, mine) for other in scores)
        for mine in scores
    ]


def _scores(row: Row, columns: Sequence[Column]) -> Tuple[float, ...] | None:
    """The row's figures, more being better for all; None if one is missing."""
    values = [row.get(key) for key, _ in columns]
    if any(value is None for value in values):
        return None
    return tuple(float(value or 0) * (1 if is_more else -1) for value, (_, is_more) in zip(values, columns))


def _beats(one: Tuple[float, ...], other: Tuple[float, ...]) -> bool:
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other))


@dataclass(frozen=True)
class Bound:
    """What a figure must be at most, or at least."""

    name: str
    key: str
    value: float
    is_least: bool

    def why_not(self, row: Row) -> str | None:
        """Why a row doesn't keep it; None if it does."""
        value = row.get(self.key)
        word = "at least" if self.is_least else "at most"
        if value is None:
            return f"{self.name} isn't known, {word} {self.value:g} is wanted"
        if (value < self.value) if self.is_least else (value > self.value):
            return f"{self.name} {value:.4g}, {word} {self.value:g} is wanted"
        return None


@dataclass(frozen=True)
class Choice:
    """The place of the row to take (None: none keeps the bounds), and why each of the others wasn't taken.

    `able` are the places of the rows that keep the bounds.
    """

    index: int | None
    why_not: Dict[int, str]
    able: Tuple[int, ...] = ()


def choose(rows: Sequence[Row], bounds: Sequence[Bound], order: Sequence[Column]) -> Choice:
    """Of the rows that keep every bound the best by the first column of `order`; of equals, by the next ones.

    The first column must be known of a row; an unknown later one is the worst.
    """
    why: Dict[int, str] = {}
    able: List[int] = []
    objective, is_more = order[0]
    for index, row in enumerate(rows):
        broken = [text for text in (bound.why_not(row) for bound in bounds) if text is not None]
        if not broken and row.get(objective) is None:
            broken = [f"{objective} isn't known"]
        if broken:
            why[index] = "; ".join(broken)
        else:
            able.append(index)
    if not able:
        return Choice(None, why)
    best = max(able, key=lambda index: _key(rows[index], order))
    for index in able:
        if index != best:
            mine, theirs = rows[index][objective], rows[best][objective]
            word = "less" if is_more else "more"
            same = f"as good by {objective}, and worse by another figure or later in the list"
            why[index] = same if mine == theirs else f"{objective} {mine:.4g}, {word} than {theirs:.4g}"
    return Choice(best, why, tuple(able))


def frontier_of(rows: Sequence[Row], columns: Sequence[Column], able: Sequence[int]) -> List[bool]:
    """The frontier, where the rows of the places `able` are only held against each other.

    A row that breaks a bound can't be had, so it beats none that keeps them all, and the row to take isn't beaten.
    """
    found = frontier(rows, columns)
    for place, is_on_it in zip(able, frontier([rows[place] for place in able], columns)):
        found[place] = is_on_it
    return found


def _key(row: Row, order: Sequence[Column]) -> Tuple[float, ...]:
    return tuple(
        float("-inf") if row.get(key) is None else float(row[key]) * (1 if is_more else -1) for key, is_more in order
    )
