"""What the ladder's screen shows of each stage, whether it runs, ended or is still to come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dstui.load.knee import knee
from dstui.load.ladder import Ladder, Stage, StageKind
from dstui.load.live import LiveLadder, LiveStage, Phase
from dstui.load.result import Counts, LadderResult, StageResult, Times
from dstui.load.validity import CPU_MAX, LAG_P99_MAX_S, limits
from dstui.load.window import HostWindow, Point, Window
from dstui.model import Text, same


class State(StrEnum):
    """How a stage stands; those after DONE ended too, and say what must be known before their figures are read."""

    WAITING = "waiting"
    PAUSE = "pause"
    RAMP = "ramp"
    WARM = "warm"
    WINDOW = "window"
    DRAIN = "drain"
    NOT_RUN = "not-run"
    DONE = "done"
    STOPPED = "stopped"
    LOST = "lost"
    GENERATOR = "generator"
    NOTHING = "nothing"
    SUMS = "sums"
    ERRORS = "errors"
    SHED = "shed"


RUNNING = frozenset({State.PAUSE, State.RAMP, State.WARM, State.WINDOW, State.DRAIN})
NOT_COUNTED = frozenset({State.RAMP, State.WARM})
"""What is seen in these does not count."""

PROVES_NOTHING = frozenset({State.STOPPED, State.LOST, State.GENERATOR, State.NOTHING, State.SUMS})
"""No knee is found by the figures of such a stage."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A figure of the cluster; `whole` is false when a host, a GPU, a replica or a link did not tell its part."""

    value: float | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class LevelRow:
    """One stage. Times in seconds, shares 0 to 1, GPU use in %; None is what is not known.

    `until` is when the phase is due to end (seconds since the epoch, 0: not known), `why` what stands beside the state.
    """

    stage: Stage
    state: State
    until: float = 0.0
    why: tuple[Text, ...] = ()
    in_flight: int = 0
    counts: Counts | None = None
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    itl_p95: float | None = None
    tokens_per_second: float | None = None
    gpu_use: Seen = Seen()
    memory: Seen = Seen()
    kv: Seen = Seen()
    network: Seen = Seen()
    lag: float | None = None
    cpu: float | None = None

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def begun(self) -> bool:
        """Whether there is anything to show of it."""
        return self.counts is not None

    @property
    def generator_strained(self) -> bool:
        """Whether lag or CPU alone say that the generator may be what was measured."""
        return (self.lag or 0.0) >= LAG_P99_MAX_S or (self.cpu or 0.0) >= CPU_MAX


@dataclass(frozen=True, slots=True)
class Timeline:
    """The seconds of a window, and the span that the picture has."""

    points: tuple[Point, ...]
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class LadderView:
    """All stages of a ladder in their order, and the position of the knee among them."""

    ladder: Ladder
    rows: tuple[LevelRow, ...]
    knee: int | None = None

    @property
    def knee_row(self) -> LevelRow | None:
        return self.rows[self.knee] if self.knee is not None else None

    @property
    def running(self) -> LevelRow | None:
        return next((row for row in self.rows if row.state in RUNNING), None)

    @property
    def levels(self) -> tuple[int, ...]:
        """The positions of the levels, users rising: what charts over users show."""
        each = [n for n, row in enumerate(self.rows) if row.stage.kind is StageKind.LEVEL]
        return tuple(sorted(each, key=lambda n: (self.rows[n].stage.users, self.rows[n].stage.rate or 0.0)))


class LiveRows:
    """The rows of a ladder that runs. What ended is worked out once."""

    def __init__(self) -> None:
        self._kept: dict[int, LevelRow] = {}
        self._of: LiveLadder | None = None

    def view(self, live: LiveLadder) -> LadderView:
        if self._of is not live:
            self._of, self._kept = live, {}
        rows = [self._row(number, stage) for number, stage in enumerate(live.stages)]
        return view_of(live.ladder, rows)

    def _row(self, number: int, stage: LiveStage) -> LevelRow:
        if stage.result is None:
            return row_of_live(stage)
        if number not in self._kept:
            self._kept[number] = row_of_result(stage.result)
        return self._kept[number]


def view_of(ladder: Ladder, rows: Sequence[LevelRow]) -> LadderView:
    """The rows with their knee."""
    bare = LadderView(ladder, tuple(rows))
    places = bare.levels
    rates = [(rows[n].stage.users, _proven_rate(rows[n])) for n in places]
    found = knee(rates)
    return LadderView(ladder, bare.rows, None if found is None else places[found])


def view_of_result(result: LadderResult) -> LadderView:
    """A ladder that was recorded; stages that it did not come to are there too."""
    rows = [row_of_result(stage) for stage in result.stages]
    rest = result.ladder.stages[len(rows) :]
    return view_of(result.ladder, [*rows, *(LevelRow(stage, State.NOT_RUN) for stage in rest)])


def view_of_plan(ladder: Ladder) -> LadderView:
    """A ladder that nobody has run."""
    return LadderView(ladder, tuple(LevelRow(stage, State.WAITING) for stage in ladder.stages))


def _proven_rate(row: LevelRow) -> float | None:
    ended = row.state not in RUNNING and row.state not in PROVES_NOTHING
    return row.tokens_per_second if ended else None


