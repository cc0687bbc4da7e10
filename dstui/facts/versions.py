"""What runs Ray and vLLM: the interpreter, the packages beside it, torch's CUDA, and the CUDA toolkits on disk.

Nothing is imported on the host: torch takes 5-10 s and a GPU context. Packages are read from their METADATA.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import garbled
from dstui.facts.raw import Missing, Op, Raw, glob, links, listing, run
from dstui.facts.untyped import command
from dstui.model import Reason

PACKAGES = ("vllm", "ray", "torch", "transformers", "nvidia_nccl_cu*")

_ASK_VERSION = ("-I", "-S", "-c", "import sys;print(*sys.version_info[:3])")
_SYSTEM_PYTHON = "python3"
_ANSWER = re.compile(r"\s*(\d{1,2}) (\d{1,3}) (\d{1,3})\s*", re.ASCII)
_RAYLET = re.compile(r"(/\S*)/lib(?:64)?/(python\d\.\d{1,2})/site-packages/ray/core/src/ray/raylet/raylet", re.ASCII)
_METADATA = re.compile(r"/([A-Za-z0-9_.]+)-[^/]+\.dist-info/METADATA$", re.ASCII)
_TORCH_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*(?:'([\d.]+)'|\"([\d.]+)\"|(None))", re.ASCII | re.MULTILINE)
_NVCC = re.compile(r"release (\d{1,3}\.\d{1,3}), V(\d[\d.]*)", re.ASCII)
_TOOLKIT_FILE = re.compile(r"(/usr/local/cuda(?:-[\d.]+)?)/version\.(json|txt)", re.ASCII)
_TOOLKIT_DIRECTORY = re.compile(r"/usr/local/cuda-\d[\d.]*", re.ASCII)
_TOOLKIT_TEXT = re.compile(r"CUDA Version (\d[\d.]*)", re.ASCII)


_NOWHERE = Missing(Reason.CANNOT_TELL, "no runtime.python in the inventory, and no raylet runs to tell where to look")


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter and its version. `how` is `inventory`, `raylet` or `system`: why this one was asked."""

    path: str
    how: str
    version: tuple[int, int, int] | Missing


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution, as its METADATA says; `requires_python` is empty when it says nothing."""

    version: str
    requires_python: str
    path: str


@dataclass(frozen=True, slots=True)
class Toolkit:
    """A CUDA toolkit on disk; `compiler` is whether its nvcc was run, else a version file was read."""

    path: str
    version: str
    compiler: bool


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """`packages` by distribution name in lower case with `-` as `_`; empty when the place holds none of them."""

    python: Python
    packages: Mapping[str, Package] | Missing
    torch_cuda: str | Missing | None
    """CUDA of the torch build beside the interpreter; None for a CPU build, Missing(tool-missing) without torch."""
    toolkits: tuple[Toolkit, ...]
    toolkits_unread: Missing | None
    toolkit_directories: tuple[str, ...]
    toolkit_link: str
    """Where /usr/local/cuda leads; empty when it is not a link."""
    compat_libraries: tuple[str, ...]
    """Forward-compatibility libcuda files."""

    def package_version(self, name: str) -> str | Missing:
        """The version of an installed package, for comparing hosts."""
        if isinstance(self.packages, Missing):
            return self.packages
        found = self.packages.get(name)
        return found.version if found else Missing(Reason.TOOL_MISSING, f"{name} is not beside {self.python.path}")


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    interpreter = (
        (run("versions.python", site.runtime_python, *_ASK_VERSION, timeout=5.0), *_package_ops(site.runtime_python))
        if site.runtime_python
        else (
            links("versions.exe", "/proc/[0-9]*/exe"),
            run("versions.system", _SYSTEM_PYTHON, *_ASK_VERSION, timeout=5.0),
        )
    )
    if not host.gpu:
        return interpreter
    return (
        *interpreter,
        run("versions.nvcc", "/usr/local/cuda/bin/nvcc", "--version", timeout=5.0),
        run("versions.nvcc-path", "nvcc", "--version", timeout=5.0),
        glob("versions.toolkits", "/usr/local/cuda*/version.json", "/usr/local/cuda*/version.txt", each=16_384),
        listing("versions.cuda", "/usr/local/cuda-*", "/usr/local/cuda*/compat/libcuda.so*"),
        links("versions.cuda-link", "/usr/local/cuda", "/etc/alternatives/cuda"),
    )


def package_places(interpreter: str) -> tuple[str, ...]:
    """Where the packages of an interpreter lie, as patterns: of a venv or conda environment, or the system's places."""
    prefix = interpreter.rsplit("/", 2)[0] if interpreter.count("/") >= 2 else "/usr"
    places = (f"{prefix}/lib/python3*/site-packages", f"{prefix}/lib64/python3*/site-packages")
    if prefix in ("/usr", "/usr/local"):
        return (*places, "/usr/local/lib/python3*/dist-packages", "/usr/lib/python3/dist-packages")
    return places


