"""How checks stand at a moment: the verdict, the marks on top of it, and what the gate makes of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dstui.catalogue import Catalogue, Check, Section
from dstui.model import Attestation, Finding, Kind, Note, Reason, Scope, Verdict, Waiver, worst
from dstui.state import NOTHING_OBSERVED, State


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
    outdated: bool = False,
) -> CheckStatus:
    """How one check stands at `now`. `built`: this dstui can probe it; `two_people`: one signature is not enough.

    `hosts` are the inventory's now; without them those of the last run count. `outdated`: the findings were judged by
    other parameter values than those in force, so they are as stale as old ones.
    """
    by_target = state.findings.get(check.id, {})
    findings = tuple(sorted(by_target.values(), key=_outliers_first))
    holes = [Verdict.NOT_RUN] if _has_holes(state, check, by_target, hosts) else []
    verdict = worst([f.verdict for f in findings] + holes)
    stale = any(f.stale(now) for f in findings) or (outdated and bool(findings))
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


def _has_holes(state: State, check: Check, by_target: Mapping[str, Finding], inventory: frozenset[str] | None) -> bool:
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


def gate(statuses: Iterable[CheckStatus], *, allow_unknown: frozenset[str] = frozenset(), sound: bool = True) -> Gate:
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


@dataclass(frozen=True, slots=True)
class _Known:
    """A status and how long it stays true: until a row touches it, or one of its times comes."""

    rows: tuple[int, int]
    looked_at: float
    good_until: float
    status: CheckStatus


@dataclass(slots=True)
class Standings:
    """`checklist` for a screen that looks ten times a second: what neither a row nor the clock has changed is kept."""

    catalogue: Catalogue
    built: frozenset[str]
    two_people: frozenset[str]
    hosts: frozenset[str]
    outdated: Callable[[str], bool] = lambda check_id: False
    _known: dict[str, _Known] = field(default_factory=dict)

    def at(self, state: State, now: float) -> Checklist:
        """Every check's status at `now`, the same as `checklist` gives."""
        return Checklist({c.id: self._one(state, c, now) for c in self.catalogue.checks}, now, state.broken_at is None)

    def _one(self, state: State, check: Check, now: float) -> CheckStatus:
        rows = (state.touched.get(check.id, 0), state.runs_at)
        known = self._known.get(check.id)
        if known is not None and known.rows == rows and known.looked_at <= now < known.good_until:
            return known.status
        two = check.id in self.two_people
        outdated = self.outdated(check.id)
        built = check.id in self.built
        fresh = status(state, check, now, built=built, two_people=two, hosts=self.hosts, outdated=outdated)
        self._known[check.id] = _Known(rows, now, _next_change(fresh, now), fresh)
        return fresh


def _next_change(status: CheckStatus, now: float) -> float:
    """The first moment at which time alone could change a status; a second from now when a clock has gone astray."""
    times = [f.observed_at + f.ttl for f in status.findings] + [a.expires_at for a in status.signatures]
    if status.waiver is not None:
        times.append(status.waiver.expires_at)
    if any(f.observed_at > now for f in status.findings):
        return now + 1.0
    return min((t for t in times if t >= now), default=float("inf"))
