"""TREE, PIECES and SHA256: what lies under a directory, chosen parts of files, hashes of whole files.

Each runs in a child of its own that is given up when a dead share holds it.
"""

import os
import stat

from dstui.gather.collector.files import _home, _row
from dstui.gather.collector.wire import errno_name, missing, number, os_missing, path_bytes, string, text

MOST_PIECE_BYTES = 128 * 1024 * 1024
MOST_ANSWER_BYTES = 20 * 1024 * 1024
"""Of all pieces of one operation, compressed and in base64."""
BLOCK_BYTES = 1024 * 1024


def tree(args: "dict[str, object]") -> "dict[str, object]":
    """TREE: `{path, entries, depth}`; links to files are followed, links to directories are not entered."""
    path = path_bytes(_home(string(args, "path"))).rstrip(b"/") or b"/"
    most, depth = int(number(args, "entries", 20000)), int(number(args, "depth", 8))
    seen: "dict[str, object]" = {"real": None, "dev": None, "above": [], "entries": {}, "errors": {}, "error": None}
    call = "stat"
    try:
        status = os.stat(path)
        seen["dev"] = "%d:%d" % (os.major(status.st_dev), os.minor(status.st_dev))
        call = "realpath"
        real = os.path.realpath(path)
        seen["real"] = text(real)
        call = "stat of a parent"
        seen["above"] = _above(real)
        call = "opendir"
        names = os.listdir(path)
    except OSError as error:
        seen["error"] = {"call": call, "errno": errno_name(error), "message": error.strerror or str(error)}
        return {"value": seen}
    entries: "dict[str, object]" = {"": _entry(path, status, None)}
    errors: "dict[str, str]" = {}
    waiting = [(b"", names, 1)]
    while waiting:
        place, names, level = waiting.pop()
        for name in sorted(names):
            inner = place + name
            if len(entries) + len(errors) >= most:
                return missing("budget", "more than %d entries under %s" % (most, text(path)))
            try:
                found = os.lstat(path + b"/" + inner)
                link = None
                if stat.S_ISLNK(found.st_mode):
                    link = text(os.readlink(path + b"/" + inner))
                    found = os.stat(path + b"/" + inner)
                entries[text(inner)] = _entry(path + b"/" + inner, found, link)
                if stat.S_ISDIR(found.st_mode) and link is None:
                    if level >= depth:
                        return missing("budget", "more than %d levels under %s" % (depth, text(path)))
                    waiting.append((inner + b"/", os.listdir(path + b"/" + inner), level + 1))
            except OSError as error:
                errors[text(inner)] = errno_name(error)
    seen["entries"], seen["errors"] = entries, errors
    return {"value": seen}


def _above(real: bytes) -> "list[object]":
    """Type, permission bits and owner of every directory on the way, from the root on."""
    rows: "list[object]" = []
    place = os.path.dirname(real)
    while True:
        rows.insert(0, [text(place)] + _row(os.stat(place))[:3])
        if place == b"/":
            return rows
        place = os.path.dirname(place)


def _entry(path: bytes, found: os.stat_result, link: "str | None") -> "list[object]":
    access = "".join(letter for letter, way in (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK)) if os.access(path, way))
    size, moment = found.st_size, int(found.st_mtime_ns)
    return [found.st_mode, found.st_uid, found.st_gid, size, moment, found.st_ino, access, link]


def pieces(args: "dict[str, object]") -> "dict[str, object]":
    """PIECES: `{pieces: [[path, offset, length]]}`; a negative offset counts from the end of the file."""
    from base64 import b64encode
    from zlib import compress

    asked = args.get("pieces")
    if not isinstance(asked, list):
        raise TypeError("pieces is not a list")
    answers: "list[object]" = []
    total = 0
    for path, offset, length in asked:
        try:
            size, content = _piece(path_bytes(_home(path)), int(offset), int(length))
        except OSError as error:
            answers.append([None, errno_name(error)])
            continue
        packed = b64encode(compress(content, 1)).decode("ascii")
        total += len(packed)
        if total > MOST_ANSWER_BYTES:
            return missing("budget", "the pieces hold more than %d bytes, compressed" % MOST_ANSWER_BYTES)
        answers.append([size, packed])
    return {"value": answers}


def _piece(path: bytes, offset: int, length: int) -> "tuple[int, bytes]":
    if not 0 <= length <= MOST_PIECE_BYTES:
        raise ValueError("a piece of %d bytes" % length)
    fd, status = _regular(path)
    try:
        if offset < 0:
            offset = max(0, status.st_size + offset)
        parts: "list[bytes]" = []
        while length > 0:
            part = os.pread(fd, min(length, BLOCK_BYTES), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return status.st_size, b"".join(parts)
    finally:
        os.close(fd)


def _regular(path: bytes) -> "tuple[int, os.stat_result]":
    """A file opened for reading; EINVAL for what is no regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(22, "not a regular file")
    return fd, status


def sha256(args: "dict[str, object]") -> "dict[str, object]":
    """SHA256: `{path}`, read at the lowest priority of CPU and disk."""
    from hashlib import sha256 as algorithm

    path = string(args, "path")
    _stand_back()
    try:
        fd, before = _regular(path_bytes(_home(path)))
        try:
            digest = algorithm()
            length = 0
            while True:
                block = os.read(fd, BLOCK_BYTES)
                if not block:
                    break
                digest.update(block)
                length += len(block)
            after = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return os_missing(error, path)
    if length != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        return missing("cannot-tell", "%s changed while it was read" % path)
    value = {"sha256": digest.hexdigest(), "size": length, "mtime_ns": int(before.st_mtime_ns), "inode": before.st_ino}
    return {"value": value}


_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IDLE = 3 << 13


def _stand_back() -> None:
    """The lowest CPU priority, and the idle class for disks; where that cannot be had, it reads all the same."""
    os.nice(19)
    number_ = _IOPRIO_SET.get(os.uname().machine)
    if number_ is None:
        return
    try:
        import ctypes

        ctypes.CDLL(None).syscall(number_, 1, 0, _IDLE)
    except (ImportError, OSError, AttributeError):
        return
