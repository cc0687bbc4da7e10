"""Lines to read with a cursor, so that a key can mean the line under it."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType

from screens.lines import Build, LineView


class ReadPane(LineView):
    """A `LineView` whose arrows move a line cursor; the view follows. The cursor shows only while it has the focus."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"list--cursor"}

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "edge(0)", show=False),
        Binding("end", "edge(-1)", show=False),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.at = 0

    def show(self, build: Build, *, top: bool = False) -> None:
        super().show(build, top=top)
        self.at = 0 if top else min(self.at, max(len(self.lines) - 1, 0))

    def action_move(self, step: int) -> None:
        self._go(self.at + step)

    def action_page(self, step: int) -> None:
        self._go(self.at + step * max(self.size.height - 1, 1))

    def action_edge(self, index: int) -> None:
        self._go(index if index >= 0 else len(self.lines) - 1)

    def on_click(self, event: events.Click) -> None:
        self._go(event.y + self.scroll_offset.y)

    def _go(self, index: int) -> None:
        before, self.at = self.at, min(max(index, 0), max(len(self.lines) - 1, 0))
        for row in (before, self.at):
            self.repaint_row(row)
        top, height = self.scroll_offset.y, self.size.height
        if self.at < top:
            self.scroll_to(y=self.at, animate=False, immediate=True)
        elif self.at >= top + height:
            self.scroll_to(y=self.at - height + 1, animate=False, immediate=True)

    def base_style(self, index: int) -> Style:
        if self.has_focus and index == self.at:
            return self.get_component_rich_style("list--cursor")
        return self.rich_style
