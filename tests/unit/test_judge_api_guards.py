"""api.auth and api.rate-limit: who is let in, what lies open, and how a burst is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts.api import (
    REFUSING,
    ApiAuth,
    ApiRateLimit,
    Approach,
    BurstStep,
    Endpoint,
    EndpointExchanges,
    size,
)
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.lb import LbFacts
from dstui.facts.nginx_config import NginxConfig, parse_dump
from dstui.facts.raw import Missing, Raw
from dstui.judge import api_auth, api_limit
from dstui.model import Reason, Ruling, Target, TargetKind, Threshold, Verdict

DATA = Path(__file__).parent.parent / "data" / "api"
PUBLIC, BACK = "https://api.example.com", "http://198.51.100.11:8000"
HEAD = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 8)
SITE = Site(
    *("ds", "lab", "live", (HEAD,), "/mnt/x", None, None, "bare-metal", False, "none"),
    cluster_cidrs=("198.51.100.0/24",),
)
DEFAULTS: Mapping[str, object] = {
    "unauth_codes": [401, 403], "backends_may_be_open": False,
    "limit_expected_rps": None, "burst_cap": 200, "burst_path": "GET /v1/models", "retry_after_required": False,
    "body_max": "10m", "max_tokens_cap": None,
}  # fmt: skip
NO_KEY = Missing(Reason.NO_CREDENTIAL, "the inventory names no key (auth.key_ref)")


def came(status: int = 200, content: bytes = b"", kind: str = "application/json", **headers: str) -> Exchange:
    named = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Exchange("", "GET", f"{PUBLIC}/x", "curl", status, named, content, seconds=0.02)


def lost(fault: Fault, reason: Reason = Reason.UNREACHABLE) -> Exchange:
    return Exchange("", "GET", f"{PUBLIC}/x", "curl", missing=Missing(reason, str(fault)), fault=fault)


def file(name: str) -> bytes:
    return (DATA / name).read_bytes()


def case(seen: EndpointExchanges, controller: str, **changed: object) -> FleetCase:
    params = Params([Threshold(n, v, "document", v) for n, v in {**DEFAULTS, **changed}.items()])
    host = HostFacts(None, Session("ops", "publickey", controller_ip=controller), Raw(), {})
    return FleetCase(SITE, {"gpu-01": host}, params, {}, {type(seen): seen}, 0.0)


def words(ruling: Ruling) -> str:
    return "\n".join((ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)))


TURNED_AWAY = came(401, file("err_401_models_nokey.json"), www_authenticate="Bearer")
AS_VLLM = came(401, file("err_401_models_nokey.json"))
MODELS, CHAT = came(content=file("models.json")), came(content=file("chat_nonstream.json"))
ABSENT, NOT_ALLOWED = came(404, file("err_404_path.json")), came(405)
TOKENIZED = came(content=file("tokenize_nokey.json"))
METRICS = came(content=b"# TYPE vllm:num_requests_running gauge\n", kind="text/plain")
OPEN = ("invocations", "tokenize", "metrics", "load", "server-info", "is-sleeping", "sleep", "collective-rpc",
        "reset-prefix-cache", "scale-elastic-ep", "absent")  # fmt: skip
GUARDED: Mapping[str, Exchange] = {
    **{f"{variant}-{what}": TURNED_AWAY for variant in REFUSING for what in ("models", "chat")},
    "right-models": MODELS,
    "right-chat": CHAT,
    **{f"open-{name}": ABSENT for name in OPEN},
}


def auth(
    found: Mapping[str, Exchange],
    *,
    label: str = "public",
    via: str | None = None,
    controller: str = "192.0.2.9",
    keyless: Missing | None = None,
    revoked: Missing | None = None,
    **changed: object,
) -> Ruling:
    endpoint = Endpoint(PUBLIC if label == "public" else BACK, label)
    by_key = {f"api.auth.{label}.{what}": replace(one, key=f"api.auth.{label}.{what}") for what, one in found.items()}
    seen = ApiAuth(by_key, (endpoint,), {label: Approach(via, via is not None)}, keyless, revoked)
    (ruling,) = api_auth.judge(case(seen, controller, **changed))
    return ruling


def all_variants(answer: Exchange) -> dict[str, Exchange]:
    return {f"{variant}-{what}": answer for variant in REFUSING for what in ("models", "chat")}


def test_a_door_that_is_shut() -> None:
    ruling = auth(GUARDED)
    assert ruling.verdict is Verdict.PASS
    assert ruling.observed.en == (
        "no key 401, an empty key 401, a wrong key 401, another scheme (Basic) 401, the right key 200"
    )


def test_vllm_itself_is_a_warning() -> None:
    ruling = auth({**GUARDED, **all_variants(AS_VLLM)})
    assert ruling.verdict is Verdict.WARN and "without WWW-Authenticate" in words(ruling)


@pytest.mark.parametrize("variant", REFUSING)
@pytest.mark.parametrize("what", ["models", "chat"])
@pytest.mark.parametrize("answer", [MODELS, came(202), replace(lost(Fault.TIMEOUT), status=200)], ids=range(3))
def test_every_bad_variant_that_is_served_fails(variant: str, what: str, answer: Exchange) -> None:
    ruling = auth({**GUARDED, f"{variant}-{what}": answer})
    assert ruling.verdict is Verdict.FAIL and "served without a right to" in words(ruling)


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (all_variants(came(403, www_authenticate="Bearer")), Verdict.WARN, "refused with 403"),
        ({"empty-models": came(500)}, Verdict.FAIL, "an error, not a refusal"),
        ({"none-chat": came(400)}, Verdict.UNKNOWN, "neither served nor refused"),
        ({"none-chat": came(302)}, Verdict.UNKNOWN, "neither served nor refused"),
        ({"none-chat": came(429)}, Verdict.UNKNOWN, "neither served nor refused"),
        ({"wrong-models": lost(Fault.BROKE_OFF, Reason.CANNOT_TELL)}, Verdict.UNKNOWN, "cannot tell"),
        ({"right-models": came(401)}, Verdict.FAIL, "refuses the right key"),
        ({"right-chat": came(403)}, Verdict.FAIL, "refuses the right key"),
        ({"right-chat": came(500)}, Verdict.UNKNOWN, "HTTP 500"),
        ({"right-chat": lost(Fault.TIMEOUT, Reason.TIMEOUT)}, Verdict.UNKNOWN, "timed out"),
        ({"revoked-models": TURNED_AWAY}, Verdict.PASS, ""),
        ({"revoked-models": MODELS}, Verdict.FAIL, "the revoked key still works"),
        ({"revoked-models": lost(Fault.TIMEOUT, Reason.TIMEOUT)}, Verdict.UNKNOWN, "the revoked key"),
        ({"open-invocations": CHAT}, Verdict.FAIL, "/invocations answers prompts"),
        ({"open-invocations": came(content=b"{}")}, Verdict.PASS, ""),
        ({"open-tokenize": TOKENIZED}, Verdict.WARN, "POST /tokenize"),
        ({"open-metrics": METRICS}, Verdict.WARN, "/metrics"),
        ({"open-load": came(content=file("load.json"))}, Verdict.WARN, "/load"),
        (
            {"open-server-info": came(content=b"{}")},
            Verdict.FAIL,
            "need no key: /server_info",
        ),
        (
            {"open-collective-rpc": NOT_ALLOWED, "open-sleep": NOT_ALLOWED},
            Verdict.FAIL,
            "need no key: /sleep, /collective_rpc",
        ),
        ({f"open-{name}": NOT_ALLOWED for name in OPEN}, Verdict.PASS, ""),
        ({f"open-{name}": MODELS for name in OPEN}, Verdict.PASS, ""),
    ],
)
def test_auth(found: Mapping[str, Exchange], verdict: Verdict, said: str) -> None:
    ruling = auth({**GUARDED, **found})
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_403_may_be_ruled_out() -> None:
    assert auth({**GUARDED, **all_variants(came(403))}, unauth_codes=[401]).verdict is Verdict.UNKNOWN


def test_without_a_key_only_the_negative_half_is_known() -> None:
    half = {what: answer for what, answer in GUARDED.items() if not what.startswith("right")}
    ruling = auth(half, keyless=NO_KEY)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL)
    assert auth({**half, "none-models": MODELS}, keyless=NO_KEY).verdict is Verdict.FAIL


def test_a_revoked_key_that_cannot_be_read() -> None:
    ruling = auth(GUARDED, revoked=Missing(Reason.NO_CREDENTIAL, "file:/etc/revoked.key: cannot be opened"))
    assert ruling.verdict is Verdict.UNKNOWN and "revoked" in words(ruling)


def test_a_server_that_looks_at_no_key_is_not_blamed_for_the_revoked_one_too() -> None:
    ruling = auth({**GUARDED, **all_variants(MODELS), "revoked-models": MODELS})
    assert ruling.verdict is Verdict.FAIL and "still works" not in words(ruling)


def test_variants_that_were_not_tried_are_unknown() -> None:
    found = {what: answer for what, answer in GUARDED.items() if what != "wrong-chat"}
    ruling = auth(found)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


def test_an_endpoint_out_of_reach_is_one_unknown() -> None:
    ruling = auth(dict.fromkeys(GUARDED, lost(Fault.REFUSED)), label="backend-1")
    assert (ruling.verdict, ruling.reason, ruling.notes) == (Verdict.UNKNOWN, Reason.UNREACHABLE, ())
    assert auth({}).verdict is Verdict.UNKNOWN


OPEN_BACKEND = {**GUARDED, **all_variants(MODELS), "open-invocations": CHAT, "open-metrics": METRICS}


@pytest.mark.parametrize(
    ("via", "controller", "may", "verdict"),
    [
        (None, "192.0.2.9", False, Verdict.FAIL),
        ("lb-01", "192.0.2.9", False, Verdict.FAIL),
        ("lb-01", "192.0.2.9", True, Verdict.WARN),
        (None, "198.51.100.9", True, Verdict.WARN),
        # Reached from outside the cluster: that is not "open inside the cluster network".
        (None, "192.0.2.9", True, Verdict.FAIL),
    ],
)
def test_an_open_backend(via: str | None, controller: str, may: bool, verdict: Verdict) -> None:
    ruling = auth(OPEN_BACKEND, label="backend-1", via=via, controller=controller, backends_may_be_open=may)
    assert ruling.verdict is verdict, words(ruling)


@pytest.mark.parametrize(("via", "verdict"), [(None, Verdict.FAIL), ("lb-01", Verdict.WARN)])
def test_other_doors_of_a_backend_count_as_far_as_they_reach(via: str | None, verdict: Verdict) -> None:
    ruling = auth({**GUARDED, "open-invocations": CHAT, "open-metrics": METRICS}, label="backend-1", via=via)
    assert ruling.verdict is verdict
    assert "open without a key: /metrics" in ruling.notes[-1].en


SERVED, LIMITED, LIMITED_503 = came(), came(429, retry_after="1"), came(503, kind="text/html", server="nginx/1.22.1")
CALM = BurstStep(2, 2, 2.0, {"200": 2})


def burst(
    *steps: BurstStep,
    found: Mapping[str, Exchange] | None = None,
    recovered: float | None = 4.0,
    retry_after: tuple[str, ...] = ("1",),
    keyless: Missing | None = None,
    config: NginxConfig | Missing | None = None,
    **changed: object,
) -> Ruling:
    kept = {"first": SERVED, **(found or {})}
    by_key = {
        f"api.rate-limit.public.{what}": replace(e, key=f"api.rate-limit.public.{what}") for what, e in kept.items()
    }
    endpoint = Endpoint(PUBLIC, "public")
    seen = ApiRateLimit(by_key, (endpoint,), {}, keyless, steps, None, recovered, retry_after)
    (ruling,) = api_limit.judge(balanced(case(seen, "192.0.2.9", **changed), config))
    return ruling


def balanced(plain: FleetCase, config: NginxConfig | Missing | None) -> FleetCase:
    """The case with a load balancer `lb-01` that has such a configuration; as it is when there is None."""
    if config is None:
        return plain
    lost = Missing(Reason.NOT_RUN, "not asked")
    facts = LbFacts(lost, lost, lost, config, "", lost, lost, {}, lost)
    host = HostFacts(None, None, Raw(), {LbFacts: facts})
    return replace(plain, site=replace(SITE, balancers=("lb-01",)), facts={**plain.facts, "lb-01": host})


def nginx(location: str, zone: str = "$binary_remote_addr", *, chat: str | None = None) -> NginxConfig:
    more = "" if chat is None else f"location /v1/chat/ {{ {chat} proxy_pass http://b; }}"
    found = parse_dump(
        "# configuration file /etc/nginx/nginx.conf:\n"
        f"http {{ limit_req_zone {zone} zone=u:1m rate=5r/s; limit_conn_zone {zone} zone=c:1m;\n"
        f"server {{ listen 443 ssl; server_name api.example.com; location /v1/ {{ {location} proxy_pass http://b; }}"
        f" {more} }} }}\n"
    )
    assert isinstance(found, NginxConfig)
    return found


STOPPED = BurstStep(40, 40, 38.0, {"200": 11, "429": 29}, first_limited=14)


def test_a_limit_that_acts() -> None:
    ruling = burst(CALM, STOPPED)
    assert ruling.verdict is Verdict.PASS
    assert ruling.observed.en == "limited from request 14 at 38/s (13 × 200, 29 × 429), served again in 4 s"


@pytest.mark.parametrize(
    ("step", "more", "verdict", "said"),
    [
        (STOPPED, {"retry_after": ("",)}, Verdict.WARN, "without Retry-After"),
        (STOPPED, {"retry_after": ("",), "retry_after_required": True}, Verdict.FAIL, "without Retry-After"),
        (replace(STOPPED, answers={"200": 1, "503": 39}), {}, Verdict.WARN, "503, nginx's default"),
        (STOPPED, {"recovered": None}, Verdict.FAIL, "not served again"),
        (STOPPED, {"recovered": 30.5}, Verdict.FAIL, "not served again"),
        (STOPPED, {"recovered": 30.0}, Verdict.PASS, ""),
        (replace(STOPPED, answers={"200": 1, "429": 3, "502": 1}), {}, Verdict.FAIL, "unclean answers: 1 × 502"),
        (replace(STOPPED, answers={"200": 1, "429": 3, "broke-off": 2}), {}, Verdict.FAIL, "2 × broke-off"),
        (replace(STOPPED, answers={"200": 1, "429": 3, "500": 2}), {}, Verdict.FAIL, "2 × 500"),
        (STOPPED, {"limit_expected_rps": 50.0}, Verdict.WARN, "under the 50/s"),
        (STOPPED, {"limit_expected_rps": 40.0}, Verdict.PASS, ""),
        (STOPPED, {"found": {"body": came(413)}}, Verdict.PASS, "is refused (413)"),
        (STOPPED, {"found": {"body": came(400)}}, Verdict.WARN, "instead of being refused with 413"),
        (STOPPED, {"found": {"body": came(401)}}, Verdict.PASS, "not tested"),
        (STOPPED, {"found": {"body": lost(Fault.BROKE_OFF, Reason.CANNOT_TELL)}}, Verdict.PASS, "no clean 413"),
        (STOPPED, {"found": {"max-tokens": came(400)}, "max_tokens_cap": 100}, Verdict.PASS, "over 100 is refused"),
        (STOPPED, {"found": {"max-tokens": came()}, "max_tokens_cap": 100}, Verdict.WARN, "over 100 is taken"),
        (BurstStep(99, 160, 90.0, {"200": 160}), {}, Verdict.FAIL, "no limit: 162 requests were all served"),
        (BurstStep(99, 160, 90.0, {"200": 150, "502": 10}), {"recovered": 3.0}, Verdict.FAIL, "502"),
    ],
)  # fmt: skip
def test_bursts(step: BurstStep, more: dict[str, object], verdict: Verdict, said: str) -> None:
    ruling = burst(CALM, step, **more)  # type: ignore[arg-type]
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


ALL_SERVED = BurstStep(99, 160, 90.0, {"200": 160})
LIMIT = "limit_req zone=u burst=3;"


@pytest.mark.parametrize(
    ("config", "step", "verdict", "said"),
    [
        (nginx(LIMIT), STOPPED, Verdict.PASS, "configured: limit_req zone=u burst=3"),
        (nginx(LIMIT), ALL_SERVED, Verdict.WARN, "that it acts was not seen"),
        (nginx("limit_conn c 10;"), ALL_SERVED, Verdict.WARN, "configured: limit_conn c 10"),
        (nginx(""), ALL_SERVED, Verdict.FAIL, "none is configured"),
        (nginx(""), STOPPED, Verdict.PASS, ""),
        (nginx(f"{LIMIT} limit_req_dry_run on;"), ALL_SERVED, Verdict.FAIL, "dry_run"),
        (nginx(LIMIT, chat="limit_req off; limit_conn off 1;"), STOPPED, Verdict.WARN, "does not cover /v1/chat"),
        (nginx(LIMIT, chat=""), STOPPED, Verdict.WARN, "does not cover /v1/chat"),
        (nginx(LIMIT, "$server_name"), STOPPED, Verdict.WARN, "keyed on $server_name"),
        (nginx(LIMIT, "all"), STOPPED, Verdict.WARN, "keyed on all"),
        (nginx(LIMIT, "$http_authorization"), STOPPED, Verdict.PASS, ""),
        (Missing(Reason.PERMISSION, "nginx -T wants root"), ALL_SERVED, Verdict.UNKNOWN, "nginx -T wants root"),
        (Missing(Reason.PERMISSION, "nginx -T wants root"), STOPPED, Verdict.PASS, "configuration not seen"),
        (NginxConfig((), ()), ALL_SERVED, Verdict.UNKNOWN, "no server for"),
    ],
    ids=range(14),
)
def test_what_is_configured(config: NginxConfig | Missing, step: BurstStep, verdict: Verdict, said: str) -> None:
    ruling = burst(CALM, step, config=config)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_a_path_that_is_never_served_shows_nothing() -> None:
    bad = {"bad": came(404), "first": SERVED}
    del bad["first"]
    endpoint = Endpoint(PUBLIC, "public")

    def ruled(found: Mapping[str, Exchange], steps: tuple[BurstStep, ...], keyless: Missing | None = None) -> Ruling:
        by_key = {f"api.rate-limit.public.{what}": answer for what, answer in found.items()}
        seen = ApiRateLimit(by_key, (endpoint,), {}, keyless, steps, None, None, ())
        (ruling,) = api_limit.judge(case(seen, "192.0.2.9"))
        return ruling

    assert ruled({"bad": came(404)}, (BurstStep(2, 2, 2, {"404": 2}),)).verdict is Verdict.UNKNOWN
    gone = ruled({"bad": lost(Fault.REFUSED)}, (BurstStep(2, 2, 2, {"refused": 2}),))
    assert (gone.verdict, gone.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    assert ruled({"limited": came(503)}, (BurstStep(2, 2, 2, {"503": 2}, 1),)).verdict is Verdict.UNKNOWN
    assert ruled({}, ()).verdict is Verdict.UNKNOWN


def test_a_burst_that_was_not_made() -> None:
    why = Missing(Reason.NOT_RUN, "api.rate-limit.burst_path is 'POST /': write a GET")
    seen = ApiRateLimit({}, (), {}, None, (), why, None, ())
    (ruling,) = api_limit.judge(case(seen, "192.0.2.9"))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


def test_the_table_of_the_steps_is_evidence() -> None:
    seen = ApiRateLimit({}, (), {}, None, (CALM, STOPPED), None, 4.0, ("1",))
    (table,) = seen.evidence(Target(TargetKind.ENDPOINT, PUBLIC))
    assert table.key == "api.rate-limit.public.burst"
    assert "about 40/s: 40 sent, 38.0/s reached: 11 × 200, 29 × 429" in table.output


@pytest.mark.parametrize(
    ("written", "count"),
    [("10m", 10 << 20), ("512K", 512 << 10), ("1g", 1 << 30), ("0", 0), ("7", 7), ("x", None), ("", None)],
)
def test_sizes(written: str, count: int | None) -> None:
    assert size(written) == count
