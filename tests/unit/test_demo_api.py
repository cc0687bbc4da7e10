"""The API of the embedded fleet: what is sent and what comes back, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.demo.balancer import Bucket
from dstui.demo.cast import cast
from dstui.demo.fleet import Fleet, Keys
from dstui.demo.replies import reply
from dstui.demo.tokens import LONGEST_PIECE, Tokenizer, pieces
from dstui.demo.vllm_engine import Engine
from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL
from dstui.facts import openai, sse
from dstui.facts.openai import Completion
from dstui.telemetry.aliases import Thing
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.windows import Present

CHAT = "/v1/chat/completions"
PATIENCE = 20.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    running = Fleet(cast(2), Keys.fresh())
    gap = Engine.gap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "gap", lambda self, pace: gap(self, pace) / 10)
        running.start()
        yield running
        running.stop()


@asynccontextmanager
async def client(fleet: Fleet, *, key: str | None = None, base: str = "") -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key or fleet.keys.api}"}
    async with httpx.AsyncClient(base_url=base or fleet.api_url, headers=headers, timeout=PATIENCE) as opened:
        yield opened


def asking(content: str, **more: Any) -> dict[str, object]:
    return openai.chat(MODEL, content, **{"max_tokens": 64, **more})


async def running(http: httpx.AsyncClient, url: str) -> float:
    page = (await http.get(f"{url}/metrics")).text
    [sample] = parse_metrics(page, at=0.0, replica="x", node_page=False)
    number = sample.engines[0].numbers[Thing.RUNNING]
    assert isinstance(number, Present)
    return number.value


# --- the tokenizer ------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_the_tokenizer_loses_nothing(text: str) -> None:
    tokenizer = Tokenizer()
    assert tokenizer.text(tokenizer.numbers(text)) == text
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= LONGEST_PIECE for piece in cut)


def test_a_number_that_two_pieces_share_costs_nothing_but_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dstui.demo.tokens.VOCABULARY", 257)
    tokenizer = Tokenizer()
    text = "many words, 一个号码, one number"
    assert tokenizer.text(tokenizer.numbers(text)) == text


# --- what is said -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Repeat exactly: a\nb ", "a\nb "),
        ("重复：你好", "你好"),
        ("Start your answer with zq12ab, then compute 17+5.", "zq12ab 17 + 5 = 22."),
        ("x " * 500 + "The code word is zq9f. " + "y " * 500 + "\nWhat is the code word?", "The code word is zq9f."),
        ("7 * 6?", "7 * 6 = 42."),
    ],
)
def test_it_does_as_it_is_told(prompt: str, answer: str) -> None:
    assert "".join(reply(prompt)) == answer


def test_it_counts_without_an_end_and_is_polite_otherwise() -> None:
    assert list(islice(reply("Count from one to a thousand."), 3)) == ["1\n", "2\n", "3\n"]
    assert "simulated" in "".join(reply("Hello, how are you?"))
    assert "模拟" in "".join(reply("你好"))


@given(st.text(max_size=200))
def test_any_prompt_has_an_answer(prompt: str) -> None:
    assert all(isinstance(part, str) for part in islice(reply(prompt), 5))


# --- completions --------------------------------------------------------------------------


async def test_plain_and_streamed_answers_are_the_same_and_add_up(fleet: Fleet) -> None:
    async with client(fleet) as http:
        words = "Repeat exactly: 敏捷的棕色狐狸 \U0001f44d\U0001f3fd ok"
        plain = await http.post(CHAT, json=asking(words))
        told = openai.completion(plain.json())
        assert isinstance(told, Completion)
        assert (told.object, told.model, told.text) == ("chat.completion", MODEL, words.partition(": ")[2])
        assert told.usage is not None
        assert told.usage.total == told.usage.prompt + told.usage.completion
        assert told.choices[0].finish_reason == "stop"
        stream = await http.post(CHAT, json=asking(words, stream=True, stream_options={"include_usage": True}))
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        seen = openai.streamed(sse.events(stream.content))
        assert (seen.text, seen.usage, seen.done, seen.faults) == (told.text, told.usage, True, ())
        assert seen.pieces > 5
        assert seen.ids[0] != told.id


async def test_an_answer_is_cut_at_the_number_of_tokens_that_is_asked_for(fleet: Fleet) -> None:
    async with client(fleet) as http:
        for more, reason in (({}, "length"), ({"ignore_eos": True}, "length")):
            found = openai.completion((await http.post(CHAT, json=asking("Hello", max_tokens=7, **more))).json())
            assert isinstance(found, Completion)
            assert (found.choices[0].finish_reason, found.tokens) == (reason, 7)
        body = {"model": MODEL, "prompt": "Repeat exactly: ja", "max_tokens": 9}
        text = await http.post("/v1/completions", json=body)
        found = openai.completion(text.json())
        assert isinstance(found, Completion)
        assert (found.object, found.text) == ("text_completion", "ja")


async def test_a_text_goes_through_the_tokenizer_and_back(fleet: Fleet) -> None:
    async with client(fleet) as http:
        text = "Z\u0351\u036b a\u200bb\x01\x1f \U00020000 ```"
        there = (await http.post("/tokenize", json={"model": MODEL, "prompt": text})).json()
        assert there["count"] == len(there["tokens"])
        assert there["max_model_len"] == MAX_MODEL_LEN
        back = await http.post("/detokenize", json={"model": MODEL, "tokens": there["tokens"]})
        assert back.json() == {"prompt": text}
        whole = openai.completion((await http.post(CHAT, json=asking(text, max_tokens=1))).json())
        assert isinstance(whole, Completion)
        assert whole.usage is not None
        assert 0 < whole.usage.prompt - there["count"] < 20


WRONG: Mapping[str, tuple[str, str, bytes, int, str]] = {
    "malformed": ("POST", CHAT, b'{"model": "', 400, "JSON decode error"),
    "empty": ("POST", CHAT, b"", 400, "JSON decode error"),
    "no object": ("POST", CHAT, b"[]", 400, "valid object"),
    "nested": ("POST", CHAT, b'{"model":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "JSON decode error"),
    "no messages": ("POST", CHAT, json.dumps({"model": MODEL}).encode(), 400, "Field required"),
    "no message": ("POST", CHAT, json.dumps({"messages": []}).encode(), 400, "empty conversation"),
    "hot": ("POST", CHAT, json.dumps(asking("x", temperature="hot")).encode(), 400, "valid number"),
    "cold": ("POST", CHAT, json.dumps(asking("x", temperature=-1)).encode(), 400, "non-negative"),
    "negative": ("POST", CHAT, json.dumps(asking("x", max_tokens=-1)).encode(), 400, "at least 1"),
    "too many": ("POST", CHAT, json.dumps(asking("x", max_tokens=10**6)).encode(), 400, "max_model_len"),
    "no room": ("POST", CHAT, json.dumps(asking("x", max_tokens=MAX_MODEL_LEN)).encode(), 400, "max_model_len"),
    "too long": ("POST", CHAT, json.dumps(asking("a b " * 500_000)).encode(), 400, "maximum context length"),
    "options": ("POST", CHAT, json.dumps(asking("x", stream_options={})).encode(), 400, "stream=True"),
    "model": ("POST", CHAT, json.dumps({**asking("x"), "model": "nope"}).encode(), 404, "does not exist"),
    "path": ("POST", "/v1/nothing", b"{}", 404, "Not Found"),
    "method": ("GET", CHAT, b"", 405, "Method Not Allowed"),
    "large": ("POST", CHAT, b" " * (10 * 1024 * 1024 + 1), 413, "larger than 10 MiB"),
    "tokens": ("POST", "/detokenize", b'{"tokens": [1, -2]}', 400, "list of tokens"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_wrong_requests_are_refused_in_the_shapes_of_vllm(fleet: Fleet, name: str) -> None:
    method, path, body, status, words = WRONG[name]
    async with client(fleet) as http:
        found = await http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        error = openai.error(found.json())
        assert found.status_code == status
        assert error is not None
        assert words in error.message
        assert (await http.get("/health")).status_code == 200


async def test_another_content_type_is_refused(fleet: Fleet) -> None:
    async with client(fleet) as http:
        found = await http.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"})
        assert (found.status_code, "Unsupported Media Type" in found.text) == (400, True)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer x", 401),
        ("Basic {key}", 401),
        ("Bearer {old}", 401),
        ("Bearer {key}", 200),
    ],
)
@pytest.mark.parametrize("door", ["api", "backend"])
async def test_only_the_key_opens(fleet: Fleet, header: str | None, status: int, door: str) -> None:
    sent = {} if header is None else {"Authorization": header.format(key=fleet.keys.api, old=fleet.keys.revoked)}
    base = fleet.api_url if door == "api" else fleet.backends[0]
    async with httpx.AsyncClient(base_url=base, headers=sent) as http:
        found = await http.get("/v1/models")
        assert found.status_code == status
        assert ("www-authenticate" in found.headers) == (status == 401)
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/metrics")).status_code == (404 if door == "api" else 200)


# --- the engine behind it -----------------------------------------------------------------


async def test_a_request_is_in_the_metrics_while_it_runs_and_after(fleet: Fleet) -> None:
    serving = fleet._serving
    assert serving is not None
    [copy] = [copy for copy in serving.life.copies if copy.host.name == "gpu-02"]
    async with client(fleet, base=fleet.backends[1]) as http:
        assert copy.engine is not None
        before, ended = copy.engine.generation_tokens, sum(copy.engine.finished.values())
        async with http.stream("POST", CHAT, json=asking("Count upwards.", max_tokens=200, stream=True)) as answer:
            async for _ in answer.aiter_raw():
                break
            assert len(copy.engine.guests) == 1
            assert await running(http, fleet.backends[1]) == copy.engine.running + 1
        # The stream was left: what it worked for is over, and counted.
        async with asyncio.timeout(PATIENCE):
            while copy.engine.guests:
                await http.get("/health")
        assert copy.engine.generation_tokens > before
        assert sum(copy.engine.finished.values()) > ended


def test_permits_come_back_with_time() -> None:
    now = 0.0
    bucket = Bucket(lambda: now)
    assert [bucket.take() for _ in range(101)] == [True] * 100 + [False]
    now += 0.034
    assert [bucket.take() for _ in range(2)] == [True, False]
    now += 1_000.0
    assert sum(bucket.take() for _ in range(200)) == 100


async def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    running_fleet = Fleet(cast(1), Keys.fresh())
    await asyncio.to_thread(running_fleet.start)
    try:
        async with client(running_fleet) as http:
            found = [await http.get("/v1/models") for _ in range(130)]
            limited = [each for each in found if each.status_code == 429]
            assert {each.status_code for each in found} == {200, 429}
            assert {each.headers["retry-after"] for each in limited} == {"1"}
            assert openai.error(limited[0].json()) is not None
            assert (await http.get("/health")).status_code == 200
    finally:
        await asyncio.to_thread(running_fleet.stop)


async def test_a_replica_that_dies_breaks_its_streams_off_and_the_others_go_on() -> None:
    running_fleet = Fleet(cast(2), Keys.fresh())
    await asyncio.to_thread(running_fleet.start)
    try:
        async with client(running_fleet, base=running_fleet.backends[1]) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                async with http.stream("POST", CHAT, json=asking("Count.", max_tokens=2_000, stream=True)) as answer:
                    async for _ in answer.aiter_raw():
                        if not running_fleet.down():
                            await asyncio.to_thread(running_fleet.kill, "gpu-02")
        async with client(running_fleet) as http:
            for _ in range(3):
                assert (await http.post(CHAT, json=asking("Hello", max_tokens=1))).status_code == 200
            await asyncio.to_thread(running_fleet.kill, "gpu-01")
            assert (await http.get("/health")).status_code == 502
    finally:
        await asyncio.to_thread(running_fleet.stop)
