"""Rules from real nft and iptables-save output, and what they do to a stranger's new TCP connection."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import firewall
from dstui.facts.firewall_iptables import parse_save
from dstui.facts.firewall_nft import parse_nft, without
from dstui.facts.firewall_rules import IPV4, IPV6, Action, Chain, Fate, Rule, Ruleset, of_containers, united
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

DATA = Path(__file__).parent.parent / "data" / "hosts" / "security"


def nft(name):
    return parse_nft((DATA / f"{name}.nft.json").read_text())


def saved(name):
    six = DATA / f"{name}.ip6tables"
    parts = [parse_save((DATA / f"{name}.iptables").read_text(), IPV4)]
    if six.exists():
        parts.append(parse_save(six.read_text(), IPV6))
    return united(parts)


@pytest.mark.parametrize(
    ("name", "four", "six"),
    [
        ("empty", Fate.OPEN, Fate.OPEN),
        ("docker", Fate.OPEN, Fate.OPEN),
        ("native", Fate.DENIED, Fate.DENIED),
        ("firewalld", Fate.DENIED, Fate.DENIED),
        # An accepting rule hides its `ctstate` from nft: it may be ESTABLISHED, it may be NEW.
        ("ufw", Fate.UNSURE, Fate.UNSURE),
        ("v4only", Fate.UNSURE, Fate.OPEN),
        ("acceptnew", Fate.UNSURE, Fate.OPEN),
    ],
)
def test_nft_alone(name, four, six):
    rules = nft(name)
    assert (rules.fate(IPV4), rules.fate(IPV6)) == (four, six)


@pytest.mark.parametrize(
    ("name", "four", "six"),
    [
        ("docker", Fate.OPEN, Fate.OPEN),
        ("ufw", Fate.DENIED, Fate.DENIED),
        ("ufw_docker", Fate.DENIED, Fate.DENIED),
        ("v4only", Fate.DENIED, Fate.OPEN),
        ("acceptnew", Fate.OPEN, Fate.OPEN),
    ],
)
def test_nft_and_iptables_together(name, four, six):
    shown = saved(name)
    rules = united([without(nft(name), shown), shown])
    assert (rules.fate(IPV4), rules.fate(IPV6)) == (four, six)


def test_ports_that_the_rules_open_to_everybody():
    rules = saved("ufw")
    assert [port for port in (22, 443, 8000, 8265) if rules.fate(IPV4, port) is Fate.OPEN] == [22, 443]
    assert [port for port in (22, 443, 8265) if nft("native").fate(IPV4, port) is Fate.OPEN] == [22, 443]
    assert nft("firewalld").fate(IPV4, 22) is Fate.OPEN


@pytest.mark.parametrize("rules", [nft("docker"), saved("docker"), nft("ufw_docker"), saved("ufw_docker")])
def test_published_ports_without_those_bound_to_loopback(rules):
    assert rules.published_ports() == (8000,)
    assert rules.has_container_chains
    assert not rules.guards_containers()


def test_docker_alone_filters_nothing_that_comes_in():
    assert not nft("docker").drops_on_input(IPV4)
    assert not saved("docker").drops_on_input(IPV4)
    assert nft("ufw").drops_on_input(IPV4)


def test_a_legacy_table_that_nft_does_not_see():
    assert parse_save((DATA / "legacy.iptables").read_text()).fate(IPV4) is Fate.DENIED


def table(*rules, policy="DROP", more=""):
    lines = [f":INPUT {policy} [0:0]", *more.splitlines(), *(f"-A {rule}" for rule in rules)]
    return parse_save("\n".join(["*filter", *lines, "COMMIT"]))


@pytest.mark.parametrize(
    ("rules", "fate"),
    [
        (["INPUT -j ACCEPT"], Fate.OPEN),
        (["INPUT -p tcp -j ACCEPT"], Fate.OPEN),
        (["INPUT -p udp -j ACCEPT"], Fate.DENIED),
        (["INPUT -i lo -j ACCEPT"], Fate.DENIED),
        (["INPUT ! -i lo -j ACCEPT"], Fate.OPEN),
        (["INPUT -i eth1 -j ACCEPT"], Fate.DENIED),
        (["INPUT -s 10.0.0.0/8 -j ACCEPT"], Fate.DENIED),
        (["INPUT ! -s 10.0.0.0/8 -j ACCEPT"], Fate.OPEN),
        (["INPUT -s 0.0.0.0/0 -j ACCEPT"], Fate.OPEN),
        (["INPUT -d 10.1.1.1/32 -j ACCEPT"], Fate.UNSURE),
        (["INPUT -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT"], Fate.DENIED),
        (["INPUT -p tcp -m tcp --dport 1:65535 -j ACCEPT"], Fate.OPEN),
        (["INPUT -p tcp -m multiport --dports 22,80,443 -j ACCEPT"], Fate.DENIED),
        (["INPUT -p tcp -m multiport ! --dports 22,80 -j ACCEPT"], Fate.OPEN),
        (["INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT"], Fate.DENIED),
        (["INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT"], Fate.OPEN),
        (["INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"], Fate.OPEN),
        (["INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT"], Fate.DENIED),
        (["INPUT -m limit --limit 10/sec -j ACCEPT"], Fate.UNSURE),
        (["INPUT -m mark --mark 0x1 -j ACCEPT"], Fate.UNSURE),
        (["INPUT -m socket -j ACCEPT"], Fate.UNSURE),
        (['INPUT -m comment --comment "let all in" -j ACCEPT'], Fate.OPEN),
        (["INPUT -m set --match-set friends src -j ACCEPT"], Fate.DENIED),
        (["INPUT -j NFQUEUE --queue-num 0"], Fate.UNSURE),
        (['INPUT -j LOG --log-prefix "-j ACCEPT"'], Fate.DENIED),
        (["INPUT -j NOWHERE"], Fate.DENIED),
    ],
)
def test_what_a_rule_before_a_dropping_policy_does(rules, fate):
    assert table(*rules).fate(IPV4) is fate


@pytest.mark.parametrize(
    ("rules", "fate"),
    [
        ([], Fate.OPEN),
        (["INPUT -j DROP"], Fate.DENIED),
        (["INPUT -p tcp --dport 22 -j ACCEPT", "INPUT -j REJECT --reject-with icmp-host-prohibited"], Fate.DENIED),
        (["INPUT -j ACCEPT", "INPUT -j DROP"], Fate.OPEN),
        (["INPUT -p tcp -m tcp ! --dport 22 -j DROP"], Fate.DENIED),
        (["INPUT ! -s 10.0.0.0/8 -j DROP"], Fate.DENIED),
        (["INPUT -s 10.0.0.0/8 -j DROP"], Fate.OPEN),
        (["INPUT -i eth0 -j DROP"], Fate.OPEN),
        (["INPUT -m conntrack --ctstate INVALID -j DROP"], Fate.OPEN),
        (["INPUT -m recent --name bad -j DROP"], Fate.UNSURE),
        (["INPUT -j F", "F -j RETURN", "F -j DROP"], Fate.OPEN),
        (["INPUT -j F", "F -j DROP"], Fate.DENIED),
        (["INPUT -g F", "INPUT -j DROP", "F -s 10.0.0.0/8 -j ACCEPT"], Fate.OPEN),
        (["INPUT -m mark --mark 1 -g F", "INPUT -j DROP", "F -j ACCEPT"], Fate.UNSURE),
        (["INPUT -j F", "F -m mark --mark 1 -j RETURN", "F -j DROP"], Fate.UNSURE),
    ],
)
def test_what_rules_before_an_accepting_policy_do(rules, fate):
    assert table(*rules, policy="ACCEPT", more=":F - [0:0]").fate(IPV4) is fate


def test_chains_that_call_each_other_end():
    assert table("INPUT -j F", "F -j F", more=":F - [0:0]", policy="ACCEPT").fate(IPV4) is Fate.OPEN


def ruleset(*expressions, policy="drop", family="inet"):
    place = {"family": family, "table": "t"}
    objects = [{"chain": {**place, "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": policy}}]
    objects.append({"chain": {**place, "name": "wan"}})
    objects.append({"rule": {**place, "chain": "wan", "expr": [{"accept": None}]}})
    objects += [{"rule": {**place, "chain": "in", "expr": list(expr)}} for expr in expressions]
    return parse_nft(json.dumps({"nftables": objects}))


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol, name, right, op="=="):
    return match({"payload": {"protocol": protocol, "field": name}}, right, op)


ACCEPT = {"accept": None}
STATE = {"ct": {"key": "state"}}
FLAGS = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]}


@pytest.mark.parametrize(
    ("expr", "fate"),
    [
        ([ACCEPT], Fate.OPEN),
        ([{"counter": {"packets": 0, "bytes": 0}}, ACCEPT], Fate.OPEN),
        ([match(STATE, ["established", "related"], "in"), ACCEPT], Fate.DENIED),
        ([match(STATE, {"set": ["new", "untracked"]}), ACCEPT], Fate.OPEN),
        ([match({"&": [STATE, ["established", "related"]]}, 0, "!="), ACCEPT], Fate.DENIED),
        ([match({"meta": {"key": "l4proto"}}, "tcp"), match(STATE, "new", "in"), ACCEPT], Fate.OPEN),
        ([match({"meta": {"key": "l4proto"}}, {"set": ["icmp", "ipv6-icmp"]}), ACCEPT], Fate.DENIED),
        ([match({"meta": {"key": "iifname"}}, "lo"), ACCEPT], Fate.DENIED),
        ([match({"meta": {"key": "iifname"}}, "lo", "!="), ACCEPT], Fate.OPEN),
        ([match({"meta": {"key": "mark"}}, 1), ACCEPT], Fate.UNSURE),
        ([payload("ip", "saddr", {"prefix": {"addr": "0.0.0.0", "len": 0}}), ACCEPT], Fate.OPEN),
        ([payload("ip", "saddr", "@cluster"), ACCEPT], Fate.DENIED),
        ([payload("ip6", "saddr", "@cluster", "!="), ACCEPT], Fate.DENIED),
        ([payload("tcp", "dport", {"set": [22, {"range": [8000, 9000]}]}), ACCEPT], Fate.DENIED),
        ([payload("tcp", "dport", "@ports"), ACCEPT], Fate.UNSURE),
        ([payload("icmp", "type", "echo-request", "!="), ACCEPT], Fate.DENIED),
        ([match(FLAGS, "syn"), ACCEPT], Fate.UNSURE),
        ([match({"fib": {"result": "type", "flags": ["daddr"]}}, "local"), ACCEPT], Fate.OPEN),
        ([{"limit": {"rate": 10, "per": "second"}}, ACCEPT], Fate.UNSURE),
        ([{"xt": {"type": "match", "name": "conntrack"}}, ACCEPT], Fate.UNSURE),
        ([{"xt": None}, ACCEPT], Fate.UNSURE),
        ([{"queue": None}], Fate.UNSURE),
        ([{"jump": {"target": "nowhere"}}], Fate.UNSURE),
        (
            [{"vmap": {"key": STATE, "data": {"set": [["established", ACCEPT], ["invalid", {"drop": None}]]}}}],
            Fate.DENIED,
        ),
        ([{"vmap": {"key": STATE, "data": {"set": [["new", ACCEPT]]}}}], Fate.OPEN),
        (
            [
                {
                    "vmap": {
                        "key": {"meta": {"key": "iifname"}},
                        "data": {"set": [["lo", ACCEPT], ["eth0", {"goto": {"target": "wan"}}]]},
                    }
                }
            ],
            Fate.UNSURE,
        ),
        ([{"vmap": {"key": STATE, "data": "@map"}}], Fate.UNSURE),
    ],
)
def test_what_a_nft_rule_before_a_dropping_policy_does(expr, fate):
    assert ruleset(expr).fate(IPV4) is fate


def test_a_rule_for_one_family_leaves_the_other_alone():
    rules = ruleset([match({"meta": {"key": "nfproto"}}, "ipv6"), {"drop": None}], policy="accept")
    assert (rules.fate(IPV4), rules.fate(IPV6)) == (Fate.OPEN, Fate.DENIED)


def test_one_denying_chain_is_enough_beside_an_accepting_one():
    rules = united([ruleset(), ruleset([ACCEPT], policy="accept", family="ip")])
    assert rules.fate(IPV4) is Fate.DENIED


def test_interfaces_from_which_all_is_accepted_are_told():
    rules = table("INPUT -i bond0 -j ACCEPT", "INPUT -i eth0 -p tcp --dport 22 -j ACCEPT", "INPUT -i lo -j ACCEPT")
    assert rules.trusted_interfaces() == ("bond0",)


def test_docker_user_that_turns_strangers_away():
    guarded = ":DOCKER-USER - [0:0]"
    assert table("DOCKER-USER ! -s 10.0.0.0/8 -j DROP", more=guarded).guards_containers()
    assert not table("DOCKER-USER -j RETURN", more=guarded).guards_containers()


@pytest.mark.parametrize(
    ("chain", "theirs"),
    [
        (Chain("ip", "filter", "DOCKER-USER"), True),
        (Chain("ip", "filter", "KUBE-FIREWALL"), True),
        (Chain("ip", "docker-bridges", "filter-FORWARD"), True),
        (Chain("ip", "filter", "cali-INPUT"), True),
        (Chain("inet", "firewalld", "filter_INPUT"), False),
        (Chain("ip", "filter", "ufw-user-input"), False),
    ],
)
def test_whose_chain_it_is(chain, theirs):
    assert of_containers(chain) is theirs


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": 3}', "not json", '{"nftables": [', "[" * 100_000])
def test_what_is_not_nft(text):
    assert parse_nft(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "*filter\n:INPUT DROP [0:0]\n",
        "hello",
        '*filter\n-A INPUT -m comment --comment "x\nCOMMIT\n',
        "-A INPUT -j DROP",
    ],
)
def test_what_is_not_a_whole_iptables_save(text):
    assert parse_save(text) is None


def test_no_rules_at_all_is_an_empty_set_not_a_failure():
    assert parse_save("").chains == ()


UFW_ACTIVE = """Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
Anywhere                   ALLOW IN    198.51.100.0/24
"""
FIREWALLD = """public (active)
  target: default
  icmp-block-inversion: no
  interfaces: eth0
  sources:
  services: dhcpv6-client ssh
  ports: 443/tcp 8000/tcp
  protocols:
  forward: yes
  rich rules:
