"""What really carries an interface's traffic: bonds, VLANs and bridges resolved to devices with their own speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.links import Interface, LinkFacts, RdmaPort
from dstui.facts.raw import Missing
from dstui.model import Reason

_SPEED_IS_MADE_UP = frozenset(
    {"virtio_net", "ena", "gve", "vmxnet3", "xen_netfront", "xen-netfront", "vif", "hv_netvsc", "veth", "tun", "e1000"}
)
"""Drivers of virtual machines: what they report is a constant or what someone typed, not the link behind them."""
_INFINIBAND = 32
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class LinkPath:
    """An interface resolved. `leaves` are the devices that carry it, `down` those of them that do not at the moment.

    `mbps` is the sum over a balancing bond, the active member of an active-backup one. `up` is Missing when neither
    operstate nor carrier tells. `mtu` is that of the interface itself.
    """

    dev: str
    leaves: tuple[str, ...]
    mbps: int | Missing
    up: bool | Missing
    down: tuple[str, ...]
    mtu: int | None
    slower_than_able: tuple[str, ...]
    """Leaves that negotiated less than the fastest mode they support, as `ens1f0 25000 of 100000 Mb/s`."""
    rdma: tuple[RdmaPort, ...]
    """The RDMA ports on the leaves."""


def resolve(facts: LinkFacts, dev: str) -> LinkPath | Missing:
    """The path behind an interface; Missing when the interface is not in /sys/class/net."""
    if isinstance(facts.interfaces, Missing):
        return facts.interfaces
    top = facts.interfaces.get(dev)
    if top is None:
        return Missing(Reason.CANNOT_TELL, f"/sys/class/net has no {dev}")
    walk = _Walk(facts.interfaces, facts.rdma)
    leaves = tuple(dict.fromkeys(walk.leaves(dev, 0)))
    interfaces = [facts.interfaces[name] for name in leaves]
    down = tuple(leaf.name for leaf in interfaces if walk.up(leaf) is False)
    up = walk.up(top)
    if up is not False and leaves and len(down) == len(leaves):
        up = False
    return LinkPath(
        dev=dev,
        leaves=leaves,
        mbps=walk.speed(dev, 0),
        up=up,
        down=down,
        mtu=top.mtu,
        slower_than_able=tuple(
            f"{leaf.name} {leaf.mbps} of {leaf.supported_mbps} Mb/s"
            for leaf in interfaces
            if leaf.mbps and leaf.supported_mbps and leaf.mbps < leaf.supported_mbps
        ),
        rdma=tuple(port for name in leaves for port in walk.ports(name)),
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    interfaces: Mapping[str, Interface]
    rdma: tuple[RdmaPort, ...]

    def ports(self, name: str) -> tuple[RdmaPort, ...]:
        return tuple(port for port in self.rdma if name in port.netdevs)

    def below(self, interface: Interface) -> tuple[str, ...]:
        """What the interface stands on. Of a bridge's ports only those that lead to a device count."""
        names = interface.bond_members or interface.lowers
        known = tuple(name for name in names if name in self.interfaces)
        return known if interface.bond_members else tuple(n for n in known if any(self._physical(n, 0)))

    def _physical(self, name: str, depth: int) -> tuple[bool, ...]:
        interface = self.interfaces.get(name)
        if interface is None or depth > _DEEPEST:
            return ()
        if interface.physical:
            return (True,)
        under = interface.bond_members or interface.lowers
        return tuple(found for lower in under for found in self._physical(lower, depth + 1))

    def leaves(self, name: str, depth: int) -> tuple[str, ...]:
        interface = self.interfaces.get(name)
        if interface is None or depth > _DEEPEST:
            return ()
        under = self.below(interface)
        if not under:
            return (name,)
        return tuple(leaf for lower in under for leaf in self.leaves(lower, depth + 1))

    def up(self, interface: Interface) -> bool | Missing:
        if interface.link_type == _INFINIBAND and (ports := self.ports(interface.name)):
            return any(port.active for port in ports)
        if interface.operstate == "up":
            return interface.carrier is not False
        if interface.operstate == "unknown":
            untold = Missing(Reason.CANNOT_TELL, f"{interface.name} tells neither operstate nor carrier")
            return untold if interface.carrier is None else interface.carrier
        if interface.operstate:
            return False
        return Missing(Reason.CANNOT_TELL, f"{interface.name}: operstate not readable")

    def speed(self, name: str, depth: int) -> int | Missing:
        """Mb/s of an interface through everything below it."""
        interface = self.interfaces.get(name)
        if interface is None or depth > _DEEPEST:
            return Missing(Reason.CANNOT_TELL, f"{name} cannot be resolved")
        if interface.bond_members:
            return self._bond_speed(interface, depth)
        if under := self.below(interface):
            speeds = [self.speed(lower, depth + 1) for lower in under]
            untold = next((speed for speed in speeds if isinstance(speed, Missing)), None)
            # over several devices it is not known which one a peer is behind: the slowest is what can be promised
            return untold or min(speed for speed in speeds if isinstance(speed, int))
        return self._device_speed(interface)

    def _bond_speed(self, bond: Interface, depth: int) -> int | Missing:
        if bond.bond_mode == "active-backup":
            if not bond.bond_active:
                return Missing(Reason.CANNOT_TELL, f"{bond.name} has no active member")
            return self.speed(bond.bond_active, depth + 1)
        members = [self.interfaces[name] for name in bond.bond_members if name in self.interfaces]
        working = [member for member in members if self.up(member) is not False]
        speeds = [self.speed(member.name, depth + 1) for member in working]
        untold = next((speed for speed in speeds if isinstance(speed, Missing)), None)
        if untold or not speeds:
            return untold or Missing(Reason.CANNOT_TELL, f"{bond.name} has no member that is up")
        known = [speed for speed in speeds if isinstance(speed, int)]
        if bond.bond_mode == "802.3ad" or bond.bond_mode.startswith("balance-"):
            return sum(known)
        return min(known)

    def _device_speed(self, interface: Interface) -> int | Missing:
        if not interface.physical:
            return Missing(Reason.CANNOT_TELL, f"{interface.name} is virtual and tells no real speed")
        rates = [port.gbps for port in self.ports(interface.name) if port.active and port.gbps is not None]
        rate = round(max(rates) * 1000) if rates else None
        if interface.link_type == _INFINIBAND and rate is not None:
            return rate
        if interface.driver in _SPEED_IS_MADE_UP:
            return Missing(Reason.CANNOT_TELL, f"{interface.name} ({interface.driver}) hides its speed")
        if interface.mbps is not None:
            return interface.mbps
        return rate if rate is not None else Missing(Reason.CANNOT_TELL, f"{interface.name} tells no speed")
