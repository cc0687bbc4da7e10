from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts import addresses, dns, outbound, ping
from dstui.facts.case import FleetCase, Group, HostCase, HostFacts, HostSite, Params, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge import net, net_addresses, net_dns, net_outbound, net_ping
from dstui.model import Reason, Ruling, TargetKind, Threshold, Verdict

NET = Path(__file__).parent.parent / "data" / "hosts" / "net"
A_IP, B_IP = "198.51.100.11", "198.51.100.12"
UNREACHABLE = Missing(Reason.UNREACHABLE, "connect timed out")
NO_PYTHON = Missing(Reason.TOOL_MISSING, "no python3 on the host")


def host(at: int, mgmt: str | None = None) -> HostSite:
    ip = f"198.51.100.{10 + at}"
    roles = frozenset({"head" if at == 1 else "worker"})
    return HostSite(f"gpu-{at:02}", roles, ip, mgmt, ip, 22, "ops", True, 8)


def site(*hosts: HostSite, **changed: object) -> Site:
    plain = Site("ds", "lab", "pre", hosts, "/mnt/deepseek-shared", None, None, "bare-metal", False, "none")
    return replace(plain, **changed)  # type: ignore[arg-type]


A, B = host(1), host(2)
PAIR = site(A, B)


def params(**values: object) -> Params:
    return Params([Threshold(name, value, "document", value) for name, value in values.items()])


def gathered(answers: Mapping[str, Answer], *groups: Group) -> HostFacts:
    raw = Raw(dict(answers))
    return HostFacts(None, None, raw, {group.facts: group.parse(raw) for group in groups})


def lost(why: Missing = UNREACHABLE) -> HostFacts:
    return HostFacts(why, None, Raw(), {})


def printed(key: str, output: str, exit_code: int = 0, error: str = "") -> dict[str, Answer]:
    return {key: Answer(key, key, output, error, exit_code)}


def valued(key: str, value: object) -> dict[str, Answer]:
    return {key: Answer(key, key, value=value)}


def text(name: str) -> str:
    return (NET / name).read_text()


def lines(ruling: Ruling) -> str:
    return "\n".join([ruling.rule.en, *(note.en for note in ruling.notes)])


# net.peer-ping


def pinged(
    ip: str, icmp: str | None = "ping_ok", tcp: str | None = "ok", addr: str = "ip_addr_dynamic.json"
) -> HostFacts:
    answers = printed("addresses.ip", text(addr))
    if icmp is not None:
        answers |= printed(f"ping.icmp.{ip}", text(f"{icmp}.txt"), 1 if "lost" in icmp or "unreach" in icmp else 0)
    if tcp is not None:
        answers |= valued("ping.tcp", [[ip, 22, tcp, 0.3]])
    return gathered(answers, ping.GROUP, addresses.GROUP)


PING = {"ping_count": 5, "loss_max_pct": 0, "rtt_warn_ms": 1.0, "icmp_required": False, "mtu_probe": "auto"}


def ping_case(facts: Mapping[str, HostFacts], where: Site = PAIR, **changed: object) -> list[Ruling]:
    return list(net_ping.judge(FleetCase(where, facts, params(**{**PING, **changed}), {}, {}, 0.0)))


def forward(facts: HostFacts, back: HostFacts | None = None, **changed: object) -> Ruling:
    rulings = ping_case({"gpu-01": facts, "gpu-02": back or pinged(A_IP)}, **changed)
    return next(r for r in rulings if r.target.name == "gpu-01>gpu-02")


