"""lb.*: asked of a small balancer before two small backends, all of them real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params
from dstui.facts.lb_seen import LbCache, LbDeployed, LbProxy, LbSpread
from dstui.facts.raw import Missing
from dstui.gather import lb as asked
from dstui.gather import lb_proxy, lb_spread
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import lb
from dstui.model import Evidence, Reason, Ruling, Verdict

PASS, WARN, FAIL, UNKNOWN, NA = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
KEY = "sk-unit-test-0001"
RULES = {judge.check_id: judge.rule for judge in lb.JUDGES}
OBSERVE: dict[str, Any] = {
    "lb.deployed": asked.observe_lb_deployed,
    "lb.reverse-proxy": lb_proxy.observe_lb_proxy,
    "lb.algorithm": lb_spread.observe_lb_spread,
    "lb.static-cache": asked.observe_lb_cache,
}


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Back:
    """A backend. `sick` is one thing that is wrong with it."""

    name: str
    sick: str = ""
    served: int = 0
    asked: list[Request] = field(default_factory=list)

    async def answer(self, request: Request) -> list[bytes]:
        """The parts of the whole response, the first with its head."""
        self.asked.append(request)
        path = request.path.partition("?")[0]
        if path == "/health":
            return plain(200, b"", "text/plain")
        if path == "/metrics":
            labels = '{engine="0",finished_reason="stop",model_name="m"}'
            page = f"# TYPE vllm:request_success counter\nvllm:request_success_total{labels} {self.served}\n"
            return plain(200, b"<html>" if self.sick == "no-metrics" else page.encode(), "text/plain")
        if path == "/app.css":
            more = {"ETag": '"1"', "Cache-Control": "max-age=60"}
            return plain(304 if "if-none-match" in request.headers else 200, b"", "text/css", more)
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return plain(401, b'{"error": "Unauthorized"}')
        if path == "/v1/models":
            return plain(200, json.dumps({"object": "list", "data": [{"id": "m"}]}).encode())
        return self.chat(request) if path == "/v1/chat/completions" else plain(404, b'{"detail": "Not Found"}')

    def chat(self, request: Request) -> list[bytes]:
        self.served += 1
        # As vLLM: the id of the request is that of the answer.
        head = {"id": f"chatcmpl-{request.headers['x-request-id']}", "model": "m"}
        if not json.loads(request.body).get("stream"):
            message = {"role": "assistant", "content": "pong"}
            return plain(200, json.dumps({**head, "choices": [{"index": 0, "message": message}]}).encode())
        parts = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"]
        for number in range(20):
            delta = [{"index": 0, "delta": {"content": f"{number} "}}]
            parts.append(f"data: {json.dumps({**head, 'choices': delta})}\n\n".encode())
        return [*parts, b"data: [DONE]\n\n"]


def plain(
    status: int, body: bytes, kind: str = "application/json", more: Mapping[str, str] | None = None
) -> list[bytes]:
    extra = "".join(f"{name}: {value}\r\n" for name, value in (more or {}).items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return [head.encode() + body]


@dataclass
class Gate:
    """The balancer, by turns. `sick` is one thing that is wrong with it."""

    backs: list[Back]
    sick: str = ""
    turn: int = 0
    waited: bool = False
    kept: dict[str, list[bytes]] = field(default_factory=dict)

    async def answer(self, request: Request) -> list[bytes]:
        if self.sick == "down":
            return plain(502, b"<html>Bad Gateway</html>", "text/html")
        if self.sick == "doubles" and request.path.startswith("/v1/"):
            request = replace(request, path=f"/v1{request.path}")
        if self.sick == "limits" and request.method == "POST" and self.turn > 5:
            return plain(429, b"{}")
        if self.sick == "hurries" and request.method == "POST" and self.turn > 5 and not self.waited:
            self.waited = True
            return plain(429, b"{}", more={"Retry-After": "0"})
        if self.sick == "caches" and request.path in self.kept:
            return self.kept[request.path]
        self.turn += 1
        back = self.backs[0 if self.sick == "one" else self.turn % len(self.backs)]
        parts = await back.answer(request)
        if self.sick == "caches":
            self.kept[request.path] = parts
        return [b"".join(parts)] if self.sick == "buffers" else parts


@asynccontextmanager
async def serving(service: Back | Gate) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = asyncio.current_task()
        assert mine is not None
        tasks.add(mine)
        try:
            while (line := await reader.readline()).strip():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while header := (await reader.readline()).decode("latin-1").strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                parts = await service.answer(Request(method, path, headers, body))
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    if len(parts) > 1:
                        await asyncio.sleep(0.005)
                if len(parts) > 1 or b"text/event-stream" in parts[0]:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*tasks)


INVENTORY = """\
version: 1
cluster: {{name: ds-unit, environment: lab, timezone: UTC}}
ssh: {{user: ops}}
hosts: [{{name: gpu-01, roles: [head], data_ip: 127.0.0.1, gpu: true, gpus_per_host: 1}}]
model: {{path: /m, served_name: m}}
endpoints: {{api: "{api}", backends: {backends}}}
auth: {{key_ref: "env:DSTUI_UNIT_KEY"}}
lb: {{static_urls: {assets}}}
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSTUI_UNIT_KEY", KEY)


