"""One check opened: its targets with outliers first, and for the chosen one five tabs of everything known."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content

from dstui.catalogue import Check, Guidance
from dstui.model import CatalogueError, Finding, TargetKind, Text
from screens import words
from screens.base import BREAKPOINTS, HouseScreen
from screens.detail import brief_thresholds, nothing_yet, thresholds_of, verdict_line
from screens.grouping import Group, counted, grouped, ranges
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line, Piece, cropped, line, paragraph, spread
from screens.marks import OF_VERDICT, RUNNING_WORD, mark_of
from screens.outline import tail_of
from screens.picklist import PickList
from screens.plain import one_line, shorten
from screens.readpane import ReadPane
from screens.telling import command_lines, fact_lines, observed_lines, rule_lines, timeline_lines
from screens.tones import Tone

TABS: tuple[Text, ...] = (
    words.TAB_OBSERVED,
    words.TAB_COMMANDS,
    words.TAB_FACTS,
    words.TAB_HISTORY,
    words.TAB_RULE,
)
OBSERVED, COMMANDS, FACTS, HISTORY, RULE = range(5)


class FindingScreen(HouseScreen):
    """Opened with enter on a check. `y` copies the command, `g` goes to the host."""

    CSS_PATH = "finding.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#targets"
    FOOTER = (
        "back", "run-this", "tab-next", "copy", "host", "other-pane", "next-open",
        "sign", "waive", "note", "fold", "help",
    )  # fmt: skip

    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "back", "run-this", "copy", "host", "other-pane", "next-open", "previous-open", "sign", "waive", "note", "fold",
        "tab-next", "tab-previous", "tab-1", "tab-2", "tab-3", "tab-4", "tab-5",
    )  # fmt: skip

    def __init__(self, check_id: str) -> None:
        super().__init__()
        self.check_id = check_id
        self.tab = OBSERVED
        self.unfolded: set[str] = set()
        self._groups: list[Group] = []
        self._shown: tuple[str, str, int] = ("", "", -1)

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        with Container(id="panes"):
            yield PickList(id="targets", classes="pane")
            with Vertical(id="told"):
                yield Bar(id="tabs")
                yield ReadPane(id="tab", classes="pane")
        yield KeyBar()

    @property
    def check(self) -> Check:
        return self.moment.catalogue.check(self.check_id)

    @property
    def target_list(self) -> PickList:
        return self.query_one("#targets", PickList)

    @property
    def pane(self) -> ReadPane:
        return self.query_one("#tab", ReadPane)

    def chosen(self) -> tuple[Group, Finding] | None:
        """The group and the finding under the cursor; None before the first run."""
        cursor = self.target_list.cursor
        for group in self._groups:
            if cursor == _group_key(group):
                return group, group.first
            for finding in group.findings:
                if cursor == finding.target.key:
                    return Group((finding,)), finding
        return None

    # Painting

    def repaint(self) -> None:
        status = self.moment.status(self.check_id)
        self._groups = grouped(status.findings)
        self.query_one("#top", Bar).show(self._top_lines)
        self.query_one("#tabs", Bar).show(lambda width: [self._tab_line(width)])
        self.target_list.border_title = Content(words.TARGET_LIST[self.lang])
        self.target_list.show_rows(self._keys(), self._target_line)
        self._show_tab()

    def spin(self) -> None:
        self.query_one("#top", Bar).show(self._top_lines)

    def _keys(self) -> list[str]:
        keys = []
        for group in self._groups:
            keys.append(_group_key(group))
            if len(group.findings) > 1 and _group_key(group) in self.unfolded:
                keys.extend(finding.target.key for finding in group.findings)
        return keys

    def _top_lines(self, width: int) -> list[Line]:
        status, lang = self.moment.status(self.check_id), self.lang
        check, mark = status.check, mark_of(status)
        verdict = OF_VERDICT[status.verdict]
        pieces: list[Piece] = [(" ", Tone.PLAIN), *verdict_line(status, lang)]
        if mark is not verdict:
            pieces.append((f"  {mark.sign} {mark.word[lang]} ", mark.tone))
        if (running := self.moment.running(check.id)) is not None:
            text = f"  {self.moment.spinner} {RUNNING_WORD[lang]} {tail_of(status, self.moment)[0]}"
            waits = words.WAITS_FOR[lang].format(what=one_line(running.waiting_for))
            pieces.append((f"{text} · {waits}" if running.waiting_for else text, Tone.RUNNING))
        title = line((f" {check.id} ", Tone.ACCENT), (f" {check.title[lang]}", Tone.STRONG))
        thresholds = brief_thresholds(thresholds_of(status), lang)
        return [
            cropped(title, width),
            cropped(tuple(pieces), width),
            line((f" {shorten(thresholds, width - 2)}", Tone.DIM)),
        ]

    def _tab_line(self, width: int) -> Line:
        pieces: list[Piece] = []
        for index, name in enumerate(TABS):
            here = index == self.tab
            pieces.append((f" {index + 1} {name[self.lang]} ", Tone.CHOSEN if here else Tone.DIM))
        return cropped(tuple(pieces), width)

    def _target_line(self, key: str, width: int, at_cursor: bool) -> Line:
        sign: Piece = ("› " if at_cursor else "  ", Tone.ACCENT)
        for group in self._groups:
            mark = OF_VERDICT[group.first.verdict]
            if key == _group_key(group):
                fold = ""
                if len(group.findings) > 1:
                    fold = "▾ " if key in self.unfolded else "▸ "
                several = f" {counted(group, self.lang)}" if fold else ""
                lead = line(sign, (f"{mark.sign} ", mark.tone), (fold, Tone.DIM), ranges(group.names))
                return spread(lead, ((several, Tone.DIM),), width)
            for finding in group.findings:
                if key == finding.target.key:
                    lead = line(sign, (f"    {mark.sign} ", mark.tone), one_line(finding.target.name))
                    return cropped(lead, width)
        return cropped((sign,), width)

    def _show_tab(self) -> None:
        chosen = self.chosen()
        now = (chosen[1].target.key if chosen else "", self.target_list.cursor, self.tab)
        self.pane.show(self._tab_lines, top=now != self._shown)
        self._shown = now

    def _tab_lines(self, width: int) -> list[Line]:
        chosen, lang = self.chosen(), self.lang
        if self.tab == HISTORY:
            state = self.engine.state if self.engine else None
            given = state.attestations.get(self.check_id, []) if state else []
            waived = state.waivers.get(self.check_id, []) if state else []
            notes = state.notes.get(self.check_id, []) if state else []
            return timeline_lines(self.check, self.moment, given, waived, notes, width)
        if self.tab == RULE:
            return rule_lines(chosen[1] if chosen else None, self.check, self._guidance(), lang, width)
        if chosen is None:
            status = self.moment.status(self.check_id)
            return paragraph(nothing_yet(status, self.moment), width, Tone.ACCENT)
        group, finding = chosen
        if self.tab == COMMANDS:
            return [row for row, _ in command_lines(finding.evidence, lang, width)]
        if self.tab == FACTS:
            host = self._host_of(finding)
            facts = self.engine.host_facts(host) if self.engine and host else None
            return fact_lines(host, facts, [e.key.rpartition("/")[2] for e in finding.evidence], lang, width)
        return observed_lines(group, finding, self.moment, width)

    def _guidance(self) -> Guidance | None:
        try:
            return self.moment.catalogue.guidance(self.check_id)
        except CatalogueError as error:
            self.house.tell_once(str(error))
            return None

    def _host_of(self, finding: Finding) -> str | None:
        """The host a finding is about: of a pair, the one it was looked at from."""
        if finding.target.kind is TargetKind.HOST:
            return finding.target.name
        if finding.target.kind is TargetKind.PAIR:
            return finding.target.name.partition(">")[0]
        return None

    # Acting

    @on(PickList.Moved, "#targets")
    def _moved(self) -> None:
        self._show_tab()

    @on(PickList.Picked, "#targets")
    def action_fold(self) -> None:
        key = self.target_list.cursor
        if key.startswith("group:"):
            self.unfolded ^= {key}
            self.repaint()

    def action_go_tab(self, tab: int) -> None:
        self.tab = tab % len(TABS)
        self.query_one("#tabs", Bar).show(lambda width: [self._tab_line(width)])
        self._show_tab()

    def action_tab_next(self) -> None:
        self.action_go_tab(self.tab + 1)

    def action_tab_previous(self) -> None:
        self.action_go_tab(self.tab - 1)

    def action_other_pane(self) -> None:
        (self.target_list if self.pane.has_focus else self.pane).focus()

    def action_copy(self) -> None:
        """Copies the command of the line under the cursor, or the first one."""
        chosen = self.chosen()
        source = ""
        if chosen is not None and chosen[1].evidence:
            source = chosen[1].evidence[0].source
            if self.tab == COMMANDS:
                told = command_lines(chosen[1].evidence, self.lang, self.pane.line_width)
                source = told[min(self.pane.at, len(told) - 1)][1]
        if not source:
            self.house.tell(words.NOTHING_TO_COPY[self.lang], severity="warning")
            return
        source = one_line(source)
        self.house.copy_to_clipboard(source)
        self.house.tell(words.COPIED[self.lang].format(what=source))

    def action_host(self) -> None:
        chosen = self.chosen()
        host = self._host_of(chosen[1]) if chosen else None
        if host is None:
            self.house.tell(words.NO_HOST_HERE[self.lang], severity="warning")
        else:
            self.house.open_host(host)

    def action_run_this(self) -> None:
        self.house.run_checks([self.check_id], self.check.label)

    def action_next_open(self) -> None:
        self._walk(1)

    def action_previous_open(self) -> None:
        self._walk(-1)

    def _walk(self, step: int) -> None:
        """On to the next check that is not green, without going back to the tree."""
        found = self.house.neighbour(self.check_id, step)
        if found is None or found == self.check_id:
            self.house.tell(words.ALL_GREEN_NOTE[self.lang] if found is None else words.ONLY_ONE[self.lang])
            return
        self.check_id = found
        self.unfolded.clear()
        self.target_list.cursor = ""
        self.repaint()

    def action_sign(self) -> None:
        self.house.open_form("sign", self.check)

    def action_waive(self) -> None:
        self.house.open_form("waive", self.check)

    def action_note(self) -> None:
        chosen = self.chosen()
        one = chosen is not None and len(chosen[0].findings) == 1
        self.house.open_form("note", self.check, chosen[1].target.key if chosen and one else "")

    def action_back(self) -> None:
        self.house.back_to(self.check_id)


def _group_key(group: Group) -> str:
    return f"group:{group.key}"
