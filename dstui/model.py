"""The words of dstui as frozen values. No I/O, no clock, nothing imported but the standard library.

A *check* is judged on *targets*; a probe of a target gives a *finding* with a *verdict* and *evidence*.
People add *attestations*, *waivers* and *notes*. Everything that happens is an event in the *journal*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Lang(StrEnum):
    """The two languages of every text that dstui itself writes."""

    EN = "en"
    ZH = "zh"


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in both languages. Remote output is never a `Text`; it is evidence."""

    en: str
    zh: str

    def __getitem__(self, lang: Lang) -> str:
        return self.zh if lang is Lang.ZH else self.en


def same(text: str) -> Text:
    """A text that reads the same in both languages: a number, a version, a device name."""
    return Text(text, text)


class Verdict(StrEnum):
    """What a look at a target showed. Only evidence gives PASS; not being able to look is UNKNOWN."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"
    NOT_RUN = "not-run"


class Reason(StrEnum):
    """Why a verdict is UNKNOWN (always given), NOT_RUN or NOT_APPLICABLE (where it helps)."""

    UNREACHABLE = "unreachable"
    TOOL_MISSING = "tool-missing"
    PERMISSION = "permission"
    TIMEOUT = "timeout"
    PARSE_ERROR = "parse-error"
    NO_CREDENTIAL = "no-credential"
    BLOCKED_BY = "blocked-by"
    NOT_RUN = "not-run"
    BUDGET = "budget"
    NO_TARGETS = "no-targets"
    CANNOT_TELL = "cannot-tell"
    PROBE_ERROR = "probe-error"
    NOT_BUILT = "not-built"
    DISABLED = "disabled"


class Kind(StrEnum):
    """Who or what decides a check."""

    AUTO = "auto"
    ASSISTED = "assisted"
    MANUAL = "manual"
    LOAD = "load"
    REHEARSAL = "rehearsal"


class Scope(StrEnum):
    """What a check is judged on."""

    EACH_HOST = "each-host"
    EACH_PAIR = "each-pair"
    CLUSTER = "cluster"
    ENDPOINT = "endpoint"
    CONTROLLER = "controller"
    ORGANISATION = "organisation"


class SideEffect(StrEnum):
    """What probing does to the world; S3 asks first, S4 is only for rehearsals behind their guard."""

    S0 = "S0"
    S1 = "S1"
    S2 = "S2"
    S3 = "S3"
    S4 = "S4"


class Cadence(StrEnum):
    """How often a recurring check is owed."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"


class TargetKind(StrEnum):
    """The sorts of thing a finding can be about."""

    HOST = "host"
    PAIR = "pair"
    CLUSTER = "cluster"
    ENDPOINT = "endpoint"
    CONTROLLER = "controller"
    ORGANISATION = "organisation"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What one finding is about: a host `gpu-01`, an ordered pair `gpu-01>gpu-02`, the cluster …"""

    kind: TargetKind
    name: str

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, key: str) -> Target:
        """The target of a key; ValueError when the kind is not one."""
        kind, _, name = key.partition(":")
        return cls(TargetKind(kind), name)


def host_target(name: str) -> Target:
    return Target(TargetKind.HOST, name)


def pair_target(source: str, destination: str) -> Target:
    return Target(TargetKind.PAIR, f"{source}>{destination}")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A parameter that a verdict was judged by, and where its value came from.

    `origin` is `document`, `overlay FILE:LINE`, `inventory`, `group NAME`, `host NAME` or `command line`.
    `default` is the document's value, kept so that a report can show every difference.
    """

    param: str
    value: object
    origin: str
    default: object

    @property
    def differs(self) -> bool:
        return self.value != self.default


