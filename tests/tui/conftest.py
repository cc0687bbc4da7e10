"""A silent engine with a canned journal: real events, really folded, no hosts, no clock of its own, no threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from textual.pilot import Pilot

from dstui import attest
from dstui.catalogue import Catalogue, load_catalogue
from dstui.events import (
    Draft,
    Event,
    EventKind,
    canonical,
    digest,
    encode_attestation,
    encode_finding,
    encode_note,
    encode_waiver,
)
from dstui.facts.case import HostFacts, HostSite, Session, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.identity import Identity
from dstui.model import (
    Evidence,
    Finding,
    Lang,
    Note,
    Reason,
    SideEffect,
    Target,
    Text,
    Threshold,
    UsageError,
    Verdict,
    host_target,
    pair_target,
    same,
)
from dstui.progress import CheckProgress, HostProgress, Progress
from dstui.standing import Checklist, checklist
from dstui.state import Run, State
from screens.app import DstuiApp
from screens.checklist import ChecklistScreen
from screens.lines import Bar, LineView

if TYPE_CHECKING:
    from dstui.engine import Engine

NOW = 1_763_956_800.0 + 4 * 60 + 31
"""2025-11-24 12:04:31 in Shanghai."""

HOSTS = ("gpu-01", "gpu-02", "gpu-03", "gpu-04")

PASS_TEXTS = {
    "hw.gpu-model": ("8 x NVIDIA H800, driver loaded", "8 块 NVIDIA H800，驱动已加载"),
    "hw.cpu-cores": ("96 physical cores, 192 logical", "96 物理核，192 逻辑核"),
    "hw.memory": ("2,014 GiB", "2014 GiB"),
    "hw.ssd-capacity": ("30.7 TB on 8 NVMe drives", "8 块 NVMe 共 30.7 TB"),
}


def finding(
    check_id: str,
    target: Target,
    verdict: Verdict,
    observed: Text,
    *,
    expected: Text | None = None,
    reason: Reason | None = None,
    detail: str = "",
    notes: tuple[Text, ...] = (),
    evidence: tuple[Evidence, ...] = (),
    thresholds: tuple[Threshold, ...] = (),
    at: float = NOW - 13,
    ttl: float = 3600.0,
    run: int = 7,
) -> Finding:
    return Finding(
        check_id=check_id,
        target=target,
        verdict=verdict,
        observed=observed,
        expected=expected or Text("as the document asks", "符合文档要求"),
        rule=Text(f"{verdict.value}: the rule that fired", f"{verdict.value}：命中的规则"),
        reason=reason,
        detail=detail,
        notes=notes,
        material_hash=f"{check_id}-{target.key}-{verdict}".encode("utf-8", "replace").hex()[:64].ljust(64, "0"),
        thresholds=thresholds,
        evidence=evidence,
        observed_at=at,
        ttl=ttl,
        seconds=0.8,
        run=run,
    )


def ran(key: str, source: str, output: str, *, code: int | None = 0, seconds: float = 0.04) -> Evidence:
    return Evidence(key, source, code, output[:4096], len(output), seconds)


class SilentEngine:
    """What the screens know of an engine. `commit` records one act; `settle` plays the end of one check in a run."""

    def __init__(self, catalogue: Catalogue, *, changeable: bool = False, simulated: bool = False) -> None:
        self.catalogue = catalogue
        self.simulated = simulated
        self.identity = Identity("zhang.wei", "ssh", changeable)
        self.state = State()
        self.progress = Progress()
        self.two_people: frozenset[str] = frozenset({"ops.upgrade"})
        self.built = frozenset(c.id for c in catalogue.checks if c.section in ("hw", "sw", "net", "stor", "hard"))
        self.site = site(simulated=simulated)
        self.journal_path = Path("/var/lib/dstui/ds-prod.journal")
        self.now = NOW
        self.facts: dict[str, HostFacts] = {}
        self.asked: list[tuple[str, ...]] = []
        self.watch: Callable[[], Any] | None = None
        self.confirmed: frozenset[str] = frozenset()
        self.run_error: Exception | None = None
        self.closed = False
        self.let_go = False
        self.finish = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def clock(self) -> float:
        return self.now

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def checklist(self, now: float | None = None) -> Checklist:
        at = self.now if now is None else now
        return checklist(self.state, self.catalogue, at, built=self.built, two_people=self.two_people)

    def commit(self, kind: EventKind, payload: dict[str, object], *, run: int = 0, at: float | None = None) -> Event:
        draft = Draft(kind, payload, self.identity.person, self.now if at is None else at, run)
        seq, prev = self.state.head_seq + 1, self.state.head_hash
        body = canonical(draft.payload)
        sha = digest(prev, seq, draft.at, draft.kind.value, run, draft.actor, body)
        event = Event(seq, draft.at, draft.kind.value, run, draft.actor, draft.payload, prev, sha)
        self.state.apply(event)
        return event

    def start(self, number: int, checks: Sequence[str], at: float) -> None:
        payload = {
            "checks": list(checks),
            "hosts": list(HOSTS),
            "simulated": self.simulated,
            "fresh": False,
            "versions": {},
        }
        self.commit(EventKind.RUN_STARTED, payload, run=number, at=at)

    def settle(self, *findings: Finding) -> None:
        """Records findings of one check and that it has settled."""
        if findings[0].run not in self.state.runs:
            self.start(findings[0].run, [findings[0].check_id], findings[0].observed_at)
        for item in findings:
            self.commit(EventKind.FINDING, dict(encode_finding(item)), run=item.run, at=item.observed_at)
        first = findings[0]
        payload: dict[str, object] = {"check": first.check_id, "targets": [f.target.key for f in findings]}
        self.commit(EventKind.CHECK_SETTLED, payload, run=first.run, at=first.observed_at)
        self.progress.checks.pop(first.check_id, None)
        self.progress.done += 1

    def begin_progress(self, checks: Sequence[str]) -> None:
        """A run is under way and nothing has settled."""
        self.progress = Progress(
            running=True,
            run=8,
            started_at=self.now - 4.2,
            checks={c: CheckProgress(0, len(HOSTS), HOSTS[-1]) for c in checks},
            hosts={h: HostProgress("gathering", self.now - 3.9) for h in HOSTS},
            total=len(checks),
        )

    def select(
        self,
        *,
        sections: Sequence[str] = (),
        checks: Sequence[str] = (),
        failed_only: bool = False,
        quick: bool = False,
    ) -> tuple[str, ...]:
        statuses = self.checklist().statuses
        bad = (Verdict.FAIL, Verdict.UNKNOWN)
        return tuple(
            c.id
            for c in self.catalogue.checks
            if c.id in self.built and (not failed_only or statuses[c.id].verdict in bad or statuses[c.id].stale)
        )

    def interrupted(self) -> Run | None:
        run = self.state.last_run
        return run if run is not None and run.finished_at is None else None

    def host_facts(self, name: str) -> HostFacts | None:
        return self.facts.get(name)

    def goes_deeper(self, check_id: str) -> bool:
        return False

    def asks_first(self, check_id: str) -> bool:
        check = self.catalogue.check(check_id)
        return check.side_effect in (SideEffect.S3, SideEffect.S4) or (
            check.confirm_in_production and self.site.environment == "production"
        )

    async def run(
        self,
        checks: Sequence[str],
        *,
        hosts: Sequence[str] | None = None,
        resume: bool = False,
        confirmed: frozenset[str] = frozenset(),
    ) -> None:
        self.asked.append(tuple(checks))
        self.confirmed = confirmed
        if self.run_error is not None:
            raise self.run_error
        self.begin_progress(checks)
        self.changed()
        try:
            await self.finish.wait()
        finally:
            await asyncio.sleep(0)
            self.let_go = not self.closed
            self.progress.running = False
            self.progress.checks.clear()
            self.changed()

    def sign_refusal(self, check_id: str) -> Text | None:
        return attest.refusal(self.checklist().statuses[check_id], built=check_id in self.built)

    async def sign(self, check_id: str, *, person: str, role: str, note: str, link: str) -> Event:
        if (why := self.sign_refusal(check_id)) is not None:
            raise UsageError(why.en)
        status = self.checklist().statuses[check_id]
        material = self.state.material_hash(check_id)
        given = attest.attestation(
            status, person=person, role=role, note=note, link=link, material=material, now=self.now
        )
        return self._act(EventKind.ATTESTATION, dict(encode_attestation(given)))

    async def waive(self, check_id: str, *, approver: str, reason: str, ticket: str, expires_at: float) -> Event:
        given = attest.waiver(
            check_id,
            person=self.identity.person,
            approver=approver,
            reason=reason,
            ticket=ticket,
            expires_at=expires_at,
            now=self.now,
        )
        return self._act(EventKind.WAIVER, dict(encode_waiver(given)))

    async def withdraw_waiver(self, check_id: str, *, reason: str) -> Event:
        return self._act(EventKind.WAIVER_WITHDRAWN, {"check": check_id, "reason": reason})

    async def note(self, check_id: str, *, target: Target | None, text: str) -> Event:
        return self._act(
            EventKind.NOTE, dict(encode_note(Note(check_id, target, self.identity.person, text, self.now)))
        )

    async def export(self, path: Path, *, format: str, lang: Lang) -> Event:
        return self._act(
            EventKind.EXPORT, {"path": str(path), "format": format, "lang": lang.value, "sha256": "0" * 64}
        )

    def _act(self, kind: EventKind, payload: dict[str, object]) -> Event:
        event = self.commit(kind, payload)
        self.changed()
        return event

    async def follow(self) -> None:
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


def site(*, simulated: bool = False) -> Site:
    hosts = tuple(
        HostSite(
            name=name,
            roles=frozenset({"head"} if index == 0 else {"worker"}),
            data_ip=f"10.0.0.{index + 1}",
            mgmt_ip=None,
            address=f"10.0.0.{index + 1}",
            port=22,
            user="ops",
            gpu=True,
            gpus_per_host=8,
        )
        for index, name in enumerate(HOSTS)
    )
    return Site(
        name="ds-prod",
        environment="production",
        phase="pre",
        hosts=hosts,
        shared_path="/data/models",
        runtime_python=None,
        runtime_user=None,
        runtime_mode="venv",
        docker_required=True,
        become="sudo",
        simulated=simulated,
    )


def passing(engine: SilentEngine, check_id: str, *, at: float = NOW - 13, run: int = 7) -> list[Finding]:
    """All targets of a check pass."""
    text = Text(*PASS_TEXTS.get(check_id, ("as it should be", "符合要求")))
    if check_id in ("net.peer-ping", "net.ports"):
        targets = [pair_target(a, b) for a in HOSTS for b in HOSTS if a != b]
    else:
        targets = [host_target(h) for h in HOSTS]
    seen = (ran(check_id.replace("-", "."), f"cat /sys/{check_id}", "ok\n"),)
    return [finding(check_id, t, Verdict.PASS, text, at=at, run=run, evidence=seen) for t in targets]


NIC = (Threshold("nic_min_gbps", 25.0, "document", 25.0),)
NIC_EXPECTED = Text("at least 25 Gb/s to every peer", "到每个对端至少 25 Gb/s")


def nic_findings(run: int = 7) -> list[Finding]:
    good = Text("mlx5_bond_0 200 Gb/s, active", "mlx5_bond_0 200 Gb/s，已激活")
    bad = Text(
        "bond0 to gpu-01: ens5f0 down, ens5f1 10 Gb/s",
        "bond0 到 gpu-01：ens5f0 未连接，ens5f1 10 Gb/s",
    )
    route = ran("links.route", "ip -j route get 10.0.0.1", '[{"dst":"10.0.0.1","dev":"bond0","prefsrc":"10.0.0.4"}]\n')
    speed = ran("links.speed", "cat /sys/class/net/ens5f1/speed", "10000\n", seconds=0.002)
    down = ran("links.ethtool", "ethtool ens5f0", "Settings for ens5f0:\n\tSpeed: Unknown!\n\tLink detected: no\n")
    failed = finding(
        "hw.nic-speed",
        host_target("gpu-04"),
        Verdict.FAIL,
        bad,
        expected=NIC_EXPECTED,
        thresholds=NIC,
        notes=(Text("the two ends of the link differ in MTU (9000 and 1500)", "链路两端 MTU 不同（9000 与 1500）"),),
        evidence=(route, speed, down),
        run=run,
    )
    fine = [
        finding(
            "hw.nic-speed",
            host_target(h),
            Verdict.PASS,
            good,
            expected=NIC_EXPECTED,
            thresholds=NIC,
            evidence=(route,),
            run=run,
        )
        for h in HOSTS[:3]
    ]
    return [failed, *fine]


def mixed(engine: SilentEngine) -> SilentEngine:
    """A morning's work: two runs, one slow NIC, an unknown, a warning, a waiver, signatures, a note, a stale row."""
    yesterday = NOW - 18 * 3600
    order = [c.id for c in engine.catalogue.checks if c.section in ("hw", "sw", "net", "stor")]
    engine.start(6, order, yesterday - 5)
    for check_id in order[:8]:
        engine.settle(*passing(engine, check_id, at=yesterday, run=6))
    engine.commit(EventKind.RUN_FINISHED, {}, run=6, at=yesterday + 3)
    engine.start(7, order, NOW - 17)
    special = ("hw.nic-speed", "net.outbound", "sw.docker", "net.ports", "stor.free-space", "net.dns")
    for check_id in order:
        if check_id not in special:
            engine.settle(*passing(engine, check_id))
    engine.settle(*nic_findings())
    why = Text("no proxy credential in the inventory", "清单中没有代理凭据")
    engine.settle(
        *(finding("net.outbound", host_target(h), Verdict.UNKNOWN, why, reason=Reason.NO_CREDENTIAL) for h in HOSTS)
    )
    docker = Text("24.0.7, works without sudo", "24.0.7，无需 sudo")
    engine.settle(
        *(
            finding(
                "sw.docker",
                host_target(h),
                Verdict.WARN if h == "gpu-02" else Verdict.PASS,
                Text("24.0.7, only root may use the socket", "24.0.7，仅 root 可用") if h == "gpu-02" else docker,
            )
            for h in HOSTS
        )
    )
    engine.settle(
        *(
            finding(
                "stor.free-space",
                host_target(h),
                Verdict.FAIL,
                same("412 GB"),
                expected=Text("at least 688 GB for the missing weights", "缺失权重至少需要 688 GB"),
            )
            for h in HOSTS
        )
    )
    engine.settle(*(finding("net.dns", host_target(h), Verdict.PASS, same("3 ms"), at=NOW - 7300) for h in HOSTS))
    engine.commit(EventKind.RUN_FINISHED, {}, run=7, at=NOW - 10)
    engine.commit(
        EventKind.WAIVER,
        dict(
            encode_waiver(
                attest.waiver(
                    "stor.free-space",
                    person="zhang.wei",
                    approver="li.na",
                    reason="second NVMe shelf arrives on the 28th",
                    ticket="OPS-4411",
                    expires_at=NOW + 7 * 86400,
                    now=NOW - 9,
                )
            )
        ),
    )
    for check_id in ("doc.architecture", "doc.deployment"):
        status = engine.checklist().statuses[check_id]
        given = attest.attestation(
            status,
            person="zhang.wei",
            role="SRE lead",
            note="reviewed with the platform team",
            link="https://wiki.example/ds",
            material=engine.state.material_hash(check_id),
            now=NOW - 8,
        )
        engine.commit(EventKind.ATTESTATION, dict(encode_attestation(given)))
    note = Note("hw.nic-speed", host_target("gpu-04"), "li.na", "optic ordered, swap tonight", NOW - 5)
    engine.commit(EventKind.NOTE, dict(encode_note(note)))
    for name in HOSTS[:3]:
        engine.facts[name] = host_facts(name)
    engine.facts["gpu-04"] = replace(host_facts("gpu-04"))
    return engine


