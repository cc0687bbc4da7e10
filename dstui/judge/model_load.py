"""model.single-gpu-load: an estimate always, a real load on an idle GPU when somebody asked for it.

A vLLM that already serves the model from one GPU has shown as much; then nothing needs to be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dstui.facts import model_memory
from dstui.facts.case import FleetCase, Params
from dstui.facts.gpu import GpuFacts
from dstui.facts.model_load import Loaded, SingleGpuLoad
from dstui.facts.model_memory import Need
from dstui.facts.raw import Missing
from dstui.judge.fleet import cluster_target, facts_of
from dstui.judge.model_present import gib
from dstui.judge.model_served import serving_gpu
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target

SLOW_SECONDS = 600.0
"""CATALOGUE 028: a load that takes longer works, and somebody should know."""
LEFT_BYTES = 64 << 20
_EXPECTED = Text("the model loads on one idle GPU and generates", "模型能在单张空闲 GPU 上加载并生成")


def judge(case: FleetCase) -> Sequence[Ruling]:
    """One ruling, on the host whose GPU was chosen."""
    cluster = cluster_target(case.site)
    found = case.get(SingleGpuLoad)
    if isinstance(found, Missing):
        return [unknown(cluster, found, _EXPECTED)]
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
    target = cluster if isinstance(device, Missing) else host_target(device.host)
    memory = _memory(case) if isinstance(device, Missing) else device.total
    if memory is None:
        return [unknown(target, device, _EXPECTED)] if isinstance(device, Missing) else []
    wants = need_of(found, memory, case.params)
    if isinstance(wants, Missing):
        return [unknown(target, wants, _EXPECTED)]
    terms = _terms(wants)
    if wants.never:
        more = "≥ 128" if wants.gpus >= 128 else f"≥ {wants.gpus}"
        why = Text(
            f"{terms.en}: one GPU can never hold it, it needs {more} of them; vllm.serve-app shows the parallel load",
            f"{terms.zh}：单卡不可能放下，需要 {more} 张；由 vllm.serve-app 的并行加载代替",
        )
        return [not_applicable(target, why)]
    causes = Causes(target, _EXPECTED)
    _weigh(found, wants, causes)
    observed = _observed(found, terms)
    material = {"asked": found.asked, "weights": wants.weights}
    return [causes.ruling(observed, Text("it loaded and generated", "已加载并生成"), material=material)]


def _memory(case: FleetCase) -> int | None:
    """Bytes of the largest GPU of the cluster, for the estimate when none is idle."""
    return max(_memories(case), default=None)


def _memories(case: FleetCase) -> Iterator[int]:
    for host in case.site.hosts:
        facts = facts_of(case, host.name, GpuFacts)
        if host.in_ray and not isinstance(facts, Missing) and not isinstance(facts.devices, Missing):
            yield from (gpu.memory_total for gpu in facts.devices if isinstance(gpu.memory_total, int))


def need_of(found: SingleGpuLoad, memory: int, params: Params) -> Need | Missing:
    """The estimate for a GPU of `memory` bytes."""
    weights = found.weights
    tensors = weights.tensors()
    if isinstance(tensors, Missing):
        return tensors
    broken = next(weights.breaches, None)
    if broken is not None:
        return Missing(Reason.CANNOT_TELL, f"{broken[0]} {broken[1].en}")
    length, margin = params.count("load_max_model_len"), params.number("estimate_margin")
    return model_memory.need(tensors, weights.config, memory, length, margin)


def _weigh(found: SingleGpuLoad, wants: Need, causes: Causes) -> None:
    if isinstance(found.device, Missing):
        causes.missing(found.device, Text("a GPU to load it on", "用于加载的 GPU"))
        return
    if not found.asked:
        fits = (
            Text("the estimate fits", "估算放得下")
            if wants.fits
            else Text("the estimate is borderline", "估算处于边缘")
        )
        causes.unknown(
            Reason.NOT_RUN,
            Text(
                f"{fits.en}, not loaded: ask for the load in the app or with --allow-load",
                f"{fits.zh}，未实际加载：在界面中确认或使用 --allow-load",
            ),
        )
        return
    told = found.loaded
    if isinstance(told, Missing):
        causes.missing(told, Text("load", "加载"))
    elif told.on_gpu is False:
        where = quoted(told.device, 40)
        why = quoted(told.fault) or f"{told.framework} {quoted(told.version, 30)}"
        causes.fail(Text(f"it goes to the {where}, not to a GPU: {why}", f"模型被放到 {where} 而不是 GPU：{why}"))
    elif told.fault:
        why = quoted(told.first or told.fault, 300)
        if wants.fits:
            causes.fail(Text(f"the load failed although it fits: {why}", f"估算放得下，加载却失败：{why}"))
        else:
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"the load failed, the estimate is borderline: {why}", f"估算处于边缘，加载失败：{why}"),
            )
    elif told.on_gpu is None:
        causes.unknown(Reason.CANNOT_TELL, Text("the load does not tell its device", "加载结果没有说明设备"))
    else:
        _weigh_loaded(told, causes)
    if isinstance(found.left, Missing):
        causes.missing(found.left, Text("GPU memory after the load", "加载后的显存"))
    elif found.left is not None and found.left > LEFT_BYTES:
        causes.warn(Text(f"{gib(found.left)} stayed on the GPU afterwards", f"加载结束后显存仍占用 {gib(found.left)}"))


def _weigh_loaded(told: Loaded, causes: Causes) -> None:
    if told.framework != "vllm":
        causes.warn(
            Text("the weights loaded, nothing was generated (framework)", "权重已加载，但没有生成（framework）")
        )
    elif told.tokens <= 0:
        causes.fail(Text("it loaded and generated no token", "已加载，但没有生成任何 token"))
    if told.seconds > SLOW_SECONDS:
        causes.warn(Text(f"loading took {told.seconds / 60:.0f} min", f"加载耗时 {told.seconds / 60:.0f} 分钟"))
    if told.fallback:
        why = quoted(told.fallback)
        causes.warn(Text(f"fell back: {why}", f"发生回退：{why}"))


def _terms(wants: Need) -> Text:
    sums = f"{gib(wants.weights)} + {gib(wants.cache)} + {gib(wants.overhead)} = {gib(wants.whole)}"
    return Text(
        f"weights + cache + overhead {sums} of {gib(wants.allowed)} allowed on a GPU",
        f"权重 + 缓存 + 开销 {sums}，单卡可用 {gib(wants.allowed)}",
    )


def _observed(found: SingleGpuLoad, terms: Text) -> Text:
    told = found.loaded
    if isinstance(told, Missing) or told.fault:
        return terms
    peak = "" if told.peak is None else f", {gib(told.peak)}"
    head = f"{told.tokens} tokens, {told.framework} {quoted(told.version, 30)}, {told.seconds:.0f} s{peak}"
    return Text(f"{head}; {terms.en}", f"{head}；{terms.zh}")


JUDGE = FleetJudge(
    "model.single-gpu-load",
    ("gpu", "serve_processes"),
    ("gpu.nvml", "gpu.smi"),
    judge,
    ("gpu-load",),
    Lane.WORK,
    deeper=True,
)
