"""What goes wrong in the fleet by itself, on a schedule: a GPU that overheats and recovers, a row that is remapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstui.demo.cast import share

DRIFT_PERIOD = 600.0
DRIFT_BEGIN = 60.0
RISE, HOLD, FALL = 45.0, 150.0, 60.0
"""Seconds in which a GPU heats up, stays hot, and cools down."""
REMAP_AT = 150.0
"""Seconds after the beginning at which a row of GPU memory is remapped, once."""
FELL_OFF_BEFORE = 1_500.0
"""For how many seconds before the beginning a GPU that does not answer has been off the bus."""

REMAPPED = (63, "Row Remapper: New row marked for remapping, reset gpu to activate.")
FELL_OFF = (79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")


@dataclass(frozen=True, slots=True)
class Spot:
    """One GPU of one host."""

    host: str
    gpu: int


@dataclass(frozen=True, slots=True)
class Troubles:
    """`visible` are the names of hosts whose replica may drift; without any nothing happens."""

    seed: int
    visible: Sequence[str]
    gpus: int

    def drifting(self, at: float) -> tuple[Spot, float] | None:
        """Which GPU overheats `at` seconds after the beginning, and how far it is: above 0 and up to 1."""
        turn, into = divmod(at - DRIFT_BEGIN, DRIFT_PERIOD)
        if turn < 0 or into >= RISE + HOLD + FALL or not self.visible:
            return None
        level = min(1.0, into / RISE, (RISE + HOLD + FALL - into) / FALL)
        return (self._spot(int(turn)), level) if level > 0 else None

    def _spot(self, turn: int) -> Spot:
        """Another one every time, as far as there are others."""
        first = int(share(f"{self.seed} drift") * len(self.visible))
        host = self.visible[(first + turn) % len(self.visible)]
        return Spot(host, int(share(f"{self.seed} drift {turn}") * self.gpus) % self.gpus)

    @property
    def remapped(self) -> Spot | None:
        """The GPU with the bad row, on a host that does not drift first; None where there is no other."""
        if len(self.visible) < 2:
            return None
        first = self.visible.index(self._spot(0).host)
        return Spot(self.visible[first - 1], int(share(f"{self.seed} remap") * self.gpus) % self.gpus)
