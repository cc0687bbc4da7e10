"""A documentation page: which viewer it is, what it loads, and where it takes the schema from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

_VIEWERS = (
    ("Swagger UI", re.compile(r"swagger-?ui", re.IGNORECASE)),
    ("ReDoc", re.compile(r"redoc", re.IGNORECASE)),
    ("Scalar", re.compile(r"@scalar/api-reference|api-reference\b.{0,80}data-url", re.IGNORECASE | re.DOTALL)),
    ("RapiDoc", re.compile(r"rapi-?doc", re.IGNORECASE)),
)
_SPEC = re.compile(r"""\b(?:url|spec-url|data-url)\s{0,4}[:=]\s{0,4}["']([^"'\s<>]{1,500})["']""")
_LOADED_AT_MOST = 64
READ_AT_MOST = 131_072
"""Characters of a page that are read; the pages of viewers have about a thousand."""
_TITLE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Page:
    """`viewer` is None when no known one is in it. `assets` are addresses of scripts and style sheets as written.

    `spec` is the schema's address as the page has it, None when it is not found.
    """

    title: str
    viewer: str | None
    assets: tuple[str, ...]
    spec: str | None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.assets: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        named = dict(attrs)
        wanted = named.get("src") if tag == "script" else None
        if tag == "link" and "stylesheet" in (named.get("rel") or "").lower().split():
            wanted = named.get("href")
        if wanted and len(self.assets) < _LOADED_AT_MOST:
            self.assets.append(wanted.strip())

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title and len(self.title) < _TITLE_LENGTH:
            self.title += data


def read_page(html: str) -> Page:
    """What can be read of any text; a text that is no page has no viewer and loads nothing."""
    reader = _Reader()
    html = html[:READ_AT_MOST]
    try:
        reader.feed(html)
        reader.close()
    except (ValueError, AssertionError):
        # html.parser still asserts on some malformed declarations; what came before them is kept.
        pass
    spec = _SPEC.search(html)
    return Page(
        title=" ".join(reader.title.split())[:_TITLE_LENGTH],
        viewer=next((name for name, sign in _VIEWERS if sign.search(html)), None),
        assets=tuple(reader.assets),
        spec=spec[1] if spec else None,
    )
