"""What is installed: Docker and NVIDIA's toolkit, CUDA, and the environment that Ray and vLLM run in."""

from __future__ import annotations

import json

from dstui.demo.cast import Character
from dstui.demo.commands import Ran, Tool, choosing
from dstui.demo.tree import Entries, Entry, folder, link

RUNTIME_PREFIX = "/opt/deepseek/venv"
RUNTIME_PYTHON = f"{RUNTIME_PREFIX}/bin/python"
SITE_PACKAGES = f"{RUNTIME_PREFIX}/lib/python3.12/site-packages"
VLLM_VERSION, RAY_VERSION = "0.32.0", "2.52.1"
"""Those that the inventory wants."""
_PACKAGES = (
    ("ray", RAY_VERSION, ">=3.9"),
    ("torch", "2.4.0", ">=3.8.0"),
    ("transformers", "4.45.2", ">=3.8.0"),
    ("fastapi", "0.121.1", ">=3.8"),
    ("uvicorn", "0.38.0", ">=3.9"),
    ("starlette", "0.49.3", ">=3.9"),
    ("nvidia-nccl-cu12", "2.20.5", ">=3"),
)
"""Built for CUDA 12.1, which the drivers of all hosts run."""
_TOOLKIT, _NVCC = "1.17.8", ("12.2", "12.2.140")
_DAEMON = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "100m", "max-file": "3"},
    "runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}},
}


def vllm_version(host: Character) -> str:
    """What is installed there, and what runs."""
    return host.traits.vllm or VLLM_VERSION


def files(host: Character) -> Entries:
    entries: dict[str, Entry | str] = {
        "/run/docker.sock": Entry(mode=0o140660, gid=999),
        "/etc/docker/daemon.json": json.dumps(_DAEMON, indent=2) + "\n",
        SITE_PACKAGES: folder(),
        f"{SITE_PACKAGES}/torch/version.py": "from typing import Optional\n\n"
        "__version__ = '2.4.0+cu121'\ndebug = False\ncuda: Optional[str] = '12.1'\nhip: Optional[str] = None\n",
        "/usr/local/cuda-12.2/version.json": json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.2.2"}}),
        "/usr/local/cuda": link("/etc/alternatives/cuda"),
        "/etc/alternatives/cuda": link("/usr/local/cuda-12.2"),
    }
    for name, version, requires in (("vllm", vllm_version(host), ">=3.10,<3.15"), *_PACKAGES):
        place = f"{SITE_PACKAGES}/{name.replace('-', '_')}-{version}.dist-info/METADATA"
        entries[place] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {requires}\n\n"
    return entries


def tools(host: Character) -> dict[str, Tool]:
    version = host.traits.docker
    nvcc = (
        "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2023 NVIDIA Corporation\n"
        f"Cuda compilation tools, release {_NVCC[0]}, V{_NVCC[1]}\n"
    )
    runtimes = {name: {"path": path} for name, path in (
        ("io.containerd.runc.v2", "runc"), ("nvidia", "nvidia-container-runtime"), ("runc", "runc")
    )}  # fmt: skip
    docker = {
        "version --format {{.Server.Version}}": Ran(f"{version}\n", seconds=0.06),
        "--version": Ran(f"Docker version {version}, build 9f9e405\n", seconds=0.03),
        "info --format {{.Driver}}|{{.CgroupDriver}}|{{.DockerRootDir}}|{{.LoggingDriver}}": Ran(
            "overlay2|systemd|/var/lib/docker|json-file\n", seconds=0.21
        ),
        "info --format {{json .Runtimes}}": Ran(json.dumps(runtimes) + "\n", seconds=0.2),
    }
    packages = f"docker-ce\t5:{version}-1~ubuntu.24.04~noble\tii \nnvidia-container-toolkit\t{_TOOLKIT}-1\tii \n"
    unknown = "".join(f"dpkg-query: no packages found matching {name}\n" for name in ("docker.io", "podman-docker"))
    numbers = Ran(host.traits.runtime_python.replace(".", " ") + "\n")
    ctk = f"NVIDIA Container Toolkit CLI version {_TOOLKIT}\ncommit: f202b80a9b9d\n"
    return {
        "docker": choosing(docker),
        "dpkg-query": choosing({"-W": Ran(packages, unknown, exit=1, seconds=0.03)}),
        "nvidia-ctk": choosing({"--version": Ran(ctk)}),
        "nvidia-container-cli": choosing({"--version": Ran(f"cli-version: {_TOOLKIT}\nlib-version: {_TOOLKIT}\n")}),
        "nvcc": choosing({"--version": Ran(nvcc)}),
        "python": choosing({"-I -S -c import sys;print(*sys.version_info[:3])": numbers}),
    }
