"""Packet-filter rules from any tool in one form, and what they do to a stranger.

The stranger is a new TCP connection from an address that no rule names, over an interface other than loopback, to one
port. What a rule asks beyond that and dstui cannot decide (marks, rates, extensions whose conditions nft does not show)
makes the rule a "maybe", and a maybe never counts as a denial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

IPV4 = "ip"
IPV6 = "ip6"
MOST_PORTS = 65_535
_DEPTH = 32


class Fate(StrEnum):
    """What becomes of the stranger. OPEN: nothing stops it; UNSURE: it depends on something that was not understood."""

    DENIED = "denied"
    OPEN = "open"
    UNSURE = "unsure"


class Action(StrEnum):
    """What a rule does. QUEUE hands the packet to a program, which may do either."""

    ACCEPT = "accept"
    DROP = "drop"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"
    QUEUE = "queue"
    DNAT = "dnat"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as the stranger sees it.

    `never`: a condition that the stranger does not meet. `maybe`: one that cannot be decided. `interface`: only packets
    that come in there. `family`: only IPv4 or only IPv6. `ports`: destination ports as inclusive ranges, None for any;
    `but_ports` turns them round. `loopback`: it is for addresses of 127.0.0.0/8 only.
    """

    action: Action
    target: str = ""
    never: bool = False
    maybe: bool = False
    interface: str = ""
    family: str = ""
    ports: tuple[tuple[int, int], ...] | None = None
    but_ports: bool = False
    loopback: bool = False

    def holds(self, family: str, port: int | None) -> bool | None:
        """Whether the rule applies to the stranger; None for maybe. `port` None is a port that no rule names."""
        if self.never or self.interface or self.loopback or (self.family and self.family != family):
            return False
        if self.ports is not None and self._named(port) is self.but_ports:
            return False
        return None if self.maybe else True

    def _named(self, port: int | None) -> bool:
        ranges = self.ports or ()
        if port is None:
            return any(low <= 1 and high >= MOST_PORTS for low, high in ranges)
        return any(low <= port <= high for low, high in ranges)


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain. `family` is `ip`, `ip6` or `inet` (both). `hook` is empty for chains that are only jumped to."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = "accept"
    kind: str = ""
    rules: tuple[Rule, ...] = ()

    def covers(self, family: str) -> bool:
        return self.family in (family, "inet")


_CONTAINER_CHAINS = ("DOCKER", "KUBE", "CNI", "CILIUM", "FLANNEL", "LIBVIRT", "NETAVARK", "PODMAN", "CALI", "WEAVE")
_CONTAINER_TABLES = ("docker", "kube", "cni", "cilium", "libvirt", "netavark", "podman", "lxd", "incus", "calico")


