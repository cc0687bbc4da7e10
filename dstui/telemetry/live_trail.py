"""From a symptom of the API to the hardware: replica, Ray node, host, processes, GPUs, and what stands against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dstui.model import Text
from dstui.telemetry.host import HostSample
from dstui.telemetry.live import Live
from dstui.telemetry.live_marks import Mark, mark_text, marks_of
from dstui.telemetry.live_ray import RayView, host_by_address
from dstui.telemetry.live_status import Shown, shown
from dstui.telemetry.ray import Application, Deployment, RayNode, Replica
from dstui.telemetry.vllm_alarms import Alarm
from dstui.telemetry.vllm_panel import VllmPanel
from dstui.telemetry.vllm_row import ReplicaRow

XID_CHECK = "x.gpu-xid"
"""The check whose findings have a host's XIDs too: older ones, and where the stream may not read the kernel's log."""


@dataclass(frozen=True, slots=True)
class TrailGpu:
    """A GPU that the replica is on, or may be on: `pids` are the replica's processes that NVML sees there."""

    host: str
    index: int
    uuid: str | None
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What Ray Serve knows of the replica."""

    application: Application
    deployment: Deployment
    replica: Replica


@dataclass(frozen=True, slots=True)
class Trail:
    """`hosts` are inventory names, the replica's own first; empty when nothing tells where it runs.

    `matched`: the GPUs hold processes of the replica; else they are all GPUs of its hosts, and `how` says why.
    `shown` is of the first host. `row` is the replica in the vLLM panel, `served` in Ray Serve; None: not there.
    `alarms` are the replica's, `beliefs` what Ray is wrong about by host, `marks` what stands out by host, without
    that of GPUs which are others'. `reasons` is all of it as sentences, the replica's first.
    """

    replica: str
    node_id: str | None
    hosts: tuple[str, ...]
    pids: tuple[int, ...]
    gpus: tuple[TrailGpu, ...]
    matched: bool
    how: Text
    shown: Shown | None
    row: ReplicaRow | None = None
    served: Served | None = None
    alarms: tuple[Alarm, ...] = ()
    beliefs: Mapping[str, Text] = field(default_factory=dict)
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[Text, ...]:
        found = [alarm.text for alarm in self.alarms]
        for name in self.hosts:
            found += [self.beliefs[name]] if name in self.beliefs else []
            texts = (mark_text(mark) for mark in self.marks.get(name, ()))
            found += [Text(f"{name}: {text.en}", f"{name}：{text.zh}") for text in texts]
        return tuple(found)


_BY_PID = Text("matched by process id", "按进程号匹配")
_NO_HOST = Text("neither its metrics nor Ray tell on which host it runs", "指标和 Ray 都未说明它运行在哪台主机")
_NO_PID = Text(
    "Ray tells no process of it: these are all GPUs of the host",
    "Ray 未给出其进程：以下是该主机的全部 GPU",
)
_NOT_THERE = Text(
    "NVML sees none of its processes, as with containers: these are all GPUs of the host",
    "NVML 未看到其进程（如在容器中）：以下是该主机的全部 GPU",
)
_NO_SAMPLE = Text("the host's GPUs cannot be seen now", "目前看不到该主机的 GPU")


def follow(live: Live, replica: str, panel: VllmPanel, ray: RayView, now: float) -> Trail:
    """The trail of a replica by its name in the vLLM panel."""
    row = next((each for each in panel.rows if each.replica == replica), None)
    by_address = host_by_address(live.watched)
    home = _host(live, row, replica, by_address)
    nodes = {node.node_id: node for node in ray.nodes.value or ()}
    served = _served(ray, replica, home, nodes, by_address)
    copy = served.replica if served is not None else None
    node = _node(copy, nodes, home, by_address)
    hosts = _hosts(home, copy, node, nodes, by_address)
    pids = _pids(ray, copy)
    samples = {name: _current(live, name, now) for name in hosts}
    gpus, matched = _gpus(samples, pids)
    return Trail(
        replica=replica,
        node_id=node.node_id if node is not None else None,
        hosts=hosts,
        pids=pids,
        gpus=gpus,
        matched=matched,
        how=_how(hosts, samples, pids, matched),
        shown=shown(live.hosts[hosts[0]].pulse, now) if hosts and hosts[0] in live.hosts else None,
        row=row,
        served=served,
        alarms=tuple(alarm for alarm in panel.raised if alarm.replica == replica),
        beliefs={name: ray.beliefs[name] for name in hosts if name in ray.beliefs},
        marks=_marks(live, hosts, gpus if matched else None, now),
    )


def _host(live: Live, row: ReplicaRow | None, replica: str, by_address: Mapping[str, str]) -> str | None:
    """By the node that Ray's label names; else by its own name, which is a host's, perhaps with a port or an id."""
    if row is not None and row.node is not None and row.node in by_address:
        return by_address[row.node]
    page = replica.split("/", 1)[0]
    for name in (page, page.rpartition(":")[0]):
        if name in live.hosts:
            return name
        if name in by_address:
            return by_address[name]
    return None


def _served(
    ray: RayView, replica: str, home: str | None, nodes: Mapping[str, RayNode], by_address: Mapping[str, str]
) -> Served | None:
    """In Ray Serve: by its id in the name; else the only one on the host."""
    every = list(_every(ray))
    suffix = replica.rpartition("/")[2]
    for each in every:
        if each.replica.replica_id and suffix.endswith(each.replica.replica_id):
            return each
    here = [each for each in every if home is not None and home in _places(each.replica, nodes, by_address)]
    return here[0] if len(here) == 1 else None


def _every(ray: RayView) -> Iterator[Served]:
    for application in ray.serve.value.applications if ray.serve.value is not None else ():
        for deployment in application.deployments:
            for replica in deployment.replicas:
                yield Served(application, deployment, replica)


def _places(served: Replica, nodes: Mapping[str, RayNode], by_address: Mapping[str, str]) -> list[str]:
    """The hosts of a Serve replica: its own node's, then those that its placement group spans."""
    found = [by_address.get(served.node_ip or "")]
    for node_id in (served.node_id, *served.spans):
        node = nodes.get(node_id or "")
        found.append(by_address.get(node.ip or "") if node is not None else None)
    return list(dict.fromkeys(name for name in found if name is not None))


