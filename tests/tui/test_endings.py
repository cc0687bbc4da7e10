"""Endings from outside: nothing of the app is left behind, and the terminal is as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

DEADLINE = 60.0


def started(tmp_path: Path) -> tuple[int, int]:
    """`dstui demo` on a terminal of its own, opened. Gives its process id and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", LANG="C.UTF-8", TMPDIR=str(tmp_path))
        os.execv(sys.executable, [sys.executable, "-m", "dstui.cli", "demo", "--hosts", "1", "--lang", "en"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = read_until(terminal, lambda seen: b"nothing has run yet" in seen)
    assert b"nothing has run yet" in seen
    assert list(tmp_path.glob("dstui-demo-*"))
    return pid, terminal


def read_until(terminal: int, enough: Callable[[bytes], bool]) -> bytes:
    seen, ends = b"", time.monotonic() + DEADLINE
    while not enough(seen) and time.monotonic() < ends:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
    return seen


def exit_code(pid: int) -> int:
    ends = time.monotonic() + DEADLINE
    reader = os.pidfd_open(pid)
    try:
        if not select.select([reader], [], [], ends - time.monotonic())[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_terminal_that_hangs_up_ends_the_app_in_order(tmp_path: Path) -> None:
    pid, terminal = started(tmp_path)
    os.write(terminal, b"R")
    os.close(terminal)
    assert exit_code(pid) == 128 + signal.SIGHUP
    assert not list(tmp_path.glob("dstui-demo-*"))


@pytest.mark.parametrize(("key", "number", "code"), [(b"", signal.SIGTERM, 128 + signal.SIGTERM), (b"q", None, 0)])
def test_leaving_gives_the_terminal_back(key: bytes, number: signal.Signals | None, code: int, tmp_path: Path) -> None:
    pid, terminal = started(tmp_path)
    os.write(terminal, key) if number is None else os.kill(pid, number)
    seen = read_until(terminal, lambda seen: False)
    assert exit_code(pid) == code
    assert b"\x1b[?1049l" in seen and b"\x1b[?25h" in seen  # back on the main screen, the cursor shown
    assert not list(tmp_path.glob("dstui-demo-*"))
    os.close(terminal)
