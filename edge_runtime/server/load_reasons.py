"""Why a plan isn't loaded, as those are told who may not see paths; the log has the whole."""

from __future__ import annotations

from edge_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigError,
    EdgeRuntimeError,
    GoldenRunError,
    InsufficientMemoryError,
    PlanCorruptError,
    PlanError,
    PlanNotFoundError,
    PlanRollbackError,
    PlanSealedError,
    PlanTargetError,
    PlanUntrustedError,
    ServerUnavailableError,
)

_REASONS = (
    (PlanNotFoundError, "the store has no plan of it to serve"),
    (PlanRollbackError, "its plan is older than one that was found good; edge-runtime rollback goes back on purpose"),
    (PlanSealedError, "its plan is encrypted for a key that isn't here"),
    (PlanUntrustedError, "nobody who is trusted vouches for its plan; the server's log says why"),
    (PlanCorruptError, "its plan is damaged; build it again"),
    (PlanTargetError, "its plan was built for another board or library; build it for this one"),
    (PlanError, "its plan can't be used; the server's log says why"),
    (ConfigError, "its settings can't be used; the server's log says why"),
    (BackendUnavailableError, "there is no library or device for its plan here; the server's log says which"),
    (GoldenRunError, "it answers otherwise than when it was built; the server's log says how"),
    (BackendError, "the engine library can't load its plan; the server's log says why"),
)
_TRANSIENT = (InsufficientMemoryError, BackendUnavailableError, ServerUnavailableError)


def public_reason(error: EdgeRuntimeError) -> str:
    """What is wrong, in a few words without anything of our insides."""
    if isinstance(error, (InsufficientMemoryError, ServerUnavailableError)):
        return str(error)
    return next((text for kind, text in _REASONS if isinstance(error, kind)), "the server's log says why")


def is_transient(error: EdgeRuntimeError) -> bool:
    """Whether the same plan may load later: memory comes free, a device comes up."""
    return isinstance(error, _TRANSIENT)
