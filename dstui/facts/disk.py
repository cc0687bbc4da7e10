"""Block devices of a host: which are local disks, which of them are solid state, what joins them, how worn they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import by_directory, garbled, whole_or_none
from dstui.facts.raw import Missing, Op, Raw, glob, links, listing, own_process, run
from dstui.facts.untyped import command, table, whole
from dstui.model import Reason

_ATTRIBUTES = ("size", "queue/rotational", "removable", "ro", "device/model", "device/vendor", "device/transport")
_SERIALS = ("wwid", "device/wwid")
_FILE = re.compile(r"/sys/block/([^/]+)/(.+)")
_HOLDER = re.compile(r"/sys/block/([^/]+)/(?:[^/]+/)?holders/([^/]+)")
_LAYERED = re.compile(r"(?:loop|ram|zram|dm-|md|sr|nbd|rbd|drbd|fd|zd|bcache|mtdblock|nullb|ublk)", re.ASCII)
"""Not disks of their own: memory, images, and layers over other disks, which would be counted twice."""
_HIDDEN_NVME_PATH = re.compile(r"nvme\d+c\d+n\d+", re.ASCII)
_NETWORK_TRANSPORTS = frozenset({"iscsi", "fc", "fcoe", "nvme-tcp", "nvme-rdma", "nvme-fc", "tcp", "rdma"})
_SUBSYSTEM = re.compile(r"/nvme-subsystem/([^/]+)/")
"""An NVMe namespace with several paths; only its controllers tell which way they go."""
_NETWORK_PATH = re.compile(r"/session\d+/|/rport-|/nvme-fabrics/", re.ASCII)
_VIRTUAL_NAME = re.compile(r"(?:vd|xvd)[a-z]+", re.ASCII)
_VIRTUAL_MODEL = re.compile(
    r"QEMU|Virtual|VBOX|MSFT|VMware|PersistentDisk|Elastic Block Store|"
    # LUNs of RAID controllers: Dell PERC, LSI/Broadcom MegaRAID, HPE Smart Array, Adaptec, Lenovo, Cisco
    r"PERC|MegaRAID|\bMR\d{4}|LOGICAL VOLUME|\bRAID|ServeRAID|\bASR\d|UCSC-",
    re.IGNORECASE | re.ASCII,
)
_MOST_WEAR_QUERIES = 32


@dataclass(frozen=True, slots=True)
class Wear:
    """NVMe health: percent of rated endurance used, and the critical-warning bits (0 is healthy)."""

    percentage_used: int
    critical_warning: int


@dataclass(frozen=True, slots=True)
class Disk:
    """One local disk. `rotational` is what the kernel says, None when it does not; `virtual` covers RAID LUNs too."""

    name: str
    bytes: int
    rotational: bool | None
    virtual: bool
    model: str
    transport: str
    holders: frozenset[str]
    wear: Wear | Missing


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """`local` are the disks that count; `left_out` is why each other device does not, by name."""

    local: tuple[Disk, ...] | Missing
    left_out: Mapping[str, str]
    zpool_members: frozenset[str]


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (
        glob("disk.block", *(f"/sys/block/*/{name}" for name in (*_ATTRIBUTES, *_SERIALS)), each=256),
        links("disk.path", "/sys/block/*"),
        glob("disk.controllers", "/sys/class/nvme-subsystem/*/nvme*/transport", each=64),
        listing("disk.holders", "/sys/block/*/holders/*", "/sys/block/*/*/holders/*"),
        run("disk.lsblk", "lsblk", "-J", "-b", "-d", "-o", "NAME,TYPE,SIZE,ROTA,TRAN,MODEL", timeout=5.0),
        listing("disk.zfs", "/proc/spl/kstat/zfs/*/state"),
        own_process("disk.self"),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    wanted: list[Op] = []
    pools = raw.stats("disk.zfs")
    if not isinstance(pools, Missing) and pools:
        wanted.append(run("disk.zpool", "zpool", "list", "-v", "-H", "-P", "-L", timeout=5.0))
    own, found = raw.value("disk.self"), raw.files("disk.block")
    if isinstance(own, dict) and own.get("uid") == 0 and not isinstance(found, Missing):
        names = sorted(name for name in by_directory(found, _FILE) if re.fullmatch(r"nvme\d+n\d+", name, re.ASCII))
        for name in names[:_MOST_WEAR_QUERIES]:
            device = f"/dev/{name}"
            wanted.append(run(f"disk.nvme.{name}", "nvme", "smart-log", device, "-o", "json", timeout=5.0))
            wanted.append(run(f"disk.smart.{name}", "smartctl", "-j", "-A", device, timeout=5.0))
    return tuple(wanted)


def _lsblk(raw: Raw) -> dict[str, dict[str, object]]:
    """Rows of lsblk by name; empty when it is not there, for sysfs alone decides then."""
    text = raw.text("disk.lsblk")
    if isinstance(text, Missing):
        return {}
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    rows = answer.get("blockdevices") if isinstance(answer, dict) else None
    return {
        str(row["name"]): row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and "name" in row
    }


def _why_left_out(name: str, row: Mapping[str, str], transport: str, path: str) -> str | None:
    if _LAYERED.match(name) or _HIDDEN_NVME_PATH.fullmatch(name):
        return "not a disk of its own"
    if whole_or_none(row.get("size")) == 0:
        return "no medium"
    if row.get("removable") == "1":
        return "removable"
    if row.get("ro") == "1":
        return "read-only"
    if transport in _NETWORK_TRANSPORTS or _NETWORK_PATH.search(path + "/"):
        return f"over the network ({transport or 'by its path'})"
    return None


def _subsystem_transport(raw: Raw, path: str) -> str | None:
    """How an NVMe namespace with several paths is reached: by the controller that is not local, if there is one."""
    found, place = raw.files("disk.controllers"), _SUBSYSTEM.search(path)
    if isinstance(found, Missing) or place is None:
        return None
    transports = {text.strip() for file, text in found.items() if f"/{place[1]}/" in file}
    return next(iter(sorted(transports - {"pcie"})), "pcie") if transports else None


def _wear(raw: Raw, name: str) -> Wear | Missing:
    missing = Missing(Reason.PERMISSION, "wear is read by root only")
    for key in (f"disk.nvme.{name}", f"disk.smart.{name}"):
        # smartctl's exit code is a set of bits, not zero just when a drive is failing
        answer = command(raw, key)
        if isinstance(answer, Missing):
            missing = answer if answer.reason is not Reason.NOT_RUN else missing
            continue
        try:
            log = table(json.loads(answer.output)) or {}
        except (ValueError, RecursionError):
            log = {}
        log = table(log.get("nvme_smart_health_information_log")) or log
        warning, used = whole(log.get("critical_warning")), whole(log.get("percentage_used", log.get("percent_used")))
        if warning is not None and used is not None:
            return Wear(used, warning)
        missing = garbled(key, answer.output or answer.error)
    return missing


def _local(raw: Raw) -> tuple[tuple[Disk, ...] | Missing, dict[str, str]]:
    files, paths = raw.files("disk.block"), raw.files("disk.path")
    if isinstance(files, Missing):
        return files, {}
    by_name = {name: row for name, row in by_directory(files, _FILE).items() if "size" in row}
    if not by_name:
        return Missing(Reason.CANNOT_TELL, "/sys/block lists no device"), {}
    if isinstance(paths, Missing):
        # lsblk calls NVMe over TCP plain `nvme`: without its path a disk of the network would pass for a local one.
        return paths, {}
    targets = {path.rsplit("/", 1)[-1]: target for path, target in paths.items()}
    rows, holders = _lsblk(raw), _holders(raw)
    local: list[Disk] = []
    left_out: dict[str, str] = {}
    seen: dict[tuple[str, str], str] = {}
    for name, row in sorted(by_name.items()):
        path = targets.get(name, "")
        transport = _transport(raw, row, rows.get(name, {}), path)
        serial = row.get("wwid") or row.get("device/wwid") or ""
        first = seen.setdefault((serial, row["size"]), name) if serial else name
        why = _why_left_out(name, row, transport, path) or (f"another path to {first}" if first != name else None)
        if why:
            left_out[name] = why
            continue
        if not transport and _SUBSYSTEM.search(path):
            return Missing(Reason.CANNOT_TELL, f"sysfs does not tell how {name} is attached"), left_out
        sectors = whole_or_none(row["size"])
        if sectors is None or sectors < 0:
            return garbled(f"/sys/block/{name}/size", row["size"]), left_out
        model = " ".join((row.get("device/model") or str(rows.get(name, {}).get("model") or "")).split())
        local.append(
            Disk(
                name=name,
                # the kernel counts in sectors of 512 bytes whatever the disk's own sector size
                bytes=sectors * 512,
                rotational={"0": False, "1": True}.get(row.get("queue/rotational", "")),
                virtual=_is_virtual(name, f"{row.get('device/vendor', '')} {model}", path),
                model=model,
                transport=transport,
                holders=holders.get(name, frozenset()),
                wear=_wear(raw, name),
            )
        )
    return tuple(local), left_out


def _transport(raw: Raw, row: Mapping[str, str], told: Mapping[str, object], path: str) -> str:
    """The kernel's own word before lsblk's, which is `nvme` for NVMe over TCP as well."""
    subsystem = _subsystem_transport(raw, path)
    if subsystem is None and _SUBSYSTEM.search(path):
        return ""
    words = (row.get("device/transport"), subsystem, told.get("tran"))
    return next((str(word).lower() for word in words if word), "")


def _is_virtual(name: str, described: str, path: str) -> bool:
    return bool(_VIRTUAL_NAME.fullmatch(name) or _VIRTUAL_MODEL.search(described) or "/virtio" in path)


def _holders(raw: Raw) -> dict[str, frozenset[str]]:
    found = raw.stats("disk.holders")
    holders: dict[str, set[str]] = {}
    for path in {} if isinstance(found, Missing) else found:
        if match := _HOLDER.fullmatch(path):
            holders.setdefault(match[1], set()).add(match[2])
    return {name: frozenset(held) for name, held in holders.items()}


def _zpool_members(raw: Raw, disks: tuple[Disk, ...] | Missing) -> frozenset[str]:
    text = raw.text("disk.zpool")
    if isinstance(text, Missing) or isinstance(disks, Missing):
        return frozenset()
    devices = set(re.findall(r"(?:^|\s)/dev/(\S+)", text))
    return frozenset(
        disk.name
        for disk in disks
        if any(re.fullmatch(re.escape(disk.name) + r"(?:p?\d+)?", device) for device in devices)
    )


def parse(raw: Raw) -> DiskFacts:
    local, left_out = _local(raw)
    return DiskFacts(local, left_out, _zpool_members(raw, local))


GROUP = Group("disk", DiskFacts, ops, parse, more)
