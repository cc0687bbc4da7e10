"""`nft -j list ruleset` as chains and rules (libnftables-json(5), schema version 1)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from dstui.facts.firewall_rules import IPV4, IPV6, Action, Chain, Rule, Ruleset
from dstui.facts.untyped import rows, table, text, whole

_FAMILIES = frozenset({"ip", "ip6", "inet"})
_IGNORED = frozenset({"counter", "log", "mangle", "notrack", "ct helper", "flow"})
_VERDICTS = {"accept": Action.ACCEPT, "drop": Action.DROP, "reject": Action.DROP, "return": Action.RETURN}
_XT_TARGETS = {"DROP": Action.DROP, "REJECT": Action.DROP, "DNAT": Action.DNAT, "NFQUEUE": Action.QUEUE}


@dataclass(slots=True)
class _Met:
    """What the conditions of one rule amount to so far."""

    rule: Rule = field(default_factory=lambda: Rule(Action.NONE))

    def add(self, holds: bool | None) -> None:
        if holds is None:
            self.rule = replace(self.rule, maybe=True)
        elif not holds:
            self.rule = replace(self.rule, never=True)


def _values(right: object) -> list[object]:
    """The right side of a match as a list: a single value, a list of flags, or an anonymous set."""
    inside = table(right)
    listed = rows(inside.get("set")) if inside is not None and "set" in inside else rows(right)
    if listed is None:
        return [right]
    return [(table(item) or {}).get("elem", item) for item in listed]


def _names(right: object, *names: str) -> bool:
    return any(value in names for value in _values(right) if isinstance(value, str))


def _ports(right: object) -> tuple[tuple[int, int], ...] | None:
    ranges: list[tuple[int, int]] = []
    for value in _values(right):
        span = rows((table(value) or {}).get("range"))
        low, high = (span[0], span[1]) if span is not None and len(span) == 2 else (value, value)
        first, last = whole(low), whole(high)
        if first is None or last is None:
            return None
        ranges.append((first, last))
    return tuple(ranges)


def _everywhere(right: object) -> bool:
    return (table((table(right) or {}).get("prefix")) or {}).get("len") == 0


def _loopback(right: object) -> bool:
    prefix = table((table(right) or {}).get("prefix"))
    address = text(right) or (text(prefix.get("addr")) if prefix else None) or ""
    return address.startswith("127.") or address == "::1"


def _multicast(right: object) -> bool:
    prefix = table((table(right) or {}).get("prefix"))
    address = text(right) or (text(prefix.get("addr")) if prefix else None) or ""
    return address.startswith(("224.", "239.", "255.255.255.255", "ff", "fe80"))


def _address(met: _Met, protocol: str, side: str, right: object, negated: bool) -> None:
    met.rule = replace(met.rule, family=IPV4 if protocol == "ip" else IPV6)
    if _everywhere(right):
        met.add(not negated)
    elif side == "saddr":
        met.add(negated)
    elif _loopback(right) and not negated:
        met.rule = replace(met.rule, loopback=True)
    elif _multicast(right):
        met.add(negated)
    else:
        met.add(None)


def _payload(met: _Met, protocol: str, side: str, right: object, negated: bool) -> None:
    if side in ("saddr", "daddr") and protocol in ("ip", "ip6"):
        _address(met, protocol, side, right, negated)
    elif (protocol, side) in (("ip", "protocol"), ("ip6", "nexthdr")):
        met.rule = replace(met.rule, family=IPV4 if protocol == "ip" else IPV6)
        met.add((_names(right, "tcp") or 6 in _values(right)) is not negated)
    elif side == "dport" and protocol in ("tcp", "th"):
        ports = _ports(right)
        if ports is None or met.rule.ports is not None:
            met.add(None)
        else:
            met.rule = replace(met.rule, ports=ports, but_ports=negated)
    elif side == "sport" and protocol in ("tcp", "th"):
        met.add(negated)
    elif protocol in ("udp", "icmp", "icmpv6", "sctp", "dccp", "esp", "ah", "udplite"):
        met.add(False)
    else:
        met.add(None)


def _meta(met: _Met, key: str, right: object, negated: bool) -> None:
    if key in ("iifname", "iif"):
        names = [text(value) or "?" for value in _values(right)]
        if negated:
            met.add(True if names == ["lo"] else None)
        elif names == ["lo"]:
            met.add(False)
        else:
            met.rule = replace(met.rule, interface=", ".join(names))
    elif key == "l4proto":
        met.add((_names(right, "tcp") or 6 in _values(right)) is not negated)
    elif key in ("nfproto", "protocol"):
        v4 = _names(right, "ipv4", "ip") is not negated
        v6 = _names(right, "ipv6", "ip6") is not negated
        if v4 and not v6:
            met.rule = replace(met.rule, family=IPV4)
        elif v6 and not v4:
            met.rule = replace(met.rule, family=IPV6)
        else:
            met.add(v4)
    elif key == "pkttype":
        met.add(_names(right, "host", "unicast") is not negated)
    else:
        met.add(None)


def _match(met: _Met, match: object) -> None:
    condition = table(match) or {}
    left, right, negated = table(condition.get("left")) or {}, condition.get("right"), condition.get("op") == "!="
    if condition.get("op") not in ("==", "!=", "in"):
        met.add(None)
        return
    flags = rows(left.get("&"))
    if flags is not None and len(flags) == 2 and "ct" in (table(flags[0]) or {}) and negated and right == 0:
        # `ct state & (established | related) != 0`, as older versions write a list of states.
        left, right, negated = table(flags[0]) or {}, flags[1], False
    payload, meta, ct, fib = (table(left.get(name)) for name in ("payload", "meta", "ct", "fib"))
    if payload is not None:
        _payload(met, text(payload.get("protocol")) or "", text(payload.get("field")) or "", right, negated)
    elif meta is not None:
        _meta(met, text(meta.get("key")) or "", right, negated)
    elif ct is not None and ct.get("key") == "state":
        met.add(_names(right, "new") is not negated)
    elif ct is not None and ct.get("key") == "status":
        # A connection to a port of the host itself has not been rewritten.
        met.add(negated)
    elif fib is not None and fib.get("result") == "type" and rows(fib.get("flags")) == ["daddr"]:
        met.add(_names(right, "local") is not negated)
    else:
        met.add(None)


def _verdict(statement: str, body: object) -> tuple[Action, str] | None:
    if statement in _VERDICTS:
        return _VERDICTS[statement], ""
    if statement in ("jump", "goto"):
        return Action(statement), text((table(body) or {}).get("target")) or ""
    if statement in ("queue", "dnat", "redirect"):
        return (Action.QUEUE if statement == "queue" else Action.DNAT), ""
    return None


def _mapped(met: _Met, body: object) -> list[Rule]:
    """The rules that a verdict map stands for, one for each entry the stranger could meet."""
    vmap = table(body) or {}
    entries = rows((table(vmap.get("data")) or {}).get("set"))
    if entries is None:
        return [replace(met.rule, action=Action.ACCEPT, maybe=True)]
    found: list[Rule] = []
    for entry in entries:
        pair = rows(entry) or []
        verdict = table(pair[1]) if len(pair) == 2 else None
        if verdict is None or len(verdict) != 1:
            found.append(replace(met.rule, action=Action.ACCEPT, maybe=True))
            continue
        action = _verdict(*next(iter(verdict.items())))
        if action is None:
            continue
        entry_met = _Met(met.rule)
        _match(entry_met, {"op": "==", "left": vmap.get("key"), "right": pair[0]})
        if entry_met.rule.interface and entry_met.rule.interface != met.rule.interface:
            # Which of the host's interfaces faces the stranger is not known, and one of the map's does.
            entry_met.rule = replace(entry_met.rule, interface=met.rule.interface, maybe=True)
        found.append(replace(entry_met.rule, action=action[0], target=action[1]))
    return found


def _xt(met: _Met, body: object) -> None:
    """An iptables extension: nft names it but does not show what it asks."""
    extension = table(body)
    name = text(extension.get("name")) if extension else None
    if extension and extension.get("type") == "target":
        met.rule = replace(met.rule, action=_XT_TARGETS.get(name or "", Action.NONE))
    elif name != "comment":
        met.add(None)


def _rules(expressions: list[object]) -> list[Rule]:
    """One rule of nft, as one rule for every verdict that it can give."""
    met, found = _Met(), list[Rule]()
    for expression in expressions:
        for statement, body in (table(expression) or {}).items():
            verdict = _verdict(statement, body)
            if verdict is not None:
                met.rule = replace(met.rule, action=verdict[0], target=verdict[1])
            elif statement == "match":
                _match(met, body)
            elif statement == "vmap":
                found.extend(_mapped(met, body))
            elif statement == "xt":
                _xt(met, body)
            elif statement not in _IGNORED:
                met.add(None)
    return [*found, met.rule]


def parse_nft(output: str) -> Ruleset | None:
    """The chains of families ip, ip6 and inet; None when the text is not nft's JSON."""
    try:
        document = table(json.loads(output))
    except (ValueError, RecursionError):
        return None
    objects = rows(document.get("nftables")) if document is not None else None
    if objects is None:
        return None
    chains: dict[tuple[str, str, str], Chain] = {}
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for entry in objects:
        item = table(entry) or {}
        chain, rule = table(item.get("chain")), table(item.get("rule"))
        if chain is not None:
            key = _place(chain, "name")
            if key[0] in _FAMILIES:
                chains[key] = Chain(
                    *key,
                    hook=text(chain.get("hook")) or "",
                    policy=text(chain.get("policy")) or "accept",
                    kind=text(chain.get("type")) or "",
                )
        elif rule is not None:
            rules.setdefault(_place(rule, "chain"), []).extend(_rules(rows(rule.get("expr")) or []))
    return Ruleset(tuple(replace(chain, rules=tuple(rules.get(key, ()))) for key, chain in chains.items()))


def _place(item: object, name: str) -> tuple[str, str, str]:
    entry = table(item) or {}
    return text(entry.get("family")) or "", text(entry.get("table")) or "", text(entry.get(name)) or ""


def without(ruleset: Ruleset, shown: Ruleset) -> Ruleset:
    """The chains that iptables-save did not show as well, with the conditions that nft leaves out."""
    names = {(chain.family, chain.table, chain.name) for chain in shown.chains}
    return Ruleset(tuple(c for c in ruleset.chains if (c.family, c.table, c.name) not in names))