def host_facts(name: str, *extra: Answer) -> HostFacts:
    answers = (
        Answer("os.release", "/etc/os-release", 'NAME="Ubuntu"\nVERSION_ID="22.04"\n', output_bytes=33, seconds=0.001),
        Answer("gpu.smi", "nvidia-smi -L", "GPU 0: NVIDIA H800 (UUID: GPU-1)\n", exit=0, output_bytes=33, seconds=0.31),
        Answer("links.route", "ip -j route get 10.0.0.1", '[{"dev":"bond0"}]', exit=0, output_bytes=17, seconds=0.01),
        Answer("mem.dmi", "sudo -n dmidecode -t 17", missing=Missing(Reason.PERMISSION, "sudo wants a password")),
        *extra,
    )
    session = Session(
        user="ops",
        auth="publickey",
        key_type="ssh-ed25519",
        key_fingerprint="SHA256:Zk3",
        key_bits=256,
        host_key_fingerprint="SHA256:9aB",
        controller_ip="10.0.0.250",
        root_attempt="refused",
    )
    return HostFacts(None, session, Raw({a.key: a for a in answers}), {})


class Hands:
    """What the tests do to an app and how they look at it."""

    @staticmethod
    @asynccontextmanager
    async def driven(
        engine: SilentEngine, catalogue: Catalogue, size: tuple[int, int] = (120, 40), lang: Lang = Lang.EN
    ) -> AsyncIterator[tuple[DstuiApp, Pilot[str]]]:
        app = Hands.app(engine, catalogue, lang)
        async with app.run_test(size=size) as pilot:
            await Hands.opened(app, pilot)
            app.repaint_clock.spinning = False
            await pilot.pause()
            yield app, pilot

    @staticmethod
    def app(engine: SilentEngine, catalogue: Catalogue, lang: Lang = Lang.EN) -> DstuiApp:
        return DstuiApp(cast("Engine", engine), lambda: catalogue, lang=lang, clock=engine.clock)

    @staticmethod
    async def opened(app: DstuiApp, pilot: Pilot[str]) -> None:
        """Lets the app read the checklist and take the engine."""
        await pilot.pause()
        while not app.opened and app.is_running:
            await pilot.pause()
        await pilot.pause()

    @staticmethod
    async def furnished(app: DstuiApp, pilot: Pilot[str]) -> ChecklistScreen:
        """Lets the app read the checklist; the engine may be closed yet."""
        await pilot.pause()
        while (home := Hands.home(app)).furnished is None:
            await pilot.pause()
        await pilot.pause()
        return home

    @staticmethod
    def home(app: DstuiApp) -> ChecklistScreen:
        screen = app.screen
        assert isinstance(screen, ChecklistScreen)
        return screen

    @staticmethod
    def text_of(view: LineView | Bar) -> str:
        return "\n".join("".join(piece for piece, _ in row) for row in view.lines)

    @staticmethod
    def told(app: DstuiApp) -> str:
        return "\n".join(note.message for note in app._notifications)

    @staticmethod
    async def painted(app: DstuiApp, pilot: Pilot[str]) -> None:
        """Lets the repaint clock come round once, however slow the machine is."""
        came = asyncio.Event()
        before = app.repaint

        def repaint() -> None:
            before()
            came.set()

        app.repaint_clock.on_repaint(repaint)
        app.repaint_clock.changed()
        await came.wait()
        app.repaint_clock.on_repaint(before)
        await pilot.pause()

    @staticmethod
    def settled(check_id: str, host: str, now: float, verdict: Verdict = Verdict.PASS, run: int = 8) -> Finding:
        reason = Reason.CANNOT_TELL if verdict is Verdict.UNKNOWN else None
        return finding(check_id, host_target(host), verdict, same("as it should be"), reason=reason, at=now, run=run)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repaints come soon, so that tests need not wait for the operator's eye."""
    monkeypatch.setattr("screens.clock.TICK", 0.005)
    # Textual's pilot looks every 20 ms whether the app is idle; most keys are done much sooner.
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.004)


@pytest.fixture(autouse=True)
def shanghai() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Shanghai"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def engine(catalogue: Catalogue) -> SilentEngine:
    """Before the first run."""
    return SilentEngine(catalogue)


@pytest.fixture
def mixed_engine(catalogue: Catalogue) -> SilentEngine:
    return mixed(SilentEngine(catalogue))
