"""Looks at what serves the model, for the checks of vLLM: its backends, its engines' settings, its installation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

from dstui.facts import engine_settings, vllm_install
from dstui.facts.engine_settings import EngineLog, EngineSettings, ModelConfig
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Answer, Missing, read, run
from dstui.facts.untyped import rows, table, text
from dstui.facts.vllm_backends import CACHE_CONFIG, HEALTH, METRICS, MODELS, VERSION, Backend, VllmBackends
from dstui.facts.vllm_install import ImagePackages, VllmInstall
from dstui.gather import ray_checks
from dstui.gather.caller import Caller, Credential, joined
from dstui.gather.observing import Observing, Way
from dstui.model import GatherError, Reason

SECONDS = 5.0
AT_ONCE = 8
MOST_BACKENDS = 256
MOST_LOGS = 16
"""Replicas whose log is read: each is up to 4 MiB, and all engines of a model are started alike."""
METRICS_LIMIT = 4 << 20
LOG_LIMIT = 4 << 20
LOG_SECONDS = 10.0
INDEX_LIMIT = 16 << 20
INDEX_SECONDS = 10.0
IMAGE_SECONDS = 60.0
PUBLIC_INDEX = "https://pypi.org/simple/"
_CONFIG_BYTES = 262_144
_JSON_INDEX = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"

_INSIDE = r"""
import importlib.metadata as m, json, re, sys
def v(n):
    try: return m.version(n)
    except m.PackageNotFoundError: return None
def c():
    try: t = m.distribution("torch").locate_file("torch/version.py").read_text()
    except Exception: return None
    f = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)", t, re.M)
    return f and f.group(1)
n = sys.argv[1:]
r = m.metadata("vllm").get("Requires-Python") if v("vllm") else None
p = list(sys.version_info[:3])
print(json.dumps({"versions": {k: v(k) for k in n}, "requires_python": r, "python": p, "torch_cuda": c()}))
"""


async def observe_vllm_backends(o: Observing) -> VllmBackends:
    """Version, health, models (with the key) and the engine's cache of every backend of the inventory."""
    endpoints = o.inventory.document.endpoints
    urls = [_bare(str(url)) for url in (endpoints.backends if endpoints else None) or ()][:MOST_BACKENDS]
    key = await o.credential() if urls else None
    gate, trust = asyncio.Semaphore(AT_ONCE), await o.trust()
    credential = key if isinstance(key, Credential) else None

    async def one(number: int, url: str) -> tuple[Backend, list[Exchange]]:
        async with gate:
            o.told(url)
            way = await o.way_to(url)
            backend = Backend(url, number, _host_of(o, url), way.via)
            async with o.caller(seconds=SECONDS, connections=4, through=way, trust=trust) as caller:
                made = await asyncio.gather(
                    _ask(caller, backend, VERSION, "/version", None),
                    _ask(caller, backend, HEALTH, "/health", None),
                    _ask(caller, backend, MODELS, "/v1/models", credential),
                    _ask(caller, backend, METRICS, "/metrics", None),
                )
            return backend, [*made[:3], _only_cache_config(made[3])]

    found = await asyncio.gather(*(one(number, url) for number, url in enumerate(urls, 1)))
    return VllmBackends(
        by_key={exchange.key: exchange for _, exchanges in found for exchange in exchanges},
        backends=tuple(backend for backend, _ in found),
        keyless=key if isinstance(key, Missing) else None,
    )


async def _ask(caller: Caller, backend: Backend, what: str, path: str, credential: Credential | None) -> Exchange:
    limit = METRICS_LIMIT if what == METRICS else 1 << 20
    url = joined(backend.url, path)
    return await caller.call(
        backend.key(what), "GET", url, seconds=SECONDS, credential=credential, limit=limit, patient=True
    )


def _only_cache_config(exchange: Exchange) -> Exchange:
    """The rest of a page of metrics is not looked at, and is large."""
    if exchange.status != 200 or exchange.missing is not None:
        return exchange
    return replace(exchange, body=b"\n".join(CACHE_CONFIG.findall(exchange.body)) + b"\n")


