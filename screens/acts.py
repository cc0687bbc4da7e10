"""Signing, waiving, withdrawing a waiver and noting: what people add to a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType

from dstui.catalogue import SIGN_OFF_TTL, Check
from dstui.model import Target, Text, Verdict
from dstui.standing import CheckStatus
from screens import words
from screens.detail import said_of
from screens.form import Field, Form, Values
from screens.grouping import grouped, name_of
from screens.keys import bindings
from screens.lines import BLANK, Line, Piece, labelled, line, paragraph
from screens.marks import OF_VERDICT
from screens.plain import one_line
from screens.times import day, expiry, span
from screens.times import moment as at_moment
from screens.tones import Tone

if TYPE_CHECKING:
    from dstui.engine import Engine

LABEL = 14
SHOWN_GROUPS = 6


class ActForm(Form):
    """A form about one check."""

    def __init__(self, check: Check) -> None:
        super().__init__()
        self.check = check

    @property
    def status(self) -> CheckStatus:
        return self.moment.status(self.check.id)

    @property
    def opened(self) -> Engine:
        """The engine; these forms open only when there is one."""
        assert self.engine is not None
        return self.engine

    def subject(self, width: int) -> list[Line]:
        """The check and its verdict."""
        status, lang = self.status, self.lang
        mark = OF_VERDICT[status.verdict]
        lines: list[Line] = [line((f"{self.check.id} ", Tone.ACCENT))]
        lines.extend(paragraph(self.check.title[lang], width, Tone.STRONG))
        verdict: Piece = (f"{mark.sign} {mark.word[lang]}", mark.tone)
        lines.append((*labelled(words.VERDICT[lang], "", width, LABEL)[0], verdict))
        return lines


class SignForm(ActForm):
    """Shows what is signed and by whom; refuses with the engine's sentence."""

    TITLE_TEXT = words.SIGN_TITLE
    AUTO_FOCUS = "#field-role"

    def __init__(self, check: Check) -> None:
        super().__init__(check)
        self._refusal: Text | None = None
        self._asked = False

    @property
    def refusal(self) -> Text | None:
        """Why it cannot be signed, asked once when the form opens; the engine asks again before it records."""
        if not self._asked:
            self._refusal, self._asked = self.opened.sign_refusal(self.check.id), True
        return self._refusal

    @property
    def blocked(self) -> bool:
        return self.refusal is not None

    def fields(self) -> tuple[Field, ...]:
        me = self.opened.identity
        return (
            Field("person", words.FIELD_PERSON, value=me.person, fixed=not me.changeable),
            Field("role", words.FIELD_ROLE, words.HINT_ROLE),
            Field("note", words.FIELD_NOTE, words.HINT_NOTE),
            Field("link", words.FIELD_LINK, words.HINT_LINK),
        )

    def intro(self, width: int) -> list[Line]:
        lang, status, engine = self.lang, self.status, self.opened
        lines = self.subject(width)
        for group in grouped(status.findings)[:SHOWN_GROUPS]:
            mark = OF_VERDICT[group.first.verdict]
            text = f"{mark.sign} {name_of(group, lang)}{words.COLON[lang]}{one_line(said_of(group.first, lang))}"
            lines.extend(labelled("", text, width, LABEL, mark.tone if mark.tone is not Tone.PASS else Tone.PLAIN))
        lines.extend(labelled(words.EVIDENCE_HASH[lang], self._evidence(), width, LABEL))
        lines.append(BLANK)
        if (why := self.refusal) is not None:
            lines.extend(paragraph(words.CANNOT_SIGN[lang].format(why=why[lang].rstrip(".。")), width, Tone.FAIL))
            return lines
        me = engine.identity
        source = words.SOURCES[me.source][lang] if me.source in words.SOURCES else one_line(me.source)
        who = words.SIGNS_FOR_OTHERS if me.changeable else words.SIGNS_AS
        lines.extend(paragraph(who[lang].format(person=one_line(me.person), source=source), width, Tone.DIM))
        lines.extend(paragraph(words.SIGN_BINDS[lang].format(days=f"{SIGN_OFF_TTL / 86_400:.0f}"), width, Tone.DIM))
        lines.extend(self._second(width))
        return lines

    def _evidence(self) -> str:
        lang, status = self.lang, self.status
        digest = self.opened.state.material_hash(self.check.id)[:12]
        seen = status.observed_at
        if seen is None:
            return words.EVIDENCE_NONE[lang].format(hash=digest)
        count = words.TARGETS.of(len(status.findings), lang)
        return words.EVIDENCE_LINE[lang].format(pieces=count, hash=digest, age=span(self.moment.now - seen))

    def _second(self, width: int) -> list[Line]:
        """Whether a second person has to sign."""
        lang, status = self.lang, self.status
        if status.wants_second:
            people = ", ".join(one_line(given.person) for given in status.signatures)
            return paragraph(words.SECOND_NEEDED[lang].format(person=people), width, Tone.WARN)
        if self.check.id in self.opened.two_people:
            return paragraph(words.SECOND_WILL_BE[lang], width, Tone.WARN)
        return []

    def complaint(self, values: Values) -> Text | None:
        if not values["person"].strip():
            return words.NEED_PERSON
        if self.status.verdict is Verdict.NOT_RUN and not values["note"].strip() and not values["link"].strip():
            return words.NEED_BASIS
        return None

    async def record(self, values: Values) -> str:
        event = await self.opened.sign(
            self.check.id,
            person=values["person"].strip(),
            role=values["role"].strip(),
            note=values["note"].strip(),
            link=values["link"].strip(),
        )
        person = one_line(values["person"])
        return words.RECORDED_SIGN[self.lang].format(seq=event.seq, person=person, check=self.check.id)


