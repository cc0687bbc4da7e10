"""The venv with Ray in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from reallab.lab_venv import installed, run

LOCK_FILE = Path(__file__).with_name("ray.lock")
"""Made with `uv pip compile --universal --generate-hashes` of `ray[default,serve]==2.60.0`."""


def ready() -> Path:
    """The venv, installed when it is not there or is another than the lock file asks for. LabError when that fails."""
    return installed("ray-2.60", hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest(), _install)


def _install(venv: Path, pip: tuple[str, ...]) -> None:
    run(*pip, "--require-hashes", "-r", str(LOCK_FILE))
