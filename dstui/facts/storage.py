"""Group `storage`: the shared directory as this host sees it, the mount under it, and what keeps it there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from dstui.facts import mounts
from dstui.facts.case import Group, HostSite, Site
from dstui.facts.mounts import NFS_TYPES, Export, FstabEntry, Mount, MountUnit, NfsHealth
from dstui.facts.raw import Missing, Op, Raw, connect, glob, paths, read, run
from dstui.facts.untyped import command, garbled, rows, table, text, whole
from dstui.model import Reason

NFS_PORT = 2049
_READ_ONLY = 1
"""ST_RDONLY in statvfs' f_flag."""


@dataclass(frozen=True, slots=True)
class Inode:
    """Type and permission bits as in st_mode, owner ids."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Space:
    """statvfs in bytes: `available` is what an ordinary user may fill (f_bavail), `free` includes root's reserve.

    `inodes` is 0 on filesystems that do not count them. `fragment` bytes are the unit that the counts came in.
    """

    total: int
    free: int
    available: int
    inodes: int
    inodes_available: int
    read_only: bool

    @property
    def used_pct(self) -> float:
        """As df counts: used of what is used or available."""
        used = self.total - self.free
        return 100.0 * used / (used + self.available) if used + self.available else 100.0


@dataclass(frozen=True, slots=True)
class Look:
    """One path. `hung`: the look did not come back and was given up, and then nothing else is known.

    `error` is an errno name (`ENOENT`, `ESTALE`) with the call that gave it. `device` is st_dev as `major:minor`.
    """

    hung: bool = False
    link: Inode | None = None
    target: Inode | None = None
    device: str | None = None
    parent_device: str | None = None
    real: str | None = None
    access: str = ""
    space: Space | None = None
    error: str = ""
    call: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """Ids of the runtime user; None for both when the host does not know the user."""

    uid: int | None
    gid: int | None
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of the login user on one filesystem, in bytes; `limit` is the hard one, or the soft one if alone."""

    filesystem: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """`user` is None when the inventory names no runtime user. `server` holds connects to the NFS server's port."""

    share: Look | Missing
    around: Mapping[str, Look] | Missing
    mounts: tuple[Mount, ...] | Missing
    fstab: tuple[FstabEntry, ...] | Missing
    units: tuple[MountUnit, ...] | Missing
    health: tuple[NfsHealth, ...] | Missing
    exports: tuple[Export, ...] | Missing
    quotas: tuple[Quota, ...] | Missing
    user: User | Missing | None
    server: Mapping[str, str]

    def mount(self, shared_path: str) -> Mount | Missing | None:
        """The mount that the share lies on; None when no mount covers it."""
        if isinstance(self.mounts, Missing):
            return self.mounts
        look = None if isinstance(self.share, Missing) else self.share
        return mounts.covering(self.mounts, (look and look.real) or shared_path, look.device if look else None)

    def on_root_filesystem(self, shared_path: str) -> bool | Missing:
        """Whether writes under the share would fill the root filesystem: same device as `/`, or no mount in between."""
        mount = self.mount(shared_path)
        if isinstance(mount, Mount) and mount.point == "/":
            return True
        root = None if isinstance(self.around, Missing) else self.around.get("/")
        device = None if isinstance(self.share, Missing) else self.share.device
        if root is not None and root.device and device:
            return device == root.device
        if mount is None:
            return Missing(Reason.CANNOT_TELL, f"no mount in /proc/self/mountinfo covers {shared_path}")
        return mount if isinstance(mount, Missing) else False


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    share = site.shared_path
    unit = mounts.unit_name(share)
    around = [str(parent) for parent in PurePosixPath(share).parents] or ["/"]
    # The look comes before the table of mounts: it makes autofs mount what it holds back.
    asked = [
        paths("storage.share", share, timeout=5.0),
        paths("storage.around", *around, timeout=5.0),
        read("storage.mountinfo", "/proc/self/mountinfo", limit=1_048_576),
        read("storage.mountstats", "/proc/self/mountstats", limit=1_048_576),
        read("storage.fstab", "/etc/fstab", limit=131_072),
        run(
            "storage.units",
            *("systemctl", "show", "--no-pager", "-p", "Id,UnitFileState,FragmentPath"),
            *(f"{unit}.mount", f"{unit}.automount"),
            timeout=5.0,
        ),
        run("storage.quota", "quota", "-u", "-w", "-p", timeout=5.0),
    ]
    if site.runtime_user:
        asked.append(run("storage.user", "id", site.runtime_user, timeout=5.0))
    if "storage" in host.roles:
        asked.append(run("storage.exportfs", "exportfs", "-v", timeout=5.0, root=True))
        asked.append(
            glob("storage.exports", "/var/lib/nfs/etab", "/etc/exports", "/etc/exports.d/*.exports", each=65_536)
        )
    return tuple(asked)


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """The mounts again where autofs had not mounted the share when they were read; the NFS server's port."""
    facts = parse(raw)
    mount = facts.mount(site.shared_path)
    if not isinstance(mount, Mount):
        return ()
    if mount.fstype == mounts.AUTOFS:
        return (read("storage.mountinfo_again", "/proc/self/mountinfo", limit=1_048_576),)
    server = mount.source.rpartition(":/")[0].strip("[]")
    return (connect("storage.server", (server, NFS_PORT)),) if mount.fstype in NFS_TYPES and server else ()


