"""func.*: asked of a real HTTP server that speaks the API, well or in one of the ways that gateways get it wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params
from dstui.gather import func as asked
from dstui.gather import func_errors
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import func
from dstui.model import Reason, Ruling, Verdict

MODEL, KEY, LIMIT = "echo", "sk-unit-test-0001", 2048
RULES = {judge.check_id: judge.rule for judge in func.JUDGES}
OBSERVE: dict[str, Callable[[Observing], Any]] = {
    "func.basic-inference": asked.observe_func_basic,
    "func.long-text": asked.observe_func_long,
    "func.multilingual": asked.observe_func_languages,
    "func.concurrent": asked.observe_func_concurrent,
    "func.error-handling": func_errors.observe_func_errors,
}


class Echo:
    """An API whose model repeats what it was told. `sick` names one thing that is wrong with it."""

    def __init__(self, sick: str = "") -> None:
        self.sick = sick
        self.running = 0
        self.requests = 0
        self.first_answer = ""
        self.seen: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await reader.readline()).strip():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while header := (await reader.readline()).decode("latin-1").strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests += 1
                self.seen.append(headers.get("x-request-id", ""))
                await self.answer(writer, method, path, headers, body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        if path == "/health":
            return self.write(writer, 200, b"", "text/plain")
        if path == "/metrics":
            labels = '{engine="0",model_name="m"}'
            text = f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {self.running}\n"
            return self.write(writer, 200, text.encode(), "text/plain; version=0.0.4")
        if path.startswith("/v1") and headers.get("authorization") != f"Bearer {KEY}":
            return self.write(writer, 401, b'{"error": "Unauthorized"}')
        if path == "/v1/models":
            card = {"id": MODEL, "object": "model", "max_model_len": LIMIT}
            return self.write(writer, 200, json.dumps({"object": "list", "data": [card]}).encode())
        if path in ("/tokenize", "/detokenize"):
            return self.tokenizer(writer, path, json.loads(body))
        if path != "/v1/chat/completions":
            return self.write(writer, 404, b'{"detail": "Not Found"}')
        if method != "POST":
            return self.write(writer, 405, b'{"detail": "Method Not Allowed"}')
        return await self.chat(writer, headers, body)

    def tokenizer(self, writer: asyncio.StreamWriter, path: str, request: dict[str, Any]) -> None:
        if path == "/tokenize":
            tokens = list(request["prompt"].encode("utf-8", "surrogatepass"))
            answer: dict[str, Any] = {"tokens": tokens, "count": max(len(tokens) // 4, 1)}
        else:
            answer = {"prompt": bytes(request["tokens"]).decode("utf-8", "replace")}
        self.write(writer, 200, json.dumps(answer).encode())

    async def chat(self, writer: asyncio.StreamWriter, headers: dict[str, str], body: bytes) -> None:
        try:
            request = json.loads(body)
            messages = request["messages"]
            said = messages[-1]["content"]
            hot = request.get("temperature", 0)
            if isinstance(hot, str) or request.get("max_tokens", 1) < 1 or headers["content-type"] == "text/plain":
                raise ValueError("wrong type")
        except (ValueError, KeyError, TypeError, RecursionError):
            return self.wrong(writer, 400, "the request is not valid")
        if request.get("model") != MODEL:
            return self.wrong(writer, 404, f"the model {request.get('model')} does not exist")
        if self.sick == "no-nul" and "\x00" in said:
            return self.write(writer, 500, b"")
        tokens = max(len(said.encode("utf-8", "surrogatepass")) // 4, 1) + 5
        if tokens > LIMIT:
            if self.sick != "takes-all":
                return self.wrong(writer, 400, f"maximum context length is {LIMIT} tokens")
            tokens = LIMIT
        if self.sick == "cuts" and tokens > 400:
            tokens = 400
        said = said.encode("utf-8", "replace").decode()
        if self.sick == "caches":
            self.first_answer = self.first_answer or said
            said = self.first_answer
        if self.sick == "latin-1":
            said = said.encode().decode("latin-1")
        usage = {"prompt_tokens": tokens, "completion_tokens": 4, "total_tokens": tokens + 4}
        self.running += 1
        try:
            await self.say(writer, request, said, usage)
        finally:
            self.running -= 0 if self.sick == "goes-on" and request.get("ignore_eos") else 1
        return None

    async def say(
        self, writer: asyncio.StreamWriter, request: dict[str, Any], said: str, usage: dict[str, int]
    ) -> None:
        head = {"id": f"chatcmpl-{self.requests}", "model": MODEL}
        if not request.get("stream"):
            message = {"role": "assistant", "content": said}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            answer = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
            return self.write(writer, 200, json.dumps(answer, ensure_ascii=False).encode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        middle = len(said) // 2
        pieces = [said[:middle], said[middle:]] if not request.get("ignore_eos") else ["x"] * 1000
        for piece in pieces:
            delta = [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]
            event = json.dumps({**head, "object": "chat.completion.chunk", "choices": delta}, ensure_ascii=False)
            self.chunk(writer, f"data: {event}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(0.001)
        last = json.dumps({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        self.chunk(writer, f"data: {last}\n\n".encode())
        if self.sick != "no-done":
            self.chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        return None

    @staticmethod
    def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def wrong(self, writer: asyncio.StreamWriter, status: int, message: str) -> None:
        if self.sick == "leaks":
            message += ' File "/usr/lib/python3/dist-packages/app.py", line 7'
        body = {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}
        self.write(writer, status, json.dumps(body).encode())

    @staticmethod
    def write(writer: asyncio.StreamWriter, status: int, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


INVENTORY = """\
version: 1
cluster: {{name: ds-unit, environment: lab, timezone: UTC}}
ssh: {{user: ops}}
hosts: [{{name: gpu-01, roles: [head], data_ip: 127.0.0.1, gpu: true, gpus_per_host: 1}}]
model: {{path: /m, served_name: {model}}}
endpoints: {{api: "http://127.0.0.1:{port}", backends: ["http://127.0.0.1:{port}"]}}
auth: {{key_ref: "env:DSTUI_UNIT_KEY"}}
"""


@asynccontextmanager
async def world(
    tmp_path: Path, catalogue: Catalogue, echo: Echo, **params: object
) -> AsyncIterator[tuple[Observing, Callable[[str, object], Ruling]]]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0, limit=16 * 1024 * 1024)
    port = server.sockets[0].getsockname()[1]
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.format(port=port, model=MODEL))
    inventory = load_inventory(path)

    def parameters(check_id: str, host: str | None) -> Params:
        known = {p.name: p.threshold() for p in catalogue.check(check_id).params}
        told = {"model_served_name": MODEL, **params}
        return Params([replace(t, value=told.get(name, t.value)) for name, t in known.items()])

    def judged(check_id: str, observed: object) -> Ruling:
        case = FleetCase(inventory.site(), {}, parameters(check_id, None), {}, {type(observed): observed}, 0.0)
        (ruling,) = RULES[check_id](case)
        return ruling

    try:
        yield Observing(inventory, inventory.site(), parameters, {}, {}, "unit"), judged
    finally:
        server.close()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSTUI_UNIT_KEY", KEY)


def words(ruling: Ruling) -> str:
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


@pytest.mark.parametrize("check_id", sorted(OBSERVE))
async def test_a_service_that_is_well(tmp_path: Path, catalogue: Catalogue, check_id: str) -> None:
    echo = Echo()
    async with world(tmp_path, catalogue, echo, n=12, nesting_depth=2000) as (observing, judged):
        observed = await OBSERVE[check_id](observing)
        ruling = judged(check_id, observed)
    shown = list(observed.evidence(ruling.target))
    assert shown
    assert all(KEY not in f"{piece}" for piece in shown)
    assert any("$DSTUI_UNIT_KEY" in piece.source for piece in shown)
    assert all(KEY not in f"{value!r}" for value in (observed, ruling))
    assert ruling.verdict in (Verdict.PASS, Verdict.WARN), words(ruling)
    # A lone surrogate becomes a question mark on its way through this server, as on many.
    assert "not answered" not in words(ruling)
    assert any(seen.startswith("dstui-unit") for seen in echo.seen)


@pytest.mark.parametrize(
    ("check_id", "sick", "said"),
    [
        ("func.basic-inference", "no-done", "without [DONE]"),
        ("func.basic-inference", "caches", ""),
        ("func.concurrent", "caches", "mixed up"),
        ("func.long-text", "cuts", "cut off silently"),
        ("func.long-text", "takes-all", "too many: HTTP 200"),
        ("func.multilingual", "no-nul", "nul (plain): HTTP 500"),
        ("func.error-handling", "leaks", "the answer shows"),
        ("func.error-handling", "goes-on", "still running"),
    ],
)
async def test_a_service_that_is_sick(
    tmp_path: Path, catalogue: Catalogue, check_id: str, sick: str, said: str
) -> None:
    params = {"n": 12, "nesting_depth": 2000, "abort_settle_s": 0.2}
    async with world(tmp_path, catalogue, Echo(sick), **params) as (observing, judged):
        ruling = judged(check_id, await OBSERVE[check_id](observing))
    assert (ruling.verdict is Verdict.FAIL) is bool(said), words(ruling)
    assert said in words(ruling)


async def test_mojibake_is_not_the_models_fault(tmp_path: Path, catalogue: Catalogue) -> None:
    async with world(tmp_path, catalogue, Echo("latin-1")) as (observing, judged):
        observed = await OBSERVE["func.multilingual"](observing)
        kept = {key: value for key, value in observed.by_key.items() if "tokenize" not in key}
        ruling = judged("func.multilingual", replace(observed, by_key=kept))
    assert ruling.verdict is Verdict.FAIL
    assert "Latin-1" in words(ruling)


@pytest.mark.parametrize("check_id", sorted(OBSERVE))
async def test_nobody_at_home(tmp_path: Path, catalogue: Catalogue, check_id: str) -> None:
    async with world(tmp_path, catalogue, Echo(), n=4) as (observing, judged):
        pass  # the server is closed: its port refuses connections
    async with asyncio.timeout(60):
        ruling = judged(check_id, await OBSERVE[check_id](observing))
    assert ruling.verdict is Verdict.UNKNOWN
    assert ruling.reason is Reason.UNREACHABLE


@pytest.mark.parametrize("check_id", sorted(OBSERVE))
async def test_no_key_to_send(
    tmp_path: Path, catalogue: Catalogue, check_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DSTUI_UNIT_KEY")
    async with world(tmp_path, catalogue, Echo(), n=4, nesting_depth=2000) as (observing, judged):
        ruling = judged(check_id, await OBSERVE[check_id](observing))
    assert ruling.verdict is Verdict.UNKNOWN, words(ruling)
    assert ruling.reason is Reason.NO_CREDENTIAL


async def test_other_peoples_requests_are_not_taken_for_the_one_that_was_left(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    echo = Echo("goes-on")
    echo.running = 3
    async with world(tmp_path, catalogue, echo, nesting_depth=2000, abort_settle_s=0.2) as (observing, judged):
        ruling = judged("func.error-handling", await OBSERVE["func.error-handling"](observing))
    assert ruling.verdict is Verdict.WARN, words(ruling)
    assert "3 other requests were running" in words(ruling)


async def test_mojibake_of_what_was_sent_is_found_though_the_tokenizer_is_clean(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    """The tokenizer's way is not the completions' way: a gateway may spoil one of them only."""
    async with world(tmp_path, catalogue, Echo("latin-1")) as (observing, judged):
        ruling = judged("func.multilingual", await OBSERVE["func.multilingual"](observing))
    assert ruling.verdict is Verdict.FAIL, words(ruling)
    assert "Latin-1" in words(ruling)
