"""What is wrong with a replica: raised or clear only on evidence, otherwise UNKNOWN with the names that were seen.

An alarm is never clear because a name is missing, a value is old or there was one look only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from dstui.model import Reason, Text, same
from dstui.telemetry.aliases import Thing
from dstui.telemetry.live_status import Status
from dstui.telemetry.vllm import EngineSample, Number, VllmSample
from dstui.telemetry.vllm_history import ReplicaHistory, moves
from dstui.telemetry.vllm_row import ReplicaRow, busy, still_limit
from dstui.telemetry.windows import Absent, Present, Why

KV_FULL_SHARE = 0.9
"""`kv_cache_max_pct` of perf.memory: from here on vLLM preempts requests."""

ERROR_SHARE = 0.01
"""`error_rate_max` of the load checks."""


class AlarmKind(StrEnum):
    """SILENT: does not answer. QUEUE_BELOW_LIMIT: requests wait though the batch is not full, so memory is short."""

    SILENT = "silent"
    STALLED = "stalled"
    KV_FULL = "kv-full"
    PREEMPTING = "preempting"
    QUEUE_BELOW_LIMIT = "queue-below-limit"
    REJECTING = "rejecting"
    ERRORS = "errors"
    IMBALANCE = "imbalance"


TITLES: dict[AlarmKind, Text] = {
    AlarmKind.SILENT: Text("answers", "应答"),
    AlarmKind.STALLED: Text("progress", "推进"),
    AlarmKind.KV_FULL: Text("KV cache", "KV 缓存"),
    AlarmKind.PREEMPTING: Text("preemptions", "抢占"),
    AlarmKind.QUEUE_BELOW_LIMIT: Text("queue", "排队"),
    AlarmKind.REJECTING: Text("rejections", "拒绝"),
    AlarmKind.ERRORS: Text("errors", "错误"),
    AlarmKind.IMBALANCE: Text("balance", "均衡"),
}

PRESSURE = (AlarmKind.KV_FULL, AlarmKind.PREEMPTING, AlarmKind.QUEUE_BELOW_LIMIT)
"""Together they are KV pressure."""


class AlarmState(StrEnum):
    RAISED = "raised"
    CLEAR = "clear"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Alarm:
    """`replica` None is the whole cluster. `evidence` is metric name and value; `names` are those on the page instead.

    RAISED and CLEAR always have evidence.
    """

    kind: AlarmKind
    state: AlarmState
    replica: str | None
    text: Text
    evidence: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.state is not AlarmState.UNKNOWN and not self.evidence:
            raise ValueError(f"alarm {self.kind} of {self.replica} is {self.state} without evidence")


def pressure(alarms: Iterable[Alarm]) -> AlarmState:
    """KV pressure of one replica from its alarms: raised by any of three, clear only if all three are."""
    states = [alarm.state for alarm in alarms if alarm.kind in PRESSURE]
    if AlarmState.RAISED in states:
        return AlarmState.RAISED
    return AlarmState.CLEAR if states and set(states) == {AlarmState.CLEAR} else AlarmState.UNKNOWN


def alarms_of(history: ReplicaHistory, row: ReplicaRow, now: float, max_num_seqs: int | None) -> tuple[Alarm, ...]:
    """All alarms of one replica but the balance. `max_num_seqs` is the engine's setting, which no metric tells."""
    answering = silent(history, row, now)
    sample = history.latest
    if answering.state is not AlarmState.CLEAR or sample is None:
        rest = (kind for kind in AlarmKind if kind not in (AlarmKind.SILENT, AlarmKind.IMBALANCE))
        return answering, *(_unknown(kind, row, answering.text, answering.names) for kind in rest)
    return (
        answering,
        _stalled(history, row, sample),
        _kv_full(row, sample),
        _preempting(row),
        _queue(history, row, sample, max_num_seqs),
        _rejecting(row),
        _errors(row),
    )


def _unknown(kind: AlarmKind, row: ReplicaRow, text: Text, names: tuple[str, ...] = ()) -> Alarm:
    return Alarm(kind, AlarmState.UNKNOWN, row.replica, text, (), names)


def _absent(kind: AlarmKind, row: ReplicaRow, what: Text, value: Absent) -> Alarm:
    """UNKNOWN because a value is missing: which, why, and what the page has instead."""
    why = value.text
    en, zh = f"{what.en}: {why.en}", f"{what.zh}：{why.zh}"
    if value.why is Why.NOT_EXPORTED and row.family is not None and row.family.through_ray:
        en += "; Ray shows a counter only after its first increase and no gauge while idle"
        zh += "；Ray 的计数器首次增加后才会出现，空闲时不导出仪表值"
    return _unknown(kind, row, Text(en, zh), row.names)


def _said(value: Present[float]) -> str:
    return f"{value.name} {value.value:.4g}"


