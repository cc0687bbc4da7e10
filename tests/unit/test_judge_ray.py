"""ray.*: a dashboard on loopback that answers as Ray 2.60 did, whole or with one thing wrong, and four verdicts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.addresses import Address, AddressFacts, Interface
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.cpu import CpuFacts
from dstui.facts.gpu import GpuFacts
from dstui.facts.listeners import ListenerFacts, Listening
from dstui.facts.mem import MemFacts
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.facts.ray_look import RayLook
from dstui.facts.serve_processes import Holder, Role, ServeProcess, ServeProcesses
from dstui.gather import ray_checks
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import ray
from dstui.model import GatherError, Reason, Ruling, Verdict

DATA = Path(__file__).parents[1] / "data" / "ray"
RULES = {judge.check_id: judge.rule for judge in ray.JUDGES}
HEAD, W2, W3 = "10.77.0.11", "10.77.0.12", "10.77.0.13"
DATE, STARTED = "Tue, 24 Nov 2026 04:30:00 GMT", 1795492000
TOKEN = "0123456789abcdef0123456789abcdef0123"
GIB = 1 << 30
PATHS = {
    "/api/version": "version",
    "/api/authentication_mode": "authentication_mode",
    "/api/v0/nodes": "v0_nodes",
    "/api/serve/applications/": "serve_applications",
    "/api/cluster_status?format=1": "cluster_status_format1",
    "/api/cluster_status": "cluster_status",
    "/api/v0/placement_groups": "v0_placement_groups_detail",
}


@dataclass
class Page:
    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    wait: bool = False


PAGE = Page(
    200,
    b'<!doctype html><script defer="defer" src="./static/js/main.84605326.js"></script>',
    "text/html; charset=utf-8",
)
FAILING = Page(500, (DATA / "checks" / "prometheus_health.json").read_bytes())


def pages(folder: str = "before_kill", **changed: Page) -> dict[str, Page]:
    """What the dashboard answers, by path; `changed` by the name of a section."""
    found = {path: Page(200, (DATA / folder / f"{name}.json").read_bytes()) for path, name in PATHS.items()}
    found["/api/v0/nodes"] = nodes()
    found |= {
        "/api/gcs_healthz": Page(200, b"success", "application/text"),
        "/": PAGE,
        "/static/js/main.84605326.js": Page(200, b"!function(){}()", "application/javascript"),
        "/api/prometheus_health": Page(200, b"{}"),
        "/api/grafana_health": Page(200, b"{}"),
    }
    names = {
        "healthz": "/api/gcs_healthz",
        "page": "/",
        "script": "/static/js/main.84605326.js",
        "nodes": "/api/v0/nodes",
        "version": "/api/version",
        "auth": "/api/authentication_mode",
        "prometheus": "/api/prometheus_health",
        "grafana": "/api/grafana_health",
        "demands": "/api/cluster_status?format=1",
    }
    return found | {names[name]: page for name, page in changed.items()}


def rows() -> list[dict[str, object]]:
    """The captured nodes, with the times that `detail=1` adds."""
    document = json.loads((DATA / "before_kill" / "v0_nodes.json").read_text())
    return [{**row, "start_time_ms": STARTED * 1000, "end_time_ms": 0} for row in document["data"]["result"]["result"]]


def nodes(change: Callable[[list[dict[str, object]]], object] = lambda found: None, **counts: object) -> Page:
    found = rows()
    change(found)
    result = {"total": len(found), "num_after_truncation": len(found), "result": found, **counts}
    return Page(200, json.dumps({"result": True, "data": {"result": result}}).encode())


def node(found: list[dict[str, object]], ip: str) -> dict[str, object]:
    return next(row for row in found if row["node_ip"] == ip)


@dataclass
class Dashboard:
    """`asked` are the paths and the Authorization header of each request."""

    pages: Mapping[str, Page]
    token: str | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    never: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (line := await reader.readline()).strip():
                path, key = line.decode().split(" ")[1], ""
                while header := (await reader.readline()).decode("latin-1").strip():
                    if header.lower().startswith("authorization:"):
                        key = header.partition(":")[2].strip()
                self.asked.append((path, key))
                page = self.page(path, key)
                if page.wait:
                    await self.never.wait()
                head = f"HTTP/1.1 {page.status} X\r\nContent-Type: {page.kind}\r\nDate: {DATE}\r\n"
                writer.write(f"{head}Content-Length: {len(page.body)}\r\n\r\n".encode() + page.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def page(self, path: str, key: str) -> Page:
        guarded = path.startswith("/api/") and path not in ("/api/gcs_healthz", "/api/authentication_mode")
        if self.token is not None and guarded and key != f"Bearer {self.token}":
            words, status = ("Missing", 401) if not key else ("Invalid", 403)
            return Page(status, f"{words} authentication token".encode(), "text/plain")
        bare = path if path in self.pages else path.partition("?")[0]
        return self.pages.get(bare, Page(404, b"404: Not Found", "text/plain"))


@asynccontextmanager
async def listening(dashboard: Dashboard) -> AsyncIterator[int]:
    server = await asyncio.start_server(dashboard.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        dashboard.never.set()
        server.close()


INVENTORY = """version: 1
cluster: {{name: ds, environment: lab}}
ssh: {{user: ops}}
{secrets}
runtime: {{python: /opt/venv/bin/python}}
ray: {{{ray}}}
hosts:
  - {{name: gpu-01, roles: [head], data_ip: 10.77.0.11, gpu: false}}
  - {{name: gpu-02, roles: [worker], data_ip: 10.77.0.12, gpu: true, gpus_per_host: 8}}
  - {{name: gpu-03, roles: [worker], data_ip: 10.77.0.13, gpu: true, gpus_per_host: 8}}
