"""ray.workers-joined: every host that should be in Ray is there once, alive, and its raylet really runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dstui.facts.addresses import normal_ip
from dstui.facts.case import FleetCase, HostSite
from dstui.facts.raw import Missing
from dstui.facts.ray_look import PREFIX, RayLook
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.ray_words import addresses_of, age, at_head, node_words, raylet_runs, without_ray
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target
from dstui.telemetry.ray import DEAD, RayNode
from dstui.telemetry.ray_compare import HostInRay, Joined, RayComparison, compare

EVIDENCE = (f"{PREFIX}nodes",)

_EXPECTED = Text("exactly one ALIVE node, at its data_ip", "恰有一个 ALIVE 节点，地址为其 data_ip")
_PASSED = Text("joined once and alive", "已加入一次且存活")


def judge(case: FleetCase) -> Sequence[Ruling]:
    cluster = cluster_target(case.site)
    if (why := without_ray(case.params)) is not None:
        return [not_applicable(cluster, why)]
    hosts = [host for host in case.site.hosts if host.in_ray]
    if not hosts:
        none = Missing(Reason.NO_TARGETS, "no host of the inventory has the role head, worker or ray")
        return [unknown(cluster, none, _EXPECTED)]
    look = case.get(RayLook)
    if isinstance(look, Missing):
        return [unknown(cluster, look, _EXPECTED)]
    if look.snapshot.nodes is None:
        return [unknown(cluster, look.why_not("nodes"), _EXPECTED, evidence=EVIDENCE)]
    known = {host.name: addresses_of(case, host) for host in case.site.hosts}
    compared = compare(look.snapshot, case.site, {}, known)
    rows = [_host(case, case.site.host(row.host), row, look, known) for row in compared.expected]
    return [*rows, _cluster(case, look, compared)]


def _host(
    case: FleetCase, host: HostSite, row: HostInRay, look: RayLook, known: Mapping[str, frozenset[str]]
) -> Ruling:
    causes = Causes(host_target(host.name), _EXPECTED)
    _weigh_joined(causes, row, look)
    runs = raylet_runs(case, host)
    if row.joined in (Joined.ALIVE, Joined.TWICE) and runs is False:
        causes.fail(
            Text(
                "Ray still counts it as alive, but no raylet runs on the host",
                "Ray 仍认为它存活，但该主机上没有 raylet 进程",
            )
        )
    if row.wrong_address is not None:
        shown = quoted(row.wrong_address, 60)
        causes.warn(
            Text(f"joined at {shown}, not at data_ip {host.data_ip}", f"以 {shown} 加入，不是 data_ip {host.data_ip}")
        )
    _weigh_deaths(case, causes, look, known[host.name])
    return causes.ruling(_observed(row, look, runs), _PASSED, material={"joined": str(row.joined)}, evidence=EVIDENCE)


def _weigh_joined(causes: Causes, row: HostInRay, look: RayLook) -> None:
    match row.joined:
        case Joined.ALIVE:
            return
        case Joined.TWICE:
            causes.warn(Text("two raylets at once on one host", "同一主机上有两个 raylet"))
        case Joined.DEAD:
            said = f": {quoted(row.node.message, 160)}" if row.node and row.node.message else ""
            causes.fail(Text(f"its node is DEAD{said}", f"其节点为 DEAD{said.replace(': ', '：', 1)}"))
        case Joined.ABSENT:
            causes.fail(Text("Ray does not know it: it has not joined", "Ray 不认识它：尚未加入"))
        case Joined.UNCLEAR:
            state = quoted((row.node.state if row.node else None) or "?", 40)
            causes.unknown(
                Reason.CANNOT_TELL, Text(f"its state {state} is not known to dstui", f"dstui 不认识其状态 {state}")
            )
        case Joined.UNKNOWN:
            fault = look.why_not("nodes")
            causes.missing(fault, Text("the list of nodes may be incomplete", "节点列表可能不完整"))


def _weigh_deaths(case: FleetCase, causes: Causes, look: RayLook, addresses: frozenset[str]) -> None:
    hours, now = case.params.number("recent_death_h"), at_head(look)
    mine = {normal_ip(ip) for ip in addresses}
    recent = [
        node
        for node in look.snapshot.nodes or ()
        if node.state == DEAD and normal_ip(node.ip or "") in mine and _within(node, now, hours * 3600)
    ]
    if not recent:
        return
    latest = max(node.ended_at or 0.0 for node in recent)
    words = age(max(0.0, now - latest))
    causes.warn(
        Text(
            f"it left the cluster {len(recent)} × in the last {hours:g} h, {words.en} ago the last time",
            f"最近 {hours:g} 小时离开集群 {len(recent)} 次，最近一次在 {words.zh}前",
        )
    )


def _within(node: RayNode, now: float, seconds: float) -> bool:
    """A death of which Ray does not tell the time may have been just now."""
    return node.ended_at is None or now - node.ended_at <= seconds


def _observed(row: HostInRay, look: RayLook, runs: bool | None) -> Text:
    node = row.node
    if node is None:
        return Text(f"no node ({row.joined})", "没有节点")
    since = node.started_at if node.alive else node.ended_at
    words = f"{quoted(node.state or '?', 20)} {node_words(node)}"
    said = Text(words, words)
    if since is not None:
        ago = age(max(0.0, at_head(look) - since))
        said = Text(f"{words}, since {ago.en}", f"{words}，已 {ago.zh}")
    if runs is None and node.alive:
        # For some seconds Ray counts on nodes that are gone.
        return Text(f"{said.en}; by Ray's word alone", f"{said.zh}；仅凭 Ray 的说法")
    return said


def _cluster(case: FleetCase, look: RayLook, compared: RayComparison) -> Ruling:
    count = len(compared.expected)
    causes = Causes(cluster_target(case.site), Text(f"{count} nodes of the inventory", f"清单中的 {count} 个节点"))
    if not compared.complete:
        causes.missing(look.why_not("nodes"), Text("the list of nodes may be incomplete", "节点列表可能不完整"))
    if compared.strangers:
        names = listed([node_words(node) for node in compared.strangers])
        causes.warn(
            Text(
                f"{len(compared.strangers)} ALIVE nodes are not in the inventory: {names}",
                f"有 {len(compared.strangers)} 个 ALIVE 节点不在清单中：{names}",
            )
        )
    for row in compared.hosts:
        if not row.expected and row.joined in (Joined.ALIVE, Joined.TWICE):
            causes.warn(Text(f"{row.host} is in Ray without a role for it", f"{row.host} 在 Ray 中，但没有相应角色"))
    if compared.alive < count and compared.complete:
        missing = listed([row.host for row in compared.expected if row.joined not in (Joined.ALIVE, Joined.TWICE)])
        causes.fail(Text(f"not in the cluster: {missing}", f"不在集群中：{missing}"))
    return causes.ruling(
        Text(f"{compared.alive} of {count} expected nodes alive", f"{count} 个预期节点中 {compared.alive} 个存活"),
        Text("all are there and nobody else", "全部在集群中，且没有其他节点"),
        material={"alive": compared.alive, "expected": count, "strangers": len(compared.strangers)},
        evidence=EVIDENCE,
    )


JUDGE = FleetJudge("ray.workers-joined", ("serve_processes", "addresses"), (), judge, needs=("ray",))
