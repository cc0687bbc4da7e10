"""Replays a recording: the same Records with their original spacing, or faster, paused, or from another moment."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Iterator

from dstui.model import UsageError
from dstui.telemetry.record import Record
from dstui.telemetry.recording import Place, Recording

SLOWEST, FASTEST = 0.1, 100.0

LEAD_SECONDS = 900.0
"""How much before the moment that was sought is fed: as long as the live view's histories are."""

_MARK_EVERY_BYTES = 1024 * 1024
_BATCH = 64
"""Records between two turns of the event loop: some 10 ms."""


class Replay:
    """Emits the records of a recording from the event loop. `position` is the `now` to show them with.

    `restart` is called before records that were emitted already are emitted again: forget all that was fed.
    `position` never runs ahead of a record that is still to come, so a slow fold makes the replay slower, not its
    values old, and at the end it stays at the last record.
    """

    def __init__(
        self,
        recording: Recording,
        emit: Callable[[Record], None],
        *,
        restart: Callable[[], None],
        speed: float = 1.0,
    ) -> None:
        self._recording = recording
        self._emit = emit
        self._restart = restart
        self._speed = checked_speed(speed)
        self._paused = False
        self._marks = [recording.first]
        self._lines: Iterator[tuple[Place, bytes]] = recording.lines(recording.first)
        self._next: tuple[Place, bytes] | None = None
        self._ended = False
        self._emitted_at = recording.first.at
        self._sought: float | None = None
        self._anchor_at = recording.first.at
        self._anchor_clock: float | None = None
        self._changed = asyncio.Event()

    @property
    def began_at(self) -> float:
        """When the first record arrived, seconds since the epoch."""
        return self._recording.first.at

    @property
    def ends_at(self) -> float:
        """When the last one did."""
        return self._recording.last_at

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def speed(self) -> float:
        return self._speed

    @property
    def ended(self) -> bool:
        """Every record has been emitted."""
        return self._ended

    @property
    def position(self) -> float:
        """The moment that is shown, seconds since the epoch."""
        if self._paused or self._anchor_clock is None:
            return self._anchor_at
        at = self._anchor_at + (asyncio.get_running_loop().time() - self._anchor_clock) * self._speed
        shown = self.ends_at if self._ended else self._emitted_at
        bound = self._next[0].at if self._next is not None else shown
        return max(self._anchor_at, min(at, bound))

    def pause(self) -> None:
        """Time stands still until `resume`."""
        self._settle(self.position)
        self._paused = True

    def resume(self) -> None:
        """Goes on from where it stands."""
        self._settle(self.position)
        self._paused = False

    def set_speed(self, speed: float) -> None:
        """From 0.1 to 100 times as fast as it was. Raises UsageError."""
        checked_speed(speed)
        self._settle(self.position)
        self._speed = speed

    def seek(self, at: float) -> None:
        """Goes to a moment; one outside the recording means its beginning or its end."""
        self._sought = min(max(at, self.began_at), self.ends_at)
        self._settle(self._sought)

    async def run(self, *, stay: bool = False) -> None:
        """Emits until the recording ends; with `stay` until cancelled, as one may still seek back. Raises UsageError.

        What is paused stays inside; an end that is reached while paused is only reached after `resume`.
        """
        self._settle(self._anchor_at)
        unyielded = 0
        while True:
            while self._sought is not None:
                await self._go_to(self._sought)
            self._changed.clear()
            if not self._advance():
                if not stay:
                    return
                await self._changed.wait()
                continue
            due_in = self._due_in()
            if due_in is None or due_in > 0:
                unyielded = 0
                await self._wait(due_in)
                continue
            self._emit_next()
            unyielded += 1
            if unyielded >= _BATCH:
                unyielded = 0
                await asyncio.sleep(0)

    def _settle(self, at: float) -> None:
        """Time runs on from `at`, now."""
        self._anchor_at = at
        self._anchor_clock = asyncio.get_running_loop().time()
        self._changed.set()

    def _due_in(self) -> float | None:
        """Seconds until the next record; None while paused."""
        assert self._next is not None and self._anchor_clock is not None
        if self._paused:
            return None
        due = self._anchor_clock + (self._next[0].at - self._anchor_at) / self._speed
        late = asyncio.get_running_loop().time() - due
        if late > 1.0:
            # The records cannot be folded as fast as they are asked for: go as fast as they can.
            self._anchor_at, self._anchor_clock = max(self._anchor_at, self._next[0].at), due + late
        return -late

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _advance(self) -> bool:
        """Makes `_next` the next line; False at the end."""
        if self._next is None:
            self._next = next(self._lines, None)
            self._ended = self._next is None
            if self._next is not None and self._next[0].offset >= self._marks[-1].offset + _MARK_EVERY_BYTES:
                self._marks.append(self._next[0])
        return self._next is not None

    def _emit_next(self) -> None:
        assert self._next is not None
        place, line = self._next
        self._next, self._emitted_at = None, place.at
        self._emit(self._recording.decode(place, line))

    def _seeking(self) -> bool:
        return self._sought is not None

    async def _go_to(self, at: float) -> None:
        self._sought = None
        if at < self._emitted_at:
            self._restart()
            mark = self._marks[max(0, bisect.bisect_right(self._marks, at - LEAD_SECONDS, key=lambda m: m.at) - 1)]
            self._lines, self._next, self._emitted_at = self._recording.lines(mark), None, mark.at
        passed = 0
        while self._advance() and self._next is not None and self._next[0].at <= at:
            if self._next[0].at < at - LEAD_SECONDS:
                self._next = None
            else:
                self._emit_next()
            passed += 1
            if passed % _BATCH == 0:
                await asyncio.sleep(0)
                if self._seeking():
                    return
        self._settle(at)


def checked_speed(speed: float) -> float:
    """The speed, or UsageError when it is none to replay at."""
    if not SLOWEST <= speed <= FASTEST:
        raise UsageError(f"speed {speed:g}: from {SLOWEST:g} to {FASTEST:g} times")
    return speed
