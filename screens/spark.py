"""Sparklines and bars of one row: a cell for each span of time or each GPU, a blank where nothing was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_rings import GpuColumn
from dstui.telemetry.rings import Rings
from screens.lines import Piece
from screens.tones import Tone

STEPS = "▁▂▃▄▅▆▇█"
CELL_SECONDS = 5.0
"""Of time in one cell of a row's sparkline."""

IDLE_PERCENT, HOT_PERCENT = 10.0, 80.0
"""Below the first a bar is grey; from the second on it is bright (document: GPU use above 80 %)."""


def step(value: float, top: float) -> str:
    """One cell that is as high as `value` is of `top`."""
    return STEPS[min(len(STEPS) - 1, max(0, round(value / top * (len(STEPS) - 1))))]


def sparkline(values: Sequence[float | None], top: float) -> str:
    """One cell for each value from 0 to `top`; a blank where there is none."""
    return "".join(" " if value is None else step(value, top) for value in values)


def heat(value: float | None) -> Piece:
    """One GPU's use in % as one cell; `?` where it is not known."""
    if value is None:
        return "?", Tone.UNKNOWN
    if value < IDLE_PERCENT:
        return step(value, 100.0), Tone.DIM
    return step(value, 100.0), Tone.PASS if value >= HOT_PERCENT else Tone.ACCENT


def history(
    rings: Rings,
    column: int,
    now: float,
    cells: int,
    *,
    seconds: float = CELL_SECONDS,
    choose: Callable[[Sequence[float]], float] = fmean,
) -> list[float | None]:
    """The newest `cells` spans of `seconds` each. They are aligned, so that a chart does not shimmer as time passes."""
    end = (now // seconds + 1) * seconds
    return rings.downsample(column, end - cells * seconds, end, cells, choose)


def gpu_history(fold: HostFold, index: int, column: GpuColumn, now: float, cells: int) -> list[float | None]:
    """One GPU's newest values; all absent when it never spoke."""
    found = fold.rings.gpu_column(index, column)
    return [None] * cells if found is None else history(*found, now, cells)


def mean_history(fold: HostFold, now: float, cells: int) -> list[float | None]:
    """The mean use in % over a host's GPUs."""
    if fold.rings.gpus is None:
        return [None] * cells
    each = [
        gpu_history(fold, gpu, GpuColumn.UTIL, now, cells) for gpu in range(fold.rings.gpus.columns // len(GpuColumn))
    ]
    told = ([value for value in span if value is not None] for span in zip(*each, strict=True))
    return [fmean(span) if span else None for span in told]
