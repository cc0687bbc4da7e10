"""One replica as a row: gauges as they are, rates and quantiles over windows, each there or absent with the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dstui.model import Text
from dstui.telemetry.aliases import HISTOGRAMS, Family, Thing
from dstui.telemetry.live_status import Shown, shown
from dstui.telemetry.vllm import Buckets, EngineSample, Labelled, Number, VllmSample
from dstui.telemetry.vllm_history import LONG_SECONDS, SHORT_SECONDS, ReplicaHistory, Span, moves
from dstui.telemetry.windows import (
    Absent,
    Estimate,
    Present,
    Why,
    increase,
    increases,
    merged,
    observed,
    per,
    quantile,
)

STILL_SECONDS = 30.0
"""Requests that run and no counter that moves for so long: an engine hangs. One very long prompt alone stays below."""

RAY_STILL_SECONDS = 25.0
"""Ray sends values every 10 s by default, and keeps a gauge's last value for a while after the load has ended."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of the observations within the long window; seconds."""

    p50: Present[Estimate] | Absent
    p95: Present[Estimate] | Absent
    p99: Present[Estimate] | Absent


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """`shown` says whether the values may be shown, and how old they are; once it is UNKNOWN they are all absent.

    `kv` is the fullest engine's usage, 0 to 1; `running` and `waiting` are of all engines. `short_seconds` and
    `long_seconds` are what the windows really span, None with one look only. `restarted`: within the long window.
    `doubt` is set when gauges cannot be current because no counter has moved for long.
    """

    replica: str
    models: tuple[str, ...]
    engines: int
    node: str | None
    family: Family | None
    shown: Shown
    restarted: bool
    short_seconds: float | None
    long_seconds: float | None
    running: Number
    waiting: Number
    swapped: Number
    kv: Number
    generation_per_s: Number
    prompt_per_s: Number
    finished_per_s: Labelled
    error_share: Number
    preemptions_per_min: Number
    rejections_per_min: Number
    prefix_hit_share: Number
    ttft: Quantiles
    itl: Quantiles
    tpot: Quantiles
    e2e: Quantiles
    queue: Quantiles
    window: Mapping[Thing, Buckets]
    """What the histograms observed within the long window, to be merged before quantiles are taken of several rows."""
    still_seconds: float | None
    """For how long no counter of an engine that claims to work has moved; the gauges may be that old."""
    doubt: Text | None
    names: tuple[str, ...]


def row_of(history: ReplicaHistory, now: float) -> ReplicaRow:
    looks = _Looks(history, shown(history.pulse, now))
    window = {thing: looks.observed(thing) for thing in HISTOGRAMS}
    sample = looks.sample
    finished = looks.finished()
    return ReplicaRow(
        replica=history.replica,
        models=tuple(sorted({engine.model for engine in sample.engines if engine.model})) if sample else (),
        engines=len(sample.engines) if sample else 0,
        node=sample.node if sample else None,
        family=sample.family if sample else None,
        shown=looks.shown,
        restarted=history.restarted_at is not None and now - history.restarted_at < LONG_SECONDS,
        short_seconds=looks.short.seconds if looks.short else None,
        long_seconds=looks.long.seconds if looks.long else None,
        running=looks.gauge(Thing.RUNNING, sum),
        waiting=looks.gauge(Thing.WAITING, sum),
        swapped=looks.gauge(Thing.SWAPPED, sum),
        kv=looks.gauge(Thing.KV_USAGE, max),
        generation_per_s=looks.rate(Thing.GENERATION_TOKENS, looks.short),
        prompt_per_s=looks.rate(Thing.PROMPT_TOKENS, looks.short),
        finished_per_s=looks.per_second(finished),
        error_share=error_share(finished),
        preemptions_per_min=looks.rate(Thing.PREEMPTIONS, looks.long, 60.0),
        rejections_per_min=looks.rejections_per_min(),
        prefix_hit_share=looks.prefix_hits(),
        ttft=quantiles(window[Thing.TTFT]),
        itl=quantiles(window[Thing.ITL]),
        tpot=quantiles(window[Thing.TPOT]),
        e2e=quantiles(window[Thing.E2E]),
        queue=quantiles(window[Thing.QUEUE]),
        window=window,
        still_seconds=_still(history),
        doubt=doubt(history) if looks.shown.known else None,
        names=sample.names if sample else (),
    )


def quantiles(window: Buckets) -> Quantiles:
    return Quantiles(quantile(0.5, window), quantile(0.95, window), quantile(0.99, window))


def together(values: Iterable[Number], combine: Callable[[Sequence[float]], float] = sum) -> Number:
    """Several values as one, which is absent as soon as one of them is: a sum without it would look whole."""
    found: list[Present[float]] = []
    for value in values:
        if isinstance(value, Absent):
            return value
        found.append(value)
    if not found:
        return Absent(Why.NOT_EXPORTED)
    return Present(combine([value.value for value in found]), ", ".join(sorted({value.name for value in found})))


def error_share(finished: Labelled) -> Number:
    """The share of requests that ended with finished_reason `error`, of all that ended; those are not in success."""
    if isinstance(finished, Absent):
        return finished
    counts = finished.value
    if "error" not in counts:
        return Absent(Why.NOT_EXPORTED, f'{finished.name} has no finished_reason="error"')
    ended = sum(counts.values())
    return Present(counts["error"] / ended, finished.name) if ended > 0 else Absent(Why.IDLE, finished.name)


def still_limit(family: Family | None) -> float:
    return RAY_STILL_SECONDS if family is not None and family.through_ray else STILL_SECONDS


