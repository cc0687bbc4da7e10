"""The vLLM panel: a row for each replica, the worst first; what is absent says so; charts where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len

from dstui.model import Lang, Text
from dstui.telemetry import live_trail, live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_host_changes import gpu_names
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_rings import HISTORY_SECONDS
from dstui.telemetry.live_status import Status
from dstui.telemetry.live_trail import Trail
from dstui.telemetry.live_vllm import VllmColumn
from dstui.telemetry.vllm_alarms import Alarm
from dstui.telemetry.vllm_panel import Totals, VllmPanel
from dstui.telemetry.vllm_row import ReplicaRow
from dstui.telemetry.windows import Absent
from screens import panel_words as words
from screens.charts import AXIS_CELLS, PART_ROWS, chart, series_of
from screens.fitting import fitting
from screens.lines import BLANK, Line, Piece, cropped, width_of
from screens.monitor_ray import how_old
from screens.plain import fit, one_line, wrap
from screens.tones import Tone
from screens.vllm_columns import COLUMNS, Value, not_exported, right, told

NAME_CELLS = (10, 22)
HEAD, TOTAL, GAP = "head", "total", "gap"

WORDS_FROM, WORDS_CELLS = 100, 40
"""From which width on words stand behind the numbers, and the room that is kept for them."""

MOST_HINTS = 6
"""Trails followed in one look; each costs a fraction of a millisecond."""

MOST_NAMES = 4

CHART_ROWS, TALL_CHART_ROWS, TALL_FROM = 4, 7, 160
"""Lines of columns in a chart; more on a large terminal, which is known by its width."""

CHART_SECONDS = 10.0
TWO_CHARTS_FROM = 100
_MOST_CELLS = int(HISTORY_SECONDS / CHART_SECONDS)
_CHARTS: tuple[tuple[Text, VllmColumn, float, float | None], ...] = (
    (words.CHART_TOKENS, VllmColumn.GENERATION, 1.0, None),
    (words.CHART_TTFT, VllmColumn.TTFT_P95, 1000.0, None),
    (words.CHART_RUNNING, VllmColumn.RUNNING, 1.0, None),
    (words.CHART_WAITING, VllmColumn.WAITING, 1.0, None),
    (words.CHART_KV, VllmColumn.KV, 100.0, 100.0),
    (words.CHART_ITL, VllmColumn.ITL_P95, 1000.0, None),
)
"""Title, series, factor from its unit to the one that is shown, upper edge."""


class VllmPanelRows:
    """Keys are `head`, `replica <name>`, `words <n> <name>`, `total`, `note <n>` and `chart <line>`."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = ""
        self._live: Live | None = None
        self._now = 0.0
        self._lang = Lang.EN
        self._zoomed = False
        self._panel: VllmPanel | None = None
        self._rows: dict[str, ReplicaRow] = {}
        self._words: dict[str, list[Piece]] = {}
        self._lines: dict[str, Line] = {}
        self._charts: tuple[int, list[Line]] = (0, [])
        self._name_cells = NAME_CELLS[0]
        self._width = 76
        """Of the row that was made last: how words are laid out below a row depends on it."""

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look. Without a `height` words stand below each replica, and charts below all."""
        panel = self._panel = live_views.vllm_view(live, now)
        self._live, self._now, self._lang, self._zoomed = live, now, lang, height is None
        alarms: dict[str, list[Alarm]] = {}
        for alarm in panel.raised:
            alarms.setdefault(alarm.replica or "", []).append(alarm)
        ordered = sorted(panel.rows, key=lambda row: _trouble(row, len(alarms.get(row.replica, ()))))
        self._rows = {f"replica {row.replica}": row for row in ordered}
        longest = max((cell_len(one_line(row.replica)) for row in ordered), default=0)
        self._name_cells = min(max(longest, NAME_CELLS[0]), NAME_CELLS[1])
        hints = self._hints(live, panel, ordered)
        self._words = {
            row.replica: list(_words(row, alarms.get(row.replica, []), hints.get(row.replica), lang)) for row in ordered
        }
        self._lines = {}
        self._charts = (0, [])
        self.first = next(iter(self._rows), "")
        self.keys = list(self._laid_out(panel, alarms.get("", [])))

    def title(self) -> str:
        panel, lang = self._panel, self._lang
        if panel is None or not panel.rows:
            return f"{words.VLLM[lang]} · {words.NOBODY[lang]}"
        live = sum(row.shown.status is Status.LIVE for row in panel.rows)
        told = words.REPLICAS_LIVE[lang].format(live=live, count=len(panel.rows))
        sign = "" if live == len(panel.rows) else "! "
        return f"{words.VLLM[lang]} · {sign}{told} · {words.TIMES_IN[lang]}"

    def replica(self, key: str) -> str | None:
        """The replica of a row, or of the words below it."""
        if key.startswith("words "):
            return key.split(" ", 2)[2]
        row = self._rows.get(key)
        return row.replica if row is not None else None

    def host(self, key: str) -> str | None:
        """None: a replica's row leads to its trail."""
        return None

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        self._width = width
        sign: Piece = ("› " if at_cursor else "  ", Tone.ACCENT)
        return cropped((sign, *self._body(key, width)), width)

    # Rows

    def _laid_out(self, panel: VllmPanel, shared: list[Alarm]) -> Iterator[str]:
        """The keys in order; lines that need no width are made on the way."""
        if self._rows:
            yield HEAD
        for key, row in self._rows.items():
            yield key
            if self._zoomed:
                indent: Piece = (" " * (self._name_cells + 3), Tone.PLAIN)
                for number, line in enumerate(_packed(self._words[row.replica], self._width - self._name_cells - 5)):
                    below = f"words {number} {row.replica}"
                    self._lines[below] = (indent, *line)
                    yield below
        if len(self._rows) > 1:
            yield TOTAL
        number = 0
        for text, tone in self._notes(panel, shared):
            # Where there is one panel only, notes are read whole.
            for part in wrap(text, self._width - 4) if self._zoomed else (text,):
                self._lines[f"note {number}"] = ((part, tone),)
                yield f"note {number}"
                number += 1
        if self._zoomed and self._live is not None and self._live.vllm.totals.newest is not None:
            yield GAP
            each = _chart_rows(self._width) + PART_ROWS
            rows = -(-len(_CHARTS) // _abreast(self._width)) * each
            yield from (f"chart {line}" for line in range(rows))

    def _body(self, key: str, width: int) -> Iterable[Piece]:
        if (row := self._rows.get(key)) is not None:
            return self._replica(row, width)
        if key in self._lines:
            return self._lines[key]
        if key.startswith("chart "):
            if self._charts[0] != width:
                self._charts = (width, self._drawn(width))
            number = int(key.removeprefix("chart "))
            return self._charts[1][number] if number < len(self._charts[1]) else BLANK
        columns = fitting(COLUMNS, self._room(width))
        if key == HEAD:
            cells = "".join(f" {right(column.head[self._lang], column.cells)}" for column in columns)
            return ((fit(words.REPLICA[self._lang], self._name_cells + 2) + cells, Tone.HEADING),)
        if key == TOTAL and self._panel is not None:
            name: Piece = (fit(f"  {words.TOTAL[self._lang]}", self._name_cells + 2), Tone.STRONG)
            totals = [(f" {text}", tone) for text, tone in (column.all(self._panel.totals) for column in columns)]
            return (name, *totals)
        return BLANK

    def _room(self, width: int) -> int:
        """For the columns."""
        words_there = not self._zoomed and width >= WORDS_FROM
        return width - self._name_cells - 4 - (WORDS_CELLS if words_there else 0)

    def _replica(self, row: ReplicaRow, width: int) -> Iterator[Piece]:
        shown = row.shown
        if shown.status is Status.UNKNOWN:
            yield f"? {fit(one_line(row.replica), self._name_cells)} ", Tone.UNKNOWN
            yield how_old(shown, self._lang).removeprefix("? "), Tone.UNKNOWN
            return
        said = self._words[row.replica]
        grey = shown.status is not Status.LIVE or row.doubt is not None
        sign: Piece = ("  ", Tone.PLAIN)
        if said:
            sign = ("? ", Tone.UNKNOWN) if said[0][1] is Tone.UNKNOWN else ("! ", Tone.WARN)
        yield sign
        yield fit(one_line(row.replica), self._name_cells), Tone.DIM if grey else Tone.PLAIN
        for column in fitting(COLUMNS, self._room(width)):
            text, tone = column.row(row)
            yield f" {text}", Tone.DIM if grey and tone is not Tone.UNKNOWN else tone
        if not self._zoomed:
            for text, tone in said:
                yield f"  {text}", tone

    def _hints(self, live: Live, panel: VllmPanel, ordered: list[ReplicaRow]) -> dict[str, str]:
        """What is wrong under a replica, the worst of it; of the first replicas only."""
        ray = live_views.ray_view(live, self._now)
        found: dict[str, str] = {}
        for row in ordered[:MOST_HINTS]:
            trail = live_trail.follow(live, row.replica, panel, ray, self._now)
            if what := _beneath(trail, self._lang):
                found[row.replica] = f"← {one_line(what)}"
        return found

    # Below the rows

    def _notes(self, panel: VllmPanel, shared: list[Alarm]) -> Iterator[Piece]:
        lang = self._lang
        for alarm in shared:
            yield f"! {one_line(alarm.text[lang])}", Tone.WARN
        unknown = list(dict.fromkeys(one_line(alarm.text[lang]) for alarm in panel.unknown))
        if not panel.rows:
            yield from ((f"? {text}", Tone.UNKNOWN) for text in unknown)
            return
        by_columns: dict[tuple[Text, ...], list[str]] = {}
        for row in panel.rows:
            if row.shown.status is Status.LIVE and row.engines and (absent := not_exported(row)):
                by_columns.setdefault(absent, []).append(row.replica)
        for absent, names in by_columns.items():
            who = words.EVERY_REPLICA[lang] if len(names) == len(panel.rows) else _some(names)
            what = words.listed((head[lang] for head in absent), lang)
            yield f"? {words.NOT_ON_PAGE[lang].format(who=who, what=what)}", Tone.UNKNOWN
        if unknown:
            for text in unknown if self._zoomed else [words.one_after_another(unknown, lang)]:
                yield f"? {words.CANNOT_TELL[lang].format(what=text)}", Tone.UNKNOWN

    def _drawn(self, width: int) -> list[Line]:
        """All charts for a width, one or two abreast."""
        live, panel = self._live, self._panel
        if live is None or panel is None:
            return []
        abreast = _abreast(width)
        room = (width - 2) // abreast - (abreast - 1) * 2
        cells = min(max(room - AXIS_CELLS, 8), _MOST_CELLS)
        drawn: list[list[Line]] = []
        for title, column, factor, top in _CHARTS:
            series = series_of(live.vllm.totals, column, self._now, cells, seconds=CHART_SECONDS, factor=factor)
            now = _now(panel.totals, column, self._lang)
            drawn.append(chart(title[self._lang], now, series, room, _chart_rows(width), top=top))
        lines: list[Line] = []
        for number in range(0, len(drawn), abreast):
            beside = zip(*drawn[number : number + abreast], strict=True)
            lines += [tuple(piece for part in parts for piece in (*part, ("  ", Tone.PLAIN))) for parts in beside]
        return lines


def _abreast(width: int) -> int:
    return 2 if width >= TWO_CHARTS_FROM else 1


def _chart_rows(width: int) -> int:
    return TALL_CHART_ROWS if width >= TALL_FROM else CHART_ROWS


def _trouble(row: ReplicaRow, alarms: int) -> tuple[int, int, str]:
    """Who does not answer before who is in trouble, before the others."""
    order = {Status.UNKNOWN: 0, Status.LOST: 0, Status.LATE: 1, Status.LIVE: 1}
    return order[row.shown.status], -alarms - (row.doubt is not None), row.replica


def _beneath(trail: Trail, lang: Lang) -> str:
    """The worst that stands against node, host or GPU under a replica, `gpu-03:5 hardware thermal slowdown`."""
    for name in trail.hosts:
        if name in trail.beliefs:
            return trail.beliefs[name][lang]
        for mark in trail.marks.get(name, ()):
            if mark.severity is not Severity.INFO and mark.kind not in ("late", "unseen"):
                return f"{gpu_names(name, mark.gpus) if mark.gpus else name} {mark.text[lang]}"
    return ""


def _words(row: ReplicaRow, alarms: list[Alarm], hint: str | None, lang: Lang) -> Iterator[Piece]:
    """What is to be said of a replica beside its numbers, the most important first."""
    if row.shown.status in (Status.LATE, Status.LOST):
        yield how_old(row.shown, lang), Tone.WARN
    if hint is not None:
        yield hint, Tone.WARN
    yield from ((f"! {one_line(alarm.text[lang])}", Tone.WARN) for alarm in alarms)
    if row.doubt is not None:
        yield f"? {one_line(row.doubt[lang])}", Tone.UNKNOWN
    if row.restarted:
        yield f"! {words.RESTARTED[lang]}", Tone.WARN


def _packed(pieces: list[Piece], width: int) -> Iterator[Line]:
    """Pieces put side by side, as many on each line as fit."""
    line: list[Piece] = []
    for text, tone in pieces:
        if line and width_of(tuple(line)) + 2 + cell_len(text) > width:
            yield tuple(line)
            line = []
        line.append((f"  {text}" if line else text, tone))
    if line:
        yield tuple(line)


def _some(names: list[str]) -> str:
    listed = ", ".join(one_line(name) for name in names[:MOST_NAMES])
    return listed if len(names) <= MOST_NAMES else f"{listed} +{len(names) - MOST_NAMES}"


def _now(totals: Totals, column: VllmColumn, lang: Lang) -> Piece:
    """The value of now in a chart's title; why there is none, where there is none."""
    value: Value
    form, factor = "{:,.0f}", 1.0
    if column is VllmColumn.GENERATION:
        value = totals.generation_per_s.value
    elif column is VllmColumn.TTFT_P95:
        value = totals.ttft.quantiles.p95
    elif column is VllmColumn.ITL_P95:
        value = totals.itl.quantiles.p95
    elif column is VllmColumn.KV:
        value, form, factor = totals.kv.value, "{:.0f}", 100.0
    else:
        value = (totals.running if column is VllmColumn.RUNNING else totals.waiting).value
    text, tone = told(value, form, factor)
    if isinstance(value, Absent):
        return f"{text} {value.text[lang]}", tone
    return text, Tone.STRONG
