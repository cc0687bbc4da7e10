"""The monitor under load: 1,000 simulated hosts × 8 GPUs at 1 Hz, on a real pseudo-terminal.

    python bench/live.py [--hosts 10 100 1000] [--keys 300] [--minutes 10]

Prints, for each number of hosts: key to painted frame (median, p99) while records stream in and while none do, and
their ratio; the share of a core; and at the end how the memory of the largest grew over the minutes. Limits: p99 at
most 1.5 times the idle one, one core, memory flat. Every record is decoded from its JSON line first, as the streams do.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import random
import select
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

COLUMNS, ROWS = 120, 40
KEY_SECONDS = (0.05, 0.25)
WARM_SECONDS = 6.0
RATIO_LIMIT, CORE_LIMIT = 1.5, 1.0
GROWTH_LIMIT = 0.02
"""Of the resident memory, over ten minutes, once the app has warmed up."""


def main() -> int:
    """Prints the table; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--inside", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return _inside(given.hosts[0], Path(given.inside), idle=given.idle)
    print("hosts  idle ms p50/p99  live ms p50/p99  ratio p99  core  core/host ‰  loop lag p99 ms")
    broken = False
    for hosts in given.hosts:
        idle = _session(hosts, given.keys, idle=True)
        live = _session(hosts, given.keys, idle=False)
        ratio = live.p99 / idle.p99
        print(
            f"{hosts:5}  {idle.p50:6.1f} {idle.p99:8.1f}  {live.p50:6.1f} {live.p99:8.1f}  {ratio:9.2f}"
            f"  {live.core:4.0%}  {live.core / hosts * 1000:11.3f}  {live.lag:8.1f}"
        )
        broken |= hosts == max(given.hosts) and (ratio > RATIO_LIMIT or live.core > CORE_LIMIT)
    if given.minutes:
        grown = _session(max(given.hosts), 50, idle=False, minutes=given.minutes)
        first, last = grown.memory[0], grown.memory[-1]
        per_ten = (last - first) / given.minutes * 10
        steps = " ".join(f"{mb:.0f}" for mb in grown.memory)
        print(f"memory of {max(given.hosts)} hosts over {given.minutes:g} min, MB each 30 s: {steps}")
        print(f"growth {per_ten:.1f} MB in ten minutes ({per_ten / first:.1%})")
        broken |= per_ten / first > GROWTH_LIMIT
    return int(broken)


class Measured:
    """One session: milliseconds from each key to its frame, share of a core, MB by time."""

    def __init__(self, latencies: list[float], core: float, lag: float, memory: list[float]) -> None:
        ordered = sorted(latencies)
        self.p50, self.p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        self.core, self.lag, self.memory = core, lag, memory


def _session(hosts: int, keys: int, *, idle: bool, minutes: float = 0.0) -> Measured:
    """Runs the app in a process of its own, presses keys, and takes what it noted."""
    with tempfile.TemporaryDirectory() as folder:
        noted = Path(folder) / "noted.json"
        argv = [sys.executable, __file__, "--hosts", str(hosts), "--inside", str(noted), *(["--idle"] if idle else [])]
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"})
        os.close(slave)
        ready = noted.with_suffix(".ready")
        while process.poll() is None and not ready.exists():
            _drain(master, process, 0.2)
        pressed = _press(master, process, keys, minutes)
        os.write(master, b"q")
        _drain(master, process, 30.0)
        process.wait(30)
        os.close(master)
        found = json.loads(noted.read_text())
    moved = found["moved"]
    # Two keys within one frame are one move; each key counts until the first frame after it that shows one.
    after = [next((painted for painted in moved if painted > key), None) for key in pressed]
    latencies = [(painted - key) * 1000 for key, painted in zip(pressed, after, strict=True) if painted is not None]
    if len(latencies) < 0.97 * keys:
        raise SystemExit(f"{len(pressed)} keys were pressed, {len(moved)} frames seen")
    return Measured(latencies, found["core"], found["lag"], found["memory"])


def _press(master: int, process: subprocess.Popen[bytes], keys: int, minutes: float) -> list[float]:
    """Presses down and up in turns, at moments of no pattern; gives when each was pressed."""
    chance = random.Random(11)
    _drain(master, process, WARM_SECONDS)
    pressed = []
    pause = minutes * 60 / keys if minutes else 0.0
    for number in range(keys):
        _drain(master, process, pause or chance.uniform(*KEY_SECONDS))
        pressed.append(time.monotonic())
        os.write(master, b"j" if number % 2 == 0 else b"k")
    _drain(master, process, 1.0)
    return pressed


def _drain(master: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Reads what the app paints, as a terminal does."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and process.poll() is None:
        if select.select([master], [], [], left)[0]:
            try:
                if not os.read(master, 65536):
                    return
            except OSError:
                return


def _inside(hosts: int, noted: Path, *, idle: bool) -> int:
    """The app's process."""
    from live_fold import Fleet

    from dstui.model import Lang
    from dstui.telemetry.live import Live
    from dstui.telemetry.record import decode, encode
    from dstui.telemetry.watched import Watched
    from screens.picklist import PickList
    from screens.replayapp import ReplayApp

    fleet = Fleet(hosts)
    rounds = [[encode(record) for record in second] for second in fleet.seconds(10)]

    class Simulated:
        """A Feed whose hosts all speak once a second, spread over it."""

        replay = None

        def __init__(self) -> None:
            self.live = Live(Watched("bench", fleet.sites))
            self.interval = 1.0
            self.recorder = self.recorded_into = self.recording_fault = None
            self.frozen = 0.0

        def now(self) -> float:
            return self.frozen if idle else time.time()

        async def run(self) -> None:
            number = 0
            while True:
                began = time.monotonic()
                for place, line in enumerate(rounds[number % len(rounds)]):
                    late = began + place / hosts - time.monotonic()
                    # As many tasks as there are hosts: each record is a turn of the loop of its own.
                    await asyncio.sleep(late if late > 0.001 else 0)
                    record = decode(line, 1)
                    self.live.feed(type(record)(time.time(), record.source, record.kind, record.data))
                self.frozen = time.time()
                if idle:
                    await asyncio.Event().wait()
                number += 1
                await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    class Noting(ReplayApp):
        """Notes when a frame shows that the cursor has moved."""

        moved: list[float]
        cursor = ""

        def _display(self, screen: Any, renderable: Any) -> None:
            super()._display(screen, renderable)
            for found in self.screen.query(PickList):
                if found.has_focus and found.cursor != self.cursor:
                    if self.cursor:
                        self.moved.append(time.monotonic())
                    self.cursor = found.cursor

    found: dict[str, Any] = {}
    memory: list[float] = []

    def watch_memory(stop: threading.Event) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not stop.wait(30.0):
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6)

    lags: list[float] = []

    async def watch_lag() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            lags.append(time.monotonic() - before - 0.02)

    class Lagging(Noting):
        began = (0.0, 0.0)

        async def on_ready(self) -> None:
            await super().on_ready()
            noted.with_suffix(".ready").touch()
            self.began = time.monotonic(), time.process_time()
            self.run_worker(watch_lag(), exit_on_error=False)

    app = Lagging(Simulated(), Lang.EN)
    app.moved = []
    stop = threading.Event()
    threading.Thread(target=watch_memory, args=(stop,), daemon=True).start()
    app.run()
    stop.set()
    found["core"] = (time.process_time() - app.began[1]) / (time.monotonic() - app.began[0])
    found["moved"] = app.moved
    found["lag"] = sorted(lags)[int(len(lags) * 0.99)] * 1000 if lags else 0.0
    found["memory"] = memory or [0.0]
    noted.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
