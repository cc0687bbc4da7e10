"""The one repaint clock: at most ten times a second, only when something changed or something spins."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from textual.app import App
from textual.timer import Timer

TICK = 0.1
SHARE = 5.0
"""A repaint that took t seconds is followed by at least SHARE * t seconds of rest, so that keys are always heard."""


class RepaintClock:
    """Merges any number of `changed()` calls into few repaints. Idle when nothing changes and nothing runs."""

    def __init__(
        self, app: App[Any], repaint: Callable[[], None], spin: Callable[[], None], running: Callable[[], bool]
    ) -> None:
        self._repaint, self._spin, self._running = repaint, spin, running
        self._dirty = False
        self._rest_until = 0.0
        self.repaints = 0
        self.spinning = True
        self._timer: Timer = app.set_interval(TICK, self._tick, pause=True)

    def on_repaint(self, repaint: Callable[[], None]) -> None:
        """Calls this instead from now on."""
        self._repaint = repaint

    def changed(self) -> None:
        """Something was recorded or moved on; costs next to nothing, so call it as often as you like."""
        self._dirty = True
        self._timer.resume()

    def _tick(self) -> None:
        started = perf_counter()
        if started < self._rest_until:
            return
        if self._dirty:
            self._dirty = False
            self.repaints += 1
            self._repaint()
        elif self._running() and self.spinning:
            self._spin()
        else:
            self._timer.pause()
            return
        spent = perf_counter() - started
        self._rest_until = started + spent + SHARE * spent