@pytest.mark.parametrize(
    ("icmp", "tcp", "changed", "verdict", "words"),
    [
        ("ping_ok", "ok", {}, Verdict.PASS, "without loss"),
        ("ping_ok", None, {}, Verdict.PASS, "without loss"),
        ("ping_ok", "timeout", {}, Verdict.PASS, "without loss"),
        ("ping_loss", "ok", {}, Verdict.WARN, "40 % loss"),
        ("ping_loss", "ok", {"loss_max_pct": 40}, Verdict.PASS, "without loss"),
        ("ping_loss", "ok", {"icmp_required": True}, Verdict.WARN, "40 % loss"),
        ("ping_slow", "ok", {}, Verdict.WARN, "1.31 ms > 1 ms"),
        ("ping_slow", "ok", {"rtt_warn_ms": 1.31}, Verdict.PASS, "without loss"),
        ("ping_ok", "ok", {"ping_count": 20}, Verdict.WARN, "only 5 of 20"),
        ("ping_lost", "ok", {}, Verdict.WARN, "ICMP blocked"),
        ("ping_lost", "ok", {"icmp_required": True}, Verdict.FAIL, "ICMP is required"),
        ("ping_lost", "timeout", {}, Verdict.FAIL, "neither ping nor TCP 22 (timeout)"),
        ("ping_lost", "refused", {}, Verdict.FAIL, "neither ping"),
        ("ping_unreachable", "unreach", {}, Verdict.FAIL, "Destination Host Unreachable"),
        ("ping_lost", None, {}, Verdict.UNKNOWN, "TCP unknown"),
        ("ping_lost", "error", {}, Verdict.UNKNOWN, "TCP unknown"),
        (None, "ok", {}, Verdict.WARN, "TCP 22 works, ping not tried"),
        (None, "ok", {"icmp_required": True}, Verdict.UNKNOWN, "not looked at"),
        (None, "timeout", {}, Verdict.UNKNOWN, "not looked at"),
        (None, None, {}, Verdict.UNKNOWN, "not looked at"),
    ],
)
def test_ping_rules(
    icmp: str | None, tcp: str | None, changed: dict[str, object], verdict: Verdict, words: str
) -> None:
    ruling = forward(pinged(B_IP, icmp, tcp), **changed)
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


@pytest.mark.parametrize(
    ("output", "exit_code", "error", "reason"),
    [
        ("", 127, "", Reason.TOOL_MISSING),
        ("", 2, "ping: socket: Operation not permitted", Reason.PERMISSION),
        ("", 0, "", Reason.PARSE_ERROR),
        ("garbage", 0, "", Reason.PARSE_ERROR),
    ],
)
def test_a_ping_that_could_not_be_run_needs_tcp_evidence(
    output: str, exit_code: int, error: str, reason: Reason
) -> None:
    answers = printed(f"ping.icmp.{B_IP}", output, exit_code, error)
    without = gathered(answers | {"ping.tcp": Answer("ping.tcp", "c", missing=NO_PYTHON)}, ping.GROUP)
    assert (forward(without).verdict, forward(without).reason) == (Verdict.UNKNOWN, reason)
    with_tcp = gathered(answers | valued("ping.tcp", [[B_IP, 22, "ok", 0.3]]), ping.GROUP)
    assert forward(with_tcp).verdict is Verdict.WARN


def test_one_way_only_is_said_on_the_way_that_works() -> None:
    facts = {"gpu-01": pinged(B_IP), "gpu-02": pinged(A_IP, "ping_lost", "timeout")}
    forth, back = ping_case(facts)
    assert (forth.target.name, forth.verdict) == ("gpu-01>gpu-02", Verdict.WARN)
    assert "gpu-02 does not reach gpu-01" in forth.rule.en
    assert back.verdict is Verdict.FAIL


