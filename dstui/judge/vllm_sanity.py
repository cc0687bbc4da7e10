"""Whether an engine's settings are in reason: against the GPUs there are, the model, Serve's own limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from dstui.facts.case import FleetCase
from dstui.facts.engine_settings import ModelConfig
from dstui.facts.gpu import GpuFacts
from dstui.facts.links import LinkFacts
from dstui.facts.raw import Missing
from dstui.facts.ray_look import RayLook
from dstui.facts.serve_config import AppConfig
from dstui.judge.fleet import facts_of
from dstui.judge.rulings import Causes, quoted
from dstui.model import Reason, Text

SERVE_DEFAULT_ONGOING = 5
"""Ray Serve's own `max_ongoing_requests` per replica: vLLM never sees more than five requests at a time (D11)."""

_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


@dataclass(frozen=True, slots=True)
class InForce:
    """The settings that are known to be in force; a number that is not known is not in `numbers`.

    `max_concurrency` is how many requests of full length the smallest KV cache holds.
    """

    numbers: Mapping[str, int]
    share: float | None
    max_concurrency: float | None
    model: ModelConfig | Missing

    @property
    def tp(self) -> int | None:
        return self.numbers.get("tensor_parallel_size")


def weigh_sanity(
    case: FleetCase, causes: Causes, engine: InForce, look: RayLook, apps: Sequence[AppConfig], backends: int
) -> None:
    """Every rule that the known values allow; `backends` is how many servers there are without Serve."""
    replicas = _replicas(look, apps) if apps else backends or None
    _weigh_model(causes, engine)
    _weigh_gpus(case, causes, engine, replicas)
    _weigh_spread(case, causes, engine, look, apps)
    _weigh_batch(causes, engine)
    _weigh_memory(case, causes, engine)
    _weigh_concurrency(case, causes, engine, replicas)
    weigh_ongoing(causes, apps, engine.numbers.get("max_num_seqs"))


def _replicas(look: RayLook, apps: Sequence[AppConfig]) -> int | None:
    """How many copies of the model Serve wants."""
    names = {(app.name, each.name) for app in apps for each in app.engine_deployments}
    serve = look.snapshot.serve
    targets = [
        deployment.target
        for app in (serve.applications if serve else ())
        for deployment in app.deployments
        if (app.name, deployment.name) in names
    ]
    known = [target for target in targets if target is not None]
    return sum(known) if known and len(known) == len(targets) else None


def _weigh_model(causes: Causes, engine: InForce) -> None:
    model, longest = engine.model, engine.numbers.get("max_model_len")
    if isinstance(model, Missing):
        if model.reason is Reason.NO_TARGETS:
            causes.note(
                Text("without model.path nothing is compared with the model", "未设置 model.path，没有与模型比较")
            )
        else:
            causes.missing(model, Text("the model's config.json", "模型的 config.json"))
        return
    if engine.tp is not None and model.heads is not None and model.heads % engine.tp:
        causes.fail(
            Text(
                f"{model.heads} attention heads cannot be split over tensor_parallel_size {engine.tp}",
                f"{model.heads} 个注意力头不能被 tensor_parallel_size {engine.tp} 整除",
            )
        )
    if longest is not None and model.positions is not None and longest > model.positions:
        causes.fail(
            Text(
                f"max_model_len {longest} is beyond the model's {model.positions} positions",
                f"max_model_len {longest} 超过模型的 {model.positions} 个位置",
            )
        )


def _gpus(case: FleetCase) -> tuple[int | None, int | None]:
    """GPUs in all and on the host that has most: by NVML where it counted everywhere, else by the inventory."""
    hosts = [host for host in case.site.hosts if host.in_ray and host.gpu]
    counted: list[int] = []
    for host in hosts:
        facts = facts_of(case, host.name, GpuFacts)
        if not isinstance(facts, Missing) and not isinstance(facts.devices, Missing):
            counted.append(len(facts.devices))
        elif host.gpus_per_host is not None:
            counted.append(host.gpus_per_host)
    if not hosts or len(counted) < len(hosts):
        return None, None
    return sum(counted), max(counted)


def _weigh_gpus(case: FleetCase, causes: Causes, engine: InForce, replicas: int | None) -> None:
    total, most = _gpus(case)
    sizes = [engine.numbers.get(name) for name in _PARALLEL]
    known = [size for size in sizes if size is not None]
    if (
        engine.tp is not None
        and most is not None
        and engine.tp > most
        and not case.params.flag("allow_tp_across_nodes")
    ):
        causes.fail(
            Text(
                f"tensor_parallel_size {engine.tp} needs more than the {most} GPUs of a host: use pipeline parallelism",
                f"tensor_parallel_size {engine.tp} 超过单机 {most} 个 GPU：请用流水线并行",
            )
        )
    if total is None or replicas is None or len(known) < len(sizes):
        causes.note(
            Text("GPUs needed and there were not compared: a number is unknown", "未比较所需与现有 GPU：有数值未知")
        )
        return
    needed = prod(known) * replicas
    shape = " × ".join(str(number) for number in (*known, replicas))
    if needed > total:
        causes.fail(
            Text(f"tp × pp × dp × replicas = {shape} > {total} GPUs", f"tp × pp × dp × 副本 = {shape} > {total} 个 GPU")
        )
    elif needed < total:
        causes.warn(
            Text(
                f"{total - needed} of {total} GPUs are idle (tp × pp × dp × replicas = {shape})",
                f"{total} 个 GPU 中有 {total - needed} 个闲置（tp × pp × dp × 副本 = {shape}）",
            )
        )


