"""hw.gpu-model: enough GPUs of an allowed model, and as many answering as sit on the PCI bus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from dstui.facts.case import HostCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.gpu_devices import Gpu
from dstui.facts.os import OsFacts
from dstui.facts.raw import Missing
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Target, Text, Verdict, host_target

GB = 1_000_000_000

_TOKEN = re.compile(r"[^A-Za-z0-9]+")
_VGPU = re.compile(r"\bGRID\b|-\d{1,3}[ABCQ]\b", re.ASCII)
"""vGPU profiles: `GRID A100-10C`, from driver 525 on `NVIDIA A100-10C`."""

NO_GPU_ROLE = Text("the inventory says gpu: false for this host", "清单中该主机为 gpu: false")


def allowed_model(name: str, models: tuple[str, ...]) -> str | None:
    """The allowed model that a GPU's name holds as a whole token: `H20` is no token of `NVIDIA H200`."""
    tokens = {token.upper() for token in _TOKEN.split(name) if token}
    return next((model for model in models if model.upper() in tokens), None)


def gpu_model(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    if not case.host.gpu:
        return not_applicable(target, NO_GPU_ROLE)
    if not case.host.in_ray:
        return not_applicable(target, Text("this host has no head or worker role", "该主机不是 head 或 worker"))
    models, least, exact = case.params.texts("gpu_models"), case.params.count("gpu_min_count"), _exact(case)
    expected = _expected(models, least, exact)
    facts = case.facts.get(GpuFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    causes = Causes(target, expected)
    _judge_counts(causes, facts)
    if isinstance(facts.devices, Missing):
        return _without_devices(causes, case, facts, facts.devices, target, expected)
    devices = facts.devices
    good = [gpu for gpu in devices if isinstance(gpu.name, str) and allowed_model(gpu.name, models)]
    unnamed = [gpu for gpu in devices if isinstance(gpu.name, Missing)]
    if len(good) + len(unnamed) < least:
        causes.fail(
            Text(
                f"{len(good)} GPUs of an allowed model, fewer than {least}",
                f"型号符合的 GPU 有 {len(good)} 张，少于 {least} 张",
            )
        )
    if exact is not None and len(devices) != exact:
        causes.fail(
            Text(
                f"{len(devices)} GPUs, but the inventory says {exact}", f"有 {len(devices)} 张 GPU，清单中为 {exact} 张"
            )
        )
    if not devices:
        causes.fail(Text("no GPU answers", "没有 GPU 响应"))
    for gpu in devices:
        _judge_answer(causes, gpu)
    for name in dict.fromkeys(gpu.name for gpu in devices if isinstance(gpu.name, str)):
        _judge_name(causes, name, models, case.params.table("gpu_models_note"))
    _judge_modes(causes, case, devices)
    return causes.ruling(
        _observed(facts, devices),
        Text(
            "every GPU is of an allowed model and answers, and the count is right",
            "所有 GPU 型号符合、均有响应，且数量正确",
        ),
        material=_material(facts, devices),
    )


def _exact(case: HostCase) -> int | None:
    declared = case.params.optional_number("gpus_per_host")
    return case.host.gpus_per_host if declared is None else int(declared)


def _expected(models: tuple[str, ...], least: int, exact: int | None) -> Text:
    names = ", ".join(models)
    if exact is not None:
        return Text(f"{exact} GPUs, at least {least} of {names}", f"{exact} 张 GPU，其中至少 {least} 张为 {names}")
    return Text(f"at least {least} GPU of {names}", f"至少 {least} 张 GPU，型号为 {names}")


def _judge_counts(causes: Causes, facts: GpuFacts) -> None:
    """The PCI bus against what answers: a GPU that is on the bus and silent fell off, or has no driver."""
    if facts.fault and facts.fault.name == "LIB_RM_VERSION_MISMATCH":
        causes.fail(
            Text(
                "driver and library differ (LIB_RM_VERSION_MISMATCH): no GPU works until the driver is reloaded",
                "驱动内核模块与用户态库版本不一致（LIB_RM_VERSION_MISMATCH），重新加载驱动前 GPU 不可用",
            )
        )
    if isinstance(facts.pci, Missing):
        causes.missing(facts.pci, Text("NVIDIA devices on the PCI bus", "PCI 总线上的 NVIDIA 设备"))
        return
    bus = len(facts.pci)
    if isinstance(facts.devices, Missing):
        if facts.fault and facts.fault.name == "DRIVER_NOT_LOADED" and bus:
            causes.fail(
                Text(
                    f"{bus} GPUs on the PCI bus and no NVIDIA driver loaded",
                    f"PCI 总线上有 {bus} 张 GPU，但未加载 NVIDIA 驱动",
                )
            )
        return
    answering = len(facts.devices)
    if bus > answering:
        others = sorted({gpu.driver or "no driver" for gpu in facts.pci} - {"nvidia"})
        bound = f" ({', '.join(others)})" if others else ""
        causes.fail(
            Text(
                f"{bus} GPUs on the PCI bus, {answering} answer{bound}: one fell off or has no driver",
                f"PCI 总线上有 {bus} 张 GPU，有响应的 {answering} 张{bound}：有 GPU 掉卡或未绑定驱动",
            )
        )
    elif bus < answering:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{answering} GPUs answer, but the PCI bus shows {bus}: the bus is not fully visible here",
                f"有 {answering} 张 GPU 响应，但 PCI 总线只显示 {bus} 张：此处看不到完整的总线",
            ),
        )


