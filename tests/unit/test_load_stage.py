"""A stage against servers of every sort: every request is counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from test_observe_lb_tls import issue

from dstui.load.agent.histogram import histogram_of
from dstui.load.agent.spec import Spec, spec_of
from dstui.load.agent.stage import Stage

KEY = "sk-ladder-0001"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(data: object) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


TEXT = chunk(event({"choices": [{"index": 0, "delta": {"content": "hi"}}]}))
END = chunk(event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}) + event("[DONE]"))
WHOLE = HEAD + TEXT + TEXT + TEXT + END + b"0\r\n\r\n"
PLAIN = "HTTP/1.1 {} X\r\nContent-Length: 4\r\n\r\n{}"


def refusing(status: int) -> bytes:
    return PLAIN.format(status, KEY[:4]).encode()


Answering = Callable[[int], bytes | float]
"""Number of the request → what to send; a float: seconds of silence, then nothing. Empty: hang up."""


@asynccontextmanager
async def server(
    answering: Answering, bodies: list[dict[str, object]] | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    count = 0
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        writers.add(writer)
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-l"))
                body = await reader.readexactly(length)
                if bodies is not None:
                    bodies.append(json.loads(body))
                count += 1
                told = answering(count)
                if isinstance(told, float):
                    await asyncio.sleep(told)
                    break
                if not told:
                    break
                writer.write(told)
                if not told.endswith((b"0\r\n\r\n", KEY[:4].encode())):
                    break
                await asyncio.sleep(0.002)
        writer.close()
        writers.discard(writer)

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        for writer in list(writers):
            writer.transport.abort()


def spec(port: int, **changed: object) -> Spec:
    usual = Spec(
        host="127.0.0.1", port=port, path="/v1/chat/completions", model="m", users=(0, 1, 2), all_users=3, key=KEY,
        ramp=0.05, warm=0.05, window=0.3, drain=0.2, timeout=5.0, tokens_in=8, tokens_out=3, tick=0.1,
    )  # fmt: skip
    return replace(usual, **changed)  # type: ignore[arg-type]


async def made(spec_: Spec, *, stop_after: float | None = None) -> Mapping[str, object]:
    stage = Stage(spec_, lambda told: None)
    if stop_after is not None:
        asyncio.get_running_loop().call_later(stop_after, stage.stop)
    return await stage.run()


def counts(told: Mapping[str, object]) -> dict[str, object]:
    return cast("dict[str, object]", told["counts"])


def number(told: Mapping[str, object], name: str) -> int:
    return cast("int", counts(told)[name])


def errors(told: Mapping[str, object]) -> dict[str, int]:
    return cast("dict[str, int]", counts(told)["errors"])


def adds_up(told: Mapping[str, object]) -> bool:
    parts = sum(number(told, name) for name in ("ok", "shed", "aborted", "outside")) + sum(errors(told).values())
    return parts == number(told, "begun")


async def test_a_server_that_is_well() -> None:
    bodies: list[dict[str, object]] = []
    async with server(lambda _: WHOLE, bodies) as port:
        told = await made(spec(port))
    assert adds_up(told) and number(told, "ok") > 3 and not errors(told)
    assert number(told, "outside") >= 1, "the ramp and what was warmed up with"
    times = cast("dict[str, object]", told["times"])
    assert histogram_of(times["ttft"]).whole == number(told, "ok")
    assert histogram_of(times["itl"]).whole == 2 * number(told, "ok")
    assert told["tokens_out"] == 3 * number(told, "ok") and told["unmetered"] == 0
    assert len({json.dumps(body["messages"]) for body in bodies}) == len(bodies), "no two prompts are the same"
    assert {body["max_tokens"] for body in bodies} == {3} and all(body["ignore_eos"] for body in bodies)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusing(500), "http-500"),
        (refusing(400), "http-400"),
        (b"", "broke-off"),
        (HEAD + TEXT, "broke-off"),
        (HEAD + TEXT + b"0\r\n\r\n", "cut"),
        (b"nonsense\r\n\r\n", "garbled"),
    ],
)
async def test_a_server_that_is_sick_in_one_way(answer: bytes, kind: str) -> None:
    async with server(lambda _: answer) as port:
        told = await made(spec(port))
    assert adds_up(told) and number(told, "ok") == 0
    assert set(errors(told)) <= {kind}
    assert number(told, "outside_errors") + sum(errors(told).values()) >= 1
    assert KEY not in json.dumps(told)


async def test_what_is_shed_is_counted_apart() -> None:
    async with server(lambda n: refusing(429 if n % 2 else 503)) as port:
        told = await made(spec(port))
    assert adds_up(told) and not errors(told) and number(told, "shed") + number(told, "outside") >= 1
    # Whose doing it is may stand in the answer; what was sent never does.
    assert list(cast("dict[str, str]", told["samples"])) == ["shed"]


async def test_one_in_four_goes_wrong() -> None:
    async with server(lambda n: HEAD + TEXT if n % 4 == 0 else WHOLE) as port:
        told = await made(spec(port, window=2.5))
    assert adds_up(told) and number(told, "ok") > 0 and set(errors(told)) == {"broke-off"}


async def test_answers_that_never_come_are_cut_off_after_the_drain() -> None:
    async with server(lambda _: 60.0) as port:
        told = await made(spec(port))
    assert adds_up(told)
    # They began before the window, so they say nothing of it.
    assert number(told, "aborted") + number(told, "outside") == 3 and number(told, "ok") == 0


async def test_a_time_limit() -> None:
    async with server(lambda _: 60.0) as port:
        told = await made(spec(port, timeout=0.1, window=2.0))
    assert adds_up(told) and set(errors(told)) == {"timeout"}


async def test_tls_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    authority = issue("Root", ca=True)
    host = issue("localhost", authority)
    held = tmp_path / "host.pem"
    held.write_bytes(host.pem + host.key_pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(held)
    async with server(lambda _: WHOLE, tls=tls) as port:
        known = await made(spec(port, tls=True, ca=authority.pem.decode()))
        stranger = await made(spec(port, tls=True))
        other = await made(spec(port, tls=True, host="127.0.0.2", ca=authority.pem.decode()))
    assert adds_up(known) and number(known, "ok") > 3 and not errors(known)
    # Nothing is sent to whom nobody knows.
    assert adds_up(stranger) and number(stranger, "ok") == 0 and set(errors(stranger)) <= {"tls"}
    assert number(stranger, "outside_errors") + sum(errors(stranger).values()) > 0
    assert number(other, "ok") == 0


async def test_a_user_that_is_gone_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(talk: object) -> bytes:
        raise KeyError("prompt")

    monkeypatch.setattr("dstui.load.agent.prompts.Talk.body", broken)
    async with server(lambda _: WHOLE) as port:
        with pytest.raises(RuntimeError, match="a user ended: KeyError"):
            await made(spec(port))


async def test_nobody_there() -> None:
    async with server(lambda _: WHOLE) as port:
        pass
    told = await made(spec(port))
    assert adds_up(told) and number(told, "ok") == 0 and set(errors(told)) <= {"refused"}


async def test_a_server_that_dies_in_the_middle() -> None:
    async with server(lambda n: WHOLE if n < 300 else b"") as port:
        told = await made(spec(port, window=1.5))
    assert adds_up(told) and number(told, "ok") > 0 and errors(told)


async def test_stopped_early_everything_is_accounted_for() -> None:
    async with server(lambda _: WHOLE) as port:
        told = await made(spec(port, window=30.0), stop_after=0.4)
    assert adds_up(told) and number(told, "ok") > 0
    seconds = cast("float", told["seconds"])
    assert 0 < seconds < 29


async def test_stopped_before_the_window_nothing_counts() -> None:
    async with server(lambda _: WHOLE) as port:
        told = await made(spec(port, warm=30.0), stop_after=0.2)
    assert adds_up(told) and number(told, "ok") == 0 and told["seconds"] == 0


async def test_a_row_of_requests_warms_up_with_two() -> None:
    async with server(lambda _: WHOLE) as port:
        told = await made(spec(port, requests=5, users=(0,), all_users=1, window=20.0))
    assert adds_up(told) and (number(told, "ok"), number(told, "outside")) == (5, 2)


@pytest.mark.parametrize("poisson", [True, False])
async def test_an_open_loop_asks_whether_or_not_it_was_answered(poisson: bool) -> None:
    async with server(lambda _: WHOLE) as port:
        told = await made(spec(port, rate=60.0, poisson=poisson))
    times = cast("dict[str, object]", told["times"])
    assert adds_up(told) and number(told, "ok") > 3
    assert histogram_of(times["late"]).whole == number(told, "ok")


async def test_a_conversation_has_all_before_it() -> None:
    bodies: list[dict[str, object]] = []
    async with server(lambda _: WHOLE, bodies) as port:
        await made(spec(port, users=(0,), all_users=1, turns=3))
    roles = [[m["role"] for m in cast("list[dict[str, str]]", body["messages"])] for body in bodies[:4]]
    assert roles == [["user"], ["user", "assistant", "user"], ["user", "assistant"] * 2 + ["user"], ["user"]]
    said = cast("list[dict[str, str]]", bodies[1]["messages"])
    assert said[1]["content"] == "hihihi"


async def test_prompts_of_a_file() -> None:
    bodies: list[dict[str, object]] = []
    async with server(lambda _: WHOLE, bodies) as port:
        await made(spec(port, conversations=(("first", "second"),), fresh=False, users=(0,), all_users=1))
    said = [cast("list[dict[str, str]]", body["messages"])[-1]["content"] for body in bodies[:3]]
    assert said == ["first", "second", "first"]


def test_a_spec_travels_as_json_and_shows_no_key() -> None:
    sent = spec(8000, conversations=(("a", "b"),))
    assert spec_of(json.loads(json.dumps(sent.plain()))) == sent
    assert KEY not in repr(sent)
