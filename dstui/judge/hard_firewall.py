"""hard.firewall: a filter with default deny on the host, and no sensitive port that answers from outside."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.firewall import FirewalldZone, FirewallFacts, UfwStatus
from dstui.facts.firewall_rules import IPV4, IPV6, Fate, Ruleset
from dstui.facts.listeners import ListenerFacts
from dstui.facts.raw import Missing
from dstui.judge.hard_reach import OutsideView, exposed_ports, outside_view, port_list, standing
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, why_missing
from dstui.model import Reason, Ruling, Text, host_target

_GUEST_INTERFACES = (
    "lo", "docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "cilium", "lxc", "lxd", "incus", "podman", "kube",
)  # fmt: skip
"""Behind these are the host's own containers and guests, not the network."""
_EXPECTED = Text(
    "default deny for incoming packets, no sensitive port reachable from outside the cluster",
    "入站默认拒绝，集群外无法访问任何敏感端口",
)
_PASSED = Text(
    "an input hook with default deny exists and no sensitive port is reachable from outside",
    "入站钩子默认拒绝，且集群外无法访问敏感端口",
)


def judge_firewall(case: FleetCase) -> Sequence[Ruling]:
    return [_judge(case, name) for name in case.facts]


def _judge(case: FleetCase, name: str) -> Ruling:
    one = case.case(name)
    sensitive = one.params.counts("sensitive_ports")
    causes = Causes(host_target(name), _EXPECTED)
    view = outside_view(case, name, one.params.texts("cluster_cidrs"))
    facts = one.facts.get(FirewallFacts)
    exposed = exposed_ports(one.facts.get(ListenerFacts), sensitive)
    reached = () if isinstance(view, Missing) else view.reachable(sensitive)
    required = one.params.flag("host_firewall_required")
    if reached:
        causes.fail(_reached(reached, view))
    elif not required:
        return _left_to_the_cloud(causes, one.params.origin("host_firewall_required"))
    if not required:
        pass
    elif isinstance(facts, Missing):
        causes.missing(facts, Text("firewall rules", "防火墙规则"))
    else:
        _judge_rules(causes, facts, () if isinstance(exposed, Missing) else exposed)
        published = _published(facts)
        if not isinstance(exposed, Missing):
            exposed = tuple(dict.fromkeys((*exposed, *(port for port in published if port in sensitive))))
    if not reached:
        published_seen = isinstance(facts, FirewallFacts) and isinstance(facts.rules, Ruleset)
        _judge_view(causes, view, exposed, sensitive, published_seen=published_seen)
    _judge_vantages(causes, one.params.texts("vantages"))
    return causes.ruling(
        _observed(facts, view, exposed, reached),
        _PASSED,
        material=_material(facts, view, exposed, sensitive),
        evidence=("firewall", "listeners"),
    )


def _left_to_the_cloud(causes: Causes, origin: str) -> Ruling:
    return not_applicable(
        causes.target,
        Text(
            f"host_firewall_required is false ({origin}): the control is hard.security-group, which must pass",
            f"host_firewall_required 为 false（{origin}）：由安全组控制，hard.security-group 必须通过",
        ),
    )


def _reached(ports: Sequence[int], view: OutsideView | Missing) -> Text:
    vantage = view.vantage if isinstance(view, OutsideView) else "?"
    return Text(
        f"sensitive ports reachable from outside the cluster ({vantage}): {port_list(ports)}",
        f"集群外（{vantage}）可访问敏感端口：{port_list(ports)}",
    )


def _judge_vantages(causes: Causes, wanted: Sequence[str]) -> None:
    """Only the controller looks; where the inventory names others as well, that is not all that was asked for."""
    others = [name for name in wanted if name != "controller"]
    if others:
        names = quoted(", ".join(others), 80)
        causes.warn(
            Text(
                f"only the controller looked from outside, not {names}: run dstui there too",
                f"仅由控制机从外部查看，未使用 {names}：请在该处也运行 dstui",
            )
        )


def _judge_view(
    causes: Causes,
    view: OutsideView | Missing,
    exposed: tuple[int, ...] | Missing,
    sensitive: Sequence[int],
    *,
    published_seen: bool,
) -> None:
    """UNKNOWN when a port that may be reachable was not looked at from outside.

    Without the kernel's rules (`published_seen` false) a port of a container may be open although nothing listens.
    """
    if isinstance(view, Missing):
        if isinstance(exposed, Missing) or not (exposed or published_seen):
            causes.missing(view, Text("view from outside", "外部视角"))
        elif exposed:
            ports = port_list(exposed)
            causes.missing(view, Text(f"ports {ports} listen; view from outside", f"端口 {ports} 正在监听；外部视角"))
        else:
            causes.note(
                Text(
                    f"not looked at from outside ({why_missing(view).en}), but no sensitive port listens",
                    f"未从外部查看（{why_missing(view).zh}），但没有敏感端口在监听",
                )
            )
        return
    untold = view.untold(sensitive if isinstance(exposed, Missing) else exposed)
    if untold:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"not tried from outside ({view.vantage}): {port_list(untold)}",
                f"未从外部（{view.vantage}）尝试：{port_list(untold)}",
            ),
        )


