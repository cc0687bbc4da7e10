"""`iptables-save` and `ip6tables-save` as chains and rules, from the legacy and the nft variant alike."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace

from dstui.facts.firewall_rules import IPV4, Action, Chain, Rule, Ruleset

_HOOKS = {"INPUT": "input", "FORWARD": "forward", "OUTPUT": "output", "PREROUTING": "prerouting"}
_ACTIONS = {
    "ACCEPT": Action.ACCEPT,
    "DROP": Action.DROP,
    "REJECT": Action.DROP,
    "RETURN": Action.RETURN,
    "DNAT": Action.DNAT,
    "REDIRECT": Action.DNAT,
    "NFQUEUE": Action.QUEUE,
    "QUEUE": Action.QUEUE,
}
_NO_CONDITION = frozenset({"--comment", "-c"})
_MODULES = frozenset(
    {"tcp", "udp", "icmp", "icmp6", "ipv6-icmp", "conntrack", "state", "comment", "multiport", "addrtype", "pkttype"}
    | {"set", "iprange", "limit", "mark"}
)
"""Extensions that ask nothing beyond the options that follow them."""
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_TCP = ("tcp", "6", "all", "0")


def _never_if(condition: bool) -> Callable[[Rule], Rule]:
    return lambda rule: replace(rule, never=rule.never or condition)


def _maybe(rule: Rule) -> Rule:
    return replace(rule, maybe=True)


def _ports(rule: Rule, value: str, negated: bool) -> Rule:
    ranges: list[tuple[int, int]] = []
    for part in value.split(","):
        low, colon, high = part.partition(":")
        if not (low.isdecimal() and (high.isdecimal() or not colon)) or rule.ports is not None:
            return _maybe(rule)
        ranges.append((int(low), int(high) if colon else int(low)))
    return replace(rule, ports=tuple(ranges), but_ports=negated)


def _destination(rule: Rule, value: str, negated: bool) -> Rule:
    if value in _EVERYWHERE:
        return _never_if(negated)(rule)
    if value.startswith(("127.", "::1")):
        return rule if negated else replace(rule, loopback=True)
    if value.startswith(("224.", "239.", "255.255.255.255", "ff", "fe80")):
        return _never_if(not negated)(rule)
    return _maybe(rule)


def _condition(rule: Rule, option: str, value: str, negated: bool) -> Rule:
    """The rule with one more condition, as far as the stranger can meet it."""
    match option:
        case "-m" if value in _MODULES:
            return rule
        case "-p":
            return _never_if((value in _TCP) is negated)(rule)
        case "-i":
            if value == "lo":
                return _never_if(not negated)(rule)
            return _maybe(rule) if negated else replace(rule, interface=value)
        case "-o" | "--sport" | "--sports" | "--icmp-type" | "--icmpv6-type":
            return _never_if(not negated)(rule)
        case "-s" | "--src-range":
            return _never_if((value not in _EVERYWHERE) is not negated)(rule)
        case "-d":
            return _destination(rule, value, negated)
        case "--dport" | "--dports" | "--destination-port":
            return _ports(rule, value, negated)
        case "--ctstate" | "--state":
            return _never_if(("NEW" in value.split(",")) is negated)(rule)
        case "--ctstatus":
            return _never_if(not negated)(rule)
        case "--dst-type":
            return _never_if(("LOCAL" in value.split(",")) is negated)(rule)
        case "--pkt-type":
            return _never_if((value in ("host", "unicast")) is negated)(rule)
        case "--match-set":
            if value.endswith(" src"):
                return _never_if(not negated)(rule)
            return _maybe(rule)
        case "--syn":
            return _never_if(negated)(rule)
        case "--tcp-flags" if value == "FIN,SYN,RST,ACK SYN":
            return _never_if(negated)(rule)
        case _:
            return _maybe(rule)


def parse_rule(words: list[str], chains: frozenset[str]) -> Rule:
    """The rule after `-A CHAIN`; options of the target (behind -j) are no conditions."""
    rule, negated, at = Rule(Action.NONE), False, 0
    while at < len(words):
        option = words[at]
        at += 1
        if option == "!":
            negated = True
            continue
        values: list[str] = []
        while at < len(words) and not words[at].startswith("-") and words[at] != "!":
            values.append(words[at])
            at += 1
        value = " ".join(values)
        if option in ("-j", "-g"):
            if value in chains:
                return replace(rule, action=Action.GOTO if option == "-g" else Action.JUMP, target=value)
            return replace(rule, action=_ACTIONS.get(value, Action.NONE))
        if option not in _NO_CONDITION:
            rule = _condition(rule, option, value, negated)
        negated = False
    return rule


def parse_save(output: str, family: str = IPV4) -> Ruleset | None:
    """All tables of one iptables-save; None when it is not that, or was cut off before a table's COMMIT."""
    table, chains = "", dict[tuple[str, str], Chain]()
    rules: dict[tuple[str, str], list[list[str]]] = {}
    for line in output.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line == "COMMIT":
            table = ""
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            return None
        if not words:
            continue
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and table and len(words) >= 2:
            name, policy = words[0][1:], words[1].lower()
            hook = "" if policy == "-" else _HOOKS.get(name, "other")
            kind = table if table in ("filter", "nat") else "other"
            if table in ("mangle", "raw", "security"):
                # These can drop too, but a default deny is written in filter.
                hook = hook and "other"
            policy = "accept" if policy == "-" else policy
            chains[table, name] = Chain(family, table, name, hook=hook, policy=policy, kind=kind)
        elif table and len(words) >= 2 and (words[0] == "-A" or (words[0].startswith("[") and words[1] == "-A")):
            at = words.index("-A")
            if at + 1 >= len(words):
                return None
            rules.setdefault((table, words[at + 1]), []).append(words[at + 2 :])
        else:
            return None
    if table:
        return None
    found: list[Chain] = []
    for (in_table, name), chain in chains.items():
        known = frozenset(other for other_table, other in chains if other_table == in_table)
        parsed = tuple(parse_rule(words, known) for words in rules.get((in_table, name), ()))
        found.append(replace(chain, rules=parsed))
    return Ruleset(tuple(found))
