"""One lab host: its own network, mounts, hostname and processes; everything in it dies with its process 1."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

INIT = Path(__file__).with_name("init.py")
FOLDER = Path("/run/dstui-lab")
START_SECONDS = 60.0
RUN_SECONDS = 60.0


class LabError(Exception):
    """The lab cannot do what it was asked; the text says which command said what."""


def command(*argv: str, given: str | None = None, seconds: float = RUN_SECONDS) -> str:
    """Standard output of a command. LabError when it fails."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Look again and again until `condition` holds. LabError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.05)


class Host:
    """A host that runs. `address` is its only address, on eth0."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        alone = ("--mount", "--uts", "--pid", "--ipc", "--net", "--fork", "--kill-child=SIGKILL")
        python = shutil.which("python3", path="/usr/bin:/bin") or "python3"
        # With --pdeathsig and --kill-child nothing outlives a test run, not even one that was killed.
        self._outer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *alone, python, "-I", str(INIT), name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._outer.stdout and self._outer.stderr
        ready = select.select([self._outer.stdout], [], [], START_SECONDS)[0] and self._outer.stdout.readline()
        if ready != b"ready\n":
            self._outer.kill()
            raise LabError(f"{name} does not start: {self._outer.stderr.read().decode(errors='replace')}")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self.pid = int(children[0])
        self.root = Path(f"/proc/{self.pid}/root")

    def kill(self) -> None:
        """End everything on the host."""
        self._outer.kill()

    def wait(self) -> None:
        """Until nothing of a host that was killed is left."""
        self._outer.wait(START_SECONDS)
        for stream in (self._outer.stdout, self._outer.stderr):
            if stream:
                stream.close()
        wait_until(lambda: not Path(f"/proc/{self.pid}").exists(), f"{self.name} to end")

    def entered(self, *argv: str) -> list[str]:
        """The argv that runs `argv` on the host as root."""
        return ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", *argv]

    def run(self, *argv: str, given: str | None = None, seconds: float = RUN_SECONDS) -> str:
        """Standard output of a command on the host, as root. LabError when it fails."""
        return command(*self.entered(*argv), given=given, seconds=seconds)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """A command that goes on running on the host."""
        null = subprocess.DEVNULL
        return subprocess.Popen(self.entered(*argv), stdin=null, stdout=null, stderr=null)

    def place(self, path: str) -> Path:
        """A path of the host as seen from here. No part of it may be an absolute symlink."""
        return self.root / path.lstrip("/")

    def put(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        """Write a file, in place where it exists, so that it may be bound over another."""
        place = self.place(path)
        if place.is_symlink():
            place.unlink()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        place.chmod(mode)

    def put_all(self, files: Mapping[str, str]) -> None:
        for path, text in files.items():
            self.put(path, text)

    def link(self, path: str, target: str) -> None:
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        os.symlink(target, place)

    def get(self, path: str) -> str:
        return self.place(path).read_text()

    @contextmanager
    def changed(self, path: str, text: str | Callable[[str], str]) -> Iterator[None]:
        """The file with another content (or what `text` makes of the old one), and the old one again afterwards."""
        place = self.place(path)
        old = place.read_bytes() if place.exists() else None
        mode = place.stat().st_mode & 0o7777 if old is not None else 0o644
        new = text if isinstance(text, str) else text((old or b"").decode())
        if old is not None and new.encode() == old:
            raise LabError(f"{self.name}: {path} would stay as it is")
        self.put(path, new, mode)
        try:
            yield
        finally:
            if old is None:
                place.unlink()
            else:
                self.put(path, old, mode)

    @contextmanager
    def packets(self, *rules: str) -> Iterator[None]:
        """nft rules (`input tcp dport 10001 drop`) before all others, and away again afterwards."""
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority -10; policy accept;\n"
            + "".join(f"{rule.removeprefix(hook)}\n" for rule in rules if rule.startswith(hook + " "))
            + "}\n"
            for hook in ("input", "output")
        )
        self.run("nft", "-f", "-", given=f"table inet twist {{\n{chains}}}\n")
        try:
            yield
        finally:
            self.run("nft", "delete", "table", "inet", "twist")

    def processes(self) -> dict[int, str]:
        """Process id on this machine → command line, for every process of the host."""
        mine = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and os.readlink(entry / "ns/pid") == mine:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue  # it ended meanwhile
        return found
