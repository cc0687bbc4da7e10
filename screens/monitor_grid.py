"""The GPU panel: a row for each host, or for hosts that are alike; what stands out first and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.host import GpuSample
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridRow, GridSort, GridView
from dstui.telemetry.live_host_changes import gpu_gone
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_marks import Mark, mark_text
from dstui.telemetry.live_status import Status
from screens import monitor_words as words
from screens.lines import Line, Piece, cropped, width_of
from screens.plain import fit, one_line, shorten
from screens.spark import MeanUse, heat, sparkline
from screens.times import span
from screens.tones import Tone

NAME_CELLS = (12, 20)
"""The least and the most room for a name."""

SPARK_CELLS = 24
NUMBER_CELLS = 31
"""Of use, memory, temperature and power."""

MARK_CELLS = 20
"""What is left for words before each GPU gets its own number, or the host its sparkline."""

SEVERITY_SIGNS = {
    Severity.INFO: ("·", Tone.DIM),
    Severity.WARN: ("!", Tone.WARN),
    Severity.FAIL: ("✗", Tone.FAIL),
}
_WEIGHT = {severity: number for number, severity in enumerate(SEVERITY_SIGNS)}
_SAID_BY_STATE = frozenset({"late", "lost", "unseen", "silent", "unknown"})
"""Kinds of mark that say what the row's state says already."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What stands where at one width, the same in every row: nothing moves while values and states change."""

    name: int
    gpus: int
    """GPUs that have a place."""
    each: int
    """Cells for each of them with its own number; 0: one cell each."""
    spark: int

    @classmethod
    def at(cls, width: int, name: int, gpus: int) -> Columns:
        """First each GPU's own use, then the host's history, as far as words for what stands out keep their room."""
        room = width - 4 - (name + 1) - NUMBER_CELLS - MARK_CELLS
        each = len(str(max(gpus - 1, 0))) + 6
        if gpus and gpus * each + 1 <= room:
            left = room - gpus * each - 1
            return cls(name, gpus, each, SPARK_CELLS if left >= SPARK_CELLS + 1 else 0)
        fitting = min(gpus, max(8, room // 2))
        left = room - fitting - 1
        return cls(name, fitting, 0, SPARK_CELLS if left >= SPARK_CELLS + 1 else 0)

    @property
    def lead(self) -> int:
        """Cells before the numbers."""
        return self.name + 1 + self.gpus * (self.each or 1) + 1 + (self.spark + 1 if self.spark else 0)


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
        self._use = MeanUse(SPARK_CELLS)
        self._name_cells = NAME_CELLS[0]
        self._gpus = 0
        self._columns = Columns.at(0, NAME_CELLS[0], 0)
        self._columns_for = (0, 0, 0)

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look. `height` makes no difference: the list scrolls; `room` is how many rows are in view."""
        self._live, self._now, self._lang = live, now, lang
        self.folded = len(live.hosts) > self.room if self.fold is None else self.fold
        self.view = live_views.grid(live, now, self.sort, self.query, fold=self.folded, only_marked=self.only_marked)
        self._rows = {row.hosts[0]: row for row in self.view.rows}
        self.keys = list(self._rows)
        longest = max(map(len, live.hosts), default=0)
        self._name_cells = min(max(longest, NAME_CELLS[0]), NAME_CELLS[1])
        # Of one host each: the sums of hosts that are alike are not places. Never fewer, or columns would jump.
        single = (max(row.gpus or 0, row.expected or 0) for row in self.view.rows if len(row.hosts) == 1)
        self._gpus = max(self._gpus, max(single, default=0))

    def title(self) -> str:
        """How many hosts are in which state, and which are shown in what order."""
        view, lang = self.view, self._lang
        if view is None:
            return words.GPUS[lang]
        told = [words.STATES[status][lang].format(count=n) for status in Status if (n := view.by_status.get(status))]
        states = words.ALL_LIVE[lang] if view.by_status.get(Status.LIVE) == view.hosts else ", ".join(told)
        parts = [words.GPUS[lang], states or words.NO_HOSTS[lang], words.SORTED[lang].format(sort=self._sort_name())]
        if self.only_marked:
            parts.append(words.ONLY_MARKED[lang])
        if self.query:
            found = view.hosts - view.filtered
            parts.append(words.FOUND[lang].format(query=one_line(self.query), left=found, hosts=view.hosts))
        return " · ".join(parts)

    def _sort_name(self) -> str:
        return words.SORTS[self.sort][self._lang]

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
        """One row; numbers stand under each other, how old they are and what stands out follow in words."""
        row = self._rows.get(key)
        if row is None:
            return ()
        columns = self._columns_at(width)
        pieces: list[Piece] = [("› " if at_cursor else "  ", Tone.ACCENT), _sign(row)]
        if row.shown.status is Status.UNKNOWN:
            pieces += self._unknown(row, columns)
            return cropped(tuple(pieces), width)
        values = [*self._lead(row, columns), *self._numbers(row)]
        if row.shown.status is not Status.LIVE:
            values = [(text, Tone.DIM) for text, _ in values]
        pieces += values
        room = width - width_of(tuple(pieces))
        for text, tone in self._words(row):
            if room < 4:
                break
            pieces.append((f"{shorten(text, room)}  ", tone))
            room -= cell_len(text) + 2
        return cropped(tuple(pieces), width)

    def _columns_at(self, width: int) -> Columns:
        wanted = width, self._name_cells, self._gpus
        if self._columns_for != wanted:
            self._columns, self._columns_for = Columns.at(*wanted), wanted
        return self._columns

    def _unknown(self, row: GridRow, columns: Columns) -> Iterator[Piece]:
        """Why nothing is known, and no number."""
        shown, lang = row.shown, self._lang
        if len(row.hosts) == 1:
            yield f"{fit(one_line(row.hosts[0]), columns.name)} ", Tone.PLAIN
        else:
            yield f"{self._alike(row, columns.lead - 1)}  ", Tone.PLAIN
        why = one_line(shown.why[lang]) if shown.why is not None else ""
        yield words.UNKNOWN_BECAUSE[lang].format(why=why) if why else words.UNKNOWN[lang], Tone.UNKNOWN

    def _lead(self, row: GridRow, columns: Columns) -> Iterator[Piece]:
        """The name, a cell for each GPU by its use, and the host's mean use lately; of several hosts their names."""
        if len(row.hosts) > 1:
            yield f"{fit(self._alike(row, columns.lead - 1), columns.lead)}", Tone.PLAIN
            return
        name = row.hosts[0]
        yield f"{fit(one_line(name), columns.name)} ", Tone.PLAIN
        if row.expected == 0 and not row.gpus:
            yield fit(words.NO_GPU[self._lang], columns.lead - columns.name - 1), Tone.DIM
            return
        yield from _gpu_cells(row, columns)
        yield " ", Tone.PLAIN
        if columns.spark:
            fold = self._live.hosts.get(name) if self._live is not None else None
            lately = "" if fold is None else sparkline(self._use.of(fold, self._now), 100.0)
            yield f"{lately:{columns.spark}} ", Tone.ACCENT

    def _alike(self, row: GridRow, room: int) -> str:
        """The names of hosts that are alike; how many they are is never cut off."""
        first, last, count = one_line(row.hosts[0]), one_line(row.hosts[-1]), len(row.hosts)
        told = words.ALIKE[self._lang].format(first=first, last=last, count=count)
        if cell_len(told) <= room:
            return told
        return shorten(words.ALIKE_SHORT[self._lang].format(first=first, last=last, count=count), room)

    def _numbers(self, row: GridRow) -> list[Piece]:
        if row.expected == 0 and not row.gpus:
            return [(" " * NUMBER_CELLS, Tone.PLAIN)]
        use = "   ?" if row.mean_use is None else f"{row.mean_use:3.0f}%"
        memory = "   ?" if row.memory is None else f"{row.memory * 100:3.0f}%"
        temp = "  ?" if row.temp is None else f"{row.temp[1]:3.0f}"
        return [(use, Tone.STRONG), (f"  mem {memory} {temp} °C {_watts(row.power)}  ", Tone.PLAIN)]

    def _words(self, row: GridRow) -> Iterator[Piece]:
        """How old the numbers are and why, what stands out, the worst first, then how far the alike are apart."""
        shown, lang = row.shown, self._lang
        if shown.status is not Status.LIVE:
            age = span(shown.age or 0.0)
            if shown.status is Status.LATE:
                yield f"! {words.OLD[lang].format(age=age)}", Tone.WARN
            else:
                why = one_line(shown.why[lang]) if shown.why is not None else ""
                template = words.LOST_BECAUSE if why else words.LOST
                yield f"✗ {template[lang].format(age=age, why=why)}", Tone.FAIL
        for mark in row.marks:
            if mark.kind not in _SAID_BY_STATE:
                sign, tone = SEVERITY_SIGNS[mark.severity]
                yield f"{sign} {one_line(mark_text(mark)[lang])}", tone
        if len(row.hosts) > 1 and row.use is not None:
            yield words.USE_FROM_TO[lang].format(low=row.use[0], high=row.use[1]), Tone.DIM


def _sign(row: GridRow) -> Piece:
    """The worst that there is of it, as one character before the name."""
    if row.shown.status is Status.UNKNOWN:
        return "? ", Tone.UNKNOWN
    if row.shown.status is Status.LOST:
        return "✗ ", Tone.FAIL
    if not row.marks:
        return "  ", Tone.PLAIN
    sign, tone = SEVERITY_SIGNS[max((mark.severity for mark in row.marks), key=_WEIGHT.__getitem__)]
    return f"{sign} ", tone


def _gpu_cells(row: GridRow, columns: Columns) -> Iterator[Piece]:
    """Each GPU at the place of its index, so that a gap is seen as one and where it is."""
    sample = row.sample
    gpus = {gpu.index: gpu for gpu in sample.gpus} if sample is not None else {}
    unreadable = sample is not None and sample.gpu_missing is not None and not gpus
    declared = row.expected if row.expected is not None else 0
    digits = columns.each - 6
    for index in range(columns.gpus):
        gpu = gpus.get(index)
        if gpu is None and index >= declared:
            yield " " * (columns.each or 1), Tone.PLAIN
            continue
        cell, told = _gpu_cell(gpu, unreadable)
        if not columns.each:
            yield cell
            continue
        sign, tone = _gpu_sign(row.marks, index)
        yield f"{index:>{digits}}{sign}", tone
        yield cell
        yield f"{told:>3} ", Tone.PLAIN


def _gpu_cell(gpu: GpuSample | None, unreadable: bool) -> tuple[Piece, str]:
    """How much it does as one cell, and as a number; `✗` where it should be and is not."""
    if gpu is None:
        return (("?", Tone.UNKNOWN), "?") if unreadable else (("✗", Tone.FAIL), "-")
    if gpu_gone(gpu):
        return ("✗", Tone.FAIL), "-"
    return heat(gpu.util), "?" if gpu.util is None else f"{gpu.util:.0f}"


def _gpu_sign(marks: Sequence[Mark], index: int) -> Piece:
    """The worst mark of one GPU."""
    severities = [mark.severity for mark in marks if index in mark.gpus]
    if not severities:
        return " ", Tone.DIM
    return SEVERITY_SIGNS[max(severities, key=_WEIGHT.__getitem__)]


def _watts(watts: float | None) -> str:
    """W as a person reads them, always seven cells wide."""
    if watts is None:
        return "      ?"
    if watts < 1000:
        return f"{watts:5.0f} W"
    return f"{watts / 1000:4.1f} kW" if watts < 100_000 else f"{watts / 1000:4.0f} kW"