def busy(engine: EngineSample) -> bool:
    """Whether its gauges say that there is work."""
    held = (engine.numbers[Thing.RUNNING], engine.numbers[Thing.WAITING])
    return any(isinstance(value, Present) and value.value > 0 for value in held)


def _still(history: ReplicaHistory) -> float | None:
    engines = history.latest.engines if history.latest is not None else ()
    return max((history.still_for(engine.key)[0] for engine in engines if busy(engine) and moves(engine)), default=None)


def doubt(history: ReplicaHistory) -> Text | None:
    """Set when an engine claims to work while none of its counters has moved for long."""
    sample = history.latest
    if sample is None:
        return None
    for engine in sample.engines:
        still, _ = history.still_for(engine.key)
        if busy(engine) and moves(engine) and still >= still_limit(sample.family):
            if sample.family is not None and sample.family.through_ray:
                return Text(
                    f"no counter has moved for {still:.0f} s: Ray shows an old value, or the engine hangs",
                    f"计数器已 {still:.0f} 秒未变化：Ray 显示的是旧值，或引擎已挂起",
                )
            return Text(
                f"no counter has moved for {still:.0f} s while requests run: the engine hangs",
                f"有请求在运行，但计数器已 {still:.0f} 秒未变化：引擎已挂起",
            )
    return None


class _Looks:
    """The looks that a row is made of. Through Ray both windows are the long one: values come every 10 s only."""

    def __init__(self, history: ReplicaHistory, how: Shown) -> None:
        self.shown = how
        self.sample: VllmSample | None = history.latest
        ray = self.sample is not None and self.sample.family is not None and self.sample.family.through_ray
        self.short = history.span(LONG_SECONDS if ray else SHORT_SECONDS)
        self.long = history.span(LONG_SECONDS)
        fresh = self.sample is not None and history.restarted_at == self.sample.at
        self._one_look = Absent(Why.RESTARTED if fresh else Why.TOO_NEW, "one look so far")

    @property
    def _nothing(self) -> Absent | None:
        """Why nothing of this replica can be told."""
        if not self.shown.known or self.sample is None:
            return Absent(Why.OLD, self.shown.why.en if self.shown.why else "")
        if not self.sample.engines:
            return Absent(Why.NOT_EXPORTED, "the page has none of vLLM's metrics")
        return None

    def gauge(self, thing: Thing, combine: Callable[[Sequence[float]], float]) -> Number:
        if (nothing := self._nothing) is not None or self.sample is None:
            return nothing or self._one_look
        return together((engine.numbers[thing] for engine in self.sample.engines), combine)

    def grown(self, thing: Thing, span: Span | None) -> Number:
        now = self.gauge(thing, sum)
        if isinstance(now, Absent):
            return now
        if span is None:
            return self._one_look
        return together(increase(older.numbers[thing], newer.numbers[thing]) for older, newer in span.engines())

    def rate(self, thing: Thing, span: Span | None, unit: float = 1.0) -> Number:
        return per(span.seconds if span else 0.0, self.grown(thing, span), unit)

    def finished(self) -> Labelled:
        """By how much each finished_reason grew within the long window, over all engines."""
        if (nothing := self._nothing) is not None or self.sample is None:
            return nothing or self._one_look
        counts: dict[str, float] = defaultdict(float)
        name = ""
        for engine in self.sample.engines:
            if isinstance(engine.finished, Absent):
                return engine.finished
        if self.long is None:
            return self._one_look
        for older, newer in self.long.engines():
            grown = increases(older.finished, newer.finished)
            if isinstance(grown, Absent):
                return grown
            name = grown.name
            for reason, count in grown.value.items():
                counts[reason] += count
        return Present(dict(counts), name)

    def per_second(self, counts: Labelled) -> Labelled:
        if isinstance(counts, Absent) or self.long is None or self.long.seconds <= 0:
            return counts if isinstance(counts, Absent) else self._one_look
        seconds = self.long.seconds
        return Present({reason: count / seconds for reason, count in counts.value.items()}, counts.name)

    def rejected(self) -> Number:
        if (nothing := self._nothing) is not None or self.sample is None:
            return nothing or self._one_look
        if isinstance(self.sample.rejections, Absent):
            return self.sample.rejections
        if self.long is None:
            return self._one_look
        grown = increases(self.long.older.rejections, self.long.newer.rejections)
        return grown if isinstance(grown, Absent) else Present(sum(grown.value.values()), grown.name)

    def rejections_per_min(self) -> Number:
        return per(self.long.seconds if self.long else 0.0, self.rejected(), 60.0)

    def prefix_hits(self) -> Number:
        """Hits over queried tokens within the long window; vLLM before its V1 has a gauge of its own making instead."""
        queries, hits = (self.grown(thing, self.long) for thing in (Thing.PREFIX_QUERIES, Thing.PREFIX_HITS))
        if isinstance(queries, Absent):
            own = self.gauge(Thing.PREFIX_HIT_RATE, max) if queries.why is Why.NOT_EXPORTED else queries
            return own if isinstance(own, Present) and self.sample and len(self.sample.engines) == 1 else queries
        if isinstance(hits, Absent):
            return hits
        if queries.value <= 0:
            return Absent(Why.IDLE, queries.name)
        return Present(min(1.0, hits.value / queries.value), hits.name)

    def observed(self, thing: Thing) -> Buckets:
        if (nothing := self._nothing) is not None or self.sample is None:
            return nothing or self._one_look
        for engine in self.sample.engines:
            held = engine.histograms[thing]
            if isinstance(held, Absent):
                return held
        if self.long is None:
            return self._one_look
        deltas = []
        for older, newer in self.long.engines():
            delta = observed(older.histograms[thing], newer.histograms[thing])
            if isinstance(delta, Absent):
                return delta
            deltas.append(delta)
        return merged(deltas)
