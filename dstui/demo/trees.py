"""The collector's operations on whole directories and parts of files, on a made-up file system."""

from __future__ import annotations

import base64
import errno
import os
import stat
import zlib
from collections.abc import Callable, Mapping

from dstui.demo.storage import Mount
from dstui.demo.tree import INSTALLED_AT, Entry, Tree
from dstui.demo.weights import digest
from dstui.gather.collector.wire import os_missing

_MTIME_NS = int(INSTALLED_AT) * 10**9
_HASHED_PER_SECOND = 2e9
"""Bytes that a host says it hashed; nobody waits for it."""


def tree(files: Tree, mount: Callable[[str], Mount], path: str) -> Mapping[str, object]:
    """The value of TREE."""
    path = path.rstrip("/") or "/"
    top = files.entry(path)
    seen: dict[str, object] = {"real": None, "dev": None, "above": [], "entries": {}, "errors": {}, "error": None}
    if top is None or not stat.S_ISDIR(top.mode):
        number = errno.ENOENT if top is None else errno.ENOTDIR
        told = {"call": "stat", "errno": errno.errorcode[number], "message": os.strerror(number)}
        return seen | {"error": told}
    names = ["", *files.below(path)]
    entries = {name: _row(_entry(files, f"{path}/{name}".rstrip("/")), f"{path}/{name}") for name in names}
    return seen | {"real": path, "dev": mount(path).device, "above": _above(files, path), "entries": entries}


def _entry(files: Tree, path: str) -> Entry:
    found = files.entry(path)
    assert found is not None
    return found


def _above(files: Tree, path: str) -> list[list[object]]:
    parts = path.strip("/").split("/")[:-1]
    places = ["/", *("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))]
    rows = [(place, _entry(files, place)) for place in places]
    return [[place, entry.mode, entry.uid, entry.gid] for place, entry in rows]


def _row(entry: Entry, path: str) -> list[object]:
    access = ("r" if entry.readable else "") + ("x" if stat.S_ISDIR(entry.mode) else "")
    inode = zlib.crc32(path.encode())
    return [entry.mode, entry.uid, entry.gid, entry.length, _MTIME_NS, inode, access, entry.target]


def pieces(files: Tree, asked: object) -> list[list[object]]:
    """The value of PIECES. Raises TypeError; what is not there of a file is not given."""
    if not isinstance(asked, list):
        raise TypeError("pieces is not a list")
    found: list[list[object]] = []
    for path, offset, length in asked:
        entry = files.entry(str(path))
        if entry is None or not entry.readable or not stat.S_ISREG(entry.mode):
            found.append([None, "ENOENT" if entry is None else "EACCES"])
            continue
        begin = int(offset) if int(offset) >= 0 else max(0, entry.length + int(offset))
        piece = entry.data[begin : begin + int(length)]
        found.append([entry.length, base64.b64encode(zlib.compress(piece, 1)).decode("ascii")])
    return found


def sha256(files: Tree, path: str) -> dict[str, object]:
    """The answer to SHA256."""
    entry = files.entry(path)
    if entry is None or not entry.readable:
        number = errno.ENOENT if entry is None else errno.EACCES
        return os_missing(OSError(number, os.strerror(number)), path)
    value = {"sha256": digest(entry), "size": entry.length, "mtime_ns": _MTIME_NS, "inode": zlib.crc32(path.encode())}
    return {"value": value, "s": round(entry.length / _HASHED_PER_SECOND, 3)}
