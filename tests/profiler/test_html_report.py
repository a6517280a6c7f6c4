"""The page of a profile: whole, harmless, the same every time, and sound whatever is missing in the record."""

from __future__ import annotations

import asyncio
import builtins
import copy
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Iterator

import pytest
from fakes.browser import BROWSER, in_a_browser, page_in
from fakes.profile_record import profile_record

from edge_runtime.errors import ConfigError
from edge_runtime.profiler.html_report import html_report
from edge_runtime.profiler.sweep_html import sweep_html

HOSTILE = (
    "</svg><script>alert(1)</script> $\\frac{1}{0}$ %s \x00\x07\u202e\ud800 \u6a21\u578b \U0001f525 'q\" &amp;"
    + "x" * 5000
)
VOID = {"meta", "link", "br", "img"}
PLOTS = {"timeline", "histogram", "stages", "energy", "layers"}


class Parsed(HTMLParser):
    """A page taken apart: tags must nest, attributes are collected."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids.extend(value for name, value in attrs if name == "id")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def plots(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "svg"]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return profile_record(300, 20.0, 30)


@pytest.fixture(scope="module")
def page(record: dict[str, Any]) -> bytes:
    return html_report(record)


def every_place(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a record; of a list only the first item."""
    for key, inner in value.items() if isinstance(value, dict) else list(enumerate(value))[:1]:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from every_place(inner, (*path, key))


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found = copy.copy(record)
    inner: Any = found
    for key in path[:-1]:
        inner[key] = copy.copy(inner[key])
        inner = inner[key]
    inner[path[-1]] = value
    return found


def test_the_page_is_whole_and_loads_nothing(page: bytes) -> None:
    parsed = Parsed(page)
    assert {"script", "iframe", "img", "object"}.isdisjoint(tag for tag, _ in parsed.tags)
    links = [value for _, attributes in parsed.tags for name, value in attributes.items() if name in ("href", "src")]
    assert all(link.startswith(("#", "data:")) for link in links if link)
    assert set(re.findall(rb"https?://[^\"<\s]*", page)) == {b"http://www.w3.org/2000/svg"}
    (policy,) = [attributes["content"] for tag, attributes in parsed.tags if attributes.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert len(page) < 500_000


def test_ids_belong_to_one_plot_and_references_find_them(page: bytes) -> None:
    ids, text = Parsed(page).ids, page.decode()
    assert len(ids) == len(set(ids))
    references = {*re.findall(r"url\(#([^)]+)\)", text), *re.findall(r'href="#([^"]+)"', text)}
    assert references == set(ids)
    assert {each.split("-")[0] for each in ids} <= PLOTS


def test_each_plot_is_an_image_with_a_name(page: bytes) -> None:
    plots = Parsed(page).plots
    assert len(plots) == len(PLOTS)
    assert all(each["role"] == "img" and each["aria-label"] for each in plots)


def test_tables_have_captions(page: bytes) -> None:
    tags = [tag for tag, _ in Parsed(page).tags]
    assert tags.count("table") == tags.count("caption") > 8


def test_the_same_record_gives_the_same_bytes(record: dict[str, Any], page: bytes) -> None:
    assert html_report(copy.deepcopy(record)) == page


def test_the_figures_of_the_record_are_on_the_page(page: bytes) -> None:
    text = Parsed(page).text
    for figure in (
        "101.5 \u00b1 1.8 mJ",
        "181.2 \u00b1 1.2 mJ",
        "6.2 \u00b0C to the trip point of gpu",
        "of 300 calls",
    ):
        assert figure in text


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({"replay_of": "a.log", "label": "replay of a.log: not measured on this machine"}, "from a replay of a.log"),
        ({"replay_of": None, "made_up": "a ramp", "label": "sysfs"}, "made up: a ramp"),
    ],
)
def test_what_was_not_measured_is_said_loudly(origin: dict[str, Any], words: str) -> None:
    page = html_report({"board": {"origin": origin}})
    (banner,) = re.findall(rb"<p class=origin role=note>(.*?)</p>", page)
    assert words in banner.decode()


def test_a_measured_board_has_no_banner() -> None:
    page = html_report({"board": {"origin": {"source": "sysfs", "replay_of": None, "label": "sysfs"}}})
    assert b"class=origin" not in page


