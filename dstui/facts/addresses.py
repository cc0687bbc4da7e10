"""Group `addresses`: the addresses on this host's interfaces, how long they last, and what configured them."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.netconfig import Configured, ifupdown, managed_devices, netplan, networkd, networkmanager, sysconfig
from dstui.facts.raw import Missing, Op, Raw, glob, listing, run
from dstui.facts.untyped import garbled, rows, table, text, whole
from dstui.model import Reason

_METHOD = "addresses.nm."

FOREVER = 4_294_967_295
"""`valid_life_time` in seconds of an address that does not run out."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address on one interface. `valid_seconds` is None when it does not run out; `dynamic` as the kernel says."""

    interface: str
    ip: str
    prefix: int
    scope: str
    dynamic: bool
    valid_seconds: int | None

    @property
    def leased(self) -> bool:
        return self.dynamic or self.valid_seconds is not None


@dataclass(frozen=True, slots=True)
class Interface:
    """MTU in bytes; `mac` in lower case; `up` is the administrative and carrier state together."""

    name: str
    index: int
    mac: str
    mtu: int | None
    up: bool
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """`configured` holds what every readable configuration says; `unread` names the sources that could not be read."""

    interfaces: tuple[Interface, ...] | Missing
    configured: tuple[Configured, ...]
    unread: tuple[str, ...]

    def holding(self, ip: str) -> tuple[Interface, Address] | None:
        """The interface that has this address, and its entry there; None when absent or unreadable."""
        if isinstance(self.interfaces, Missing):
            return None
        wanted = normal_ip(ip)
        pairs = ((i, a) for i in self.interfaces for a in i.addresses if normal_ip(a.ip) == wanted)
        return next(pairs, None)

    def configuration_of(self, interface: Interface) -> tuple[Configured, ...]:
        """What is configured for an interface, by its name or MAC."""
        return tuple(c for c in self.configured if c.applies_to(interface.name, interface.mac))


