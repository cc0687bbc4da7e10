"""What Ray says of itself at one moment: the words of a Ray snapshot, and how they travel in a Record.

`record` makes the Record of a snapshot and `snapshot` reads it back. The JSON is the fields below by their names;
a value that is not known is left out (None here), never 0; an empty list is known to be empty. Times are seconds since
the epoch, memory is bytes, GPU and CPU are Ray's counts (fractions occur). Words of Ray (`ALIVE`, `RUNNING`) stay text,
in capitals, because another version has others. Nothing here comes from `runtime_env`, `env_vars`, configurations or
command lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dstui.model import Reason, Text
from dstui.telemetry.ray_json import plain, typed
from dstui.telemetry.record import Record, RecordKind

SOURCE = "ray"
ALIVE = "ALIVE"
DEAD = "DEAD"

SECTIONS = ("version", "auth", "nodes", "usage", "reports", "serve", "demands", "groups", "actors", "jobs", "targets")
"""The parts of a snapshot that are known or unknown by themselves."""


@dataclass(frozen=True, slots=True)
class Resources:
    """GPUs and CPUs counted, memory in bytes; None where Ray does not say."""

    gpu: float | None = None
    cpu: float | None = None
    memory: float | None = None
    object_store: float | None = None


@dataclass(frozen=True, slots=True)
class RayNode:
    """One raylet's life. One address can be ALIVE once and DEAD several times: `node_id` is what tells them apart.

    `reported_at` is when the node's agent last reported to the dashboard, by the node's clock; `report_age` is how many
    seconds that was before the dashboard answered. `used` is as of `RaySnapshot.usage_at`. `raylet_gone_at` is when
    dstui saw on the host that the raylet of a node that Ray calls alive does not run any more (controller's clock).
    """

    node_id: str
    ip: str | None = None
    hostname: str | None = None
    head: bool | None = None
    state: str | None = None
    message: str = ""
    total: Resources = Resources()
    used: Resources | None = None
    accelerator: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reported_at: float | None = None
    report_age: float | None = None
    metrics_port: int | None = None
    raylet_gone_at: float | None = None

    @property
    def alive(self) -> bool:
        return self.state == ALIVE


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a deployment. `spans` are the nodes of its placement group: a model over several hosts has more."""

    replica_id: str
    state: str | None = None
    node_id: str | None = None
    node_ip: str | None = None
    pid: int | None = None
    actor_id: str | None = None
    started_at: float | None = None
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """`target` is how many replicas Ray Serve wants; `asks` what each of them takes."""

    name: str
    status: str | None = None
    trigger: str | None = None
    message: str = ""
    target: int | None = None
    asks: Resources | None = None
    max_ongoing_requests: int | None = None
    replicas: tuple[Replica, ...] = ()
    dead_replicas: tuple[Replica, ...] = ()

    @property
    def running(self) -> int:
        return sum(replica.state == "RUNNING" for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class Application:
    """`message` is why it is not running, in Ray's words: the first line and the end."""

    name: str
    status: str | None = None
    message: str = ""
    route: str | None = None
    deployed_at: float | None = None
    deployments: tuple[Deployment, ...] = ()


@dataclass(frozen=True, slots=True)
class Proxy:
    """The HTTP entrance of Ray Serve on one node."""

    node_id: str
    node_ip: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Serve:
    """Ray Serve. `running` False means that Ray has no Serve controller: nothing was deployed."""

    running: bool
    applications: tuple[Application, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    http_port: int | None = None


@dataclass(frozen=True, slots=True)
class Demands:
    """What waits for resources and what the autoscaler says failed, line by line in Ray's words, as of `at`."""

    waiting: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    at: float | None = None


@dataclass(frozen=True, slots=True)
class PlacementGroup:
    """`scheduling` INFEASIBLE means that no set of nodes can ever hold it as things are, while `state` says PENDING."""

    group_id: str
    name: str = ""
    state: str | None = None
    scheduling: str | None = None
    asks: str = ""
    nodes: tuple[str, ...] = ()

    @property
    def infeasible(self) -> bool:
        return self.scheduling == "INFEASIBLE"


@dataclass(frozen=True, slots=True)
class Actor:
    """An actor that is not dead: how a process id on a GPU is traced back to what runs there."""

    actor_id: str
    kind: str = ""
    name: str = ""
    state: str | None = None
    node_id: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One submitted or driver job; its command line is never kept."""

    job_id: str
    status: str | None = None
    message: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    exit: int | None = None


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many jobs are in each state, and the latest of them."""

    counts: Mapping[str, int] = field(default_factory=dict)
    latest: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsTarget:
    """Where the metrics of one node are served, `ray_serve_*` and `ray_vllm_*` among them."""

    url: str
    ip: str
    port: int
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a section is unknown, or (`partial`) why it may be incomplete. `endpoint` is the path that was asked."""

    section: str
    endpoint: str
    reason: Reason
    why: Text
    partial: bool = False


@dataclass(frozen=True, slots=True)
class RaySnapshot:
    """One look at Ray through its dashboard, at `at` by the controller's clock.

    `head_time` is the head's clock when it answered. `as_of` says for each section when it was fetched: slow ones are
    not asked every time. `lost` is set when the dashboard could not be looked at; then no section is known.
    """

    at: float
    version: str | None = None
    session: str | None = None
    auth: str | None = None
    head_time: float | None = None
    usage_at: float | None = None
    nodes: tuple[RayNode, ...] | None = None
    serve: Serve | None = None
    demands: Demands | None = None
    groups: tuple[PlacementGroup, ...] | None = None
    actors: tuple[Actor, ...] | None = None
    jobs: Jobs | None = None
    targets: tuple[MetricsTarget, ...] | None = None
    faults: tuple[Fault, ...] = ()
    as_of: Mapping[str, float] = field(default_factory=dict)
    lost: Fault | None = None

    def fault(self, section: str) -> Fault | None:
        """Why a section is unknown or incomplete."""
        return next((fault for fault in self.faults if fault.section == section), self.lost)

    @property
    def usage_age(self) -> float | None:
        """How old `used` was when the head answered, seconds by the head's own clock."""
        return None if self.usage_at is None or self.head_time is None else max(0.0, self.head_time - self.usage_at)

    @property
    def total(self) -> Resources | None:
        """The sum over ALIVE nodes; None, or None in a field, when a row, a number or a state is not understood.

        Never Ray's own totals: `cluster_status` still counted a node five seconds after Ray had called it dead.
        """
        if self.nodes is None or any(fault.section == "nodes" for fault in self.faults):
            return None
        if any(node.state not in (ALIVE, DEAD) for node in self.nodes):
            return None
        return _sum(node.total for node in self.nodes if node.alive)

    @property
    def used(self) -> Resources | None:
        """What the ALIVE nodes have given out, as of `usage_at`; None when a node's use is not known."""
        if self.total is None or self.nodes is None:
            return None
        alive = [node.used for node in self.nodes if node.alive]
        known = [used for used in alive if used is not None]
        return _sum(known) if len(known) == len(alive) else None


def _sum(rows: Iterable[Resources]) -> Resources:
    known = list(rows)

    def total(values: list[float | None]) -> float | None:
        numbers = [value for value in values if value is not None]
        return sum(numbers) if len(numbers) == len(values) else None

    return Resources(
        total([row.gpu for row in known]),
        total([row.cpu for row in known]),
        total([row.memory for row in known]),
        total([row.object_store for row in known]),
    )


def record(snapshot: RaySnapshot) -> Record:
    """The snapshot as a Record: LOST with `reason` and `why` (`zh` beside it) when the dashboard could not be asked."""
    data = plain(snapshot)
    if snapshot.lost is None:
        return Record(snapshot.at, SOURCE, RecordKind.SAMPLE, data)
    told = {"reason": snapshot.lost.reason.value, "why": snapshot.lost.why.en, "zh": snapshot.lost.why.zh}
    return Record(snapshot.at, SOURCE, RecordKind.LOST, told | data)


def snapshot(data: Mapping[str, object]) -> RaySnapshot:
    """The snapshot of a SAMPLE or LOST Record of `ray`. ValueError names the field that is none."""
    return typed(RaySnapshot, data)
