"""What the screens show, as of one moment. Made at most ten times a second by the app, read by every widget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dstui.catalogue import Catalogue, Check
from dstui.model import Lang, Text
from dstui.progress import CheckProgress, Progress
from dstui.standing import Checklist, CheckStatus, Standing, checklist
from dstui.state import Run, Settled, State
from screens.marks import SPINNER, WORST_FIRST

if TYPE_CHECKING:
    from dstui.engine import Engine


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
class LadderBrief:
    """A load ladder that runs: which stage, in which phase, when that is due to end (0: not known)."""

    spinner: str
    stage: str
    phase: Text
    until: float
    stopping: bool = False


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
    ladder: LadderBrief | None = None

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


def before_opening(catalogue: Catalogue, lang: Lang, now: float) -> Moment:
    """The checklist alone, while inventory and journal are still to be read."""
    nothing_known = checklist(State(), catalogue, now, built=frozenset())
    return Moment(catalogue, nothing_known, Progress(), lang, now, opened=False)


def of_engine(engine: Engine, lang: Lang, frame: int) -> Moment:
    """What the engine holds now. `frame` counts the steps of the spinner."""
    now = engine.clock()
    return Moment(
        catalogue=engine.catalogue,
        checklist=engine.checklist(now),
        progress=engine.progress,
        lang=lang,
        now=now,
        masthead=_masthead(engine),
        history=engine.state.history,
        last_run=engine.state.last_run,
        built=engine.built,
        opened=True,
        frame=frame,
    )


def _masthead(engine: Engine) -> Masthead:
    site, progress = engine.site, engine.progress
    run = engine.state.last_run
    reached = asked = 0
    for host in site.hosts:
        facts = engine.host_facts(host.name)
        phase = progress.hosts[host.name].phase if host.name in progress.hosts else ""
        if phase == "unreachable" or (phase not in ("gathering", "done") and facts and facts.unreachable):
            asked += 1
        elif phase in ("gathering", "done") or facts is not None:
            asked, reached = asked + 1, reached + 1
    return Masthead(
        cluster=site.name,
        environment=site.environment,
        operator=engine.identity.person,
        simulated=engine.simulated or engine.state.simulated,
        run=run.number if run else 0,
        run_at=run.started_at if run else 0.0,
        interrupted=engine.interrupted() is not None and not progress.running,
        hosts=len(site.hosts),
        gpus=sum(host.gpus_per_host or 0 for host in site.hosts if host.gpu),
        reachable=reached,
        asked=asked,
        broken_at=engine.state.broken_at,
    )