def _tool_denies(facts: FirewallFacts) -> str | None:
    """The front end that says "default deny", for when the kernel's rules could not be read or fully understood."""
    if isinstance(facts.ufw, UfwStatus) and facts.ufw.denies:
        return "ufw"
    if isinstance(facts.firewalld, FirewalldZone) and facts.firewalld.denies:
        return "firewalld"
    return None


def default_policy(facts: FirewallFacts) -> Fate | Missing:
    """What happens to IPv4 packets that no rule names."""
    if isinstance(facts.rules, Ruleset):
        fate = facts.rules.fate(IPV4)
        return Fate.DENIED if fate is Fate.UNSURE and _tool_denies(facts) else fate
    if _tool_denies(facts):
        return Fate.DENIED
    if isinstance(facts.ufw, UfwStatus) and facts.ufw.active and facts.ufw.incoming is not None:
        return Fate.OPEN
    return facts.rules


def _judge_rules(causes: Causes, facts: FirewallFacts, exposed: Sequence[int]) -> None:
    policy = default_policy(facts)
    if isinstance(policy, Missing):
        causes.missing(policy, Text("firewall rules", "防火墙规则"))
    elif policy is Fate.UNSURE:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                "an accepting rule has a condition that could not be read, so default deny is not certain; "
                "grant: /usr/sbin/iptables-save",
                "有放行规则的条件无法读取，不能确定默认拒绝；请授权：/usr/sbin/iptables-save",
            ),
        )
    elif policy is Fate.OPEN:
        _judge_open(causes, facts)
    else:
        _judge_denied(causes, facts, exposed)
    _judge_published(causes, facts)


def _judge_open(causes: Causes, facts: FirewallFacts) -> None:
    rules = facts.rules
    if isinstance(rules, Missing) or rules.drops_on_input(IPV4):
        causes.warn(
            Text(
                "a filter is active, but what no rule names is accepted",
                "过滤规则已启用，但未被规则提及的报文默认放行",
            )
        )
    elif rules.has_container_chains:
        causes.warn(
            Text(
                "only chains of Docker, Kubernetes or libvirt exist; they are no firewall for this host",
                "只有 Docker、Kubernetes 或 libvirt 的链，并不构成本机防火墙",
            )
        )
    else:
        causes.fail(Text("no filter at all for incoming packets", "没有任何入站过滤规则"))


def _judge_denied(causes: Causes, facts: FirewallFacts, exposed: Sequence[int]) -> None:
    _judge_ipv6(causes, facts)
    rules = facts.rules
    admitted = [port for port in exposed if isinstance(rules, Ruleset) and rules.fate(IPV4, port) is Fate.OPEN]
    if admitted:
        causes.warn(
            Text(
                f"the rules let any address in to sensitive ports: {port_list(admitted)}",
                f"规则允许任意地址访问敏感端口：{port_list(admitted)}",
            )
        )
    trusted = rules.trusted_interfaces() if isinstance(rules, Ruleset) else ()
    if outside := [name for name in trusted if not name.startswith(_GUEST_INTERFACES)]:
        names = quoted(", ".join(outside), 80)
        causes.warn(
            Text(
                f"default deny does not hold for {names}: everything that comes in there is accepted",
                f"默认拒绝对 {names} 不生效：来自该接口的报文全部放行",
            )
        )
    elif trusted:
        causes.note(Text(f"everything is accepted from: {', '.join(trusted)}", f"接口全部放行：{', '.join(trusted)}"))
    _judge_persistence(causes, facts)