def of_containers(chain: Chain) -> bool:
    """Whether Docker, Kubernetes or a hypervisor made this chain for its own guests; such chains are no firewall."""
    return chain.name.upper().startswith(_CONTAINER_CHAINS) or chain.table.lower().startswith(_CONTAINER_TABLES)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All chains that one tool showed."""

    chains: tuple[Chain, ...]
    _by_name: Mapping[tuple[str, str, str], Chain] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {(c.family, c.table, c.name): c for c in self.chains})

    def input_chains(self, family: str) -> Iterator[Chain]:
        """Base chains that decide what comes in for this host itself."""
        for chain in self.chains:
            if chain.hook == "input" and chain.kind in ("", "filter") and chain.covers(family):
                yield chain

    def target(self, chain: Chain, rule: Rule) -> Chain | None:
        return self._by_name.get((chain.family, chain.table, rule.target))

    def fate(self, family: str, port: int | None = None) -> Fate:
        """What becomes of the stranger: one chain that denies it for certain is enough, whatever the others accept."""
        outcomes = [self._enter(chain, family, port) for chain in self.input_chains(family)]
        if any(outcome == {Action.DROP} for outcome in outcomes):
            return Fate.DENIED
        return Fate.UNSURE if any(Action.DROP in outcome for outcome in outcomes) else Fate.OPEN

    def _enter(self, chain: Chain, family: str, port: int | None) -> set[Action]:
        outcome = self._walk(chain, family, port, 0)
        if Action.RETURN in outcome:
            outcome.discard(Action.RETURN)
            outcome.add(Action.DROP if chain.policy == "drop" else Action.ACCEPT)
        return outcome

    def _walk(self, chain: Chain, family: str, port: int | None, depth: int) -> set[Action]:
        """Every end that is possible: ACCEPT, DROP, and RETURN for falling off the chain's end."""
        possible: set[Action] = set()
        for rule in chain.rules:
            holds = rule.holds(family, port)
            if holds is False:
                continue
            ends, goes_on = self._ends(chain, rule, family, port, depth)
            possible |= ends
            if holds is True and not goes_on:
                return possible
        return possible | {Action.RETURN}

    def _ends(self, chain: Chain, rule: Rule, family: str, port: int | None, depth: int) -> tuple[set[Action], bool]:
        """How a rule that applies may end the walk, and whether the walk may go on behind it."""
        match rule.action:
            case Action.ACCEPT | Action.DROP | Action.RETURN:
                return {rule.action}, False
            case Action.QUEUE:
                return {Action.ACCEPT, Action.DROP}, True
            case Action.JUMP | Action.GOTO:
                target = self.target(chain, rule)
                if target is None or depth >= _DEPTH:
                    return {Action.ACCEPT}, True
                ends = self._walk(target, family, port, depth + 1)
                if rule.action is Action.GOTO:
                    return ends, False
                return ends - {Action.RETURN}, Action.RETURN in ends
            case _:
                return set(), True

    def rules_for_input(self, family: str, *, containers: bool) -> int:
        """How many rules an incoming packet may meet, in chains of containers or in all others."""
        return sum(1 for chain, _ in self._reached(family) if of_containers(chain) is containers)

    def drops_on_input(self, family: str) -> bool:
        """Whether anything that comes in can be dropped at all by chains that are not of containers."""
        return any(c.policy == "drop" for c in self.input_chains(family)) or any(
            rule.action in (Action.DROP, Action.QUEUE) and not of_containers(chain)
            for chain, rule in self._reached(family)
        )

    def _reached(self, family: str, *, jumps: bool = False) -> Iterator[tuple[Chain, Rule]]:
        """The rules that a packet for this host can meet; with `jumps` also those that only lead to another chain."""
        waiting: list[Chain] = list(self.input_chains(family))
        seen = {(c.family, c.table, c.name) for c in waiting}
        while waiting:
            chain = waiting.pop()
            for rule in chain.rules:
                target = self.target(chain, rule) if rule.action in (Action.JUMP, Action.GOTO) else None
                if jumps and target is not None:
                    yield chain, rule
                if target is None:
                    if rule.action is not Action.JUMP:
                        yield chain, rule
                elif (target.family, target.table, target.name) not in seen:
                    seen.add((target.family, target.table, target.name))
                    waiting.append(target)

    @property
    def has_container_chains(self) -> bool:
        return any(of_containers(chain) for chain in self.chains)

    def published_ports(self) -> tuple[int, ...]:
        """Ports that are rewritten to a container before any input chain sees them, from other than loopback."""
        return tuple(
            sorted(
                {
                    low
                    for chain in self.chains
                    for rule in chain.rules
                    if rule.action is Action.DNAT and rule.ports and not rule.loopback and not rule.but_ports
                    for low, _ in rule.ports
                }
            )
        )

    def guards_containers(self) -> bool:
        """Whether the chain that Docker leaves to the operator turns every stranger away."""
        return any(
            self._walk(chain, IPV4, None, 0) == {Action.DROP} for chain in self.chains if chain.name == "DOCKER-USER"
        )

    def trusted_interfaces(self) -> tuple[str, ...]:
        """Interfaces from which everything is accepted, by the rule itself or by the chain that it leads to."""
        return tuple(
            sorted(
                {
                    rule.interface
                    for family in (IPV4, IPV6)
                    for chain, rule in self._reached(family, jumps=True)
                    if rule.interface and not (rule.never or rule.maybe) and rule.ports is None
                    if self._ends(chain, replace(rule, interface=""), family, None, 0)[0] == {Action.ACCEPT}
                }
            )
        )


def united(rulesets: Sequence[Ruleset]) -> Ruleset:
    """What several tools showed, as one; the kernel runs them all."""
    return Ruleset(tuple(chain for ruleset in rulesets for chain in ruleset.chains))