def _inode(value: object) -> Inode | None:
    numbers = [whole(cell) for cell in rows(value) or []][:3]
    if len(numbers) < 3 or numbers[0] is None or numbers[1] is None or numbers[2] is None:
        return None
    return Inode(numbers[0], numbers[1], numbers[2])


def _space(value: object) -> Space | None:
    cells = table(value)
    if cells is None:
        return None
    names = ("frsize", "blocks", "bfree", "bavail", "files", "favail", "flag")
    counts = [count for count in (whole(cells.get(name)) for name in names) if count is not None and count >= 0]
    if len(counts) != len(names) or counts[0] == 0:
        return None
    unit, blocks, free, available, inodes, inodes_available, flag = counts
    return Space(blocks * unit, free * unit, available * unit, inodes, inodes_available, bool(flag & _READ_ONLY))


def _look(value: object) -> Look | None:
    cells = table(value)
    if not cells:
        return None
    if cells.get("hung") is True:
        return Look(hung=True)
    error = table(cells.get("error")) or {}
    look = Look(
        link=_inode(cells.get("lstat")),
        target=_inode(cells.get("stat")),
        device=text(cells.get("dev")),
        parent_device=text(cells.get("parent_dev")),
        real=text(cells.get("real")),
        access=text(cells.get("access")) or "",
        space=_space(cells.get("statvfs")),
        error=text(error.get("errno")) or "",
        call=text(error.get("call")) or "",
    )
    return look if look.link or look.target or look.error else None


def _looks(raw: Raw, key: str) -> Mapping[str, Look] | Missing:
    value = raw.value(key)
    if isinstance(value, Missing):
        return value
    answers = table(value)
    if not answers:
        return garbled(raw, key, "the answer is not a table of paths")
    looks: dict[str, Look] = {}
    for path, answer in answers.items():
        look = _look(answer)
        if look is None:
            return garbled(raw, key, f"neither a stat nor an error for {path[:100]}")
        looks[path] = look
    return looks


def _share(raw: Raw) -> Look | Missing:
    looks = _looks(raw, "storage.share")
    return looks if isinstance(looks, Missing) else next(iter(looks.values()))


_IDS = re.compile(r"uid=(\d{1,10})(?:\([^)]*\))? gid=(\d{1,10})", re.ASCII)
_GROUP_ID = re.compile(r"(\d{1,10})(?:\([^)]*\))?", re.ASCII)


def user_of(raw: Raw, key: str) -> User | Missing | None:
    """The ids that `id <user>` printed; None when it was not asked."""
    if key not in raw.answers:
        return None
    found = command(raw, key)
    if isinstance(found, Missing):
        return found
    ids = _IDS.search(found.output)
    if ids and found.exit in (0, None):
        groups = found.output.partition("groups=")[2].split(" context=")[0]
        return User(int(ids[1]), int(ids[2]), frozenset(int(g) for g in _GROUP_ID.findall(groups)))
    if found.exit == 1 and re.search(r"no such user|unknown user", found.error + found.output, re.IGNORECASE):
        return User(None, None, frozenset())
    return garbled(raw, key, f"exit {found.exit}, no uid in the output")


def _exports(raw: Raw) -> tuple[Export, ...] | Missing:
    printed = raw.text("storage.exportfs")
    if not isinstance(printed, Missing):
        return mounts.exports(printed)
    files = raw.files("storage.exports")
    if isinstance(files, Missing):
        return printed
    # etab holds what is exported now; /etc/exports only what should be.
    content = files.get("/var/lib/nfs/etab") or "\n".join(files.values())
    return mounts.exports(content) if files else printed


_QUOTA = re.compile(r"^\s*(\S+)\s+(\d{1,15})\*?\s+(\d{1,15})\s+(\d{1,15})\s", re.MULTILINE | re.ASCII)


def _quotas(raw: Raw) -> tuple[Quota, ...] | Missing:
    """`quota -w` in KiB; it exits 1 when a quota is exceeded, and prints it all the same."""
    found = command(raw, "storage.quota")
    if isinstance(found, Missing):
        return found
    lines = ((m[1], int(m[2]), int(m[3]), int(m[4])) for m in _QUOTA.finditer(found.output))
    return tuple(Quota(name, used * 1024, (hard or soft) * 1024) for name, used, soft, hard in lines if hard or soft)


def _server(raw: Raw) -> Mapping[str, str]:
    if "storage.server" not in raw.answers:
        return {}
    value = raw.value("storage.server")
    tries = [] if isinstance(value, Missing) else rows(value) or []
    cells = [rows(row) or [] for row in tries]
    return {str(row[0]): str(row[2]) for row in cells if len(row) >= 3}


def parse(raw: Raw) -> StorageFacts:
    table_of_mounts = raw.first("storage.mountinfo_again", "storage.mountinfo")
    units = raw.text("storage.units")
    entries = raw.text("storage.fstab")
    stats = raw.text("storage.mountstats")
    return StorageFacts(
        share=_share(raw),
        around=_looks(raw, "storage.around"),
        mounts=table_of_mounts if isinstance(table_of_mounts, Missing) else mounts.mountinfo(table_of_mounts),
        fstab=entries if isinstance(entries, Missing) else mounts.fstab(entries),
        units=units if isinstance(units, Missing) else mounts.mount_units(units),
        health=stats if isinstance(stats, Missing) else mounts.mountstats(stats),
        exports=_exports(raw),
        quotas=_quotas(raw),
        user=user_of(raw, "storage.user"),
        server=_server(raw),
    )


GROUP = Group("storage", StorageFacts, ops, parse, more)
