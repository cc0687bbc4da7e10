"""sw.docker and sw.container-toolkit: engine and toolkit are new enough, answer, and know of the GPUs."""

from __future__ import annotations

from dstui.facts.case import HostCase
from dstui.facts.raw import Missing
from dstui.facts.sw import DockerFacts, SwFacts, ToolkitFacts
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.judge.versions import at_least, bound, compare, pre_release, version
from dstui.model import Reason, Ruling, Text, host_target

GIB = 1 << 30

_CONTAINER_MODES = frozenset({"docker", "container"})
_NOT_RUNNING = frozenset({"inactive", "failed", "deactivating", "activating"})


def docker(case: HostCase) -> Ruling:
    target, least = host_target(case.host.name), case.params.text("docker_min")
    expected = Text(
        f"Docker Engine at least {least}, daemon reachable", f"Docker Engine 不低于 {least}，且守护进程可用"
    )
    if not case.params.flag("docker_required"):
        return not_applicable(target, Text("docker_required is false", "docker_required 为 false"))
    if not case.host.in_ray and case.site.runtime_mode not in _CONTAINER_MODES:
        return not_applicable(
            target, Text("no head or worker role, no container runtime", "不是 head 或 worker，且非容器模式")
        )
    floor, facts = bound(case.params, "docker_min"), case.facts.get(SwFacts)
    if isinstance(floor, Missing):
        return unknown(target, floor, expected)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    engine, causes = facts.docker, Causes(target, expected)
    if engine.podman:
        causes.warn(Text("the docker command is podman's shim", "docker 命令由 podman 模拟"))
    if isinstance(engine.server, str):
        _judge_server(causes, engine, engine.server, floor, least)
        _judge_whose(causes, engine)
    else:
        _judge_without_server(causes, engine, engine.server)
    if causes.verdict.value != "fail" and engine.rotation is False and engine.seen:
        causes.warn(
            Text(
                "container logs are not bounded (no max-size in daemon.json): they can fill the disk",
                "容器日志未限制大小（daemon.json 中没有 max-size），可能写满磁盘",
            )
        )
    _docker_notes(causes, engine)
    return causes.ruling(
        _observed_docker(engine),
        Text("the daemon answers and is new enough", "守护进程可用且版本满足要求"),
        material={
            "server": engine.server if isinstance(engine.server, str) else None,
            "client": engine.client if isinstance(engine.client, str) else None,
            "podman": engine.podman,
            "unit": engine.unit if isinstance(engine.unit, str) else None,
        },
    )


def _judge_server(causes: Causes, engine: DockerFacts, server: str, floor: tuple[int, ...], least: str) -> None:
    found, shown = version(server), quoted(server, 40)
    if found is None:
        causes.unknown(Reason.PARSE_ERROR, Text(f"no version in {shown}", f"无法解析版本：{shown}"))
        return
    if not at_least(found, floor):
        causes.fail(Text(f"server {shown} is older than {least}", f"服务端 {shown} 低于 {least}"))
    elif compare(found, floor) == 0 and pre_release(server):
        # By the numbers alone a candidate equals its release (CATALOGUE 0.2), which packagers sort after it.
        causes.warn(Text(f"{shown} is a pre-release of the minimum", f"{shown} 是最低版本的预发布版"))
    client = version(engine.client) if isinstance(engine.client, str) else None
    if client is not None and client[0] != found[0]:
        causes.warn(
            Text(
                f"client {quoted(str(engine.client), 30)} and server {shown} differ by a major version",
                f"客户端 {quoted(str(engine.client), 30)} 与服务端 {shown} 主版本不同",
            )
        )


def _judge_whose(causes: Causes, engine: DockerFacts) -> None:
    """DOCKER_HOST or a context makes the client ask another machine's daemon, or the login user's own."""
    unit = engine.unit if isinstance(engine.unit, str) else ""
    if engine.socket is False and not engine.snap:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                "a daemon answers, but not by this host's /run/docker.sock: look at DOCKER_HOST and docker context",
                "有守护进程应答，但不是通过本机的 /run/docker.sock：请检查 DOCKER_HOST 与 docker context",
            ),
        )
    elif unit in _NOT_RUNNING and not engine.snap:
        state = quoted(unit, 20)
        causes.warn(
            Text(
                f"a daemon answers, but not as the unit docker, which is {state}: it may be gone after a reboot",
                f"守护进程有应答，但 docker 单元状态为 {state}：重启后可能消失",
            )
        )


