"""Mounts of the fleet: system disk, local RAID, and the share over NFS, which one host lacks."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.demo.cast import Character
from dstui.demo.commands import Ran, Tool, choosing
from dstui.demo.tree import Entries, Entry, folder
from dstui.facts.mounts import unit_name

SHARE = "/mnt/deepseek-shared"
NAS_IP = "198.51.100.250"
SOURCE = f"{NAS_IP}:/export/deepseek"
RUNTIME_USER, RUNTIME_UID = "deepseek", 1500
_OPTIONS = (
    "rw,relatime,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,nconnect=8,timeo=600,retrans=2,sec=sys"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system; sizes in blocks of `block` bytes."""

    point: str
    major: int
    minor: int
    source: str
    fstype: str
    options: str
    block: int
    blocks: int
    free: int
    inodes: int
    inodes_free: int

    @property
    def device(self) -> str:
        return f"{self.major}:{self.minor}"

    @property
    def statvfs(self) -> dict[str, int]:
        kept = self.blocks // 20 if self.fstype == "ext4" else 0
        return {
            "bsize": self.block, "frsize": self.block, "blocks": self.blocks, "bfree": self.free,
            "bavail": max(0, self.free - kept), "files": self.inodes, "ffree": self.inodes_free,
            "favail": self.inodes_free, "flag": 4096,
        }  # fmt: skip


_ROOT = Mount("/", 9, 0, "/dev/md0", "ext4", "rw,relatime,errors=remount-ro", 4096,
              460_000_000, 402_000_000, 117_000_000, 116_100_000)  # fmt: skip
_RAID = Mount("/raid", 9, 1, "/dev/md1", "ext4", "rw,relatime,stripe=1024", 4096,
              7_380_000_000, 7_310_000_000, 915_000_000, 914_900_000)  # fmt: skip
_NFS = Mount(SHARE, 0, 55, SOURCE, "nfs4", _OPTIONS, 1_048_576,
             95_367_431, 58_412_004, 6_100_000_000, 6_098_000_000)  # fmt: skip


def shm(host: Character) -> Mount:
    """The memory that processes share, half of all there is; it is on no list of disks."""
    pages = host.traits.memory_gib * (1 << 30) // 2 // 4096
    return Mount("/dev/shm", 0, 26, "tmpfs", "tmpfs", "rw,nosuid,nodev", 4096, pages, pages, pages, pages)  # noqa: S108


def mounts(host: Character) -> tuple[Mount, ...]:
    return (_ROOT, _RAID, _NFS) if host.traits.share_mounted else (_ROOT, _RAID)


def files(host: Character) -> Entries:
    shared = host.traits.share_mounted
    mounted = "".join(
        f"{28 + n} 1 {m.device} / {m.point} {m.options} shared:{n + 1} - {m.fstype} {m.source} {m.options}\n"
        for n, m in enumerate(mounts(host))
    )
    fstab = "UUID=6f1c0d1e-7b0a-4c7e-9f5a-1a2b3c4d5e6f / ext4 errors=remount-ro 0 1\n/dev/md1 /raid ext4 defaults 0 2\n"
    entries: dict[str, Entry | str] = {
        "/proc/self/mountinfo": f"22 28 0:21 / /proc rw,relatime - proc proc rw\n{mounted}",
        "/proc/self/mountstats": _mountstats(host) if shared else "device /dev/md0 mounted on / with fstype ext4\n",
        "/etc/fstab": fstab + (f"{SOURCE} {SHARE} nfs4 hard,vers=4.2,nconnect=8,_netdev 0 0\n" if shared else ""),
        "/": folder(),
        "/mnt": folder(),
        "/raid": folder(),
        "/var/lib/docker": folder(0o710),
        "/dev/shm": folder(0o1777),  # noqa: S108 - where Ray keeps its objects
        SHARE: folder(0o775, RUNTIME_UID, RUNTIME_UID),
    }
    return entries


def _mountstats(host: Character) -> str:
    return (
        "device /dev/md0 mounted on / with fstype ext4\n"
        f"device {SOURCE} mounted on {SHARE} with fstype nfs4 statvers=1.1\n"
        f"\topts:\t{_OPTIONS},clientaddr={host.data_ip}\n\tage:\t1209480\n"
        "\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)\n\tper-op statistics\n"
        "\t        NULL: 1 1 0 44 24 0 0 0 0\n"
        "\t        READ: 412300 412311 0 90706000 432345600000 900 618450 659680 0\n"
        "\t       WRITE: 18400 18400 0 19294617600 3238400 120 29440 31280 0\n"
        "\t     GETATTR: 96120 96120 0 19224000 23068800 50 28836 30758 0\n"
    )


def tools(host: Character) -> dict[str, Tool]:
    ids = f"uid={RUNTIME_UID}({RUNTIME_USER}) gid={RUNTIME_UID}({RUNTIME_USER}) groups={RUNTIME_UID}({RUNTIME_USER})"
    return {"id": choosing({RUNTIME_USER: Ran(f"{ids}\n")})}


def units(host: Character) -> dict[str, dict[str, str]]:
    """systemd's mount unit of the share, made from fstab."""
    if not host.traits.share_mounted:
        return {}
    name = f"{unit_name(SHARE)}.mount"
    fragment = f"/run/systemd/generator/{name}"
    return {name: {"UnitFileState": "generated", "ActiveState": "active", "FragmentPath": fragment}}
