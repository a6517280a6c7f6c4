"""Lines of real boards, and lines that are made up to be hard; the made-up ones stand in this file."""

from __future__ import annotations

import random
import re

import pytest
from fakes.tegrastats_data import OWN, SHARED, items_of, line_of, own_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.device.telemetry.sample import Bus, Cpu, Gpu, HardwareEngine, Rail
from edge_runtime.device.telemetry.sample_json import record_from_sample
from edge_runtime.device.telemetry.tegrastats.line import LONGEST_LINE, sample_from_line

RAM = "RAM 613/3964MB (lfb 634x4MB)"
STAMP = "05-09-2026 18:42:06"
# Every form of JetPack 7.2 on an AGX Orin, its numbers made up.
R39 = (
    f"{STAMP} {RAM} SWAP 1/2MB (cached 0MB) CPU [9%@729,off] EMC_FREQ 2%@2133 GR3D_FREQ 12%@[1300,1300] NVENC0 off "
    "VIC 59%@423 OFA_FREQ @1556 APE 174 cpu@47.906C/48.343C tj@-256C/50C VDD_GPU_SOC 3034mW/3049mW/3412mW "
    "VDD_CPU_CV 10mW/20mW/30mW VIN_SYS_5V0 -4mW/5mW/6mW"
)


def record(line):
    sample = sample_from_line(line)
    return None if sample is None else record_from_sample(sample)


def cases():
    for folder in dict.fromkeys((OWN, SHARED)):
        for item in items_of(folder):
            if item["kind"] in ("sample", "noise"):
                yield pytest.param(folder, item, id=f"{item['file']}-{item['line']}")


@pytest.mark.parametrize(("folder", "item"), list(cases()))
def test_a_line_of_a_board_gives_what_stands_in_it(folder, item):
    assert record(line_of(folder, item)) == item["expect"]


def test_every_form_of_jetpack_7():
    sample = sample_from_line(R39)
    assert sample.timestamp == "2026-05-09T18:42:06"
    assert sample.cpus == (Cpu(9, 729), None)
    assert (sample.emc, sample.gr3d) == (Bus(2, 2133), Gpu(12, (1300, 1300)))
    assert sample.engines == {
        "NVENC0": HardwareEngine(False),
        "VIC": HardwareEngine(True, 59, 423),
        "OFA": HardwareEngine(True, None, 1556),
    }
    assert (sample.temps_c, sample.temps_peak_c) == ({"cpu": 47.906, "tj": None}, {"cpu": 48.343, "tj": 50})
    assert sample.power_mw["VIN_SYS_5V0"] == Rail(-4, 5, 6)
    assert (sample.total_power.cur_mw, sample.total_power.how) == (3040, "sum-of-rails")
    assert sample.unknown == ()


def test_every_form_of_a_tx1_before_l4t_28():
    sample = sample_from_line(f"{RAM} cpu [2%,off]@1734 EMC 1%@1600 AVP 1%@115 NVDEC 192 GR3D 3%@998 EDP limit 1734")
    assert sample.cpus == (Cpu(2, 1734), None)
    assert (sample.emc, sample.avp, sample.gr3d) == (Bus(1, 1600), Bus(1, 115), Gpu(3, (998,)))
    assert (sample.engines, sample.edp_limit_mhz) == ({"NVDEC": HardwareEngine(True, None, 192)}, 1734)


def test_zones_rails_and_processors_of_one_name_are_told_apart():
    sample = sample_from_line(
        f"{RAM} CPU [1%@2] CPU@42C GPU@43C GPU 0/16 CPU 310/432 SOC 1/1 CV 0/0 VDDRQ 5/5 SYS5V 6/6"
    )
    assert sample.cpus == (Cpu(1, 2),)
    assert sample.temps_c == {"CPU": 42, "GPU": 43}
    assert sample.power_mw["CPU"] == Rail(310, 432)


