"""What is watched: the cluster, its hosts, and how often each kind of source speaks. A recording begins with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.facts.case import HostSite, Site
from dstui.facts.untyped import rows, table, text, whole

HOST, RAY, VLLM = "host", "ray", "vllm"

DEFAULT_INTERVALS: Mapping[str, float] = {HOST: 1.0, RAY: 2.0, VLLM: 1.0}


@dataclass(frozen=True, slots=True)
class Watched:
    """`intervals` are seconds between two samples of a `host`, of `ray` and of a `vllm` replica.

    A kind of source that has none is not watched, because the inventory does not say where it is.
    `max_num_seqs` is the engine's setting as the inventory has it, which no metric tells.
    """

    cluster: str
    hosts: tuple[HostSite, ...] = ()
    simulated: bool = False
    intervals: Mapping[str, float] = field(default_factory=lambda: DEFAULT_INTERVALS)
    max_num_seqs: int | None = None

    def interval(self, kind: str) -> float:
        """Seconds between two samples of `host`, `ray` or `vllm`."""
        return self.intervals.get(kind, DEFAULT_INTERVALS[kind])

    def watches(self, kind: str) -> bool:
        """Whether this kind of source is asked at all."""
        return kind in self.intervals

    @property
    def site(self) -> Site:
        """The hosts as a Site: enough to compare Ray with, not to probe."""
        return Site(
            name=self.cluster,
            environment="",
            phase="",
            hosts=self.hosts,
            shared_path="",
            runtime_python=None,
            runtime_user=None,
            runtime_mode="",
            docker_required=False,
            become="none",
            simulated=self.simulated,
        )

    def plain(self) -> dict[str, object]:
        """As JSON; how hosts are logged into is left out."""
        return {
            "cluster": self.cluster,
            "simulated": self.simulated,
            "intervals": dict(self.intervals),
            "max_num_seqs": self.max_num_seqs,
            "hosts": [_plain_host(host) for host in self.hosts],
        }


def _plain_host(host: HostSite) -> dict[str, object]:
    return {
        "name": host.name,
        "roles": sorted(host.roles),
        "data_ip": host.data_ip,
        "mgmt_ip": host.mgmt_ip,
        "address": host.address,
        "gpu": host.gpu,
        "gpus": host.gpus_per_host,
    }


def watched_of(row: Mapping[str, object]) -> Watched:
    """What `plain` gave. ValueError names the field that is none."""
    cluster, simulated = text(row.get("cluster")), row.get("simulated")
    intervals, hosts = table(row.get("intervals")), rows(row.get("hosts"))
    if cluster is None or not isinstance(simulated, bool):
        raise ValueError("cluster or simulated")
    if intervals is None or hosts is None:
        raise ValueError("intervals or hosts")
    return Watched(
        cluster,
        tuple(_host(host) for host in hosts),
        simulated,
        {kind: _seconds(value) for kind, value in intervals.items()},
        whole(row.get("max_num_seqs")),
    )


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("intervals")
    return float(value)


def _host(value: object) -> HostSite:
    row = table(value) or {}
    name, data_ip, address = (text(row.get(key)) for key in ("name", "data_ip", "address"))
    roles, gpu, count = rows(row.get("roles")), row.get("gpu"), row.get("gpus")
    if name is None or data_ip is None or address is None or roles is None or not isinstance(gpu, bool):
        raise ValueError("hosts")
    if count is not None and whole(count) is None:
        raise ValueError("hosts")
    return HostSite(
        name=name,
        roles=frozenset(str(role) for role in roles),
        data_ip=data_ip,
        mgmt_ip=text(row.get("mgmt_ip")),
        address=address,
        port=22,
        user="",
        gpu=gpu,
        gpus_per_host=whole(count),
    )
