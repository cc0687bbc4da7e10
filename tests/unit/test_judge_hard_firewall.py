"""hard.firewall and hard.security-group: rules, listeners and the view from outside."""

from pathlib import Path

import pytest

from dstui.facts import cloud, firewall, listeners
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.choreography import VantageReach
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge.hard_cloud import judge_security_group
from dstui.judge.hard_firewall import judge_firewall
from dstui.judge.hard_reach import by_danger
from dstui.model import Reason, TargetKind, Threshold, Verdict

DATA = Path(__file__).parent.parent / "data" / "hosts" / "security"
FAIL, WARN, PASS, UNKNOWN, NOT = Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
PORTS = (6379, 8265, 10001, 52365, 8000, 9090, 9093, 9100, 9400, 3000, 2049, 2375)
REFUSED = {"missing": Missing(Reason.PERMISSION, "sudo -n refused; grant it")}
ABSENT = {"missing": Missing(Reason.TOOL_MISSING, "not on the host")}


def out(text):
    return {"output": text, "exit": 0}


def shown(name):
    return out((DATA / name).read_text())


UFW_STATUS = out("Status: active\nDefault: deny (incoming), allow (outgoing), disabled (routed)\n")
UFW = {
    "nft": shown("ufw.nft.json"),
    "iptables": shown("ufw.iptables"),
    "ip6tables": shown("ufw.ip6tables"),
    "ufw": UFW_STATUS,
    "ufw-default": {"output": "IPV6=yes\n"},
}
NATIVE = {"nft": shown("native.nft.json"), "iptables": ABSENT, "ip6tables": ABSENT, "ufw": ABSENT}
FIREWALLD = {**NATIVE, "nft": shown("firewalld.nft.json")}
V4ONLY = {"nft": shown("v4only.nft.json"), "iptables": shown("v4only.iptables"), "ip6tables": out(""), "ufw": ABSENT}
EMPTY = {"nft": shown("empty.nft.json"), "iptables": out(""), "ip6tables": out(""), "ufw": out("Status: inactive\n")}
NO_ROOT = dict.fromkeys(("nft", "iptables", "ip6tables", "ufw", "firewalld"), REFUSED)
ENABLED = {"units": out("Id=nftables.service\nUnitFileState=enabled\n")}
FORGETFUL = {"units": out("Id=nftables.service\nUnitFileState=disabled\n\nId=ufw.service\nUnitFileState=enabled\n")}
IPV6 = {"inet6": {"output": "fe800000000000000000000000000001 02 40 20 80     eth0\n"}}
NO_IPV6 = {"inet6": {"output": ""}}
SSH_ONLY = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\nLISTEN 0 128 127.0.0.1:6379 0.0.0.0:*\nLISTEN 0 128 [::1]:9090 [::]:*\n"
RAY = SSH_ONLY + "LISTEN 0 512 *:8265 *:*\nLISTEN 0 512 198.51.100.11:6380 0.0.0.0:*\n"


def raw(prefix, answers):
    return Raw({f"{prefix}.{key}": Answer(f"{prefix}.{key}", key, **row) for key, row in answers.items()})


def host_facts(rules=None, ss=SSH_ONLY, dmi=None, unreachable=None):
    groups = {
        firewall.FirewallFacts: firewall.parse(raw("firewall", {**ENABLED, **NO_IPV6, **(rules or {})})),
        listeners.ListenerFacts: listeners.parse(raw("listeners", {"ss": out(ss)} if ss else {"ss": REFUSED})),
    }
    if dmi is not None:
        value = {f"/sys/class/dmi/id/{key}": text for key, text in dmi.items()}
        groups[cloud.CloudFacts] = cloud.parse(raw("cloud", {"dmi": {"value": value}}))
    return HostFacts(unreachable, Session("dstui", "publickey"), Raw(), {} if unreachable else groups)


def outside(inside=False, address="203.0.113.9", **hosts):
    return {VantageReach: VantageReach("controller", address, inside, hosts or {"a": {}})}


