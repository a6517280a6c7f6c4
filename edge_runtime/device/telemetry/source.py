"""What a source of telemetry is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_runtime.device.telemetry.sample import TelemetrySample


@dataclass(frozen=True)
class Origin:
    """Where numbers come from: a source of this machine, or a recording that is replayed.

    `replay_of` is the recording's name, `made_up` says what in it no board ever measured; both None for what is
    measured here and now. `module` is the board that the source speaks of, "" where that isn't known.
    """

    source: str
    replay_of: str | None = None
    made_up: str | None = None
    module: str = ""

    @property
    def label(self) -> str:
        """In words, for everything that shows numbers of this origin."""
        if self.replay_of is None:
            return self.source
        made_up = "" if self.made_up is None else f", made up: {self.made_up}"
        return f"replay of {self.replay_of}{made_up}: not measured on this machine"


class Source(Protocol):
    """Gives samples, to one thread. `is_paced` tells that `read` waits for the source's own next sample."""

    origin: Origin
    is_paced: bool

    def read(self, timeout_s: float) -> TelemetrySample | None:
        """The next sample; None if a paced source had none in `timeout_s`.

        Raises:
            TelemetryError: the source failed or ended; it says why, and may be asked again where it restarts itself.
        """

    def close(self) -> None:
        """Ends what the source holds; idempotent."""
