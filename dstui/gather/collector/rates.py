"""What /proc and /sys say of a host, as rates between two readings. Nothing in `HostReading` can block."""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NET = "/sys/class/net/"
RDMA = "/sys/class/infiniband/"
MOST_INTERFACES = 32
MOST_BYTES = 1024 * 1024
CLASSIFY_SECONDS = 60.0
SPEED_SECONDS = 10.0
LANE_BYTES = 4
"""port_xmit_data and port_rcv_data count in units of four bytes (InfiniBand specification, PortCounters)."""
STUCK_COUNTER = 0xFFFFFFFF
"""Where the 32-bit counters of old adapters stop; from then on they say nothing."""
UNKNOWN_SPEEDS = (65535, 4294967295)
"""SPEED_UNKNOWN of old drivers, as the kernel prints it unsigned (Mbit/s)."""


def content(path: str, limit: int = MOST_BYTES) -> "bytes | None":
    """The first `limit` bytes of a file; None when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        chunks = []
        while limit > 0:
            chunk = os.read(fd, min(limit, 65536))
            if not chunk:
                break
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    except OSError:
        return None
    finally:
        os.close(fd)


def whole(path: str) -> "int | None":
    """A file that holds one whole number."""
    try:
        return int(content(path, 64) or b"")
    except ValueError:
        return None


def names(path: str) -> "list[str]":
    """What lies in a directory; nothing when it is not there."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


class Meter:
    """Counters by name, as rates per second between two readings. One that went back gives None: it was reset."""

    def __init__(self) -> None:
        self._at = 0.0
        self._before: "dict[str, int]" = {}

    def rates(self, now: float, counters: "dict[str, int]") -> "dict[str, float | None]":
        """The rates since the reading before; None for a counter that was not in it."""
        seconds = now - self._at
        found: "dict[str, float | None]" = {}
        for name, count in counters.items():
            before = self._before.get(name)
            grown = None if before is None or seconds <= 0 else count - before
            found[name] = None if grown is None or grown < 0 else round(grown / seconds, 1)
        self._at, self._before = now, counters
        return found


class HostReading:
    """CPU, memory, swap and network of this host. `read` gives what lies between its call and the one before."""

    def __init__(self) -> None:
        self._cpu: "tuple[int, int] | None" = None
        self._meter = Meter()
        self._chosen: "dict[str, bool]" = {}
        self._classified = 0.0

    def read(self, now: float) -> "dict[str, object]":
        """The host's part of a sample: %, bytes, pages/s, bytes/s; what cannot be told is None."""
        row: "dict[str, object]" = {"cpu": self._busy(), "load1": _load(), "cpus": _cpus()}
        row.update(_memory())
        counters = _table(content("/proc/vmstat"), ("pswpin", "pswpout", "oom_kill"))
        row["oom_kill"] = counters.pop("oom_kill", None)
        interfaces = self._interfaces(now)
        for name, (received, sent) in interfaces.items():
            counters["rx " + name] = received
            counters["tx " + name] = sent
        rates = self._meter.rates(now, counters)
        row["swap_in"], row["swap_out"] = rates.get("pswpin"), rates.get("pswpout")
        row["net"] = {
            name: {"rx": rates["rx " + name], "tx": rates["tx " + name], "speed": None} for name in interfaces
        }
        return row

    def _busy(self) -> "float | None":
        fields = (content("/proc/stat", 65536) or b"").split(b"\n", 1)[0].split()
        try:
            # guest time is in user time already; a wait for a disk is no work
            ticks = [int(field) for field in fields[1:9]]
            total, idle = sum(ticks), ticks[3] + ticks[4]
        except (ValueError, IndexError):
            self._cpu = None
            return None
        before, self._cpu = self._cpu, (total, idle)
        if before is None or total <= before[0]:
            return None
        share = 1.0 - float(idle - before[1]) / (total - before[0])
        return round(100.0 * min(1.0, max(0.0, share)), 1)

    def _interfaces(self, now: float) -> "dict[str, tuple[int, int]]":
        found: "dict[str, tuple[int, int]]" = {}
        for line in (content("/proc/net/dev") or b"").split(b"\n")[2:]:
            name, colon, rest = line.partition(b":")
            fields = rest.split()
            if colon and len(fields) >= 9:
                try:
                    found[name.strip().decode("ascii", "replace")] = int(fields[0]), int(fields[8])
                except ValueError:
                    continue
        if now - self._classified > CLASSIFY_SECONDS or any(name not in self._chosen for name in found):
            self._chosen, self._classified = chosen(found), now
        return {name: found[name] for name in found if self._chosen[name]}


