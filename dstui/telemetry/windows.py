"""Values that are there or are not, and what two looks at a counter or a histogram tell of the time between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from math import inf, isfinite
from typing import Generic, TypeVar

from dstui.model import Text

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Why(StrEnum):
    """Why there is no value."""

    NOT_EXPORTED = "not-exported"
    UNREADABLE = "unreadable"
    AMBIGUOUS = "ambiguous"
    IDLE = "idle"
    TOO_NEW = "too-new"
    RESTARTED = "restarted"
    OLD = "old"


_SAID = {
    Why.NOT_EXPORTED: Text("not exported", "未导出"),
    Why.UNREADABLE: Text("not readable", "无法解析"),
    Why.AMBIGUOUS: Text("ambiguous", "有歧义"),
    Why.IDLE: Text("idle", "空闲"),
    Why.TOO_NEW: Text("watched too briefly", "观察时间太短"),
    Why.RESTARTED: Text("counters restarted", "计数器已重置"),
    Why.OLD: Text("too old", "数据已过期"),
}


@dataclass(frozen=True, slots=True)
class Present(Generic[T_co]):
    """A value and the metric name it came from."""

    value: T_co
    name: str


@dataclass(frozen=True, slots=True)
class Absent:
    """No value, which is not 0. `detail` is evidence in English: the names looked for, the text not understood."""

    why: Why
    detail: str = ""

    @property
    def text(self) -> Text:
        return _SAID[self.why]


def increase(older: Present[float] | Absent, newer: Present[float] | Absent) -> Present[float] | Absent:
    """By how much a counter grew. A fall is a restart, never a negative number; one look is no increase."""
    if isinstance(newer, Absent):
        return newer
    if isinstance(older, Absent):
        return Absent(Why.TOO_NEW, f"{newer.name} was not there at the start of the window")
    if older.name != newer.name:
        return Absent(Why.AMBIGUOUS, f"was {older.name}, is {newer.name}")
    grown = newer.value - older.value
    return Absent(Why.RESTARTED, newer.name) if grown < 0 else Present(grown, newer.name)


def increases(
    older: Present[Mapping[str, float]] | Absent, newer: Present[Mapping[str, float]] | Absent
) -> Present[Mapping[str, float]] | Absent:
    """`increase` of a counter that is kept apart by a label.

    A label value that was not there while others were had counted nothing yet: its increase is its value.
    """
    if isinstance(newer, Absent):
        return newer
    if isinstance(older, Absent):
        return Absent(Why.TOO_NEW, f"{newer.name} was not there at the start of the window")
    if older.name != newer.name:
        return Absent(Why.AMBIGUOUS, f"was {older.name}, is {newer.name}")
    grown = {label: value - older.value.get(label, 0.0) for label, value in newer.value.items()}
    if not older.value.keys() <= newer.value.keys() or any(value < 0 for value in grown.values()):
        return Absent(Why.RESTARTED, newer.name)
    return Present(grown, newer.name)


def per(seconds: float, grown: Present[float] | Absent, unit: float = 1.0) -> Present[float] | Absent:
    """An increase within `seconds` as a rate per `unit` seconds (60: per minute)."""
    if isinstance(grown, Absent):
        return grown
    if seconds <= 0:
        return Absent(Why.TOO_NEW, grown.name)
    return Present(grown.value * unit / seconds, grown.name)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative counts by upper bound: `counts` has one more than `bounds`, the last is of all observations."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float | None = None

    @property
    def total(self) -> float:
        return self.counts[-1]


@lru_cache(maxsize=256)
def one_of_each(bounds: tuple[float, ...]) -> tuple[float, ...]:
    """The same bounds as one object: every look of every replica has the same few sets of them."""
    return bounds


def histogram(
    buckets: Mapping[float, float], count: float | None, total: float | None, name: str
) -> Histogram | Absent:
    """A histogram of `le` → cumulative count. `count` stands in for a missing +Inf bucket; without both it is no whole.

    Counts that fall from one bound to the next, or are no numbers, make it unreadable.
    """
    finite = sorted(bound for bound in buckets if isfinite(bound))
    last = buckets.get(inf, count)
    if last is None:
        return Absent(Why.UNREADABLE, f"{name} has neither a +Inf bucket nor a count")
    if not finite:
        return Absent(Why.UNREADABLE, f"{name} has no buckets")
    counts = (*(buckets[bound] for bound in finite), last)
    if not all(isfinite(value) and value >= 0 for value in counts) or any(a > b for a, b in pairwise(counts)):
        return Absent(Why.UNREADABLE, f"{name} has counts that cannot be")
    return Histogram(one_of_each(tuple(finite)), counts, total if total is not None and isfinite(total) else None)


def _at(measured: Histogram, bounds: tuple[float, ...]) -> tuple[float, ...]:
    """The cumulative counts at some of its bounds, and of all."""
    if measured.bounds == bounds:
        return measured.counts
    known = dict(zip(measured.bounds, measured.counts, strict=False))
    return (*(known[bound] for bound in bounds), measured.total)


def _common(measured: Iterable[Histogram]) -> tuple[float, ...]:
    first, *others = {each.bounds for each in measured}
    return tuple(bound for bound in first if all(bound in bounds for bounds in others)) if others else first


def observed(older: Present[Histogram] | Absent, newer: Present[Histogram] | Absent) -> Present[Histogram] | Absent:
    """What was observed between two looks, on the bounds that both have."""
    if isinstance(newer, Absent):
        return newer
    if isinstance(older, Absent):
        return Absent(Why.TOO_NEW, f"{newer.name} was not there at the start of the window")
    if older.name != newer.name:
        return Absent(Why.AMBIGUOUS, f"was {older.name}, is {newer.name}")
    bounds = _common((older.value, newer.value))
    if not bounds:
        return Absent(Why.AMBIGUOUS, f"{newer.name}: other buckets than before")
    before, after = _at(older.value, bounds), _at(newer.value, bounds)
    counts = tuple(b - a for a, b in zip(before, after, strict=True))
    if any(count < 0 for count in counts):
        return Absent(Why.RESTARTED, newer.name)
    return Present(Histogram(bounds, counts), newer.name)


def merged(measured: Sequence[Present[Histogram]]) -> Present[Histogram] | Absent:
    """Histograms added up on the bounds that all have, so that quantiles are of all observations together."""
    if not measured:
        return Absent(Why.NOT_EXPORTED)
    bounds = _common(each.value for each in measured)
    if not bounds:
        return Absent(Why.AMBIGUOUS, "no bucket bound that all have: " + ", ".join(sorted({m.name for m in measured})))
    columns = zip(*(_at(each.value, bounds) for each in measured), strict=True)
    names = sorted({each.name for each in measured})
    return Present(Histogram(bounds, tuple(sum(column) for column in columns)), ", ".join(names))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantile in the histogram's unit. `at_least`: it lies beyond the last bound, which is all that is known."""

    value: float
    at_least: bool
    observations: float


