"""A list with a cursor. The cursor belongs to a row's key, not to a position, and rows may change under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from screens.lines import Line, LineView

Compose = Callable[[str, int, bool], Line]
"""Makes a row's line from its key, the width and whether the cursor is on it."""


class PickList(LineView):
    """Rows to choose from. Posts `Moved` when the cursor comes to another key and `Picked` on enter or a click."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"list--cursor"}

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "edge(0)", show=False),
        Binding("end", "edge(-1)", show=False),
        Binding("enter", "pick", show=False),
    ]

    @dataclass
    class Moved(Message):
        picklist: PickList
        key: str

        @property
        def control(self) -> PickList:
            return self.picklist

    @dataclass
    class Picked(Message):
        picklist: PickList
        key: str

        @property
        def control(self) -> PickList:
            return self.picklist

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.keys: list[str] = []
        self.cursor = ""
        self._compose_row: Compose | None = None

    def show_rows(self, keys: Sequence[str], compose: Compose, *, lost: str = "") -> None:
        """Shows rows; the cursor stays on its key and on its line of the screen.

        When the key is gone the cursor goes to `lost`, or to what now stands where it was.
        """
        before = self.cursor_index
        offset = before - self.scroll_offset.y
        self.keys, self._compose_row = list(keys), compose
        if self.cursor not in self.keys and self.keys:
            gone_to = lost if lost in self.keys else self.keys[min(max(before, 0), len(self.keys) - 1)]
            self._set_cursor(gone_to)
        self.show(self.build_rows)
        moved = self.cursor_index - before
        if moved and before >= 0 and self.max_scroll_y:
            self.scroll_to(y=self.cursor_index - offset, animate=False, immediate=True)
        self._keep_in_view()

    def build_rows(self, width: int) -> list[Line]:
        """All rows for a width; `show(build_rows)` repaints those that look different now."""
        assert self._compose_row is not None
        return [self._compose_row(key, width, key == self.cursor) for key in self.keys]

    @property
    def cursor_index(self) -> int:
        """Where the cursor is; -1 in an empty list."""
        return self.keys.index(self.cursor) if self.cursor in self.keys else -1

    def move_to(self, key: str) -> None:
        """Puts the cursor on a row and scrolls just enough to see it."""
        if key not in self.keys or key == self.cursor:
            return
        before = self.cursor_index
        self._set_cursor(key)
        for index in (before, self.cursor_index):
            self._recompose(index)
        self._keep_in_view()

    def _set_cursor(self, key: str) -> None:
        self.cursor = key
        self.post_message(self.Moved(self, key))

    def _recompose(self, index: int) -> None:
        if self._compose_row is not None and 0 <= index < len(self.lines):
            key = self.keys[index]
            self.lines[index] = self._compose_row(key, self.line_width, key == self.cursor)
            self.repaint_row(index)

    def _keep_in_view(self) -> None:
        index, height = self.cursor_index, self.size.height
        if index < 0 or height <= 0:
            return
        self.virtual_size = Size(self.line_width, len(self.lines))
        top = self.scroll_offset.y
        if index < top:
            self.scroll_to(y=index, animate=False, immediate=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, immediate=True)

    def action_move(self, step: int) -> None:
        if self.keys:
            self.move_to(self.keys[min(max(self.cursor_index + step, 0), len(self.keys) - 1)])

    def action_page(self, step: int) -> None:
        self.action_move(step * max(self.size.height - 1, 1))

    def action_edge(self, index: int) -> None:
        if self.keys:
            self.move_to(self.keys[index])

    def action_pick(self) -> None:
        if self.cursor_index >= 0:
            self.post_message(self.Picked(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        index = event.y + self.scroll_offset.y
        if 0 <= index < len(self.keys):
            again = self.keys[index] == self.cursor
            self.move_to(self.keys[index])
            if again:
                self.action_pick()

    def on_resize(self, event: events.Resize) -> None:
        self._keep_in_view()

    def base_style(self, index: int) -> Style:
        if index == self.cursor_index:
            return self.get_component_rich_style("list--cursor")
        return self.rich_style