"""


class HeadLink:
    """The head, which answers one command."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, list[Op]()

    async def facts(self, ops: list[Op], *, deadline: float) -> Raw:
        self.asked += ops
        return Raw({op.key: replace(self.answer, key=op.key, source=op.source) for op in ops})


@cache
def catalogue() -> Catalogue:
    return load_catalogue()


def params(check: str, **changed: object) -> Params:
    found = [p.threshold() for p in catalogue().check(check).params]
    return Params([replace(t, value=changed.get(t.param, t.value)) for t in found])


def observing(folder: Path, ray_block: str, token: str | None = None, **more: object) -> Observing:
    secret = folder / "token"
    secret.write_text(f"{token}\n")
    secret.chmod(0o600)
    file = folder / "inventory.yaml"
    file.write_text(INVENTORY.format(ray=ray_block, secrets=f"secrets: {{ray: 'file:{secret}'}}"))
    inventory = load_inventory(file)
    block = dict(inventory.value("ray") or {})  # type: ignore[call-overload]
    url, access = block.get("dashboard_url"), block.get("dashboard_access", "direct")

    def values(check: str, host: str | None) -> Params:
        changed = {"ray_dashboard_url": url, "dashboard_access": access}
        return params(check, **{k: v for k, v in changed.items() if v is not None})

    return Observing(inventory, inventory.site(), values, {}, {}, "r1", **more)  # type: ignore[arg-type]


async def look(folder: Path, dashboard: Dashboard, *, token: str | None = None, ref: bool = False) -> RayLook:
    """One look straight at a dashboard."""
    async with listening(dashboard) as port:
        block = f"dashboard_url: 'http://127.0.0.1:{port}'" + (", token_ref: secrets.ray" if ref else "")
        found = await ray_checks.observe_ray(observing(folder, block, token))
    return replace(found, url="http://dashboard:8265")


# what hosts show


def process(role: Role, *, holder: Holder = Holder.SERVICE, **flags: str) -> ServeProcess:
    return ServeProcess(
        role, 100, 1, 9000.0, holder, "ray-head.service", {k.replace("_", "-"): v for k, v in flags.items()}
    )


GCS = process(Role.GCS, node_ip_address=HEAD, gcs_server_port="6379")
RAYLET = process(Role.RAYLET, node_ip_address=HEAD)
BOARD = process(Role.DASHBOARD, host="127.0.0.1", port="8265")


def gone(kind: type) -> Missing:
    return Missing(Reason.NOT_RUN, f"{kind.__name__} was not looked at")


def gpus(count: int | None) -> GpuFacts:
    nothing = gone(GpuFacts)
    devices = (
        Missing(Reason.TOOL_MISSING, "no libnvidia-ml.so.1") if count is None else tuple(object() for _ in range(count))
    )
    return GpuFacts(devices, "NVML", None, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing)  # type: ignore[arg-type]


