"""The search line: opens on `/`, filters while one types, enter keeps the filter, esc clears it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class SearchLine(Input):
    """An Input over the footer. Hidden until `open`; posts `Sought` on every change and `Done` when it closes."""

    DEFAULT_CSS = """
    SearchLine { dock: bottom; display: none; }
    SearchLine.-open { display: block; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", show=False),
        Binding("down,up,tab", "keep", show=False),
    ]

    @dataclass
    class Sought(Message):
        query: str

    @dataclass
    class Done(Message):
        kept: bool

    def __init__(self) -> None:
        super().__init__(compact=True, select_on_focus=True)

    def open(self, prompt: str) -> None:
        self.placeholder = prompt
        self.add_class("-open")
        self.focus()

    def close(self, *, kept: bool) -> None:
        self.remove_class("-open")
        if not kept:
            self.value = ""
        self.post_message(self.Done(kept))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Sought(event.value))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.close(kept=True)

    def action_keep(self) -> None:
        self.close(kept=True)

    def action_give_up(self) -> None:
        self.close(kept=False)
