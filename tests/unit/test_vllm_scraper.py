"""The scraper against real HTTP servers on loopback, well-behaved ones and others."""

from __future__ import annotations

import asyncio
import errno
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from dstui.gather import vllm
from dstui.gather.causes import not_connected
from dstui.gather.vllm import Endpoint, Scraper, node_endpoints, replica_endpoints
from dstui.telemetry.record import Record, RecordKind, encode
from dstui.telemetry.vllm_records import sample_of

PAGES = Path(__file__).parent.parent / "data" / "vllm"
LOAD = (PAGES / "metrics_during_load.txt").read_bytes()
NODE = (PAGES / "ray_node_without_vllm.txt").read_bytes()
PATIENCE = 10.0

Say = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body


@asynccontextmanager
async def serving(say: Say) -> AsyncIterator[str]:
    """A server that hands each request's head to `say`; gives its base URL."""
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await say(await reader.readuntil(b"\r\n\r\n"), writer)
        writer.close()
        talking.discard(task)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


def always(answer: bytes) -> Say:
    async def say(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return say


async def look(answer: bytes, **how: str) -> Record:
    async with serving(always(answer)) as url:
        endpoint = Endpoint("gpu-01", f"{url}/metrics", headers=how)
        async with Scraper([endpoint], clock=lambda: 7.0) as scraper:
            (record,) = await scraper.once()
    assert record.at == 7.0
    assert record.source == "vllm:gpu-01"
    return record


async def test_a_replica_gives_a_sample() -> None:
    record = await look(response(LOAD, "200 OK", "Content-Type: text/plain; version=1.0.0; charset=utf-8"))
    assert record.kind is RecordKind.SAMPLE
    sample = sample_of(record)
    assert sample.at == 7.0
    assert sample.engines[0].model == "deepseek-tiny"


def with_health(answer: bytes | None) -> Say:
    """vLLM's page, and what `/health` answers beside it; None: nothing until the time is up."""

    async def say(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET /metrics "):
            writer.write(response(LOAD))
        elif answer is not None:
            assert head.startswith(b"GET /health ")
            writer.write(answer)
        else:
            await asyncio.Event().wait()
        await writer.drain()

    return say


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "401 Unauthorized", "405 Method Not Allowed"])
async def test_a_server_that_says_nothing_of_its_health_is_taken_for_well(status: str) -> None:
    async with serving(with_health(response(b"{}", status))) as url, Scraper(replica_endpoints([url])) as scraper:
        (record,) = await scraper.once()
    assert record.kind is RecordKind.SAMPLE


@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        (response(b"", "503 Service Unavailable"), "unreachable", "/health says HTTP 503"),
        (response(b"", "500 Internal Server Error"), "unreachable", "/health says HTTP 500"),
        (b"", "cannot-tell", "/health: Server disconnected"),
        (None, "timeout", "/health did not answer within 0.2 s"),
    ],
)
async def test_a_page_beside_a_dead_engine_is_not_current(answer: bytes | None, reason: str, says: str) -> None:
    """As vLLM 0.32 does for seconds after its engine was killed: 12 requests run for ever, says the page."""
    async with serving(with_health(answer)) as url, Scraper(replica_endpoints([url]), timeout=0.2) as scraper:
        (record,) = await scraper.once()
    assert record.kind is RecordKind.LOST
    assert record.data["reason"] == reason
    assert says in str(record.data["why"])
    assert ("/health" in str(record.data["zh"])) is (reason == "unreachable")


async def test_openmetrics_is_read_as_such() -> None:
    body = b'vllm:num_requests_running{engine="0",model_name="m"} 3.0 1.5\n# EOF\n'
    record = await look(response(body, "200 OK", "Content-Type: application/openmetrics-text; version=1.0.0"))
    assert sample_of(record).as_of == 1.5


