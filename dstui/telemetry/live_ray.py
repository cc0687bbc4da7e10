"""Ray as it is looked at: the latest snapshot, what was known before, and the comparison with the inventory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from dstui.facts.case import Site
from dstui.model import Reason, Text
from dstui.telemetry import ray
from dstui.telemetry.live_log import LiveEvent, Severity
from dstui.telemetry.live_status import LIVE_NOW, NOTHING_YET, Loss, Pulse, Shown, Status, loss_of, shown
from dstui.telemetry.ray import (
    Actor,
    Demands,
    Fault,
    Jobs,
    PlacementGroup,
    RayNode,
    RaySnapshot,
    Serve,
)
from dstui.telemetry.ray_changes import Named, RaySeen, follow, names_of
from dstui.telemetry.ray_compare import HostLoss, RayComparison, beliefs, compare
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import RAY, Watched

T = TypeVar("T")

_NOT_WATCHED = Text("the inventory has no ray.dashboard_url", "清单中没有 ray.dashboard_url")

_COMPARED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """One part of what Ray said. `value` None: not known, and `shown` says why. `fault` also where it is incomplete."""

    value: T | None
    shown: Shown
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class RayView:
    """The panel. `shown` is about the dashboard as a whole. `comparison` is of `nodes`, and as old as they are.

    `beliefs` are hosts that Ray still counts as alive and dstui knows to be gone. `snapshot` is the latest look
    itself, None while that could not be made.
    """

    shown: Shown
    snapshot: RaySnapshot | None
    version: Section[str]
    nodes: Section[tuple[RayNode, ...]]
    serve: Section[Serve]
    demands: Section[Demands]
    groups: Section[tuple[PlacementGroup, ...]]
    actors: Section[tuple[Actor, ...]]
    jobs: Section[Jobs]
    comparison: RayComparison | None
    beliefs: Mapping[str, Text]


class RayFold:
    """Feed it Ray's records in order."""

    def __init__(self, watched: Watched) -> None:
        self.pulse = Pulse(watched.interval(RAY), NOTHING_YET if watched.watches(RAY) else _NOT_WATCHED)
        self.seen = RaySeen()
        self.version = 0
        self.named: Named = names_of(host_by_address(watched))
        self._site: Site = watched.site
        self._compared: tuple[int, float, RayComparison | None] = (-1, 0.0, None)

    def feed(self, record: Record) -> list[LiveEvent]:
        """A SAMPLE or a LOST. ValueError for a sample that is none."""
        lost = record.kind is RecordKind.LOST
        snapshot = _lost_snapshot(record) if lost else ray.snapshot(record.data)
        self.seen, changes = follow(self.seen, snapshot, self.named)
        self.version += 1
        if lost:
            loss = loss_of(record.at, record.data)
            before = self.pulse.loss
            self.pulse.lost(loss if before is None else Loss(before.at, loss.reason, loss.why))
        else:
            self.pulse.sampled(record.at)
        return [
            LiveEvent(change.at, record.source, Severity(change.severity), change.who, change.what)
            for change in changes
        ]

    def replica_ids(self, record: Record) -> frozenset[str] | None:
        """The Serve replicas in what was fed last; None unless it tells of all of them."""
        latest = self.seen.latest
        if record.kind is not RecordKind.SAMPLE or latest is None or latest.serve is None or latest.fault("serve"):
            return None
        deployments = (each for app in latest.serve.applications for each in app.deployments)
        return frozenset(replica.replica_id for each in deployments for replica in each.replicas)

    def section(self, name: str, pick: Callable[[RaySnapshot], T | None], now: float) -> Section[T]:
        """A part of the latest look; where that has none, what was known last with its age, until it is too old."""
        latest, known = self.seen.latest, self.seen.known
        if latest is None or known is None:
            return Section(None, shown(self.pulse, now))
        fault = latest.fault(name)
        value = pick(latest)
        if value is not None:
            how = shown(self.pulse, now)
            return Section(value if how.known else None, how, fault)
        kept, why = pick(known), fault.why if fault is not None else None
        as_of = known.as_of.get(name, self.pulse.sample_at)
        if kept is None or as_of is None or not 0 <= now - as_of <= self.pulse.unknown_after:
            return Section(None, Shown(Status.UNKNOWN, None, why or NOTHING_YET), fault)
        return Section(kept, Shown(Status.LOST, now - as_of, why), fault)

    def raylets_gone(self) -> Mapping[str, float]:
        """Host → since when it has had no raylet, where Ray's latest list still has nothing but such nodes alive."""
        nodes = self.seen.latest.nodes if self.seen.latest is not None else None
        alive: dict[str, list[float | None]] = {}
        for node in nodes or ():
            if node.alive:
                alive.setdefault(self.named(node.ip), []).append(node.raylet_gone_at)
        gone = {host: [at for at in times if at is not None] for host, times in alive.items()}
        return {host: max(times) for host, times in gone.items() if times and len(times) == len(alive[host])}

    def comparison(self, now: float, nvml: Callable[[], Mapping[str, int | None]]) -> RayComparison | None:
        """The known nodes beside the inventory, at most two seconds older than what NVML says; None without nodes."""
        known = self.seen.known
        version, at, compared = self._compared
        if version != self.version or not 0 <= now - at < _COMPARED_SECONDS:
            compared = None if known is None or known.nodes is None else compare(known, self._site, nvml())
            self._compared = self.version, now, compared
        return compared


def build(
    fold: RayFold, now: float, nvml: Callable[[], Mapping[str, int | None]], losses: Mapping[str, HostLoss]
) -> RayView:
    """The panel at `now`. `losses` are the hosts whose own stream or whose raylet has stopped."""
    how = shown(fold.pulse, now)
    nodes = fold.section("nodes", lambda snapshot: snapshot.nodes, now)
    comparison = fold.comparison(now, nvml) if nodes.value is not None else None
    current = comparison is not None and nodes.shown is LIVE_NOW
    latest = fold.seen.latest
    return RayView(
        shown=how,
        snapshot=latest if latest is not None and latest.lost is None and how.known else None,
        version=fold.section("version", lambda snapshot: snapshot.version, now),
        nodes=nodes,
        serve=fold.section("serve", lambda snapshot: snapshot.serve, now),
        demands=fold.section("demands", lambda snapshot: snapshot.demands, now),
        groups=fold.section("groups", lambda snapshot: snapshot.groups, now),
        actors=fold.section("actors", lambda snapshot: snapshot.actors, now),
        jobs=fold.section("jobs", lambda snapshot: snapshot.jobs, now),
        comparison=comparison,
        beliefs=beliefs(comparison, losses, now) if comparison is not None and current else {},
    )


def host_by_address(watched: Watched) -> dict[str, str]:
    """Address to inventory name, for every address that a host has there."""
    found: dict[str, str] = {}
    for host in watched.hosts:
        for address in (host.address, host.mgmt_ip):
            if address:
                found.setdefault(address, host.name)
    found.update({host.data_ip: host.name for host in watched.hosts})
    return found


def _lost_snapshot(record: Record) -> RaySnapshot:
    try:
        told = ray.snapshot(record.data)
        if told.lost is not None:
            return told
    except ValueError:
        pass
    loss = loss_of(record.at, record.data)
    fault = Fault("version", "", loss.reason or Reason.CANNOT_TELL, loss.why)
    return RaySnapshot(record.at, faults=(fault,), lost=fault)
