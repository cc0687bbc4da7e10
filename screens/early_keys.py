"""Keys that are pressed before there is anything to act on: they wait, and are played in order when there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode

from screens.keys import BY_ID

LEAVING = (BY_ID["quit"].key, "ctrl+q", "ctrl+c")
"""What never waits."""


class EarlyKeys:
    """`takes` keeps keys until `play` has handed all of them to `hear`; after that it takes none."""

    def __init__(self, app: App[Any], hear: Callable[[events.Event], Awaitable[None]]) -> None:
        self._app, self._hear = app, hear
        self._waiting: list[events.Key] = []
        self.over = False

    def takes(self, event: events.Event) -> bool:
        """Keeps a key that comes too early; false for everything else."""
        if self.over or not isinstance(event, events.Key) or event.is_forwarded or event.key in LEAVING:
            return False
        self._waiting.append(event)
        return True

    async def play(self) -> None:
        """The next key that waited, and when all it does is done the one after; keys that come meanwhile queue up."""
        if not self._waiting:
            self.over = True
            return
        hears: DOMNode = self._app.focused or self._app.screen
        await self._hear(self._waiting.pop(0))
        self._go_on_behind(hears)

    def _go_on_behind(self, node: DOMNode | None) -> None:
        """Takes the way of a key, from the focus up to the app."""
        if node is None:
            self._app.call_after_refresh(self.play)
        else:
            node.call_later(self._go_on_behind, node.parent)
