"""Operations that a host is asked to carry out, and its raw answers.

A fact group is a list of operations (`Op`) and a parser. The collector on the host, its POSIX-sh fallback, the
local transport and the embedded fleet all carry out the same operations; everything that needs understanding
happens here on the controller, on recorded answers, where it can be tested.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from shlex import join

from dstui.model import EVIDENCE_HEAD_BYTES, Evidence, Reason


@dataclass(frozen=True, slots=True)
class Missing:
    """A value that could not be had, and why. Stands wherever a fact would; a judge turns it into UNKNOWN."""

    reason: Reason
    why: str


class OpKind(StrEnum):
    """What a host can be asked. READ, GLOB, LISTING, LINKS, RUN and PATHS also work without python3 there."""

    READ = "read"
    GLOB = "glob"
    LISTING = "listing"
    LINKS = "links"
    RUN = "run"
    PATHS = "paths"
    SELF = "self"
    NVML = "nvml"
    RESOLVE = "resolve"
    DNS = "dns"
    HTTP = "http"
    CONNECT = "connect"
    TREE = "tree"
    PIECES = "pieces"
    SHA256 = "sha256"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. `key` names its answer (`gpu.smi`); `args` travel as JSON; `source` is shown as evidence."""

    key: str
    kind: OpKind
    args: Mapping[str, object]
    source: str


def read(key: str, path: str, *, limit: int = 65_536) -> Op:
    """The first `limit` bytes of a file."""
    return Op(key, OpKind.READ, {"path": path, "limit": limit}, path)


def glob(key: str, *patterns: str, each: int = 4096, files: int = 8192) -> Op:
    """The contents of every file that matches, as path → first `each` bytes; unreadable ones are left out."""
    return Op(key, OpKind.GLOB, {"patterns": list(patterns), "each": each, "files": files}, " ".join(patterns))


def listing(key: str, *patterns: str, files: int = 8192) -> Op:
    """lstat of every match (`~/` is the login user's home), as path → Stat."""
    return Op(key, OpKind.LISTING, {"patterns": list(patterns), "files": files}, " ".join(patterns))


def links(key: str, *patterns: str) -> Op:
    """readlink of every match, as path → target."""
    return Op(key, OpKind.LINKS, {"patterns": list(patterns)}, " ".join(patterns))


def run(key: str, *argv: str, timeout: float = 10.0, root: bool = False, limit: int = 262_144) -> Op:
    """Standard output of a command (never a shell), ended after `timeout` seconds; `root` means `sudo -n` argv."""
    source = join(["sudo", "-n", *argv] if root else argv)
    return Op(key, OpKind.RUN, {"argv": list(argv), "timeout": timeout, "root": root, "limit": limit}, source)


def paths(key: str, *names: str, timeout: float = 5.0) -> Op:
    """lstat, stat, statvfs and real path of each name, in a child that is abandoned after `timeout` seconds.

    A process stuck on a dead network filesystem cannot be killed (state D), so the child is given up, not waited for.
    `{path: {"hung": true} | {"lstat": [mode, uid, gid, size, mtime], "stat": same | null, "dev": "maj:min",
    "parent_dev": "maj:min", "real": path, "access": "rwx" as far as the login user may, "statvfs": {"bsize", "frsize",
    "blocks", "bfree", "bavail", "files", "ffree", "favail", "flag"} | null,
    "error": {"call": "stat", "errno": "ESTALE", "message": str} | null}}`
    """
    return Op(key, OpKind.PATHS, {"paths": list(names), "timeout": timeout}, "stat " + join(names))


def own_process(key: str) -> Op:
    """The session itself.

    `{"uid", "user", "groups": [names], "home", "hostname", "kernel", "machine", "affinity": [cpu] | null,
    "time": epoch seconds, "adjtimex": {"state", "status", "offset_us", "maxerror_us"} | null,
    "python": "3.8.10" | null, "controller_ip": str | null, "mode": "python" | "sh"}`
    """
    return Op(key, OpKind.SELF, {}, "the session itself")


def nvml(key: str, *, timeout: float = 20.0) -> Op:
    """Everything pynvml can tell of every GPU, through libnvidia-ml.so.1 on the host, in a child with a deadline.

    Missing(tool-missing) when the library cannot be loaded. Otherwise
    `{"error": {"name": "LIB_RM_VERSION_MISMATCH", "code": 18, "message": str} | null, "driver": str, "cuda": 12020,
    "nvml": str, "gpus": [gpu]}` with `error` set (and no GPUs) when NVML would not start. A gpu is
    `{"index", "uuid", "name", "memory_total", "memory_used" (bytes), "pci_bus_id", "mig": 0 | 1 | null, "cc": "9.0",
    "util", "mem_util" (%), "temp" (°C), "power_mw", "power_limit_mw", "clock_sm", "clock_mem" (MHz), "event_reasons",
    "ecc_mode", "ecc_uncorrected_volatile", "ecc_corrected_volatile", "ecc_uncorrected_aggregate",
    "remapped": {"corr", "uncorr", "pending", "failure"} | null, "pcie_gen", "pcie_gen_max", "pcie_width",
    "pcie_width_max", "persistence", "nvlinks": [0 | 1], "processes": [{"pid", "memory"}] | null,
    "errors": {call: NVML error name}}`; a value that a GPU does not support is null with its error beside it.
    """
    return Op(key, OpKind.NVML, {"timeout": timeout}, "NVML (libnvidia-ml.so.1)")


