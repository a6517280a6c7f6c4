"""The parts of a page: escaped text, tables, plots or why there is none, and the document around them."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence, Tuple

from edge_runtime.profiler.pages.canvas import NothingToPlotError, Paint, draw
from edge_runtime.profiler.pages.reading import plain

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MOST_ROWS = 300


def text(value: Any, limit: int = 400) -> str:
    """Anything from a record as text of a page."""
    return escape(plain(value, limit))


def document(title: str, body: Iterable[str]) -> bytes:
    """The whole page; it loads nothing."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{text(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n'
    )
    return "".join((head, *(f"{part}\n" for part in body if part), "</body>\n</html>\n")).encode("utf-8")


def card(title: str, parts: Iterable[str], *, is_wide: bool = False) -> str:
    """A titled part of the page; a wide one takes the whole line."""
    inside = "\n".join(part for part in parts if part)
    return f"<section{' class=wide' if is_wide else ''}>\n<h2>{text(title)}</h2>\n{inside}\n</section>"


def entries(title: str, sentences: Sequence[Any], *, is_wide: bool = False) -> str:
    """A card with a list; nothing where the list is empty."""
    lines = "".join(f"<li>{text(each)}</li>" for each in sentences)
    return card(title, [f"<ul>{lines}</ul>"], is_wide=is_wide) if lines else ""


def note(sentence: str) -> str:
    """A quiet sentence under a plot."""
    return f"<p class=note>{text(sentence)}</p>"


def banner(kind: str, sentences: Sequence[str]) -> str:
    """What nobody may overlook."""
    return "".join(f"<p class={kind} role=note>{text(each, 1000)}</p>" for each in sentences)


def plot(paint: Paint, size: Tuple[float, float], prefix: str, label: str) -> str:
    """A plot, or a sentence that says why it can't be drawn. `prefix` is for this plot alone."""
    try:
        drawn = draw(paint, size, f"{prefix}-", plain(label))
    except NothingToPlotError as why:
        return f"<p class=missing>No plot: {text(why)}.</p>"
    kind = "plot long" if size[0] > 600 else "plot"
    return f'<div class="{kind}" tabindex=0 role=group aria-label="{text(label)}">{drawn}</div>'


def table(caption: str, header: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    """A table with its caption; the first column names the row."""
    if not body:
        return ""
    heads = "".join(f"<th scope=col>{text(name)}</th>" for name in header)
    lines = "".join(_line(row) for row in body[:_MOST_ROWS])
    left_out = len(body) - _MOST_ROWS
    more = f" The first {_MOST_ROWS} of {len(body):,} rows; the JSON record has all." if left_out > 0 else ""
    top = f"<thead><tr>{heads}</tr></thead>" if header else ""
    return (
        f'<div class=rows tabindex=0 role=group aria-label="{text(caption)}">'
        f"<table><caption>{text(caption)}{more}</caption>{top}<tbody>{lines}</tbody></table></div>"
    )


def facts(caption: str, values: Mapping[str, Any]) -> str:
    """A table of names and values; what is unknown is left out."""
    return table(caption, (), [(name.replace("_", " "), value) for name, value in flattened(values)])


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterable[Tuple[str, Any]]:
    """Every value of nested objects by the path of its names."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name} \u203a ")
        elif isinstance(value, (list, tuple)):
            if value:
                yield name, ", ".join(map(str, value[:50]))
        elif value is not None and value != "":
            yield name, value


def details(summary: str, parts: Iterable[str]) -> str:
    """What opens on demand; nothing where there are no parts."""
    inside = "".join(parts)
    return f"<details><summary>{text(summary)}</summary>{inside}</details>" if inside else ""


def _line(row: Sequence[Any]) -> str:
    first, *rest = row
    cells = "".join(f"<td>{text(value)}</td>" for value in rest)
    return f"<tr><th scope=row>{text(first)}</th>{cells}</tr>"
