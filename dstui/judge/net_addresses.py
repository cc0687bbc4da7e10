"""net.static-ip: are the node's addresses still its own after a reboot."""

from __future__ import annotations

import ipaddress
from collections import defaultdict

from dstui.facts.addresses import Address, AddressFacts, Interface, normal_ip
from dstui.facts.case import HostCase
from dstui.facts.netconfig import Configured
from dstui.facts.raw import Missing
from dstui.judge.fleet import listed
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, unknown
from dstui.model import Reason, Ruling, Text, host_target, same

_EXPECTED = Text("on the host, not leased, configured as static", "地址在本机上、非租约、配置为静态")
_RESERVED = Text("on the host; a lease is reserved (dhcp_reserved)", "地址在本机上；租约已保留（dhcp_reserved）")
_PASSED = Text("the addresses of the inventory are on the host and stay", "清单中的地址在本机上且固定")
_CONTAINER_NETS = ("docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "lxc", "kube")
"""Name prefixes of interfaces whose subnets belong to containers or guests, not to the node."""


def judge(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    reserved = case.params.flag("dhcp_reserved")
    expected = _RESERVED if reserved else _EXPECTED
    facts = case.facts.get(AddressFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    wanted = _wanted(case)
    if not wanted:
        return unknown(target, Missing(Reason.NO_TARGETS, "no address to look for"), expected)
    if isinstance(facts.interfaces, Missing):
        return unknown(target, facts.interfaces, expected)
    causes = Causes(target, expected)
    shown: list[str] = []
    material: dict[str, object] = {}
    for name, ip in wanted:
        held = facts.holding(ip)
        if held is None:
            causes.fail(Text(f"{name} {ip} is on no interface", f"{name} {ip} 不在任何网卡上"))
            shown.append(f"{ip} -")
            material[ip] = None
            continue
        interface, address = held
        configured = facts.configuration_of(interface)
        _weigh(causes, facts, address, configured, reserved)
        shown.append(f"{ip} {interface.name} {_lifetime(address)}, {_method(address, configured)}")
        material[ip] = [interface.name, address.leased, _method(address, configured)]
    _weigh_subnets(causes, facts.interfaces)
    return causes.ruling(same("; ".join(shown)), _PASSED, material=material)


def _wanted(case: HostCase) -> list[tuple[str, str]]:
    """(name in the inventory, address) of what the parameter `addresses` asks for and the host has."""
    known = {"data_ip": case.host.data_ip, "mgmt_ip": case.host.mgmt_ip}
    by_ip: dict[str, str] = {}
    for name in case.params.texts("addresses"):
        ip = known.get(name)
        if ip:
            by_ip.setdefault(ip, name)
    return [(name, ip) for ip, name in by_ip.items()]


def _weigh(
    causes: Causes, facts: AddressFacts, address: Address, configured: tuple[Configured, ...], reserved: bool
) -> None:
    where = f"{address.ip} ({address.interface})"
    if address.leased:
        if not reserved:
            causes.fail(
                Text(
                    f"{where} is leased ({_lifetime(address)}) and no reservation is declared",
                    f"{where} 为租约地址（{_lifetime(address)}），且未声明保留",
                )
            )
        return
    ip = normal_ip(address.ip)
    if any(stanza.fixes(ip) for stanza in configured):
        return
    asking = [stanza for stanza in configured if stanza.asks_dhcp(ip)]
    if asking:
        if not reserved:
            causes.warn(
                Text(
                    f"{where}: an endless lease, {asking[0].source} says DHCP",
                    f"{where}：无限期租约，{asking[0].source} 配置为 DHCP",
                )
            )
        return
    if facts.unread:
        unread = listed(facts.unread)
        causes.warn(Text(f"{where} is not leased, but {unread} cannot be read", f"{where} 非租约，但无法读取 {unread}"))
    else:
        causes.warn(
            Text(
                f"{where} is not leased, but no configuration that could be read sets it",
                f"{where} 非租约，但可读取的配置中没有设置该地址",
            )
        )


def _weigh_subnets(causes: Causes, interfaces: tuple[Interface, ...]) -> None:
    """Two interfaces in one subnet: answers leave by the other one, and ARP wanders between them."""
    by_subnet: dict[str, set[str]] = defaultdict(set)
    for interface in interfaces:
        if interface.name == "lo" or interface.name.startswith(_CONTAINER_NETS):
            continue
        for address in interface.addresses:
            subnet = _subnet(address)
            if subnet:
                by_subnet[subnet].add(interface.name)
    for subnet, names in sorted(by_subnet.items()):
        if len(names) > 1:
            both = ", ".join(sorted(names))
            causes.warn(Text(f"{both} are in the same subnet {subnet}", f"{both} 在同一子网 {subnet}"))


def _subnet(address: Address) -> str | None:
    try:
        network = ipaddress.ip_interface(f"{address.ip}/{address.prefix}").network
    except ValueError:
        return None
    alone = network.prefixlen == network.max_prefixlen
    return None if alone or network.is_link_local or network.is_loopback else str(network)


def _lifetime(address: Address) -> str:
    if address.valid_seconds is not None:
        return f"dynamic, {address.valid_seconds} s left"
    return "dynamic" if address.dynamic else "forever"


def _method(address: Address, configured: tuple[Configured, ...]) -> str:
    ip = normal_ip(address.ip)
    for stanza in configured:
        if stanza.fixes(ip):
            return f"static ({stanza.source})"
    return next((f"dhcp ({stanza.source})" for stanza in configured if stanza.asks_dhcp(ip)), "method unknown")


JUDGE = HostJudge("net.static-ip", ("addresses",), ("addresses",), judge)
