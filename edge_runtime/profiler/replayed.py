"""The words that go with every figure of a board that was replayed: it was not measured on this machine."""

from __future__ import annotations

from typing import Any, Mapping


def replayed_words(origin: Mapping[str, Any]) -> str:
    """What an origin's figures are, by its `replay_of` and `made_up`; "" where they were measured here."""
    is_made_up = bool(origin.get("made_up"))
    return ", ".join([*(["replayed"] if origin.get("replay_of") else []), *(["made up"] if is_made_up else [])])


def marked(text: str, origin: Mapping[str, Any]) -> str:
    """A text with those words behind it, where there are any."""
    words = replayed_words(origin)
    return f"{text} ({words})" if words else text


def energy_words(origin: Mapping[str, Any]) -> str:
    """What an energy per inference is, if its power is not this machine's; "" where it is."""
    words = replayed_words(origin)
    return f"{words} power over this machine's calls: an example, not a measurement" if words else ""
