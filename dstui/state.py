"""A fold of journal events into what is shown and exported. No I/O and no clock: time is passed in.

`State` holds what the rows say; `dstui.standing` adds what depends on the moment (staleness, expiry, the gate).
Resuming, exporting and a second operator's screen are the same operation: read the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dstui.events import (
    Event,
    EventKind,
    decode_attestation,
    decode_finding,
    decode_ladder,
    decode_note,
    decode_waiver,
    strings_of,
    text_of,
)
from dstui.load.result import LadderResult
from dstui.model import Attestation, Finding, JournalError, Note, Verdict, Waiver, worst

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
        self.ladders: list[LadderResult] = []
        """The newest last."""
        self.ladder_fault = ""
        """Why the newest ladder's row could not be read; empty when it could. Earlier ones must not stand in for it."""
        self.covered: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        """Per check that ever settled: the targets it settled on and the hosts of that run."""
        self.head_seq = 0
        self.head_hash = ""
        self.version = 0
        self.touched: dict[str, int] = {}
        """The last row that spoke of each check; with `runs_at` it says whether a status must be looked at again."""
        self.runs_at = 0
        """The last row of a run, or of a ladder: the checks that rest on it must be looked at again."""
        self.broken_at: int | None = None

    @property
    def simulated(self) -> bool:
        """Any run of the embedded fleet in the journal, and any ladder on it, marks all of it."""
        return any(run.simulated for run in self.runs.values()) or any(ladder.simulated for ladder in self.ladders)

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
        check = event.payload.get("check")
        if isinstance(check, str):
            self.touched[check] = event.seq
        elif event.run:
            self.runs_at = event.seq
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


def _ladder(state: State, event: Event) -> None:
    """A row of another version must not stop the fold: what rests on it is then not known."""
    state.runs_at = event.seq
    try:
        state.ladders.append(decode_ladder(event))
    except JournalError as error:
        state.ladder_fault = str(error)
    else:
        state.ladder_fault = ""


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
    EventKind.LADDER: _ladder,
}
