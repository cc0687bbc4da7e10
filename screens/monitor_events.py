"""The event panel: what changed, the newest first."""

from __future__ import annotations

from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_log import EventLog, EventRow
from screens import panel_words as words
from screens.lines import Line, Piece, spread
from screens.monitor_grid import SEVERITY_SIGNS
from screens.plain import one_line
from screens.times import clock_time
from screens.tones import Tone

SHOWN = 500
SOURCE_FROM = 70
"""Columns from which on the source stands at the right edge."""

_HOST, _VLLM = "host:", "vllm:"


class EventPanel:
    """The key of a row is the moment and the source of its first change: its words change while others join it."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = ""
        self._rows: dict[str, EventRow] = {}
        self._lang = Lang.EN
        self._looked_at: tuple[EventLog | None, int] = (None, 0)

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look."""
        self._lang = lang
        log, total = self._looked_at
        if log is live.log and total == live.log.total:
            return
        self._looked_at = live.log, live.log.total
        self._rows = {}
        for row in live_views.events(live, SHOWN):
            key = f"{row.at:.3f} {row.sources[0] if row.sources else ''}"
            while key in self._rows:
                key += " again"
            self._rows[key] = row
        self.keys = list(self._rows)

    def title(self) -> str:
        return words.EVENTS[self._lang] if self.keys else f"{words.EVENTS[self._lang]} · {words.NOTHING[self._lang]}"

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        row = self._rows.get(key)
        if row is None:
            return ()
        sign, tone = SEVERITY_SIGNS[row.severity]
        said: Line = (
            ("› " if at_cursor else "  ", Tone.ACCENT),
            (f"{clock_time(row.at)} ", Tone.DIM),
            (f"{sign} ", tone),
            (one_line(row.text[self._lang]), tone if tone is not Tone.DIM else Tone.PLAIN),
        )
        source: Piece = (f" {self._source_of(row)} ", Tone.DIM)
        return spread(said, (source,) if width >= SOURCE_FROM else (), width)

    def replica(self, key: str) -> str | None:
        """The replica that changed."""
        return self._only_source(key, _VLLM)

    def host(self, key: str) -> str | None:
        """The host that changed; None where several did at once."""
        return self._only_source(key, _HOST)

    def _source_of(self, row: EventRow) -> str:
        """Who told it, in a word."""
        kinds = dict.fromkeys(source.partition(":")[0] for source in row.sources)
        names = {"host": words.HOST_SOURCE[self._lang], "ray": words.RAY[self._lang], "vllm": words.VLLM[self._lang]}
        return ", ".join(names.get(kind, one_line(kind)) for kind in kinds)

    def _only_source(self, key: str, prefix: str) -> str | None:
        row = self._rows.get(key)
        if row is None or len(row.sources) != 1 or not row.sources[0].startswith(prefix):
            return None
        return row.sources[0].removeprefix(prefix)
