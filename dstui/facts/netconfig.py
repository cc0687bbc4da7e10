"""What network configuration says of an interface: netplan, systemd-networkd, NetworkManager, ifupdown, ifcfg."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import yaml

from dstui.facts.raw import Missing
from dstui.facts.untyped import rows, table, text
from dstui.model import Reason


@dataclass(frozen=True, slots=True)
class Configured:
    """One stanza: which interface it is for (name patterns or MAC), the fixed addresses in it, and DHCP per family."""

    source: str
    names: tuple[str, ...] = ()
    mac: str = ""
    addresses: tuple[str, ...] = ()
    dhcp4: bool = False
    dhcp6: bool = False

    def applies_to(self, name: str, mac: str) -> bool:
        if self.mac and self.mac == mac:
            return True
        return any(fnmatchcase(name, pattern) for pattern in self.names)

    def fixes(self, ip: str) -> bool:
        """Whether this stanza gives exactly this address."""
        return ip in self.addresses

    def asks_dhcp(self, ip: str) -> bool:
        return self.dhcp6 if ":" in ip else self.dhcp4


def _bare(address: str) -> str:
    """`198.51.100.11/24` as `198.51.100.11`, in canonical spelling; empty when it is no address."""
    try:
        return str(ipaddress.ip_interface(address.strip()).ip)
    except ValueError:
        return ""


def _bare_all(addresses: list[str]) -> tuple[str, ...]:
    return tuple(ip for ip in map(_bare, addresses) if ip)


def netplan(source: str, content: str) -> tuple[Configured, ...] | Missing:
    """Stanzas of one netplan file, or of `netplan get` (the merged tree)."""
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[:1]
        return Missing(Reason.PARSE_ERROR, f"{source}: not YAML ({''.join(first)[:120]})")
    tree = table(document)
    network = table(tree.get("network")) if tree else None
    if network is None:
        return Missing(Reason.PARSE_ERROR, f"{source}: no network section")
    return tuple(_netplan_stanzas(source, network))


def _netplan_stanzas(source: str, network: Mapping[str, object]) -> Iterator[Configured]:
    for section in network.values():
        for name, definition in (table(section) or {}).items():
            stanza = table(definition)
            if stanza is None:
                continue
            match = table(stanza.get("match")) or {}
            patterns = [match.get("name") if match else name, stanza.get("set-name")]
            yield Configured(
                source=source,
                names=tuple(p for p in map(text, patterns) if p),
                mac=(text(match.get("macaddress")) or "").lower(),
                addresses=_bare_all([_netplan_address(entry) for entry in rows(stanza.get("addresses")) or []]),
                dhcp4=stanza.get("dhcp4") is True,
                dhcp6=stanza.get("dhcp6") is True,
            )


def _netplan_address(entry: object) -> str:
    """`- 10.0.0.1/24`, or the long form `- 10.0.0.1/24: {label: x}`."""
    labelled = table(entry)
    return next(iter(labelled), "") if labelled else text(entry) or ""


def _sections(content: str) -> Iterator[tuple[str, str, str]]:
    """(section, key, value) of a systemd unit-like file, in order; repeated keys stay repeated."""
    section = ""
    for line in content.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        elif "=" in stripped:
            key, _, value = stripped.partition("=")
            yield section, key.strip(), value.strip()


def networkd(source: str, content: str) -> tuple[Configured, ...]:
    """A `.network` file: `[Match] Name=` or a MAC, `[Network] DHCP=` and `Address=`."""
    names: list[str] = []
    mac = ""
    addresses: list[str] = []
    dhcp = ""
    for section, key, value in _sections(content):
        match section, key:
            case "Match", "Name":
                names += value.split()
            case "Match", "MACAddress" | "PermanentMACAddress":
                mac = value.lower()
            case "Network" | "Address", "Address":
                addresses.append(value)
            case "Network", "DHCP":
                dhcp = value.lower()
    if not names and not mac:
        return ()
    four, six = dhcp in {"yes", "true", "both", "ipv4", "v4"}, dhcp in {"yes", "true", "both", "ipv6", "v6"}
    return (Configured(source, tuple(names), mac, _bare_all(addresses), four, six),)


@dataclass(frozen=True, slots=True)
class Device:
    """A device that NetworkManager has a connection on. A lease that it holds shows as DHCP options."""

    name: str
    connection: str
    addresses: tuple[str, ...]
    lease4: bool
    lease6: bool


def managed_devices(output: str) -> tuple[Device, ...]:
    """`nmcli -t -f GENERAL.DEVICE,GENERAL.CONNECTION,IP4,DHCP4,IP6,DHCP6 device show`, connected devices only."""
    blocks: list[list[tuple[str, str]]] = []
    for line in output.splitlines():
        key, _, value = line.partition(":")
        if key == "GENERAL.DEVICE":
            blocks.append([])
        if blocks:
            blocks[-1].append((key, value.replace("\\:", ":").replace("\\\\", "\\")))
    devices = (_device(block) for block in blocks)
    return tuple(device for device in devices if device.connection not in {"", "--"})


def _device(block: list[tuple[str, str]]) -> Device:
    single = dict(block)
    return Device(
        name=single["GENERAL.DEVICE"],
        connection=single.get("GENERAL.CONNECTION", ""),
        addresses=_bare_all([v for k, v in block if k.startswith(("IP4.ADDRESS", "IP6.ADDRESS"))]),
        lease4=any(k.startswith("DHCP4.") for k, _ in block),
        lease6=any(k.startswith("DHCP6.") for k, _ in block),
    )


def networkmanager(device: Device, method_lines: str | None) -> Configured:
    """What NetworkManager says of a device: `ipv4.method` and `ipv6.method` of its connection, one a line.

    Without the methods a lease still proves DHCP, but the lack of one proves nothing.
    """
    methods = [*(method_lines or "").split(), "", ""][:2]
    fixed = tuple(ip for ip in device.addresses if methods[":" in ip] == "manual")
    return Configured(
        source=f"NetworkManager connection {device.connection[:60]}",
        names=(device.name,),
        addresses=fixed,
        dhcp4=device.lease4 or methods[0] == "auto",
        dhcp6=device.lease6 or methods[1] in {"auto", "dhcp"},
    )


def ifupdown(source: str, content: str) -> tuple[Configured, ...]:
    """Debian's /etc/network/interfaces: `iface NAME inet static|dhcp|manual` and its `address` lines."""
    found: list[Configured] = []
    for line in content.splitlines():
        words = line.split()
        if words[:1] == ["iface"] and len(words) >= 4:
            dhcp = words[3] in {"dhcp", "auto"}
            four, six = dhcp and words[2] == "inet", dhcp and words[2] == "inet6"
            found.append(Configured(source, (words[1],), dhcp4=four, dhcp6=six))
        elif words[:1] == ["address"] and len(words) >= 2 and found:
            last = found[-1]
            fixed = (*last.addresses, *_bare_all([words[1]]))
            found[-1] = Configured(source, last.names, "", fixed, last.dhcp4, last.dhcp6)
    return tuple(found)


_ASSIGNMENT = re.compile(r"^\s*([A-Z0-9_]+)=[\"']?([^\"'#]*)")


def sysconfig(source: str, content: str) -> tuple[Configured, ...]:
    """Red Hat's and SUSE's ifcfg-NAME: BOOTPROTO, IPADDR, DEVICE, HWADDR."""
    pairs = (m for m in map(_ASSIGNMENT.match, content.splitlines()) if m)
    values = {m[1]: m[2].strip() for m in pairs}
    name = values.get("DEVICE") or source.rpartition("ifcfg-")[2]
    addresses = [v for key, v in values.items() if re.fullmatch(r"IPADDR_?\d*|IPV6ADDR", key)]
    protocol = values.get("BOOTPROTO", "").lower()
    six = protocol in {"dhcp6", "dhcp+autoip"} or values.get("DHCPV6C", "").lower() == "yes"
    four = protocol in {"dhcp", "dhcp4", "bootp", "dhcp+autoip"}
    mac = values.get("HWADDR", "").lower()
    return (Configured(source, (name,) if name else (), mac, _bare_all(addresses), four, six),)
