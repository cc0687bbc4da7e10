"""How a piece of text is meant, and what that looks like in the theme in use."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from rich.style import Style
from textual.app import App
from textual.color import Color, ColorParseError


class Tone(StrEnum):
    """How a piece of text is meant; the theme gives each a colour, and none is needed to read it."""

    PLAIN = "plain"
    DIM = "dim"
    STRONG = "strong"
    HEADING = "heading"
    ACCENT = "accent"
    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    WARN = "warn"
    UNKNOWN = "unknown"
    RUNNING = "running"
    BADGE = "badge"
    CHOSEN = "chosen"
    GATE_OPEN = "gate-open"
    GATE_SHUT = "gate-shut"


_LOOKS: Mapping[Tone, tuple[str, str, bool]] = {
    Tone.PLAIN: ("", "", False),
    Tone.DIM: ("text-muted", "", False),
    Tone.STRONG: ("", "", True),
    Tone.HEADING: ("secondary", "", False),
    Tone.ACCENT: ("primary", "", False),
    Tone.PASS: ("success", "", False),
    Tone.FAIL: ("error", "", True),
    Tone.WARN: ("warning", "", False),
    Tone.UNKNOWN: ("accent", "", False),
    Tone.RUNNING: ("primary", "", False),
    Tone.BADGE: ("background", "warning", True),
    Tone.CHOSEN: ("background", "primary", True),
    Tone.GATE_OPEN: ("background", "success", True),
    Tone.GATE_SHUT: ("background", "error", True),
}
"""Colour of the text, colour behind it (variables of the theme; empty leaves what is there), bold."""

_MUTED = 0.4
"""How far a muted text goes towards the background in a theme that only says `auto`."""


def styles_of(app: App[Any]) -> Mapping[Tone, Style]:
    """The style of every tone in the app's theme. Not component classes: a stylesheet would match each for each widget
    before the first frame."""
    colours = app.theme_variables
    names = ("foreground", "background", "text-muted", "primary", "secondary", "accent", "success", "warning", "error")
    return _styles(tuple((name, colours[name]) for name in names))


@lru_cache(maxsize=8)
def _styles(colours: tuple[tuple[str, str], ...]) -> Mapping[Tone, Style]:
    named = dict(colours)
    fallback = Color.parse(named["foreground"]).blend(Color.parse(named["background"]), _MUTED)

    def colour(name: str) -> Color | None:
        if not name:
            return None
        try:
            return Color.parse(named[name])
        except ColorParseError:
            return fallback

    return {tone: _style(colour(text), colour(behind), bold) for tone, (text, behind, bold) in _LOOKS.items()}


def _style(text: Color | None, behind: Color | None, bold: bool) -> Style:
    return Style(
        color=text.rich_color if text is not None else None,
        bgcolor=behind.rich_color if behind is not None else None,
        bold=True if bold else None,
    )
