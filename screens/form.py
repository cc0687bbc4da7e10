"""What the forms share: fields, a sentence when something is wrong, and "recorded as #1042" after the commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Label

from dstui.model import DstuiError, Lang, Text
from screens import words
from screens.base import HouseModal
from screens.keybar import keys_line
from screens.keys import bindings
from screens.lines import Bar, Block, Line, Piece, cropped, paragraph
from screens.tones import Tone

Values = Mapping[str, str]
Recording = Callable[[Values], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Field:
    """One line to fill in. With `choices` it is switched with space instead of typed; `fixed` cannot be changed."""

    id: str
    label: Text
    hint: Text | None = None
    value: str = ""
    fixed: bool = False
    choices: tuple[tuple[str, Text], ...] = ()


class Choice(Bar, can_focus=True):
    """A field with few values: space or the arrows change it."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,right", "change(1)", show=False),
        Binding("left", "change(-1)", show=False),
    ]

    @dataclass
    class Changed(Message):
        choice: Choice
        value: str

    def __init__(self, choices: Sequence[tuple[str, Text]], value: str, *, id: str) -> None:
        super().__init__(id=id)
        self.choices = tuple(choices)
        self.value = value

    def label(self, lang: Lang) -> None:
        """Shows the choices in a language."""
        self.show(lambda width: [cropped(self._pieces(lang), width)])

    def _pieces(self, lang: Lang) -> Line:
        pieces: list[Piece] = []
        for value, name in self.choices:
            chosen = value == self.value
            sign = "(x)" if chosen else "( )"
            tone = Tone.DIM
            if chosen:
                tone = Tone.ACCENT if self.has_focus else Tone.PLAIN
            pieces.append((f"{sign} {name[lang]}   ", tone))
        if self.has_focus:
            pieces.append((words.CHOICE_HINT[lang], Tone.DIM))
        return tuple(pieces)

    def action_change(self, step: int) -> None:
        values = [value for value, _ in self.choices]
        self.value = values[(values.index(self.value) + step) % len(values)]
        self.post_message(self.Changed(self, self.value))

    def on_click(self) -> None:
        self.action_change(1)


class Form(HouseModal[None]):
    """A dialog that records one act. Subclasses say which fields, what is wrong with them, and how to record."""

    TITLE_TEXT: ClassVar[Text]
    CSS_PATH = "form.tcss"
    AUTO_FOCUS = "Input:enabled, Choice"

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("back", "submit", "language-form"),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
        # With priority the focus has moved before the next key is given out; fast typing stays in its field.
        Binding("enter", "enter_field", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.saving = False
        self.complaint_shown: Text | str | None = None

    def fields(self) -> tuple[Field, ...]:
        raise NotImplementedError

    def intro(self, width: int) -> list[Line]:
        """What the act is about, above the fields."""
        raise NotImplementedError

    def complaint(self, values: Values) -> Text | None:
        """What is wrong with the fields, in a sentence."""
        raise NotImplementedError

    async def record(self, values: Values) -> str:
        """Records the act and returns what to tell. Raises DstuiError."""
        raise NotImplementedError

    @property
    def blocked(self) -> bool:
        """True when there is nothing to fill in, only to read."""
        return False

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Block(id="intro")
            if not self.blocked:
                for field in self.fields():
                    with Horizontal(classes="field"):
                        yield Label(id=f"label-{field.id}", markup=False)
                        yield _widget(field)
            yield Block(id="complaint")
            yield Bar(id="hints")

    def on_mount(self) -> None:
        self.relabel()

    def relabel(self) -> None:
        lang = self.lang
        self.query_one("#dialog").border_title = Content(self.TITLE_TEXT[lang])
        if not self.blocked:
            for field in self.fields():
                self.query_one(f"#label-{field.id}", Label).update(Content(field.label[lang]))
                for entry in self.query(f"#field-{field.id}").results(Input):
                    entry.placeholder = field.hint[lang] if field.hint else ""
        for choice in self.query(Choice):
            choice.label(lang)
        self.query_one("#intro", Block).show(self.intro)
        self._hint()
        self._say(self.complaint_shown)

    def repaint(self) -> None:
        self.query_one("#intro", Block).show(self.intro)

    def _hint(self) -> None:
        ids = ("back", "language-form") if self.blocked else ("submit", "back", *self.extra_keys(), "language-form")
        self.query_one("#hints", Bar).show(lambda width: [keys_line(ids, self.lang, width)[0]])

    def extra_keys(self) -> tuple[str, ...]:
        """Further keys of this form, for its last line."""
        return ()

    def values(self) -> Values:
        """What is in the fields now."""
        found = {e.id.removeprefix("field-"): e.value for e in self.query(Input) if e.id}
        found.update({c.id.removeprefix("field-"): c.value for c in self.query(Choice) if c.id})
        return found

    def _say(self, sentence: Text | str | None, tone: Tone = Tone.FAIL) -> None:
        """Shows what is wrong, in the reader's language where there are two."""
        self.complaint_shown = sentence
        text = sentence[self.lang] if isinstance(sentence, Text) else sentence or ""
        self.query_one("#complaint", Block).show(lambda width: paragraph(text, width, tone) if text else [])

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    @on(Choice.Changed)
    def _choice_looks(self) -> None:
        for choice in self.query(Choice):
            choice.label(self.lang)

    def action_enter_field(self) -> None:
        """Enter goes on to the next field, and records from the last one."""
        entries = [w for w in self.query("Input, Choice") if w.focusable]
        if entries and entries[-1] is self.focused:
            self.action_submit()
        else:
            self.focus_next()

    def action_submit(self) -> None:
        if self.saving or self.blocked:
            return
        values = self.values()
        if (wrong := self.complaint(values)) is not None:
            self._say(wrong)
            return
        self.begin(self.record, values)

    def begin(self, act: Recording, values: Values) -> None:
        """Runs an act outside this dialog, so that closing it cannot cut a commit short."""
        self.saving = True
        self._say(words.SAVING, Tone.DIM)
        self.house.run_worker(self._save(act, values), name="record", exit_on_error=False)

    async def _save(self, act: Recording, values: Values) -> None:
        try:
            told = await act(values)
        except DstuiError as error:
            self._say(str(error))
            return
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            self._say(words.WENT_WRONG[self.lang].format(what=self.TITLE_TEXT[self.lang], why=why))
            return
        finally:
            self.saving = False
        self.house.tell(told)
        self.dismiss(None)

    def action_back(self) -> None:
        if not self.saving:
            self.dismiss(None)

    def action_language_form(self) -> None:
        self.house.action_language()


def _widget(field: Field) -> Widget:
    if field.choices:
        return Choice(field.choices, field.value, id=f"field-{field.id}")
    return Input(field.value, id=f"field-{field.id}", compact=True, disabled=field.fixed, select_on_focus=False)