def _judge_without_server(causes: Causes, engine: DockerFacts, server: Missing) -> None:
    """Installed or not, running or not, or only out of our reach: three different answers."""
    unit = engine.unit if isinstance(engine.unit, str) else ""
    packages_known = not isinstance(engine.packages, Missing)
    if server.reason in (Reason.PERMISSION, Reason.TIMEOUT, Reason.PARSE_ERROR):
        causes.missing(server, Text("Docker daemon", "Docker 守护进程"))
        if server.reason is Reason.PERMISSION:
            causes.note(
                Text(
                    "to see it: add the login user to group docker, or allow sudo docker version",
                    "要查看：将登录用户加入 docker 组，或允许 sudo docker version",
                )
            )
    elif not engine.seen and server.reason is Reason.TOOL_MISSING and unit != "active":
        if engine.socket is True and not engine.podman:
            causes.missing(
                server, Text("a docker.sock is there, but no client to ask it", "存在 docker.sock，但没有可用的客户端")
            )
        elif packages_known or engine.socket is False:
            causes.fail(Text("Docker Engine is not installed", "未安装 Docker Engine"))
        else:
            causes.missing(server, Text("Docker Engine", "Docker Engine"))
    elif unit in _NOT_RUNNING or (unit != "active" and engine.socket is False):
        state = quoted(unit, 20) or "no docker.sock"
        causes.fail(Text(f"the daemon does not run ({state})", f"守护进程未运行（{state}）"))
    else:
        causes.missing(server, Text("Docker daemon", "Docker 守护进程"))


def _docker_notes(causes: Causes, engine: DockerFacts) -> None:
    if engine.in_docker_group is True:
        causes.note(
            Text(
                "the login user is in group docker, which is as good as root", "登录用户属于 docker 组，等同 root 权限"
            )
        )
    if engine.snap:
        causes.note(
            Text(
                "docker is a snap, which cannot see NVIDIA's runtime configuration",
                "docker 来自 snap，无法使用 NVIDIA 运行时配置",
            )
        )
    if not isinstance(engine.settings, Missing):
        s = engine.settings
        shown = quoted(f"{s.storage_driver}, cgroup {s.cgroup_driver}, logs {s.logging_driver}, {s.root}", 120)
        free = f", {engine.root_free_bytes / GIB:.0f} GiB" if isinstance(engine.root_free_bytes, int) else ""
        causes.note(Text(f"{shown}{free + ' free' if free else ''}", f"{shown}{free + ' 可用' if free else ''}"))


def _observed_docker(engine: DockerFacts) -> Text:
    server = quoted(engine.server, 40) if isinstance(engine.server, str) else "–"
    client = quoted(engine.client, 40) if isinstance(engine.client, str) else "–"
    package = (
        ""
        if isinstance(engine.packages, Missing)
        else next(
            (
                f"{name} {quoted(engine.packages[name], 40)}"
                for name in ("docker-ce", "docker.io")
                if name in engine.packages
            ),
            "",
        )
    )
    unit = f", {quoted(engine.unit, 20)}" if isinstance(engine.unit, str) else ""
    tail = (f", {package}" if package else "") + unit
    return Text(f"server {server}, client {client}{tail}", f"服务端 {server}，客户端 {client}{tail}")


