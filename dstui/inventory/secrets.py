"""References to secrets, the values they stand for, and the store that resolves them when they are first needed.

A reference is `env:NAME`, `file:/abs/path` (mode 0600 or 0400, owned by the user who runs dstui), `{cmd: [argv]}`
(no shell, first line of its output), or `secrets.name`, one of those under a name in the inventory. No pydantic here:
whoever needs a `Secret` must not pay for the schema.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import selectors
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dstui.model import SecretError

COMMAND_SECONDS = 5.0
MAX_SECRET_BYTES = 65_536
_ALLOWED_MODES = (0o600, 0o400)


@dataclass(frozen=True, slots=True)
class EnvReference:
    """The value of an environment variable."""

    name: str

    def __str__(self) -> str:
        return f"env:{self.name}"


@dataclass(frozen=True, slots=True)
class FileReference:
    """The content of a file that only its owner can read."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class CommandReference:
    """The first line that a command prints. Its arguments are shown in messages, so they must hold no secret."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"cmd:{self.argv[0]}"


@dataclass(frozen=True, slots=True)
class NamedReference:
    """An entry of the inventory's `secrets`."""

    name: str

    def __str__(self) -> str:
        return f"secrets.{self.name}"


DirectReference = EnvReference | FileReference | CommandReference
Reference = DirectReference | NamedReference

_ENV = re.compile(r"env:([A-Z_][A-Z0-9_]*)")
_FILE = re.compile(r"file:(/[^\n\0]+)")
_NAMED = re.compile(r"secrets\.([a-z0-9_]+)")
_FORMS = "`env:NAME`, `file:/absolute/path` or `{cmd: [program, argument]}`"


def parse_reference(value: object) -> Reference:
    """The reference that an inventory value stands for; ValueError says what to write instead, never the value."""
    if isinstance(value, EnvReference | FileReference | CommandReference | NamedReference):
        return value
    if isinstance(value, str):
        if match := _ENV.fullmatch(value):
            return EnvReference(match[1])
        if match := _FILE.fullmatch(value):
            return FileReference(Path(match[1]))
        if match := _NAMED.fullmatch(value):
            return NamedReference(match[1])
        if value.startswith("file:"):
            raise ValueError("needs an absolute path: `file:/absolute/path`, without `~` and without a relative part")
        if value.startswith("env:"):
            raise ValueError("needs the name of a variable in capitals: `env:DSTUI_API_KEY`")
        if value.startswith("cmd:"):
            raise ValueError("needs its command as a list: `{cmd: [pass, show, name]}`; there is no shell")
    elif isinstance(value, Mapping) and set(value) == {"cmd"}:
        argv = value["cmd"]
        if isinstance(argv, list | tuple) and argv and all(isinstance(word, str) and word for word in argv):
            if any("\0" in word for word in argv):
                raise ValueError("has a NUL character in its command; remove it")
            return CommandReference(tuple(argv))
        raise ValueError("needs its command as a list of words: `{cmd: [pass, show, name]}`; there is no shell")
    raise ValueError(f"is no reference; a secret is never written here, write {_FORMS}")


def file_fault(path: Path) -> str | None:
    """What is wrong with the mode or the owner of a secret's file; None when it is right or cannot be looked at."""
    try:
        return _status_fault(path.stat())
    except (OSError, ValueError):
        return None


