"""READ, GLOB, LISTING, LINKS, PATHS and SELF: what the filesystem and the process itself can tell.

All of it runs in a child that is given up when it gets stuck.
"""

import os

from dstui.gather.collector.wire import (
    errno_name,
    missing,
    number,
    os_missing,
    path_bytes,
    string,
    strings,
    text,
)

DRAIN_BYTES = 16 * 1024 * 1024
"""How far a file is read on to learn its full length, and how much all files of one GLOB may hold together."""
UNREADABLE_SHOWN = 20
_ANY = frozenset(range(256))


def read(args: "dict[str, object]") -> "dict[str, object]":
    """READ: `{path, limit}`."""
    path = string(args, "path")
    try:
        content, length = _head(path_bytes(_home(path)), int(number(args, "limit", 65536)))
    except OSError as error:
        return os_missing(error, path)
    return {"output": text(content), "bytes": length}


def glob(args: "dict[str, object]") -> "dict[str, object]":
    """GLOB: `{patterns, each, files}` gives path → content. Files that cannot be read are named in `error`."""
    each = int(number(args, "each", 4096))
    found = Matches(args)
    contents: "dict[str, object]" = {}
    total = 0
    for path in found.paths:
        try:
            content = _head(path, each, drain=False)[0]
        except OSError as error:
            found.denied(error, path)
            continue
        total += len(content)
        if total > DRAIN_BYTES:
            return missing("budget", "the files hold more than %d bytes, not all were read" % DRAIN_BYTES)
        contents[text(path)] = text(content)
    return found.answer(contents)


def listing(args: "dict[str, object]") -> "dict[str, object]":
    """LISTING: `{patterns, files}` gives path → [mode, uid, gid, size, mtime] by lstat."""
    found = Matches(args)
    rows: "dict[str, object]" = {}
    for path in found.paths:
        try:
            rows[text(path)] = _row(os.lstat(path))
        except OSError as error:
            found.denied(error, path)
    return found.answer(rows)


def links(args: "dict[str, object]") -> "dict[str, object]":
    """LINKS: `{patterns}` gives path → target; what is no symbolic link is left out."""
    found = Matches(args)
    targets: "dict[str, object]" = {}
    for path in found.paths:
        try:
            targets[text(path)] = text(os.readlink(path))
        except OSError as error:
            found.denied(error, path)
    return found.answer(targets)


def look(args: "dict[str, object]") -> "dict[str, object]":
    """One name of a PATHS: `{path}`."""
    path = path_bytes(_home(string(args, "path")))
    seen: "dict[str, object]" = dict.fromkeys(("lstat", "stat", "dev", "parent_dev", "real", "statvfs", "error"))
    seen["access"] = ""
    call = "lstat"
    try:
        seen["lstat"] = _row(os.lstat(path))
        call = "stat"
        status = os.stat(path)
        seen["stat"] = _row(status)
        seen["dev"] = _device(status)
        call = "realpath"
        real = os.path.realpath(path)
        seen["real"] = text(real)
        seen["access"] = "".join(
            letter for letter, way in (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK)) if os.access(path, way)
        )
        call = "statvfs"
        space = os.statvfs(path)
        fields = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "flag")
        seen["statvfs"] = {field: getattr(space, "f_" + field) for field in fields}
        call = "stat of the parent"
        seen["parent_dev"] = _device(os.stat(os.path.dirname(real)))
    except OSError as error:
        seen["error"] = {"call": call, "errno": errno_name(error), "message": error.strerror or str(error)}
    return {"value": seen}


