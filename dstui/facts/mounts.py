"""What Linux says of mounts: /proc/self/mountinfo, mountstats, fstab, systemd mount units, NFS export tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dstui.facts.raw import Missing
from dstui.model import Reason

AUTOFS = "autofs"
NFS_TYPES = frozenset({"nfs", "nfs4"})
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. `root` is the path inside the filesystem that is mounted (not `/` for bind mounts).

    `options` are those of the mount and of the filesystem together.
    """

    point: str
    fstype: str
    source: str
    root: str
    device: str
    options: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """The value of `name=value`, the empty text for a bare `name`, None when it is not there."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None


def _unescaped(word: str) -> str:
    return _OCTAL.sub(lambda m: chr(int(m[1], 8)), word)


def mountinfo(content: str) -> tuple[Mount, ...] | Missing:
    """Every mount, in mount order; Missing when a line is not one (a cut or garbled file hides mounts)."""
    mounts: list[Mount] = []
    for line in content.splitlines():
        before, dash, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if not dash or len(words) < 6 or len(rest) < 2:
            return Missing(Reason.PARSE_ERROR, f"/proc/self/mountinfo: unexpected line {line[:80]!r}")
        options = dict.fromkeys((*words[5].split(","), *(rest[2] if len(rest) > 2 else "").split(",")))
        mounts.append(
            Mount(
                point=_unescaped(words[4]),
                fstype=rest[0],
                source=_unescaped(rest[1]),
                root=_unescaped(words[3]),
                device=words[2],
                options=tuple(option for option in options if option),
            )
        )
    return tuple(mounts) or Missing(Reason.PARSE_ERROR, "/proc/self/mountinfo: no mount at all")


def under(point: str, path: str) -> bool:
    """Whether `path` is `point` or lies below it."""
    return path == point or path.startswith(point.rstrip("/") + "/")


def covering(mounts: Sequence[Mount], path: str, device: str | None) -> Mount | None:
    """The mount that a path lies on: the longest mount point, the latest among equals.

    A mount whose device number is the path's own is preferred, for a later mount further up can hide a deeper one.
    """
    above = [m for m in mounts if under(m.point, path)]
    same = [m for m in above if m.device == device]
    best: Mount | None = None
    for mount in same or above:
        if best is None or len(mount.point) >= len(best.point):
            best = mount
    return best


@dataclass(frozen=True, slots=True)
class FstabEntry:
    source: str
    point: str
    fstype: str
    options: tuple[str, ...]


def fstab(content: str) -> tuple[FstabEntry, ...]:
    """The entries of /etc/fstab; swap and lines of fewer than three words are left out."""
    entries: list[FstabEntry] = []
    for line in content.splitlines():
        words = line.split()
        if len(words) >= 3 and not words[0].startswith("#") and words[1].startswith("/"):
            options = tuple(words[3].split(",")) if len(words) > 3 else ()
            point = _unescaped(words[1])
            entries.append(FstabEntry(_unescaped(words[0]), point.rstrip("/") or "/", words[2], options))
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class MountUnit:
    """A systemd `.mount` or `.automount`. `fragment` is its file, empty for a mount made by hand."""

    name: str
    state: str
    fragment: str

    @property
    def persistent(self) -> bool:
        """A unit file that is started at boot; `generated` comes from fstab, `static` is pulled in by another."""
        return bool(self.fragment) and self.state in {"enabled", "generated", "static", "indirect", "alias"}


def unit_name(path: str) -> str:
    """systemd's escaped name of a path, without suffix: `/mnt/deepseek-shared` is `mnt-deepseek\\x2dshared`."""
    trimmed = "/".join(part for part in path.split("/") if part)
    if not trimmed:
        return "-"
    escaped = ""
    for at, byte in enumerate(trimmed.encode()):
        char = chr(byte)
        if char == "/":
            escaped += "-"
        elif byte < 128 and (char.isalnum() or char in ":_" or (char == "." and at > 0)):
            escaped += char
        else:
            escaped += f"\\x{byte:02x}"
    return escaped


def mount_units(output: str) -> tuple[MountUnit, ...]:
    """Blocks of `systemctl show -p Id,UnitFileState,FragmentPath`."""
    units: list[MountUnit] = []
    for block in output.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if "Id" in values:
            units.append(MountUnit(values["Id"], values.get("UnitFileState", ""), values.get("FragmentPath", "")))
    return tuple(units)


@dataclass(frozen=True, slots=True)
class NfsHealth:
    """Totals of one NFS mount since it was mounted: operations, retransmissions, mean round trip in milliseconds."""

    point: str
    operations: int
    retransmissions: int
    rtt_ms: float | None

    @property
    def retransmit_pct(self) -> float:
        return 100.0 * self.retransmissions / self.operations if self.operations else 0.0


_DEVICE = re.compile(r"^device (\S+) mounted on (\S+) with fstype (\S+)")
_OPERATION = re.compile(r"^\s+[A-Z_0-9]+: (\d{1,19}) (\d{1,19}) \d+ \d+ \d+ \d+ (\d{1,19}) \d+", re.ASCII)


def mountstats(content: str) -> tuple[NfsHealth, ...]:
    """The NFS mounts of /proc/self/mountstats. Per operation: calls, transmissions, …, total round trip in ms."""
    found: list[NfsHealth] = []
    point, calls, sent, rtt = "", 0, 0, 0

    def close() -> None:
        if point:
            found.append(NfsHealth(point, calls, max(0, sent - calls), rtt / calls if calls else None))

    for line in content.splitlines():
        if device := _DEVICE.match(line):
            close()
            point = _unescaped(device[2]) if device[3] in NFS_TYPES else ""
            calls = sent = rtt = 0
        elif point and (operation := _OPERATION.match(line)):
            calls, sent, rtt = calls + int(operation[1]), sent + int(operation[2]), rtt + int(operation[3])
    close()
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Export:
    """One exported path to one client pattern."""

    path: str
    client: str
    options: tuple[str, ...]

    @property
    def to_the_world(self) -> bool:
        return self.client in {"*", "<world>", "0.0.0.0/0", "::/0", "", "0.0.0.0/0.0.0.0"}


_CLIENT = re.compile(r"([^\s()]*)\(([^()\s]*)\)")


def exports(content: str) -> tuple[Export, ...]:
    """/etc/exports, /var/lib/nfs/etab or `exportfs -v`, where a long path leaves its clients to the next line."""
    found: list[Export] = []
    path = ""
    for line in content.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith("/"):
            path = _unescaped(line.split()[0])
        elif line.startswith('"'):
            path = line.split('"')[1]
        clients = _CLIENT.findall(line)
        if path:
            found += [Export(path.rstrip("/") or "/", client, tuple(options.split(","))) for client, options in clients]
    return tuple(found)
