"""How soon the app is on the screen: dstui beside a Textual app with one line in it, in turn, on the same terminal.

    python bench/first_paint.py [--rounds 15]

Each is started as its own process on a pseudo-terminal of 120×40, with an inventory of 16 hosts. Two moments of dstui
are timed in the same start: the first frame (the titles of the panes are written) and the tree (a row of the checklist
is). Prints medians, and the medians of the ratios to the empty app within the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("first-frame")
Empty().run()
"""

INVENTORY = """\
version: 1
cluster: {name: bench, environment: lab}
ssh: {user: ops}
hosts:
"""

FRAME, TREE = b"Checklist", b"GPU model"
DEADLINE = 30.0


def _until(argv: list[str], words: tuple[bytes, ...], directory: Path) -> list[float]:
    """Seconds from starting `argv` to the first appearance of each of `words`, in this order, on its terminal."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", PYTHONWARNINGS="ignore")
        os.execv(argv[0], argv)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen = b""
    times: list[float] = []
    try:
        while len(times) < len(words):
            left = DEADLINE - (time.perf_counter() - began)
            if left <= 0 or not select.select([terminal], [], [], left)[0]:
                raise SystemExit(
                    f"first_paint: {argv[-1][:60]!r} painted nothing within {DEADLINE:.0f} s: {seen[-300:]!r}"
                )
            seen = (seen + os.read(terminal, 65536))[-200_000:]
            while len(times) < len(words) and words[len(times)] in seen:
                times.append(time.perf_counter() - began)
        return times
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _dstui() -> list[str]:
    """The command as it is installed beside this Python, else the module."""
    script = Path(sys.executable).with_name("dstui")
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "dstui.cli"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="dstui-paint-") as name:
        home = Path(name)
        roles = ["head", *["worker"] * 15]
        hosts = "".join(
            f"  - {{name: gpu-{n:02}, data_ip: 198.51.100.{n}, roles: [{role}]}}\n" for n, role in enumerate(roles, 1)
        )
        (home / "inventory.yaml").write_text(INVENTORY + hosts)
        ours = [*_dstui(), "--lang", "en", "--journal", str(home / "journal")]
        empty = [sys.executable, "-c", EMPTY]
        _until(empty, (b"first-frame",), home)
        _until(ours, (FRAME, TREE), home)
        found = [(*_until(empty, (b"first-frame",), home), *_until(ours, (FRAME, TREE), home)) for _ in range(rounds)]
    floor, frame, tree = zip(*found, strict=True)
    print(f"empty Textual app       {statistics.median(floor):.3f} s   (medians of {rounds} rounds)")
    for what, times in (("first frame, panes", frame), ("99 items in the tree", tree)):
        ratio = statistics.median(ours / base for ours, base in zip(times, floor, strict=True))
        print(f"{f'{what}':<24}{statistics.median(times):.3f} s   {ratio:.2f} times that")


if __name__ == "__main__":
    main()
