"""What the checklist shows: the rows that folding, filter and search leave, and the lines of every pane. Pure.

Apart from the screen because it brings the catalogue and the fold of the journal with it: the screen's frame is
painted before any of that is read.
"""

from __future__ import annotations

from collections.abc import Callable

from dstui.catalogue import Check, Guidance
from dstui.model import Text
from screens import words
from screens.detail import check_lines, heading_lines
from screens.lines import Line, paragraph
from screens.masthead import strip_line, top_lines
from screens.moment import Moment
from screens.outline import Row, ancestors, next_open, outline, row_line, searcher
from screens.plain import shorten
from screens.tones import Tone

LONGEST_TITLE = 40


class Sheet:
    """The checklist as one operator has folded, filtered and searched it. `look` gives the moment to show."""

    def __init__(self, look: Callable[[], Moment]) -> None:
        self._look = look
        self.rows: dict[str, Row] = {}
        self.folded: frozenset[str] = frozenset()
        self.query = ""
        self.only_open = False
        self._kept: set[str] = set()
        self._wanted: Callable[[Check], bool] | None = None

    @property
    def moment(self) -> Moment:
        return self._look()

    # Rows

    def refresh(self) -> None:
        """Makes the rows anew; call it when the moment or what is wanted changed."""
        self._wanted = self._tests()
        self.rows = {row.key: row for row in outline(self.moment.catalogue, self._folds(), self._wanted)}

    def check(self, key: str) -> Check | None:
        """The check of a row; None on a heading."""
        row = self.rows.get(key)
        return row.check if row is not None else None

    @property
    def first_check(self) -> str:
        """The key of the first row that is a check; empty when none is left."""
        return next((key for key, row in self.rows.items() if row.check is not None), "")

    def _folds(self) -> frozenset[str]:
        return frozenset() if self.query else self.folded

    def _left(self) -> list[Check]:
        """The checks that the filter and the search leave."""
        return [c for c in self.moment.catalogue.checks if self._wanted is None or self._wanted(c)]

    def _tests(self) -> Callable[[Check], bool] | None:
        """What a check must satisfy to be shown; None when nothing is filtered."""
        tests: list[Callable[[Check], bool]] = []
        if self.query:
            tests.append(searcher(self.moment.catalogue, self.query))
        if self.only_open:
            # A row that turned green stays until the filter is set anew: nothing vanishes under the cursor.
            self._kept |= {s.check.id for s in self.moment.checklist.statuses.values() if s.not_green}
            tests.append(lambda check: check.id in self._kept)
        return (lambda check: all(test(check) for test in tests)) if tests else None

    # What is wanted

    def fold(self, key: str) -> str:
        """Folds or unfolds a heading, or the one above a check; gives the heading's key, empty when nothing folds."""
        row = self.rows.get(key)
        if row is None or self.query:
            return ""
        heading = row.key if row.check is None else row.parent
        self.folded = self.folded ^ {heading}
        return heading

    def unfold_to(self, check_id: str) -> None:
        """Unfolds what hides a check; when filter or search hide it, they are given up."""
        catalogue = self.moment.catalogue
        self.folded -= ancestors(catalogue, check_id)
        if self._wanted is not None and check_id in catalogue and not self._wanted(catalogue.check(check_id)):
            self.query, self.only_open = "", False

    def toggle_filter(self) -> None:
        self.only_open = not self.only_open
        self._kept.clear()

    def next_open(self, key: str, step: int) -> str | None:
        """The check after or before a row that is not green, among those shown; None when all are."""
        checks = self._left()
        row = self.rows.get(key)
        here = row.members[0].id if row is not None else None
        if row is not None and row.check is None:
            # From a heading: its first check counts too, so start at the check before it.
            ids = [c.id for c in checks]
            here = ids[ids.index(here) - step] if here in ids else None
        return next_open(checks, self.moment, here, step)

    def to_run(self, key: str) -> tuple[list[str], Text] | None:
        """The checks of a row and what to call them."""
        row = self.rows.get(key)
        if row is None:
            return None
        name = row.check.label if row.check else row.heading.heading if row.heading else words.CHECKLIST
        return [check.id for check in row.members], name

    def runs(self, key: str) -> bool:
        """Whether a check of a row is being run."""
        row = self.rows.get(key)
        return row is not None and any(self.moment.running(check.id) is not None for check in row.members)

    # Lines

    def top(self, width: int) -> list[Line]:
        return top_lines(self.moment, width)

    def strip(self, width: int) -> list[Line]:
        return [strip_line(self.moment, width)]

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        return row_line(self.rows[key], self.moment, width, at_cursor=at_cursor, folded=key in self._folds())

    def title(self) -> str:
        """The title of the tree: what narrows it, and how much is left."""
        lang = self.moment.lang
        title = words.CHECKLIST[lang]
        if not self.query and not self.only_open:
            return title
        parts = [title]
        if self.only_open:
            parts.append(words.FILTERED[lang])
        if self.query:
            parts.append(f"/{self.query}")
        found = words.FOUND[lang].format(count=len(self._left()), total=len(self.moment.catalogue.checks))
        return " · ".join([*parts, found])

    def detail_title(self, key: str) -> str:
        check = self.check(key)
        return shorten(check.id, LONGEST_TITLE) if check is not None else words.CHECK_DETAIL[self.moment.lang]

    def detail(self, key: str, width: int, guidance: Guidance | None) -> list[Line]:
        """The right pane for a row."""
        row = self.rows.get(key)
        if row is None:
            text = words.NOTHING_FOUND if self.query else words.ALL_GREEN
            return paragraph(text[self.moment.lang], width, Tone.ACCENT)
        if row.check is None:
            return heading_lines(row, self.moment, width)
        return check_lines(row.check, self.moment, guidance, width)
