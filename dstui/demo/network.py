"""The fleet's network: a RoCE bond for data, a management port, eight InfiniBand ports, and what each host sees."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from dstui.demo.cast import Character, share
from dstui.demo.commands import Ran, Tool, choosing, printing
from dstui.demo.storage import NAS_IP
from dstui.demo.tree import Entry, Layer, link

BOND, MEMBERS, MGMT = "bond0", ("ens6f0np0", "ens6f1np1"), "eno1"
_JUMBO, _ORDINARY, _IPOIB = 9000, 1500, 4092
"""MTU of the bond, of the management port, of InfiniBand."""
_IB = tuple(f"ib{n}" for n in range(8))
DATA_NET, MGMT_NET = "198.51.100.0/24", "192.0.2.0/24"
GATEWAY = "198.51.100.1"
NAME_SERVERS = ("192.0.2.2", "192.0.2.3")
LINK_SPEEDS = {MGMT: 10**9, **dict.fromkeys(MEMBERS, 10**11), BOND: 2 * 10**11, **dict.fromkeys(_IB, 4 * 10**11)}
"""bit/s of the interfaces that carry the host's own traffic, as `interfaces` gives them in Mbit/s."""
IB_PORTS = tuple(f"mlx5_{n}/1" for n in range(8))
RDMA_SPEEDS = {"mlx5_bond_0/1": 10**11, **dict.fromkeys(IB_PORTS, 4 * 10**11)}
_FOREVER = 4_294_967_295
_LEASE_SECONDS = 43_117
_NO_ANSWER_SECONDS = 4.1
_NOT_FOUND = "[Errno -2] Name or service not known"
_MODES = {
    "roce": "25000baseCR/Full\n\t                        100000baseCR4/Full",
    "mgmt": "100baseT/Full\n\t                        1000baseT/Full",
    "ib": "",
}


@cache
def interfaces() -> Layer:
    """/sys/class/net and /sys/class/infiniband, the same in every host."""
    entries: dict[str, Entry | str] = {}
    entries |= _interface("lo", speed="", kind=772, mtu=65_536, state="unknown")
    entries |= _interface("docker0", speed="-1", kind=1, mtu=_ORDINARY, state="down", carrier=0)
    entries |= _interface(BOND, speed="200000", kind=1, mtu=_JUMBO)
    net = "/sys/class/net"
    entries |= {
        f"{net}/{BOND}/bonding/slaves": " ".join(MEMBERS) + "\n",
        f"{net}/{BOND}/bonding/mode": "802.3ad 4\n",
        f"{net}/{BOND}/bonding/active_slave": "\n",
        f"{net}/{MGMT}/device": link("../../../0000:02:00.0"),
        f"{net}/{MGMT}/device/driver": link("../../../../bus/pci/drivers/igb"),
    }
    entries |= _interface(MGMT, speed="1000", kind=1, mtu=_ORDINARY)
    for n, member in enumerate(MEMBERS):
        entries |= _interface(member, speed="100000", kind=1, mtu=_JUMBO) | _mlx5(member, f"0000:9a:00.{n}")
        entries[f"{net}/{BOND}/lower_{member}"] = link(f"../{member}")
    entries |= _rdma("mlx5_bond_0", "100 Gb/sec (4X EDR)", "Ethernet", MEMBERS)
    for n, name in enumerate(_IB):
        entries |= _interface(name, speed="400000", kind=32, mtu=_IPOIB) | _mlx5(name, f"0000:{0x18 + 8 * n:02x}:00.0")
        entries |= _rdma(f"mlx5_{n}", "400 Gb/sec (4X NDR)", "InfiniBand", (name,))
    return Layer(entries)


def _interface(
    name: str, *, speed: str, kind: int, mtu: int, state: str = "up", carrier: int = 1
) -> dict[str, Entry | str]:
    told = {"speed": speed, "operstate": state, "carrier": carrier, "mtu": mtu, "type": kind}
    return {f"/sys/class/net/{name}/{what}": f"{value}\n" for what, value in told.items()}


def _mlx5(name: str, address: str) -> dict[str, Entry | str]:
    device = f"/sys/class/net/{name}/device"
    return {device: link(f"../../../{address}"), f"{device}/driver": link("../../../../bus/pci/drivers/mlx5_core")}


