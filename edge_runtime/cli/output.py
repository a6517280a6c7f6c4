"""What a verb prints: tables for people, JSON for programs, progress and logs on stderr.

Rich is imported when it is first needed: it takes 50 ms, which a server's start has better uses for.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from edge_runtime.cli.printable import finite, printable
from edge_runtime.errors import EdgeRuntimeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PIPE_WIDTH = 120
_MOST_ROWS = 2000


class Output:
    """Where a verb's results go; `is_json` sends one document to stdout and everything else to stderr."""

    def __init__(self, is_json: bool) -> None:
        self.is_json = is_json

    @cached_property
    def _out(self) -> Console:
        from rich.console import Console

        return Console(soft_wrap=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)

    @cached_property
    def _err(self) -> Console:
        from rich.console import Console

        return Console(stderr=True)

    def document(self, content: Any) -> None:
        """Prints one line of JSON, at once; a number that JSON has no word for is null."""
        with _printing():
            sys.stdout.write(json.dumps(finite(content), allow_nan=False) + "\n")
            sys.stdout.flush()

    def say(self, text: str) -> None:
        """A line for a person: stdout, or stderr when stdout is JSON."""
        with _printing():
            self._people.print(_shown(text), highlight=False, soft_wrap=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for a person; numbers are aligned by the caller's text."""
        from rich.table import Table

        table = Table(title=_shown(title, True), title_justify="left", header_style="bold", show_header=any(header))
        for column in header:
            table.add_column(_shown(column, True), overflow="fold")
        for row in rows[:_MOST_ROWS]:
            table.add_row(*("" if cell is None else _shown(str(cell), True) for cell in row))
        with _printing():
            self._people.print(table)
        if len(rows) > _MOST_ROWS:
            self.say(f"and {len(rows) - _MOST_ROWS:,} rows more; --json has all")

    @property
    def _people(self) -> Console:
        return self._err if self.is_json else self._out

    @contextlib.contextmanager
    def progress(self) -> Iterator[StageProgress]:
        """A progress display on stderr for the length of the block."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, disable=not self._err.is_terminal) as bars:
            yield StageProgress(bars, self)


class StageProgress:
    """Stages of a long job, one bar each; on a pipe, one line each."""

    def __init__(self, bars: Progress, output: Output) -> None:
        self._bars = bars
        self._output = output
        self._task: Any = None

    def stage(self, name: str, total: int | None = None) -> None:
        """Begins a stage of `total` steps (None: unknown)."""
        if self._task is not None:
            done = self._bars.tasks[-1].completed or 1
            self._bars.update(self._task, total=done, completed=done)
        if self._bars.disable:
            sys.stderr.write(f"{printable(name, is_cell=True)}\n")
            sys.stderr.flush()
        self._task = self._bars.add_task(_shown(name, True), total=total)

    def advance(self, steps: int = 1) -> None:
        """Counts steps of the stage under way."""
        if self._task is not None:
            self._bars.advance(self._task, steps)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._output.say(text)


def _shown(text: str, is_cell: bool = False) -> str:
    from rich.markup import escape

    return escape(printable(text, is_cell))


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Turns a failure to print into ours; a reader that went away ends the command in silence, as of any filter."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EdgeRuntimeError(f"the output can't be written ({error.strerror})") from error


def configure_logging(level: str = "WARNING") -> None:
    """Logs go to stderr."""
    from rich.console import Console
    from rich.logging import RichHandler

    logging.basicConfig(
        level=level,
        format="%(name)s: %(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False, markup=False)],
        force=True,
    )
