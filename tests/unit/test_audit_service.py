"""Every check of the service against servers and hosts that tell nothing: the whole way, nothing green at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dstui.catalogue import load_catalogue
from dstui.engine import Engine
from dstui.facts.case import HostSite, Session
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.gather.choreographer import Choreographer
from dstui.gather.link import HostLink
from dstui.identity import Identity
from dstui.inventory import load_inventory
from dstui.journal import Journal
from dstui.model import GatherError, Reason, Verdict
from dstui.opening import ParamSource, site_of
from dstui.redact import Redactor
from dstui.standing import CheckStatus

SECTIONS = ("model", "ray", "vllm", "api", "lb", "func", "perf")
NOW = 1_800_000_000.0
KEY = "sk-audit-0001"
INVENTORY = """\
version: 1
cluster: {{name: ds-audit, environment: lab, timezone: UTC, phase: live}}
ssh: {{user: ops}}
hosts:
  - {{name: gpu-01, roles: [head], data_ip: 127.0.0.1, gpu: true, gpus_per_host: 8}}
  - {{name: gpu-02, roles: [worker], data_ip: 127.0.0.2, gpu: true, gpus_per_host: 8}}
model: {{path: /mnt/deepseek-shared/m, served_name: m}}
engine: {{tensor_parallel_size: 8, max_model_len: 4096, max_num_seqs: 64}}
ray: {{dashboard_url: "{url}"}}
serving: {{mode: {mode}, replicas: 2}}
endpoints: {{api: "{url}", serve: "{url}", backends: ["{url}"]}}
lb: {{hosts: [gpu-01], endpoint: "{front}", static_urls: [/app.js]}}
auth: {{key_ref: "env:DSTUI_AUDIT_KEY"}}
"""

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
ANSWERS = {
    "empty": EMPTY,
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    "object": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    "list": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
    "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>ok</html>",
    "elsewhere": b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
    "broken": b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno",
    "limited": b"HTTP/1.1 429 X\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nno",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
    "no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
}


class Mute:
    """A host that answers every operation with the same reason."""

    def __init__(self, reason: Reason) -> None:
        self.session = Session(user="ops", auth="publickey")
        self._reason = reason

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        missing = Missing(self._reason, "told nothing")
        return Raw({op.key: Answer(op.key, op.source, missing=missing) for op in ops})

    async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
        raise GatherError(self._reason, "told nothing")

    async def close(self) -> None:
        return None


class Blank(Mute):
    """A host that answers every operation, with nothing in it."""

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        return Raw({op.key: Answer(op.key, op.source, "", exit=0) for op in ops})


class Pool:
    def __init__(self, host: Mute | None) -> None:
        self._host = host

    async def link(self, host: HostSite) -> HostLink:
        if self._host is None:
            raise GatherError(Reason.UNREACHABLE, f"{host.name}: no route to host")
        return self._host

    async def try_root(self, host: HostSite) -> str:
        return "not-tried"


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[str]:
    """Its URL; with None nobody listens there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
                writer.write(answer or b"")
                await writer.drain()
                if answer is ANSWERS["cut"] or answer is ANSWERS["no-http"]:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
    port = running.sockets[0].getsockname()[1]
    if answer is None:
        running.close()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.close()


def words(status: CheckStatus) -> list[str]:
    return [f"{finding.reason} {finding.observed.en} | {finding.rule.en}" for finding in status.findings]


async def judged(tmp_path: Path, url: str, host: Mute | None, mode: str) -> dict[str, tuple[Verdict, list[str]]]:
    """Each check's verdict, and what is said of it."""
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.format(url=url, front=url.replace("127.0.0.1", "localhost"), mode=mode))
    catalogue, inventory = load_catalogue(), load_inventory(path)
    site, params = site_of(catalogue, inventory, {}), ParamSource(catalogue, inventory, {})
    engine = Engine(
        catalogue=catalogue, site=site, params=params, journal=Journal(tmp_path / "j", site.name), links=Pool(host),
        choreography=Choreographer(site, params, {}, inventory.secrets, inventory),
        identity=Identity("li.na", "login", False), redactor=Redactor(inventory.secrets), clock=lambda: NOW,
    )  # fmt: skip
    try:
        wanted = [c.id for c in catalogue.checks if c.section in SECTIONS and c.id in engine.built]
        # One by one: a check must be able to stand without those that would have shut it.
        for check_id in wanted:
            await engine.run([check_id])
        statuses = engine.checklist().statuses
        return {check_id: (statuses[check_id].verdict, words(statuses[check_id])) for check_id in wanted}
    finally:
        await engine.aclose()


NEEDS_NO_SERVICE = {"model.test-cases"}


def green(found: Mapping[str, tuple[Verdict, list[str]]]) -> dict[str, list[str]]:
    told = (Verdict.PASS, Verdict.WARN)
    return {
        check: said for check, (verdict, said) in found.items() if verdict in told and check not in NEEDS_NO_SERVICE
    }


def broken(found: Mapping[str, tuple[Verdict, list[str]]]) -> dict[str, list[str]]:
    return {check: said for check, (_, said) in found.items() if any(Reason.PROBE_ERROR in line for line in said)}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSTUI_AUDIT_KEY", KEY)


@pytest.mark.parametrize("mode", ["ray-serve", "vllm"])
@pytest.mark.parametrize("kind", ["nobody", *ANSWERS])
async def test_a_server_that_tells_nothing(tmp_path: Path, kind: str, mode: str) -> None:
    async with server(ANSWERS.get(kind)) as url:
        found = await judged(tmp_path, url, Mute(Reason.PERMISSION), mode)
    assert len(found) == 35
    assert green(found) == {}
    assert broken(found) == {}


@pytest.mark.parametrize("mode", ["ray-serve", "vllm"])
@pytest.mark.parametrize(
    "host",
    [None, Mute(Reason.TOOL_MISSING), Mute(Reason.TIMEOUT), Mute(Reason.PARSE_ERROR), Blank(Reason.CANNOT_TELL)],
    ids=["unreachable", "tool-missing", "timeout", "garbled", "blank"],
)
async def test_hosts_that_tell_nothing(tmp_path: Path, host: Mute | None, mode: str) -> None:
    async with server(None) as url:
        found = await judged(tmp_path, url, host, mode)
    assert green(found) == {}
    assert broken(found) == {}
