"""What a service logs, and how: a line a record, whatever clients have put into it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Callable, Dict, Mapping, TextIO

from edge_runtime.cli.journal import JournalLines
from edge_runtime.errors import InvalidRequestError
from edge_runtime.wire.inference import clipped

logger = logging.getLogger(__name__)

MAX_LINE_NBYTES = 4096
_TIMES = ("default", "ISO8601")
_MAX_TRACE_LINES = 200
_ELLIPSIS = "..."
_LEVELS = ("log_error", "log_warning", "log_info")


class ServiceLog:
    """The log of this process, on stderr or another stream, which may be changed while it runs.

    One object at a time is in force. Its settings have the names of the protocol's extension `logging`; `level` is the
    least that passes at first. With `has_priorities`, lines are the journal's.
    """

    def __init__(
        self, level: str, is_json: bool = False, stream: TextIO | None = None, has_priorities: bool = False
    ) -> None:
        self._settings: Dict[str, Any] = {"log_file": "", **passing(level), "log_format": _TIMES[0]}
        lines: logging.Formatter = JsonLines() if is_json else TextLines(self)
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JournalLines(lines) if has_priorities else lines)
        handler.addFilter(self.passes)
        logging.basicConfig(handlers=[handler], force=True)
        logging.getLogger("hpack").setLevel(logging.WARNING)  # below, it logs every header of a request, tokens too
        self._set_level()

    @property
    def has_times(self) -> bool:
        """Whether lines of text begin with the time."""
        return bool(self._settings["log_format"] != _TIMES[0])

    def settings(self) -> Dict[str, Any]:
        """What holds now."""
        return dict(self._settings)

    def change(self, settings: Mapping[str, Any]) -> None:
        """Lets other settings hold, all or none.

        Raises:
            InvalidRequestError: a setting that isn't there, can't be changed, or has another kind of value.
        """
        for name, value in settings.items():
            _check(name, value, self._settings)
        self._settings.update(settings)
        self._set_level()
        if settings:
            changed = ", ".join(f"{name} {value}" for name, value in settings.items())
            logger.info("log settings were changed: %s", changed)

    def let_pass(self, level: str) -> None:
        """Lets a level and what is graver pass, and nothing else."""
        self.change(passing(level))

    def passes(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno < logging.INFO:
            return bool(self._settings["log_verbose_level"])
        return bool(self._settings[_setting_of(record.levelno)])

    def _set_level(self) -> None:
        """Lets nothing be made that wouldn't pass."""
        of_level = {"log_error": logging.ERROR, "log_warning": logging.WARNING, "log_info": logging.INFO}
        levels = [level for name, level in of_level.items() if self._settings[name]]
        least = logging.DEBUG if self._settings["log_verbose_level"] else min(levels, default=logging.CRITICAL + 1)
        logging.getLogger().setLevel(least)


def passing(level: str) -> Dict[str, Any]:
    """The settings that let a level and what is graver pass."""
    number = getattr(logging, level)
    return {
        "log_info": number <= logging.INFO,
        "log_warning": number <= logging.WARNING,
        "log_error": True,
        "log_verbose_level": int(number <= logging.DEBUG),
    }


def _setting_of(level: int) -> str:
    return _LEVELS[(level < logging.ERROR) + (level < logging.WARNING)]


def _check(name: str, value: Any, known: Mapping[str, Any]) -> None:
    if name == "log_file":
        raise InvalidRequestError("log_file can't be changed over the network: the log goes to the server's stderr")
    if name not in known:
        raise InvalidRequestError(f"unknown log setting {clipped(name)}; valid: {', '.join(sorted(known))}")
    if type(value) is not type(known[name]):
        kind = {bool: "true or false", int: "a whole number"}.get(type(known[name]), "text")
        raise InvalidRequestError(f"{name}: expected {kind}, got {clipped(value)}")
    if name == "log_verbose_level" and not 0 <= value < 2**32:
        raise InvalidRequestError(f"{name}: expected a whole number from 0 to 4294967295, got {clipped(value)}")
    if name == "log_format" and value not in _TIMES:
        raise InvalidRequestError(f"{name}: expected one of {', '.join(_TIMES)}, got {clipped(value)}")


class TextLines(logging.Formatter):
    """One line a record; those of a traceback follow it, each behind a bar, so that no text of others begins a line."""

    def __init__(self, log: ServiceLog) -> None:
        super().__init__()
        self._log = log

    def format(self, record: logging.LogRecord) -> str:
        """The line, and those of the traceback."""
        when = f"{_time(record)} " if self._log.has_times else ""
        origin = "".join(f" {name}={value}" for name, value in _origin(record).items())
        lines = [f"{when}{record.levelname} {record.name}: {record.getMessage()}{origin}"]
        traceback = _traceback(record, self)
        lines += [f"| {line}" for line in traceback.split("\n")[-_MAX_TRACE_LINES:]] if traceback else []
        return "\n".join(map(one_line, lines))


class JsonLines(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, the request's id and trace, the end of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        content = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _escaped(record.getMessage()[:MAX_LINE_NBYTES]),
            **{name: _escaped(value) for name, value in _origin(record).items()},
        }
        traceback = _traceback(record, self)
        if traceback:
            content["exception"] = "\n".join(map(_escaped, traceback[-MAX_LINE_NBYTES:].split("\n")))
        return _fitting(content)


def one_line(text: str) -> str:
    """Text as one line of at most 4 KiB: what would end it, or steer a terminal, is escaped."""
    shown = _escaped(text[:MAX_LINE_NBYTES])
    data = shown.encode()
    if len(data) < MAX_LINE_NBYTES and len(text) <= MAX_LINE_NBYTES:
        return shown
    return data[: MAX_LINE_NBYTES - 1 - len(_ELLIPSIS)].decode(errors="ignore") + _ELLIPSIS


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def _origin(record: logging.LogRecord) -> Dict[str, str]:
    """What is known of the request that a record is about."""
    return {name: str(getattr(record, name)) for name in ("request_id", "traceparent") if hasattr(record, name)}


def _traceback(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    parts += [formatter.formatStack(record.stack_info)] if record.stack_info else []
    return "\n".join(parts)


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _fitting(content: Dict[str, str]) -> str:
    """The object as JSON of at most 4 KiB; one that is longer loses the begin of its traceback or its message's end."""
    keep: Dict[str, Callable[[str, int], str]] = {
        "exception": lambda text, count: _ELLIPSIS + text[-count:],
        "message": lambda text, count: text[:count] + _ELLIPSIS,
    }
    line = json.dumps(content)
    while len(line) >= MAX_LINE_NBYTES:
        longest = max(keep, key=lambda name: len(content.get(name, "")))
        content[longest] = keep[longest](content[longest], len(content[longest]) * 3 // 4 - len(_ELLIPSIS))
        line = json.dumps(content)
    return line