def host_facts(host: HostSite, **changed: object) -> HostFacts:
    """A host as it should be beside the captured Ray: 4 CPUs, 24 GiB, 8 GPUs where there are any."""
    nothing = gone(CpuFacts)
    own = [GCS, RAYLET, BOARD] if "head" in host.roles else [RAYLET]
    eth0 = Interface(
        "eth0",
        2,
        "",
        1500,
        True,
        (
            Address("eth0", host.data_ip, 24, "global", False, None),
            Address("eth0", f"192.0.2.{host.data_ip[-2:]}", 24, "global", False, None),
        ),
    )
    groups: dict[type, object] = {
        ServeProcesses: ServeProcesses(tuple(own), True, 8 * GIB),
        ListenerFacts: ListenerFacts((Listening("0.0.0.0", 6379, "gcs_server", 1),), gone(int), gone(int)),  # type: ignore[arg-type]
        AddressFacts: AddressFacts((eth0,), (), ()),
        GpuFacts: gpus(8),
        CpuFacts: CpuFacts(nothing, 4, "0-3", nothing, nothing, None, nothing, "", nothing, nothing),
        MemFacts: MemFacts(24 * GIB, *([nothing] * 9), None, None, nothing),  # type: ignore[arg-type]
    }
    for kind in groups:
        if kind.__name__ in changed:
            groups[kind] = changed[kind.__name__]
    return HostFacts(None, None, Raw(), groups)


def rule(
    check: str, seen: RayLook | Missing, *, hosts: Mapping[str, HostFacts] | None = None, **values: object
) -> dict[str, Ruling]:
    """Rulings by the name of their target."""
    facts = {h.name: host_facts(h) for h in SITE.hosts} | dict(hosts or {})
    case = FleetCase(SITE, facts, params(check, **values), {}, {RayLook: seen}, 0.0)
    return {ruling.target.name: ruling for ruling in RULES[check](case)}


def _site() -> Site:
    hosts = (
        HostSite("gpu-01", frozenset({"head"}), HEAD, None, HEAD, 22, "ops", False, None),
        HostSite("gpu-02", frozenset({"worker"}), W2, None, W2, 22, "ops", True, 8),
        HostSite("gpu-03", frozenset({"worker"}), W3, None, W3, 22, "ops", True, 8),
    )
    return Site("ds", "lab", "auto", hosts, "/mnt/x", "/opt/venv/bin/python", None, "bare-metal", False, "none")


SITE = _site()


def said(ruling: Ruling) -> str:
    return "\n".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


def head(**changed: object) -> dict[str, HostFacts]:
    return {"gpu-01": host_facts(SITE.host("gpu-01"), **changed)}


def processes(*found: ServeProcess, whole: bool = True) -> ServeProcesses:
    return ServeProcesses(found, whole, 8 * GIB)


# healthy


async def test_a_healthy_cluster(tmp_path: Path) -> None:
    dashboard = Dashboard(pages())
    seen = await look(tmp_path, dashboard)
    assert rule("ray.head-started", seen)["gpu-01"].verdict is Verdict.PASS
    workers = rule("ray.workers-joined", seen)
    assert {name: ruling.verdict for name, ruling in workers.items()} == dict.fromkeys(
        ("gpu-01", "gpu-02", "gpu-03", "ds"), Verdict.PASS
    )
    found = rule("ray.resources", seen)
    assert {name: ruling.verdict for name, ruling in found.items()} == dict.fromkeys(
        ("gpu-01", "gpu-02", "gpu-03", "ds"), Verdict.PASS
    ), [said(r) for r in found.values()]
    assert "Ray: GPU 8, CPU 4" in found["gpu-02"].observed.en
    # Nobody is asked for a token, and this machine got there without a tunnel.
    board = rule("ray.dashboard", seen)["http://dashboard:8265"]
    assert board.verdict is Verdict.WARN and "without a tunnel or a token" in board.rule.en
    assert not any(key for _, key in dashboard.asked)


async def test_a_healthy_dashboard_that_wants_a_token(tmp_path: Path) -> None:
    guarded = pages(auth=Page(200, b'{"authentication_mode": "token"}'))
    dashboard = Dashboard(guarded, token=TOKEN)
    seen = await look(tmp_path, dashboard, token=TOKEN, ref=True)
    assert rule("ray.dashboard", seen)["http://dashboard:8265"].verdict is Verdict.PASS
    assert rule("ray.head-started", seen)["gpu-01"].verdict is Verdict.PASS
    shown = "".join(
        f"{e.source}{e.output}{e.error}"
        for e in seen.evidence(rule("ray.dashboard", seen)["http://dashboard:8265"].target)
    )
    assert TOKEN not in shown and 'Bearer $RAY"' in shown


async def test_environments_never_leave_the_parser(tmp_path: Path) -> None:
    found = pages()
    serve = found["/api/serve/applications/"]
    assert b"/srv/lab/rayapp" in serve.body
    seen = await look(tmp_path, Dashboard(found))
    shown = repr(seen)
    assert "/srv/lab/rayapp" not in shown and "env_vars" not in shown
    assert "Echo: HEALTHY, 2 of 2 replicas RUNNING, max_ongoing_requests 5" in shown
    for broken in (serve.body[:900], b'{"applications": {"x": {"env_vars": "sesame"}}', b'[{"env_vars": "sesame"}]'):
        seen = await look(tmp_path, Dashboard(found | {"/api/serve/applications/": Page(200, broken)}))
        assert "rayapp" not in repr(seen) and "sesame" not in repr(seen)
        assert seen.snapshot.serve is None and seen.configs is None


