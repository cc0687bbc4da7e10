"""How the collector gets onto a host: one command line to execute, and what is written to its standard input.

Nothing is put on the host's disk. The command line looks for a Python of 3.6 or newer; the collector follows over
standard input, as marshalled code when the host's Python has the controller's bytecode, as source otherwise, so the
payload and the first requests can be written without waiting for a single byte of answer. Without Python the same
command line says hello as a shell, skips whatever was sent for Python, and runs the scripts of `shell.py`.
"""

from __future__ import annotations

import base64
import importlib.util
import marshal
import sys
import zlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from dstui.gather.protocol import VERSION
from dstui.model import GatherError, Reason

PACKAGE = "dstui.gather.collector"
_ALWAYS = ("parts", "wire", "loop", "children", "files", "commands", "facts", "core")
_WHEN_NEEDED = (
    "peers",
    "nonce",
    "names",
    "web",
    "trees",
    "gpus",
    "sample",
    "companion",
    "rates",
    "gpuwatch",
    "smiwatch",
    "kmsg",
)
PYTHONS = (
    "/usr/bin/python3",
    "python3",
    "/usr/local/bin/python3",
    "/usr/libexec/platform-python",
    "/opt/conda/bin/python3",
    *(f"python3.{minor}" for minor in range(13, 5, -1)),
)
"""Where a Python is looked for, the system's own first: what PATH has may be a slow wrapper or a project's."""

TOO_OLD = 96
"""Exit code with which a Python older than 3.6 passes the turn on to the next one."""

SKIP_TO = ": dstui script"
"""First line of every shell script: what stands before it on standard input was meant for Python. A no-op in sh."""

# No quotes, backslashes, dollars or exclamation marks: it stands inside two layers of quoting (sh, bash, fish, csh).
_BOOT = (
    f"import posix,sys;sys.version_info<(3,6)and sys.exit({TOO_OLD});"
    "exec(bytes().join(iter(lambda:posix.read(0,1)or sys.exit(97),bytes([10]))))"
)
_FLAGS = ("-I", "-S", "-u", "-c")

_LOADER = """
try:
    import marshal, zlib
    import _frozen_importlib_external as external
    def take(size):
        content = b""
        while len(content) < size:
            chunk = posix.read(0, size - len(content))
            if not chunk:
                sys.exit(97)
            content += chunk
        return content
    code, source, seldom = [take(size) for size in {sizes}]
    same = external.MAGIC_NUMBER == {magic!r} and sys.implementation.cache_tag == {tag!r}
    parts = marshal.loads(zlib.decompress(code if same else source))
    parts.update(marshal.loads(zlib.decompress(seldom)))
    form, content = parts[{parts_name!r}]
    scope = {{"__name__": {parts_name!r}}}
    exec(marshal.loads(content) if form == "code" else compile(content, "<parts>", "exec", 0, True), scope)
    scope["install"](parts)
    from dstui.gather.collector.core import main
except Exception as error:
    sys.stderr.write("dstui collector: %s: %s\\n" % (type(error).__name__, error))
    sys.exit(97)
main(parts)
"""


@cache
def exec_command(pythons: tuple[str, ...] = PYTHONS) -> str:
    """The command line for an SSH exec; safe in sh, bash, dash, zsh, fish and csh as the login shell."""
    hello = f'{{\\"id\\":0,\\"ok\\":true,\\"mode\\":\\"sh\\",\\"python\\":null,\\"version\\":{VERSION}}}'
    script = (
        f"for p in {' '.join(pythons)}; do command -v $p >/dev/null 2>&1 || continue; "
        f'$p {" ".join(_FLAGS)} "{_BOOT}"; r=$?; '
        f"case $r in 1|2|{TOO_OLD}|126|127|134) ;; *) exit $r;; esac; done; "
        f'printf "\\036%s\\n" "{hello}"; '
        f'while IFS= read -r l; do case $l in "{SKIP_TO}") break;; esac; done; exec /bin/sh -s'
    )
    return f"exec /bin/sh -c '{script}'"


def local_argv() -> list[str]:
    """The collector on the controller itself, as a child process of the same Python."""
    return [sys.executable, *_FLAGS, _BOOT]


@cache
def bootstrap_payload() -> bytes:
    """What is written to the command's standard input first, whatever then turns out to run there."""
    sources = {part: _source(part) for part in _ALWAYS}
    # Not compiling saves a third of a short session's CPU on the host; the seldom used parts are not worth their size.
    codes = {part: compile(text, f"<{part}>", "exec", dont_inherit=True, optimize=2) for part, text in sources.items()}
    code = _packed({part: ("code", marshal.dumps(compiled)) for part, compiled in codes.items()})
    source = _packed({part: ("source", text) for part, text in sources.items()})
    seldom = _packed({part: ("source", _source(part)) for part in _WHEN_NEEDED})
    loader = _LOADER.format(
        sizes=(len(code), len(source), len(seldom)),
        magic=importlib.util.MAGIC_NUMBER,
        tag=sys.implementation.cache_tag,
        parts_name=f"{PACKAGE}.parts",
    )
    return f"exec({loader!r})\n".encode("ascii") + code + source + seldom + b"\n"


def _packed(parts: Mapping[str, tuple[str, bytes]]) -> bytes:
    # Version 2 is what every Python 3 reads.
    return zlib.compress(marshal.dumps({f"{PACKAGE}.{part}": content for part, content in parts.items()}, 2), 9)


def _source(part: str) -> bytes:
    return files(PACKAGE).joinpath(part + ".py").read_bytes()


@cache
def module_source(name: str) -> str | None:
    """What the verb `module` sends before the first operation of kind `name`; None when it needs nothing more.

    `nvml` needs pynvml: the one file of the installed nvidia-ml-py, base64 of zlib. GatherError when it is not there.
    """
    if name != "nvml":
        return None
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise GatherError(Reason.TOOL_MISSING, "nvidia-ml-py is not installed beside dstui; reinstall dstui")
    return base64.b64encode(zlib.compress(Path(spec.origin).read_bytes(), 9)).decode("ascii")
