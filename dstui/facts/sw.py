"""Docker and the NVIDIA Container Toolkit: versions, whether the daemon answers, how GPUs are wired into containers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import garbled
from dstui.facts.raw import Missing, Op, Raw, glob, listing, own_process, paths, read, run
from dstui.facts.untyped import command, rows, table, whole
from dstui.model import Reason

DOCKER_PACKAGES = ("docker-ce", "docker.io", "podman-docker", "nvidia-container-toolkit")
DEFAULT_ROOT = "/var/lib/docker"

_CLIENT = re.compile(r"Docker version (\d+(?:\.\d+)*\S*?),", re.ASCII)
_VERSION = re.compile(r"\d+(?:\.\d+)+\S*", re.ASCII)
_SERVER_BLOCK = re.compile(r"^Server:.*?^\s+Version:\s*(\S+)", re.ASCII | re.MULTILINE | re.DOTALL)
_CTK = re.compile(r"version (\d+\.\d+\.\d+\S*)", re.ASCII)
_CLI = re.compile(r"cli-version: (\d+\.\d+\.\d+\S*)", re.ASCII)
_COMMIT = re.compile(r"commit: ([0-9a-f]{7,40})", re.ASCII)
_NO_SOCKET_PERMISSION = "permission denied"
_NO_DAEMON = "Cannot connect to the Docker daemon"
_STORAGE = "{{.Driver}}|{{.CgroupDriver}}|{{.DockerRootDir}}|{{.LoggingDriver}}"
_API = ("curl", "-s", "--max-time", "5", "--unix-socket", "/var/run/docker.sock", "http://localhost/version")


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """What `docker info` tells; `free_bytes` of the root directory's filesystem for unprivileged writers."""

    storage_driver: str
    cgroup_driver: str
    root: str
    logging_driver: str


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """`server` is the running daemon's version. `packages` are installed Debian packages by name.

    `unit` is `systemctl is-active docker` (`active`, `inactive`, `failed`, `unknown`).
    """

    server: str | Missing
    server_source: str
    client: str | Missing
    podman: bool
    unit: str | Missing
    socket: bool | Missing
    packages: Mapping[str, str] | Missing
    settings: DaemonSettings | Missing
    rotation: bool | Missing
    """Whether daemon.json bounds container logs: a size limit, or another driver than json-file."""
    in_docker_group: bool | Missing
    snap: bool
    root_free_bytes: int | Missing

    @property
    def seen(self) -> bool:
        """Whether anything of Docker is installed, running or not."""
        package = not isinstance(self.packages, Missing) and any(n in self.packages for n in ("docker-ce", "docker.io"))
        return isinstance(self.client, str) or isinstance(self.server, str) or package or self.snap


@dataclass(frozen=True, slots=True)
class ToolkitFacts:
    """`runtimes` are docker's runtime names; `cdi` the specification files that speak of NVIDIA devices."""

    version: str | Missing
    version_source: str
    commit: str
    runtimes: tuple[str, ...] | Missing
    cdi: tuple[str, ...] | Missing


