"""RUN: commands as children of the collector, watched from its one poll loop."""

import os
import time

from dstui.gather.collector.loop import Loop, abandon, read_some, reap
from dstui.gather.collector.wire import WHY_CHARS, missing, number, os_missing, strings, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/cuda/bin"
ERROR_BYTES = 4096
MOST_BYTES = 16 * 1024 * 1024
"""An output is read on past its limit to learn its length, up to here; then the command is ended."""
EXIT_POLL_SECONDS = 0.003

REFUSALS = (
    "password is required",
    "terminal is required",
    "authentication is required",
    "may not run sudo",
    "not allowed to execute",
    "not in the sudoers",
    "no tty present",
    "must have a tty",
    "account validation failure",
)


def search_path() -> str:
    """CATALOGUE 0.4's directories (a non-login shell lacks sbin and CUDA), then what the session has besides."""
    standard = STANDARD_PATH.split(":")
    extra = [
        place for place in os.environ.get("PATH", "").split(":") if place.startswith("/") and place not in standard
    ]
    return ":".join(standard + extra)


def environment() -> "dict[str, str]":
    """The session's environment with a fixed PATH, and messages in English."""
    env = dict(os.environ)
    env.update(PATH=search_path(), LC_ALL="C")
    env.pop("LANGUAGE", None)
    return env


def find(name: str) -> "str | None":
    """The program that a command name stands for; None when there is none. PermissionError when it may not be run."""
    places = [name] if "/" in name else [place + "/" + name for place in search_path().split(":")]
    found = [place for place in places if os.path.isfile(place)]
    for place in found:
        if os.access(place, os.X_OK):
            return place
    if found:
        raise PermissionError(13, "not executable", found[0])
    return None


def as_root(argv: "list[str]", program: str, become: str) -> "list[str] | str":
    """The argv that runs `argv` as root, or why it cannot be run so."""
    if not os.getuid():
        return argv
    if become != "sudo-n":
        return "needs root and the inventory says become: none; %s" % sudoers_advice(program, argv)
    if not find("sudo"):
        return "needs root and there is no sudo on the host"
    return ["sudo", "-n", "--"] + argv


def sudoers_advice(program: str, argv: "list[str]") -> str:
    """The line to grant in sudoers: exact argv, no wildcards."""
    from dstui.gather.collector.files import login_user

    words = " ".join([program] + sudoers_words(argv[1:]))
    return "grant it in sudoers with: %s ALL=(root) NOPASSWD: %s" % (login_user(), words)


def sudoers_words(arguments: "list[str]") -> "list[str]":
    """Arguments as sudoers spells them."""
    words = []
    for word in arguments:
        for mark in "\\,:= *?[]":
            word = word.replace(mark, "\\" + mark)
        words.append(word or '""')
    return words


