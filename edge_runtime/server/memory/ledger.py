"""Which models may be loaded: what is held, what loads under way will take, and what must stay free."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Callable, Dict, Iterator

from edge_runtime.device.memory import available_nbytes
from edge_runtime.errors import InsufficientMemoryError

_MIB = 1 << 20


@dataclass(frozen=True)
class Need:
    """The memory that a model takes at most while it is loaded and served."""

    nbytes: int
    is_measured: bool = False

    def __str__(self) -> str:
        return f"{mib(self.nbytes)} ({'measured' if self.is_measured else 'estimated'})"


@dataclass(frozen=True)
class MemoryLimits:
    """What must stay free of the machine's memory, and what all models together may take (None: what there is)."""

    reserve_nbytes: int = 0
    budget_nbytes: int | None = None


@dataclass
class Stay:
    """A load that was admitted; `is_alone` is False once another one was under way beside it."""

    need: Need
    is_alone: bool


class MemoryLedger:
    """Admits loads one after another, so that no two count on the same memory; any thread may use it.

    A model that is loaded anew is there twice for a while: that is held against what is available. The budget is for
    what stays: there the new one takes the old one's place.

    Args:
        limits: what it keeps to.
        available: what this process may still take, MemAvailable and its control group's limit; None is unknown, and
            stops nothing.
    """

    def __init__(self, limits: MemoryLimits, available: Callable[[], int | None] = available_nbytes) -> None:
        self.limits = limits
        self.available = available
        self._lock = threading.Lock()
        self._held: Dict[str, Need] = {}
        self._coming: Dict[str, Stay] = {}

    @property
    def held(self) -> Dict[str, Need]:
        """The models that are loaded, with what they need."""
        with self._lock:
            return dict(self._held)

    @contextlib.contextmanager
    def admitted(self, name: str, need: Need) -> Iterator[Stay]:
        """A block in which a model is loaded; behind it the model is held, if the block didn't fail.

        Raises:
            InsufficientMemoryError: it doesn't fit.
        """
        with self._lock:
            self._check_budget(name, need)
            self._check_available(name, need)
            stay = Stay(need, not self._coming)
            for other in self._coming.values():
                other.is_alone = False
            self._coming[name] = stay
        try:
            yield stay
            with self._lock:
                self._held[name] = stay.need
        finally:
            with self._lock:
                del self._coming[name]

    def forget(self, name: str) -> None:
        """Says that a model isn't loaded any more."""
        with self._lock:
            self._held.pop(name, None)

    def _check_budget(self, name: str, need: Need) -> None:
        budget_nbytes = self.limits.budget_nbytes
        if budget_nbytes is None:
            return
        taken = {**self._held, **{other: stay.need for other, stay in self._coming.items()}}
        taken.pop(name, None)
        left_nbytes = budget_nbytes - sum(each.nbytes for each in taken.values())
        if need.nbytes > left_nbytes:
            raise InsufficientMemoryError(
                f"model {name!r} needs {need}, and of the budget of {mib(budget_nbytes)} {mib(max(0, left_nbytes))} "
                "are left: unload a model, raise memory_budget_mib, or let idle models give way (evict)",
                need.nbytes - left_nbytes,
            )

    def _check_available(self, name: str, need: Need) -> None:
        available_nbytes = self.available()
        if available_nbytes is None:
            return
        coming_nbytes = sum(stay.need.nbytes for stay in self._coming.values())
        short_nbytes = need.nbytes + self.limits.reserve_nbytes + coming_nbytes - available_nbytes
        if short_nbytes > 0:
            coming = f", {mib(coming_nbytes)} of which loads under way take" if coming_nbytes else ""
            raise InsufficientMemoryError(
                f"model {name!r} needs {need} and {mib(self.limits.reserve_nbytes)} must stay free, but "
                f"{mib(available_nbytes)} are available{coming}: unload a model, end another process, build a narrower "
                "precision, or lower memory_reserve_mib",
                short_nbytes,
            )


def mib(nbytes: int) -> str:
    """Bytes for a person."""
    return f"{nbytes / _MIB:,.0f} MiB"
