"""Everything known of one host: its session, its findings over all checks, every raw answer by key."""

from __future__ import annotations

import json
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content

from dstui.facts.case import HostFacts, HostSite, Session
from dstui.facts.raw import Answer
from dstui.model import Finding, Text, host_target
from screens import words
from screens.base import BREAKPOINTS, HouseScreen
from screens.detail import VERDICT_COLUMN, said_of, without_name
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import BLANK, Bar, Line, Piece, cropped, labelled, line, paragraph, spread
from screens.marks import OF_VERDICT
from screens.picklist import PickList
from screens.plain import fit, one_line, wrap
from screens.readpane import ReadPane
from screens.search import SearchLine
from screens.telling import ending, output_lines, source_lines, was_run
from screens.times import size, span
from screens.tones import Tone

LABEL = 14
SESSION, FINDINGS = "session", "findings"
SHOWN_CHARACTERS = 65_536


class HostScreen(HouseScreen):
    """Opened with `g` on a finding. `/` searches keys and answers."""

    CSS_PATH = "host.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#keys"
    FOOTER = ("back", "search", "copy", "other-pane", "run-all", "language", "help")

    BINDINGS: ClassVar[list[BindingType]] = bindings("back", "search", "copy", "other-pane")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.host_name = name
        self.query_text = ""
        self._shown = ""
        self._found: dict[str, Answer] = {}

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        with Container(id="panes"):
            yield PickList(id="keys", classes="pane")
            yield ReadPane(id="tab", classes="pane")
        yield KeyBar()
        yield SearchLine()

    @property
    def key_list(self) -> PickList:
        return self.query_one("#keys", PickList)

    @property
    def pane(self) -> ReadPane:
        return self.query_one("#tab", ReadPane)

    @property
    def facts(self) -> HostFacts | None:
        return self.engine.host_facts(self.host_name) if self.engine is not None else None

    @property
    def place(self) -> HostSite | None:
        """The host as the inventory has it."""
        hosts = self.engine.site.hosts if self.engine is not None else ()
        return next((host for host in hosts if host.name == self.host_name), None)

    def findings(self) -> list[Finding]:
        """This host's findings over all checks, in document order."""
        wanted = host_target(self.host_name)
        return [f for s in self.moment.checklist.statuses.values() for f in s.findings if f.target == wanted]

    def answers(self) -> dict[str, Answer]:
        """Raw answers by key, those that match the search."""
        facts = self.facts
        if facts is None:
            return {}
        found = dict(sorted(facts.raw.answers.items()))
        query = self.query_text.casefold()
        if not query:
            return found
        return {k: a for k, a in found.items() if query in k.casefold() or query in _content(a).casefold()}

    # Painting

    def repaint(self) -> None:
        self._found = self.answers()
        self.query_one("#top", Bar).show(lambda width: [self._top_line(width)])
        self.key_list.border_title = Content(self._keys_title())
        self.key_list.show_rows([SESSION, FINDINGS, *self._found], self._key_line)
        self._show_tab()

    def _keys_title(self) -> str:
        title = words.RAW_ANSWERS[self.lang]
        if not self.query_text:
            return title
        total = len(self.facts.raw.answers) if self.facts else 0
        found = words.FOUND[self.lang].format(count=len(self._found), total=total)
        return f"{title} · /{self.query_text} · {found}"

    def _top_line(self, width: int) -> Line:
        pieces: list[Piece] = [(f" {one_line(self.host_name)} ", Tone.ACCENT)]
        if (place := self.place) is not None:
            roles = ", ".join(sorted(place.roles))
            pieces.append((f" {roles} · {place.address} · {place.user}", Tone.PLAIN))
        count = words.ANSWERS.of(len(self.facts.raw.answers), self.lang) if self.facts else ""
        return spread(tuple(pieces), ((f"{count} ", Tone.DIM),), width)

    def _key_line(self, key: str, width: int, at_cursor: bool) -> Line:
        sign: Piece = ("› " if at_cursor else "  ", Tone.ACCENT)
        if key == SESSION:
            return cropped(line(sign, (words.SESSION[self.lang], Tone.STRONG)), width)
        if key == FINDINGS:
            count: Piece = (f"{len(self.findings())} ", Tone.DIM)
            return spread(line(sign, (words.FINDINGS[self.lang], Tone.STRONG)), (count,), width)
        answer = self._found.get(key)
        if answer is None:
            return cropped((sign,), width)
        if answer.missing is not None:
            tail: Piece = (f" {words.REASONS[answer.missing.reason][self.lang]} ", Tone.UNKNOWN)
        else:
            tail = (f" {size(answer.output_bytes or len(_content(answer)))} ", Tone.DIM)
        return spread(line(sign, one_line(key)), (tail,), width)

    def _show_tab(self) -> None:
        key = self.key_list.cursor
        self.pane.border_title = Content(self._title(key))
        self.pane.show(self._tab_lines, top=key != self._shown)
        self._shown = key

    def _title(self, key: str) -> str:
        named: dict[str, Text] = {SESSION: words.SESSION, FINDINGS: words.FINDINGS}
        return named[key][self.lang] if key in named else one_line(key)

    def _tab_lines(self, width: int) -> list[Line]:
        key = self.key_list.cursor
        if key == FINDINGS:
            return self._finding_lines(width)
        facts = self.facts
        if facts is None:
            return paragraph(words.HOST_NOTHING[self.lang].format(host=self.host_name), width, Tone.ACCENT)
        if facts.unreachable is not None:
            why = without_name(one_line(facts.unreachable.why), self.host_name)
            text = words.HOST_UNREACHABLE[self.lang].format(host=self.host_name, why=why)
            return paragraph(f"✗ {text}", width, Tone.FAIL)
        if key == SESSION:
            return self._session_lines(facts.session, width)
        answer = self._found.get(key)
        if answer is None:
            return paragraph(words.NO_MATCH[self.lang], width, Tone.ACCENT)
        return self._answer_lines(answer, width)

    def _session_lines(self, session: Session | None, width: int) -> list[Line]:
        if session is None:
            return paragraph(words.HOST_NOTHING[self.lang].format(host=self.host_name), width, Tone.ACCENT)
        lang = self.lang
        key = " ".join(
            part
            for part in (
                session.key_type or "",
                f"{session.key_bits} bit" if session.key_bits else "",
                session.key_fingerprint or "",
            )
            if part
        )
        rows = (
            (words.USER, session.user),
            (words.AUTH, session.auth or "-"),
            (words.CLIENT_KEY, key or "-"),
            (words.HOST_KEY, session.host_key_fingerprint or "-"),
            (words.FROM, session.controller_ip or "-"),
            (words.VIA_JUMP, (words.YES if session.via_jump else words.NO)[lang]),
            (words.AS_ROOT, words.ROOT_ATTEMPTS.get(session.root_attempt, Text(session.root_attempt, ""))[lang]),
        )
        lines: list[Line] = []
        for label, value in rows:
            lines.extend(labelled(label[lang], one_line(value), width, LABEL))
        return lines

    def _finding_lines(self, width: int) -> list[Line]:
        found = self.findings()
        if not found:
            text = words.HOST_NO_FINDINGS[self.lang].format(host=self.host_name)
            return paragraph(text, width, Tone.ACCENT)
        lines: list[Line] = []
        column = min(max(len(f.check_id) for f in found) + 2, 26)
        for finding in found:
            mark = OF_VERDICT[finding.verdict]
            left = column + VERDICT_COLUMN
            parts = wrap(one_line(said_of(finding, self.lang)), max(width - left, 16))
            sign: Piece = (fit(f"{mark.sign} {mark.word[self.lang]}", VERDICT_COLUMN), mark.tone)
            lines.append(line(fit(finding.check_id, column), sign, parts[0]))
            lines.extend(line(" " * left, part) for part in parts[1:])
        return lines

    def _answer_lines(self, answer: Answer, width: int) -> list[Line]:
        lang = self.lang
        lines = source_lines(answer.source, ran=was_run(answer), width=width)
        if answer.missing is not None:
            reason = words.REASONS[answer.missing.reason][lang]
            text = words.MISSING[lang].format(reason=reason, why=one_line(answer.missing.why))
            return [*lines, BLANK, *paragraph(text, width, Tone.UNKNOWN)]
        content = _content(answer)
        total = answer.output_bytes or len(content)
        lines.append(line((f"{ending(answer, lang)} · {span(answer.seconds)} · {size(total)}", Tone.DIM)))
        lines.append(BLANK)
        lines.extend(output_lines(content[:SHOWN_CHARACTERS], lang, width))
        if answer.error:
            lines.append(line((words.ERROR_OUTPUT[lang], Tone.HEADING)))
            lines.extend(output_lines(answer.error, lang, width, Tone.WARN))
        return lines

    # Acting

    @on(PickList.Moved, "#keys")
    def _moved(self) -> None:
        self._show_tab()

    @on(PickList.Picked, "#keys")
    def action_other_pane(self) -> None:
        (self.key_list if self.pane.has_focus else self.pane).focus()

    def action_copy(self) -> None:
        answer = self._found.get(self.key_list.cursor)
        if answer is None:
            self.house.tell(words.NOTHING_TO_COPY[self.lang], severity="warning")
            return
        source = one_line(answer.source)
        self.house.copy_to_clipboard(source)
        self.house.tell(words.COPIED[self.lang].format(what=source))

    def action_search(self) -> None:
        self.query_one(SearchLine).open(words.SEARCH_HOST[self.lang])

    @on(SearchLine.Sought)
    def _sought(self, event: SearchLine.Sought) -> None:
        self.query_text = event.query.strip()
        self.repaint()
        if self.query_text and len(self.key_list.keys) > 2:
            self.key_list.move_to(self.key_list.keys[2])

    @on(SearchLine.Done)
    def _search_done(self) -> None:
        self.key_list.focus()

    def action_back(self) -> None:
        if self.query_text:
            self.query_one(SearchLine).value = ""
        else:
            self.app.pop_screen()


def _content(answer: Answer) -> str:
    """An answer as text: what came back, or its structured value as indented JSON."""
    if answer.value is None:
        return answer.output
    return json.dumps(answer.value, ensure_ascii=False, indent=1, default=str)