def test_without_telemetry_power_and_temperature_are_said_to_be_missing() -> None:
    text = Parsed(html_report({"telemetry": None, "energy": None, "not_measured": ["power: no rail was found"]})).text
    assert "Power and energy were not measured: no rail was found." in text
    assert "Temperature was not measured." in text
    assert "No plot: energy was not measured." in text


def test_gross_energy_stands_alone_where_the_net_one_was_refused(record: dict[str, Any]) -> None:
    energy = {**record["energy"], "net_mj": None, "refused": "net of idle: the baseline drifts"}
    text = Parsed(html_report({**record, "energy": energy})).text
    assert "Energy per inference, gross 181.2 \u00b1 1.2 mJ net of idle: the baseline drifts" in text
    assert "No plot" not in text


@pytest.mark.parametrize("p99_ms", [6.0, 9.0, 40.0])
def test_labels_of_a_histogram_have_a_row_each(p99_ms: float) -> None:
    edges = [1.0 * 1.1**place for place in range(60)]
    page = html_report(
        {
            "histogram": {"edges_ms": edges, "counts": [1] * 59},
            "latency": {"p50_ms": 5.0, "p99_ms": p99_ms},
            "outliers": {"threshold_ms": 7.5},
        }
    ).decode()
    rows = re.findall(r'y="([\d.]+)"[^>]*>(?:p50|p99|outlier above) ', page)
    assert len(rows) == len(set(rows)) == 3


def test_an_energy_that_was_refused_says_why(record: dict[str, Any]) -> None:
    energy = {**record["energy"], "gross_mj": None, "net_mj": None, "refused": "the window is 0.2 s, 1 s needed"}
    text = Parsed(html_report({"energy": energy})).text
    assert "refused: the window is 0.2 s, 1 s needed" in text
    assert "No plot: the window is 0.2 s, 1 s needed." in text
    assert "\u00b1" not in text


def test_names_from_the_record_are_only_text(record: dict[str, Any]) -> None:
    hostile = copy.deepcopy(record)
    hostile["target"]["model"] = hostile["outliers"]["items"][0]["detail"] = HOSTILE
    hostile["outliers"]["items"][1]["cause"] = hostile["stages"][0]["name"] = HOSTILE
    hostile["layers"]["layers"][0].update(name=HOSTILE, precision=HOSTILE, nodes=[HOSTILE])
    hostile["telemetry"]["zones_c"][HOSTILE] = hostile["telemetry"]["rails_mw"][HOSTILE] = [1.0] * 30
    hostile["telemetry"]["trips_c"] = {HOSTILE: 80.0}
    hostile["telemetry"]["throttled"][0].update(cause=HOSTILE, where=HOSTILE)
    hostile["environment"][HOSTILE] = HOSTILE
    page = html_report(hostile)
    parsed = Parsed(page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert len(parsed.plots) == len(PLOTS)
    assert "$\\frac{1}{0}$" in parsed.text
    assert not re.search(r"[\x00-\x08\u202e]", page.decode())


def test_each_part_stands_alone(record: dict[str, Any]) -> None:
    for name, part in record.items():
        Parsed(html_report({name: part}))


@pytest.mark.parametrize(
    "value", [None, "text", math.nan, [], {}, [None], {"a": None}, 10**400], ids=lambda v: repr(v)[:9]
)
def test_parts_may_be_missing_or_odd(record: dict[str, Any], value: Any) -> None:
    Parsed(html_report(dict.fromkeys(record, value)))
    Parsed(html_report({name: dict.fromkeys(part, value) for name, part in record.items() if isinstance(part, dict)}))


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, "text", -1])
def test_every_single_place_may_be_missing_or_odd(record: dict[str, Any], value: Any) -> None:
    small = copy.deepcopy(record)
    small["layers"]["layers"] = small["layers"]["layers"][:2]
    for path in every_place(small):
        Parsed(html_report({path[0]: changed(small, path, value)[path[0]]}))


def test_an_empty_record_gives_sentences_in_place_of_plots() -> None:
    parsed = Parsed(html_report({}))
    assert parsed.plots == []
    assert parsed.text.count("No plot: ") == len(PLOTS)