@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        (response(b"{}", "401 Unauthorized"), "no-credential", "asks for a credential"),
        (response(b"{}", "403 Forbidden"), "no-credential", "HTTP 403"),
        (response(b'{"detail":"Not Found"}', "404 Not Found"), "cannot-tell", "HTTP 404"),
        (response(b"", "503 Service Unavailable"), "cannot-tell", "HTTP 503"),
        (response(b"", "302 Found", "Location: http://127.0.0.1:1/metrics"), "cannot-tell", "HTTP 302"),
        (response((PAGES / "page.html").read_bytes()), "parse-error", "no page of metrics"),
        (response(b""), "parse-error", "empty"),
        (response(LOAD[:-30]), "parse-error", "cut off"),
        (response(LOAD, length=len(LOAD) + 10), "cannot-tell", "/metrics"),
        (response(b"\xff\xfe\x00\x1b[2J"), "parse-error", "no page of metrics"),
        (response(gzip.compress(LOAD, mtime=0), "200 OK", "Content-Encoding: gzip"), "parse-error", "compressed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot-tell", "/metrics"),
        (b"", "cannot-tell", "/metrics"),
    ],
)
async def test_what_gives_no_values_is_lost_and_says_why(answer: bytes, reason: str, says: str) -> None:
    record = await look(answer)
    assert record.kind is RecordKind.LOST
    assert record.data["reason"] == reason
    assert says in str(record.data["why"])
    assert record.data["zh"]
    assert "\x1b" not in encode(record)


async def test_nobody_listens() -> None:
    async with serving(always(b"")) as url:
        pass
    async with Scraper([Endpoint("gpu-01", f"{url}/metrics")]) as scraper:
        (record,) = await scraper.once()
    assert record.data["reason"] == "unreachable"
    assert record.data["why"] == f"{url}/metrics: connection refused: nothing listens there"


@pytest.mark.parametrize(
    ("behind", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name does not resolve here"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "TLS failed: "),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no route to it"),
        (ExceptionGroup("several", [OSError(errno.ECONNREFUSED, "refused")]), "connection refused"),
        (ValueError("odd"), "All connection attempts failed"),
    ],
)
def test_what_stands_behind_a_failed_connection(behind: Exception, says: str) -> None:
    outer = httpx.ConnectError("All connection attempts failed")
    outer.__cause__ = OSError("All connection attempts failed")
    outer.__cause__.__cause__ = behind
    assert not_connected(outer).startswith(says)


async def test_a_page_that_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "BODY_LIMIT", 50_000)
    record = await look(response(LOAD))
    assert record.data["reason"] == "parse-error"
    assert "more than" in str(record.data["why"])


async def test_a_page_that_drips_runs_out_of_time() -> None:
    async def drip(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"", length=10_000_000))
        while True:
            writer.write(b"#")
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(drip) as url, Scraper([Endpoint("gpu-01", f"{url}/metrics")], timeout=0.2) as scraper:
        (record,) = await scraper.once()
    assert record.data["reason"] == "timeout"


