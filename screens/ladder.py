"""The load ladder: its levels filling in live, charts over users with the knee, the seconds of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content

from dstui.load.ladder import Ladder
from dstui.load.result import LadderResult
from dstui.model import UsageError
from screens import ladder_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.ladder_columns import Look, head_lines, name_cells, row_line
from screens.ladder_guard import confirm_ladder
from screens.ladder_header import Standing, header_lines
from screens.ladder_pages import PAGES, Subject, page_lines
from screens.ladder_rows import RUNNING, LadderView, LiveRows, view_of_plan, view_of_result
from screens.ladder_run import OwnedLadder, engine_for_ladders
from screens.lines import BLANK, Bar, Line, LineView, paragraph
from screens.livelist import LiveList
from screens.picklist import PickList
from screens.plain import one_line
from screens.tones import Tone

if TYPE_CHECKING:
    from screens.app import DstuiApp

TWO_FROM, ALL_FROM = (100, 30), (160, 45)
"""Columns and rows from which on both pictures, and the details beside them, are shown at once."""

HEAD_ROWS, BORDER_ROWS = 2, 2
CLOCK_SECONDS = 1.0


def open_ladder(app: DstuiApp) -> None:
    """Shows the ladder's screen; when others stand over it they are closed."""
    if app.ladder is None:
        engine = engine_for_ladders(app.engine)
        if engine is None:
            app.tell(words.NO_LADDER_HERE[app.lang], severity="warning")
            return
        app.ladder = OwnedLadder(app, engine)
    if not any(isinstance(screen, LadderScreen) for screen in app.screen_stack):
        app.push_screen(LadderScreen(app.ladder))
        return
    while not isinstance(app.screen, LadderScreen):
        app.pop_screen()


