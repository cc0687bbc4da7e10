"""All keys by screen, all marks with their meaning."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content

from dstui.model import Lang
from screens import words
from screens.base import HouseModal
from screens.keys import BY_ID, bindings
from screens.lines import BLANK, Line, LineView, line, paragraph
from screens.marks import EXPLAINED, RUNNING_WORD, SPINNER
from screens.plain import fit, wrap
from screens.tones import Tone

KEY_COLUMN = 14
LABEL_COLUMN = 18

CHAPTERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "checklist",
        (
            "run-this", "run-all", "run-failed", "open", "next-open", "previous-open", "filter", "search", "monitor",
            "ladder", "sign", "waive", "note", "fold", "fold-left", "unfold", "other-pane",
        ),
    ),
    ("everywhere", ("export", "language", "palette", "help", "back", "quit")),
    (
        "finding",
        (
            "tab-next", "tab-previous", "tab-1", "tab-2", "tab-3", "tab-4", "tab-5",
            "copy", "host", "fold", "other-pane", "run-this",
        ),
    ),
    ("host", ("search", "copy", "other-pane")),
    (
        "monitor",
        (
            "open", "trail", "pause", "quicker", "slower", "sort-grid", "filter", "search", "fold-alike", "record",
            "panel-1", "panel-2", "panel-3", "panel-4", "other-pane", "perish",
        ),
    ),
    (
        "ladder",
        (
            "run-ladder", "stop-ladder", "ladder-level", "ladder-pane", "ladder-users", "ladder-time", "ladder-detail",
        ),
    ),
    ("replay", ("seek-back", "seek-on", "seek-back-far", "seek-on-far")),
    ("form", ("submit", "back", "withdraw", "language-form")),
)  # fmt: skip


class HelpScreen(HouseModal[None]):
    """Opened with `?` from anywhere."""

    CSS_PATH = "help.tcss"
    AUTO_FOCUS = "#lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("back", "language"),
        *bindings("help", "quit"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield LineView(id="lines")

    def on_mount(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        dialog = self.query_one("#dialog")
        dialog.border_title = Content(words.HELP_TITLE[self.lang])
        dialog.border_subtitle = Content(words.CLOSE[self.lang])
        self.query_one("#lines", LineView).show(lambda width: help_lines(self.lang, width))

    def action_language(self) -> None:
        self.house.action_language()

    def action_back(self) -> None:
        self.dismiss(None)

    action_help = action_back
    action_quit = action_back


def help_lines(lang: Lang, width: int) -> list[Line]:
    """The whole help for a width."""
    lines: list[Line] = []
    for chapter, ids in CHAPTERS:
        lines.append(line((words.HELP_SCREENS[chapter][lang], Tone.HEADING)))
        if chapter == "checklist":
            lines.append(line((fit(words.MOVE[lang], KEY_COLUMN), Tone.ACCENT), words.MOVES[lang]))
        for name in ids:
            key = BY_ID[name]
            parts = wrap(key.tip[lang], max(width - KEY_COLUMN - LABEL_COLUMN, 16))
            lead = (fit(key.face[lang], KEY_COLUMN), Tone.ACCENT)
            lines.append(line(lead, (fit(key.label[lang], LABEL_COLUMN), Tone.STRONG), parts[0]))
            lines.extend(line(" " * (KEY_COLUMN + LABEL_COLUMN), part) for part in parts[1:])
        lines.append(BLANK)
    lines.append(line((words.HELP_MARKS[lang], Tone.HEADING)))
    for mark, meaning in EXPLAINED:
        parts = wrap(meaning[lang], max(width - KEY_COLUMN, 16))
        lines.append(line((fit(f"{mark.sign} {mark.word[lang]}", KEY_COLUMN), mark.tone), parts[0]))
        lines.extend(line(" " * KEY_COLUMN, part) for part in parts[1:])
    lines.append(line((fit(f"{SPINNER[0]} {RUNNING_WORD[lang]}", KEY_COLUMN), Tone.RUNNING)))
    lines.append(BLANK)
    lines.extend(paragraph(words.HELP_GATE[lang], width))
    return lines
