"""Virtual environments of the lab: installed once per machine, kept between runs (`make clean` leaves them)."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reallab.host import LabError

INSTALL_SECONDS = 2400.0


def cache() -> Path:
    """Where installed components are kept: $DSTUI_LAB_CACHE, else the user's cache."""
    return Path(os.environ.get("DSTUI_LAB_CACHE") or Path.home() / ".cache" / "dstui-lab").absolute()


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Two runs at once: the second waits until the first has made what both want."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installed(name: str, wanted: str, install: Callable[[Path, tuple[str, ...]], None]) -> Path:
    """The venv `name`, made anew unless its stamp says `wanted`. LabError when that fails.

    `install` gets the empty venv and pip's words. A run that was killed midway leaves no stamp, so the next one begins
    anew.
    """
    venv = cache() / name
    stamp = venv / "installed"
    said = f"{sys.base_prefix} {sys.version_info[:3]} {wanted}\n"
    with alone(cache() / f"{name}.busy"):
        if not stamp.exists() or stamp.read_text() != said:
            shutil.rmtree(venv, ignore_errors=True)
            base = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
            run(str(base), "-m", "venv", "--without-pip", str(venv))
            python = str(venv / "bin" / "python")
            pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check")
            install(venv, pip)
            stamp.write_text(said)
    return venv


def run(*argv: str) -> None:
    """A step of an installation. LabError with the end of what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr[-2000:] or done.stdout[-2000:]}")
