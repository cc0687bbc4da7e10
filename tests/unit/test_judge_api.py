"""api.started, api.docs and api.health: captured answers of vLLM and Ray Serve, and every way they can fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import listeners, service
from dstui.facts.api import ApiDocs, ApiHealth, ApiStarted, Approach, Endpoint, EndpointExchanges, endpoints
from dstui.facts.api_page import read_page
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge import api, api_docs, api_health
from dstui.model import Reason, Ruling, Threshold, Verdict

DATA = Path(__file__).parent.parent / "data" / "api"
PUBLIC, BACK = "https://api.example.com", "http://198.51.100.11:8000"
HEAD = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 8)
SITE = Site(
    *("ds", "lab", "live", (HEAD,), "/mnt/x", None, None, "bare-metal", False, "none"),
    cluster_cidrs=("198.51.100.0/24",),
)
DEFAULTS: Mapping[str, object] = {
    "endpoints_api": PUBLIC, "endpoints_backends": [BACK], "model_served_name": "deepseek-tiny",
    "docs_url": "/docs", "openapi_url": "/openapi.json", "docs_required": True,
    "health_path": "/health", "samples": 3, "latency_warn_ms": 500, "deep_probe": True,
}  # fmt: skip
NO_KEY = Missing(Reason.NO_CREDENTIAL, "the inventory names no key (auth.key_ref)")
STRAIGHT, THROUGH = Approach(), Approach("gpu-01", inside=True)
BOTH = endpoints(PUBLIC, [BACK])


def body(name: str) -> bytes:
    """A captured answer, without the head that some captures have."""
    content = (DATA / name).read_bytes()
    return content.partition(b"\r\n\r\n")[2] or content if content.startswith(b"HTTP") else content


def came(status: int = 200, content: bytes = b"", kind: str = "application/json", **more: object) -> Exchange:
    made = Exchange("", "GET", f"{PUBLIC}/x", "curl", status, {"content-type": kind}, content, seconds=0.02)
    return replace(made, **more)  # type: ignore[arg-type]


def lost(fault: Fault, reason: Reason = Reason.UNREACHABLE, **more: object) -> Exchange:
    made = Exchange("", "GET", f"{PUBLIC}/x", "curl", missing=Missing(reason, str(fault)), fault=fault)
    return replace(made, **more)  # type: ignore[arg-type]


REFUSED = lost(Fault.REFUSED)
NO_CONNECT = lost(Fault.CONNECT_TIMEOUT, Reason.TIMEOUT)
HUNG = lost(Fault.TIMEOUT, Reason.TIMEOUT)
MODELS = came(content=body("models.json"))


def keyed(check: str, by_label: Mapping[str, Mapping[str, Exchange]]) -> dict[str, Exchange]:
    return {
        f"{check}.{label}.{what}": replace(exchange, key=f"{check}.{label}.{what}")
        for label, found in by_label.items()
        for what, exchange in found.items()
    }


def case(seen: EndpointExchanges | Missing, host: HostFacts | None = None, **changed: object) -> FleetCase:
    params = Params([Threshold(n, v, "document", v) for n, v in {**DEFAULTS, **changed}.items()])
    kind = EndpointExchanges if isinstance(seen, Missing) else type(seen)
    return FleetCase(SITE, {} if host is None else {"gpu-01": host}, params, {}, {kind: seen}, 0.0)


def started(
    public: Exchange,
    back: Exchange | None = None,
    *,
    host: HostFacts | None = None,
    keyless: Missing | None = None,
    approach: Approach = THROUGH,
    **changed: object,
) -> list[Ruling]:
    version = came(content=body("version.json"))
    found = {"public": {"models": public, "version": version}}
    if back is not None:
        found["backend-1"] = {"models": back, "version": version}
    seen = ApiStarted(
        keyed("api.started", found),
        BOTH if back is not None else BOTH[:1],
        {"public": Approach(), "backend-1": approach},
        keyless,
    )
    return list(api.judge(case(seen, host, **changed)))


def words(ruling: Ruling) -> str:
    return "\n".join((ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)))


def test_the_model_is_listed_everywhere() -> None:
    public, back = started(MODELS, MODELS)
    assert (public.verdict, back.verdict) == (Verdict.PASS, Verdict.PASS)
    assert public.target.name == PUBLIC and back.target.name == BACK
    assert public.observed.en == "200, 20 ms, deepseek-tiny, vLLM 0.32.0"
    assert "seen from gpu-01" in back.observed.en
    assert public.evidence_keys == ("api.started.public.",)


def test_ray_serve_lists_it_too() -> None:
    assert started(came(content=body("serve/GET_v1_models.txt")))[0].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("exchange", "verdict", "said"),
    [
        (REFUSED, Verdict.FAIL, "connection refused"),
        (NO_CONNECT, Verdict.FAIL, "no connection in time"),
        (HUNG, Verdict.FAIL, "no whole answer in time"),
        (lost(Fault.BROKE_OFF, Reason.CANNOT_TELL), Verdict.FAIL, "broken off"),
        (lost(Fault.NAME), Verdict.FAIL, "does not resolve"),
        (lost(Fault.TLS, Reason.CANNOT_TELL), Verdict.UNKNOWN, "TLS"),
        (came(500, b'{"error":{"message":"EngineCore died"}}'), Verdict.FAIL, "EngineCore died"),
        (came(502, b"<html>", "text/html"), Verdict.FAIL, "down: 502"),
        (came(404, body("err_404_path.json")), Verdict.FAIL, "404 (Not Found)"),
        (came(302, headers={"location": "https://other/v1"}), Verdict.FAIL, "redirects to https://other/v1"),
        (came(401, body("err_401_models_nokey.json")), Verdict.FAIL, "the key of auth.key_ref is refused"),
        (came(429), Verdict.UNKNOWN, "rate limited"),
        (came(content=b"<html>Welcome to nginx!", kind="text/html"), Verdict.FAIL, "another service"),
        (came(content=b'{"object":"list","data":[]}'), Verdict.FAIL, "not among the models"),
        (came(content=b'{"object":"list","data":[{"id":"qwen"}]}'), Verdict.FAIL, "qwen"),
        (came(content=body("models.json"), cut=True), Verdict.UNKNOWN, "only the first"),
        (came(content=b""), Verdict.FAIL, "no list of models"),
    ],
)
def test_the_public_endpoint(exchange: Exchange, verdict: Verdict, said: str) -> None:
    (ruling,) = started(exchange)
    assert ruling.verdict is verdict and said in words(ruling)


def test_a_401_without_a_key_is_unknown() -> None:
    (ruling,) = started(came(401, body("err_401_models_nokey.json")), keyless=NO_KEY)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL)
    assert "auth.key_ref" in words(ruling)


@pytest.mark.parametrize(
    ("public", "approach", "verdict", "reason"),
    [
        (MODELS, Approach(inside=True), Verdict.WARN, None),
        (REFUSED, Approach(inside=True), Verdict.FAIL, None),
        # A firewall may keep the controller out, as it should; nobody looked from inside.
        (MODELS, Approach(), Verdict.UNKNOWN, Reason.UNREACHABLE),
        (REFUSED, Approach(), Verdict.UNKNOWN, Reason.UNREACHABLE),
    ],
)
def test_a_backend_that_is_down(public: Exchange, approach: Approach, verdict: Verdict, reason: Reason | None) -> None:
    _, back = started(public, NO_CONNECT, approach=approach)
    assert (back.verdict, back.reason) == (verdict, reason)


def test_a_backend_with_another_model_fails_though_the_public_endpoint_works() -> None:
    _, back = started(MODELS, came(content=b'{"object":"list","data":[{"id":"qwen"}]}'))
    assert back.verdict is Verdict.FAIL


def test_the_served_name_decides() -> None:
    assert started(MODELS, model_served_name="deepseek")[0].verdict is Verdict.FAIL


def test_no_endpoints_and_no_look() -> None:
    (none,) = api.judge(case(ApiStarted({}, (), {}, None)))
    assert (none.verdict, none.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS) and "endpoints.api" in words(none)
    (ruling,) = api.judge(case(Missing(Reason.TIMEOUT, "late")))
    assert ruling.verdict is Verdict.UNKNOWN
    (gap,) = api.judge(case(ApiStarted({}, BOTH[:1], {}, None)))
    assert (gap.verdict, gap.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


SHOWN = """Id=vllm.service
ActiveState=active
NRestarts={restarts}
Restart={policy}
ExecMainStartTimestampMonotonic=1000000000
"""


def host_facts(
    comm: str = "vllm",
    cgroup: str = "0::/system.slice/vllm.service\n",
    *,
    restarts: int = 0,
    policy: str = "always",
    uptime: float = 5000.0,
    hidden: bool = False,
    docker: str | None = None,
    controller: str = "192.0.2.9",
    listening: str = "0.0.0.0",
) -> HostFacts:
    names = {"/proc/77/comm": f"{comm}\n"} | ({} if hidden else {"/proc/1/comm": "systemd\n"})
    answers = {
        "service.comm": Answer("service.comm", "glob", value=names),
        "service.cgroup": Answer("service.cgroup", "glob", value={"/proc/77/cgroup": cgroup}),
        "service.uptime": Answer("service.uptime", "uptime", f"{uptime} 1.0\n"),
        "service.units": Answer("service.units", "systemctl", SHOWN.format(restarts=restarts, policy=policy), exit=0),
        "listeners.ss": Answer("listeners.ss", "ss", f"LISTEN 0 128 {listening}:8000 0.0.0.0:*\n", exit=0),
    }
    if docker is not None:
        answers["service.docker"] = Answer("service.docker", "docker", docker, exit=0)
    raw = Raw(answers)
    groups: dict[type, object] = {
        service.ServiceFacts: service.parse(raw),
        listeners.ListenerFacts: listeners.parse(raw),
    }
    return HostFacts(None, Session("ops", "publickey", controller_ip=controller), raw, groups)


CONTAINER = f"0::/system.slice/docker-{'ab' * 32}.scope\n"


@pytest.mark.parametrize(
    ("host", "verdict", "said"),
    [
        (host_facts(), Verdict.PASS, ""),
        (host_facts(restarts=2), Verdict.PASS, ""),
        (host_facts(restarts=3), Verdict.WARN, "restarted 3 times"),
        (host_facts(restarts=3, uptime=1000 + 86_400), Verdict.PASS, ""),
        (host_facts(policy="no"), Verdict.WARN, "Restart=no"),
        (host_facts(cgroup="0::/user.slice/user-0.slice/session-3.scope\n"), Verdict.WARN, "session-3.scope"),
        (
            host_facts(cgroup="0::/user.slice/user-0.slice/user@0.service/app.slice/vllm.service\n"),
            Verdict.WARN, "user@0.service",
        ),
        (host_facts(cgroup=CONTAINER, docker=f"{'ab' * 32} always 0\n"), Verdict.PASS, ""),
        (host_facts(cgroup=CONTAINER, docker=f"{'ab' * 32} no 0\n"), Verdict.WARN, "no restart policy"),
        (host_facts(cgroup=CONTAINER, docker=f"{'ab' * 32} always 3\n"), Verdict.WARN, "restarted 3 times"),
        (host_facts(hidden=True), Verdict.PASS, "who restarts it is not known"),
    ],
)  # fmt: skip
def test_who_keeps_a_backend_alive(host: HostFacts, verdict: Verdict, said: str) -> None:
    _, back = started(MODELS, MODELS, host=host)
    assert back.verdict is verdict, words(back)
    assert said in words(back)


@pytest.mark.parametrize(
    ("approach", "controller", "listening", "verdict"),
    [
        (Approach(), "192.0.2.9", "0.0.0.0", Verdict.WARN),
        (Approach(), "192.0.2.9", "198.51.100.11", Verdict.PASS),
        (Approach(), "198.51.100.9", "0.0.0.0", Verdict.PASS),
        (Approach("gpu-01", inside=True), "192.0.2.9", "0.0.0.0", Verdict.PASS),
    ],
)
def test_a_plain_backend_that_strangers_reach(
    approach: Approach, controller: str, listening: str, verdict: Verdict
) -> None:
    host = host_facts(controller=controller, listening=listening)
    assert started(MODELS, MODELS, host=host, approach=approach)[1].verdict is verdict


def test_loading_and_dead_are_told_apart() -> None:
    inside = Approach(inside=True)
    loading = started(REFUSED, REFUSED, host=host_facts("VLLM::EngineCor"), approach=inside)[1]
    dead = started(REFUSED, REFUSED, host=host_facts("bash"), approach=inside)[1]
    assert loading.verdict is dead.verdict is Verdict.FAIL
    assert "may still be loading" in words(loading) and "no process of vLLM" in words(dead)


def test_the_units_of_the_processes_are_asked() -> None:
    facts = host_facts()
    (op,) = service.more(HEAD, SITE, facts.raw)
    assert op.source.endswith("-- vllm.service")
    (op,) = service.more(HEAD, SITE, host_facts(cgroup=CONTAINER).raw)
    assert op.source.startswith("docker inspect")
    assert service.more(HEAD, SITE, host_facts("bash").raw) == ()
    assert service.more(HEAD, SITE, Raw()) == ()
    empty = service.parse(Raw())
    assert isinstance(empty.processes, Missing)


DOCS = DATA.parent / "vllm" / "page.html"
PAGE = came(content=DOCS.read_bytes(), kind="text/html; charset=utf-8", url=f"{PUBLIC}/docs")
SCHEMA = came(content=json.dumps({"paths": {"/v1/chat/completions": {}, "/health": {}}}).encode())
ASSET = came(kind="text/css", url="https://cdn.jsdelivr.net/npm/swagger-ui.css")


def docs(
    found: Mapping[str, Exchange],
    *,
    addresses: tuple[str, ...] = ("192.0.2.80",),
    keyless: Missing | None = None,
    **changed: object,
) -> Ruling:
    seen = ApiDocs(keyed("api.docs", {"public": found}), BOTH[:1], {}, keyless, addresses)
    (ruling,) = api_docs.judge(case(seen, **changed))
    return ruling


def test_docs_of_vllm() -> None:
    ruling = docs({"page": PAGE, "schema": SCHEMA, "asset-1": ASSET})
    assert ruling.verdict is Verdict.PASS
    assert ruling.observed.en == "200 FastAPI - Swagger UI, 2 paths"


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        ({"page": came(404)}, Verdict.FAIL, "the page answers 404"),
        ({"page": came(502)}, Verdict.FAIL, "502"),
        ({"page": REFUSED}, Verdict.UNKNOWN, "host not reachable"),
        ({"page": HUNG}, Verdict.UNKNOWN, "timed out"),
        (
            {"page": replace(PAGE, body=b"<html><title>Welcome to nginx!</title>")},
            Verdict.FAIL,
            "without a documentation",
        ),
        ({"page": replace(PAGE, headers={"content-type": "application/json"})}, Verdict.FAIL, "not HTML"),
        ({"schema": came(404)}, Verdict.FAIL, "the schema answers 404"),
        ({"schema": came(content=b"{}")}, Verdict.FAIL, "no OpenAPI"),
        ({"schema": came(content=b"<html>")}, Verdict.FAIL, "no OpenAPI"),
        ({"schema": came(content=b'{"paths": {"/a": {}}}')}, Verdict.FAIL, "does not have /v1/chat/completions"),
        ({"schema": came(content=b'{"paths": {"/llm/v1/chat/completions": {}}}')}, Verdict.PASS, ""),
        ({"schema": replace(SCHEMA, cut=True)}, Verdict.UNKNOWN, "only the first"),
        ({"asset-1": lost(Fault.NAME, url="https://cdn.jsdelivr.net/x.js")}, Verdict.WARN, "cdn.jsdelivr.net"),
        ({"asset-1": came(404, url="https://cdn.jsdelivr.net/x.js")}, Verdict.WARN, "--enable-offline-docs"),
        ({"spec": came(404, url=f"{PUBLIC}/openapi.json")}, Verdict.FAIL, "Failed to load API definition"),
        ({"page-key": PAGE, "page": came(401)}, Verdict.PASS, ""),
    ],
)
def test_docs(found: Mapping[str, Exchange], verdict: Verdict, said: str) -> None:
    ruling = docs({"page": PAGE, "schema": SCHEMA, **found})
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_docs_without_a_key() -> None:
    ruling = docs({"page": came(401), "schema": came(401)}, keyless=NO_KEY)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL)


def test_docs_that_the_internet_reads() -> None:
    ruling = docs({"page": PAGE, "schema": SCHEMA}, addresses=("8.8.8.8",))
    assert ruling.verdict is Verdict.WARN and "8.8.8.8" in words(ruling)
    guarded = docs({"page": came(401), "page-key": PAGE, "schema": SCHEMA}, addresses=("8.8.8.8",))
    assert guarded.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("page", "verdict"),
    [
        (came(404), Verdict.NOT_APPLICABLE),
        (came(403), Verdict.NOT_APPLICABLE),
        (came(500), Verdict.WARN),
        (PAGE, Verdict.PASS),
    ],
)
def test_docs_that_are_off_on_purpose(page: Exchange, verdict: Verdict) -> None:
    assert docs({"page": page, "schema": SCHEMA}, docs_required=False).verdict is verdict
    if verdict is Verdict.NOT_APPLICABLE:
        assert docs({"page": REFUSED, "schema": REFUSED}, docs_required=False).verdict is Verdict.UNKNOWN


def test_a_page_as_a_browser_reads_it() -> None:
    page = read_page(DOCS.read_text())
    assert page.viewer == "Swagger UI" and page.spec == "/openapi.json"
    assert [asset.rpartition("/")[2] for asset in page.assets] == ["swagger-ui.css", "swagger-ui-bundle.js"]
    redoc = read_page("<redoc spec-url='/o.json'></redoc><script src=redoc.standalone.js></script>")
    assert (redoc.viewer, redoc.spec, redoc.assets) == ("ReDoc", "/o.json", ("redoc.standalone.js",))
    assert read_page("").viewer is None
    assert read_page("<![" * 1000).assets == ()


TOKEN = came(content=body("chat_nonstream.json"), seconds=0.4)
HEALTHY = came(content=body("serve/GET_health.txt")[:0])


def health(
    samples: list[Exchange],
    deep: Exchange | None = TOKEN,
    *,
    serve: Exchange | None = None,
    keyless: Missing | None = None,
    label: str = "public",
    approach: Approach = STRAIGHT,
    **changed: object,
) -> Ruling:
    found = {f"sample-{number}": sample for number, sample in enumerate(samples, 1)}
    found |= {"serve": serve} if serve else {}
    found |= {"deep": deep} if deep else {}
    endpoint = Endpoint(PUBLIC if label == "public" else BACK, label)
    seen = ApiHealth(keyed("api.health", {label: found}), (endpoint,), {label: approach}, keyless)
    (ruling,) = api_health.judge(case(seen, **changed))
    return ruling


def test_health_that_means_it() -> None:
    ruling = health([HEALTHY] * 3)
    assert ruling.verdict is Verdict.PASS
    assert ruling.observed.en == "3 of 3 healthy, 20 ms; token: 400 ms"
    assert health([HEALTHY] * 3, label="backend-1", approach=Approach("lb-01")).observed.en.endswith(
        "(seen from lb-01)"
    )


SICK, SLOW = came(503), came(seconds=0.6)
DEAD_ENGINE = came(500, b'{"error":{"message":"EngineCore encountered an issue. See stack trace (above)","code":500}}')


@pytest.mark.parametrize(
    ("samples", "deep", "verdict", "said"),
    [
        ([HEALTHY] * 3, DEAD_ENGINE, Verdict.FAIL, "EngineCore encountered"),
        ([HEALTHY] * 3, HUNG, Verdict.FAIL, "no token comes"),
        ([HEALTHY] * 3, replace(HUNG, status=200), Verdict.FAIL, "no token comes"),
        ([HEALTHY] * 3, came(content=b'{"choices":[]}'), Verdict.FAIL, "200 without a token"),
        ([HEALTHY] * 3, came(content=b"<html>"), Verdict.FAIL, "200 without a token"),
        ([HEALTHY] * 3, came(404, body("err_404_model.json")), Verdict.FAIL, "`nope` does not exist"),
        ([HEALTHY] * 3, came(429), Verdict.UNKNOWN, "rate limit"),
        ([HEALTHY] * 3, came(401), Verdict.UNKNOWN, "the key is refused"),
        ([HEALTHY] * 3, REFUSED, Verdict.UNKNOWN, "host not reachable"),
        ([SICK] * 3, TOKEN, Verdict.FAIL, "3 of 3 bad (503)"),
        ([HEALTHY, SICK, HEALTHY], TOKEN, Verdict.WARN, "flapping"),
        ([HEALTHY, SICK, SICK], TOKEN, Verdict.FAIL, "2 of 3 bad"),
        ([HUNG] * 3, TOKEN, Verdict.FAIL, "not healthy"),
        ([REFUSED] * 3, REFUSED, Verdict.UNKNOWN, "host not reachable"),
        ([SLOW] * 3, TOKEN, Verdict.WARN, "slow: 600 ms"),
        ([SLOW, HEALTHY, HEALTHY], TOKEN, Verdict.PASS, ""),
        ([came(seconds=0.5)] * 3, TOKEN, Verdict.PASS, ""),
        ([came(404)] * 3, TOKEN, Verdict.WARN, "not let through"),
        ([came(404)] * 3, DEAD_ENGINE, Verdict.FAIL, "no token"),
        ([came(401)] * 3, TOKEN, Verdict.WARN, "wants a key"),
        ([], TOKEN, Verdict.UNKNOWN, "was not asked"),
        ([HEALTHY] * 3, None, Verdict.UNKNOWN, "was not asked"),
    ],
)
def test_health(samples: list[Exchange], deep: Exchange | None, verdict: Verdict, said: str) -> None:
    ruling = health(samples, deep)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_a_backend_whose_path_is_absent() -> None:
    serve = came(content=b"success", kind="text/plain")
    assert health([came(404)] * 3, serve=serve, label="backend-1").verdict is Verdict.WARN
    assert health([came(404)] * 3, serve=came(404), label="backend-1").verdict is Verdict.FAIL


def test_without_a_key_it_stays_shallow() -> None:
    ruling = health([HEALTHY] * 3, came(401), keyless=NO_KEY)
    assert ruling.verdict is Verdict.WARN and "shallow only" in words(ruling)
    assert health([SICK] * 3, came(401), keyless=NO_KEY).verdict is Verdict.FAIL
    off = health([HEALTHY] * 3, None, deep_probe=False)
    assert off.verdict is Verdict.WARN and "deep_probe is off" in words(off)


def test_a_token_without_text_counts_by_usage() -> None:
    silent = {"choices": [{"message": {"content": ""}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    assert health([HEALTHY] * 3, came(content=json.dumps(silent).encode())).verdict is Verdict.PASS


@given(st.text())
def test_any_text_as_a_page(html: str) -> None:
    assert len(read_page(html).assets) <= 64


@given(st.text(), st.text(), st.text())
def test_any_words_about_processes(comm: str, cgroup: str, shown: str) -> None:
    facts = host_facts(comm, cgroup, docker=shown)
    parsed = service.parse(Raw({**facts.raw.answers, "service.units": Answer("service.units", "s", shown, exit=0)}))
    assert isinstance(parsed.processes, tuple)
