"""A baseline: the file that a later benchmark is held against.

It holds sessions of measuring, each of several repeats with their calls, so that both the spread within a session and
that between sessions is known; under what conditions they were measured; and of what.
"""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edge_runtime.config import Settings, validated
from edge_runtime.errors import ConfigError, InvalidRequestError
from edge_runtime.evaluation.session_ratio import FEWEST_REPEATS
from edge_runtime.plan.manifest import Manifest
from edge_runtime.profiler.conditions import Value, conditions, noted, under_test
from edge_runtime.profiler.quality import Quality, quality_of
from edge_runtime.profiler.repeats import Repeat
from edge_runtime.profiler.report import BenchReport
from edge_runtime.wire.json_text import parsed_object

SCHEMA = "edge_runtime.baseline/1"
MOST_CALLS = 2_000
_MOST_NBYTES = 32 << 20
_LONGEST_PROBLEM = 400
_LONGEST_NS = 10**15
_ADOPTED = (
    "n",
    "warm_up",
    "concurrency",
    "duration_s",
    "batch",
    "seed",
    "threads",
    "repeats",
    "memory",
    "graphs",
    "protocol",
)

Scalar = Union[StrictBool, StrictInt, StrictFloat, StrictStr, None]


class RepeatRecord(Settings):
    """A repeat as files hold it: of more than 2,000 calls every k-th; `n` counts all of them."""

    n: StrictInt = Field(ge=1, le=10**9)
    elapsed_ns: StrictInt = Field(ge=1, le=_LONGEST_NS)
    durations_ns: Tuple[StrictInt, ...] = Field(min_length=1, max_length=MOST_CALLS)
    yardstick_ns: Tuple[StrictInt, ...] = Field(min_length=1, max_length=MOST_CALLS)

    @field_validator("durations_ns", "yardstick_ns")
    @classmethod
    def _times(cls, values: Tuple[int, ...], info: ValidationInfo) -> Tuple[int, ...]:
        least = 1 if info.field_name == "durations_ns" else 0
        if not least <= min(values) <= max(values) <= _LONGEST_NS:
            raise ValueError(f"expected times of {least} to {_LONGEST_NS} ns")
        return values


class SessionRecord(Settings):
    """One run of `bench --save-baseline`."""

    created: StrictStr = Field(max_length=64)
    repeats: Tuple[RepeatRecord, ...] = Field(min_length=FEWEST_REPEATS, max_length=100)


class Baseline(Settings):
    """All of a baseline file; `settings` are those that a check takes over."""

    schema_name: str = Field(SCHEMA, alias="schema", pattern=f"^{SCHEMA}$")
    conditions: Dict[str, Scalar]
    under_test: Dict[str, Scalar]
    noted: Dict[str, Scalar]
    settings: Dict[str, Scalar]
    plan_sha256: Tuple[StrictStr, ...] = ()
    quality: Optional[Quality] = None
    quality_unknown: str = ""
    sessions: Tuple[SessionRecord, ...] = Field(min_length=1, max_length=100)

    @property
    def is_paired(self) -> bool:
        """Whether each call of one caller has its own reading of the yardstick."""
        return self.conditions.get("concurrency") == 1

    @model_validator(mode="after")
    def _check_pairs(self) -> Baseline:
        repeats = [repeat for session in self.sessions for repeat in session.repeats]
        if self.is_paired and any(len(one.durations_ns) != len(one.yardstick_ns) for one in repeats):
            raise ValueError("expected as many yardstick_ns as durations_ns in each repeat of one caller")
        return self


def session_of(repeats: Sequence[Repeat], created: datetime | None = None) -> SessionRecord:
    """The repeats of a benchmark as a baseline holds them.

    Raises:
        ConfigError: they are too few, or the yardstick wasn't read.
    """
    if len(repeats) < FEWEST_REPEATS:
        raise ConfigError(f"repeats {len(repeats)}: a baseline needs {FEWEST_REPEATS} or more; give --repeats")
    when = created or datetime.now(timezone.utc)
    return SessionRecord(
        created=when.isoformat(timespec="seconds"), repeats=tuple(_repeat_record(repeat) for repeat in repeats)
    )


def _repeat_record(repeat: Repeat) -> RepeatRecord:
    step = -(-len(repeat.durations_ns) // MOST_CALLS)
    is_paired = len(repeat.yardstick_ns) == len(repeat.durations_ns)
    return RepeatRecord(
        n=len(repeat.durations_ns),
        elapsed_ns=max(1, repeat.elapsed_ns),
        durations_ns=tuple(max(1, value) for value in repeat.durations_ns[::step]),
        yardstick_ns=repeat.yardstick_ns[::step] if is_paired else repeat.yardstick_ns,
    )


def baseline_of(report: BenchReport, manifest: Manifest | None) -> Baseline:
    """A baseline of one session; `manifest` is that of the plan, None for a server's.

    Raises:
        ConfigError: the repeats are too few.
    """
    quality, why = (None, "a client can't see a server's plan") if manifest is None else quality_of(manifest)
    settings = report.settings.model_dump(mode="json")
    return Baseline(
        conditions=conditions(report),
        under_test=under_test(report),
        noted=noted(report),
        settings={key: settings[key] for key in _ADOPTED},
        plan_sha256=() if manifest is None else tuple(plan.sha256 for plan in manifest.plans),
        quality=quality,
        quality_unknown=why,
        sessions=(session_of(report.repeats),),
    )


def extended(baseline: Baseline, other: Baseline, file: str) -> Baseline:
    """The baseline with the sessions of another one too, which must be of the same thing.

    Raises:
        ConfigError: it is of another plan or program.
    """
    pairs: List[Tuple[str, Value, Value]] = [
        (key, baseline.under_test.get(key), value) for key, value in other.under_test.items()
    ]
    pairs.append(("plan", ", ".join(baseline.plan_sha256), ", ".join(other.plan_sha256)))
    for key, expected, got in pairs:
        if expected != got:
            raise ConfigError(
                f"{file}: {key}: expected {expected!r}, as in its sessions so far, got {got!r}; "
                "save a baseline of its own, or --replace this one"
            )
    sessions = (*baseline.sessions, *other.sessions)[-100:]
    return baseline.model_copy(update={"sessions": sessions})


def baseline_bytes(baseline: Baseline) -> bytes:
    """The file's content."""
    return (json.dumps(baseline.model_dump(mode="json", by_alias=True), separators=(",", ":")) + "\n").encode()


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file.

    Raises:
        ConfigError: there is none, or it isn't one that can be used; says what to do.
    """
    try:
        content = parsed_object(_bytes(path))
        if content.get("schema") != SCHEMA:
            raise ValueError(f"schema: expected {SCHEMA!r}, got {str(content.get('schema'))[:64]!r}")
        return validated(Baseline, content, "wrong content")
    except FileNotFoundError:
        remedy = f"make one: edge-runtime bench MODEL --save-baseline {path}"
        raise ConfigError(f"baseline {str(path)[:128]}: no such file; {remedy}") from None
    except (OSError, ValueError, InvalidRequestError, ConfigError) as error:
        problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        remedy = "save it anew (--save-baseline FILE --replace)"
        raise ConfigError(f"baseline {str(path)[:128]}: {problem[:_LONGEST_PROBLEM]}; {remedy}") from None


def _bytes(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor, so that no FIFO holds it up)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("isn't a regular file")
        if status.st_size > _MOST_NBYTES:
            raise ValueError(f"{status.st_size:,} bytes, expected at most {_MOST_NBYTES:,}")
        return file.read(_MOST_NBYTES)
