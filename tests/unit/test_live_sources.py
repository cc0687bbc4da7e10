"""What is watched of an inventory: which sources it has, and their records from real servers on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dstui.facts.case import HostSite
from dstui.gather.ssh import Links
from dstui.inventory import Inventory, load_inventory
from dstui.model import GatherError, Reason
from dstui.telemetry import ray
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.sources import NODE_PAGE_SECONDS, Sources, watched_of

DATA = Path(__file__).parents[1] / "data"
PAGE = (DATA / "vllm" / "metrics_during_load.txt").read_text()
HOSTS = "hosts:\n- {name: gpu-01, data_ip: 127.0.0.1, roles: [head], gpus_per_host: 2}\n"
DASHBOARD = "ray: {dashboard_url: 'http://127.0.0.1:1'}\n"
CAPTURED = {"/api/version": "version.json", "/api/authentication_mode": "authentication_mode.json",
            "/api/v0/nodes": "v0_nodes.json"}  # fmt: skip
RAY = {path: (DATA / "ray" / "before_kill" / name).read_text() for path, name in CAPTURED.items()}
BACKENDS = "endpoints: {api: 'http://127.0.0.1:1', backends: ['http://127.0.0.1:1']}\n"


def inventory(tmp_path: Path, more: str = "") -> Inventory:
    path = tmp_path / "inventory.yaml"
    path.write_text("version: 1\ncluster: {name: ds}\nssh: {user: ops}\n" + HOSTS + more)
    return load_inventory(path)


@pytest.mark.parametrize(
    ("more", "intervals"),
    [
        ("", {"host": 1.0}),
        (DASHBOARD, {"host": 1.0, "ray": 2.0, "vllm": NODE_PAGE_SECONDS}),
        (BACKENDS, {"host": 1.0, "vllm": 1.0}),
        (DASHBOARD + BACKENDS, {"host": 1.0, "ray": 2.0, "vllm": 1.0}),
        (DASHBOARD + BACKENDS + "serving: {mode: ray-serve}\n", {"host": 1.0, "ray": 2.0, "vllm": NODE_PAGE_SECONDS}),
        (BACKENDS + "serving: {mode: ray-serve}\n", {"host": 1.0}),
        ("ray: {dashboard_access: tunnel}\n", {"host": 1.0, "ray": 2.0, "vllm": NODE_PAGE_SECONDS}),
    ],
)
def test_what_an_inventory_has_to_watch(tmp_path: Path, more: str, intervals: Mapping[str, float]) -> None:
    watched = watched_of(inventory(tmp_path, more))
    assert watched.intervals == intervals
    assert [(host.name, host.gpus_per_host) for host in watched.hosts] == [("gpu-01", 2)]


def test_settings_of_what_is_watched(tmp_path: Path) -> None:
    watched = watched_of(inventory(tmp_path, "engine: {max_num_seqs: 256}\n"), interval=0.5, simulated=True)
    assert (watched.interval("host"), watched.max_num_seqs, watched.simulated) == (0.5, 256, True)


class NoLinks(Links):
    """Hosts that cannot be reached."""

    async def link(self, host: HostSite) -> object:  # type: ignore[override]
        raise GatherError(Reason.UNREACHABLE, f"{host.name}: connection refused")


@dataclass
class Server:
    """Answers by path, 404 otherwise; remembers who asked with which token."""

    pages: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split(" ")[1]
            token = next((line.split(": ", 1)[1] for line in head if line.lower().startswith("authorization")), "")
            self.asked.append((path, token))
            body = self.pages.get(path.split("?")[0])
            status = "404 Not Found" if body is None else "200 OK"
            kind = "text/plain" if path.startswith("/metrics") else "application/json"
            text = (body or "").encode()
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            writer.write(text)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.talk, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield made


class Tunnels(NoLinks):
    """Hosts whose kept connections lead to `path`; `refusing` ones do not forward. `asked` is who was to."""

    path: Path
    refusing: frozenset[str] = frozenset()
    asked: list[tuple[str, str, int]]

    async def forward(self, host: HostSite, address: str, port: int) -> Path | None:
        self.asked.append((host.name, address, port))
        if host.name in self.refusing and port != 8265:
            raise GatherError(Reason.UNREACHABLE, f"{host.name}: it does not forward")
        return self.path


async def until(found: Inventory, enough: Callable[[list[Record]], bool], links: NoLinks | None = None) -> list[Record]:
    """Runs the sources until the records are enough; everything has ended afterwards."""
    records: list[Record] = []
    done = asyncio.Event()

    def emit(record: Record) -> None:
        records.append(record)
        if enough(records):
            done.set()

    links = links or NoLinks(found.ssh_for)
    sources = Sources(found, watched_of(found), links, emit)
    before = asyncio.all_tasks()
    running = asyncio.create_task(sources.run())
    try:
        async with asyncio.timeout(20):
            await done.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await links.aclose()
    assert asyncio.all_tasks() == before
    return records


def kinds(records: list[Record]) -> dict[str, set[RecordKind]]:
    found: dict[str, set[RecordKind]] = {}
    for record in records:
        found.setdefault(record.source, set()).add(record.kind)
    return found


async def test_hosts_ray_and_backends(tmp_path: Path, server: Server) -> None:
    server.pages = {**RAY, "/metrics": PAGE}
    more = f"ray: {{dashboard_url: '{server.url}'}}\nendpoints: {{api: '{server.url}', backends: ['{server.url}']}}\n"
    wanted = {"host:gpu-01", "ray", "vllm:gpu-01"}
    records = await until(inventory(tmp_path, more), lambda records: wanted <= set(kinds(records)))
    assert kinds(records) == {
        "host:gpu-01": {RecordKind.LOST},
        "ray": {RecordKind.SAMPLE},
        "vllm:gpu-01": {RecordKind.SAMPLE},
    }


async def test_pages_of_ray_nodes_are_found_through_ray(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TOKEN", "0123456789abcdef")
    target = {"labels": {"job": "ray"}, "targets": [f"127.0.0.1:{server.port}"]}
    server.pages = {
        **RAY,
        "/api/v0/nodes": RAY["/api/v0/nodes"].replace("10.77.0.11", "127.0.0.1"),
        "/api/prometheus/sd": json.dumps([target]),
        "/metrics": PAGE.replace("vllm:", "ray_vllm_"),
    }
    more = (
        f"ray: {{dashboard_url: '{server.url}', token_ref: secrets.ray}}\nserving: {{mode: ray-serve}}\n"
        "secrets: {ray: 'env:RAY_TOKEN'}\n"
    )
    records = await until(
        inventory(tmp_path, more),
        lambda records: any(r.source.startswith("vllm:") and r.kind is RecordKind.SAMPLE for r in records),
    )
    sample = next(r for r in records if r.source.startswith("vllm:"))
    assert sample.source.startswith("vllm:gpu-01")
    assert ("/metrics", "Bearer 0123456789abcdef") in server.asked
    assert "0123456789abcdef" not in "".join(str(record.data) for record in records)


THREE = (
    "hosts:\n- {name: gpu-01, data_ip: 10.77.0.11, roles: [head]}\n- {name: gpu-02, data_ip: 10.77.0.12}\n"
    "- {name: gpu-03, data_ip: 10.77.0.13}\n"
)


@pytest.mark.parametrize(
    ("hosts", "refusing", "ways"),
    [
        (THREE, (), {"gpu-02": "gpu-02", "gpu-03": "gpu-03"}),
        (THREE, ("gpu-03",), {"gpu-02": "gpu-02", "gpu-03": "gpu-01"}),
        (THREE.partition("- {name: gpu-03")[0], (), {"gpu-02": "gpu-02", "10.77.0.13": "gpu-01"}),
    ],
    ids=["own-connection", "one-does-not-forward", "no-host-of-the-inventory"],
)
async def test_pages_of_nodes_come_through_the_kept_connections(
    tmp_path: Path, hosts: str, refusing: tuple[str, ...], ways: dict[str, str]
) -> None:
    served = Server()
    targets = [f"10.77.0.1{number}:8080" for number in (1, 2, 3)]
    served.pages = {
        **RAY,
        "/api/prometheus/sd": json.dumps([{"labels": {"job": "ray"}, "targets": targets}]),
        "/metrics": PAGE.replace("vllm:", "ray_vllm_"),
    }
    path = tmp_path / "inventory.yaml"
    path.write_text("version: 1\ncluster: {name: ds}\nssh: {user: ops}\n" + hosts + "ray: {dashboard_access: tunnel}\n")
    found = load_inventory(path)
    links = Tunnels(found.ssh_for)
    links.path, links.refusing, links.asked = tmp_path / "socket", frozenset(refusing), []
    wanted = {"gpu-01", *ways}

    def enough(records: list[Record]) -> bool:
        heard = {r.source.removeprefix("vllm:").split("/")[0] for r in records if r.kind is RecordKind.SAMPLE}
        return wanted <= heard

    async with await asyncio.start_unix_server(served.talk, links.path):
        records = await until(found, enough, links)
    assert not [r for r in records if r.source.startswith("vllm:") and r.kind is RecordKind.LOST]
    pages = {address: name for name, address, port in links.asked if port == 8080}
    names = {"10.77.0.12": "gpu-02", "10.77.0.13": "gpu-03" if "gpu-03" in ways else "10.77.0.13"}
    assert {names[address]: by for address, by in pages.items() if address in names} == ways


async def test_a_page_that_there_is_no_way_to_says_so(tmp_path: Path) -> None:
    served = Server()
    served.pages = {**RAY, "/api/prometheus/sd": json.dumps([{"targets": ["10.77.0.12:8080"]}])}
    found = inventory(tmp_path, "ray: {dashboard_access: tunnel}\n")
    links = Tunnels(found.ssh_for)
    links.path, links.refusing, links.asked = tmp_path / "socket", frozenset({"gpu-01"}), []
    async with await asyncio.start_unix_server(served.talk, links.path):
        records = await until(found, lambda records: any(r.source.startswith("vllm:") for r in records), links)
    lost = next(record for record in records if record.source.startswith("vllm:"))
    assert (lost.kind, lost.data["why"]) == (RecordKind.LOST, "gpu-01: it does not forward")


async def test_a_dashboard_that_nobody_answers_for(tmp_path: Path) -> None:
    records = await until(inventory(tmp_path, DASHBOARD), lambda records: any(r.source == "ray" for r in records))
    lost = next(record for record in records if record.source == "ray")
    assert lost.kind is RecordKind.LOST
    assert ray.snapshot(lost.data).lost is not None


async def test_a_tunnel_through_a_head_that_cannot_be_reached(tmp_path: Path) -> None:
    more = "ray: {dashboard_access: tunnel}\n"
    records = await until(inventory(tmp_path, more), lambda records: any(r.source == "ray" for r in records))
    lost = next(record for record in records if record.source == "ray")
    assert (lost.kind, lost.data["why"]) == (RecordKind.LOST, "gpu-01: connection refused")
