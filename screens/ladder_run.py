"""The ladder that the app runs, from the consent to the checks that are judged by it. Screens come and go; it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dstui.load.ladder import Ladder
from dstui.load.live import LadderRun
from dstui.load.result import LadderResult
from dstui.model import DstuiError, Text
from screens import ladder_words as words
from screens.clock import RepaintClock
from screens.houseapp import sentence
from screens.marks import SPINNER
from screens.moment import LadderBrief
from screens.plain import one_line

if TYPE_CHECKING:
    from screens.app import DstuiApp

PERF = "perf."
"""How the ids of the checks begin that are judged by a ladder."""

END_SECONDS = 10.0
"""How long a ladder has to end by itself when the app is ended from outside; then it is cancelled."""


@runtime_checkable
class LadderEngine(Protocol):
    """What an engine has that can run ladders."""

    def ladder_of(self) -> Ladder:
        """What the inventory and the catalogue ask for. Raises UsageError in the operator's words."""
        ...

    def run_ladder(self, ladder: Ladder) -> LadderRun:
        """Makes the run. Raises UsageError while one is under way."""
        ...

    @property
    def ladders(self) -> Sequence[LadderResult]:
        """What was recorded, the newest last."""
        ...


def engine_for_ladders(engine: object) -> LadderEngine | None:
    """The engine, when it can run ladders."""
    return engine if isinstance(engine, LadderEngine) else None


class OwnedLadder:
    """At most one run at a time. `run` stays when it has ended, until the next one."""

    def __init__(self, app: DstuiApp, engine: LadderEngine) -> None:
        self.engine = engine
        self.run: LadderRun | None = None
        self.running = False
        self.stopping = ""
        """Why it was stopped, while it still runs; empty otherwise."""
        self.fault = ""
        """Why the last one could not go on; empty when it could."""
        self.leaving = False
        """Whether the app is left when it has ended."""
        self.frame = 0
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self.clock = RepaintClock(app, self._repaint, self._spin, lambda: self.running)

    @property
    def spinner(self) -> str:
        return SPINNER[self.frame % len(SPINNER)]

    def start(self, ladder: Ladder) -> None:
        """Runs a ladder that a person agreed to. Raises UsageError when it may not run now."""
        run = self.engine.run_ladder(ladder)
        self.run, self.running, self.stopping, self.fault = run, True, "", ""
        # A task of its own: neither a screen that closes nor Textual when it shuts down may cut it off.
        self._task = asyncio.create_task(self._keep(run), name="ladder")
        self.clock.changed()

    async def _keep(self, run: LadderRun) -> None:
        unsubscribe = run.subscribe(self.clock.changed)
        result: LadderResult | None = None
        try:
            result = await run.run()
        except Exception as error:
            # Whatever ends it, the operator gets a sentence and the app stays.
            self.fault = str(error) if isinstance(error, DstuiError) else sentence(error)
        finally:
            unsubscribe()
            self.running, self.stopping = False, ""
            self.clock.changed()
        if not self._app.is_running:
            return
        self._tell(result)
        if self.leaving:
            self._app.exit()
        elif result is not None:
            await self._judge()

    def _tell(self, result: LadderResult | None) -> None:
        lang = self._app.lang
        if result is None:
            self._app.tell(words.FAILED[lang].format(why=self.fault), severity="error")
            return
        counted = sum(not stage.stopped for stage in result.stages)
        text = words.ENDED_EARLY if result.stopped else words.ENDED
        said = text[lang].format(count=counted, all=len(result.ladder.stages), why=one_line(result.stopped))
        self._app.tell(said, severity="warning" if result.stopped else "information")

    async def _judge(self) -> None:
        """The checks that look at the ladder are judged anew."""
        engine = self._app.engine
        if engine is None:
            return
        ids = [check.id for check in engine.catalogue.checks if check.id.startswith(PERF) and check.id in engine.built]
        if ids:
            await self._app.run_afterwards(ids)

    def stop(self, why: Text) -> None:
        """Ends it in good order; says so when there is nothing to end."""
        lang = self._app.lang
        if self.run is None or not self.running:
            self._app.tell(words.NOTHING_TO_STOP[lang], severity="warning")
            return
        engine = self._app.engine
        person = one_line(engine.identity.person) if engine is not None else ""
        self.stopping = self.stopping or why[lang].format(person=person)
        self.run.stop(self.stopping)
        self.clock.changed()

    def ask_to_leave(self) -> None:
        """Asks, and leaves the app once the ladder has ended; asked again meanwhile, leaves at once."""
        app, engine = self._app, self._app.engine
        if self.leaving or self.run is None:
            app.exit()
            return
        from screens.ladder_guard import confirm_leaving

        def answered(answer: str | None) -> None:
            if answer not in ("yes", "stop"):
                return
            app.stop_run()
            if answer == "stop":
                self.stop(words.STOPPED_BY)
            elif self.running:
                self._leave()
            else:
                app.exit()

        stage = self.run.live.now_on
        progress = engine.progress if engine is not None and engine.progress.running else None
        app.push_screen(confirm_leaving(stage.stage.name if stage is not None else "", progress), answered)

    def _leave(self) -> None:
        """Ends it, and the app after it."""
        self.leaving = True
        self.stop(words.STOPPED_LEAVING)
        self._app.tell(words.LEAVING[self._app.lang], severity="warning")

    async def end(self) -> None:
        """The app is being closed: the run ends by itself or is cancelled, before the engine closes."""
        task = self._task
        if task is None or task.done():
            return
        if self.run is not None and not self.leaving:
            self.run.stop(words.STOPPED_ENDED[self._app.lang])
            await asyncio.wait([task], timeout=END_SECONDS)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    # What is seen of it elsewhere

    def brief(self) -> LadderBrief | None:
        """What the checklist says of it; None while none runs."""
        if self.run is None or not self.running:
            return None
        stage = self.run.live.now_on
        return LadderBrief(
            spinner=self.spinner,
            stage=stage.stage.name if stage is not None else "",
            phase=words.PHASES[stage.phase] if stage is not None else words.STARTING,
            until=stage.until if stage is not None else 0.0,
            stopping=bool(self.stopping),
        )

    def _repaint(self) -> None:
        app = self._app
        if not app.is_running or app.engine is None:
            return
        app.moment = replace(app.moment, now=app.engine.clock(), ladder=self.brief())
        for screen in app.house_screens()[-1:]:
            screen.repaint_ladder()

    def _spin(self) -> None:
        self.frame += 1
        self._repaint()