# ray.head-started


def with_node(ip: str, **values: object) -> dict[str, Page]:
    return pages(nodes=nodes(lambda found: node(found, ip).update(values)))


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        pytest.param(lambda: pages(healthz=Page(200, b"failure", "text/plain")), "fail", "not success", id="unhealthy"),
        pytest.param(lambda: pages(healthz=Page(503, b"down")), "fail", "HTTP 503", id="healthz-503"),
        pytest.param(lambda: pages(healthz=Page(404)), "unknown", "HTTP 404", id="no-healthz"),
        pytest.param(lambda: with_node(HEAD, node_ip="127.0.0.1"), "fail", "registered as 127.0.0.1", id="loopback"),
        pytest.param(lambda: with_node(HEAD, node_ip="192.0.2.11"), "warn", "another of its addresses", id="other-nic"),
        pytest.param(lambda: with_node(HEAD, node_ip="203.0.113.9"), "fail", "no address of gpu-01", id="elsewhere"),
        pytest.param(lambda: with_node(HEAD, state="DEAD"), "fail", "no node is an ALIVE head", id="dead"),
        pytest.param(lambda: with_node(W2, is_head_node=True), "fail", "2 nodes are an ALIVE head", id="two-heads"),
        pytest.param(lambda: with_node(HEAD, start_time_ms=1795494600_000 - 299_000), "warn", "look again", id="young"),
        pytest.param(lambda: with_node(HEAD, start_time_ms=1795494600_000 - 300_000), "pass", "", id="old-enough"),
        pytest.param(lambda: pages(nodes=Page(500, b"boom")), "unknown", "HTTP 500", id="nodes-500"),
        pytest.param(lambda: pages(nodes=Page(200, b"<html>")), "unknown", "web page", id="nodes-html"),
        pytest.param(lambda: pages(nodes=Page(200, b'{"data"')), "unknown", "not JSON", id="nodes-garbled"),
        pytest.param(lambda: pages(nodes=nodes(list.clear)), "fail", "no node is an ALIVE head", id="no-nodes"),
        pytest.param(lambda: pages(nodes=nodes(list.clear, total=9)), "unknown", "only part", id="truncated"),
    ],
)
async def test_the_head(tmp_path: Path, change: Callable[[], dict[str, Page]], verdict: str, words: str) -> None:
    ruling = rule("ray.head-started", await look(tmp_path, Dashboard(change())))["gpu-01"]
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({"ServeProcesses": processes(replace(GCS, holder=Holder.LOGIN), RAYLET)}, "warn", "started by hand"),
        ({"ServeProcesses": processes(replace(GCS, holder=Holder.NOBODY), RAYLET)}, "warn", "started by hand"),
        ({"ServeProcesses": processes(replace(GCS, holder=Holder.CONTAINER), RAYLET)}, "pass", "restart policy"),
        ({"ServeProcesses": processes(GCS, process(Role.DASHBOARD, host="0.0.0.0", port="8265"))}, "warn", "no token"),
        ({"ServeProcesses": processes(RAYLET)}, "warn", "no gcs_server is seen"),
        ({"ServeProcesses": processes(RAYLET, whole=False)}, "pass", ""),
        ({"ServeProcesses": gone(ServeProcesses)}, "pass", "could not be looked at"),
        ({"ListenerFacts": ListenerFacts((), gone(int), gone(int))}, "warn", "nothing listens on port 6379"),  # type: ignore[arg-type]
    ],
)
async def test_the_head_itself(tmp_path: Path, changed: dict[str, object], verdict: str, words: str) -> None:
    ruling = rule("ray.head-started", await look(tmp_path, Dashboard(pages())), hosts=head(**changed))["gpu-01"]
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)


async def test_a_pinned_version(tmp_path: Path) -> None:
    seen = await look(tmp_path, Dashboard(pages()))
    assert rule("ray.head-started", seen, ray_version="2.60.0")["gpu-01"].verdict is Verdict.PASS
    assert rule("ray.head-started", seen, ray_version="2.61")["gpu-01"].verdict is Verdict.FAIL


