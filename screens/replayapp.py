"""The app that shows a recording: the monitor alone, with the time of then."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from dstui.model import Lang, UsageError
from dstui.telemetry.feed import Feed
from screens.endings import heed_signals
from screens.houseapp import HouseApp
from screens.keys import bindings


class _Behind(Screen[None]):
    """Nothing; whoever comes back to it has closed the monitor."""

    def compose(self) -> ComposeResult:
        return iter(())

    def on_screen_resume(self) -> None:
        if len(self.app.screen_stack) == 1 and isinstance(self.app, ReplayApp) and self.app.feed is not None:
            self.app.exit()


class ReplayApp(HouseApp):
    """Ends when the monitor is closed."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("language", "help", "quit")

    def __init__(self, recording: Feed, lang: Lang) -> None:
        super().__init__(lang)
        self._recording = recording

    def get_default_screen(self) -> Screen[None]:
        return _Behind()

    async def on_ready(self) -> None:
        from screens.monitor import MonitorScreen

        if not self.is_headless:
            heed_signals(lambda code: self.exit(return_code=code))
        await self.push_screen(MonitorScreen())
        self.watch_feed(self._recording)

    async def on_unmount(self) -> None:
        await self.end_feed()

    async def action_quit(self) -> None:
        self.exit()


def show_replay(recording: Feed, lang: Lang) -> int:
    """Shows a recording until the operator leaves. Raises UsageError with the sentence when it could not go on."""
    app = ReplayApp(recording, lang)
    why = app.run()
    if why:
        raise UsageError(why)
    return app.return_code or 0