class LadderScreen(HouseScreen):
    """Opened with `L`. Closing it does not end the ladder: the app owns the run."""

    CSS_PATH = "ladder.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#levels"
    FOOTER = (
        "run-ladder", "ladder-level", "ladder-pane", "back", "monitor", "ladder-users", "ladder-time", "ladder-detail",
        "language", "help",
    )  # fmt: skip
    RUNNING_FOOTER = (
        "stop-ladder", "ladder-level", "ladder-pane", "back", "monitor", "ladder-users", "ladder-time",
        "ladder-detail", "language", "help",
    )  # fmt: skip

    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "run-ladder", "stop-ladder", "ladder-level", "ladder-pane", "ladder-users", "ladder-time", "ladder-detail",
        "back",
    )  # fmt: skip

    def __init__(self, owned: OwnedLadder) -> None:
        super().__init__()
        self.owned = owned
        self.page = "users"
        self._before_detail = "users"
        self._live_rows = LiveRows()
        self._subject = Subject(None)
        self._planned: Ladder | None = None
        self._cannot = ""
        self._followed = ""
        self._first_seen: LadderResult | None = None
        self._drawn: object = None
        self._footer_running: bool | None = None

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        with Vertical(id="levels-pane", classes="pane"):
            yield Bar(id="head")
            yield LiveList(id="levels")
        with Horizontal(id="below"):
            with Vertical(id="pictures"):
                yield LineView(id="users", classes="pane")
                yield LineView(id="time", classes="pane")
            yield LineView(id="detail", classes="pane")
        yield KeyBar()

    def on_mount(self) -> None:
        self._plan()
        super().on_mount()
        self.set_interval(CLOCK_SECONDS, self.look)

    def on_screen_resume(self) -> None:
        # What may run depends on the hour, too.
        self._plan()
        super().on_screen_resume()

    def on_resize(self) -> None:
        self.call_after_refresh(self.look)

    @property
    def levels(self) -> LiveList:
        return self.query_one("#levels", LiveList)

    @property
    def shown(self) -> tuple[str, ...]:
        """The pages on the screen, below the levels."""
        width, height = self.app.size
        if width >= ALL_FROM[0] and height >= ALL_FROM[1]:
            return PAGES
        if width >= TWO_FROM[0] and height >= TWO_FROM[1]:
            return ("detail",) if self.page == "detail" else ("users", "time")
        return (self.page,)

    # What is looked at

    def _plan(self) -> None:
        """What `r` would run, or why it would not."""
        try:
            self._planned, self._cannot = self.owned.engine.ladder_of(), ""
        except UsageError as error:
            self._planned, self._cannot = None, one_line(str(error))

    def _look_at(self) -> Subject:
        owned = self.owned
        if owned.running and owned.run is not None:
            live = owned.run.live
            token = (id(live), live.version)
            if self._subject.live is live and self._subject.token == token:
                return self._subject
            return Subject(self._live_rows.view(live), live, token=token)
        recorded = self._newest()
        if recorded is not None:
            if self._subject.recorded is recorded:
                return self._subject
            return Subject(view_of_result(recorded), recorded=recorded, token=id(recorded))
        planned = self._planned
        return Subject(view_of_plan(planned) if planned is not None else None, token=(id(planned), self._cannot))

    def _newest(self) -> LadderResult | None:
        """What was recorded last; what this app ran last, when the journal does not have it."""
        ladders = self.owned.engine.ladders
        mine = self.owned.run.live.result if self.owned.run is not None else None
        recorded = ladders[-1] if ladders else None
        if mine is not None and (recorded is None or recorded.at < mine.at):
            return mine
        return recorded

    @property
    def _number(self) -> int:
        """The position of the stage under the cursor; -1 without one."""
        return self.levels.cursor_index

    # Painting

    def relabel(self) -> None:
        self._footer_running = None
        self._drawn = None
        self.look()

    def repaint(self) -> None:
        self.look()

    def repaint_live(self) -> None:
        self.look()

    def repaint_ladder(self) -> None:
        self.look()

    def look(self) -> None:
        """Takes a new look and shows it. Charts and details are made anew only when what they show changed."""
        if not self.is_mounted or self.engine is None:
            return
        subject = self._subject = self._look_at()
        now = self.engine.clock()
        self._arrange(subject)
        self._show_footer()
        standing = self._standing(subject)
        self.query_one("#top", Bar).show(lambda width: header_lines(standing, now, self.lang, width))
        self._show_levels(subject, now)
        panes = tuple(self.query_one(f"#{page}").size for page in self.shown)
        second = int(now) if subject.live is not None else 0
        drawn = (subject.token, self._number, self.lang, panes, self._cannot, second)
        if drawn != self._drawn:
            self._drawn = drawn
            self._show_pages(subject, now)

    def _standing(self, subject: Subject) -> Standing:
        owned, masthead = self.owned, self.moment.masthead
        recorded = subject.recorded
        return Standing(
            cluster=masthead.cluster,
            simulated=recorded.simulated if recorded is not None else masthead.simulated,
            view=subject.view,
            live=subject.live,
            recorded=recorded,
            stopping=owned.stopping,
            spinner=owned.spinner,
            cannot=self._cannot,
            fault=owned.fault,
        )

    def _arrange(self, subject: Subject) -> None:
        shown = self.shown
        self.set_class(len(shown) == 1, "-one")
        self.set_class(subject.view is None, "-empty")
        for page in PAGES:
            self.set_class(page in shown, f"-show-{page}")
        rows = len(subject.view.rows) + HEAD_ROWS + BORDER_ROWS if subject.view is not None else "1fr"
        self.query_one("#levels-pane").styles.height = rows

    def _show_footer(self) -> None:
        if self._footer_running is not self.owned.running:
            self._footer_running = self.owned.running
            footer = self.RUNNING_FOOTER if self.owned.running else self.FOOTER
            self.query_one(KeyBar).show_keys(footer, self.lang)

    def _show_levels(self, subject: Subject, now: float) -> None:
        view, lang, levels = subject.view, self.lang, self.levels
        self.query_one("#levels-pane").border_title = Content(words.LEVELS[lang])
        if view is None:
            levels.show_rows([], lambda key, width, at_cursor: ())
            self.query_one("#head", Bar).show(self._empty)
            return
        names = name_cells(view.rows)
        keys = [str(number) for number in range(len(view.rows))]
        self.query_one("#head", Bar).show(lambda width: head_lines(width - 1, names, lang))

        def row(key: str, width: int, at_cursor: bool) -> Line:
            number = int(key)
            look = Look(names, now, self.owned.spinner, lang, number == view.knee)
            return row_line(view.rows[number], look, width, at_cursor=at_cursor)

        levels.show_rows(keys, row)
        if subject.recorded is not None and subject.recorded is not self._first_seen:
            self._first_seen = subject.recorded
            measured = [number for number in view.levels if view.rows[number].begun]
            levels.move_to(str(view.knee if view.knee is not None else measured[-1] if measured else 0))
        self._follow(view)

    def _follow(self, view: LadderView) -> None:
        """Whoever looks at the stage that runs goes on to the next one; whoever looks at another stays there."""
        now_on = next((str(n) for n, row in enumerate(view.rows) if row.state in RUNNING), "")
        if now_on and now_on != self._followed:
            if not self._followed or self.levels.cursor == self._followed:
                self.levels.move_to(now_on)
            self._followed = now_on
        elif not now_on:
            self._followed = ""

    def _show_pages(self, subject: Subject, now: float) -> None:
        lang, shown = self.lang, self.shown
        for page, title in zip(PAGES, (words.OVER_USERS, words.OVER_TIME, words.DETAILS), strict=True):
            if page in shown:
                self._show_page(page, title[lang], subject, now)

    def _show_page(self, page: str, title: str, subject: Subject, now: float) -> None:
        pane = self.query_one(f"#{page}", LineView)
        number, view = self._number, subject.view
        name = view.rows[number].name if view is not None and 0 <= number < len(view.rows) else ""
        about = f" · {name}" if name and page != "users" else ""
        pane.border_title = Content(title + about)
        pane.border_subtitle = Content(self._tabs() if len(self.shown) == 1 else "")
        height = max(pane.scrollable_content_region.height, 1)
        pane.show(lambda width: page_lines(page, subject, number, now, self.lang, width, height))

    def _tabs(self) -> str:
        """The pages by their keys, the shown one in brackets."""
        names = words.TABS[self.lang].split("|")
        told = (f"[{n} {name}]" if PAGES[n - 1] == self.page else f"{n} {name}" for n, name in enumerate(names, 1))
        return " ".join(told)

    def _empty(self, width: int) -> list[Line]:
        why = words.NOTHING_PLANNED[self.lang].format(why=self._cannot)
        again = paragraph(words.TRY_AGAIN[self.lang], width - 2, Tone.ACCENT, 1)
        return [*paragraph(f"? {why}", width - 2, Tone.UNKNOWN, 1), BLANK, *again]

    # Moving

    @on(PickList.Moved, "#levels")
    def _moved(self) -> None:
        self.look()

    @on(PickList.Picked, "#levels")
    def action_ladder_level(self) -> None:
        """The details of the stage, to be read with the arrows."""
        if self.page != "detail":
            self._before_detail = self.page
        self._go("detail")
        self.query_one("#detail").focus()

    def action_ladder_pane(self) -> None:
        """The next picture; where all are shown, between the levels and the details."""
        if self.shown == PAGES:
            detail = self.query_one("#detail")
            (self.levels if detail.has_focus else detail).focus()
            return
        two = len(self.shown) == 2
        self._go("detail" if two else PAGES[(PAGES.index(self.page) + 1) % len(PAGES)])
        self.levels.focus()

    def action_go_page(self, number: int) -> None:
        self._go(PAGES[number])
        self.levels.focus()

    def _go(self, page: str) -> None:
        self.page = page
        # It must be there before it can take the focus, and have its size before it is drawn.
        self._arrange(self._subject)
        self.call_after_refresh(self.look)
        self.look()

    def action_back(self) -> None:
        if self.query_one("#detail").has_focus:
            self._go(self._before_detail)
            self.levels.focus()
        else:
            self.app.pop_screen()

    # Acting

    def action_run_ladder(self) -> None:
        """Starts it, when a person has read what it does and said yes."""
        app, lang, engine = self.house, self.lang, self.engine
        if self.owned.running:
            app.tell(words.ALREADY_RUNS[lang], severity="warning")
            return
        self._plan()
        ladder = self._planned
        if ladder is None or engine is None:
            app.tell(self._cannot, severity="error")
            self.look()
            return

        def answered(answer: str | None) -> None:
            if answer == "yes":
                self._start(ladder)

        app.push_screen(confirm_ladder(ladder, engine.site.environment, engine.clock()), answered)

    def _start(self, ladder: Ladder) -> None:
        try:
            self.owned.start(ladder)
        except UsageError as error:
            self.house.tell(str(error), severity="error")
        self._followed = ""
        self.look()

    def action_stop_ladder(self) -> None:
        """Without a question: whoever presses it sees something go wrong."""
        self.owned.stop(words.STOPPED_BY)
        self.look()
