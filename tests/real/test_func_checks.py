"""func.* against a real vLLM: as it is, with a key that is wrong, through a gateway that spoils answers, and dying."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reallab.cluster import Lab
from reallab.operator import Found, Operator, Outcome
from reallab.vllm_server import MODEL, VllmServer

pytestmark = pytest.mark.real

KEY = "key-of-the-lab"
CHECKS = ("func.basic-inference", "func.long-text", "func.multilingual", "func.concurrent", "func.error-handling")
Spoil = Callable[[bytes, bytes], bytes]
"""Makes another answer of a request and its answer."""


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[VllmServer]:
    with VllmServer(lab.hosts["gpu-01"], lab.folder, api_key=KEY) as running:
        yield running


def inventory(lab: Lab, api: str, backend: str, *, key: str = KEY) -> Path:
    held = lab.folder / "api.key"
    held.unlink(missing_ok=True)
    held.touch(0o600)
    held.write_text(key)
    return lab.inventory(
        "func",
        model={"path": "/models/deepseek-tiny", "served_name": MODEL},
        serving={"mode": "vllm"},
        endpoints={"api": api, "backends": [backend]},
        auth={"key_ref": f"file:{held}"},
    )


def found(outcome: Outcome, check: str) -> Found:
    (only,) = (each for each in outcome if each.check == check)
    return only


@pytest.fixture(scope="module")
def well(lab: Lab, operator: Operator, server: VllmServer) -> Outcome:
    return operator.run(*CHECKS, inventory=inventory(lab, server.url, server.url))


@pytest.mark.parametrize("check", CHECKS)
def test_a_real_vllm_is_well(well: Outcome, check: str) -> None:
    # The tiny model repeats nothing and writes half characters: what weighs that is a warning, never a failure.
    allowed = {"warn"} if check in ("func.multilingual", "func.concurrent") else {"pass", "warn"}
    only = found(well, check)
    assert only.verdict in allowed, only.words
    assert KEY not in json.dumps(well.report)


def test_what_a_real_vllm_refuses(well: Outcome) -> None:
    words = found(well, "func.error-handling").words
    # vLLM itself has no limit of bodies: 12 MiB are read, and then found too long. A balancer in front would say 413.
    assert "13 of 14 wrong requests refused properly" in words, words
    assert "big-body: HTTP 400" in words


def test_the_limit_is_the_servers_own(well: Outcome) -> None:
    words = found(well, "func.long-text").words
    assert "/v1/models" in words
    assert "HTTP 400" in words


def test_a_key_that_is_refused_is_a_failure(lab: Lab, operator: Operator, server: VllmServer) -> None:
    outcome = operator.run(*CHECKS[:1], inventory=inventory(lab, server.url, server.url, key="not-the-key"))
    only = found(outcome, CHECKS[0])
    assert only.verdict == "fail"
    assert "HTTP 401" in only.words


@contextmanager
def gateway(server: VllmServer, spoil: Spoil) -> Iterator[str]:
    """A gateway on the controller that passes whole requests on and spoils what comes back. Gives its URL."""
    backend = urlsplit(server.url)
    loop = asyncio.new_event_loop()
    started: list[asyncio.Server] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            body = await reader.readexactly(length)
            there, back = await asyncio.open_connection(backend.hostname, backend.port)
            back.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
            answer = await there.read()
            back.close()
            writer.write(spoil(head + body, answer))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def begin() -> None:
        started.append(await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24))

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{started[0].sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(started[0].close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def caching() -> Spoil:
    """Answers every plain completion with what the first one asked for, as a cache with a bad key does."""
    kept: list[str] = []

    def spoil(request: bytes, answer: bytes) -> bytes:
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"zq" not in request or b"application/json" not in head:
            return answer
        kept.append("zq" + request.partition(b"zq")[2][:10].decode())
        said = json.loads(body)
        said["choices"][0]["message"]["content"] = kept[0]
        other = json.dumps(said).encode()
        return b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(other) + other

    return spoil


def test_a_cache_that_mixes_users_up(lab: Lab, operator: Operator, server: VllmServer) -> None:
    with gateway(server, caching()) as url:
        outcome = operator.run("func.concurrent", inventory=inventory(lab, url, server.url))
    only = found(outcome, "func.concurrent")
    assert only.verdict == "fail", only.words
    assert "stop the traffic" in only.words


def test_a_gateway_that_cuts_streams(lab: Lab, operator: Operator, server: VllmServer) -> None:
    with gateway(server, lambda request, answer: answer.replace(b"data: [DONE]\n\n", b"")) as url:
        outcome = operator.run("func.basic-inference", inventory=inventory(lab, url, server.url))
    only = found(outcome, "func.basic-inference")
    assert only.verdict == "fail", only.words


def test_a_gateway_that_shows_its_inside(lab: Lab, operator: Operator, server: VllmServer) -> None:
    said = b'Traceback (most recent call last):\n  File "x"\n'
    trace = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said)
    spoil: Spoil = lambda request, answer: trace if b'"hot"' in request else answer  # noqa: E731
    with gateway(server, spoil) as url:
        outcome = operator.run("func.error-handling", inventory=inventory(lab, url, server.url))
    only = found(outcome, "func.error-handling")
    assert only.verdict == "fail", only.words
    assert "Traceback" in only.words


def test_an_api_that_is_not_there(lab: Lab, operator: Operator, server: VllmServer) -> None:
    closed = f"http://{server.host.address}:8999"
    outcome = operator.run(*CHECKS, inventory=inventory(lab, closed, closed))
    assert {each.check: each.verdict for each in outcome} == dict.fromkeys(CHECKS, "unknown")


def test_an_engine_that_dies(lab: Lab, operator: Operator, server: VllmServer) -> None:
    """Last: the server is gone afterwards."""
    server.stop()
    outcome = operator.run(*CHECKS[:1], inventory=inventory(lab, server.url, server.url))
    only = found(outcome, CHECKS[0])
    assert only.verdict in ("unknown", "fail")
    assert only.verdict != "pass"
