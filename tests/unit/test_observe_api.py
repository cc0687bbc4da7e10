"""api.*: asked of real HTTP servers on loopback that behave as vLLM, gateways and limiters do, well and badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, HostSite, Params
from dstui.facts.exchange import Exchanges
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.gather import api, api_auth, api_burst, api_docs, api_health
from dstui.gather.caller import Credential
from dstui.gather.hostlink import HostLink
from dstui.gather.observing import OBSERVERS, Observing, observer
from dstui.inventory import load_inventory
from dstui.inventory.secrets import CommandReference
from dstui.judge.api import JUDGES
from dstui.model import GatherError, Reason, Ruling, Verdict

MODEL, KEY, REVOKED = "deepseek-tiny", "sk-unit-test-0001", "sk-unit-test-revoked"
DATA = Path(__file__).parent.parent / "data" / "api"
RULES = {judge.check_id: judge.rule for judge in JUDGES}
CHECKS = sorted(RULES)


class Api:
    """An API behind a gateway. `sick` names what is wrong; `limit` requests pass in a second, then comes `refusal`."""

    def __init__(self, sick: str = "", *, limit: int | None = None, refusal: int = 429, revoked: bool = True) -> None:
        self.sick = sick
        self.limit = limit
        self.refusal = refusal
        self.accepted = {KEY} if revoked else {KEY, REVOKED}
        self.asked: list[tuple[str, str, str]] = []
        self._times: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (line := await reader.readline()).strip():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while header := (await reader.readline()).decode("latin-1").strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                length = int(headers.get("content-length", 0))
                if length > 1_000_000 and self.sick != "any-body":
                    self.say(writer, 413)
                    break
                body = await reader.readexactly(length)
                self.asked.append((method, path, headers.get("authorization", "")))
                await self.answer(writer, method, path, headers, body)
                await writer.drain()
        writer.close()

    async def answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        if self.limit is not None and path == "/v1/models" and self._too_often():
            if self.sick == "resets":
                writer.transport.abort()
                return
            self.say(writer, self.refusal, extra="Retry-After: 1\r\n" if self.sick != "silent" else "")
            return
        if path.startswith("/v1") and self.sick != "open" and not self._may(headers.get("authorization", "")):
            self.say(writer, 401, b'{"error": "Unauthorized"}', extra="WWW-Authenticate: Bearer\r\n")
            return
        await self.route(writer, method, path, body)

    async def route(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
        if path == "/health":
            self.say(writer, 200, kind="text/plain")
        elif path == "/v1/models":
            self.say(writer, 200, (DATA / "models.json").read_bytes())
        elif path == "/version":
            self.say(writer, 200, (DATA / "version.json").read_bytes())
        elif path == "/docs" and self.sick != "no-docs":
            self.say(
                writer,
                200,
                (DATA.parent / "vllm" / "page.html").read_bytes().replace(b"https://cdn", b"/cdn"),
                "text/html",
            )
        elif path.startswith("/cdn"):
            self.say(writer, 200, b"x" * 100_000, "text/javascript")
        elif path == "/openapi.json" and self.sick != "no-docs":
            self.say(writer, 200, json.dumps({"paths": {"/v1/chat/completions": {}}}).encode())
        elif method == "POST" and path in ("/v1/chat/completions", f"/{self.sick}"):
            await self.chat(writer, body)
        else:
            self.say(writer, 404, b'{"detail": "Not Found"}')

    async def chat(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        if self.sick == "dead-engine":
            self.say(writer, 500, b'{"error": {"message": "EngineCore encountered an issue", "code": 500}}')
        elif self.sick == "hung-engine":
            await asyncio.Event().wait()
        else:
            good = "messages" in json.loads(body)
            self.say(writer, 200 if good else 400, (DATA / "chat_nonstream.json").read_bytes() if good else b"{}")

    def _may(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        if self.sick == "any-key":
            return bool(key)
        return scheme.lower() == "bearer" and key in self.accepted

    def _too_often(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._times = [at for at in self._times if now - at < 1.0]
        assert self.limit is not None
        if len(self._times) >= self.limit:
            return True
        self._times.append(now)
        return False

    @staticmethod
    def say(
        writer: asyncio.StreamWriter, status: int, body: bytes = b"", kind: str = "application/json", extra: str = ""
    ) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        writer.write(head.encode() + body)


INVENTORY = """\
version: 1
cluster: {{name: ds-unit, environment: lab, timezone: UTC}}
ssh: {{user: ops}}
hosts: [{{name: gpu-01, roles: [head], data_ip: 127.0.0.1, gpu: true, gpus_per_host: 1}}]
model: {{path: /m, served_name: {model}}}
endpoints: {{api: "{public}", backends: [{backends}]}}
auth: {{key_ref: "env:DSTUI_UNIT_KEY", revoked_key_ref: "env:DSTUI_UNIT_REVOKED"}}
"""

World = tuple[Observing, Callable[[str, object], dict[str, Ruling]]]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSTUI_UNIT_KEY", KEY)
    monkeypatch.setenv("DSTUI_UNIT_REVOKED", REVOKED)
    monkeypatch.setattr(api_burst, "RATES", (20.0, 100.0, 400.0))
    monkeypatch.setattr(api_burst, "STEP_SECONDS", 0.1)
    monkeypatch.setattr(api_burst, "RECOVERY_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(api_burst, "RECOVERY_SECONDS", 3.0)
    monkeypatch.setattr(api_health, "DEEP_SECONDS", 0.5)


@asynccontextmanager
async def world(
    folder: Path, catalogue: Catalogue, public: Api, *backends: Api | str, **params: object
) -> AsyncIterator[World]:
    """The servers, what is observed with, and a judge of all of it. A backend that is a text is an address."""
    async with AsyncExitStack() as stack:

        async def open_(served: Api | str) -> str:
            if isinstance(served, str):
                return served
            server = await stack.enter_async_context(await asyncio.start_server(served.serve, "127.0.0.1", 0))
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        addresses = [await open_(backend) for backend in backends]
        path = folder / "inventory.yaml"
        listed = ", ".join(f'"{address}"' for address in addresses)
        path.write_text(INVENTORY.format(public=await open_(public), backends=listed, model=MODEL))
        inventory = load_inventory(path)
        told = {"model_served_name": MODEL, "body_max": "1m", "endpoints_api": str(inventory.value("endpoints.api")),
                "endpoints_backends": addresses, **params}  # fmt: skip

        def parameters(check_id: str, host: str | None) -> Params:
            known = {p.name: p.threshold() for p in catalogue.check(check_id).params}
            return Params([replace(t, value=told.get(name, t.value)) for name, t in known.items()])

        def judged(check_id: str, observed: object) -> dict[str, Ruling]:
            case = FleetCase(inventory.site(), {}, parameters(check_id, None), {}, {type(observed): observed}, 0.0)
            rulings = RULES[check_id](case)
            return {"public" if at == 0 else f"backend-{at}": ruling for at, ruling in enumerate(rulings)}

        yield Observing(inventory, inventory.site(), parameters, {}, {}, "unit"), judged


def words(ruling: Ruling) -> str:
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


def need(check_id: str) -> str:
    return check_id.replace(".", "-")


async def seen(observing: Observing, check_id: str) -> Exchanges:
    found = await observer(need(check_id))(observing)
    assert isinstance(found, Exchanges)
    return found


def test_every_need_has_its_observer() -> None:
    for judge in JUDGES:
        for name in judge.needs:
            assert name in OBSERVERS
            assert callable(observer(name))


@pytest.mark.parametrize("check_id", CHECKS)
async def test_a_service_that_is_well(tmp_path: Path, catalogue: Catalogue, check_id: str) -> None:
    async with world(tmp_path, catalogue, Api(limit=60), Api()) as (observing, judged):
        observed = await seen(observing, check_id)
        rulings = judged(check_id, observed)
    assert {ruling.verdict for ruling in rulings.values()} == {Verdict.PASS}, [words(r) for r in rulings.values()]
    ruling = rulings["public"]
    shown = observed.evidence(ruling.target)
    assert any(piece.key.startswith(ruling.evidence_keys) for piece in shown)
    for secret in (KEY, REVOKED):
        assert all(secret not in repr(value) for value in (observed, shown, rulings))


@pytest.mark.parametrize(
    ("check_id", "sick", "verdict", "said"),
    [
        ("api.health", "dead-engine", Verdict.FAIL, "EngineCore encountered"),
        ("api.health", "hung-engine", Verdict.FAIL, "no token comes"),
        ("api.docs", "no-docs", Verdict.FAIL, "the page answers 404"),
        ("api.auth", "any-key", Verdict.FAIL, "a wrong key on GET /v1/models"),
        ("api.auth", "open", Verdict.FAIL, "no key on POST /v1/chat/completions"),
        ("api.auth", "invocations", Verdict.FAIL, "/invocations answers prompts"),
        ("api.rate-limit", "", Verdict.FAIL, "no limit"),
        ("api.rate-limit", "any-body", Verdict.FAIL, "instead of being refused with 413"),
    ],
)
async def test_a_service_that_is_sick(
    tmp_path: Path, catalogue: Catalogue, check_id: str, sick: str, verdict: Verdict, said: str
) -> None:
    async with world(tmp_path, catalogue, Api(sick)) as (observing, judged):
        ruling = judged(check_id, await seen(observing, check_id))["public"]
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


@pytest.mark.parametrize(
    ("served", "verdict", "said"),
    [
        (Api(limit=60, refusal=503), Verdict.WARN, "503, nginx's default"),
        (Api("silent", limit=60), Verdict.WARN, "without Retry-After"),
        (Api(limit=60, refusal=500), Verdict.FAIL, "unclean answers"),
        (Api("resets", limit=60), Verdict.FAIL, "broke-off"),
    ],
)
async def test_limits(tmp_path: Path, catalogue: Catalogue, served: Api, verdict: Verdict, said: str) -> None:
    async with world(tmp_path, catalogue, served) as (observing, judged):
        ruling = judged("api.rate-limit", await seen(observing, "api.rate-limit"))["public"]
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


@pytest.mark.parametrize(("cap", "most"), [(200, 200), (5000, 200), (20, 20)])
async def test_a_burst_keeps_to_its_cap(tmp_path: Path, catalogue: Catalogue, cap: int, most: int) -> None:
    served = Api()
    async with world(tmp_path, catalogue, served, burst_cap=cap) as (observing, _):
        await seen(observing, "api.rate-limit")
    assert most // 3 < len(served.asked) <= most


async def test_a_burst_asks_by_get_only(tmp_path: Path, catalogue: Catalogue) -> None:
    served = Api()
    async with world(tmp_path, catalogue, served, burst_path="POST /v1/chat/completions") as (observing, judged):
        ruling = judged("api.rate-limit", await seen(observing, "api.rate-limit"))["public"]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)
    assert served.asked == []


async def test_the_revoked_key(tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, catalogue, Api(revoked=False)) as (observing, judged):
        ruling = judged("api.auth", await seen(observing, "api.auth"))["public"]
        assert ruling.verdict is Verdict.FAIL and "the revoked key still works" in words(ruling)
        monkeypatch.delenv("DSTUI_UNIT_REVOKED")
    async with world(tmp_path, catalogue, Api()) as (observing, judged):
        ruling = judged("api.auth", await seen(observing, "api.auth"))["public"]
        assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL)


async def test_what_authentication_sends(tmp_path: Path, catalogue: Catalogue) -> None:
    served = Api()
    async with world(tmp_path, catalogue, served) as (observing, _):
        await seen(observing, "api.auth")
    by_path = {path: {header for _, p, header in served.asked if p == path} for _, path, _ in served.asked}
    sent = by_path["/v1/models"]
    assert {"", "Bearer", f"Bearer {KEY}", f"Bearer {REVOKED}"} < sent and len(sent) == 6
    assert any(header.startswith("Basic ") for header in sent)
    # A key goes nowhere but to the API itself, and nothing that acts is posted to.
    assert all(headers == {""} for path, headers in by_path.items() if not path.startswith("/v1"))
    assert {path for method, path, _ in served.asked if method == "POST"} == {
        "/v1/chat/completions", "/invocations", "/tokenize",
    }  # fmt: skip


@pytest.mark.parametrize("check_id", CHECKS)
async def test_nobody_at_home(tmp_path: Path, catalogue: Catalogue, check_id: str) -> None:
    async with world(tmp_path, catalogue, Api()) as (observing, judged):
        pass  # closed: the port refuses connections
    async with asyncio.timeout(20):
        ruling = judged(check_id, await seen(observing, check_id))["public"]
    if check_id == "api.started":
        assert ruling.verdict is Verdict.FAIL
    else:
        assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


@pytest.mark.parametrize("check_id", CHECKS)
async def test_no_key(tmp_path: Path, catalogue: Catalogue, check_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSTUI_UNIT_KEY")
    async with world(tmp_path, catalogue, Api(limit=60)) as (observing, judged):
        ruling = judged(check_id, await seen(observing, check_id))["public"]
    expected = {"api.docs": Verdict.PASS, "api.health": Verdict.WARN, "api.rate-limit": Verdict.PASS}
    assert ruling.verdict is expected.get(check_id, Verdict.UNKNOWN), words(ruling)


async def test_no_endpoint_at_all(tmp_path: Path, catalogue: Catalogue) -> None:
    async with world(tmp_path, catalogue, Api(), endpoints_api=None) as (observing, judged):
        for check_id in CHECKS:
            ruling = judged(check_id, await seen(observing, check_id))["public"]
            assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 20_000,
        b"HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["closes", "garbage", "brackets", "999"],
)
async def test_garbage_is_never_a_pass(tmp_path: Path, catalogue: Catalogue, answer: bytes) -> None:
    class Garbage(Api):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            writer.close()

    async with world(tmp_path, catalogue, Garbage(), Garbage()) as (observing, judged):
        for check_id in CHECKS:
            for ruling in judged(check_id, await seen(observing, check_id)).values():
                assert ruling.verdict in (Verdict.FAIL, Verdict.UNKNOWN), f"{check_id}: {words(ruling)}"


SHUT = "http://127.0.0.1:9"
"""Discard: nothing listens there, as behind a firewall."""


class Inside(HostLink):
    """A host of the cluster that was asked for one connection; `outcome` None is a host that cannot be asked."""

    def __init__(self, outcome: str | None) -> None:
        self.outcome = outcome

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        if self.outcome is None:
            raise GatherError(Reason.TIMEOUT, "gpu-01: no answer")
        (op,) = ops
        return Raw({op.key: Answer(op.key, op.source, value=[["127.0.0.1", 9, self.outcome, 0.2]])})


@pytest.mark.parametrize("outcome", ["ok", None])
async def test_a_backend_behind_a_firewall_is_reached_through_its_host(
    tmp_path: Path, catalogue: Catalogue, outcome: str | None
) -> None:
    async with world(tmp_path, catalogue, Api(), SHUT) as (plain, judged):
        through: list[tuple[str, str, int]] = []
        socket = tmp_path / "tunnel"
        server = await asyncio.start_unix_server(Api().serve, socket)

        async def forward(host: HostSite, address: str, port: int) -> Path | None:
            through.append((host.name, address, port))
            return socket

        observing = replace(plain, links={"gpu-01": Inside(outcome)}, forward=forward)
        async with server:
            started = judged("api.started", await seen(observing, "api.started"))["backend-1"]
            auth = judged("api.auth", await seen(observing, "api.auth"))["backend-1"]
    assert started.verdict is Verdict.PASS and "seen from gpu-01" in started.observed.en
    assert auth.verdict is Verdict.PASS
    assert set(through) == {("gpu-01", "127.0.0.1", 9)}


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("refused", Verdict.WARN),
        ("timeout", Verdict.WARN),
        # It listens inside, but sshd forbids the tunnel to it.
        ("ok", Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ],
)
async def test_a_backend_that_is_not_reached(
    tmp_path: Path, catalogue: Catalogue, outcome: str | None, verdict: Verdict
) -> None:
    async def forward(host: HostSite, address: str, port: int) -> Path | None:
        raise GatherError(Reason.UNREACHABLE, f"{host.name}: its sshd forbids tunnels")

    async with world(tmp_path, catalogue, Api(), SHUT) as (plain, judged):
        observing = replace(plain, links={"gpu-01": Inside(outcome)}, forward=forward)
        back = judged("api.started", await seen(observing, "api.started"))["backend-1"]
    assert back.verdict is verdict, words(back)
    assert verdict is Verdict.WARN or back.reason is Reason.UNREACHABLE


async def test_a_backend_with_no_host_up(tmp_path: Path, catalogue: Catalogue) -> None:
    async with world(tmp_path, catalogue, Api(), SHUT) as (plain, judged):
        back = judged("api.started", await seen(plain, "api.started"))["backend-1"]
    assert (back.verdict, back.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


async def test_keys_by_every_sort_of_reference(tmp_path: Path, catalogue: Catalogue) -> None:
    async with world(tmp_path, catalogue, Api()) as (observing, _):
        by_command = await observing.credential_of(CommandReference(("printf", "%s\\n", KEY)), "load.key_ref")
        by_text = await observing.credential_of("env:DSTUI_UNIT_KEY", "load.key_ref")
        assert isinstance(by_command, Credential) and by_command.secret.reveal() == KEY
        assert isinstance(by_text, Credential) and by_text.shown == "$DSTUI_UNIT_KEY"
        for reference in (None, "env:NOT_SET_ANYWHERE", CommandReference(("false",))):
            lost = await observing.credential_of(reference, "load.key_ref")
            assert isinstance(lost, Missing) and lost.reason is Reason.NO_CREDENTIAL
        torn = await observing.credential_of(CommandReference(("printf", "a\tb\t")), "load.key_ref")
        assert isinstance(torn, Missing) and "a\tb" not in torn.why


async def test_a_ca_bundle_that_cannot_be_read_is_said(tmp_path: Path, catalogue: Catalogue) -> None:
    async with world(tmp_path, catalogue, Api()) as (observing, _):
        document = observing.inventory.document
        lb = document.lb.model_copy(update={"ca_bundle": "/no/such/bundle.pem"})
        changed = replace(observing.inventory, document=document.model_copy(update={"lb": lb}))
        with pytest.raises(GatherError, match=r"lb\.ca_bundle /no/such/bundle\.pem"):
            await observer("api-started")(replace(observing, inventory=changed))


def test_the_modules_are_those_of_the_table() -> None:
    assert {OBSERVERS[need(check)] for check in CHECKS} == {
        module.__name__.rpartition(".")[2] for module in (api, api_auth, api_burst, api_docs, api_health)
    }
