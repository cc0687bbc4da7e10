"""How soon the app is on the screen: dstui beside a Textual app with one line in it, in turn, on the same terminal.

    python bench/first_paint.py [--rounds 7]

Each is started as its own process on a pseudo-terminal of 120×40; the clock stops when its first frame (a word of it)
has been written. Prints medians and the median of the ratios within rounds.
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

DEADLINE = 30.0


def _until(argv: list[str], word: bytes, directory: Path) -> float:
    """Seconds from starting `argv` to the first appearance of `word` on its terminal."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(directory)
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", PYTHONWARNINGS="ignore")
        os.execv(argv[0], argv)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen = b""
    try:
        while word not in seen:
            left = DEADLINE - (time.perf_counter() - began)
            if left <= 0 or not select.select([terminal], [], [], left)[0]:
                raise SystemExit(
                    f"first_paint: {argv[-1][:60]!r} painted nothing within {DEADLINE:.0f} s: {seen[-300:]!r}"
                )
            seen = (seen + os.read(terminal, 65536))[-200_000:]
        return time.perf_counter() - began
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="dstui-paint-") as name:
        home = Path(name)
        hosts = "".join(f"  - {{name: gpu-{n:02}, data_ip: 198.51.100.{n}, roles: [worker]}}\n" for n in range(1, 17))
        (home / "inventory.yaml").write_text(INVENTORY + hosts)
        ours = [sys.executable, "-m", "dstui.cli", "--lang", "en", "--journal", str(home / "journal")]
        empty = [sys.executable, "-c", EMPTY]
        _until(empty, b"first-frame", home)
        _until(ours, b"Checklist", home)
        pairs = [(_until(empty, b"first-frame", home), _until(ours, b"Checklist", home)) for _ in range(rounds)]
    floor, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"empty Textual app  {floor:.3f} s\ndstui              {mine:.3f} s")
    print(f"ratio              {statistics.median(b / a for a, b in pairs):.2f} (median of {rounds} pairs)")


if __name__ == "__main__":
    main()