class WaiveForm(ActForm):
    """Approver, reason, ticket and expiry; an open waiver is shown and can be withdrawn."""

    TITLE_TEXT = words.WAIVE_TITLE
    BINDINGS: ClassVar[list[BindingType]] = bindings("withdraw")

    def fields(self) -> tuple[Field, ...]:
        return (
            Field("approver", words.FIELD_APPROVER, words.HINT_APPROVER),
            Field("reason", words.FIELD_REASON, words.HINT_REASON),
            Field("ticket", words.FIELD_TICKET, words.HINT_TICKET),
            Field("expires", words.FIELD_EXPIRES, words.HINT_EXPIRES),
        )

    def intro(self, width: int) -> list[Line]:
        lang, lines = self.lang, self.subject(width)
        if (waiver := self.status.waiver) is not None:
            text = words.WAIVER_LINE[lang].format(
                approver=one_line(waiver.approver),
                reason=one_line(waiver.reason),
                until=day(waiver.expires_at),
                person=one_line(waiver.person),
                ticket=f" · {one_line(waiver.ticket)}" if waiver.ticket else "",
                seq=waiver.seq,
            )
            lines.extend(paragraph(f"{words.WAIVER_OPEN[lang]} {text}", width, Tone.WARN))
        lines.extend(paragraph(words.WAIVER_KEEPS[lang], width, Tone.DIM))
        return lines

    def extra_keys(self) -> tuple[str, ...]:
        return ("withdraw",) if self.status.waiver is not None else ()

    def complaint(self, values: Values) -> Text | None:
        if not values["approver"].strip():
            return words.NEED_APPROVER
        if len(values["reason"].strip()) < 3:
            return words.NEED_REASON
        ends = expiry(values["expires"], self.opened.clock())
        return ends if isinstance(ends, Text) else None

    async def record(self, values: Values) -> str:
        ends = expiry(values["expires"], self.opened.clock())
        assert not isinstance(ends, Text)
        event = await self.opened.waive(
            self.check.id,
            approver=values["approver"].strip(),
            reason=values["reason"].strip(),
            ticket=values["ticket"].strip(),
            expires_at=ends,
        )
        ends_at = at_moment(ends, self.moment.now, self.lang)
        return words.RECORDED_WAIVER[self.lang].format(seq=event.seq, check=self.check.id, day=ends_at)

    def action_withdraw(self) -> None:
        if self.status.waiver is not None and not self.saving:
            self.begin(self._withdraw, self.values())

    async def _withdraw(self, values: Values) -> str:
        event = await self.opened.withdraw_waiver(self.check.id, reason=values["reason"].strip())
        return words.RECORDED_WITHDRAWN[self.lang].format(seq=event.seq, check=self.check.id)


class NoteForm(ActForm):
    """A remark on a check, or on one target of it."""

    TITLE_TEXT = words.NOTE_TITLE

    def __init__(self, check: Check, target: Target | None) -> None:
        super().__init__(check)
        self.target = target

    def fields(self) -> tuple[Field, ...]:
        return (Field("text", words.FIELD_TEXT, words.HINT_TEXT),)

    def intro(self, width: int) -> list[Line]:
        lang = self.lang
        if self.target is None:
            return paragraph(words.NOTE_ON_CHECK[lang].format(check=self.check.id), width)
        about = words.NOTE_ON_TARGET[lang].format(target=one_line(self.target.name), check=self.check.id)
        return paragraph(about, width)

    def complaint(self, values: Values) -> Text | None:
        return None if values["text"].strip() else words.NEED_TEXT

    async def record(self, values: Values) -> str:
        event = await self.opened.note(self.check.id, target=self.target, text=values["text"].strip())
        return words.RECORDED_NOTE[self.lang].format(seq=event.seq, check=self.check.id)


def form_for(name: str, check: Check, target_key: str = "") -> ActForm:
    """The form called `sign`, `waive` or `note`."""
    if name == "sign":
        return SignForm(check)
    if name == "waive":
        return WaiveForm(check)
    return NoteForm(check, Target.parse(target_key) if target_key else None)
