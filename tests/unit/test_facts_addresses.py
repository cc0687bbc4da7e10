from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import addresses
from dstui.facts.addresses import AddressFacts
from dstui.facts.case import HostSite, Site
from dstui.facts.netconfig import (
    Configured,
    ifupdown,
    managed_devices,
    netplan,
    networkd,
    networkmanager,
    sysconfig,
)
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

NET = Path(__file__).parent.parent / "data" / "hosts" / "net"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", "192.0.2.11", "192.0.2.11", 22, "ops", True, 8)
SITE = Site("ds", "lab", "pre", (HOST,), "/mnt/deepseek-shared", None, None, "bare-metal", False, "none")


def text(name: str) -> str:
    return (NET / name).read_text()


def printed(key: str, output: str, exit_code: int = 0) -> dict[str, Answer]:
    return {key: Answer(key, key, output, exit=exit_code)}


def files(key: str, **content: str) -> dict[str, Answer]:
    return {key: Answer(key, key, value={name.replace("__", "/"): body for name, body in content.items()})}


def test_a_static_address_runs_forever() -> None:
    facts = addresses.parse(Raw(printed("addresses.ip", text("ip_addr_static.json"))))
    held = facts.holding("198.51.100.11")
    assert held is not None
    interface, address = held
    assert (interface.name, interface.mtu, interface.mac, interface.up) == (
        "ens1f0np0",
        9000,
        "04:3f:72:bb:00:01",
        True,
    )
    assert (address.leased, address.valid_seconds, address.prefix) == (False, None, 24)


def test_a_leased_address_says_how_long() -> None:
    facts = addresses.parse(Raw(printed("addresses.ip", text("ip_addr_dynamic.json"))))
    held = facts.holding("198.51.100.11")
    assert held is not None
    assert (held[1].dynamic, held[1].leased, held[1].valid_seconds) == (True, True, 83921)


def test_old_iproute_without_json_is_read_from_its_text() -> None:
    old = printed("addresses.ip", 'Option "-j" is unknown, try "ip -help".', 255)
    facts = addresses.parse(Raw(old | printed("addresses.text", text("ip_addr.txt"))))
    leased, static = facts.holding("192.0.2.11"), facts.holding("198.51.100.11")
    assert leased is not None
    assert static is not None
    assert (leased[1].leased, leased[1].valid_seconds, leased[0].mac) == (True, 83921, "04:3f:72:aa:00:01")
    assert (static[0].name, static[0].mtu, static[1].leased, static[1].scope) == ("vlan40", 9000, False, "global")


@pytest.mark.parametrize("output", ["", "[]", "{}", "[1]", "[{", "[" * 5000, '[{"ifname": 3}]', "\x1b[0m"])
def test_what_is_no_list_of_interfaces_is_missing(output: str) -> None:
    found = addresses.parse(Raw(printed("addresses.ip", output))).interfaces
    assert isinstance(found, Missing)
    assert found.reason is Reason.PARSE_ERROR


def test_a_host_without_ip_at_all_says_so() -> None:
    gone = Missing(Reason.TOOL_MISSING, "ip: not found")
    raw = Raw({key: Answer(key, "ip", missing=gone) for key in ("addresses.ip", "addresses.text")})
    facts = addresses.parse(raw)
    assert facts.interfaces == gone
    assert facts.holding("198.51.100.11") is None


def test_addresses_compare_in_any_spelling() -> None:
    output = '[{"ifname":"a","addr_info":[{"local":"fd00:0:0::11","prefixlen":64}]}]'
    assert addresses.parse(Raw(printed("addresses.ip", output))).holding("fd00::11") is not None


def test_netplan_static() -> None:
    found = netplan("f", text("netplan_static.yaml"))
    assert not isinstance(found, Missing)
    assert found[1] == Configured("f", ("ens1f0np0",), "", ("198.51.100.11",), False, False)


def test_netplan_matches_by_mac_and_renames() -> None:
    found = netplan("f", text("netplan_dhcp.yaml"))
    assert not isinstance(found, Missing)
    primary, eno1 = found
    assert primary.applies_to("ens1f0np0", "")
    assert primary.applies_to("eth7", "04:3f:72:bb:00:01")
    assert not primary.applies_to("primary", "04:3f:72:00:00:00")
    assert (primary.dhcp4, primary.asks_dhcp("198.51.100.11"), primary.asks_dhcp("fd00::1")) == (True, True, False)
    assert eno1.fixes("192.0.2.11")


def test_netplan_vlan_on_a_bond() -> None:
    found = netplan("f", text("netplan_bond.yaml"))
    assert not isinstance(found, Missing)
    vlan = next(stanza for stanza in found if "vlan40" in stanza.names)
    assert vlan.addresses == ("198.51.100.11", "fd00::11")


@pytest.mark.parametrize("content", ["", "network", "network: [", "a: b", "\x00", "- 1", "network: 3", "a: 2024-13-45"])
def test_netplan_that_is_none_is_missing(content: str) -> None:
    assert isinstance(netplan("f", content), Missing)


