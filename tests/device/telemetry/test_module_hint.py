from __future__ import annotations

import pytest
from fakes.tegrastats_data import own_lines

from edge_runtime.device.telemetry.module_hint import module_hint
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line

MODULES = (
    "AGX Orin 64GB",
    "AGX Xavier 32GB",
    "AGX Xavier 16GB",
    "Nano 4GB",
    "Nano 4GB",
    "Orin Nano 8GB",
    "Orin NX 16GB",
    "AGX Thor",
    "TX1",
    "TX2 NX or TX2 4GB",
    "TX2 8GB",
    "TX2 8GB",
    "Xavier NX 8GB",
)


@pytest.mark.parametrize(("line", "module"), list(zip(own_lines(), MODULES)))
def test_a_module_is_guessed(line, module):
    assert module_hint(sample_from_line(line)) == module


@pytest.mark.parametrize(("tail", "module"), [("EDP limit 0", "TK1"), ("GPU@23C", "Nano 2GB")])
def test_a_tk1_has_a_limit_that_a_nano_of_its_memory_never_had(tail, module):
    assert module_hint(sample_from_line(f"RAM 598/1892MB (lfb 2x4MB) cpu [0%,off,off,off]@696 {tail}")) == module


def test_no_guess_without_a_fit():
    assert module_hint(TelemetrySample()) is None
    assert module_hint(sample_from_line("RAM 5/9MB (lfb 1x4MB) tj@5C")) is None
