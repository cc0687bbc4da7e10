"""What Ray's dashboard showed at one moment, how it was got to, and what was seen where it gave nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.raw import Answer, Missing
from dstui.facts.serve_config import AppConfig
from dstui.model import Evidence, Reason, Target
from dstui.telemetry.ray import Application, Deployment, RayNode, RaySnapshot

HEALTH, PAGE, SCRIPT, PROMETHEUS, GRAFANA = "healthz", "page", "script", "prometheus", "grafana"
PREFIX = "ray."
DIRECT = f"{PREFIX}direct."
"""Keys of exchanges: `ray.<section of the snapshot>`, `ray.<one of the above>`, `ray.direct.<address>`."""

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class RayLook(Exchanges):
    """One look at Ray. `url` is the dashboard's address for people; `via` the host whose SSH connection was used.

    `access` is how operators are meant to get there, `direct` or `tunnel`. `off_path`: that way was shut, and the
    head's SSH connection was taken instead. `closed` is why there was no way at all; `refused` says that the head was
    reached then, and did not get to the dashboard. `token` names the token that was
    sent, None when there is none; `tokenless` is why there is none. `configs` are what Serve was told to run. `status`
    is what `ray status` said on the head, asked only when the dashboard gave no answer.
    """

    url: str
    access: str
    via: str | None
    off_path: bool
    closed: Missing | None
    refused: bool
    snapshot: RaySnapshot
    configs: tuple[AppConfig, ...] | None
    token: str | None
    tokenless: Missing | None
    status: Answer | None = None

    @property
    def answered(self) -> bool:
        """Whether the dashboard gave any HTTP answer."""
        return any(exchange.status is not None for exchange in self._own())

    @property
    def open_without_token(self) -> bool | None:
        """Whether Ray asks nobody for a token; None when it did not say. Before 2.52 there were none, nor the path."""
        if self.snapshot.auth is not None:
            return self.snapshot.auth == "disabled"
        exchange = self.by_key.get(f"{PREFIX}auth")
        return True if exchange is not None and exchange.status == 404 and exchange.missing is None else None

    @property
    def reached_directly(self) -> tuple[str, ...]:
        """Addresses at which the controller got an answer of the dashboard without a tunnel."""
        return tuple(
            key.removeprefix(DIRECT)
            for key, exchange in self.by_key.items()
            if key.startswith(DIRECT) and exchange.status is not None
        )

    def why_not(self, section: str) -> Missing:
        """Why a section of the snapshot is unknown."""
        fault = self.snapshot.fault(section)
        if self.closed is not None:
            return self.closed
        exchange = self.by_key.get(PREFIX + section)
        if fault is not None:
            return Missing(fault.reason, f"{self.url}: {fault.why.en}")
        return (exchange.missing if exchange else None) or Missing(Reason.CANNOT_TELL, f"{self.url} did not say")

    def node(self, node_id: str | None) -> RayNode | None:
        """The node of an id, alive or dead."""
        return next((node for node in self.snapshot.nodes or () if node.node_id == node_id), None)

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """The exchanges, and `ray status` of the head."""
        own = tuple(exchange.evidence() for exchange in self.by_key.values())
        return own if self.status is None else (*own, self.status.evidence())

    def _own(self) -> Iterator[Exchange]:
        return (exchange for key, exchange in self.by_key.items() if not key.startswith(DIRECT))


def nodes_table(nodes: Sequence[RayNode]) -> str:
    """The nodes as lines for evidence."""
    return "\n".join(_node_line(node) for node in nodes) or "no nodes"


def _node_line(node: RayNode) -> str:
    total = node.total
    parts = [
        node.ip or "?",
        node.state or "?",
        "head" if node.head else "",
        f"GPU {_number(total.gpu)}",
        f"CPU {_number(total.cpu)}",
        f"memory {_gib(total.memory)}",
        f"object store {_gib(total.object_store)}",
        node.node_id[:12],
        node.message,
    ]
    return "  ".join(part for part in parts if part)


def serve_table(applications: Sequence[Application], configs: Sequence[AppConfig], proxies: Mapping[str, int]) -> str:
    """Applications, deployments and replicas as lines for evidence: nothing of any environment."""
    limits = {(app.name, each.name): each for app in configs for each in app.deployments}
    lines = [f"proxies: {', '.join(f'{count} {status}' for status, count in proxies.items()) or 'none'}"]
    for app in applications:
        lines.append(f"application {app.name}: {app.status} (route {app.route or '-'})")
        lines += [f"  {line}" for line in app.message.splitlines()]
        for each in app.deployments:
            limit = limits.get((app.name, each.name))
            lines += _deployment_lines(each, limit.max_queued if limit else None)
    return "\n".join(lines if applications else [*lines, "applications: {}"])


def _deployment_lines(each: Deployment, max_queued: int | None) -> Iterator[str]:
    yield (
        f"  {each.name}: {each.status}, {each.running} of {each.target} replicas RUNNING, "
        f"max_ongoing_requests {each.max_ongoing_requests}, max_queued_requests {max_queued}"
    )
    yield from (f"    {line}" for line in each.message.splitlines())
    for replica in each.replicas:
        yield f"    {replica.replica_id} {replica.state} on {replica.node_ip} pid {replica.pid}"
    if each.dead_replicas:
        yield f"    recently dead: {', '.join(replica.replica_id for replica in each.dead_replicas)}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"


def _gib(value: float | None) -> str:
    return "?" if value is None else f"{value / GIB:.1f} GiB"
