"""sw.nvidia-driver: the loaded driver is new enough, is the pinned one, is the same as on the other hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dstui.facts.case import FleetCase, HostCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.numbers import garbled
from dstui.facts.raw import Missing
from dstui.facts.versions import VersionFacts
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown, why_missing
from dstui.judge.versions import at_least, bound, compare, odd_ones, version
from dstui.model import Ruling, Text, host_target

DRIVER_FOR_CUDA: Mapping[int, int] = {11: 450, 12: 525, 13: 580}
"""The oldest driver branch that runs any runtime of a CUDA major (NVIDIA CUDA Compatibility, minor version table)."""

NO_GPU = Text("the inventory says gpu: false for this host", "清单中该主机为 gpu: false")


def nvidia_driver(fleet: FleetCase) -> Sequence[Ruling]:
    loaded = {
        host.name: facts.loaded_driver
        for host in fleet.site.hosts
        if host.gpu
        and host.name in fleet.facts
        and isinstance(facts := fleet.facts[host.name].get(GpuFacts), GpuFacts)
        and isinstance(facts.loaded_driver, str)
    }
    odd = odd_ones(loaded)
    return [
        _judge_host(fleet.case(host.name), loaded if host.name in odd else {})
        for host in fleet.site.hosts
        if host.name in fleet.facts
    ]


def _judge_host(case: HostCase, elsewhere: Mapping[str, str]) -> Ruling:
    """`elsewhere` holds the drivers of all hosts when this one's is not the common one, else nothing."""
    target, params = host_target(case.host.name), case.params
    pin, floor = params.optional_text("driver_expected"), bound(params, "driver_min")
    shown = params.text("driver_min")
    expected = (
        Text(f"{pin} (pinned), at least {shown}", f"{pin}（固定版本），且不低于 {shown}")
        if pin
        else Text(f"at least {shown}", f"不低于 {shown}")
    )
    if not case.host.gpu:
        return not_applicable(target, NO_GPU)
    facts = case.facts.get(GpuFacts)
    if isinstance(floor, Missing):
        return unknown(target, floor, expected)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    causes = Causes(target, expected)
    if facts.fault and facts.fault.name == "LIB_RM_VERSION_MISMATCH":
        causes.fail(
            Text(
                "driver and library versions differ: the GPUs are unusable until a reboot",
                "驱动内核模块与用户态库版本不一致：重启前 GPU 不可用",
            )
        )
    bus = 0 if isinstance(facts.pci, Missing) else len(facts.pci)
    loaded = facts.loaded_driver
    if isinstance(loaded, Missing):
        if facts.module_loaded is False and bus:
            causes.fail(
                Text(f"{bus} NVIDIA devices and no driver module loaded", f"有 {bus} 个 NVIDIA 设备，但未加载驱动模块")
            )
        elif not causes.found:
            return unknown(target, loaded, expected)
    else:
        _judge_version(causes, case, facts, loaded, floor, pin)
        if isinstance(facts.nvml_driver, Missing):
            why = why_missing(facts.nvml_driver)
            causes.warn(
                Text(
                    f"the kernel module's own word only, NVML and nvidia-smi did not say it: {why.en}",
                    f"仅来自内核模块，NVML 与 nvidia-smi 未确认：{why.zh}",
                )
            )
    if isinstance(loaded, str) and elsewhere:
        others = sorted({quoted(v, 20) for v in elsewhere.values()} - {quoted(loaded, 20)})[:4]
        causes.warn(
            Text(
                f"differs from other hosts, which run {', '.join(others)}",
                f"与其他主机不同，其他主机为 {', '.join(others)}",
            )
        )
    return causes.ruling(
        _observed(facts, loaded),
        Text("the loaded driver is new enough", "已加载的驱动满足要求"),
        material={
            "loaded": loaded if isinstance(loaded, str) else None,
            "on_disk": facts.disk_driver if isinstance(facts.disk_driver, str) else None,
            "fault": facts.fault.name if facts.fault else None,
        },
    )


def _judge_version(
    causes: Causes, case: HostCase, facts: GpuFacts, loaded: str, floor: tuple[int, ...], pin: str | None
) -> None:
    found, shown = version(loaded), quoted(loaded, 20)
    if found is None:
        causes.missing(garbled("driver version", loaded), Text("driver version", "驱动版本"))
        return
    if not at_least(found, floor):
        least = case.params.text("driver_min")
        causes.fail(Text(f"{shown} is older than {least}", f"{shown} 低于 {least}"))
    if pin and compare(found, version(pin) or ()) != 0:
        causes.fail(Text(f"{shown} is loaded, {pin} is pinned", f"已加载 {shown}，固定版本为 {pin}"))
    on_disk = facts.disk_driver
    if isinstance(on_disk, str) and compare(found, version(on_disk) or found) != 0:
        causes.warn(
            Text(
                f"{quoted(on_disk, 20)} is on disk, {shown} is loaded: a reboot is pending",
                f"磁盘上为 {quoted(on_disk, 20)}，已加载 {shown}：等待重启",
            )
        )
    if at_least(found, floor):
        _judge_effective(causes, case, found)


def _judge_effective(causes: Causes, case: HostCase, found: tuple[int, ...]) -> None:
    """The floor that the installed torch build sets, beside the document's (CATALOGUE 0.1 D1)."""
    versions = case.facts.get(VersionFacts)
    cuda = versions.torch_cuda if isinstance(versions, VersionFacts) else None
    parts = version(cuda) if isinstance(cuda, str) else None
    branch = DRIVER_FOR_CUDA.get(parts[0]) if parts else None
    if branch is None:
        return
    if at_least(found, (branch,)):
        causes.note(
            Text(
                f"torch is built for CUDA {cuda}: driver {branch} or newer",
                f"torch 基于 CUDA {cuda}：需要驱动 {branch} 或更高",
            )
        )
    else:
        causes.warn(
            Text(
                f"torch is built for CUDA {cuda}, which wants driver {branch} or newer",
                f"torch 基于 CUDA {cuda}，需要驱动 {branch} 或更高",
            )
        )


def _observed(facts: GpuFacts, loaded: str | Missing) -> Text:
    version_shown = quoted(loaded, 20) if isinstance(loaded, str) else "–"
    on_disk = quoted(facts.disk_driver, 20) if isinstance(facts.disk_driver, str) else "–"
    flavour = {True: Text("open module", "开源模块"), False: Text("proprietary module", "专有模块")}.get(
        bool(facts.open_module), Text("", "")
    )
    known = facts.open_module is not None
    return Text(
        f"{version_shown} loaded, {on_disk} on disk" + (f", {flavour.en}" if known else ""),
        f"已加载 {version_shown}，磁盘上 {on_disk}" + (f"，{flavour.zh}" if known else ""),
    )


JUDGE = FleetJudge(
    "sw.nvidia-driver",
    ("gpu", "versions"),
    ("gpu.nvml", "gpu.smi", "gpu.proc-version", "gpu.module-version", "gpu.modinfo", "gpu.pci"),
    nvidia_driver,
)