def _package_ops(interpreter: str) -> tuple[Op, ...]:
    places = package_places(interpreter)
    return (
        glob(
            "versions.packages",
            *(f"{place}/{name}-*.dist-info/METADATA" for place in places for name in PACKAGES),
            each=16_384,
        ),
        glob("versions.torch", *(f"{place}/torch/version.py" for place in places)),
        listing("versions.places", *places),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """Without a configured interpreter: the one of a running raylet or worker, where the session may look."""
    if site.runtime_python:
        return ()
    running = running_interpreter(raw)
    if running is None:
        return ()
    return (run("versions.python", running, *_ASK_VERSION, timeout=5.0), *_package_ops(running))


def running_interpreter(raw: Raw) -> str | None:
    """The Python of a running raylet, from `versions.exe`; None when none runs.

    raylet is a binary inside the environment's ray package, so its own path tells which environment that is.
    """
    found = raw.files("versions.exe")
    if isinstance(found, Missing):
        return None
    for target in sorted(found.values()):
        if match := _RAYLET.fullmatch(target.removesuffix(" (deleted)")):
            return f"{match[1]}/bin/{match[2]}"
    return None


def _asked(raw: Raw, key: str, how: str) -> Python:
    answer = command(raw, key)
    if isinstance(answer, Missing):
        path = raw.answers[key].source.split(" ", 1)[0] if key in raw.answers else "python"
        return Python(path, how, answer)
    path = answer.source.split(" ", 1)[0].strip("'")
    if answer.exit not in (None, 0):
        said = (answer.error or answer.output).strip().splitlines()[:1]
        return Python(
            path, how, Missing(Reason.CANNOT_TELL, f"{path}: exit {answer.exit}" + "".join(f", {s}" for s in said))
        )
    match = _ANSWER.fullmatch(answer.output)
    if match is None:
        return Python(path, how, garbled(path, answer.output))
    return Python(path, how, (int(match[1]), int(match[2]), int(match[3])))


def _python(raw: Raw) -> Python:
    if "versions.system" not in raw.answers:
        return _asked(raw, "versions.python", "inventory")
    return (
        _asked(raw, "versions.python", "raylet")
        if "versions.python" in raw.answers
        else _asked(raw, "versions.system", "system")
    )


def parse_metadata(path: str, text: str) -> tuple[str, Package] | None:
    """Name and version of a distribution from the head of its METADATA; None when that is not one."""
    if not _METADATA.search(path):
        return None
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and key in ("Name", "Version", "Requires-Python"):
            fields.setdefault(key, value.strip()[:200])
    if "Name" not in fields or "Version" not in fields:
        return None
    name = re.sub(r"[-_.]+", "_", fields["Name"]).lower()
    return name, Package(fields["Version"], fields.get("Requires-Python", ""), path)


def _packages(raw: Raw) -> Mapping[str, Package] | Missing:
    files, places = raw.files("versions.packages"), raw.stats("versions.places")
    if isinstance(files, Missing):
        return _NOWHERE if "versions.packages" not in raw.answers else files
    if not files and (isinstance(places, Missing) or not places):
        return Missing(Reason.CANNOT_TELL, "no site-packages was found beside the interpreter")
    if unread := _unread(raw, "versions.packages"):
        return unread
    return dict(found for path, text in _beside(raw, files) if (found := parse_metadata(path, text)) is not None)


_MINOR = re.compile(r"/python(\d\.\d{1,2})/", re.ASCII)


def _beside(raw: Raw, files: Mapping[str, str]) -> list[tuple[str, str]]:
    """The files of the interpreter's own minor version: an environment may hold what is left of an older one."""
    version = _python(raw).version
    own = None if isinstance(version, Missing) else f"{version[0]}.{version[1]}"
    found = sorted(files.items())
    return [(p, text) for p, text in found if own is None or (minor := _MINOR.search(p)) is None or minor[1] == own]


def _unread(raw: Raw, key: str) -> Missing | None:
    """Why the files of a GLOB may not be all there are."""
    answer = raw.answer(key)
    if isinstance(answer, Missing) or not answer.error:
        return None
    return Missing(Reason.PERMISSION, answer.error.splitlines()[0][:200])


def _torch_cuda(raw: Raw) -> str | Missing | None:
    files = raw.files("versions.torch")
    if isinstance(files, Missing):
        return _NOWHERE if "versions.torch" not in raw.answers else files
    for _, text in _beside(raw, files):
        found = _TORCH_CUDA.search(text)
        return (found[1] or found[2]) if found else garbled("torch/version.py", text)
    if unread := _unread(raw, "versions.torch"):
        return unread
    if isinstance(_packages(raw), Missing):
        return Missing(Reason.CANNOT_TELL, "no site-packages was found beside the interpreter")
    return Missing(Reason.TOOL_MISSING, "torch is not beside the interpreter")


def _toolkits(raw: Raw) -> tuple[tuple[Toolkit, ...], Missing | None]:
    found: dict[str, Toolkit] = {}
    unread: Missing | None = None
    files = raw.files("versions.toolkits")
    if isinstance(files, Missing):
        unread = files
    for path, text in sorted({} if isinstance(files, Missing) else files.items()):
        if (match := _TOOLKIT_FILE.fullmatch(path)) and (version := _version_in_file(match[2], text)):
            found[match[1]] = Toolkit(match[1], version, compiler=False)
    for key, place in (("versions.nvcc", "/usr/local/cuda"), ("versions.nvcc-path", "nvcc in PATH")):
        answer = command(raw, key)
        if isinstance(answer, Missing):
            unread = unread or (None if answer.reason is Reason.TOOL_MISSING else answer)
        elif match := _NVCC.search(answer.output):
            found[place] = Toolkit(place, match[2], compiler=True)
        else:
            unread = unread or garbled(answer.source, answer.output or answer.error)
    return tuple(found[place] for place in sorted(found)), unread


def _version_in_file(kind: str, text: str) -> str | None:
    """`.cuda.version` of version.json, or the number in version.txt of CUDA 10 and older."""
    if kind == "txt":
        match = _TOOLKIT_TEXT.search(text)
        return match[1] if match else None
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    entry = parts.get("cuda") if isinstance(parts, dict) else None
    version = entry.get("version") if isinstance(entry, dict) else None
    return version if isinstance(version, str) and re.match(r"\d", version, re.ASCII) else None


def parse(raw: Raw) -> VersionFacts:
    toolkits, unread = _toolkits(raw)
    present, chain = raw.stats("versions.cuda"), raw.files("versions.cuda-link")
    seen = () if isinstance(present, Missing) else tuple(sorted(present))
    hops = {} if isinstance(chain, Missing) else chain
    link = hops.get("/usr/local/cuda", "")
    return VersionFacts(
        python=_python(raw),
        packages=_packages(raw),
        torch_cuda=_torch_cuda(raw),
        toolkits=toolkits,
        toolkits_unread=unread,
        toolkit_directories=tuple(path for path in seen if _TOOLKIT_DIRECTORY.fullmatch(path)),
        toolkit_link=hops.get(link, link),
        compat_libraries=tuple(path for path in seen if "/compat/" in path),
    )


GROUP = Group("versions", VersionFacts, ops, parse, more)
