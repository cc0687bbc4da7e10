"""Host streams: over wires made by hand, over a real collector here, and over a real SSH server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import asyncssh
import pytest

from dstui.facts.case import HostSite, Session
from dstui.facts.raw import run
from dstui.gather import hoststream
from dstui.gather.hoststream import HostStreams
from dstui.gather.link import HostLink, Link, Sampling
from dstui.gather.ssh import Links, SshSettings
from dstui.model import GatherError, Reason, UsageError
from dstui.telemetry.host import parse
from dstui.telemetry.record import Record, RecordKind

DATA = Path(__file__).parents[1] / "data" / "nvml"
HELLO = b'\x1e{"id":0,"ok":true,"mode":"%s","python":"3.6.8","version":1}\n'


def site(name: str, *, gpu: bool = True, local: bool = False) -> HostSite:
    return HostSite(
        name=name,
        roles=frozenset({"worker"}),
        data_ip="127.0.0.1",
        mgmt_ip=None,
        address="127.0.0.1",
        port=22,
        user="ops",
        gpu=gpu,
        gpus_per_host=8,
        local=local,
    )


class Wire:
    """A host that answers at once, and gives samples when told to."""

    def __init__(self, link: Link, *, refuses: bool) -> None:
        self.link = link
        self.refuses = refuses
        self.requests: list[dict[str, object]] = []
        self.silent = False
        self.closed = False
        self.seq = 0

    def write(self, data: bytes) -> None:
        if not data.startswith(b"{"):
            return
        self.requests.append(json.loads(data))
        if self.refuses:
            verb = self.requests[-1]["verb"]
            why = f"no such verb: {verb}"
            self.feed({"id": self.requests[-1]["id"], "ok": False, "reason": "probe-error", "why": why})
        elif not self.silent:
            self.feed({"id": self.requests[-1]["id"], "ok": True})

    def feed(self, message: Mapping[str, object]) -> None:
        self.link.feed(b"\x1e" + json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def sample(self, **values: object) -> None:
        self.seq += 1
        self.feed({"id": self.asked[-1]["id"], "sample": {"lost": 0, "seq": self.seq, **values}})

    @property
    def asked(self) -> list[dict[str, object]]:
        return [request for request in self.requests if request["verb"] == "sample"]

    def end_input(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    async def ended(self) -> None:
        return


class Pool:
    """Links to hosts that answer at once; `refusals` are raised instead, one after the other."""

    def __init__(self, *refusals: GatherError, mode: str = "python", refuses: bool = False) -> None:
        self.refusals = list(refusals)
        self.refuses = refuses
        self.mode = mode
        self.wires: list[Wire] = []
        self.links: dict[str, Link] = {}

    async def link(self, host: HostSite) -> HostLink:
        if self.refusals:
            raise self.refusals.pop(0)
        if (known := self.links.get(host.name)) is not None and known.alive:
            return known
        link = Link(host.name, Session("ops", "publickey"), become="none")
        wire = Wire(link, refuses=self.refuses)
        link.feed(HELLO % self.mode.encode())
        await link.greet(wire, b"payload")
        self.wires.append(wire)
        self.links[host.name] = link
        return link


class Heard:
    """The records, and a way to wait for one."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._came = asyncio.Event()

    def __call__(self, record: Record) -> None:
        self.records.append(record)
        self._came.set()

    async def until(self, true: Callable[[Record], object]) -> Record:
        """The first record from now on of which `true` holds."""
        place = len(self.records)
        async with asyncio.timeout(20):
            while True:
                for record in self.records[place:]:
                    if true(record):
                        return record
                place = len(self.records)
                self._came.clear()
                await self._came.wait()


def sampled(record: Record) -> bool:
    return record.kind is RecordKind.SAMPLE


def lost(record: Record) -> bool:
    return record.kind is RecordKind.LOST