def row_of_live(stage: LiveStage) -> LevelRow:
    """A stage that has no result yet."""
    if stage.phase is Phase.WAITING or stage.phase is Phase.PAUSE:
        return LevelRow(stage.stage, State(stage.phase.value), stage.until)
    rate = stage.tokens_out / stage.window_seconds if stage.window_seconds > 0 else None
    state = State.DONE if stage.phase is Phase.DONE else State(stage.phase.value)
    return _with_figures(
        stage.stage, state, stage.counts, stage.times, stage.cluster, rate,
        until=stage.until, in_flight=stage.in_flight, lag=stage.lag_p99, cpu=stage.cpu,
    )  # fmt: skip


def row_of_result(result: StageResult) -> LevelRow:
    """A stage that ended."""
    state, why = standing(result)
    generator = result.generator
    return _with_figures(
        result.stage, state, result.counts, result.times, result.window, result.tokens_per_second,
        why=why, lag=generator.lag.quantile(0.99), cpu=generator.cpu,
    )  # fmt: skip


def _with_figures(
    stage: Stage,
    state: State,
    counts: Counts,
    times: Times,
    window: Window,
    rate: float | None,
    *,
    until: float = 0.0,
    why: tuple[Text, ...] = (),
    in_flight: int = 0,
    lag: float | None = None,
    cpu: float | None = None,
) -> LevelRow:
    return LevelRow(
        stage, state, until, why, in_flight, counts,
        times.ttft.quantile(0.5), times.ttft.quantile(0.95), times.itl.quantile(0.95), rate if counts.ok else None,
        gpu_use(window.hosts.values()), memory(window), kv(window), network(window), lag, cpu,
    )  # fmt: skip


def standing(result: StageResult) -> tuple[State, tuple[Text, ...]]:
    """How a stage ended and why; what makes its figures worthless before what only must be known."""
    counts, generator = result.counts, result.generator
    strained = limits(generator, result.stage.users)
    if result.stopped:
        return State.STOPPED, (same(result.stopped), *strained)
    if generator.lost:
        return State.LOST, strained
    if strained:
        return State.GENERATOR, strained
    if not counts.adds_up:
        return State.SUMS, ()
    if not counts.ok:
        return State.NOTHING, _kinds(counts)
    if counts.failed:
        return State.ERRORS, _kinds(counts)
    return (State.SHED if counts.shed else State.DONE), ()


def _kinds(counts: Counts) -> tuple[Text, ...]:
    """What went wrong, the most frequent first: `412 timeout`."""
    ordered = sorted(counts.errors.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(same(f"{count} {kind}") for kind, count in ordered if count)


def gpu_use(hosts: Iterable[HostWindow]) -> Seen:
    """The mean over GPUs that serve, or of which it is not known whether they do (CATALOGUE 058)."""
    values: list[float] = []
    whole = True
    for host in hosts:
        whole = whole and not host.why and not host.gpu_why
        for gpu in host.gpus.values():
            if gpu.serving is False:
                continue
            if gpu.use_mean is None:
                whole = False
            else:
                values.append(gpu.use_mean)
    return Seen(sum(values) / len(values) if values else None, whole)


def memory(window: Window) -> Seen:
    """The fullest host's peak (CATALOGUE 059)."""
    return _most(host.memory_peak for host in window.hosts.values())


def kv(window: Window) -> Seen:
    """The fullest replica's KV cache, p95 where there is one (CATALOGUE 059)."""
    replicas = window.replicas.values()
    return _most(each.kv_p95 if each.kv_p95 is not None else each.kv_peak for each in replicas)


def network(window: Window) -> Seen:
    """The busiest link's mean as a share of its speed (CATALOGUE 060)."""
    hosts = window.hosts.values()
    of_links = _most(link.share(link.mean) for host in hosts for link in host.links.values())
    return Seen(of_links.value, of_links.whole and not any(host.why for host in hosts))


def _most(values: Iterable[float | None]) -> Seen:
    each = list(values)
    told = [value for value in each if value is not None]
    return Seen(max(told, default=None), len(told) == len(each))


def timeline_of_live(stage: LiveStage) -> Timeline:
    """The window so far; the picture has room for all of it from its beginning on."""
    if stage.result is not None:
        return timeline_of_result(stage.result)
    points = stage.cluster.timeline
    if stage.phase is Phase.WINDOW and stage.until > stage.since > 0:
        return Timeline(points, stage.since, stage.until)
    return _bare_timeline(points)


def timeline_of_result(result: StageResult) -> Timeline:
    points = result.window.timeline
    return Timeline(points, result.began, result.ended) if result.ended > result.began else _bare_timeline(points)


def _bare_timeline(points: tuple[Point, ...]) -> Timeline:
    return Timeline(points, points[0].at, points[-1].at + 1.0) if points else Timeline((), 0.0, 0.0)


def left(live: LiveLadder, now: float) -> float | None:
    """About how many seconds the ladder still takes; None while that is not known."""
    phases = live.ladder.phases
    total = 0.0
    for number, stage in enumerate(live.stages):
        if stage.phase is Phase.DONE or stage.result is not None:
            continue
        window = stage.stage.window if stage.stage.window is not None else phases.window
        parts = {Phase.PAUSE: phases.pause if number else 0.0, Phase.WINDOW: window}
        if not stage.stage.requests:
            parts |= {Phase.RAMP: phases.ramp, Phase.WARM: phases.warm}
        order = [Phase.PAUSE, Phase.RAMP, Phase.WARM, Phase.WINDOW]
        if stage.phase is Phase.WAITING:
            total += sum(parts.values())
            continue
        if not stage.until:
            return None
        total += max(0.0, stage.until - now)
        after = order[order.index(stage.phase) + 1 :] if stage.phase in order else []
        total += sum(parts.get(phase, 0.0) for phase in after)
    return total