def _host_of(o: Observing, url: str) -> str | None:
    """The inventory host that an address belongs to."""
    named = urlsplit(url).hostname
    found = (h.name for h in o.site.hosts if named in (h.data_ip, h.mgmt_ip, h.address, h.name))
    return next(found, None)


async def observe_engine_settings(o: Observing) -> EngineSettings:
    """The engines' own words in their logs, by Ray's API for logs; and the model's config.json, on one host."""
    mode = o.params("vllm.serve-app", None).text("serving_mode")
    exchanges = await _replica_logs(o) if mode in ("ray-serve", "vllm-ray") else {}
    logs: dict[str, EngineLog | Missing] = {}
    shown: dict[str, Exchange] = {}
    for replica, exchange in exchanges.items():
        logs[replica] = _understood(replica, exchange)
        shown[exchange.key] = replace(exchange, body=engine_settings.engine_lines(exchange.text).encode(), cut=False)
    return EngineSettings(by_key=shown, logs=logs, model=await _model_config(o))


def _understood(replica: str, exchange: Exchange) -> EngineLog | Missing:
    if exchange.missing is not None:
        return exchange.missing
    if exchange.status != 200:
        return Missing(Reason.CANNOT_TELL, f"the log of {replica}: HTTP {exchange.status}")
    return engine_settings.engine_log(replica, exchange.text)


async def _replica_logs(o: Observing) -> dict[str, Exchange]:
    """The beginning of each running replica's output, by replica id."""
    seat, token = await ray_checks.dashboard_way(o), await ray_checks.token_of(o)
    if seat.closed is not None:
        return {}
    credential = token if isinstance(token, Credential) else None
    try:
        async with o.caller(seconds=LOG_SECONDS, connections=4, through=seat.way) as caller:
            serve = await caller.call(
                "engine.serve", "GET", f"{seat.base}/api/serve/applications/", seconds=SECONDS,
                credential=credential, limit=8 << 20,
            )  # fmt: skip
            wanted = _replicas(serve)
            gate = asyncio.Semaphore(4)

            async def one(replica: str, actor: str) -> Exchange:
                path = f"/api/v0/logs/file?actor_id={quote(actor, safe='')}&suffix=out&lines=-1"
                async with gate:
                    return await caller.call(
                        f"engine.log.{replica}", "GET", seat.base + path, seconds=LOG_SECONDS,
                        credential=credential, limit=LOG_LIMIT,
                    )  # fmt: skip

            made = await asyncio.gather(*(one(replica, actor) for replica, actor in wanted.items()))
            return dict(zip(wanted, made, strict=True))
    except GatherError:
        # Without a way there are no logs; the settings that only they have are then not observable.
        return {}


def _replicas(exchange: Exchange) -> dict[str, str]:
    """Replica id → actor id of the running ones. Nothing else of Serve's answer is kept: it holds environments."""
    value = exchange.json()
    applications = table((table(value) or {}).get("applications")) if not isinstance(value, Missing) else None
    found: dict[str, str] = {}
    for app in (applications or {}).values():
        for deployment in (table((table(app) or {}).get("deployments")) or {}).values():
            for row in map(table, rows((table(deployment) or {}).get("replicas")) or []):
                replica, actor = (text((row or {}).get(name)) for name in ("replica_id", "actor_id"))
                if replica and actor and (row or {}).get("state") == "RUNNING":
                    found[replica[:60]] = actor[:100]
    return dict(list(found.items())[:MOST_LOGS])


