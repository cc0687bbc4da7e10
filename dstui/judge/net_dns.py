"""net.dns: are name servers configured, do they answer, and do names resolve to what the inventory says."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from dstui.facts.addresses import normal_ip
from dstui.facts.case import HostCase
from dstui.facts.dns import SELF, DnsFacts, Lookup, Server, inventory_names
from dstui.facts.raw import Missing
from dstui.judge.fleet import listed
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target, same

_EXPECTED = Text(
    "two or more answering name servers; every name resolves to its inventory address",
    "至少两台可应答的 DNS 服务器；所有名称解析到清单地址",
)
_TOO_LATE = "timeout"
"""What a lookup says that was still open when the host's time for it was over."""
_PASSED = Text(
    "the name servers answer and every name resolves as the inventory says", "DNS 可应答，名称解析与清单一致"
)


def judge(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    facts = case.facts.get(DnsFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, _EXPECTED)
    causes = Causes(target, _EXPECTED)
    _weigh_servers(case, facts, causes)
    _weigh_names(case, facts, causes)
    return causes.ruling(_observed(facts), _PASSED, material=_material(case, facts))


def _weigh_servers(case: HostCase, facts: DnsFacts, causes: Causes) -> None:
    servers = facts.servers
    if isinstance(servers, Missing) or (not servers and facts.configured):
        _weigh_unasked(facts, causes)
        return
    if not servers:
        causes.fail(Text("no name server is configured", "未配置 DNS 服务器"))
        return
    unasked = [s for s in servers if not s.answers]
    answering = [s for s in servers if s.answering]
    if unasked and not answering:
        causes.unknown(Reason.NOT_RUN, Text(f"{unasked[0].ip} was asked nothing", f"未向 {unasked[0].ip} 发送查询"))
        return
    if not answering:
        said = listed([_why_silent(server) for server in servers])
        causes.fail(Text(f"no name server answers: {said}", f"没有 DNS 服务器应答：{said}"))
        return
    for server in servers:
        if not server.answering:
            stall = Text(" (each lookup may stall 5 s)", "（每次解析可能卡顿 5 秒）") if server.silent else same("")
            why = _why_silent(server)
            causes.warn(Text(f"name server {why}{stall.en}", f"DNS 服务器 {why}{stall.zh}"))
    if len(servers) == 1:
        causes.warn(Text(f"only one name server: {servers[0].ip}", f"只有一台 DNS 服务器：{servers[0].ip}"))
    limit = case.params.number("dns_slow_ms")
    slow = [f"{s.ip} {s.ms:.0f} ms" for s in answering if s.ms is not None and s.ms > limit]
    if slow:
        causes.warn(
            Text(f"slow name server: {listed(slow)} > {limit:g} ms", f"DNS 较慢：{listed(slow)} > {limit:g} ms")
        )


def _weigh_unasked(facts: DnsFacts, causes: Causes) -> None:
    """The servers could not be asked directly: none configured is still a plain fault, the rest stays open."""
    if facts.configured == ():
        causes.fail(Text("no name server is configured", "未配置 DNS 服务器"))
        return
    known = "" if isinstance(facts.configured, Missing) else f" ({listed(facts.configured)})"
    found = facts.servers
    missing = found if isinstance(found, Missing) else Missing(Reason.NOT_RUN, "no server was asked")
    causes.missing(missing, Text(f"name servers{known}", f"DNS 服务器{known}"))


def _weigh_names(case: HostCase, facts: DnsFacts, causes: Causes) -> None:
    if isinstance(facts.lookups, Missing):
        causes.missing(facts.lookups, Text("names", "名称解析"))
        return
    names = inventory_names(case.host, case.site)
    for name in names:
        _weigh_inventory_name(case, facts.lookups, name, causes)
    for name in case.site.dns_names:
        if name not in names:
            _weigh_other_name(facts.lookups, name, causes)
    _weigh_external(case, facts.lookups, causes)
    _weigh_own(case, facts.lookups, causes)
    _weigh_source(case, facts, names, causes)
    limit = case.params.number("dns_slow_ms")
    slow = listed([f"{quoted(n, 60)} {look.ms:.0f} ms" for n, look in facts.lookups.items() if (look.ms or 0) > limit])
    if slow:
        causes.warn(Text(f"slow lookups: {slow} > {limit:g} ms", f"解析较慢：{slow} > {limit:g} ms"))


def _lookup(lookups: Mapping[str, Lookup], name: str, causes: Causes) -> Lookup | None:
    """The answer for a required name; None after a cause was noted because there is none or it failed."""
    look = lookups.get(name)
    if look is None:
        causes.unknown(Reason.NOT_RUN, Text(f"{name} was not looked up", f"未解析 {name}"))
    elif not look.addresses and look.error == _TOO_LATE:
        causes.unknown(Reason.TIMEOUT, Text(f"{name} did not resolve in time", f"{name} 未能及时解析"))
    elif not look.addresses:
        why = quoted(look.error, 80)
        causes.fail(Text(f"{name} does not resolve ({why})", f"{name} 无法解析（{why}）"))
    return look if look and look.addresses else None


def _weigh_inventory_name(case: HostCase, lookups: Mapping[str, Lookup], name: str, causes: Causes) -> None:
    look = _lookup(lookups, name, causes)
    if look is None:
        return
    host = case.site.host(name)
    right = {normal_ip(ip) for ip in (host.data_ip, host.mgmt_ip, host.address) if ip and _is_ip(ip)}
    found = [normal_ip(ip) for ip in look.addresses]
    own = name == case.host.name
    if own and all(_is_loopback(ip) for ip in found):
        return  # `_weigh_own` says it, as the record has it: a WARN
    families = {":" in ip for ip in right}
    wrong = [ip for ip in found if ip not in right and (":" in ip) in families]
    # A host's own name may also give its other interfaces (nss-myhostname); a peer's name may not.
    if not right.intersection(found) or (wrong and not own):
        said, should = listed(wrong or found), listed(sorted(right))
        causes.fail(Text(f"{name} resolves to {said}, not {should}", f"{name} 解析为 {said}，应为 {should}"))


def _weigh_other_name(lookups: Mapping[str, Lookup], name: str, causes: Causes) -> None:
    look = _lookup(lookups, name, causes)
    if look and all(_is_loopback(ip) for ip in look.addresses):
        said = listed(look.addresses)
        causes.warn(Text(f"{name} resolves to loopback ({said})", f"{name} 解析到回环地址（{said}）"))


def _weigh_external(case: HostCase, lookups: Mapping[str, Lookup], causes: Causes) -> None:
    name = case.site.dns_external
    if case.site.offline or not name:
        return
    look = lookups.get(name)
    if look is None:
        causes.unknown(Reason.NOT_RUN, Text(f"{name} was not looked up", f"未解析 {name}"))
    elif not look.addresses:
        why = quoted(look.error, 80)
        causes.warn(Text(f"the external name {name} does not resolve ({why})", f"外部域名 {name} 无法解析（{why}）"))


def _weigh_own(case: HostCase, lookups: Mapping[str, Lookup], causes: Causes) -> None:
    look = lookups.get(SELF)
    if look is None:
        causes.unknown(Reason.NOT_RUN, Text("the own hostname was not looked up", "未解析本机主机名"))
        return
    own = (look, lookups.get(case.host.name))
    addresses = {ip for found in own if found for ip in found.addresses}
    loopback = sorted(ip for ip in addresses - {case.host.data_ip, case.host.mgmt_ip} if _is_loopback(ip))
    if loopback:
        said = listed(loopback)
        causes.warn(
            Text(
                f"the own hostname resolves to {said}: Gloo falls back to loopback",
                f"本机主机名解析为 {said}：Gloo 会退回到回环地址",
            )
        )
    elif not look.addresses:
        why = quoted(look.error, 80)
        causes.warn(Text(f"the own hostname does not resolve ({why})", f"本机主机名无法解析（{why}）"))
    elif case.host.data_ip not in {normal_ip(ip) for ip in look.addresses}:
        said = listed(look.addresses)
        causes.warn(
            Text(
                f"the own hostname resolves to {said}, not to data_ip {case.host.data_ip}",
                f"本机主机名解析为 {said}，而非 data_ip {case.host.data_ip}",
            )
        )


def _weigh_source(case: HostCase, facts: DnsFacts, names: tuple[str, ...], causes: Causes) -> None:
    if isinstance(facts.hosts, Missing):
        if case.params.flag("dns_hosts_file_ok"):
            causes.note(Text("/etc/hosts could not be read", "无法读取 /etc/hosts"))
        else:
            causes.missing(facts.hosts, same("/etc/hosts"))
        return
    from_file = [name for name in names if name != case.host.name and name.lower() in facts.hosts]
    if not from_file:
        return
    said = listed(from_file)
    text = Text(f"names come from /etc/hosts only: {said}", f"名称仅来自 /etc/hosts：{said}")
    if case.params.flag("dns_hosts_file_ok"):
        causes.warn(text)
    else:
        causes.fail(text)


def _why_silent(server: Server) -> str:
    for query in server.answers.values():
        if query.rcode is not None:
            return f"{server.ip} rcode {query.rcode}"
    errors = [quoted(q.error, 40) for q in server.answers.values() if q.error]
    return f"{server.ip} {errors[0] if errors else 'no answer'}"


def _is_ip(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _is_loopback(ip: str) -> bool:
    try:
        return ipaddress.ip_address(ip.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _observed(facts: DnsFacts) -> Text:
    if isinstance(facts.servers, Missing):
        known = facts.configured
        said = str(known.reason) if isinstance(known, Missing) else listed(known) or "-"
        return Text(f"configured: {said}", f"已配置：{said}")
    if not facts.servers:
        return Text("no name server", "无 DNS 服务器")
    shown = [f"{s.ip} {s.ms:.0f} ms" if s.answering and s.ms is not None else _why_silent(s) for s in facts.servers]
    return same(listed(shown))


def _material(case: HostCase, facts: DnsFacts) -> Mapping[str, object]:
    """Of names outside the inventory only whether they resolve: a CDN answers with other addresses every time."""
    inside = {SELF, *inventory_names(case.host, case.site)}
    servers = facts.servers
    lookups = facts.lookups
    return {
        "servers": str(servers.reason) if isinstance(servers, Missing) else {s.ip: s.answering for s in servers},
        "names": str(lookups.reason)
        if isinstance(lookups, Missing)
        else {n: sorted(look.addresses) if n in inside else bool(look.addresses) for n, look in lookups.items()},
    }


JUDGE = HostJudge("net.dns", ("dns",), ("dns",), judge)