def _judge_ipv6(causes: Causes, facts: FirewallFacts) -> None:
    if facts.ipv6_addresses == ():
        return
    ufw = facts.ufw if isinstance(facts.ufw, UfwStatus) and facts.ufw.denies else None
    denied: bool | None = facts.rules.fate(IPV6) is Fate.DENIED if isinstance(facts.rules, Ruleset) else None
    if not facts.sees_ipv6 and denied is False:
        denied = None
    if not denied and ufw is not None and ufw.ipv6 is not None:
        # The kernel's own rules, where they were read without a doubt, outweigh ufw's setting.
        certain = isinstance(facts.rules, Ruleset) and facts.sees_ipv6 and facts.rules.fate(IPV6) is Fate.OPEN
        denied = False if certain else ufw.ipv6
    if denied is None and isinstance(facts.firewalld, FirewalldZone) and facts.firewalld.denies:
        denied = True
    if denied is None:
        causes.warn(Text("IPv6 rules could not be seen", "无法查看 IPv6 规则"))
    elif not denied:
        causes.warn(Text("IPv6 is not filtered, and the host has IPv6 addresses", "主机有 IPv6 地址，但 IPv6 未过滤"))


def _judge_persistence(causes: Causes, facts: FirewallFacts) -> None:
    if isinstance(facts.ufw, UfwStatus) and facts.ufw.active:
        return
    if isinstance(facts.enabled, Missing):
        why = why_missing(facts.enabled)
        causes.note(
            Text(
                f"whether the rules survive a reboot could not be told: {why.en}",
                f"无法判断规则重启后是否保留：{why.zh}",
            )
        )
    elif not set(facts.enabled) - {"ufw"}:
        # Ubuntu enables ufw.service even where ufw itself is inactive.
        causes.warn(
            Text("rules are not persistent: no unit restores them at boot", "规则未持久化：没有开机恢复规则的服务")
        )


def _published(facts: FirewallFacts) -> tuple[int, ...]:
    return facts.rules.published_ports() if isinstance(facts.rules, Ruleset) else ()


def _judge_published(causes: Causes, facts: FirewallFacts) -> None:
    published = _published(facts)
    if published and isinstance(facts.rules, Ruleset) and not facts.rules.guards_containers():
        causes.warn(
            Text(
                f"published container ports bypass the input rules (ufw included): {port_list(published)}",
                f"容器发布的端口绕过入站规则（包括 ufw）：{port_list(published)}",
            )
        )


_POLICIES = {
    Fate.DENIED: Text("default deny", "默认拒绝"),
    Fate.OPEN: Text("default accept", "默认放行"),
    Fate.UNSURE: Text("default not certain", "默认策略不确定"),
}


def _observed(
    facts: FirewallFacts | Missing,
    view: OutsideView | Missing,
    exposed: tuple[int, ...] | Missing,
    reached: Sequence[int],
) -> Text:
    parts: list[Text] = []
    if isinstance(facts, Missing):
        parts.append(why_missing(facts))
    else:
        policy = default_policy(facts)
        words = why_missing(policy) if isinstance(policy, Missing) else _POLICIES[policy]
        parts.append(Text(f"{facts.backend}: {words.en}", f"{facts.backend}：{words.zh}"))
    if not isinstance(exposed, Missing):
        ports = port_list(exposed)
        parts.append(Text(f"sensitive ports listening: {ports or 'none'}", f"监听中的敏感端口：{ports or '无'}"))
    if reached:
        parts.append(Text(f"open from outside: {port_list(reached)}", f"外部可达：{port_list(reached)}"))
    elif isinstance(view, OutsideView):
        parts.append(Text("none open from outside", "外部均不可达"))
    else:
        parts.append(Text("outside view missing", "缺少外部视角"))
    return Text("; ".join(part.en for part in parts), "；".join(part.zh for part in parts))


def _material(
    facts: FirewallFacts | Missing,
    view: OutsideView | Missing,
    exposed: tuple[int, ...] | Missing,
    sensitive: Sequence[int],
) -> dict[str, object]:
    material: dict[str, object] = {
        "exposed": [*exposed] if isinstance(exposed, tuple) else str(exposed.reason),
        "outside": standing(view) if isinstance(view, OutsideView) else str(view.reason),
    }
    if isinstance(facts, Missing):
        return {**material, "rules": str(facts.reason)}
    policy = default_policy(facts)
    material["backend"] = facts.backend
    material["policy"] = str(policy.reason if isinstance(policy, Missing) else policy)
    if isinstance(facts.rules, Ruleset):
        material["policy6"] = str(facts.rules.fate(IPV6))
        # Not how many rules there are: fail2ban adds and removes some all day.
        material["admitted"] = [port for port in sensitive if facts.rules.fate(IPV4, port) is Fate.OPEN]
        material["trusted"] = [*facts.rules.trusted_interfaces()]
        material["published"] = [*_published(facts)]
    return material


JUDGES = (
    FleetJudge("hard.firewall", ("firewall", "listeners"), ("firewall", "listeners"), judge_firewall, ("vantage",)),
)
