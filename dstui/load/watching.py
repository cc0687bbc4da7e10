"""Folds the monitor's records into what a ladder's window is judged by: hosts, GPUs, links, vLLM's replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from dstui.load.host_seen import HostSeen, seen_at
from dstui.load.window import Point, ReplicaWindow, Window, quantile_of
from dstui.model import UsageError
from dstui.telemetry.aliases import Thing
from dstui.telemetry.host import parse
from dstui.telemetry.live_status import loss_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import EngineSample, VllmSample
from dstui.telemetry.vllm_records import sample_of
from dstui.telemetry.watched import HOST, VLLM, Watched
from dstui.telemetry.windows import Absent, Estimate, Present, increase, merged, observed, quantile

REACHED = 0.95
"""Of max_num_seqs, from which a replica counts as at its limit (CATALOGUE 056, reach_ratio)."""


@dataclass(slots=True)
class _ReplicaSeen:
    looks: list[tuple[float, VllmSample]] = field(default_factory=list)
    why: str = ""


class WindowFold:
    """`begin` forgets; `feed` it records; `window` looks at those between two moments (seconds since the epoch).

    Of a sample only its numbers are kept: a thousand hosts with eight GPUs each are some 55 MiB in two minutes.
    """

    def __init__(self, watched: Watched, *, why: str = "") -> None:
        self._watched = watched
        self._hosts: dict[str, HostSeen] = {}
        self._replicas: dict[str, _ReplicaSeen] = {}
        self._seconds: dict[int, list[float]] = {}
        self._why = why

    def begin(self) -> None:
        """A new stage: what was seen is forgotten but why a source was lost."""
        self._hosts = {name: HostSeen(why=seen.why) for name, seen in self._hosts.items()}
        self._replicas = {name: _ReplicaSeen(why=seen.why) for name, seen in self._replicas.items()}
        self._seconds = {}

    def feed(self, record: Record) -> None:
        """A sample that cannot be read counts as one that did not come."""
        kind, _, name = record.source.partition(":")
        if kind == HOST:
            self._feed_host(self._hosts.setdefault(name, HostSeen()), record)
        elif kind == VLLM:
            self._feed_replica(self._replicas.setdefault(name, _ReplicaSeen()), record)

    def _feed_host(self, seen: HostSeen, record: Record) -> None:
        if record.kind is RecordKind.LOST:
            seen.why = loss_of(record.at, record.data).why.en
        elif record.kind is RecordKind.SAMPLE:
            try:
                sample = parse(record.data)
            except ValueError as error:
                seen.why = f"a sample that cannot be read: {error}"
                return
            seen.why = ""
            seen.take(record.at, sample)
            use = [gpu.util for gpu in sample.gpus if gpu.util is not None]
            if use:
                second = self._seconds.setdefault(math.floor(record.at), [0.0, 0.0])
                second[0] += sum(use)
                second[1] += len(use)

    def _feed_replica(self, seen: _ReplicaSeen, record: Record) -> None:
        if record.kind is RecordKind.LOST:
            seen.why = loss_of(record.at, record.data).why.en
        elif record.kind is RecordKind.SAMPLE:
            try:
                seen.looks.append((record.at, sample_of(record)))
            except (ValueError, UsageError) as error:
                seen.why = f"a sample that cannot be read: {error}"
            else:
                seen.why = ""

    def window(self, begin: float, end: float) -> Window:
        """Everything between two moments; hosts that said nothing are in it, with why."""
        step = self._watched.interval(HOST)
        silent = HostSeen(why=self._why or "nothing was heard of it")
        hosts = {site.name: self._hosts.get(site.name, silent).window(begin, end, step) for site in self._watched.hosts}
        replicas = {
            name: found
            for name, seen in sorted(self._replicas.copy().items())
            if (found := self._replica(seen, begin, end)) is not None
        }
        return Window(hosts, replicas, self._timeline(begin, end), self._why)

    def _replica(self, seen: _ReplicaSeen, begin: float, end: float) -> ReplicaWindow | None:
        looks = [look for at, look in seen.looks if begin <= at <= end and not look.node_page]
        expected = max(1, math.floor((end - begin) / self._watched.interval(VLLM)))
        if not looks:
            return ReplicaWindow(0, expected, why=seen.why) if seen.why and not _is_page(seen) else None
        running = [(look.at, _sum(look.engines, Thing.RUNNING)) for look in looks]
        waiting = [_sum(look.engines, Thing.WAITING) for look in looks]
        kv = [_most(look.engines, Thing.KV_USAGE) for look in looks]
        first, last = looks[0], looks[-1]
        known = [value for _, value in running if value is not None]
        return ReplicaWindow(
            samples=seen_at([look.at for look in looks], self._watched.interval(VLLM)),
            expected=expected,
            running_peak=max(known, default=None),
            running_mean=fmean(known) if known else None,
            waiting_peak=max((value for value in waiting if value is not None), default=None),
            kv_p95=quantile_of([value for value in kv if value is not None], 0.95),
            kv_peak=max((value for value in kv if value is not None), default=None),
            preemptions=_between(first, last, Thing.PREEMPTIONS),
            at_limit=_at_limit(running, self._watched.max_num_seqs),
            restarted=_restarted(looks),
            ttft_p50=_quantile(first, last, Thing.TTFT, 0.5),
            ttft_p95=_quantile(first, last, Thing.TTFT, 0.95),
            queue_p95=_quantile(first, last, Thing.QUEUE, 0.95),
            e2e_p50=_quantile(first, last, Thing.E2E, 0.5),
            tokens=_between(first, last, Thing.GENERATION_TOKENS),
            why=seen.why,
        )

    def _timeline(self, begin: float, end: float) -> tuple[Point, ...]:
        """A point a second."""
        seconds = range(max(0, math.floor(end - begin)))
        use = {math.floor(second - begin): total / count for second, (total, count) in self._seconds.copy().items()}
        looks = [each for seen in tuple(self._replicas.values()) for each in seen.looks if not each[1].node_page]
        parts = {
            thing: _by_second(begin, ((at, _sum(look.engines, thing)) for at, look in looks), whole=True)
            for thing in (Thing.RUNNING, Thing.WAITING)
        }
        kv = _by_second(begin, ((at, _most(look.engines, Thing.KV_USAGE)) for at, look in looks))
        rates = _by_second(begin, self._rates(), whole=True)
        return tuple(
            Point(
                begin + second, use.get(second), parts[Thing.RUNNING].get(second), parts[Thing.WAITING].get(second),
                kv.get(second), rates.get(second),
            )
            for second in seconds
        )  # fmt: skip

    def _rates(self) -> Iterable[tuple[float, float | None]]:
        """Tokens/s of each replica, at the end of each of its steps."""
        for seen in tuple(self._replicas.values()):
            looks = [look for _, look in seen.looks if not look.node_page]
            for older, newer in pairwise(looks):
                tokens = _between(older, newer, Thing.GENERATION_TOKENS)
                seconds = newer.at - older.at
                yield newer.at, tokens / seconds if tokens is not None and seconds > 0 else None


def _is_page(seen: _ReplicaSeen) -> bool:
    return bool(seen.looks) and all(look.node_page for _, look in seen.looks)


def _number(engine: EngineSample, thing: Thing) -> float | None:
    found = engine.numbers.get(thing)
    return found.value if isinstance(found, Present) else None


def _sum(engines: Iterable[EngineSample], thing: Thing) -> float | None:
    """Of all engines; None when one does not tell."""
    values = [_number(engine, thing) for engine in engines]
    return sum(v for v in values if v is not None) if values and None not in values else None


def _most(engines: Iterable[EngineSample], thing: Thing) -> float | None:
    values = [_number(engine, thing) for engine in engines]
    return max(v for v in values if v is not None) if values and None not in values else None


def _pairs(older: VllmSample, newer: VllmSample) -> list[tuple[EngineSample, EngineSample]] | None:
    """The same engines in two looks; None when they are not the same."""
    before, after = ({engine.key: engine for engine in look.engines} for look in (older, newer))
    return [(before[key], after[key]) for key in sorted(after)] if before.keys() == after.keys() and after else None


def _between(older: VllmSample, newer: VllmSample, thing: Thing) -> float | None:
    pairs = _pairs(older, newer)
    grown = [increase(a.numbers[thing], b.numbers[thing]) for a, b in pairs] if pairs else []
    values = [each.value for each in grown if isinstance(each, Present)]
    return sum(values) if grown and len(values) == len(grown) else None


def _quantile(older: VllmSample, newer: VllmSample, thing: Thing, share: float) -> float | None:
    pairs = _pairs(older, newer)
    seen = [observed(a.histograms[thing], b.histograms[thing]) for a, b in pairs] if pairs else []
    present = [each for each in seen if isinstance(each, Present)]
    if not seen or len(present) != len(seen):
        return None
    found: Present[Estimate] | Absent = quantile(share, merged(present))
    return found.value.value if isinstance(found, Present) else None


def _restarted(looks: Sequence[VllmSample]) -> bool:
    """Whether a counter fell back, or engines came and went."""
    for older, newer in pairwise(looks):
        pairs = _pairs(older, newer)
        if pairs is None:
            return True
        for a, b in pairs:
            before, after = _number(a, Thing.GENERATION_TOKENS), _number(b, Thing.GENERATION_TOKENS)
            if before is not None and after is not None and after < before:
                return True
    return False


def _at_limit(running: Sequence[tuple[float, float | None]], limit: int | None) -> float | None:
    """The longest time in seconds that so many ran in a row; None when that cannot be told."""
    if not limit or not any(value is not None for _, value in running):
        return None
    longest, since = 0.0, None
    for at, value in running:
        if value is None or value < REACHED * limit:
            since = None
            continue
        since = at if since is None else since
        longest = max(longest, at - since)
    return longest


def _by_second(begin: float, values: Iterable[tuple[float, float | None]], *, whole: bool = False) -> dict[int, float]:
    """Means by second after `begin`. With `whole` sums over sources, each of which speaks once a second or so."""
    rows: dict[int, list[float]] = {}
    for at, value in values:
        if value is not None:
            rows.setdefault(math.floor(at - begin), []).append(value)
    join: Callable[[list[float]], float] = sum if whole else fmean
    return {second: join(found) for second, found in rows.items()}
