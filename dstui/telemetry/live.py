"""The live view: a fold of Records, without I/O and without a clock. `dstui.telemetry.live_views` looks at it.

Every time comes from the records or is passed in. An old value is never current: each source has a Pulse, and what is
shown of it says LIVE, LATE, LOST or UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

from dstui.model import Reason, UsageError
from dstui.telemetry.live_grid import GridCache
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_host_changes import gpu_gone
from dstui.telemetry.live_log import EventLog, told_event
from dstui.telemetry.live_ray import RayFold
from dstui.telemetry.live_rings import HISTORY_SECONDS
from dstui.telemetry.live_status import Status, one_line
from dstui.telemetry.live_vllm import VllmFold
from dstui.telemetry.ray_compare import HostLoss
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.rings import Rings
from dstui.telemetry.watched import HOST, RAY, VLLM, Watched

Listener = Callable[[], None]

_FLEET_SECONDS = 1.0
_HOST_PREFIX, _VLLM_PREFIX = f"{HOST}:", f"{VLLM}:"


class FleetColumn(IntEnum):
    """Over the GPUs of the hosts that were live: mean use in %, the highest °C, W in all."""

    USE = 0
    TEMP = 1
    POWER = 2


class Live:
    """`feed` it records in the order in which they came. `version` changes with each; listeners are told after it."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.version = 0
        self._listeners: list[Listener] = []
        self._begin()

    def _begin(self) -> None:
        interval = self.watched.interval(HOST)
        self.hosts: dict[str, HostFold] = {
            site.name: HostFold(site.name, site, interval) for site in self.watched.hosts
        }
        self.ray = RayFold(self.watched)
        self.vllm = VllmFold(self.watched)
        self.log = EventLog()
        self.fleet = Rings(len(FleetColumn), round(HISTORY_SECONDS / _FLEET_SECONDS))
        self.grid_cache = GridCache()
        self._lost: tuple[int, float, Mapping[str, HostLoss]] = (-1, 0.0, {})
        self.fed_at: float | None = None

    def feed(self, record: Record) -> None:
        """Takes a record in. A sample that cannot be read is as good as a source that is lost: it says why."""
        try:
            self._take(record)
        except (ValueError, UsageError) as error:
            why = one_line(f"a sample that cannot be read: {error}")
            data = {"reason": Reason.PARSE_ERROR.value, "why": why, "zh": f"采样无法解析：{one_line(str(error))}"}
            self._take(Record(record.at, record.source, RecordKind.LOST, data))
        self.fed_at = record.at
        self._add_to_fleet(record.at)
        self._changed()

    def set_interval(self, seconds: float) -> None:
        """Hosts give a sample every so many seconds from now on: silence is measured with that."""
        for fold in self.hosts.values():
            fold.pulse.interval = seconds

    def clear(self) -> None:
        """Forgets everything, as before the first record; listeners stay."""
        self._begin()
        self._changed()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls the listener after every change; the function that it gives back ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def gpu_counts(self, now: float) -> Mapping[str, int | None]:
        """Working GPUs by host, as NVML sees them now; None where that is not known now."""
        return {
            name: sum(not gpu_gone(gpu) for gpu in fold.sample.gpus)
            if fold.sample is not None
            and fold.pulse.status(now) is Status.LIVE
            and (fold.sample.gpus or fold.sample.gpu_source is not None)
            else None
            for name, fold in self.hosts.items()
        }

    def losses(self, now: float) -> Mapping[str, HostLoss]:
        """The hosts that spoke once and do not any more, and those that answer and have no raylet any more."""
        if self._lost[:2] != (self.version, now):
            self._lost = self.version, now, self._losses_at(now)
        return self._lost[2]

    def _losses_at(self, now: float) -> Mapping[str, HostLoss]:
        found: dict[str, HostLoss] = {host: HostLoss(at, silent=False) for host, at in self.ray.raylets_gone().items()}
        for name, fold in self.hosts.items():
            pulse = fold.pulse
            if pulse.sample_at is not None and pulse.status(now) in (Status.LOST, Status.UNKNOWN):
                found[name] = HostLoss(pulse.loss.at if pulse.loss is not None else pulse.sample_at, silent=True)
        return found

    def _take(self, record: Record) -> None:
        if record.kind is RecordKind.EVENT:
            if (told := told_event(record)) is not None:
                self.log.add(told)
            return
        source = record.source
        if source.startswith(_HOST_PREFIX):
            fold = self._host(source.removeprefix(_HOST_PREFIX))
            events = fold.sampled(record) if record.kind is RecordKind.SAMPLE else fold.lost(record)
            self.grid_cache.take(fold, record.at)
        elif source == RAY:
            events = self.ray.feed(record)
            if (replicas := self.ray.replica_ids(record)) is not None:
                self.vllm.served(replicas, record.at)
        elif source.startswith(_VLLM_PREFIX):
            events = self.vllm.feed(record)
        else:
            return
        for event in events:
            self.log.add(event)

    def _host(self, name: str) -> HostFold:
        fold = self.hosts.get(name)
        if fold is None:
            fold = self.hosts[name] = HostFold(name, None, self.watched.interval(HOST))
        return fold

    def _add_to_fleet(self, at: float) -> None:
        newest = self.fleet.newest
        if newest is not None and 0 <= at - newest < _FLEET_SECONDS:
            return
        use, used, power, powered = 0.0, 0, 0.0, False
        temp: float | None = None
        for fold in self.hosts.values():
            totals = fold.totals
            if not totals.seen or fold.pulse.status(at) is not Status.LIVE:
                continue
            use += totals.use
            used += totals.used
            if totals.power is not None:
                power, powered = power + totals.power, True
            if totals.temp_high is not None and (temp is None or totals.temp_high[0] > temp):
                temp = totals.temp_high[0]
        self.fleet.append(at, (use / used if used else None, temp, power if powered else None))

    def _changed(self) -> None:
        self.version += 1
        for listener in tuple(self._listeners):
            listener()
