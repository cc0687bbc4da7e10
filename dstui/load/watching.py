"""Folds the monitor's records into what a ladder's window is judged by: hosts, GPUs, links, vLLM's replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from dstui.load.window import GpuWindow, HostWindow, LinkWindow, Point, ReplicaWindow, Window
from dstui.model import UsageError
from dstui.telemetry.aliases import Thing
from dstui.telemetry.host import GpuSample, HostSample, Traffic, parse
from dstui.telemetry.live_status import loss_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import EngineSample, VllmSample
from dstui.telemetry.vllm_records import sample_of
from dstui.telemetry.watched import HOST, VLLM, Watched
from dstui.telemetry.windows import Absent, Estimate, Present, increase, merged, observed, quantile

REACHED = 0.95
"""Of max_num_seqs, from which a replica counts as at its limit (CATALOGUE 056, reach_ratio)."""
GROWTH_SECONDS = 60.0
"""A window shorter than this does not tell growth of memory."""
IDLE_REASONS = frozenset({"gpu_idle", "applications_clocks_setting", "none"})
"""Clock event reasons that slow nothing down; a cap of power under full load is said, but is how GPUs work."""


@dataclass(slots=True)
class _Seen:
    samples: list[tuple[float, HostSample]] = field(default_factory=list)
    looks: list[tuple[float, VllmSample]] = field(default_factory=list)
    why: str = ""


class WindowFold:
    """`begin` forgets; `feed` it records; `window` looks at those between two moments (seconds since the epoch)."""

    def __init__(self, watched: Watched, *, why: str = "") -> None:
        self._watched = watched
        self._seen: dict[str, _Seen] = {}
        self._why = why

    def begin(self) -> None:
        """A new stage: what was seen is forgotten but why a source was lost."""
        self._seen = {source: _Seen(why=seen.why) for source, seen in self._seen.items()}

    def feed(self, record: Record) -> None:
        """A sample that cannot be read counts as one that did not come."""
        seen = self._seen.setdefault(record.source, _Seen())
        if record.kind is RecordKind.LOST:
            seen.why = loss_of(record.at, record.data).why.en
            return
        if record.kind is not RecordKind.SAMPLE:
            return
        try:
            if record.source.startswith(f"{HOST}:"):
                seen.samples.append((record.at, parse(record.data)))
            elif record.source.startswith(f"{VLLM}:"):
                seen.looks.append((record.at, sample_of(record)))
        except (ValueError, UsageError) as error:
            seen.why = f"a sample that cannot be read: {error}"
        else:
            seen.why = ""

    def window(self, begin: float, end: float) -> Window:
        """Everything between two moments; hosts that said nothing are in it, with why."""
        hosts = {site.name: self._host(f"{HOST}:{site.name}", begin, end) for site in self._watched.hosts}
        replicas = {
            source.partition(":")[2]: found
            for source, seen in sorted(self._seen.copy().items(), key=lambda row: row[0])
            if source.startswith(f"{VLLM}:") and (found := self._replica(seen, begin, end)) is not None
        }
        return Window(hosts, replicas, self._timeline(begin, end), self._why)

    def _host(self, source: str, begin: float, end: float) -> HostWindow:
        seen = self._seen.get(source) or _Seen(why=self._why or "nothing was heard of it")
        samples = [(at, sample) for at, sample in seen.samples if begin <= at <= end]
        expected = max(1, math.floor((end - begin) / self._watched.interval(HOST)))
        found = [sample for _, sample in samples]
        if not found:
            return HostWindow(0, expected, why=seen.why or "no sample came in the window")
        shares = [(at, share) for at, sample in samples if (share := _used(sample)) is not None]
        return HostWindow(
            samples=len(found),
            expected=expected,
            memory_mean=fmean(share for _, share in shares) if shares else None,
            memory_peak=max((share for _, share in shares), default=None),
            growth=_growth(samples),
            swap_in=_total(sample.swap_in for sample in found),
            oom=_grown([sample.oom_kill for sample in found]),
            gpus=_gpus(found),
            links=_links(found),
            why=seen.why,
            gpu_why=next((s.gpu_missing.why for s in reversed(found) if s.gpu_missing is not None), ""),
        )

    def _replica(self, seen: _Seen, begin: float, end: float) -> ReplicaWindow | None:
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
            samples=len(looks),
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
        use = _by_second(begin, ((at, gpu.util) for at, sample in self._samples() for gpu in sample.gpus))
        looks = [each for seen in tuple(self._seen.values()) for each in seen.looks if not each[1].node_page]
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

    def _samples(self) -> Iterable[tuple[float, HostSample]]:
        return [each for seen in tuple(self._seen.values()) for each in seen.samples]

    def _rates(self) -> Iterable[tuple[float, float | None]]:
        """Tokens/s of each replica, at the end of each of its steps."""
        for seen in tuple(self._seen.values()):
            looks = [look for _, look in seen.looks if not look.node_page]
            for older, newer in pairwise(looks):
                tokens = _between(older, newer, Thing.GENERATION_TOKENS)
                seconds = newer.at - older.at
                yield newer.at, tokens / seconds if tokens is not None and seconds > 0 else None


def quantile_of(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of them do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _is_page(seen: _Seen) -> bool:
    return bool(seen.looks) and all(look.node_page for _, look in seen.looks)


def _used(sample: HostSample) -> float | None:
    if not sample.mem_total or sample.mem_available is None:
        return None
    return min(1.0, max(0.0, 1 - sample.mem_available / sample.mem_total))


def _growth(samples: Sequence[tuple[float, HostSample]]) -> float | None:
    """Bytes/hour by which used memory grows: from the mean of the first third to that of the last."""
    used = [
        (at, sample.mem_total - sample.mem_available)
        for at, sample in samples
        if sample.mem_total and sample.mem_available is not None
    ]
    third = len(used) // 3
    if third < 1 or used[-1][0] - used[0][0] < GROWTH_SECONDS:
        return None
    early, late = used[:third], used[-third:]
    seconds = fmean(at for at, _ in late) - fmean(at for at, _ in early)
    return (fmean(v for _, v in late) - fmean(v for _, v in early)) / seconds * 3600 if seconds > 0 else None


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _grown(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(0.0, known[-1] - known[0]) if known else None


def _gpus(samples: Sequence[HostSample]) -> Mapping[int, GpuWindow]:
    by_index: dict[int, list[GpuSample]] = {}
    for sample in samples:
        for gpu in sample.gpus:
            by_index.setdefault(gpu.index, []).append(gpu)
    return {index: _gpu(rows) for index, rows in sorted(by_index.items())}


def _gpu(rows: Sequence[GpuSample]) -> GpuWindow:
    use = [row.util for row in rows if row.util is not None]
    memory = [row.mem_used / row.mem_total for row in rows if row.mem_used is not None and row.mem_total]
    processes = [bool(row.procs) for row in rows if row.procs is not None]
    reasons = {reason for row in rows for reason in row.reasons or ()} - IDLE_REASONS
    return GpuWindow(
        uuid=next((row.uuid for row in rows if row.uuid), None),
        samples=len(use),
        use_mean=fmean(use) if use else None,
        use_p5=quantile_of(use, 0.05),
        use_min=min(use, default=None),
        memory_peak=max(memory, default=None),
        serving=any(processes) if processes else None,
        throttled=tuple(sorted(reasons)),
    )


def _links(samples: Sequence[HostSample]) -> Mapping[str, LinkWindow]:
    rows: dict[str, list[Traffic]] = {}
    for sample in samples:
        for name, traffic in (*sample.net.items(), *(sample.rdma or {}).items()):
            rows.setdefault(name, []).append(traffic)
    return {name: _link(found) for name, found in sorted(rows.items())}


def _link(rows: Sequence[Traffic]) -> LinkWindow:
    busy = [8 * max(row.rx, row.tx) for row in rows if row.rx is not None and row.tx is not None]
    speed = next((row.speed for row in reversed(rows) if row.speed), None)
    return LinkWindow(len(busy), speed, fmean(busy) if busy else None, quantile_of(busy, 0.95), max(busy, default=None))


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
