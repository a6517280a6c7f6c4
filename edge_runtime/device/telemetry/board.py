"""The board that `--board` asks for, opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from edge_runtime.device.telemetry.board_choice import BoardChoice, board_choice
from edge_runtime.device.telemetry.choice import open_source
from edge_runtime.device.telemetry.source import Source
from edge_runtime.device.telemetry.sources.replay import ReplaySource, replay_source
from edge_runtime.errors import ConfigError, TelemetryError


@dataclass(frozen=True)
class OpenBoard:
    """A source that is open, and its owner's to close; None where there is none.

    `verdicts` say of each kind of source that was tried whether it is in use, and why not. `interval_s` is how often a
    sample comes or is to be taken, `root` where the board's own files lie (None: it has none here). `failure` says why
    there is no source though one was asked for by name.
    """

    source: Source | None
    verdicts: Tuple[Tuple[str, str], ...]
    interval_s: float
    root: Path | None = None
    failure: str | None = None


def check_board(text: str) -> None:
    """Finds out before anything is started whether the text of `--board` is a choice, and what it replays is there.

    Raises:
        ConfigError: it isn't.
    """
    choice = board_choice(text)
    if choice.path is not None:
        _replay(choice).close()


def open_board(text: str, interval_s: float, root: Path = Path("/")) -> OpenBoard:
    """The board that the text of `--board` asks for, sampled every `interval_s`; a log has its own interval.

    Raises:
        ConfigError: the text is no choice, or there is nothing to replay where it says.
    """
    choice = board_choice(text)
    if choice.path is None:
        return _live(choice.kind, interval_s, root)
    source = _replay(choice)
    verdicts = (("replay", "in use"),)
    if isinstance(source, ReplaySource):
        return OpenBoard(source, verdicts, source.interval_s)
    return OpenBoard(source, verdicts, interval_s, choice.path)


def _replay(choice: BoardChoice) -> Source:
    assert choice.path is not None
    try:
        return replay_source(choice.path, choice.speed)
    except TelemetryError as error:
        raise ConfigError(f"--board: {error}") from None


def _live(kind: str, interval_s: float, root: Path) -> OpenBoard:
    chosen = open_source(kind, root, interval_s)
    is_asked_for = kind not in ("auto", "none")
    failure = None
    if chosen.source is None and is_asked_for:
        failure = "; ".join(f"{name}: {why}" for name, why in chosen.verdicts) or f"{kind}: not there"
    return OpenBoard(chosen.source, chosen.verdicts, interval_s, None if chosen.source is None else root, failure)
