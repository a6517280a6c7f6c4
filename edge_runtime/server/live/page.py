"""The live page: HTML, style and script joined to one document, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Dict, Tuple

_FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def live_page() -> Tuple[bytes, Dict[str, str]]:
    """The document, and headers that let nothing run or load but what is in it."""
    style, script = ((_FOLDER / name).read_text() for name in ("page.css", "page.js"))
    html = (_FOLDER / "page.html").read_text().replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return html.encode(), headers


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
