"""Group `listeners`: which TCP ports are held on this host, by whom, and the range the kernel hands out itself."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, read, run
from dstui.facts.untyped import command, garbled
from dstui.model import Reason

_LISTEN = "0A"
_HEX = re.compile(r"[0-9A-Fa-f]+")
_USERS = re.compile(r'\("([^"]{0,64})",pid=(\d{1,10})')
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening TCP socket. `process` is None where the login user may not see whose it is."""

    address: str
    port: int
    process: str | None
    pid: int | None


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """Listening sockets, the ephemeral port range (first, last), and the ports reserved out of it as ranges."""

    listening: tuple[Listening, ...] | Missing
    ephemeral: tuple[int, int] | Missing
    reserved: tuple[tuple[int, int], ...] | Missing

    def on(self, port: int) -> tuple[Listening, ...]:
        """The sockets that listen on a port; none also when listeners could not be read."""
        return () if isinstance(self.listening, Missing) else tuple(s for s in self.listening if s.port == port)


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (
        run("listeners.ss", "ss", "-Hltnp", timeout=5.0),
        read("listeners.tcp", "/proc/net/tcp", limit=262_144),
        read("listeners.tcp6", "/proc/net/tcp6", limit=262_144),
        read("listeners.range", "/proc/sys/net/ipv4/ip_local_port_range", limit=256),
        read("listeners.reserved", "/proc/sys/net/ipv4/ip_local_reserved_ports"),
    )


def _port(word: str) -> int | None:
    return int(word) if _NUMBER.fullmatch(word) and int(word) <= 65_535 else None


def _from_ss(raw: Raw) -> tuple[Listening, ...] | Missing:
    found = command(raw, "listeners.ss")
    if isinstance(found, Missing):
        return found
    if found.exit not in (0, None):
        return Missing(Reason.CANNOT_TELL, f"{found.source}: exit {found.exit}")
    sockets: list[Listening] = []
    for line in found.output.splitlines():
        words = line.split()
        if not words:
            continue
        address, _, digits = words[3].rpartition(":") if len(words) >= 5 and words[0] == "LISTEN" else ("", "", "")
        port = _port(digits)
        if port is None:
            return garbled(raw, "listeners.ss", f"unexpected line {line[:80]!r}")
        users = _USERS.search(line)
        bare = address.strip("[]").partition("%")[0]
        sockets.append(Listening(bare, port, users[1] if users else None, int(users[2]) if users else None))
    # Whoever came in by SSH came through a listener; an empty list is a failed look.
    return tuple(sockets) or garbled(raw, "listeners.ss", "no listening socket at all")


def _address(word: str) -> str | None:
    """The kernel's hexadecimal address: 32-bit words in host byte order, which is little-endian on these machines."""
    if len(word) not in (8, 32) or not _HEX.fullmatch(word):
        return None
    raw_words = bytes.fromhex(word)
    network = b"".join(raw_words[i : i + 4][::-1] for i in range(0, len(raw_words), 4))
    return str(ipaddress.ip_address(network))


def _from_proc(raw: Raw) -> tuple[Listening, ...] | Missing:
    sockets: list[Listening] = []
    four = raw.text("listeners.tcp")
    six = raw.text("listeners.tcp6")
    if isinstance(four, Missing):
        return four
    if "local_address" not in four:
        return garbled(raw, "listeners.tcp", "no table of sockets")
    # Without IPv6 in the kernel there is no tcp6; any other trouble would hide listeners.
    if isinstance(six, Missing) and six.reason is not Reason.CANNOT_TELL:
        return six
    for line in (*four.splitlines(), *("" if isinstance(six, Missing) else six).splitlines()):
        words = line.split()
        if len(words) < 4 or words[3] != _LISTEN:
            continue
        address, _, port = words[1].partition(":")
        bare = _address(address)
        if bare is None or not _HEX.fullmatch(port) or int(port, 16) > 65_535:
            return garbled(raw, "listeners.tcp", f"unexpected line {line[:80]!r}")
        sockets.append(Listening(bare, int(port, 16), None, None))
    return tuple(sockets) or garbled(raw, "listeners.tcp", "no listening socket at all")


def _ephemeral(raw: Raw) -> tuple[int, int] | Missing:
    content = raw.text("listeners.range")
    if isinstance(content, Missing):
        return content
    ports = [_port(word) for word in content.split()]
    if len(ports) == 2 and ports[0] is not None and ports[1] is not None and ports[0] <= ports[1]:
        return ports[0], ports[1]
    return garbled(raw, "listeners.range", "not two port numbers")


def _reserved(raw: Raw) -> tuple[tuple[int, int], ...] | Missing:
    content = raw.text("listeners.reserved")
    if isinstance(content, Missing):
        return content
    ranges: list[tuple[int, int]] = []
    for word in content.replace(",", " ").split():
        first, dash, last = word.partition("-")
        low, high = _port(first), _port(last if dash else first)
        if low is None or high is None:
            return garbled(raw, "listeners.reserved", f"unexpected {word[:40]!r}")
        ranges.append((low, high))
    return tuple(ranges)


def parse(raw: Raw) -> ListenerFacts:
    listening = _from_ss(raw)
    if isinstance(listening, Missing):
        from_proc = _from_proc(raw)
        listening = from_proc if not isinstance(from_proc, Missing) else listening
    return ListenerFacts(listening, _ephemeral(raw), _reserved(raw))


GROUP = Group("listeners", ListenerFacts, ops, parse)