def own_process(args: "dict[str, object]") -> "dict[str, object]":
    """SELF."""
    import sys
    import time

    system = os.uname()
    client = (os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_CLIENT") or "").split()
    return {
        "value": {
            "uid": os.getuid(),
            "user": login_user(),
            "groups": _groups(),
            "home": _home("~"),
            "hostname": system.nodename,
            "kernel": system.release,
            "machine": system.machine,
            "affinity": sorted(os.sched_getaffinity(0)),
            "time": time.time(),
            "adjtimex": _adjtimex(),
            "python": "%d.%d.%d" % sys.version_info[:3],
            "controller_ip": client[0] if client else None,
            "mode": "python",
        }
    }


def login_user() -> str:
    """The name of the user that the session runs as, its number when it has no name."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _groups() -> "list[str]":
    import grp

    names = []
    for gid in [os.getgid()] + [gid for gid in os.getgroups() if gid != os.getgid()]:
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return names


def _adjtimex() -> "dict[str, object] | None":
    try:
        import ctypes
        from struct import unpack_from

        timex = ctypes.create_string_buffer(512)
        state = ctypes.CDLL(None).adjtimex(timex)
    except (ImportError, OSError, AttributeError):
        return None
    if state < 0:
        return None
    offset, maxerror, status = unpack_from("@Illlli", timex.raw)[1::2]
    nanoseconds = status & 0x2000  # STA_NANO
    return {
        "state": state,
        "status": status,
        "offset_us": offset / 1000.0 if nanoseconds else offset,
        "maxerror_us": maxerror,
    }


def _head(path: bytes, limit: int, drain: bool = True) -> "tuple[bytes, int]":
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        parts: "list[bytes]" = []
        length = 0
        while length < limit:
            part = os.read(fd, min(limit - length, 262144))
            if not part:
                return b"".join(parts), length
            parts.append(part)
            length += len(part)
        size = os.fstat(fd).st_size
        if size <= length and drain:
            # Files of /proc and /sys say that they are empty or one page long.
            while length < DRAIN_BYTES:
                more = len(os.read(fd, 262144))
                if not more:
                    break
                length += more
        return b"".join(parts), max(size, length)
    finally:
        os.close(fd)


def _home(path: str) -> str:
    if path != "~" and not path.startswith("~/"):
        return path
    home = os.environ.get("HOME")
    if not home:
        import pwd

        home = pwd.getpwuid(os.getuid()).pw_dir
    return home + path[1:]


def _row(status: os.stat_result) -> "list[float]":
    return [status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime]


def _device(status: os.stat_result) -> str:
    return "%d:%d" % (os.major(status.st_dev), os.minor(status.st_dev))


class Matches:
    """The paths that match an operation's patterns, sorted, and the places that could not be looked into."""

    def __init__(self, args: "dict[str, object]") -> None:
        self._most = int(number(args, "files", 8192))
        self._denied: "list[str]" = []
        self._forbidden = 0
        self._patterns = strings(args, "patterns")
        found: "set[bytes]" = set()
        for pattern in self._patterns:
            found.update(self._expand(path_bytes(_home(pattern))))
        self.paths = sorted(found)

    def denied(self, error: OSError, path: bytes) -> None:
        """Remember that `path` could not be looked at; one that is gone, or is no link or file, is no loss."""
        name = errno_name(error)
        if name in ("ENOENT", "ENOTDIR", "EISDIR", "EINVAL"):
            return
        if name in ("EACCES", "EPERM"):
            self._forbidden += 1
        self._denied.append("%s: %s" % (name, text(path)))

    def answer(self, table: "dict[str, object]") -> "dict[str, object]":
        """The table, unless it would be mistaken for all there is."""
        if len(self.paths) > self._most:
            return missing(
                "budget",
                "%d paths match %s, more than the %d that may be looked at"
                % (len(self.paths), " ".join(self._patterns), self._most),
            )
        said = "\n".join(self._denied[:UNREADABLE_SHOWN])
        if not table and self._denied:
            return missing("permission" if self._forbidden else "cannot-tell", said)
        return {"value": table, "error": said}

    def _expand(self, pattern: bytes) -> "list[bytes]":
        places = [b"/" if pattern.startswith(b"/") else b"."]
        fixed = b""
        for part in [part for part in pattern.split(b"/") if part]:
            if not any(mark in part for mark in (b"*", b"?", b"[")):
                fixed += b"/" + part
                continue
            places = [found for place in places for found in self._matching(place.rstrip(b"/") + fixed, part)]
            fixed = b""
        if fixed:
            places = [path for path in [place.rstrip(b"/") + fixed for place in places] if self._exists(path)]
        return places

    def _exists(self, path: bytes) -> bool:
        try:
            os.lstat(path)
        except OSError as error:
            self.denied(error, path)
            return False
        return True

    def _matching(self, place: bytes, part: bytes) -> "list[bytes]":
        try:
            names = os.listdir(place or b"/")
        except OSError as error:
            self.denied(error, place)
            return []
        wanted = _tokens(part)
        hidden = part.startswith(b".")
        return [place + b"/" + name for name in names if (hidden or name[:1] != b".") and _matches(name, wanted)]


def _tokens(part: bytes) -> "list[frozenset[int] | None]":
    """A wildcard as sets of allowed bytes; None stands for `*`."""
    tokens: "list[frozenset[int] | None]" = []
    at = 0
    while at < len(part):
        mark = part[at : at + 1]
        end = part.find(b"]", at + 2 + (part[at + 1 : at + 2] in (b"!", b"^"))) if mark == b"[" else -1
        if mark == b"*":
            tokens.append(None)
        elif mark == b"?":
            tokens.append(_ANY)
        elif end > 0:
            tokens.append(_class(part[at + 1 : end]))
            at = end
        else:
            tokens.append(frozenset(mark))
        at += 1
    return tokens


def _class(inside: bytes) -> "frozenset[int]":
    negated = inside[:1] in (b"!", b"^")
    if negated:
        inside = inside[1:]
    allowed: "set[int]" = set()
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == b"-" and at + 2 < len(inside):
            allowed.update(range(inside[at], inside[at + 2] + 1))
            at += 3
        else:
            allowed.add(inside[at])
            at += 1
    return _ANY - allowed if negated else frozenset(allowed)


def _matches(name: bytes, wanted: "list[frozenset[int] | None]") -> bool:
    at = token = 0
    retry: "tuple[int, int] | None" = None
    while at < len(name):
        allowed = wanted[token] if token < len(wanted) else frozenset()
        if allowed is None:
            token += 1
            retry = (token, at)
        elif name[at] in allowed:
            at += 1
            token += 1
        elif retry is None:
            return False
        else:
            token, at = retry[0], retry[1] + 1
            retry = (token, at)
    return all(left is None for left in wanted[token:])
