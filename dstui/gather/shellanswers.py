"""What the shell script of `shell.py` printed, as answers in the shape that the collector's have.

Output may be cut anywhere and may hold anything: whatever is not a whole frame counts as not answered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from dstui.facts.raw import Op

Answer: TypeAlias = dict[str, object]

DONE = b"\x1eZ\n"
"""What a script prints last; nothing that a host's files or commands hold can contain it."""

_KILLED = (124, 137)
_DENIED = re.compile(r"[^\n]*(?:Permission denied|Operation not permitted)[^\n]*")
_ERRNO = {
    "No such file or directory": "ENOENT",
    "Permission denied": "EACCES",
    "Operation not permitted": "EPERM",
    "Is a directory": "EISDIR",
    "Not a directory": "ENOTDIR",
    "Input/output error": "EIO",
    "Invalid argument": "EINVAL",
    "Stale file handle": "ESTALE",
    "Transport endpoint is not connected": "ENOTCONN",
    "Host is down": "EHOSTDOWN",
    "Too many levels of symbolic links": "ELOOP",
    "No such device": "ENODEV",
}
_SHOWN = 500


def parse(output: bytes | Iterable[bytes], ops: Sequence[Op] = ()) -> dict[str, Answer]:
    """key → answer as in the protocol's `facts`. Operations among `ops` that have none are missing(timeout)."""
    raw = output if isinstance(output, bytes) else b"".join(output)
    reading = _Reading()
    # What follows the last mark is not known to be whole, unless it is DONE.
    for frame in raw.split(b"\x1e")[1:-1]:
        reading.take(frame)
    for key in reading.begun:
        reading.answers.setdefault(key, _missing("timeout", "the host's shell did not finish this"))
    for op in ops:
        reading.answers.setdefault(op.key, _missing("timeout", "the host's shell did not get to this"))
    return reading.answers


class _Reading:
    """One pass over the frames."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.begun: dict[str, str] = {}
        self._output: dict[str, str] = {}
        self._lengths: dict[str, int] = {}
        self._tables: dict[str, dict[str, object]] = {}
        self._unread: dict[str, list[str]] = {}

    def take(self, frame: bytes) -> None:
        start, _, content = frame.partition(b"\n")
        head, body = start.decode("utf-8", "replace"), content.decode("utf-8", "replace")
        letter, _, rest = head.partition(" ")
        key, _, words = rest.partition(" ")
        if letter == "M":
            self.answers[key] = _missing(words, body)
        elif letter in ("O", "I", "G", "L", "K", "P", "U"):
            self.begun[key] = letter
            self._output[key] = body
            self._lengths[key] = len(content)
            self._tables[key] = _stats(body) if letter == "L" else {}
        elif letter == "X" and key in self.begun:
            self.answers[key] = _captured(self.begun[key], self._output[key], self._lengths[key], words.split(), body)
        elif letter == "F" and key in self._tables:
            self._file(key, words, body)
        elif letter == "N" and key in self._tables:
            name, _, fields = body.partition("\n")
            looked = _looked(fields)
            if looked is not None:
                self._tables[key][name] = looked
        elif letter == "E" and key in self.begun:
            self._end(key, body)

    def _file(self, key: str, path: str, content: str) -> None:
        if content.endswith("\x1f"):
            self._unread.setdefault(key, []).append(path)
        else:
            self._tables[key][path] = content

    def _end(self, key: str, said: str) -> None:
        letter, table = self.begun[key], self._tables[key]
        if letter == "U":
            self.answers[key] = _self(self._output[key])
        elif letter == "P":
            for name in self._output[key].splitlines():
                table.setdefault(name, {"hung": True})
            self.answers[key] = {"value": table}
        else:
            denied = _DENIED.findall(said)
            if denied and not table:
                self.answers[key] = _missing("permission", "EACCES: " + "; ".join(denied)[:_SHOWN])
            else:
                unread = [f"cannot be read: {path}" for path in self._unread.get(key, [])]
                self.answers[key] = {"value": table, "error": "\n".join(denied + unread)[:4096]}


def _missing(reason: str, why: str) -> Answer:
    return {"missing": reason, "why": why}


def _errno(said: str) -> tuple[str, str]:
    """The errno's name and the message, of what a tool printed under LC_ALL=C."""
    for words, name in _ERRNO.items():
        if words in said:
            return name, words
    return "error", said.strip()[:_SHOWN]


