"""lb.deployed, lb.reverse-proxy, lb.algorithm and lb.static-cache: every rule, on nginx's dumps and answers as seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from dstui import probes
from dstui.catalogue import load_catalogue
from dstui.facts.addresses import Address, AddressFacts, Interface
from dstui.facts.api import Approach
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.lb import LbFacts, LbUnit
from dstui.facts.lb_seen import Front, LbCache, LbDeployed, LbProxy, LbSpread, Share, flow
from dstui.facts.listeners import ListenerFacts, Listening
from dstui.facts.nginx_config import NginxConfig, parse_dump
from dstui.facts.raw import Missing, Raw
from dstui.judge import lb, lb_algorithm, lb_cache, lb_proxy
from dstui.model import Reason, Ruling, Verdict

PASS, WARN, FAIL, UNKNOWN, NA = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
URL = "https://api.example.com"
BACKENDS = ("http://198.51.100.11:8000", "http://198.51.100.12:8000")
NOW = 1_795_000_000.0
NO_KEY = Missing(Reason.NO_CREDENTIAL, "the inventory names no key (auth.key_ref)")
DENIED = Missing(Reason.PERMISSION, "grant: sudo -n /usr/sbin/nginx -T")


def machine(name: str, role: str, last: int) -> HostSite:
    address = f"198.51.100.{last}"
    return HostSite(name, frozenset({role}), address, None, address, 22, "ops", role == "head", None)


HOSTS = (machine("lb-01", "lb", 21), machine("gpu-01", "head", 11), machine("gpu-02", "worker", 12))
SITE = Site(*("ds", "lab", "live", HOSTS, "/mnt/x", None, None, "bare-metal", False, "none"), balancers=("lb-01",))
TWO = replace(SITE, hosts=(*HOSTS, machine("lb-02", "lb", 22)), balancers=("lb-01", "lb-02"))
CATALOGUE = load_catalogue()

UPSTREAM = "upstream vllm { zone v 64k; least_conn; server gpu-01:8000; server 198.51.100.12:8000; keepalive 8; }"
LOCATION = (
    "proxy_pass http://vllm; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 300s; "
    "client_max_body_size 10m;"
)


def config(
    upstream: str = UPSTREAM, location: str = LOCATION, *, around: str = "", more: str = "", main: str = ""
) -> NginxConfig:
    http = f"{upstream} {around} server {{ listen 443 ssl; location /v1/ {{ {location} }} {more} }}"
    found = parse_dump(f"# configuration file /etc/nginx/nginx.conf:\n{main} http {{ {http} }}\n")
    assert isinstance(found, NginxConfig), found
    return found


GOOD = LbFacts(
    programs={"nginx": 5},
    units={"nginx": LbUnit("active", "enabled")},
    version="1.22.1",
    config=config(),
    config_fault="",
    loaded_at=NOW - 100.0,
    changed=("/etc/nginx/nginx.conf", NOW - 200.0),
    certificates={},
    renewals=(),
)
SOCKETS = ListenerFacts((Listening("0.0.0.0", 443, "nginx", 7), Listening("0.0.0.0", 22, "sshd", 1)), (1, 2), ())
FRONT = Front(URL, BACKENDS)
INSIDE = {"backend-1": Approach("lb-01", True), "backend-2": Approach("lb-01", True)}


def case(
    check: str,
    seen: object,
    facts: LbFacts | Missing | Mapping[str, LbFacts | Missing] = GOOD,
    *,
    site: Site = SITE,
    sockets: ListenerFacts | Missing = SOCKETS,
    set_by: str = "document",
    **params: object,
) -> FleetCase:
    by_name = facts if isinstance(facts, Mapping) else dict.fromkeys(site.balancers, facts)
    told = {p.name: p.threshold() for p in CATALOGUE.check(check).params}
    values = {"expected_backends": BACKENDS, **params}
    made = Params([replace(t, value=values.get(n, t.value), origin=set_by) for n, t in told.items()])
    groups = {
        name: {
            LbFacts: each,
            ListenerFacts: sockets,
            AddressFacts: AddressFacts((), (), ()),
        }
        for name, each in by_name.items()
    }
    known = {name: HostFacts(None, None, Raw(), each) for name, each in groups.items()}
    return FleetCase(site, known, made, {}, {type(seen): seen}, NOW)


def came(status: int = 200, content: object = b"", kind: str = "application/json", **more: object) -> Exchange:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    made = Exchange("", "GET", f"{URL}/v1/models", "curl", status, {"content-type": kind}, body, seconds=0.02)
    return replace(made, **more)  # type: ignore[arg-type]


def lost(fault: Fault, reason: Reason = Reason.UNREACHABLE) -> Exchange:
    return Exchange("", "GET", f"{URL}/v1/models", "curl", missing=Missing(reason, str(fault)), fault=fault)


def keyed(check: str, found: Mapping[str, Exchange | None]) -> dict[str, Exchange]:
    return {f"{check}.{what}": exchange for what, exchange in found.items() if exchange is not None}


def words(rulings: Sequence[Ruling] | Ruling) -> str:
    found = [rulings] if isinstance(rulings, Ruling) else rulings
    return "\n".join(t.en for r in found for t in (r.observed, r.rule, *r.notes))


def of(rulings: Sequence[Ruling], name: str) -> Ruling:
    return next(ruling for ruling in rulings if ruling.target.name == name)


REFUSED = lost(Fault.REFUSED)
FINE = came()
MODELS = came(content={"object": "list", "data": [{"id": "m"}]})
OTHERS = came(content={"object": "list", "data": [{"id": "other"}]})
GATEWAY = came(502, b"<html>", "text/html")

# --- lb.deployed


def deployed(
    health: Exchange | None = FINE,
    models: Exchange | None = MODELS,
    backs: Sequence[Exchange | None] = (FINE, FINE),
    *,
    front: Front = FRONT,
    approaches: Mapping[str, Approach] = INSIDE,
) -> LbDeployed:
    found = {"front.health": health and replace(health, url=f"{URL}/health"), "front.models": models}
    found |= {f"backend-{n}.health": each for n, each in enumerate(backs, 1)}
    return LbDeployed(keyed("lb.deployed", found), front, approaches)


def judged_deployed(facts: LbFacts | Missing = GOOD, seen: LbDeployed | None = None, **more: object) -> list[Ruling]:
    return list(lb.judge(case("lb.deployed", seen or deployed(), facts, **more)))  # type: ignore[arg-type]


def test_deployed() -> None:
    rulings = judged_deployed()
    assert [ruling.verdict for ruling in rulings] == [PASS, PASS], words(rulings)
    assert "nginx 1.22.1, listening on 443, 2 members" in words(rulings)
    assert "2 of 2 backends answer" in words(rulings)


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({"programs": {}, "units": {}}, FAIL, "nginx does not run"),
        ({"programs": {}}, FAIL, "nginx does not run"),
        ({"programs": {}, "units": {"nginx": LbUnit("failed", "enabled")}}, FAIL, "nginx does not run"),
        ({"programs": Missing(Reason.PERMISSION, "hidepid")}, PASS, ""),
        ({"programs": Missing(Reason.PERMISSION, "hidepid"), "units": {}}, UNKNOWN, "processes: permission denied"),
        ({"units": {}}, WARN, "nobody restarts it"),
        ({"units": {"nginx": LbUnit("active", "disabled")}}, WARN, "does not start at boot"),
        ({"units": Missing(Reason.TOOL_MISSING, "systemctl")}, PASS, "its unit is not known"),
        ({"units": {"openresty": LbUnit("active", "enabled")}}, PASS, ""),
        ({"config": DENIED}, UNKNOWN, "members: permission denied: grant: sudo -n /usr/sbin/nginx -T"),
        ({"config": config("upstream vllm { server gpu-01:8000; }")}, WARN, "has 1 members, at least 2"),
        (
            {"config": config("upstream vllm { server a:1; server b:1 down; server c:1 backup; }")},
            WARN,
            "has 1 members",
        ),
        ({"config": config(location="return 404;")}, UNKNOWN, "passes nothing on"),
        ({"config": config(location="proxy_pass http://$host;")}, UNKNOWN, "depends on a variable"),
        ({"changed": ("/etc/nginx/x.conf", NOW - 98.9)}, WARN, "/etc/nginx/x.conf was changed at 2026-11-18"),
        ({"changed": ("/etc/nginx/x.conf", NOW - 99.1)}, PASS, ""),
        ({"changed": Missing(Reason.TIMEOUT, "x")}, PASS, ""),
        ({"config_fault": "nginx: [emerg] unexpected }"}, WARN, "the next reload will fail: nginx: [emerg]"),
        ({"programs": {"haproxy": 1}, "units": {"haproxy": LbUnit("active", "enabled")}}, WARN, "members haproxy has"),
    ],
)
def test_deployed_on_the_host(changed: dict[str, object], verdict: Verdict, said: str) -> None:
    rulings = judged_deployed(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert of(rulings, "lb-01").verdict is verdict, words(rulings)
    assert said in words(rulings)


def test_deployed_another_program_than_the_inventory_says() -> None:
    rulings = judged_deployed(replace(GOOD, programs={"haproxy": 1}, units={}), set_by="inventory")
    assert of(rulings, "lb-01").verdict is FAIL
    assert "nginx does not run (haproxy does: set lb.kind)" in words(rulings)


@pytest.mark.parametrize(
    ("sockets", "verdict", "said"),
    [
        (replace(SOCKETS, listening=SOCKETS.listening[1:]), FAIL, "nothing listens on 443"),  # type: ignore[index]
        (Missing(Reason.TIMEOUT, "ss"), UNKNOWN, "listening ports: timed out"),
        (replace(SOCKETS, listening=Missing(Reason.PERMISSION, "no")), UNKNOWN, "listening ports: permission denied"),
    ],
)
def test_deployed_listening(sockets: ListenerFacts | Missing, verdict: Verdict, said: str) -> None:
    rulings = judged_deployed(sockets=sockets)
    assert of(rulings, "lb-01").verdict is verdict and said in words(rulings)


def test_deployed_a_host_that_cannot_be_seen() -> None:
    rulings = judged_deployed(Missing(Reason.UNREACHABLE, "no route"))
    assert (of(rulings, "lb-01").verdict, of(rulings, URL).verdict) == (UNKNOWN, PASS)


@pytest.mark.parametrize(
    ("health", "models", "verdict", "said"),
    [
        (came(), came(401), UNKNOWN, "only the health path answers"),
        (came(), came(404), UNKNOWN, "the list of models: 404"),
        (came(404), MODELS, PASS, "404 / 200"),
        (came(502), MODELS, FAIL, "no backend takes the request: 502"),
        (came(), GATEWAY, FAIL, "no backend takes the request: 502"),
        (came(504), came(504), FAIL, "504"),
        (came(503), came(503), FAIL, "503"),
        (came(503, tries=4), MODELS, UNKNOWN, "rate limited (503)"),
        (came(401), came(401), UNKNOWN, "only refusals (401)"),
        (came(404), came(404), FAIL, "no request comes through: 404"),
        (REFUSED, REFUSED, FAIL, "does not answer: connection refused"),
        (lost(Fault.TIMEOUT, Reason.TIMEOUT), lost(Fault.TIMEOUT, Reason.TIMEOUT), FAIL, "no whole answer in time"),
        (lost(Fault.TLS, Reason.CANNOT_TELL), lost(Fault.TLS, Reason.CANNOT_TELL), UNKNOWN, "cannot tell: tls"),
        (came(), lost(Fault.TLS, Reason.CANNOT_TELL), UNKNOWN, "TLS failed"),
        (lost(Fault.TLS, Reason.CANNOT_TELL), MODELS, PASS, "TLS failed"),
        (None, None, UNKNOWN, "nothing was asked"),
    ],
)
def test_deployed_in_front(health: Exchange | None, models: Exchange | None, verdict: Verdict, said: str) -> None:
    rulings = judged_deployed(seen=deployed(health, models))
    assert of(rulings, URL).verdict is verdict, words(rulings)
    assert said in words(rulings)


def test_deployed_health_that_is_known_to_be_passed_on() -> None:
    for location, verdict in (("proxy_pass http://vllm;", PASS), ("return 200;", UNKNOWN)):
        facts = replace(GOOD, config=config(more=f"location /health {{ {location} }}"))
        assert of(judged_deployed(facts, deployed(FINE, came(401))), URL).verdict is verdict


@pytest.mark.parametrize(
    ("backs", "approaches", "verdict", "said"),
    [
        ((came(), REFUSED), INSIDE, WARN, "does not answer: http://198.51.100.12:8000"),
        ((came(), came(500)), INSIDE, WARN, "1 of 2 backends answer"),
        ((came(), came(401)), INSIDE, PASS, "2 of 2 backends answer"),
        ((came(), REFUSED), {}, PASS, "1 backends could not be seen"),
        ((came(),), INSIDE, WARN, "1 backends are there to balance over"),
    ],
)
def test_deployed_before_backends(
    backs: tuple[Exchange, ...], approaches: dict[str, Approach], verdict: Verdict, said: str
) -> None:
    front = replace(FRONT, backends=BACKENDS[: len(backs)])
    rulings = judged_deployed(seen=deployed(backs=backs, front=front, approaches=approaches))
    assert of(rulings, URL).verdict is verdict, words(rulings)
    assert said in words(rulings)


def test_deployed_no_balancer_at_all() -> None:
    alone = replace(SITE, balancers=())
    straight = deployed(front=Front(f"{BACKENDS[0]}/v1", BACKENDS))
    rulings = judged_deployed(seen=straight, site=alone)
    assert of(rulings, f"{BACKENDS[0]}/v1").verdict is FAIL and "no load balancer" in words(rulings)
    assert of(rulings, "ds").verdict is UNKNOWN
    nothing = judged_deployed(seen=deployed(front=Front(None)), site=alone)
    assert [(r.verdict, r.reason) for r in nothing] == [(UNKNOWN, Reason.NO_TARGETS)]
    assert "set lb.endpoint or endpoints.api" in words(nothing)


def test_deployed_in_the_cloud() -> None:
    rulings = judged_deployed(site=replace(SITE, balancers=()), lb_kind="cloud")
    assert (of(rulings, URL).verdict, of(rulings, "ds").verdict) == (PASS, UNKNOWN)
    assert "cloud load balancer" in words(rulings)


def test_deployed_twice() -> None:
    alone = judged_deployed(lb_ha=True)
    assert of(alone, "lb-01").verdict is WARN and "this is the only balancer" in words(alone)
    both = replace(GOOD, programs={"nginx": 5, "keepalived": 2})
    assert {r.verdict for r in judged_deployed(both, site=TWO, lb_ha=True)} == {PASS}
    assert "keepalived does not run" in words(judged_deployed(site=TWO, lb_ha=True))


def test_deployed_who_has_the_address() -> None:
    seen = deployed(front=Front("https://198.51.100.99", BACKENDS))
    both = replace(GOOD, programs={"nginx": 5, "keepalived": 2})
    made = case("lb.deployed", seen, both, site=TWO, lb_ha=True)
    held = Address("eth0", "198.51.100.99", 24, "global", False, None)
    addresses = AddressFacts((Interface("eth0", 2, "", 1500, True, (held,)),), (), ())
    groups = {**made.facts["lb-01"].groups, AddressFacts: addresses}
    known = {**made.facts, "lb-01": replace(made.facts["lb-01"], groups=groups)}
    rulings = lb.judge(replace(made, facts=known))
    assert "holds 198.51.100.99 now" in words(of(rulings, "lb-01"))
    assert "holds" not in words(of(rulings, "lb-02"))


# --- lb.reverse-proxy


def stream(*moments: float, pieces: int = 40, kind: str = "text/event-stream") -> Exchange:
    """An answer of so many chunks that came at these moments."""
    delta = [{"index": 0, "delta": {"content": "x"}}]
    event = f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'choices': delta})}\n\n"
    arrivals = tuple((at, 10) for at in moments)
    return came(
        content=(event * pieces + "data: [DONE]\n\n").encode(), kind=kind, arrivals=arrivals, seconds=moments[-1]
    )


EVEN = stream(*(0.1 + 0.02 * n for n in range(40)))
BLOCK = stream(0.9)
BLOCKS = stream(0.3, 0.5, 0.7, 0.9)
STALLS = stream(*(0.1 + 0.02 * n for n in range(30)), *(1.5 + 0.02 * n for n in range(10)))
CHAT = came(content={"id": "c", "choices": [{"index": 0, "message": {"content": "pong"}}]})
NOWHERE = came(404, {"detail": "Not Found"})


def proxy(
    front: Mapping[str, Exchange | None] | None = None,
    back: Mapping[str, Exchange | None] | None = None,
    *,
    second: Exchange = MODELS,
    direct: int | None = 1,
    of_front: Front = FRONT,
) -> LbProxy:
    usual: dict[str, Exchange | None] = {"models": MODELS, "chat": CHAT, "stream": EVEN, "unknown": NOWHERE}
    found = {f"front.{what}": each for what, each in {**usual, **(front or {})}.items()}
    found |= {f"backend-1.{what}": each for what, each in {**usual, **(back or {})}.items()}
    return LbProxy(keyed("lb.reverse-proxy", {**found, "backend-2.models": second}), of_front, INSIDE, direct)


def judged_proxy(seen: LbProxy | None = None, facts: LbFacts | Missing = GOOD, **more: object) -> list[Ruling]:
    return list(lb_proxy.judge(case("lb.reverse-proxy", seen or proxy(), facts, **more)))  # type: ignore[arg-type]


def test_proxy() -> None:
    rulings = judged_proxy()
    assert [ruling.verdict for ruling in rulings] == [PASS, PASS], words(rulings)
    assert "location /v1/ → vllm (gpu-01:8000, 198.51.100.12:8000)" in words(rulings)
    assert "40 chunks in 40 pieces" in words(rulings)
    assert "proxy_pass http://vllm; proxy_http_version 1.1; proxy_buffering off" in words(rulings)


@pytest.mark.parametrize(
    ("upstream", "location", "verdict", "said"),
    [
        ("upstream vllm { server gpu-01:8000; }", LOCATION, FAIL, "lacks http://198.51.100.12:8000"),
        ("upstream vllm { server gpu-01:8000; server gpu-02:8000 down; }", LOCATION, FAIL, "lacks http://198.51"),
        ("upstream vllm { server gpu-01:8000; server gpu-02:8001; }", LOCATION, FAIL, "lacks http://198.51"),
        (
            "upstream vllm { server gpu-01:8000; server b.svc:8000; }",
            LOCATION,
            UNKNOWN,
            "cannot be told from the config",
        ),
        (UPSTREAM.replace("zone", "server 10.9.9.9:8000; zone"), LOCATION, WARN, "also has 10.9.9.9:8000"),
        (UPSTREAM, LOCATION.replace("http://vllm", "http://$x"), UNKNOWN, "upstream: cannot tell"),
        (UPSTREAM, "return 200 ok;", FAIL, "the API's path is not passed on: location /v1/"),
        (UPSTREAM, LOCATION.replace("off", "on"), WARN, "proxy_buffering is on"),
        (UPSTREAM, LOCATION.replace("proxy_buffering off;", ""), WARN, "proxy_buffering is on"),
        (UPSTREAM, LOCATION.replace("300s", "299s"), WARN, "proxy_read_timeout 299s: longer answers"),
        (UPSTREAM, LOCATION.replace("300s", "5m"), PASS, ""),
        (UPSTREAM, LOCATION.replace("proxy_read_timeout 300s;", ""), WARN, "proxy_read_timeout 60s"),
        (UPSTREAM, LOCATION.replace("300s", "soon"), UNKNOWN, "proxy_read_timeout soon: no time"),
        (UPSTREAM, LOCATION.replace("10m", "9m"), WARN, "client_max_body_size 9m"),
        (UPSTREAM, LOCATION.replace("10m", "0"), PASS, ""),
        (UPSTREAM, LOCATION.replace("client_max_body_size 10m;", ""), WARN, "client_max_body_size 1m"),
        (UPSTREAM, LOCATION.replace("10m", "much"), UNKNOWN, "client_max_body_size much: no size"),
        (UPSTREAM, LOCATION.replace("proxy_http_version 1.1;", ""), WARN, "HTTP/1.0 to the backends"),
        (UPSTREAM, f"{LOCATION} proxy_next_upstream error non_idempotent;", WARN, "repeats POSTs"),
        (UPSTREAM, f"{LOCATION} gzip on; gzip_types text/event-stream;", WARN, "gzip is on for text/event-stream"),
        (UPSTREAM, f"{LOCATION} gzip on; gzip_types text/css;", PASS, ""),
    ],
)
def test_proxy_by_its_configuration(upstream: str, location: str, verdict: Verdict, said: str) -> None:
    rulings = judged_proxy(facts=replace(GOOD, config=config(upstream, location)))
    assert of(rulings, "lb-01").verdict is verdict, words(rulings)
    assert said in words(rulings)
    assert of(rulings, URL).verdict is PASS


def test_proxy_keeps_keys_to_itself() -> None:
    secret = f'{LOCATION} proxy_set_header Authorization "Bearer tops3cret";'
    login = secret.replace("http://vllm", "http://ops:tops3cret@vllm")
    for location in (secret, login):
        assert "tops3cret" not in repr(judged_proxy(facts=replace(GOOD, config=config(location=location))))


def test_proxy_speaks_1_1_by_itself_since_1_29_7() -> None:
    plain = config(location=LOCATION.replace("proxy_http_version 1.1;", ""))
    for version, verdict in (("1.29.7", PASS), ("1.30.0", PASS), ("1.29.6", WARN)):
        rulings = judged_proxy(facts=replace(GOOD, version=version, config=plain))
        assert of(rulings, "lb-01").verdict is verdict


def test_proxy_without_backends_to_compare() -> None:
    assert of(judged_proxy(expected_backends=()), "lb-01").reason is Reason.NO_TARGETS


def test_proxy_a_configuration_that_was_not_seen() -> None:
    good = judged_proxy(facts=replace(GOOD, config=DENIED))
    assert (of(good, "lb-01").verdict, of(good, URL).verdict) == (WARN, PASS)
    assert "configuration not seen" in words(good)
    bad = judged_proxy(proxy({"models": GATEWAY}), replace(GOOD, config=DENIED))
    assert (of(bad, "lb-01").reason, of(bad, URL).verdict) == (Reason.PERMISSION, FAIL)
    gone = judged_proxy(facts=Missing(Reason.UNREACHABLE, "no route"))
    assert of(gone, "lb-01").reason is Reason.UNREACHABLE
    nobody = judged_proxy(site=replace(SITE, balancers=()))
    assert [r.verdict for r in nobody] == [WARN] and "no host is known to balance" in words(nobody)


@pytest.mark.parametrize(
    ("front", "back", "verdict", "said"),
    [
        ({"models": came(404)}, {}, FAIL, "is the path doubled or dropped?"),
        ({"models": GATEWAY}, {}, FAIL, "/v1/models is answered 502"),
        ({"models": OTHERS}, {}, FAIL, "other models than straight: other instead of m"),
        ({"models": came(content=b"<html>")}, {}, FAIL, "other models than straight"),
        ({"models": lost(Fault.TIMEOUT, Reason.TIMEOUT)}, {}, FAIL, "while it works straight"),
        ({"models": lost(Fault.TLS, Reason.CANNOT_TELL)}, {}, UNKNOWN, "/v1/models: cannot tell"),
        ({"models": came(429)}, {}, UNKNOWN, "rate limited (429)"),
        ({"models": None}, {}, UNKNOWN, "/v1/models was not asked"),
        ({"chat": came(504)}, {}, FAIL, "/v1/chat/completions is answered 504"),
        ({"chat": came(413)}, {}, FAIL, "is answered 413"),
        ({"chat": came(content=b"<html>")}, {}, FAIL, "a chat answer that is none"),
        ({"chat": came(503, tries=4)}, {}, UNKNOWN, "chat is rate limited"),
        ({}, {"chat": came(500)}, UNKNOWN, "straight chat does not work: 500"),
        ({"unknown": came(200)}, {}, WARN, "a path that is not there is answered 200"),
        ({"unknown": GATEWAY}, {}, FAIL, "a path that is not there is answered 502"),
        ({"stream": BLOCK}, {}, FAIL, "in one block at the end (straight in 40 pieces)"),
        ({"stream": BLOCKS}, {}, FAIL, "in 4 blocks"),
        ({"stream": STALLS}, {}, WARN, "the longest gap in the stream is"),
        ({"stream": replace(EVEN, arrivals=tuple((at + 0.2, n) for at, n in EVEN.arrivals))}, {}, PASS, ""),
        (
            {"stream": replace(EVEN, headers={"content-type": "application/json"})},
            {},
            FAIL,
            "comes as application/json",
        ),
        ({"stream": GATEWAY}, {}, FAIL, "stream is answered 502"),
        ({"stream": lost(Fault.BROKE_OFF, Reason.CANNOT_TELL)}, {}, FAIL, "stream: connection broken off"),
        ({"stream": BLOCK}, {"stream": BLOCK}, UNKNOWN, "straight from the backend, too"),
        ({"stream": stream(0.1, 0.2, pieces=3)}, {}, UNKNOWN, "only 3 chunks"),
        ({"stream": BLOCK}, {"stream": BLOCKS}, FAIL, "in one block at the end (straight in 4 pieces)"),
        ({"stream": BLOCKS}, {"stream": BLOCKS}, UNKNOWN, "came in 4 pieces: too few to tell"),
        ({}, {"stream": came(429)}, PASS, ""),
        ({"stream": BLOCKS}, {"stream": came(429)}, UNKNOWN, "came in 4 pieces: too few to tell"),
        ({"stream": BLOCK}, {"stream": came(429)}, FAIL, "in one block at the end"),
        ({"stream": None}, {}, UNKNOWN, "no stream was seen"),
    ],
)
def test_proxy_by_its_behaviour(
    front: dict[str, Exchange | None], back: dict[str, Exchange | None], verdict: Verdict, said: str
) -> None:
    ruling = of(judged_proxy(proxy(front, back)), URL)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_proxy_where_no_backend_can_be_asked() -> None:
    seen = proxy(direct=None)
    seen = replace(seen, by_key={k: v for k, v in seen.by_key.items() if ".front." in k})
    assert of(judged_proxy(seen), URL).verdict is UNKNOWN
    held = replace(seen, by_key={**seen.by_key, "lb.reverse-proxy.front.stream": BLOCK})
    assert of(judged_proxy(held), URL).verdict is FAIL


def test_proxy_without_a_key() -> None:
    front = replace(FRONT, keyless=NO_KEY)
    refused = {"models": came(401), "chat": came(401), "stream": came(401), "unknown": came(401)}
    seen = proxy(refused, refused, direct=None, of_front=front)
    assert of(judged_proxy(seen), URL).reason is Reason.NO_CREDENTIAL


def test_proxy_with_a_dead_backend() -> None:
    ruling = of(judged_proxy(proxy(second=REFUSED)), URL)
    assert ruling.verdict is WARN and "a backend does not answer: http://198.51.100.12:8000" in words(ruling)


def test_a_flow_is_what_came_when() -> None:
    found = flow(stream(0.1, 0.1004, 0.5, pieces=3))
    assert found is not None
    assert found.moments == (0.1, 0.5) and found.said.pieces == 3
    assert found.longest_gap == pytest.approx(0.4)
    assert flow(came(500)) is None and flow(REFUSED) is None


# --- lb.algorithm


def spread(
    *got: float | Missing,
    answers: Mapping[str, int] | None = None,
    not_made: Missing | None = None,
    front: Front = FRONT,
    healthy: bool = True,
) -> LbSpread:
    shares = tuple(Share(url, each, healthy) for url, each in zip(front.backends, got, strict=False))
    sent = 0 if not_made else sum((answers or {"200": 60}).values())
    return LbSpread({}, front, INSIDE, sent, answers or {"200": 60}, shares, not_made)


def judged_spread(seen: LbSpread, facts: LbFacts | Missing = GOOD, **more: object) -> Ruling:
    (ruling,) = lb_algorithm.judge(case("lb.algorithm", seen, facts, **more))  # type: ignore[arg-type]
    return ruling


EVENLY = spread(31.0, 29.0)
TRIPLE = Front(URL, tuple(f"http://198.51.100.1{n}:8000" for n in range(1, 6)))


def members(*lines: str, algorithm: str = "zone v 64k; least_conn;") -> LbFacts:
    servers = " ".join(lines or ("server gpu-01:8000;", "server gpu-02:8000;"))
    return replace(GOOD, config=config(f"upstream vllm {{ {algorithm} {servers} }}", main="worker_processes auto;"))


def test_algorithm() -> None:
    ruling = judged_spread(EVENLY)
    assert ruling.verdict is PASS, words(ruling)
    assert "least_conn; requests taken: 198.51.100.11:8000 31, 198.51.100.12:8000 29" in words(ruling)


@pytest.mark.parametrize(
    ("algorithm", "verdict", "said"),
    [
        ("zone v 64k; least_conn;", PASS, ""),
        ("zone v 64k; random two least_conn;", PASS, ""),
        ("zone v 64k; least_time header;", PASS, ""),
        ("hash $request_id consistent;", PASS, ""),
        ("", WARN, "round-robin: it does not look at how busy"),
        ("ip_hash;", WARN, "ip_hash: it does not look at how busy"),
        ("hash $request_id;", WARN, "hash: it does not"),
        ("random;", WARN, "random: it does not"),
        ("least_conn;", WARN, "least_conn without a zone"),
    ],
)
def test_algorithm_by_its_configuration(algorithm: str, verdict: Verdict, said: str) -> None:
    ruling = judged_spread(EVENLY, members(algorithm=algorithm))
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_algorithm_one_worker_counts_for_all() -> None:
    assert judged_spread(EVENLY, replace(GOOD, config=config(UPSTREAM.replace("zone v 64k;", "")))).verdict is PASS


def test_algorithm_without_passive_health() -> None:
    ruling = judged_spread(EVENLY, members("server gpu-01:8000 max_fails=0;", "server gpu-02:8000;"))
    assert ruling.verdict is WARN and "max_fails=0: failures of gpu-01:8000" in words(ruling)


@pytest.mark.parametrize(
    ("seen", "verdict", "said"),
    [
        (spread(45.0, 15.0), PASS, ""),
        (spread(45.1, 14.9), WARN, "1.5 × the mean"),
        (spread(60.0, 0.0), FAIL, "gets nothing although it is healthy: http://198.51.100.12:8000"),
        (spread(60.0, 0.0, healthy=False), WARN, "2.0 × the mean"),
        (spread(36.0, 6.0, 6.0, 6.0, 6.0, front=TRIPLE), WARN, "3.0 × the mean"),
        (spread(37.0, 6.0, 6.0, 6.0, 5.0, front=TRIPLE), FAIL, "3.1 × the mean"),
        (spread(30.0, Missing(Reason.UNREACHABLE, "refused")), UNKNOWN, "spread: host not reachable"),
        (spread(10.0, 10.0), UNKNOWN, "counted 20 of 60 requests"),
        (spread(20.0, 20.0, answers={"200": 40, "503": 20}), UNKNOWN, "too few of 60 requests were served"),
        (spread(0.0, 0.0, answers={"502": 1}), UNKNOWN, "1 × 502"),
        (
            spread(not_made=Missing(Reason.NOT_RUN, "endpoints.backends names fewer than two")),
            UNKNOWN,
            "fewer than two",
        ),
        (spread(0.0, 0.0, answers={"401": 1}, front=replace(FRONT, keyless=NO_KEY)), UNKNOWN, "no credential"),
    ],
)
def test_algorithm_by_the_spread(seen: LbSpread, verdict: Verdict, said: str) -> None:
    ruling = judged_spread(seen)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_algorithm_that_keeps_a_client_together_is_not_told_by_one_client() -> None:
    by_ip = judged_spread(spread(60.0, 0.0), members(algorithm="ip_hash;"))
    assert by_ip.verdict is WARN and "keeps one client together" in words(by_ip)
    by_session = judged_spread(spread(60.0, 0.0), members(algorithm="hash $http_x_session consistent;"))
    assert by_session.verdict is UNKNOWN and "by $http_x_session" in words(by_session)


def test_algorithm_without_its_configuration() -> None:
    unseen = replace(GOOD, config=DENIED)
    assert judged_spread(EVENLY, unseen).verdict is WARN
    assert judged_spread(spread(60.0, 0.0), unseen).verdict is FAIL
    nothing = judged_spread(spread(Missing(Reason.TIMEOUT, "x"), 3.0), unseen)
    assert (nothing.verdict, nothing.reason) == (UNKNOWN, Reason.TIMEOUT)
    nobody = judged_spread(EVENLY, site=replace(SITE, balancers=()))
    assert nobody.verdict is WARN and "no host is known to balance" in words(nobody)


def test_algorithm_over_one() -> None:
    assert judged_spread(EVENLY, members("server gpu-01:8000;")).verdict is NA
    alone = spread(not_made=Missing(Reason.NOT_RUN, "fewer"), front=replace(FRONT, backends=BACKENDS[:1]))
    assert judged_spread(alone, replace(GOOD, config=DENIED)).verdict is NA


def test_algorithm_of_two_balancers() -> None:
    (ruling,) = lb_algorithm.judge(
        case("lb.algorithm", EVENLY, {"lb-01": GOOD, "lb-02": members(algorithm="ip_hash;")}, site=TWO)
    )
    assert ruling.verdict is WARN and "lb-02: ip_hash" in words(ruling)


# --- lb.static-cache


def answer(number: str, **more: object) -> Exchange:
    return replace(CHAT, body=json.dumps({"id": number, "choices": [{"index": 0}]}).encode(), **more)  # type: ignore[arg-type]


def cache(assets: tuple[str, ...] = (), front: Front = FRONT, **changed: Exchange | None) -> LbCache:
    usual: dict[str, Exchange | None] = {
        "front.post-1": answer("a"), "front.post-2": answer("b"), "front.models": MODELS,
        "front.models-wrong": came(401), "front.models-fresh": came(401),
    }  # fmt: skip
    changed_keys = {key.replace("__", ".").replace("_", "-"): each for key, each in changed.items()}
    return LbCache(keyed("lb.static-cache", {**usual, **changed_keys}), front, {}, assets)


def judged_cache(seen: LbCache, facts: LbFacts | Missing = GOOD, **more: object) -> Ruling:
    (ruling,) = lb_cache.judge(case("lb.static-cache", seen, facts, **more))  # type: ignore[arg-type]
    return ruling


def asset(control: str = "", status: int = 200) -> Exchange:
    return came(status, b"x", headers={"content-type": "text/css", "cache-control": control, "etag": '"1"'})


def static(first: Exchange | None, again: Exchange | None = None) -> LbCache:
    return cache(("/app.css",), static_1__first=first, static_1__second=first, static_1__again=again)


@pytest.mark.parametrize(
    ("seen", "verdict", "said"),
    [
        (static(asset("public, max-age=3600")), PASS, "/app.css max-age=3600"),
        (static(asset("max-age=3599")), WARN, "is not cached: Cache-Control max-age=3599"),
        (static(asset("max-age=3599"), came(304)), PASS, "/app.css 304"),
        (static(asset(), came(200)), WARN, "is not cached"),
        (static(asset("no-store, max-age=9999")), WARN, "is not cached: Cache-Control no-store"),
        (static(asset(status=404)), UNKNOWN, "/app.css: 404"),
        (static(REFUSED), UNKNOWN, "/app.css: host not reachable"),
        (static(None), UNKNOWN, "/app.css"),
        (cache(front__post_2=answer("a")), FAIL, "two requests got the same answer (a)"),
        (
            cache(front__post_2=answer("b", headers={"x-cache-status": "HIT"})),
            FAIL,
            "from a cache (x-cache-status: HIT)",
        ),
        (cache(front__post_2=answer("b", headers={"x-cache-status": "MISS"})), NA, "pure API"),
        (cache(front__models=replace(MODELS, headers={"age": "12"})), FAIL, "from a cache (Age: 12)"),
        (cache(front__models=replace(MODELS, headers={"age": "0"})), NA, "two requests, two ids"),
        (cache(front__models_wrong=MODELS), FAIL, "is given to a wrong key from a cache"),
        (cache(front__models_wrong=MODELS, front__models_fresh=MODELS), NA, "pure API"),
        (cache(front__post_1=GATEWAY), UNKNOWN, "whether answers are cached was not seen: 502"),
        (cache(front__post_1=REFUSED), UNKNOWN, "host not reachable"),
        (cache(front__post_1=answer("")), UNKNOWN, "answers without an id"),
        (cache(front=replace(FRONT, keyless=NO_KEY), front__post_1=came(401)), UNKNOWN, "no credential"),
    ],
)
def test_cache(seen: LbCache, verdict: Verdict, said: str) -> None:
    ruling = judged_cache(seen)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_cache_that_is_on_for_the_api() -> None:
    ruling = judged_cache(cache(), replace(GOOD, config=config(location=f"{LOCATION} proxy_cache kept;")))
    assert ruling.verdict is WARN and "proxy_cache kept is on for the API's path" in words(ruling)
    off = replace(GOOD, config=config(location=f"{LOCATION} proxy_cache off;", around="proxy_cache kept;"))
    assert judged_cache(cache(), off).verdict is NA


def test_cache_of_files_that_nobody_named() -> None:
    served = replace(GOOD, config=config(more="location ~* \\.css$ { root /srv; }"))
    ruling = judged_cache(cache(), served)
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.NO_TARGETS)
    assert "location ~* \\.css$" in words(ruling)
    assert judged_cache(cache(), replace(GOOD, config=DENIED)).reason is Reason.PERMISSION
    assert judged_cache(cache(), site=replace(SITE, balancers=())).verdict is NA


@pytest.mark.parametrize(
    ("judge", "check", "kind"),
    [
        (lb.judge, "lb.deployed", LbDeployed),
        (lb_proxy.judge, "lb.reverse-proxy", LbProxy),
        (lb_algorithm.judge, "lb.algorithm", LbSpread),
        (lb_cache.judge, "lb.static-cache", LbCache),
    ],
)
def test_nothing_observed_and_nothing_to_observe(judge: object, check: str, kind: type) -> None:
    assert callable(judge)
    made = replace(case(check, object()), observed={kind: Missing(Reason.BUDGET, "no time")})
    assert [(r.verdict, r.reason) for r in judge(made)] == [(UNKNOWN, Reason.BUDGET)]
    empty: dict[type, object] = {
        LbDeployed: LbDeployed({}, Front(None), {}),
        LbProxy: LbProxy({}, Front(None), {}, None),
        LbSpread: spread(not_made=Missing(Reason.NO_TARGETS, "x"), front=Front(None)),
        LbCache: LbCache({}, Front(None), {}, ()),
    }
    nothing = replace(made, site=replace(SITE, balancers=()), observed=empty)
    assert [(r.verdict, r.reason) for r in judge(nothing)] == [(UNKNOWN, Reason.NO_TARGETS)]


def test_what_people_put_keys_into_is_nobodys_evidence() -> None:
    """nginx's dump has `proxy_set_header Authorization`, cron's files have what they have."""
    for judge in probes.judges().values():
        assert not {"lb", "lb.dump", "lb.cron", "lb.process"} & set(judge.evidence), judge.check_id
