"""Every error that edge_runtime raises on purpose.

EdgeRuntimeError                 exit 1
├── UsageError                   exit 2: the command line itself is wrong
├── ConfigError                  exit 78: a recipe, a setting or the environment is wrong
│   └── LadderError              a rung of a model's ladder that can't stand in for it
├── ModelError                   an ONNX file that is broken or can't be used
│   └── UnsupportedModelError    a sound model with something that we don't handle
├── DataError                    calibration or held-out samples that don't fit the model
├── CalibrationError             activations from which no scale can be had
├── GateError                    no candidate passed: nothing was published
├── ShortageError                too little disk or memory for it: nothing was begun
├── StoreBusyError               exit 75: another process builds this store's plans
├── TelemetryError               a source of power, heat and clocks that failed or ended
├── VerdictError                 what was measured fails what was asked of it; the report is out already
│   ├── RegressionError          a benchmark that is worse than its baseline
│   └── NoChoiceError            a sweep of which no point keeps the limits
├── PlanError                    a plan on disk that can't be used
│   ├── PlanNotFoundError
│   ├── PlanCorruptError         its digest differs from its manifest's, or a pack's from its statement's
│   ├── PlanTargetError          built for another backend, board or schema
│   └── PlanUntrustedError       its signature, signer or version isn't one that may be loaded
│       ├── PlanRollbackError    older than a version that was found good
│       └── PlanSealedError      encrypted for a key that isn't here
├── BackendError                 the engine library failed
│   ├── BackendUnavailableError  it isn't installed, or there is no device for it
│   ├── GoldenRunError           an engine answers otherwise than its plan did when it was built
│   └── DeviceLostError          the GPU's context is dead: only a new process helps
├── InsufficientMemoryError      a model needs more memory than there is, or than its budget has
├── RequestError                 the client's mistake, never ours
│   ├── InvalidRequestError
│   ├── UnauthenticatedError     it has no valid token
│   ├── PermissionDeniedError    its token, or its kind of connection, has no right to that
│   ├── NotJsonError             an answer that only binary tensors can hold
│   ├── UnknownNameError         no such model, version, region or route
│   ├── NameTakenError           a name that stands for something else already
│   ├── TooManyError             the server keeps as many as it can
│   └── TooLargeError            over a limit of the server
├── UnsupportedError             a part of the protocol that isn't there, or is switched off
├── ServerUnavailableError       draining or not ready: try again later
│   ├── QueueFullError           too much waits already
│   ├── DeadlineRefusedError     the deadline can't be kept: refused before it waits
│   └── DeadlineExpiredError     the deadline passed, or can't be kept any more
└── RemoteError                  what a server answered to our client
"""

from __future__ import annotations

import difflib
from typing import Any, ClassVar, Iterable, Sequence


class EdgeRuntimeError(Exception):
    """Base of all. `exit_code` is what a command ends with when this reaches it."""

    exit_code: ClassVar[int] = 1


class UsageError(EdgeRuntimeError):
    """The command line itself is wrong."""

    exit_code = 2


class ConfigError(EdgeRuntimeError):
    """A recipe, a setting or the environment is wrong; nothing was done."""

    exit_code = 78


class LadderError(ConfigError):
    """A rung of a model's ladder that can't stand in for it; says in what they differ."""


class ModelError(EdgeRuntimeError):
    """An ONNX model that is broken or can't be used."""


class UnsupportedModelError(ModelError):
    """A sound model with something in it that isn't handled."""


class DataError(EdgeRuntimeError):
    """Calibration or held-out samples that don't fit the model."""


class CalibrationError(EdgeRuntimeError):
    """Activations from which no scale can be had (NaN, infinity, nothing seen)."""


