"""The count of `benchmarks/tegrastats_corpus.py` over every recording that is there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from fakes.tegrastats_data import OWN, SHARED, items_of, needs_shared

SERIES = items_of(SHARED, "expected_series.json")


@pytest.fixture(scope="module")
def corpus():
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("tegrastats_corpus")
    finally:
        sys.path.remove(folder)


def test_every_line_of_the_repository_is_right_by_module(corpus):
    counts = corpus.counts_of(OWN)
    assert sum(n for _, n, _, _ in counts.values()) == len(items_of(OWN))
    assert all(right == n for right, n, _, _ in counts.values())


@needs_shared
@pytest.mark.parametrize("item", SERIES, ids=[item["file"] for item in SERIES])
def test_every_figure_of_a_recording_is_right(corpus, item):
    assert corpus.wrong_figures(SHARED, item) == {}


def test_a_wrong_line_is_counted(corpus, tmp_path):
    item = items_of(OWN)[0]
    (tmp_path / "lines.log").write_text((OWN / "lines.log").read_text().replace("VDD_CPU_CV 988mW", "VDD_CPU_CV 98mW"))
    (tmp_path / "expected.json").write_text(json.dumps([item]))
    assert corpus.counts_of(tmp_path) == {item["module"]: [0, 1, 0, 0]}