def _node(
    served: Replica | None, nodes: Mapping[str, RayNode], home: str | None, by_address: Mapping[str, str]
) -> RayNode | None:
    if served is not None and (node := nodes.get(served.node_id or "")) is not None:
        return node
    here = [node for node in nodes.values() if node.alive and home and by_address.get(node.ip or "") == home]
    return here[0] if len(here) == 1 else None


def _hosts(
    home: str | None,
    served: Replica | None,
    node: RayNode | None,
    nodes: Mapping[str, RayNode],
    by_address: Mapping[str, str],
) -> tuple[str, ...]:
    places = [home] if home is not None else []
    if served is not None:
        places += _places(served, nodes, by_address)
    if node is not None and node.ip in by_address:
        places.append(by_address[node.ip or ""])
    return tuple(dict.fromkeys(places))


def _pids(ray: RayView, served: Replica | None) -> tuple[int, ...]:
    """The replica's own process, and the actors on its nodes, of which vLLM's workers are some."""
    if served is None:
        return ()
    places = {served.node_id, *served.spans}
    others = [each.replica for each in _every(ray) if each.replica.replica_id != served.replica_id]
    # Where two replicas share a node, nothing tells whose worker an actor is.
    shared = any(places & {each.node_id, *each.spans} for each in others)
    actors = () if shared else ray.actors.value or ()
    found = [served.pid, *(actor.pid for actor in actors if actor.node_id in places)]
    return tuple(dict.fromkeys(pid for pid in found if pid))


def _current(live: Live, name: str, now: float) -> HostSample | None:
    fold = live.hosts.get(name)
    return fold.sample if fold is not None and shown(fold.pulse, now).known else None


def _gpus(samples: Mapping[str, HostSample | None], pids: tuple[int, ...]) -> tuple[tuple[TrailGpu, ...], bool]:
    wanted = set(pids)
    held: list[TrailGpu] = []
    every: list[TrailGpu] = []
    for name, sample in samples.items():
        for gpu in sample.gpus if sample is not None else ():
            found = tuple(process.pid for process in gpu.procs or () if process.pid in wanted)
            every.append(TrailGpu(name, gpu.index, gpu.uuid, found))
            if found:
                held.append(every[-1])
    return (tuple(held), True) if held else (tuple(every), False)


def _how(
    hosts: tuple[str, ...], samples: Mapping[str, HostSample | None], pids: tuple[int, ...], matched: bool
) -> Text:
    if matched:
        return _BY_PID
    if not hosts:
        return _NO_HOST
    if not any(sample is not None and sample.gpus for sample in samples.values()):
        return _NO_SAMPLE
    return _NOT_THERE if pids else _NO_PID


def _marks(
    live: Live, hosts: Sequence[str], gpus: tuple[TrailGpu, ...] | None, now: float
) -> dict[str, tuple[Mark, ...]]:
    """What stands out of the hosts; marks of GPUs that are not the replica's own are left out."""
    norm = live.grid_cache.norm_now(live.hosts.values(), now)
    found: dict[str, tuple[Mark, ...]] = {}
    for name in hosts:
        fold = live.hosts.get(name)
        if fold is None:
            continue
        own = {gpu.index for gpu in gpus if gpu.host == name} if gpus is not None else None
        marks = marks_of(fold, shown(fold.pulse, now), norm)
        found[name] = tuple(mark for mark in marks if own is None or not mark.gpus or own.intersection(mark.gpus))
    return found
