"""api.* against a real vLLM behind a real nginx, as it should be and spoiled in one way at a time."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reallab.cluster import CONTROLLER, Lab
from reallab.host import wait_until
from reallab.nginx import Nginx
from reallab.operator import Found, Operator, Outcome
from reallab.vllm_server import MODEL, VllmServer

pytestmark = pytest.mark.real

KEY, REVOKED = "key-of-the-lab", "key-that-was-revoked"
CHECKS = ("api.started", "api.docs", "api.health", "api.auth", "api.rate-limit")
BACK, FRONT = "gpu-01", "gpu-02"
PORT = 8080

PASS_ON = """
  upstream vllm {{ server {backend}; }}
  map $upstream_status $challenge {{ 401 Bearer; default ""; }}
  map $status $again {{ 429 1; default ""; }}
  limit_req_zone $binary_remote_addr zone=users:1m rate=20r/s;
  server {{
    listen {port};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_connect_timeout 2s;
    add_header WWW-Authenticate $challenge always;
    add_header Retry-After $again always;
    {limit}
    location /v1/ {{ {v1} proxy_pass http://vllm; }}
    location = /health {{ {health} }}
    {docs}
    location / {{ return 404; }}
  }}
"""
LIMIT = "limit_req zone=users burst=40 nodelay; limit_req_status 429;"
DOCS = "location ~ ^/(docs|openapi.json|static/) { proxy_pass http://vllm; }"


def config(
    server: VllmServer,
    *,
    limit: str = LIMIT,
    docs: str = DOCS,
    v1: str = "",
    health: str = "proxy_pass http://vllm;",
) -> str:
    backend = f"{server.host.address}:{server.port}"
    return PASS_ON.format(backend=backend, port=PORT, limit=limit, docs=docs, v1=v1, health=health)


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[VllmServer]:
    with VllmServer(lab.hosts[BACK], lab.folder, api_key=KEY, extra=("--enable-offline-docs",)) as running:
        yield running


@pytest.fixture(scope="module")
def nginx(lab: Lab, server: VllmServer) -> Iterator[Nginx]:
    with Nginx(lab.hosts[FRONT], config(server), port=PORT) as running:
        yield running


@contextmanager
def closed(server: VllmServer) -> Iterator[None]:
    """vLLM's own port closed to all but the cluster."""
    with server.host.packets(f"input ip saddr {CONTROLLER} tcp dport {server.port} drop"):
        yield


@pytest.fixture
def shut(server: VllmServer) -> Iterator[None]:
    with closed(server):
        yield


def key_file(lab: Lab, name: str, value: str) -> str:
    held = lab.folder / name
    held.unlink(missing_ok=True)
    held.touch(0o600)
    held.write_text(value)
    return f"file:{held}"


def inventory(lab: Lab, api: str, *backends: str, key: str = KEY) -> Path:
    return lab.inventory(
        "api",
        model={"path": "/models/deepseek-tiny", "served_name": MODEL},
        serving={"mode": "vllm"},
        endpoints={"api": api, "backends": list(backends)},
        auth={
            "key_ref": key_file(lab, "api.key", key),
            "revoked_key_ref": key_file(lab, "revoked.key", REVOKED),
        },
        lb={"hosts": [FRONT]},
        thresholds={
            "net.peer-ping.rtt_warn_ms": 200,
            # Times on a busy test machine say nothing about the checks.
            "api.health.latency_warn_ms": 5000,
        },
    )


def front(nginx: Nginx) -> str:
    return f"http://{nginx.host.address}:{PORT}"


def found(outcome: Outcome, check: str, url: str) -> Found:
    return outcome.of(check, f"endpoint:{url}")


@pytest.fixture(scope="module")
def well(lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx) -> Outcome:
    with closed(server):
        return operator.run(*CHECKS, inventory=inventory(lab, front(nginx), server.url))


@pytest.mark.parametrize("check", CHECKS)
def test_a_service_as_it_should_be(well: Outcome, nginx: Nginx, check: str) -> None:
    only = found(well, check, front(nginx))
    assert only.verdict == "pass", only.words
    for secret in (KEY, REVOKED):
        assert secret not in json.dumps(well.report)


def test_a_backend_behind_a_firewall_is_seen_from_the_balancer(well: Outcome, server: VllmServer) -> None:
    assert found(well, "api.started", server.url).verdict == "pass"
    assert found(well, "api.health", server.url).verdict == "pass"
    assert f"seen from {FRONT}" in found(well, "api.started", server.url).words
    auth = found(well, "api.auth", server.url)
    assert auth.verdict == "warn"
    assert "/invocations answers prompts without any key" in auth.words
    assert "/scale_elastic_ep" in auth.words and "open without a key: POST /tokenize, /metrics, /load" in auth.words


def test_the_limit_is_met_and_let_go(well: Outcome, nginx: Nginx) -> None:
    words = found(well, "api.rate-limit", front(nginx)).words
    assert "limited from request" in words and "× 429" in words and "is refused (413)" in words
    assert "configured: limit_req zone=users burst=40 nodelay" in words


@pytest.mark.usefixtures("shut")
def test_a_gateway_that_takes_any_key(lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx) -> None:
    """It puts the right key into every request, so that nobody needs one."""
    nginx.change(config(server, v1=f'proxy_set_header Authorization "Bearer {KEY}";'))
    outcome = operator.run("api.started", "api.auth", inventory=inventory(lab, front(nginx)))
    only = found(outcome, "api.auth", front(nginx))
    assert only.verdict == "fail"
    for variant in ("no key", "an empty key", "a wrong key", "another scheme (Basic)"):
        assert f"{variant} on GET /v1/models" in only.words and f"{variant} on POST" in only.words
    assert found(outcome, "api.started", front(nginx)).verdict == "pass"


def test_a_plain_vllm_that_strangers_reach(lab: Lab, operator: Operator, server: VllmServer) -> None:
    """Its key check is right, and leaves other doors open."""
    outcome = operator.run("api.started", "api.auth", inventory=inventory(lab, server.url))
    only = found(outcome, "api.auth", server.url)
    assert only.verdict == "fail"
    assert "/invocations" in only.words and "without WWW-Authenticate" in only.words
    assert "a wrong key 401" in only.words


@pytest.mark.usefixtures("shut")
@pytest.mark.parametrize(
    ("key", "started", "auth"),
    [("not-the-key", "fail", "unknown(blocked-by)"), (None, "unknown(no-credential)", "unknown(blocked-by)")],
)
def test_the_operators_own_key(
    lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx, key: str | None, started: str, auth: str
) -> None:
    nginx.change(config(server))
    file = inventory(lab, front(nginx), key=key or "x")
    if key is None:
        (lab.folder / "api.key").unlink()
    outcome = operator.run("api.started", "api.auth", inventory=file)
    assert found(outcome, "api.started", front(nginx)).said == started
    assert outcome.of("api.auth", "cluster:lab").said == auth


@pytest.mark.usefixtures("shut")
def test_docs_that_are_off(lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx) -> None:
    nginx.change(config(server, docs=""))
    outcome = operator.run("api.docs", inventory=inventory(lab, front(nginx)))
    assert found(outcome, "api.docs", front(nginx)).verdict == "fail"
    on_purpose = operator.run("api.docs", "--set=api.docs.docs_required=false", inventory=inventory(lab, front(nginx)))
    assert found(on_purpose, "api.docs", front(nginx)).verdict == "not-applicable"


@pytest.mark.usefixtures("shut")
@pytest.mark.parametrize(
    ("limit", "verdict", "said"),
    [
        ("", "fail", "no limit"),
        (LIMIT.partition("limit_req_status")[0], "warn", "503, nginx's default"),
    ],
)
def test_limits(
    lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx, limit: str, verdict: str, said: str
) -> None:
    nginx.change(config(server, limit=limit))
    outcome = operator.run("api.rate-limit", inventory=inventory(lab, front(nginx)))
    only = found(outcome, "api.rate-limit", front(nginx))
    assert only.said == verdict, only.words
    assert said in only.words


@pytest.mark.usefixtures("shut")
def test_an_engine_that_hangs_while_health_still_answers(
    lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx
) -> None:
    nginx.change(config(server))
    server.signal_engine(signal.SIGSTOP)
    try:
        outcome = operator.run("api.started", "api.health", inventory=inventory(lab, front(nginx)))
    finally:
        server.signal_engine(signal.SIGCONT)
    only = found(outcome, "api.health", front(nginx))
    assert only.verdict == "fail", only.words
    assert "3 of 3 healthy" in only.words and "no token comes" in only.words
    assert found(outcome, "api.started", front(nginx)).verdict == "pass"


@pytest.mark.usefixtures("shut")
def test_an_engine_that_is_killed_behind_a_gateway_with_a_health_of_its_own(
    lab: Lab, operator: Operator, server: VllmServer, nginx: Nginx
) -> None:
    """The last one: vLLM is gone afterwards. Its models are still listed, by what the gateway remembers."""
    listed = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
    models = f"location = /v1/models {{ default_type application/json; return 200 '{listed}'; }}"
    nginx.change(config(server, docs=f"{DOCS} {models}", health="return 200;"))
    os.kill(server.engine_pid(), signal.SIGKILL)
    wait_until(lambda: not _listens(server), "vLLM to end", 60.0)
    outcome = operator.run("api.started", "api.health", inventory=inventory(lab, front(nginx), server.url))
    only = found(outcome, "api.health", front(nginx))
    assert only.verdict == "fail", only.words
    assert "3 of 3 healthy" in only.words and "no token comes (502" in only.words
    # Users still seem to be served, so the dead backend is a warning of its own.
    assert found(outcome, "api.started", server.url).said == "warn"


def _listens(server: VllmServer) -> bool:
    return f":{server.port} " in server.host.run("ss", "-Hltn")