def test_one_call_and_one_sample_are_drawn() -> None:
    record = {
        "timeline": {"start_s": [0.1], "latency_ms": [3.0]},
        "histogram": {"edges_ms": [2.9, 3.1], "counts": [1]},
        "telemetry": {"at_s": [0.2], "total_mw": [5000], "zones_c": {"cpu": [40.5]}},
    }
    assert {each["aria-label"][:8] for each in Parsed(html_report(record)).plots if each["aria-label"]} == {
        "Timeline",
        "Histogra",
    }


def test_a_missing_sample_breaks_the_line(record: dict[str, Any]) -> None:
    def pieces(values: list[Any]) -> int:
        telemetry = {"at_s": [0, 1, 2, 3, 4, 5], "total_mw": values}
        page = html_report({"telemetry": telemetry}).decode()
        (line,) = [each for each in re.findall(r'<path d="([^"]*)"[^>]*var\(--blue', page) if each.count("L") >= 3]
        return line.count("M")

    assert pieces([5000] * 6) == 1
    assert pieces([5000, 5100, None, 5000, 5100, 5200]) == 2


def test_each_figure_of_a_replayed_board_says_so(page: bytes) -> None:
    text = Parsed(page).text
    for words in (
        "Hottest zone (replayed, made up)",
        "replayed, made up power over this machine's calls: an example, not a measurement",
        "Energy of one inference, mJ (replayed, made up)",
        "Power, W (replayed, made up)",
        "Clock, MHz (replayed, made up)",
    ):
        assert words in text


def test_an_outlier_with_a_cause_is_never_drawn_as_one_without() -> None:
    items = [{"at_s": at, "latency_ms": 9.0 + at, "cause": "gc"} for at in range(3000)]
    calls = {"start_s": list(range(3001)), "latency_ms": [9.0 + at for at in range(3000)] + [9000.0]}
    outliers = {"threshold_ms": 3.0, "n": 3001, "items": items, "by_cause": {"gc": 3000}}
    assert "cause not listed" in Parsed(html_report({"timeline": calls, "outliers": outliers})).text
    known = {name: values[:3000] for name, values in calls.items()}
    assert "cause not listed" not in Parsed(html_report({"timeline": known, "outliers": outliers})).text


def test_a_time_without_samples_breaks_the_line() -> None:
    telemetry = {"at_s": [0, 1, 2, 60, 61, 62], "total_mw": [5000] * 6}
    page = html_report({"telemetry": telemetry}).decode()
    (line,) = [each for each in re.findall(r'<path d="([^"]*)"[^>]*var\(--blue', page) if each.count("L") == 4]
    assert line.count("M") == 2


def test_many_points_are_thinned() -> None:
    many = 300_000
    times = [index / 1000 for index in range(many)]
    page = html_report(
        {
            "timeline": {"start_s": times, "latency_ms": [1.0] * many},
            "telemetry": {"at_s": times, "total_mw": [5000, 5001] * (many // 2)},
        }
    )
    assert len(page) < 300_000
    assert "only some are drawn" in page.decode()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for report in (html_report, sweep_html):
        with pytest.raises(ConfigError, match=r"pip install 'edge-runtime\[report\]'"):
            report({})


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("name", ["made-up-net", HOSTILE], ids=["plain", "hostile"])
def test_a_browser_shows_it_from_a_file_without_complaint(tmp_path: Path, name: str) -> None:
    record = profile_record()
    record["target"]["model"] = record["layers"]["layers"][0]["name"] = record["environment"]["board"] = name
    file = tmp_path / "report.html"
    file.write_bytes(html_report(record))

    async def browse() -> None:
        async with page_in(str(BROWSER), tmp_path / "profile") as page:
            await page.open(file.as_uri())
            await page.until("document.readyState == 'complete' && !!document.querySelector('footer')")
            for width in (1100, 390):
                metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                await page.call("Emulation.setDeviceMetricsOverride", **metrics)
                assert await page.value("document.documentElement.scrollWidth") <= width
                boxes = "[...document.querySelectorAll('svg')].map((each) => each.getBoundingClientRect())"
                sizes = await page.value(f"{boxes}.map((box) => [box.width, box.height])")
                assert len(sizes) == len(PLOTS)
                assert all(size > 90 for pair in sizes for size in pair)
            asked_for = {each["params"]["request"]["url"] for each in page.of("Network.requestWillBeSent")}
            assert {url for url in asked_for if not url.startswith("data:")} == {file.as_uri()}
            assert page.of("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []

    asyncio.run(browse())
