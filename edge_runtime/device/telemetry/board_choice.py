"""Which board is to be looked at: the text of `--board`, for every verb that has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError

KINDS = ("auto", "sysfs", "tegrastats", "jtop", "nvml", "rapl", "none")
DESCRIPTION = (
    f"Where power, heat and clocks come from: {', '.join(KINDS)}, or a recording by replay:FILE (replay@10:FILE: ten "
    "times as fast)."
)
_REPLAY = re.compile(r"replay(?:@([0-9]{1,4}(?:\.[0-9]{1,3})?))?:(.+)", re.DOTALL)
_MOST_SPEED = 1000.0


@dataclass(frozen=True)
class BoardChoice:
    """What a `--board` asks for: a kind of source, or `replay` of `path` at so many times its speed."""

    kind: str
    path: Path | None = None
    speed: float = 1.0


def board_choice(text: str) -> BoardChoice:
    """The choice that the text of `--board` is.

    Raises:
        ConfigError: it is none.
    """
    if text in KINDS:
        return BoardChoice(text)
    match = _REPLAY.fullmatch(text)
    speed = 1.0 if match is None or match.group(1) is None else float(match.group(1))
    if match is None or not 0 < speed <= _MOST_SPEED:
        raise ConfigError(
            f"--board {text!r}: expected one of {', '.join(KINDS)}, replay:FILE, "
            f"or replay@SPEED:FILE with a speed of up to {_MOST_SPEED:g}"
        )
    return BoardChoice("replay", Path(match.group(2)), speed)
