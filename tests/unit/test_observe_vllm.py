"""What is asked for vllm.*: of a real HTTP server that is backend, Serve's proxy, Ray's dashboard and index at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params
from dstui.facts.engine_settings import EngineLog, ModelConfig
from dstui.facts.raw import Answer, Missing, Op, OpKind, Raw
from dstui.facts.serve_burst import Burst
from dstui.facts.vllm_install import ImagePackages, VllmInstall
from dstui.gather import serve_burst, serve_checks
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import vllm
from dstui.model import Reason, Ruling, Verdict, host_target

DATA = Path(__file__).parents[1] / "data"
KEY, MODEL = "sk-unit-test-0002", "ds"
RULES = {judge.check_id: judge.rule for judge in vllm.JUDGES}


@dataclass
class Server:
    """`pages` by path; a chat is answered word by word, `at_once` of them at a time. `sick` is what is wrong."""

    pages: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    at_once: int = 1000
    sick: str = ""
    words: int = 6
    asked: list[tuple[str, str]] = field(default_factory=list)
    chats: int = 0
    counted: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = asyncio.Semaphore(self.at_once)
        self.first = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await reader.readline()).strip():
                method, path, _ = line.decode().split(" ")
                length, key = 0, ""
                while header := (await reader.readline()).decode("latin-1").strip():
                    name, _, value = header.partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                    key = value.strip() if name.lower() == "authorization" else key
                body = await reader.readexactly(length)
                self.asked.append((path, key))
                if method == "POST":
                    await self.chat(writer, json.loads(body), key)
                    continue
                status, kind, page = self.page(path)
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(page)}\r\n\r\n".encode()
                )
                writer.write(page)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def page(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics" and self.counted:
            return 200, "text/plain", self.counters()
        found = self.pages.get(path) or self.pages.get(path.partition("?")[0])
        return found or (404, "application/json", b'{"detail": "Not Found"}')

    def counters(self) -> bytes:
        """Ray's page of two replicas: the chats so far by turns, or all on the first."""
        second = 0 if self.sick == "lopsided" else self.chats // 2
        rows = {"r1": self.chats - second, "r2": second}
        name = "ray_serve_deployment_request_counter_total"
        return "".join(
            f'{name}{{application="llm",deployment="LLMServer:ds",replica="{r}",route="/"}} {float(n)}\n'
            for r, n in rows.items()
        ).encode()

    async def chat(self, writer: asyncio.StreamWriter, asked: Mapping[str, object], key: str) -> None:
        if key != f"Bearer {KEY}":
            return self.write(writer, 401, b'{"error": "Unauthorized"}')
        self.chats += 1
        number = self.chats
        if self.sick == "broken" and number > 4:
            return self.write(writer, 500, b'{"error": {"message": "EngineDeadError"}}')
        prompt = asked["messages"][0]["content"]  # type: ignore[index]
        self.first = self.first or prompt.split()[1] if number > 2 else ""
        said = f"{self.first} " if self.sick == "mixed" else "one "
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        async with self.gate:
            for _ in range(self.words):
                delta = {"id": str(number), "choices": [{"index": 0, "delta": {"content": said}}]}
                writer.write(f"data: {json.dumps(delta)}\n\n".encode())
                await writer.drain()
                await asyncio.sleep(0.01)  # how long a token takes
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()
        return None

    @staticmethod
    def write(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)


MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 4096}]}).encode()
JSON, TEXT = "application/json", "text/plain"


def backend_pages() -> dict[str, tuple[int, str, bytes]]:
    return {
        "/version": (200, JSON, b'{"version": "0.33.0"}'),
        "/health": (200, TEXT, b""),
        "/v1/models": (200, JSON, MODELS),
        "/metrics": (200, TEXT, (DATA / "vllm" / "metrics_idle.txt").read_bytes()),
    }


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[int]:
    running = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


@cache
def catalogue() -> Catalogue:
    return load_catalogue()