def resolve(key: str, *names: str, timeout: float = 8.0) -> Op:
    """getaddrinfo of each name through the host's NSS (`@self` is the host's own hostname).

    `{name: {"addresses": [str], "ms": float, "error": str | null}}`
    """
    return Op(key, OpKind.RESOLVE, {"names": list(names), "timeout": timeout}, "getaddrinfo " + join(names))


def dns(key: str, *names: str, timeout: float = 3.0) -> Op:
    """A direct UDP/53 A query for each name to each server that resolvectl or /etc/resolv.conf names.

    `{"servers": [{"server": ip, "via": "resolv.conf" | "resolvectl", "answers": {name: {"addresses": [ip],
    "rcode": int | null, "ms": float, "error": "timeout" | str | null}}}]}`; no server configured is an empty list.
    """
    return Op(key, OpKind.DNS, {"names": list(names), "timeout": timeout}, "UDP/53 A " + join(names))


def http(key: str, *urls: str, timeout: float = 8.0, total: float = 20.0, limit: int = 1024, proxy: str = "") -> Op:
    """GET of each URL with the host's stdlib: one redirect followed, first `limit` bytes kept.

    `proxy` is `""` (what /etc/environment, apt, docker and pip configuration name), or `-` (none).
    `{url: {"status": int | null, "ms": float, "dns_ms": float | null, "via_proxy": bool, "kind": "dns" | "connect" |
    "timeout" | "tls" | "http" | null, "error": str | null, "insecure_status": int | null, "body": str}}`;
    `insecure_status` is tried only after a certificate error, with verification off.
    """
    args = {"urls": list(urls), "timeout": timeout, "total": total, "limit": limit, "proxy": proxy}
    return Op(key, OpKind.HTTP, args, "GET " + " ".join(urls))


def connect(key: str, *endpoints: tuple[str, int], timeout: float = 2.0) -> Op:
    """A TCP connect from the host to each (address, port).

    `[[address, port, "ok" | "refused" | "timeout" | "unreach" | "error", ms]]`
    """
    args = {"endpoints": [[host, port] for host, port in endpoints], "timeout": timeout}
    return Op(key, OpKind.CONNECT, args, "connect " + " ".join(f"{host}:{port}" for host, port in endpoints))


def tree(key: str, path: str, *, timeout: float = 10.0, entries: int = 20_000, depth: int = 8) -> Op:
    """Everything under a directory, with links to files followed, in a child given up after `timeout` seconds.

    `{"real": path, "dev": "maj:min", "above": [[path, mode, uid, gid]] of all parents from `/` on,
    "entries": {path below, "" for the directory itself: [mode, uid, gid, size, mtime_ns, inode, "rwx" as far as the
    login user may, link target | null]}, "errors": {path below: errno}, "error": {"call", "errno", "message"} | null}`;
    with `error` there is nothing else. More than `entries`, or deeper than `depth`, is Missing(budget).
    """
    args = {"path": path, "timeout": timeout, "entries": entries, "depth": depth}
    return Op(key, OpKind.TREE, args, f"find -L {join([path])} -ls")


def pieces(key: str, *parts: tuple[str, int, int], timeout: float = 60.0) -> Op:
    """Parts of files as (path, offset, length); an offset below 0 counts from the end. At most 128 MiB each.

    `[[size of the file, base64 of zlib of what is there] | [null, errno]]`, in the order asked.
    """
    args = {"pieces": [[path, offset, length] for path, offset, length in parts], "timeout": timeout}
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return Op(key, OpKind.PIECES, args, f"parts of {join([parts[0][0]])}{more}" if parts else "no parts")