def container_toolkit(case: HostCase) -> Ruling:
    target, least = host_target(case.host.name), case.params.text("ctk_min")
    expected = Text(
        f"NVIDIA Container Toolkit at least {least}, registered with docker or by CDI",
        f"NVIDIA Container Toolkit 不低于 {least}，并已注册到 docker 或 CDI",
    )
    if not case.host.gpu:
        return not_applicable(target, Text("the inventory says gpu: false for this host", "清单中该主机为 gpu: false"))
    if not case.params.flag("ctk_required"):
        return not_applicable(target, Text("ctk_required is false", "ctk_required 为 false"))
    floor, secure = bound(case.params, "ctk_min"), bound(case.params, "ctk_secure_min")
    facts = case.facts.get(SwFacts)
    if isinstance(floor, Missing):
        return unknown(target, floor, expected)
    if isinstance(secure, Missing):
        return unknown(target, secure, expected)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    toolkit, causes = facts.toolkit, Causes(target, expected)
    if isinstance(toolkit.version, Missing):
        if toolkit.version.reason is not Reason.TOOL_MISSING:
            return unknown(target, toolkit.version, expected)
        causes.fail(Text("NVIDIA Container Toolkit is not installed", "未安装 NVIDIA Container Toolkit"))
    else:
        _judge_toolkit_version(causes, case, toolkit.version, floor, secure)
        _judge_wiring(causes, toolkit)
    if case.params.flag("gpu_container_test"):
        causes.unknown(
            Reason.NOT_BUILT,
            Text(
                "gpu_container_test is asked for, and dstui does not run it",
                "已要求 gpu_container_test，但 dstui 不执行该测试",
            ),
        )
    return causes.ruling(
        _observed_toolkit(toolkit),
        Text("new enough and wired into the runtime", "版本满足要求且已接入容器运行时"),
        material={
            "version": toolkit.version if isinstance(toolkit.version, str) else None,
            "runtimes": None if isinstance(toolkit.runtimes, Missing) else list(toolkit.runtimes),
            "cdi": None if isinstance(toolkit.cdi, Missing) else list(toolkit.cdi),
        },
    )


def _judge_toolkit_version(
    causes: Causes, case: HostCase, text: str, floor: tuple[int, ...], secure: tuple[int, ...]
) -> None:
    found, shown = version(text), quoted(text, 30)
    least, safe = case.params.text("ctk_min"), case.params.text("ctk_secure_min")
    if found is None:
        causes.unknown(Reason.PARSE_ERROR, Text(f"no version in {shown}", f"无法解析版本：{shown}"))
    elif not at_least(found, floor):
        causes.fail(Text(f"{shown} is older than {least}", f"{shown} 低于 {least}"))
    elif not at_least(found, secure):
        causes.warn(
            Text(
                f"{shown} is older than {safe}: containers can escape (CVE-2025-23266, CVE-2024-0132)",
                f"{shown} 低于 {safe}：存在容器逃逸漏洞（CVE-2025-23266、CVE-2024-0132）",
            )
        )
    if found is not None and compare(found, floor) == 0 and pre_release(text):
        causes.warn(Text(f"{shown} is a pre-release of the minimum", f"{shown} 是最低版本的预发布版"))


def _judge_wiring(causes: Causes, toolkit: ToolkitFacts) -> None:
    registered = not isinstance(toolkit.runtimes, Missing) and "nvidia" in toolkit.runtimes
    specified = not isinstance(toolkit.cdi, Missing) and bool(toolkit.cdi)
    if registered or specified:
        return
    if isinstance(toolkit.runtimes, Missing):
        causes.missing(toolkit.runtimes, Text("docker's runtimes", "docker 的运行时列表"))
    elif isinstance(toolkit.cdi, Missing):
        causes.missing(toolkit.cdi, Text("CDI specifications", "CDI 配置"))
    else:
        causes.warn(
            Text(
                "not wired: docker knows no runtime nvidia and there is no CDI specification",
                "未接入：docker 没有 nvidia 运行时，也没有 CDI 配置",
            )
        )


def _observed_toolkit(toolkit: ToolkitFacts) -> Text:
    found = quoted(toolkit.version, 30) if isinstance(toolkit.version, str) else "–"
    source = f" ({toolkit.version_source})" if toolkit.version_source else ""
    runtimes = "?" if isinstance(toolkit.runtimes, Missing) else quoted(", ".join(toolkit.runtimes), 60)
    cdi = "?" if isinstance(toolkit.cdi, Missing) else quoted(", ".join(toolkit.cdi), 80) or "–"
    return Text(f"{found}{source}, runtimes {runtimes}, CDI {cdi}", f"{found}{source}，运行时 {runtimes}，CDI {cdi}")


DOCKER = HostJudge(
    "sw.docker",
    ("sw",),
    ("sw.docker-server", "sw.docker-client", "sw.docker-unit", "sw.packages", "sw.docker-info", "sw.docker-config",
     "sw.docker-sudo", "sw.docker-api"),
    docker,
)  # fmt: skip
TOOLKIT = HostJudge(
    "sw.container-toolkit",
    ("sw",),
    ("sw.ctk", "sw.ctk-cli", "sw.packages", "sw.runtimes", "sw.cdi-names"),
    container_toolkit,
)