def _rdma(device: str, rate: str, layer: str, netdevs: tuple[str, ...]) -> dict[str, Entry | str]:
    port = f"/sys/class/infiniband/{device}/ports/1"
    told: dict[str, Entry | str] = {
        f"{port}/rate": f"{rate}\n",
        f"{port}/state": "4: ACTIVE\n",
        f"{port}/link_layer": f"{layer}\n",
    }
    return told | {f"/sys/class/infiniband/{device}/device/net/{name}": link(f"../{name}") for name in netdevs}


def files(host: Character) -> dict[str, Entry | str]:
    return {
        "/proc/net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        f"{BOND}\t00000000\t{_little(GATEWAY)}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        f"{BOND}\t{_little('198.51.100.0')}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        f"{MGMT}\t{_little('192.0.2.0')}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
        "/proc/net/if_inet6": "00000000000000000000000000000001 01 80 10 80       lo\n"
        f"fe80000000000000063f72fffebb00{host.number:02x} 05 40 20 80    {BOND}\n",
        "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
        "/proc/sys/net/ipv4/ip_local_reserved_ports": "\n",
        "/etc/resolv.conf": "# This is /run/systemd/resolve/stub-resolv.conf managed by man:systemd-resolved(8).\n"
        "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch demo.dstui.invalid\n",
        "/etc/hosts": f"127.0.0.1 localhost\n{host.data_ip} {host.name}\n::1 ip6-localhost ip6-loopback\n",
        "/etc/netplan/50-cloud-init.yaml": Entry(_netplan(host), mode=0o100600),
    }


def _little(ip: str) -> str:
    """An IPv4 address as /proc/net/route writes it."""
    return ipaddress.IPv4Address(ip).packed[::-1].hex().upper()


def _netplan(host: Character) -> str:
    data = "      dhcp4: true\n" if host.traits.leased_address else f"      addresses: [{host.data_ip}/24]\n"
    return (
        f"network:\n  version: 2\n  ethernets:\n    {MGMT}:\n      addresses: [{host.mgmt_ip}/24]\n"
        f"      nameservers:\n        addresses: [{', '.join(NAME_SERVERS)}]\n"
        + "".join(f"    {member}: {{}}\n" for member in MEMBERS)
        + f"  bonds:\n    {BOND}:\n      interfaces: [{', '.join(MEMBERS)}]\n{data}"
        "      parameters: {mode: 802.3ad, lacp-rate: fast, mii-monitor-interval: 100}\n"
        f"      routes: [{{to: default, via: {GATEWAY}}}]\n"
    )


def _address(ip: str, prefix: int, scope: str, *, leased: bool = False) -> dict[str, object]:
    seconds = _LEASE_SECONDS if leased else _FOREVER
    row: dict[str, object] = {"family": "inet6" if ":" in ip else "inet", "local": ip, "prefixlen": prefix}
    return row | {"scope": scope, "valid_life_time": seconds, "preferred_life_time": seconds} | (
        {"dynamic": True} if leased else {}
    )  # fmt: skip