def sha256(key: str, path: str, *, timeout: float) -> Op:
    """The SHA-256 of a whole file, read at the lowest priority and given up after `timeout` seconds.

    `{"sha256": hex, "size": bytes, "mtime_ns", "inode"}`; a file that changes meanwhile is Missing(cannot-tell).
    """
    return Op(key, OpKind.SHA256, {"path": path, "timeout": timeout}, f"sha256sum {join([path])}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one Op. Either `missing` is set, or `output` (text) or `value` (structured) is the answer.

    A command that ran and failed is an answer with its exit code, not a missing one. `seconds` is time on the host.
    """

    key: str
    source: str
    output: str = ""
    error: str = ""
    exit: int | None = None
    value: object = None
    output_bytes: int = 0
    seconds: float = 0.0
    missing: Missing | None = None

    @property
    def cut(self) -> bool:
        """Whether only the beginning of the output came; what stands behind it could say anything."""
        longer = self.output_bytes > len(self.output)
        return longer and self.output_bytes > len(self.output.encode("utf-8", "surrogatepass"))

    def evidence(self) -> Evidence:
        shown = "" if self.missing else self.output or _rendered(self.value)
        error = self.missing.why if self.missing else self.error
        return Evidence(
            key=self.key,
            source=self.source,
            exit=self.exit,
            output=shown[:EVIDENCE_HEAD_BYTES],
            output_bytes=self.output_bytes or len(shown),
            seconds=self.seconds,
            error=error[:1024],
        )


def _rendered(value: object) -> str:
    """A structured answer as text for people: one line per file, path first; else JSON."""
    if value is None:
        return ""
    if isinstance(value, dict) and value and all(isinstance(item, str) for item in value.values()):
        lines, size = [], 0
        for path, content in value.items():
            lines.append(f"{path}: {content.strip()}")
            size += len(lines[-1]) + 1
            if size > EVIDENCE_HEAD_BYTES:
                break
        return "\n".join(lines)
    return json.dumps(value, ensure_ascii=False, default=str)


def cut_short(answer: Answer) -> Missing | None:
    """Missing(budget) of an answer of which only the beginning came."""
    if not answer.cut:
        return None
    return Missing(
        Reason.BUDGET, f"{answer.source}: {answer.output_bytes} bytes, only the first {len(answer.output)} were read"
    )


@dataclass(frozen=True, slots=True)
class Stat:
    """lstat of a path: permission bits and type as in `st_mode`, owner ids, size in bytes, mtime in seconds."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: float


@dataclass(frozen=True, slots=True)
class Raw:
    """All answers of one host, by key."""

    answers: Mapping[str, Answer] = field(default_factory=dict)

    def answer(self, key: str) -> Answer | Missing:
        found = self.answers.get(key)
        if found is None:
            return Missing(Reason.NOT_RUN, f"the host was not asked for {key}")
        return found.missing or found

    def text(self, key: str) -> str | Missing:
        """The whole text of a file, or standard output of a command that exited 0.

        A non-zero exit is Missing(cannot-tell), an output that was cut off at the operation's limit Missing(budget).
        """
        found = self.answer(key)
        if isinstance(found, Missing):
            return found
        return cut_short(found) or self.head(key)

    def head(self, key: str) -> str | Missing:
        """As `text`, for where the beginning is enough: what was cut off does not matter."""
        found = self.answer(key)
        if isinstance(found, Missing):
            return found
        if found.exit not in (None, 0):
            first = (found.error or found.output).strip().splitlines()[:1]
            return Missing(
                Reason.CANNOT_TELL, f"{found.source}: exit {found.exit}" + (f", {first[0]}" if first else "")
            )
        return found.output

    def files(self, key: str) -> Mapping[str, str] | Missing:
        """path → content of a GLOB, or path → target of a LINKS."""
        found = self.answer(key)
        if isinstance(found, Missing):
            return found
        if not isinstance(found.value, dict):
            return Missing(Reason.PARSE_ERROR, f"{found.source}: the host's answer is not a table of files")
        return {str(path): str(content) for path, content in found.value.items()}

    def stats(self, key: str) -> Mapping[str, Stat] | Missing:
        """path → Stat of a LISTING."""
        found = self.answer(key)
        if isinstance(found, Missing):
            return found
        table = found.value
        if not isinstance(table, dict):
            return Missing(Reason.PARSE_ERROR, f"{found.source}: the host's answer is not a table of files")
        stats: dict[str, Stat] = {}
        for path, row in table.items():
            if not (isinstance(row, list) and len(row) == 5 and all(isinstance(x, int | float) for x in row)):
                return Missing(Reason.PARSE_ERROR, f"{found.source}: the answer for {path} is not a stat")
            stats[str(path)] = Stat(int(row[0]), int(row[1]), int(row[2]), int(row[3]), float(row[4]))
        return stats

    def value(self, key: str) -> object:
        """The structured value of SELF, NVML, PATHS, RESOLVE, DNS, HTTP or CONNECT, or Missing; not yet validated."""
        found = self.answer(key)
        return found if isinstance(found, Missing) else found.value

    def first(self, *keys: str) -> str | Missing:
        """The first of several texts that could be had; the last one's Missing when none could."""
        result: str | Missing = Missing(Reason.NOT_RUN, "nothing was asked")
        for key in keys:
            result = self.text(key)
            if not isinstance(result, Missing):
                break
        return result

    def evidence(self, prefixes: Sequence[str]) -> tuple[Evidence, ...]:
        """Evidence of every answer whose key is one of, or lies under one of, `prefixes` (`gpu` covers `gpu.smi`)."""
        wanted = tuple(prefixes)
        return tuple(
            answer.evidence()
            for key, answer in sorted(self.answers.items())
            if any(key == p or key.startswith(p + ".") for p in wanted)
        )