async def _model_config(o: Observing) -> ModelConfig | Missing:
    """config.json of `model.path`, from the head or the first host that can read it."""
    model = o.inventory.document.model
    if model is None:
        return Missing(Reason.NO_TARGETS, "the inventory names no model.path")
    path = f"{str(model.path).rstrip('/')}/config.json"
    hosts = sorted((h for h in o.site.hosts if h.in_ray), key=lambda h: "head" not in h.roles)
    lost = Missing(Reason.UNREACHABLE, "no Ray host is reached")
    for host in hosts[:4]:
        link = o.links.get(host.name)
        if link is None:
            continue
        try:
            raw = await link.facts([read("engine.model", path, limit=_CONFIG_BYTES)], deadline=SECONDS)
        except GatherError as error:
            lost = Missing(error.reason, str(error))
            continue
        said = raw.text("engine.model")
        if isinstance(said, Missing):
            lost = said
            continue
        try:
            return engine_settings.model_config(json.loads(said))
        except (ValueError, RecursionError):
            return Missing(Reason.PARSE_ERROR, f"{host.name}: {path} is no JSON")
    return lost


async def observe_vllm_install(o: Observing) -> VllmInstall:
    """The latest release, where the policy needs it; and the packages inside the image, where vLLM runs in one."""
    params = o.params("vllm.installed-latest", None)
    policy = params.text("version_policy")
    wanted = policy == "latest" or (policy == "auto" and params.optional_text("vllm_version") is None)
    exchange = await _index(o, params.optional_text("index_url")) if wanted else None
    answers = await _images(o, [*_PACKAGES, *params.texts("require_extras")])
    images: Mapping[str, ImagePackages | Missing] = {
        name: vllm_install.image_packages(answer) for name, answer in answers.items()
    }
    kept = {} if exchange is None else {exchange.key: replace(exchange, body=exchange.body[:2000])}
    latest = None if exchange is None else vllm_install.latest(exchange)
    return VllmInstall(by_key=kept, latest=latest, images=images, answers=answers)


_PACKAGES = ("vllm", "ray", "torch", "transformers", "flashinfer-python")


async def _index(o: Observing, written: str | None) -> Exchange:
    mirrors = o.inventory.document.network.mirrors.get("pip")
    mirror = next(iter(mirrors), None) if mirrors else None
    base = str(written or mirror or PUBLIC_INDEX).rstrip("/")
    url = f"{base}/vllm/"
    if o.site.offline and written is None and mirror is None:
        missing = Missing(Reason.UNREACHABLE, "network.offline is true and there is no mirror for pip")
        return Exchange(vllm_install.INDEX, "GET", url, f"curl {url}", missing=missing)
    o.told(url)
    try:
        async with o.caller(seconds=INDEX_SECONDS, through=Way()) as caller:
            return await caller.call(
                vllm_install.INDEX, "GET", url, seconds=INDEX_SECONDS, limit=INDEX_LIMIT,
                headers={"Accept": _JSON_INDEX},
            )  # fmt: skip
    except GatherError as error:
        missing = Missing(error.reason, str(error))
        return Exchange(vllm_install.INDEX, "GET", url, f"curl {url}", missing=missing)


async def _images(o: Observing, names: list[str]) -> dict[str, Answer]:
    """What is inside the image, by host. A container is started for it, without network, and removed."""
    runtime = o.inventory.document.runtime
    if runtime.mode != "docker" or runtime.image is None:
        return {}
    argv = (
        "docker", "run", "--rm", "--pull=never", "--network=none", "--entrypoint=python3", str(runtime.image),
        "-I", "-c", _INSIDE, *names,
    )  # fmt: skip
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Answer:
        op = run(vllm_install.IMAGE, *argv, timeout=IMAGE_SECONDS)
        async with gate:
            try:
                raw = await o.links[name].facts([op], deadline=IMAGE_SECONDS + 5.0)
            except GatherError as error:
                return Answer(op.key, "docker run", missing=Missing(error.reason, str(error)))
        return raw.answers.get(op.key) or Answer(op.key, "docker run", missing=Missing(Reason.PROBE_ERROR, "no answer"))

    hosts = [host.name for host in o.site.hosts if host.in_ray and host.name in o.links]
    made = await asyncio.gather(*(one(name) for name in hosts))
    return dict(zip(hosts, made, strict=True))


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