async def look(
    folder: Path, catalogue: Catalogue, check: str, api: str, backends: list[str], assets: tuple[str, ...] = ()
) -> tuple[Any, Ruling]:
    file = folder / "inventory.yaml"
    file.write_text(INVENTORY.format(api=api, backends=json.dumps(backends), assets=json.dumps(assets)))
    inventory = load_inventory(file)

    def parameters(check_id: str, host: str | None) -> Params:
        known = {p.name: p.threshold() for p in catalogue.check(check_id).params}
        told = {"spread_requests": 20, "model_served_name": "m", "expected_backends": backends, "static_urls": assets}
        return Params([replace(t, value=told.get(name, t.value)) for name, t in known.items()])

    async with asyncio.timeout(60):
        seen = await OBSERVE[check](Observing(inventory, inventory.site(), parameters, {}, {}, "unit"))
    case = FleetCase(inventory.site(), {}, parameters(check, None), {}, {type(seen): seen}, 0.0)
    rulings = RULES[check](case)
    return seen, next(ruling for ruling in rulings if ruling.target.name == api)


async def ruled(
    folder: Path,
    catalogue: Catalogue,
    check: str,
    gate: str = "",
    back: str = "",
    assets: tuple[str, ...] = (),
) -> tuple[Any, Ruling]:
    async with AsyncExitStack() as running:
        backs = [Back("a", back), Back("b")]
        urls = [await running.enter_async_context(serving(each)) for each in backs]
        front = await running.enter_async_context(serving(Gate(backs, gate)))
        return await look(folder, catalogue, check, front, urls, assets)


def words(ruling: Ruling) -> str:
    return "\n".join((ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)))


@pytest.mark.parametrize(
    ("check", "kind", "verdict"),
    [
        ("lb.deployed", LbDeployed, PASS),
        # No host is known to balance, so its configuration is not seen.
        ("lb.reverse-proxy", LbProxy, WARN),
        ("lb.algorithm", LbSpread, WARN),
        ("lb.static-cache", LbCache, NA),
    ],
)
async def test_a_balancer_that_is_well(
    tmp_path: Path, catalogue: Catalogue, check: str, kind: type, verdict: Verdict
) -> None:
    seen, ruling = await ruled(tmp_path, catalogue, check)
    assert isinstance(seen, kind)
    assert ruling.verdict is verdict, words(ruling)
    shown: tuple[Evidence, ...] = seen.evidence(ruling.target)
    assert shown and all(piece.key.startswith(check) for piece in shown)
    assert KEY not in f"{seen!r}{ruling!r}{shown!r}"
    assert any("$DSTUI_UNIT_KEY" in piece.source for piece in shown)


