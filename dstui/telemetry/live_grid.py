"""The GPU grid: one row per host, what stands out first, hosts that are alike folded into one row."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from dstui.telemetry.host import HostSample
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_marks import KIND_TEXTS, Mark, Norm, mark_text, marks_of, norm_of, rank
from dstui.telemetry.live_status import LIVE_NOW, Shown, Status, shown

FOLD_FROM = 4
"""So many hosts that are alike become one row."""

_NORM_SECONDS = 1.0
_MOST_LIKENESSES = 10_000
"""Reasons of lost hosts are part of them, and hosts can invent those."""


class GridSort(StrEnum):
    """TROUBLE: what stands out first. USE: the least used first. TEMP and MEMORY: the most first."""

    TROUBLE = "trouble"
    NAME = "name"
    USE = "use"
    TEMP = "temp"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class GridRow:
    """One host, or `hosts` that are alike. Without a value to show `sample` and all numbers are None.

    `sample` is set for one host only, `gpus` are those that work. `use` (%) and `temp` (°C) are the lowest and the
    highest GPU's, `mean_use` is over the `telling` ones that say theirs; `memory` is the share in use, 0 to 1, of the
    fullest host; `power` is W in all.
    """

    hosts: tuple[str, ...]
    shown: Shown
    marks: tuple[Mark, ...] = ()
    sample: HostSample | None = None
    gpus: int | None = None
    expected: int | None = None
    telling: int = 0
    mean_use: float | None = None
    use: tuple[float, float] | None = None
    temp: tuple[float, float] | None = None
    memory: float | None = None
    power: float | None = None
    likeness: int = field(default=0, compare=False)
    """The same for hosts that are alike, for the same reasons; only within one cache."""

    @property
    def rank(self) -> int:
        """0 when nothing stands out, up to 3."""
        return rank(self.marks)


@dataclass(frozen=True, slots=True)
class GridView:
    """All rows that pass the filter, and how many hosts there are in each state."""

    rows: tuple[GridRow, ...]
    hosts: int
    by_status: dict[Status, int]
    norm: Norm
    filtered: int
    """Hosts that the filter left out."""


@dataclass(slots=True)
class GridCache:
    """What one grid keeps from one look to the next: rows by host, as long as the host said nothing new."""

    rows: dict[str, tuple[int, Norm, Status, GridRow]] = field(default_factory=dict)
    norm: Norm = field(default_factory=Norm)
    norm_at: float | None = None
    likenesses: dict[object, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    looked: tuple[int, float, list[GridRow]] = (-1, 0.0, [])

    def all_rows(self, folds: Collection[HostFold], version: int, now: float) -> list[GridRow]:
        """The rows of all hosts; the same list for whoever looks at the same `version` of them at the same moment."""
        if self.looked[:2] != (version, now):
            norm = self.norm_now(folds, now)
            self.looked = version, now, [self.row(fold, norm, now) for fold in folds]
        return self.looked[2]

    def take(self, fold: HostFold, now: float) -> None:
        """A host has spoken: its row is made at once, so that a look at a thousand does not have to make them all."""
        if self.norm_at is not None:
            self.row(fold, self.norm, now)

    def norm_now(self, folds: Collection[HostFold], now: float) -> Norm:
        """The fleet's medians, at most a second old."""
        if self.norm_at is None or not 0 <= now - self.norm_at < _NORM_SECONDS:
            self.norm_at = now
            if (fresh := norm_of(folds, now)) != self.norm:
                self.norm = fresh
        return self.norm

    def row(self, fold: HostFold, norm: Norm, now: float) -> GridRow:
        """The row of one host."""
        pulse = fold.pulse
        status = Status.LIVE if pulse.is_live(now) else pulse.status(now)
        kept = self.rows.get(fold.name)
        lasting = status is Status.LIVE or fold.sample is None
        if lasting and kept is not None and kept[0] == fold.version and kept[1] is norm and kept[2] is status:
            return kept[3]
        row = self._built(fold, LIVE_NOW if status is Status.LIVE else shown(pulse, now), norm)
        self.rows[fold.name] = (fold.version, norm, status, row)
        return row

    def _built(self, fold: HostFold, how: Shown, norm: Norm) -> GridRow:
        marks = marks_of(fold, how, norm)
        kinds = tuple(mark.kind for mark in marks) if marks else ()
        why = how.why.en if how.why is not None else None
        sample, totals = fold.sample, fold.totals
        if not how.known or sample is None:
            like = self._number((how.status, why, kinds))
            return GridRow((fold.name,), how, marks, expected=fold.expected_gpus, likeness=like)
        model = sample.gpus[0].name if sample.gpus else None
        low, high, cold, hot = totals.use_low, totals.use_high, totals.temp_low, totals.temp_high
        return GridRow(
            hosts=(fold.name,),
            shown=how,
            marks=marks,
            sample=sample,
            gpus=totals.seen,
            expected=fold.expected_gpus,
            telling=totals.used,
            mean_use=totals.mean_use,
            use=None if low is None or high is None else (low, high),
            temp=None if cold is None or hot is None else (cold[0], hot[0]),
            memory=totals.memory,
            power=totals.power,
            likeness=self._number((how.status, why, kinds, model, totals.seen)),
        )

    def _number(self, likeness: object) -> int:
        """A number of its own for each likeness: quicker to compare than what it stands for."""
        number = self.likenesses.get(likeness)
        if number is None:
            if len(self.likenesses) >= _MOST_LIKENESSES:
                self.likenesses.clear()
                self.rows.clear()
            number = self.likenesses[likeness] = next(self.numbers)
        return number