def test_an_unreachable_source_is_unknown_and_does_not_spoil_the_other_direction() -> None:
    forth, back = ping_case({"gpu-01": pinged(B_IP), "gpu-02": lost()})
    assert forth.verdict is Verdict.PASS
    assert (back.verdict, back.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


@pytest.mark.parametrize(
    ("jumbo", "addr", "probe", "verdict"),
    [
        ("ping_jumbo_ok", "ip_addr_static.json", "auto", Verdict.PASS),
        ("ping_jumbo_dropped", "ip_addr_static.json", "auto", Verdict.WARN),
        ("ping_jumbo_dropped", "ip_addr_static.json", "never", Verdict.PASS),
        ("ping_jumbo_dropped", "ip_addr_dynamic.json", "auto", Verdict.PASS),
        (None, "ip_addr_dynamic.json", "always", Verdict.WARN),
        (None, "ip_addr_static.json", "auto", Verdict.WARN),
    ],
)
def test_jumbo_frames(jumbo: str | None, addr: str, probe: str, verdict: Verdict) -> None:
    answers = dict(pinged(B_IP, addr=addr).raw.answers)
    if jumbo:
        answers |= printed(f"ping.jumbo.{B_IP}", text(f"{jumbo}.txt"), 1 if "dropped" in jumbo else 0)
    there = addresses.GROUP.parse(Raw(printed("addresses.ip", text(addr).replace("198.51.100.11", B_IP))))
    back = pinged(A_IP, addr=addr)
    back = HostFacts(None, None, back.raw, {**back.groups, addresses.AddressFacts: there})
    assert forward(gathered(answers, ping.GROUP, addresses.GROUP), back, mtu_probe=probe).verdict is verdict


def test_both_addresses_count() -> None:
    two = site(A, host(2, "192.0.2.12"))
    answers = dict(pinged(B_IP).raw.answers) | printed("ping.icmp.192.0.2.12", text("ping_lost.txt"), 1)
    answers |= valued("ping.tcp", [[B_IP, 22, "ok", 0.1], ["192.0.2.12", 22, "timeout", 2000.0]])
    forth = ping_case({"gpu-01": gathered(answers, ping.GROUP), "gpu-02": pinged(A_IP)}, two)[0]
    assert forth.verdict is Verdict.FAIL
    assert "192.0.2.12" in forth.rule.en


def test_a_single_host_has_no_peers() -> None:
    (ruling,) = ping_case({"gpu-01": pinged(B_IP)}, site(A))
    assert (ruling.verdict, ruling.target.kind) == (Verdict.NOT_APPLICABLE, TargetKind.CLUSTER)


def fleet(count: int) -> tuple[Site, dict[str, HostFacts]]:
    hosts = tuple(host(i) for i in range(1, count + 1))
    facts = {}
    for h in hosts:
        answers: dict[str, Answer] = {}
        for peer in hosts:
            answers |= printed(f"ping.icmp.{peer.data_ip}", text("ping_ok.txt"))
        facts[h.name] = gathered(answers, ping.GROUP)
    return site(*hosts), facts


def test_sixteen_hosts_are_judged_by_pair() -> None:
    where, facts = fleet(16)
    rulings = ping_case(facts, where)
    assert len(rulings) == 240
    assert {r.target.kind for r in rulings} == {TargetKind.PAIR}


def test_more_are_judged_by_source_with_failing_pairs_first() -> None:
    where, facts = fleet(17)
    answers = dict(facts["gpu-01"].raw.answers) | printed("ping.icmp.198.51.100.15", text("ping_loss.txt"))
    answers |= printed("ping.icmp.198.51.100.19", text("ping_lost.txt"), 1)
    answers |= valued("ping.tcp", [["198.51.100.19", 22, "timeout", 2000.0]])
    rulings = ping_case(facts | {"gpu-01": gathered(answers, ping.GROUP), "gpu-09": lost()}, where)
    first = rulings[0]
    assert (len(rulings), first.target.kind, first.verdict) == (17, TargetKind.HOST, Verdict.FAIL)
    assert first.rule.en.startswith("gpu-09: 198.51.100.19: neither ping")
    assert "gpu-05: 198.51.100.15: 40 % loss" in first.notes[0].en
    assert rulings[1].verdict is Verdict.PASS
    assert (rulings[8].verdict, rulings[8].reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


def test_a_sample_is_never_a_pass() -> None:
    where, facts = fleet(33)
    rulings = ping_case(facts, where)
    # A head with 32 spokes still reaches everyone at this size.
    assert [r.verdict for r in rulings] == [Verdict.PASS] + [Verdict.WARN] * 32
    assert "sample only: 3 of 32 peers" in rulings[10].rule.en


# net.outbound

URLS = {"python": ("https://pypi.org/simple/pip/", "https://mirrors.aliyun.com/pypi/"), "os": ("http://mirror/dists/",)}
OUTBOUND_SITE = site(A, outbound=URLS)


def fetched(status: int | None = 200, **changed: object) -> dict[str, object]:
    kind = None if status else "timeout"
    answer = {"status": status, "ms": 80.0, "dns_ms": 3.0, "via_proxy": False, "kind": kind, "error": None}
    return {**answer, "insecure_status": None, "body": "", **changed}


DOWN = fetched(None, error="timed out")


def outbound_ruling(
    python: Mapping[str, object] | None = None,
    direct: Mapping[str, object] | None = None,
    where: Site = OUTBOUND_SITE,
    **changed: object,
) -> Ruling:
    first, second = URLS["python"]
    answers = valued("outbound.via.os", {URLS["os"][0]: fetched()})
    answers |= valued("outbound.via.python", python if python is not None else {first: fetched(), second: DOWN})
    if direct is not None:
        answers |= valued("outbound.direct.python", direct)
    facts = gathered(answers, outbound.GROUP)
    values = params(**{"offline": False, "internal_mirrors": {}, **changed})
    return net_outbound.judge(HostCase(A, where, facts, values, 0.0))


FIRST, SECOND = URLS["python"]


@pytest.mark.parametrize(
    ("python", "direct", "verdict", "words"),
    [
        ({FIRST: fetched(), SECOND: DOWN}, None, Verdict.PASS, "every group"),
        ({FIRST: fetched(401), SECOND: DOWN}, None, Verdict.PASS, "every group"),
        ({FIRST: fetched(503), SECOND: DOWN}, None, Verdict.FAIL, "none of 2 URLs is reachable (pypi.org: HTTP 503)"),
        ({FIRST: DOWN, SECOND: DOWN}, None, Verdict.FAIL, "pypi.org: timed out"),
        ({FIRST: DOWN}, None, Verdict.UNKNOWN, "1 URLs were not tried in time"),
        ({}, None, Verdict.UNKNOWN, "2 URLs were not tried in time"),
        ({FIRST: fetched(None, kind="tls", insecure_status=200), SECOND: DOWN}, None, Verdict.WARN, "certificate"),
        ({FIRST: fetched(dns_ms=1000.0)}, None, Verdict.PASS, "every group"),
        ({FIRST: fetched(dns_ms=1000.1)}, None, Verdict.WARN, "name lookup took 1.0 s"),
        ({FIRST: fetched(407, via_proxy=True), SECOND: DOWN}, {FIRST: fetched()}, Verdict.WARN, "proxy fails"),
        ({FIRST: fetched(407, via_proxy=True), SECOND: DOWN}, {FIRST: DOWN}, Verdict.FAIL, "HTTP 407"),
        ({FIRST: fetched(via_proxy=True)}, {FIRST: DOWN}, Verdict.WARN, "only through the proxy"),
        ({FIRST: fetched(via_proxy=True)}, {FIRST: fetched()}, Verdict.PASS, "every group"),
        ({"http://m/": fetched(403, via_proxy=True)}, {"http://m/": fetched()}, Verdict.WARN, "its own refusal"),
    ],
)
def test_outbound_rules(
    python: dict[str, object], direct: dict[str, object] | None, verdict: Verdict, words: str
) -> None:
    ruling = outbound_ruling(python, direct)
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


@pytest.mark.parametrize(
    ("where", "changed", "verdict", "reason"),
    [
        (OUTBOUND_SITE, {"offline": True}, Verdict.NOT_APPLICABLE, None),
        (OUTBOUND_SITE, {"offline": True, "internal_mirrors": {"pip": "http://m/"}}, Verdict.PASS, None),
        (site(A), {}, Verdict.UNKNOWN, Reason.NO_TARGETS),
        (site(A, outbound={**URLS, "model": ("https://hf",)}), {}, Verdict.UNKNOWN, Reason.NOT_RUN),
    ],
)
def test_outbound_without_internet_or_urls(
    where: Site, changed: dict[str, object], verdict: Verdict, reason: Reason | None
) -> None:
    ruling = outbound_ruling(where=where, **changed)
    assert (ruling.verdict, ruling.reason) == (verdict, reason)


def test_a_host_without_python_cannot_tell_outbound() -> None:
    answers = {f"outbound.via.{g}": Answer(g, "GET", missing=NO_PYTHON) for g in URLS}
    values = params(offline=False, internal_mirrors={})
    ruling = net_outbound.judge(HostCase(A, OUTBOUND_SITE, gathered(answers, outbound.GROUP), values, 0.0))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TOOL_MISSING)


# net.static-ip


def static_ruling(answers: Mapping[str, Answer], reserved: bool = False, mgmt: str | None = "192.0.2.11") -> Ruling:
    facts = gathered(answers, addresses.GROUP)
    values = params(addresses=["data_ip", "mgmt_ip"], dhcp_reserved=reserved)
    one = host(1, mgmt)
    return net_addresses.judge(HostCase(one, site(one), facts, values, 0.0))


def ip_addr(name: str) -> dict[str, Answer]:
    return printed("addresses.ip", text(f"ip_addr_{name}.json"))


def configured(name: str) -> dict[str, Answer]:
    return valued("addresses.netplan_files", {"/etc/netplan/50.yaml": text(f"netplan_{name}.yaml")})


SECRET_PLAN = valued("addresses.netplan_names", {"/etc/netplan/50.yaml": [33152, 0, 0, 400, 1.0]})


@pytest.mark.parametrize(
    ("answers", "reserved", "verdict", "words"),
    [
        (ip_addr("static") | configured("static"), False, Verdict.PASS, "stay"),
        (ip_addr("dynamic") | configured("static"), False, Verdict.FAIL, "198.51.100.11 (ens1f0np0) is leased"),
        (ip_addr("dynamic") | configured("static"), True, Verdict.PASS, "stay"),
        (ip_addr("elsewhere") | configured("static"), False, Verdict.FAIL, "data_ip 198.51.100.11 is on no interface"),
        (ip_addr("elsewhere") | configured("static"), True, Verdict.FAIL, "on no interface"),
        (ip_addr("static") | configured("dhcp"), False, Verdict.WARN, "an endless lease"),
        (ip_addr("static") | configured("dhcp"), True, Verdict.PASS, "stay"),
        (ip_addr("static") | SECRET_PLAN, False, Verdict.WARN, "/etc/netplan/50.yaml cannot be read"),
        (ip_addr("static"), False, Verdict.WARN, "no configuration that could be read"),
        (ip_addr("same_subnet") | configured("static"), False, Verdict.WARN, "ens1f0np0, ens1f1np1 are in the same"),
    ],
)
def test_static_ip_rules(answers: dict[str, Answer], reserved: bool, verdict: Verdict, words: str) -> None:
    ruling = static_ruling(answers, reserved)
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("addresses.ip", "ip", missing=Missing(Reason.TOOL_MISSING, "ip: not found")), Reason.TOOL_MISSING),
        (Answer("addresses.ip", "ip", "", exit=0), Reason.PARSE_ERROR),
        (Answer("addresses.ip", "ip", "{]", exit=0), Reason.PARSE_ERROR),
        (Answer("addresses.ip", "ip", missing=Missing(Reason.TIMEOUT, "5 s")), Reason.TIMEOUT),
    ],
)
def test_without_addresses_static_ip_cannot_be_told(answer: Answer, reason: Reason) -> None:
    ruling = static_ruling({"addresses.ip": answer} | configured("static"))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, reason)


