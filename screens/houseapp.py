"""What dstui's apps have in common: theme, language, telling, and the live view that ticks."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.screen import Screen
from textual.worker import Worker

from dstui.model import DstuiError, Lang
from screens import words
from screens.base import HouseModal, HouseScreen
from screens.clock import SHARE
from screens.plain import one_line
from screens.themes import NIGHT

if TYPE_CHECKING:
    from dstui.telemetry.feed import Feed

_HERE = Path(__file__).parent

LIVE_SECONDS = 0.5
"""How often what is live is looked at: ages go on while nothing arrives."""

LIVE_GC = (50_000, 20, 100)
"""Collector thresholds while streams are folded. With those of Python a thousand hosts cost a full collection of 60 to
100 ms every two seconds, although what they replace has no cycles and is freed at once."""


class HouseApp(App[str]):
    """`feed` is what the live screens look at; there is none before it was opened, or where nothing is watched."""

    # Read and parsed once, together; by whole paths, for a subclass may be at home elsewhere.
    CSS_PATH: ClassVar[list[str | PurePath]] = [_HERE / "house.tcss", _HERE / "checklist.tcss"]
    TITLE = "dstui"
    ESCAPE_TO_MINIMIZE = False
    NOTIFICATION_TIMEOUT = 6

    def __init__(self, lang: Lang) -> None:
        super().__init__()
        self._use_theme()
        self.animation_level = "none"  # people sit behind two SSH hops; a scroll that glides is a scroll that lags
        self.lang = lang
        self.feed: Feed | None = None
        self.feed_fault = ""
        """Why nothing is watched, in a sentence; empty while all is well."""
        self._feed_worker: Worker[None] | None = None
        self._live_rest_until = 0.0
        self._gc_before: tuple[int, int, int] | None = None
        self._told: set[str] = set()

    def _use_theme(self) -> None:
        """Before any stylesheet is parsed: setting the attribute later would parse and match all of them again."""
        self.register_theme(NIGHT)
        self.set_reactive(App.theme, NIGHT.name)
        self.stylesheet.set_variables(self.get_css_variables())

    def house_screens(self) -> list[HouseScreen | HouseModal[Any]]:
        """The screens on the stack that have their widgets: not one that is just being opened or closed."""
        return [s for s in self.screen_stack if isinstance(s, HouseScreen | HouseModal) and s.is_mounted]

    # Watching

    def watch_feed(self, feed: Feed) -> None:
        """Fills the feed from now on, and lets the screens look at it."""
        self.feed = feed
        self._gc_before = gc.get_threshold()
        gc.set_threshold(*LIVE_GC)
        self._feed_worker = self.run_worker(self._run_feed(feed), name="feed", group="feed", exit_on_error=False)
        self.set_interval(LIVE_SECONDS, self.repaint_live)
        self.repaint_live()

    async def _run_feed(self, feed: Feed) -> None:
        try:
            await feed.run()
        except asyncio.CancelledError:
            raise
        except BaseExceptionGroup as errors:
            self._feed_ended(_first_of(errors))
        except Exception as error:
            self._feed_ended(error)

    def _feed_ended(self, error: BaseException) -> None:
        self.feed_fault = sentence(error)
        self.tell(words.WATCH_FAILED[self.lang].format(why=self.feed_fault), severity="error")

    async def end_feed(self) -> None:
        """Ends the watching and waits for its streams to close."""
        if self._gc_before is not None:
            gc.set_threshold(*self._gc_before)
            self._gc_before = None
        worker, self._feed_worker = self._feed_worker, None
        if worker is not None and not worker.is_finished:
            worker.cancel()
            await asyncio.gather(worker.wait(), return_exceptions=True)

    def repaint_live(self) -> None:
        """Lets the screen on top show what is live now; a look that was dear is followed by a rest."""
        started = time.perf_counter()
        if self.feed is None or not self.is_running or started < self._live_rest_until:
            return
        for screen in self.house_screens()[-1:]:
            screen.repaint_live()
        ended = time.perf_counter()
        self._live_rest_until = ended + SHARE * (ended - started)

    def open_monitor_host(self, name: str) -> None:
        from screens.monitor_host import MonitorHostScreen

        self.push_screen(MonitorHostScreen(name))

    def open_trail(self, replica: str) -> None:
        from screens.trail import TrailScreen

        self.push_screen(TrailScreen(replica))

    # Telling

    def tell(self, said: str, *, severity: str = "information") -> None:
        """A notification; remote text in it is never markup."""
        level = severity if severity in ("information", "warning", "error") else "information"
        self.notify(one_line(said), severity=level, markup=False)  # type: ignore[arg-type]

    def tell_once(self, said: str) -> None:
        if said not in self._told:
            self._told.add(said)
            self.tell(said, severity="error")

    def action_help(self) -> None:
        from screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def action_language(self) -> None:
        self.lang = Lang.EN if self.lang is Lang.ZH else Lang.ZH
        for screen in self.house_screens():
            screen.relabel()
        self.repaint_live()

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


def sentence(error: BaseException) -> str:
    """An error in one line: a DstuiError speaks for itself, anything else is named."""
    return str(error) if isinstance(error, DstuiError) else f"{type(error).__name__}: {error}"


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
