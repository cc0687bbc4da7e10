"""What the screens show, as of one moment. Made at most ten times a second by the app, read by every widget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dstui.catalogue import Catalogue, Check
from dstui.model import Lang
from dstui.progress import CheckProgress, Progress
from dstui.standing import Checklist, CheckStatus, Standing
from dstui.state import Run, Settled
from screens.marks import SPINNER, WORST_FIRST


@dataclass(frozen=True, slots=True)
class Masthead:
    """What the header says besides counts. `hosts` and `gpus` come from the inventory, 0 while it is not read."""

    cluster: str = ""
    environment: str = ""
    operator: str = ""
    simulated: bool = False
    run: int = 0
    run_at: float = 0.0
    interrupted: bool = False
    hosts: int = 0
    gpus: int = 0
    reachable: int = 0
    asked: int = 0
    broken_at: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """State, progress and language at `now`. `opened` is false until the inventory and the journal are read."""

    catalogue: Catalogue
    checklist: Checklist
    progress: Progress
    lang: Lang
    now: float
    masthead: Masthead = field(default_factory=Masthead)
    history: Mapping[str, list[Settled]] = field(default_factory=dict)
    last_run: Run | None = None
    built: frozenset[str] = frozenset()
    opened: bool = True
    frame: int = 0

    def status(self, check_id: str) -> CheckStatus:
        return self.checklist.statuses[check_id]

    def statuses(self, checks: Iterable[Check]) -> list[CheckStatus]:
        return [self.checklist.statuses[check.id] for check in checks]

    def running(self, check_id: str) -> CheckProgress | None:
        """How far a check is that the run under way has not settled."""
        return self.progress.checks.get(check_id) if self.progress.running else None

    @property
    def spinner(self) -> str:
        return SPINNER[self.frame % len(SPINNER)]


def counts(statuses: Iterable[CheckStatus]) -> dict[Standing, int]:
    """How many checks stand how."""
    found: dict[Standing, int] = {}
    for status in statuses:
        found[status.standing] = found.get(status.standing, 0) + 1
    return found


def worst_standing(found: Mapping[Standing, int]) -> Standing | None:
    """The worst that occurs."""
    return next((standing for standing in WORST_FIRST if found.get(standing)), None)
