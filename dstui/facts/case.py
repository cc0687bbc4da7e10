"""What a judge is given: what the inventory says of a host, what was found there, and the parameters to judge by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dstui.facts.raw import Missing, Op, Raw
from dstui.model import Reason, Threshold

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class HostSite:
    """One inventory host, flattened. `address` is what SSH dials; `peers` of it are the other hosts of the Site."""

    name: str
    roles: frozenset[str]
    data_ip: str
    mgmt_ip: str | None
    address: str
    port: int
    user: str
    gpu: bool
    gpus_per_host: int | None
    group: str | None = None
    owner: str | None = None
    local: bool = False
    controller_ip: str | None = None
    """The address this host sees the controller at, for `sshd -T -C addr=…`; None when it is not known."""

    @property
    def in_ray(self) -> bool:
        """Head and worker nodes: the servers that the document's hardware items speak of."""
        return bool(self.roles & {"head", "worker", "ray"})


@dataclass(frozen=True, slots=True)
class Site:
    """The cluster as the inventory describes it; what operations and judges need to know of it, nothing secret."""

    name: str
    environment: str
    phase: str
    hosts: tuple[HostSite, ...]
    shared_path: str
    runtime_python: str | None
    runtime_user: str | None
    runtime_mode: str
    docker_required: bool
    become: str
    dns_names: tuple[str, ...] = ()
    dns_external: str = "pypi.org"
    offline: bool = False
    outbound: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ray_ports: Mapping[str, int] = field(default_factory=dict)
    head_ports: tuple[int, ...] = (6379, 8265, 10001)
    cluster_cidrs: tuple[str, ...] = ()
    log_dirs: tuple[str, ...] = ()
    exporter_ports: tuple[int, ...] = (9100, 9400, 9835)
    """Ports on which hosts are asked for their own `/metrics` (node_exporter, dcgm-exporter, nvidia_gpu_exporter)."""
    cloud_provider: str = "auto"
    simulated: bool = False
    balancers: tuple[str, ...] = ()
    """Hosts that balance load: those with the role `lb` and those that `lb.hosts` names."""

    def host(self, name: str) -> HostSite:
        return next(h for h in self.hosts if h.name == name)

    def peers(self, name: str) -> tuple[HostSite, ...]:
        return tuple(h for h in self.hosts if h.name != name)


@dataclass(frozen=True, slots=True)
class Group:
    """A fact group: its operations for a host, the type it parses into, and the parser.

    Several groups are united into one call per host. A parser that raises ValueError, KeyError or TypeError makes
    the whole group Missing(parse-error); a parser should rather put Missing in the one field that it cannot read.
    """

    name: str
    facts: type
    ops: Callable[[HostSite, Site], tuple[Op, ...]]
    parse: Callable[[Raw], object]
    more: Callable[[HostSite, Site, Raw], tuple[Op, ...]] | None = None
    """A second and last round, derived from the first answers (`nvidia-smi` only where NVML did not answer). Given all
    answers of the host so far; the parser then sees both rounds."""


@dataclass(frozen=True, slots=True)
class Session:
    """The SSH session as the controller saw it; `auth` is the method that succeeded (`publickey`, `password` …)."""

    user: str
    auth: str | None
    key_type: str | None = None
    key_fingerprint: str | None = None
    key_bits: int | None = None
    host_key_fingerprint: str | None = None
    controller_ip: str | None = None
    via_jump: bool = False
    local: bool = False
    root_attempt: str = "not-tried"
    """`refused`, `succeeded`, `unreachable` or `not-tried`: one real login as root with the operator's own key."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """All that is known of one host. `unreachable` is set when there is no session, and then nothing else is known."""

    unreachable: Missing | None
    session: Session | None
    raw: Raw
    groups: Mapping[type, object]

    def get(self, group: type[F]) -> F | Missing:
        """The parsed facts of a group, e.g. `facts.get(OsFacts)`."""
        if self.unreachable is not None:
            return self.unreachable
        found = self.groups.get(group)
        if isinstance(found, Missing | group):
            return found
        return Missing(Reason.NOT_RUN, f"{group.__name__} was not gathered")


class Params:
    """The parameters of one check for one target, by name, each with its origin.

    A parameter of another type than the judge asks for is a programming error of the catalogue and raises TypeError;
    the loaders have already checked what operators wrote.
    """

    __slots__ = ("_by_name",)

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._by_name = {t.param: t for t in thresholds}

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        return tuple(self._by_name.values())

    def value(self, name: str) -> object:
        return self._by_name[name].value

    def origin(self, name: str) -> str:
        return self._by_name[name].origin

    def number(self, name: str) -> float:
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} is not a number: {value!r}")
        return value

    def count(self, name: str) -> int:
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} is not a whole number: {value!r}")
        return value

    def flag(self, name: str) -> bool:
        value = self.value(name)
        if not isinstance(value, bool):
            raise TypeError(f"{name} is not true or false: {value!r}")
        return value

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise TypeError(f"{name} is not text: {value!r}")
        return value

    def optional_number(self, name: str) -> float | None:
        return None if self.value(name) is None else self.number(name)

    def optional_text(self, name: str) -> str | None:
        return None if self.value(name) is None else self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.value(name)
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} is not a list: {value!r}")
        return tuple(str(item) for item in value)

    def counts(self, name: str) -> tuple[int, ...]:
        value = self.value(name)
        if not isinstance(value, list | tuple) or not all(isinstance(i, int) for i in value):
            raise TypeError(f"{name} is not a list of whole numbers: {value!r}")
        return tuple(int(item) for item in value)

    def table(self, name: str) -> Mapping[str, object]:
        value = self.value(name)
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} is not a table: {value!r}")
        return value


@dataclass(frozen=True, slots=True)
class HostCase:
    """One host before one judge."""

    host: HostSite
    site: Site
    facts: HostFacts
    params: Params
    now: float


@dataclass(frozen=True, slots=True)
class FleetCase:
    """All hosts before a judge that compares them, or that judges pairs or the whole cluster.

    `params` are the cluster's; `host_params` hold what groups and hosts override. `observed` holds choreographed
    observations (PortMatrix, NonceMatrix, VantageReach) by their type.
    """

    site: Site
    facts: Mapping[str, HostFacts]
    params: Params
    host_params: Mapping[str, Params]
    observed: Mapping[type, object]
    now: float

    def case(self, name: str) -> HostCase:
        return HostCase(
            self.site.host(name), self.site, self.facts[name], self.host_params.get(name, self.params), self.now
        )

    def get(self, kind: type[F]) -> F | Missing:
        found = self.observed.get(kind)
        if isinstance(found, Missing | kind):
            return found
        return Missing(Reason.NOT_RUN, f"{kind.__name__} was not observed")
