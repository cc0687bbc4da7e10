"""vllm.serve-app where Ray Serve does not run the model: the backends' own health and models decide."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Missing
from dstui.facts.serve_processes import Role
from dstui.facts.vllm_backends import HEALTH, Backend, VllmBackends
from dstui.judge.fleet import cluster_target
from dstui.judge.ray_words import processes_of
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text

_EVIDENCE = ("vllm.backend-",)


def judge(case: FleetCase, mode: str) -> Sequence[Ruling]:
    """One ruling on the cluster; `mode` is `serving.mode`."""
    target, found = cluster_target(case.site), case.get(VllmBackends)
    expected = Text(
        f"every backend healthy and serving the model (serving.mode {mode})",
        f"每个后端健康并提供模型（serving.mode {mode}）",
    )
    if isinstance(found, Missing):
        return [unknown(target, found, expected)]
    if not found.backends:
        none = Missing(Reason.NO_TARGETS, f"serving.mode is {mode}: set endpoints.backends")
        return [unknown(target, none, expected)]
    causes = Causes(target, expected)
    named = case.params.origin("model_served_name") != "document"
    served = case.params.text("model_served_name") if named else None
    good = sum([_weigh(case, causes, found, backend, served) for backend in found.backends])
    _weigh_count(case, causes, good)
    return [
        causes.ruling(
            Text(f"{good} of {len(found.backends)} backends are well", f"{len(found.backends)} 个后端中 {good} 个正常"),
            Text("healthy, and the model is listed", "健康，且列出了模型"),
            material={"good": good, "backends": len(found.backends), "mode": mode},
            evidence=_EVIDENCE,
        )
    ]


def _weigh(case: FleetCase, causes: Causes, found: VllmBackends, backend: Backend, served: str | None) -> bool:
    """Whether nothing speaks against the backend."""
    before = len(causes.found)
    health = found.by_key.get(backend.key(HEALTH))
    if health is None or health.missing is not None:
        _weigh_silence(causes, backend, health)
        return False
    if health.status != 200:
        causes.fail(
            Text(f"{backend.url}/health says HTTP {health.status}", f"{backend.url}/health 返回 HTTP {health.status}")
        )
    models = found.models(backend)
    if isinstance(models, Missing):
        causes.missing(models, Text(f"the models of {backend.url}", f"{backend.url} 的模型"))
    else:
        names = [card.id for card in models]
        if not names or (served is not None and served not in names):
            listed = quoted(", ".join(names), 120) or "–"
            causes.fail(
                Text(
                    f"{backend.url} lists {listed}, not {served or 'any model'}",
                    f"{backend.url} 列出 {listed}，没有 {served or '任何模型'}",
                )
            )
    _weigh_process(case, causes, backend)
    return len(causes.found) == before


def _weigh_silence(causes: Causes, backend: Backend, health: Exchange | None) -> None:
    missing = (health.missing if health else None) or Missing(Reason.NOT_RUN, f"{backend.url} was not asked")
    fault = health.fault if health else None
    said = quoted(missing.why, 160)
    # What took the connection, or refused it, or was tried from inside the cluster, is down; the rest is out of reach.
    if fault is not None and (fault.connected or fault.value == "refused" or (health and health.via)):
        causes.fail(Text(f"no answer: {said}", f"没有应答：{said}"))
    else:
        causes.missing(missing, Text(backend.url, backend.url))


def _weigh_process(case: FleetCase, causes: Causes, backend: Backend) -> None:
    host = next((h for h in case.site.hosts if h.name == backend.host), None)
    processes = processes_of(case, host) if host is not None else None
    if processes is None or isinstance(processes, Missing):
        return
    servers = processes.of(Role.VLLM_SERVER)
    if servers and processes.whole and not processes.of(Role.VLLM_ENGINE):
        causes.note(
            Text(
                f"{backend.host}: no engine process of its own is seen beside the API server",
                f"{backend.host}：除 API 服务外没有看到独立的引擎进程",
            )
        )


def _weigh_count(case: FleetCase, causes: Causes, good: int) -> None:
    value = case.params.value("replicas_expected")
    if isinstance(value, int) and good < value:
        causes.fail(
            Text(f"{good} backends are well, the inventory wants {value}", f"{good} 个后端正常，清单要求 {value} 个")
        )
