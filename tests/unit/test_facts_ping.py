from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import ping
from dstui.facts.case import HostSite, Site
from dstui.facts.ping import Ping, PingFacts, tried_peers
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

NET = Path(__file__).parent.parent / "data" / "hosts" / "net"
IP = "198.51.100.12"


def host(at: int, roles: str = "worker", mgmt: str | None = None) -> HostSite:
    ip = f"198.51.{100 + at // 200}.{10 + at % 200}"
    return HostSite(f"gpu-{at:02}", frozenset({roles}), ip, mgmt, ip, 22, "ops", True, 8)


def site(*hosts: HostSite) -> Site:
    return Site("ds", "lab", "pre", hosts, "/mnt/deepseek-shared", None, None, "bare-metal", False, "none")


def answer(output: str, exit_code: int | None = 0, error: str = "") -> PingFacts:
    key = f"ping.icmp.{IP}"
    return ping.parse(Raw({key: Answer(key, f"ping {IP}", output, error, exit_code)}))


@pytest.mark.parametrize(
    ("name", "exit_code", "expected"),
    [
        ("ping_ok", 0, Ping(5, 5, 0.158)),
        ("ping_loss", 0, Ping(5, 3, 0.035)),
        ("ping_lost", 1, Ping(5, 0, None)),
        ("ping_unreachable", 1, Ping(5, 0, None, "Destination Host Unreachable")),
        ("ping_busybox", 0, Ping(5, 5, 0.110)),
        ("ping_duplicates", 0, Ping(5, 5, 0.158)),
    ],
)
def test_reads_what_ping_prints(name: str, exit_code: int, expected: Ping) -> None:
    assert answer((NET / f"{name}.txt").read_text(), exit_code).icmp[IP] == expected


def test_says_the_loss_in_percent() -> None:
    assert Ping(5, 3, 0.1).loss_pct == 40.0
    assert Ping(0, 0, None).loss_pct == 100.0


def test_a_local_firewall_that_forbids_sending_is_loss_with_its_words() -> None:
    output = f"PING {IP} ({IP}) 56(84) bytes of data.\n\n--- {IP} ping statistics ---\n"
    output += "5 packets transmitted, 0 received, 100% packet loss, time 4095ms\n"
    facts = answer(output, 1, "ping: sendmsg: Operation not permitted\n")
    assert facts.icmp[IP] == Ping(5, 0, None, "Operation not permitted")


def test_no_route_is_an_answer_not_a_gap() -> None:
    facts = answer("", 2, "ping: connect: Network is unreachable\n")
    assert facts.icmp[IP] == Ping(0, 0, None, "ping: connect: Network is unreachable")


@pytest.mark.parametrize(
    ("output", "exit_code", "error", "reason"),
    [
        ("", 2, "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\n", Reason.PERMISSION),
        ("", 1, "ping: permission denied (are you root?)\n", Reason.PERMISSION),
        ("", 127, "", Reason.TOOL_MISSING),
        ("", 126, "", Reason.PERMISSION),
        ("", 1, "ping: invalid number '0.2'\n", Reason.CANNOT_TELL),
        ("", 0, "", Reason.PARSE_ERROR),
        ("PING 198.51.100.12 (198.51.100.12) 56(84) bytes of data.\n", 0, "", Reason.PARSE_ERROR),
        ("\x1b[2J\x00garbage", 0, "", Reason.PARSE_ERROR),
        ("5 packets transmitted, 9 received, 0% packet loss", 0, "", Reason.PARSE_ERROR),
        ("5 packets transmitted, 0 received, 100% packet loss", 0, "", Reason.PARSE_ERROR),
        ("0 packets transmitted, 0 received", 1, "", Reason.PARSE_ERROR),
    ],
)
def test_what_is_no_measurement_is_missing(output: str, exit_code: int, error: str, reason: Reason) -> None:
    found = answer(output, exit_code, error).icmp[IP]
    assert isinstance(found, Missing)
    assert found.reason is reason


