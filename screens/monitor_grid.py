"""The GPU panel: a row for each host, or for hosts that are alike; what stands out first and in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.host import HostSample
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridRow, GridSort, GridView
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_marks import mark_text
from dstui.telemetry.live_status import Status
from screens import monitor_words as words
from screens.lines import Line, Piece, cropped, width_of
from screens.plain import fit, one_line, shorten
from screens.spark import heat, mean_history, sparkline
from screens.times import span
from screens.tones import Tone

NAME_CELLS = (12, 20)
"""The least and the most room for a name."""

MOST_NAMES = 3
SPARK_CELLS = 24
EACH_GPU_FROM = 150
"""Columns from which on each GPU of a host stands with its own use."""

SEVERITY_SIGNS = {
    Severity.INFO: ("·", Tone.DIM),
    Severity.WARN: ("!", Tone.WARN),
    Severity.FAIL: ("✗", Tone.FAIL),
}


class GridPanel:
    """Look once, then ask for keys and rows. The key of a row is the name of its first host."""

    def __init__(self) -> None:
        self.sort = GridSort.TROUBLE
        self.query = ""
        self.only_marked = False
        self.fold: bool | None = None
        """Whether hosts that are alike are one row; None: only where there is no room for each."""
        self.folded = False
        self.room = 0
        self.first = ""
        self.keys: list[str] = []
        self.view: GridView | None = None
        self._rows: dict[str, GridRow] = {}
        self._live: Live | None = None
        self._now = 0.0
        self._lang = Lang.EN
        self._name_cells = NAME_CELLS[0]

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look. `height` makes no difference: the list scrolls; `room` is how many rows are in view."""
        self._live, self._now, self._lang = live, now, lang
        self.folded = len(live.hosts) > self.room if self.fold is None else self.fold
        self.view = live_views.grid(live, now, self.sort, self.query, fold=self.folded, only_marked=self.only_marked)
        self._rows = {row.hosts[0]: row for row in self.view.rows}
        self.keys = list(self._rows)
        longest = max((len(name) for name in live.hosts), default=0)
        self._name_cells = min(max(longest, NAME_CELLS[0]), NAME_CELLS[1])

    def title(self) -> str:
        """What is shown, in which order, and how many hosts are in which state."""
        view, lang = self.view, self._lang
        if view is None:
            return words.GPUS[lang]
        parts = [words.GPUS[lang], words.SORTED[lang].format(sort=words.SORTS[self.sort][lang])]
        if self.only_marked:
            parts.append(words.ONLY_MARKED[lang])
        if self.query:
            parts.append(words.FOUND[lang].format(query=self.query, left=view.hosts - view.filtered, hosts=view.hosts))
        states = {status.value: view.by_status.get(status, 0) for status in Status}
        if states["live"] == view.hosts:
            parts.append(words.ALL_LIVE[lang])
        else:
            parts.append(words.STATES[lang].format(**states))
        return " · ".join(parts)

    def empty(self) -> str:
        """What to say when there is no row."""
        if self.query:
            return words.NOTHING_FOUND[self._lang]
        return (words.NOTHING_SHOWN if self.only_marked else words.NO_HOSTS)[self._lang]

    def hosts(self, key: str) -> Sequence[str]:
        """The hosts of a row."""
        row = self._rows.get(key)
        return row.hosts if row is not None else ()

    def host(self, key: str) -> str | None:
        """The host of a row; None for several."""
        hosts = self.hosts(key)
        return hosts[0] if len(hosts) == 1 else None

    def replica(self, key: str) -> str | None:
        """None: a host is no replica."""
        return None

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        """One row; numbers stand under each other, marks follow in words."""
        row = self._rows.get(key)
        if row is None:
            return ()
        pieces: list[Piece] = [("› " if at_cursor else "  ", Tone.ACCENT)]
        pieces += self._sign(row)
        pieces += self._name(row, width)
        pieces += self._state(row)
        if row.shown.known:
            pieces += self._numbers(row, width)
        room = width - width_of(tuple(pieces)) - 1
        if room > 4:
            pieces += self._marks(row, room)
        return cropped(tuple(pieces), width)

    def _sign(self, row: GridRow) -> list[Piece]:
        """The worst that there is of it, as one character before the name."""
        if row.shown.status is Status.UNKNOWN:
            return [("? ", Tone.UNKNOWN)]
        if row.shown.status is Status.LOST:
            return [("✗ ", Tone.FAIL)]
        if not row.marks:
            return [("  ", Tone.PLAIN)]
        worst = max(row.marks, key=lambda mark: list(SEVERITY_SIGNS).index(mark.severity))
        sign, tone = SEVERITY_SIGNS[worst.severity]
        return [(f"{sign} ", tone)]

    def _name(self, row: GridRow, width: int) -> list[Piece]:
        tone = Tone.DIM if row.shown.status in (Status.LATE, Status.LOST) else Tone.PLAIN
        if len(row.hosts) == 1:
            return [(fit(one_line(row.hosts[0]), self._name_cells) + " ", tone)]
        names = [one_line(name) for name in row.hosts]
        if len(names) <= MOST_NAMES:
            text = words.ALIKE_LIST[self._lang].format(names=", ".join(names), count=len(names))
        else:
            text = words.ALIKE[self._lang].format(first=names[0], last=names[-1], count=len(names))
        return [(shorten(text, max(width // 2, 20)) + "  ", tone)]

    def _state(self, row: GridRow) -> list[Piece]:
        """How old what follows is; nothing while it is current."""
        shown, lang = row.shown, self._lang
        if shown.status is Status.LIVE:
            return []
        if shown.status is Status.UNKNOWN:
            why = f": {one_line(shown.why[lang])}" if shown.why is not None else ""
            return [(f"{words.UNKNOWN[lang]}{why}", Tone.UNKNOWN)]
        age = span(shown.age or 0.0)
        if shown.status is Status.LATE:
            return [(f"! {words.OLD[lang].format(age=age)}  ", Tone.WARN)]
        why = f", {shorten(one_line(shown.why[lang]), 40)}" if shown.why is not None else ""
        return [(f"{words.LOST[lang].format(age=age)}{why}  ", Tone.FAIL)]

    def _numbers(self, row: GridRow, width: int) -> list[Piece]:
        current = row.shown.status is Status.LIVE
        pieces: list[Piece] = []
        if row.expected == 0 and not row.gpus:
            pieces.append((f"{words.NO_GPU[self._lang]}  ", Tone.DIM))
            return pieces
        if row.sample is not None:
            pieces += self._gpus(row, row.sample, width)
        use = "   ?" if row.mean_use is None else f"{row.mean_use:3.0f}%"
        span_of_use = "" if row.use is None or len(row.hosts) == 1 else f" ({row.use[0]:.0f}-{row.use[1]:.0f}%)"
        memory = "  ?" if row.memory is None else f"{row.memory * 100:3.0f}%"
        temp = "  ?" if row.temp is None else f"{row.temp[1]:3.0f}"
        power = "   ?" if row.power is None else _watts(row.power)
        pieces += [
            (f"{use}{span_of_use}", Tone.STRONG), (f"  mem {memory}", Tone.PLAIN),
            (f" {temp} °C", Tone.PLAIN), (f" {power}", Tone.PLAIN), ("  ", Tone.PLAIN),
        ]  # fmt: skip
        return pieces if current else [(text, Tone.DIM) for text, _ in pieces]

    def _gpus(self, row: GridRow, sample: HostSample, width: int) -> list[Piece]:
        """A cell for each GPU by its use, each with its number where there is room; then how the host did lately."""
        pieces: list[Piece] = []
        if width >= EACH_GPU_FROM:
            for gpu in sample.gpus:
                told = " ? " if gpu.util is None else f"{gpu.util:3.0f}"
                pieces += [(f"{gpu.index} ", Tone.DIM), heat(gpu.util), (f"{told} ", Tone.PLAIN)]
        else:
            pieces += [heat(gpu.util) for gpu in sample.gpus]
        # A GPU that is declared and not seen has a cell too, so that a gap is seen as one.
        absent = max(0, (row.expected or 0) - len(sample.gpus))
        pieces += [("✗", Tone.FAIL)] * absent
        pieces.append((" ", Tone.PLAIN))
        fold = self._live.hosts.get(row.hosts[0]) if self._live is not None else None
        if fold is not None and width >= 100:
            pieces.append((sparkline(mean_history(fold, self._now, SPARK_CELLS), 100.0) + " ", Tone.ACCENT))
        return pieces

    def _marks(self, row: GridRow, room: int) -> list[Piece]:
        """What stands out, the worst first, as many as fit."""
        pieces: list[Piece] = []
        for mark in row.marks:
            if mark.kind == "unseen":
                continue
            sign, tone = SEVERITY_SIGNS[mark.severity]
            text = f"{sign} {one_line(mark_text(mark)[self._lang])}  "
            if cell_len(text) > room:
                if room > 8:
                    pieces.append((shorten(text, room), tone))
                break
            pieces.append((text, tone))
            room -= cell_len(text)
        return pieces


def _watts(watts: float) -> str:
    """W as a person reads them, always as wide."""
    return (
        f"{watts:4.0f} W"
        if watts < 1000
        else f"{watts / 1000:4.1f} kW"
        if watts < 100_000
        else f"{watts / 1000:4.0f} kW"
    )