def silent(history: ReplicaHistory, row: ReplicaRow, now: float) -> Alarm:
    """Whether a replica, or a Ray node's page, answers and has what is looked for."""
    kind = AlarmKind.SILENT
    how = row.shown
    if how.status is Status.LATE:
        return _unknown(kind, row, Text(f"no new values for {how.age or 0:.0f} s", f"已 {how.age or 0:.0f} 秒无新数据"))
    if how.status is not Status.LIVE:
        why = how.why or same("")
        text = Text(f"does not answer: {why.en}", f"无应答：{why.zh}")
        loss = history.pulse.loss
        tried = loss is not None and now - loss.at <= history.pulse.unknown_after
        if loss is None or not tried or loss.reason not in (Reason.UNREACHABLE, Reason.TIMEOUT):
            # Nobody asked lately, or something answered that could not be read: that does not show it down.
            return _unknown(kind, row, text)
        return Alarm(kind, AlarmState.RAISED, row.replica, text, (loss.why.en,))
    if not row.engines:
        seen = ", ".join(row.names[:5])
        text = Text(f"no vLLM metrics on its page, but {seen}", f"页面上没有 vLLM 指标，只有 {seen}")
        return _unknown(kind, row, text, row.names)
    return Alarm(kind, AlarmState.CLEAR, row.replica, Text("answers", "有应答"), (f"{row.engines} engine(s)",))


def _each(sample: VllmSample, thing: Thing) -> Iterator[tuple[EngineSample, Number]]:
    for engine in sample.engines:
        yield engine, engine.numbers[thing]


def _stalled(history: ReplicaHistory, row: ReplicaRow, sample: VllmSample) -> Alarm:
    kind = AlarmKind.STALLED
    if row.doubt is not None:
        still = max(history.still_for(engine.key)[0] for engine in sample.engines if busy(engine))
        if row.family is not None and row.family.through_ray:
            return _unknown(kind, row, row.doubt, row.names)
        evidence = tuple(
            _said(value)
            for thing in (Thing.RUNNING, Thing.WAITING)
            for engine, value in _each(sample, thing)
            if busy(engine) and isinstance(value, Present)
        )
        return Alarm(kind, AlarmState.RAISED, row.replica, row.doubt, (*evidence, f"counters still for {still:.0f} s"))
    for engine in sample.engines:
        if not moves(engine):
            return _absent(kind, row, Text("token counters", "token 计数器"), Absent(Why.NOT_EXPORTED))
        for value in (engine.numbers[Thing.RUNNING], engine.numbers[Thing.WAITING]):
            if isinstance(value, Absent):
                return _absent(kind, row, Text("requests running", "运行中的请求数"), value)
    working = [engine for engine in sample.engines if busy(engine)]
    for engine in working:
        still, seen = history.still_for(engine.key)
        if not seen:
            watched = Text(f"nothing moved yet, watched for {still:.0f} s", f"观察 {still:.0f} 秒，尚无变化")
            return _unknown(kind, row, watched)
    if not working:
        return Alarm(kind, AlarmState.CLEAR, row.replica, Text("idle", "空闲"), _both(row))
    text = Text("works", "正在推进")
    moved = min(history.still_for(engine.key)[0] for engine in working)
    limit = still_limit(sample.family)
    return Alarm(
        kind, AlarmState.CLEAR, row.replica, text, (*_both(row), f"counters moved {moved:.0f} s ago, limit {limit:.0f}")
    )


def _both(row: ReplicaRow) -> tuple[str, ...]:
    return tuple(_said(value) for value in (row.running, row.waiting) if isinstance(value, Present))


def _doubted(row: ReplicaRow) -> Text | None:
    """Ray may go on showing the last value of a gauge; vLLM's own page says what its process says now."""
    return row.doubt if row.family is not None and row.family.through_ray else None


def _kv_full(row: ReplicaRow, sample: VllmSample) -> Alarm:
    kind = AlarmKind.KV_FULL
    if (old := _doubted(row)) is not None:
        return _unknown(kind, row, old, row.names)
    values = [value for _, value in _each(sample, Thing.KV_USAGE)]
    full = [value for value in values if isinstance(value, Present) and value.value >= KV_FULL_SHARE]
    if full:
        most = max(full, key=lambda value: value.value)
        text = Text(f"KV cache {most.value:.0%} full", f"KV 缓存已用 {most.value:.0%}")
        return Alarm(kind, AlarmState.RAISED, row.replica, text, tuple(_said(value) for value in full))
    if isinstance(row.kv, Absent):
        return _absent(kind, row, Text("KV cache usage", "KV 缓存使用率"), row.kv)
    text = Text(f"KV cache {row.kv.value:.0%} used", f"KV 缓存使用 {row.kv.value:.0%}")
    return Alarm(kind, AlarmState.CLEAR, row.replica, text, (_said(row.kv),))


def _preempting(row: ReplicaRow) -> Alarm:
    value = row.preemptions_per_min
    what = Text("preemptions", "抢占次数")
    return _grows(AlarmKind.PREEMPTING, row, value, what, Text("preempted per minute", "次抢占/分钟"))


