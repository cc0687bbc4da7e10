"""hard.*: default deny that holds for no stranger, a drop-in nobody could read, passwords nobody could rule out."""

from collections.abc import Mapping

import pytest

from dstui.catalogue.declared import CommandProbe, Comparison, Declared, ExpectMatch, HttpProbe
from dstui.catalogue.patterns import compile_pattern
from dstui.facts import agents, firewall, listeners, sshd
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.choreography import VantageReach
from dstui.facts.raw import Answer, Missing, Raw
from dstui.facts.sshd_config import MAIN
from dstui.judge.declared import judge_declared
from dstui.judge.hard_firewall import judge_firewall
from dstui.judge.hard_ssh_keys import judge_keys
from dstui.model import Reason, Ruling, Threshold, Verdict, host_target
from dstui.own_checks import _url
from dstui.redact import Redactor

PORTS = (6379, 8265)
HOST = HostSite("a", frozenset({"worker"}), "198.51.100.11", None, "192.0.2.11", 22, "dstui", False, None)
SITE = Site("ds", "lab", "pre", (HOST,), "/mnt", None, None, "bare-metal", False, "sudo-n",
            cluster_cidrs=("198.51.100.0/24",))  # fmt: skip
SESSION = Session("dstui", "publickey", "ssh-ed25519", "SHA256:abc", 256)
ABSENT = {"missing": Missing(Reason.TOOL_MISSING, "not on the host")}
REFUSED = {"missing": Missing(Reason.PERMISSION, "grant it")}


def raw(prefix: str, answers: Mapping[str, Mapping[str, object]]) -> Raw:
    return Raw({f"{prefix}.{key}": Answer(f"{prefix}.{key}", key, **row) for key, row in answers.items()})  # type: ignore[arg-type]


def params(**values: object) -> Params:
    return Params([Threshold(name, value, "document", value) for name, value in values.items()])


def saved(*rules: str) -> dict[str, object]:
    head = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:ZONE_TRUSTED - [0:0]\n"
    return {"output": head + "".join(f"-A {rule}\n" for rule in rules) + "COMMIT\n", "exit": 0}


SS = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n"
SEEN = VantageReach("controller", "203.0.113.9", False, {"a": dict.fromkeys(PORTS, "timeout")})
UNITS: dict[str, object] = {"output": "Id=netfilter-persistent.service\nUnitFileState=enabled\n", "exit": 0}


def judge(
    rules: Mapping[str, object],
    *,
    reach: VantageReach | None = SEEN,
    vantages: tuple[str, ...] = ("controller",),
    ufw: Mapping[str, object] = ABSENT,
) -> Ruling:
    none: dict[str, Mapping[str, object]] = {"nft": ABSENT, "ip6tables": ABSENT, "inet6": {"output": ""}}
    answers = {**none, "iptables": rules, "ufw": ufw, "units": UNITS}
    groups = {
        firewall.FirewallFacts: firewall.parse(raw("firewall", answers)),
        listeners.ListenerFacts: listeners.parse(raw("listeners", {"ss": {"output": SS, "exit": 0}})),
    }
    given = params(sensitive_ports=PORTS, cluster_cidrs=(), vantages=vantages, host_firewall_required=True)
    observed: dict[type, object] = {} if reach is None else {VantageReach: reach}
    return judge_firewall(FleetCase(SITE, {"a": HostFacts(None, SESSION, Raw(), groups)}, given, {}, observed, 0.0))[0]


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        (("INPUT -i lo -j ACCEPT",), Verdict.PASS),
        (("INPUT -i docker0 -j ACCEPT",), Verdict.PASS),
        (("INPUT -i eth0 -p tcp --dport 22 -j ACCEPT",), Verdict.PASS),
        (("INPUT -i eth0 -j ACCEPT",), Verdict.WARN),
        (("INPUT -i eth0 -j ZONE_TRUSTED", "ZONE_TRUSTED -j ACCEPT"), Verdict.WARN),
        (("INPUT -i eth0 -g ZONE_TRUSTED", "ZONE_TRUSTED -s 198.51.100.0/24 -j ACCEPT"), Verdict.PASS),
    ],
)
def test_an_interface_that_may_do_everything_undoes_default_deny(rules: tuple[str, ...], verdict: Verdict) -> None:
    ruling = judge(saved(*rules))
    assert ruling.verdict is verdict, (ruling.rule.en, ruling.notes)


