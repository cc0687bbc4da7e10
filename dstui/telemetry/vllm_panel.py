"""All replicas together: totals, latency quantiles of merged histograms, balance, alarms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dstui.model import Text
from dstui.telemetry.aliases import Thing
from dstui.telemetry.live_status import Status
from dstui.telemetry.vllm import Labelled, Number
from dstui.telemetry.vllm_alarms import Alarm, AlarmKind, AlarmState, alarms_of, pressure, silent
from dstui.telemetry.vllm_history import ReplicaHistory
from dstui.telemetry.vllm_row import Quantiles, ReplicaRow, error_share, quantiles, row_of, together
from dstui.telemetry.windows import Absent, Present, Why, merged

UNEVEN_RATIO = 1.5
"""The busiest replica over the mean from which on a cluster counts as out of balance; so does the least at its half."""

LEAST_RATIO = 0.5
WORTH_RUNNING = 4.0
"""Mean requests per replica below which balance says nothing: two requests on two replicas often meet on one."""

FORGET_SECONDS = 300.0
"""A replica that left its Ray node's page is shown as gone for so long; Ray's own panel knows whether it should be."""


@dataclass(frozen=True, slots=True)
class Total:
    """A sum over `counted` of `of` replicas; when they differ it is too small and must be shown with both."""

    value: Number
    counted: int
    of: int

    @property
    def whole(self) -> bool:
        return self.counted == self.of


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of what `counted` of `of` replicas observed, taken from one histogram that is their sum."""

    quantiles: Quantiles
    counted: int
    of: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Over the replicas that are live. KV is the fullest one's."""

    running: Total
    waiting: Total
    kv: Total
    generation_per_s: Total
    prompt_per_s: Total
    finished_per_s: Labelled
    error_share: Number
    preemptions_per_min: Total
    rejections_per_min: Total
    ttft: Latency
    itl: Latency
    tpot: Latency
    e2e: Latency
    queue: Latency


@dataclass(frozen=True, slots=True)
class Imbalance:
    """One measure over the replicas of a model: the most and the least loaded, each as a ratio to the mean."""

    model: str
    thing: Thing
    mean: float
    most: str
    most_ratio: float
    least: str
    least_ratio: float


@dataclass(frozen=True, slots=True)
class VllmPanel:
    """`rows` are of replicas; Ray nodes' pages as such are none, and have an alarm when they do not answer."""

    rows: tuple[ReplicaRow, ...]
    totals: Totals
    imbalances: tuple[Imbalance, ...]
    alarms: tuple[Alarm, ...]

    @property
    def raised(self) -> tuple[Alarm, ...]:
        return tuple(alarm for alarm in self.alarms if alarm.state is AlarmState.RAISED)

    @property
    def unknown(self) -> tuple[Alarm, ...]:
        return tuple(alarm for alarm in self.alarms if alarm.state is AlarmState.UNKNOWN)

    def of(self, replica: str) -> tuple[Alarm, ...]:
        return tuple(alarm for alarm in self.alarms if alarm.replica == replica)

    def pressure(self, replica: str) -> AlarmState:
        """KV pressure of one replica."""
        return pressure(self.of(replica))


def summarise(replicas: Iterable[ReplicaHistory], *, now: float, max_num_seqs: int | None = None) -> VllmPanel:
    """The panel at `now`. No replica at all is UNKNOWN, as is all that would need a value that is not there."""
    every = remembered(sorted(replicas, key=lambda history: history.replica))
    pages = [history for history in every if history.latest is not None and history.latest.node_page]
    known = [history for history in every if history not in pages]
    rows = tuple(row_of(history, now) for history in known)
    alarms = _page_alarms(pages, rows, now)
    for history, row in zip(known, rows, strict=True):
        alarms += alarms_of(history, row, now, max_num_seqs)
    imbalances, balance = _balance(rows)
    return VllmPanel(rows, _totals(rows), imbalances, (*alarms, *balance))


def remembered(replicas: Sequence[ReplicaHistory]) -> list[ReplicaHistory]:
    """Without those of which nothing was heard for long, not even that they are missing, while others were heard."""
    heard = {history.replica: history.pulse.heard_at or 0.0 for history in replicas}
    latest = max(heard.values(), default=0.0)
    return [history for history in replicas if latest - heard[history.replica] <= FORGET_SECONDS]


def _page_alarms(pages: Sequence[ReplicaHistory], rows: Sequence[ReplicaRow], now: float) -> list[Alarm]:
    """Pages of Ray nodes that do not answer, and the case that there is no replica anywhere."""
    kind = AlarmKind.SILENT
    alarms = []
    for page in pages:
        alarm = silent(page, row_of(page, now), now)
        if page.pulse.status(now) is not Status.LIVE:
            alarms.append(alarm)
    if not rows and pages:
        names = tuple(sorted({name for page in pages if page.latest for name in page.latest.names}))
        text = Text(
            f"no vLLM metrics on the pages of {len(pages)} Ray nodes: nothing deployed, or engine metrics are off",
            f"{len(pages)} 个 Ray 节点的页面上都没有 vLLM 指标：未部署，或未开启引擎指标",
        )
        alarms.append(Alarm(kind, AlarmState.UNKNOWN, None, text, (), names))
    elif not rows:
        text = Text("no vLLM replica is known", "没有已知的 vLLM 副本")
        alarms.append(Alarm(kind, AlarmState.UNKNOWN, None, text))
    return alarms


