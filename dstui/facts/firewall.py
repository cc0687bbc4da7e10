"""Group `firewall`: what filters packets that come in to this host, by every tool that can be asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.firewall_iptables import parse_save
from dstui.facts.firewall_nft import parse_nft, without
from dstui.facts.firewall_rules import IPV4, IPV6, Fate, Ruleset, united
from dstui.facts.raw import Missing, Op, Raw, read, run
from dstui.facts.sudoers import FIREWALLD, IP6TABLES, IPTABLES, NFT, UFW, granted, privileged
from dstui.facts.units import parse_units
from dstui.model import Reason

_RULES_BYTES = 4 * 1024 * 1024
"""A kube-proxy with thousands of services writes megabytes of rules."""
_SERVICES = ("ufw", "firewalld", "nftables", "netfilter-persistent", "iptables", "ip6tables", "shorewall", "ferm")
"""Units that bring rules back after a reboot."""
_DENIES = frozenset({"deny", "reject"})


@dataclass(frozen=True, slots=True)
class UfwStatus:
    """`ufw status verbose`. `incoming` is the default for what comes in: `deny`, `reject` or `allow`."""

    active: bool
    incoming: str | None
    ipv6: bool | None
    """IPV6= in /etc/default/ufw; None when that could not be read."""

    @property
    def denies(self) -> bool:
        return self.active and self.incoming in _DENIES


@dataclass(frozen=True, slots=True)
class FirewalldZone:
    """`firewall-cmd --list-all`: the default zone and its target (`default` and `%%REJECT%%` reject, `DROP` drops)."""

    zone: str
    target: str
    ports: tuple[str, ...]

    @property
    def denies(self) -> bool:
        return self.target in ("default", "DROP", "%%REJECT%%", "REJECT")


@dataclass(frozen=True, slots=True)
class FirewallFacts:
    """`rules` unites what nft and iptables showed; `sources` names them.

    `sees_ipv6` is False when only IPv4 rules could be read. `enabled` are units that restore rules at boot;
    `ipv6_addresses` the host's own without loopback (link-local included).
    """

    rules: Ruleset | Missing
    sources: tuple[str, ...]
    sees_ipv6: bool
    ufw: UfwStatus | Missing
    firewalld: FirewalldZone | Missing
    enabled: tuple[str, ...] | Missing
    ipv6_addresses: tuple[str, ...] | Missing

    @property
    def backend(self) -> str:
        """The tool that an operator would use here: `ufw`, `firewalld`, else where the rules were read."""
        if isinstance(self.ufw, UfwStatus) and self.ufw.active:
            return "ufw"
        if isinstance(self.firewalld, FirewalldZone):
            return "firewalld"
        return " + ".join(self.sources) or "–"


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    units = (f"{name}.service" for name in _SERVICES)
    return (
        granted("firewall.nft", NFT, limit=_RULES_BYTES),
        granted("firewall.iptables", IPTABLES, limit=_RULES_BYTES),
        granted("firewall.ip6tables", IP6TABLES, limit=_RULES_BYTES),
        granted("firewall.ufw", UFW),
        granted("firewall.firewalld", FIREWALLD),
        read("firewall.ufw-default", "/etc/default/ufw"),
        run("firewall.units", "systemctl", "show", "-p", "Id,UnitFileState,ActiveState", *units),
        read("firewall.inet6", "/proc/net/if_inet6"),
    )


_STATUS = re.compile(r"^Status:\s*(\w+)", re.MULTILINE)
_INCOMING = re.compile(r"^Default:.*?(\w+) \(incoming\)", re.MULTILINE)
_UFW_IPV6 = re.compile(r"^\s*IPV6\s*=\s*[\"']?(\w+)", re.MULTILINE | re.IGNORECASE)


def parse_ufw(status: str, default: str | Missing) -> UfwStatus | None:
    """None when the text is not ufw's."""
    active = _STATUS.search(status)
    if active is None or active[1] not in ("active", "inactive"):
        return None
    incoming = _INCOMING.search(status)
    ipv6 = None if isinstance(default, Missing) else _UFW_IPV6.search(default)
    return UfwStatus(
        active=active[1] == "active",
        incoming=incoming[1] if incoming else None,
        ipv6=ipv6[1].lower() == "yes" if ipv6 else None,
    )