@pytest.mark.parametrize("given", [None, "wrong"])
async def test_a_token_that_is_wanted(tmp_path: Path, given: str | None) -> None:
    found = pages(auth=Page(200, b'{"authentication_mode": "token"}'))
    seen = await look(tmp_path, Dashboard(found, token=TOKEN), token=given, ref=given is not None)
    for check in RULES:
        ruling = next(iter(rule(check, seen).values()))
        assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL), (check, said(ruling))


def closed(reason: Reason, *, refused: bool = False, status: Answer | None = None) -> RayLook:
    """A look that got no answer at all."""
    from dstui.telemetry.ray import RaySnapshot

    why = Missing(reason, "gpu-01: connection refused")
    return RayLook(
        {}, "http://dashboard:8265", "tunnel", None, False, why, refused, RaySnapshot(0.0), None, None, None, status
    )


STATUS = "======== Autoscaler status: 2026-11-24 ========\nNode status\n---\nActive:\n 1 node_08bb\n"


@pytest.mark.parametrize(
    ("changed", "status", "verdict", "reason", "words"),
    [
        ({"ServeProcesses": processes(), "ListenerFacts": ListenerFacts((), gone(int), gone(int))}, None,  # type: ignore[arg-type]
         "fail", None, "no gcs_server runs"),
        ({"ServeProcesses": processes(whole=False), "ListenerFacts": ListenerFacts((), gone(int), gone(int))}, None,  # type: ignore[arg-type]
         "fail", None, "nothing listens on 6379"),
        ({"ServeProcesses": gone(ServeProcesses), "ListenerFacts": gone(ListenerFacts)}, None,
         "unknown", Reason.UNREACHABLE, "connection refused"),
        ({}, Answer("", "", STATUS, "", 0), "warn", None, "judged by ray status"),
        ({}, Answer("", "", "", "ConnectionError: no GCS", 1), "unknown", Reason.CANNOT_TELL, "no GCS"),
        ({}, Answer("", "", "hello", "", 0), "unknown", Reason.CANNOT_TELL, "ray status fails"),
        ({}, Answer("", "", missing=Missing(Reason.TIMEOUT, "15 s")), "unknown", Reason.TIMEOUT, "15 s"),
        ({}, None, "unknown", Reason.UNREACHABLE, "connection refused"),
        ({"ServeProcesses": processes(process(Role.GCS, node_ip_address="127.0.0.1"))}, Answer("", "", STATUS, "", 0),
         "fail", None, "registered as 127.0.0.1"),
        ({"ServeProcesses": processes(process(Role.GCS, node_ip_address="192.0.2.9"))}, Answer("", "", STATUS, "", 0),
         "warn", None, "not at data_ip"),
        ({"ServeProcesses": processes(process(Role.GCS))}, Answer("", "", STATUS, "", 0),
         "unknown", Reason.CANNOT_TELL, "not seen"),
    ],
)  # fmt: skip
def test_without_a_dashboard(
    changed: dict[str, object], status: Answer | None, verdict: str, reason: Reason | None, words: str
) -> None:
    ruling = rule("ray.head-started", closed(Reason.UNREACHABLE, status=status), hosts=head(**changed))["gpu-01"]
    assert (ruling.verdict.value, ruling.reason, words in said(ruling)) == (verdict, reason, True), said(ruling)


async def test_nobody_is_there(tmp_path: Path) -> None:
    """Nothing listens at the dashboard's address, and there is no SSH to the head either."""
    async with listening(Dashboard({})) as port:
        pass
    seen = await ray_checks.observe_ray(observing(tmp_path, f"dashboard_url: 'http://127.0.0.1:{port}'"))
    assert not seen.answered
    board = next(iter(rule("ray.dashboard", seen).values()))
    assert board.verdict is Verdict.FAIL and "refused" in said(board)
    for check in ("ray.workers-joined", "ray.resources"):
        ruling = rule(check, seen)["ds"]
        assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE), check


async def test_a_dashboard_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_checks, "SECONDS", 0.2)
    seen = await look(tmp_path, Dashboard({path: Page(wait=True) for path in pages()}))
    board = next(iter(rule("ray.dashboard", seen).values()))
    assert board.verdict is Verdict.FAIL and "0.2 s" in said(board)
    ruling = rule("ray.workers-joined", seen)["ds"]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TIMEOUT)


