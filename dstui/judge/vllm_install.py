"""vllm.installed-latest: one wanted version on every node, that the node can start, and that is what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import FleetCase, HostCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.raw import Missing
from dstui.facts.serve_packages import ServePackages, normal_name
from dstui.facts.serve_processes import Role, ServeProcesses
from dstui.facts.versions import VersionFacts
from dstui.facts.vllm_backends import VllmBackends
from dstui.facts.vllm_install import VllmInstall
from dstui.judge.fleet import cluster_target
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.judge.sw_python import satisfies
from dstui.judge.versions import compare, dotted, odd_ones, pre_release, version
from dstui.model import Reason, Ruling, Text, host_target

AFTER_SECONDS = 60.0
"""A process counts as older than a package that was installed so long after it started."""

_EVIDENCE = ("vllm.index", "vllm.image", "vllm.backend-", "versions")
_RUNNING = (Role.VLLM_SERVER, Role.VLLM_ENGINE, Role.REPLICA)


@dataclass(frozen=True, slots=True)
class _Installed:
    """What is installed where vLLM would run on one host. `vllm` is None when it is known not to be there."""

    vllm: str | None
    requires_python: str
    python: tuple[int, int, int] | Missing
    torch_cuda: str | Missing | None
    others: Mapping[str, str]
    absent: tuple[str, ...] | Missing
    at: float | None


def judge(case: FleetCase) -> Sequence[Ruling]:
    expected = _expected(case)
    install, backends = case.get(VllmInstall), case.get(VllmBackends)
    hosts = [host for host in case.site.hosts if host.in_ray]
    if not hosts:
        none = Missing(Reason.NO_TARGETS, "no host of the inventory has the role head, worker or ray")
        return [unknown(cluster_target(case.site), none, expected)]
    if isinstance(install, Missing):
        return [unknown(cluster_target(case.site), install, expected)]
    found = {host.name: _installed(case.case(host.name), install) for host in hosts}
    versions = {n: i.vllm for n, i in found.items() if not isinstance(i, Missing) and i.vllm is not None}
    odd = odd_ones(versions)
    rulings = []
    for host in hosts:
        one = found[host.name]
        if isinstance(one, Missing):
            rulings.append(unknown(host_target(host.name), one, expected, evidence=_EVIDENCE))
            continue
        node = _Node(case.case(host.name), one, install, Causes(host_target(host.name), expected))
        others = {n: v for n, v in versions.items() if host.name in odd and v != one.vllm}
        rulings.append(node.ruling(others, backends))
    return rulings


def _policy(case: FleetCase | HostCase) -> tuple[str, str | None]:
    """`pin`, `min` or `latest`, and the version that the first two need."""
    policy, wanted = case.params.text("version_policy"), case.params.optional_text("vllm_version")
    if policy == "auto":
        policy = "latest" if wanted is None else "pin"
    return policy, wanted


def _expected(case: FleetCase) -> Text:
    policy, wanted = _policy(case)
    if policy == "latest":
        return Text("a recent vLLM, the same on every node", "较新的 vLLM，各节点一致")
    least = Text("at least ", "不低于 ") if policy == "min" else Text("", "")
    return Text(f"vLLM {least.en}{wanted}, the same on every node", f"vLLM {least.zh}{wanted}，各节点一致")


def _installed(case: HostCase, install: VllmInstall) -> _Installed | Missing:
    if case.facts.unreachable is not None:
        return case.facts.unreachable
    if case.site.runtime_mode == "docker":
        return _in_image(case, install)
    versions, packages = case.facts.get(VersionFacts), case.facts.get(ServePackages)
    if isinstance(versions, Missing):
        return versions
    if isinstance(versions.packages, Missing):
        return versions.packages
    vllm = versions.packages.get("vllm")
    return _Installed(
        vllm=vllm.version if vllm else None,
        requires_python=vllm.requires_python if vllm else "",
        python=versions.python.version,
        torch_cuda=versions.torch_cuda,
        others={name: package.version for name, package in versions.packages.items() if name != "vllm"},
        absent=_absent(case, packages),
        at=_installed_at(packages),
    )


def _in_image(case: HostCase, install: VllmInstall) -> _Installed | Missing:
    """Inside the image of `runtime.image`."""
    found = install.images.get(case.host.name)
    if found is None:
        return Missing(Reason.NO_TARGETS, "runtime.mode is docker and runtime.image is not set")
    if isinstance(found, Missing):
        if found.reason is not Reason.NO_TARGETS:
            return found
        nothing = Missing(Reason.TOOL_MISSING, found.why)
        return _Installed(None, "", nothing, nothing, {}, nothing, None)
    return _Installed(
        vllm=found.versions.get("vllm"),
        requires_python=found.requires_python,
        python=found.python or Missing(Reason.PARSE_ERROR, "the container did not tell its Python"),
        torch_cuda=found.torch_cuda,
        others={name: value for name, value in found.versions.items() if name != "vllm" and value is not None},
        absent=tuple(n for n in case.params.texts("require_extras") if found.versions.get(n) is None),
        at=None,
    )


def _absent(case: HostCase, packages: ServePackages | Missing) -> tuple[str, ...] | Missing:
    if isinstance(packages, Missing):
        return packages
    if isinstance(packages.distributions, Missing):
        return packages.distributions
    there = packages.distributions
    return tuple(name for name in case.params.texts("require_extras") if normal_name(name) not in there)


def _installed_at(packages: ServePackages | Missing) -> float | None:
    if isinstance(packages, Missing) or isinstance(packages.distributions, Missing):
        return None
    found = packages.distributions.get("vllm")
    return found.installed_at if found else None


class _Node:
    def __init__(self, case: HostCase, installed: _Installed, install: VllmInstall, causes: Causes) -> None:
        self.case, self.installed, self.install, self.causes = case, installed, install, causes

    def ruling(self, others: Mapping[str, str], backends: VllmBackends | Missing) -> Ruling:
        found = self.installed.vllm
        if found is None:
            where = Text("in the image", "镜像中") if self.case.site.runtime_mode == "docker" else Text("here", "此处")
            self.causes.fail(Text(f"vLLM is not installed {where.en}", f"{where.zh}没有安装 vLLM"))
        else:
            self._weigh_equal(found, others)
            self._weigh_policy(found)
            self._weigh_python(found)
            self._weigh_driver()
            self._weigh_extras()
            self._weigh_running(found, backends)
        return self.causes.ruling(
            self._observed(),
            Text("the wanted version, the same everywhere, and it can start", "版本符合要求、处处一致，且能启动"),
            material={
                "vllm": found,
                "torch": self.installed.others.get("torch"),
                "cuda": _plain(self.installed.torch_cuda),
            },
            evidence=_EVIDENCE,
        )

    def _observed(self) -> Text:
        packages = {"vllm": self.installed.vllm or "–", **dict(sorted(self.installed.others.items()))}
        shown = ", ".join(f"{name} {quoted(value, 30)}" for name, value in packages.items())
        return Text(shown, shown)

    def _weigh_equal(self, found: str, others: Mapping[str, str]) -> None:
        if not others:
            return
        listed = ", ".join(f"{name} {quoted(value, 30)}" for name, value in sorted(others.items())[:4])
        shown = quoted(found, 30)
        self.causes.fail(Text(f"vLLM {shown} here, elsewhere {listed}", f"此处 vLLM {shown}，其他节点 {listed}"))

    def _weigh_policy(self, found: str) -> None:
        policy, wanted = _policy(self.case)
        parts = version(found)
        if parts is None:
            self.causes.unknown(
                Reason.PARSE_ERROR, Text(f"no version: {quoted(found, 40)}", f"不是版本号：{quoted(found, 40)}")
            )
        elif policy == "latest":
            self._weigh_latest(found, parts)
        elif (least := version(wanted or "")) is None:
            why = f"version_policy is {policy}, and serving.vllm_version is {wanted or 'not set'}"
            self.causes.missing(Missing(Reason.CANNOT_TELL, why), Text("the wanted version", "要求的版本"))
        else:
            order = compare(parts, least) or -int(pre_release(found))
            if order < 0 or (policy == "pin" and order):
                word = Text("is pinned", "已锁定") if policy == "pin" else Text("is the least", "为最低版本")
                shown = quoted(found, 30)
                self.causes.fail(Text(f"vLLM {shown}, but {wanted} {word.en}", f"vLLM {shown}，而 {wanted} {word.zh}"))

    def _weigh_latest(self, found: str, parts: tuple[int, ...]) -> None:
        newest, lag = self.install.latest, self.case.params.count("latest_lag_minor_warn")
        if newest is None or isinstance(newest, Missing):
            missing = newest or Missing(Reason.NOT_RUN, "no index was asked")
            self.causes.missing(missing, Text("the latest version", "最新版本"))
            return
        top = version(newest) or ()
        (major, minor), (own_major, own_minor) = ((*each, 0, 0)[:2] for each in (top, parts))
        shown, latest = quoted(found, 30), quoted(newest, 30)
        if major > own_major or (major == own_major and minor - own_minor >= lag):
            self.causes.warn(
                Text(
                    f"vLLM {shown}, the latest is {latest}: {lag} or more minors behind",
                    f"vLLM {shown}，最新为 {latest}：落后 {lag} 个以上次版本",
                )
            )
        else:
            self.causes.note(Text(f"the latest is {latest}", f"最新为 {latest}"))

    def _weigh_python(self, found: str) -> None:
        python, required = self.installed.python, self.installed.requires_python
        if not required:
            return
        written = quoted(required, 60)
        if isinstance(python, Missing):
            self.causes.missing(python, Text("the interpreter", "解释器"))
            return
        allowed = satisfies(python, required)
        if allowed is None:
            self.causes.unknown(
                Reason.PARSE_ERROR,
                Text(f"Requires-Python is not understood: {written}", f"无法解析 Requires-Python：{written}"),
            )
        elif not allowed:
            self.causes.fail(
                Text(
                    f"vLLM {quoted(found, 30)} requires Python {written}, {dotted(python)} is there: it will not start",
                    f"vLLM {quoted(found, 30)} 要求 Python {written}，实为 {dotted(python)}：无法启动",
                )
            )

    def _weigh_driver(self) -> None:
        if not self.case.host.gpu:
            return
        cuda, gpu = self.installed.torch_cuda, self.case.facts.get(GpuFacts)
        if cuda is None:
            self.causes.warn(
                Text(
                    "torch is a CPU build on a GPU host: vLLM will not use the GPUs",
                    "GPU 主机上装的是 CPU 版 torch：vLLM 不会使用 GPU",
                )
            )
            return
        if isinstance(cuda, Missing):
            self.causes.missing(cuda, Text("CUDA that torch is built for", "torch 所基于的 CUDA"))
            return
        ceiling = gpu if isinstance(gpu, Missing) else gpu.cuda_capability
        if isinstance(ceiling, Missing):
            self.causes.missing(ceiling, Text("CUDA supported by the driver", "驱动支持的 CUDA"))
            return
        built = version(cuda)
        if built is None:
            self.causes.unknown(Reason.PARSE_ERROR, Text("torch's CUDA is no version", "torch 的 CUDA 不是版本号"))
        elif built[0] > ceiling[0]:
            versions = self.case.facts.get(VersionFacts)
            compatible = not isinstance(versions, Missing) and bool(versions.compat_libraries)
            text = Text(
                f"torch is built for CUDA {dotted(built)}, the driver supports {dotted(ceiling)} at most",
                f"torch 基于 CUDA {dotted(built)}，驱动最高支持 {dotted(ceiling)}",
            )
            if compatible:
                self.causes.warn(
                    Text(f"{text.en}; a forward-compatibility library is there", f"{text.zh}；有前向兼容库")
                )
            else:
                self.causes.fail(Text(f"{text.en}: it will not start", f"{text.zh}：无法启动"))

    def _weigh_extras(self) -> None:
        if self.case.params.text("serving_mode") != "ray-serve":
            return
        absent = self.installed.absent
        if isinstance(absent, Missing):
            self.causes.missing(absent, Text("the packages of ray[serve]", "ray[serve] 的依赖包"))
        elif absent:
            names = ", ".join(absent)
            self.causes.warn(
                Text(f"ray[serve] is not complete: {names} not installed", f"ray[serve] 不完整：缺少 {names}")
            )

    def _weigh_running(self, found: str, backends: VllmBackends | Missing) -> None:
        name, told = self.case.host.name, False
        for backend in () if isinstance(backends, Missing) else backends.backends:
            running = backends.version(backend) if backend.host == name and not isinstance(backends, Missing) else None
            if isinstance(running, str):
                told = True
                if version(running) != version(found):
                    shown = quoted(running, 30)
                    self.causes.warn(
                        Text(
                            f"{backend.url} still runs vLLM {shown}: restart it",
                            f"{backend.url} 仍在运行 vLLM {shown}：请重启",
                        )
                    )
        if self._weigh_age() or told:
            return
        self.causes.note(Text("no vLLM runs here that could be compared", "此处没有可比较的正在运行的 vLLM"))

    def _weigh_age(self) -> bool:
        """Whether there was a process to compare: one that is older than its package runs another version, or may."""
        processes, at = self.case.facts.get(ServeProcesses), self.installed.at
        if isinstance(processes, Missing) or at is None:
            return False
        ages = [p.age for role in _RUNNING for p in processes.of(role) if p.age is not None]
        if ages and self.case.now - max(ages) < at - AFTER_SECONDS:
            self.causes.warn(
                Text(
                    "vLLM was installed after what runs here had started: restart it",
                    "vLLM 在当前进程启动之后才安装：请重启",
                )
            )
        return bool(ages)


def _plain(value: str | Missing | None) -> str | None:
    return None if isinstance(value, Missing) else value


JUDGE = FleetJudge(
    "vllm.installed-latest",
    ("versions", "serve_packages", "serve_processes", "gpu"),
    ("versions",),
    judge,
    needs=("vllm-install", "vllm-backends"),
)
