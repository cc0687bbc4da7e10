"""sw.cuda: three numbers kept apart, the toolkit on disk, the runtime in use and the driver's ceiling over both."""

from __future__ import annotations

from dstui.facts.case import HostCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.raw import Missing
from dstui.facts.versions import Toolkit, VersionFacts
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.judge.versions import at_least, bound, compare, dotted, version
from dstui.model import Reason, Ruling, Text, host_target

Version = tuple[int, ...]

_NOT_LOOKED_INTO = frozenset({Reason.PERMISSION, Reason.TIMEOUT, Reason.PARSE_ERROR, Reason.BUDGET})


def cuda(case: HostCase) -> Ruling:
    target, least = host_target(case.host.name), case.params.text("cuda_min")
    accept, floor = case.params.texts("cuda_accept"), bound(case.params, "cuda_min")
    what = " or ".join(accept)
    expected = Text(
        f"{what} at least {least}, under a driver that supports it",
        f"{'或'.join(accept)} 不低于 {least}，且驱动支持",
    )
    if not case.host.gpu:
        return not_applicable(target, Text("the inventory says gpu: false for this host", "清单中该主机为 gpu: false"))
    gpu, versions = case.facts.get(GpuFacts), case.facts.get(VersionFacts)
    if isinstance(floor, Missing):
        return unknown(target, floor, expected)
    if isinstance(gpu, Missing):
        return unknown(target, gpu, expected)
    if isinstance(versions, Missing):
        return unknown(target, versions, expected)
    causes = Causes(target, expected)
    toolkit, runtime, ceiling = _newest(versions), _runtime(versions), gpu.cuda_capability
    if not (toolkit is None and runtime is None and isinstance(ceiling, Missing)):
        _judge_installed(causes, versions, toolkit, runtime, floor, accept)
    if isinstance(ceiling, Missing):
        causes.missing(ceiling, Text("CUDA supported by the driver", "驱动支持的 CUDA 版本"))
    else:
        _judge_ceiling(causes, versions, ceiling, runtime, floor)
    _judge_toolkits(causes, versions, toolkit)
    return causes.ruling(
        _observed(toolkit, runtime, ceiling),
        Text(
            "a toolkit or runtime is new enough and the driver supports it",
            "工具包或运行时版本满足要求，且驱动支持",
        ),
        material={
            "toolkit": toolkit.version if toolkit else None,
            "runtime": dotted(runtime) if runtime else None,
            "driver": None if isinstance(ceiling, Missing) else dotted(ceiling),
        },
    )


def _newest(versions: VersionFacts) -> Toolkit | None:
    return max(versions.toolkits, key=lambda t: version(t.version) or (), default=None)


def _runtime(versions: VersionFacts) -> Version | None:
    return version(versions.torch_cuda) if isinstance(versions.torch_cuda, str) else None


def _judge_installed(
    causes: Causes,
    versions: VersionFacts,
    toolkit: Toolkit | None,
    runtime: Version | None,
    floor: Version,
    accept: tuple[str, ...],
) -> None:
    compiler = version(toolkit.version) if toolkit else None
    by_toolkit = "toolkit" in accept and compiler is not None and at_least(compiler, floor)
    by_runtime = "runtime" in accept and runtime is not None and at_least(runtime, floor)
    if by_toolkit:
        if isinstance(versions.torch_cuda, Missing) and versions.torch_cuda.reason in _NOT_LOOKED_INTO:
            # A runtime that the driver cannot carry may be there.
            causes.missing(versions.torch_cuda, Text("CUDA that torch is built for", "torch 所基于的 CUDA"))
        if runtime is not None and not at_least(runtime, floor):
            causes.note(
                Text(f"torch itself is built for CUDA {dotted(runtime)}", f"torch 本身基于 CUDA {dotted(runtime)}")
            )
        return
    if by_runtime:
        if compiler is None and versions.toolkits_unread is None:
            causes.warn(
                Text(
                    "no toolkit: kernels compiled at run time (FlashInfer, DeepGEMM) may want nvcc",
                    "没有工具包：运行时编译的内核（FlashInfer、DeepGEMM）可能需要 nvcc",
                )
            )
        elif compiler is not None:
            causes.warn(
                Text(
                    f"passes by the runtime, the toolkit is {dotted(compiler)}",
                    f"运行时满足要求，工具包为 {dotted(compiler)}",
                )
            )
        return
    untold = _untold(versions, accept)
    if untold is not None:
        causes.missing(untold, Text("installed CUDA", "已安装的 CUDA"))
    elif compiler is None and runtime is None:
        causes.fail(
            Text(
                "neither a toolkit nor a CUDA build of torch is installed", "未安装 CUDA 工具包，也没有 CUDA 版的 torch"
            )
        )
    else:
        found = ", ".join(
            f"{name} {dotted(parts)}" for name, parts in (("toolkit", compiler), ("runtime", runtime)) if parts
        )
        causes.fail(
            Text(
                f"only {found}: below {dotted(floor)} or not accepted", f"只有 {found}：低于 {dotted(floor)} 或不被接受"
            )
        )