def site(names, cidrs=("198.51.100.0/24",), local=False):
    hosts = tuple(
        HostSite(
            name, frozenset({"worker"}), "198.51.100.11", None, "192.0.2.11", 22, "dstui", False, None, local=local
        )
        for name in names
    )
    return Site("ds", "lab", "pre", hosts, "/mnt", None, None, "bare-metal", False, "sudo-n", cluster_cidrs=cidrs)


def params(**values):
    return Params([Threshold(name, value, "document", value) for name, value in values.items()])


def judge(facts, observed, *, required=True, cidrs=("198.51.100.0/24",), local=False):
    given = params(
        sensitive_ports=PORTS, cluster_cidrs=cidrs, vantages=("controller",), host_firewall_required=required
    )
    return judge_firewall(FleetCase(site(["a"], cidrs, local), {"a": facts}, given, {}, observed, 0.0))[0]


CLOSED = outside(a=dict.fromkeys(PORTS, "timeout"))


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        (UFW, PASS),
        ({**UFW, **IPV6}, PASS),
        (NATIVE, PASS),
        ({**NATIVE, **IPV6}, PASS),
        (FIREWALLD, PASS),
        (V4ONLY, PASS),
        ({**V4ONLY, **IPV6}, WARN),
        ({**NATIVE, **FORGETFUL}, WARN),
        ({**NATIVE, "units": ABSENT}, PASS),
        ({**UFW, **FORGETFUL}, PASS),
        (EMPTY, FAIL),
        ({**EMPTY, "nft": shown("docker.nft.json"), "iptables": shown("docker.iptables")}, WARN),
        ({**EMPTY, "nft": shown("acceptnew.nft.json"), "iptables": shown("acceptnew.iptables")}, WARN),
        ({**UFW, "nft": shown("ufw_docker.nft.json"), "iptables": shown("ufw_docker.iptables")}, WARN),
        (NO_ROOT, UNKNOWN),
        ({**NO_ROOT, "ufw": UFW_STATUS, "ufw-default": {"output": "IPV6=yes\n"}, **IPV6}, PASS),
        ({**NO_ROOT, "ufw": UFW_STATUS, "ufw-default": {"output": "IPV6=no\n"}, **IPV6}, WARN),
        ({**NO_ROOT, "ufw": UFW_STATUS, **IPV6}, WARN),
        ({**NO_ROOT, "ufw": out("Status: active\nDefault: allow (incoming)\n")}, WARN),
        ({**NO_ROOT, "ufw": out("Status: inactive\n")}, UNKNOWN),
        ({**UFW, "iptables": REFUSED, "ip6tables": REFUSED}, PASS),
        ({**V4ONLY, "iptables": REFUSED, "ip6tables": REFUSED}, UNKNOWN),
        ({**EMPTY, "iptables": REFUSED}, UNKNOWN),
        ({**NO_ROOT, "nft": ABSENT, "iptables": ABSENT}, UNKNOWN),
        ({**EMPTY, "nft": out("garbage")}, UNKNOWN),
    ],
)
def test_rules_with_nothing_open_from_outside(rules, verdict):
    assert judge(host_facts(rules, RAY), CLOSED).verdict is verdict


def test_no_root_says_what_to_grant():
    ruling = judge(host_facts(NO_ROOT, RAY), CLOSED)
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.PERMISSION)
    assert "grant" in ruling.rule.en


