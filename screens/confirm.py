"""Questions before something that cannot be taken back: leaving while a run is under way, probing that makes load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from dstui.catalogue import Check
from dstui.model import Lang, Text
from dstui.progress import Progress
from screens import words
from screens.base import HouseModal
from screens.lines import BLANK, Block, Line, line, paragraph
from screens.tones import Tone

Answers = tuple[tuple[str, str, Text], ...]
"""Key, answer, label."""


class Question(HouseModal[str]):
    """Asks; dismisses with the answer. Escape and `n` answer `no`, enter answers nothing by accident."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('yes')", show=False),
        Binding("n,escape", "answer('no')", show=False),
        Binding("x", "answer('stop')", show=False),
    ]

    def __init__(self, title: Text, body: Callable[[int, Lang], list[Line]], answers: Answers) -> None:
        super().__init__()
        self.question = title
        self.body = body
        self.answers = answers

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Block(id="body")

    def on_mount(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        self.query_one("#dialog").border_title = Content(self.question[self.lang])
        self.query_one("#body", Block).show(self._lines)

    def _lines(self, width: int) -> list[Line]:
        lines = [*self.body(width, self.lang), BLANK]
        for key, _, label in self.answers:
            lines.append(line((f"{key:<4}", Tone.ACCENT), label[self.lang]))
        return lines

    def action_answer(self, answer: str) -> None:
        if answer == "no" or any(answer == known for _, known, _ in self.answers):
            self.dismiss(answer)


def confirm_quit(progress: Progress) -> Question:
    """Leave although a run is under way?"""
    run = (progress.run, progress.done, progress.total)

    def body(width: int, lang: Lang) -> list[Line]:
        return paragraph(words.QUIT_ASK[lang].format(run=run[0], done=run[1], total=run[2]), width)

    answers = (("y", "yes", words.QUIT_YES), ("x", "stop", words.QUIT_STOP), ("n", "no", words.QUIT_NO))
    return Question(words.QUIT_TITLE, body, answers)


def confirm_risk(checks: Sequence[Check], *, others: bool) -> Question:
    """Run checks that make load or stop something? `others` is whether there is more to run, which `x` does alone."""

    def body(width: int, lang: Lang) -> list[Line]:
        lines = paragraph(words.RISK_ASK[lang], width)
        for check in checks:
            kind = check.on_request or check.side_effect
            lines.extend(paragraph(f"{check.id}: {words.SIDE_EFFECTS[kind][lang]}", width, Tone.WARN, 2))
        return lines

    rest = (("x", "stop", words.RISK_REST),) if others else ()
    return Question(words.RISK_TITLE, body, (("y", "yes", words.RISK_YES), *rest, ("n", "no", words.RISK_NO)))
