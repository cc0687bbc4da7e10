"""The last minutes of some values, in memory that is taken once and never grows. What was not there stays a gap.

A host has dozens of series with one clock, so `Rings` keeps the times once: 600 moments of 8 GPUs × 4 values are
about 80 kB. Values have single precision (seven digits), which is finer than any chart.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

ABSENT = math.nan


class Rings:
    """`columns` series over one clock, the last `capacity` moments of each. Times are seconds and never go back."""

    __slots__ = ("_capacity", "_length", "_next", "_times", "_values")

    def __init__(self, columns: int, capacity: int) -> None:
        if columns < 1 or capacity < 1:
            raise ValueError("a ring has at least one column and one place")
        self._capacity = capacity
        self._next = 0
        self._length = 0
        self._times = array("d", bytes(8 * capacity))
        self._values = tuple(array("f", bytes(4 * capacity)) for _ in range(columns))

    def __len__(self) -> int:
        return self._length

    @property
    def columns(self) -> int:
        return len(self._values)

    def append(self, at: float, values: Sequence[float | None]) -> None:
        """One moment, one value for each column, None for one that is absent.

        A time before the newest one counts as the newest: clocks are set back, what came later still came later.
        """
        if len(values) != len(self._values):
            raise ValueError(f"{len(self._values)} columns, {len(values)} values")
        place, newest = self._next, self.newest
        self._times[place] = at if newest is None or at > newest else newest
        for ring, value in zip(self._values, values, strict=True):
            ring[place] = _single(value)
        self._next = (place + 1) % self._capacity
        self._length = min(self._length + 1, self._capacity)

    @property
    def newest(self) -> float | None:
        """When the last moment was; None before the first one."""
        return self._times[self._next - 1] if self._length else None

    @property
    def oldest(self) -> float | None:
        """When the first moment that is still here was."""
        return self._times[self._place(0)] if self._length else None

    def latest(self, column: int) -> float | None:
        """The value of the last moment; None when it was absent then, whatever was before."""
        return _value(self._values[column][self._next - 1]) if self._length else None

    def points(self, column: int, since: float = -math.inf) -> Iterator[tuple[float, float | None]]:
        """(time, value) from `since` on, oldest first."""
        ring = self._values[column]
        for number in range(self._first(since), self._length):
            place = self._place(number)
            yield self._times[place], _value(ring[place])

    def downsample(
        self, column: int, start: float, end: float, cells: int, choose: Callable[[Sequence[float]], float] = max
    ) -> list[float | None]:
        """`cells` equal spans of start..end (end excluded), each the `choose` of its values, None where it has none.

        `max` keeps the spikes that an operator looks for; use `min` where low is bad, `statistics.fmean` for trends.
        Spans depend on `start` and `end` alone: align both to the span, and a chart does not shimmer as time passes.
        """
        if cells < 1 or not end > start:
            return [None] * max(0, cells)
        spans: list[list[float]] = [[] for _ in range(cells)]
        scale = cells / (end - start)
        for at, value in self.points(column, start):
            if at >= end:
                break
            if value is not None:
                spans[min(cells - 1, int((at - start) * scale))].append(value)
        return [choose(span) if span else None for span in spans]

    def _place(self, number: int) -> int:
        return (self._next - self._length + number) % self._capacity

    def _first(self, since: float) -> int:
        return bisect_left(range(self._length), since, key=lambda number: self._times[self._place(number)])


class Ring:
    """One series: `Rings` with one column."""

    __slots__ = ("_rings",)

    def __init__(self, capacity: int) -> None:
        self._rings = Rings(1, capacity)

    def __len__(self) -> int:
        return len(self._rings)

    def append(self, at: float, value: float | None) -> None:
        """As in Rings."""
        self._rings.append(at, (value,))

    @property
    def newest(self) -> float | None:
        """When the last moment was; None before the first one."""
        return self._rings.newest

    @property
    def latest(self) -> float | None:
        """The value of the last moment; None when it was absent then."""
        return self._rings.latest(0)

    def points(self, since: float = -math.inf) -> Iterator[tuple[float, float | None]]:
        """(time, value) from `since` on, oldest first."""
        return self._rings.points(0, since)

    def downsample(
        self, start: float, end: float, cells: int, choose: Callable[[Sequence[float]], float] = max
    ) -> list[float | None]:
        """As in Rings."""
        return self._rings.downsample(0, start, end, cells, choose)


def _single(value: float | None) -> float:
    """What a ring can hold; beyond single precision's range a value is as good as absent."""
    if value is None or not abs(value) < 3.4e38:
        return ABSENT
    return value


def _value(kept: float) -> float | None:
    return None if math.isnan(kept) else kept
