"""Loads the model on one idle GPU of one worker, when a person has asked for that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from dstui.facts import gpu
from dstui.facts.case import Params
from dstui.facts.gpu_devices import Gpu
from dstui.facts.model_load import Device, SingleGpuLoad, loaded, report
from dstui.facts.model_memory import Need, need
from dstui.facts.model_shards import ModelWeights
from dstui.facts.raw import Answer, Missing, Raw, run
from dstui.gather.hostlink import HostLink
from dstui.gather.model import observe_model_weights
from dstui.gather.model_load_script import SCRIPT
from dstui.gather.observing import Observing
from dstui.model import GatherError, Reason

CHECKS = ("model.single-gpu-load", "vllm.single-gpu-load")
LOAD_SECONDS = 900.0
LOOK_SECONDS = 25.0
GRACE_SECONDS = 10.0
SETTLE_SECONDS, SETTLE_TRIES = 2.0, 5
KEPT_BYTES = 131_072


async def observe_gpu_load(o: Observing) -> SingleGpuLoad:
    """The estimate always; the load only for a check that a person has named, on a GPU that nobody uses."""
    weights = await observe_model_weights(o)
    params = o.params(CHECKS[0], None)
    asked = any(check in o.confirmed for check in CHECKS)
    o.told("looks for an idle GPU")
    device = await _idle(o, params.count("idle_gpu_mem_mib_max") << 20)
    not_asked = Missing(Reason.NOT_RUN, "the load was not asked for")
    found = SingleGpuLoad(asked, weights, device, not_asked)
    if not asked or isinstance(device, Missing):
        return found
    wants = need_of(weights, device, params)
    if isinstance(wants, Missing):
        return replace(found, loaded=Missing(wants.reason, f"no estimate, so nothing was loaded: {wants.why}"))
    if wants.never:
        return replace(found, loaded=Missing(Reason.NOT_RUN, "one GPU cannot hold it"))
    if o.site.runtime_mode == "docker":
        return replace(found, loaded=Missing(Reason.TOOL_MISSING, "vLLM is in containers here (runtime.mode: docker)"))
    return await _load(o, found, device, wants, params)


def need_of(weights: ModelWeights, device: Device, params: Params) -> Need | Missing:
    """What a load on that GPU takes, by the parameters of the check."""
    tensors = weights.tensors()
    if isinstance(tensors, Missing):
        return tensors
    return need(
        tensors, weights.config, device.total, params.count("load_max_model_len"), params.number("estimate_margin")
    )


async def _idle(o: Observing, used_at_most: int) -> Device | Missing:
    """The first GPU without compute processes, workers first; why there is none otherwise."""
    hosts = [host for host in o.site.hosts if host.in_ray and host.gpu]
    hosts.sort(key=lambda host: "head" in host.roles)
    why = Missing(Reason.NO_TARGETS, "no GPU host in the inventory (gpu: true)")
    for host in hosts:
        link = o.links.get(host.name)
        if link is None:
            why = o.missing.get(host.name, Missing(Reason.UNREACHABLE, f"{host.name} is not connected"))
            continue
        devices = await _devices(link, o, host.name)
        if isinstance(devices, Missing):
            why = devices
            continue
        found = next((d for each in devices if (d := _device(host.name, each, used_at_most)) is not None), None)
        if found is not None:
            return found
        why = Missing(Reason.CANNOT_TELL, f"no idle GPU: all {len(devices)} of {host.name} are in use")
    return why


async def _devices(link: HostLink, o: Observing, name: str) -> Sequence[Gpu] | Missing:
    """By NVML, or nvidia-smi where that does not answer."""
    host = o.site.host(name)
    try:
        raw = await link.facts(gpu.ops(host, o.site), deadline=LOOK_SECONDS)
        further = gpu.more(host, o.site, raw)
        if further:
            more = await link.facts(further, deadline=LOOK_SECONDS)
            raw = Raw({**raw.answers, **more.answers})
    except GatherError as error:
        return Missing(error.reason, str(error))
    return gpu.parse(raw).devices


def _device(host: str, found: Gpu, used_at_most: int) -> Device | None:
    if isinstance(found.uuid, Missing) or isinstance(found.memory_total, Missing) or found.mig:
        return None
    if isinstance(found.memory_used, Missing) or found.memory_used > used_at_most:
        return None
    if isinstance(found.processes, Missing) or found.processes:
        return None
    return Device(host, found.index, found.uuid, found.memory_total, found.memory_used)


async def _load(o: Observing, found: SingleGpuLoad, device: Device, wants: Need, params: Params) -> SingleGpuLoad:
    own = found.weights.files.tree
    if isinstance(own, Missing):
        return replace(found, loaded=own)
    link = o.links[device.host]
    length = params.count("load_max_model_len")
    share = params.number("estimate_margin")
    if found.weights.config and not isinstance(found.weights.config, Missing) and found.weights.config.positions:
        length = min(length, found.weights.config.positions)
    o.told(f"loads on {device.host} GPU {device.index}, up to {LOAD_SECONDS / 60:.0f} min")
    op = run(
        "model.load",
        "env",
        f"CUDA_VISIBLE_DEVICES={device.uuid}",
        "HF_HUB_OFFLINE=1",
        "TRANSFORMERS_OFFLINE=1",
        "VLLM_NO_USAGE_STATS=1",
        # In the process itself, so that ending its group ends all of it.
        "VLLM_ENABLE_V1_MULTIPROCESSING=0",
        o.site.runtime_python or "python3",
        # Isolated: a file called vllm.py in the login user's home is not what is to be loaded.
        "-I",
        "-c",
        SCRIPT,
        own.path,
        params.text("framework"),
        str(length),
        f"{share:g}",
        timeout=LOAD_SECONDS,
        limit=KEPT_BYTES,
    )
    # The script itself is no news to anybody; what it was given is.
    op = replace(op, source=f"{device.host}: vllm.LLM({own.path!r}) on {device.uuid}, max_model_len={length}")
    try:
        raw = await link.facts([op], deadline=LOAD_SECONDS + GRACE_SECONDS)
    except GatherError as error:
        return replace(found, loaded=Missing(error.reason, str(error)), left=await _left(o, link, device))
    answer = raw.answers.get(op.key) or Answer(op.key, op.source, missing=Missing(Reason.PROBE_ERROR, "no answer"))
    told = loaded(answer)
    shown = answer if isinstance(told, Missing) else replace(answer, output=report(told))
    return replace(found, loaded=told, answer=shown, left=await _left(o, link, device))


async def _left(o: Observing, link: HostLink, device: Device) -> int | Missing:
    """Bytes that the GPU holds more than before, once that has settled."""
    left: int | Missing = Missing(Reason.NOT_RUN, "not looked at")
    for turn in range(SETTLE_TRIES):
        if turn:
            await asyncio.sleep(SETTLE_SECONDS)
        devices = await _devices(link, o, device.host)
        if isinstance(devices, Missing):
            return devices
        now = next((each.memory_used for each in devices if each.uuid == device.uuid), None)
        if now is None or isinstance(now, Missing):
            return now or Missing(Reason.CANNOT_TELL, f"{device.uuid} is not there any more")
        left = max(0, now - device.used)
        if left <= 64 << 20:
            return left
    return left
