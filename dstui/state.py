"""A fold of journal events into what is shown and exported. No I/O and no clock: time is passed in.

`State` holds what the rows say; `status` and `Checklist` add what depends on the moment (staleness, expiry, the gate).
Resuming, exporting and a second operator's screen are the same operation: read the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dstui.catalogue import Catalogue, Check, Section
from dstui.events import (
    Event,
    EventKind,
    decode_attestation,
    decode_finding,
    decode_note,
    decode_waiver,
    strings_of,
    text_of,
)
from dstui.model import Attestation, Finding, Kind, Note, Reason, Scope, Verdict, Waiver, worst

NOTHING_OBSERVED = hashlib.sha256(b"").hexdigest()
"""What an attestation binds to on a check that nothing has looked at."""


@dataclass(slots=True)
class Run:
    """One pass over a plan. `finished_at` stays None when it was interrupted; `checks` is what it set out to do."""

    number: int
    started_at: float
    actor: str
    checks: tuple[str, ...]
    hosts: tuple[str, ...]
    simulated: bool
    versions: Mapping[str, object]
    fresh: bool
    finished_at: float | None = None
    settled: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a check came to in a run: one line of its history."""

    run: int
    at: float
    verdict: Verdict
    counts: Mapping[Verdict, int]


class State:
    """Everything the journal says, as of `head_seq`. `version` rises with every row that was folded."""

    def __init__(self) -> None:
        self.findings: dict[str, dict[str, Finding]] = {}
        self.history: dict[str, list[Settled]] = {}
        self.attestations: dict[str, list[Attestation]] = {}
        self.waivers: dict[str, list[Waiver]] = {}
        self.notes: dict[str, list[Note]] = {}
        self.runs: dict[int, Run] = {}
        self.exports: list[tuple[int, float, str, str]] = []
        self.covered: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        """Per check that ever settled: the targets it settled on and the hosts of that run."""
        self.head_seq = 0
        self.head_hash = ""
        self.version = 0
        self.broken_at: int | None = None

    @property
    def simulated(self) -> bool:
        """Any run of the embedded fleet in the journal marks all of it."""
        return any(run.simulated for run in self.runs.values())

    @property
    def last_run(self) -> Run | None:
        return self.runs[max(self.runs)] if self.runs else None

    def apply(self, event: Event) -> None:
        """Folds one row; rows of an unknown kind only count. Raises JournalError when it does not decode."""
        if event.seq != self.head_seq + 1 or (self.head_hash and event.prev != self.head_hash):
            self.broken_at = self.broken_at or event.seq
        fold = _FOLDS.get(event.kind)
        if fold is not None:
            fold(self, event)
        self.head_seq, self.head_hash = event.seq, event.hash
        self.version += 1

    def apply_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.apply(event)

    def material_hash(self, check_id: str) -> str:
        """SHA-256 over what was observed on every target of a check; what a signature binds to."""
        findings = self.findings.get(check_id, {})
        if not findings:
            return NOTHING_OBSERVED
        lines = [f"{key} {f.verdict} {f.material_hash}" for key, f in sorted(findings.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _run_started(state: State, event: Event) -> None:
    payload = event.payload
    versions = payload.get("versions")
    state.runs[event.run] = Run(
        number=event.run,
        started_at=event.at,
        actor=event.actor,
        checks=strings_of(event, "checks"),
        hosts=strings_of(event, "hosts"),
        simulated=payload.get("simulated") is True,
        versions=versions if isinstance(versions, Mapping) else {},
        fresh=payload.get("fresh") is True,
    )
    if payload.get("fresh") is True:
        state.findings.clear()
        state.covered.clear()


def _run_resumed(state: State, event: Event) -> None:
    if run := state.runs.get(event.run):
        run.finished_at = None


def _run_finished(state: State, event: Event) -> None:
    if run := state.runs.get(event.run):
        run.finished_at = event.at


def _finding(state: State, event: Event) -> None:
    finding = decode_finding(event)
    state.findings.setdefault(finding.check_id, {})[finding.target.key] = finding


def _check_settled(state: State, event: Event) -> None:
    check_id, targets = text_of(event, "check"), set(strings_of(event, "targets"))
    kept = {key: f for key, f in state.findings.get(check_id, {}).items() if key in targets}
    state.findings[check_id] = kept
    counts: dict[Verdict, int] = {}
    for finding in kept.values():
        counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
    verdict = worst([f.verdict for f in kept.values()] + [Verdict.NOT_RUN for _ in targets - kept.keys()])
    state.history.setdefault(check_id, []).append(Settled(event.run, event.at, verdict, counts))
    run = state.runs.get(event.run)
    state.covered[check_id] = (frozenset(targets), frozenset(run.hosts if run else ()))
    if run is not None:
        run.settled.add(check_id)


def _attestation(state: State, event: Event) -> None:
    attestation = decode_attestation(event)
    state.attestations.setdefault(attestation.check_id, []).append(attestation)


def _waiver(state: State, event: Event) -> None:
    waiver = decode_waiver(event)
    state.waivers.setdefault(waiver.check_id, []).append(waiver)


def _waiver_withdrawn(state: State, event: Event) -> None:
    state.waivers[text_of(event, "check")] = []


def _note(state: State, event: Event) -> None:
    note = decode_note(event)
    state.notes.setdefault(note.check_id, []).append(note)


def _export(state: State, event: Event) -> None:
    state.exports.append((event.seq, event.at, event.actor, text_of(event, "path")))


_FOLDS: Mapping[str, Callable[[State, Event], None]] = {
    EventKind.RUN_STARTED: _run_started,
    EventKind.RUN_RESUMED: _run_resumed,
    EventKind.RUN_FINISHED: _run_finished,
    EventKind.FINDING: _finding,
    EventKind.CHECK_SETTLED: _check_settled,
    EventKind.ATTESTATION: _attestation,
    EventKind.WAIVER: _waiver,
    EventKind.WAIVER_WITHDRAWN: _waiver_withdrawn,
    EventKind.NOTE: _note,
    EventKind.EXPORT: _export,
}


class Standing(StrEnum):
    """How a check stands for the gate. Only PASSED, SIGNED, WARNED, NOT_APPLICABLE and WAIVED let it open."""

    PASSED = "pass"
    WARNED = "warn"
    SIGNED = "signed"
    NOT_APPLICABLE = "not-applicable"
    WAIVED = "waived"
    FAILED = "fail"
    UNKNOWN = "unknown"
    STALE = "stale"
    UNSIGNED = "unsigned"
    NOT_RUN = "not-run"


OPEN_STANDINGS = frozenset(
    {Standing.PASSED, Standing.WARNED, Standing.SIGNED, Standing.NOT_APPLICABLE, Standing.WAIVED}
)


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """One row of the tree: the verdict, the marks on top of it, and what the gate makes of it.

    `verdict` is the worst of the findings, as observed. `stale`, `waiver` and `attestation` are marks; `signatures` are
    the valid ones of different people, `attestation` is the latest of them when there are enough, `wants_second` says
    that one more person is needed. `lapsed` is a signature that no longer counts; `lapsed_why` is `expired`,
    `evidence-changed` or `verdict-changed`.
    """

    check: Check
    verdict: Verdict
    reason: Reason | None
    detail: str
    standing: Standing
    stale: bool
    waiver: Waiver | None
    attestation: Attestation | None
    signatures: tuple[Attestation, ...]
    wants_second: bool
    lapsed: Attestation | None
    lapsed_why: str
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]
    counts: Mapping[Verdict, int]

    @property
    def not_green(self) -> bool:
        """What `n` walks and the filter shows: everything that keeps the gate shut, and warnings."""
        return self.standing not in OPEN_STANDINGS or self.standing in (Standing.WARNED, Standing.WAIVED)

    @property
    def observed_at(self) -> float | None:
        """When the oldest of its findings was observed."""
        times = [f.observed_at for f in self.findings if f.verdict is not Verdict.NOT_RUN]
        return min(times) if times else None


def may_sign_unobserved(check: Check, *, built: bool) -> bool:
    """Whether a person may vouch for a check that nothing looked at: people's items, and probes not built yet."""
    return check.kind in (Kind.MANUAL, Kind.ASSISTED) or not built


def status(
    state: State,
    check: Check,
    now: float,
    *,
    built: bool,
    two_people: bool = False,
    hosts: frozenset[str] | None = None,
) -> CheckStatus:
    """How one check stands at `now`. `built`: this dstui can probe it; `two_people`: one signature is not enough.

    `hosts` are the inventory's now; without them those of the last run count.
    """
    by_target = state.findings.get(check.id, {})
    findings = tuple(sorted(by_target.values(), key=_outliers_first))
    holes = [Verdict.NOT_RUN] if _has_holes(state, check, by_target, hosts) else []
    verdict = worst([f.verdict for f in findings] + holes)
    stale = any(f.stale(now) for f in findings)
    deciding = next((f for f in findings if f.verdict is verdict), None)
    reason, detail = (deciding.reason, deciding.detail) if deciding else (None, "")
    if not findings and not built:
        reason = Reason.NOT_BUILT
    if check.disabled is not None:
        verdict, reason, detail, stale = Verdict.NOT_APPLICABLE, Reason.DISABLED, check.disabled.reason, False
    signatures, lapsed, why = _signatures_now(state, check, now, verdict, built)
    enough = len(signatures) >= (2 if two_people else 1)
    attestation = signatures[-1] if enough else None
    waiver = next((w for w in reversed(state.waivers.get(check.id, [])) if w.open(now)), None)
    counts: dict[Verdict, int] = {}
    for finding in findings:
        counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
    return CheckStatus(
        check=check,
        verdict=verdict,
        reason=reason,
        detail=detail,
        standing=_standing(check, verdict, stale, waiver, attestation),
        stale=stale,
        waiver=waiver,
        attestation=attestation,
        signatures=signatures,
        wants_second=bool(signatures) and not enough,
        lapsed=lapsed,
        lapsed_why=why,
        findings=findings,
        notes=tuple(state.notes.get(check.id, ())),
        counts=counts,
    )


def _has_holes(
    state: State, check: Check, by_target: Mapping[str, Finding], inventory: frozenset[str] | None
) -> bool:
    """Whether some target was never looked at: the check has not settled yet, or hosts joined since it did.

    Green on the targets that happened to be first is not green on the check.
    """
    covered = state.covered.get(check.id)
    if covered is None:
        return True
    targets, hosts = covered
    if targets - by_target.keys():
        return True
    if check.scope not in _HOST_SCOPES:
        return False
    run = state.last_run
    expected = inventory if inventory is not None else frozenset(run.hosts if run else ())
    return bool(expected - hosts)


_HOST_SCOPES = frozenset({Scope.EACH_HOST, Scope.EACH_PAIR, Scope.CLUSTER, Scope.ORGANISATION})
"""What rests on looking at hosts; an organisation's probed checks (hard.security-group) look at all of them."""

_ORDER = {
    Verdict.FAIL: 0,
    Verdict.UNKNOWN: 1,
    Verdict.WARN: 2,
    Verdict.NOT_RUN: 3,
    Verdict.PASS: 4,
    Verdict.NOT_APPLICABLE: 5,
}


def _outliers_first(finding: Finding) -> tuple[int, str]:
    return _ORDER[finding.verdict], finding.target.key


def _signatures_now(
    state: State, check: Check, now: float, verdict: Verdict, built: bool
) -> tuple[tuple[Attestation, ...], Attestation | None, str]:
    """Valid signatures (one per person, oldest first), else the latest one that lapsed and why."""
    valid: dict[str, Attestation] = {}
    lapsed, why = None, ""
    material = state.material_hash(check.id)
    # Hosts that nobody has looked at, or a probe that this dstui has and has not used: no ground for a signature.
    unseen = verdict is Verdict.NOT_RUN and (
        material != NOTHING_OBSERVED or not may_sign_unobserved(check, built=built)
    )
    for given in state.attestations.get(check.id, []):
        fault = _lapse(given, now, material, verdict) or ("evidence-changed" if unseen else "")
        if fault:
            lapsed, why = given, fault
        else:
            valid.pop(given.person, None)
            valid[given.person] = given
    if valid:
        return tuple(valid.values()), None, ""
    return (), lapsed, why


def _lapse(given: Attestation, now: float, material: str, verdict: Verdict) -> str:
    if now >= given.expires_at:
        return "expired"
    if given.material_hash != material:
        return "evidence-changed"
    if verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        return "verdict-changed"
    return ""


def _standing(
    check: Check, verdict: Verdict, stale: bool, waiver: Waiver | None, attestation: Attestation | None
) -> Standing:
    needs_person = check.kind in (Kind.MANUAL, Kind.ASSISTED)
    if verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        plain = Standing.FAILED if verdict is Verdict.FAIL else Standing.UNKNOWN
    elif stale:
        plain = Standing.STALE
    elif verdict is Verdict.NOT_APPLICABLE:
        return Standing.NOT_APPLICABLE
    elif attestation is not None:
        return Standing.SIGNED
    elif verdict is Verdict.NOT_RUN:
        plain = Standing.NOT_RUN
    elif needs_person:
        plain = Standing.UNSIGNED
    else:
        return Standing.WARNED if verdict is Verdict.WARN else Standing.PASSED
    return Standing.WAIVED if waiver is not None else plain


@dataclass(frozen=True, slots=True)
class Gate:
    """Yes or no over a scope. Exit code 0 open, 1 any fail, 2 no fail but unknown, stale, unsigned or not run.

    A journal that is not `sound` (its hash chain is broken) proves nothing: the gate stays shut.
    """

    standings: Mapping[Standing, int]
    sound: bool = True

    @property
    def open(self) -> bool:
        shut = any(count for standing, count in self.standings.items() if standing not in OPEN_STANDINGS)
        return self.sound and not shut

    @property
    def exit_code(self) -> int:
        if self.open:
            return 0
        return 1 if self.standings.get(Standing.FAILED) else 2


def gate(
    statuses: Iterable[CheckStatus], *, allow_unknown: frozenset[str] = frozenset(), sound: bool = True
) -> Gate:
    """The gate over some checks; an empty scope stays shut. `allow_unknown` lists ids whose UNKNOWN is accepted."""
    counts: dict[Standing, int] = {}
    for item in statuses:
        standing = item.standing
        if standing is Standing.UNKNOWN and item.check.id in allow_unknown:
            standing = Standing.WAIVED
        counts[standing] = counts.get(standing, 0) + 1
    return Gate(counts or {Standing.NOT_RUN: 1}, sound)


@dataclass(frozen=True, slots=True)
class Checklist:
    """The whole list at one moment, in document order."""

    statuses: Mapping[str, CheckStatus]
    now: float
    sound: bool = True
    """Whether the journal's hash chain holds."""

    def section(self, section: Section) -> Sequence[CheckStatus]:
        return [s for s in self.statuses.values() if s.check.section == section.id]

    @property
    def gate(self) -> Gate:
        return gate(self.statuses.values(), sound=self.sound)


def checklist(
    state: State,
    catalogue: Catalogue,
    now: float,
    *,
    built: frozenset[str],
    two_people: frozenset[str] = frozenset(),
    hosts: frozenset[str] | None = None,
) -> Checklist:
    """Every check's status at `now`; `built` holds the ids that this dstui can probe, `hosts` the inventory's hosts."""
    statuses = {
        c.id: status(state, c, now, built=c.id in built, two_people=c.id in two_people, hosts=hosts)
        for c in catalogue.checks
    }
    return Checklist(statuses, now, state.broken_at is None)
