"""model.memory-fit: do weights and cache fit into the GPUs, and for how many requests; the arithmetic is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts import model_memory
from dstui.facts.case import FleetCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.mem import MemFacts
from dstui.facts.model_config import Config
from dstui.facts.model_memory import GIB, Budget, Cache, Split, Weights
from dstui.facts.model_shards import ModelWeights
from dstui.facts.raw import Missing
from dstui.facts.vllm_backends import CACHE_CONFIG, METRICS
from dstui.judge.fleet import cluster_target, facts_of
from dstui.judge.model_present import gib
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text

MEASURED_DIFFERS = 0.15
"""CATALOGUE 030: from here on the estimate and what vLLM measured do not speak of the same."""
OBJECT_STORE_SHARE, OBJECT_STORE_MOST = 0.3, 200 * 10**9
"""What Ray takes for its object store when nothing else is said."""

_LABEL = re.compile(r'(num_gpu_blocks|block_size|kv_cache_size_tokens)="(\d{1,12})"', re.ASCII)
_EXPECTED = Text("weights and cache fit into the GPUs", "权重和缓存能放进 GPU")
_PASSED = Text("the cache holds the longest sequence and the concurrency wanted", "缓存容得下最长序列和期望的并发")


@dataclass(frozen=True, slots=True)
class Plan:
    """The terms of the sum, as `_plan` found them together."""

    config: Config
    weights: Weights
    cache: Cache
    split: Split
    share: float
    longest: int
    gpus: Mapping[str, tuple[int, ...] | Missing]

    @property
    def smallest(self) -> int:
        """Bytes of the GPU with the least memory."""
        return min(size for sizes in self.gpus.values() if not isinstance(sizes, Missing) for size in sizes)


def judge(case: FleetCase) -> Sequence[Ruling]:
    target = cluster_target(case.site)
    found = case.get(ModelWeights)
    if isinstance(found, Missing):
        return [unknown(target, found, _EXPECTED)]
    plan = _plan(case, found)
    if isinstance(plan, Missing):
        return [unknown(target, plan, _EXPECTED)]
    causes = Causes(target, _EXPECTED)
    besides = _overhead(case, plan)
    weight = plan.weights.per_gpu(plan.split)
    result = model_memory.budget(plan.smallest, plan.share, weight, besides, plan.cache.per_token)
    measured = measured_tokens(found)
    tokens = result.tokens if measured is None else measured
    _weigh_heads(plan, causes)
    _weigh_tokens(case, found, plan, result, measured, causes)
    _weigh_gpus(found, plan, causes)
    _weigh_ram(case, plan, weight, causes)
    _weigh_rough(plan, causes)
    for line in _arithmetic(plan, result, measured):
        causes.note(line)
    return [causes.ruling(_observed(plan, result, tokens), _PASSED, material=_material(plan, tokens))]


def _plan(case: FleetCase, found: ModelWeights) -> Plan | Missing:
    config, tensors = found.config, found.tensors()
    if isinstance(config, Missing):
        return config
    if isinstance(tensors, Missing):
        return tensors
    broken = next(found.breaches, None)
    if broken is not None:
        return Missing(Reason.CANNOT_TELL, f"{broken[0]} {broken[1].en}")
    if not tensors:
        return Missing(Reason.CANNOT_TELL, f"no safetensors headers in {found.files.path}")
    params = case.params
    split = Split(params.count("tp"), params.count("pp"), params.count("dp"), params.flag("expert_parallel"))
    element = model_memory.element_bytes(params.text("kv_cache_dtype"), config)
    if isinstance(element, Missing):
        return element
    cache = model_memory.cache(config, split, element)
    if isinstance(cache, Missing):
        return cache
    length = params.optional_number("max_model_len") or config.positions
    if length is None:
        return Missing(Reason.CANNOT_TELL, "neither engine.max_model_len nor max_position_embeddings is set")
    gpus = {host.name: _gpus(case, host.name) for host in case.site.hosts if host.in_ray and host.gpu}
    known = [sizes for sizes in gpus.values() if not isinstance(sizes, Missing)]
    if not any(known):
        lost = next((sizes for sizes in gpus.values() if isinstance(sizes, Missing)), None)
        return lost or Missing(Reason.CANNOT_TELL, "the memory of no GPU is known")
    weights = model_memory.weights(tensors, config)
    return Plan(config, weights, cache, split, params.number("gpu_memory_utilization"), int(length), gpus)


def _gpus(case: FleetCase, host: str) -> tuple[int, ...] | Missing:
    """Memory of each GPU of a host, in bytes."""
    facts = facts_of(case, host, GpuFacts)
    if isinstance(facts, Missing):
        return facts
    if isinstance(facts.devices, Missing):
        return facts.devices
    sizes = []
    for gpu in facts.devices:
        if isinstance(gpu.memory_total, Missing):
            return gpu.memory_total
        sizes.append(gpu.memory_total)
    return tuple(sizes)


def _overhead(case: FleetCase, plan: Plan) -> int:
    own = case.params.optional_number("overhead_gib")
    return model_memory.overhead(plan.smallest, plan.split) if own is None else int(own * GIB)


def measured_tokens(found: ModelWeights) -> int | None:
    """Tokens that fit into the cache of a running engine, by its own metrics; the least of all engines."""
    if isinstance(found.backends, Missing):
        return None
    counts = []
    for backend in found.backends.backends:
        exchange = found.backends.asked(backend, METRICS)
        if isinstance(exchange, Missing) or exchange.status != 200:
            continue
        for line in CACHE_CONFIG.findall(exchange.body)[:256]:
            labels = {name: int(value) for name, value in _LABEL.findall(line.decode("utf-8", "replace"))}
            whole = labels.get("kv_cache_size_tokens") or labels.get("num_gpu_blocks", 0) * labels.get("block_size", 0)
            if whole:
                counts.append(whole)
    return min(counts, default=None)


def _weigh_heads(plan: Plan, causes: Causes) -> None:
    wrong = model_memory.indivisible(plan.config, plan.split)
    tp = plan.split.tp
    if wrong == "heads":
        heads = plan.config.heads
        causes.fail(
            Text(f"{heads} attention heads cannot be shared by tp {tp}", f"{heads} 个注意力头不能被 tp {tp} 整除")
        )
    elif wrong == "kv":
        heads = plan.config.kv_heads
        causes.fail(Text(f"{heads} KV heads cannot be shared by tp {tp}", f"{heads} 个 KV 头不能按 tp {tp} 划分"))
    if plan.config.layers is not None and plan.split.pp > plan.config.layers:
        causes.fail(
            Text(f"{plan.config.layers} layers, pp {plan.split.pp}", f"{plan.config.layers} 层，pp {plan.split.pp}")
        )


def _weigh_tokens(
    case: FleetCase, found: ModelWeights, plan: Plan, result: Budget, measured: int | None, causes: Causes
) -> None:
    if measured is None and result.left <= 0:
        short = gib(-result.left)
        causes.fail(Text(f"the weights do not fit: {short} too little on each GPU", f"权重放不下：每张 GPU 差 {short}"))
        return
    tokens = result.tokens if measured is None else measured
    if tokens < plan.longest:
        causes.fail(
            Text(
                f"room for {tokens:,} tokens, a sequence may have {plan.longest:,}: vLLM refuses to start",
                f"只能容纳 {tokens:,} 个 token，单序列可达 {plan.longest:,}：vLLM 拒绝启动",
            )
        )
    else:
        concurrency, context = case.params.count("target_concurrency"), case.params.count("avg_context_tokens")
        replicas = found.replicas * plan.split.dp
        wanted = -(-concurrency * context // replicas)
        if tokens < wanted:
            causes.warn(
                Text(
                    f"room for {tokens:,} tokens, {concurrency} requests of {context:,} on {replicas} replicas "
                    f"need {wanted:,} each",
                    f"可容纳 {tokens:,} 个 token，{replicas} 个副本处理 {concurrency} 个 {context:,} token 的请求"
                    f"各需 {wanted:,}",
                )
            )
    if measured is not None and abs(measured - result.tokens) > MEASURED_DIFFERS * measured:
        causes.warn(
            Text(
                f"estimated {result.tokens:,} tokens, the running engine has {measured:,}",
                f"估算 {result.tokens:,} 个 token，运行中的引擎为 {measured:,}",
            )
        )


def _weigh_gpus(found: ModelWeights, plan: Plan, causes: Causes) -> None:
    """As many GPUs as all replicas take; those of a host that did not answer may make up for what lacks."""
    for host, sizes in plan.gpus.items():
        if isinstance(sizes, Missing):
            causes.missing(sizes, Text(f"GPUs of {host}", f"{host} 的 GPU"))
    there = sum(len(sizes) for sizes in plan.gpus.values() if not isinstance(sizes, Missing))
    needed = plan.split.gpus * found.replicas
    if needed > there and not any(isinstance(sizes, Missing) for sizes in plan.gpus.values()):
        causes.fail(
            Text(
                f"tp {plan.split.tp} × pp {plan.split.pp} × dp {plan.split.dp} × {found.replicas} replicas "
                f"need {needed} GPUs, there are {there}",
                f"tp {plan.split.tp} × pp {plan.split.pp} × dp {plan.split.dp} × {found.replicas} 个副本"
                f"需要 {needed} 张 GPU，只有 {there} 张",
            )
        )


def _weigh_ram(case: FleetCase, plan: Plan, weight: int, causes: Causes) -> None:
    """Host memory for loading: the weights of the GPUs on one host, and Ray's object store beside them."""
    factor = case.params.number("host_ram_factor")
    short: list[str] = []
    for host, sizes in plan.gpus.items():
        if isinstance(sizes, Missing) or not sizes:
            continue
        facts = facts_of(case, host, MemFacts)
        total = facts if isinstance(facts, Missing) else facts.total
        if isinstance(total, Missing):
            causes.missing(total, Text(f"memory of {host}", f"{host} 的内存"))
            continue
        needed = int(weight * min(len(sizes), plan.split.gpus) * factor)
        needed += int(min(total * OBJECT_STORE_SHARE, OBJECT_STORE_MOST))
        if needed > total:
            short.append(f"{host} {gib(total)} < {gib(needed)}")
    if short:
        shown = ", ".join(short[:4])
        causes.warn(Text(f"host memory is short for loading: {shown}", f"主机内存不足以加载：{shown}"))