class Command:
    """One command. `deliver` gets its answer, exactly once unless it is dropped. It is in `family` while it runs."""

    def __init__(
        self,
        loop: Loop,
        args: "dict[str, object]",
        become: str,
        deliver: "Callable[[dict[str, object]], None]",
        family: "set[Command]",
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._family = family
        self._timeout = number(args, "timeout", 10.0)
        self._limit = int(number(args, "limit", 262144))
        self._argv = strings(args, "argv")
        self._root = bool(args.get("root"))
        self._kept = [b"", b""]
        self._length = 0
        self._pipes: "list[int]" = []
        self._start(become)

    def _start(self, become: str) -> None:
        self._started = time.monotonic()
        try:
            program = find(self._argv[0])
            if program is None:
                return self._deliver(missing("tool-missing", "%s is not on the host" % self._argv[0]))
            self._program = program
            argv = self._argv
            if self._root:
                rooted = as_root(argv, program, become)
                if isinstance(rooted, str):
                    return self._deliver(missing("permission", "%s %s" % (self._argv[0], rooted)))
                argv = rooted
            self._pid, self._pipes = spawn(find(argv[0]) or argv[0], argv)
        except OSError as error:
            return self._deliver(os_missing(error, self._argv[0]))
        self._family.add(self)
        out, err = self._pipes
        self._loop.watch(out, lambda: self._readable(out, 0))
        self._loop.watch(err, lambda: self._readable(err, 1))
        self._timer = self._loop.after(self._timeout, self._late)
        return None

    def _readable(self, fd: int, which: int) -> None:
        chunk = read_some(fd)
        if chunk is None:
            return None
        if not chunk:
            self._close(fd)
            return None if self._pipes else self._closed()
        room = (ERROR_BYTES if which else self._limit) - len(self._kept[which])
        if room > 0:
            self._kept[which] += chunk[:room]
        if not which:
            self._length += len(chunk)
            if self._length > MOST_BYTES:
                self.drop()
                self._finish(None, "ended after %d bytes of output" % self._length)
        return None

    def _close(self, fd: int) -> None:
        self._pipes.remove(fd)
        self._loop.forget(fd)
        os.close(fd)

    def _closed(self) -> None:
        status = reap(self._pid)
        if status is None:
            left = self._started + self._timeout - time.monotonic()
            self._loop.cancel(self._timer)
            soon = left > EXIT_POLL_SECONDS
            self._timer = self._loop.after(
                EXIT_POLL_SECONDS if soon else max(0.0, left), self._closed if soon else self._late
            )
        else:
            self._exited(status)

    def _late(self) -> None:
        status = reap(self._pid)
        if status is not None:
            # It ended and left something behind that holds its output open.
            return self._exited(status)
        said = text(self._kept[0] or self._kept[1])[-WHY_CHARS:].strip()
        why = "%s did not end within %g s" % (self._argv[0], self._timeout)
        self.drop()
        answer = missing("timeout", why + (", so far it said: " + said if said else ""))
        answer["s"] = round(time.monotonic() - self._started, 4)
        return self._deliver(answer)

    def _exited(self, status: int) -> None:
        self._loop.cancel(self._timer)
        for fd in list(self._pipes):
            self._close(fd)
        self._family.discard(self)
        self._finish(os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status), "")

    def _finish(self, exit_code: "int | None", remark: str) -> None:
        error = text(self._kept[1])
        if self._root and os.getuid() and exit_code == 1 and any(refusal in error for refusal in REFUSALS):
            why = "sudo -n refused %s; %s" % (self._argv[0], sudoers_advice(self._program, self._argv))
            return self._deliver(missing("permission", why))
        answer = {
            "output": text(self._kept[0]),
            "error": error + remark,
            "exit": exit_code,
            "bytes": self._length,
            "s": round(time.monotonic() - self._started, 4),
        }  # type: dict[str, object]
        return self._deliver(answer)

    def drop(self) -> None:
        """End it, with its process group, without an answer."""
        self._loop.cancel(self._timer)
        for fd in list(self._pipes):
            self._close(fd)
        abandon(self._pid)
        self._family.discard(self)


def spawn(program: str, argv: "list[str]", stdin: int = -1) -> "tuple[int, list[int]]":
    """Start a command in its own process group: its pid and the pipes of its output and error.

    Standard input is `stdin` or /dev/null. OSError when it cannot be started.
    """
    out, out_writer = os.pipe()
    err, err_writer = os.pipe()
    try:
        if hasattr(os, "posix_spawn"):
            first = (
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0) if stdin < 0 else (os.POSIX_SPAWN_DUP2, stdin, 0)
            )
            pid = os.posix_spawn(
                program,
                [path_word(word) for word in argv],
                environment(),
                file_actions=[first, (os.POSIX_SPAWN_DUP2, out_writer, 1), (os.POSIX_SPAWN_DUP2, err_writer, 2)],
                setpgroup=0,
                setsigdef=_IGNORED,
            )
        else:
            pid = _fork_exec(program, argv, stdin, out_writer, err_writer)
    except OSError:
        os.close(out)
        os.close(err)
        raise
    finally:
        os.close(out_writer)
        os.close(err_writer)
    return pid, [out, err]


_IGNORED = [13, 25]  # SIGPIPE and SIGXFSZ, which Python ignores and its children should not


def path_word(word: str) -> bytes:
    """An argument as the bytes it travels as, whatever the locale."""
    return word.encode("utf-8", "surrogateescape")


def _fork_exec(program: str, argv: "list[str]", stdin: int, out: int, err: int) -> int:
    import _signal  # type: ignore[import-not-found]

    pid = os.fork()
    if not pid:
        try:
            os.setpgid(0, 0)
            for number_ in _IGNORED:
                _signal.signal(number_, _signal.SIG_DFL)
            os.dup2(os.open("/dev/null", os.O_RDONLY) if stdin < 0 else stdin, 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.execve(program, [path_word(word) for word in argv], environment())
        except OSError as error:
            os.write(2, ("cannot be started: %s" % error.strerror).encode("ascii", "replace"))
        finally:
            os._exit(126)
    return pid
