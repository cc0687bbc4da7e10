"""A chart of one series in a few lines: a column for each span of time, a gap where nothing was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from dstui.telemetry.rings import Rings
from screens.lines import Line, Piece, cropped
from screens.plain import shorten
from screens.spark import STEPS
from screens.times import clock_time
from screens.tones import Tone

AXIS_CELLS = 9
"""The numbers at the left edge and the line beside them."""

PART_ROWS = 2
"""Lines of a chart that are not columns: its title and the axis of time."""

_UNSEEN = "·"
"""On the lowest line where nothing was seen: a blank would read as 0."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each column, the oldest first, None where nothing was seen; the columns span began..ended."""

    values: tuple[float | None, ...]
    began: float
    ended: float


def series_of(
    rings: Rings,
    column: int,
    now: float,
    cells: int,
    *,
    seconds: float,
    factor: float = 1.0,
    choose: Callable[[Sequence[float]], float] = max,
) -> Series:
    """The newest `cells` columns of `seconds` each, times `factor`; `max` keeps the spikes.

    The last column begins when its first value comes, not when its time begins: the edge does not flicker.
    """
    newest = rings.newest
    last = newest if newest is not None and 0 <= now - newest < seconds else now
    ended = (last // seconds + 1) * seconds
    began = ended - cells * seconds
    found = rings.downsample(column, began, ended, cells, choose)
    return Series(tuple(value if value is None else value * factor for value in found), began, min(ended, now))


def chart(title: str, now: Piece, series: Series, width: int, height: int, *, top: float | None = None) -> list[Line]:
    """`height` lines of columns between a title with the value of now and an axis of time, each `width` cells wide.

    `top` is the value at the upper edge; when None, the next round number above the highest value.
    """
    values = series.values[-max(0, width - AXIS_CELLS) :]
    highest = max((value for value in values if value is not None), default=0.0)
    edge = top if top is not None else nice(highest)
    room = max(8, width - AXIS_CELLS - cell_len(now[0]) - 2)
    head: Line = ((" " * AXIS_CELLS, Tone.DIM), (shorten(title, room) + "  ", Tone.HEADING), now)
    lines = [head]
    for level in range(height - 1, -1, -1):
        label = short(edge) if level == height - 1 else "0" if level == 0 else ""
        lines.append(((f"{label:>{AXIS_CELLS - 2}} ", Tone.DIM), ("│", Tone.DIM), *_level(values, edge, level, height)))
    span = series.ended - (series.ended - series.began) * len(values) / max(1, len(series.values))
    left, right = clock_time(span), clock_time(series.ended)
    gap = " " * max(1, len(values) - len(left) - len(right))
    lines.append(((" " * AXIS_CELLS, Tone.DIM), (f"{left}{gap}{right}", Tone.DIM)))
    return [cropped(line, width) for line in lines]


def _level(values: Sequence[float | None], edge: float, level: int, height: int) -> list[Piece]:
    """One line of the columns, as few pieces as there are changes of tone."""
    pieces: list[Piece] = []
    for value in values:
        text, tone = _cell(value, edge, level, height)
        if pieces and pieces[-1][1] is tone:
            pieces[-1] = (pieces[-1][0] + text, tone)
        else:
            pieces.append((text, tone))
    return pieces


def _cell(value: float | None, edge: float, level: int, height: int) -> Piece:
    if value is None:
        return (_UNSEEN if level == 0 else " "), Tone.DIM
    filled = min(max(value / edge if edge else 0.0, 0.0), 1.0) * height - level
    eighths = min(len(STEPS), round(filled * len(STEPS)))
    if eighths <= 0:
        # A zero was seen, so its column has the thinnest cell on the lowest line.
        return (STEPS[0] if level == 0 else " "), Tone.ACCENT
    return STEPS[eighths - 1], Tone.ACCENT


def nice(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    return next(edge for edge in (power / 5, power / 2, power) if value <= edge)


def short(value: float) -> str:
    """A number in at most seven cells: `0.25`, `8.5`, `120`, `9,970`, `120k`, `1.5M`."""
    if value >= 1e12:
        return ">999G"
    if 0 < value < 0.001:
        return "<0.001"
    for unit, size, since in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if value >= since:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