def quantile(q: float, window: Present[Histogram] | Absent) -> Present[Estimate] | Absent:
    """The `q` quantile (0 < q <= 1), as Prometheus' histogram_quantile estimates it.

    Linear between the bounds of the bucket it falls in; the first bucket begins at 0, or is its own bound when that
    is not above 0. In the +Inf bucket the answer is the last bound, marked `at_least`. Without observations it is
    Absent(idle), where Prometheus says NaN. Bucket counts that fall through rounding are levelled, as there.
    """
    if isinstance(window, Absent):
        return window
    measured = window.value
    levelled: list[float] = []
    for count in measured.counts:
        levelled.append(max(count, levelled[-1]) if levelled else count)
    total = levelled[-1]
    if total <= 0:
        return Absent(Why.IDLE, window.name)
    rank = q * total
    place = next((at for at, count in enumerate(levelled) if count >= rank), len(levelled) - 1)
    if place == len(measured.bounds):
        return Present(Estimate(measured.bounds[-1], True, total), window.name)
    end = measured.bounds[place]
    if place == 0 and end <= 0:
        return Present(Estimate(end, False, total), window.name)
    start, before = (measured.bounds[place - 1], levelled[place - 1]) if place else (0.0, 0.0)
    value = start + (end - start) * (rank - before) / (levelled[place] - before)
    return Present(Estimate(value, False, total), window.name)
