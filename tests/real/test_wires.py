"""Between the machines: filters, silence, dead peers, name servers, mirrors, and what the outside can reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reallab.cluster import CLUSTER, CONTROLLER, FIREWALL, MIRROR_PORT, NAMES, SECOND_RESOLVER, Lab
from reallab.host import Host, wait_until
from reallab.operator import Operator, Outcome

pytestmark = pytest.mark.real

ODD = "gpu-02"
TOWARDS = [f"pair:{name}>{ODD}" for name in NAMES if name != ODD]
AWAY = [f"pair:{ODD}>{name}" for name in NAMES if name != ODD]


@pytest.mark.parametrize(
    ("action", "words"),
    [("drop", "packets are dropped on the way"), ("reject with tcp reset", "refused although the listener was up")],
    ids=["dropped", "rejected"],
)
def test_a_blocked_port(lab: Lab, operator: Operator, healthy: Outcome, action: str, words: str) -> None:
    with lab.hosts[ODD].packets(f"input ip saddr {CLUSTER} tcp dport 15000-19999 {action}"):
        outcome = operator.run("net.ports", "net.peer-ping")
    assert outcome.changes(healthy) == {("net.ports", pair): "fail" for pair in TOWARDS}
    said = outcome.of("net.ports", f"gpu-01>{ODD}").words
    assert words in said
    assert "19999" in said and "10001" not in said.partition(words)[2].partition("\n")[0]


def test_a_peer_that_answers_no_ping(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with lab.hosts[ODD].packets("input icmp type echo-request drop"):
        outcome = operator.run("net.peer-ping", "net.ports")
        required = operator.run("net.peer-ping", "--set=net.peer-ping.icmp_required=true")
    assert outcome.changes(healthy) == {("net.peer-ping", pair): "warn" for pair in TOWARDS}
    assert "ICMP blocked" in outcome.of("net.peer-ping", f"gpu-01>{ODD}").words
    assert required.changes(healthy) == {("net.peer-ping", pair): "fail" for pair in TOWARDS}


def test_lost_packets(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """Every second one, so that five of a ping cannot all come through."""
    lossy = [
        f"input ip saddr {lab.hosts[name].address} icmp type echo-request numgen inc mod 2 0 drop" for name in NAMES
    ]
    with lab.hosts[ODD].packets(*lossy):
        outcome = operator.run("net.peer-ping")
    assert outcome.changes(healthy) == {("net.peer-ping", pair): "warn" for pair in TOWARDS}
    assert "% loss" in outcome.of("net.peer-ping", f"gpu-01>{ODD}").words


def test_a_dead_peer(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """The peers say that it does not answer. What it would have said itself is unknown."""
    checks = ("sw.os-version", "net.peer-ping", "net.ports", "stor.rw-all-nodes", "hard.firewall", "sw.python")
    with lab.link_down(lab.hosts[ODD]):
        outcome = operator.run(*checks, inventory=lab.inventory("impatient", ssh={"connect_timeout_s": 3}))
    unreachable = "unknown(unreachable)"
    assert outcome.changes(healthy) == {
        **{("net.peer-ping", pair): "fail" for pair in TOWARDS},
        **{("net.peer-ping", pair): unreachable for pair in AWAY},
        **{("net.ports", pair): unreachable for pair in (*TOWARDS, *AWAY)},
        **{(check, f"host:{ODD}"): unreachable for check in ("sw.os-version", "sw.python", "hard.firewall")},
        ("stor.rw-all-nodes", "cluster:lab"): unreachable,
    }
    assert outcome.exit == 1
    assert "10.78.0.12" in outcome.of("sw.os-version", ODD).words
    again = operator.run(*checks)
    assert again.changes(healthy) == {}, "the link is up again"


def test_a_port_that_something_else_holds(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with listening(lab.hosts["gpu-01"], 6379, "redis-server"):
        outcome = operator.run("net.ports")
    assert outcome.changes(healthy) == {("net.ports", f"pair:{name}>gpu-01"): "fail" for name in ("gpu-02", "gpu-03")}
    assert "gpu-01:6379 is occupied by redis-server" in outcome.of("net.ports", "gpu-02>gpu-01").words


def test_ephemeral_ports_that_overlap(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    host, name = lab.hosts[ODD], "net.ipv4.ip_local_port_range"
    before = host.run("sysctl", "-n", name).strip()
    host.run("sysctl", "-w", f"{name}=18000 60999")
    try:
        outcome = operator.run("net.ports")
    finally:
        host.run("sysctl", "-w", f"{name}={before}")
    assert outcome.changes(healthy) == {("net.ports", "cluster:lab"): "warn"}
    assert f"{ODD} 18000-60999" in outcome.of("net.ports", "cluster:lab").words


def test_ray_ports_that_are_not_pinned(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    outcome = operator.run("net.ports", inventory=lab.inventory("unpinned", ray={"ports": {"node_manager": 10010}}))
    assert outcome.changes(healthy) == {("net.ports", "cluster:lab"): "warn"}
    assert "object_manager" in outcome.of("net.ports", "cluster:lab").words


def test_a_name_server_that_is_dead(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """Names still resolve, by the other one."""
    with lab.hosts[ODD].packets(f"input ip saddr {SECOND_RESOLVER} udp sport 53 drop"):
        outcome = operator.run("net.dns")
    assert outcome.changes(healthy) == {("net.dns", f"host:{ODD}"): "warn"}
    assert f"{SECOND_RESOLVER} timeout" in outcome.of("net.dns", ODD).words


def test_name_servers_that_are_all_dead(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with lab.hosts[ODD].packets("input udp sport 53 drop"):
        outcome = operator.run("net.dns")
    assert outcome.changes(healthy) == {("net.dns", f"host:{ODD}"): "fail"}
    assert "no name server answers" in outcome.of("net.dns", ODD).words


def test_a_mirror_that_is_not_there(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with lab.hosts[ODD].packets(f"output ip daddr {CONTROLLER} tcp dport {MIRROR_PORT} reject with tcp reset"):
        outcome = operator.run("net.outbound")
    assert outcome.changes(healthy) == {("net.outbound", f"host:{ODD}"): "fail"}


def test_an_address_that_is_not_on_the_host(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """The login works, by the old address; Ray would use one that nobody has."""
    hosts = [
        {"name": name, "group": "gpu", "roles": ["head" if name == "gpu-01" else "worker"],
         "data_ip": lab.hosts[name].address}
        for name in NAMES
    ]  # fmt: skip
    hosts[1] |= {"data_ip": "10.78.0.77", "ssh": {"host": lab.hosts[ODD].address}}
    outcome = operator.run("net.static-ip", "sw.os-version", inventory=lab.inventory("moved", hosts=hosts))
    assert outcome.changes(healthy) == {("net.static-ip", f"host:{ODD}"): "fail"}
    assert "data_ip 10.78.0.77 is on no interface" in outcome.of("net.static-ip", ODD).words


def test_a_port_open_to_the_world(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with rules(lab.hosts[ODD], FIREWALL.replace("tcp dport 22 accept", "tcp dport { 22, 9100 } accept")):
        outcome = operator.run("hard.firewall")
    assert outcome.changes(healthy) == {("hard.firewall", f"host:{ODD}"): "fail"}
    assert "reachable from outside the cluster (controller): 9100" in outcome.of("hard.firewall", ODD).words


def test_no_firewall_at_all(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with rules(lab.hosts[ODD], ""):
        outcome = operator.run("hard.firewall")
    assert outcome.changes(healthy) == {("hard.firewall", f"host:{ODD}"): "fail"}
    words = outcome.of("hard.firewall", ODD).words
    assert "no filter at all" in words and "9400" in words


def test_a_firewall_that_accepts_by_default(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """Nothing is reachable from outside today, which is not the same as a default deny."""
    lenient = FIREWALL.replace("policy drop", "policy accept").replace(
        f"ip saddr {CLUSTER} accept", f"ip saddr != {CLUSTER} tcp dport {{ 9100, 9400 }} drop"
    )
    with rules(lab.hosts[ODD], lenient):
        outcome = operator.run("hard.firewall")
    assert outcome.changes(healthy) == {("hard.firewall", f"host:{ODD}"): "warn"}


def test_a_controller_inside_the_cluster_cannot_see_from_outside(lab: Lab, operator: Operator) -> None:
    wide = {"cluster_cidrs": ["10.78.0.0/16"]}
    outcome = operator.run("hard.firewall", inventory=lab.inventory("inside", network=wide))
    assert set(outcome.said().values()) == {"unknown(cannot-tell)"}
    assert "lies inside the cluster" in outcome.of("hard.firewall", ODD).words


@contextmanager
def rules(host: Host, ruleset: str) -> Iterator[None]:
    """The host with another ruleset instead of its own."""
    host.run("nft", "-f", "-", given=f"flush ruleset\n{ruleset}")
    try:
        yield
    finally:
        host.run("nft", "-f", "-", given=f"flush ruleset\n{FIREWALL}")


@contextmanager
def listening(host: Host, port: int, name: str) -> Iterator[None]:
    """A process of some name that holds a port."""
    program = (
        "import ctypes, socket, time\n"
        f"ctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0)\n"
        f"held = socket.create_server(('0.0.0.0', {port}))\n"
        "time.sleep(600)\n"
    )
    # As the login user: without root nobody sees whose another user's socket is.
    held = host.start("setpriv", "--reuid", "dstui", "--regid", "dstui", "--clear-groups", "python3", "-c", program)
    try:
        wait_until(lambda: f":{port} " in host.run("ss", "-Hltn"), f"{name} to listen on {port}")
        yield
    finally:
        host.run("pkill", "-x", name)
        held.wait()
