"""The only import of matplotlib: a figure becomes SVG for a page, without its global state and the same every time."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Set, Tuple

from edge_runtime.errors import ConfigError

Axes = Any
Paint = Callable[["Canvas"], None]

INK, QUIET, LINE, CARD = "#1b1f24", "#5b6470", "#dde1e6", "#ffffff"
BLUE, RED, GREEN, PURPLE, OCHRE, SKY = "#0072b2", "#d55e00", "#00805d", "#aa4499", "#9a6b00", "#3388bb"
SERIES = (BLUE, RED, GREEN, PURPLE, OCHRE, SKY)
STROKES: Tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))

_TOKENS = {  # the page's own names for these colours: they differ where it is dark
    INK: "ink",
    QUIET: "quiet",
    LINE: "line",
    CARD: "card",
    BLUE: "blue",
    RED: "red",
    GREEN: "green",
    PURPLE: "purple",
    OCHRE: "ochre",
    SKY: "sky",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edge_runtime",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.3,
    "hatch.color": QUIET,
    "hatch.linewidth": 0.6,
    "path.simplify": False,
    "legend.frameon": False,
    "legend.fontsize": 11,
}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"^(?P<head>.*?\d+(?:\.\d+)?px)\b.*$")
_DECIMALS = re.compile(r"-?\d+\.\d+(?![\d.]*[eE])")


class NothingToPlotError(Exception):
    """A plot that can't be drawn; its text says why, for the reader of the page."""


@dataclass(frozen=True)
class Canvas:
    """A figure of `width` x `height` pixels to draw on; places are counted from its lower left corner."""

    figure: Any
    width: float
    height: float

    def panel(self, left: float, bottom: float, width: float, height: float, title: str = "") -> Axes:
        """New axes at this place, their title above the left end."""
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place)
        if title:
            axes.annotate(title, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", color=INK)
        return axes


def draw(paint: Paint, size: Tuple[float, float], prefix: str, label: str) -> str:
    """What `paint` draws as an SVG element whose ids start with `prefix`; `label` is read to who can't see it.

    Raises:
        NothingToPlotError: from `paint`.
        ConfigError: matplotlib isn't installed.
    """
    with _styled() as new_figure, io.BytesIO() as file:
        figure = new_figure(size)
        paint(Canvas(figure, *size))
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        return _page_svg(file.getvalue(), size, prefix, label)


def require_matplotlib() -> None:
    """Finds out early whether plots can be drawn.

    Raises:
        ConfigError: matplotlib isn't installed.
    """
    with _styled():
        pass


@contextlib.contextmanager
def _styled() -> Iterator[Callable[[Tuple[float, float]], Any]]:
    """Makes figures of so many pixels; what a user has set for own plots doesn't count meanwhile."""
    try:
        from matplotlib import style  # noqa: PLC0415
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"plots need matplotlib, which can't be imported ({error}): pip install 'edge-runtime[report]'"
        ) from error

    def new_figure(size: Tuple[float, float]) -> Any:
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        FigureCanvasSVG(figure)
        return figure

    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name's characters may be missing in the font that measures them
        yield new_figure


def _page_svg(source: bytes, size: Tuple[float, float], prefix: str, label: str) -> str:
    """Matplotlib's document as an element for a page: short, and with ids that no other plot has."""
    drawn = ET.fromstring(source)  # noqa: S314 - matplotlib wrote it a moment ago
    used = _references(drawn)
    root = ET.Element("svg", _root_attributes(size, label))
    for child in drawn:
        if child.tag in (f"{_SVG}g", f"{_SVG}defs"):
            root.append(child)
    for node in root.iter():
        for child in [each for each in node if each.tag in (f"{_SVG}metadata", f"{_SVG}style", f"{_SVG}title")]:
            node.remove(child)
        if node is not root:
            node.tag = node.tag.replace(_SVG, "")
            node.attrib.update(_attributes(node, prefix, used))
    _drop_empty(root)
    return ET.tostring(root, encoding="unicode")


def _root_attributes(size: Tuple[float, float], label: str) -> Dict[str, str]:
    width, height = (f"{side:g}" for side in size)
    return {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": label,
        "stroke-linejoin": "round",
        "font-family": "system-ui, sans-serif",
    }


def _references(drawn: Any) -> Set[str]:
    found = set()
    for node in drawn.iter():
        for value in node.attrib.values():
            found.update(re.findall(r"url\(#([^)]+)\)", value))
        if _LINK in node.attrib:
            found.add(node.attrib[_LINK][1:])
    return found


def _attributes(node: Any, prefix: str, used: Set[str]) -> Dict[str, str]:
    given, kept = dict(node.attrib), {}
    node.attrib.clear()
    for name, value in given.items():
        if name == "id":
            if value in used:
                kept["id"] = prefix + value
        elif name == _LINK:
            kept["href"] = f"#{prefix}{value[1:]}"
        elif name == "style":
            kept["style"] = _style_text(value, prefix)
        elif name in ("d", "x", "y", "transform", "width", "height"):
            kept[name] = " ".join(_DECIMALS.sub(_rounded, value).split())
        else:
            kept[name] = value.replace("url(#", f"url(#{prefix}")
    return {name: value for name, value in kept.items() if value}


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found.group()):.2f}".rstrip("0").rstrip(".")


def _style_text(value: str, prefix: str) -> str:
    parts = []
    for part in value.split(";"):
        name, _, setting = (each.strip() for each in part.partition(":"))
        if name == "font":
            match = _FONT.match(setting)
            setting = f"{match['head'] if match else '12px'} system-ui, sans-serif"
        elif setting in _TOKENS:
            setting = f"var(--{_TOKENS[setting]}, {setting})"
        if name:
            parts.append(f"{name}: {setting}".replace("url(#", f"url(#{prefix}"))
    return "; ".join(parts)


def _drop_empty(node: Any) -> None:
    for child in list(node):
        _drop_empty(child)
        if child.tag in ("g", "defs") and not len(child):
            node.remove(child)