@pytest.mark.parametrize(
    ("ss", "observed", "verdict"),
    [
        (RAY, outside(a={8265: "ok"}), FAIL),
        (RAY, outside(a={8265: "wrong-nonce"}), FAIL),
        (SSH_ONLY, outside(a={2375: "ok"}), FAIL),
        (RAY, outside(a={8265: "refused"}), PASS),
        (RAY, outside(a={8265: "unreach"}), PASS),
        (RAY, outside(a={22: "ok", 8265: "timeout"}), PASS),
        # Not looked at, or from a place that proves nothing.
        (RAY, outside(a={}), UNKNOWN),
        (RAY, outside(a={8265: "error"}), UNKNOWN),
        (RAY, outside(b={8265: "timeout"}), UNKNOWN),
        (RAY, outside(inside=True, a={8265: "timeout"}), UNKNOWN),
        (RAY, outside(inside=True, a={8265: "ok"}), UNKNOWN),
        (RAY, outside(address="198.51.100.77", a={8265: "ok"}), UNKNOWN),
        (RAY, outside(address=None, a={8265: "timeout"}), UNKNOWN),
        (RAY, {}, UNKNOWN),
        (RAY, {VantageReach: Missing(Reason.TIMEOUT, "no time")}, UNKNOWN),
        # Nothing sensitive listens: there is nothing that outside could reach.
        (SSH_ONLY, {}, PASS),
        (SSH_ONLY, outside(a={}), PASS),
        # Listeners not known: every sensitive port has to have been tried.
        (None, outside(a=dict.fromkeys(PORTS, "timeout")), PASS),
        (None, outside(a={8265: "timeout"}), UNKNOWN),
        (None, {}, UNKNOWN),
    ],
)
def test_the_view_from_outside_behind_good_rules(ss, observed, verdict):
    assert judge(host_facts(NATIVE, ss), observed).verdict is verdict


def test_without_cidrs_nothing_says_what_outside_is():
    assert judge(host_facts(NATIVE, RAY), CLOSED, cidrs=()).verdict is UNKNOWN
    assert judge(host_facts(NATIVE, RAY), outside(a={8265: "ok"}), cidrs=()).verdict is UNKNOWN


def test_the_jump_host_does_not_see_itself_from_outside():
    assert judge(host_facts(NATIVE, RAY), outside(a={8265: "ok"}), local=True).verdict is UNKNOWN
    assert judge(host_facts(NATIVE, SSH_ONLY), {}, local=True).verdict is PASS


def test_no_root_can_still_fail_by_behaviour():
    ruling = judge(host_facts(NO_ROOT, RAY), outside(a={9100: "ok", 8265: "ok"}))
    assert ruling.verdict is FAIL
    assert ruling.rule.en.endswith("8265, 9100")


def test_an_unreachable_host_may_be_open_all_the_same():
    gone = host_facts(unreachable=Missing(Reason.UNREACHABLE, "no route to host"))
    assert judge(gone, outside(a={8265: "ok"})).verdict is FAIL
    ruling = judge(gone, CLOSED)
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.UNREACHABLE)


@pytest.mark.parametrize("rules", [EMPTY, NO_ROOT, NATIVE])
def test_where_the_security_group_is_the_control(rules):
    ruling = judge(host_facts(rules, RAY), CLOSED, required=False)
    assert ruling.verdict is NOT
    assert "hard.security-group" in ruling.observed.en
    assert judge(host_facts(rules, RAY), outside(a={8265: "ok"}), required=False).verdict is FAIL


def test_a_published_sensitive_port_counts_as_listening():
    rules = {**UFW, "nft": shown("ufw_docker.nft.json"), "iptables": shown("ufw_docker.iptables")}
    assert judge(host_facts(rules, SSH_ONLY), {}).verdict is UNKNOWN
    ruling = judge(host_facts(rules, SSH_ONLY), outside(a={8000: "timeout"}))
    assert (ruling.verdict, ruling.material["published"]) == (WARN, [8000])
    assert "bypass" in ruling.rule.en


def test_rules_that_let_anybody_in_to_a_sensitive_port():
    opened = {**V4ONLY, "iptables": out((DATA / "v4only.iptables").read_text().replace("--dport 22", "--dport 8265"))}
    ruling = judge(host_facts(opened, RAY), CLOSED)
    assert (ruling.verdict, ruling.rule.en) == (WARN, "the rules let any address in to sensitive ports: 8265")


