"""The footer: at most five keys at 80 columns, more where they fit; a click presses the key."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events

from dstui.model import Lang
from screens.keys import BY_ID
from screens.lines import Bar, Line, Piece
from screens.tones import Tone

NARROW = 100
NARROW_KEYS = 5


class KeyBar(Bar):
    """One line of keys. The last of them (`?`) is always shown; the middle gives way."""

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, str]] = []

    def show_keys(self, ids: Sequence[str], lang: Lang) -> None:
        """Shows the keys of a screen, most wanted first."""

        def build(width: int) -> list[Line]:
            pieces, self._places = keys_line(ids, lang, width)
            return [pieces]

        self.show(build)

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._places:
            if start <= event.x < end:
                self.app.simulate_key(key)


def keys_line(ids: Sequence[str], lang: Lang, width: int) -> tuple[Line, list[tuple[int, int, str]]]:
    """The footer for a width, and which cells belong to which key."""
    most = NARROW_KEYS if width < NARROW else len(ids)
    chosen = [*ids[: most - 1], ids[-1]] if len(ids) > most else list(ids)
    while len(chosen) > 1 and sum(_width(name, lang) for name in chosen) + 1 > width:
        del chosen[-2]
    pieces: list[Piece] = [(" ", Tone.PLAIN)]
    places = []
    at = 1
    for name in chosen:
        key = BY_ID[name]
        pieces += [(key.face[lang], Tone.ACCENT), (f" {key.label[lang]}  ", Tone.PLAIN)]
        places.append((at, at + _width(name, lang) - 2, key.key))
        at += _width(name, lang)
    return tuple(pieces), places


def _width(name: str, lang: Lang) -> int:
    key = BY_ID[name]
    return cell_len(key.face[lang]) + cell_len(key.label[lang]) + 3
