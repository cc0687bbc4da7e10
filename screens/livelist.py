"""A list of any length that makes only the lines that are in view."""

from __future__ import annotations

from textual.strip import Strip

from screens.lines import BLANK, Line, strip_of
from screens.picklist import PickList


class LiveList(PickList):
    """A PickList for a thousand rows that change all the time."""

    def build_rows(self, width: int) -> list[Line]:
        """The lines in view; the others are blank until they come into view."""
        assert self._compose_row is not None
        top = self.scroll_offset.y
        rows: list[Line] = [BLANK] * len(self.keys)
        for index in range(max(top, 0), min(top + max(self.size.height, 1), len(rows))):
            key = self.keys[index]
            rows[index] = self._compose_row(key, width, key == self.cursor)
        return rows

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        if self._compose_row is None or not 0 <= index < len(self.keys):
            return super().render_line(y)
        if index < len(self.lines) and self.lines[index] is BLANK:
            key = self.keys[index]
            self.lines[index] = self._compose_row(key, self.line_width, key == self.cursor)
        line = self.lines[index] if index < len(self.lines) else BLANK
        return strip_of(self, line, self.size.width, self.base_style(index))
