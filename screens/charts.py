"""A chart of one series in a few lines: a column for each span of time, a gap where nothing was seen."""

from __future__ import annotations

from collections.abc import Sequence

from screens.lines import Line, Piece
from screens.plain import fit
from screens.spark import STEPS
from screens.times import clock_time
from screens.tones import Tone

AXIS_CELLS = 9
_BLANK_CELL = "·"
"""Where nothing was seen, on the lowest line only: it must not be read as 0."""


def chart(
    title: str,
    values: Sequence[float | None],
    width: int,
    height: int,
    *,
    top: float | None,
    began: float,
    ended: float,
) -> list[Line]:
    """`height` lines of columns under a title, over an axis of time. `values` are the oldest first, one per column.

    `top` is the value at the upper edge; the highest value, rounded up, when None.
    """
    highest = max((value for value in values if value is not None), default=0.0)
    edge = top if top is not None else nice(highest)
    newest = next((value for value in reversed(values) if value is not None), None)
    now = "?" if not values or values[-1] is None else _short(values[-1] or 0.0)
    lines: list[Line] = [((fit("", AXIS_CELLS), Tone.DIM), (f"{title}  ", Tone.HEADING), (now, Tone.STRONG))]
    if newest is None:
        return lines
    for level in range(height - 1, -1, -1):
        label = _short(edge) if level == height - 1 else "0" if level == 0 else ""
        lines.append((_axis(label), *_level(values, edge, level, height)))
    left, right = clock_time(began), clock_time(ended)
    gap = max(1, len(values) - len(left) - len(right))
    lines.append(((fit("", AXIS_CELLS), Tone.DIM), (f"{left}{' ' * gap}{right}", Tone.DIM)))
    return [line for line in lines if line]


def _axis(label: str) -> Piece:
    return f"{label.rjust(AXIS_CELLS - 2)} ┤", Tone.DIM


def _level(values: Sequence[float | None], edge: float, level: int, height: int) -> list[Piece]:
    """One line of the columns, as few pieces as there are changes of tone."""
    cells = [_cell(value, edge, level, height) for value in values]
    pieces: list[Piece] = []
    for text, tone in cells:
        if pieces and pieces[-1][1] is tone:
            pieces[-1] = (pieces[-1][0] + text, tone)
        else:
            pieces.append((text, tone))
    return pieces


def _cell(value: float | None, edge: float, level: int, height: int) -> Piece:
    if value is None:
        return (_BLANK_CELL if level == 0 else " "), Tone.DIM
    filled = min(max(value / edge if edge else 0.0, 0.0), 1.0) * height - level
    if filled >= 1:
        return STEPS[-1], Tone.ACCENT
    if filled <= 0:
        # A value of zero is seen: its column has the thinnest cell on the lowest line.
        return (STEPS[0], Tone.ACCENT) if level == 0 else (" ", Tone.ACCENT)
    return STEPS[min(len(STEPS) - 1, int(filled * len(STEPS)))], Tone.ACCENT


def nice(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 1.0
    while value < power / 10:
        power /= 10
    return next((step * power for step in (0.1, 0.2, 0.5, 1, 2, 5) if value <= step * power), 10 * power)


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:,.1f}k"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
