"""A made-up file system: layers of paths, some shared between hosts, and the collector's wildcards over them."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache

INSTALLED_AT = 1_750_000_000.0
"""mtime of everything, in seconds since the epoch."""
LOGIN_UID = 1001
"""The user that sessions belong to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with its content, a symbolic link with its `target`, or a directory; `mode` as in st_mode.

    With `head` a file of `size` bytes of which only the beginning exists.
    """

    content: str = ""
    target: str | None = None
    mode: int = stat.S_IFREG | 0o644
    uid: int = 0
    gid: int = 0
    head: bytes | None = None
    size: int = 0

    @property
    def data(self) -> bytes:
        """What there is of a file's bytes."""
        return self.content.encode() if self.head is None else self.head

    @property
    def length(self) -> int:
        """Bytes of it, as stat tells."""
        if stat.S_ISDIR(self.mode):
            return 4096
        return self.size if self.head is not None else len((self.content or self.target or "").encode())

    @property
    def readable(self) -> bool:
        """Whether the login user may read it."""
        return bool(self.mode & (stat.S_IRUSR if self.uid == LOGIN_UID else stat.S_IROTH))

    @property
    def row(self) -> list[float]:
        """As the operation LISTING answers: mode, uid, gid, size, mtime."""
        return [self.mode, self.uid, self.gid, self.length, INSTALLED_AT]


def link(target: str) -> Entry:
    return Entry(target=target, mode=stat.S_IFLNK | 0o777)


def folder(mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    return Entry(mode=stat.S_IFDIR | mode, uid=uid, gid=gid)


Entries = Mapping[str, Entry | str]
"""Path → entry; plain text is a file of root's that everybody may read."""

_FOLDER = folder()


class Layer:
    """Part of a file system. Parents of its paths exist by themselves; what has paths below it may also be a link."""

    def __init__(self, entries: Entries) -> None:
        self._entries = {path: Entry(what) if isinstance(what, str) else what for path, what in entries.items()}
        self._below: dict[str, set[str]] = {"": set()}
        self._found: dict[str, tuple[str, ...]] = {}
        for path in self._entries:
            parts = path.strip("/").split("/") if path != "/" else []
            place = ""
            for part in parts:
                self._below.setdefault(place, set()).add(part)
                place += f"/{part}"

    def entry(self, path: str) -> Entry | None:
        found = self._entries.get(path)
        return _FOLDER if found is None and path.rstrip("/") in self._below else found

    def glob(self, pattern: str) -> tuple[str, ...]:
        """The paths that match an absolute pattern. Layers are shared by many hosts, so answers are kept."""
        if pattern not in self._found:
            places = [""]
            for part in pattern.strip("/").split("/"):
                places = [f"{place}/{name}" for place in places for name in self._matching(place, part)]
            self._found[pattern] = tuple(places)
        return self._found[pattern]

    def _matching(self, place: str, part: str) -> Sequence[str]:
        names = self._below.get(place, set())
        if not any(mark in part for mark in "*?["):
            return (part,) if part in names else ()
        wanted = _wildcard(part)
        return [n for n in names if wanted.match(n) and (part.startswith(".") or not n.startswith("."))]


@cache
def _wildcard(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))


@dataclass(frozen=True, slots=True)
class Tree:
    """A host's file system. What a later layer says of a path goes before what an earlier one says."""

    layers: tuple[Layer, ...]

    def entry(self, path: str) -> Entry | None:
        found: Entry | None = None
        for layer in self.layers:
            here = layer.entry(path)
            if here is not None and (here is not _FOLDER or found is None):
                found = here
        return found

    def below(self, path: str) -> list[str]:
        """Every path under a directory, sorted, as it is called from there."""
        found: set[str] = set()
        waiting = [path.rstrip("/")]
        while waiting:
            place = waiting.pop()
            inner = self.glob([f"{place}/*", f"{place}/.*"])
            found.update(inner)
            waiting += inner
        return sorted(each[len(path.rstrip("/")) + 1 :] for each in found)

    def glob(self, patterns: Sequence[str]) -> list[str]:
        """Every path that matches one of the patterns, sorted, once."""
        return sorted({path for pattern in patterns for layer in self.layers for path in layer.glob(pattern)})