async def test_through_the_tunnel(tmp_path: Path) -> None:
    """The head forwards; the dashboard is asked through the socket, and by its own address without a token."""
    dashboard, socket = Dashboard(pages()), tmp_path / "s"
    server = await asyncio.start_unix_server(dashboard.serve, socket)
    tried: list[tuple[str, str, int]] = []

    async def forward(host: HostSite, address: str, port: int) -> Path:
        tried.append((host.name, address, port))
        if address == "127.0.0.1":
            raise GatherError(Reason.UNREACHABLE, "gpu-01: cannot connect to 127.0.0.1:8265: refused")
        return socket

    head_link = HeadLink(Answer("", ""))
    o = observing(tmp_path, "dashboard_access: tunnel", forward=forward)
    o = replace(o, links={"gpu-01": head_link}, site=replace(o.site, simulated=True))  # type: ignore[dict-item]
    try:
        seen = await ray_checks.observe_ray(o)
    finally:
        server.close()
    assert tried == [("gpu-01", "127.0.0.1", 8265), ("gpu-01", HEAD, 8265)]
    assert (seen.via, seen.url, seen.closed) == ("gpu-01", f"http://{HEAD}:8265", None)
    assert rule("ray.dashboard", seen, dashboard_access="tunnel")[f"http://{HEAD}:8265"].verdict is Verdict.PASS
    assert all("# from gpu-01" in exchange.curl for exchange in seen.by_key.values())
    assert head_link.asked == []


async def test_a_tunnel_that_leads_nowhere(tmp_path: Path) -> None:
    async def forward(host: HostSite, address: str, port: int) -> Path:
        raise GatherError(Reason.UNREACHABLE, f"gpu-01: cannot connect to {address}:{port}: refused")

    head_link = HeadLink(Answer("", "", STATUS, "", 0))
    o = observing(tmp_path, "dashboard_access: tunnel", forward=forward)
    o = replace(o, links={"gpu-01": head_link}, site=replace(o.site, simulated=True))  # type: ignore[dict-item]
    seen = await ray_checks.observe_ray(o)
    board = rule("ray.dashboard", seen, dashboard_access="tunnel")[f"http://{HEAD}:8265"]
    assert board.verdict is Verdict.FAIL and "leads nowhere" in board.rule.en
    assert [op.args["argv"] for op in head_link.asked] == [["/opt/venv/bin/ray", "status", "--address", f"{HEAD}:6379"]]
    assert rule("ray.head-started", seen)["gpu-01"].verdict is Verdict.WARN
    unknown = rule("ray.dashboard", closed(Reason.UNREACHABLE), dashboard_access="tunnel")["http://dashboard:8265"]
    assert (unknown.verdict, unknown.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


async def test_off_the_operators_path(tmp_path: Path) -> None:
    seen = replace(await look(tmp_path, Dashboard(pages())), off_path=True, via="gpu-01")
    assert rule("ray.dashboard", seen)["http://dashboard:8265"].verdict is Verdict.FAIL
    assert rule("ray.head-started", seen)["gpu-01"].verdict is Verdict.PASS


# ray.workers-joined


@pytest.mark.parametrize(
    ("change", "target", "verdict", "words"),
    [
        pytest.param(
            lambda r: node(r, W3).update(state="DEAD", state_message="missing too many heartbeats"),
            "gpu-03",
            "fail",
            "is DEAD: missing too many heartbeats",
            id="dead",
        ),
        pytest.param(lambda r: r.remove(node(r, W3)), "gpu-03", "fail", "has not joined", id="absent"),
        pytest.param(lambda r: r.remove(node(r, W3)), "ds", "fail", "not in the cluster: gpu-03", id="absent-in-all"),
        pytest.param(
            lambda r: node(r, W3).update(node_ip="192.0.2.13"), "gpu-03", "warn", "not at data_ip", id="other-nic"
        ),
        pytest.param(
            lambda r: r.append({**node(r, W3), "node_id": "ff01", "node_ip": "10.77.0.99"}),
            "ds",
            "warn",
            "10.77.0.99",
            id="stranger",
        ),
        pytest.param(
            lambda r: r.append({**node(r, W3), "node_id": "ff02"}), "gpu-03", "warn", "two raylets", id="twice"
        ),
        pytest.param(
            lambda r: r.append(
                {**node(r, W3), "node_id": "ff03", "state": "DEAD", "end_time_ms": 1795494600_000 - 23 * 3600_000}
            ),
            "gpu-03",
            "warn",
            "left the cluster 1 ×",
            id="flapping",
        ),
        pytest.param(
            lambda r: r.append(
                {**node(r, W3), "node_id": "ff04", "state": "DEAD", "end_time_ms": 1795494600_000 - 25 * 3600_000}
            ),
            "gpu-03",
            "pass",
            "",
            id="died-long-ago",
        ),
        pytest.param(lambda r: node(r, W3).update(state="DRAINING"), "gpu-03", "unknown", "DRAINING", id="new-state"),
    ],
)
async def test_the_workers(
    tmp_path: Path, change: Callable[[list[dict[str, object]]], object], target: str, verdict: str, words: str
) -> None:
    ruling = rule("ray.workers-joined", await look(tmp_path, Dashboard(pages(nodes=nodes(change)))))[target]
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)