def test_a_container_bridge_is_no_second_interface() -> None:
    moved = text("ip_addr_same_subnet.json").replace("ens1f1np1", "docker0")
    assert static_ruling(printed("addresses.ip", moved) | configured("static")).verdict is Verdict.PASS


def test_the_same_address_twice_in_the_inventory_is_one() -> None:
    ruling = static_ruling(ip_addr("static") | configured("static"), mgmt=A_IP)
    assert list(ruling.material) == [A_IP]


# net.dns

DNS_SITE = site(A, B, dns_names=("api.example.com",))
NAMES = {
    "@self": [A_IP],
    "gpu-01": [A_IP],
    "gpu-02": [B_IP],
    "api.example.com": ["203.0.113.7"],
    "pypi.org": ["151.101.0.223"],
}


def queried(**servers: tuple[int | None, float]) -> dict[str, Answer]:
    def answer(rcode: int | None, ms: float) -> dict[str, object]:
        return {
            "pypi.org": {"addresses": [], "rcode": rcode, "ms": ms, "error": None if rcode is not None else "timeout"}
        }

    listed = [{"server": f"198.51.100.{at[1:]}", "via": "x", "answers": answer(*got)} for at, got in servers.items()]
    return valued("dns.query", {"servers": listed})


GOOD = queried(s2=(0, 4.0), s3=(0, 5.0))