def _weigh_spread(case: FleetCase, causes: Causes, engine: InForce, look: RayLook, apps: Sequence[AppConfig]) -> None:
    """A tensor-parallel group that lies on several nodes, as Ray placed it."""
    names, serve = {app.name for app in apps}, look.snapshot.serve
    spans = max(
        (
            len(replica.spans)
            for app in (serve.applications if serve else ())
            for deployment in app.deployments
            for replica in deployment.replicas
            if app.name in names
        ),
        default=0,
    )
    pipeline = engine.numbers.get("pipeline_parallel_size")
    if engine.tp is None or engine.tp < 2 or spans < 2 or pipeline is None or pipeline >= spans:
        return
    words = Text(f"a tensor-parallel group lies on {spans} nodes", f"一个张量并行组分布在 {spans} 个节点上")
    if not case.params.flag("allow_tp_across_nodes"):
        causes.fail(words)
    elif not _rdma(case):
        causes.warn(Text(f"{words.en} without RDMA: ten times slower", f"{words.zh}，且没有 RDMA：慢十倍"))


def _rdma(case: FleetCase) -> bool:
    """Whether every GPU host has an active RDMA port."""
    hosts = [host for host in case.site.hosts if host.in_ray and host.gpu]
    found = [facts_of(case, host.name, LinkFacts) for host in hosts]
    return bool(found) and all(not isinstance(f, Missing) and any(p.active for p in f.rdma) for f in found)


def _weigh_batch(causes: Causes, engine: InForce) -> None:
    batched, sequences = engine.numbers.get("max_num_batched_tokens"), engine.numbers.get("max_num_seqs")
    if batched is not None and sequences is not None and batched < sequences:
        causes.fail(
            Text(
                f"max_num_batched_tokens {batched} is less than max_num_seqs {sequences}",
                f"max_num_batched_tokens {batched} 小于 max_num_seqs {sequences}",
            )
        )
    if engine.max_concurrency is not None and engine.max_concurrency < 1:
        causes.fail(
            Text(
                f"the KV cache holds {engine.max_concurrency:.2f} requests of max_model_len: not even one",
                f"KV 缓存只能容纳 {engine.max_concurrency:.2f} 个 max_model_len 长度的请求：不足一个",
            )
        )


def _weigh_memory(case: FleetCase, causes: Causes, engine: InForce) -> None:
    bounds = case.params.value("gpu_mem_util_range")
    if engine.share is None or not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return
    low, high = float(bounds[0]), float(bounds[1])
    if engine.share > high:
        causes.warn(
            Text(
                f"gpu_memory_utilization {engine.share:g} leaves less than {1 - high:.0%} for everything else",
                f"gpu_memory_utilization {engine.share:g}，留给其他用途的不足 {1 - high:.0%}",
            )
        )
    elif engine.share < low:
        causes.warn(
            Text(
                f"gpu_memory_utilization {engine.share:g} is below {low:g}: memory is paid for and not used",
                f"gpu_memory_utilization {engine.share:g} 低于 {low:g}：显存没有用上",
            )
        )


def _weigh_concurrency(case: FleetCase, causes: Causes, engine: InForce, replicas: int | None) -> None:
    sequences, wanted = engine.numbers.get("max_num_seqs"), case.params.count("target_concurrency")
    if sequences is not None and replicas is not None and sequences * replicas < wanted:
        causes.warn(
            Text(
                f"max_num_seqs {sequences} × {replicas} replicas is below {wanted} requests at once",
                f"max_num_seqs {sequences} × {replicas} 个副本，低于期望并发 {wanted}",
            )
        )


def weigh_ongoing(causes: Causes, apps: Sequence[AppConfig], sequences: int | None) -> None:
    """Serve's own limit in front of vLLM's: each request goes through every deployment of the application."""
    for app in apps:
        for each in app.deployments:
            limit, name = each.max_ongoing, f"{quoted(app.name, 60)}/{quoted(each.name, 60)}"
            if limit is None:
                continue
            if sequences is not None and limit < sequences:
                causes.warn(
                    Text(
                        f"{name} lets {limit} requests through at once (max_ongoing_requests), vLLM takes {sequences}",
                        f"{name} 同时只放行 {limit} 个请求（max_ongoing_requests），vLLM 可处理 {sequences} 个",
                    )
                )
            elif sequences is None and limit <= SERVE_DEFAULT_ONGOING:
                causes.warn(
                    Text(
                        f"{name} has Serve's default max_ongoing_requests {limit}: vLLM gets no more at a time",
                        f"{name} 使用 Serve 默认的 max_ongoing_requests {limit}：vLLM 同时最多收到这么多",
                    )
                )
