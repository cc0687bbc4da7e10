"""How current what a source said is, and why it says nothing: computed from the `now` that is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dstui.model import Reason, Text, same
from dstui.redact import clean

LATE_INTERVALS = 3
"""Intervals without a sample until a value is shown with its age."""

UNKNOWN_SECONDS, UNKNOWN_INTERVALS = 15.0, 10
"""A value older than both of these is not shown any more."""

_WHY_LIMIT = 300


class Status(StrEnum):
    """LIVE is current. LATE and LOST show their value with its age, LOST with the reason. UNKNOWN has no value."""

    LIVE = "live"
    LATE = "late"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Loss:
    """Since when, and why, a source says nothing. `reason` None when it did not say which."""

    at: float
    reason: Reason | None
    why: Text


NOTHING_YET = Text("nothing received yet", "尚未收到数据")
_SILENT = Text("stopped sending samples", "不再发送采样")
_CLOCK = Text(
    "its last sample lies in the future: this machine's clock was set back", "最近采样时间在未来：本机时钟被回拨"
)


def loss_of(at: float, data: Mapping[str, object]) -> Loss:
    """The Loss of a LOST record's data: `reason`, `why`, and `zh` where the source has it in Chinese too."""
    said = data.get("reason")
    reason = Reason(said) if isinstance(said, str) and said in {each.value for each in Reason} else None
    en, zh = data.get("why"), data.get("zh")
    if not isinstance(en, str) or not en.strip():
        return Loss(at, reason, _SILENT)
    return Loss(at, reason, Text(one_line(en), one_line(zh)) if isinstance(zh, str) else same(one_line(en)))


def one_line(text: str, limit: int = _WHY_LIMIT) -> str:
    """Remote text as one line that cannot steer a terminal."""
    line = " ".join(clean(text[: limit * 8]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class Pulse:
    """When a source last gave a sample. `interval` is seconds between two of them.

    `never` is what to say as long as nothing was heard of it.
    """

    __slots__ = ("_never", "heard_at", "interval", "loss", "sample_at")

    def __init__(self, interval: float, never: Text = NOTHING_YET) -> None:
        self.interval = interval
        self._never = never
        self.sample_at: float | None = None
        self.heard_at: float | None = None
        self.loss: Loss | None = None

    def sampled(self, at: float) -> None:
        self.sample_at = self.heard_at = at
        self.loss = None

    def lost(self, loss: Loss) -> None:
        self.heard_at, self.loss = loss.at, loss

    @property
    def unknown_after(self) -> float:
        """Seconds after which the last sample says nothing any more."""
        return max(UNKNOWN_SECONDS, UNKNOWN_INTERVALS * self.interval)

    def age(self, now: float) -> float | None:
        """Seconds since the last sample; None when there was none. Negative when the clock was set back."""
        return None if self.sample_at is None else now - self.sample_at

    def is_live(self, now: float) -> bool:
        """`status(now) is LIVE`, for asking of a thousand hosts ten times a second."""
        at = self.sample_at
        if at is None or self.loss is not None:
            return False
        late = LATE_INTERVALS * self.interval
        return -late <= now - at <= late

    def status(self, now: float) -> Status:
        if self.sample_at is None:
            return Status.UNKNOWN
        age = now - self.sample_at
        late = LATE_INTERVALS * self.interval
        if age > self.unknown_after or age < -late:
            # A sample from the future: the clock was set back, and nothing tells how old the sample is.
            return Status.UNKNOWN
        if self.loss is not None:
            return Status.LOST
        return Status.LATE if age > late else Status.LIVE

    def why(self, now: float) -> Text | None:
        """Why it is not LIVE or LATE; the source's own words where it has said."""
        status = self.status(now)
        if status in (Status.LIVE, Status.LATE):
            return None
        if self.loss is not None:
            return self.loss.why
        if self.sample_at is None:
            return self._never
        return _CLOCK if now < self.sample_at else _SILENT


@dataclass(frozen=True, slots=True)
class Shown:
    """How a value is shown: `age` in seconds unless LIVE, `why` when LOST or UNKNOWN."""

    status: Status
    age: float | None = None
    why: Text | None = None

    @property
    def known(self) -> bool:
        """Whether there is a value to show at all."""
        return self.status is not Status.UNKNOWN


LIVE_NOW = Shown(Status.LIVE)
NEVER = Shown(Status.UNKNOWN, None, NOTHING_YET)


def shown(pulse: Pulse, now: float) -> Shown:
    """How what this source said is shown now."""
    status = pulse.status(now)
    if status is Status.LIVE:
        return LIVE_NOW
    return Shown(status, pulse.age(now), pulse.why(now))