def test_networkd_name_patterns_and_repeated_addresses() -> None:
    (stanza,) = networkd("f", text("networkd_static.network"))
    assert stanza.applies_to("ens1f0np0", "")
    assert not stanza.applies_to("eno1", "")
    assert stanza.addresses == ("198.51.100.11", "198.51.100.31")


def test_networkd_dhcp_by_mac() -> None:
    (stanza,) = networkd("f", text("networkd_dhcp.network"))
    assert stanza.applies_to("anything", "04:3f:72:bb:00:01")
    assert (stanza.dhcp4, stanza.dhcp6) == (True, False)


def test_networkmanager_lease_method_and_neither() -> None:
    leased, manual = managed_devices(text("nmcli_devices.txt"))
    assert (manual.connection, manual.addresses) == ("data: fast", ("198.51.100.11",))
    assert networkmanager(leased, "auto\nauto\n").dhcp4
    assert networkmanager(leased, None).dhcp4
    assert networkmanager(manual, "manual\ndisabled\n").fixes("198.51.100.11")
    unknown = networkmanager(manual, None)
    assert not unknown.fixes("198.51.100.11")
    assert not unknown.dhcp4


def test_asks_networkmanager_for_the_method_of_inventory_addresses_only() -> None:
    raw = Raw(printed("addresses.nmcli", text("nmcli_devices.txt")))
    asked = addresses.more(HOST, SITE, raw)
    assert [op.key for op in asked] == ["addresses.nm.eno1", "addresses.nm.ens1f0np0"]
    assert asked[1].args["argv"][-2:] == ["id", "data: fast"]  # type: ignore[index]


def test_methods_of_the_second_round_reach_the_facts() -> None:
    answers = printed("addresses.ip", text("ip_addr_static.json"))
    answers |= printed("addresses.nmcli", text("nmcli_devices.txt"))
    answers |= printed("addresses.nm.ens1f0np0", "manual\nauto\n")
    facts = addresses.parse(Raw(answers))
    held = facts.holding("198.51.100.11")
    assert held is not None
    assert any(stanza.fixes("198.51.100.11") for stanza in facts.configuration_of(held[0]))


def test_ifupdown_static_and_dhcp() -> None:
    by_name = {stanza.names[0]: stanza for stanza in ifupdown("f", text("interfaces.txt"))}
    assert by_name["ens1f0np0"].fixes("198.51.100.11")
    assert by_name["eno1"].dhcp4


def test_ifcfg_static_and_dhcp() -> None:
    (static,) = sysconfig("/etc/sysconfig/network-scripts/ifcfg-ens1f0np0", text("ifcfg_static.txt"))
    assert static.fixes("198.51.100.11")
    (leased,) = sysconfig("/etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\n")
    assert (leased.names, leased.dhcp4) == (("eth0",), True)


def test_files_that_exist_and_cannot_be_read_are_named() -> None:
    names = {
        "addresses.netplan_names": Answer("n", "n", value={"/etc/netplan/50-cloud-init.yaml": [33152, 0, 0, 1, 1]})
    }
    denied = Missing(Reason.PERMISSION, "EACCES")
    answers = names | {"addresses.netplan_files": Answer("f", "f", missing=denied)}
    assert addresses.parse(Raw(answers)).unread == ("/etc/netplan/50-cloud-init.yaml",)


def test_the_merged_netplan_stands_for_its_files() -> None:
    answers = {"addresses.netplan_names": Answer("n", "n", value={"/etc/netplan/a.yaml": [33152, 0, 0, 1, 1]})}
    answers |= printed("addresses.netplan", text("netplan_static.yaml"))
    facts = addresses.parse(Raw(answers))
    assert facts.unread == ()
    assert {stanza.source for stanza in facts.configured} == {"netplan get"}


def test_configuration_files_are_read_where_they_can_be() -> None:
    answers = files(
        "addresses.netplan_files", **{"/etc/netplan/a.yaml": text("netplan_static.yaml"), "b": "network: ["}
    )
    answers |= files("addresses.networkd", c=text("networkd_static.network"))
    answers |= files("addresses.ifupdown", d=text("interfaces.txt"))
    answers |= files("addresses.sysconfig", **{"ifcfg-x": text("ifcfg_static.txt")})
    facts = addresses.parse(Raw(answers))
    assert facts.unread == ("b",)
    assert {stanza.source for stanza in facts.configured} == {"/etc/netplan/a.yaml", "c", "d", "ifcfg-x"}


@given(st.text())
def test_any_text_gives_facts(content: str) -> None:
    keys = ("addresses.ip", "addresses.text", "addresses.netplan", "addresses.nmcli", "addresses.nm.a")
    answers = {key: Answer(key, key, content, exit=0) for key in keys}
    for key in ("addresses.netplan_files", "addresses.networkd", "addresses.ifupdown", "addresses.sysconfig"):
        answers |= files(key, f=content)
    assert isinstance(addresses.parse(Raw(answers)), AddressFacts)
