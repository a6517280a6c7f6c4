"""Our server as a process of its own, and what it holds, read from /proc."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence

from serving.places import LOGS
from serving.processes import Tree, started
from serving.servers import own_program, ready_line

from robustness.nets import CHAIN, DOUBLE
from robustness.places import ENGINES, environment

LOG = "ours"


@dataclass(frozen=True)
class Ours:
    """A running server; addresses are HOST:PORT, and the path of its Unix socket."""

    tree: Tree
    http: str
    grpc: str
    unix: str

    @property
    def pid(self) -> int:
        """Its process."""
        return self.tree.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.tree.process.poll() is None

    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        """How many it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def rss(self) -> int:
        """Resident anonymous memory, in bytes."""
        return status_nbytes(Path(f"/proc/{self.pid}/status").read_text(), "RssAnon")

    def forget_peak(self) -> None:
        """Lets `peak` begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most memory that was resident, in bytes."""
        return status_nbytes(Path(f"/proc/{self.pid}/status").read_text(), "VmHWM")


def status_nbytes(text: str, field: str) -> int:
    """A field of /proc/PID/status that is given in kB."""
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{field}:"))


def command(unix: str, arguments: Sequence[str] = ()) -> List[str]:
    """The command line; `arguments` come last, so that they win."""
    words = [own_program(), "serve", DOUBLE, CHAIN, "--engines", str(ENGINES), "--json", "--unix", unix]
    return [*words, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *arguments]


@contextlib.contextmanager
def serving(
    arguments: Sequence[str] = (), settings: Mapping[str, str] | None = None, most_descriptors: int | None = None
) -> Iterator[Ours]:
    """A server that is ready; it is ended at the end. Settings are those of `[server]`; its log is `ours.log`.

    Raises:
        RuntimeError: it isn't ready in time.
    """
    variables: Dict[str, str] = {f"EDGE_RUNTIME_SERVER__{key.upper()}": text for key, text in (settings or {}).items()}
    with tempfile.TemporaryDirectory(prefix="robustness-") as folder:
        unix = f"{folder}/edge.sock"
        words = command(unix, arguments)
        if most_descriptors is not None:
            words = ["sh", "-c", f'ulimit -n {most_descriptors}; exec "$@"', "sh", *words]
        with started(words, LOG, environment(**variables), stdout=subprocess.PIPE) as tree:
            ready = ready_line(tree)
            yield Ours(tree, ready["http"], ready["grpc"], ready["unix"] or unix)


def log_text() -> str:
    """What the last server wrote to stderr."""
    return (LOGS / f"{LOG}.log").read_text(errors="backslashreplace")
