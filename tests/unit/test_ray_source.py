"""The poller against a real HTTP server on loopback that behaves like Ray's dashboard, or badly."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dstui.gather import ray as ray_gather
from dstui.gather.ray import RaySource
from dstui.inventory.secrets import Secret, SecretStore
from dstui.model import GatherError, Reason
from dstui.redact import Redactor
from dstui.telemetry import ray
from dstui.telemetry.ray_answers import ENDPOINTS, Endpoint
from dstui.telemetry.record import RecordKind, encode

DATA = Path(__file__).parents[1] / "data" / "ray" / "before_kill"
TOKEN = "0123456789abcdef0123456789abcdef"
PATHS = {
    "/api/version": "version",
    "/api/authentication_mode": "authentication_mode",
    "/api/v0/nodes": "v0_nodes",
    "/api/serve/applications/": "serve_applications",
    "/api/cluster_status?format=1": "cluster_status_format1",
    "/api/cluster_status": "cluster_status",
    "/api/v0/placement_groups": "v0_placement_groups_detail",
    "/api/v0/actors": "v0_actors",
    "/api/jobs/": "jobs",
    "/nodes": "nodes_summary",
}
HEADERS = "Content-Type: application/json\r\nDate: Tue, 24 Nov 2026 04:08:53 GMT\r\n"


@dataclass
class Dashboard:
    """Answers by path; `odd` holds what is sent instead, raw, None for nothing at all; `asked` is what was wanted."""

    port: int = 0
    token: str | None = None
    asked: list[str] = field(default_factory=list)
    odd: dict[str, bytes | None] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        found = [path.split("?")[0] for path in self.asked]
        self.asked.clear()
        return found

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                target = lines[0].split(" ")[1]
                fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                self.asked.append(target)
                self.reached.set()
                self.tokens.add(fields.get("authorization", ""))
                reply = await self.reply(target, fields.get("authorization", ""))
                writer.write(reply)
                await writer.drain()
                if b"Connection: close" in reply:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def reply(self, target: str, given: str) -> bytes:
        path = target.split("?")[0]
        if path in self.odd:
            found = self.odd[path]
            if found is None:
                await self.hold.wait()
                return response(b"{}")
            return found
        if self.token is not None and path != "/api/authentication_mode" and given != f"bearer {self.token}":
            return (
                response(b"Unauthorized", "401 Unauthorized") if not given else response(b"Forbidden", "403 Forbidden")
            )
        name = PATHS.get(target, PATHS.get(path))
        return (
            response(b"404: Not Found", "404 Not Found")
            if name is None
            else response((DATA / f"{name}.json").read_bytes())
        )


def response(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{HEADERS}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
async def dashboard() -> AsyncIterator[Dashboard]:
    found = Dashboard()
    server = await asyncio.start_server(found.talk, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    found.hold.set()
    server.close()
    await server.wait_closed()


Make = Callable[..., RaySource]


@pytest.fixture
async def source(dashboard: Dashboard) -> AsyncIterator[Make]:
    made: list[RaySource] = []

    def make(url: str | None = None, **options: object) -> RaySource:
        made.append(RaySource(url or dashboard.url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def quick(seconds: float, *sections: str) -> tuple[Endpoint, ...]:
    return tuple(replace(each, timeout=seconds) if each.section in sections else each for each in ENDPOINTS)


async def test_a_poll_is_a_sample(source: Make) -> None:
    record = await source().poll()
    seen = ray.snapshot(record.data)
    assert (record.kind, record.source) == (RecordKind.SAMPLE, "ray")
    assert (seen.version, seen.auth, seen.head_time, seen.faults) == ("2.60.0", "disabled", 1795493333.0, ())
    assert seen.total is not None and seen.total.gpu == 16.0
    assert "PYTHONPATH" not in encode(record)


async def test_slow_changing_endpoints_are_not_asked_every_time(source: Make, dashboard: Dashboard) -> None:
    clock = Clock()
    poller = source(clock=clock)
    first = await poller.look()
    assert len(dashboard.paths()) == len(ENDPOINTS)
    clock.now += 2
    second = await poller.look()
    always = [each.path.split("?")[0] for each in ENDPOINTS if each.period == 0]
    assert sorted(dashboard.paths()) == sorted(always)
    assert second.jobs == first.jobs is not None
    assert (second.as_of["jobs"], second.as_of["nodes"]) == (1000.0, 1002.0)
    clock.now += 10
    await poller.look()
    assert "/api/jobs/" in dashboard.paths()
    clock.now -= 500
    await poller.look()
    assert "/api/jobs/" in dashboard.paths()


async def test_another_session_of_ray_leaves_nothing_kept(source: Make, dashboard: Dashboard) -> None:
    poller = source(clock=Clock())
    await poller.look()
    dashboard.paths()
    dashboard.odd["/api/version"] = response(b'{"ray_version": "2.61.0", "session_name": "session_2"}')
    seen = await poller.look()
    assert sorted(dashboard.paths()) == sorted(each.path.split("?")[0] for each in ENDPOINTS)
    assert (seen.version, seen.session) == ("2.61.0", "session_2")


async def test_without_the_token_it_says_so(source: Make, dashboard: Dashboard) -> None:
    dashboard.token = TOKEN
    poller = source()
    record = await poller.poll()
    seen = ray.snapshot(record.data)
    assert (record.kind, record.data["reason"]) == (RecordKind.LOST, "no-credential")
    assert record.data["why"] == "the dashboard wants a token: set ray.token_ref in the inventory"
    assert (seen.auth, seen.nodes, seen.total) == ("disabled", None, None)
    assert sorted(dashboard.paths()) == ["/api/authentication_mode", "/api/version"]


async def test_a_wrong_token_is_named_by_its_reference_and_asked_for_again(source: Make, dashboard: Dashboard) -> None:
    dashboard.token = TOKEN
    values = iter(["wrong-" + TOKEN, TOKEN])
    poller = source(token=lambda: Secret(next(values), "secrets.ray_token"))
    refused = await poller.poll()
    assert "the token of secrets.ray_token is wrong (HTTP 403)" in str(refused.data["why"])
    assert TOKEN not in encode(refused)
    taken = await poller.poll()
    assert taken.kind is RecordKind.SAMPLE
    assert dashboard.tokens == {f"bearer wrong-{TOKEN}", f"bearer {TOKEN}"}


@pytest.mark.parametrize("value", ["two words", "grün" + TOKEN, "line\nbreak"])
async def test_a_token_that_no_header_can_carry_is_not_quoted(source: Make, dashboard: Dashboard, value: str) -> None:
    dashboard.token = TOKEN
    record = await source(token=lambda: Secret(value, "secrets.ray_token")).poll()
    assert "secrets.ray_token is no token" in str(record.data["why"])
    assert value not in encode(record)


async def test_a_token_that_cannot_be_had(source: Make, dashboard: Dashboard) -> None:
    store = SecretStore(environ={})
    seen = await source(token=lambda: store.resolve("env:RAY_TOKEN")).look()
    assert seen.lost is None
    dashboard.token = TOKEN
    seen = await source(token=lambda: store.resolve("env:RAY_TOKEN")).look()
    assert seen.lost is not None
    assert "there is none: env:RAY_TOKEN: the variable is not set" in seen.lost.why.en


async def test_a_dashboard_that_quotes_the_token(source: Make, dashboard: Dashboard) -> None:
    dashboard.token = TOKEN
    dashboard.odd["/api/jobs/"] = response(f"no: {TOKEN}".encode(), "500 Oops")
    seen = await source(token=lambda: Secret(TOKEN, "secrets.ray_token"), redact=Redactor().text).look()
    (fault,) = seen.faults
    assert fault.why.en == "it answered HTTP 500: no: ‹secrets.ray_token›"


@pytest.mark.parametrize(
    ("path", "sent", "reason", "words"),
    [
        (
            "/api/v0/actors",
            response(b"500 Internal Server Error", "500 Oops"),
            Reason.CANNOT_TELL,
            "HTTP 500: 500 Internal",
        ),
        ("/api/v0/actors", response(b"404: Not Found", "404 Not Found"), Reason.TOOL_MISSING, "HTTP 404"),
        ("/api/v0/actors", response(b"<html>"), Reason.PARSE_ERROR, "web page"),
        (
            "/api/v0/actors",
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{",
            Reason.UNREACHABLE,
            "closed the connection",
        ),
        (
            "/api/v0/actors",
            b"SSH-2.0-OpenSSH_9.2\r\nConnection: close\r\n\r\n",
            Reason.UNREACHABLE,
            "is it an HTTP server?",
        ),
        (
            "/api/v0/actors",
            response(gzip.compress(b"[" + b" " * 10_000_000 + b"]", mtime=0), more="Content-Encoding: gzip\r\n"),
            Reason.PARSE_ERROR,
            "not JSON",
        ),
        (
            "/api/v0/actors",
            response(b"", "302 Found", "Location: http://192.0.2.1/\r\n"),
            Reason.CANNOT_TELL,
            "redirects",
        ),
    ],
)
async def test_one_failing_endpoint_keeps_the_rest(
    source: Make, dashboard: Dashboard, path: str, sent: bytes, reason: Reason, words: str
) -> None:
    dashboard.odd[path] = sent
    seen = await source().look()
    (fault,) = seen.faults
    assert (fault.section, fault.reason) == ("actors", reason)
    assert words in fault.why.en
    assert fault.endpoint.startswith(path)
    assert seen.actors is None
    assert seen.nodes is not None and seen.serve is not None


async def test_an_endpoint_that_hangs_does_not_hold_up_the_others(
    source: Make, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_gather, "PATIENCE_SECONDS", 0.2)
    dashboard.odd["/api/serve/applications/"] = None
    poller = source()
    seen = await poller.look()
    (fault,) = seen.faults
    assert (fault.section, fault.reason) == ("serve", Reason.TIMEOUT)
    assert "still waited for" in fault.why.en
    assert seen.nodes is not None
    del dashboard.odd["/api/serve/applications/"]
    await poller.look()
    assert dashboard.asked.count("/api/serve/applications/") == 1
    dashboard.hold.set()
    monkeypatch.setattr(ray_gather, "PATIENCE_SECONDS", 5.0)
    await poller.look()
    assert (await poller.look()).faults == ()


async def test_an_endpoint_is_given_up_after_its_own_time(source: Make, dashboard: Dashboard) -> None:
    dashboard.odd["/api/jobs/"] = None
    seen = await source(endpoints=quick(0.1, "jobs")).look()
    (fault,) = seen.faults
    assert fault.why.en == f"127.0.0.1:{dashboard.port} did not answer within 0.1 s"


async def test_a_dashboard_that_trickles_is_given_up_too(source: Make, dashboard: Dashboard) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        seen = await source(url, endpoints=quick(0.2, "version", "auth")).look()
        assert seen.lost is not None and seen.lost.reason is Reason.TIMEOUT
    finally:
        server.close()


async def test_an_answer_that_is_too_big_is_not_read_and_not_asked_for_at_once(
    source: Make, dashboard: Dashboard
) -> None:
    clock = Clock()
    dashboard.odd["/nodes"] = response(b"[" + b" " * (2 * 1024 * 1024) + b"]")
    smaller = tuple(replace(each, limit=1024 * 1024) if each.section == "reports" else each for each in ENDPOINTS)
    poller = source(clock=clock, endpoints=smaller)
    for wait in (0, 20, 39):
        clock.now += wait
        seen = await poller.look()
        assert [(fault.section, fault.reason) for fault in seen.faults] == [("reports", Reason.BUDGET)]
        assert seen.faults[0].why.en.startswith("its answer is larger than 1 MiB and is not read: node host names")
    assert dashboard.paths().count("/nodes") == 1
    clock.now += 2
    await poller.look()
    assert dashboard.paths().count("/nodes") == 1


def of_nodes(count: int) -> bytes:
    """A summary of so many nodes, made from a real row of 15 kB."""
    document = json.loads((DATA / "nodes_summary.json").read_bytes())
    row = document["data"]["summary"][0]
    row["workers"] = [{"cmdline": ["ray::IDLE"], "pid": 1, "filler": "x" * 12_000}]
    document["data"]["summary"] = [
        {**row, "raylet": {**row["raylet"], "nodeId": f"{number:056x}"}} for number in range(count)
    ]
    return json.dumps(document).encode()


async def test_the_summary_of_a_thousand_nodes_is_read_and_asked_for_less_often(
    source: Make, dashboard: Dashboard
) -> None:
    clock = Clock()
    body = of_nodes(1000)
    assert len(body) > 12 * 1024 * 1024
    dashboard.odd["/nodes"] = response(body)
    dashboard.odd["/api/v0/nodes"] = response(b"boom", "500 Internal Server Error")
    poller = source(clock=clock)
    for _ in range(10):
        seen = await poller.look()
        if seen.nodes is not None:
            break
    assert seen.nodes is not None and len(seen.nodes) == 1000
    assert seen.faults[0].section == "nodes" and seen.faults[0].partial
    dashboard.asked.clear()
    period = len(body) / ray_gather.BYTES_PER_SECOND
    clock.now += period - 1
    await poller.look()
    assert "/nodes?view=summary" not in dashboard.asked
    clock.now += 2
    await poller.look()
    assert "/nodes?view=summary" in dashboard.asked


async def test_the_summary_is_asked_for_at_every_look_while_it_stands_in(source: Make, dashboard: Dashboard) -> None:
    clock = Clock()
    dashboard.odd["/api/v0/nodes"] = response(b"boom", "500 Internal Server Error")
    poller = source(clock=clock)
    for _ in range(3):
        seen = await poller.look()
        assert seen.nodes is not None and len(seen.nodes) == 3
        clock.now += 2
    assert dashboard.paths().count("/nodes") == 3
    del dashboard.odd["/api/v0/nodes"]
    seen = await poller.look()
    assert seen.faults == () and seen.total is not None
    clock.now += 2
    dashboard.asked.clear()
    await poller.look()
    assert "/nodes" not in dashboard.paths()


async def test_a_periodic_answer_that_is_late_is_not_missed_while_the_last_is_good(
    source: Make, dashboard: Dashboard
) -> None:
    clock = Clock()
    poller = source(clock=clock)
    first = await poller.look()
    dashboard.odd["/api/jobs/"] = None
    clock.now += 11
    seen = await poller.look()
    assert (seen.jobs, seen.faults) == (first.jobs, ())
    assert seen.as_of["jobs"] == first.as_of["jobs"], "it says how old it is"
    clock.now += 10
    seen = await poller.look()
    assert seen.jobs is None
    assert [(fault.section, fault.reason) for fault in seen.faults] == [("jobs", Reason.TIMEOUT)]


async def test_a_way_that_fails_says_why_in_chinese_too(source: Make) -> None:
    async def nowhere() -> Path | None:
        raise GatherError(Reason.UNREACHABLE, "gpu-01: no answer from 10.0.0.1:22 within 5 s")

    record = await source(tunnel=nowhere).poll()
    assert record.data["why"] == "gpu-01: no answer from 10.0.0.1:22 within 5 s"
    assert record.data["zh"] == "无法连接（gpu-01: no answer from 10.0.0.1:22 within 5 s）"


async def test_nothing_listens(source: Make) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    record = await source(f"http://127.0.0.1:{port}").poll()
    assert (record.kind, record.data["reason"]) == (RecordKind.LOST, "unreachable")
    assert f"nothing listens on 127.0.0.1:{port}" in str(record.data["why"])
    assert "ray.dashboard_access: tunnel" in str(record.data["why"])


async def test_a_name_that_does_not_resolve_and_a_login_in_the_url(source: Make) -> None:
    record = await source("http://ops:hunter2secret@no-such-host.invalid:8265").poll()
    assert record.data["why"] == "the name in no-such-host.invalid:8265 does not resolve here"
    assert "hunter2" not in encode(record)


async def test_a_url_that_is_none(source: Make) -> None:
    seen = await source("ftp://127.0.0.1").look()
    assert seen.lost is not None and seen.lost.why.en == "ray.dashboard_url is no http or https URL"


async def test_tls_where_there_is_none(source: Make) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    try:
        seen = await source(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}").look()
        assert seen.lost is not None and "TLS failed" in seen.lost.why.en
    finally:
        server.close()


async def test_it_comes_back(source: Make, dashboard: Dashboard) -> None:
    poller = source(clock=Clock())
    await poller.look()
    dashboard.odd["/api/version"] = response(b"", "503 Busy")
    for path in PATHS:
        dashboard.odd[path.split("?")[0]] = response(b"", "503 Busy")
    seen = await poller.look()
    assert seen.lost is not None and seen.jobs is None
    dashboard.odd.clear()
    assert (await poller.look()).faults == ()


async def test_through_a_socket(source: Make, dashboard: Dashboard, tmp_path: Path) -> None:
    """The URL stays what it is: the name and port need not exist here."""
    server = await asyncio.start_unix_server(dashboard.talk, tmp_path / "a")
    again = await asyncio.start_unix_server(dashboard.talk, tmp_path / "b")
    ways: list[Path | GatherError] = [
        tmp_path / "a",
        GatherError(Reason.UNREACHABLE, "gpu-01: it cannot connect to gpu-01:8265 (Connection refused)"),
        tmp_path / "b",
    ]

    async def tunnel() -> Path:
        way = ways.pop(0)
        if isinstance(way, GatherError):
            raise way
        return way

    poller = source("http://gpu-01.internal:8265", tunnel=tunnel)
    try:
        assert (await poller.look()).version == "2.60.0"
        lost = await poller.poll()
        assert (lost.kind, lost.data["why"]) == (
            RecordKind.LOST,
            "gpu-01: it cannot connect to gpu-01:8265 (Connection refused)",
        )
        server.close()
        assert (await poller.look()).version == "2.60.0"
    finally:
        server.close()
        again.close()


async def test_a_tunnel_that_never_opens(source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_gather, "TUNNEL_SECONDS", 0.05)

    async def tunnel() -> Path:
        await asyncio.Event().wait()
        raise AssertionError

    seen = await source("http://gpu-01:8265", tunnel=tunnel).look()
    assert seen.lost is not None and seen.lost.why.en == "the tunnel to gpu-01:8265 was not open within 0.05 s"


async def test_being_cancelled_and_closed_leaves_nothing_running(source: Make, dashboard: Dashboard) -> None:
    before = asyncio.all_tasks()
    dashboard.odd = {path.split("?")[0]: None for path in PATHS}
    poller = source()
    look = asyncio.create_task(poller.look())
    async with asyncio.timeout(5):
        await dashboard.reached.wait()
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        await poller.aclose()
        dashboard.hold.set()
        await asyncio.gather(*(asyncio.all_tasks() - before), return_exceptions=True)
    assert asyncio.all_tasks() == before


async def test_a_poll_reads_many_nodes_beside_the_loop(source: Make, dashboard: Dashboard) -> None:
    row = json.loads((DATA / "v0_nodes.json").read_bytes())["data"]["result"]["result"][0]
    rows = [{**row, "node_id": f"{n:056x}", "node_ip": f"10.1.{n // 250}.{n % 250}"} for n in range(1000)]
    body = json.dumps({"data": {"result": {"result": rows, "total": 1000, "num_after_truncation": 1000}}})
    dashboard.odd["/api/v0/nodes"] = response(body.encode())
    seen = await source().look()
    assert seen.total is not None and seen.total.gpu == 8000.0
