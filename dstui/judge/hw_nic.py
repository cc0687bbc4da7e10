"""hw.nic-speed: from every Ray host to every other, the link that traffic really takes is fast enough and up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dstui.facts.addresses import AddressFacts
from dstui.facts.case import FleetCase, HostCase, HostSite
from dstui.facts.link_paths import LinkPath, resolve
from dstui.facts.links import LinkFacts, LinkMeasurement, LinkMeasurements, NoRoute, Route, ray_peers
from dstui.facts.raw import Missing
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target, same


@dataclass(slots=True)
class _Way:
    """One interface of a host and the peers that are reached through it."""

    dev: str
    path: LinkPath | Missing
    peers: list[str] = field(default_factory=list)

    @property
    def to(self) -> str:
        shown = ", ".join(self.peers[:3])
        return shown if len(self.peers) <= 3 else f"{shown} + {len(self.peers) - 3}"


def nic_speed(case: FleetCase) -> Sequence[Ruling]:
    return [_judge_host(case, case.case(host.name)) for host in case.site.hosts if host.name in case.facts]


def _judge_host(fleet: FleetCase, case: HostCase) -> Ruling:
    host, target = case.host, host_target(case.host.name)
    least = case.params.number("nic_min_gbps")
    expected = Text(
        f"at least {least:g} Gb/s to every Ray peer, link up", f"到每个 Ray 节点至少 {least:g} Gb/s，链路正常"
    )
    if not host.in_ray:
        return not_applicable(target, Text("this host has no head or worker role", "该主机不是 head 或 worker"))
    peers = ray_peers(host, case.site)
    if not peers:
        return not_applicable(target, Text("no other Ray host in the inventory", "清单中没有其他 Ray 主机"))
    facts = case.facts.get(LinkFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    if isinstance(facts.interfaces, Missing):
        return unknown(target, facts.interfaces, expected)
    causes = Causes(target, expected)
    ways = _ways(causes, facts, peers)
    measured = _measurements(fleet, host, peers)
    for way in ways:
        _judge_way(causes, case, way, measured)
        _judge_side_remarks(causes, case, way)
    _judge_measurements(causes, case, measured)
    if case.params.flag("measure") and any(peer.name not in measured for peer in peers):
        causes.unknown(
            Reason.NOT_BUILT,
            Text("measure is asked for, and dstui does not measure links", "已要求实测，但 dstui 不进行链路测速"),
        )
    _judge_other_ends(causes, fleet, host, peers, ways)
    unasked = len([peer for peer in peers if peer.data_ip not in facts.routes])
    if unasked:
        causes.unknown(
            Reason.NOT_RUN,
            Text(
                f"routes to {unasked} of {len(peers)} peers were not looked at",
                f"{len(peers)} 个节点中有 {unasked} 个的路由未查看",
            ),
        )
    return causes.ruling(
        _observed(ways),
        Text(
            f"every peer is behind a link of {least:g} Gb/s or more that is up",
            f"到每个节点的链路均不低于 {least:g} Gb/s 且正常",
        ),
        material=_material(ways, measured),
    )


def _ways(causes: Causes, facts: LinkFacts, peers: Sequence[HostSite]) -> list[_Way]:
    ways: dict[str, _Way] = {}
    for peer in peers:
        route = facts.routes.get(peer.data_ip)
        if isinstance(route, NoRoute):
            why = quoted(route.why, 80)
            causes.fail(
                Text(
                    f"no route to {peer.name} ({peer.data_ip}): {why}",
                    f"没有到 {peer.name}（{peer.data_ip}）的路由：{why}",
                )
            )
        elif isinstance(route, Missing):
            causes.missing(route, Text(f"route to {peer.name}", f"到 {peer.name} 的路由"))
        elif isinstance(route, Route):
            ways.setdefault(route.dev, _Way(route.dev, resolve(facts, route.dev))).peers.append(peer.name)
    return list(ways.values())


def _judge_way(causes: Causes, case: HostCase, way: _Way, measured: dict[str, LinkMeasurement]) -> None:
    least, declared = case.params.number("nic_min_gbps"), case.params.optional_number("nic_declared_gbps")
    dev, path = quoted(way.dev, 20), way.path
    if way.dev == "lo":
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"the data_ip of {way.to} is an address of this host itself", f"{way.to} 的 data_ip 是本机地址"),
        )
        return
    if isinstance(path, Missing):
        causes.missing(path, same(dev))
        return
    if path.up is False:
        causes.fail(Text(f"{dev} to {way.to} is down", f"到 {way.to} 的 {dev} 未连接"))
        return
    unmeasured = [name for name in way.peers if name not in measured]
    if isinstance(path.up, Missing) and unmeasured:
        causes.missing(path.up, Text(f"whether {dev} is up", f"{dev} 是否连接"))
    if isinstance(path.mbps, int):
        if path.mbps < least * 1000:
            causes.fail(Text(f"{dev} to {way.to}: {_gbps(path.mbps)}", f"到 {way.to} 的 {dev} 只有 {_gbps(path.mbps)}"))
        return
    if not unmeasured:
        return
    if declared is None:
        causes.missing(
            path.mbps,
            Text(f"speed of {dev} to {', '.join(unmeasured[:3])}", f"到 {', '.join(unmeasured[:3])} 的 {dev} 速率"),
        )
        causes.note(_ASK)
    elif declared < least:
        causes.fail(Text(f"{dev}: declared as {declared:g} Gb/s", f"{dev}：清单声明为 {declared:g} Gb/s"))
    else:
        origin = case.params.origin("nic_declared_gbps")
        causes.note(
            Text(
                f"{dev} hides its speed; {declared:g} Gb/s is declared ({origin}), not observed",
                f"{dev} 不显示速率；{declared:g} Gb/s 来自声明（{origin}），并非实测",
            )
        )


_ASK = Text(
    "declare expect.nic_declared_gbps once you know it (iperf3 -P 8 between the two hosts tells)",
    "请在确认速率后（如在两台主机间运行 iperf3 -P 8）于清单中声明 expect.nic_declared_gbps",
)


def _judge_side_remarks(causes: Causes, case: HostCase, way: _Way) -> None:
    if isinstance(way.path, Missing):
        return
    path, dev = way.path, quoted(way.dev, 20)
    if path.down and path.up is not False:
        names = ", ".join(path.down)
        causes.warn(Text(f"{dev}: member {names} is down", f"{dev}：成员 {names} 未连接"))
    for slower in path.slower_than_able:
        causes.warn(Text(f"negotiated below the adapter's maximum: {slower}", f"协商速率低于网卡上限：{slower}"))
    for port in path.rdma:
        rate = "?" if port.gbps is None else f"{port.gbps:g}"
        causes.note(
            Text(
                f"RDMA {port.device}/{port.port}: {rate} Gb/s, {quoted(port.state, 20)}, {quoted(port.link_layer, 20)}",
                f"RDMA {port.device}/{port.port}：{rate} Gb/s，{quoted(port.state, 20)}，{quoted(port.link_layer, 20)}",
            )
        )
    addresses, mgmt = case.facts.get(AddressFacts), case.host.mgmt_ip
    if isinstance(addresses, AddressFacts) and mgmt and mgmt != case.host.data_ip:
        held = addresses.holding(mgmt)
        if held is not None and held[0].name == way.dev:
            causes.warn(
                Text(
                    f"traffic to {way.to} leaves through the management interface {dev}",
                    f"到 {way.to} 的流量经管理网卡 {dev} 发出",
                )
            )


def _measurements(fleet: FleetCase, host: HostSite, peers: Sequence[HostSite]) -> dict[str, LinkMeasurement]:
    observed = fleet.get(LinkMeasurements)
    if isinstance(observed, Missing):
        return {}
    found = {peer.name: observed.between(host.name, peer.name) for peer in peers}
    return {name: measurement for name, measurement in found.items() if measurement is not None}


def _judge_measurements(causes: Causes, case: HostCase, measured: dict[str, LinkMeasurement]) -> None:
    least = case.params.number("nic_min_gbps") * case.params.number("measure_min_ratio")
    for name, measurement in sorted(measured.items()):
        if measurement.gbps < least:
            causes.fail(
                Text(
                    f"measured {measurement.gbps:.1f} Gb/s to {name}, below {least:g} Gb/s",
                    f"到 {name} 实测 {measurement.gbps:.1f} Gb/s，低于 {least:g} Gb/s",
                )
            )
        else:
            causes.note(
                Text(f"measured {measurement.gbps:.1f} Gb/s to {name}", f"到 {name} 实测 {measurement.gbps:.1f} Gb/s")
            )


def _judge_other_ends(
    causes: Causes, fleet: FleetCase, host: HostSite, peers: Sequence[HostSite], ways: Sequence[_Way]
) -> None:
    """What the peer uses to come back: another speed or MTU there is worth knowing."""
    here = {name: way.path for way in ways for name in way.peers}
    for peer in peers:
        mine = here.get(peer.name)
        facts = fleet.facts[peer.name].get(LinkFacts) if peer.name in fleet.facts else None
        if not isinstance(mine, LinkPath) or not isinstance(facts, LinkFacts):
            continue
        back = facts.routes.get(host.data_ip)
        theirs = resolve(facts, back.dev) if isinstance(back, Route) else None
        if not isinstance(theirs, LinkPath):
            continue
        if isinstance(mine.mbps, int) and isinstance(theirs.mbps, int) and mine.mbps != theirs.mbps:
            causes.warn(
                Text(
                    f"the two ends differ: {_gbps(mine.mbps)} here, {_gbps(theirs.mbps)} on {peer.name}",
                    f"两端速率不同：本机 {_gbps(mine.mbps)}，{peer.name} {_gbps(theirs.mbps)}",
                )
            )
        if mine.mtu and theirs.mtu and mine.mtu != theirs.mtu:
            causes.warn(
                Text(
                    f"MTU differs: {mine.mtu} here, {theirs.mtu} on {peer.name}",
                    f"MTU 不同：本机 {mine.mtu}，{peer.name} {theirs.mtu}",
                )
            )


def _gbps(mbps: int) -> str:
    return f"{mbps / 1000:g} Gb/s"


def _observed(ways: Sequence[_Way]) -> Text:
    en, zh = [], []
    for way in ways[:3]:
        path = way.path
        speed = _gbps(path.mbps) if isinstance(path, LinkPath) and isinstance(path.mbps, int) else "? Gb/s"
        leaves = f" ({', '.join(path.leaves[:4])})" if isinstance(path, LinkPath) and path.leaves != (way.dev,) else ""
        en.append(f"{quoted(way.dev, 20)}{leaves} {speed} to {way.to}")
        zh.append(f"{quoted(way.dev, 20)}{leaves} {speed} 到 {way.to}")
    if not ways:
        return Text("no usable route to a Ray peer", "没有到 Ray 节点的可用路由")
    more = f" + {len(ways) - 3}" if len(ways) > 3 else ""
    return Text("; ".join(en) + more, "；".join(zh) + more)


def _material(ways: Sequence[_Way], measured: dict[str, LinkMeasurement]) -> dict[str, object]:
    links: dict[str, object] = {}
    for way in ways:
        path = way.path
        known = isinstance(path, LinkPath)
        links[way.dev] = {
            "peers": sorted(way.peers),
            "leaves": list(path.leaves) if isinstance(path, LinkPath) else None,
            "mbps": path.mbps if isinstance(path, LinkPath) and isinstance(path.mbps, int) else None,
            "up": path.up if known and isinstance(path, LinkPath) and isinstance(path.up, bool) else None,
            "mtu": path.mtu if isinstance(path, LinkPath) else None,
        }
    return {"links": links, "measured": {name: round(m.gbps, 1) for name, m in sorted(measured.items())}}


JUDGE = FleetJudge("hw.nic-speed", ("links", "addresses"), ("links",), nic_speed)
