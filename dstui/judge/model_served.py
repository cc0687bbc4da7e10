"""Whether a vLLM that runs holds the whole model on one single GPU, by what NVML sees of its process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from dstui.facts.case import FleetCase
from dstui.facts.gpu import GpuFacts
from dstui.facts.gpu_devices import Gpu
from dstui.facts.model_shards import ModelWeights
from dstui.facts.raw import Missing
from dstui.facts.serve_processes import Role, ServeProcess, ServeProcesses
from dstui.facts.vllm_backends import HEALTH, Backend, VllmBackends
from dstui.judge.fleet import facts_of

_SPLITS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
_DEFAULT_PORT = "8000"


@dataclass(frozen=True, slots=True)
class Serving:
    """A healthy server of the model, and the only GPU that its engine holds."""

    host: str
    url: str
    gpu: int


def serving_gpu(case: FleetCase, weights: ModelWeights) -> Serving | None:
    """The first server that shows it; None when none does, or when anything of it cannot be seen.

    Ray Serve's replicas and servers that read a file of settings do not tell their split, so they show nothing here.
    """
    backends = weights.backends
    if isinstance(backends, Missing):
        return None
    for backend in backends.backends:
        if backend.host is None or not _serves(backends, backend, weights.files.path):
            continue
        processes, gpus = facts_of(case, backend.host, ServeProcesses), facts_of(case, backend.host, GpuFacts)
        if isinstance(processes, Missing) or isinstance(gpus, Missing) or isinstance(gpus.devices, Missing):
            continue
        for server in processes.of(Role.VLLM_SERVER):
            if _alone(server, backend):
                held = list(_held(gpus.devices, server, processes.of(Role.VLLM_ENGINE)))
                if len(held) == 1:
                    return Serving(backend.host, backend.url, held[0])
    return None


def _serves(backends: VllmBackends, backend: Backend, path: str) -> bool:
    """Healthy, and the model that it lists is the one of `model.path`."""
    health, models = backends.asked(backend, HEALTH), backends.models(backend)
    if isinstance(health, Missing) or health.status != 200 or isinstance(models, Missing):
        return False
    return any((card.root or "").rstrip("/") == path for card in models)


def _alone(server: ServeProcess, backend: Backend) -> bool:
    """Whether it is the server of that address, started without any split."""
    flags = server.flags
    port = urlsplit(backend.url).port
    if "config" in flags or str(port or 80) != flags.get("port", _DEFAULT_PORT):
        return False
    return all(flags.get(name, "1") == "1" for name in _SPLITS)


def _held(devices: tuple[Gpu, ...], server: ServeProcess, engines: tuple[ServeProcess, ...]) -> Iterator[int]:
    """GPUs on which the server or its engine has memory."""
    own = {server.pid, *(engine.pid for engine in engines if engine.parent == server.pid)}
    for gpu in devices:
        if not isinstance(gpu.processes, Missing) and own & {process.pid for process in gpu.processes}:
            yield gpu.index
