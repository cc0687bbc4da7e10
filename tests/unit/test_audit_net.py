"""net.*: peers that are the host itself, groups and names that were left out, answers that change from run to run."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from dstui.facts import addresses, dns, outbound, ping
from dstui.facts.case import FleetCase, Group, HostCase, HostFacts, HostSite, Params, Site
from dstui.facts.choreography import Listener, PortMatrix, PortTry
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge import net_dns, net_outbound, net_ping, net_ports
from dstui.model import Reason, Ruling, Threshold, Verdict
from dstui.plan import prepared

LOOPBACK = "127.0.0.2"


def host(at: int, ip: str | None = None) -> HostSite:
    address = ip or f"198.51.100.{10 + at}"
    return HostSite(
        f"gpu-{at:02}", frozenset({"head" if at == 1 else "worker"}), address, None, address, 22, "ops", True, 8
    )


A, B = host(1), host(2)
SITE = Site("ds", "lab", "pre", (A, B), "/mnt/s", None, None, "bare-metal", False, "none")


def params(**values: object) -> Params:
    return Params([Threshold(name, value, "document", value) for name, value in values.items()])


def gathered(answers: Mapping[str, Answer], *groups: Group) -> HostFacts:
    raw = Raw(dict(answers))
    return HostFacts(None, None, raw, {group.facts: group.parse(raw) for group in groups})


def has(*ips: str) -> dict[str, Answer]:
    listed = ",".join(f'{{"local":"{ip}","prefixlen":24,"scope":"global","valid_life_time":4294967295}}' for ip in ips)
    return {
        "addresses.ip": Answer(
            "k", "k", f'[{{"ifname":"eth0","ifindex":2,"flags":["UP"],"mtu":1500,"addr_info":[{listed}]}}]', exit=0
        )
    }


PING_OK = "5 packets transmitted, 5 received, 0% packet loss, time 804ms\nrtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms\n"
PING = params(ping_count=5, loss_max_pct=0, rtt_warn_ms=1.0, icmp_required=False, mtu_probe="auto")


@pytest.mark.parametrize(
    ("peer", "held", "verdict"),
    [
        (B, (A.data_ip,), Verdict.PASS),
        (B, (A.data_ip, B.data_ip), Verdict.UNKNOWN),
        (host(2, LOOPBACK), (A.data_ip,), Verdict.UNKNOWN),
    ],
)
def test_a_ping_that_never_left_the_host_proves_nothing(
    peer: HostSite, held: tuple[str, ...], verdict: Verdict
) -> None:
    answers = {
        **has(*held),
        f"ping.icmp.{peer.data_ip}": Answer("k", "ping", PING_OK, exit=0),
        "ping.tcp": Answer("k", "k", value=[[peer.data_ip, 22, "ok", 0.2]]),
    }
    facts = {
        A.name: gathered(answers, ping.GROUP, addresses.GROUP),
        B.name: gathered({}, ping.GROUP, addresses.GROUP),
    }
    case = FleetCase(replace(SITE, hosts=(A, peer)), facts, PING, {}, {}, 0.0)
    ruling = next(r for r in net_ping.judge(case) if r.target.name == "gpu-01>gpu-02")
    assert ruling.verdict is verdict


PORTS = params(ports_head=(6380,), port_range="10001-10002", range_samples=2, ports_extra=())


def matrix(holder: str | None = None) -> PortMatrix:
    state = "listening" if holder is None else "busy"
    listeners = [Listener(h.name, port, "listening") for h in (A, B) for port in (10001, 10002)]
    tries = [PortTry(a.name, b.name, port, "ok", 0.1) for a, b in ((A, B), (B, A)) for port in (10001, 10002)]
    listeners.append(Listener(A.name, 6380, state, holder))
    tries.append(PortTry(B.name, A.name, 6380, "ok", 0.1))
    return PortMatrix("ds", (10001, 10002), 10001, 10002, True, tuple(listeners), tuple(tries), {})


def ports(found: PortMatrix, a: str, b: str, site: Site = SITE, held: tuple[str, ...] = ()) -> Ruling:
    facts = {h.name: gathered(has(*held) if held else {}, addresses.GROUP) for h in site.hosts}
    case = FleetCase(site, facts, PORTS, {}, {PortMatrix: found}, 0.0)
    return next(r for r in net_ports.judge(case) if r.target.name == f"{a}>{b}")


def test_a_connect_that_never_left_the_host_proves_nothing() -> None:
    assert ports(matrix(), "gpu-01", "gpu-02").verdict is Verdict.PASS
    assert ports(matrix(), "gpu-01", "gpu-02", held=(A.data_ip, B.data_ip)).verdict is Verdict.UNKNOWN
    assert ports(matrix(), "gpu-01", "gpu-02", replace(SITE, hosts=(A, host(2, LOOPBACK)))).verdict is Verdict.UNKNOWN


def test_a_sample_that_is_in_use_by_chance_changes_no_signature() -> None:
    quiet = matrix()
    busy = replace(
        quiet,
        listeners=tuple(replace(i, state="busy", holder="curl") if i.port == 10002 else i for i in quiet.listeners),
        tries=tuple(replace(t, outcome="refused") if t.port == 10002 else t for t in quiet.tries),
    )
    live = replace(SITE, phase="live")
    assert ports(quiet, "gpu-01", "gpu-02", live).material == ports(busy, "gpu-01", "gpu-02", live).material
    lost = replace(quiet, tries=tuple(replace(t, outcome="timeout") for t in quiet.tries))
    assert ports(quiet, "gpu-01", "gpu-02").material != ports(lost, "gpu-01", "gpu-02").material


@pytest.mark.parametrize(("holder", "verdict"), [("gcs_server", Verdict.PASS), ("python3", Verdict.FAIL)])
def test_another_gcs_port_is_held_to_the_same(holder: str, verdict: Verdict) -> None:
    live = replace(SITE, phase="live")
    assert ports(matrix(holder), "gpu-02", "gpu-01", live).verdict is verdict


def fetched(status: int | None, kind: str | None = None) -> dict[str, object]:
    return {"status": status, "ms": 1.0, "dns_ms": 1.0, "via_proxy": False, "kind": kind, "error": None,
            "insecure_status": None, "body": ""}  # fmt: skip


MIRRORS = ("https://a.test/", "https://b.test/")


def outside(site: Site, second: dict[str, object] | None = None, **values: object) -> Ruling:
    value = {MIRRORS[0]: fetched(200), MIRRORS[1]: second or fetched(200)}
    facts = gathered({"outbound.via.python": Answer("k", "k", value=value)}, outbound.GROUP)
    named = {"offline": False, "internal_mirrors": {}, "outbound_groups": {"python": list(MIRRORS)}, **values}
    return net_outbound.judge(HostCase(A, site, facts, params(**named), 0.0))


def test_a_group_of_urls_is_never_left_out() -> None:
    written = {"python": list(MIRRORS), "os": "http://os.test/", "model": {"url": "https://m.test/"}}
    site = prepared(SITE, outbound=written, head_ports=(), log_dirs=(), exporters=())
    assert site.outbound == {"python": MIRRORS, "os": ("http://os.test/",), "model": ()}
    assert outside(site).verdict is Verdict.UNKNOWN
    alone = replace(SITE, outbound={"python": MIRRORS})
    assert outside(alone).verdict is Verdict.PASS
    assert outside(alone, outbound_groups=written).verdict is Verdict.UNKNOWN


def test_a_mirror_that_is_slow_today_changes_nothing_that_a_signature_rests_on() -> None:
    site = replace(SITE, outbound={"python": MIRRORS})
    assert outside(site).material == outside(site, fetched(None, "timeout")).material


NAMESERVERS = ("192.0.2.1", "192.0.2.2")
DNS = {"dns_slow_ms": 200, "dns_hosts_file_ok": True, "dns_names": (), "dns_external": "pypi.org"}


def resolved(external: tuple[str, ...] = ("203.0.113.1",), peer: object = None, **values: object) -> Ruling:
    answered = {"addresses": ["203.0.113.1"], "rcode": 0, "ms": 1.0, "error": None}
    names = {
        "@self": {"addresses": [A.data_ip], "ms": 1.0, "error": None},
        A.name: {"addresses": [A.data_ip], "ms": 1.0, "error": None},
        B.name: peer or {"addresses": [B.data_ip], "ms": 1.0, "error": None},
        "pypi.org": {"addresses": list(external), "ms": 1.0, "error": None},
    }
    servers = [{"server": ip, "via": "resolv.conf", "answers": {"pypi.org": answered}} for ip in NAMESERVERS]
    answers = {
        "dns.query": Answer("k", "k", value={"servers": servers}),
        "dns.names": Answer("k", "k", value=names),
        "dns.resolv": Answer("k", "k", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"),
        "dns.hosts": Answer("k", "k", missing=Missing(Reason.PERMISSION, "EACCES")),
    }
    return net_dns.judge(HostCase(A, SITE, gathered(answers, dns.GROUP), params(**{**DNS, **values}), 0.0))


def test_a_cdn_may_answer_with_other_addresses() -> None:
    assert resolved().verdict is Verdict.PASS
    assert resolved().material == resolved(("203.0.113.9", "203.0.113.8")).material
    assert resolved().material != resolved(()).material


def test_a_lookup_that_was_given_up_is_not_a_wrong_answer() -> None:
    ruling = resolved(peer={"addresses": [], "ms": 8000.0, "error": "timeout"})
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TIMEOUT)


def test_an_unreadable_hosts_file_is_unknown_where_it_must_not_be_the_source() -> None:
    assert resolved(dns_hosts_file_ok=False).verdict is Verdict.UNKNOWN
