from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import dns
from dstui.facts.case import HostSite, Site
from dstui.facts.dns import DnsFacts, Lookup
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

NET = Path(__file__).parent.parent / "data" / "hosts" / "net"
HOSTS = tuple(
    HostSite(f"gpu-0{i}", frozenset({"worker"}), f"198.51.100.1{i}", None, f"198.51.100.1{i}", 22, "ops", True, 8)
    for i in (1, 2)
)


def site(**changed: object) -> Site:
    base: dict[str, object] = {"dns_names": ("api.example.com",)}
    return Site(
        *("ds", "lab", "pre", HOSTS, "/mnt/deepseek-shared", None, None, "bare-metal", False, "none"),
        **{**base, **changed},  # type: ignore[arg-type]
    )


def text(name: str) -> str:
    return (NET / name).read_text()


def printed(**outputs: str) -> Raw:
    answers = {f"dns.{key}": Answer(f"dns.{key}", key, output, exit=0) for key, output in outputs.items()}
    return Raw(answers)


def valued(key: str, value: object) -> Raw:
    return Raw({key: Answer(key, key, value=value)})


def test_servers_are_those_of_resolv_conf() -> None:
    assert dns.parse(printed(resolv=text("resolv_two.conf"))).configured == ("198.51.100.2", "198.51.100.3")


def test_behind_the_stub_the_servers_are_those_of_resolvectl() -> None:
    raw = printed(resolv=text("resolv_stub.conf"), resolvectl=text("resolvectl_dns.txt"))
    assert dns.parse(raw).configured == ("192.0.2.53", "198.51.100.2", "198.51.100.3", "fe80::1%3")


def test_the_stub_stands_alone_without_resolvectl() -> None:
    assert dns.parse(printed(resolv=text("resolv_stub.conf"))).configured == ("127.0.0.53",)


def test_a_stub_without_upstream_is_no_server() -> None:
    raw = printed(resolv=text("resolv_stub.conf"), resolvectl="Global:\nLink 2 (eno1):\n")
    assert dns.parse(raw).configured == ()


@pytest.mark.parametrize("content", ["", "# nothing\n", "search example.com\n", "nameserver\n", "nameserver dns1\n"])
def test_a_resolv_conf_without_server_has_none(content: str) -> None:
    assert dns.parse(printed(resolv=content)).configured == ()


def test_an_unreadable_resolv_conf_is_missing() -> None:
    denied = Missing(Reason.PERMISSION, "EACCES: /etc/resolv.conf")
    raw = Raw({"dns.resolv": Answer("dns.resolv", "/etc/resolv.conf", missing=denied)})
    assert dns.parse(raw).configured == denied


def test_hosts_file() -> None:
    hosts = dns.parse(printed(hosts=text("hosts_debian.txt"))).hosts
    assert not isinstance(hosts, Missing)
    assert hosts["gpu-01"] == ("127.0.1.1",)
    assert hosts["gpu-02.example.com"] == ("198.51.100.12",)
    assert hosts["localhost"] == ("127.0.0.1", "::1")
    assert "worker" not in hosts


def server(**answer: object) -> dict[str, object]:
    full = {"addresses": ["151.101.0.223"], "rcode": 0, "ms": 4.0, "error": None, **answer}
    return {"servers": [{"server": "198.51.100.2", "via": "resolv.conf", "answers": {"pypi.org": full}}]}


@pytest.mark.parametrize(
    ("answer", "answering", "silent"),
    [
        ({}, True, False),
        ({"rcode": 3, "addresses": []}, True, False),
        ({"rcode": 2, "addresses": []}, False, False),
        ({"rcode": 5, "addresses": []}, False, False),
        ({"rcode": None, "addresses": [], "error": "timeout"}, False, True),
        ({"rcode": "0"}, False, True),
    ],
)
def test_answering_is_an_address_or_no_such_name(answer: dict[str, object], answering: bool, silent: bool) -> None:
    servers = dns.parse(valued("dns.query", server(**answer))).servers
    assert not isinstance(servers, Missing)
    assert (servers[0].answering, servers[0].silent) == (answering, silent)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"servers": None}, {"servers": [None]}, {"servers": [{"server": "x"}]}]
)
def test_queries_of_another_shape_are_missing(value: object) -> None:
    assert isinstance(dns.parse(valued("dns.query", value)).servers, Missing)


def test_lookups() -> None:
    raw = valued("dns.names", {"gpu-02": {"addresses": ["198.51.100.12"], "ms": 0.3, "error": None}})
    assert dns.parse(raw).lookups == {"gpu-02": Lookup(("198.51.100.12",), 0.3, "")}


@pytest.mark.parametrize("value", [None, [], {"gpu-02": None}, {"gpu-02": {}}, {"gpu-02": {"addresses": "x"}}])
def test_lookups_of_another_shape_are_missing(value: object) -> None:
    assert isinstance(dns.parse(valued("dns.names", value)).lookups, Missing)


def test_asks_for_the_own_name_every_host_the_endpoint_and_an_external_name() -> None:
    by_key = {op.key: op for op in dns.ops(HOSTS[0], site())}
    assert by_key["dns.names"].args["names"] == ["@self", "gpu-01", "gpu-02", "api.example.com", "pypi.org"]
    assert by_key["dns.query"].args["names"] == ["pypi.org", "api.example.com", "gpu-01"]


def test_offline_asks_for_no_external_name() -> None:
    by_key = {op.key: op for op in dns.ops(HOSTS[0], site(offline=True))}
    assert "pypi.org" not in by_key["dns.names"].args["names"]  # type: ignore[operator]
    assert by_key["dns.query"].args["names"] == ["api.example.com", "gpu-01"]


@given(st.text())
def test_any_text_gives_facts(content: str) -> None:
    assert isinstance(dns.parse(printed(resolv=content, resolvectl=content, hosts=content)), DnsFacts)