def _captured(letter: str, output: str, shown: int, words: list[str], error: str) -> Answer:
    if len(words) != 3 or not all(re.fullmatch(r"\d{1,18}", word) for word in words):
        return _missing("parse-error", "the host's shell printed something else than an exit code")
    code, beyond, seconds = (int(word) for word in words)
    if code in _KILLED:
        said = (output or error)[-_SHOWN:].strip()
        why = f"did not end within {seconds} s, or was killed"
        return _missing("timeout", f"{why}, so far it said: {said}" if said else why)
    if letter == "I" and code != 0:
        name = _errno(error)[0]
        return _missing(
            "permission" if name in ("EACCES", "EPERM") else "cannot-tell",
            f"{name}: {error.strip().removeprefix('cat: ')[:_SHOWN]}",
        )
    length = shown + beyond
    if letter == "I":
        return {"output": output, "bytes": length}
    return {"output": output, "error": error, "exit": code if code < 128 else 128 - code, "bytes": length}


def _stats(body: str) -> dict[str, object]:
    table: dict[str, object] = {}
    for line in body.splitlines():
        words = line.split(" ", 5)
        row = _row(words[:5])
        if len(words) == 6 and row is not None:
            table[words[5]] = row
    return table


def _row(words: Sequence[str]) -> list[int] | None:
    if len(words) != 5 or not re.fullmatch(r"[0-9a-f]{1,8}", words[0]):
        return None
    if not all(re.fullmatch(r"-?\d{1,19}", word) for word in words[1:]):
        return None
    return [int(words[0], 16), *map(int, words[1:])]


def _device(word: str) -> str | None:
    if not re.fullmatch(r"\d{1,19}", word):
        return None
    return f"{os.major(int(word))}:{os.minor(int(word))}"


def _looked(fields: str) -> Answer | None:
    table = dict(line.partition(" ")[::2] for line in fields.splitlines())
    if not {"l", "s", "r", "d", "a", "v"} <= table.keys():
        return None
    status = table["s"].split(" ")
    space = _space(table["v"])
    answer: Answer = {
        "lstat": _row(table["l"].split(" ")),
        "stat": _row(status[:5]),
        "dev": _device(status[5]) if len(status) == 6 else None,
        "parent_dev": _device(table["d"]),
        "real": table["r"] or None,
        "access": table["a"],
        "statvfs": space,
        "error": None,
    }
    for call, said, seen in (
        ("lstat", table["l"], answer["lstat"]),
        ("stat", table["s"], answer["stat"]),
        ("statvfs", table["v"], space),
    ):
        if seen is None:
            name, message = _errno(said)
            answer["error"] = {"call": call, "errno": name, "message": message}
            break
    if answer["stat"] is None:
        answer.update(real=None, parent_dev=None, access="", statvfs=None)
    return answer


def _space(text: str) -> dict[str, int | None] | None:
    words = text.split(" ")
    if len(words) != 7 or not all(re.fullmatch(r"\d{1,20}", word) for word in words):
        return None
    bsize, frsize, blocks, bfree, bavail, inodes, ffree = map(int, words)
    # stat(1) tells neither what is left for others than root, nor the mount's flags.
    return {
        "bsize": bsize,
        "frsize": frsize,
        "blocks": blocks,
        "bfree": bfree,
        "bavail": bavail,
        "files": inodes,
        "ffree": ffree,
        "favail": None,
        "flag": None,
    }


def _self(body: str) -> Answer:
    table = dict(line.partition("=")[::2] for line in body.splitlines())
    if not re.fullmatch(r"\d{1,10}", table.get("uid", "")) or not re.fullmatch(r"\d{1,12}", table.get("time", "")):
        return _missing("parse-error", "the host's shell could not tell who and when it is")
    client = table.get("client", "").split()
    value: Answer = {name: table.get(name, "") for name in ("user", "home", "hostname", "kernel", "machine")}
    value |= {
        "uid": int(table["uid"]),
        "groups": table.get("groups", "").split(),
        "affinity": _cpus(table.get("affinity", "")),
        "time": float(table["time"]),
        "adjtimex": None,
        "python": None,
        "controller_ip": client[0] if client else None,
        "mode": "sh",
    }
    return {"value": value}


def _cpus(text: str) -> list[int] | None:
    cpus: list[int] = []
    for part in text.split(","):
        if not re.fullmatch(r"\d{1,5}(-\d{1,5})?", part):
            return None
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus
