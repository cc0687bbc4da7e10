"""vllm.single-gpu-load: what the load that `model.single-gpu-load` shares with it shows of vLLM itself."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.model_load import Device, Loaded, SingleGpuLoad
from dstui.facts.raw import Missing
from dstui.judge.fleet import cluster_target, facts_of
from dstui.judge.model_load import need_of
from dstui.judge.model_served import serving_gpu
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Target, Text, host_target

_GIB = 1 << 30
_EXPECTED = Text("vLLM loads the model on one idle GPU and generates", "vLLM 能在单张空闲 GPU 上加载模型并生成")


def judge(case: FleetCase) -> Sequence[Ruling]:
    """One ruling, on the host whose GPU was chosen."""
    found = case.get(SingleGpuLoad)
    if isinstance(found, Missing):
        return [unknown(cluster_target(case.site), found, _EXPECTED)]
    served = serving_gpu(case, found.weights)
    if served is not None and isinstance(found.loaded, Missing):
        causes = Causes(host_target(served.host), _EXPECTED)
        words = Text(
            f"vLLM at {served.url} holds the model on GPU {served.gpu} alone and is healthy",
            f"{served.url} 的 vLLM 仅用 GPU {served.gpu} 承载该模型，且健康",
        )
        passed = Text("it runs so already: tp 1, pp 1, dp 1", "已以 tp 1、pp 1、dp 1 运行")
        return [causes.ruling(words, passed, material={"served": served.gpu})]
    device = found.device
    target = cluster_target(case.site) if isinstance(device, Missing) else host_target(device.host)
    memory = _largest(case) if isinstance(device, Missing) else device.total
    wants = None if memory is None else need_of(found, memory, case.params)
    if isinstance(wants, Missing):
        return [unknown(target, wants, _EXPECTED)]
    if wants is not None and wants.never:
        return [_cannot_fit(case, target)]
    if wants is None or isinstance(device, Missing):
        none = device if isinstance(device, Missing) else Missing(Reason.CANNOT_TELL, "the GPU's memory is not known")
        return [unknown(target, none, _EXPECTED)]
    return [_ruling(found, device, Causes(target, _EXPECTED), fits=wants.fits)]


def _largest(case: FleetCase) -> int | None:
    """Bytes of the largest GPU: where none is idle it still tells whether one could ever hold the model."""
    found: list[int] = []
    for host in case.site.hosts:
        facts = facts_of(case, host.name, GpuFacts)
        if host.in_ray and not isinstance(facts, Missing) and not isinstance(facts.devices, Missing):
            found += [gpu.memory_total for gpu in facts.devices if isinstance(gpu.memory_total, int)]
    return max(found, default=None)


def _cannot_fit(case: FleetCase, target: Target) -> Ruling:
    """One GPU never holds it. A smaller model would prove vLLM, and is not loaded by this dstui."""
    smoke = case.params.optional_text("smoke_model")
    if smoke is None:
        return not_applicable(
            target,
            Text(
                "one GPU can never hold the model, and no smoke_model is named",
                "单卡不可能放下该模型，也没有指定 smoke_model",
            ),
        )
    why = f"one GPU can never hold the model; load {quoted(smoke, 100)} by hand and attest to it"
    return unknown(target, Missing(Reason.NOT_BUILT, why), _EXPECTED)


def _ruling(found: SingleGpuLoad, device: Device, causes: Causes, *, fits: bool) -> Ruling:
    told = found.loaded
    if not found.asked:
        causes.unknown(
            Reason.NOT_RUN,
            Text(
                "not loaded: ask for the load in the app or with --allow-load",
                "未加载：在界面中确认或使用 --allow-load",
            ),
        )
    elif isinstance(told, Missing):
        causes.missing(told, Text("the load", "加载"))
    else:
        _weigh(causes, told, fits=fits)
    where = f"GPU {device.index} {device.uuid[:12]}"
    observed = Text(f"{where}: not loaded", f"{where}：未加载")
    if not isinstance(told, Missing):
        peak = "?" if told.peak is None else f"{told.peak / _GIB:.1f} GiB"
        words = f"{told.framework} {quoted(told.version, 30)}, {told.tokens} tokens, {told.seconds:.0f} s, {peak}"
        observed = Text(f"{where}: {words}", f"{where}：{words}")
    material = {"asked": found.asked, "tokens": None if isinstance(told, Missing) else told.tokens > 0}
    return causes.ruling(observed, Text("vLLM loaded it and generated", "vLLM 已加载并生成"), material=material)


def _weigh(causes: Causes, told: Loaded, *, fits: bool) -> None:
    if told.framework != "vllm":
        causes.unknown(
            Reason.NOT_RUN,
            Text(
                f"{quoted(told.framework, 30)} loaded the weights, not vLLM",
                f"由 {quoted(told.framework, 30)} 加载权重，而不是 vLLM",
            ),
        )
    elif told.on_gpu is False:
        where = quoted(told.device, 40)
        causes.fail(Text(f"vLLM goes to the {where}, not to a GPU", f"vLLM 使用 {where} 而不是 GPU"))
    elif told.fault and not fits:
        why = quoted(told.first or told.fault, 300)
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"vLLM failed, and by the estimate it hardly fits: {why}", f"vLLM 出错，且估算仅勉强放得下：{why}"),
        )
    elif told.fault:
        why = quoted(told.first or told.fault, 300)
        causes.fail(Text(f"vLLM failed: {why}", f"vLLM 出错：{why}"))
    elif told.on_gpu is None:
        causes.unknown(Reason.CANNOT_TELL, Text("the load does not tell its device", "加载结果没有说明设备"))
    elif told.tokens <= 0:
        causes.fail(Text("vLLM loaded it and generated no token", "vLLM 已加载，但没有生成任何 token"))
    if told.fallback:
        causes.note(Text(f"fell back: {quoted(told.fallback)}", f"发生回退：{quoted(told.fallback)}"))


JUDGE = FleetJudge(
    "vllm.single-gpu-load",
    ("gpu", "serve_processes"),
    ("gpu.nvml", "gpu.smi"),
    judge,
    ("gpu-load",),
    Lane.WORK,
    deeper=True,
)
