"""What is remembered of one replica: enough looks for the windows, when its counters last moved, whether it answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dstui.telemetry.aliases import Thing
from dstui.telemetry.live_status import Loss, Pulse
from dstui.telemetry.vllm import EngineSample, VllmSample
from dstui.telemetry.windows import Absent, Present, Why, increase, increases, observed

SHORT_SECONDS = 10.0
LONG_SECONDS = 60.0
"""The two windows: tokens/s over the short one, quantiles and rare events over the long one."""

_APART_SECONDS = 4.0
"""Looks older than the short window are thinned to one in this many seconds."""


@dataclass(frozen=True, slots=True)
class Span:
    """Two looks and the seconds between them, which are more than the window where looks are missing, or fewer."""

    older: VllmSample
    newer: VllmSample
    seconds: float

    def engines(self) -> Iterator[tuple[EngineSample, EngineSample]]:
        before = {engine.key: engine for engine in self.older.engines}
        for engine in self.newer.engines:
            yield before[engine.key], engine


class ReplicaHistory:
    """Feed it looks in the order in which they came, `interval` seconds apart. No clock of its own, bounded in size.

    `pulse` tells how current the latest look is, by the time that a federated page itself gives its values.
    """

    def __init__(self, replica: str, interval: float = 1.0) -> None:
        self.replica = replica
        self.pulse = Pulse(interval)
        self.restarted_at: float | None = None
        self._recent: deque[VllmSample] = deque()
        self._thinned: deque[VllmSample] = deque()
        self._moved: dict[tuple[str, str], float] = {}
        self._since: dict[tuple[str, str], float] = {}

    @property
    def latest(self) -> VllmSample | None:
        return self._recent[-1] if self._recent else None

    @property
    def previous(self) -> VllmSample | None:
        return self._recent[-2] if len(self._recent) > 1 else None

    def lose(self, loss: Loss) -> None:
        """It does not answer."""
        self.pulse.lost(loss)

    def add(self, sample: VllmSample) -> None:
        """A look. Counters that fell, other engines than before, a clock set back or a long gap begin windows anew."""
        last = self.latest
        self.pulse.sampled(sample.at if sample.as_of is None else min(sample.at, sample.as_of))
        if last is not None:
            restarted = _restarted(last, sample)
            if restarted:
                self.restarted_at = sample.at
            if restarted or _engines(last) != _engines(sample) or not last.at < sample.at <= last.at + LONG_SECONDS:
                self._forget()
            else:
                self._note_movement(last, sample)
        for engine in sample.engines:
            self._since.setdefault(engine.key, sample.at)
        self._recent.append(sample if last is None else _sharing(last, sample))
        self._thin()

    def span(self, seconds: float) -> Span | None:
        """The latest look and the one that a window of `seconds` begins with, or the oldest; None with one look."""
        latest = self.latest
        if latest is None:
            return None
        older: VllmSample | None = None
        for sample in (*self._thinned, *self._recent):
            if sample is latest or (older is not None and sample.at > latest.at - seconds):
                break
            older = sample
        return None if older is None else Span(older, latest, latest.at - older.at)

    def still_for(self, key: tuple[str, str]) -> tuple[float, bool]:
        """Seconds for which no counter of an engine has moved, and whether one was ever seen to move."""
        latest = self.latest
        since = self._moved.get(key, self._since.get(key))
        if latest is None or since is None:
            return 0.0, False
        return latest.at - since, key in self._moved

    def _forget(self) -> None:
        self._recent.clear()
        self._thinned.clear()
        self._moved.clear()
        self._since.clear()

    def _note_movement(self, last: VllmSample, sample: VllmSample) -> None:
        before = {engine.key: _pulse(engine) for engine in last.engines}
        for engine in sample.engines:
            pairs = zip(before[engine.key], _pulse(engine), strict=True)
            if any(now is not None and now != then for then, now in pairs):
                self._moved[engine.key] = sample.at

    def _thin(self) -> None:
        newest = self._recent[-1].at
        while len(self._recent) > 2 and self._recent[1].at <= newest - SHORT_SECONDS:
            leaving = self._recent.popleft()
            if not self._thinned or leaving.at >= self._thinned[-1].at + _APART_SECONDS:
                self._thinned.append(leaving)
        while len(self._thinned) > 1 and self._thinned[1].at <= newest - LONG_SECONDS:
            self._thinned.popleft()


def _sharing(last: VllmSample, sample: VllmSample) -> VllmSample:
    """The same look with the settings of the one before where they are equal: they are a third of its size."""
    known = {engine.key: engine.cache_config for engine in last.engines}
    engines = tuple(
        replace(engine, cache_config=known[engine.key]) if known.get(engine.key) == engine.cache_config else engine
        for engine in sample.engines
    )
    return replace(sample, engines=engines)


def moves(engine: EngineSample) -> bool:
    """Whether any counter that moves with work is there at all."""
    return any(value is not None for value in _pulse(engine))


def _pulse(engine: EngineSample) -> tuple[float | None, ...]:
    """Counters that a working engine moves within seconds."""
    tokens = (engine.numbers[thing] for thing in (Thing.PROMPT_TOKENS, Thing.GENERATION_TOKENS))
    gaps = engine.histograms[Thing.ITL]
    finished = engine.finished
    return (
        *(value.value if isinstance(value, Present) else None for value in tokens),
        gaps.value.total if isinstance(gaps, Present) else None,
        sum(finished.value.values()) if isinstance(finished, Present) else None,
    )


def _restarted(older: VllmSample, newer: VllmSample) -> bool:
    """Any counter that fell, or another set of engines, means that the process is another one."""
    before = {engine.key: engine for engine in older.engines}
    if _engines(older) != _engines(newer):
        return bool(before)
    grown = [increases(older.rejections, newer.rejections)]
    return any(_fell(value) for value in grown) or any(_engine_fell(before[e.key], e) for e in newer.engines)


def _engines(sample: VllmSample) -> set[tuple[str, str]]:
    return {engine.key for engine in sample.engines}


def _engine_fell(older: EngineSample, newer: EngineSample) -> bool:
    counters = (
        Thing.PROMPT_TOKENS,
        Thing.GENERATION_TOKENS,
        Thing.PREEMPTIONS,
        Thing.PREFIX_QUERIES,
        Thing.PREFIX_HITS,
    )
    return (
        any(_fell(increase(older.numbers[thing], newer.numbers[thing])) for thing in counters)
        or _fell(increases(older.finished, newer.finished))
        or any(_fell(observed(older.histograms[thing], held)) for thing, held in newer.histograms.items())
    )


def _fell(grown: Present[object] | Absent) -> bool:
    return isinstance(grown, Absent) and grown.why is Why.RESTARTED