@pytest.mark.parametrize("value", [50, 100])
def test_a_pmic_is_a_constant(value):
    sample = sample_from_line(f"{RAM} PMIC@{value}C CPU@40.5C")
    assert (sample.constants, sample.hottest_c) == (("PMIC",), 40.5)


@pytest.mark.parametrize(
    "front",
    [
        "Jul 28 09:27:34 xavier tegrastats[812]: ",
        "[1611685351.123] ",
        "2021-01-26 18:22:31,123 INFO ",
        "INFO:root:",
        "epoch 3/10 step 5@7C ",
        "gpu0 12mW/13mW ",
    ],
)
def test_what_a_logger_wrote_in_front_is_left_out(front):
    line = own_lines()[7]
    assert record(front + line) == record(line)


def test_a_line_in_the_quotes_of_a_json_log_is_read():
    line = own_lines()[7]
    assert record(f'{{"log":"{line}\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}}') == record(line)


def test_a_line_that_python_printed_as_bytes_is_read():
    line = own_lines()[7]
    assert record(f"got b'{line}\\n'") == record(line)


@pytest.mark.parametrize(
    "coloured", ["\x1b[32m{}\x1b[0m", "\x1b[2K\x1b[1G{}", "\x1b[01;31m\x1b[K{}\x1b[m\x1b[K", "\x1b[38;5;196m{}\x1b[m\r"]
)
def test_colours_are_left_out(coloured):
    line = own_lines()[7]
    assert record(coloured.format(line)) == record(line)
    assert record(line.replace("GR3D_FREQ", coloured.format("GR3D_FREQ"))) == record(line)


def test_a_tk1_that_cant_read_its_clock_says_so():
    sample = sample_from_line(f"{RAM} cpu [7%,off]@-1 VDE 0 EDP limit 0")
    assert (sample.cpus, sample.edp_limit_mhz, sample.unknown) == ((Cpu(7, None), None), 0, ())


@pytest.mark.parametrize(
    ("word", "load_pct", "freq_mhz"),
    [("[2%,30%]@1215", 30, 1215), ("[2%,30%@1215]", 30, 1215), ("[0%,0%]", 0, None), ("@1215", None, 1215)],
)
def test_a_pva_has_the_load_of_its_busiest_unit(word, load_pct, freq_mhz):
    sample = sample_from_line(f"{RAM} PVA0_FREQ {word} tj@5C")
    assert (sample.engines, sample.unknown) == ({"PVA0": HardwareEngine(True, load_pct, freq_mhz)}, ())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sudo: tegrastats: command not found",
        "NV Power Mode: 15W",
        "Tue Jan 26 18:22:31 UTC 2021",
        STAMP,
        "[  12.3] soctherm: OC ALARM 0x00000001",
        "CPU@43C GPU@44C VDD_IN 1mW/2mW VDD_SOC 1mW/2mW",
        "RAM 1/2MB",
        "free RAM 613/3964MB, GPU at 43C",
        "IRAM 0/252kB(lfb 252kB) CPU [5%@345]",
        "RAM \u0661/\u0662MB (lfb 1x4MB)",
        "RAM 9999999999/9999999999MB (lfb 1x4MB)",
        "AM 613/3964MB (lfb 634x4MB) CPU [5%@345]",
    ],
)
def test_what_is_no_sample_is_none(line):
    assert sample_from_line(line) is None


@pytest.mark.parametrize(
    ("word", "unknown"),
    [
        ("FOO_FREQ 12%@34", "FOO_FREQ 12%@34"),
        ("EMC_FREQ 5%@[1,2]", "EMC_FREQ 5%@[1,2]"),
        ("gpu@9999C", "gpu@9999C"),
        ("CPU [5%@345,x]", "CPU [5%@345,x]"),
        ("CPU [5%@345", "CPU [5%@345"),
        ("VDD_X 5517mW", "VDD_X 5517mW"),
        ("NVENC 12345678901", "NVENC 12345678901"),
        ("\u0661@\u0662C", "\u0661@\u0662C"),
        ("SWAP 0/7828MB (cac", "SWAP 0/7828MB|(cac"),
        ("99-99-2026 18:42:06", "99-99-2026 18:42:06"),
    ],
)
def test_what_is_not_understood_is_kept_as_it_stands(word, unknown):
    assert record(f"{RAM} {word} tj@5C") == {**record(f"{RAM} tj@5C"), "unknown": unknown.split("|")}