def _totals(rows: Sequence[ReplicaRow]) -> Totals:
    live = [row for row in rows if row.shown.status is Status.LIVE]
    count = len(rows)
    finished = _finished([row.finished_per_s for row in live])
    return Totals(
        running=_total([row.running for row in live], count),
        waiting=_total([row.waiting for row in live], count),
        kv=_total([row.kv for row in live], count, largest=True),
        generation_per_s=_total([row.generation_per_s for row in live], count),
        prompt_per_s=_total([row.prompt_per_s for row in live], count),
        finished_per_s=finished,
        error_share=error_share(finished),
        preemptions_per_min=_total([row.preemptions_per_min for row in live], count),
        rejections_per_min=_total([row.rejections_per_min for row in live], count),
        ttft=_latency(live, Thing.TTFT, count),
        itl=_latency(live, Thing.ITL, count),
        tpot=_latency(live, Thing.TPOT, count),
        e2e=_latency(live, Thing.E2E, count),
        queue=_latency(live, Thing.QUEUE, count),
    )


def _total(values: Sequence[Number], of: int, *, largest: bool = False) -> Total:
    there = [value for value in values if isinstance(value, Present)]
    if not there:
        first = next((value for value in values if isinstance(value, Absent)), Absent(Why.OLD, "no replica is live"))
        return Total(first, 0, of)
    return Total(together(there, max if largest else sum), len(there), of)


def _finished(values: Sequence[Labelled]) -> Labelled:
    """Requests per second by outcome over all replicas; absent as soon as one's is, since shares come from it."""
    if not values:
        return Absent(Why.OLD, "no replica is live")
    counts: dict[str, float] = defaultdict(float)
    names = set()
    for value in values:
        if isinstance(value, Absent):
            return value
        names.add(value.name)
        for reason, count in value.value.items():
            counts[reason] += count
    return Present(dict(counts), ", ".join(sorted(names)))


def _latency(live: Sequence[ReplicaRow], thing: Thing, of: int) -> Latency:
    windows = [row.window[thing] for row in live]
    there = [window for window in windows if isinstance(window, Present)]
    if not there:
        absent = next((window for window in windows if isinstance(window, Absent)), None)
        return Latency(quantiles(absent or Absent(Why.OLD, "no replica is live")), 0, of)
    return Latency(quantiles(merged(there)), len(there), of)


def _balance(rows: Sequence[ReplicaRow]) -> tuple[tuple[Imbalance, ...], list[Alarm]]:
    """Per model with more than one replica; a replica that serves several models is left out."""
    by_model: dict[str, list[ReplicaRow]] = defaultdict(list)
    for row in rows:
        if len(row.models) == 1:
            by_model[row.models[0]].append(row)
    found: list[Imbalance] = []
    alarms: list[Alarm] = []
    for model, group in sorted(by_model.items()):
        if len(group) > 1:
            measured = [_measured(model, group, thing) for thing in (Thing.RUNNING, Thing.GENERATION_TOKENS)]
            found += [each for each in measured if isinstance(each, Imbalance)]
            alarms.append(_balance_alarm(model, group, measured))
    return tuple(found), alarms


def _value(row: ReplicaRow, thing: Thing) -> Number:
    return row.running if thing is Thing.RUNNING else row.generation_per_s


def _measured(model: str, group: Sequence[ReplicaRow], thing: Thing) -> Imbalance | Absent:
    values: dict[str, float] = {}
    for row in group:
        value = _value(row, thing)
        if row.shown.status is not Status.LIVE:
            return Absent(Why.OLD, row.replica)
        if isinstance(value, Absent):
            return Absent(value.why, row.replica)
        values[row.replica] = value.value
    mean = sum(values.values()) / len(values)
    if mean <= 0:
        return Absent(Why.IDLE, model)
    most, least = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    return Imbalance(model, thing, mean, most, values[most] / mean, least, values[least] / mean)


def _balance_alarm(model: str, group: Sequence[ReplicaRow], measured: Sequence[Imbalance | Absent]) -> Alarm:
    kind = AlarmKind.IMBALANCE
    names = tuple(sorted({name for row in group for name in row.names}))
    for each in measured:
        if isinstance(each, Absent) and each.why is not Why.IDLE:
            text = Text(
                f"balance of {model}: {each.detail}: {each.text.en}", f"{model} 的均衡：{each.detail}：{each.text.zh}"
            )
            return Alarm(kind, AlarmState.UNKNOWN, None, text, (), names)
    running, generated = measured
    if isinstance(running, Absent) or running.mean < WORTH_RUNNING:
        text = Text(f"{model}: too little load to tell", f"{model}：负载太低，无法判断")
        mean = 0.0 if isinstance(running, Absent) else running.mean
        return Alarm(kind, AlarmState.CLEAR, None, text, (f"mean running {mean:.3g} on {len(group)} replicas",))
    uneven = [
        each
        for each in (running, generated)
        if isinstance(each, Imbalance) and (each.most_ratio >= UNEVEN_RATIO or each.least_ratio <= LEAST_RATIO)
    ]
    evidence = tuple(
        f"{each.thing.value}: {each.most} {each.most_ratio:.2f} x mean, {each.least} {each.least_ratio:.2f} x mean"
        for each in (running, generated)
        if isinstance(each, Imbalance)
    )
    if not uneven:
        return Alarm(kind, AlarmState.CLEAR, None, Text(f"{model}: even", f"{model}：均衡"), evidence)
    worst = max(uneven, key=lambda each: max(each.most_ratio, 2 - each.least_ratio))
    what = Text("running", "运行请求") if worst.thing is Thing.RUNNING else Text("tokens/s", "token/秒")
    text = Text(
        f"{model}: {what.en}: {worst.most} {worst.most_ratio:.1f} × mean, {worst.least} {worst.least_ratio:.1f} × mean",
        f"{model}：{what.zh}：{worst.most} 为均值的 {worst.most_ratio:.1f} 倍，"
        f"{worst.least} 为 {worst.least_ratio:.1f} 倍",
    )
    return Alarm(kind, AlarmState.RAISED, None, text, evidence)