def _ip_addr(host: Character) -> list[dict[str, object]]:
    flags = {"lo": ["LOOPBACK", "UP", "LOWER_UP"], "docker0": ["NO-CARRIER", "BROADCAST", "MULTICAST", "UP"]}
    mtu = {"lo": 65_536, BOND: _JUMBO, **dict.fromkeys(MEMBERS, _JUMBO), **dict.fromkeys(_IB, _IPOIB)}
    own: Mapping[str, list[dict[str, object]]] = {
        "lo": [_address("127.0.0.1", 8, "host"), _address("::1", 128, "host")],
        MGMT: [_address(host.mgmt_ip, 24, "global")],
        BOND: [
            _address(host.data_ip, 24, "global", leased=host.traits.leased_address),
            _address(f"fe80::63f:72ff:febb:{host.number:x}", 64, "link"),
        ],
        "docker0": [_address("172.17.0.1", 16, "global")],
    }
    rows: list[dict[str, object]] = []
    for index, name in enumerate(("lo", MGMT, *MEMBERS, BOND, *_IB, "docker0"), 1):
        # The members of a bond have its hardware address.
        last = "00:00" if name == "lo" else f"{5 if name in MEMBERS else index:02x}:{host.number:02x}"
        rows.append(
            {
                "ifindex": index, "ifname": name, "operstate": "UP", "mtu": mtu.get(name, _ORDINARY),
                "flags": flags.get(name, ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]),
                "link_type": "loopback" if name == "lo" else "ether",
                "address": f"{'00:00:00:00' if name == 'lo' else '04:3f:72:bb'}:{last}", "addr_info": own.get(name, []),
            }
        )  # fmt: skip
    return rows


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What one host meets when it looks around: the other hosts by address, and what names stand for."""

    host: Character
    fleet: tuple[Character, ...]
    ssh_port: int
    down: Callable[[str], bool] = lambda _: False
    """Whether a host has no power now, by name."""
    held: tuple[tuple[str, str, int], ...] = ()
    """Address and port, process and pid of what listens beside the system's own."""

    def _at(self, ip: str) -> Character | None:
        """Who answers at an address."""
        other = next((other for other in self.fleet if ip in (other.data_ip, other.mgmt_ip)), None)
        return None if other is None or self.down(other.name) else other

    def _mtu(self, ip: str) -> int:
        return _JUMBO if ipaddress.ip_address(ip) in ipaddress.ip_network(DATA_NET) else _ORDINARY

    def _rtt(self, ip: str) -> float:
        """Milliseconds."""
        return 0.06 + 0.12 * share(f"{self.host.name}>{ip}")

    def connect(self, ip: str, port: int) -> list[object]:
        """One TCP connect as the operation CONNECT answers it."""
        other = self._at(ip)
        if other is not None and port == self.ssh_port:
            outcome = "ok" if other.traits.ssh_answers else "refused"
        else:
            outcome = "ok" if (ip, port) == (NAS_IP, 2049) else "timeout"
        return [ip, port, outcome, 2000.0 if outcome == "timeout" else round(self._rtt(ip), 3)]

    def ping(self, arguments: tuple[str, ...]) -> Ran:
        """iputils' ping with the options that dstui gives it."""
        options = dict(pairwise(arguments))
        ip, count, size = arguments[-1], int(options.get("-c", "5")), int(options.get("-s", "56"))
        other = self._at(ip)
        head = f"PING {ip} ({ip}) {size}({size + 28}) bytes of data.\n"
        if other is None or not other.traits.icmp or size + 28 > self._mtu(ip):
            tail = f"{count} packets transmitted, 0 received, 100% packet loss, time {count * 204}ms\n"
            return Ran(f"{head}\n--- {ip} ping statistics ---\n{tail}", exit=1, seconds=_NO_ANSWER_SECONDS)
        times = [self._rtt(ip) * (1 + 0.2 * share(f"{self.host.name}>{ip} {n}")) for n in range(count)]
        lines = "".join(
            f"{size + 8} bytes from {ip}: icmp_seq={n} ttl=64 time={ms:.3f} ms\n" for n, ms in enumerate(times, 1)
        )
        mean = sum(times) / count
        spread = (sum((ms - mean) ** 2 for ms in times) / count) ** 0.5
        return Ran(
            f"{head}{lines}\n--- {ip} ping statistics ---\n"
            f"{count} packets transmitted, {count} received, 0% packet loss, time {204 * (count - 1)}ms\n"
            f"rtt min/avg/max/mdev = {min(times):.3f}/{mean:.3f}/{max(times):.3f}/{spread:.3f} ms\n",
            seconds=0.2 * (count - 1),
        )

    def addresses_of(self, name: str) -> list[str]:
        """What a name resolves to: hosts of the fleet, and everything outside to one documentation address."""
        if name == "@self":
            return [self.host.data_ip]
        own = next((other.data_ip for other in self.fleet if other.name == name), None)
        return [own] if own else ["203.0.113.80"] if "." in name else []

    def resolve(self, name: str) -> dict[str, object]:
        """One name as the operation RESOLVE answers it."""
        found = self.addresses_of(name)
        ms = round(1 + 9 * share(f"{self.host.name} resolves {name}"), 2)
        return {"addresses": found, "ms": ms, "error": None if found else _NOT_FOUND}

    def query(self, server: str, name: str) -> dict[str, object]:
        """One name asked of one server as the operation DNS answers it."""
        found = self.addresses_of(name)
        ms = round(0.4 + 2 * share(f"{self.host.name} asks {server} {name}"), 2)
        return {"addresses": found, "rcode": 0 if found else 3, "ms": ms, "error": None}

    def tools(self) -> dict[str, Tool]:
        host = self.host
        return {
            "ip": self._ip,
            "ping": self.ping,
            "ethtool": _ethtool,
            "netplan": choosing({"get": Ran(_netplan(host), seconds=0.3)}),
            "resolvectl": choosing({"dns": Ran(_name_servers())}),
            "ss": printing(Ran(_listening(host, self.held))),
        }

    def _ip(self, arguments: tuple[str, ...]) -> Ran:
        if arguments == ("-j", "addr"):
            return Ran(json.dumps(_ip_addr(self.host)) + "\n")
        if arguments[:3] == ("-j", "route", "get") and len(arguments) == 4:
            return Ran(json.dumps([self._route(arguments[3])]) + "\n")
        if arguments == ("addr",):
            return Ran("".join(map(_ip_addr_text, _ip_addr(self.host))))
        return Ran(error=f"Command {' '.join(arguments)} is unknown\n", exit=255)

    def _route(self, ip: str) -> dict[str, object]:
        row: dict[str, object] = {"dst": ip, "flags": [], "uid": 1001, "cache": []}
        for network, dev, source in ((DATA_NET, BOND, self.host.data_ip), (MGMT_NET, MGMT, self.host.mgmt_ip)):
            if ipaddress.ip_address(ip) in ipaddress.ip_network(network):
                return row | {"dev": dev, "prefsrc": source}
        return row | {"gateway": GATEWAY, "dev": BOND, "prefsrc": self.host.data_ip}


