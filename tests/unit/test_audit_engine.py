"""Ways in which a check could look green although something was not looked at: hosts that join, old facts, races."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dstui import probes
from dstui.attest import refusal
from dstui.catalogue import Catalogue, load_catalogue
from dstui.engine import Engine
from dstui.facts.case import HostSite, Params, Session, Site
from dstui.facts.choreography import Asked
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.gather.link import HostLink
from dstui.identity import Identity
from dstui.inventory.secrets import SecretStore
from dstui.journal import Journal
from dstui.model import GatherError, Reason, Threshold, Verdict
from dstui.plan import plan
from dstui.progress import Progress
from dstui.redact import Redactor
from dstui.standing import Standing, gate
from dstui.sweep import Judged, Sweep, Terms

NOW = 1_800_000_000.0
MEMINFO = "MemTotal:       268435456 kB\n"
MEMORY, PYTHON = "hw.memory", "sw.python"


def host(name: str, number: int) -> HostSite:
    address = f"198.51.100.{number}"
    return HostSite(name, frozenset({"worker"}), address, None, address, 22, "ops", False, None)


A, B, C = host("a", 1), host("b", 2), host("c", 3)
SITE = Site(
    name="ds-test", environment="lab", phase="pre", hosts=(A, B), shared_path="/mnt/s",
    runtime_python="/opt/venv/bin/python", runtime_user=None, runtime_mode="bare-metal", docker_required=True,
    become="none",
)  # fmt: skip
WIDER = replace(SITE, hosts=(A, B, C))


class CannedLink:
    def __init__(self, python: str = "3 12 7", hold: asyncio.Event | None = None) -> None:
        self.session = Session(user="ops", auth="publickey")
        self.python = python
        self.asked = 0
        self._hold = hold

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        self.asked += 1
        if self._hold is not None:
            await self._hold.wait()
        canned = {
            "mem.meminfo": Answer("mem.meminfo", "/proc/meminfo", MEMINFO),
            "versions.python": Answer("versions.python", "/opt/venv/bin/python", self.python, exit=0),
            "versions.packages": Answer("versions.packages", "", value={}),
            "versions.places": Answer("versions.places", "", value={"/opt/venv/lib": [16877, 0, 0, 0, 0]}),
        }
        absent = Missing(Reason.CANNOT_TELL, "ENOENT")
        return Raw({op.key: canned.get(op.key) or Answer(op.key, op.source, missing=absent) for op in ops})

    async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
        raise GatherError(Reason.TOOL_MISSING, "no such verb here")

    async def close(self) -> None:
        return None


class Pool:
    def __init__(self) -> None:
        self.links: dict[str, CannedLink] = {name: CannedLink() for name in "abc"}

    async def link(self, host: HostSite) -> HostLink:
        return self.links[host.name]

    async def try_root(self, host: HostSite) -> str:
        return "refused"


class Bench:
    def __init__(self, path: Path) -> None:
        self.path, self.now, self.pool, self.overrides = path, NOW, Pool(), dict[str, object]()
        self.catalogue: Catalogue = load_catalogue()
        self.engines: list[Engine] = []

    def open(self, site: Site = SITE) -> Engine:
        async def choreography(
            need: str, links: Mapping[str, HostLink], missing: Mapping[str, Missing], asked: Asked
        ) -> object:
            raise GatherError(Reason.UNREACHABLE, "nobody to choreograph")

        def params(check_id: str, host: str | None) -> Params:
            usual = [p.threshold() for p in self.catalogue.check(check_id).params]
            return Params([replace(t, value=self.overrides.get(f"{check_id}.{t.param}", t.value)) for t in usual])

        engine = Engine(
            catalogue=self.catalogue, site=site, params=params, journal=Journal(self.path, "ds-test"),
            links=self.pool, choreography=choreography, identity=Identity("li.na", "login", False),
            redactor=Redactor(SecretStore({})), clock=lambda: self.now,
        )  # fmt: skip
        self.engines.append(engine)
        return engine


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "j")
    yield bench
    for engine in bench.engines:
        await engine.aclose()


def standing(engine: Engine, check: str = MEMORY) -> Standing:
    return engine.checklist().statuses[check].standing


async def test_a_host_that_joined_the_inventory_is_a_hole_before_any_new_run(bench: Bench) -> None:
    await bench.open().run([MEMORY])
    assert standing(bench.open()) is Standing.PASSED
    assert standing(bench.open(WIDER)) is Standing.NOT_RUN


async def test_a_signature_does_not_cover_a_host_that_joined_later(bench: Bench) -> None:
    engine = bench.open()
    await engine.run([MEMORY])
    await engine.sign(MEMORY, person="li.na", role="", note="seen", link="")
    assert standing(engine) is Standing.SIGNED
    wider = bench.open(WIDER)
    status = wider.checklist().statuses[MEMORY]
    assert (status.standing, status.lapsed_why) == (Standing.NOT_RUN, "evidence-changed")
    assert refusal(status, built=True) is not None


async def test_half_observed_assisted_check_cannot_be_signed(bench: Bench) -> None:
    """hard.security-group looks at every host, so one that joined leaves its signature without ground."""
    engine = bench.open()
    await engine.run(["hard.security-group"])
    status = bench.open(WIDER).checklist().statuses["hard.security-group"]
    assert status.verdict is Verdict.NOT_RUN
    assert refusal(status, built=True) is not None


async def cut_after(bench: Bench, engine: Engine, checks: Sequence[str]) -> None:
    """A run of `checks` in which hw.memory settles and nothing else does."""
    settled = asyncio.Event()
    engine.subscribe(lambda: settled.set() if MEMORY in engine.state.runs[1].settled else None)
    task = asyncio.create_task(engine.run(checks))
    await asyncio.wait_for(settled.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class SlowGpu(CannedLink):
    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        if any(op.key == "gpu.nvml" for op in ops):
            await asyncio.Event().wait()
        return await super().facts(ops, deadline=deadline)


@pytest.mark.parametrize("change", ["host joined", "threshold changed"])
async def test_resuming_looks_again_where_the_terms_changed(bench: Bench, change: str) -> None:
    checks = [MEMORY, "hw.gpu-model"]
    gpu_site = replace(SITE, hosts=(A, replace(B, gpu=True)))
    bench.pool.links["b"] = SlowGpu()
    engine = bench.open(gpu_site)
    await cut_after(bench, engine, checks)
    bench.pool.links["b"] = CannedLink()
    if change == "threshold changed":
        bench.overrides["hw.memory.mem_min_gb"] = 512
        again = bench.open(gpu_site)
    else:
        again = bench.open(replace(gpu_site, hosts=(*gpu_site.hosts, C)))
    await again.run(checks, resume=True)
    found = again.state.findings[MEMORY]
    if change == "threshold changed":
        assert {f.verdict for f in found.values()} == {Verdict.FAIL}
    else:
        assert set(found) == {"host:a", "host:b", "host:c"}
        assert standing(again) is Standing.PASSED


async def test_a_comparison_never_rests_on_facts_of_an_earlier_run(bench: Bench) -> None:
    engine = bench.open()
    await engine.run([PYTHON])
    assert standing(engine, PYTHON) is Standing.PASSED
    bench.pool.links["b"].python = "3 9 1"
    bench.now += 10 * 3600
    await engine.run([PYTHON], hosts=["a"])
    assert engine.state.findings[PYTHON]["host:b"].verdict is Verdict.FAIL


async def test_a_check_settles_after_its_last_finding_is_recorded(bench: Bench) -> None:
    """Host b is recorded first; the check must still wait for host a, or a resumed run would pass it over."""
    order: list[str] = []
    recorded = asyncio.Event()

    async def settle(judged: Sequence[Judged]) -> None:
        name = judged[0].ruling.target.name
        if name == "a":
            await recorded.wait()
        order.append(name)

    async def close(check_id: str, targets: Sequence[str]) -> None:
        order.append("settled")

    def changed() -> None:
        if "b" in order:
            recorded.set()

    async def choreography(
        need: str, links: Mapping[str, HostLink], missing: Mapping[str, Missing], asked: Asked
    ) -> object:
        raise GatherError(Reason.UNREACHABLE, "nobody to choreograph")

    def params(check_id: str, host: str | None) -> Params:
        return Params([p.threshold() for p in bench.catalogue.check(check_id).params])

    terms = Terms(
        SITE, probes.groups(), params, bench.pool, choreography, settle, close, changed, lambda: NOW, 60.0, {}
    )
    await Sweep(plan(bench.catalogue, [MEMORY], probes.judges()), SITE.hosts, terms, Progress()).run()
    assert order == ["b", "a", "settled"]


async def test_thresholds_pass_redaction_before_the_journal(bench: Bench) -> None:
    bench.overrides["net.outbound.internal_mirrors"] = {"pip": ["https://ci:hunter2hunter2@mirror.test/simple/"]}
    engine = bench.open()
    await engine.run(["net.outbound"])
    found = next(iter(engine.state.findings["net.outbound"].values()))
    mirrors = next(t for t in found.thresholds if t.param == "internal_mirrors")
    assert isinstance(mirrors, Threshold)
    assert "hunter2" not in str(mirrors.value)
    assert "mirror.test" in str(mirrors.value)


async def test_a_journal_that_was_tampered_with_opens_no_gate(bench: Bench) -> None:
    engine = bench.open()
    await engine.run([MEMORY])
    passed = engine.checklist().statuses[MEMORY]
    await engine.aclose()
    bench.engines.clear()
    other = sqlite3.connect(bench.path)
    other.executescript("drop trigger events_stay; update events set actor = 'eve' where seq = 2")
    other.close()
    again = bench.open()
    assert again.checklist().statuses[MEMORY].standing is passed.standing is Standing.PASSED
    assert not again.checklist().sound
    assert gate([passed]).exit_code == 0
    assert gate([passed], sound=again.checklist().sound).exit_code == 2
