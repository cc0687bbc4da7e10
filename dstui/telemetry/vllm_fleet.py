"""Every replica's history from Records: the part of the live view that is about vLLM."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dstui.model import Reason, Text
from dstui.telemetry.aliases import Family
from dstui.telemetry.live_status import Loss, loss_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm_history import ReplicaHistory
from dstui.telemetry.vllm_panel import FORGET_SECONDS, VllmPanel, remembered, summarise
from dstui.telemetry.vllm_records import SOURCE, sample_of

SETTLE_SECONDS = 5.0
"""A replica that appeared on a page so shortly before Ray's list was made may be too new to be on it."""

GONE_SECONDS = 60.0
"""For how long a replica that Ray Serve does not have any more is shown as lost."""

_THROUGH_RAY = frozenset(family.value for family in Family if family.through_ray)
_GONE = Text(
    "Ray Serve does not have it any more; Ray goes on showing its last counters",
    "Ray Serve 中已没有该副本；Ray 仍在显示它最后的计数",
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A replica on a Ray node's page: when it was there first, and last."""

    replica_id: str
    first: float
    last: float


class VllmFleet:
    """A fold without I/O: `feed` it records, look with `panel`. `interval` is seconds from one look to the next.

    A replica that died stays on its Ray node's page, with counters and histograms that look like those of an idle one:
    only `served` tells them apart.
    """

    def __init__(self, *, interval: float = 1.0, max_num_seqs: int | None = None) -> None:
        self._interval = interval
        self._max_num_seqs = max_num_seqs
        self._replicas: dict[str, ReplicaHistory] = {}
        self._served: frozenset[str] | None = None
        self._served_at = 0.0
        self._seen: dict[str, _Seen] = {}
        self._gone: dict[str, float] = {}

    def served(self, replica_ids: Iterable[str], at: float) -> frozenset[str]:
        """The replicas that Ray Serve has at `at`, by its ids. Gives the names of those that are gone from now on."""
        self._served, self._served_at = frozenset(replica_ids), at
        self._seen = {name: seen for name, seen in self._seen.items() if at - seen.last <= FORGET_SECONDS}
        before = self._gone.keys() & self._seen.keys()
        self._gone = {name: since for name, since in self._gone.items() if name in before}
        for name, seen in self._seen.items():
            self._judge(name, seen, at)
            if name in self._gone:
                self._lose(name, at)
        return frozenset(self._gone.keys() - before)

    def is_gone(self, record: Record) -> bool:
        """Whether it tells of a replica that Ray Serve does not have any more, so that it says nothing of now."""
        name, replica_id = record.source.removeprefix(SOURCE), record.data.get("replica_id")
        if record.kind is RecordKind.SAMPLE and isinstance(replica_id, str):
            if record.data.get("family") not in _THROUGH_RAY:
                return False
            first = self._seen[name].first if name in self._seen else record.at
            seen = self._seen[name] = _Seen(replica_id, first, record.at)
            self._judge(name, seen, record.at)
        return name in self._gone

    def _judge(self, name: str, seen: _Seen, at: float) -> None:
        if self._served is None or self._served_at - seen.first <= SETTLE_SECONDS:
            return
        if any(served and seen.replica_id.endswith(served) for served in self._served):
            self._gone.pop(name, None)
        else:
            self._gone.setdefault(name, at)

    def _lose(self, name: str, at: float) -> None:
        """Lost, and after a while forgotten."""
        if at - self._gone[name] > GONE_SECONDS:
            self._replicas.pop(name, None)
        elif name in self._replicas:
            self._replicas[name].lose(Loss(at, Reason.CANNOT_TELL, _GONE))

    def feed(self, record: Record) -> None:
        """Records of other sources are left alone. UsageError for a sample that is not whole."""
        if not record.source.startswith(SOURCE):
            return
        sample = sample_of(record) if record.kind is RecordKind.SAMPLE else None
        name = record.source.removeprefix(SOURCE)
        if self.is_gone(record):
            self._lose(name, record.at)
            return
        if name not in self._replicas:
            self._replicas = {history.replica: history for history in remembered(tuple(self._replicas.values()))}
        history = self._replicas.setdefault(name, ReplicaHistory(name, self._interval))
        if sample is not None:
            history.add(sample)
        elif record.kind is RecordKind.LOST:
            history.lose(loss_of(record.at, record.data))

    def panel(self, now: float) -> VllmPanel:
        return summarise(self._replicas.values(), now=now, max_num_seqs=self._max_num_seqs)
