"""Every replica's history from Records: the part of the live view that is about vLLM."""

from __future__ import annotations

from dstui.telemetry.live_status import loss_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm_history import ReplicaHistory
from dstui.telemetry.vllm_panel import VllmPanel, remembered, summarise
from dstui.telemetry.vllm_records import SOURCE, sample_of


class VllmFleet:
    """A fold without I/O: `feed` it records, look with `panel`. `interval` is seconds from one look to the next."""

    def __init__(self, *, interval: float = 1.0, max_num_seqs: int | None = None) -> None:
        self._interval = interval
        self._max_num_seqs = max_num_seqs
        self._replicas: dict[str, ReplicaHistory] = {}

    def feed(self, record: Record) -> None:
        """Records of other sources are left alone. UsageError for a sample that is not whole."""
        if not record.source.startswith(SOURCE):
            return
        sample = sample_of(record) if record.kind is RecordKind.SAMPLE else None
        name = record.source.removeprefix(SOURCE)
        if name not in self._replicas:
            self._replicas = {history.replica: history for history in remembered(tuple(self._replicas.values()))}
        history = self._replicas.setdefault(name, ReplicaHistory(name, self._interval))
        if sample is not None:
            history.add(sample)
        elif record.kind is RecordKind.LOST:
            history.lose(loss_of(record.at, record.data))

    def panel(self, now: float) -> VllmPanel:
        return summarise(self._replicas.values(), now=now, max_num_seqs=self._max_num_seqs)
