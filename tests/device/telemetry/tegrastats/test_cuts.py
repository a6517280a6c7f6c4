"""A line that was cut: what it still reports is what the whole line says."""

from __future__ import annotations

import pytest
from fakes.tegrastats_data import SHARED, items_of, line_of, needs_shared, own_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.device.telemetry.sample_json import record_from_sample
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line

RAM = "RAM 1685/7854MB (lfb 1044x4MB)"
TX2 = "CPU [5%@345,0%@345,0%@345,7%@345,3%@347,0%@345]"
# The last number of these boards' last words can't be told from a cut one.
UNDECIDABLE = {"POM_5V_CPU", "VDD_SYS_DDR", "VDD_GPU"}


def record(line):
    sample = sample_from_line(line)
    return {} if sample is None else record_from_sample(sample)


def misread(part, whole):
    """Every field of the part that the whole doesn't have: by zone, rail and engine, else by the field."""
    wrong = []
    for key, value in part.items():
        if key in ("temps_c", "temps_peak_c", "power_mw", "engines"):
            wrong += [name for name in value if name not in whole[key] or whole[key][name] != value[name]]
        elif key != "unknown" and value is not None and whole.get(key) != value:
            wrong.append(key)
    return wrong


@pytest.mark.parametrize("line", own_lines())
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_line_cut_at_both_ends_reports_nothing_that_the_whole_does_not(line, data):
    start = data.draw(st.one_of(st.just(0), st.integers(0, len(line))))
    end = data.draw(st.one_of(st.just(len(line)), st.integers(len(line) * 3 // 4, len(line))))
    last = list(record(line)["power_mw"])[-1]
    allowed = {last} & UNDECIDABLE if len(line) - 5 < end < len(line) else set()
    assert set(misread(record(line[start:end]), record(line))) <= allowed


@needs_shared
@pytest.mark.parametrize("item", [item for item in items_of(SHARED) if item["kind"] in ("truncated", "abridged")])
def test_a_line_cut_or_shortened_by_its_source_gives_its_whole_fields(item):
    read = record(line_of(SHARED, item))
    assert {key: read.get(key) for key in item["expect"]} == item["expect"]


@pytest.mark.parametrize(
    "tail",
    [
        "VDD_IN 1776/18",
        "VDD_IN 1776/1805 VDD_CPU 23",
        "VDD_IN 1776/1805 VDD_CPU 231/2",
        "VDD_IN 1776/1805 VDD_CPU 231/231 VDD_GPU 154/1",
        "CPU@41C VDD_IN 1/1 VDD_CPU_GPU_CV 3/3",
        "CPU@41C VDD_IN 1/1 VDD_CPU_GPU 3/3",
        "GR3D_FREQ 2%@[76] PVA0_FREQ [0%,0%]",
        "EMC_FREQ 16%",
        "EMC_FREQ 16%@10",
        "GR3D_FREQ 36%",
        "GR3D_FREQ 36%@14",
        "GR3D_FREQ 0%@1 APE 15",
        "NVENC 71",
        "VIC 36%",
        "MTS fg 0%",
        "SWAP 278/8192MB",
        "SWAP 278/8192MB (cached 23MB",
        "IRAM 0/252kB",
        "thermal@39.9",
        "cpu@43.8C/44.1",
        "VDD_IN 13711mW/120",
        "VDD_IN 13711mW",
        "tj@4C/5C VDD_IN 13711mW/120mW",
        "GR3D 3%@15",
        "AVP 1%@115 GR3D 3%@998",
    ],
)
def test_a_last_word_that_may_be_cut_is_kept_as_not_understood(tail):
    assert tail.endswith(record(f"{RAM} {TX2} {tail}")["unknown"][-1])


@pytest.mark.parametrize(
    "tail",
    [
        "GR3D 3%@998",
        "GR3D 0%@998 EDP limit 1734",
        "POM_5V_IN 900/943 POM_5V_GPU 0/0 POM_5V_CPU 123/123",
        "VDD_OWN 5/6",
        "thermal@39.9C",
        "thermal@39.9C APE 150",
        "MTS fg 0% bg 1%",
        "VIC off",
        "GR3D_FREQ 0%@[510]",
    ],
)
def test_a_last_word_as_tegrastats_ends_a_line_is_believed(tail):
    assert "unknown" not in record(f"{RAM} CPU [5%@345] {tail}")


def test_three_rails_are_all_of_a_tx1_but_not_of_a_tx2():
    rails = "VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19"
    assert "VDD_GPU" in record(f"{RAM} CPU [1%@102,4%@102,0%@102,0%@102] {rails}")["power_mw"]
    assert "VDD_GPU" not in record(f"{RAM} {TX2} {rails}")["power_mw"]


def test_an_average_far_below_a_steady_rail_is_a_cut_one():
    rails = "GPU 0/0 CPU 1/1 SOC 1/1 CV 0/0 VDDRQ 1/1 SYS5V"
    assert record(f"{RAM} {rails} 1522/155")["total_power"] is None
    assert record(f"{RAM} {rails} 1522/1559")["total_power"]["cur_mw"] == 1525