def _ip_addr_text(row: Mapping[str, object]) -> str:
    flags, held = row["flags"], row["addr_info"]
    assert isinstance(flags, list) and isinstance(held, list)
    lines = [f"{row['ifindex']}: {row['ifname']}: <{','.join(flags)}> mtu {row['mtu']} qdisc mq state UP"]
    lines.append(f"    link/{row['link_type']} {row['address']}")
    for address in held:
        dynamic = " dynamic" if address.get("dynamic") else ""
        where = f"{address['local']}/{address['prefixlen']} scope {address['scope']}"
        lines.append(f"    {address['family']} {where}{dynamic}")
        seconds = address["valid_life_time"]
        lines.append(f"       valid_lft {'forever' if seconds == _FOREVER else f'{seconds}sec'}")
    return "\n".join(lines) + "\n"


def _ethtool(arguments: tuple[str, ...]) -> Ran:
    name = arguments[0] if arguments else ""
    kind = "roce" if name in MEMBERS else "mgmt" if name == MGMT else "ib" if name in _IB else None
    if kind is None:
        return Ran(error="Cannot get device settings: No such device\n", exit=71)
    speed = {"roce": "100000Mb/s", "mgmt": "1000Mb/s", "ib": "400000Mb/s"}[kind]
    modes = _MODES[kind] or "Not reported"
    return Ran(
        f"Settings for {name}:\n\tSupported link modes:   {modes}\n\tSupported pause frame use: Symmetric\n"
        f"\tSpeed: {speed}\n\tDuplex: Full\n\tLink detected: yes\n",
        error="netlink error: Operation not permitted\n",
    )


def _name_servers() -> str:
    return f"Global:\nLink 2 ({MGMT}): {' '.join(NAME_SERVERS)}\nLink 5 ({BOND}):\n"


def _listening(host: Character, held: tuple[tuple[str, str, int], ...]) -> str:
    ports = [("0.0.0.0:22", "sshd", 1312), ("*:9100", "node_exporter", 1544), ("*:9400", "dcgm-exporter", 1602)]
    if host.traits.log_shipper:
        ports.append(("127.0.0.1:9080", "promtail", 1571))
    return "".join(
        f'LISTEN 0      4096   {address:>18}      0.0.0.0:*    users:(("{process}",pid={pid},fd=3))\n'
        for address, process, pid in (*ports, *held)
    )
