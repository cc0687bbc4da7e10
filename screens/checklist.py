"""The home screen: the tree at the left, what the cursor is on at the right, the live strip below.

Its frame is painted before the checklist is read; `furnish` gives it what to show. Nothing imported here may bring
the catalogue or the fold of the journal with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content

from dstui.model import CatalogueError
from screens import words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line, LineView, line, spread
from screens.picklist import PickList
from screens.plain import one_line, shorten
from screens.search import SearchLine
from screens.tones import Tone

if TYPE_CHECKING:
    from dstui.catalogue import Check, Guidance
    from screens.sheet import Sheet


class ChecklistScreen(HouseScreen):
    """Home. The cursor belongs to a check and stays on it while rows settle."""

    CSS_PATH = "checklist.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#tree"
    FOOTER = (
        "run-this", "run-all", "open", "next-open", "sign", "filter", "monitor", "ladder", "search", "run-failed",
        "waive", "note", "export", "language", "other-pane", "help",
    )  # fmt: skip

    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "run-this", "open", "next-open", "previous-open", "filter", "search", "sign", "waive", "note",
        "fold", "fold-left", "unfold", "other-pane", "back",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.furnished: Sheet | None = None
        self._shown_in_detail = ""

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        with Horizontal(id="panes"):
            yield PickList(id="tree", classes="pane")
            yield LineView(id="detail", classes="pane")
        yield Bar(id="strip")
        yield Bar(id="live")
        yield KeyBar()

    @property
    def sheet(self) -> Sheet:
        """What is shown; there is one by the time a key is heard."""
        assert self.furnished is not None
        return self.furnished

    @property
    def outline_list(self) -> PickList:
        return self.query_one("#tree", PickList)

    @property
    def detail(self) -> LineView:
        return self.query_one("#detail", LineView)

    @property
    def selected(self) -> Check | None:
        """The check under the cursor; None on a heading."""
        return self.sheet.check(self.outline_list.cursor)

    # Painting

    def furnish(self, sheet: Sheet) -> None:
        """The checklist was read: shows it from now on."""
        self.furnished = sheet
        self.repaint()

    def repaint(self) -> None:
        if self.furnished is None:
            self._paint_frame()
            return
        sheet, tree = self.furnished, self.outline_list
        sheet.refresh()
        self.query_one("#top", Bar).show(sheet.top)
        self.query_one("#strip", Bar).show(sheet.strip)
        tree.show_rows(list(sheet.rows), sheet.row, lost="" if tree.cursor else sheet.first_check)
        tree.border_title = Content(sheet.title())
        self._show_detail()
        self.repaint_live()

    def _paint_frame(self) -> None:
        """The first frame: the panes with their titles, and what is being read."""
        reading = (f" {words.READING[self.lang]} ", Tone.DIM)
        self.query_one("#top", Bar).show(lambda width: [spread(((" dstui ", Tone.ACCENT),), (reading,), width)])
        self.query_one("#strip", Bar).show(lambda width: [line(reading)])
        self.outline_list.border_title = Content(words.CHECKLIST[self.lang])
        self.detail.border_title = Content(words.CHECK_DETAIL[self.lang])

    def repaint_live(self) -> None:
        feed, fault, lang = self.house.feed, self.house.feed_fault, self.lang
        bar = self.query_one("#live", Bar)
        if fault:
            why = words.WATCH_FAILED[lang].format(why=one_line(fault))
            bar.show(lambda width: [line((f" ? {shorten(why, width - 4)}", Tone.UNKNOWN))])
        elif feed is not None:
            from screens.livestrip import live_line

            live, now = feed.live, feed.now()
            bar.show(lambda width: [live_line(live, now, lang, width)])
        elif self.engine is not None and self.engine.watch is None:
            bar.show(lambda width: [line((f" {words.NOT_WATCHED[lang]}", Tone.DIM))])

    def _show_detail(self) -> None:
        cursor = self.outline_list.cursor
        moved = self._shown_in_detail != cursor
        self._shown_in_detail = cursor
        self.detail.border_title = Content(self.sheet.detail_title(cursor))
        self.detail.show(self._detail_lines, top=moved)

    def _detail_lines(self, width: int) -> list[Line]:
        return self.sheet.detail(self.outline_list.cursor, width, self._guidance())

    def _guidance(self) -> Guidance | None:
        """The long texts of the selected check, once there is time to read them."""
        check = self.selected
        if check is None or not self.moment.opened:
            return None
        try:
            return self.moment.catalogue.guidance(check.id)
        except CatalogueError as error:
            self.house.tell_once(str(error))
            return None

    def repaint_ladder(self) -> None:
        if self.furnished is not None:
            self.query_one("#strip", Bar).show(self.sheet.strip)

    def spin(self) -> None:
        self.query_one("#strip", Bar).show(self.sheet.strip)
        self.outline_list.show(self.outline_list.build_rows)
        if self.sheet.runs(self.outline_list.cursor):
            self.detail.show(self._detail_lines)

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
        heading = self.sheet.fold(self.outline_list.cursor)
        if heading:
            self.outline_list.move_to(heading)
            self.repaint()

    def action_fold_left(self) -> None:
        row = self.sheet.rows.get(self.outline_list.cursor)
        if row is None:
            return
        if row.check is None and row.key not in self.sheet.folded and not self.sheet.query:
            self.action_fold()
        elif row.parent:
            self.outline_list.move_to(row.parent)

    def action_unfold(self) -> None:
        if self.outline_list.cursor in self.sheet.folded:
            self.action_fold()

    def action_next_open(self) -> None:
        self._go_open(1)

    def action_previous_open(self) -> None:
        self._go_open(-1)

    def _go_open(self, step: int) -> None:
        found = self.sheet.next_open(self.outline_list.cursor, step)
        if found is None:
            self.house.tell(words.ALL_GREEN_NOTE[self.lang])
            return
        self.reveal(found)

    def reveal(self, check_id: str) -> None:
        """Puts the cursor on a check, undoing what hides it."""
        self.sheet.unfold_to(check_id)
        self._clear_search_line()
        self.repaint()
        self.outline_list.move_to(check_id)

    def action_other_pane(self) -> None:
        if self.has_class("-narrow"):
            self.toggle_class("-detail-only")
            (self.detail if self.has_class("-detail-only") else self.outline_list).focus()
        else:
            (self.outline_list if self.detail.has_focus else self.detail).focus()

    # Filter and search

    def action_filter(self) -> None:
        self.sheet.toggle_filter()
        self.repaint()

    async def action_search(self) -> None:
        lines = self.query(SearchLine)
        if not lines:
            # Above the footer, which docks to the same edge. Not in the first frame: its stylesheet is a long one.
            await self.mount(SearchLine(), after=self.query_one(KeyBar))
        self.query_one(SearchLine).open(words.SEARCH_PROMPT[self.lang])

    @on(SearchLine.Sought)
    def _sought(self, event: SearchLine.Sought) -> None:
        self.sheet.query = event.query.strip()
        self.repaint()
        if self.sheet.query and self.selected is None:
            self.outline_list.move_to(self.sheet.first_check)

    @on(SearchLine.Done)
    def _search_done(self, event: SearchLine.Done) -> None:
        self.outline_list.focus()

    def _clear_search_line(self) -> None:
        """Empties the search line when its query was given up."""
        if not self.sheet.query:
            for search in self.query(SearchLine):
                search.value = ""

    def action_back(self) -> None:
        if self.has_class("-narrow") and self.has_class("-detail-only"):
            self.action_other_pane()
        elif self.sheet.query:
            self.sheet.query = ""
            self._clear_search_line()
            self.repaint()
        elif self.sheet.only_open:
            self.action_filter()

    # Acting

    def action_run_this(self) -> None:
        if (chosen := self.sheet.to_run(self.outline_list.cursor)) is not None:
            self.house.run_checks(*chosen)

    def action_sign(self) -> None:
        self.house.open_form("sign", self.selected)

    def action_waive(self) -> None:
        self.house.open_form("waive", self.selected)

    def action_note(self) -> None:
        self.house.open_form("note", self.selected)
