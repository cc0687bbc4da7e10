"""The event panel: what changed, the newest first."""

from __future__ import annotations

from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_log import EventRow
from screens import panel_words as words
from screens.lines import Line, cropped
from screens.monitor_grid import SEVERITY_SIGNS
from screens.plain import one_line
from screens.times import clock_time
from screens.tones import Tone

SHOWN = 500
_HOST, _VLLM = "host:", "vllm:"


class EventPanel:
    """The key of a row is the moment and the sentence of its change."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = ""
        self._rows: dict[str, EventRow] = {}
        self._lang = Lang.EN
        self._total = 0
        self._version = -1

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look."""
        self._lang = lang
        if live.log.total != self._version:
            self._version = self._total = live.log.total
            rows = live_views.events(live, SHOWN)
            self._rows = {f"{row.at:.3f} {row.text.en} {number}": row for number, row in enumerate(rows)}
            self.keys = list(self._rows)

    def title(self) -> str:
        return words.EVENTS[self._lang] if self.keys else f"{words.EVENTS[self._lang]} · {words.NOTHING[self._lang]}"

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        row = self._rows.get(key)
        if row is None:
            return ()
        sign, tone = SEVERITY_SIGNS[row.severity]
        return cropped(
            (
                ("› " if at_cursor else "  ", Tone.ACCENT),
                (f"{clock_time(row.at)} ", Tone.DIM),
                (f"{sign} ", tone),
                (one_line(row.text[self._lang]), tone if tone is not Tone.DIM else Tone.PLAIN),
            ),
            width,
        )

    def replica(self, key: str) -> str | None:
        """The replica that changed."""
        return self._source(key, _VLLM)

    def host(self, key: str) -> str | None:
        """The host that changed; None where several did at once."""
        return self._source(key, _HOST)

    def _source(self, key: str, prefix: str) -> str | None:
        row = self._rows.get(key)
        if row is None or len(row.sources) != 1 or not row.sources[0].startswith(prefix):
            return None
        return row.sources[0].removeprefix(prefix)
