"""The venv with Ray in it, installed once per machine and kept between runs (`make clean` leaves it)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reallab.host import LabError

LOCK_FILE = Path(__file__).with_name("ray.lock")
"""Made with `uv pip compile --universal --generate-hashes` of `ray[default,serve]==2.60.0`."""

INSTALL_SECONDS = 1200.0


def cache() -> Path:
    """Where installed components are kept: $DSTUI_LAB_CACHE, else the user's cache."""
    return Path(os.environ.get("DSTUI_LAB_CACHE") or Path.home() / ".cache" / "dstui-lab").absolute()


def ready() -> Path:
    """The venv, installed when it is not there or is another than the lock file asks for. LabError when that fails."""
    venv = cache() / "ray-2.60"
    stamp = venv / "installed"
    wanted = f"{sys.base_prefix} {sys.version_info[:3]} {hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()}\n"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with _alone(venv.with_name(f"{venv.name}.busy")):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(venv, ignore_errors=True)
            _install(venv)
            stamp.write_text(wanted)
    return venv


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Two runs at once: the second waits until the first has installed."""
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(venv: Path) -> None:
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    _run(str(base), "-m", "venv", "--without-pip", str(venv))
    pip = (sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q")
    _run(*pip, "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK_FILE))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise LabError(
            f"Ray cannot be installed: {' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()[-2000:]}"
        )