class GateError(EdgeRuntimeError):
    """No candidate passed the gate, so nothing was published.

    `candidates` and `sensitivity` are the records that the manifest would have had.
    """

    def __init__(self, message: str, candidates: Sequence[Any] = (), sensitivity: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates
        self.sensitivity = sensitivity


class ShortageError(EdgeRuntimeError):
    """This machine has too little disk or memory left for a build or a pack; nothing was begun."""


class StoreBusyError(EdgeRuntimeError):
    """Another process builds all plans of this store, and only one may: try again when it has ended."""

    exit_code = 75


class TelemetryError(EdgeRuntimeError):
    """A source of power, heat and clocks that failed, ended or fell silent."""


class VerdictError(EdgeRuntimeError):
    """What was measured fails what was asked of it; raised once its report, which has all of it, was printed."""


class RegressionError(VerdictError):
    """A benchmark that is worse than its baseline by more than its limits allow."""


class NoChoiceError(VerdictError):
    """A sweep of which no point keeps the limits."""


class PlanError(EdgeRuntimeError):
    """A plan on disk that can't be used."""


class PlanNotFoundError(PlanError):
    """No plan of that name or version in the store."""


class PlanCorruptError(PlanError):
    """The bytes of a plan or pack are not those that its manifest or statement names."""


class PlanTargetError(PlanError):
    """A plan for another backend, board or manifest schema."""

    exit_code = 78


class PlanUntrustedError(PlanError):
    """A plan that isn't signed, or not by whom it should be: it takes a person to mend, so nothing restarts for it."""

    exit_code = 78


class PlanRollbackError(PlanUntrustedError):
    """A version below one that was found good, which nobody allowed."""


class PlanSealedError(PlanUntrustedError):
    """A plan that is encrypted, and not for a key that is here."""


class BackendError(EdgeRuntimeError):
    """The engine library failed; its own text is in the message."""


class BackendUnavailableError(BackendError):
    """The engine library isn't installed, or there is no device for it."""

    exit_code = 78


class GoldenRunError(BackendError):
    """An engine answers otherwise than its plan did when it was built."""


class DeviceLostError(BackendError):
    """The GPU's context is dead: every further call fails, and only a new process helps."""


class InsufficientMemoryError(EdgeRuntimeError):
    """A model that needs more memory than there is, or than the budget has; `short_nbytes` is how much is missing."""

    def __init__(self, message: str, short_nbytes: int = 0) -> None:
        super().__init__(message)
        self.short_nbytes = short_nbytes


class RequestError(EdgeRuntimeError):
    """A request that can't be served because of what is in it."""


class InvalidRequestError(RequestError):
    """Wrong name, data type, shape, byte count or syntax."""


class UnauthenticatedError(RequestError):
    """No token, or none that the server knows."""


class PermissionDeniedError(RequestError):
    """Who asks may use the server, but not for this."""


class NotJsonError(RequestError):
    """An answer that JSON can't hold; binary tensors can."""


class UnknownNameError(RequestError):
    """No model, version, region or route of that name."""


class NameTakenError(RequestError):
    """What was to be made has the name of something that is there."""


class TooManyError(RequestError):
    """As many of what was to be made are there as the server keeps."""


class TooLargeError(RequestError):
    """The request is over a limit of the server."""


class UnsupportedError(EdgeRuntimeError):
    """A part of the protocol that isn't there, or is switched off."""


class ServerUnavailableError(EdgeRuntimeError):
    """The queue is full, or the server drains or isn't ready: try again, `retry_after_s` seconds later at best."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFullError(ServerUnavailableError):
    """As many requests wait as the server lets wait."""


class DeadlineRefusedError(ServerUnavailableError):
    """A deadline that can't be promised, when the request comes or within some milliseconds of that; it wasn't run.

    `late_ns` is how late the answer would be at worst; 0 where that isn't known.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0, late_ns: int = 0) -> None:
        super().__init__(message, retry_after_s)
        self.late_ns = late_ns


class DeadlineExpiredError(ServerUnavailableError):
    """A request that was taken in, and whose deadline passed, or can't be kept any more; it wasn't run."""


class RemoteError(EdgeRuntimeError):
    """A server's refusal, as our client received it.

    `status` is the HTTP status, or the name of the gRPC status code.
    """

    def __init__(self, message: str, status: int | str) -> None:
        super().__init__(message)
        self.status = status


def nearest(name: str, valid: Iterable[str]) -> str:
    """The tail of a message about an unknown name: the closest valid one, or all of them."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "valid: " + (", ".join(names) if names else "none")
