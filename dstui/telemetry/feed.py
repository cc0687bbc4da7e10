"""What the screens watch: a live view, the moment to look at it with, and what fills it: cluster or recording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dstui.model import Text, UsageError
from dstui.telemetry.live import Live
from dstui.telemetry.record import Record
from dstui.telemetry.recording import Recorder, Recording, with_events
from dstui.telemetry.replay import Replay
from dstui.telemetry.watched import HOST, Watched

if TYPE_CHECKING:
    from dstui.telemetry.sources import Sources

INTERVALS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between two samples of a host that the interval key goes through; collectors give 0.2 to 10."""

Emit = Callable[[Record], None]


class Feed(Protocol):
    """`run` fills `live` until it is cancelled. `replay` is None where the present is watched."""

    live: Live
    replay: Replay | None

    def now(self) -> float:
        """Seconds since the epoch to look at `live` with."""
        ...

    async def run(self) -> None:
        """Until it is cancelled. Raises DstuiError in an operator's words."""
        ...


class LiveFeed:
    """The cluster as it is now. `sources` makes what emits the records; it is called when `run` is."""

    replay: Replay | None = None

    def __init__(self, watched: Watched, sources: Callable[[Emit], Sources], clock: Callable[[], float]) -> None:
        self.live = Live(watched)
        self.interval = watched.interval(HOST)
        self.recorder: Recorder | None = None
        self.recorded_into: Path | None = None
        self.recording_fault: UsageError | None = None
        self.perish: Callable[[], Text] | None = None
        """The demo's own: a node dies, or comes back; gives what was done, in words."""
        self._make = sources
        self._sources: Sources | None = None
        self._taps: list[Emit] = []
        self._emit = with_events(self.live, self._keep)
        self._clock = clock

    def now(self) -> float:
        return self._clock()

    @property
    def running(self) -> bool:
        return self._sources is not None

    @contextmanager
    def tapped(self, emit: Emit) -> Iterator[None]:
        """Every record goes to `emit` as well meanwhile."""
        self._taps.append(emit)
        try:
            yield
        finally:
            self._taps.remove(emit)

    async def run(self) -> None:
        self._sources = self._make(self._emit)
        try:
            await self._sources.run()
        finally:
            self._sources = None
            self.stop_recording()

    def set_interval(self, seconds: float) -> None:
        """Seconds between two samples of a host, from now on. UsageError outside of 0.2 to 10."""
        if self._sources is not None:
            self._sources.set_interval(seconds)
        self.interval = seconds
        self.live.set_interval(seconds)

    def record(self, path: Path) -> None:
        """Keeps everything from now on, for `dstui replay`. Raises UsageError."""
        recorder = Recorder(path, self.live.watched)
        self.stop_recording()
        self.recorder, self.recorded_into, self.recording_fault = recorder, path, None

    def stop_recording(self) -> None:
        """Closes the file. `recorded_into` still names it."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close()

    def _keep(self, record: Record) -> None:
        for tap in self._taps:
            tap(record)
        if self.recorder is None:
            return
        try:
            self.recorder.write(record)
        except UsageError as error:
            # A full disk must not end the watching; the screens say that the recording ended, and why.
            self.recording_fault = error
            self.stop_recording()


class ReplayFeed:
    """A recording, as it was seen. Raises UsageError when the file is none."""

    def __init__(self, path: Path, *, speed: float = 1.0) -> None:
        recording = Recording(path)
        self.path = path
        self.live = Live(recording.watched)
        self.player = Replay(recording, self.live.feed, restart=self.live.clear, speed=speed)
        self.replay: Replay | None = self.player

    def now(self) -> float:
        return self.player.position

    async def run(self) -> None:
        await self.player.run(stay=True)


FeedFactory = Callable[[], Awaitable[Feed]]