async def test_a_secret_is_sent_and_never_shown() -> None:
    heads: list[bytes] = []

    async def refuse(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(response(b"", "403 Forbidden"))

    async with serving(refuse) as url:
        (endpoint,) = node_endpoints(
            [("gpu-01", url.replace("//", "//ops:hunter22@"))], {"Authorization": "Bearer s3cret"}
        )
        async with Scraper([endpoint]) as scraper:
            (record,) = await scraper.once()
    assert b"Bearer s3cret" in heads[0]
    assert record.data["reason"] == "permission"
    for shown in (encode(record), repr(endpoint)):
        assert "s3cret" not in shown
    assert "hunter22" not in encode(record)


@pytest.mark.parametrize("token", ["s3cret\n", "s3crét", "s3cret\x00"])
async def test_a_secret_that_cannot_be_sent_is_not_quoted(token: str) -> None:
    record = await look(response(LOAD), Authorization=f"Bearer {token}")
    assert record.data["reason"] == "no-credential"
    assert "s3cr" not in encode(record)


def test_endpoints_of_the_inventory() -> None:
    found = replica_endpoints(
        ["http://10.0.0.1:8000", "http://10.0.0.2:8000/v1", "http://10.0.0.2:8001/", "https://[fd00::1]/x"],
        {"10.0.0.1": "gpu-01", "10.0.0.2": "gpu-02"},
    )
    assert [(each.name, each.url) for each in found] == [
        ("gpu-01", "http://10.0.0.1:8000/metrics"),
        ("gpu-02:8000", "http://10.0.0.2:8000/metrics"),
        ("gpu-02:8001", "http://10.0.0.2:8001/metrics"),
        ("fd00::1", "https://[fd00::1]:443/metrics"),
    ]
    assert not any(each.node_page for each in found)
    assert [each.health for each in found][::3] == ["http://10.0.0.1:8000/health", "https://[fd00::1]:443/health"]
    (one,) = replica_endpoints(["http://a:8000", "http://a:8000/v1"])
    assert one == Endpoint("a", "http://a:8000/metrics", health="http://a:8000/health")


def ray_replica(name: str) -> bytes:
    labels = f'ReplicaId="{name}",WorkerId="{name}",engine="0",model_name="m"'
    return f"ray_vllm_num_requests_running{{{labels}}} 3.0\n".encode()


async def test_replicas_of_a_ray_node_come_and_go_and_are_lost_with_it() -> None:
    answers = [
        response(NODE + ray_replica("aaa") + ray_replica("bbb")),
        response(NODE + ray_replica("aaa")),
        response(b"", "500 Internal Server Error"),
        response(NODE),
    ]

    async def next_answer(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    times = [1.0, 2.0, 3.0, 61.5]
    looks = []
    async with serving(next_answer) as url:
        nodes = node_endpoints([("gpu-07", f"{url}/metrics")])
        async with Scraper(nodes, clock=lambda: times.pop(0)) as scraper:
            while times:
                found = await scraper.once()
                looks.append({record.source: record.kind.value for record in found})
    names = ("vllm:gpu-07", "vllm:gpu-07/aaa", "vllm:gpu-07/bbb")
    assert looks[0] == dict.fromkeys(names, "sample")
    assert looks[1] == dict(zip(names, ("sample", "sample", "lost"), strict=True))
    assert looks[2] == dict.fromkeys(names, "lost")
    # bbb left more than a minute ago and is no longer spoken of.
    assert looks[3] == {"vllm:gpu-07": "sample", "vllm:gpu-07/aaa": "lost"}


async def heard(records: asyncio.Queue[Record], source: str, kind: RecordKind) -> Record:
    async with asyncio.timeout(PATIENCE):
        while True:
            record = await records.get()
            if (record.source, record.kind) == (source, kind):
                return record


def readers() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if "_keep_looking" in repr(task)}


async def test_a_slow_endpoint_holds_up_no_other_and_endpoints_can_be_exchanged() -> None:
    async def hang(_head: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    records: asyncio.Queue[Record] = asyncio.Queue()
    async with serving(hang) as slow, serving(always(response(LOAD))) as quick:
        good, bad = Endpoint("good", f"{quick}/metrics"), Endpoint("bad", f"{slow}/metrics")
        async with Scraper([bad, good], timeout=PATIENCE) as scraper:
            task = asyncio.create_task(scraper.run(records.put_nowait, interval=0.01))
            for _ in range(3):
                await heard(records, "vllm:good", RecordKind.SAMPLE)
            scraper.endpoints = (Endpoint("other", f"{quick}/metrics"),)
            await heard(records, "vllm:other", RecordKind.SAMPLE)
            scraper.endpoints = ()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(readers())
            scraper.endpoints = (good,)
            await heard(records, "vllm:good", RecordKind.SAMPLE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert readers() == set()


async def test_a_loss_is_told_each_time_it_is_seen() -> None:
    records: asyncio.Queue[Record] = asyncio.Queue()
    async with serving(always(response(b"", "503 Service Unavailable"))) as url:
        endpoint = Endpoint("gpu-01", f"{url}/metrics")
        async with Scraper([endpoint]) as scraper:
            task = asyncio.create_task(scraper.run(records.put_nowait, interval=0.01))
            for _ in range(3):
                await heard(records, "vllm:gpu-01", RecordKind.LOST)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_fault_of_the_caller_ends_the_run_with_it() -> None:
    def refuse(_record: Record) -> None:
        raise LookupError("nobody takes records")

    async with serving(always(response(LOAD))) as url, Scraper([Endpoint("gpu-01", f"{url}/metrics")]) as scraper:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LookupError):
                await scraper.run(refuse, interval=0.01)


async def test_the_client_is_the_callers_when_it_gives_one() -> None:
    async with serving(always(response(LOAD))) as url, httpx.AsyncClient(trust_env=False) as client:
        scraper = Scraper([Endpoint("gpu-01", f"{url}/metrics")], client=client)
        (record,) = await scraper.once()
        assert record.kind is RecordKind.SAMPLE