def build(
    every: list[GridRow],
    norm: Norm,
    sort: GridSort = GridSort.TROUBLE,
    filter: str = "",
    *,
    fold: bool = True,
    only_marked: bool = False,
) -> GridView:
    """The grid. `filter` words must all be in the host's name or in what stands out, in either language."""
    rows = list(every)
    counts: dict[Status, int] = {}
    for row in rows:
        status = row.shown.status
        counts[status] = counts.get(status, 0) + 1
    words = filter.casefold().split()
    if words:
        rows = [row for row in rows if _matches(row, words)]
    if only_marked:
        rows = [row for row in rows if row.marks]
    passed = len(rows)
    if fold:
        rows = _folded(rows)
    if sort is not GridSort.NAME:
        rows.sort(key=_KEYS[sort])
    return GridView(tuple(rows), len(every), counts, norm, len(every) - passed)


def _matches(row: GridRow, words: list[str]) -> bool:
    texts = [mark_text(mark) for mark in row.marks]
    hay = " ".join([*row.hosts, *(text.en for text in texts), *(text.zh for text in texts)]).casefold()
    return all(word in hay for word in words)


def _folded(rows: list[GridRow]) -> list[GridRow]:
    alike: dict[int, list[GridRow]] = {}
    for row in rows:
        group = alike.get(row.likeness)
        if group is None:
            alike[row.likeness] = [row]
        else:
            group.append(row)
    if len(alike) == len(rows):
        return rows
    folded: list[GridRow] = []
    for group in alike.values():
        folded += [_together(group)] if len(group) >= FOLD_FROM else group
    if len(folded) > len(alike):
        order = {row.hosts[0]: number for number, row in enumerate(rows)}
        folded.sort(key=lambda row: order[row.hosts[0]])
    return folded


def _together(group: list[GridRow]) -> GridRow:
    first = group[0]
    ages = [row.shown.age for row in group if row.shown.age is not None]
    how = Shown(first.shown.status, max(ages), first.shown.why) if ages else first.shown
    use, temp = _span([row.use for row in group]), _span([row.temp for row in group])
    telling = sum(row.telling for row in group)
    summed = sum(row.mean_use * row.telling for row in group if row.mean_use is not None)
    memory = [row.memory for row in group if row.memory is not None]
    power = [row.power for row in group if row.power is not None]
    seen = [row.gpus for row in group if row.gpus is not None]
    declared = [row.expected for row in group if row.expected is not None]
    return GridRow(
        hosts=tuple(row.hosts[0] for row in group),
        shown=how,
        marks=first.marks and tuple(_common(group, number) for number in range(len(first.marks))),
        gpus=sum(seen) if len(seen) == len(group) else None,
        expected=sum(declared) if len(declared) == len(group) else None,
        telling=telling,
        mean_use=summed / telling if telling else None,
        use=use,
        temp=temp,
        memory=max(memory, default=None),
        power=sum(power) if len(power) == len(group) else None,
    )


def _common(group: list[GridRow], number: int) -> Mark:
    """A mark that all of a group have: without GPU indexes, and without numbers that are of one host only."""
    first = group[0].marks[number]
    same = all(row.marks[number].text == first.text for row in group)
    return Mark(first.kind, first.severity, first.text if same else KIND_TEXTS.get(first.kind, first.text))


def _span(spans: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [span for span in spans if span is not None]
    return (min(span[0] for span in known), max(span[1] for span in known)) if known else None


def _by_trouble(row: GridRow) -> tuple[int, int]:
    return -row.rank, -sum(mark.severity is not Severity.INFO for mark in row.marks)


_NOT_KNOWN = float("inf")
_KEYS = {
    GridSort.TROUBLE: _by_trouble,
    GridSort.USE: lambda row: (_NOT_KNOWN if row.use is None else row.use[0], 0),
    GridSort.TEMP: lambda row: (_NOT_KNOWN if row.temp is None else -row.temp[1], 0),
    GridSort.MEMORY: lambda row: (_NOT_KNOWN if row.memory is None else -row.memory, 0),
}
