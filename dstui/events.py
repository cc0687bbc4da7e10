"""Journal events: their kinds, and how findings and people's acts are written as JSON and read back.

A payload is plain JSON. Reading is strict: a row that does not decode is a JournalError with its number, never a guess.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from dstui.load.result import LadderResult
from dstui.load.wire import ladder_of, plain
from dstui.model import (
    Attestation,
    Evidence,
    Finding,
    JournalError,
    Note,
    Reason,
    Target,
    Text,
    Threshold,
    Verdict,
    Waiver,
)

Payload = Mapping[str, object]


class EventKind(StrEnum):
    """What can happen. Every kind is folded by `dstui.state`; unknown kinds (a newer dstui) are kept and skipped."""

    RUN_STARTED = "run-started"
    RUN_RESUMED = "run-resumed"
    RUN_FINISHED = "run-finished"
    FINDING = "finding"
    CHECK_SETTLED = "check-settled"
    ATTESTATION = "attestation"
    WAIVER = "waiver"
    WAIVER_WITHDRAWN = "waiver-withdrawn"
    NOTE = "note"
    EXPORT = "export"
    LADDER = "ladder"


NEXT_RUN = -1
"""A draft of this run number gets the next free one at commit, so that two operators never share a number."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has a place in the chain. `at` is seconds since the epoch, `run` 0 outside any run."""

    kind: EventKind
    payload: Payload
    actor: str
    at: float
    run: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded row. `hash` covers `prev` and everything else, so no row can change or vanish unnoticed."""

    seq: int
    at: float
    kind: str
    run: int
    actor: str
    payload: Payload = field(repr=False)
    prev: str
    hash: str


def canonical(payload: Payload) -> str:
    """The one JSON text of a payload that hashes are made of."""
    return json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(prev: str, seq: int, at: float, kind: str, run: int, actor: str, body: str) -> str:
    """SHA-256 (hex) of a row and of the hash before it."""
    row = json.dumps([prev, seq, at, kind, run, actor, body], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest()


def _text(text: Text) -> dict[str, object]:
    return {"en": text.en, "zh": text.zh}


def encode_finding(finding: Finding) -> Payload:
    return {
        "check": finding.check_id,
        "target": finding.target.key,
        "verdict": finding.verdict.value,
        "observed": _text(finding.observed),
        "expected": _text(finding.expected),
        "rule": _text(finding.rule),
        "reason": finding.reason.value if finding.reason else None,
        "detail": finding.detail,
        "notes": [_text(note) for note in finding.notes],
        "material": finding.material_hash,
        "thresholds": [
            {"param": t.param, "value": _plain(t.value), "origin": t.origin, "default": _plain(t.default)}
            for t in finding.thresholds
        ],
        "evidence": [
            {
                "key": e.key,
                "source": e.source,
                "exit": e.exit,
                "output": e.output,
                "bytes": e.output_bytes,
                "seconds": round(e.seconds, 4),
                "error": e.error,
            }
            for e in finding.evidence
        ],
        "observed_at": finding.observed_at,
        "ttl": finding.ttl,
        "seconds": round(finding.seconds, 4),
        "simulated": finding.simulated,
    }


def _plain(value: object) -> object:
    """A threshold value as JSON: tables and tuples become objects and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


class _Reader:
    """Typed access to a payload; anything missing or of another type is one JournalError naming the row."""

    def __init__(self, payload: Payload, row: str) -> None:
        self.payload = payload
        self.row = row

    def _wrong(self, key: str, wanted: str) -> JournalError:
        return JournalError(f"journal {self.row}: {key!r} is not {wanted}; the row was not written by this dstui")

    def text(self, key: str) -> str:
        value = self.payload.get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "text")
        return value

    def number(self, key: str) -> float:
        value = self.payload.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return value

    def optional_count(self, key: str) -> int | None:
        value = self.payload.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number")
        return value

    def bilingual(self, key: str) -> Text:
        return self._as_text(self.payload.get(key), key)

    def _as_text(self, value: object, key: str) -> Text:
        if isinstance(value, dict) and isinstance(value.get("en"), str) and isinstance(value.get("zh"), str):
            return Text(value["en"], value["zh"])
        raise self._wrong(key, "a sentence in both languages")

    def texts(self, key: str) -> tuple[Text, ...]:
        return tuple(self._as_text(item, key) for item in self.items(key))

    def items(self, key: str) -> Sequence[object]:
        value = self.payload.get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def rows(self, key: str) -> tuple[_Reader, ...]:
        rows = []
        for item in self.items(key):
            if not isinstance(item, dict):
                raise self._wrong(key, "a list of objects")
            rows.append(_Reader(cast(Payload, item), self.row))
        return tuple(rows)

    def target(self, key: str) -> Target:
        try:
            return Target.parse(self.text(key))
        except ValueError:
            raise self._wrong(key, "a target") from None

    def verdict(self, key: str) -> Verdict:
        try:
            return Verdict(self.text(key))
        except ValueError:
            raise self._wrong(key, "a verdict") from None


