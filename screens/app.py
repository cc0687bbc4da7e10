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
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, work
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.worker import Worker, WorkerCancelled, WorkerFailed

from dstui.model import DstuiError, Lang, SideEffect, Text, UsageError
from screens import words
from screens.base import HouseModal, HouseScreen
from screens.checklist import ChecklistScreen
from screens.clock import RepaintClock
from screens.early_keys import EarlyKeys
from screens.endings import heed_signals
from screens.keys import bindings
from screens.plain import one_line
from screens.themes import NIGHT

if TYPE_CHECKING:
    from dstui.catalogue import Catalogue, Check
    from dstui.engine import Engine
    from screens.moment import Moment
    from screens.sheet import Sheet

AGEING_SECONDS = 30.0
"""How often staleness and expiry are looked at while nothing else happens."""


class DstuiApp(App[str]):
    """Returns None when the operator quits, else a sentence that says why it could not go on."""

    CSS_PATH: ClassVar[list[str | PurePath]] = ["house.tcss", "checklist.tcss"]  # read and parsed once, together
    TITLE = "dstui"
    ESCAPE_TO_MINIMIZE = False
    NOTIFICATION_TIMEOUT = 6

    BINDINGS: ClassVar[list[BindingType]] = bindings("run-all", "run-failed", "export", "language", "help", "quit")

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
        super().__init__()
        self._use_theme()
        self.animation_level = "none"  # people sit behind two SSH hops; a scroll that glides is a scroll that lags
        self.lang = lang
        self.engine: Engine | None = None
        self._engine_source = engine
        self._catalogue_source = catalogue
        self._clock = clock
        self._early_keys = EarlyKeys(self, super().on_event)
        self._unsubscribe: Callable[[], None] = lambda: None
        self._run_worker: Worker[None] | None = None
        self._told: set[str] = set()
        self.repaint_clock: RepaintClock

    def _use_theme(self) -> None:
        """Before any stylesheet is parsed: setting the attribute later would parse and match all of them again."""
        self.register_theme(NIGHT)
        self.set_reactive(App.theme, NIGHT.name)
        self.stylesheet.set_variables(self.get_css_variables())

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

    async def on_event(self, event: events.Event) -> None:
        if not self._early_keys.takes(event):
            await super().on_event(event)

    async def _follow(self, engine: Engine) -> None:
        try:
            await engine.follow()
        except Exception as error:
            self.tell(words.FOLLOW_FAILED[self.lang].format(why=_sentence(error)), severity="error")

    async def on_unmount(self) -> None:
        self._unsubscribe()
        if self._run_worker is not None and not self._run_worker.is_finished:
            # The engine closes its links and the journal only after the run has let go of them.
            self._run_worker.cancel()
            with suppress(WorkerCancelled, WorkerFailed):
                await self._run_worker.wait()
        if self.engine is not None:
            await self.engine.aclose()

    # Painting

    def repaint(self) -> None:
        """Takes a new look at the state and lets the screen show it."""
        if not self.is_running:
            return
        self.moment = self._look()
        for screen in self._our_screens():
            screen.repaint()

    def _our_screens(self) -> list[HouseScreen | HouseModal[Any]]:
        """The screens on the stack that have their widgets: not one that is just being opened or closed."""
        return [s for s in self.screen_stack if isinstance(s, HouseScreen | HouseModal) and s.is_mounted]

    def spin(self) -> None:
        """One step of the spinner, and the seconds of what runs."""
        if self.engine is None or not self.is_running:
            return
        self.moment = replace(self.moment, now=self.engine.clock(), frame=self.moment.frame + 1)
        for screen in self._our_screens()[-1:]:
            screen.spin()

    def _look(self) -> Moment:
        if self.engine is None:
            return replace(self.moment, lang=self.lang)
        from screens.moment import of_engine

        return of_engine(self.engine, self.lang, self.moment.frame)

    # Telling

    def tell(self, sentence: str, *, severity: str = "information") -> None:
        """A notification; remote text in it is never markup."""
        level = severity if severity in ("information", "warning", "error") else "information"
        self.notify(one_line(sentence), severity=level, markup=False)  # type: ignore[arg-type]

    def tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self.tell(sentence, severity="error")

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
        risky = [c for c in map(engine.catalogue.check, chosen) if c.side_effect in (SideEffect.S3, SideEffect.S4)]
        if not risky:
            self._start_run(engine, chosen, resume=resume)
            return
        from screens.confirm import confirm_risk

        self.push_screen(
            confirm_risk(risky),
            lambda answer: self._start_run(engine, chosen, resume=resume) if answer == "yes" else None,
        )

    def _start_run(self, engine: Engine, chosen: Sequence[str], *, resume: bool) -> None:
        self._run_worker = self.run_worker(
            self._run(engine, tuple(chosen), resume=resume), name="run", group="run", exit_on_error=False
        )

    async def _run(self, engine: Engine, chosen: tuple[str, ...], *, resume: bool) -> None:
        """One run, announced at its end. Whatever ends it early becomes a sentence."""
        started = engine.clock()
        try:
            await engine.run(chosen, resume=resume)
        except DstuiError as error:
            self.tell(str(error), severity="error")
            return
        except Exception as error:
            self.tell(words.RUN_FAILED[self.lang].format(why=_sentence(error)), severity="error")
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

    def action_help(self) -> None:
        from screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def action_language(self) -> None:
        self.lang = Lang.EN if self.lang is Lang.ZH else Lang.ZH
        self.moment = self._look()
        for screen in self._our_screens():
            screen.relabel()

    async def action_quit(self) -> None:
        """Leaves; asks only while something runs."""
        engine = self.engine
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

    def action_help_quit(self) -> None:
        """ctrl+c: leaving by reflex in the middle of a run would be a pity."""
        self.tell(words.HOW_TO_QUIT[self.lang])

    # Commands by name

    def action_command_palette(self) -> None:
        from textual.command import CommandPalette

        if not isinstance(self.screen, CommandPalette):
            prompt = words.PALETTE_PROMPT[self.lang]
            self.push_screen(CommandPalette(placeholder=prompt, id="--command-palette"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette lists, in the language of the screen."""
        from screens.palette import commands

        return commands(self, screen)


def _sentence(error: Exception) -> str:
    """An error in one line: a DstuiError speaks for itself, anything else is named."""
    return str(error) if isinstance(error, DstuiError) else f"{type(error).__name__}: {error}"


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
