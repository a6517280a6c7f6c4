"""What a server is to do about its models by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Tuple

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.server.rebuild import Rebuilds


class Refusal(NamedTuple):
    """A version ("": unknown) that the store serves and that couldn't be loaded at the start, and why."""

    version: str
    error: EdgeRuntimeError


@dataclass(frozen=True)
class Keeping:
    """Which models are kept as the store has them, and how.

    Attributes:
        names: the models; None: all that the store has.
        is_following: whether a version that the store serves anew is loaded by itself.
        is_staying_up: whether a model that can't be loaded is stood in for, and tried again.
        is_open: whether administrators may load and unload models too.
        refused: what couldn't be loaded at the start; the server has a stand-in for it, or nothing.
        rebuilds: where plans for another board are asked for anew.
        interval_s: time between two looks at the store.
        evict_idle_s: how long a model must have been idle to give way to another; None: none does.
    """

    names: Tuple[str, ...] | None = ()
    is_following: bool = False
    is_staying_up: bool = False
    is_open: bool = True
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    rebuilds: Rebuilds | None = None
    interval_s: float = 1.0
    evict_idle_s: float | None = None

    def keeps(self, name: str) -> bool:
        """Whether a model ought to be served."""
        is_any_kept = self.is_following or self.is_staying_up or self.evict_idle_s is not None
        return is_any_kept and (self.names is None or name in self.names)


NOTHING_KEPT = Keeping()