def normal_ip(ip: str) -> str:
    """An address in its canonical spelling (`fd00:0::2` is `fd00::2`); other text unchanged."""
    try:
        return str(ipaddress.ip_address(ip))
    except ValueError:
        return ip


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    device = "GENERAL.DEVICE,GENERAL.CONNECTION,IP4,DHCP4,IP6,DHCP6"
    return (
        run("addresses.ip", "ip", "-j", "addr", timeout=5.0),
        run("addresses.text", "ip", "addr", timeout=5.0),
        run("addresses.netplan", "netplan", "get", timeout=5.0, root=True),
        glob("addresses.netplan_files", "/etc/netplan/*.yaml", each=32_768, files=32),
        listing("addresses.netplan_names", "/etc/netplan/*.yaml", files=32),
        glob(
            "addresses.networkd",
            "/etc/systemd/network/*.network",
            "/run/systemd/network/*.network",
            each=16_384,
            files=256,
        ),
        listing("addresses.networkd_names", "/etc/systemd/network/*.network", "/run/systemd/network/*.network"),
        run("addresses.nmcli", "nmcli", "-t", "-f", device, "device", "show", timeout=5.0),
        glob("addresses.ifupdown", "/etc/network/interfaces", "/etc/network/interfaces.d/*", each=32_768, files=64),
        glob(
            "addresses.sysconfig",
            "/etc/sysconfig/network-scripts/ifcfg-*",
            "/etc/sysconfig/network/ifcfg-*",
            each=8_192,
            files=128,
        ),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """`ipv4.method` and `ipv6.method` of the connection on each device that has an address of the inventory."""
    devices = raw.text("addresses.nmcli")
    if isinstance(devices, Missing):
        return ()
    wanted = {normal_ip(ip) for ip in (host.data_ip, host.mgmt_ip) if ip}
    return tuple(
        run(
            f"{_METHOD}{device.name}",
            *("nmcli", "-g", "ipv4.method,ipv6.method", "connection", "show", "id", device.connection),
            timeout=5.0,
        )
        for device in managed_devices(devices)
        if wanted.intersection(device.addresses)
    )


def _address(interface: str, row: object) -> Address | None:
    cells = table(row)
    if cells is None:
        return None
    ip, prefix, valid = text(cells.get("local")), whole(cells.get("prefixlen")), whole(cells.get("valid_life_time"))
    if ip is None or prefix is None:
        return None
    return Address(
        interface=interface,
        ip=ip,
        prefix=prefix,
        scope=text(cells.get("scope")) or "",
        dynamic=cells.get("dynamic") is True,
        valid_seconds=None if valid is None or valid >= FOREVER else valid,
    )


def _interface(row: object) -> Interface | None:
    cells = table(row)
    name = text(cells.get("ifname")) if cells else None
    if cells is None or name is None:
        return None
    flags = rows(cells.get("flags")) or []
    found = (_address(name, entry) for entry in rows(cells.get("addr_info")) or [])
    return Interface(
        name=name,
        index=whole(cells.get("ifindex")) or 0,
        mac=(text(cells.get("address")) or "").lower(),
        mtu=whole(cells.get("mtu")),
        up="UP" in flags and "NO-CARRIER" not in flags,
        addresses=tuple(a for a in found if a is not None),
    )


def _from_json(raw: Raw) -> tuple[Interface, ...] | Missing:
    output = raw.text("addresses.ip")
    if isinstance(output, Missing):
        return output
    try:
        listed = rows(json.loads(output))
    except (ValueError, RecursionError):
        return garbled(raw, "addresses.ip", "the output is not JSON")
    interfaces = tuple(i for i in map(_interface, listed or []) if i is not None)
    return interfaces or garbled(raw, "addresses.ip", "the output names no interface")


_HEAD = re.compile(r"^(\d{1,9}): ([^:@\s]+)\S* <([^>]*)>(?:.*? mtu (\d{1,9}))?", re.ASCII)
_ETHER = re.compile(r"^\s+link/\S+ ([0-9a-fA-F:]+)")
_INET = re.compile(r"^\s+inet6? ([0-9a-fA-F:.]+)(?:/(\d{1,3}))?(.*)$", re.ASCII)
_LIFETIME = re.compile(r"valid_lft (\d{1,12})sec", re.ASCII)


def _from_text(raw: Raw) -> tuple[Interface, ...] | Missing:
    """The same from `ip addr` of an iproute2 or busybox that knows no JSON."""
    output = raw.text("addresses.text")
    if isinstance(output, Missing):
        return output
    interfaces: list[Interface] = []
    for line in output.splitlines():
        if head := _HEAD.match(line):
            flags = head[3].split(",")
            mtu = int(head[4]) if head[4] else None
            up = "UP" in flags and "NO-CARRIER" not in flags
            interfaces.append(Interface(head[2], int(head[1]), "", mtu, up, ()))
        elif interfaces:
            interfaces[-1] = _with_line(interfaces[-1], line)
    return tuple(interfaces) or garbled(raw, "addresses.text", "the output names no interface")


def _with_line(interface: Interface, line: str) -> Interface:
    if ether := _ETHER.match(line):
        return replace(interface, mac=ether[1].lower())
    if inet := _INET.match(line):
        words = inet[3].split()
        scope = words[words.index("scope") + 1] if "scope" in words[:-1] else ""
        prefix = int(inet[2]) if inet[2] else (128 if ":" in inet[1] else 32)
        address = Address(interface.name, inet[1], prefix, scope, "dynamic" in words, None)
        return replace(interface, addresses=(*interface.addresses, address))
    if (lifetime := _LIFETIME.search(line)) and interface.addresses:
        last = replace(interface.addresses[-1], valid_seconds=int(lifetime[1]))
        return replace(interface, addresses=(*interface.addresses[:-1], last))
    return interface


def _unread(raw: Raw, names_key: str, files_key: str) -> Sequence[str]:
    """Configuration files that exist and could not be read."""
    names, files = raw.stats(names_key), raw.files(files_key)
    if isinstance(names, Missing):
        return ()
    return sorted(set(names) - (set() if isinstance(files, Missing) else set(files)))


def parse(raw: Raw) -> AddressFacts:
    interfaces = _from_json(raw)
    if isinstance(interfaces, Missing):
        plain = _from_text(raw)
        interfaces = interfaces if isinstance(plain, Missing) and plain.reason is Reason.NOT_RUN else plain
    merged = raw.text("addresses.netplan")
    configured: list[Configured] = []
    unread = [*_unread(raw, "addresses.networkd_names", "addresses.networkd")]
    if isinstance(merged, Missing):
        unread += _unread(raw, "addresses.netplan_names", "addresses.netplan_files")
    documents = {} if isinstance(merged, Missing) else {"netplan get": merged}
    readers = (("addresses.networkd", networkd), ("addresses.ifupdown", ifupdown), ("addresses.sysconfig", sysconfig))
    for source, content in (documents or _files(raw, "addresses.netplan_files")).items():
        found = netplan(source, content)
        if isinstance(found, Missing):
            unread.append(source)
        else:
            configured += found
    for key, reader in readers:
        for source, content in _files(raw, key).items():
            configured += reader(source, content)
    devices = raw.text("addresses.nmcli")
    if not isinstance(devices, Missing):
        methods = {key[len(_METHOD) :]: raw.text(key) for key in raw.answers if key.startswith(_METHOD)}
        known = {name: method for name, method in methods.items() if not isinstance(method, Missing)}
        configured += (networkmanager(device, known.get(device.name)) for device in managed_devices(devices))
    return AddressFacts(interfaces, tuple(configured), tuple(unread))


def _files(raw: Raw, key: str) -> dict[str, str]:
    files = raw.files(key)
    return {} if isinstance(files, Missing) else dict(files)


GROUP = Group("addresses", AddressFacts, ops, parse, more)
