"""Pictures of a ladder: columns over users with the knee marked, and the seconds of a window. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.cells import cell_len

from dstui.load.window import Point
from dstui.model import Lang, Text
from screens import ladder_words as words
from screens.charts import nice, short
from screens.ladder_rows import RUNNING, LadderView, LevelRow, Timeline
from screens.lines import Line, Piece, cropped
from screens.plain import fit, shorten
from screens.spark import STEPS
from screens.times import clock_time
from screens.tones import Tone

PART_ROWS = 3
"""Lines of a chart over users that are not columns: its title, the users, the knee."""

MOST_ROWS, LEAST_ROWS = 12, 2
WIDEST_BAR = 7
BETWEEN = 2
UNSEEN = "·"
SHADE = "░"
FAINT = 2
"""Eighths of a cell that give way to what is shaded above them."""

LABEL_CELLS, VALUE_CELLS = 11, 11
TALLEST = 6
OPEN_SECONDS = 3.0
"""A second that is younger may still be told of: it is no gap yet."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One column: solid up to `value`, shaded from there to `upper`. `open`: it still grows."""

    label: str
    value: float | None
    upper: float | None = None
    open: bool = False
    knee: bool = False


def over_users(view: LadderView, lang: Lang, width: int, height: int) -> list[Line]:
    """TTFT, tokens/s and GPU use over the levels, side by side in `height` lines; nothing before the first answer."""
    rows = [view.rows[place] for place in view.levels]
    if not any(row.ttft_p50 is not None or row.tokens_per_second for row in rows):
        return []
    columns = min(max(height - PART_ROWS, LEAST_ROWS), MOST_ROWS)
    each = (width - 2 * BETWEEN) // 3
    charts = (
        (words.TTFT_CHART, _bars(view, lambda row: _scaled(row.ttft_p50), lambda row: _scaled(row.ttft_p95)), None),
        (words.TOKENS_CHART, _bars(view, lambda row: row.tokens_per_second), None),
        (words.GPU_CHART, _bars(view, lambda row: row.gpu_use.value), 100.0),
    )
    drawn = [bars(title[lang], found, lang, each, columns, top=top) for title, found, top in charts]
    gap: Piece = (" " * BETWEEN, Tone.PLAIN)
    beside = zip(*drawn, strict=True)
    return [tuple(piece for part in parts for piece in (*part, gap))[:-1] for parts in beside]