EVIDENCE_HEAD_BYTES = 4096
"""How much of an output is kept as evidence (CATALOGUE 0.5); the full length is recorded beside it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One look at the world: what was run or read, what came back (redacted, first 4 KiB), how long it took.

    `source` is the argv joined by shell quoting, a path or a URL. `exit` is an exit code or an HTTP status;
    None when there is no such thing (a file that was read) or the process did not end. `seconds` is wall time.
    """

    key: str
    source: str
    exit: int | None
    output: str
    output_bytes: int
    seconds: float
    error: str = ""

    @property
    def truncated(self) -> bool:
        return self.output_bytes > EVIDENCE_HEAD_BYTES


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a judge says of one target; the engine adds times, thresholds and evidence to make a Finding.

    `reason` is required for UNKNOWN. `detail` names the thing (the blocking check, the missing tool).
    `observed` and `expected` are one line each; `rule` is the verdict rule that fired, in words;
    `notes` are further sentences (every WARN or FAIL cause after the first, or facts an on-call person wants).
    `material` is what an attestation binds to: the parsed values, not times or durations.
    """

    target: Target
    verdict: Verdict
    observed: Text
    expected: Text
    rule: Text
    reason: Reason | None = None
    detail: str = ""
    notes: tuple[Text, ...] = ()
    material: Mapping[str, object] = field(default_factory=dict)
    evidence_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.verdict is Verdict.UNKNOWN and self.reason is None:
            raise ValueError(f"an UNKNOWN ruling on {self.target.key} must say why")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check on one target, as recorded. Times are seconds since the epoch (UTC), durations seconds."""

    check_id: str
    target: Target
    verdict: Verdict
    observed: Text
    expected: Text
    rule: Text
    reason: Reason | None
    detail: str
    notes: tuple[Text, ...]
    material_hash: str
    thresholds: tuple[Threshold, ...]
    evidence: tuple[Evidence, ...]
    observed_at: float
    ttl: float
    seconds: float
    run: int
    simulated: bool = False

    def stale(self, now: float) -> bool:
        """Past its time to live, or observed in the future (a clock that was set back proves nothing)."""
        return self.verdict is not Verdict.NOT_RUN and (
            now > self.observed_at + self.ttl or self.observed_at > now + 300
        )


@dataclass(frozen=True, slots=True)
class Attestation:
    """A named person vouches for a check. Bound to the evidence it was given on: other evidence, no longer valid."""

    check_id: str
    person: str
    role: str
    note: str
    link: str
    material_hash: str
    verdict_seen: Verdict
    at: float
    expires_at: float
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Waiver:
    """A known shortcoming that an approver accepts until a date. Shown on top of the verdict, never as a pass."""

    check_id: str
    person: str
    approver: str
    reason: str
    ticket: str
    at: float
    expires_at: float
    withdrawn: bool = False
    seq: int = 0

    def open(self, now: float) -> bool:
        return not self.withdrawn and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Note:
    """A remark on a check, or on one target of it."""

    check_id: str
    target: Target | None
    person: str
    text: str
    at: float
    seq: int = 0


_SEVERITY = {Verdict.FAIL: 4, Verdict.UNKNOWN: 3, Verdict.WARN: 2, Verdict.PASS: 1}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict over many subjects: FAIL > UNKNOWN > WARN > PASS (CATALOGUE 0.2).

    Not-applicable subjects drop out; all not-applicable gives not-applicable; none at all gives UNKNOWN,
    because an empty list of targets is no evidence. A subject not yet looked at leaves the whole NOT_RUN
    unless another already failed.
    """
    seen = list(verdicts)
    if not seen:
        return Verdict.UNKNOWN
    weighed = [v for v in seen if v is not Verdict.NOT_APPLICABLE]
    if not weighed:
        return Verdict.NOT_APPLICABLE
    if Verdict.NOT_RUN in weighed and Verdict.FAIL not in weighed:
        return Verdict.NOT_RUN
    return max((v for v in weighed if v is not Verdict.NOT_RUN), key=_SEVERITY.__getitem__)


class DstuiError(Exception):
    """Anything the operator can be told in one sentence: what happened, where, what to do next.

    DstuiError
    ├── UsageError         a flag or argument that cannot be right (exit 3)
    ├── InventoryError     the inventory or an overlay: every fault with file:line:column (exit 3)
    ├── CatalogueError     a catalogue entry: file and line (exit 3)
    ├── SecretError        a secret reference that gave nothing; never carries the value
    ├── JournalError       the journal cannot be opened, written or is broken at a row
    └── GatherError        a host or endpoint could not be looked at; carries the Reason
    """


class UsageError(DstuiError):
    """A flag or argument that cannot be right."""


class InventoryError(DstuiError):
    """The inventory or an overlay is wrong; the message lists every fault with file:line:column."""


class CatalogueError(DstuiError):
    """A catalogue entry is wrong; the message has file and line."""


class SecretError(DstuiError):
    """A secret reference gave nothing. Never carries the value."""


class JournalError(DstuiError):
    """The journal cannot be opened or written, or its hash chain is broken."""


class GatherError(DstuiError):
    """A target could not be looked at."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
