"""net.peer-ping: can every server reach every other one, in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dstui.facts.addresses import AddressFacts
from dstui.facts.case import FleetCase, HostSite
from dstui.facts.ping import ALL_PAIRS_UP_TO, JUMBO_MTU, Ping, PingFacts, addresses_of, evidence_keys, tried_peers
from dstui.facts.raw import Missing
from dstui.judge.fleet import PAIRS_UP_TO, absorb, cluster_target, facts_of, own_address
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, why_missing
from dstui.model import Reason, Ruling, Text, Verdict, host_target, pair_target, same

_NO_ANSWER = frozenset({"refused", "timeout", "unreach"})
_PASSED = Text("every ping was answered, without loss", "所有 ping 均有应答且无丢包")


def judge(case: FleetCase) -> Sequence[Ruling]:
    hosts = case.site.hosts
    if len(hosts) == 1:
        only = Text("a single host has no peers", "只有一台主机，没有对端")
        return [not_applicable(cluster_target(case.site), only)]
    if len(hosts) <= PAIRS_UP_TO:
        return [_pair_ruling(case, a, b) for a in hosts for b in case.site.peers(a.name)]
    return [_source_ruling(case, a) for a in hosts]


def _expected(case: FleetCase) -> Text:
    loss, rtt = case.params.number("loss_max_pct"), case.params.number("rtt_warn_ms")
    return Text(f"loss <= {loss:g} %, mean round trip <= {rtt:g} ms", f"丢包 <= {loss:g} %，平均往返 <= {rtt:g} ms")


def _pair_ruling(case: FleetCase, a: HostSite, b: HostSite) -> Ruling:
    causes = Causes(pair_target(a.name, b.name), _expected(case))
    facts = facts_of(case, a.name, PingFacts)
    if isinstance(facts, Missing):
        causes.missing(facts, same(a.name))
        return causes.ruling(why_missing(facts), _PASSED, material={"unknown": str(facts.reason)})
    _weigh_pair(case, facts, a, b, causes)
    return causes.ruling(
        same("; ".join(_seen(facts, b, ip) for ip in addresses_of(b))),
        _PASSED,
        material={ip: _material(facts, b, ip) for ip in addresses_of(b)},
        evidence=evidence_keys(addresses_of(b)),
    )


def _source_ruling(case: FleetCase, a: HostSite) -> Ruling:
    causes = Causes(host_target(a.name), _expected(case))
    facts = facts_of(case, a.name, PingFacts)
    if isinstance(facts, Missing):
        causes.missing(facts, same(a.name))
        return causes.ruling(why_missing(facts), _PASSED, material={"unknown": str(facts.reason)})
    peers = tried_peers(a, case.site)
    clean = 0
    for b in peers:
        part = Causes(pair_target(a.name, b.name), causes.expected)
        _weigh_pair(case, facts, a, b, part)
        clean += part.verdict is Verdict.PASS
        absorb(causes, part, b.name)
    every = len(case.site.hosts) - 1
    if len(peers) < every:
        causes.warn(
            Text(
                f"sample only: {len(peers)} of {every} peers were tried (all pairs up to {ALL_PAIRS_UP_TO} hosts)",
                f"仅抽样：{every} 个对端中测试了 {len(peers)} 个（{ALL_PAIRS_UP_TO} 台以内才测试全部）",
            )
        )
    return causes.ruling(
        Text(f"{clean} of {len(peers)} peers answer without fault", f"{len(peers)} 个对端中 {clean} 个正常"),
        _PASSED,
        material={f"{b.name} {ip}": _material(facts, b, ip) for b in peers for ip in addresses_of(b)},
    )


def _weigh_pair(case: FleetCase, facts: PingFacts, a: HostSite, b: HostSite, causes: Causes) -> None:
    for ip in addresses_of(b):
        if own_address(case, a.name, ip):
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(
                    f"{ip} is an address of {a.name} itself: correct {b.name} in the inventory",
                    f"{ip} 是 {a.name} 自己的地址：请更正清单中的 {b.name}",
                ),
            )
        _weigh_address(case, facts, b, ip, causes)
    if _reaches(facts, b) and (back := facts_of(case, b.name, PingFacts)) and not isinstance(back, Missing):
        expected_back = a.name in {peer.name for peer in tried_peers(b, case.site)}
        if expected_back and _reaches(back, a) is False:
            causes.warn(
                Text(f"one way only: {b.name} does not reach {a.name}", f"单向连通：{b.name} 无法访问 {a.name}")
            )
    _weigh_jumbo(case, facts, a, b, causes)


def _icmp(facts: PingFacts, ip: str) -> Ping | Missing:
    return facts.icmp.get(ip, Missing(Reason.NOT_RUN, f"{ip} was not pinged"))


def _tcp(facts: PingFacts, b: HostSite, ip: str) -> str | Missing:
    """`ok`, or a definite no; anything else is no evidence."""
    if isinstance(facts.tcp, Missing):
        return facts.tcp
    outcome = facts.tcp.get((ip, b.port))
    if outcome == "ok" or outcome in _NO_ANSWER:
        return outcome
    why = f"connect to {ip}:{b.port}: {quoted(outcome)}" if outcome else f"{ip}:{b.port} was not tried"
    return Missing(Reason.CANNOT_TELL if outcome else Reason.NOT_RUN, why)


def _reaches(facts: PingFacts, b: HostSite) -> bool | None:
    """Whether the peer's `data_ip` is reached by ping or TCP; None when neither look settled it."""
    icmp, tcp = _icmp(facts, b.data_ip), _tcp(facts, b, b.data_ip)
    if tcp == "ok" or (isinstance(icmp, Ping) and icmp.received):
        return True
    return None if isinstance(icmp, Missing) or isinstance(tcp, Missing) else False