def chosen(interfaces: "Iterable[str]") -> "dict[str, bool]":
    """Which interfaces carry the host's own traffic: cards and bonds, not the many that containers have.

    Where there is no card (a container, a namespace) all count but the loopback.
    """
    known = {
        name: os.path.exists(NET + name + "/device") or os.path.exists(NET + name + "/bonding") for name in interfaces
    }
    if not any(known.values()):
        known = {name: name != "lo" for name in known}
    kept = [name for name in known if known[name]][:MOST_INTERFACES]
    return {name: name in kept for name in known}


def _cpus() -> "int | None":
    try:
        return os.sysconf("SC_NPROCESSORS_ONLN")
    except (ValueError, OSError):
        return None


def _load() -> "float | None":
    try:
        return float((content("/proc/loadavg", 256) or b"").split(b" ", 1)[0])
    except ValueError:
        return None


def _table(text: "bytes | None", wanted: "Iterable[str]") -> "dict[str, int]":
    """`name number` or `name: number kB` lines, only the wanted ones."""
    found: "dict[str, int]" = {}
    text = b"\n" + (text or b"")
    for name in wanted:
        _, mark, rest = text.partition(b"\n" + name.encode("ascii"))
        fields = rest.split(b"\n", 1)[0].lstrip(b":").split()
        # The name may be the beginning of a longer one.
        if mark and fields and rest[:1] in (b" ", b":", b"\t"):
            try:
                found[name] = int(fields[0])
            except ValueError:
                continue
    return found


def _memory() -> "dict[str, object]":
    table = _table(content("/proc/meminfo"), ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree"))
    total, free = table.get("SwapTotal"), table.get("SwapFree")
    sizes = {name: value * 1024 for name, value in table.items()}
    return {
        "mem_total": sizes.get("MemTotal"),
        "mem_available": sizes.get("MemAvailable"),
        "swap_used": None if total is None or free is None else max(0, total - free) * 1024,
    }


class Devices:
    """What only the drivers of network cards know: link speeds and RDMA counters. Asked in a child: they can hang."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._speeds_at = None  # type: float | None
        self._speeds: "dict[str, int | None]" = {}
        self._rates: "dict[str, int | None]" = {}

    def look(self) -> "dict[str, object]":
        """`{"speeds": {interface: bit/s | None}, "rdma": {"mlx5_0/1": {"rx", "tx", "speed"}}}`."""
        now = time.monotonic()
        ports = [
            (device + "/" + port, RDMA + device + "/ports/" + port)
            for device in names(RDMA)
            for port in names(RDMA + device + "/ports")
        ][:MOST_INTERFACES]
        if self._speeds_at is None or now - self._speeds_at >= SPEED_SECONDS:
            self._speeds_at = now
            kept = chosen(names(NET))
            self._speeds = {name: net_speed(NET + name) for name in kept if kept[name]}
            self._rates = {name: rdma_speed(path) for name, path in ports}
        counters: "dict[str, int]" = {}
        for name, path in ports:
            for way, file in (("rx", "rcv"), ("tx", "xmit")):
                count = whole("%s/counters/port_%s_data" % (path, file))
                if count is not None and count != STUCK_COUNTER:
                    counters[way + " " + name] = count * LANE_BYTES
        rates = self._meter.rates(time.monotonic(), counters)
        rdma = {
            name: {"rx": rates.get("rx " + name), "tx": rates.get("tx " + name), "speed": self._rates.get(name)}
            for name, _ in ports
        }
        return {"speeds": self._speeds, "rdma": rdma}


def net_speed(folder: str) -> "int | None":
    """bit/s of an interface; None when it is down, virtual, or does not say (-1, EINVAL, 4294967295)."""
    speed = whole(folder + "/speed")
    return None if speed is None or speed <= 0 or speed in UNKNOWN_SPEEDS else speed * 1000000


def rdma_speed(folder: str) -> "int | None":
    """bit/s of an RDMA port (`400 Gb/sec (4X NDR)`); None when it is not active: then `rate` means nothing."""
    words = (content(folder + "/rate", 256) or b"").split()
    if b"ACTIVE" not in (content(folder + "/state", 64) or b"").split() or len(words) < 2 or words[1] != b"Gb/sec":
        return None
    try:
        return int(float(words[0]) * 1e9)
    except (ValueError, OverflowError):
        return None