@dataclass(frozen=True, slots=True)
class SwFacts:
    """Both, because they are asked in one round and the second is wired into the first."""

    docker: DockerFacts
    toolkit: ToolkitFacts


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    docker = (
        run("sw.docker-server", "docker", "version", "--format", "{{.Server.Version}}"),
        run("sw.docker-client", "docker", "--version", timeout=5.0),
        run("sw.docker-unit", "systemctl", "is-active", "docker", timeout=5.0),
        run(
            "sw.packages", "dpkg-query", "-W", "-f=${Package}\t${Version}\t${db:Status-Abbrev}\n", *DOCKER_PACKAGES,
            timeout=5.0,
        ),
        run("sw.docker-info", "docker", "info", "--format", _STORAGE),
        listing("sw.docker-marks", "/run/docker.sock", "/etc/docker/daemon.json", "/snap/bin/docker"),
        read("sw.docker-config", "/etc/docker/daemon.json"),
        paths("sw.docker-root", DEFAULT_ROOT),
        own_process("sw.self"),
    )  # fmt: skip
    if not host.gpu:
        return docker
    return (
        *docker,
        run("sw.ctk", "nvidia-ctk", "--version", timeout=5.0),
        run("sw.ctk-cli", "nvidia-container-cli", "--version", timeout=5.0),
        run("sw.runtimes", "docker", "info", "--format", "{{json .Runtimes}}"),
        listing("sw.cdi-names", "/etc/cdi/*", "/var/run/cdi/*"),
        glob("sw.cdi", "/etc/cdi/*", "/var/run/cdi/*", each=65_536, files=64),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """Another way to the daemon: sudo when the socket is not ours, the socket when there is no client."""
    wanted: list[Op] = []
    server = command(raw, "sw.docker-server")
    if isinstance(server, Missing):
        if server.reason is Reason.TOOL_MISSING:
            wanted.append(run("sw.docker-api", *_API, timeout=8.0))
    elif _NO_SOCKET_PERMISSION in server.error.lower():
        wanted.append(run("sw.docker-sudo", "docker", "version", root=True))
    settings = _settings(raw)
    if not isinstance(settings, Missing) and settings.root.startswith("/") and settings.root != DEFAULT_ROOT:
        wanted.append(paths("sw.docker-moved", settings.root))
    return tuple(wanted)


def _server(raw: Raw) -> tuple[str | Missing, str]:
    """The daemon's version and what told it. Without a daemon the client prints an empty line and exits 1."""
    answer = command(raw, "sw.docker-server")
    if isinstance(answer, Missing):
        return _server_by_socket(raw, answer) if answer.reason is Reason.TOOL_MISSING else (answer, answer.why)
    said = answer.output.strip()
    if answer.exit == 0 and _VERSION.fullmatch(said):
        return said, "docker version"
    complaint = (answer.error or answer.output).strip().splitlines()[-1:]
    why = f"docker version: exit {answer.exit}" + "".join(f", {line.strip()[:160]}" for line in complaint)
    if _NO_SOCKET_PERMISSION in answer.error.lower():
        sudo = command(raw, "sw.docker-sudo")
        found = None if isinstance(sudo, Missing) or sudo.exit != 0 else _SERVER_BLOCK.search(sudo.output)
        if found and _VERSION.fullmatch(found[1]):
            return found[1], "sudo docker version"
        return Missing(Reason.PERMISSION, why), "docker version"
    if answer.exit == 0:
        return garbled("docker version", answer.output), "docker version"
    return Missing(Reason.CANNOT_TELL, why), "docker version"


def _server_by_socket(raw: Raw, without: Missing) -> tuple[str | Missing, str]:
    text = raw.text("sw.docker-api")
    if isinstance(text, Missing):
        return without, ""
    try:
        answer = table(json.loads(text)) or {}
    except (ValueError, RecursionError):
        return garbled("/version of docker.sock", text), "docker.sock"
    parts = [row for row in map(table, rows(answer.get("Components")) or []) if row is not None]
    version = answer.get("Version")
    if any("Podman" in str(part.get("Name")) for part in parts):
        return Missing(Reason.TOOL_MISSING, "docker.sock is podman's"), "docker.sock"
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        return garbled("/version of docker.sock", text), "docker.sock"
    return version, "docker.sock"


def _client(raw: Raw) -> tuple[str | Missing, bool]:
    """The client's version, and whether `docker` is podman's shim."""
    answer = command(raw, "sw.docker-client")
    if isinstance(answer, Missing):
        return answer, False
    if "podman" in f"{answer.output}{answer.error}".lower():
        return Missing(Reason.TOOL_MISSING, "docker is podman's shim"), True
    found = _CLIENT.search(answer.output)
    return (found[1] if found else garbled("docker --version", answer.output or answer.error)), False


def _packages(raw: Raw) -> Mapping[str, str] | Missing:
    """Installed packages, without epochs; dpkg-query exits 1 when it does not know one name, and tells the others."""
    answer = command(raw, "sw.packages")
    if isinstance(answer, Missing):
        return answer
    cells = [line.split("\t") for line in answer.output.splitlines()]
    installed = (row for row in cells if len(row) == 3 and row[1] and row[2].strip().startswith(("ii", "hi")))
    return {name: version.split(":", 1)[-1] for name, version, _ in installed}


def _settings(raw: Raw) -> DaemonSettings | Missing:
    text = raw.text("sw.docker-info")
    if isinstance(text, Missing):
        return text
    cells = text.strip().split("|")
    if len(cells) != 4 or not cells[0]:
        return garbled("docker info", text)
    return DaemonSettings(*cells)


def _rotation(raw: Raw, marks: Mapping[str, object] | Missing, settings: DaemonSettings | Missing) -> bool | Missing:
    if isinstance(marks, Missing):
        return marks
    driver = "" if isinstance(settings, Missing) else settings.logging_driver
    if "/etc/docker/daemon.json" not in marks:
        return bool(driver) and driver != "json-file"
    text = raw.text("sw.docker-config")
    if isinstance(text, Missing):
        return text
    try:
        config = table(json.loads(text or "{}"))
    except (ValueError, RecursionError):
        config = None
    if config is None:
        return garbled("/etc/docker/daemon.json", text)
    options = table(config.get("log-opts")) or {}
    return str(config.get("log-driver") or driver or "json-file") != "json-file" or "max-size" in options


def _root_free(raw: Raw) -> int | Missing:
    for key in ("sw.docker-moved", "sw.docker-root"):
        value = raw.value(key)
        if isinstance(value, Missing):
            continue
        seen = table(value) or {}
        space = table((table(next(iter(seen.values()), None)) or {}).get("statvfs")) or {}
        free, unit = whole(space.get("bavail")), whole(space.get("frsize"))
        if free is not None and unit is not None:
            return free * unit
        return Missing(Reason.CANNOT_TELL, "the filesystem of docker's root does not tell its free space")
    return Missing(Reason.CANNOT_TELL, "docker's root directory was not looked at")


def _docker(raw: Raw) -> DockerFacts:
    server, source = _server(raw)
    client, podman = _client(raw)
    marks, unit, own = raw.stats("sw.docker-marks"), command(raw, "sw.docker-unit"), raw.value("sw.self")
    settings = _settings(raw)
    groups = own if isinstance(own, Missing) else rows((table(own) or {}).get("groups"))
    word = unit if isinstance(unit, Missing) else unit.output.strip().partition("\n")[0]
    if podman and isinstance(server, str):
        server = Missing(Reason.TOOL_MISSING, f"docker is podman's shim (podman {server})")
    return DockerFacts(
        server=server,
        server_source=source,
        client=client,
        podman=podman,
        unit=word or Missing(Reason.CANNOT_TELL, "systemctl does not tell the state of docker"),
        socket=marks if isinstance(marks, Missing) else "/run/docker.sock" in marks,
        packages=_packages(raw),
        settings=settings,
        rotation=_rotation(raw, marks, settings),
        in_docker_group=groups
        if isinstance(groups, Missing)
        else Missing(Reason.CANNOT_TELL, "the session does not tell its groups")
        if groups is None
        else "docker" in groups,
        snap=not isinstance(marks, Missing) and "/snap/bin/docker" in marks,
        root_free_bytes=_root_free(raw),
    )


def _toolkit_version(raw: Raw) -> tuple[str | Missing, str, str]:
    """Version, source, commit; Missing(tool-missing) only when both tools and the package are known to be absent."""
    failed: Missing | None = None
    for key, pattern, source in (("sw.ctk", _CTK, "nvidia-ctk"), ("sw.ctk-cli", _CLI, "nvidia-container-cli")):
        answer = command(raw, key)
        if isinstance(answer, Missing):
            failed = failed if answer.reason is Reason.TOOL_MISSING else failed or answer
        elif found := pattern.search(answer.output):
            commit = _COMMIT.search(answer.output)
            return found[1], source, commit[1] if commit else ""
        else:
            failed = failed or garbled(source, answer.output or answer.error)
    packages = _packages(raw)
    if not isinstance(packages, Missing) and "nvidia-container-toolkit" in packages:
        return packages["nvidia-container-toolkit"], "dpkg", ""
    absent = Missing(Reason.TOOL_MISSING, "neither nvidia-ctk nor nvidia-container-cli is on the host")
    return failed or absent, "", ""


def _runtimes(raw: Raw) -> tuple[str, ...] | Missing:
    answer = command(raw, "sw.runtimes")
    if isinstance(answer, Missing):
        return answer
    if _NO_SOCKET_PERMISSION in answer.error.lower():
        return Missing(Reason.PERMISSION, "docker.sock is not ours: join group docker")
    text = raw.text("sw.runtimes")
    if isinstance(text, Missing):
        return text
    try:
        names = table(json.loads(text))
    except (ValueError, RecursionError):
        names = None
    return tuple(sorted(names)) if names else garbled("docker info", text)


def _cdi(raw: Raw) -> tuple[str, ...] | Missing:
    names, contents = raw.stats("sw.cdi-names"), raw.files("sw.cdi")
    if isinstance(names, Missing):
        return names
    read_files = {} if isinstance(contents, Missing) else contents
    return tuple(
        path
        for path in sorted(names)
        if path.endswith((".yaml", ".yml", ".json")) and "nvidia" in read_files.get(path, path).lower()
    )


def parse(raw: Raw) -> SwFacts:
    version, source, commit = _toolkit_version(raw)
    return SwFacts(_docker(raw), ToolkitFacts(version, source, commit, _runtimes(raw), _cdi(raw)))


GROUP = Group("sw", SwFacts, ops, parse, more)
