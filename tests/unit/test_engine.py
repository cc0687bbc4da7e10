"""The engine on made-up links: every target gets a finding, runs resume, people's acts are recorded or refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import perf_worlds
import pytest

from dstui.attest import DAY
from dstui.catalogue import Catalogue, load_catalogue
from dstui.engine import Engine
from dstui.events import Draft, EventKind
from dstui.facts.case import HostSite, Params, Session, Site
from dstui.facts.choreography import Asked, NonceMatrix
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.gather.link import HostLink
from dstui.identity import Identity
from dstui.inventory.secrets import SecretStore
from dstui.journal import Journal
from dstui.load.result import LadderResult
from dstui.load.wire import plain
from dstui.model import GatherError, Lang, Reason, UsageError, Verdict, host_target
from dstui.redact import Redactor
from dstui.standing import Standing

NOW = 1_800_000_000.0
MEMINFO = "MemTotal:       {kib} kB\nMemAvailable:   100000 kB\n"


def host(name: str, number: int) -> HostSite:
    address = f"198.51.100.{number}"
    return HostSite(name, frozenset({"worker"}), address, None, address, 22, "ops", False, None)


SITE = Site(
    name="ds-test", environment="lab", phase="pre", hosts=tuple(host(f"gpu-0{n}", n) for n in (1, 2, 3)),
    shared_path="/mnt/s", runtime_python=None, runtime_user=None, runtime_mode="bare-metal", docker_required=True,
    become="none",
)  # fmt: skip


class CannedLink:
    """Answers READ operations from a table of files; everything else is not there."""

    def __init__(self, name: str, files: Mapping[str, str], hold: asyncio.Event | None = None) -> None:
        self.session = Session(user="ops", auth="publickey")
        self.asked = 0
        self._name = name
        self._files = files
        self._hold = hold

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        self.asked += 1
        if self._hold is not None:
            await self._hold.wait()
        answers = {}
        for op in ops:
            content = self._files.get(str(op.args.get("path", "")))
            missing = None if content is not None else Missing(Reason.CANNOT_TELL, "ENOENT: no such file")
            answers[op.key] = Answer(op.key, op.source, content or "", missing=missing)
        return Raw(answers)

    async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
        raise GatherError(Reason.TOOL_MISSING, "no such verb here")

    async def close(self) -> None:
        return None


class CannedPool:
    """Links by host name; a name that is missing cannot be reached."""

    def __init__(self, links: Mapping[str, CannedLink]) -> None:
        self.links = dict(links)

    async def link(self, host: HostSite) -> HostLink:
        if host.name not in self.links:
            raise GatherError(Reason.UNREACHABLE, f"{host.name}: no route to host")
        return self.links[host.name]

    async def try_root(self, host: HostSite) -> str:
        return "refused"


class Bench:
    """An engine with its parts at hand."""

    def __init__(self, path: Path, catalogue: Catalogue) -> None:
        self.path = path
        self.catalogue = catalogue
        self.now = NOW
        self.pool = CannedPool({h.name: CannedLink(h.name, self.files()) for h in SITE.hosts})
        self.engine: Engine | None = None

    @staticmethod
    def files(gib: float = 256.0) -> dict[str, str]:
        return {"/proc/meminfo": MEMINFO.format(kib=int(gib * 1024 * 1024))}

    def open(
        self, *, new_run: bool = False, changeable: bool = False, site: Site = SITE, operators: tuple[str, ...] = ()
    ) -> Engine:
        async def choreography(
            need: str, links: Mapping[str, HostLink], missing: Mapping[str, Missing], asked: Asked
        ) -> object:
            if need == "nonce":
                return NonceMatrix("r", "/mnt/s", (), (), missing)
            raise GatherError(Reason.UNREACHABLE, "nobody to choreograph")

        def params(check_id: str, host: str | None) -> Params:
            return Params([p.threshold() for p in self.catalogue.check(check_id).params])

        self.engine = Engine(
            catalogue=self.catalogue, site=site, params=params, journal=Journal(self.path, "ds-test"),
            links=self.pool, choreography=choreography, identity=Identity("li.na", "login", changeable),
            redactor=Redactor(SecretStore({})), clock=lambda: self.now, new_run=new_run,
            operators=frozenset(operators),
        )  # fmt: skip
        return self.engine


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
async def bench(tmp_path: Path, catalogue: Catalogue) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "j", catalogue)
    yield bench
    if bench.engine is not None:
        await bench.engine.aclose()


def standing(engine: Engine, check: str) -> Standing:
    return engine.checklist().statuses[check].standing


def verdicts(engine: Engine, check: str) -> dict[str, Verdict]:
    return {f.target.name: f.verdict for f in engine.checklist().statuses[check].findings}


async def test_every_host_gets_a_finding_and_the_check_settles(bench: Bench) -> None:
    engine = bench.open()
    await engine.run(["hw.memory"])
    assert verdicts(engine, "hw.memory") == dict.fromkeys(("gpu-01", "gpu-02", "gpu-03"), Verdict.PASS)
    assert standing(engine, "hw.memory") is Standing.PASSED
    kinds = [e.kind for e in engine.journal.read()]
    assert kinds[0] == EventKind.RUN_STARTED
    assert kinds[-2:] == [EventKind.CHECK_SETTLED, EventKind.RUN_FINISHED]
    assert kinds.count(EventKind.FINDING) == 3


async def test_an_unreachable_host_is_unknown_and_nobody_elses_problem(bench: Bench) -> None:
    del bench.pool.links["gpu-02"]
    engine = bench.open()
    await engine.run(["hw.memory"])
    status = engine.checklist().statuses["hw.memory"]
    assert verdicts(engine, "hw.memory") == {"gpu-01": Verdict.PASS, "gpu-02": Verdict.UNKNOWN, "gpu-03": Verdict.PASS}
    assert (status.verdict, status.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    assert engine.progress.hosts["gpu-02"].note == "gpu-02: no route to host"


async def test_every_check_of_the_host_sections_settles_whatever_is_missing(bench: Bench) -> None:
    """Hosts that answer nothing at all, and an observation that fails: none green, none open."""
    bench.pool.links = {h.name: CannedLink(h.name, {}) for h in SITE.hosts}
    engine = bench.open()
    await engine.run(engine.select())
    for check_id in engine.built:
        status = engine.checklist().statuses[check_id]
        assert status.findings, check_id
        assert status.verdict not in (Verdict.PASS, Verdict.NOT_RUN), (check_id, status.verdict)
        broken = [f.detail for f in status.findings if f.reason is Reason.PROBE_ERROR]
        assert not broken, (check_id, broken)


async def test_rows_settle_before_a_slow_host_has_answered(bench: Bench) -> None:
    hold = asyncio.Event()
    bench.pool.links["gpu-03"] = CannedLink("gpu-03", bench.files(), hold)
    engine = bench.open()
    seen: asyncio.Queue[int] = asyncio.Queue()
    engine.subscribe(lambda: seen.put_nowait(len(engine.state.findings.get("hw.memory", {}))))
    task = asyncio.create_task(engine.run(["hw.memory"]))
    while await asyncio.wait_for(seen.get(), 5) < 2:
        pass
    assert engine.progress.checks["hw.memory"].done == 2
    assert engine.progress.checks["hw.memory"].waiting_for == "gpu-03"
    assert standing(engine, "hw.memory") is Standing.NOT_RUN
    hold.set()
    await asyncio.wait_for(task, 5)
    assert standing(engine, "hw.memory") is Standing.PASSED


async def test_a_host_that_never_answers_is_a_timeout(bench: Bench) -> None:
    bench.pool.links["gpu-03"] = CannedLink("gpu-03", {}, asyncio.Event())
    engine = bench.open()
    engine._host_timeout = 0.05
    await asyncio.wait_for(engine.run(["hw.memory"]), 5)
    finding = engine.state.findings["hw.memory"]["host:gpu-03"]
    assert (finding.verdict, finding.reason) == (Verdict.UNKNOWN, Reason.TIMEOUT)


async def test_only_one_run_at_a_time(bench: Bench) -> None:
    hold = asyncio.Event()
    bench.pool.links["gpu-01"] = CannedLink("gpu-01", bench.files(), hold)
    engine = bench.open()
    task = asyncio.create_task(engine.run(["hw.memory"]))
    await asyncio.sleep(0)
    with pytest.raises(UsageError, match="under way"):
        await engine.run(["hw.memory"])
    hold.set()
    await task


async def _cut(bench: Bench) -> None:
    """A run of two checks that is cut after the first has settled on two of three hosts."""
    hold = asyncio.Event()
    bench.pool.links["gpu-03"] = CannedLink("gpu-03", bench.files(), hold)
    engine = bench.open()
    seen = asyncio.Event()
    engine.subscribe(lambda: seen.set() if len(engine.state.findings.get("hw.memory", {})) == 2 else None)
    task = asyncio.create_task(engine.run(["hw.memory", "sw.os-version"]))
    await asyncio.wait_for(seen.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not engine.progress.running
    await engine.aclose()


async def test_a_cut_run_is_neither_lost_nor_green(bench: Bench) -> None:
    await _cut(bench)
    engine = bench.open()
    assert engine.interrupted() is not None
    assert verdicts(engine, "hw.memory") == {"gpu-01": Verdict.PASS, "gpu-02": Verdict.PASS}
    assert standing(engine, "hw.memory") is Standing.NOT_RUN


async def test_resuming_goes_on_under_the_same_number(bench: Bench) -> None:
    await _cut(bench)
    bench.pool.links["gpu-03"] = CannedLink("gpu-03", bench.files())
    engine = bench.open()
    await engine.run(["hw.memory", "sw.os-version"], resume=True)
    assert list(engine.state.runs) == [1]
    assert engine.interrupted() is None
    assert standing(engine, "hw.memory") is Standing.PASSED


async def test_new_run_starts_over(bench: Bench) -> None:
    await bench.open().run(["hw.memory"])
    assert bench.engine is not None
    await bench.engine.aclose()
    del bench.pool.links["gpu-01"]
    engine = bench.open(new_run=True)
    await engine.run(["sw.os-version"], resume=True)
    assert list(engine.state.runs) == [1, 2]
    assert standing(engine, "hw.memory") is Standing.NOT_RUN


async def test_failed_only_picks_what_is_not_settled_well(bench: Bench) -> None:
    engine = bench.open()
    await engine.run(["hw.memory", "sw.os-version"])
    assert engine.select(sections=["hw", "sw"], failed_only=True) == ("sw.os-version",)
    bench.now += 3601
    assert engine.select(sections=["hw"], failed_only=True) == ("hw.memory",)


async def test_running_one_host_visits_those_without_a_finding_too(bench: Bench) -> None:
    engine = bench.open()
    await engine.run(["hw.memory"], hosts=["gpu-01"])
    assert [link.asked for link in bench.pool.links.values()] == [1, 1, 1]
    await engine.run(["hw.memory"], hosts=["gpu-01"])
    assert [link.asked for link in bench.pool.links.values()] == [2, 1, 1]
    assert standing(engine, "hw.memory") is Standing.PASSED


async def test_what_has_no_probe_cannot_be_run(bench: Bench) -> None:
    engine = bench.open()
    with pytest.raises(UsageError, match="has a probe"):
        await engine.run(["team.trained"])


async def test_signing_binds_to_what_was_seen(bench: Bench) -> None:
    engine = bench.open()
    await engine.run(["hw.memory"])
    event = await engine.sign("hw.memory", person="li.na", role="SRE", note="seen the DIMMs", link="")
    assert event.payload["material"] == engine.state.material_hash("hw.memory")
    assert standing(engine, "hw.memory") is Standing.SIGNED
    bench.pool.links["gpu-01"] = CannedLink("gpu-01", bench.files(250.0))
    await engine.run(["hw.memory"])
    assert engine.checklist().statuses["hw.memory"].lapsed_why == "evidence-changed"


async def test_a_failure_cannot_be_signed(bench: Bench) -> None:
    bench.pool.links["gpu-01"] = CannedLink("gpu-01", bench.files(64.0))
    engine = bench.open()
    await engine.run(["hw.memory"])
    with pytest.raises(UsageError, match="waive"):
        await engine.sign("hw.memory", person="li.na", role="", note="x", link="")
    assert EventKind.ATTESTATION not in [e.kind for e in engine.journal.read()]


async def test_nobody_signs_for_somebody_else(bench: Bench) -> None:
    engine = bench.open()
    with pytest.raises(UsageError, match=r"sign as zhang\.wei"):
        await engine.sign("team.trained", person="zhang.wei", role="", note="x", link="")


async def test_a_signature_on_nothing_says_what_it_rests_on(bench: Bench) -> None:
    engine = bench.open()
    with pytest.raises(UsageError, match="note or the link"):
        await engine.sign("team.trained", person="li.na", role="", note=" ", link="")
    await engine.sign("team.trained", person="li.na", role="", note="course of 3 May", link="")
    assert standing(engine, "team.trained") is Standing.SIGNED


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        ({"approver": " "}, "approved"),
        ({"reason": ""}, "reason"),
        ({"expires_at": NOW}, "future"),
        ({"expires_at": NOW + 400 * DAY}, "366"),
    ],
)
async def test_waivers_need_their_parts(bench: Bench, spoil: dict[str, object], word: str) -> None:
    engine = bench.open()
    fine = {"approver": "zhang.wei", "reason": "ordered", "ticket": "", "expires_at": NOW + DAY}
    with pytest.raises(UsageError, match=word):
        await engine.waive("hw.memory", **(fine | spoil))  # type: ignore[arg-type]


async def test_two_engines_see_each_others_acts(bench: Bench, catalogue: Catalogue) -> None:
    first = bench.open()
    other_bench = Bench(bench.path, catalogue)
    second = other_bench.open()
    await second.note("hw.memory", target=host_target("gpu-01"), text="DIMM ordered")
    assert first.catch_up()
    await first.note("hw.memory", target=None, text="thanks")
    assert second.catch_up()
    assert [n.text for n in second.state.notes["hw.memory"]] == ["DIMM ordered", "thanks"]
    assert first.state.head_hash == second.state.head_hash
    assert first.journal.verify() is None
    await second.aclose()


async def test_rows_of_others_are_folded_before_own_ones(bench: Bench, catalogue: Catalogue) -> None:
    first = bench.open()
    second = Bench(bench.path, catalogue).open()
    await second.note("hw.memory", target=None, text="one")
    await first.note("hw.memory", target=None, text="two")
    assert [n.text for n in first.state.notes["hw.memory"]] == ["one", "two"]
    assert first.state.broken_at is None
    await second.aclose()


async def test_exports_are_written_recorded_and_true(bench: Bench, tmp_path: Path) -> None:
    engine = bench.open()
    await engine.run(["hw.memory"])
    await engine.export(tmp_path / "r.json", format="json", lang=Lang.EN)
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["format"], document["version"]) == ("dstui-report", 1)
    by_id = {c["id"]: c for c in document["checks"]}
    assert len(by_id) == 99
    assert by_id["hw.memory"]["verdict"] == "pass"
    assert document["gate"] == {"open": False, "exit_code": 2, "counts": {"pass": 1, "not-run": 98}}
    await engine.export(tmp_path / "r.md", format="markdown", lang=Lang.ZH)
    text = (tmp_path / "r.md").read_text()
    assert "- [x] 确认每台服务器至少配备256GB内存" in text
    assert text.count("- [ ] ") == 98
    assert text.count("- [x] ") == 1
    assert "SIMULATED" not in text


async def test_simulated_results_say_so_everywhere(bench: Bench, tmp_path: Path) -> None:
    engine = bench.open(site=replace(SITE, simulated=True))
    await engine.run(["hw.memory"])
    await engine.export(tmp_path / "r.md", format="markdown", lang=Lang.EN)
    await engine.export(tmp_path / "r.json", format="json", lang=Lang.EN)
    assert "SIMULATED" in (tmp_path / "r.md").read_text().splitlines()[2]
    assert json.loads((tmp_path / "r.json").read_text())["simulated"] is True


async def test_an_export_that_cannot_be_written_is_one_sentence(bench: Bench, tmp_path: Path) -> None:
    engine = bench.open()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        await engine.export(tmp_path / "file" / "r.md", format="markdown", lang=Lang.EN)


async def test_a_judge_that_breaks_is_an_unknown_not_a_crash(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = bench.open()

    def broken(case: object) -> object:
        raise ZeroDivisionError("by hand")

    judge = replace(engine._judges["hw.memory"], rule=broken)
    monkeypatch.setattr(engine, "_judges", {**engine._judges, "hw.memory": judge})
    await engine.run(["hw.memory"])
    status = engine.checklist().statuses["hw.memory"]
    assert (status.verdict, status.reason) == (Verdict.UNKNOWN, Reason.PROBE_ERROR)
    assert "ZeroDivisionError: by hand" in status.detail


async def test_a_pool_that_breaks_is_an_unknown_not_a_crash(bench: Bench) -> None:
    class Broken(CannedPool):
        async def link(self, host: HostSite) -> HostLink:
            raise RuntimeError("unforeseen")

    bench.pool = Broken({})
    engine = bench.open()
    await engine.run(["hw.memory"])
    assert set(verdicts(engine, "hw.memory").values()) == {Verdict.UNKNOWN}


async def test_a_full_disk_ends_the_run_with_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from dstui.model import JournalError

    engine = bench.open()
    record = engine.journal.record

    async def full(*drafts: object) -> object:
        if any(getattr(d, "kind", None) is EventKind.FINDING for d in drafts):
            raise JournalError("not recorded (database or disk is full)")
        return await record(*drafts)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.journal, "record", full)
    with pytest.raises(JournalError, match="disk is full"):
        await engine.run(["hw.memory"])
    assert not engine.progress.running
    assert standing(engine, "hw.memory") is Standing.NOT_RUN


async def test_listeners_can_leave(bench: Bench) -> None:
    engine = bench.open()
    calls: list[int] = []
    leave: Callable[[], None] = engine.subscribe(lambda: calls.append(1))
    await engine.note("hw.memory", target=None, text="x")
    leave()
    leave()
    before = len(calls)
    await engine.note("hw.memory", target=None, text="y")
    assert len(calls) == before


async def test_where_operators_are_named_nobody_else_signs_or_waives(bench: Bench) -> None:
    engine = bench.open(operators=("zhang.wei",))
    with pytest.raises(UsageError, match="operators"):
        await engine.sign("team.trained", person="li.na", role="", note="x", link="")
    with pytest.raises(UsageError, match="operators"):
        await engine.waive("hw.memory", approver="zhang.wei", reason="ordered", ticket="", expires_at=NOW + DAY)
    await engine.note("hw.memory", target=None, text="everybody may")


async def test_what_was_judged_by_other_thresholds_is_stale(bench: Bench) -> None:
    await bench.open().run(["hw.memory"])
    assert bench.engine is not None
    assert standing(bench.engine, "hw.memory") is Standing.PASSED
    await bench.engine.aclose()
    engine = bench.open()
    before = engine._params
    raised = Params(
        [replace(t, value=512) if t.param == "mem_min_gb" else t for t in before("hw.memory", None).thresholds]
    )
    engine._params = lambda check_id, host: raised if check_id == "hw.memory" else before(check_id, host)
    assert standing(engine, "hw.memory") is Standing.STALE
    await engine.run(["hw.memory"])
    assert standing(engine, "hw.memory") is Standing.FAILED


async def test_what_a_deeper_look_settled_is_not_undone_by_a_shallow_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bench.open()
    check = "func.basic-inference"
    judge = engine._judges[check]
    monkeypatch.setitem(engine._judges, check, replace(judge, deeper=True))  # type: ignore[arg-type]
    await engine.run([check, "hw.memory"], confirmed=frozenset({check}))
    assert engine.state.last_run is not None
    assert check in engine.state.last_run.checks
    # Unknown is nothing that would have to be kept.
    await engine.run([check, "hw.memory"])
    assert check in engine.state.last_run.checks
    status = engine.checklist().statuses[check]
    passed = SimpleNamespace(statuses={check: replace(status, verdict=Verdict.PASS)})
    monkeypatch.setattr(engine, "checklist", lambda: passed)
    assert engine._without_deeper([check, "hw.memory"], frozenset()) == ["hw.memory"]
    assert engine._without_deeper([check, "hw.memory"], frozenset({check})) == [check, "hw.memory"]
    assert engine._without_deeper([check], frozenset()) == [check], "it is asked for by itself"
    runs = engine.state.last_run.number
    await engine.run([check, check])
    assert engine.state.last_run.number == runs, "nothing is left to run, and that is no error"


PERF = ("perf.single-user-latency", "perf.max-batch", "perf.concurrent-users", "perf.gpu-util", "perf.memory",
        "perf.network")  # fmt: skip


def at_the_api(engine: Engine) -> None:
    """Gives the checks of performance what an inventory with endpoints would."""
    before = engine._params
    engine._params = lambda check_id, host: (
        perf_worlds.params_of(check_id) if check_id in PERF else before(check_id, host)
    )


def good_ladder(at: float = NOW) -> LadderResult:
    return perf_worlds.ladder(perf_worlds.single(), perf_worlds.batch(), *perf_worlds.levels(), at=at)


async def test_a_ladder_is_recorded_and_read_again(bench: Bench) -> None:
    engine = bench.open()
    event = await engine.record_ladder(good_ladder())
    assert (event.kind, event.actor, event.run) == (EventKind.LADDER, "li.na", 0)
    assert [ladder.at for ladder in engine.ladders] == [NOW]
    await engine.aclose()
    again = bench.open()
    assert [plain(ladder) for ladder in again.ladders] == [plain(good_ladder())]
    assert again.journal.verify() is None


async def test_a_recorded_ladder_keeps_no_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSTUI_TEST_KEY", "hunter2-hunter2")
    engine = bench.open()
    store = SecretStore({})
    engine._redactor = Redactor(store)
    store.resolve("env:DSTUI_TEST_KEY")
    result = replace(
        good_ladder(), stopped="refused hunter2-hunter2 at http://ops:secret-login@api/v1?token=secret-login"
    )
    event = await engine.record_ladder(result)
    text = json.dumps(event.payload)
    assert "hunter2-hunter2" not in text
    assert "secret-login" not in text


async def test_a_ladder_on_a_simulated_cluster_is_marked(bench: Bench) -> None:
    engine = bench.open(site=replace(SITE, simulated=True))
    await engine.record_ladder(good_ladder())
    assert engine.ladders[0].simulated
    assert engine.state.simulated


async def test_performance_is_judged_without_asking_and_without_hosts(bench: Bench) -> None:
    engine = bench.open()
    at_the_api(engine)
    assert not any(engine.asks_first(check) for check in PERF)
    assert engine.asks_first("ha.failover")
    await engine.run(PERF)
    assert {engine.checklist().statuses[check].verdict for check in PERF} == {Verdict.UNKNOWN}
    assert "run `dstui ladder` or press L" in engine.checklist().statuses[PERF[2]].findings[0].observed.en
    assert [link.asked for link in bench.pool.links.values()] == [0, 0, 0]
    await engine.record_ladder(good_ladder(NOW - DAY))
    await engine.run(PERF)
    found = {check: engine.checklist().statuses[check] for check in PERF}
    # Only requests: the hosts of this inventory are not those of the ladder.
    assert [found[check].standing for check in PERF[:3]] == [Standing.PASSED] * 3
    assert {found[check].verdict for check in PERF[3:]} == {Verdict.UNKNOWN}
    assert {f.observed_at for f in found[PERF[2]].findings} == {NOW - DAY}, "as old as what it rests on"
    assert {f.observed_at for f in found[PERF[3]].findings} == {NOW}
    keys = [piece.key for piece in found[PERF[2]].findings[0].evidence]
    assert keys == ["ladder.levels", "ladder.replicas", "ladder.generator"]
    assert [link.asked for link in bench.pool.links.values()] == [0, 0, 0]


async def test_a_verdict_goes_stale_with_its_ladder(bench: Bench) -> None:
    engine = bench.open()
    at_the_api(engine)
    await engine.record_ladder(good_ladder(NOW - 29 * DAY))
    await engine.run(PERF)
    assert standing(engine, PERF[2]) is Standing.PASSED
    bench.now = NOW + DAY + 1
    assert standing(engine, PERF[2]) is Standing.STALE
    await engine.run(PERF)
    assert standing(engine, PERF[2]) is Standing.UNKNOWN


async def test_a_newer_ladder_makes_a_verdict_stale_until_it_is_judged(bench: Bench) -> None:
    engine = bench.open()
    at_the_api(engine)
    await engine.record_ladder(good_ladder(NOW - DAY))
    await engine.run(PERF)
    assert standing(engine, PERF[0]) is Standing.PASSED
    slow = [perf_worlds.level(stage.stage.users, ttft=99.0) for stage in perf_worlds.levels()]
    await engine.record_ladder(perf_worlds.ladder(*slow, at=NOW))
    assert standing(engine, PERF[2]) is Standing.STALE
    assert standing(engine, PERF[0]) is Standing.PASSED, "the new ladder had no single user"
    await engine.run(PERF)
    assert standing(engine, PERF[2]) is Standing.FAILED
    assert standing(engine, PERF[0]) is Standing.PASSED


async def test_a_ladders_row_that_cannot_be_read_leaves_nothing_green(bench: Bench) -> None:
    engine = bench.open()
    at_the_api(engine)
    await engine.record_ladder(good_ladder())
    await engine.run(PERF)
    assert standing(engine, PERF[2]) is Standing.PASSED
    await engine.journal.record(Draft(EventKind.LADDER, {"format": "dstui-ladder", "version": 2}, "li.na", NOW))
    assert engine.catch_up()
    assert standing(engine, PERF[2]) is Standing.STALE
    await engine.run(PERF)
    status = engine.checklist().statuses[PERF[2]]
    assert (status.verdict, status.reason) == (Verdict.UNKNOWN, Reason.PARSE_ERROR)
