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

OPEN_CELLS = 3
"""The newest cells, to which a sample may still be added: one that is later than that is shown as lost or unknown."""

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


class MeanUse:
    """The mean use in % over hosts' GPUs, `cells` spans each, kept from one look to the next.

    A span that is over does not change any more, so only the newest are looked up again: a hundred rows twice a second
    cost a tenth of what they would.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._kept: dict[str, tuple[Rings, int, list[float | None]]] = {}

    def of(self, fold: HostFold, now: float) -> list[float | None]:
        """The newest spans of one host; all absent when none of its GPUs ever spoke."""
        rings = fold.rings.gpus
        if rings is None:
            return [None] * self.cells
        end = int(now // CELL_SECONDS) + 1
        kept = self._kept.get(fold.name)
        values: list[float | None] = []
        fresh = self.cells
        if kept is not None and kept[0] is rings and 0 <= end - kept[1] <= self.cells - OPEN_CELLS:
            values = kept[2][end - kept[1] : self.cells - OPEN_CELLS]
            fresh -= len(values)
        values = values + _mean_use(rings, end, fresh)
        self._kept[fold.name] = rings, end, values
        return values


def _mean_use(rings: Rings, end: int, cells: int) -> list[float | None]:
    """`cells` spans before the span number `end`, each the mean over the GPUs that told."""
    ends = end * CELL_SECONDS
    begins = ends - cells * CELL_SECONDS
    columns = range(GpuColumn.UTIL, rings.columns, len(GpuColumn))
    each = [rings.downsample(column, begins, ends, cells, fmean) for column in columns]
    told = ([value for value in span if value is not None] for span in zip(*each, strict=True))
    return [fmean(span) if span else None for span in told]