def _rejecting(row: ReplicaRow) -> Alarm:
    value = row.rejections_per_min
    what = Text("admission rejections", "准入拒绝次数")
    return _grows(AlarmKind.REJECTING, row, value, what, Text("rejected per minute", "次拒绝/分钟"))


def _grows(kind: AlarmKind, row: ReplicaRow, value: Number, what: Text, unit: Text) -> Alarm:
    """An event that should not happen at all within the long window."""
    if isinstance(value, Absent):
        return _absent(kind, row, what, value)
    said = (f"{value.name} +{value.value:.4g}/min over {row.long_seconds or 0:.0f} s",)
    state = AlarmState.RAISED if value.value > 0 else AlarmState.CLEAR
    return Alarm(kind, state, row.replica, Text(f"{value.value:.3g} {unit.en}", f"{value.value:.3g} {unit.zh}"), said)


def _queue(history: ReplicaHistory, row: ReplicaRow, sample: VllmSample, max_num_seqs: int | None) -> Alarm:
    """Raised when two looks in a row see it: requests wait for a moment whenever a batch of them arrives."""
    kind = AlarmKind.QUEUE_BELOW_LIMIT
    if (old := _doubted(row)) is not None:
        return _unknown(kind, row, old, row.names)
    waiting, running = row.waiting, row.running
    if isinstance(waiting, Absent):
        return _absent(kind, row, Text("requests waiting", "排队请求数"), waiting)
    if waiting.value == 0:
        return Alarm(kind, AlarmState.CLEAR, row.replica, Text("nothing waits", "无排队"), (_said(waiting),))
    if isinstance(running, Absent):
        return _absent(kind, row, Text("requests running", "运行中的请求数"), running)
    evidence = (_said(waiting), _said(running), f"max_num_seqs {max_num_seqs}")
    if max_num_seqs is None:
        text = Text(
            f"{waiting.value:.0f} wait; whether the batch is full is not known without engine.max_num_seqs",
            f"{waiting.value:.0f} 个请求排队；未提供 engine.max_num_seqs，无法判断批次是否已满",
        )
        return _unknown(kind, row, text)
    now = _below(sample, max_num_seqs)
    if not now:
        text = Text(f"{waiting.value:.0f} wait, the batch is full", f"{waiting.value:.0f} 个请求排队，批次已满")
        return Alarm(kind, AlarmState.CLEAR, row.replica, text, evidence)
    text = Text(
        f"{waiting.value:.0f} wait while {running.value:.0f} of {max_num_seqs} run",
        f"{waiting.value:.0f} 个请求排队，运行 {running.value:.0f}/{max_num_seqs}",
    )
    before = _below(history.previous, max_num_seqs) if history.previous is not None else None
    if before is None:
        return _unknown(kind, row, text)
    return Alarm(kind, AlarmState.RAISED if before else AlarmState.CLEAR, row.replica, text, evidence)


def _below(sample: VllmSample, limit: int) -> bool | None:
    """Whether an engine has requests waiting though it runs fewer than it may; None when a gauge is absent."""
    unknown = False
    for engine in sample.engines:
        waiting, running = engine.numbers[Thing.WAITING], engine.numbers[Thing.RUNNING]
        if isinstance(waiting, Absent) or isinstance(running, Absent):
            unknown = True
        elif waiting.value > 0 and running.value < limit:
            return True
    return None if unknown else False


def _errors(row: ReplicaRow) -> Alarm:
    kind = AlarmKind.ERRORS
    finished, share = row.finished_per_s, row.error_share
    what = Text("requests by outcome", "按结果统计的请求")
    if isinstance(finished, Absent):
        return _absent(kind, row, what, finished)
    seconds = row.long_seconds or 0.0
    if isinstance(share, Absent):
        if share.why is not Why.IDLE:
            reasons = ", ".join(finished.value)
            text = Text(f"no outcome “error” is exported, only {reasons}", f"未导出“error”结果，只有 {reasons}")
            return _unknown(kind, row, text, row.names)
        text = Text(f"no request ended within {seconds:.0f} s", f"{seconds:.0f} 秒内无请求结束")
        return Alarm(kind, AlarmState.CLEAR, row.replica, text, (f"{finished.name} +0 over {seconds:.0f} s",))
    ended = sum(finished.value.values()) * seconds
    errors = finished.value["error"] * seconds
    text = Text(f"{errors:.0f} of {ended:.0f} requests failed", f"{ended:.0f} 个请求中 {errors:.0f} 个失败")
    evidence = (f'{finished.name}{{finished_reason="error"}} +{errors:.0f} of {ended:.0f} over {seconds:.0f} s',)
    state = AlarmState.RAISED if share.value >= ERROR_SHARE else AlarmState.CLEAR
    return Alarm(kind, state, row.replica, text, evidence)
