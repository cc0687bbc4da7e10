"""The app: paints its frame at once, reads the checklist and opens the engine behind it, turns keys into what it does.

Importing this stays light: the checklist, other screens, and everything that touches hosts are imported when they are
needed.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, work
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.worker import Worker, WorkerCancelled, WorkerFailed

from dstui.model import DstuiError, Lang, Text, UsageError
from screens import words
from screens.checklist import ChecklistScreen
from screens.clock import RepaintClock
from screens.early_keys import EarlyKeys
from screens.endings import heed_signals
from screens.houseapp import HouseApp, sentence
from screens.keys import bindings
from screens.plain import one_line

if TYPE_CHECKING:
    from dstui.catalogue import Catalogue, Check
    from dstui.engine import Engine
    from screens.ladder_run import OwnedLadder
    from screens.moment import Moment
    from screens.sheet import Sheet

AGEING_SECONDS = 30.0
"""How often staleness and expiry are looked at while nothing else happens."""


class DstuiApp(HouseApp):
    """Returns None when the operator quits, else a sentence that says why it could not go on."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "run-all", "run-failed", "monitor", "ladder", "export", "language", "help", "quit"
    )

    moment: Moment
    """What the screens show; there is none until the checklist was read."""

    def __init__(
        self,
        engine: Callable[[], Awaitable[Engine]] | Engine,
        catalogue: Callable[[], Catalogue],
        *,
        lang: Lang = Lang.EN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`catalogue` is called, in a thread, after the first frame; `engine` may be a factory, awaited after that.

        `clock` is used until there is an engine.
        """
        super().__init__(lang)
        self.engine: Engine | None = None
        self._engine_source = engine
        self._catalogue_source = catalogue
        self._clock = clock
        self._early_keys = EarlyKeys(self, super().on_event)
        self._unsubscribe: Callable[[], None] = lambda: None
        self._run_worker: Worker[None] | None = None
        self.ladder: OwnedLadder | None = None  # from when somebody first looks at it
        self.repaint_clock: RepaintClock

    @property
    def opened(self) -> bool:
        """Whether checklist, inventory and journal are read."""
        return self._early_keys.over and self.moment.opened

    # Opening and closing

    def get_default_screen(self) -> Screen[Any]:
        return ChecklistScreen()  # not a mode: setting one up parses and matches all stylesheets a second time

    def on_ready(self) -> None:
        """The first frame stands."""
        if not self.is_headless:
            heed_signals(lambda code: self.exit(return_code=code))
        self._open()

    @work(name="open", exit_on_error=False)
    async def _open(self) -> None:
        """Reads the checklist behind the first frame, then inventory and journal; a failure ends the app, in words."""
        try:
            await self._open_checklist()
            await self._open_engine()
        except DstuiError as error:
            self.exit(result=str(error), return_code=3)
        except Exception as error:
            # Whatever broke while opening, the operator gets a sentence on a sane terminal, not a traceback.
            why = f"{type(error).__name__}: {error}"
            self.exit(result=one_line(words.OPEN_FAILED[self.lang].format(why=why)), return_code=3)
        finally:
            if not gc.isenabled():  # `dstui` starts without it; what stays for good need not be looked through again
                gc.freeze()
                gc.enable()

    async def _open_checklist(self) -> None:
        self.moment, sheet = await asyncio.to_thread(self._read_checklist)
        home = self.screen_stack[0]
        assert isinstance(home, ChecklistScreen)
        home.furnish(sheet)
        self.repaint_clock = RepaintClock(self, self.repaint, self.spin, lambda: self.moment.progress.running)
        self.set_interval(AGEING_SECONDS, self.repaint_clock.changed)
        self.call_later(self._early_keys.play)
        await home.wait_for_refresh()

    def _read_checklist(self) -> tuple[Moment, Sheet]:
        """In a thread, so that the frame answers to a resize and to `q` meanwhile."""
        from screens.moment import before_opening
        from screens.sheet import Sheet

        return before_opening(self._catalogue_source(), self.lang, self._clock()), Sheet(lambda: self.moment)

    async def _open_engine(self) -> None:
        source = self._engine_source
        engine = await source() if callable(source) else source
        self.engine = engine
        self.repaint()
        self._unsubscribe = engine.subscribe(self.repaint_clock.changed)
        self.run_worker(self._follow(engine), name="follow", exit_on_error=False)
        await self._open_feed(engine)

    async def _open_feed(self, engine: Engine) -> None:
        if engine.watch is None:
            return
        try:
            # In a thread: what streams are made of costs as much to import as the app itself.
            feed = await asyncio.to_thread(engine.watch)
        except DstuiError as error:
            self.feed_fault = str(error)
            self.tell(self.feed_fault, severity="error")
            return
        self.watch_feed(feed)

    async def on_event(self, event: events.Event) -> None:
        if not self._early_keys.takes(event):
            await super().on_event(event)

    async def _follow(self, engine: Engine) -> None:
        try:
            await engine.follow()
        except Exception as error:
            self.tell(words.FOLLOW_FAILED[self.lang].format(why=sentence(error)), severity="error")

    async def on_unmount(self) -> None:
        self._unsubscribe()
        if self._run_worker is not None and not self._run_worker.is_finished:
            # The engine closes its links and the journal only after the run has let go of them.
            self._run_worker.cancel()
            with suppress(WorkerCancelled, WorkerFailed):
                await self._run_worker.wait()
        if self.ladder is not None:
            await self.ladder.end()
        await self.end_feed()
        if self.engine is not None:
            await self.engine.aclose()

    # Painting

    def repaint(self) -> None:
        """Takes a new look at the state and lets the screen show it."""
        if not self.is_running:
            return
        self.moment = self._look()
        for screen in self.house_screens():
            screen.repaint()

    def spin(self) -> None:
        """One step of the spinner, and the seconds of what runs."""
        if self.engine is None or not self.is_running:
            return
        self.moment = replace(self.moment, now=self.engine.clock(), frame=self.moment.frame + 1)
        for screen in self.house_screens()[-1:]:
            screen.spin()

    def _look(self) -> Moment:
        if self.engine is None:
            return replace(self.moment, lang=self.lang)
        from screens.moment import of_engine

        ladder = self.ladder.brief() if self.ladder is not None else None
        return replace(of_engine(self.engine, self.lang, self.moment.frame), ladder=ladder)

    # Running

    def run_checks(self, ids: Sequence[str], name: Text | None = None, *, resume: bool = False) -> None:
        """Runs those of `ids` that have a probe; asks first when one of them does more than look."""
        engine = self._opened_engine()
        if engine is None:
            return
        if engine.progress.running:
            self.tell(words.RUN_BUSY[self.lang].format(run=engine.progress.run), severity="warning")
            return
        chosen = tuple(check_id for check_id in ids if check_id in engine.built)
        if not chosen:
            what = name[self.lang] if name is not None else words.CHECKLIST[self.lang]
            self.tell(words.NOTHING_TO_RUN[self.lang].format(what=what), severity="warning")
            return
        asking = [check_id for check_id in chosen if engine.asks_first(check_id)]
        deeper = [check_id for check_id in chosen if len(chosen) == 1 and engine.goes_deeper(check_id)]
        if not asking and not deeper:
            self._start_run(engine, chosen, resume=resume)
            return
        from screens.confirm import confirm_risk

        def answered(answer: str | None) -> None:
            # What was not agreed to is left out: what an earlier run found of it stays as it is.
            left = tuple(check_id for check_id in chosen if check_id not in asking)
            if answer == "yes":
                self._start_run(engine, chosen, resume=resume, confirmed=frozenset((*asking, *deeper)))
            elif answer == "stop" and left:
                self._start_run(engine, left, resume=resume)

        checks = [engine.catalogue.check(check_id) for check_id in (*asking, *deeper)]
        self.push_screen(confirm_risk(checks, others=len(chosen) > len(asking)), answered)

    def _start_run(
        self, engine: Engine, chosen: Sequence[str], *, resume: bool, confirmed: frozenset[str] = frozenset()
    ) -> None:
        self._run_worker = self.run_worker(
            self._run(engine, tuple(chosen), resume=resume, confirmed=confirmed),
            name="run", group="run", exit_on_error=False,
        )  # fmt: skip

    async def run_afterwards(self, ids: Sequence[str]) -> None:
        """Runs checks when the run under way has ended; at once when there is none."""
        if self._run_worker is not None and not self._run_worker.is_finished:
            with suppress(WorkerCancelled, WorkerFailed):
                await self._run_worker.wait()
        self.run_checks(ids)

    async def _run(self, engine: Engine, chosen: tuple[str, ...], *, resume: bool, confirmed: frozenset[str]) -> None:
        """One run, announced at its end. Whatever ends it early becomes a sentence."""
        started = engine.clock()
        try:
            await engine.run(chosen, resume=resume, confirmed=confirmed)
        except DstuiError as error:
            self.tell(str(error), severity="error")
            return
        except Exception as error:
            self.tell(words.RUN_FAILED[self.lang].format(why=sentence(error)), severity="error")
            return
        finally:
            self.repaint_clock.changed()
        self._announce(engine, chosen, engine.clock() - started)

    def _announce(self, engine: Engine, chosen: Sequence[str], elapsed: float) -> None:
        from screens.masthead import run_ended

        now = engine.checklist(engine.clock())
        self.tell(run_ended(now, chosen, engine.progress.run, elapsed, self.lang))

    def stop_run(self) -> None:
        """Cancels the run under way; what settled is recorded."""
        worker, engine = self._run_worker, self.engine
        if worker is not None and engine is not None and engine.progress.running:
            run = engine.progress.run
            worker.cancel()
            self.tell(words.RUN_STOPPED[self.lang].format(run=run), severity="warning")

    def resume_run(self) -> None:
        """Goes on with the run that was cut short."""
        engine = self._opened_engine()
        if engine is not None and (cut := engine.interrupted()) is not None:
            self.run_checks(cut.checks, resume=True)

    def action_run_all(self) -> None:
        if (engine := self._opened_engine()) is not None:
            self.run_checks(engine.select())

    def action_run_failed(self) -> None:
        engine = self._opened_engine()
        if engine is None:
            return
        again = engine.select(failed_only=True)
        if again:
            self.run_checks(again)
        else:
            self.tell(words.NOTHING_FAILED[self.lang])

    def _opened_engine(self) -> Engine | None:
        if self.engine is None:
            self.tell(words.NOT_OPENED[self.lang], severity="warning")
        return self.engine

    # Opening screens

    def open_finding(self, check_id: str) -> None:
        from screens.finding import FindingScreen

        self.push_screen(FindingScreen(check_id))

    def neighbour(self, check_id: str, step: int) -> str | None:
        """The next or previous check that is not green, in document order."""
        from screens.outline import next_open

        return next_open(self.moment.catalogue.checks, self.moment, check_id, step)

    def back_to(self, check_id: str) -> None:
        """Closes the screen on top; the checklist's cursor goes to the check that was open."""
        self.pop_screen()
        if isinstance(self.screen, ChecklistScreen):
            self.screen.reveal(check_id)

    def open_host(self, name: str) -> None:
        from screens.host import HostScreen

        self.push_screen(HostScreen(name))

    def open_form(self, form: str, check: Check | None, target_key: str = "") -> None:
        """Opens the sign-off, waiver or note form of a check."""
        if check is None:
            self.tell(words.PICK_A_CHECK[self.lang], severity="warning")
            return
        if self._opened_engine() is None:
            return
        from screens.acts import form_for

        self.push_screen(form_for(form, check, target_key))

    def action_export(self) -> None:
        if self._opened_engine() is not None:
            from screens.export import ExportForm

            self.push_screen(ExportForm())

    def action_monitor(self) -> None:
        if self._opened_engine() is None:
            return
        if self.feed is None:
            self.tell(self.feed_fault or words.NOT_WATCHED[self.lang], severity="warning")
            return
        from screens.monitor import MonitorScreen

        if not any(isinstance(screen, MonitorScreen) for screen in self.screen_stack):
            self.push_screen(MonitorScreen())

    def action_ladder(self) -> None:
        """Opens the ladder, or comes back to it from what stands over it."""
        if self._opened_engine() is not None:
            from screens.ladder import open_ladder

            open_ladder(self)

    def action_language(self) -> None:
        # The moment has the language, and screens that are labelled anew look at it.
        self.moment = replace(self.moment, lang=Lang.EN if self.lang is Lang.ZH else Lang.ZH)
        super().action_language()

    async def action_quit(self) -> None:
        """Leaves; asks only while something runs."""
        engine = self.engine
        if self.ladder is not None and self.ladder.running:
            self.ladder.ask_to_leave()
            return
        if engine is None or not engine.progress.running:
            self.exit()
            return
        from screens.confirm import confirm_quit

        self.push_screen(confirm_quit(engine.progress), self._quit_answered)

    def _quit_answered(self, answer: str | None) -> None:
        if answer == "yes":
            if self._run_worker is not None:
                self._run_worker.cancel()
            self.exit()
        elif answer == "stop":
            self.stop_run()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        from screens.palette import run_commands

        yield from super().get_system_commands(screen)
        yield from run_commands(self)


def run_app(engine: Callable[[], Awaitable[Engine]], catalogue: Callable[[], Catalogue], lang: Lang) -> int:
    """Runs the app; catalogue and engine are made when its first frame stands.

    Returns 0, or raises UsageError with the sentence when it could not go on.
    """
    app = DstuiApp(engine, catalogue, lang=lang)
    sentence = app.run()
    if sentence:
        raise UsageError(sentence)
    return app.return_code or 0


__all__ = ["DstuiApp", "run_app"]