@contextlib.asynccontextmanager
async def running(streams: HostStreams) -> AsyncIterator[None]:
    task = asyncio.create_task(streams.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def turns(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoststream, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(hoststream, "MOST_RETRY_SECONDS", 0.05)


async def test_samples_become_records() -> None:
    pool, heard = Pool(), Heard()
    async with running(HostStreams(pool, [site("gpu-01", gpu=False)], 2.0, heard, clock=lambda: 1700000000.0)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        asked = pool.wires[0].asked[0]
        assert (asked["interval"], asked["gpus"], asked["pcie"]) == (2.0, False, False)
        pool.wires[0].sample(cpu=12.5, junk="x", gpus=[{"index": 0, "util": 250, "name": "\x1b[2J"}])
        record = await heard.until(sampled)
    assert (record.source, record.at) == ("host:gpu-01", pytest.approx(1700000000.0, abs=1))
    assert (record.data["seq"], record.data["cpu"], record.data["load1"]) == (1, 12.5, None)
    assert "junk" not in record.data
    assert parse(dict(record.data)).gpus[0].util is None
    assert [request["verb"] for request in pool.wires[0].requests][-1] == "sample-stop"
    assert not pool.wires[0].closed


async def test_pynvml_is_shipped_to_hosts_with_gpus_only() -> None:
    pool = Pool()
    async with running(HostStreams(pool, [site("a"), site("b", gpu=False)], 1.0, Heard())):
        await turns(lambda: len(pool.wires) == 2 and all(wire.asked for wire in pool.wires))
    verbs = {link._host: [request["verb"] for request in link._wire.requests] for link in pool.links.values()}  # type: ignore[union-attr]
    assert verbs["a"] == ["module", "sample", "sample-stop"]
    assert verbs["b"] == ["sample", "sample-stop"]


async def test_the_latest_wins_and_the_lost_are_counted() -> None:
    pool, heard = Pool(), Heard()
    async with running(HostStreams(pool, [site("a", gpu=False)], 1.0, heard)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        wire = pool.wires[0]
        wire.sample()
        await heard.until(sampled)
        for cpu in (1, 2, 3, 4):
            wire.sample(cpu=cpu)
        behind = await heard.until(sampled)
        wire.seq += 5
        wire.sample(lost=5)
        dropped = await heard.until(sampled)
    assert (behind.data["seq"], behind.data["cpu"], behind.data["lost"]) == (5, 4, 3)
    assert (dropped.data["seq"], dropped.data["lost"]) == (11, 5)
    assert len(heard.records) == 3


async def test_a_sample_that_was_held_up_is_as_old_as_it_is() -> None:
    pool, heard = Pool(), Heard()
    now = asyncio.get_running_loop().time
    async with running(HostStreams(pool, [site("a", gpu=False)], 1.0, heard, clock=lambda: 1000 + now())):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        wire = pool.wires[0]
        began = now()
        for taken in (500.0, 470.0):
            # The second was taken by a clock that says 30 s less, so it was 30 s longer on its way.
            wire.sample(t=taken)
            record = await heard.until(sampled)
    assert record.data["late"] == pytest.approx(30, abs=0.5)
    assert record.at == pytest.approx(1000 + began - 30, abs=0.5)
    assert heard.records[0].data["late"] == 0


@pytest.mark.parametrize("sample", [b"[]", b"{", b'{"seq":"1"}', b'{"seq":1}}', b'{"a":"' + b"x" * 200_000 + b'"}'])
async def test_a_sample_that_cannot_be_read_is_no_sample(sample: bytes) -> None:
    pool, heard = Pool(), Heard()
    async with running(HostStreams(pool, [site("a", gpu=False)], 1.0, heard)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        mark = b'\x1e{"id":%d,"sample":' % pool.wires[0].asked[0]["id"]
        hears = asyncio.create_task(heard.until(lost if sample != b"[]" else lambda record: True))
        await asyncio.sleep(0)
        pool.wires[0].link.feed(mark + sample + b"}\n")
        if sample == b"[]":
            # Not even the beginning of a sample: nobody asked for it.
            pool.wires[0].sample()
            assert sampled(await hears)
            return
        record = await hears
        assert record.data["reason"] == "parse-error"
        pool.wires[0].sample()
        await heard.until(sampled)


async def test_a_host_that_cannot_be_reached_is_lost_with_the_reason_until_it_comes() -> None:
    refusal = GatherError(Reason.UNREACHABLE, "gpu-01: connection refused")
    pool, heard = Pool(refusal, refusal, GatherError(Reason.UNREACHABLE, "gpu-01: no route")), Heard()
    async with running(HostStreams(pool, [site("gpu-01")], 1.0, heard)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        pool.wires[0].sample()
        await heard.until(sampled)
    # The same reason is said once.
    assert [record.data.get("why") for record in heard.records] == [str(refusal), "gpu-01: no route", None]
    assert heard.records[1].data["zh"] == "gpu-01: 无法连接（no route）"
    assert heard.records[0].data["reason"] == "unreachable"


async def test_a_link_that_breaks_is_lost_and_replaced() -> None:
    pool, heard = Pool(), Heard()
    async with running(HostStreams(pool, [site("a", gpu=False)], 1.0, heard)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        pool.wires[0].sample()
        await heard.until(sampled)
        pool.wires[0].link.lost(GatherError(Reason.UNREACHABLE, "a: the collector ended by signal 9"))
        record = await heard.until(lost)
        assert (record.data["reason"], record.data["why"]) == ("unreachable", "a: the collector ended by signal 9")
        await turns(lambda: len(pool.wires) == 2 and pool.wires[1].asked)
        pool.wires[1].sample()
        again = await heard.until(sampled)
    assert (again.data["seq"], again.data["lost"]) == (1, 0)


async def test_a_host_without_python_says_so() -> None:
    heard = Heard()
    async with running(HostStreams(Pool(mode="sh"), [site("a")], 1.0, heard)):
        record = await heard.until(lost)
    assert record.data["reason"] == "tool-missing"
    assert "python3" in str(record.data["why"])


async def test_a_refused_stream_says_why() -> None:
    heard = Heard()
    async with running(HostStreams(Pool(refuses=True), [site("a", gpu=False)], 1.0, heard)):
        record = await heard.until(lost)
    assert (record.data["reason"], record.data["why"]) == ("probe-error", "a: sample: no such verb: sample")


async def test_another_interval_is_asked_for_at_once() -> None:
    pool, heard = Pool(), Heard()
    streams = HostStreams(pool, [site("a", gpu=False)], 1.0, heard)
    async with running(streams):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        old = pool.wires[0].asked[0]["id"]
        streams.set_interval(0.5)
        await turns(lambda: len(pool.wires[0].asked) == 2)
        pool.wires[0].feed({"id": old, "sample": {"seq": 99}})
        pool.wires[0].sample()
        record = await heard.until(sampled)
    assert [request["interval"] for request in pool.wires[0].asked] == [1.0, 0.5]
    # What is left of the stream before is nobody's.
    assert record.data["seq"] == 1
    assert not [record for record in heard.records if lost(record)]


@pytest.mark.parametrize("interval", [0, 0.1, 10.5, float("nan"), -1])
async def test_an_interval_that_no_collector_gives(interval: float) -> None:
    with pytest.raises(UsageError, match=r"0\.2 to 10 s"):
        HostStreams(Pool(), [], interval, Heard())


async def test_many_hosts_are_decoded_in_turns() -> None:
    pool, heard = Pool(), Heard()
    hosts = [site(f"h{number}", gpu=False) for number in range(100)]
    async with running(HostStreams(pool, hosts, 1.0, heard)):
        await turns(lambda: len(pool.wires) == 100 and all(wire.asked for wire in pool.wires))
        for wire in pool.wires:
            wire.sample()
        seen = []
        while len(heard.records) < 100:
            await asyncio.sleep(0)
            seen.append(len(heard.records))
    assert {record.source for record in heard.records} == {f"host:h{number}" for number in range(100)}
    assert seen[0] <= hoststream.BATCH
    assert len(seen) >= 3


async def test_a_collector_that_never_answers_again_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoststream, "SILENT_INTERVALS", 0)
    pool, heard = Pool(), Heard()
    async with running(HostStreams(pool, [site("a", gpu=False)], 1.0, heard, silent=0.05, stuck=0.15)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        pool.wires[0].sample()
        await heard.until(sampled)
        record = await heard.until(lost)
        assert record.data["reason"] == "timeout"
        assert "没有采样" in str(record.data["zh"])
        await turns(lambda: len(pool.wires) == 2)
        assert pool.wires[0].closed
        await turns(lambda: pool.wires[1].asked)
        pool.wires[1].sample()
        await heard.until(sampled)
    assert sum(map(lost, heard.records)) == 1


async def test_samples_of_a_flooding_host_are_decoded_once_a_turn() -> None:
    pool, heard = Pool(), Heard()
    async with running(HostStreams(pool, [site("a", gpu=False)], 1.0, heard)):
        await turns(lambda: pool.wires and pool.wires[0].asked)
        for _ in range(5000):
            pool.wires[0].sample()
        record = await heard.until(sampled)
    assert (record.data["seq"], len(heard.records)) == (5000, 1)


class Silent:
    """A listener of no use."""

    def heard(self, sample: bytes) -> None:
        raise AssertionError("nobody asked")

    def ended(self, error: GatherError) -> None:
        raise AssertionError("it was never begun")


async def test_a_stream_that_was_given_up_while_it_was_asked_for_is_stopped() -> None:
    pool = Pool()
    link = await pool.link(site("a"))
    wire = pool.wires[0]
    wire.silent = True
    with pytest.raises(GatherError, match="no answer to sample"):
        await link.sample(Silent(), Sampling(1.0, gpus=False), timeout=0.01)
    wire.sample()
    wire.silent = False
    await link.sample_stop(timeout=1)
    await link.sample_stop(timeout=1)
    assert [request["verb"] for request in wire.requests] == ["sample", "sample-stop"]
    await link.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the made-up libnvidia-ml.so.1")
    folder = tmp_path_factory.mktemp("nvml")
    argv = [compiler, "-shared", "-fPIC", "-O1", "-w", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([*argv, "-o", str(folder / "libnvidia-ml.so.1"), str(DATA / "nvml_stub.c")], check=True)
    return folder


@pytest.fixture
def gpus(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    conf = tmp_path / "gpus.conf"
    conf.write_text((DATA / "gpus.conf").read_text())
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_FILE", str(conf))
    return conf


async def test_this_machine_itself(gpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoststream, "SILENT_INTERVALS", 3)
    links = Links({"ops": SshSettings("127.0.0.1", "ops")}.__getitem__)
    heard, here = Heard(), site("ops", local=True)
    try:
        async with running(HostStreams(links, [here], 0.2, heard, silent=1.0)):
            first = await heard.until(lambda record: sampled(record) and record.data["gpus"])
            assert parse(dict(first.data)).gpus[0].util == 37
            await asyncio.to_thread(gpus.write_text, "count=8\nutil=91\n")
            await heard.until(lambda record: sampled(record) and _util(record) == 91)
            link = await links.link(here)
            collector = await collector_of(link)
            os.kill(collector, signal.SIGSTOP)
            try:
                stopped = await heard.until(lost)
            finally:
                os.kill(collector, signal.SIGCONT)
            assert stopped.data["reason"] == "timeout"
            back = await heard.until(sampled)
            assert back.data["lost"]
            assert not [record for record in heard.records if lost(record) and record is not stopped]
            assert link is await links.link(here)
        assert (await link.facts([run("p", "echo", "hi")], deadline=10)).text("p") == "hi\n"
    finally:
        await links.aclose()


async def pump(
    source: asyncio.StreamReader | asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter | asyncssh.SSHWriter[bytes]
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    if isinstance(sink, asyncio.StreamWriter):
        sink.close()


async def collector_of(link: HostLink) -> int:
    said = (await link.facts([run("p", "sh", "-c", "echo $PPID")], deadline=10)).text("p")
    assert isinstance(said, str)
    return int(said)


def _util(record: Record) -> float | None:
    seen = parse(dict(record.data)).gpus
    return seen[0].util if seen else None


async def test_over_ssh(gpus: Path, tmp_path: Path) -> None:
    key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    (tmp_path / "id").write_bytes(key.export_private_key())
    (tmp_path / "id").chmod(0o600)
    children: list[asyncio.subprocess.Process] = []
    sessions: set[asyncio.Task[None] | None] = set()

    class Server(asyncssh.SSHServer):
        def validate_public_key(self, username: str, offered: asyncssh.SSHKey) -> bool:
            return offered == key.convert_to_public()

        def public_key_auth_supported(self) -> bool:
            return True

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        pipe = asyncio.subprocess.PIPE
        assert process.command is not None
        child = await asyncio.create_subprocess_exec("/bin/sh", "-c", process.command, stdin=pipe, stdout=pipe)
        children.append(child)
        sessions.add(asyncio.current_task())
        assert child.stdin is not None and child.stdout is not None
        feeding = asyncio.create_task(pump(process.stdin, child.stdin))
        await pump(child.stdout, process.stdout)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        process.exit(await child.wait())

    server = await asyncssh.create_server(
        Server, "127.0.0.1", 0, server_host_keys=[host_key], process_factory=serve, encoding=None
    )
    port = server.get_port()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}")
    settings = SshSettings(
        "127.0.0.1", "ops", port, identity=tmp_path / "id", agent=False, known_hosts=tmp_path / "known_hosts"
    )
    links, heard = Links({"gpu-01": settings}.__getitem__), Heard()
    try:
        async with running(HostStreams(links, [site("gpu-01")], 0.2, heard)):
            record = await heard.until(lambda record: sampled(record) and record.data["gpus"])
            assert _util(record) == 37
            os.kill(await collector_of(await links.link(site("gpu-01"))), signal.SIGKILL)
            gone = await heard.until(lost)
            assert gone.data["reason"] == "unreachable"
            assert "gpu-01" in str(gone.data["why"])
            again = await heard.until(lambda record: sampled(record) and record.data["gpus"])
            assert again.data["seq"] < 20
        assert len(children) == 2
    finally:
        await links.aclose()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(session for session in sessions if session))