def test_a_stamp_that_is_no_time_is_kept():
    assert record(f"13-40-2026 25:00:00 {RAM}")["unknown"] == ["13-40-2026 25:00:00"]


def test_new_words_in_the_brackets_of_the_memory_hide_nothing():
    line = "RAM 613/3964MB (lfb 634x4MB, cma 5MB) SWAP 1/2MB (new) CPU [1%@2] tj@5C"
    read = record(line)
    assert (read["ram"], read["temps_c"]) == ({"used_mb": 613, "total_mb": 3964}, {"tj": 5})
    assert read["unknown"] == ["(lfb 634x4MB,", "cma 5MB)", "(new)"]


def test_of_two_samples_on_one_line_the_first_is_read():
    first, second = own_lines()[6:8]
    both = record(first + second)
    assert {key: both[key] for key in record(first) if key != "power_mw"} == {
        key: value for key, value in record(first).items() if key != "power_mw"
    }
    assert both["power_mw"].items() <= record(first)["power_mw"].items()


def test_a_word_that_stands_twice_counts_once():
    assert record(f"{RAM} APE 1 APE 2 tj@5C tj@6C VDD_IN 1mW/1mW VDD_IN 2mW/2mW")["unknown"] == [
        "APE 2",
        "tj@6C",
        "VDD_IN 2mW/2mW",
    ]


def words_of(line):
    """The line's words with what belongs to each: a name and its value are one."""
    pattern = (
        r"\d\d-\d\d-\d{4} \S+|RAM \S+ \([^)]*\)|SWAP \S+ \([^)]*\)|IRAM [^)]*\)|MTS fg \S+ bg \S+|\S+@\S+C|\S+ \S+"
    )
    return re.findall(rf"(?:{pattern})(?= |$)", line)


@pytest.mark.parametrize("line", [*own_lines(), R39])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=5, deadline=None)
def test_the_order_of_the_words_does_not_matter(line, seed):
    words = words_of(line)
    assert " ".join(words) == " ".join(line.split())
    random.Random(seed).shuffle(words)
    assert record(" ".join(words)) == record(line)


@pytest.mark.parametrize("line", [*own_lines(), R39])
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_a_new_word_anywhere_is_kept_and_changes_nothing_else(line, data):
    new = data.draw(st.sampled_from(["NEW_FREQ 3%@100", "NEW@12V", "NEW_THING", "NEW:5", "NEW 12W", "NEW [1,2]"]))
    words = words_of(line)
    words.insert(data.draw(st.integers(1, len(words))), new)
    assert record("   ".join(words)) == {**record(line), "unknown": [new]}


@given(st.lists(st.sampled_from([*'RAMSWPCU[]%@/mWC()  .-0189_GVDIN"\\\0\r\n\u0661', *R39.split()]), max_size=60))
@settings(deadline=None)
def test_no_text_raises(parts):
    for text in ("".join(parts), f"{RAM} {''.join(parts)}", f"{RAM} {' '.join(parts)}"):
        sample_from_line(text)


@pytest.mark.parametrize(
    "text", ["A", "1", "CPU [", "5%@3,", "VDD_IN ", "1mW/", "RAM 1/2MB ", "GR3D_FREQ @[1", "(", '"', "\0", STAMP + " "]
)
def test_a_line_is_read_up_to_a_length(text):
    longest = (RAM + " " + text * LONGEST_LINE)[:LONGEST_LINE]
    assert sample_from_line(longest) is not None
    assert sample_from_line(longest + "x") is None