def dns_ruling(
    servers: Mapping[str, Answer] | None = None,
    names: Mapping[str, list[str]] | None = None,
    hosts: str = "127.0.0.1 localhost\n",
    resolv: str = "resolv_two.conf",
    ms: float = 1.0,
    where: Site = DNS_SITE,
    **changed: object,
) -> Ruling:
    answered = {**NAMES, **(names or {})}
    looked = {
        n: {"addresses": a, "ms": ms, "error": None if a else "Name or service not known"} for n, a in answered.items()
    }
    answers = printed("dns.resolv", text(resolv)) | printed("dns.hosts", hosts) | valued("dns.names", looked)
    facts = gathered(answers | dict(GOOD if servers is None else servers), dns.GROUP)
    values = params(**{"dns_slow_ms": 200, "dns_hosts_file_ok": True, **changed})
    return net_dns.judge(HostCase(A, where, facts, values, 0.0))


FROM_HOSTS = "198.51.100.11 gpu-01\n198.51.100.12 gpu-02\n"


@pytest.mark.parametrize(
    ("given", "verdict", "words"),
    [
        ({}, Verdict.PASS, "the name servers answer"),
        (
            {"servers": valued("dns.query", {"servers": []}), "resolv": "hosts_debian.txt"},
            Verdict.FAIL,
            "no name server is",
        ),
        ({"servers": queried(s2=(None, 0.0), s3=(None, 0.0))}, Verdict.FAIL, "no name server answers"),
        ({"servers": queried(s2=(2, 1.0), s3=(5, 1.0))}, Verdict.FAIL, "198.51.100.2 rcode 2"),
        (
            {"servers": queried(s2=(0, 4.0), s3=(None, 0.0))},
            Verdict.WARN,
            "198.51.100.3 timeout (each lookup may stall",
        ),
        ({"servers": queried(s2=(0, 4.0), s3=(2, 1.0))}, Verdict.WARN, "198.51.100.3 rcode 2"),
        ({"servers": queried(s2=(3, 4.0))}, Verdict.WARN, "only one name server"),
        ({"servers": queried(s2=(0, 200.0), s3=(0, 1.0))}, Verdict.PASS, "the name servers answer"),
        ({"servers": queried(s2=(0, 200.5), s3=(0, 1.0))}, Verdict.WARN, "slow name server"),
        ({"ms": 5003.0}, Verdict.WARN, "slow lookups"),
        ({"names": {"gpu-02": ["198.51.100.99"]}}, Verdict.FAIL, "gpu-02 resolves to 198.51.100.99, not 198.51.100.12"),
        ({"names": {"gpu-02": [B_IP, "198.51.100.99"]}}, Verdict.FAIL, "gpu-02 resolves to 198.51.100.99"),
        ({"names": {"gpu-02": ["127.0.0.1"]}}, Verdict.FAIL, "gpu-02 resolves to 127.0.0.1"),
        ({"names": {"gpu-02": [B_IP, "fd00::12"]}}, Verdict.PASS, "the name servers answer"),
        ({"names": {"gpu-02": ["fd00::12"]}}, Verdict.FAIL, "gpu-02 resolves to fd00::12"),
        ({"names": {"gpu-02": []}}, Verdict.FAIL, "gpu-02 does not resolve (Name or service not known)"),
        ({"names": {"api.example.com": []}}, Verdict.FAIL, "api.example.com does not resolve"),
        ({"names": {"api.example.com": ["127.0.0.1"]}}, Verdict.WARN, "api.example.com resolves to loopback"),
        ({"names": {"pypi.org": []}}, Verdict.WARN, "external name pypi.org does not resolve"),
        (
            {"names": {"pypi.org": []}, "where": replace(DNS_SITE, offline=True)},
            Verdict.PASS,
            "the name servers answer",
        ),
        ({"names": {"@self": ["127.0.1.1"]}}, Verdict.WARN, "own hostname resolves to 127.0.1.1"),
        (
            {"names": {"@self": ["127.0.1.1"], "gpu-01": ["127.0.1.1"]}},
            Verdict.WARN,
            "own hostname resolves to 127.0.1.1",
        ),
        ({"names": {"@self": ["::1"]}}, Verdict.WARN, "own hostname resolves to ::1"),
        ({"names": {"@self": []}}, Verdict.WARN, "own hostname does not resolve"),
        ({"names": {"@self": ["192.0.2.77"]}}, Verdict.WARN, "not to data_ip 198.51.100.11"),
        ({"names": {"gpu-01": [A_IP, "172.17.0.1"]}}, Verdict.PASS, "the name servers answer"),
        ({"names": {"gpu-01": ["172.17.0.1"]}}, Verdict.FAIL, "gpu-01 resolves to 172.17.0.1"),
        ({"hosts": FROM_HOSTS}, Verdict.WARN, "names come from /etc/hosts only: gpu-02"),
        ({"hosts": FROM_HOSTS, "dns_hosts_file_ok": False}, Verdict.FAIL, "names come from /etc/hosts only"),
        ({"hosts": "198.51.100.11 gpu-01\n"}, Verdict.PASS, "the name servers answer"),
    ],
)
def test_dns_rules(given: dict[str, object], verdict: Verdict, words: str) -> None:
    ruling = dns_ruling(**given)  # type: ignore[arg-type]
    assert ruling.verdict is verdict, lines(ruling)
    assert words in ruling.rule.en