def _scaled(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _bars(
    view: LadderView,
    value: Callable[[LevelRow], float | None],
    upper: Callable[[LevelRow], float | None] = lambda row: None,
) -> list[Bar]:
    found = []
    for place in view.levels:
        row = view.rows[place]
        running = row.state in RUNNING
        label = f"{row.stage.users}" if row.stage.rate is None else f"{row.stage.rate:g}rps"
        found.append(Bar(label, value(row), upper(row), running, place == view.knee))
    return found


def bars(title: str, found: Sequence[Bar], lang: Lang, width: int, height: int, *, top: float | None) -> list[Line]:
    """`height` lines of columns between the title and two lines of labels, each `width` cells wide.

    `top` is the value at the upper edge; when None, the next round number above the highest value.
    """
    highest = max((each for bar in found for each in (bar.value, bar.upper) if each is not None), default=0.0)
    edge = top if top is not None else nice(highest)
    axis = len(short(edge)) + 1
    room = width - axis - 1
    cells = max(1, min(room // max(1, len(found)), WIDEST_BAR + 2))
    wide = max(1, cells - (2 if cells > 5 else 1))
    shown = found[-max(1, room // cells) :]
    indent = max(0, min(axis + 1, width - cell_len(title)))
    lines: list[Line] = [((" " * indent, Tone.DIM), (shorten(title, width), Tone.HEADING))]
    for level in range(height - 1, -1, -1):
        label = short(edge) if level == height - 1 else "0" if level == 0 else ""
        pieces: list[Piece] = [(f"{label:>{axis - 1}} ", Tone.DIM), ("│", Tone.DIM)]
        for bar in shown:
            text, tone = _cell(bar, edge, level, height)
            pieces += [(text * wide, tone), (" " * (cells - wide), Tone.PLAIN)]
        lines.append(tuple(pieces))
    margin: Piece = (" " * (axis + 1), Tone.PLAIN)
    lines.append((margin, *_labels(shown, cells, room)))
    lines.append((margin, *_knee(shown, cells, wide, room, lang)))
    return [cropped(each, width) for each in lines]


def _cell(bar: Bar, edge: float, level: int, height: int) -> Piece:
    if bar.value is None:
        return (UNSEEN if level == 0 else " "), Tone.DIM
    tone = Tone.RUNNING if bar.open else Tone.ACCENT if not bar.knee else Tone.WARN
    filled = min(max(bar.value / edge, 0.0), 1.0) * height - level
    eighths = min(len(STEPS), round(filled * len(STEPS)))
    reaches = bar.upper is not None and min(bar.upper / edge, 1.0) * height - level >= 0.5
    if eighths <= FAINT and reaches and level:
        return SHADE, tone
    if eighths <= 0:
        return (STEPS[0], tone) if level == 0 else (" ", Tone.PLAIN)
    return STEPS[eighths - 1], tone


def _labels(shown: Sequence[Bar], cells: int, room: int) -> list[Piece]:
    """The users under their columns; where not all have room, the knee's and the last one do. `…`: it still grows."""
    told = [bar.label + ("…" if bar.open else "") for bar in shown]
    order = sorted(range(len(shown)), key=lambda n: (not shown[n].knee, n != len(shown) - 1, n))
    placed: dict[int, int] = {}
    for number in order:
        start = min(number * cells, max(0, room - len(told[number])))
        ends = start + len(told[number])
        if all(ends < at or start > at + len(told[other]) for other, at in placed.items()):
            placed[number] = start
    pieces: list[Piece] = []
    done = 0
    for number, start in sorted(placed.items()):
        pieces += [(" " * (start - done), Tone.PLAIN), (told[number], Tone.STRONG if shown[number].knee else Tone.DIM)]
        done = start + len(told[number])
    return pieces


def _knee(shown: Sequence[Bar], cells: int, wide: int, room: int, lang: Lang) -> list[Piece]:
    place = next((number for number, bar in enumerate(shown) if bar.knee), None)
    if place is None:
        return []
    at, word = place * cells + (wide - 1) // 2, words.KNEE_MARK[lang]
    if at + 2 + cell_len(word) <= room:
        return [(" " * at, Tone.PLAIN), (f"^ {word}", Tone.WARN)]
    before = max(0, at - cell_len(word) - 1)
    return [(" " * before, Tone.PLAIN), (shorten(f"{word} ^", room - before), Tone.WARN)]


@dataclass(frozen=True, slots=True)
class _Series:
    title: Text
    of: Callable[[Point], float | None]
    top: float | None
    form: str
    choose: Callable[[Sequence[float]], float]


_SERIES: tuple[_Series, ...] = (
    _Series(words.GPU_USE, lambda point: point.gpu_use, 100.0, "{:.0f}%", fmean),
    _Series(words.RUNNING, lambda point: point.running, None, "{:,.0f}", fmean),
    _Series(words.WAITING_REQUESTS, lambda point: point.waiting, None, "{:,.0f}", max),
    _Series(words.KV, lambda point: None if point.kv is None else point.kv * 100, 100.0, "{:.0f}%", max),
    _Series(words.TOKENS_CHART, lambda point: point.tokens_per_second, None, "{:,.0f}", fmean),
)


def over_time(timeline: Timeline, now: float | None, lang: Lang, width: int, height: int) -> list[Line]:
    """The seconds of a window, one series under the other over the same axis of time; nothing without seconds.

    `now` while the window runs: from there on nothing is known yet, and what is left of there is a gap.
    """
    if not timeline.points or timeline.ended <= timeline.began:
        return []
    room = width - LABEL_CELLS - VALUE_CELLS - 1
    cells = max(1, min(room, round(timeline.ended - timeline.began)))
    each = min(max((height - 1) // len(_SERIES), 1), TALLEST)
    spread_over = _wide(cells, room)
    spans = _spans(timeline, cells)
    until = min(timeline.ended, now - OPEN_SECONDS) if now is not None else timeline.ended
    past = int((until - timeline.began) / (timeline.ended - timeline.began) * cells)
    lines: list[Line] = []
    for series in _SERIES:
        values = [_chosen(series, span) for span in spans]
        lines += _series_lines(series, values, past, each, spread_over, lang)
    left, right = clock_time(timeline.began), clock_time(timeline.ended)
    gap = " " * max(1, cells * spread_over - len(left) - len(right))
    lines.append(((" " * (LABEL_CELLS + VALUE_CELLS + 1), Tone.DIM), (f"{left}{gap}{right}", Tone.DIM)))
    return [cropped(each_line, width) for each_line in lines]


def _wide(cells: int, room: int) -> int:
    """How many cells a short window's second gets, so that it fills the pane."""
    return max(1, min(room // cells, 4))


def _spans(timeline: Timeline, cells: int) -> list[list[Point]]:
    """The points of each cell. Cells stand still while the window fills, so that nothing shimmers."""
    spans: list[list[Point]] = [[] for _ in range(cells)]
    whole = timeline.ended - timeline.began
    for point in timeline.points:
        place = int((point.at - timeline.began) / whole * cells)
        if 0 <= place < cells:
            spans[place].append(point)
    return spans


def _chosen(series: _Series, span: Sequence[Point]) -> float | None:
    told = [value for value in map(series.of, span) if value is not None]
    return series.choose(told) if told else None


def _series_lines(
    series: _Series, values: Sequence[float | None], past: int, height: int, wide: int, lang: Lang
) -> list[Line]:
    told = [value for value in values if value is not None]
    edge = series.top if series.top is not None else nice(max(told, default=0.0))
    newest = next((value for value in reversed(values) if value is not None), None)
    lines: list[Line] = []
    for level in range(height - 1, -1, -1):
        first = level == height - 1
        label = series.title[lang] if first else ""
        value: Piece = ("", Tone.PLAIN)
        if first:
            value = ("?", Tone.UNKNOWN) if newest is None else (series.form.format(newest), Tone.STRONG)
        elif height > 1 and level == height - 2 and told:
            value = (words.TOP_IS[lang].format(top=short(edge)), Tone.DIM)
        cells = "".join(
            _timeline_cell(each, edge, level, height, place < past) * wide for place, each in enumerate(values)
        )
        lines.append(
            (
                (fit(label, LABEL_CELLS), Tone.HEADING),
                (fit(value[0], VALUE_CELLS), value[1]),
                ("│", Tone.DIM),
                (cells, Tone.ACCENT),
            )
        )
    return lines


def _timeline_cell(value: float | None, edge: float, level: int, height: int, past: bool) -> str:
    if value is None:
        return UNSEEN if past and level == 0 else " "
    eighths = min(len(STEPS), round((min(max(value / edge, 0.0), 1.0) * height - level) * len(STEPS)))
    if eighths <= 0:
        return STEPS[0] if level == 0 else " "
    if level == height - 1:
        # A full column leaves a thin line free, or it would run into the series above it.
        eighths = min(eighths, len(STEPS) - 1)
    return STEPS[eighths - 1]
