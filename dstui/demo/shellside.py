"""The host's side of the POSIX-sh fallback: reads the script that the controller sends, prints frames as it would.

The script is not run. Its last lines name the operations; the rest of it is how a real shell would carry them out.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dstui.facts.raw import OpKind
from dstui.gather.collector.wire import missing
from dstui.gather.shellanswers import DONE

END_OF_SCRIPT = b"\nprintf '\\036Z\\n'\n"

_NO_PYTHON = missing("tool-missing", "python3 (3.6 or newer) is not on the host")
_STATEMENT = re.compile(r"(?:content|run|root|paths|own|missing) |b=\$\(")


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation of a script; `kind` is None for one that only python3 can carry out."""

    key: str
    kind: OpKind | None
    args: Mapping[str, object]


def operations(script: bytes) -> Iterator[Asked]:
    """What a script of `gather/shell.py` asks for, in order. ValueError for a line that such a script has not."""
    statement = ""
    for line in script.decode("utf-8", "surrogateescape").splitlines(keepends=True):
        if not statement and not _STATEMENT.match(line):
            continue
        statement += line
        try:
            words = shlex.split(statement)
        except ValueError:
            # A quoted argument goes on in the next line.
            continue
        statement = ""
        yield _asked(words)


def _asked(words: list[str]) -> Asked:
    match words:
        case ["content", key, limit, path]:
            return Asked(key, OpKind.READ, {"path": _tilde(path), "limit": int(limit)})
        case ["run", key, _, limit, *argv]:
            return Asked(key, OpKind.RUN, {"argv": argv, "limit": int(limit)})
        case ["root", _, _, key, _, limit, *argv]:
            return Asked(key, OpKind.RUN, {"argv": argv, "limit": int(limit), "root": True})
        case ["paths", key, _, *names]:
            return Asked(key, OpKind.PATHS, {"paths": [_tilde(name) for name in names]})
        case ["own", key]:
            return Asked(key, OpKind.SELF, {})
        case ["missing", key, *_]:
            return Asked(key, None, {})
    begin = next((at for at, word in enumerate(words) if word.endswith(");")), len(words)) + 1
    match words[begin:]:
        case ["globs", key, each, _, *patterns]:
            return Asked(key, OpKind.GLOB, {"patterns": [_tilde(p) for p in patterns], "each": int(each)})
        case ["lists" | "links" as name, key, _, *patterns]:
            kind = OpKind.LISTING if name == "lists" else OpKind.LINKS
            return Asked(key, kind, {"patterns": [_tilde(p) for p in patterns]})
    raise ValueError(f"not a line of the script: {words[:2]}")


def _tilde(path: str) -> str:
    return path.replace("$HOME", "~", 1) if path.startswith("$HOME") else path


def printed(script: bytes, answer: Callable[[str, Mapping[str, object]], Mapping[str, object]]) -> bytes:
    """What a host prints for a script; `answer` carries out one operation as the collector would. Raises ValueError."""
    shown = "".join(
        _frames(asked, answer(asked.kind, asked.args) if asked.kind else _NO_PYTHON) for asked in operations(script)
    )
    return shown.encode() + DONE


def _frames(asked: Asked, answer: Mapping[str, object]) -> str:
    """A collector's answer as the shell prints the same thing; see `gather/shell.py` for the letters."""
    key = asked.key
    if answer.get("missing") and asked.kind is not OpKind.READ:
        return f"\x1eM {key} {answer['missing']}\n{answer['why']}"
    match asked.kind:
        case OpKind.READ:
            return _content(key, answer)
        case OpKind.RUN:
            return f"\x1eO {key}\n{answer['output']}" + _exit(key, answer, str(answer["error"]))
        case OpKind.SELF:
            return _own(key, _table(answer))
        case OpKind.PATHS:
            looks = _table(answer)
            seen = "".join(_look(key, path, look) for path, look in looks.items() if isinstance(look, dict))
            return f"\x1eP {key}\n" + "".join(f"{path}\n" for path in looks) + seen + f"\x1eE {key}\n"
        case OpKind.LISTING:
            rows = "".join(f"{_stat(row)} {path}\n" for path, row in _table(answer).items())
            return f"\x1eL {key}\n{rows}\x1eE {key}\n"
    letter = "K" if asked.kind is OpKind.LINKS else "G"
    listed = "".join(f"\x1eF {key} {path}\n{content}" for path, content in _table(answer).items())
    unread = [line.partition(": ")[2] for line in str(answer.get("error", "")).splitlines()]
    denied = "".join(f"{path}: Permission denied\n" for path in unread)
    return f"\x1e{letter} {key}\n{listed}\x1eE {key}\n{denied}"


def _table(answer: Mapping[str, object]) -> Mapping[str, object]:
    value = answer["value"]
    assert isinstance(value, dict)
    return value


def _content(key: str, answer: Mapping[str, object]) -> str:
    if "missing" in answer:
        # `EACCES: /path: Permission denied` as cat says it.
        said = f"cat: {str(answer['why']).partition(': ')[2]}\n"
        return f"\x1eI {key}\n" + _exit(key, {"output": "", "bytes": 0, "exit": 1}, said)
    return f"\x1eI {key}\n{answer['output']}" + _exit(key, {**answer, "exit": 0}, "")


def _exit(key: str, answer: Mapping[str, object], error: str) -> str:
    output, length = answer["output"], answer["bytes"]
    assert isinstance(output, str) and isinstance(length, int)
    return f"\x1eX {key} {answer['exit']} {length - len(output.encode())} 10\n{error[:4096]}"


def _stat(row: object) -> str:
    assert isinstance(row, list)
    mode, uid, gid, size, mtime = (int(cell) for cell in row)
    return f"{mode:x} {uid} {gid} {size} {mtime}"


def _device(word: object) -> int:
    major, _, minor = str(word).partition(":")
    return os.makedev(int(major), int(minor))


def _look(key: str, path: str, look: Mapping[str, object]) -> str:
    space = look["statvfs"]
    if look["error"] is not None or not isinstance(space, dict):
        said = "No such file or directory"
        lines = [f"l stat: {said}", f"s stat: {said}", "r ", "d 0", "a ", f"v stat: {said}"]
    else:
        fields = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree")
        counts = " ".join(str(space[name]) for name in fields)
        lines = [
            f"l {_stat(look['lstat'])}", f"s {_stat(look['stat'])} {_device(look['dev'])}", f"r {look['real']}",
            f"d {_device(look['parent_dev'])}", f"a {look['access']}", f"v {counts}",
        ]  # fmt: skip
    return f"\x1eN {key}\n{path}\n" + "".join(f"{line}\n" for line in lines)


def _own(key: str, own: Mapping[str, object]) -> str:
    groups, cpus, now = own["groups"], own["affinity"], own["time"]
    assert isinstance(groups, list) and isinstance(cpus, list) and isinstance(now, float)
    told = {name: own[name] for name in ("uid", "user", "home", "hostname", "kernel", "machine")}
    told |= {"groups": " ".join(groups), "affinity": f"0-{len(cpus) - 1}", "time": int(now),
             "client": f"{own['controller_ip']} 50022 22"}  # fmt: skip
    return f"\x1eU {key}\n" + "".join(f"{name}={value}\n" for name, value in told.items()) + f"\x1eE {key}\n"