def test_a_host_without_python_cannot_tell_whether_servers_answer() -> None:
    answers = printed("dns.resolv", text("resolv_two.conf"))
    answers |= {key: Answer(key, key, missing=NO_PYTHON) for key in ("dns.query", "dns.names")}
    values = params(dns_slow_ms=200, dns_hosts_file_ok=True)
    ruling = net_dns.judge(HostCase(A, DNS_SITE, gathered(answers, dns.GROUP), values, 0.0))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TOOL_MISSING)
    assert "198.51.100.2, 198.51.100.3" in ruling.rule.en
    none = answers | printed("dns.resolv", "search example.com\n")
    ruling = net_dns.judge(HostCase(A, DNS_SITE, gathered(none, dns.GROUP), values, 0.0))
    assert ruling.verdict is Verdict.FAIL


@pytest.mark.parametrize("names", [[], None, {"gpu-01": 3}])
def test_garbled_lookups_are_unknown(names: object) -> None:
    answers = printed("dns.resolv", text("resolv_two.conf")) | GOOD | valued("dns.names", names)
    values = params(dns_slow_ms=200, dns_hosts_file_ok=True)
    ruling = net_dns.judge(HostCase(A, DNS_SITE, gathered(answers, dns.GROUP), values, 0.0))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.PARSE_ERROR)


def test_a_name_that_was_not_asked_is_unknown() -> None:
    answers = printed("dns.resolv", text("resolv_two.conf")) | GOOD | valued("dns.names", {})
    values = params(dns_slow_ms=200, dns_hosts_file_ok=True)
    ruling = net_dns.judge(HostCase(A, DNS_SITE, gathered(answers, dns.GROUP), values, 0.0))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


@pytest.mark.parametrize("judge", [net_outbound, net_addresses, net_dns])
def test_an_unreachable_host_is_unknown(judge: object) -> None:
    values = params(offline=False, internal_mirrors={}, addresses=["data_ip"], dhcp_reserved=False)
    ruling = judge.judge(HostCase(A, OUTBOUND_SITE, lost(), values, 0.0))  # type: ignore[attr-defined]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


def test_every_judge_is_announced() -> None:
    assert [judge.check_id for judge in net.JUDGES] == [
        "net.peer-ping",
        "net.outbound",
        "net.static-ip",
        "net.ports",
        "net.dns",
    ]