def _status_fault(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid != os.geteuid():
        return f"belongs to user id {status.st_uid}, not to you ({os.geteuid()}); chown it"
    mode = stat.S_IMODE(status.st_mode)
    if mode not in _ALLOWED_MODES:
        return f"has mode {mode:04o}; make it private: chmod 600"
    return None


class Secret:
    """A value that shows itself only to `reveal()`: not to repr, str, format, pickle or copy."""

    __slots__ = ("_label", "_value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: str, label: str) -> None:
        self._value = value
        self._label = label

    def reveal(self) -> str:
        """The value itself: for a header, a key, a pipe; never for a message, an argv or a log."""
        return self._value

    @property
    def label(self) -> str:
        """The reference it came from, which may be shown."""
        return self._label

    def __repr__(self) -> str:
        return f"‹{self._label}›"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (s._value.encode("utf-8", "surrogatepass") for s in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"the secret {self._label} cannot be pickled or copied")


class SecretStore:
    """Resolves references when they are first needed and remembers the values, so that they can be redacted.

    `named` are the inventory's `secrets`. Blocking (a command may take 5 s): from the event loop call it through a
    thread. Failures are not remembered. Safe to use from several threads.
    """

    def __init__(
        self, named: Mapping[str, DirectReference] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._named = dict(named or {})
        self._environ = os.environ if environ is None else environ
        self._lock = threading.Lock()
        self._values: dict[DirectReference, Secret] = {}

    def resolve(self, reference: Reference | str) -> Secret:
        """The secret behind a reference; SecretError names the reference and the reason, never the value."""
        try:
            wanted = parse_reference(reference)
        except ValueError as error:
            raise SecretError(f"this secret reference {error}") from None
        label = str(wanted)
        if isinstance(wanted, NamedReference):
            if wanted.name not in self._named:
                raise SecretError(f"{label} is not defined; add it to `secrets:` in the inventory")
            direct = self._named[wanted.name]
        else:
            direct = wanted
        with self._lock:
            known = self._values.get(direct)
            if known is None:
                known = self._values[direct] = Secret(_checked(_read(direct, self._environ), label), label)
            return known

    def resolved(self) -> tuple[tuple[str, str], ...]:
        """(label, value) of every secret resolved so far: what a Redactor searches for."""
        return tuple((secret.label, secret.reveal()) for secret in tuple(self._values.values()))

    def faults(self) -> tuple[tuple[str, str], ...]:
        """(name, what is wrong) of every named secret that gives nothing; resolves them all to find out."""
        found: list[tuple[str, str]] = []
        for name in self._named:
            try:
                self.resolve(NamedReference(name))
            except SecretError as error:
                found.append((name, str(error)))
        return tuple(found)


def _read(reference: DirectReference, environ: Mapping[str, str]) -> str:
    if isinstance(reference, EnvReference):
        if reference.name not in environ:
            raise SecretError(f"{reference}: the variable is not set; export it before you start dstui")
        return environ[reference.name]
    if isinstance(reference, FileReference):
        return _decoded(_file_content(reference), reference).rstrip("\r\n")
    output = _command_output(reference)
    return _decoded(output.split(b"\n", 1)[0].rstrip(b"\r"), reference)


def _checked(value: str, label: str) -> str:
    if not value.strip():
        raise SecretError(f"{label}: it is empty")
    if any((c < " " and c not in "\t\n\r") or "\ud800" <= c <= "\udfff" or c == "\x7f" for c in value):
        raise SecretError(f"{label}: it has control characters or bytes that are not UTF-8; store it as plain text")
    return value


def _decoded(content: bytes, reference: DirectReference) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretError(f"{reference}: it is not UTF-8 text") from None


def _file_content(reference: FileReference) -> bytes:
    try:
        descriptor = os.open(reference.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "the path cannot be one"
        raise SecretError(f"{reference}: cannot be opened: {why}") from None
    try:
        fault = _status_fault(os.fstat(descriptor))
        if fault:
            raise SecretError(f"{reference} {fault}")
        content = os.read(descriptor, MAX_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_SECRET_BYTES:
        raise SecretError(f"{reference}: it is larger than {MAX_SECRET_BYTES // 1024} KiB; that is no secret")
    return content


def _command_output(reference: CommandReference) -> bytes:
    """Standard output up to the first newline. What it writes to standard error may hold the secret: thrown away."""
    try:
        process = subprocess.Popen(
            reference.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "the command cannot be one"
        raise SecretError(f"{reference}: cannot be started: {why}") from None
    try:
        output = _first_line(process, time.monotonic() + COMMAND_SECONDS)
        code = process.poll()
    finally:
        _end(process)
    if output is None:
        raise SecretError(f"{reference}: gave nothing within {COMMAND_SECONDS:.0f} s; it must not ask anybody")
    if code:
        raise SecretError(f"{reference}: ended with exit code {code}; run it by hand to see why")
    return output


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What an ended process printed, cut at MAX_SECRET_BYTES; None when it did not end by `deadline` (monotonic).

    The end of the process decides, not the end of its output: a daemon that it left behind may hold the pipe open.
    """
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ended = process.poll() is not None
            if selector.select(0 if ended else min(left, 0.05)):
                chunk = os.read(pipe, 65_536)
                output += chunk[: MAX_SECRET_BYTES - len(output)]
                if not chunk:
                    return bytes(output) if _ends(process, deadline) else None
            elif ended:
                return bytes(output)
    return None


def _ends(process: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