def test_what_an_attestation_binds_to():
    material = judge(host_facts(UFW, RAY), CLOSED).material
    assert material["outside"] == {str(port): "closed" for port in PORTS}
    assert (material["backend"], material["policy"], material["policy6"]) == ("ufw", "denied", "denied")
    assert material["exposed"] == [8265]


def test_ray_first():
    assert by_danger([22, 9100, 10001, 6379, 8265, 22]) == (6379, 8265, 10001, 22, 9100)


def group(observed=None, *, provider="auto", cli=False, **dmi_by_host):
    given = params(cloud_provider=provider, cloud_cli=cli, cloud_imds=False)
    facts = {name: host_facts(NATIVE, dmi=dmi) for name, dmi in dmi_by_host.items()}
    return judge_security_group(FleetCase(site(dmi_by_host), facts, given, {}, observed or {}, 0.0))[0]


AWS = {"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"}
DELL = {"sys_vendor": "Dell Inc.", "product_name": "PowerEdge XE9680"}
KVM = {"sys_vendor": "QEMU", "product_name": "Standard PC"}
ODD = {"sys_vendor": "Acme", "product_name": "X"}


@pytest.mark.parametrize(
    ("provider", "hosts", "observed", "verdict"),
    [
        ("none", {"a": DELL}, {}, NOT),
        ("none", {"a": DELL, "b": KVM}, outside(a={8265: "ok"}), NOT),
        ("none", {"a": DELL, "b": ODD}, {}, UNKNOWN),
        ("none", {"a": DELL, "b": {}}, {}, UNKNOWN),
        ("none", {"a": DELL, "b": AWS}, {}, UNKNOWN),
        ("none", {"a": AWS}, outside(a={8265: "timeout"}), UNKNOWN),
        ("none", {}, {}, UNKNOWN),
        ("auto", {"a": DELL}, {}, UNKNOWN),
        ("auto", {"a": ODD}, {}, UNKNOWN),
        ("auto", {}, {}, UNKNOWN),
        ("auto", {"a": AWS}, {}, UNKNOWN),
        ("auto", {"a": AWS}, outside(a={}), UNKNOWN),
        ("auto", {"a": AWS}, outside(inside=True, a={8265: "timeout"}), UNKNOWN),
        ("auto", {"a": AWS}, outside(a={8265: "timeout"}), WARN),
        ("auto", {"a": AWS}, outside(a={8265: "timeout", 22: "ok", 443: "ok"}), WARN),
        ("auto", {"a": AWS}, outside(a={8265: "ok"}), FAIL),
        ("auto", {"a": AWS}, outside(a={8265: "error"}), UNKNOWN),
        ("auto", {"a": AWS, "b": AWS}, outside(a={8265: "timeout"}), UNKNOWN),
        ("auto", {"a": AWS, "b": AWS}, outside(a={8265: "timeout"}, b={6379: "ok"}), FAIL),
        ("aliyun", {"a": KVM}, outside(a={8265: "timeout"}), WARN),
        ("aliyun", {"a": KVM}, {}, UNKNOWN),
        ("aliyun", {}, {}, UNKNOWN),
    ],
)
def test_security_group(provider, hosts, observed, verdict):
    ruling = group(observed, provider=provider, **hosts)
    assert ruling.verdict is verdict
    assert ruling.target.kind is TargetKind.ORGANISATION


def test_the_proposal_never_passes_without_the_rules():
    ruling = group(outside(a={8265: "timeout"}), provider="aws", cli=True, a=AWS)
    assert ruling.verdict is WARN
    assert "not gathered" in ruling.rule.en
    assert any("asks no provider's CLI" in note.en for note in ruling.notes)


def test_a_cloud_that_the_inventory_denies_is_named():
    ruling = group(provider="none", a=DELL, b=AWS)
    assert any("b (aws)" in text.en for text in (ruling.rule, *ruling.notes))


def test_each_open_port_is_in_what_the_signature_binds_to():
    assert group(outside(a={8265: "ok"}), a=AWS).material == {
        "provider": "auto",
        "machines": {"a": "aws"},
        "reach": {"a": {"8265": "ok"}},
    }