def _weigh_address(case: FleetCase, facts: PingFacts, b: HostSite, ip: str, causes: Causes) -> None:
    icmp, tcp = _icmp(facts, ip), _tcp(facts, b, ip)
    if isinstance(icmp, Missing):
        _weigh_without_ping(case, icmp, tcp, ip, b.port, causes)
    elif icmp.received:
        _weigh_answers(case, icmp, ip, causes)
    else:
        _weigh_silence(case, icmp, tcp, ip, b.port, causes)


def _weigh_without_ping(case: FleetCase, icmp: Missing, tcp: str | Missing, ip: str, port: int, causes: Causes) -> None:
    if tcp == "ok" and not case.params.flag("icmp_required"):
        why = why_missing(icmp)
        causes.warn(
            Text(f"{ip}: TCP {port} works, ping not tried: {why.en}", f"{ip}：TCP {port} 可用，未能 ping：{why.zh}")
        )
    else:
        causes.missing(icmp, same(f"ping {ip}"))


def _weigh_answers(case: FleetCase, icmp: Ping, ip: str, causes: Causes) -> None:
    lost = f"{icmp.loss_pct:.3g} %"
    if icmp.loss_pct > case.params.number("loss_max_pct"):
        causes.warn(
            Text(
                f"{ip}: {lost} loss ({icmp.received} of {icmp.sent} answered)",
                f"{ip}：丢包 {lost}（{icmp.sent} 个中应答 {icmp.received} 个）",
            )
        )
    asked = case.params.count("ping_count")
    if icmp.sent < asked:
        causes.warn(
            Text(f"{ip}: only {icmp.sent} of {asked} packets were sent", f"{ip}：{asked} 个包中只发送了 {icmp.sent} 个")
        )
    limit = case.params.number("rtt_warn_ms")
    if icmp.rtt_avg_ms is None:
        causes.warn(Text(f"{ip}: round trip not measured", f"{ip}：未测得往返时间"))
    elif icmp.rtt_avg_ms > limit:
        causes.warn(
            Text(
                f"{ip}: mean round trip {icmp.rtt_avg_ms:g} ms > {limit:g} ms",
                f"{ip}：平均往返 {icmp.rtt_avg_ms:g} ms > {limit:g} ms",
            )
        )