def tcp(value: object) -> PingFacts:
    return ping.parse(Raw({"ping.tcp": Answer("ping.tcp", "connect", value=value)}))


def test_reads_connects() -> None:
    facts = tcp([[IP, 22, "ok", 0.4], ["198.51.100.13", 2222, "refused", 0.1]])
    assert facts.tcp == {(IP, 22): "ok", ("198.51.100.13", 2222): "refused"}


@pytest.mark.parametrize("value", [None, {}, "ok", [[IP, "22", "ok"]], [[IP, True, "ok", 1.0]], [None], [[]]])
def test_connects_of_another_shape_are_missing(value: object) -> None:
    found = tcp(value).tcp
    assert isinstance(found, Missing)
    assert found.reason is Reason.PARSE_ERROR


def test_asks_for_both_addresses_of_every_peer() -> None:
    hosts = (host(1), host(2, mgmt="192.0.2.12"), host(3, mgmt=host(3).data_ip))
    asked = ping.ops(hosts[0], site(*hosts))
    assert [op.key for op in asked] == [
        f"ping.icmp.{hosts[1].data_ip}",
        "ping.icmp.192.0.2.12",
        f"ping.icmp.{hosts[2].data_ip}",
        "ping.tcp",
    ]
    assert asked[0].args["argv"] == ["ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", hosts[1].data_ip]
    assert asked[-1].args["endpoints"] == [[hosts[1].data_ip, 22], ["192.0.2.12", 22], [hosts[2].data_ip, 22]]


def test_asks_nothing_of_a_single_host() -> None:
    assert ping.ops(host(1), site(host(1))) == ()


@pytest.mark.parametrize(("mtu_file", "wanted"), [("ip_addr_static.json", 1), ("ip_addr_dynamic.json", 0)])
def test_jumbo_frames_only_from_an_interface_that_takes_them(mtu_file: str, wanted: int) -> None:
    hosts = (host(1), host(2))
    text = (NET / mtu_file).read_text()
    asked = ping.more(hosts[0], site(*hosts), Raw({"addresses.ip": Answer("addresses.ip", "ip -j addr", text, exit=0)}))
    assert [op.args["argv"][3:7] for op in asked] == [["do", "-s", "8972", "-c"]] * wanted  # type: ignore[index]


def test_jumbo_frames_leave_room_for_the_longer_ipv6_header() -> None:
    a, b = host(1), HostSite("gpu-02", frozenset({"worker"}), "fd00::12", None, "fd00::12", 22, "ops", True, 8)
    raw = Raw({"addresses.ip": Answer("addresses.ip", "", (NET / "ip_addr_static.json").read_text(), exit=0)})
    assert "8952" in ping.more(a, site(a, b), raw)[0].args["argv"]  # type: ignore[operator]


def test_all_pairs_up_to_32_hosts() -> None:
    hosts = tuple(host(i) for i in range(32))
    assert len(tried_peers(hosts[0], site(*hosts))) == 31


def test_ring_and_star_beyond() -> None:
    hosts = (host(0, "head"), *(host(i) for i in range(1, 100)))
    large = site(*hosts)
    tried = {h.name: {p.name for p in tried_peers(h, large)} for h in hosts}
    assert tried["gpu-50"] == {"gpu-49", "gpu-51", "gpu-00"}
    assert {"gpu-01", "gpu-99"} <= tried["gpu-00"]
    assert len(tried["gpu-00"]) <= 34
    assert all(name not in peers for name, peers in tried.items())


@given(st.text(), st.text(), st.sampled_from([None, 0, 1, 2, 127]))
def test_any_output_gives_facts(output: str, error: str, exit_code: int | None) -> None:
    assert isinstance(answer(output, exit_code, error).icmp[IP], Ping | Missing)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=5)))
def test_any_connect_answer_gives_facts(value: object) -> None:
    assert isinstance(tcp(value).tcp, dict | Missing)
