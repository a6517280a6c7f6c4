"""What a look at a machine finds, and the machine that is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.provisioning.software import Software

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `state` is `ok`, `warning` or `failed`; `remedy` is what mends it, "" if nothing.

    A remedy is a command wherever one does it.
    """

    subject: str
    state: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Situation:
    """The machine below `root`, what is installed on it, and whether plans are built for its GPU."""

    root: Path
    device: DeviceInfo
    software: Software
    is_container: bool
    needs_gpu: bool

    @property
    def gpu_fault(self) -> str:
        """The state of a finding that keeps the GPU from being used."""
        return FAILED if self.needs_gpu else WARNING

    @property
    def is_jetson(self) -> bool:
        """Whether this is a Jetson."""
        return self.device.kind == "jetson"

    @property
    def install_line(self) -> str:
        """The command that installs what the GPU of this machine needs from Python."""
        jetpack = self.device.jetpack
        if not self.is_jetson:
            return "pip install 'edge-runtime[tensorrt,cuda]'"
        return f"pip install 'edge-runtime[{'cuda' if jetpack is None else f'jp{jetpack.major}'}]'"


def gibibytes(nbytes: int) -> str:
    """A byte count for people."""
    return f"{nbytes / 2**30:.1f} GiB"
