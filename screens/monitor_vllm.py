"""The vLLM panel: a row for each replica, the worst first; what is absent says so; charts where there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len

from dstui.model import Lang, Text
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_rings import HISTORY_SECONDS
from dstui.telemetry.live_status import Status
from dstui.telemetry.live_vllm import VllmColumn
from dstui.telemetry.vllm import Labelled, Number
from dstui.telemetry.vllm_alarms import Alarm
from dstui.telemetry.vllm_panel import Latency, Total, VllmPanel
from dstui.telemetry.vllm_row import Quantiles, ReplicaRow
from dstui.telemetry.windows import Absent, Estimate, Present
from screens import panel_words as words
from screens.charts import AXIS_CELLS, chart
from screens.lines import BLANK, Line, Piece, cropped
from screens.monitor_ray import how_old
from screens.plain import fit, one_line
from screens.tones import Tone

NAME_CELLS = (10, 22)
CHART_ROWS = 5
CHART_COLUMNS = 90
HEAD, TOTAL = "head", "total"
_CHARTS: tuple[tuple[Text, VllmColumn, float, float | None], ...] = (
    (words.CHART_TOKENS, VllmColumn.GENERATION, 1.0, None),
    (words.CHART_REQUESTS, VllmColumn.RUNNING, 1.0, None),
    (words.CHART_WAITING, VllmColumn.WAITING, 1.0, None),
    (words.CHART_KV, VllmColumn.KV, 100.0, 100.0),
    (words.CHART_TTFT, VllmColumn.TTFT_P95, 1000.0, None),
)
"""Title, series, factor from its unit to the one that is shown, upper edge."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, cells, what a replica and what all of them show. `weight`: the lower, the sooner left
    out where there is no room."""

    head: Text
    cells: int
    weight: int
    of_row: Callable[[ReplicaRow], Piece]
    of_total: Callable[[VllmPanel], Piece]


class VllmPanelRows:
    """Keys are `replica <name>`, `head`, `total`, `chart <n> <line>`, `note <n>`."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = ""
        self._panel: VllmPanel | None = None
        self._rows: dict[str, ReplicaRow] = {}
        self._alarms: dict[str, list[Alarm]] = {}
        self._notes: dict[str, Line] = {}
        self._charts: dict[str, Line] = {}
        self._lang = Lang.EN
        self._name_cells = NAME_CELLS[0]

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look. Without a `height` there are charts of the last minutes below."""
        panel = self._panel = live_views.vllm_view(live, now)
        self._lang = lang
        self._alarms = {}
        for alarm in panel.raised:
            self._alarms.setdefault(alarm.replica or "", []).append(alarm)
        ordered = sorted(panel.rows, key=self._trouble)
        self._rows = {f"replica {row.replica}": row for row in ordered}
        longest = max((len(row.replica) for row in ordered), default=0)
        self._name_cells = min(max(longest, NAME_CELLS[0]), NAME_CELLS[1])
        self._notes = {f"note {number}": line for number, line in enumerate(self._remarks(panel))}
        self._charts = self._drawn(live, now) if height is None else {}
        self.first = next(iter(self._rows), "")
        head = [HEAD] if ordered else []
        total = [TOTAL] if len(ordered) > 1 else []
        self.keys = [*head, *self._rows, *total, *self._notes, *self._charts]

    def title(self) -> str:
        panel, lang = self._panel, self._lang
        if panel is None or not panel.rows:
            return f"{words.VLLM[lang]} · {words.NOBODY[lang]}"
        live = sum(row.shown.status is Status.LIVE for row in panel.rows)
        return f"{words.VLLM[lang]} · {words.REPLICAS_LIVE[lang].format(live=live, count=len(panel.rows))}"

    def replica(self, key: str) -> str | None:
        """The replica of a row."""
        row = self._rows.get(key)
        return row.replica if row is not None else None

    def host(self, key: str) -> str | None:
        """None: a replica's row leads to its trail."""
        return None

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        sign: Piece = ("› " if at_cursor else "  ", Tone.ACCENT)
        if key in self._notes or key in self._charts:
            return cropped((sign, *(self._notes.get(key) or self._charts.get(key) or ())), width)
        panel = self._panel
        if panel is None:
            return ()
        columns = fitting(width - self._name_cells - 6)
        if key == HEAD:
            head = fit(words.REPLICA[self._lang], self._name_cells + 2)
            cells = "".join(f" {_right(column.head[self._lang], column.cells)}" for column in columns)
            return cropped((sign, (head + cells, Tone.HEADING)), width)
        if key == TOTAL:
            name: Piece = (fit(f"  {words.TOTAL[self._lang]}", self._name_cells + 2), Tone.STRONG)
            cells_of = [_cell(column.of_total(panel), column.cells) for column in columns]
            return cropped((sign, name, *cells_of), width)
        row = self._rows.get(key)
        return cropped((sign, *self._replica(row, columns)), width) if row is not None else ()

    def _replica(self, row: ReplicaRow, columns: list[Column]) -> Iterator[Piece]:
        alarms = self._alarms.get(row.replica, [])
        shown = row.shown
        if shown.status is Status.UNKNOWN:
            yield f"? {fit(one_line(row.replica), self._name_cells)} ", Tone.UNKNOWN
            yield how_old(shown, self._lang).removeprefix("? "), Tone.UNKNOWN
            return
        mark = "! " if alarms or shown.status is not Status.LIVE else "  "
        yield mark, Tone.WARN
        grey = shown.status is not Status.LIVE or row.doubt is not None
        yield fit(one_line(row.replica), self._name_cells), Tone.DIM if grey else Tone.PLAIN
        for column in columns:
            text, tone = _cell(column.of_row(row), column.cells)
            yield text, Tone.DIM if grey and tone is not Tone.UNKNOWN else tone
        if shown.status is not Status.LIVE:
            yield f"  {how_old(shown, self._lang)}", Tone.WARN
        for alarm in alarms:
            yield f"  ! {one_line(alarm.text[self._lang])}", Tone.WARN
        if row.doubt is not None:
            yield f"  ? {one_line(row.doubt[self._lang])}", Tone.UNKNOWN
        if row.restarted:
            yield f"  ! {words.RESTARTED[self._lang]}", Tone.WARN

    def _trouble(self, row: ReplicaRow) -> tuple[int, int, str]:
        """Who does not answer before who is in trouble, before the others."""
        order = {Status.UNKNOWN: 0, Status.LOST: 0, Status.LATE: 1, Status.LIVE: 1}
        return order[row.shown.status], -len(self._alarms.get(row.replica, [])), row.replica

    def _remarks(self, panel: VllmPanel) -> Iterator[Line]:
        lang = self._lang
        for alarm in self._alarms.get("", []):
            yield ((f"! {one_line(alarm.text[lang])}", Tone.WARN),)
        unknown = list(dict.fromkeys(one_line(alarm.text[lang]) for alarm in panel.unknown))
        if unknown and panel.rows:
            yield ((f"? {words.CANNOT_TELL[lang].format(what='; '.join(unknown[:4]))}", Tone.UNKNOWN),)

    def _drawn(self, live: Live, now: float) -> dict[str, Line]:
        """The charts, a key for each of their lines."""
        rings = live.vllm.totals
        seconds = HISTORY_SECONDS / CHART_COLUMNS
        ended = (now // seconds + 1) * seconds
        began = ended - HISTORY_SECONDS
        lines: dict[str, Line] = {}
        for number, (title, column, factor, top) in enumerate(_CHARTS):
            values = [
                None if value is None else value * factor
                for value in rings.downsample(column, began, ended, CHART_COLUMNS)
            ]
            lines[f"chart {number} gap"] = BLANK
            drawn = chart(
                title[self._lang], values, CHART_COLUMNS + AXIS_CELLS, CHART_ROWS, top=top, began=began, ended=now
            )
            for place, line in enumerate(drawn):
                lines[f"chart {number} {place}"] = line
        return lines


def _number(value: Number, form: str = "{:,.0f}", factor: float = 1.0) -> Piece:
    if isinstance(value, Absent):
        return "?", Tone.UNKNOWN
    return form.format(value.value * factor), Tone.PLAIN


def _share(value: Number, warn: float | None = None) -> Piece:
    if isinstance(value, Absent):
        return "?", Tone.UNKNOWN
    high = warn is not None and value.value >= warn
    return f"{value.value * 100:.0f}%{' !' if high else ''}", Tone.WARN if high else Tone.PLAIN


def _seconds(value: Present[Estimate] | Absent) -> Piece:
    """Milliseconds; `≥` where the histogram's last bucket holds it."""
    if isinstance(value, Absent):
        return "-", Tone.DIM
    estimate = value.value
    return f"{'≥' if estimate.at_least else ''}{estimate.value * 1000:,.0f}", Tone.PLAIN


def _total(total: Total, form: str = "{:,.0f}", factor: float = 1.0) -> Piece:
    text, tone = _number(total.value, form, factor)
    return (text, tone) if total.whole or tone is Tone.UNKNOWN else (f"≥{text}", Tone.WARN)


def _latency(latency: Latency, pick: Callable[[Quantiles], Present[Estimate] | Absent]) -> Piece:
    return _seconds(pick(latency.quantiles))


KV_WARN = 0.9
"""Share of KV blocks in use from which on vLLM preempts under load (document: below 90 %)."""

COLUMNS: tuple[Column, ...] = (
    Column(words.RUN, 5, 10, lambda r: _number(r.running), lambda p: _total(p.totals.running)),
    Column(words.WAIT, 5, 10, lambda r: _number(r.waiting), lambda p: _total(p.totals.waiting)),
    Column(Text("KV", "KV"), 6, 9, lambda r: _share(r.kv, KV_WARN), lambda p: _share(p.totals.kv.value, KV_WARN)),
    Column(words.GEN, 9, 9, lambda r: _number(r.generation_per_s), lambda p: _total(p.totals.generation_per_s)),
    Column(words.PROMPT, 8, 4, lambda r: _number(r.prompt_per_s), lambda p: _total(p.totals.prompt_per_s)),
    Column(words.PER_S, 6, 6, lambda r: _labelled(r.finished_per_s), lambda p: _labelled(p.totals.finished_per_s)),
    Column(Text("TTFT p50", "TTFT p50"), 8, 6, lambda r: _seconds(r.ttft.p50),
           lambda p: _latency(p.totals.ttft, lambda q: q.p50)),
    Column(Text("p95 ms", "p95 ms"), 7, 8, lambda r: _seconds(r.ttft.p95),
           lambda p: _latency(p.totals.ttft, lambda q: q.p95)),
    Column(Text("p99", "p99"), 7, 5, lambda r: _seconds(r.ttft.p99),
           lambda p: _latency(p.totals.ttft, lambda q: q.p99)),
    Column(Text("ITL p95", "ITL p95"), 7, 7, lambda r: _seconds(r.itl.p95),
           lambda p: _latency(p.totals.itl, lambda q: q.p95)),
    Column(Text("E2E p95", "E2E p95"), 8, 3, lambda r: _seconds(r.e2e.p95),
           lambda p: _latency(p.totals.e2e, lambda q: q.p95)),
    Column(words.QUEUE, 9, 3, lambda r: _seconds(r.queue.p95), lambda p: _latency(p.totals.queue, lambda q: q.p95)),
    Column(words.PREEMPT, 9, 7, lambda r: _number(r.preemptions_per_min, "{:.1f}"),
           lambda p: _total(p.totals.preemptions_per_min, "{:.1f}")),
    Column(words.REJECT, 8, 2, lambda r: _number(r.rejections_per_min, "{:.1f}"),
           lambda p: _total(p.totals.rejections_per_min, "{:.1f}")),
    Column(words.HIT, 8, 2, lambda r: _share(r.prefix_hit_share), lambda p: ("", Tone.PLAIN)),
)  # fmt: skip


def _labelled(value: Labelled) -> Piece:
    """Requests that finished each second, for whatever reason."""
    if isinstance(value, Absent):
        return "?", Tone.UNKNOWN
    return f"{sum(value.value.values()):,.1f}", Tone.PLAIN


def fitting(room: int) -> list[Column]:
    """The columns for which there is room, in order; some room is left for words at the end."""
    wanted = sorted(COLUMNS, key=lambda column: -column.weight)
    left = room - (24 if room > 90 else 0)
    chosen: set[int] = set()
    for column in wanted:
        if column.cells + 1 > left:
            break
        chosen.add(COLUMNS.index(column))
        left -= column.cells + 1
    return [column for number, column in enumerate(COLUMNS) if number in chosen]


def _right(text: str, cells: int) -> str:
    return " " * max(0, cells - cell_len(text)) + text


def _cell(piece: Piece, cells: int) -> Piece:
    text, tone = piece
    return f" {_right(text, cells)}", tone
