"""vLLM's replicas as they are scraped: the panel, histories for its charts, and changes of its alarms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

from dstui.model import Text
from dstui.telemetry.live_log import LiveEvent, Severity
from dstui.telemetry.live_rings import HISTORY_SECONDS, MOST_MOMENTS
from dstui.telemetry.live_status import Status, loss_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.rings import Rings
from dstui.telemetry.vllm import Number
from dstui.telemetry.vllm_alarms import Alarm, AlarmKind, AlarmState
from dstui.telemetry.vllm_fleet import VllmFleet
from dstui.telemetry.vllm_panel import VllmPanel
from dstui.telemetry.vllm_records import SOURCE
from dstui.telemetry.vllm_row import Quantiles, ReplicaRow
from dstui.telemetry.watched import VLLM, Watched
from dstui.telemetry.windows import Present

LOOK_SECONDS = 1.0
"""Alarms are compared, and a moment is added to the histories, at most this often."""

CLEARED_SECONDS = 10.0
"""An alarm that was not raised for so long, and is clear on evidence, is told to be over."""

_MANY_ROWS = 16
"""A panel costs a quarter of a millisecond per replica."""

FORGET_SECONDS = 300.0
"""A replica that nothing was heard of for so long loses its history: under Ray their names change with every start."""

_SEVERITIES = {
    AlarmKind.STALLED: Severity.FAIL,
    AlarmKind.ERRORS: Severity.FAIL,
}


class VllmColumn(IntEnum):
    """Requests, requests, share (0 to 1), tokens/s, seconds. Totals are of the replicas that were live then."""

    RUNNING = 0
    WAITING = 1
    KV = 2
    GENERATION = 3
    TTFT_P95 = 4
    ITL_P95 = 5


class VllmFold:
    """Feed it vLLM's records in order."""

    def __init__(self, watched: Watched) -> None:
        self._interval = watched.interval(VLLM)
        self._fleet = VllmFleet(interval=self._interval, max_num_seqs=watched.max_num_seqs)
        self.version = 0
        self.totals = self._rings()
        self.replicas: dict[str, Rings] = {}
        self._looked_at: float | None = None
        self._lost: set[str] = set()
        self._raised: dict[tuple[AlarmKind, str | None], float] = {}
        self._panel: tuple[int, float, VllmPanel] | None = None

    def feed(self, record: Record) -> list[LiveEvent]:
        """A SAMPLE or a LOST. UsageError for a sample that is not whole."""
        self._fleet.feed(record)
        self.version += 1
        events = [*self._answering(record)]
        at, before = record.at, self._looked_at
        if before is None or not 0 <= at - before < LOOK_SECONDS:
            self._looked_at = at
            panel = self.panel(at)
            self._remember(at, panel)
            if before is not None:
                events += self._alarms(at, panel)
        return events

    def served(self, replica_ids: Iterable[str], at: float) -> None:
        """The replicas that Ray Serve has: those that it has no more are lost, whatever their node's page says."""
        self._lost |= self._fleet.served(replica_ids, at)
        self.version += 1

    def panel(self, now: float) -> VllmPanel:
        """The panel, at most a second old while nothing new was heard, or where there are many replicas."""
        kept = self._panel
        if kept is not None and 0 <= now - kept[1] < LOOK_SECONDS:
            version, _, panel = kept
            if version == self.version or len(panel.rows) > _MANY_ROWS:
                return panel
        panel = self._fleet.panel(now)
        self._panel = (self.version, now, panel)
        return panel

    def _rings(self) -> Rings:
        return Rings(len(VllmColumn), min(MOST_MOMENTS, round(HISTORY_SECONDS / max(LOOK_SECONDS, self._interval))))

    def _answering(self, record: Record) -> Iterator[LiveEvent]:
        name = record.source.removeprefix(SOURCE)
        if self._fleet.is_gone(record):
            self._lost.add(name)
        elif record.kind is RecordKind.LOST and name not in self._lost:
            self._lost.add(name)
            why = loss_of(record.at, record.data).why
            what = Text(f"gives no metrics: {why.en}", f"无法获取指标：{why.zh}")
            yield LiveEvent(record.at, record.source, Severity.FAIL, f"vLLM {name}", what)
        elif record.kind is RecordKind.SAMPLE and name in self._lost:
            self._lost.discard(name)
            what = Text("gives metrics again", "恢复提供指标")
            yield LiveEvent(record.at, record.source, Severity.INFO, f"vLLM {name}", what)

    def _alarms(self, at: float, panel: VllmPanel) -> Iterator[LiveEvent]:
        for alarm in panel.alarms:
            if alarm.kind is AlarmKind.SILENT:
                continue
            key = alarm.kind, alarm.replica
            if alarm.state is AlarmState.RAISED:
                if key not in self._raised:
                    yield _event(at, alarm, _SEVERITIES.get(alarm.kind, Severity.WARN), alarm.text)
                self._raised[key] = at
            elif alarm.state is AlarmState.CLEAR and not 0 <= at - self._raised.get(key, at) < CLEARED_SECONDS:
                del self._raised[key]
                what = Text(f"is fine again: {alarm.text.en}", f"恢复正常：{alarm.text.zh}")
                yield _event(at, alarm, Severity.INFO, what)

    def _remember(self, at: float, panel: VllmPanel) -> None:
        totals = panel.totals
        self.totals.append(
            at,
            (
                _number(totals.running.value),
                _number(totals.waiting.value),
                _number(totals.kv.value),
                _number(totals.generation_per_s.value),
                _p95(totals.ttft.quantiles),
                _p95(totals.itl.quantiles),
            ),
        )
        for row in panel.rows:
            if row.replica not in self.replicas:
                self.replicas[row.replica] = self._rings()
            if row.shown.status is Status.LIVE:
                self.replicas[row.replica].append(at, _values(row))
        for name, rings in list(self.replicas.items()):
            if rings.newest is not None and at - rings.newest > FORGET_SECONDS:
                del self.replicas[name]
                self._lost.discard(name)


def _event(at: float, alarm: Alarm, severity: Severity, what: Text) -> LiveEvent:
    if alarm.replica is None:
        return LiveEvent(at, SOURCE.rstrip(":"), severity, "", what)
    return LiveEvent(at, SOURCE + alarm.replica, severity, f"vLLM {alarm.replica}", what)


def _values(row: ReplicaRow) -> tuple[float | None, ...]:
    return (
        _number(row.running),
        _number(row.waiting),
        _number(row.kv),
        _number(row.generation_per_s),
        _p95(row.ttft),
        _p95(row.itl),
    )


def _number(value: Number) -> float | None:
    return value.value if isinstance(value, Present) else None


def _p95(held: Quantiles) -> float | None:
    return held.p95.value.value if isinstance(held.p95, Present) else None