async def test_a_list_that_is_cut(tmp_path: Path) -> None:
    page = nodes(lambda r: r.remove(node(r, W3)), total=3, num_after_truncation=2)
    found = rule("ray.workers-joined", await look(tmp_path, Dashboard(pages(nodes=page))))
    assert found["gpu-03"].verdict is Verdict.UNKNOWN and found["ds"].verdict is Verdict.UNKNOWN


async def test_a_raylet_that_is_gone_though_ray_believes_in_it(tmp_path: Path) -> None:
    seen = await look(tmp_path, Dashboard(pages()))
    without = {"gpu-03": host_facts(SITE.host("gpu-03"), ServeProcesses=processes())}
    ruling = rule("ray.workers-joined", seen, hosts=without)["gpu-03"]
    assert ruling.verdict is Verdict.FAIL and "no raylet runs on the host" in ruling.rule.en
    hidden = {"gpu-03": host_facts(SITE.host("gpu-03"), ServeProcesses=processes(whole=False))}
    passed = rule("ray.workers-joined", seen, hosts=hidden)["gpu-03"]
    # As the catalogue has it; that nobody saw the raylet itself is said.
    assert passed.verdict is Verdict.PASS and "by Ray's word alone" in passed.observed.en
    late = Missing(Reason.TIMEOUT, "late")
    lost = {"gpu-03": host_facts(SITE.host("gpu-03"), ServeProcesses=late)}
    assert "by Ray's word alone" in rule("ray.workers-joined", seen, hosts=lost)["gpu-03"].observed.en
    assert "by Ray's word alone" not in rule("ray.workers-joined", seen)["gpu-03"].observed.en


# ray.dashboard


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        pytest.param({"page": Page(503, b"")}, "fail", "/ answers HTTP 503", id="page-503"),
        pytest.param({"page": Page(404, b"404", "text/plain")}, "fail", "ray[default]", id="minimal"),
        pytest.param({"page": Page(200, b"<html></html>", "text/html")}, "fail", "no script", id="no-script"),
        pytest.param({"script": Page(404)}, "fail", "stays empty", id="script-404"),
        pytest.param({"version": Page(502, b"")}, "fail", "/api/version answers HTTP 502", id="api-502"),
        pytest.param({"version": Page(200, b"[]")}, "unknown", "/api/version", id="api-garbled"),
        pytest.param(
            {"prometheus": FAILING}, "warn", "Prometheus inside the dashboard is not healthy", id="no-prometheus"
        ),
        pytest.param({"grafana": FAILING}, "warn", "Grafana inside the dashboard is not healthy", id="no-grafana"),
        pytest.param({"version": Page(200, b'{"ray_version": "2.53.9"}')}, "warn", "CVE-2026-27482", id="old"),
        pytest.param({"version": Page(200, b'{"ray_version": "2.54.0"}')}, "pass", "", id="fixed"),
        pytest.param({"auth": Page(200, b'{"authentication_mode": "disabled"}')}, "warn", "or a token", id="open"),
        pytest.param({"auth": Page(404)}, "warn", "or a token", id="before-tokens"),
        pytest.param({"auth": Page(500)}, "unknown", "asks for a token", id="auth-500"),
    ],
)
async def test_the_dashboard(tmp_path: Path, change: dict[str, Page], verdict: str, words: str) -> None:
    found = pages(**{"auth": Page(200, b'{"authentication_mode": "token"}'), **change})
    ruling = rule("ray.dashboard", await look(tmp_path, Dashboard(found)))["http://dashboard:8265"]
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)


async def test_embedding_that_nobody_wants(tmp_path: Path) -> None:
    found = pages(auth=Page(200, b'{"authentication_mode": "token"}'), prometheus=FAILING, grafana=FAILING)
    ruling = rule("ray.dashboard", await look(tmp_path, Dashboard(found)), metrics_embed=False)["http://dashboard:8265"]
    assert ruling.verdict is Verdict.PASS


# ray.resources


def resources(ip: str, **values: object) -> Callable[[list[dict[str, object]]], object]:
    def change(found: list[dict[str, object]]) -> None:
        total = node(found, ip)["resources_total"]
        assert isinstance(total, dict)
        total.update(values)

    return change


