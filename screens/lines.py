"""Lines of toned text, and the one widget that shows them: it repaints only the rows that changed.

A `Line` is plain text with tones, never markup, so remote text cannot style, break or crash anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from screens.plain import LONGEST_LINE, clean, fit, wrap
from screens.tones import Tone, styles_of

Piece = tuple[str, Tone]
Line = tuple[Piece, ...]
Build = Callable[[int], Sequence[Line]]
"""Makes the lines for a width in cells."""

BLANK: Line = ()


def line(*pieces: str | Piece) -> Line:
    """A line of pieces; a bare string is plain."""
    return tuple((piece, Tone.PLAIN) if isinstance(piece, str) else piece for piece in pieces)


def width_of(of: Line) -> int:
    return sum(cell_len(text) for text, _ in of)


def cropped(of: Line, width: int) -> Line:
    """The line in exactly `width` cells."""
    kept: list[Piece] = []
    left = width
    for text, tone in of:
        size = cell_len(text)
        if size > left:
            kept.append((fit(text, left), tone))
            return tuple(kept)
        kept.append((text, tone))
        left -= size
    if left:
        kept.append((" " * left, Tone.PLAIN))
    return tuple(kept)


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` at the left and `right` at the right edge; the left gives way when both do not fit."""
    room = width - width_of(right)
    if room <= 0:
        return cropped(right, width)
    return cropped(left, room) + right


def paragraph(text: str, width: int, tone: Tone = Tone.PLAIN, indent: int = 0) -> list[Line]:
    """A sentence wrapped into lines, each indented."""
    lead: tuple[Piece, ...] = ((" " * indent, Tone.PLAIN),) if indent else ()
    return [(*lead, (part, tone)) for part in wrap(clean(text[:LONGEST_LINE]), max(width - indent, 8))]


def labelled(label: str, text: str, width: int, column: int, tone: Tone = Tone.PLAIN) -> list[Line]:
    """A label in a column of its own, the sentence wrapped beside it."""
    parts = wrap(clean(text[:LONGEST_LINE]), max(width - column, 8))
    first: Line = ((fit(label, column), Tone.HEADING), (parts[0], tone))
    return [first, *(((" " * column, Tone.PLAIN), (part, tone)) for part in parts[1:])]


def strip_of(widget: Widget, of: Line, width: int, base: Style) -> Strip:
    """A line as Textual draws it, exactly `width` cells of `base` with each piece's tone on top."""
    styles = styles_of(widget.app)
    return Strip([Segment(clean(text), base + styles[tone]) for text, tone in cropped(of, width)], width)


class LineView(ScrollView, can_focus=True):
    """Scrollable lines, made anew for each width. `show` compares with what is there and repaints what differs."""

    DEFAULT_CSS = """
    LineView { overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; scrollbar-size-vertical: 1; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lines: list[Line] = []
        self.repainted = 0
        self._build: Build | None = None
        self._built_for = 0

    @property
    def line_width(self) -> int:
        return self.scrollable_content_region.width

    def show(self, build: Build, *, top: bool = False) -> None:
        """Shows the lines of `build`, from the top when `top`; else the scroll position stays."""
        self._build = build
        if self.line_width > 0:
            self._take(list(build(self.line_width)))
        if top:
            self.scroll_to(y=0, animate=False)

    def _take(self, new: list[Line]) -> None:
        old, self.lines = self.lines, new
        self._built_for = self.line_width
        if len(old) != len(new):
            self.virtual_size = Size(self.line_width, len(new))
        for index in range(max(len(old), len(new))):
            if index >= len(old) or index >= len(new) or old[index] != new[index]:
                self.repaint_row(index)

    def repaint_row(self, index: int) -> None:
        """Repaints one row if it is in view."""
        if 0 <= index - self.scroll_offset.y < self.size.height:
            self.repainted += 1
            self.refresh_line(index)

    def on_resize(self, event: events.Resize) -> None:
        if self._build is not None and self.line_width != self._built_for:
            self._take(list(self._build(self.line_width)))
            self.refresh()

    def base_style(self, index: int) -> Style:
        """The style under a row's pieces."""
        return self.rich_style

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        width = self.size.width
        if not 0 <= index < len(self.lines):
            return Strip.blank(width, self.rich_style)
        return strip_of(self, self.lines[index], width, self.base_style(index))


class Bar(Widget):
    """A few fixed lines, made for the width; repaints only when they differ."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: list[Line] = []
        self.repainted = 0
        self._build: Build | None = None
        self._built_for = 0

    def show(self, build: Build) -> None:
        self._build = build
        self._take()

    def _take(self) -> None:
        width = self.size.width
        if self._build is None or width <= 0:
            return
        new, self._built_for = list(self._build(width)), width
        if new != self.lines:
            self.lines = new
            self.repainted += 1
            self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        if self._built_for != self.size.width:
            self._take()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self._built_for != width and self._build is not None:
            # Rendered before it heard of its size: the first frame has its lines already.
            self.lines, self._built_for = list(self._build(width)), width
        if y >= len(self.lines):
            return Strip.blank(width, self.rich_style)
        return strip_of(self, self.lines[y], width, self.rich_style)


class Block(Bar):
    """A `Bar` as high as its lines."""

    DEFAULT_CSS = """
    Block { height: auto; }
    """

    def show(self, build: Build) -> None:
        before = len(self.lines)
        super().show(build)
        if len(self.lines) != before:
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._build(width)) if self._build is not None and width > 0 else 0
