"""perf.network: under load the links keep half of their bandwidth free."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.ladder import NEED, NETWORK
from dstui.judge.perf_ride import Ride, hosts, ride
from dstui.judge.perf_words import enough, led, percent
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted
from dstui.load.window import HostWindow, LinkWindow
from dstui.model import Reason, Ruling, Text, same


def judge(case: FleetCase) -> Sequence[Ruling]:
    most = case.params.number("net_util_max_pct")
    expected = Text(
        f"mean of the busier direction below {most:g} % of the speed on every interface",
        f"每个网口较忙方向平均低于速率的 {most:g} %",
    )
    found = ride(case, NETWORK, expected)
    if isinstance(found, Ruling):
        return [found]
    causes, stage = found.causes, found.stage
    if stage is not None:
        for site, window in hosts(case.site, stage, causes, also=case.site.balancers):
            _weigh_host(case, site.name, window, uplink=not site.in_ray, causes=causes)
        causes.note(Text("drops and retransmits are not among the ladder's samples", "压测样本不含丢包和重传"))
    return [
        causes.ruling(
            _observed(found),
            Text("the links keep their reserve", "链路保有余量"),
            material={"verdict": causes.verdict.value},
            evidence=("ladder.network",),
        )
    ]


def _observed(found: Ride) -> Text:
    if found.stage is None:
        return Text("not measured", "未测量")
    shares = [
        (share, f"{host} {name}")
        for host, window in found.stage.window.hosts.items()
        for name, link in window.links.items()
        if (share := link.share(link.mean)) is not None
    ]
    users = found.stage.stage.users
    if not shares:
        return Text(f"at {users} users: no link's use is known", f"{users} 用户时：链路利用率未知")
    share, name = max(shares)
    where = quoted(name, 60)
    return Text(
        f"at {users} users the busiest is {where}: mean {percent(share)}",
        f"{users} 用户时最忙的是 {where}：平均 {percent(share)}",
    )


def _weigh_host(case: FleetCase, host: str, window: HostWindow, *, uplink: bool, causes: Causes) -> None:
    carrying = {name: link for name, link in window.links.items() if not _still(link)}
    if not carrying:
        causes.unknown(
            Reason.CANNOT_TELL,
            led(same(host), Text("no interface was seen to carry anything", "没有看到任何有流量的网口")),
        )
    for name, link in sorted(carrying.items()):
        part = Causes(causes.target, causes.expected)
        _weigh_link(case, link, window.expected, uplink=uplink, causes=part)
        where = same(f"{host} {quoted(name, 30)}")
        causes.found += [type(c)(c.verdict, led(where, c.text), c.reason) for c in part.found]


def _still(link: LinkWindow) -> bool:
    """An interface that was seen, and carried nothing: no data goes over it, whatever its speed."""
    return link.samples > 0 and link.peak == 0


def _weigh_link(case: FleetCase, link: LinkWindow, expected: int, *, uplink: bool, causes: Causes) -> None:
    most, burst = case.params.number("net_util_max_pct"), case.params.number("p95_warn_pct")
    if not enough(link.samples, expected):
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"{link.samples} of {expected} samples came", f"只有 {link.samples}/{expected} 个样本"),
        )
    if link.speed is None or link.speed <= 0:
        causes.unknown(Reason.CANNOT_TELL, Text("the link's speed is not known", "链路速率未知"))
        return
    mean, p95 = link.share(link.mean), link.share(link.p95)
    if mean is None or p95 is None:
        causes.unknown(Reason.CANNOT_TELL, Text("its traffic was not seen", "未观测到流量"))
        return
    if not mean * 100 < most:
        text = Text(f"mean {percent(mean)} (below {most:g} %)", f"平均 {percent(mean)}（应低于 {most:g} %）")
        if uplink:
            causes.warn(Text(f"the balancer's uplink: {text.en}", f"负载均衡上行：{text.zh}"))
        else:
            causes.fail(text)
    elif p95 * 100 > burst:
        causes.warn(Text(f"p95 {percent(p95)} (at most {burst:g} %)", f"p95 {percent(p95)}（最多 {burst:g} %）"))


JUDGE = FleetJudge(NETWORK, (), (), judge, (NEED,), recorded=True)