@pytest.mark.parametrize(
    ("change", "hosts", "target", "verdict", "words"),
    [
        pytest.param(resources(W2, GPU=16.0), {}, "gpu-02", "fail", "Ray counts 16 GPUs, NVML finds 8", id="declared"),
        pytest.param(resources(W2, GPU=16.0), {}, "ds", "fail", "24 GPUs in all, the inventory has 16", id="in-all"),
        pytest.param(resources(W2, GPU=4.0), {}, "gpu-02", "fail", "CUDA_VISIBLE_DEVICES", id="hidden"),
        pytest.param(resources(HEAD, GPU=8.0), {}, "gpu-01", "fail", "NVML finds 0", id="gpus-that-do-not-exist"),
        pytest.param(lambda r: None, {"GpuFacts": gpus(7)}, "gpu-02", "fail", "NVML finds 7", id="one-lost"),
        pytest.param(lambda r: None, {"GpuFacts": gpus(None)}, "gpu-02", "unknown", "by NVML", id="no-nvml"),
        pytest.param(
            resources(W2, GPU=7.0),
            {"GpuFacts": gpus(None)},
            "gpu-02",
            "fail",
            "the inventory says 8",
            id="no-nvml-and-wrong",
        ),
        pytest.param(resources(W2, CPU=4.4), {}, "gpu-02", "pass", "", id="cpu-at-the-tolerance"),
        pytest.param(resources(W2, CPU=4.5), {}, "gpu-02", "warn", "4.5 CPUs, the host has 4", id="cpu-beyond"),
        pytest.param(resources(W2, memory=12.0 * GIB), {}, "gpu-02", "pass", "", id="memory-at-the-ratio"),
        pytest.param(resources(W2, memory=11.9 * GIB), {}, "gpu-02", "warn", "less than 50%", id="memory-below"),
        pytest.param(
            resources(W2, object_store_memory=9.0 * GIB), {}, "gpu-02", "warn", "falls back", id="store-beyond-shm"
        ),
        pytest.param(lambda r: node(r, W2).update(state="DEAD"), {}, "gpu-02", "fail", "not in the cluster", id="dead"),
        pytest.param(
            lambda r: node(r, W2).update(resources_total={}), {}, "gpu-02", "unknown", "does not tell", id="no-numbers"
        ),
        pytest.param(
            lambda r: None, {"CpuFacts": gone(CpuFacts)}, "gpu-02", "unknown", "host's CPUs", id="no-cpu-facts"
        ),
        pytest.param(
            lambda r: None, {"MemFacts": gone(MemFacts)}, "gpu-02", "unknown", "host's memory", id="no-memory-facts"
        ),
    ],
)
async def test_the_resources(
    tmp_path: Path,
    change: Callable[[list[dict[str, object]]], object],
    hosts: dict[str, object],
    target: str,
    verdict: str,
    words: str,
) -> None:
    seen = await look(tmp_path, Dashboard(pages(nodes=nodes(change))))
    facts = {"gpu-02": host_facts(SITE.host("gpu-02"), **hosts)}
    ruling = rule("ray.resources", seen, hosts=facts)[target]
    assert (ruling.verdict.value, words in said(ruling)) == (verdict, True), said(ruling)


async def test_every_gpu_is_given_out_and_more_is_wanted(tmp_path: Path) -> None:
    seen = await look(tmp_path, Dashboard(pages()))
    assert "waiting for resources" in said(rule("ray.resources", seen)["ds"])
    nodes_ = tuple(replace(n, used=n.total) for n in seen.snapshot.nodes or ())
    full = replace(seen, snapshot=replace(seen.snapshot, nodes=nodes_))
    ruling = rule("ray.resources", full)["ds"]
    assert ruling.verdict is Verdict.WARN and "every GPU is given out" in ruling.rule.en


# whether there is a Ray


@pytest.mark.parametrize("check", sorted(RULES))
async def test_without_ray(tmp_path: Path, check: str) -> None:
    seen = await look(tmp_path, Dashboard(pages()))
    for values, verdict in (
        ({"serving_mode": "vllm"}, Verdict.NOT_APPLICABLE),
        ({"serving_mode": "docker"}, Verdict.NOT_APPLICABLE),
    ):
        assert {r.verdict for r in rule(check, seen, **values).values()} == {verdict}
    named = rule(check, seen, serving_mode="docker", ray_dashboard_url="http://x:8265")
    assert Verdict.NOT_APPLICABLE not in {r.verdict for r in named.values()}


@pytest.mark.parametrize("check", sorted(RULES))
def test_an_observation_that_was_lost(check: str) -> None:
    ruling = next(iter(rule(check, Missing(Reason.TIMEOUT, "late")).values()))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TIMEOUT)