def parse_firewalld(text: str) -> FirewalldZone | None:
    """None when the text is not a zone."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or lines[0].startswith((" ", "\t")):
        return None
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    if "target" not in fields:
        return None
    return FirewalldZone(lines[0].split()[0], fields["target"], tuple(fields.get("ports", "").split()))


def _parsed(raw: Raw, key: str, family: str | None) -> Ruleset | Missing:
    found = privileged(raw, key)
    if isinstance(found, Missing):
        return found
    rules = parse_nft(found.output) if family is None else parse_save(found.output, family)
    return rules if rules is not None else Missing(Reason.PARSE_ERROR, f"{found.source}: rules not understood")


def _rules(raw: Raw) -> tuple[Ruleset | Missing, tuple[str, ...], bool]:
    """Everything that can be seen, or Missing when what was refused could turn the picture round.

    A tool that is not installed has made no rules; one that refused to answer may hide them: iptables-save alone sees
    the legacy tables, nft alone sees its own. A denial that is seen stands whatever the other would have shown.
    """
    nft = _parsed(raw, "firewall.nft", None)
    four = _parsed(raw, "firewall.iptables", IPV4)
    six = _parsed(raw, "firewall.ip6tables", IPV6)
    saved = united([rules for rules in (four, six) if isinstance(rules, Ruleset)])
    names = (("nft", nft), ("iptables", four), ("ip6tables", six))
    sources = tuple(name for name, rules in names if isinstance(rules, Ruleset))
    if isinstance(nft, Ruleset):
        rules = united([without(nft, saved), saved])
        refused = isinstance(four, Missing) and four.reason is not Reason.TOOL_MISSING
        return four if refused and rules.fate(IPV4) is Fate.OPEN else rules, sources, True
    if isinstance(four, Missing):
        missing = next((m for m in (nft, four) if m.reason is not Reason.TOOL_MISSING), nft)
        return missing, sources, False
    if nft.reason is not Reason.TOOL_MISSING and saved.fate(IPV4) is not Fate.DENIED:
        return nft, sources, isinstance(six, Ruleset)
    return saved, sources, isinstance(six, Ruleset)


def _ufw(raw: Raw) -> UfwStatus | Missing:
    found = privileged(raw, "firewall.ufw")
    if isinstance(found, Missing):
        return found
    status = parse_ufw(found.output, raw.text("firewall.ufw-default"))
    return status if status is not None else Missing(Reason.PARSE_ERROR, f"{found.source}: no Status line")


def _firewalld(raw: Raw) -> FirewalldZone | Missing:
    found = privileged(raw, "firewall.firewalld")
    if isinstance(found, Missing):
        return found
    zone = parse_firewalld(found.output)
    return zone if zone is not None else Missing(Reason.PARSE_ERROR, f"{found.source}: no zone")


def _enabled(raw: Raw) -> tuple[str, ...] | Missing:
    text = raw.text("firewall.units")
    if isinstance(text, Missing):
        return text
    units = parse_units(text)
    if units is None:
        return Missing(Reason.PARSE_ERROR, "systemctl show: no units")
    return tuple(
        name.removesuffix(".service")
        for name, unit in units.items()
        if unit.get("UnitFileState", "").startswith("enabled")
    )


def _ipv6(raw: Raw) -> tuple[str, ...] | Missing:
    text = raw.text("firewall.inet6")
    if isinstance(text, Missing):
        # Without IPv6 in the kernel the file is not there.
        return () if text.reason is Reason.CANNOT_TELL and "ENOENT" in text.why else text
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if any(len(row) != 6 for row in rows):
        return Missing(Reason.PARSE_ERROR, "/proc/net/if_inet6: not understood")
    return tuple(f"{row[5]} {row[0]}" for row in rows if row[5] != "lo")


def parse(raw: Raw) -> FirewallFacts:
    rules, sources, sees_ipv6 = _rules(raw)
    return FirewallFacts(
        rules=rules,
        sources=sources,
        sees_ipv6=sees_ipv6,
        ufw=_ufw(raw),
        firewalld=_firewalld(raw),
        enabled=_enabled(raw),
        ipv6_addresses=_ipv6(raw),
    )


GROUP = Group("firewall", FirewallFacts, ops, parse)