INVENTORY = """version: 1
cluster: {{name: ds, environment: lab}}
ssh: {{user: ops}}
secrets: {{key: 'env:DSTUI_UNIT_KEY'}}
auth: {{key_ref: secrets.key}}
{more}
hosts:
  - {{name: gpu-01, roles: [head], data_ip: 127.0.0.1, gpu: false}}
  - {{name: gpu-02, roles: [worker], data_ip: 127.0.0.2, gpu: false}}
"""


def observing(folder: Path, more: str = "", **values: object) -> Observing:
    """`values` are parameters of every check that has them."""
    file = folder / "inventory.yaml"
    file.write_text(INVENTORY.format(more=more))
    inventory = load_inventory(file)

    def params(check: str, host: str | None) -> Params:
        found = [p.threshold() for p in catalogue().check(check).params]
        return Params(
            [replace(t, value=values[t.param], origin="inventory") if t.param in values else t for t in found]
        )

    return Observing(inventory, inventory.site(), params, {}, {}, "r1")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSTUI_UNIT_KEY", KEY)


class Link:
    """A host that answers what it is asked for, by key."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers, self.asked = answers, list[Op]()

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        self.asked += ops
        return Raw({op.key: self.answers[op.key] for op in ops if op.key in self.answers})


async def test_backends(tmp_path: Path) -> None:
    server = Server(backend_pages())
    async with listening(server) as port, listening(Server()) as other:
        more = f"endpoints: {{api: 'http://x', backends: ['http://127.0.0.1:{port}', 'http://127.0.0.1:{other}/']}}"
        found = await serve_checks.observe_vllm_backends(observing(tmp_path, more))
    first, second = found.backends
    assert (first.host, first.number, second.url) == ("gpu-01", 1, f"http://127.0.0.1:{other}")
    assert found.version(first) == "0.33.0"
    (config,) = found.cache_configs(first)  # type: ignore[misc]
    assert config.values["gpu_memory_utilization"] == 0.92
    models = found.models(first)
    assert not isinstance(models, Missing) and models[0].max_model_len == 4096
    assert isinstance(found.version(second), Missing) and isinstance(found.models(second), Missing)
    # The key goes to what needs it, and nowhere else; it is in no evidence.
    assert dict(server.asked) == {
        "/version": "", "/health": "", "/metrics": "", "/v1/models": f"Bearer {KEY}",
    }  # fmt: skip
    shown = "".join(e.source + e.output for e in found.evidence(host_target("gpu-01")))
    assert KEY not in shown
    assert "num_requests_running" not in shown


async def test_no_backends(tmp_path: Path) -> None:
    found = await serve_checks.observe_vllm_backends(observing(tmp_path))
    assert (found.backends, found.by_key) == ((), {})


ENGINE = (
    "Initializing a V1 LLM engine (v0.33.0) with config: model='/m', max_seq_len=4096, tensor_parallel_size=2\n"
    "user: my password is sesame\n"
)


def serve_document(replicas: Sequence[str] = ("r1", "r2"), **limits: object) -> bytes:
    rows = [{"replica_id": r, "actor_id": f"a-{r}", "state": "RUNNING", "node_id": "n1", "node_ip": "127.0.0.1"}
            for r in replicas]  # fmt: skip
    deployment = {"status": "HEALTHY", "target_num_replicas": len(rows), "replicas": rows,
                  "deployment_config": {"max_ongoing_requests": 64, **limits}}  # fmt: skip
    app = {"status": "RUNNING", "deployments": {"LLMServer:ds": deployment},
           "deployed_app_config": {"runtime_env": {"env_vars": {"X": "sesame-open"}}}}  # fmt: skip
    return json.dumps({"applications": {"llm": app}, "proxies": {}}).encode()


def node_document() -> bytes:
    rows = [
        {"node_id": "n1", "node_ip": "127.0.0.1", "state": "ALIVE", "is_head_node": True, "resources_total": {"CPU": 1}}
    ]
    return json.dumps({"data": {"result": {"total": 1, "num_after_truncation": 1, "result": rows}}}).encode()


def dashboard_pages() -> dict[str, tuple[int, str, bytes]]:
    return {
        "/api/version": (200, JSON, b'{"ray_version": "2.60.0"}'),
        "/api/serve/applications/": (200, JSON, serve_document()),
        "/api/v0/nodes": (200, JSON, node_document()),
        "/api/v0/logs/file": (200, TEXT, ENGINE.encode()),
    }


async def test_settings_from_the_logs_and_the_model(tmp_path: Path) -> None:
    config = json.dumps({"num_attention_heads": 64, "max_position_embeddings": 4096})
    link = Link({"engine.model": Answer("engine.model", "/m/config.json", config)})
    async with listening(Server(dashboard_pages())) as port:
        o = observing(tmp_path, "model: {path: /m, served_name: ds}", ray_dashboard_url=f"http://127.0.0.1:{port}")
        found = await serve_checks.observe_engine_settings(replace(o, links={"gpu-01": link}))  # type: ignore[dict-item]
    assert set(found.logs) == {"r1", "r2"}
    log = found.logs["r1"]
    assert isinstance(log, EngineLog) and log.values == {"max_model_len": 4096, "tensor_parallel_size": 2}
    assert found.model == ModelConfig(64, 4096, None)
    assert "sesame" not in repr(found)
    assert [op.kind for op in link.asked] == [OpKind.READ]


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ({"/api/v0/logs/file": (404, TEXT, b"no")}, Reason.CANNOT_TELL),
        ({"/api/v0/logs/file": (200, TEXT, b"\xff\x00 nothing")}, Reason.CANNOT_TELL),
        ({"/api/serve/applications/": (200, JSON, b"[")}, None),
        ({"/api/serve/applications/": (401, TEXT, b"no")}, None),
    ],
)
async def test_logs_that_do_not_tell(
    tmp_path: Path, pages: dict[str, tuple[int, str, bytes]], reason: Reason | None
) -> None:
    async with listening(Server({**dashboard_pages(), **pages})) as port:
        found = await serve_checks.observe_engine_settings(
            observing(tmp_path, ray_dashboard_url=f"http://127.0.0.1:{port}")
        )
    assert {log.reason for log in found.logs.values() if isinstance(log, Missing)} == ({reason} if reason else set())
    assert isinstance(found.model, Missing) and found.model.reason is Reason.NO_TARGETS


async def test_without_serve_no_log_is_asked_for(tmp_path: Path) -> None:
    server = Server(dashboard_pages())
    async with listening(server) as port:
        o = observing(tmp_path, ray_dashboard_url=f"http://127.0.0.1:{port}", serving_mode="vllm")
        assert (await serve_checks.observe_engine_settings(o)).logs == {}
    assert server.asked == []


async def test_the_index_of_the_mirror(tmp_path: Path) -> None:
    page = b'<a href="x">vllm-0.33.0-cp38-abi3-linux_x86_64.whl</a>'
    server = Server({"/simple/vllm/": (200, "text/html", page)})
    async with listening(server) as port:
        more = f"network: {{offline: true, mirrors: {{pip: 'http://127.0.0.1:{port}/simple/'}}}}"
        found = await serve_checks.observe_vllm_install(observing(tmp_path, more))
        assert found.latest == "0.33.0"
        assert (
            await serve_checks.observe_vllm_install(observing(tmp_path, more, vllm_version="0.33.0"))
        ).latest is None
    offline = await serve_checks.observe_vllm_install(observing(tmp_path, "network: {offline: true}"))
    assert isinstance(offline.latest, Missing) and offline.latest.reason is Reason.UNREACHABLE
    gone = await serve_checks.observe_vllm_install(observing(tmp_path, more))
    assert isinstance(gone.latest, Missing) and gone.latest.reason is Reason.UNREACHABLE


async def test_inside_the_image(tmp_path: Path) -> None:
    said = json.dumps(
        {"versions": {"vllm": "0.33.0"}, "requires_python": ">=3.11", "python": [3, 12, 3], "torch_cuda": "13.0"}
    )
    here = Link({"vllm.image": Answer("vllm.image", "docker run", said, "", 0)})
    absent = Link({"vllm.image": Answer("vllm.image", "docker run", "", "Unable to find image 'i' locally", 125)})
    o = observing(tmp_path, "runtime: {mode: docker, image: 'vllm/vllm-openai:v0.33.0'}", vllm_version="0.33.0")
    links = {"gpu-01": here, "gpu-02": absent}
    found = await serve_checks.observe_vllm_install(replace(o, links=links))  # type: ignore[arg-type]
    assert isinstance(found, VllmInstall) and isinstance(found.images["gpu-01"], ImagePackages)
    lost = found.images["gpu-02"]
    assert isinstance(lost, Missing) and lost.reason is Reason.NO_TARGETS
    argv = here.asked[0].args["argv"]
    assert isinstance(argv, list)
    assert argv[:6] == ["docker", "run", "--rm", "--pull=never", "--network=none", "--entrypoint=python3"]
    assert argv[6] == "vllm/vllm-openai:v0.33.0"
    assert [e.key for e in found.evidence(host_target("gpu-02"))] == ["vllm.image"]


# the burst


def concurrent(o: Observing, made: Burst) -> Ruling:
    case = FleetCase(o.site, {}, o.params("vllm.serve-concurrency", None), {}, {Burst: made}, 0.0)
    (ruling,) = RULES["vllm.serve-concurrency"](case)
    return ruling


async def sent(folder: Path, server: Server, **values: object) -> tuple[Burst, Ruling]:
    async with listening(server) as port:
        url = f"http://127.0.0.1:{port}"
        o = observing(folder, **{"endpoint": url, "serving_mode": "vllm", "n": 8, **values})
        made = await serve_burst.observe_serve_concurrency(o)
    return made, concurrent(o, made)


def said(ruling: Ruling) -> str:
    return "\n".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


async def test_a_burst(tmp_path: Path) -> None:
    server = Server(backend_pages())
    made, ruling = await sent(tmp_path, server)
    assert ruling.verdict is Verdict.PASS, said(ruling)
    assert server.chats == 10 and len({one.nonce for one in made.sent}) == 8
    assert KEY not in repr(made.evidence(ruling.target))


@pytest.mark.parametrize(
    ("server", "verdict", "words"),
    [
        ({"at_once": 1}, "fail", "one after the other"),
        ({"sick": "broken"}, "fail", "EngineDeadError"),
        ({"sick": "mixed"}, "fail", "answers are mixed up"),
        ({"words": 0}, "fail", "8 × empty answer"),
    ],
)
async def test_a_burst_that_goes_wrong(tmp_path: Path, server: dict[str, object], verdict: str, words: str) -> None:
    _, ruling = await sent(tmp_path, Server(backend_pages(), **server))  # type: ignore[arg-type]
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)


async def test_a_burst_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSTUI_UNIT_KEY")
    server = Server(backend_pages())
    _, ruling = await sent(tmp_path, server)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL)
    assert server.chats == 0


async def test_a_burst_at_nothing(tmp_path: Path) -> None:
    async with listening(Server()) as port:
        pass
    o = observing(tmp_path, endpoint=f"http://127.0.0.1:{port}", serving_mode="vllm")
    ruling = concurrent(o, await serve_burst.observe_serve_concurrency(o))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    nobody = observing(tmp_path)
    ruling = concurrent(nobody, await serve_burst.observe_serve_concurrency(nobody))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS)


@pytest.mark.parametrize(("sick", "verdict", "words"), [("", "pass", "r1 5, r2 5"), ("lopsided", "warn", "all on one")])
async def test_which_replicas_took_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sick: str, verdict: str, words: str
) -> None:
    monkeypatch.setattr(serve_burst, "LOOK_AGAIN_SECONDS", 0.01)
    server = Server({**backend_pages(), **dashboard_pages()}, sick=sick, counted=[1])
    async with listening(server) as port:
        discovery = json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": {}}]).encode()
        server.pages["/api/prometheus/sd"] = (200, JSON, discovery)
        url = f"http://127.0.0.1:{port}"
        o = observing(tmp_path, endpoint=url, ray_dashboard_url=url, n=8)
        made = await serve_burst.observe_serve_concurrency(o)
    assert made.replicas == ("r1", "r2")
    ruling = concurrent(o, made)
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)
    assert "sesame" not in repr(made)
