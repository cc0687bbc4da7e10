"""The whole inventory as pydantic models: the cluster, how to reach it, its hosts; the other blocks are imported.

Only `dstui.inventory.loader` imports this, so that nothing else pays for pydantic.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from dstui.inventory.schema_people import (
    Audit,
    Backup,
    Docs,
    EscalationLevel,
    OnCall,
    Ops,
    Schedule,
    Security,
    Sign,
    Support,
    Team,
)
from dstui.inventory.schema_service import (
    Auth,
    Cloud,
    Endpoints,
    Engine,
    Expect,
    Limit,
    Load,
    LoadBalancer,
    Model,
    Monitoring,
    NetworkFacts,
    Ray,
    Rehearsals,
    Runtime,
    Serving,
    Slo,
    Storage,
)
from dstui.inventory.schema_types import (
    Address,
    Block,
    Count,
    HomePath,
    HostOrAddress,
    IdentityReference,
    Key,
    Login,
    Name,
    Person,
    Port,
    Seconds,
    SecretReference,
    TextValue,
    Thresholds,
    TimeZone,
)

Role = Literal["head", "worker", "ray", "lb", "monitoring", "storage", "backup"]
Roles = Annotated[tuple[Role, ...], Field(min_length=1)]


def _strict(value: bool) -> bool:
    if not value:
        raise ValueError(
            "cannot be false: without host keys anyone on the way can pose as your hosts;"
            " verify the keys once and put them into known_hosts"
        )
    return value


class Cluster(Block):
    """`phase` says whether Ray should run already; `auto` finds out."""

    name: Name
    environment: Literal["production", "staging", "lab"] = "lab"
    timezone: TimeZone = "UTC"
    phase: Literal["auto", "pre", "live"] = "auto"


class JumpHop(Block):
    """One host on the way, in order; user and key default to those of `ssh`."""

    host: HostOrAddress
    port: Port = 22
    user: Login | None = None
    identity_ref: IdentityReference | None = None


class Ssh(Block):
    """How dstui logs in. `max_parallel` bounds the sessions that are opened at a time."""

    user: Login
    port: Port = 22
    identity_ref: IdentityReference | None = None
    agent: bool = True
    known_hosts: HomePath = "~/.ssh/known_hosts"
    strict_host_key_checking: Annotated[bool, AfterValidator(_strict)] = True
    connect_timeout_s: Seconds = 8.0
    command_timeout_s: Seconds = 10.0
    host_timeout_s: Seconds = 60.0
    max_parallel: Annotated[int, Field(ge=1, le=1024)] = 64
    become: Literal["none", "sudo-n"] = "none"


class HostSsh(Block):
    """What differs for one host. `jump` replaces the common chain; an empty list means directly."""

    host: HostOrAddress | None = None
    port: Port | None = None
    user: Login | None = None
    identity_ref: IdentityReference | None = None
    known_hosts: HomePath | None = None
    jump: tuple[JumpHop, ...] | None = None


class HostGroup(Block):
    """What hosts have in common."""

    roles: Roles | None = None
    gpu: bool | None = None
    gpus_per_host: Count | None = None
    thresholds: Thresholds = Field(default_factory=dict)


class Host(Block):
    """One machine. `local` is the machine dstui runs on: no SSH."""

    name: Name
    data_ip: Address
    roles: Roles | None = None
    group: Name | None = None
    mgmt_ip: Address | None = None
    ssh: HostSsh = Field(default_factory=HostSsh)
    local: bool = False
    gpu: bool | None = None
    gpus_per_host: Count | None = None
    owner: Person | None = None
    thresholds: Thresholds = Field(default_factory=dict)


class Document(Block):
    """An inventory file."""

    model_config = ConfigDict(defer_build=False)

    version: Literal[1]
    cluster: Cluster
    ssh: Ssh
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]
    jump: tuple[JumpHop, ...] = ()
    vars: dict[str, object] = Field(default_factory=dict)
    secrets: dict[Key, SecretReference] = Field(default_factory=dict)
    groups: dict[Name, HostGroup] = Field(default_factory=dict)
    expect: Expect = Field(default_factory=Expect)
    network: NetworkFacts = Field(default_factory=NetworkFacts)
    storage: Storage = Field(default_factory=Storage)
    runtime: Runtime = Field(default_factory=Runtime)
    model: Model | None = None
    engine: Engine = Field(default_factory=Engine)
    ray: Ray = Field(default_factory=Ray)
    serving: Serving = Field(default_factory=Serving)
    endpoints: Endpoints | None = None
    auth: Auth = Field(default_factory=Auth)
    limit: Limit = Field(default_factory=Limit)
    lb: LoadBalancer = Field(default_factory=LoadBalancer)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    load: Load = Field(default_factory=Load)
    slo: Slo = Field(default_factory=Slo)
    rehearsals: Rehearsals = Field(default_factory=Rehearsals)
    backup: Backup = Field(default_factory=Backup)
    security: Security = Field(default_factory=Security)
    cloud: Cloud = Field(default_factory=Cloud)
    audit: Audit = Field(default_factory=Audit)
    docs: Docs = Field(default_factory=Docs)
    ops: Ops = Field(default_factory=Ops)
    team: Team = Field(default_factory=Team)
    operators: tuple[Person, ...] = ()
    sign: Sign = Field(default_factory=Sign)
    oncall: OnCall = Field(default_factory=OnCall)
    support: Support = Field(default_factory=Support)
    escalation: tuple[EscalationLevel, ...] = ()
    thresholds: Thresholds = Field(default_factory=dict)
    profiles: dict[Name, tuple[TextValue, ...]] = Field(default_factory=dict)
    schedule: Schedule = Field(default_factory=Schedule)