"""


@pytest.mark.parametrize(
    ("text", "active", "denies"),
    [
        (UFW_ACTIVE, True, True),
        (UFW_ACTIVE.replace("deny (inc", "reject (inc"), True, True),
        (UFW_ACTIVE.replace("deny (inc", "allow (inc"), True, False),
        ("Status: inactive\n", False, False),
        ("Status: active\n", True, False),
    ],
)
def test_ufw(text, active, denies):
    status = firewall.parse_ufw(text, "# comment\nIPV6=yes\n")
    assert (status.active, status.denies, status.ipv6) == (active, denies, True)


def test_ufw_settings_that_could_not_be_read():
    assert firewall.parse_ufw(UFW_ACTIVE, Missing(Reason.PERMISSION, "")).ipv6 is None
    assert firewall.parse_ufw("ERROR: problem running\n", "") is None


@pytest.mark.parametrize(
    ("target", "denies"), [("default", True), ("DROP", True), ("%%REJECT%%", True), ("ACCEPT", False)]
)
def test_firewalld(target, denies):
    zone = firewall.parse_firewalld(FIREWALLD.replace("target: default", f"target: {target}"))
    assert (zone.zone, zone.denies, zone.ports) == ("public", denies, ("443/tcp", "8000/tcp"))


@pytest.mark.parametrize("text", ["", "FirewallD is not running\n", "  target: default\n"])
def test_what_is_not_a_zone(text):
    assert firewall.parse_firewalld(text) is None


REFUSED = {"missing": Missing(Reason.PERMISSION, "sudo -n refused")}
ABSENT = {"missing": Missing(Reason.TOOL_MISSING, "not on the host")}


def out(text):
    return {"output": text, "exit": 0}


def shown(name):
    return out((DATA / name).read_text())


def parse(**answers):
    return firewall.parse(Raw({f"firewall.{k}": Answer(f"firewall.{k}", k, **v) for k, v in answers.items()}))


@pytest.mark.parametrize(
    ("answers", "fate"),
    [
        (
            {"nft": shown("ufw.nft.json"), "iptables": shown("ufw.iptables"), "ip6tables": shown("ufw.ip6tables")},
            Fate.DENIED,
        ),
        ({"nft": shown("native.nft.json"), "iptables": REFUSED, "ip6tables": REFUSED}, Fate.DENIED),
        ({"nft": shown("native.nft.json"), "iptables": ABSENT, "ip6tables": ABSENT}, Fate.DENIED),
        ({"nft": ABSENT, "iptables": shown("ufw.iptables"), "ip6tables": ABSENT}, Fate.DENIED),
        ({"nft": REFUSED, "iptables": shown("ufw.iptables"), "ip6tables": ABSENT}, Fate.DENIED),
        ({"nft": shown("empty.nft.json"), "iptables": shown("legacy.iptables"), "ip6tables": out("")}, Fate.DENIED),
        ({"nft": shown("empty.nft.json"), "iptables": out(""), "ip6tables": out("")}, Fate.OPEN),
        ({"nft": shown("empty.nft.json"), "iptables": ABSENT, "ip6tables": ABSENT}, Fate.OPEN),
        ({"nft": shown("ufw.nft.json"), "iptables": REFUSED, "ip6tables": REFUSED}, Fate.UNSURE),
    ],
)
def test_rules_from_what_could_be_seen(answers, fate):
    assert parse(**answers).rules.fate(IPV4) is fate


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"nft": REFUSED, "iptables": REFUSED}, Reason.PERMISSION),
        ({"nft": ABSENT, "iptables": ABSENT}, Reason.TOOL_MISSING),
        ({"nft": ABSENT, "iptables": REFUSED}, Reason.PERMISSION),
        ({"nft": REFUSED, "iptables": out("")}, Reason.PERMISSION),
        ({"nft": shown("empty.nft.json"), "iptables": REFUSED}, Reason.PERMISSION),
        ({"nft": out("garbage"), "iptables": out("")}, Reason.PARSE_ERROR),
        ({"nft": {"missing": Missing(Reason.TIMEOUT, "")}, "iptables": ABSENT}, Reason.TIMEOUT),
        (
            {
                "nft": {"output": "", "error": "Operation not permitted (you must be root)", "exit": 1},
                "iptables": ABSENT,
            },
            Reason.PERMISSION,
        ),
        (
            {"nft": {"output": '{"nftables": []}', "exit": 0, "output_bytes": 9_000_000}, "iptables": ABSENT},
            Reason.BUDGET,
        ),
        ({}, Reason.NOT_RUN),
    ],
)
def test_rules_that_could_not_be_seen(answers, reason):
    assert parse(**answers).rules.reason is reason


def test_units_and_addresses():
    units = "\n\n".join(
        f"Id={name}.service\nUnitFileState={state}"
        for name, state in (("ufw", "enabled"), ("nftables", "disabled"), ("firewalld", ""))
    )
    loopback = "00000000000000000000000000000001 01 80 10 80       lo\n"
    inet6 = loopback + "fe800000000000000000000000000001 02 40 20 80     eth0\n"
    facts = parse(units=out(units), inet6={"output": inet6})
    assert facts.enabled == ("ufw",)
    assert facts.ipv6_addresses == ("eth0 fe800000000000000000000000000001",)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"output": ""}, ()),
        ({"missing": Missing(Reason.CANNOT_TELL, "ENOENT: /proc/net/if_inet6: No such file or directory")}, ()),
        ({"missing": Missing(Reason.TIMEOUT, "x")}, Missing(Reason.TIMEOUT, "x")),
        ({"output": "garbage"}, Missing(Reason.PARSE_ERROR, "/proc/net/if_inet6: not understood")),
    ],
)
def test_whether_there_is_ipv6(answer, found):
    assert parse(inet6=answer).ipv6_addresses == found


NFT_KEYS = [
    *(
        "nftables",
        "chain",
        "rule",
        "expr",
        "match",
        "left",
        "right",
        "op",
        "payload",
        "meta",
        "ct",
        "key",
        "vmap",
        "data",
    ),
    *("set", "family", "table", "name", "hook", "jump", "target", "accept", "xt", "range", "prefix", "fib"),
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["input", "filter", "ip", "drop", "lo"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NFT_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.lists(json_values))
def test_any_json_gives_rules_or_nothing(objects):
    rules = parse_nft(json.dumps({"nftables": objects}))
    assert isinstance(rules, Ruleset)
    assert rules.fate(IPV4) in Fate


words = st.sampled_from(
    [
        "*filter",
        ":INPUT",
        "DROP",
        "-A",
        "INPUT",
        "-j",
        "ACCEPT",
        "!",
        "-p",
        "tcp",
        "--dport",
        "x",
        "-i",
        "\n",
        "COMMIT",
        "[0:0]",
        '"',
    ]
)


@given(st.text() | st.lists(words).map(" ".join))
def test_any_text_gives_rules_or_nothing(text):
    rules = parse_save(text)
    assert rules is None or rules.fate(IPV4) in Fate
    firewall.parse_ufw(text, text)
    firewall.parse_firewalld(text)


@given(
    st.dictionaries(st.sampled_from(["nft", "iptables", "ip6tables", "ufw", "firewalld", "units", "inet6"]), st.text())
)
def test_any_answer_gives_facts(answers):
    assert isinstance(parse(**{key: out(text) for key, text in answers.items()}), firewall.FirewallFacts)


def test_a_port_that_no_rule_names_is_not_in_a_range():
    wide = Rule(Action.ACCEPT, ports=((1024, 65_535),))
    assert wide.holds(IPV4, None) is False
    assert wide.holds(IPV4, 8265) is True
