"""dstui's own sources on an inventory of the lab, folded as in the app, and what Ray says at the same moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dstui.gather.ssh import Links
from dstui.inventory import load_inventory
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_ray import RayView
from dstui.telemetry.ray import RayNode
from dstui.telemetry.record import Record, encode
from dstui.telemetry.sources import Sources, watched_of

from reallab.host import LabError
from reallab.ray_cluster import RayCluster

Facts = dict[str, object]


@dataclass
class Watch:
    """What is watched now. `records` are all that were emitted."""

    live: Live
    records: list[Record] = field(default_factory=list)

    def feed(self, record: Record) -> None:
        self.records.append(record)
        self.live.feed(record)

    @property
    def ray(self) -> RayView:
        return live_views.ray_view(self.live, time.time())

    def host(self, name: str) -> HostFold:
        return self.live.hosts[name]

    def events(self) -> list[str]:
        """All lines of the event log, oldest first."""
        return [event.text.en for event in reversed(self.live.log.newest())]

    def lines(self) -> str:
        """Everything that was emitted and would be recorded."""
        return "\n".join(encode(record) for record in self.records)

    async def until(self, condition: Callable[[], object], what: str, seconds: float) -> None:
        """Looks again and again. LabError with the panel as it is after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(
                    f"waited {seconds:.0f} s in vain: {what}; events: {self.events()[-8:]}; {self.ray.shown}"
                )
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watching(file: Path) -> AsyncIterator[Watch]:
    """The sources of an inventory file while the block runs."""
    inventory = load_inventory(file)
    watched = watched_of(inventory)
    links = Links(inventory.ssh_for, max_parallel=inventory.ssh.max_parallel)
    watch = Watch(Live(watched))
    running = asyncio.create_task(Sources(inventory, watched, links, watch.feed).run())
    try:
        yield watch
        if running.done():
            running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await links.aclose()


def panel(view: RayView) -> Facts:
    """The Ray panel in the words of `truth`."""
    nodes = view.nodes.value or ()
    alive = [node for node in nodes if node.alive]
    serve, jobs, demands, groups = view.serve.value, view.jobs.value, view.demands.value, view.groups.value
    snapshot = view.snapshot
    apps = serve.applications if serve is not None else ()
    return {
        "nodes": {node.node_id: (node.ip, node.state, node.head) for node in nodes},
        "resources": {node.node_id: _resources(node) for node in alive},
        "used": {node.node_id: _used(node) for node in alive},
        "gpus": snapshot.total.gpu if snapshot and snapshot.total else None,
        "gpus used": snapshot.used.gpu if snapshot and snapshot.used else None,
        "applications": {
            app.name: {
                each.name: (app.status, each.status, _counts([replica.state for replica in each.replicas]))
                for each in app.deployments
            }
            for app in apps
        },
        "replicas": sorted(
            (replica.node_id, replica.pid)
            for app in apps
            for each in app.deployments
            for replica in each.replicas
            if replica.state == "RUNNING"
        ),
        "jobs": None if jobs is None else dict(jobs.counts),
        "waiting": None if demands is None else sorted(demands.waiting),
        "groups": None if groups is None else sorted((group.name, group.scheduling) for group in groups),
    }


def truth(cluster: RayCluster) -> Facts:
    """What Ray's Python API, its state API and `ray status` say now."""
    ask = cluster.insider.ask
    listed, known, free = _rows(ask("state_nodes")), _rows(ask("nodes")), _table(ask("free_by_node"))
    alive = {str(row["NodeID"]): _table(row["Resources"]) for row in known if row["Alive"]}
    used = {
        node: tuple(
            round(_number(given.get(name, 0)) - _number(_table(free[node]).get(name, 0)), 4) for name in ("GPU", "CPU")
        )
        for node, given in alive.items()
    }
    serve = _table(ask("serve"))
    actors = _rows(ask("actors"))
    return {
        "nodes": {row["node_id"]: (row["ip"], row["state"], row["head"]) for row in listed},
        "resources": {
            node: tuple(given.get(name, 0.0) for name in ("GPU", "CPU", "memory", "object_store_memory"))
            for node, given in alive.items()
        },
        "used": used,
        "gpus": sum(_number(given.get("GPU", 0)) for given in alive.values()),
        "gpus used": sum(gpu for gpu, _ in used.values()),
        "applications": {
            name: {
                each: (_table(app)["status"], _table(found)["status"], _table(found)["replicas"])
                for each, found in _table(_table(app)["deployments"]).items()
            }
            for name, app in serve.items()
        },
        "replicas": sorted(
            (row["node"], row["pid"])
            for row in actors
            if str(row["class"]).startswith("ServeReplica:") and row["state"] == "ALIVE"
        ),
        "jobs": _counts([str(row["status"]) for row in _rows(ask("jobs"))]),
        "waiting": sorted(waiting(cluster.cli("status"))),
        "groups": sorted((row["name"], row["scheduling"]) for row in _rows(ask("groups"))),
    }


def waiting(status: str) -> list[str]:
    """The pending demands of `ray status`."""
    lines = [line.strip() for line in status.partition("Pending Demands:\n")[2].splitlines()]
    return [line for line in lines if line and line != "(no resource demands)"]


async def agreeing(watch: Watch, cluster: RayCluster, seconds: float = 40.0) -> Facts:
    """What the panel and Ray both say, as soon as they say the same before and after a look; Ray renews its usage every
    5 s. LabError names what differs."""
    deadline = time.monotonic() + seconds
    before = await asyncio.to_thread(truth, cluster)
    while True:
        version = watch.live.ray.version
        await watch.until(lambda: watch.live.ray.version > version, "the next look at Ray", 10.0)  # noqa: B023
        shown = panel(watch.ray)
        after = await asyncio.to_thread(truth, cluster)
        if shown == before == after:
            return after
        if time.monotonic() > deadline:
            wrong = {
                key: (shown[key], before[key], after[key])
                for key in after
                if not shown[key] == before[key] == after[key]
            }
            raise LabError(f"the panel, Ray before and Ray after do not agree: {wrong}")
        before = after


def _resources(node: RayNode) -> tuple[float | None, ...]:
    total = node.total
    return total.gpu, total.cpu, total.memory, total.object_store


def _used(node: RayNode) -> tuple[float | None, ...] | None:
    """Ray's sums of tenths have tails."""
    used = node.used
    if used is None:
        return None
    return tuple(None if number is None else round(number, 4) for number in (used.gpu, used.cpu))


def _counts(words: list[str | None] | list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[str(word)] = found.get(str(word), 0) + 1
    return found


def _rows(value: object) -> list[Mapping[str, object]]:
    assert isinstance(value, list)
    return value


def _table(value: object) -> Mapping[str, object]:
    assert isinstance(value, dict)
    return value


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