_ROUGH = {
    "sparse-index": Text("rough: the cache of the sparse index is not counted", "估算较粗：未计入稀疏索引的缓存"),
    "window": Text("rough: sliding windows need less than this", "估算较粗：滑动窗口实际需要更少"),
}


def _weigh_rough(plan: Plan, causes: Causes) -> None:
    why = model_memory.rough(plan.config)
    if why is None:
        return
    name = quoted(", ".join(plan.config.architectures)) or "?"
    other = Text(f"rough: the architecture {name} is not known", f"估算较粗：不认识架构 {name}")
    causes.warn(_ROUGH.get(why, other))


def _arithmetic(plan: Plan, result: Budget, measured: int | None) -> list[Text]:
    """Every term, so that somebody can follow the sum."""
    weights, split, cache = plan.weights, plan.split, plan.cache
    experts = f" + {gib(weights.experts)} experts / {split.expert_ranks * split.pp}" if weights.experts else ""
    mtp_en = f", {gib(weights.mtp)} of MTP layers not loaded" if weights.mtp else ""
    mtp_zh = f"，MTP 层 {gib(weights.mtp)} 不加载" if weights.mtp else ""
    sum_ = f"{gib(weights.dense)} / {split.tp * split.pp}{experts} = {gib(result.weights)}"
    kept_en = " on every tensor-parallel rank" if cache.kind == "MLA" and split.tp > 1 else ""
    kept_zh = "（每个张量并行 rank 都有）" if cache.kind == "MLA" and split.tp > 1 else ""
    per = f"{cache.formula} = {cache.per_token:,} B"
    left = (
        f"{gib(result.total)} × {plan.share:g} − {gib(result.weights)} − {gib(result.overhead)} = "
        + ("−" if result.left < 0 else "")
        + gib(abs(result.left))
    )
    one = gib(plan.longest * cache.per_token)
    lines = [
        Text(f"weights on a GPU: {sum_}{mtp_en}", f"单卡权重：{sum_}{mtp_zh}"),
        Text(f"{cache.kind} cache for a token: {per}{kept_en}", f"每 token 的 {cache.kind} 缓存：{per}{kept_zh}"),
        Text(f"a sequence of {plan.longest:,} tokens: {one}", f"{plan.longest:,} 个 token 的序列：{one}"),
        Text(f"left for the cache: {left}: {result.tokens:,} tokens", f"留给缓存：{left}：{result.tokens:,} 个 token"),
    ]
    if measured is not None:
        lines.append(Text(f"measured by vLLM: {measured:,} tokens", f"vLLM 实测：{measured:,} 个 token"))
    return lines


def _observed(plan: Plan, result: Budget, tokens: int) -> Text:
    at_once = f"{tokens / plan.longest:.1f}"
    head = f"{gib(result.weights)} + {plan.cache.per_token:,} B/token, {gib(result.total)} GPU"
    return Text(
        f"{head}: room for {tokens:,} tokens, {at_once} sequences of {plan.longest:,}",
        f"{head}：可容纳 {tokens:,} 个 token，即 {at_once} 个 {plan.longest:,} token 的序列",
    )


def _material(plan: Plan, tokens: int) -> dict[str, object]:
    return {
        "weights": plan.weights.total,
        "per_token": plan.cache.per_token,
        "split": [plan.split.tp, plan.split.pp, plan.split.dp],
        "gpu": plan.smallest,
        "fits": tokens >= plan.longest,
    }


JUDGE = FleetJudge(
    "model.memory-fit", ("gpu", "mem"), ("gpu.nvml", "gpu.smi", "mem.meminfo"), judge, ("model-weights",)
)
