"""vllm.*: what Serve, backends, hosts and an index showed, whole or with one thing wrong, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts import model_config
from dstui.facts.addresses import AddressFacts
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.engine_settings import EngineLog, EngineSettings, ModelConfig
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.gpu import GpuFacts
from dstui.facts.links import LinkFacts
from dstui.facts.model_load import Device, Loaded, SingleGpuLoad
from dstui.facts.model_shards import ModelWeights, Shard
from dstui.facts.raw import Missing, Raw
from dstui.facts.ray_look import RayLook
from dstui.facts.safetensors import Header, Tensor
from dstui.facts.serve_burst import PREFIX as BURST
from dstui.facts.serve_burst import Burst, Sent
from dstui.facts.serve_config import app_configs
from dstui.facts.serve_packages import Distribution, ServePackages
from dstui.facts.serve_processes import Holder, Role, ServeProcess, ServeProcesses
from dstui.facts.versions import Package, Python, VersionFacts
from dstui.facts.vllm_backends import Backend, VllmBackends
from dstui.facts.vllm_install import ImagePackages, VllmInstall
from dstui.judge import vllm
from dstui.model import Reason, Ruling, Verdict
from dstui.redact import Redactor
from dstui.telemetry.ray_answers import ENDPOINTS, RayAnswer, snapshot_of

DATA = Path(__file__).parents[1] / "data" / "ray"
RULES = {judge.check_id: judge.rule for judge in vllm.JUDGES}
NOW, DEPLOYED = 1795493400.0, 1795493302.8
HOSTS = tuple(
    HostSite(
        f"gpu-0{n}",
        frozenset({"head" if n == 1 else "worker"}),
        f"10.77.0.1{n}",
        None,
        f"10.77.0.1{n}",
        22,
        "ops",
        True,
        8,
    )
    for n in (1, 2, 3)
)
SITE = Site("ds", "lab", "auto", HOSTS, "/mnt/x", "/opt/venv/bin/python", None, "bare-metal", False, "none")
NOTHING = Missing(Reason.NOT_RUN, "was not looked at")


@cache
def catalogue() -> Catalogue:
    return load_catalogue()


def params(check: str, **changed: object) -> Params:
    found = [p.threshold() for p in catalogue().check(check).params]
    return Params([replace(t, value=changed[t.param], origin="inventory") if t.param in changed else t for t in found])


def rule(
    check: str,
    *observed: object,
    hosts: Mapping[str, Mapping[type, object]] | None = None,
    site: Site = SITE,
    **values: object,
) -> dict[str, Ruling]:
    """Rulings by the name of their target; `hosts` are facts that differ."""
    facts = {
        host.name: HostFacts(None, None, Raw(), {**host_facts(host), **(hosts or {}).get(host.name, {})})
        for host in site.hosts
    }
    own = params(check, **values)
    case = FleetCase(site, facts, own, {}, {type(one): one for one in observed}, NOW)
    return {ruling.target.name: ruling for ruling in RULES[check](case)}


def one(check: str, *observed: object, **more: object) -> Ruling:
    (ruling,) = rule(check, *observed, **more).values()  # type: ignore[arg-type]
    return ruling


def said(ruling: Ruling) -> str:
    return "\n".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


def agrees(ruling: Ruling, verdict: str, words: str) -> None:
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), f"{ruling.verdict} {said(ruling)}"


# hosts


def process(role: Role, pid: int = 100, age: float | None = 50.0, **flags: str) -> ServeProcess:
    return ServeProcess(
        role, pid, 1, age, Holder.SERVICE, "x.service", {k.replace("_", "-"): v for k, v in flags.items()}
    )


def processes(*found: ServeProcess, whole: bool = True) -> ServeProcesses:
    return ServeProcesses(found, whole, 1 << 33)


def versions(vllm: str | None = "0.33.0", cuda: str | None = "12.8", requires: str = ">=3.11,<3.15",
             python: tuple[int, int, int] = (3, 12, 3), compat: bool = False) -> VersionFacts:  # fmt: skip
    packages = {"torch": Package("2.14.0", "", "/t"), "ray": Package("2.60.0", "", "/r")}
    if vllm is not None:
        packages["vllm"] = Package(vllm, requires, "/v")
    found = Python("/opt/venv/bin/python", "inventory", python)
    return VersionFacts(
        found, packages, cuda, (), None, (), "", ("/usr/local/cuda/compat/libcuda.so",) if compat else ()
    )


def packages(*absent: str, at: float = NOW - 9000) -> ServePackages:
    names = {"vllm": "0.33.0", "fastapi": "0.1", "uvicorn": "0.1", "starlette": "0.1"}
    return ServePackages({n: Distribution(v, at) for n, v in names.items() if n not in absent})


def gpus(count: int = 8, cuda: tuple[int, int] | Missing = (12, 8)) -> GpuFacts:
    return GpuFacts(
        tuple(SimpleNamespace(memory_total=12 << 30) for _ in range(count)),
        "NVML",
        None,
        NOTHING,
        NOTHING,
        NOTHING,
        cuda,
        NOTHING,  # type: ignore[arg-type]
        NOTHING,
        NOTHING,
        NOTHING,
    )


def host_facts(host: HostSite) -> dict[type, object]:
    return {
        VersionFacts: versions(),
        ServePackages: packages(),
        ServeProcesses: processes(process(Role.RAYLET), process(Role.REPLICA), process(Role.REPLICA)),
        GpuFacts: gpus(),
        AddressFacts: AddressFacts(NOTHING, (), ()),
        LinkFacts: LinkFacts({}, (), {}),
    }


# what Ray says


def ray_look(
    change: Callable[[dict[str, object]], object] = lambda found: None,
    *,
    nodes: Callable[[list[dict[str, object]]], object] = lambda rows: None,
    status: int = 200,
    file: str = "before_kill/serve_applications.json",
) -> RayLook:
    """The captured Ray of three nodes with an application of two replicas."""
    serve = json.loads((DATA / file).read_text())
    change(serve)
    listed = json.loads((DATA / "before_kill" / "v0_nodes.json").read_text())
    nodes(listed["data"]["result"]["result"])
    bodies = {"serve": json.dumps(serve).encode(), "nodes": json.dumps(listed).encode(),
              "version": b'{"ray_version": "2.60.0"}'}  # fmt: skip
    answers = {
        e.section: RayAnswer(e, NOW, status if e.section == "serve" else 200, bodies[e.section], date=NOW)
        for e in ENDPOINTS
        if e.section in bodies
    }
    snapshot = snapshot_of(answers, NOW, Redactor().text)
    configs = app_configs(serve) if status == 200 else None
    return RayLook({}, "http://10.77.0.11:8265", "direct", None, False, None, False, snapshot, configs, None, None)


def app(found: dict[str, object], name: str = "tiny") -> dict[str, object]:
    apps = found["applications"]
    assert isinstance(apps, dict)
    return apps[name]  # type: ignore[no-any-return]


def echo(found: dict[str, object]) -> dict[str, object]:
    return app(found)["deployments"]["Echo"]  # type: ignore[index,no-any-return]


def replicas(found: dict[str, object]) -> list[dict[str, object]]:
    return echo(found)["replicas"]  # type: ignore[return-value]


def proxies(found: dict[str, object]) -> list[dict[str, object]]:
    return list(found["proxies"].values())  # type: ignore[attr-defined]


NO_BACKENDS = VllmBackends({}, (), None)


# vllm.serve-app


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        pytest.param(lambda s: None, "pass", "tiny RUNNING (Echo 2/2)", id="healthy"),
        pytest.param(lambda s: s.update(applications={}), "fail", "nothing is deployed", id="nothing"),
        pytest.param(lambda s: app(s).update(status="UNHEALTHY"), "fail", "tiny is UNHEALTHY", id="unhealthy"),
        pytest.param(
            lambda s: app(s).update(status="DEPLOY_FAILED", message="ModuleNotFoundError: pyarrow"),
            "fail",
            "tiny is DEPLOY_FAILED: ModuleNotFoundError: pyarrow",
            id="deploy-failed",
        ),
        pytest.param(lambda s: app(s).update(status="DELETING"), "fail", "DELETING", id="deleting"),
        pytest.param(lambda s: app(s).update(status="PAUSED"), "unknown", "PAUSED", id="a-new-word"),
        pytest.param(
            lambda s: app(s).update(status="DEPLOYING", last_deployed_time_s=NOW - 1799),
            "warn",
            "DEPLOYING",
            id="within-grace",
        ),
        pytest.param(
            lambda s: app(s).update(status="DEPLOYING", last_deployed_time_s=NOW - 1801),
            "fail",
            "DEPLOYING",
            id="beyond-grace",
        ),
        pytest.param(
            lambda s: app(s).update(status="DEPLOYING", last_deployed_time_s=0), "unknown", "since when", id="no-time"
        ),
        pytest.param(
            lambda s: echo(s).update(status="UNHEALTHY", message="health check failed"),
            "fail",
            "tiny/Echo is UNHEALTHY: health check failed",
            id="deployment",
        ),
        pytest.param(lambda s: echo(s).update(status="UPSCALING"), "warn", "UPSCALING", id="upscaling"),
        pytest.param(
            lambda s: replicas(s)[0].update(state="STARTING"), "fail", "1 of 2 replicas run", id="one-starting"
        ),
        pytest.param(lambda s: replicas(s).pop(), "fail", "1 of 2 replicas run", id="one-missing"),
        pytest.param(lambda s: echo(s).update(target_num_replicas=0, replicas=[]), "fail", "0 of 0", id="none-wanted"),
        pytest.param(lambda s: echo(s).pop("target_num_replicas"), "unknown", "how many replicas", id="no-target"),
        pytest.param(lambda s: app(s).update(deployments={}), "fail", "no deployment", id="no-deployment"),
        pytest.param(
            lambda s: echo(s).update(recent_dead_replicas=[{"replica_id": "x"}]), "warn", "died recently", id="deaths"
        ),
        pytest.param(
            lambda s: replicas(s)[0].update(start_time_s=NOW - 10) or app(s).update(last_deployed_time_s=NOW - 4000),
            "warn",
            "were started again",
            id="restarted",
        ),
        pytest.param(lambda s: proxies(s)[0].update(status="UNHEALTHY"), "warn", "proxies not HEALTHY", id="one-proxy"),
        pytest.param(
            lambda s: [p.update(status="UNHEALTHY") for p in proxies(s)],
            "fail",
            "proxies not HEALTHY",
            id="all-proxies",
        ),
        pytest.param(lambda s: s.update(proxies={}), "fail", "no proxy", id="no-proxy"),
    ],
)
def test_the_application(change: Callable[[dict[str, object]], object], verdict: str, words: str) -> None:
    agrees(one("vllm.serve-app", ray_look(change), NO_BACKENDS), verdict, words)


def test_a_failed_deployment_as_captured() -> None:
    look = ray_look(file="serve_deploy_failed.json")
    ruling = one("vllm.serve-app", look, NO_BACKENDS)
    agrees(ruling, "fail", "llm is DEPLOY_FAILED: Deploying app 'llm' failed with exception:")
    assert "/srv/lab/rayapp:" not in said(ruling)


def test_a_captured_model_under_serve() -> None:
    def alive(rows: list[dict[str, object]]) -> None:
        rows.clear()

    look = ray_look(file="serve_llm.json", nodes=alive)
    agrees(one("vllm.serve-app", look, NO_BACKENDS), "pass", "llm RUNNING")
    agrees(one("vllm.serve-app", look, NO_BACKENDS, replicas_expected=1), "pass", "llm RUNNING")
    wanted = one("vllm.serve-app", look, NO_BACKENDS, replicas_expected=2)
    agrees(wanted, "fail", "1 replicas of LLMServer:deepseek-tiny run, the inventory wants 2")


def test_serve_is_not_believed_where_a_node_is_dead() -> None:
    """Serve says RUNNING for seconds after a node is gone."""

    def dead(rows: list[dict[str, object]]) -> None:
        next(row for row in rows if row["node_ip"] == "10.77.0.13").update(state="DEAD")

    agrees(one("vllm.serve-app", ray_look(nodes=dead), NO_BACKENDS), "fail", "its node 10.77.0.13 is DEAD")
    gone = {"gpu-03": {ServeProcesses: processes()}}
    agrees(one("vllm.serve-app", ray_look(), NO_BACKENDS, hosts=gone), "fail", "no raylet runs on gpu-03")
    hidden = {"gpu-03": {ServeProcesses: processes(whole=False)}}
    agrees(one("vllm.serve-app", ray_look(), NO_BACKENDS, hosts=hidden), "pass", "")


def test_a_replica_that_was_killed_a_moment_ago() -> None:
    """Serve still says that both run; on one of the hosts there is no such process."""
    killed = {"gpu-03": {ServeProcesses: processes(process(Role.RAYLET))}}
    words = "Serve counts 1 replicas RUNNING on gpu-03, where 0 such processes run"
    agrees(one("vllm.serve-app", ray_look(), NO_BACKENDS, hosts=killed), "fail", words)
    hidden = {"gpu-03": {ServeProcesses: processes(process(Role.RAYLET), whole=False)}}
    agrees(one("vllm.serve-app", ray_look(), NO_BACKENDS, hosts=hidden), "pass", "")


def test_serve_alone_is_not_believed() -> None:
    look = ray_look()
    blind = replace(look, snapshot=replace(look.snapshot, nodes=None))
    agrees(one("vllm.serve-app", blind, NO_BACKENDS), "unknown", "whether the replicas' nodes live")


def test_one_application_of_several() -> None:
    def another(found: dict[str, object]) -> None:
        found["applications"]["broken"] = {**app(found), "status": "DEPLOY_FAILED"}  # type: ignore[index]

    agrees(one("vllm.serve-app", ray_look(another), NO_BACKENDS), "fail", "broken is DEPLOY_FAILED")
    agrees(one("vllm.serve-app", ray_look(another), NO_BACKENDS, serving_app_name="tiny"), "pass", "")
    agrees(
        one("vllm.serve-app", ray_look(), NO_BACKENDS, serving_app_name="llm"), "fail", "no application llm, only tiny"
    )


@pytest.mark.parametrize(
    ("status", "reason"), [(401, Reason.NO_CREDENTIAL), (403, Reason.NO_CREDENTIAL), (500, Reason.CANNOT_TELL)]
)
def test_serve_does_not_tell(status: int, reason: Reason) -> None:
    ruling = one("vllm.serve-app", ray_look(status=status), NO_BACKENDS)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, reason)


# vllm.serve-app without Serve, and the backends

MODELS = {"object": "list", "data": [{"id": "ds", "object": "model", "max_model_len": 4096}]}
CACHE = ('vllm:cache_config_info{cache_dtype="auto",enable_prefix_caching="True",gpu_memory_utilization="%s",'
         'kv_cache_max_concurrency="%s"} 1.0\n')  # fmt: skip


def answer(key: str, status: int, body: object = b"", kind: str = "application/json") -> Exchange:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(key, "GET", f"http://b/{key}", "curl", status, {"content-type": kind}, raw, seconds=0.1)


def silent(key: str, fault: Fault, via: str | None = None) -> Exchange:
    why = Missing(Reason.TIMEOUT if fault is Fault.TIMEOUT else Reason.UNREACHABLE, f"{key}: {fault.value}")
    return Exchange(key, "GET", f"http://b/{key}", "curl", missing=why, fault=fault, via=via)


def backends(*each: Mapping[str, Exchange | int | object], keyless: Missing | None = None) -> VllmBackends:
    """Backends on gpu-01, gpu-02 …; each is healthy but for what is named."""
    by_key, made = {}, []
    for number, changed in enumerate(each, 1):
        backend = Backend(f"http://10.77.0.1{number}:8000", number, f"gpu-0{number}", None)
        made.append(backend)
        usual = {"version": {"version": "0.33.0"}, "health": b"", "models": MODELS,
                 "metrics": (CACHE % ("0.9", "12.5")).encode()}  # fmt: skip
        for what, body in usual.items():
            key, other = backend.key(what), changed.get(what)
            by_key[key] = (
                replace(other, key=key) if isinstance(other, Exchange)
                else answer(key, other) if isinstance(other, int)
                else answer(key, 200, body if other is None else other)
            )  # fmt: skip
    return VllmBackends(by_key, tuple(made), keyless)


@pytest.mark.parametrize(
    ("each", "values", "verdict", "words"),
    [
        ([{}, {}], {}, "pass", "2 of 2 backends are well"),
        ([{}, {"health": 503}], {}, "fail", "/health says HTTP 503"),
        ([{}, {"health": silent("", Fault.REFUSED)}], {}, "fail", "no answer"),
        ([{}, {"health": silent("", Fault.TIMEOUT)}], {}, "fail", "no answer"),
        ([{}, {"health": silent("", Fault.CONNECT_TIMEOUT)}], {}, "unknown", "connect-timeout"),
        ([{"models": {"object": "list", "data": []}}], {}, "fail", "not any model"),
        ([{}], {"model_served_name": "other"}, "fail", "lists ds, not other"),
        ([{}], {"model_served_name": "ds"}, "pass", ""),
        ([{"models": 401}], {}, "unknown", "no key"),
        ([{"models": b"<html>"}], {}, "unknown", "no JSON"),
        ([{}], {"replicas_expected": 2}, "fail", "the inventory wants 2"),
    ],
)
def test_plain_vllm(each: Sequence[Mapping[str, object]], values: dict[str, object], verdict: str, words: str) -> None:
    found = backends(*each, keyless=Missing(Reason.NO_CREDENTIAL, "the inventory names no key"))
    agrees(one("vllm.serve-app", ray_look(), found, serving_mode="vllm", **values), verdict, words)


def test_plain_vllm_that_nobody_named() -> None:
    ruling = one("vllm.serve-app", ray_look(), NO_BACKENDS, serving_mode="docker")
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS)
    assert "endpoints.backends" in said(ruling)


# vllm.installed-latest

INSTALL = VllmInstall({}, "0.33.0", {}, {})


@pytest.mark.parametrize(
    ("facts", "install", "values", "verdict", "words"),
    [
        pytest.param({}, INSTALL, {}, "pass", "the latest is 0.33.0", id="latest"),
        pytest.param({}, INSTALL, {"vllm_version": "0.33.0"}, "pass", "", id="pinned"),
        pytest.param({}, INSTALL, {"vllm_version": "0.33.1"}, "fail", "0.33.1 is pinned", id="another-is-pinned"),
        pytest.param({}, INSTALL, {"vllm_version": "0.32", "version_policy": "min"}, "pass", "", id="above-the-least"),
        pytest.param(
            {}, INSTALL, {"vllm_version": "0.34", "version_policy": "min"}, "fail", "is the least", id="below"
        ),
        pytest.param(
            {VersionFacts: versions("0.33.0rc2")},
            INSTALL,
            {"vllm_version": "0.33.0"},
            "fail",
            "is pinned",
            id="candidate",
        ),
        pytest.param({}, INSTALL, {"version_policy": "pin"}, "unknown", "not set", id="pin-of-nothing"),
        pytest.param({}, replace(INSTALL, latest="0.34.9"), {}, "pass", "", id="one-behind"),
        pytest.param({}, replace(INSTALL, latest="0.35.0"), {}, "warn", "2 or more minors behind", id="two-behind"),
        pytest.param({}, replace(INSTALL, latest="1.0.0"), {}, "warn", "minors behind", id="a-major-behind"),
        pytest.param(
            {},
            replace(INSTALL, latest=Missing(Reason.UNREACHABLE, "no index")),
            {},
            "unknown",
            "no index",
            id="no-index",
        ),
        pytest.param({VersionFacts: versions(None)}, INSTALL, {}, "fail", "not installed here", id="absent"),
        pytest.param({VersionFacts: NOTHING}, INSTALL, {}, "unknown", "not looked at", id="not-looked-at"),
        pytest.param(
            {VersionFacts: replace(versions(), packages=Missing(Reason.PERMISSION, "site-packages"))},
            INSTALL,
            {},
            "unknown",
            "site-packages",
            id="unreadable",
        ),
        pytest.param(
            {VersionFacts: versions(python=(3, 10, 12))}, INSTALL, {}, "fail", "it will not start", id="python"
        ),
        pytest.param(
            {VersionFacts: versions(requires="not pep 440")}, INSTALL, {}, "unknown", "not understood", id="requires"
        ),
        pytest.param({VersionFacts: versions(cuda="13.0")}, INSTALL, {}, "fail", "supports 12.8 at most", id="driver"),
        pytest.param(
            {VersionFacts: versions(cuda="13.0", compat=True)},
            INSTALL,
            {},
            "warn",
            "forward-compatibility",
            id="compat",
        ),
        pytest.param({VersionFacts: versions(cuda="12.9")}, INSTALL, {}, "pass", "", id="minor-compatibility"),
        pytest.param({VersionFacts: versions(cuda=None)}, INSTALL, {}, "warn", "CPU build", id="cpu-torch"),
        pytest.param({GpuFacts: gpus(cuda=NOTHING)}, INSTALL, {}, "unknown", "supported by the driver", id="no-nvml"),
        pytest.param({ServePackages: packages("fastapi")}, INSTALL, {}, "warn", "fastapi not installed", id="extras"),
        pytest.param(
            {ServePackages: packages("fastapi")}, INSTALL, {"serving_mode": "vllm"}, "pass", "", id="extras-not-needed"
        ),
        pytest.param({ServePackages: ServePackages(NOTHING)}, INSTALL, {}, "unknown", "ray[serve]", id="no-listing"),
        pytest.param(
            {ServeProcesses: processes(process(Role.REPLICA, age=9001.0)), ServePackages: packages(at=NOW - 60)},
            INSTALL,
            {},
            "warn",
            "restart it",
            id="not-restarted",
        ),
    ],
)
def test_the_installation(
    facts: dict[type, object], install: VllmInstall, values: dict[str, object], verdict: str, words: str
) -> None:
    found = rule("vllm.installed-latest", install, NO_BACKENDS, hosts={h.name: facts for h in HOSTS}, **values)
    agrees(found["gpu-02"], verdict, words)


def test_nodes_that_differ() -> None:
    hosts = {"gpu-03": {VersionFacts: versions("0.32.0")}}
    found = rule("vllm.installed-latest", INSTALL, NO_BACKENDS, hosts=hosts)
    agrees(found["gpu-03"], "fail", "vLLM 0.32.0 here, elsewhere gpu-01 0.33.0")
    assert found["gpu-01"].verdict is Verdict.PASS
    both = rule(
        "vllm.installed-latest", INSTALL, NO_BACKENDS, hosts={**hosts, "gpu-01": {VersionFacts: versions(None)}}
    )
    assert {ruling.verdict for ruling in both.values()} == {Verdict.FAIL}


def test_what_runs_is_not_what_is_installed() -> None:
    found = rule("vllm.installed-latest", INSTALL, backends({"version": {"version": "0.32.0"}}, {}))
    agrees(found["gpu-01"], "warn", "http://10.77.0.11:8000 still runs vLLM 0.32.0")
    agrees(found["gpu-02"], "pass", "")
    idle = {"gpu-01": {ServeProcesses: processes(process(Role.RAYLET))}}
    proxy = rule("vllm.installed-latest", INSTALL, backends({"version": 404}), hosts=idle)
    agrees(proxy["gpu-01"], "pass", "no vLLM runs here that could be compared")


def test_an_image() -> None:
    site = replace(SITE, runtime_mode="docker", hosts=HOSTS[:2])
    inside = ImagePackages({"vllm": "0.33.0", "torch": "2.14.0", "fastapi": "1", "uvicorn": "1", "starlette": "1"},
                           ">=3.11", (3, 12, 3), "12.8")  # fmt: skip
    install = VllmInstall({}, "0.33.0", {"gpu-01": inside, "gpu-02": Missing(Reason.NO_TARGETS, "not here")}, {})
    found = rule("vllm.installed-latest", install, NO_BACKENDS, site=site)
    agrees(found["gpu-01"], "pass", "vllm 0.33.0")
    agrees(found["gpu-02"], "fail", "not installed in the image")
    nothing = rule("vllm.installed-latest", INSTALL, NO_BACKENDS, site=site)
    assert {(r.verdict, r.reason) for r in nothing.values()} == {(Verdict.UNKNOWN, Reason.NO_TARGETS)}


# vllm.parallel-batch-config

ENGINE: dict[str, object] = {
    "tensor_parallel_size": 8, "pipeline_parallel_size": 1, "data_parallel_size": 1, "max_num_seqs": 128,
    "max_num_batched_tokens": 8192, "max_model_len": 4096, "gpu_memory_utilization": 0.9, "kv_cache_dtype": "auto",
    "enable_prefix_caching": True,
}  # fmt: skip
FLAGS = {"tensor_parallel_size": "8", "max_num_seqs": "128", "max_num_batched_tokens": "8192", "max_model_len": "4096",
         "gpu_memory_utilization": "0.9", "enable_prefix_caching": "true"}  # fmt: skip
MODEL = EngineSettings({}, {}, ModelConfig(heads=64, positions=4096, quantization=None))
PLAIN = {"serving_mode": "vllm", "target_concurrency": 128}


def plain(
    *, flags: dict[str, str] | None = None, engine: dict[str, object] | None = None,
    found: VllmBackends | None = None, settings: EngineSettings = MODEL, count: int = 8, **values: object,
) -> Ruling:  # fmt: skip
    """One vLLM server on gpu-01, the only host."""
    server = process(Role.VLLM_SERVER, **(FLAGS if flags is None else flags))
    hosts = {"gpu-01": {ServeProcesses: processes(server), GpuFacts: gpus(count)}}
    return one(
        "vllm.parallel-batch-config", ray_look(), found or backends({}), settings, hosts=hosts,
        site=replace(SITE, hosts=HOSTS[:1]), engine=ENGINE if engine is None else engine, **{**PLAIN, **values},
    )  # fmt: skip


def test_settings_in_force() -> None:
    ruling = plain()
    agrees(ruling, "pass", "tensor_parallel_size 8: command line gpu-01 pid 100")
    assert "gpu_memory_utilization 0.9: command line gpu-01 pid 100, metrics http://10.77.0.11:8000" in said(ruling)


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        pytest.param({"flags": {**FLAGS, "max_num_seqs": "64"}}, "fail", "max_num_seqs is 64, not 128", id="differs"),
        pytest.param(
            {"flags": {k: v for k, v in FLAGS.items() if k != "max_num_seqs"}},
            "unknown",
            "not observable: max_num_seqs",
            id="left-to-vllm",
        ),
        pytest.param(
            {"flags": {"tensor_parallel_size": "8", "config": "/x.yaml"}},
            "unknown",
            "pipeline_parallel_size",
            id="a-file-of-settings",
        ),
        pytest.param(
            {"flags": {**FLAGS, "tensor_parallel_size": "4"}, "engine": {}},
            "unknown",
            "engine: is empty",
            id="nothing-wanted",
        ),
        pytest.param(
            {"found": backends({"metrics": (CACHE % ("0.5", "12")).encode()})},
            "fail",
            "gpu_memory_utilization is 0.5, not 0.9 (metrics",
            id="metrics-differ",
        ),
        pytest.param(
            {"found": backends({"models": {"object": "list", "data": [{"id": "ds", "max_model_len": 2048}]}})},
            "fail",
            "max_model_len is 2048, not 4096 (models",
            id="models-differ",
        ),
        pytest.param(
            {"found": backends({"metrics": (CACHE % ("0.9", "0.97")).encode()})},
            "fail",
            "not even one",
            id="no-room-for-one",
        ),
        pytest.param(
            {"found": backends({"metrics": (CACHE % ("0.9", "1.0")).encode()})}, "pass", "", id="room-for-one"
        ),
        pytest.param(
            {"settings": EngineSettings({}, {}, ModelConfig(60, 4096, None))}, "fail", "60 attention heads", id="heads"
        ),
        pytest.param(
            {"settings": EngineSettings({}, {}, ModelConfig(64, 4095, None))}, "fail", "4095 positions", id="positions"
        ),
        pytest.param(
            {"settings": EngineSettings({}, {}, Missing(Reason.PERMISSION, "config.json"))},
            "unknown",
            "config.json",
            id="model-unreadable",
        ),
        pytest.param(
            {"settings": EngineSettings({}, {}, Missing(Reason.NO_TARGETS, "no model"))},
            "pass",
            "without model.path",
            id="no-model-named",
        ),
        pytest.param({"count": 7}, "fail", "8 × 1 × 1 × 1 > 7 GPUs", id="too-few-gpus"),
        pytest.param({"count": 16}, "warn", "8 of 16 GPUs are idle", id="idle-gpus"),
        pytest.param({"count": 4}, "fail", "more than the 4 GPUs of a host", id="across-hosts"),
        pytest.param(
            {"flags": {**FLAGS, "max_num_batched_tokens": "127"}, "engine": {"max_num_seqs": 128}},
            "fail",
            "max_num_batched_tokens 127 is less",
            id="batch-too-small",
        ),
        pytest.param(
            {
                "flags": {**FLAGS, "gpu_memory_utilization": "0.96"},
                "engine": {"max_num_seqs": 128},
                "found": NO_BACKENDS,
            },
            "warn",
            "leaves less than 5%",
            id="memory-high",
        ),
        pytest.param(
            {
                "flags": {**FLAGS, "gpu_memory_utilization": "0.79"},
                "engine": {"max_num_seqs": 128},
                "found": NO_BACKENDS,
            },
            "warn",
            "below 0.8",
            id="memory-low",
        ),
        pytest.param({"target_concurrency": 129}, "warn", "below 129 requests", id="concurrency"),
    ],
)
def test_settings(change: dict[str, object], verdict: str, words: str) -> None:
    agrees(plain(**change), verdict, words)  # type: ignore[arg-type]


def serve_llm(change: Callable[[dict[str, object]], object] = lambda found: None) -> RayLook:
    def told(found: dict[str, object]) -> None:
        one_app = app(found, "llm")
        config = {
            "model_loading_config": {"model_id": "ds"},
            "engine_kwargs": {"max_num_seqs": 32, "max_model_len": 2048},
        }
        one_app["deployed_app_config"]["args"] = {"llm_configs": [config]}  # type: ignore[index]
        change(found)

    return ray_look(told, file="serve_llm.json")


SERVE = {"engine": {"max_num_seqs": 32, "tensor_parallel_size": 1, "max_model_len": 2048}, "target_concurrency": 32}


def log(**values: object) -> EngineSettings:
    return EngineSettings({}, {"q7": EngineLog("q7", "0.33.0", values)}, Missing(Reason.NO_TARGETS, "no model"))  # type: ignore[arg-type]


def under_serve(look: RayLook, settings: EngineSettings, **values: object) -> Ruling:
    site = replace(SITE, hosts=tuple(replace(h, gpu=False, gpus_per_host=0) for h in HOSTS))
    return one("vllm.parallel-batch-config", look, NO_BACKENDS, settings, site=site, **{**SERVE, **values})


def test_settings_of_a_serve_configuration() -> None:
    agrees(under_serve(serve_llm(), log()), "pass", "max_num_seqs 32: Serve config llm/ds")


def test_a_log_that_says_otherwise() -> None:
    agrees(under_serve(serve_llm(), log(max_model_len=1024)), "fail", "max_model_len is 1024, not 2048 (log q7)")


def test_a_program_that_deployed_it() -> None:
    """Ray does not know its settings then; the log has some of them."""
    imperative = ray_look(file="serve_llm.json")
    ruling = under_serve(imperative, log(max_model_len=2048, tensor_parallel_size=1))
    agrees(ruling, "unknown", "not observable: max_num_seqs (Serve config: llm was deployed by a program")
    agrees(under_serve(imperative, log(max_model_len=2048, tensor_parallel_size=1),
                       engine={"max_model_len": 2048}), "pass", "")  # fmt: skip


def test_the_trap_of_serves_default() -> None:
    def narrow(found: dict[str, object]) -> None:
        app(found, "llm")["deployments"]["LLMServer:deepseek-tiny"]["deployment_config"]["max_ongoing_requests"] = 5  # type: ignore[index]

    agrees(under_serve(serve_llm(narrow), log()), "warn", "lets 5 requests through at once")
    imperative = ray_look(narrow, file="serve_llm.json")
    values = {"engine": {"max_model_len": 2048}}
    agrees(under_serve(imperative, log(max_model_len=2048), **values), "warn", "Serve's default max_ongoing_requests 5")


def test_a_tensor_parallel_group_over_two_nodes() -> None:
    look = serve_llm()
    serve = look.snapshot.serve
    assert serve is not None
    spread = replace(
        serve,
        applications=tuple(
            replace(a, deployments=tuple(
                replace(d, replicas=tuple(replace(r, spans=("n1", "n2")) for r in d.replicas)) for d in a.deployments
            ))
            for a in serve.applications
        ),
    )  # fmt: skip
    wide = replace(look, snapshot=replace(look.snapshot, serve=spread))
    settings = log(tensor_parallel_size=2, pipeline_parallel_size=1)
    values = {"engine": {"max_model_len": 2048}}
    agrees(under_serve(wide, settings, **values), "fail", "lies on 2 nodes")
    agrees(under_serve(wide, settings, allow_tp_across_nodes=True, **values), "warn", "without RDMA")
    piped = log(tensor_parallel_size=2, pipeline_parallel_size=2)
    assert "lies on" not in said(under_serve(wide, piped, **values))


# vllm.serve-concurrency


def stream(words: str, tokens: int = 8, pieces: int = 4) -> list[bytes]:
    delta = json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": words}}]})
    usage = json.dumps({"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": tokens}})
    events = [f"data: {data}\n\n" for data in (*[delta] * pieces, usage, "[DONE]")]
    return [event.encode() for event in events]


def request(number: int, first: float, last: float, **changed: object) -> tuple[Sent, Exchange]:
    """A streamed answer whose words came between two moments, seconds after it was sent."""
    key = f"{BURST}request-{number:02}"
    pieces = stream(str(changed.pop("words", "1 2 3")))
    times = [first + (last - first) * at / (len(pieces) - 1) for at in range(len(pieces))]
    exchange = Exchange(
        key, "POST", "http://s/v1/chat/completions", "curl", 200, {"content-type": "text/event-stream"},
        b"".join(pieces), seconds=last, first=first,
        arrivals=tuple((at, len(piece)) for at, piece in zip(times, pieces, strict=True)),
    )  # fmt: skip
    return Sent(key, 0.0, f"nonce{number:04}"), replace(exchange, **changed)  # type: ignore[arg-type]


def burst(made: Sequence[tuple[Sent, Exchange]], **more: object) -> Burst:
    alone = Exchange(f"{BURST}alone", "POST", "http://s", "curl", 200, {}, b"", seconds=1.0)
    values: dict[str, object] = {
        "by_key": {alone.key: alone} | {exchange.key: exchange for _, exchange in made},
        "url": "http://s:8000",
        "via": None,
        "keyless": None,
        "not_made": None,
        "sent": tuple(sent for sent, _ in made),
        "configs": (),
        "replicas": ("r1",),
        "spread": {},
    }
    return Burst(**{**values, **more})  # type: ignore[arg-type]


TOGETHER = [request(n, 0.1, 1.1) for n in range(16)]
QUEUED = [request(n, n + 0.1, n + 1.0) for n in range(16)]
PARTLY = [request(n, 0.7 * n + 0.1, 0.7 * n + 1.1) for n in range(16)]


def concurrent(made: Burst, **values: object) -> Ruling:
    return one("vllm.serve-concurrency", made, **values)


def test_worked_on_together() -> None:
    agrees(concurrent(burst(TOGETHER)), "pass", "16 of 16 answered, ratio 0.06")


def test_worked_on_one_after_the_other() -> None:
    """Each was sent at once and waited: by their latencies, 0.12, they would look as parallel as can be."""
    latencies = sum(exchange.seconds for _, exchange in QUEUED)
    assert max(exchange.seconds for _, exchange in QUEUED) / latencies < 0.2
    agrees(concurrent(burst(QUEUED)), "fail", "worked on one after the other")


def test_worked_on_partly_together() -> None:
    agrees(concurrent(burst(PARTLY)), "warn", "only partly together")
    agrees(concurrent(burst(PARTLY), parallel_ratio_max=0.8), "pass", "")


def test_answers_in_one_piece_are_measured_by_one_alone() -> None:
    """Something collects the words: 16 answers after 1.6 s, and one alone takes 1 s."""
    held = [request(n, 1.6, 1.6) for n in range(16)]
    agrees(concurrent(burst(held)), "pass", "ratio 0.10")
    slow = [request(n, 15.5, 15.5) for n in range(16)]
    agrees(concurrent(burst(slow)), "fail", "one after the other")
    agrees(concurrent(burst(held, by_key={e.key: e for _, e in held})), "unknown", "is not seen")


def with_one(**changed: object) -> Burst:
    return burst([*TOGETHER[:15], request(15, 0.1, 1.1, **changed)])


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        (
            {"status": 500, "body": b'{"error": {"message": "EngineDeadError"}}', "headers": {}},
            "fail",
            "EngineDeadError",
        ),
        ({"missing": Missing(Reason.TIMEOUT, "60 s"), "fault": Fault.TIMEOUT}, "fail", "1 × timeout"),
        ({"missing": Missing(Reason.UNREACHABLE, "reset"), "fault": Fault.BROKE_OFF}, "fail", "1 × broke-off"),
        ({"words": ""}, "fail", "1 × empty answer"),
        ({"body": b"".join(stream("1")[:2])}, "fail", "ended in the middle"),
        ({"body": b'data: {"error": {"message": "dead"}}\n\n'}, "fail", "dead"),
        ({"words": "the code of nonce0003"}, "fail", "that of request-15 holds the code of request-03"),
        (
            {"status": 503, "body": b"Request dropped due to backpressure (max_queued_requests=2)", "headers": {}},
            "warn",
            "turned 1 of 16 away",
        ),
        ({"status": 503, "body": b"Service Unavailable", "headers": {}}, "fail", "HTTP 503"),
        ({"status": 429, "body": b"", "headers": {}}, "unknown", "a rate limiter"),
    ],
)
def test_one_answer_of_many(changed: dict[str, object], verdict: str, words: str) -> None:
    agrees(concurrent(with_one(**changed)), verdict, words)


@pytest.mark.parametrize(
    ("spread", "verdict", "words"),
    [
        ({"r1": 9, "r2": 9}, "pass", "r1 9, r2 9"),
        ({"r1": 18}, "warn", "all on one of 2 replicas"),
        ({"r1": 16, "r2": 2}, "warn", "all on one of 2 replicas"),
        ({"r1": 15, "r2": 3}, "pass", ""),
        ({"r1": 4}, "unknown", "tell of 4 requests only"),
        (Missing(Reason.UNREACHABLE, "no metrics"), "unknown", "no metrics"),
    ],
)
def test_the_replicas(spread: object, verdict: str, words: str) -> None:
    agrees(concurrent(burst(TOGETHER, replicas=("r1", "r2"), spread=spread)), verdict, words)
    agrees(concurrent(burst(TOGETHER, replicas=("r1",), spread=spread)), "pass", "")


def test_the_trap_in_front_of_the_burst() -> None:
    configs = ray_look().configs
    agrees(concurrent(burst(TOGETHER, configs=configs)), "warn", "Serve's default max_ongoing_requests 5")


@pytest.mark.parametrize(
    ("single", "not_made", "keyless", "verdict", "reason", "words"),
    [
        (
            answer("", 401),
            Missing(Reason.CANNOT_TELL, "HTTP 401"),
            Missing(Reason.NO_CREDENTIAL, "no key"),
            "unknown",
            Reason.NO_CREDENTIAL,
            "no key",
        ),
        (answer("", 403), Missing(Reason.CANNOT_TELL, "HTTP 403"), None, "unknown", Reason.NO_CREDENTIAL, "HTTP 403"),
        (
            silent("", Fault.REFUSED),
            Missing(Reason.UNREACHABLE, "refused"),
            None,
            "unknown",
            Reason.UNREACHABLE,
            "refused",
        ),
        (silent("", Fault.TIMEOUT), Missing(Reason.TIMEOUT, "60 s"), None, "fail", None, "a single request fails"),
        (answer("", 500), Missing(Reason.CANNOT_TELL, "HTTP 500: dead"), None, "fail", None, "dead"),
        (answer("", 429), Missing(Reason.CANNOT_TELL, "HTTP 429"), None, "unknown", Reason.CANNOT_TELL, "429"),
    ],
)
def test_a_burst_that_was_not_made(
    single: Exchange, not_made: Missing, keyless: Missing | None, verdict: str, reason: Reason | None, words: str
) -> None:
    key = f"{BURST}warm-up"
    found = burst([], by_key={key: replace(single, key=key)}, not_made=not_made, keyless=keyless, sent=())
    ruling = concurrent(found)
    agrees(ruling, verdict, words)
    assert ruling.reason is reason


def test_no_endpoint() -> None:
    ruling = concurrent(burst([], url=None, not_made=Missing(Reason.NO_TARGETS, "endpoints.serve is not set"), sent=()))
    assert (ruling.verdict, ruling.reason, ruling.target.name) == (Verdict.UNKNOWN, Reason.NO_TARGETS, "ds")


# vllm.single-gpu-load

GIB = 1 << 30
LOADED = Loaded("vllm", 42.0, 8, 14 * GIB, "0.33.0", device="cuda")


def single(total: int = 80 * GIB, **fields: object) -> SingleGpuLoad:
    """A model of 13 GiB, and a GPU."""
    config = model_config.config(json.dumps({
        "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "hidden_size": 4096, "num_hidden_layers": 30,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    }))  # fmt: skip
    assert isinstance(config, model_config.Config)
    header = Header((Tensor("w", "BF16", 13 * GIB // 2, 0, 13 * GIB),))
    weights = ModelWeights(NOTHING, NOTHING, config, (Shard("model.safetensors", 13 * GIB, header),), NOTHING)  # type: ignore[arg-type]
    found = SingleGpuLoad(True, weights, Device("gpu-02", 3, "GPU-0123456789", total, 0), LOADED)
    return replace(found, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "values", "verdict", "words"),
    [
        pytest.param(single(), {}, "pass", "vllm 0.33.0, 8 tokens, 42 s, 14.0 GiB", id="loaded"),
        pytest.param(single(asked=False, loaded=NOTHING), {}, "unknown", "--allow-load", id="not-asked"),
        pytest.param(single(loaded=Missing(Reason.TIMEOUT, "900 s")), {}, "unknown", "900 s", id="timeout"),
        pytest.param(
            single(loaded=replace(LOADED, fault="CUDA driver version is insufficient")),
            {},
            "fail",
            "driver version is insufficient",
            id="raised",
        ),
        pytest.param(single(loaded=replace(LOADED, tokens=0)), {}, "fail", "no token", id="no-token"),
        pytest.param(single(loaded=replace(LOADED, device="cpu")), {}, "fail", "goes to the cpu", id="cpu"),
        pytest.param(single(loaded=replace(LOADED, device="")), {}, "unknown", "its device", id="somewhere"),
        pytest.param(
            single(loaded=replace(LOADED, framework="safetensors", tokens=0)),
            {},
            "unknown",
            "not vLLM",
            id="another-framework",
        ),
        pytest.param(single(12 * GIB, loaded=NOTHING), {}, "not-applicable", "no smoke_model", id="cannot-fit"),
        pytest.param(
            single(12 * GIB, loaded=NOTHING),
            {"smoke_model": "/models/tiny"},
            "unknown",
            "/models/tiny",
            id="smoke-model",
        ),
        pytest.param(
            single(device=Missing(Reason.CANNOT_TELL, "no idle GPU")), {}, "not-applicable", "never", id="busy-never"
        ),
    ],
)
def test_one_gpu(found: SingleGpuLoad, values: dict[str, object], verdict: str, words: str) -> None:
    agrees(one("vllm.single-gpu-load", found, **values), verdict, words)


def test_no_gpu_is_idle() -> None:
    busy = single(device=Missing(Reason.CANNOT_TELL, "no idle GPU"))
    hosts = {host.name: {GpuFacts: gpus(0)} for host in HOSTS}
    agrees(one("vllm.single-gpu-load", busy, hosts=hosts), "unknown", "no idle GPU")


@pytest.mark.parametrize("check", sorted(RULES))
def test_nothing_was_observed(check: str) -> None:
    assert {ruling.verdict for ruling in rule(check).values()} == {Verdict.UNKNOWN}
