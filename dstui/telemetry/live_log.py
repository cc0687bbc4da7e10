"""The log of what changed, newest last, bounded; what happens to many at once is one line when it is looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from dstui.model import Text
from dstui.telemetry.live_status import one_line
from dstui.telemetry.record import Record, RecordKind

KEPT = 2000
FOLD_SECONDS = 2.0
"""The same thing within this time from one subject after another is shown as one line."""

NAMES_SHOWN = 3


class Severity(StrEnum):
    """How bad a change is."""

    INFO = "info"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One change. `subject` is what changed, `gpu-03:5`; empty when `what` is a whole sentence by itself."""

    at: float
    source: str
    severity: Severity
    subject: str
    what: Text

    @property
    def text(self) -> Text:
        """The sentence."""
        if not self.subject:
            return self.what
        return Text(f"{self.subject} {self.what.en}", f"{self.subject} {self.what.zh}")


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the log as it is shown: `count` events that were the same, `sources` whom they came from."""

    at: float
    severity: Severity
    text: Text
    sources: tuple[str, ...]
    count: int = 1


class EventLog:
    """The last 2,000 changes."""

    __slots__ = ("_events", "total")

    def __init__(self) -> None:
        self._events: deque[LiveEvent] = deque(maxlen=KEPT)
        self.total = 0

    def add(self, event: LiveEvent) -> None:
        self._events.append(event)
        self.total += 1

    def newest(self, count: int = KEPT) -> list[LiveEvent]:
        """The newest ones, the newest first."""
        return list(islice(reversed(self._events), count))


def event_record(event: LiveEvent) -> Record:
    """An event as a line of a recording. `derived`: a fold of the same samples finds it again by itself."""
    data = {"en": event.text.en, "zh": event.text.zh, "severity": event.severity.value, "derived": True}
    return Record(event.at, event.source, RecordKind.EVENT, data)


def told_event(record: Record) -> LiveEvent | None:
    """The event of an EVENT record that a source told by itself; None for one that the fold derives."""
    data: Mapping[str, object] = record.data
    en, zh, said = data.get("en"), data.get("zh"), data.get("severity")
    if data.get("derived") is True or not isinstance(en, str):
        return None
    severity = Severity(said) if isinstance(said, str) and said in {each.value for each in Severity} else Severity.INFO
    what = Text(one_line(en), one_line(zh if isinstance(zh, str) else en))
    return LiveEvent(record.at, record.source, severity, "", what)


def rows(events: Iterable[LiveEvent], count: int) -> list[EventRow]:
    """At most `count` lines of events that come newest first; what happened to many at once is one line."""
    found: list[EventRow] = []
    same: list[LiveEvent] = []
    for event in events:
        if same and _alike(same[-1], event):
            same.append(event)
            continue
        if same:
            found.append(_row(same))
            if len(found) == count:
                return found
        same = [event]
    if same:
        found.append(_row(same))
    return found


def _alike(newer: LiveEvent, older: LiveEvent) -> bool:
    return (
        bool(newer.subject)
        and bool(older.subject)
        and newer.what == older.what
        and newer.severity is older.severity
        and newer.at - older.at <= FOLD_SECONDS
    )


def _row(alike: list[LiveEvent]) -> EventRow:
    first = alike[-1]
    sources = tuple(dict.fromkeys(event.source for event in reversed(alike)))
    if len(alike) == 1:
        return EventRow(first.at, first.severity, first.text, sources)
    subjects = list(dict.fromkeys(event.subject for event in reversed(alike)))
    names = ", ".join(subjects[:NAMES_SHOWN])
    if len(subjects) > NAMES_SHOWN:
        names += f" +{len(subjects) - NAMES_SHOWN}"
    text = Text(f"{names} {first.what.en}", f"{names} {first.what.zh}")
    return EventRow(first.at, first.severity, text, sources, len(alike))
