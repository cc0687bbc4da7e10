"""Everything the app can do, by name: what ctrl+p lists, in the language of the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.screen import Screen

from dstui.model import Lang
from screens import words
from screens.base import HouseScreen
from screens.keys import BY_ID, Key

if TYPE_CHECKING:
    from screens.app import DstuiApp
    from screens.houseapp import HouseApp

EVERYWHERE = ("run-all", "run-failed", "monitor", "ladder", "export", "language", "help")
ON_A_SCREEN = (
    "run-this", "next-open", "filter", "search", "sign", "waive", "note", "host", "copy",
    "pause", "quicker", "slower", "sort-grid", "fold-alike", "trail", "record", "run-ladder", "stop-ladder",
)  # fmt: skip


def commands(app: HouseApp, screen: Screen[Any]) -> Iterable[SystemCommand]:
    """The commands that make sense on `screen` now."""
    lang = app.lang
    for key in (BY_ID[name] for name in EVERYWHERE):
        if hasattr(app, f"action_{key.action}"):
            yield _command(app, key, "app", lang)
    if isinstance(screen, HouseScreen):
        for key in (BY_ID[name] for name in ON_A_SCREEN):
            if hasattr(screen, f"action_{key.action}"):
                yield _command(app, key, "screen", lang)
    yield SystemCommand(words.CMD_THEME[lang], words.CMD_THEME_TIP[lang], app.action_change_theme)
    yield SystemCommand(words.CMD_SCREENSHOT[lang], words.CMD_SCREENSHOT_TIP[lang], lambda: app.deliver_screenshot())
    yield _command(app, BY_ID["quit"], "app", lang)


def run_commands(app: DstuiApp) -> Iterable[SystemCommand]:
    """Stopping the run under way, or going on with one that was cut short."""
    lang, engine = app.lang, app.engine
    if engine is not None and engine.progress.running:
        yield SystemCommand(words.CMD_STOP[lang], words.CMD_STOP_TIP[lang], app.stop_run)
    elif engine is not None and engine.interrupted() is not None:
        yield SystemCommand(words.CMD_RESUME[lang], words.CMD_RESUME_TIP[lang], app.resume_run)


def _command(app: HouseApp, key: Key, where: str, lang: Lang) -> SystemCommand:
    return SystemCommand(f"{key.label[lang]} ({key.face[lang]})", key.tip[lang], _runs(app, f"{where}.{key.action}"))


def _runs(app: HouseApp, action: str) -> Callable[[], object]:
    async def act() -> None:
        await app.run_action(action)

    return act
