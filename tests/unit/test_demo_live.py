"""The embedded fleet as it is watched: sample streams, Ray's dashboard and vLLM's pages, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest

from dstui.demo import open_demo, vllm_page
from dstui.demo.acts import DemoActs
from dstui.demo.cast import cast
from dstui.demo.fleet import Fleet, Keys
from dstui.demo.life import Life
from dstui.demo.ray_pages import Dashboard
from dstui.demo.readings import reading
from dstui.demo.stage import Stage
from dstui.demo.stream import SampleStream
from dstui.demo.vllm_engine import BLOCKS, MAX_NUM_SEQS, OUTCOMES
from dstui.demo.watching import watching
from dstui.demo.web import HEAD_BYTES, Response, Web
from dstui.model import UsageError
from dstui.telemetry import host, ray
from dstui.telemetry.aliases import COUNTERS, GAUGES, HISTOGRAMS, RETIRED, Family
from dstui.telemetry.feed import LiveFeed
from dstui.telemetry.live import Live
from dstui.telemetry.ray import RaySnapshot
from dstui.telemetry.ray_answers import ENDPOINTS, RayAnswer, snapshot_of
from dstui.telemetry.ray_compare import Joined, compare
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.recording import with_events
from dstui.telemetry.sources import Sources, watched_of
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.windows import Present
from dstui.watch import Wanted, watch_opened

BEGAN = 1_780_300_000.0
PATIENCE = 20.0

# --- Ray's dashboard -----------------------------------------------------------------


class Moved:
    """A clock that is set by hand, and the dashboard of a fleet that lives by it."""

    def __init__(self, hosts: int) -> None:
        self.now = BEGAN
        self.life = Life(cast(hosts), BEGAN)
        self._dashboard = Dashboard(self.life, lambda: self.now)

    def look(self, seconds: float) -> RaySnapshot:
        """What dstui makes of all that the dashboard answers."""
        self.now = BEGAN + seconds
        answers = {}
        for endpoint in ENDPOINTS:
            path, _, query = endpoint.path.partition("?")
            found = self._dashboard.answer(path, query)
            size = len(found.body)
            assert size < endpoint.limit
            answers[endpoint.section] = RayAnswer(
                endpoint, self.now, found.status, found.body, date=self.now, size=size
            )
        return snapshot_of(answers, self.now, lambda text: text)


@pytest.mark.parametrize("hosts", [1, 8, 16, 64])
def test_every_endpoint_is_answered_and_understood(hosts: int) -> None:
    moved = Moved(hosts)
    seen = moved.look(5.0)
    assert (seen.faults, seen.lost) == ((), None)
    assert all(
        getattr(seen, name) is not None for name in ("nodes", "serve", "demands", "groups", "actors", "jobs", "targets")
    )
    assert (seen.version, seen.auth) == ("2.52.1", "disabled")
    assert seen.session is not None
    assert "simulated" in seen.session
    assert seen.usage_age is not None
    assert seen.usage_age <= 5.0
    replicas = len(moved.life.copies)
    [app] = (seen.serve or pytest.fail("no Serve")).applications
    [deployment] = app.deployments
    assert (app.status, deployment.status) == ("RUNNING", "HEALTHY")
    assert (deployment.target, deployment.running) == (replicas, replicas)
    assert all(len(replica.spans) == 1 for replica in deployment.replicas)
    assert (seen.demands or pytest.fail("no demands")).waiting == ()
    assert {group.state for group in seen.groups or ()} == {"CREATED"}
    assert len(seen.targets or ()) == hosts
    busy = 0 if hosts < 11 else 1
    assert seen.used is not None
    assert seen.used.gpu == 8 * (hosts - busy)


def test_ray_counts_the_gpus_that_nvml_finds_and_the_inventory_declares_one_more() -> None:
    moved, stage = Moved(16), Stage()
    try:
        watched = watched_of(stage.furnish(16), simulated=True)
    finally:
        stage.strike()
    nvml: dict[str, int | None] = {each.name: each.traits.gpus_answering for each in cast(16)}
    compared = compare(moved.look(5.0), watched.site, nvml)
    assert (compared.gpus.ray, compared.gpus.nvml, compared.gpus.inventory) == (127, 127, 128)
    assert {each.joined for each in compared.hosts} == {Joined.ALIVE}
    assert not compared.strangers
    assert [each.host for each in compared.hosts if each.gpus.agree is not True] == ["gpu-11"]


def test_ray_learns_of_a_death_bit_by_bit() -> None:
    moved = Moved(8)
    before = moved.look(10.0)
    moved.life.kill("gpu-02", BEGAN + 10.0)
    at_once = moved.look(12.0)
    assert node_of(at_once, "gpu-02").alive
    assert statuses(at_once) == ("RUNNING", "HEALTHY", ["RUNNING"] * 8)
    assert at_once.used == before.used
    noticed = moved.look(15.0)
    assert node_of(noticed, "gpu-02").alive
    assert statuses(noticed) == ("UNHEALTHY", "UNHEALTHY", ["RUNNING"] * 7 + ["STARTING", "STOPPING"])
    assert statuses(moved.look(17.0))[2] == ["RUNNING"] * 7 + ["STARTING"]
    dead = moved.look(23.0)
    node = node_of(dead, "gpu-02")
    assert (node.state, node.message) == (
        "DEAD",
        "Unexpected termination: health check failed due to missing too many heartbeats",
    )
    assert node.ended_at == pytest.approx(BEGAN + 22.0, abs=0.6)
    assert dead.total is not None
    assert dead.used is not None
    assert (dead.total.gpu, dead.used.gpu) == (56, 56)
    assert (dead.demands or pytest.fail("no demands")).waiting != ()
    assert [group.state for group in dead.groups or ()] == ["PENDING"] + ["CREATED"] * 7
    assert not any(actor.node_id == node.node_id for actor in dead.actors or ())


def test_ray_sees_a_new_node_and_a_new_replica_when_power_is_back() -> None:
    moved = Moved(8)
    before = moved.look(10.0)
    moved.life.kill("gpu-02", BEGAN + 10.0)
    moved.life.revive("gpu-02", BEGAN + 30.0)
    loading = moved.look(40.0)
    rows = [node for node in loading.nodes or () if node.hostname == "gpu-02" or node.ip == "198.51.100.12"]
    assert sorted(node.state or "" for node in rows) == ["ALIVE", "DEAD"]
    assert statuses(loading)[2] == ["RUNNING"] * 7 + ["STARTING"]
    assert (loading.demands or pytest.fail("no demands")).waiting == ()
    after = moved.look(60.0)
    assert statuses(after) == ("RUNNING", "HEALTHY", ["RUNNING"] * 8)
    gone = replica_ids(before) - replica_ids(after)
    assert len(gone) == len(replica_ids(after) - replica_ids(before)) == 1
    assert len({actor.actor_id for actor in after.actors or ()}) == len(after.actors or ())


def test_the_processes_on_a_gpu_are_actors_of_ray() -> None:
    moved = Moved(20)
    actors = {(actor.node_id, actor.pid) for actor in moved.look(5.0).actors or ()}
    for name, body in moved.life.bodies.items():
        row = host.parse({"seq": 1, **reading(moved.life, name, moved.now, with_gpus=True, pcie=False)})
        for gpu in row.gpus:
            for process in gpu.procs or ():
                assert (body.nodes[-1].node_id, process.pid) in actors


def node_of(snapshot: RaySnapshot, name: str) -> ray.RayNode:
    ip = next(each.data_ip for each in cast(64) if each.name == name)
    return next(node for node in snapshot.nodes or () if node.ip == ip)


def statuses(snapshot: RaySnapshot) -> tuple[str | None, str | None, list[str]]:
    assert snapshot.serve is not None
    [app] = snapshot.serve.applications
    [deployment] = app.deployments
    return app.status, deployment.status, sorted(replica.state or "" for replica in deployment.replicas)


def replica_ids(snapshot: RaySnapshot) -> set[str]:
    assert snapshot.serve is not None
    return {each.replica_id for app in snapshot.serve.applications for each in app.deployments[0].replicas}


def test_a_path_that_nobody_reads_is_not_made_up() -> None:
    found = Dashboard(Life(cast(1), BEGAN), lambda: BEGAN).answer("/api/nothing", "")
    assert found.status == 404


# --- vLLM's page -----------------------------------------------------------------------


def test_a_page_has_all_that_is_looked_for_and_says_what_the_engine_says() -> None:
    life = Life(cast(2), BEGAN)
    life.advance(BEGAN + 30.0)
    engine = life.copies[1].engine
    assert engine is not None
    text = vllm_page.page(engine)
    assert text.startswith("# SIMULATED")
    [sample] = parse_metrics(text, at=BEGAN, replica="gpu-02", node_page=False)
    assert sample.family is Family.NATIVE
    [seen] = sample.engines
    for thing in (*GAUGES, *COUNTERS):
        assert isinstance(seen.numbers[thing], Present) or thing in RETIRED, thing
    for thing in HISTOGRAMS:
        assert isinstance(seen.histograms[thing], Present), thing
    assert isinstance(seen.finished, Present)
    assert set(seen.finished.value) == set(OUTCOMES)
    assert isinstance(seen.cache_config, Present)
    assert seen.cache_config.value["num_gpu_blocks"] == str(BLOCKS)
    numbers = {thing.value: value.value for thing, value in seen.numbers.items() if isinstance(value, Present)}
    assert numbers["running"] == engine.running
    assert numbers["kv_usage"] == engine.kv_share
    assert numbers["generation_tokens"] == engine.generation_tokens


# --- the small web server ---------------------------------------------------------------


@asynccontextmanager
async def serving(site: Callable[[str, str], Response]) -> AsyncIterator[tuple[Web, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        web = Web(sock, site, lambda: BEGAN)
        await web.open()
        try:
            yield web, f"http://127.0.0.1:{port}"
        finally:
            await web.close()


def echo(path: str, query: str) -> Response:
    return Response(f"{path} {query}".encode(), "text/plain")


async def test_it_answers_refuses_and_answers_again() -> None:
    async with serving(echo) as (web, url), httpx.AsyncClient() as client:
        for _ in range(2):
            found = await client.get(f"{url}/a?b=c")
            assert (found.status_code, found.text, found.headers["server"]) == (200, "/a b=c", "dstui-demo (simulated)")
            assert (await client.post(url, content=b"x")).status_code == 405
            await web.close()
            await web.close()
            with pytest.raises(httpx.ConnectError):
                await client.get(url)
            await web.open()
            await web.open()


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nx: " + b"y" * 2 * HEAD_BYTES, b"\xff\xfe\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n", b""]
)
async def test_nonsense_ends_its_own_connection_only(sent: bytes) -> None:
    async with serving(echo) as (_, url):
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        assert not answer or answer.startswith((b"HTTP/1.1 405", b"HTTP/1.1 200"))
        writer.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(url + "/well")).text == "/well "


# --- the verb `sample` --------------------------------------------------------------------


class Line:
    """The other end of a stream: takes lines, or refuses to for a while."""

    def __init__(self) -> None:
        self.taken: list[dict[str, object]] = []
        self.open = True
        self.came = asyncio.Event()

    def post(self, text: str) -> bool:
        if self.open:
            self.taken.append(json.loads(text))
        self.came.set()
        return self.open

    async def wait(self, times: int) -> None:
        for _ in range(times):
            self.came.clear()
            async with asyncio.timeout(PATIENCE):
                await self.came.wait()


async def test_a_stream_counts_and_keeps_only_the_newest_while_nobody_takes_it() -> None:
    line = Line()
    stream = SampleStream(
        7, {"interval": 0.01, "gpus": False, "pcie": True}, line.post, lambda *asked: {"asked": asked}
    )
    try:
        assert stream.interval == 0.2
        await line.wait(1)
        line.open = False
        await line.wait(3)
        line.open = True
        stream.drained()
    finally:
        stream.drop()
    samples = [each["sample"] for each in line.taken]
    assert [each["id"] for each in line.taken] == [7, 7]
    assert all(isinstance(each, dict) and each["asked"] == [False, True] and each["hz"] == 5.0 for each in samples)
    first, last = (each for each in samples if isinstance(each, dict))
    assert (first["seq"], first["lost"], last["seq"], last["lost"]) == (1, 0, 4, 2)


async def test_an_interval_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError):
        SampleStream(1, {"interval": "often"}, lambda _: True, lambda *_: {})


# --- all of it together ---------------------------------------------------------------------


class Quick:
    """A clock that runs `speed` times as fast as the real one."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.began, self.real = time.time(), time.monotonic()

    def __call__(self) -> float:
        return self.began + self.speed * (time.monotonic() - self.real)


