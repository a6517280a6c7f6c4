"""A server's refusals as errors of ours: typed where the server tells, and with the time after which to try again."""

from __future__ import annotations

from typing import Dict, Type

from edge_runtime.errors import (
    DeadlineExpiredError,
    DeadlineRefusedError,
    QueueFullError,
    ServerUnavailableError,
)

ERROR_KIND = "edge-runtime-error"
RETRY_AFTER_MS = "retry-after-ms"
RETRY_AFTER = "retry-after"

KINDS: Dict[str, Type[ServerUnavailableError]] = {
    kind.__name__: kind for kind in (QueueFullError, DeadlineRefusedError, DeadlineExpiredError)
}
_LONGEST_S = 3600.0


class RefusedError(Exception):
    """Carries the error of a request that its server refuses for now, and said when to send again."""

    def __init__(self, error: ServerUnavailableError) -> None:
        super().__init__(str(error))
        self.error = error


def unavailable(text: str, kind: str | None, retry_after_s: float | None) -> ServerUnavailableError | RefusedError:
    """What to raise for a refusal that passes; `kind` is what the server calls it, None if it doesn't say."""
    error_type = KINDS.get(kind or "", ServerUnavailableError)
    return error_type(text) if retry_after_s is None else RefusedError(error_type(text, retry_after_s))


def retry_after_s(milliseconds: str | None, seconds: str | None) -> float | None:
    """The wait that a server's headers or metadata ask for: the finer one that is sound, at most an hour, or None."""
    for text, unit in ((milliseconds, 1e-3), (seconds, 1.0)):
        if text is not None and text.isascii() and text.isdigit() and len(text) < 16:
            return min(int(text) * unit, _LONGEST_S)
    return None


def unwrapped(error: Exception) -> Exception:
    """The error that a user sees."""
    return error.error if isinstance(error, RefusedError) else error
