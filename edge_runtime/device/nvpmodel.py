"""Setting the power mode of a Jetson with nvpmodel, and knowing whether that did anything.

A mode that changes the number of cores asks for a reboot, and without a terminal to answer on does nothing and reports
no error. So the mode is read back each time, and no question is ever waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
from pathlib import Path
from typing import Iterator, Sequence, Tuple

from edge_runtime.device.files import printable
from edge_runtime.device.power_mode import PowerMode, current_power_mode
from edge_runtime.errors import ConfigError

logger = logging.getLogger(__name__)

_QUERY = re.compile(r"NV Power Mode\s*:\s*(\S{1,64})(?:\s*\n\s*([0-9]{1,9})\s*(?:\n|$))?")
_LONGEST_ANSWER = 300


def local_program() -> Tuple[str, ...]:
    """The words that call nvpmodel: by sudo, which must not ask, where this user isn't root."""
    return ("nvpmodel",) if os.geteuid() == 0 else ("sudo", "-n", "nvpmodel")


class NvpModel:
    """The program, called with standard input closed and for `timeout_s` at most; files are read below `root`."""

    def __init__(self, program: Sequence[str] | None = None, root: Path = Path("/"), timeout_s: float = 60.0) -> None:
        self._program = tuple(program or local_program())
        self._root = root
        self._timeout_s = timeout_s

    def current(self) -> str | None:
        """The name of the mode that holds, as the program says, else as its state does; None where that isn't known."""
        with contextlib.suppress(ConfigError):
            said = power_mode_from_query(self._run("-q")[1])
            if said is not None:
                return said[0]
        mode = current_power_mode(self._root)
        return None if mode is None else mode.name

    def set(self, mode: PowerMode) -> None:
        """Sets a mode and reads it back.

        Raises:
            ConfigError: it isn't the one that holds afterwards; says what the program answered.
        """
        status, answer = self._run("-m", str(mode.id))
        got = self.current()
        if got == mode.name:
            return
        said = f", nvpmodel said: {printable(answer)[:_LONGEST_ANSWER] or 'nothing'}"
        raise ConfigError(
            f"power mode: expected {mode.name!r} (id {mode.id}), got {got!r} (exit status {status}{said}); "
            f"it may need root or a reboot: run {command_text(mode)} in a terminal, reboot if it asks, and come back"
        )

    @contextlib.contextmanager
    def restored(self, mode: PowerMode) -> Iterator[None]:
        """Sets `mode` again at the end of the block, however that ends, once more if a signal comes meanwhile.

        Raises:
            ConfigError: that failed; the message says how to do it by hand.
        """
        try:
            yield
        finally:
            try:
                self._restore(mode)
            except KeyboardInterrupt:
                self._restore(mode)
                raise

    def _restore(self, mode: PowerMode) -> None:
        if self.current() != mode.name:
            self.set(mode)
            logger.info("power mode %s is set again", mode.name)

    def _run(self, *words: str) -> Tuple[int, str]:
        """Exit status and all that was printed."""
        command = (*self._program, *words)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._timeout_s,
                check=False,
                start_new_session=True,  # a Ctrl-C is ours to handle, and there is no terminal to ask on
            )
        except subprocess.TimeoutExpired:
            problem = f"no end after {self._timeout_s:g} s; run it in a terminal"
            raise ConfigError(f"{' '.join(command)}: {problem}") from None
        except OSError as error:
            raise ConfigError(f"{' '.join(command)}: can't be run ({error.strerror}); run it by hand") from None
        return done.returncode, done.stdout.decode(errors="replace")


def power_mode_from_query(text: str) -> Tuple[str, int | None] | None:
    """Name and id in what `nvpmodel -q` printed, whatever warnings stand before; the id is None if it isn't there."""
    match = _QUERY.search(text)
    return None if match is None else (match.group(1), None if match.group(2) is None else int(match.group(2)))


def command_text(mode: PowerMode) -> str:
    """The command for a person."""
    return f"sudo nvpmodel -m {mode.id}"