class Heard:
    """All records of a watching, and a way to wait for something to be true of them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.samples: dict[str, Record] = {}
        self._came = asyncio.Event()

    def take(self, record: Record) -> None:
        self.records.append(record)
        if record.kind is RecordKind.SAMPLE:
            self.samples[record.source] = record
        self._came.set()

    def said(self, kind: RecordKind, source: str, words: str = "") -> bool:
        found = (each for each in self.records if each.kind is kind and each.source == source)
        return any(words in str(each.data.get("en", each.data.get("why", ""))) for each in found)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._came.clear()
                await self._came.wait()


async def test_a_node_dies_and_comes_back_before_the_eyes_of_the_real_sources() -> None:
    stage, heard = Stage(), Heard()
    inventory = await asyncio.to_thread(stage.furnish, 3, Quick(12.0))
    watched = replace(
        watched_of(inventory, interval=0.2, simulated=True), intervals={"host": 0.2, "ray": 0.2, "vllm": 0.2}
    )
    links, live = stage.links(inventory), Live(watched)
    assert stage.fleet is not None
    acts = DemoActs(stage.fleet)
    running = asyncio.create_task(Sources(inventory, watched, links, with_events(live, heard.take)).run())
    try:
        names = [f"gpu-{n:02d}" for n in (1, 2, 3)]
        sources = {"ray", *(f"{kind}:{name}" for kind in ("host", "vllm") for name in names)}
        await heard.until(lambda: set(heard.samples) == sources)
        assert not [each for each in heard.records if each.kind is RecordKind.LOST]
        said = await asyncio.to_thread(acts.kill, "gpu-02")
        assert "gpu-02" in said.en
        assert "gpu-02" in said.zh
        assert list(acts.down) == ["gpu-02"]
        await heard.until(lambda: heard.said(RecordKind.LOST, "host:gpu-02", "was lost"))
        await heard.until(lambda: heard.said(RecordKind.LOST, "vllm:gpu-02", "connection refused"))
        await heard.until(lambda: heard.said(RecordKind.EVENT, "ray", "UNHEALTHY"))
        await heard.until(lambda: heard.said(RecordKind.EVENT, "ray", "gpu-02 left the cluster, health check failed"))
        await asyncio.to_thread(acts.perish)
        assert not acts.down
        await heard.until(lambda: heard.said(RecordKind.EVENT, "ray", "gpu-02 is back in the cluster"))
        await heard.until(lambda: heard.said(RecordKind.EVENT, "ray", "llm is RUNNING"))
        await heard.until(lambda: heard.said(RecordKind.EVENT, "vllm:gpu-02", "gives metrics again"))
        await heard.until(lambda: heard.said(RecordKind.EVENT, "host:gpu-02", "answers again"))
        assert not any(
            heard.said(RecordKind.LOST, f"{kind}:{name}") for kind in ("host", "vllm") for name in ("gpu-01", "gpu-03")
        )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await links.aclose()
        await stage.aclose()
    assert not {"dstui-demo"} & {thread.name for thread in threading.enumerate()}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    running = Fleet(cast(8), Keys.fresh())
    running.start()
    yield running
    running.stop()


def test_the_busiest_is_one_that_is_watched_and_never_the_head(fleet: Fleet) -> None:
    acts, dead = DemoActs(fleet), list[str]()
    for _ in range(7):
        assert acts.kill().en.endswith("(simulated)")
        dead.append(next(name for name in acts.down if name not in dead))
    assert "gpu-01" not in dead
    assert sorted(dead[-2:]) == ["gpu-05", "gpu-07"]
    assert "head" in acts.kill().en
    assert set(acts.down) == set(dead)
    assert acts.label.en == "the node comes back"
    said = acts.revive().en
    assert all(name in said for name in dead)
    assert acts.label.en == "a node dies"
    assert "no simulated node is down" in acts.revive().en


def test_a_dead_head_takes_the_dashboard_with_it(fleet: Fleet) -> None:
    assert httpx.get(f"{fleet.dashboard_url}/api/version").status_code == 200
    fleet.kill("gpu-01")
    for url in (fleet.dashboard_url, fleet.backends[0]):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
    assert httpx.get(f"{fleet.backends[1]}/health").status_code == 200


def test_acts_on_what_is_not_there_are_told(fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="gpu-99: no host of the demo's fleet"):
        fleet.kill("gpu-99")
    fleet.stop()
    with pytest.raises(UsageError, match="does not run"):
        fleet.kill("gpu-02")


def test_everything_is_on_loopback_only(fleet: Fleet) -> None:
    addresses = {urlsplit(url).hostname for url in (fleet.dashboard_url, fleet.api_url, *fleet.backends)}
    assert addresses == {"127.0.0.8", "127.0.0.9", *(f"127.0.0.{10 + n}" for n in range(1, 9))}


async def test_the_engine_of_the_demo_watches_its_fleet_and_has_the_key() -> None:
    engine = await open_demo(2)
    try:
        assert engine.watch is not None
        feed = await asyncio.to_thread(engine.watch)
        assert isinstance(feed, LiveFeed)
        watched = feed.live.watched
        assert (watched.simulated, watched.max_num_seqs) == (True, MAX_NUM_SEQS)
        assert dict(watched.intervals) == {"host": 1.0, "ray": 2.0, "vllm": 1.0}
        assert feed.perish is not None
        assert "gpu-02 has lost its power" in feed.perish().en
        assert "gpu-02 has power again" in feed.perish().en
    finally:
        await engine.aclose()


def test_it_can_be_watched_without_the_app(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_opened(watching(2, interval=0.2), Wanted("json", seconds=1.5)) == 0
    header, *rows = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert header["simulated"] is True
    assert {"host:gpu-01", "host:gpu-02", "ray", "vllm:gpu-01", "vllm:gpu-02"} <= sources_of(rows)
    assert "dstui-demo" not in {thread.name for thread in threading.enumerate()}


def sources_of(rows: list[Mapping[str, object]]) -> set[object]:
    return {row["source"] for row in rows if row["kind"] == "sample"}


@pytest.mark.parametrize(("hosts", "interval", "words"), [(65, 1.0, "from 1 to 64"), (2, 0.1, "0.2 to 10 s")])
def test_what_cannot_be_watched_is_refused(hosts: int, interval: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        watch_opened(watching(hosts, interval=interval), Wanted("json", seconds=1.0))
