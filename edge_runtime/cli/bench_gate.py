"""`edge-runtime bench --save-baseline` and `--check`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

import typer

from edge_runtime.cli.output_file import check_output_file, write_output_file
from edge_runtime.config import environment_layer, merged, validated
from edge_runtime.errors import ConfigError, RegressionError, UsageError
from edge_runtime.evaluation.session_ratio import FEWEST_REPEATS
from edge_runtime.profiler.settings import BenchSettings, RegressionSettings

if TYPE_CHECKING:
    from edge_runtime.cli.output import Output
    from edge_runtime.plan.manifest import Manifest
    from edge_runtime.profiler.baseline import Baseline
    from edge_runtime.profiler.regression import Regression
    from edge_runtime.profiler.report import BenchReport

_REPEATS = 8
_SAVE = "--save-baseline"


def save_option() -> Any:
    """`--save-baseline`."""
    text = "Where to keep this run, for later ones to be held against."
    return typer.Option(None, _SAVE, metavar="B.json", help=text)


def check_option() -> Any:
    """`--check`."""
    text = "Fail if this run is worse than that baseline by more than the limits."
    return typer.Option(None, "--check", metavar="B.json", help=text)


def allow_option() -> Any:
    """`--allow`."""
    text = "With --check: compare though this condition differs; again for others."
    return typer.Option([], "--allow", metavar="KEY", help=text)


@dataclass(frozen=True)
class Gate:
    """What the flags ask for, checked before anything is measured; `baseline` is the file's, where it is read."""

    save: Optional[Path]
    check: Optional[Path]
    allow: List[str]
    limits: RegressionSettings
    baseline: Optional[Baseline]

    @property
    def is_on(self) -> bool:
        """Whether a baseline is made or used."""
        return self.save is not None or self.check is not None

    def defaults(self) -> Dict[str, Any]:
        """Settings of the benchmark that hold where neither a flag nor a variable says otherwise."""
        if self.baseline is not None:
            return {key: value for key, value in self.baseline.settings.items() if value is not None}
        return {"repeats": _REPEATS} if self.is_on else {}

    def check_settings(self, settings: BenchSettings) -> None:
        """Raises ConfigError, before anything is measured, if a baseline can't be had of so few repeats."""
        if self.is_on and settings.repeats < FEWEST_REPEATS:
            raise ConfigError(
                f"--repeats {settings.repeats}: a baseline needs {FEWEST_REPEATS} or more to know their spread"
            )

    def finish(self, report: BenchReport, manifest: Optional[Manifest]) -> Dict[str, Any]:
        """Writes the baseline or compares with it; what the JSON document has of that.

        Raises:
            ConfigError: the baseline is of other conditions, or of something else.
        """
        from edge_runtime.profiler.baseline import baseline_bytes, baseline_of, extended
        from edge_runtime.profiler.conditions import check_conditions
        from edge_runtime.profiler.regression import compare

        now = baseline_of(report, manifest)
        if self.check is not None:
            assert self.baseline is not None
            return {"regression": compare(self.baseline, now, self.limits, self.allow, str(self.check))}
        assert self.save is not None
        if self.baseline is not None:
            check_conditions(self.baseline.conditions, now.conditions, (), str(self.save))
            now = extended(self.baseline, now, str(self.save))
        write_output_file(self.save, baseline_bytes(now), _SAVE)
        return {"baseline": {"file": str(self.save), "sessions": len(now.sessions)}}


def gate_of(
    save: Optional[Path], check: Optional[Path], modes: Mapping[str, bool], allow: List[str], limits: Mapping[str, Any]
) -> Gate:
    """The gate that the flags describe; `modes` are `replace` and `extend`, `limits` the regression settings given.

    Raises:
        UsageError: they contradict each other, or a file would be replaced unasked.
        ConfigError: the baseline can't be used.
    """
    from edge_runtime.profiler.baseline import read_baseline

    layer = merged(environment_layer(os.environ, ("regression",)).get("regression", {}), limits)
    settings = validated(RegressionSettings, layer, "[regression]")
    if save is not None and check is not None:
        raise UsageError("--save-baseline and --check are two runs; give one of them")
    if save is None and any(modes.values()):
        raise UsageError("--replace and --extend say what becomes of the file of --save-baseline; add it")
    if all(modes.values()):
        raise UsageError("--replace and --extend are two things; give one of them")
    if allow and check is None:
        raise UsageError("--allow accepts a difference from the baseline of --check; add it")
    if save is not None:
        check_output_file(save, _SAVE)
        if save.exists() and not any(modes.values()):
            raise UsageError(
                f"{_SAVE} {save}: there is one already; --extend adds a session to it, --replace begins anew"
            )
    file = check if check is not None else save if modes["extend"] else None
    return Gate(save, check, allow, settings, None if file is None else read_baseline(file))


def show(outcome: Mapping[str, Any], output: Output) -> None:
    """What became of the baseline, for a person."""
    from edge_runtime.profiler.regression import HEADER

    if "baseline" in outcome:
        saved = outcome["baseline"]
        output.say(f"baseline saved: {saved['file']}, sessions: {saved['sessions']}")
        return
    found: Regression = outcome["regression"]
    output.table(f"against the baseline: {found.verdict}", HEADER, found.rows())
    for one in found.differences:
        output.say(f"{one.kind}: {one.key} was {json.dumps(one.baseline)}, is {json.dumps(one.now)}")
    output.say(found.machine_text())


def raise_if_failed(found: Optional[Regression]) -> None:
    """Raises RegressionError, once all is printed, if the benchmark is worse than it may be."""
    if found is None or not found.is_failed:
        return
    worse = [one.text() for one in found.verdicts if one.verdict == found.verdict]
    raise RegressionError(f"{found.verdict} against the baseline: {'; '.join(worse)}")