def decode_finding(event: Event) -> Finding:
    """The finding of a `finding` event. Raises JournalError."""
    row = _Reader(event.payload, f"row {event.seq}")
    reason = event.payload.get("reason")
    try:
        known = Reason(str(reason)) if reason is not None else None
    except ValueError:
        raise JournalError(f"journal row {event.seq}: {reason!r} is not a reason code") from None
    return Finding(
        check_id=row.text("check"),
        target=row.target("target"),
        verdict=row.verdict("verdict"),
        observed=row.bilingual("observed"),
        expected=row.bilingual("expected"),
        rule=row.bilingual("rule"),
        reason=known,
        detail=row.text("detail"),
        notes=row.texts("notes"),
        material_hash=row.text("material"),
        thresholds=tuple(
            Threshold(t.text("param"), t.payload.get("value"), t.text("origin"), t.payload.get("default"))
            for t in row.rows("thresholds")
        ),
        evidence=tuple(
            Evidence(
                key=e.text("key"),
                source=e.text("source"),
                exit=e.optional_count("exit"),
                output=e.text("output"),
                output_bytes=int(e.number("bytes")),
                seconds=e.number("seconds"),
                error=e.text("error"),
            )
            for e in row.rows("evidence")
        ),
        observed_at=row.number("observed_at"),
        ttl=row.number("ttl"),
        seconds=row.number("seconds"),
        run=event.run,
        simulated=event.payload.get("simulated") is True,
    )


def encode_attestation(attestation: Attestation) -> Payload:
    return {
        "check": attestation.check_id,
        "person": attestation.person,
        "role": attestation.role,
        "note": attestation.note,
        "link": attestation.link,
        "material": attestation.material_hash,
        "verdict_seen": attestation.verdict_seen.value,
        "expires_at": attestation.expires_at,
    }


def decode_attestation(event: Event) -> Attestation:
    """The attestation of an `attestation` event. Raises JournalError."""
    row = _Reader(event.payload, f"row {event.seq}")
    return Attestation(
        check_id=row.text("check"),
        person=row.text("person"),
        role=row.text("role"),
        note=row.text("note"),
        link=row.text("link"),
        material_hash=row.text("material"),
        verdict_seen=row.verdict("verdict_seen"),
        at=event.at,
        expires_at=row.number("expires_at"),
        seq=event.seq,
    )


def encode_waiver(waiver: Waiver) -> Payload:
    return {
        "check": waiver.check_id,
        "person": waiver.person,
        "approver": waiver.approver,
        "reason": waiver.reason,
        "ticket": waiver.ticket,
        "expires_at": waiver.expires_at,
    }


def decode_waiver(event: Event) -> Waiver:
    """The waiver of a `waiver` event. Raises JournalError."""
    row = _Reader(event.payload, f"row {event.seq}")
    return Waiver(
        check_id=row.text("check"),
        person=row.text("person"),
        approver=row.text("approver"),
        reason=row.text("reason"),
        ticket=row.text("ticket"),
        at=event.at,
        expires_at=row.number("expires_at"),
        seq=event.seq,
    )


def encode_note(note: Note) -> Payload:
    return {
        "check": note.check_id,
        "target": note.target.key if note.target else None,
        "person": note.person,
        "text": note.text,
    }


def decode_note(event: Event) -> Note:
    """The note of a `note` event. Raises JournalError."""
    row = _Reader(event.payload, f"row {event.seq}")
    target = row.target("target") if event.payload.get("target") is not None else None
    return Note(row.text("check"), target, row.text("person"), row.text("text"), event.at, event.seq)


def encode_ladder(result: LadderResult, redacted: Callable[[str], str]) -> Payload:
    """`redacted` masks what is secret in a text."""
    return plain(result, redacted)


def decode_ladder(event: Event) -> LadderResult:
    """The result of a `ladder` event. Raises JournalError."""
    try:
        return ladder_of(event.payload)
    except ValueError as error:
        raise JournalError(f"journal row {event.seq}: {error}; the row was not written by this dstui") from None


def text_of(event: Event, key: str) -> str:
    """One required text of a payload. Raises JournalError."""
    return _Reader(event.payload, f"row {event.seq}").text(key)


def strings_of(event: Event, key: str) -> tuple[str, ...]:
    """One required list of texts of a payload. Raises JournalError."""
    items = _Reader(event.payload, f"row {event.seq}").items(key)
    if not all(isinstance(item, str) for item in items):
        raise JournalError(f"journal row {event.seq}: {key!r} is not a list of texts")
    return tuple(str(item) for item in items)
