"""The home screen: the tree at the left, what the cursor is on at the right, the live strip below."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content

from dstui.catalogue import Check
from dstui.model import CatalogueError
from screens import words
from screens.base import BREAKPOINTS, HouseScreen
from screens.detail import check_lines, heading_lines
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line, LineView, paragraph
from screens.marks import Tone
from screens.masthead import strip_line, top_lines
from screens.outline import Row, ancestors, next_open, outline, row_line, searcher
from screens.picklist import PickList
from screens.plain import shorten
from screens.search import SearchLine


class ChecklistScreen(HouseScreen):
    """Home. The cursor belongs to a check and stays on it while rows settle."""

    CSS_PATH = "checklist.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#tree"
    FOOTER = (
        "run-this", "run-all", "open", "next-open", "sign", "filter", "search", "run-failed",
        "waive", "note", "export", "language", "other-pane", "help",
    )  # fmt: skip

    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "run-this", "open", "next-open", "previous-open", "filter", "search", "sign", "waive", "note",
        "fold", "fold-left", "unfold", "other-pane", "back",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {}
        self.folded: frozenset[str] = frozenset()
        self.query_text = ""
        self.only_open = False
        self._kept: set[str] = set()
        self._wanted: Callable[[Check], bool] | None = None
        self._shown_in_detail = ""

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        with Horizontal(id="panes"):
            yield PickList(id="tree", classes="pane")
            yield LineView(id="detail", classes="pane")
        yield Bar(id="strip")
        yield KeyBar()
        yield SearchLine()

    @property
    def outline_list(self) -> PickList:
        return self.query_one("#tree", PickList)

    @property
    def detail(self) -> LineView:
        return self.query_one("#detail", LineView)

    @property
    def selected(self) -> Check | None:
        """The check under the cursor; None on a heading."""
        row = self.rows.get(self.outline_list.cursor)
        return row.check if row is not None else None

    # Painting

    def repaint(self) -> None:
        moment = self.moment
        self._wanted = self._tests()
        self.query_one("#top", Bar).show(lambda width: top_lines(self.moment, width))
        self.query_one("#strip", Bar).show(lambda width: [strip_line(self.moment, width)])
        self.rows = {row.key: row for row in outline(moment.catalogue, self._folds(), self._wanted)}
        first = next((key for key, row in self.rows.items() if row.check is not None), "")
        self.outline_list.show_rows(list(self.rows), self._row_line, lost="" if self.outline_list.cursor else first)
        self.outline_list.border_title = Content(self._tree_title())
        self._show_detail()

    def _row_line(self, key: str, width: int, at_cursor: bool) -> Line:
        folded = key in self._folds()
        return row_line(self.rows[key], self.moment, width, at_cursor=at_cursor, folded=folded)

    def _folds(self) -> frozenset[str]:
        return frozenset() if self.query_text else self.folded

    def _tree_title(self) -> str:
        title = words.CHECKLIST[self.lang]
        total = len(self.moment.catalogue.checks)
        if not self.query_text and not self.only_open:
            return title
        shown = len(self._left())
        parts = [title]
        if self.only_open:
            parts.append(words.FILTERED[self.lang])
        if self.query_text:
            parts.append(f"/{self.query_text}")
        return " · ".join([*parts, words.FOUND[self.lang].format(count=shown, total=total)])

    def _show_detail(self) -> None:
        detail = self.detail
        row = self.rows.get(self.outline_list.cursor)
        moved = self._shown_in_detail != self.outline_list.cursor
        self._shown_in_detail = self.outline_list.cursor
        title = words.CHECK_DETAIL[self.lang]
        if row is not None:
            title = row.check.id if row.check else title
        detail.border_title = Content(shorten(title, 40))
        detail.show(self._detail_lines, top=moved)

    def _detail_lines(self, width: int) -> list[Line]:
        row = self.rows.get(self.outline_list.cursor)
        if row is None:
            text = words.NOTHING_FOUND if self.query_text else words.ALL_GREEN
            return paragraph(text[self.lang], width, Tone.ACCENT)
        if row.check is None:
            return heading_lines(row, self.moment, width)
        guidance = None
        if self.moment.opened:
            try:
                guidance = self.moment.catalogue.guidance(row.check.id)
            except CatalogueError as error:
                self.house.tell_once(str(error))
        return check_lines(row.check, self.moment, guidance, width)

    def spin(self) -> None:
        self.query_one("#strip", Bar).show(lambda width: [strip_line(self.moment, width)])
        self.outline_list.show(self.outline_list.build_rows)
        if (row := self.rows.get(self.outline_list.cursor)) is not None and any(map(self._runs, row.members)):
            self.detail.show(self._detail_lines)

    def _runs(self, check: Check) -> bool:
        return self.moment.running(check.id) is not None

    # Moving

    @on(PickList.Moved, "#tree")
    def _moved(self) -> None:
        self._show_detail()

    @on(PickList.Picked, "#tree")
    def action_open(self) -> None:
        check = self.selected
        if check is None:
            self.action_fold()
        else:
            self.house.open_finding(check.id)

    def action_fold(self) -> None:
        """Folds or unfolds the heading under the cursor, or the one above the check under it."""
        row = self.rows.get(self.outline_list.cursor)
        if row is None or self.query_text:
            return
        key = row.key if row.check is None else row.parent
        self.folded = self.folded ^ {key}
        if row.check is not None:
            self.outline_list.move_to(key)
        self.repaint()

    def action_fold_left(self) -> None:
        row = self.rows.get(self.outline_list.cursor)
        if row is None:
            return
        if row.check is None and row.key not in self.folded and not self.query_text:
            self.action_fold()
        elif row.parent:
            self.outline_list.move_to(row.parent)

    def action_unfold(self) -> None:
        if self.outline_list.cursor in self.folded:
            self.action_fold()

    def action_next_open(self) -> None:
        self._go_open(1)

    def action_previous_open(self) -> None:
        self._go_open(-1)

    def _go_open(self, step: int) -> None:
        checks = self._left()
        row = self.rows.get(self.outline_list.cursor)
        here = row.members[0].id if row is not None else None
        if row is not None and row.check is None:
            # From a heading: its first check counts too, so start at the check before it.
            ids = [c.id for c in checks]
            here = ids[ids.index(here) - step] if here in ids else None
        found = next_open(checks, self.moment, here, step)
        if found is None:
            self.house.tell(words.ALL_GREEN_NOTE[self.lang])
            return
        self.reveal(found)

    def reveal(self, check_id: str) -> None:
        """Puts the cursor on a check, unfolding what hides it."""
        self.folded -= ancestors(self.moment.catalogue, check_id)
        self.repaint()
        self.outline_list.move_to(check_id)

    def action_other_pane(self) -> None:
        if self.has_class("-narrow"):
            self.toggle_class("-detail-only")
            (self.detail if self.has_class("-detail-only") else self.outline_list).focus()
        else:
            (self.outline_list if self.detail.has_focus else self.detail).focus()

    # Filter and search

    def _left(self) -> list[Check]:
        """The checks that the filter and the search leave."""
        return [c for c in self.moment.catalogue.checks if self._wanted is None or self._wanted(c)]

    def _tests(self) -> Callable[[Check], bool] | None:
        """What a check must satisfy to be shown; None when nothing is filtered."""
        tests: list[Callable[[Check], bool]] = []
        if self.query_text:
            tests.append(searcher(self.moment.catalogue, self.query_text))
        if self.only_open:
            # A row that turned green stays until the filter is set anew: nothing vanishes under the cursor.
            self._kept |= {s.check.id for s in self.moment.checklist.statuses.values() if s.not_green}
            tests.append(lambda check: check.id in self._kept)
        return (lambda check: all(test(check) for test in tests)) if tests else None

    def action_filter(self) -> None:
        self.only_open = not self.only_open
        self._kept.clear()
        self.repaint()

    def action_search(self) -> None:
        self.query_one(SearchLine).open(words.SEARCH_PROMPT[self.lang])

    @on(SearchLine.Sought)
    def _sought(self, event: SearchLine.Sought) -> None:
        self.query_text = event.query.strip()
        self.repaint()
        if self.query_text and self.selected is None:
            first = next((key for key, row in self.rows.items() if row.check is not None), "")
            self.outline_list.move_to(first)

    @on(SearchLine.Done)
    def _search_done(self, event: SearchLine.Done) -> None:
        self.outline_list.focus()

    def action_back(self) -> None:
        if self.has_class("-narrow") and self.has_class("-detail-only"):
            self.action_other_pane()
        elif self.query_text:
            self.query_one(SearchLine).value = ""
        elif self.only_open:
            self.action_filter()

    # Acting

    def action_run_this(self) -> None:
        row = self.rows.get(self.outline_list.cursor)
        if row is None:
            return
        name = row.check.label if row.check else row.heading.heading if row.heading else words.CHECKLIST
        self.house.run_checks([check.id for check in row.members], name)

    def action_sign(self) -> None:
        self.house.open_form("sign", self.selected)

    def action_waive(self) -> None:
        self.house.open_form("waive", self.selected)

    def action_note(self) -> None:
        self.house.open_form("note", self.selected)