def _without_devices(
    causes: Causes, case: HostCase, facts: GpuFacts, devices: Missing, target: Target, expected: Text
) -> Ruling:
    """Neither NVML nor nvidia-smi named a GPU: bus and device files decide between FAIL and UNKNOWN."""
    bus = None if isinstance(facts.pci, Missing) else len(facts.pci)
    if bus == 0:
        causes.fail(Text("no NVIDIA GPU on the PCI bus", "PCI 总线上没有 NVIDIA GPU"))
    elif causes.verdict is not Verdict.FAIL:
        lacking = _denied(case, facts) or devices
        if bus is None:
            return unknown(target, lacking, expected)
        causes.missing(lacking, Text(f"model of the {bus} GPUs on the PCI bus", f"PCI 总线上 {bus} 张 GPU 的型号"))
    seen = "?" if bus is None else str(bus)
    fault = f", {facts.source}: {facts.fault.name}" if facts.fault else ""
    return causes.ruling(
        Text(
            f"{seen} NVIDIA GPUs on the PCI bus, models unknown{fault}",
            f"PCI 总线上有 {seen} 张 NVIDIA GPU，型号未知{fault}",
        ),
        Text("", ""),
        material={"pci": bus, "fault": facts.fault.name if facts.fault else None},
    )


def _denied(case: HostCase, facts: GpuFacts) -> Missing | None:
    """Device files that are not there although the driver is: a container, or a session without access to them."""
    if facts.fault is not None and facts.fault.name == "NO_PERMISSION":
        return Missing(Reason.PERMISSION, f"{facts.source}: NO_PERMISSION")
    system = case.facts.get(OsFacts)
    contained = isinstance(system, OsFacts) and system.container is not None
    if facts.device_files is False and (contained or facts.module_loaded is True):
        return Missing(Reason.PERMISSION, "no /dev/nvidia* for this session")
    return None


def _judge_answer(causes: Causes, gpu: Gpu) -> None:
    """A GPU that fell off may still give its name from the driver's memory."""
    if gpu.lost:
        causes.fail(Text(f"GPU {gpu.index} does not answer: {gpu.lost}", f"GPU {gpu.index} 无响应：{gpu.lost}"))
    elif isinstance(gpu.name, Missing):
        causes.missing(gpu.name, Text(f"model of GPU {gpu.index}", f"GPU {gpu.index} 的型号"))


def _judge_name(causes: Causes, name: str, models: tuple[str, ...], notes: Mapping[str, object]) -> None:
    shown, model = quoted(name, 60), allowed_model(name, models)
    if model is None:
        causes.fail(Text(f"{shown} is not an allowed model", f"{shown} 不在允许的型号之内"))
        return
    if _VGPU.search(name):
        causes.warn(Text(f"{shown} is a vGPU profile, not a whole GPU", f"{shown} 是 vGPU 配置，不是整卡"))
    if (note := notes.get(model)) is not None:
        causes.note(_note(model, note))


def _note(model: str, note: object) -> Text:
    if isinstance(note, Mapping):
        en, zh = str(note.get("en", "")), str(note.get("zh", ""))
        return Text(f"{model}: {en or zh}", f"{model}：{zh or en}")
    return Text(f"{model}: {note}", f"{model}：{note}")


def _judge_modes(causes: Causes, case: HostCase, devices: tuple[Gpu, ...]) -> None:
    sliced = [gpu.index for gpu in devices if gpu.mig]
    if sliced and not case.params.flag("mig_allowed"):
        which = ", ".join(map(str, sliced))
        causes.warn(Text(f"MIG is on for GPU {which}", f"GPU {which} 启用了 MIG"))
    names = {gpu.name for gpu in devices if isinstance(gpu.name, str)}
    if len(names) > 1:
        listed = ", ".join(sorted(quoted(name, 40) for name in names))
        causes.warn(Text(f"different models in one host: {listed}", f"同一主机上有不同型号：{listed}"))
    least = case.params.optional_number("gpu_mem_min_gb")
    for gpu in devices if least is not None else ():
        if isinstance(gpu.memory_total, Missing):
            causes.missing(gpu.memory_total, Text(f"memory of GPU {gpu.index}", f"GPU {gpu.index} 的显存"))
        elif least is not None and gpu.memory_total < least * GB:
            size = f"{gpu.memory_total / GB:.1f} GB"
            causes.fail(
                Text(
                    f"GPU {gpu.index} has {size}, less than {least:g} GB",
                    f"GPU {gpu.index} 显存 {size}，低于 {least:g} GB",
                )
            )


def _observed(facts: GpuFacts, devices: tuple[Gpu, ...]) -> Text:
    counted = Counter(quoted(gpu.name, 60) if isinstance(gpu.name, str) else "?" for gpu in devices)
    shown = " + ".join(f"{count} × {name}" for name, count in sorted(counted.items())) or "0 GPU"
    bus = "?" if isinstance(facts.pci, Missing) else len(facts.pci)
    return Text(f"{shown} ({facts.source}), {bus} on the PCI bus", f"{shown}（{facts.source}），PCI 总线上 {bus} 张")


def _material(facts: GpuFacts, devices: tuple[Gpu, ...]) -> dict[str, object]:
    return {
        "gpus": [
            {
                "uuid": gpu.uuid if isinstance(gpu.uuid, str) else None,
                "name": gpu.name if isinstance(gpu.name, str) else None,
                "mig": gpu.mig,
            }
            for gpu in devices
        ],
        "pci": None if isinstance(facts.pci, Missing) else len(facts.pci),
        "fault": facts.fault.name if facts.fault else None,
    }