@pytest.mark.parametrize(
    ("check", "gate", "back", "verdict", "said"),
    [
        ("lb.deployed", "down", "", FAIL, "no backend takes the request: 502"),
        ("lb.deployed", "doubles", "", UNKNOWN, "only the health path answers"),
        ("lb.reverse-proxy", "down", "", FAIL, "/v1/models is answered 502"),
        ("lb.reverse-proxy", "doubles", "", FAIL, "is the path doubled or dropped?"),
        ("lb.reverse-proxy", "buffers", "", FAIL, "in one block at the end"),
        ("lb.algorithm", "one", "", FAIL, "gets nothing although it is healthy"),
        ("lb.algorithm", "limits", "", UNKNOWN, "too few of 20 requests were served"),
        ("lb.algorithm", "down", "", UNKNOWN, "1 × 502"),
        ("lb.algorithm", "", "no-metrics", UNKNOWN, "spread: "),
        ("lb.static-cache", "caches", "", FAIL, "two requests got the same answer"),
        ("lb.static-cache", "down", "", UNKNOWN, "whether answers are cached was not seen: 502"),
    ],
)
async def test_a_balancer_that_is_sick(
    tmp_path: Path, catalogue: Catalogue, check: str, gate: str, back: str, verdict: Verdict, said: str
) -> None:
    _, ruling = await ruled(tmp_path, catalogue, check, gate, back)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


async def test_a_limiter_on_the_way_does_not_hide_the_spread(tmp_path: Path, catalogue: Catalogue) -> None:
    seen, ruling = await ruled(tmp_path, catalogue, "lb.algorithm", "hurries")
    assert ruling.verdict is WARN, words(ruling)
    assert seen.answers == {"200": 20}


async def test_a_key_that_a_cache_forgets_to_look_at(tmp_path: Path, catalogue: Catalogue) -> None:
    _, ruling = await ruled(tmp_path, catalogue, "lb.static-cache", "caches")
    assert "given to a wrong key from a cache" in words(ruling)


async def test_assets_are_asked_for_without_a_key(tmp_path: Path, catalogue: Catalogue) -> None:
    seen, ruling = await ruled(tmp_path, catalogue, "lb.static-cache", assets=("/app.css",))
    assert ruling.verdict is PASS, words(ruling)
    assert seen.by_key["lb.static-cache.static-1.again"].status == 304
    assert all("Authorization" not in e.curl for k, e in seen.by_key.items() if "static-1" in k)


async def test_the_key_never_goes_where_nobody_was_verified(tmp_path: Path, catalogue: Catalogue) -> None:
    async with serving(back := Back("a")) as url:
        seen, _ = await look(tmp_path, catalogue, "lb.deployed", url, [])
    health = seen.by_key["lb.deployed.front.health"]
    assert "Authorization" not in health.curl
    assert [r.headers.get("authorization") for r in back.asked if r.path == "/health"] == [None]


@pytest.mark.parametrize("check", sorted(OBSERVE))
async def test_nobody_at_home(tmp_path: Path, catalogue: Catalogue, check: str) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    url = f"http://127.0.0.1:{port}"
    _, ruling = await look(tmp_path, catalogue, check, url, [f"{url}/", f"http://localhost:{port}"])
    assert ruling.verdict is (FAIL if check == "lb.deployed" else UNKNOWN), words(ruling)


@pytest.mark.parametrize("check", sorted(OBSERVE))
async def test_no_key_to_send(
    tmp_path: Path, catalogue: Catalogue, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DSTUI_UNIT_KEY")
    seen, ruling = await ruled(tmp_path, catalogue, check)
    assert isinstance(seen.front.keyless, Missing)
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.NO_CREDENTIAL), words(ruling)