def _untold(versions: VersionFacts, accept: tuple[str, ...]) -> Missing | None:
    """Why something acceptable may be installed after all, where nobody could look."""
    if (
        "runtime" in accept
        and isinstance(versions.torch_cuda, Missing)
        and versions.torch_cuda.reason is not Reason.TOOL_MISSING
    ):
        return versions.torch_cuda
    return versions.toolkits_unread if "toolkit" in accept else None


def _judge_ceiling(
    causes: Causes, versions: VersionFacts, ceiling: tuple[int, int], runtime: Version | None, floor: Version
) -> None:
    shown = dotted(ceiling)
    if not at_least(ceiling, floor):
        causes.fail(Text(f"the driver supports CUDA {shown} at most", f"驱动最高支持 CUDA {shown}"))
    if runtime is None or at_least(ceiling, runtime[:2]):
        return
    if runtime[0] == ceiling[0]:
        causes.warn(
            Text(
                f"runtime {dotted(runtime)} over driver {shown}: minor-version compatibility, no PTX JIT",
                f"运行时 {dotted(runtime)} 高于驱动支持的 {shown}：依靠次版本兼容，PTX JIT 不可用",
            )
        )
    elif versions.compat_libraries:
        causes.warn(
            Text(
                f"runtime {dotted(runtime)} over driver {shown}: needs the installed forward-compatibility package",
                f"运行时 {dotted(runtime)} 高于驱动支持的 {shown}：依赖已安装的前向兼容包",
            )
        )
    else:
        causes.fail(
            Text(
                f"runtime {dotted(runtime)} cannot run under a driver for CUDA {shown}",
                f"运行时 {dotted(runtime)} 无法在支持 CUDA {shown} 的驱动上运行",
            )
        )


def _judge_toolkits(causes: Causes, versions: VersionFacts, newest: Toolkit | None) -> None:
    """Several toolkits, of which /usr/local/cuda is not the newest."""
    numbered = {
        path: parts
        for path in versions.toolkit_directories
        if (parts := version(path.rpartition("cuda-")[2])) is not None
    }
    linked = version(versions.toolkit_link.rpartition("cuda-")[2]) if versions.toolkit_link else None
    minors = {parts[:2] for parts in numbered.values() if len(parts) >= 2}
    if len(minors) > 1 and linked is not None and any(compare(parts, linked[: len(parts)]) > 0 for parts in minors):
        listed = ", ".join(quoted(path, 30) for path in sorted(numbered))
        causes.warn(
            Text(
                f"/usr/local/cuda is {dotted(linked)}, not the newest of {listed}",
                f"/usr/local/cuda 指向 {dotted(linked)}，不是 {listed} 中最新的",
            )
        )
    if newest and not newest.compiler and not any(toolkit.compiler for toolkit in versions.toolkits):
        causes.note(Text(f"{newest.path} has no nvcc that runs", f"{newest.path} 没有可运行的 nvcc"))


def _observed(toolkit: Toolkit | None, runtime: Version | None, ceiling: tuple[int, int] | Missing) -> Text:
    disk = quoted(toolkit.version, 20) if toolkit else "–"
    used = dotted(runtime) if runtime else "–"
    driver = "?" if isinstance(ceiling, Missing) else dotted(ceiling)
    return Text(
        f"toolkit {disk}, runtime (torch) {used}, driver supports up to {driver}",
        f"工具包 {disk}，运行时（torch）{used}，驱动最高支持 {driver}",
    )


JUDGE = HostJudge("sw.cuda", ("gpu", "versions"), ("versions", "gpu.nvml", "gpu.banner"), cuda)
