"""A model's directory as one host sees it: every file with size, time and permissions, and what that says of it."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.facts.raw import Missing, Raw
from dstui.facts.storage import User
from dstui.facts.untyped import garbled, rows, table, text, whole
from dstui.model import Reason

LFS_MARK = b"version https://git-lfs.github.com/spec/v1"
LFS_BYTES = 1024
"""A pointer file of git LFS is shorter than this."""
INCOMPLETE = (".incomplete", ".aria2", ".tmp", ".part", ".lock")
_CACHE = ".cache/"
"""Where downloaders keep their books; the locks there stay behind after every download that ended well."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory behind all links. `access` is what the login user may (`rwx`), `link` where a link points."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    inode: int
    access: str
    link: str | None = None

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True)
class Above:
    """A directory on the way to the model's."""

    path: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Tree:
    """`entries` and `errors` (errno names) by path below `path`; with `error` the directory itself is not to be had."""

    path: str
    real: str | None = None
    device: str | None = None
    above: tuple[Above, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    call: str = ""

    @property
    def files(self) -> Mapping[str, Entry]:
        return {name: entry for name, entry in self.entries.items() if entry.is_file}

    @property
    def size(self) -> int:
        """Bytes of all files; links into the same tree count once."""
        return sum({entry.inode: entry.size for entry in self.files.values()}.values())

    def digest(self, *, times: bool = True) -> str:
        """Equal on two hosts when they see the same names, sizes and (whole seconds of) times."""
        lines = [
            f"{name}\0{entry.size}\0{entry.mtime_ns // 10**9 if times else 0}"
            for name, entry in sorted(self.files.items())
        ]
        lines += [f"{name}\0{error}" for name, error in sorted(self.errors.items())]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def differs(self, other: Tree) -> str | None:
        """The first file that is not the same there, by name and size."""
        mine, theirs = self.files, other.files
        for name in sorted({*mine, *theirs}):
            here, there = mine.get(name), theirs.get(name)
            if here is None or there is None or here.size != there.size:
                return name
        return next((name for name in sorted({*self.errors} ^ {*other.errors})), None)

    def below(self, place: str) -> Tree:
        """The tree of a directory in it (`snapshots/<revision>`); itself for the empty path."""
        if not place:
            return self
        prefix = place.rstrip("/") + "/"

        def inside(name: str) -> bool:
            return name.startswith(prefix)

        entries = {name[len(prefix) :]: entry for name, entry in self.entries.items() if inside(name)}
        errors = {name[len(prefix) :]: error for name, error in self.errors.items() if inside(name)}
        return Tree(f"{self.path.rstrip('/')}/{place}", self.real, self.device, self.above, entries, errors)

    def unfinished(self) -> tuple[str, ...]:
        """Marks of a download that did not end."""
        return tuple(
            name
            for name in sorted({*self.files, *self.errors})
            if name.endswith(INCOMPLETE) and not (name.endswith(".lock") and (_CACHE in name or ".locks/" in name))
        )

    def revisions(self) -> tuple[str, ...]:
        """Revisions of a Hugging Face cache folder that hold a config.json."""
        found = [name.split("/") for name in {*self.entries, *self.errors} if name.startswith("snapshots/")]
        return tuple(sorted({parts[1] for parts in found if len(parts) == 3 and parts[2] == "config.json"}))


def tree_of(raw: Raw, key: str, path: str) -> Tree | Missing:
    """The answer of a TREE."""
    value = raw.value(key)
    if isinstance(value, Missing):
        return value
    cells = table(value)
    if cells is None:
        return garbled(raw, key, "the answer is no tree")
    fault = table(cells.get("error"))
    if fault is not None:
        errno, call = text(fault.get("errno")) or "?", text(fault.get("call")) or ""
        return Tree(path, text(cells.get("real")), error=errno, call=call)
    entries, errors = table(cells.get("entries")), table(cells.get("errors"))
    if entries is None or errors is None or "" not in entries:
        return garbled(raw, key, "the answer is no tree")
    found: dict[str, Entry] = {}
    for name, row in entries.items():
        entry = _entry(row)
        if entry is None:
            return garbled(raw, key, f"no stat for {name[:100]}")
        found[name] = entry
    return Tree(
        path=path,
        real=text(cells.get("real")),
        device=text(cells.get("dev")),
        above=tuple(above for row in rows(cells.get("above")) or [] if (above := _above(row)) is not None),
        entries=found,
        errors={name: str(error)[:40] for name, error in errors.items()},
    )


def _entry(row: object) -> Entry | None:
    cells = rows(row) or []
    numbers = [number for number in (whole(cell) for cell in cells[:6]) if number is not None]
    if len(cells) != 8 or len(numbers) != 6 or numbers[3] < 0:
        return None
    mode, uid, gid, size, mtime_ns, inode = numbers
    return Entry(mode, uid, gid, size, mtime_ns, inode, text(cells[6]) or "", text(cells[7]))


def _above(row: object) -> Above | None:
    cells = rows(row) or []
    numbers = [number for number in (whole(cell) for cell in cells[1:]) if number is not None]
    path = text(cells[0]) if cells else None
    return Above(path, *numbers) if path is not None and len(numbers) == 3 else None


def barred(tree: Tree, user: User) -> str | None:
    """The first directory or file that a user may not enter or read, by mode bits; access lists are not seen."""
    for above in tree.above:
        if not _may(user, above.mode, above.uid, above.gid, 0o1):
            return above.path
    for name, entry in sorted(tree.entries.items()):
        wanted = 0o5 if stat.S_ISDIR(entry.mode) else 0o4
        if not _may(user, entry.mode, entry.uid, entry.gid, wanted) and not name.startswith(_CACHE):
            return f"{tree.path.rstrip('/')}/{name}" if name else tree.path
    return None


def _may(user: User, mode: int, uid: int, gid: int, wanted: int) -> bool:
    if user.uid == 0:
        return True
    shift = 6 if user.uid == uid else 3 if gid in {user.gid, *user.groups} else 0
    return (mode >> shift) & wanted == wanted


@dataclass(frozen=True, slots=True)
class ModelLook:
    """What one host sees. `user` is the runtime user there: None when the inventory names none. `login` is who looked.

    `on_share`: whether the model's real path lies under the share's; Missing when the share could not be looked at.
    """

    tree: Tree | Missing
    user: User | Missing | None = None
    login: str = ""
    on_share: bool | Missing = field(default_factory=lambda: Missing(Reason.NOT_RUN, "the share was not looked at"))
