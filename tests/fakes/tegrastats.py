"""A fake tegrastats: a shell script that prints real lines and then does what is asked. No board measures anything."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.device.telemetry.sample import Rail, TelemetrySample

LINE = (
    "06-14-2026 13:26:28 RAM 5530/7607MB (lfb 2x4MB) CPU [0%@1510,0%@1510] GR3D_FREQ 99% cpu@66C tj@67.406C "
    "VDD_IN 13798mW/12615mW"
)
PAUSE = 'sleep "$(awk "BEGIN { print $2 / 1000 }")"'
ALWAYS = f"while :; do echo '{LINE}'; {PAUSE}; done"


def fake_tegrastats(folder: Path, *commands: str) -> Path:
    """A program that runs the commands; `$2` is the interval in ms that it was started with."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tegrastats"
    path.write_text("\n".join(["#!/bin/sh", "# a fake: prints real lines of another board", *commands, ""]))
    path.chmod(0o755)
    return path


def parsed(line: str) -> TelemetrySample | None:
    """As much of a line as these tests need: a sample with its rail, None of what isn't one."""
    word = line.rpartition("VDD_IN ")[2]
    return TelemetrySample(power_mw={"VDD_IN": Rail(int(word.partition("mW")[0]))}) if "RAM " in line else None
