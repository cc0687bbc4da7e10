"""The engine behind the app and the command line: runs plans, records what people do, folds the journal.

It runs without a terminal. Everything it shows as recorded is in the journal first.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dstui import __version__, attest, consent, probes
from dstui.catalogue import Catalogue
from dstui.events import (
    NEXT_RUN,
    Draft,
    Event,
    EventKind,
    encode_attestation,
    encode_finding,
    encode_ladder,
    encode_note,
    encode_waiver,
)
from dstui.facts.case import HostFacts, HostSite, Params, Site
from dstui.facts.ladder import LEVELS, NEED, LadderSeen
from dstui.findings import Findings
from dstui.identity import Identity
from dstui.journal import Journal
from dstui.judge.registry import FleetJudge, Judge
from dstui.load.result import LadderResult
from dstui.model import DstuiError, Lang, Note, Target, Text, UsageError, Verdict
from dstui.own_checks import own_groups, own_judges
from dstui.plan import Plan, plan, select
from dstui.progress import Progress
from dstui.redact import Redactor
from dstui.report.snapshot import Snapshot
from dstui.standing import Checklist, Standings
from dstui.state import Run, State
from dstui.sweep import Choreography, Judged, LinkPool, Sweep, Terms
from dstui.thresholds import judged_by_others

if TYPE_CHECKING:
    from dstui.load.ladder import Ladder
    from dstui.load.live import LadderRun
    from dstui.load.options import LadderOptions
    from dstui.load.setup import LoadSetup
    from dstui.telemetry.feed import LiveFeed

FOLLOW_SECONDS = 1.0
"""How often the journal is asked for rows of other processes."""


class Closing(Protocol):
    """What the engine owns and closes last."""

    async def aclose(self) -> None: ...


class Engine:
    """One cluster, one journal, one operator."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        site: Site,
        params: Callable[[str, str | None], Params],
        journal: Journal,
        links: LinkPool,
        choreography: Choreography,
        identity: Identity,
        redactor: Redactor,
        clock: Callable[[], float],
        host_timeout: float = 60.0,
        zone: str = "UTC",
        two_people: frozenset[str] = frozenset(),
        operators: frozenset[str] = frozenset(),
        new_run: bool = False,
        owned: Sequence[Closing] = (),
        watch: Callable[[], LiveFeed] | None = None,
        load: LoadSetup | None = None,
    ) -> None:
        """Reads the journal. Raises JournalError. `new_run` makes the next run start over.

        `watch` makes what watches the cluster live, over the same links; whoever calls it runs it and ends it. `load`
        plans and makes load.
        """
        self.catalogue = catalogue
        self.site = site
        self.identity = identity
        self.journal = journal
        self.state = State()
        self.progress = Progress()
        self.simulated = site.simulated
        self.two_people = two_people
        self._operators = operators
        self.clock = clock
        self.watch = watch
        self._load = load
        self.zone = zone
        self._params = params
        self._links = links
        self._choreography = choreography
        self._redactor = redactor
        self._host_timeout = host_timeout
        self._fresh = new_run
        self._owned = tuple(owned)
        self._listeners: list[Callable[[], None]] = []
        self._facts: dict[str, HostFacts] = {}
        self._judges: Mapping[str, Judge] = {**probes.judges(), **own_judges(catalogue)}
        self._groups = {**probes.groups(), **own_groups(catalogue)}
        self._findings = Findings(catalogue, redactor, simulated=site.simulated)
        hosts = frozenset(host.name for host in site.hosts)
        self._standings = Standings(catalogue, frozenset(self._judges), two_people, hosts, self._judged_by_others)
        self.state.apply_all(journal.read())
        if (broken := journal.verify()) is not None:
            self.state.broken_at = broken.seq

    @property
    def built(self) -> frozenset[str]:
        """Ids of the checks that this dstui can probe."""
        return frozenset(self._judges)

    @property
    def journal_path(self) -> Path:
        return self.journal.path

    def checklist(self, now: float | None = None) -> Checklist:
        """Every check's status at `now` (seconds since the epoch; the present when None)."""
        return self._standings.at(self.state, self.clock() if now is None else now)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` on the loop after any change of state or progress; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def select(
        self,
        *,
        sections: Sequence[str] = (),
        checks: Sequence[str] = (),
        failed_only: bool = False,
        quick: bool = False,
    ) -> tuple[str, ...]:
        """The ids in scope that can be probed. `failed_only` keeps those that failed, are unknown or stale.

        Raises UsageError for unknown names.
        """
        scope = select(self.catalogue, sections=sections, checks=checks, profile="quick" if quick else "full")
        if failed_only:
            statuses = self.checklist().statuses
            again = (Verdict.FAIL, Verdict.UNKNOWN)
            scope = tuple(i for i in scope if statuses[i].verdict in again or statuses[i].stale)
        return tuple(check_id for check_id in scope if check_id in self._judges)

    def interrupted(self) -> Run | None:
        """The last run, when it was cut short."""
        run = self.state.last_run
        return run if run is not None and run.finished_at is None else None

    def host_facts(self, name: str) -> HostFacts | None:
        """What this session gathered of a host; None before its first run."""
        return self._facts.get(name)

    async def run(
        self,
        checks: Sequence[str],
        *,
        hosts: Sequence[str] | None = None,
        resume: bool = False,
        confirmed: frozenset[str] = frozenset(),
    ) -> None:
        """Runs the plan for `checks`, all hosts or some. Raises UsageError while a run is under way.

        What a deeper look has settled and is fresh is left as it is, and when nothing else is wanted nothing runs.
        `confirmed` are checks whose heavier or deeper part a person said yes to (CATALOGUE 0.3).
        `resume` goes on with an interrupted run of the same checks: what it settled, and is not stale, stays.
        Cancelled or killed, everything that settled is recorded and the run counts as interrupted.
        """
        if self.progress.running:
            raise UsageError(f"run {self.progress.run} is under way; wait for it or stop it first")
        left = self._without_deeper(checks, confirmed)
        if checks and not left:
            return
        wanted = plan(self.catalogue, left, self._judges)
        if not wanted.checks:
            raise UsageError("none of the chosen checks has a probe; sign them by hand (s) or choose others")
        self.progress = Progress(running=True, started_at=self.clock(), message="")
        try:
            number, wanted = await self._begin(wanted, resume)
            self.progress.run, self.progress.total = number, len(wanted.checks)
            visited = self._visited(wanted, hosts)
            sweep = Sweep(wanted, visited, self._terms(number, confirmed), self.progress)
            try:
                if wanted.checks:
                    await sweep.run()
            except* DstuiError as errors:
                # Several tasks meet the same full disk; the operator needs to read of it once.
                raise _first(errors) from None
            finally:
                self._facts.update({h.name: sweep.facts[h.name] for h in visited if h.name in sweep.facts})
            await self._record(Draft(EventKind.RUN_FINISHED, {}, self.identity.person, self.clock(), number))
        finally:
            self.progress.running = False
            self.progress.checks.clear()
            self._changed()

    def _without_deeper(self, checks: Sequence[str], confirmed: frozenset[str]) -> Sequence[str]:
        """Leaves out what a deeper look, asked for by somebody, has settled afresh: a shallow one must not undo it.

        A single check is what somebody asks for, and runs.
        """
        if len(checks) == 1:
            return checks
        statuses = self.checklist().statuses
        told = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)
        deep = {i for i in checks if self.goes_deeper(i) and i not in confirmed}
        kept = {i for i in deep if statuses[i].verdict in told and not statuses[i].stale}
        return [check_id for check_id in checks if check_id not in kept]

    async def _begin(self, wanted: Plan, resume: bool) -> tuple[int, Plan]:
        cut = self.interrupted() if resume and not self._fresh else None
        if cut is not None and self._can_go_on(cut, wanted):
            statuses = self.checklist().statuses
            left = [i for i in wanted.checks if i not in cut.settled or statuses[i].stale or self._judged_by_others(i)]
            await self._record(Draft(EventKind.RUN_RESUMED, {}, self.identity.person, self.clock(), cut.number))
            return cut.number, plan(self.catalogue, left, self._judges)
        payload = {
            "checks": list(wanted.checks),
            "hosts": [h.name for h in self.site.hosts],
            "simulated": self.simulated,
            "fresh": self._fresh,
            "versions": {
                "dstui": __version__,
                "python": platform.python_version(),
                "system": platform.platform(),
            },
        }
        events = await self._record(Draft(EventKind.RUN_STARTED, payload, self.identity.person, self.clock(), NEXT_RUN))
        self._fresh = False
        return events[0].run, wanted

    def _can_go_on(self, cut: Run, wanted: Plan) -> bool:
        """Only the same checks on the same hosts are the same run; a host that joined since would be passed over."""
        same_hosts = set(cut.hosts) == {host.name for host in self.site.hosts}
        return same_hosts and cut.simulated is self.simulated and set(wanted.checks) == set(cut.checks)

    def _judged_by_others(self, check_id: str) -> bool:
        """Whether a finding was judged by other parameter values, or another ladder, than those in force now."""
        known = {host.name for host in self.site.hosts}
        findings = self.state.findings.get(check_id, {}).values()
        if findings and self._recorded(check_id) and self._ladder_seen().outdates(check_id, findings):
            return True
        return judged_by_others(findings, known, lambda host: self._params(check_id, host), self._findings.redacted)

    def _visited(self, wanted: Plan, hosts: Sequence[str] | None) -> list[HostSite]:
        """The named hosts, and those that have no finding yet; all of them for a judge that compares hosts.

        A fresh finding must not rest on facts of an earlier run, whatever their age. Nobody is asked for what rests on
        a ladder alone.
        """
        if not wanted.groups and wanted.needs <= {NEED}:
            return []
        if hosts is None:
            return list(self.site.hosts)
        chosen = set(hosts)
        for judge in wanted.host_judges:
            seen = self.state.findings.get(judge.check_id, {})
            chosen |= {h.name for h in self.site.hosts if f"host:{h.name}" not in seen}
        if wanted.fleet_judges:
            chosen = {h.name for h in self.site.hosts}
        return [h for h in self.site.hosts if h.name in chosen]

    def _terms(self, number: int, confirmed: frozenset[str]) -> Terms:
        async def settle(judged: Sequence[Judged]) -> None:
            findings = await asyncio.to_thread(self._findings.of_all, judged, number, self.clock())
            who, now = self.identity.person, self.clock()
            await self._record(*(Draft(EventKind.FINDING, encode_finding(f), who, now, number) for f in findings))

        async def close(check_id: str, targets: Sequence[str]) -> None:
            payload = {"check": check_id, "targets": list(targets)}
            await self._record(Draft(EventKind.CHECK_SETTLED, payload, self.identity.person, self.clock(), number))

        return Terms(
            site=self.site,
            groups=self._groups,
            params=self._params,
            links=self._links,
            choreography=self._choreography,
            settle=settle,
            close=close,
            changed=self._changed,
            clock=self.clock,
            host_timeout=self._host_timeout,
            known=self._facts,
            prerequisites={check.id: check.prerequisites for check in self.catalogue.checks},
            held=consent.held(self.catalogue, self.site, confirmed, self._judges),
            confirmed=confirmed,
            given={NEED: self._ladder_seen()},
        )

    @property
    def ladders(self) -> tuple[LadderResult, ...]:
        """Every ladder that is recorded, the newest last."""
        return tuple(self.state.ladders)

    async def record_ladder(self, result: LadderResult) -> Event:
        """Records what a ladder found, without secrets; one on a simulated cluster is marked as such."""
        marked = replace(result, simulated=result.simulated or self.simulated)
        payload = await asyncio.to_thread(encode_ladder, marked, self._redactor.sentence)
        events = await self._record(Draft(EventKind.LADDER, payload, self.identity.person, self.clock()))
        return events[0]

    def ladder_of(self, options: LadderOptions | None = None) -> Ladder:
        """The ladder that the inventory, the catalogue and the options give. Raises UsageError."""
        return self._loading().ladder_of(options)

    def run_ladder(self, ladder: Ladder, *, search: bool = False) -> LadderRun:
        """A run of it; its result is recorded when it ends. Whoever calls this runs it. Raises UsageError."""
        from dstui.load.recorded import RecordedRun

        return RecordedRun(self._loading().runner(ladder, search=search), self.record_ladder)

    def _loading(self) -> LoadSetup:
        if self._load is None:
            raise UsageError("no load can be made here: the inventory is not known")
        return self._load

    def _ladder_seen(self) -> LadderSeen:
        params = self._params(LEVELS, None)
        return LadderSeen(
            ladders=self.ladders,
            api=params.optional_text("endpoints_api"),
            model=params.text("model_served_name"),
            levels=params,
            ttl={check.id: check.ttl for check in self.catalogue.checks},
            now=self.clock(),
            simulated=self.simulated,
            fault=self.state.ladder_fault,
        )

    def _recorded(self, check_id: str) -> bool:
        judge = self._judges.get(check_id)
        return isinstance(judge, FleetJudge) and judge.recorded

    def asks_first(self, check_id: str) -> bool:
        """Whether a person has to say yes before the check does what it does to this cluster."""
        return consent.asks_first(self.catalogue.check(check_id), self.site, self._judges.get(check_id))

    def goes_deeper(self, check_id: str) -> bool:
        """Whether the check has a stage that only runs when a person asks for it by name."""
        judge = self._judges.get(check_id)
        return isinstance(judge, FleetJudge) and judge.deeper

    async def _record(self, *drafts: Draft) -> list[Event]:
        """Commits, then folds: rows of other processes that came in between are folded in their place."""
        if not drafts:
            return []
        events = await self.journal.record(*drafts)
        self._fold(events)
        self._changed()
        return events

    def _fold(self, events: Sequence[Event]) -> None:
        if events and events[0].seq > self.state.head_seq + 1:
            self.state.apply_all(self.journal.read(after=self.state.head_seq))
        for event in events:
            if event.seq > self.state.head_seq:
                self.state.apply(event)

    async def follow(self) -> None:
        """Folds what other processes append, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            if self.catch_up():
                self._changed()

    def catch_up(self) -> bool:
        """Folds rows of other processes; True when there were any. Raises JournalError."""
        before = self.state.head_seq
        self.state.apply_all(self.journal.read(after=before))
        return self.state.head_seq != before

    def sign_refusal(self, check_id: str) -> Text | None:
        """Why the check cannot be signed now; None when it can."""
        return attest.refusal(self.checklist().statuses[check_id], built=check_id in self.built)

    async def sign(self, check_id: str, *, person: str, role: str, note: str, link: str) -> Event:
        """Records an attestation on what is observed now. Raises UsageError with the reason when it is refused."""
        if person != self.identity.person and not self.identity.changeable:
            me = f"{self.identity.person} ({self.identity.source})"
            raise UsageError(f"you are {me}; the inventory does not let you sign as {person}")
        self._may_act(person)
        if (why := self.sign_refusal(check_id)) is not None:
            raise UsageError(why.en)
        status = self.checklist().statuses[check_id]
        attestation = attest.attestation(
            status, person=person, role=role, note=note, link=link,
            material=self.state.material_hash(check_id), now=self.clock(),
        )  # fmt: skip
        return await self._act(EventKind.ATTESTATION, encode_attestation(attestation), attestation.at)

    async def waive(self, check_id: str, *, approver: str, reason: str, ticket: str, expires_at: float) -> Event:
        """Records a waiver. Raises UsageError when something required is empty or the date is not ahead."""
        self.catalogue.check(check_id)
        self._may_act(self.identity.person)
        waiver = attest.waiver(
            check_id, person=self.identity.person, approver=approver, reason=reason, ticket=ticket,
            expires_at=expires_at, now=self.clock(),
        )  # fmt: skip
        return await self._act(EventKind.WAIVER, encode_waiver(waiver), waiver.at)

    def _may_act(self, person: str) -> None:
        """Where the inventory lists operators, nobody else signs or waives; notes are free."""
        if self._operators and person not in self._operators:
            raise UsageError(f"{person} is not among the inventory's operators ({', '.join(sorted(self._operators))})")

    async def withdraw_waiver(self, check_id: str, *, reason: str) -> Event:
        """Ends the open waiver of a check. Raises UsageError when there is none."""
        now = self.clock()
        if not any(w.open(now) for w in self.state.waivers.get(check_id, [])):
            raise UsageError(f"{check_id} has no open waiver")
        return await self._act(EventKind.WAIVER_WITHDRAWN, {"check": check_id, "reason": reason}, now)

    async def note(self, check_id: str, *, target: Target | None, text: str) -> Event:
        """Records a remark. Raises UsageError when it is empty."""
        self.catalogue.check(check_id)
        if not text.strip():
            raise UsageError("an empty note is not recorded")
        note = Note(check_id, target, self.identity.person, text.strip(), self.clock())
        return await self._act(EventKind.NOTE, encode_note(note), note.at)

    async def export(self, path: Path, *, format: str, lang: Lang) -> Event:
        """Writes a report of the present state and records that it was written. Raises UsageError, OSError never."""
        from dstui.report import render, write_atomically

        snapshot = self.snapshot(lang)
        text = await asyncio.to_thread(render, snapshot, format)
        digest = await asyncio.to_thread(write_atomically, path, text)
        payload = {"path": str(path), "format": format, "lang": lang.value, "sha256": digest}
        return await self._act(EventKind.EXPORT, payload, snapshot.at)

    def snapshot(self, lang: Lang) -> Snapshot:
        """What a report of this moment is made of."""
        now = self.clock()
        return Snapshot(
            cluster=self.site.name,
            environment=self.site.environment,
            at=now,
            zone=self.zone,
            operator=self.identity.person,
            catalogue=self.catalogue,
            runs=tuple(replace(run, settled=set(run.settled)) for run in self.state.runs.values()),
            head_seq=self.state.head_seq,
            head_hash=self.state.head_hash,
            broken_at=self.state.broken_at,
            checklist=self.checklist(now),
            lang=lang,
            journal=self.journal.path.name,
            simulated=self.simulated or self.state.simulated,
            versions={"dstui": __version__, "python": platform.python_version(), "system": platform.platform()},
            built=self.built,
        )

    async def _act(self, kind: EventKind, payload: Mapping[str, object], at: float) -> Event:
        scrubbed = {k: self._redactor.sentence(v) if isinstance(v, str) else v for k, v in payload.items()}
        events = await self._record(Draft(kind, scrubbed, self.identity.person, at))
        return events[0]

    async def aclose(self) -> None:
        """Closes links and the journal, in that order."""
        for owned in self._owned:
            await owned.aclose()
        self.journal.close()


def _first(errors: BaseExceptionGroup[DstuiError]) -> DstuiError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


EngineFactory = Callable[[], Awaitable[Engine]]