def _weigh_silence(case: FleetCase, icmp: Ping, tcp: str | Missing, ip: str, port: int, causes: Causes) -> None:
    said = f" ({quoted(icmp.trouble, 80)})" if icmp.trouble else ""
    if case.params.flag("icmp_required"):
        causes.fail(Text(f"{ip}: no ping answered{said}, ICMP is required", f"{ip}：ping 无应答{said}，而 ICMP 为必需"))
    elif isinstance(tcp, Missing):
        why = why_missing(tcp)
        causes.unknown(
            tcp.reason,
            Text(
                f"{ip}: no ping answered{said}, TCP unknown: {why.en}", f"{ip}：ping 无应答{said}，TCP 未知：{why.zh}"
            ),
        )
    elif tcp == "ok":
        causes.warn(Text(f"{ip}: ICMP blocked{said}, TCP {port} works", f"{ip}：ICMP 被拦截{said}，TCP {port} 可用"))
    else:
        causes.fail(
            Text(
                f"{ip}: neither ping{said} nor TCP {port} ({tcp}) gets through",
                f"{ip}：ping{said} 与 TCP {port}（{tcp}）均不通",
            )
        )


def _weigh_jumbo(case: FleetCase, facts: PingFacts, a: HostSite, b: HostSite, causes: Causes) -> None:
    wanted = case.params.text("mtu_probe")
    small = any((_mtu(case, end) or 0) < JUMBO_MTU for end in (a, b))
    if wanted == "never" or (small and wanted != "always"):
        return
    plain = _icmp(facts, b.data_ip)
    jumbo = facts.jumbo.get(b.data_ip, Missing(Reason.NOT_RUN, "jumbo frames were not tried"))
    if isinstance(plain, Missing) or not plain.received:
        return
    if isinstance(jumbo, Missing):
        why = why_missing(jumbo)
        causes.warn(Text(f"jumbo frames not proven: {why.en}", f"未验证巨帧：{why.zh}"))
    elif not jumbo.received:
        causes.warn(
            Text(
                f"{b.data_ip}: 9000-byte frames are dropped" + ("" if small else " although both ends have MTU 9000"),
                f"{b.data_ip}：9000 字节的包被丢弃" + ("" if small else "，而两端 MTU 均为 9000"),
            )
        )


def _mtu(case: FleetCase, host: HostSite) -> int | None:
    facts = facts_of(case, host.name, AddressFacts)
    held = None if isinstance(facts, Missing) else facts.holding(host.data_ip)
    return held[0].mtu if held else None


def _seen(facts: PingFacts, b: HostSite, ip: str) -> str:
    icmp, tcp = _icmp(facts, ip), _tcp(facts, b, ip)
    rtt = f", {icmp.rtt_avg_ms:g} ms" if isinstance(icmp, Ping) and icmp.rtt_avg_ms is not None else ""
    ping = f"ping {icmp.reason}" if isinstance(icmp, Missing) else f"ping {icmp.received}/{icmp.sent}{rtt}"
    return f"{ip} {ping}, tcp {tcp.reason if isinstance(tcp, Missing) else tcp}"


def _material(facts: PingFacts, b: HostSite, ip: str) -> Mapping[str, object]:
    icmp, tcp = _icmp(facts, ip), _tcp(facts, b, ip)
    jumbo = facts.jumbo.get(ip)
    return {
        "ping": str(icmp.reason) if isinstance(icmp, Missing) else [icmp.received, icmp.sent],
        "tcp": str(tcp.reason) if isinstance(tcp, Missing) else tcp,
        "jumbo": [jumbo.received, jumbo.sent] if isinstance(jumbo, Ping) else None,
    }


JUDGE = FleetJudge("net.peer-ping", ("ping", "addresses"), ("ping",), judge)
