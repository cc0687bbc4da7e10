"""A terminal with somebody at it: tmux on a server of its own, keys in, screen text out."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from reallab.host import LabError, command, wait_until

WAIT_SECONDS = 90.0

# The shell stays behind the program: tmux itself loses exit codes of programs that close the terminal first.
_BEHIND = '"$@"; echo $? >"$EXIT"; exec sleep 600'


class Terminal:
    """One program in a tmux window of `size` (columns, lines); leaving it ends the program and the server."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, *, size: tuple[int, int]) -> None:
        name = f"terminal-{time.monotonic_ns()}"
        self._exit = cwd / f"{name}.exit"
        socket = cwd / f"{name}.sock"
        self._tmux = ("tmux", "-f", "/dev/null", "-S", str(socket))
        # No daemon, so that it does not outlive a test run that was killed.
        null = subprocess.DEVNULL
        argv_of_server = ["setpriv", "--pdeathsig", "KILL", *self._tmux, "-D"]
        self._server = subprocess.Popen(argv_of_server, stdin=null, stdout=null, stderr=null)
        wait_until(socket.exists, "tmux to start")
        columns, lines = size
        clean = ["env", "-i", *(f"{key}={value}" for key, value in env.items()), f"EXIT={self._exit}"]
        place = ("-x", str(columns), "-y", str(lines), "-c", str(cwd))
        self._call("new-session", "-d", *place, *clean, "sh", "-c", _BEHIND, "sh", *argv)
        self._shell = int(self._call("display-message", "-p", "#{pane_pid}"))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._call("kill-server")
        self._server.wait()
        wait_until(lambda: not Path(f"/proc/{self._shell}").exists(), "the terminal to close")

    def _call(self, *words: str) -> str:
        return command(*self._tmux, *words)

    @property
    def screen(self) -> str:
        return self._call("capture-pane", "-p")

    @property
    def program(self) -> int:
        """Process id of what runs in the window."""
        return int(Path(f"/proc/{self._shell}/task/{self._shell}/children").read_text().split()[0])

    def exit_code(self) -> int:
        """Waits until the program has ended."""
        wait_until(lambda: self._exit.exists() and self._exit.read_text().strip(), "the program to end", WAIT_SECONDS)
        return int(self._exit.read_text())

    def press(self, *keys: str) -> None:
        """Keys by tmux's names (`Enter`, `C-s`), or single characters."""
        self._call("send-keys", *keys)

    def fill(self, *texts: str) -> None:
        """Text into one field after the other, each seen on screen before the next is gone to."""
        for at, text in enumerate(texts):
            if at:
                line = self._cursor_line()
                self.press("Tab")
                wait_until(lambda line=line: self._cursor_line() != line, "the next field")
            self._call("send-keys", "-l", text)
            self.wait_for(re.escape(text))

    def _cursor_line(self) -> str:
        return self._call("display-message", "-p", "#{cursor_y}")

    def wait_for(self, pattern: str, seconds: float = WAIT_SECONDS) -> str:
        """The screen as soon as it matches a regular expression. LabError with the last screen when it never does."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.screen
            if re.search(pattern, shown):
                return shown
            if time.monotonic() > deadline:
                raise LabError(f"the screen never showed {pattern!r} in {seconds:.0f} s:\n{shown}")
            time.sleep(0.1)
