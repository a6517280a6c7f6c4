"""One line of tegrastats as a sample, for every release from L4T 21 to 39 (`sample_from_line`).

Word by word, in any order: new words appear with each release, and one that isn't understood is kept. Only whole
words are believed. What a logger wrote in front of the line is left out.
"""

from __future__ import annotations

import re
from typing import Iterator, List, Match, Tuple

from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.tegrastats.cuts import LastWord, may_be_cut
from edge_runtime.device.telemetry.tegrastats.draft import Draft
from edge_runtime.device.telemetry.tegrastats.grammar import (
    BY_NAME,
    ENGINE,
    KNOWN_RAILS,
    KNOWN_ZONES,
    NEVER_RAILS,
    RAIL,
    STAMP,
    ZONE,
)

LONGEST_LINE = 8192  # characters; the longest that was seen has about 700
_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # and whatever else a program tells a terminal
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ")
_MEMORY = r"RAM [0-9]{1,9}/[0-9]{1,9}MB(?![A-Za-z0-9])"
_FIRST_MEMORY = re.compile(r"(?<![A-Za-z0-9_])" + _MEMORY)
_NEXT_MEMORY = re.compile(r"(?<!I)" + _MEMORY)
_STAMP_BEFORE = re.compile(r"(?<![0-9-])[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} ?$")

_QUOTE = re.compile(r"""["']""")

_Word = Tuple[str, str, "Match[str] | None"]


def sample_from_line(line: str) -> TelemetrySample | None:
    """What the line tells; None if it isn't one of tegrastats, or lost its beginning.

    A line of it has `RAM used/totalMB`, with its largest free block or with a list of processors. A word that stands
    twice counts where it stands first. Never raises, in time linear to the line's length.
    """
    if len(line) > LONGEST_LINE:
        return None
    plain = _COLOUR.sub("", line) if "\x1b" in line else line
    if "RAM" not in plain:
        return None
    text = " ".join(plain.translate(_CONTROLS).split())
    memory = _FIRST_MEMORY.search(text)
    if memory is None:
        return None
    draft = Draft()
    head, body, rest = _parted(text, memory)
    _read_head(head, draft)
    _read_body(body, draft, is_cut=bool(rest))
    _keep(rest.split(), draft)
    ram = draft.fields.get("ram")
    if ram is None or (ram.lfb_blocks is None and "cpus" not in draft.fields):
        return None
    return draft.sample()


def _parted(text: str, memory: Match[str]) -> Tuple[str, str, str]:
    """What stands before the sample's memory, the sample from there on, and what follows the sample."""
    head = text[: memory.start()]
    second = _NEXT_MEMORY.search(text, memory.end())
    if second is not None:  # the line end between two samples was lost
        stamp = _STAMP_BEFORE.search(text, memory.end(), second.start())
        at = second.start() if stamp is None else stamp.start()
        return head, text[memory.start() : at].rstrip(), text[at:]
    if _QUOTE.search(head):  # a logger's, as in `{"log": "RAM ..\n", "time": ..}` and `b'RAM ..\n'`
        return head, re.split(r"""["'\\]""", text[memory.start() :], maxsplit=1)[0].rstrip(), ""
    return head, text[memory.start() :], ""


def _read_head(head: str, draft: Draft) -> None:
    """Takes the stamp, and words that nothing but tegrastats prints; the text of a logger before those is dropped."""
    stamp = _STAMP_BEFORE.search(head)
    if stamp is not None:
        _take_stamp(head[stamp.start() :].rstrip(), draft)
        head = head[: stamp.start()]
    has_begun = False
    pending: List[str] = []
    for kind, word, match in _words(head.strip()):
        if match is not None and _is_sure(kind, match) and draft.take(kind, match):
            has_begun = True
            _keep(pending, draft)
            pending = []
        elif has_begun:
            pending.append(word)
    _keep(pending, draft)


def _take_stamp(text: str, draft: Draft) -> None:
    match = STAMP.match(text)
    if match is None or not draft.take("stamp", match):
        draft.keep(text, is_after_name=False)


def _is_sure(kind: str, match: Match[str]) -> bool:
    if kind == "zone":
        return match[1].lower() in KNOWN_ZONES
    return kind != "rail" or match[1] in KNOWN_RAILS


def _read_body(body: str, draft: Draft, is_cut: bool) -> None:
    is_after_unknown = False
    words = list(_words(body))
    for index, (kind, word, found) in enumerate(words):
        match = found
        if index == len(words) - 1 and match is not None:
            last = LastWord(kind, word, {other.partition(" ")[0] for _, other, _ in words[:index]})
            if (is_cut and word[-1] in "0123456789%") or may_be_cut(last, draft):
                match = None
        is_known = match is not None and draft.take(kind, match)
        if not is_known:
            draft.keep(word, is_after_unknown)
        is_after_unknown = not is_known


def _keep(words: List[str], draft: Draft) -> None:
    for index, word in enumerate(words):
        draft.keep(word, index > 0)


def _words(text: str) -> Iterator[_Word]:
    """Kind, text and match of each word in turn; the match is None for one that isn't understood."""
    at, end = 0, len(text)
    while at < end:
        blank = text.find(" ", at)
        first = text[at : end if blank < 0 else blank]
        kind, match = _word_at(text, at, first)
        word = first if match is None else match.group()
        yield kind, word, match
        at += len(word) + 1


def _word_at(text: str, at: int, first: str) -> Tuple[str, Match[str] | None]:
    if "@" in first:
        return "zone", ZONE.match(text, at)
    kind, pattern = BY_NAME.get(first, ("", None))
    match = None if pattern is None else pattern.match(text, at)
    if match is not None:
        return kind, match
    if first not in NEVER_RAILS:
        match = RAIL.match(text, at)
        if match is not None:
            return "rail", match
    match = ENGINE.match(text, at)
    if match is not None:
        return "engine", match
    return "stamp", STAMP.match(text, at)