def test_banned_addresses_change_no_signature() -> None:
    banned = [f"INPUT -s 203.0.113.{n}/32 -j DROP" for n in range(3)]
    assert judge(saved()).material == judge(saved(*banned)).material
    assert judge(saved()).material != judge(saved("INPUT -p tcp --dport 8265 -j ACCEPT")).material
    assert judge(saved()).material != judge(saved("INPUT -i eth0 -j ACCEPT")).material


def test_other_vantages_that_are_asked_for_are_not_passed_over() -> None:
    assert judge(saved(), vantages=("controller", "bastion")).verdict is Verdict.WARN


def test_a_port_of_a_container_is_not_ruled_out_by_ufws_word_alone() -> None:
    active: dict[str, object] = {"output": "Status: active\nDefault: deny (incoming)\n", "exit": 0}
    assert judge(REFUSED, ufw=active).verdict is Verdict.PASS
    assert judge(REFUSED, ufw=active, reach=None).verdict is Verdict.UNKNOWN


def test_the_proc_table_of_sockets_is_not_taken_for_whole_when_it_was_cut() -> None:
    head = "  sl  local_address rem_address   st\n   0: 00000000:0016 00000000:0000 0A\n"
    cut = Answer("listeners.tcp", "/proc/net/tcp", head, output_bytes=400_000)
    six = Answer("listeners.tcp6", "/proc/net/tcp6", missing=Missing(Reason.CANNOT_TELL, "ENOENT"))
    found = listeners.parse(Raw({"listeners.tcp": cut, "listeners.tcp6": six}))
    assert isinstance(found.listening, Missing)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("PermitEmptyPasswords no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n", Verdict.PASS),
        ("PermitEmptyPasswords no\nInclude /elsewhere/*.conf\nPasswordAuthentication no\n", Verdict.WARN),
    ],
)
def test_passwords_that_an_unread_file_may_allow(text: str, verdict: Verdict) -> None:
    answers: dict[str, Mapping[str, object]] = {
        "config": {"value": {MAIN: text}},
        "names": {"value": {MAIN: [0o100644, 0, 0, 10, 0.0]}},
        "effective": REFUSED,
        "home": {"value": {}},
    }
    facts = HostFacts(None, SESSION, Raw(), {sshd.SshdFacts: sshd.parse(raw("sshd", answers))})
    given = params(password_auth_allowed=False, min_rsa_bits=3072)
    assert judge_keys(FleetCase(SITE, {"a": facts}, given, {}, {}, 0.0))[0].verdict is verdict


DENIED = "EACCES: /etc/systemd/journald.conf.d/x.conf"


def test_journald_with_a_drop_in_that_may_not_be_read_is_not_persistent_for_certain() -> None:
    row = [0o40755, 0, 0, 0, 0.0]
    answers: dict[str, dict[str, object]] = {
        "journal": {"value": {"/var/log": row, "/var/log/journal": row}},
        "journald": {"value": {"/etc/systemd/journald.conf": "[Journal]\n"}, "error": DENIED},
    }
    found = agents.parse(raw("agents", answers)).journald
    assert isinstance(found, Missing) and found.reason is Reason.PERMISSION


def test_a_number_within_its_limit_may_move() -> None:
    expect = (ExpectMatch(compile_pattern(r"offset (\S+)"), Comparison("<", 1.0)),)
    declared = Declared(CommandProbe(("chronyc", "tracking")), expect)
    one, two, over = (
        judge_declared(declared, host_target("a"), Answer("own.x", "chronyc", f"offset {n}\n", exit=0))
        for n in ("0.1", "0.2", "3")
    )
    assert one.material == two.material != over.material


class Known:
    def resolved(self) -> tuple[tuple[str, str], ...]:
        return (("secrets.api_key", "correct-horse-battery"),)


def test_a_secret_that_a_sentence_cut_in_two_is_masked() -> None:
    assert "correct" not in Redactor(Known()).sentence("8000: curl: correct-horse-b… is no key")


def test_the_name_of_an_endpoint_holds_no_query() -> None:
    probe = HttpProbe("https://gw.test:8443/health?token=abcdefgh1")
    assert _url(Declared(probe, ())) == "https://gw.test:8443/health"
