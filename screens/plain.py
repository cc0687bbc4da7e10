"""Plain text on a grid of cells: hostile characters removed, widths exact for Chinese, wrapping that knows both."""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len, set_cell_size

TAB = "    "
LONGEST_LINE = 4096
"""Characters of one remote line that are looked at at all; nobody reads more, and measuring costs."""

_NO_BREAK_BEFORE = frozenset("，。；：、！？）》」』”’…,.;:!?)]}%")
_NO_BREAK_AFTER = frozenset("（《「『“‘([{")
_VARIATION = "\ufe0e\ufe0f"


def clean(text: str) -> str:
    """One line that cannot move the cursor, colour the screen or turn text round.

    Control characters, escape sequences' ESC, bidirectional and zero-width marks and lone surrogates become `·` or
    vanish; a tab becomes four spaces. Everything else stays, square brackets included: nothing here is markup.
    """
    if text.isprintable():
        return text if _VARIATION[1] not in text and _VARIATION[0] not in text else _strip(text)
    return _strip(text)


def _strip(text: str) -> str:
    return "".join(_replace(char) for char in text)


def _replace(char: str) -> str:
    if char in _VARIATION:
        return ""
    if char.isprintable():
        return char
    if char == "\t":
        return TAB
    if char == "\u3000":
        return "  "
    code = ord(char)
    if code in (0xA0, 0x2028, 0x2029) or 0x2000 <= code <= 0x200A:
        return " "
    if code in (0xAD, 0xFEFF) or 0x200B <= code <= 0x200F or 0x202A <= code <= 0x202E or 0x2060 <= code <= 0x206F:
        return ""
    return "·"


def lines_of(text: str) -> list[str]:
    """Remote text as clean lines; a carriage return ends a line too, so nothing overwrites what came before it."""
    return [clean(line[:LONGEST_LINE]) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def one_line(text: str) -> str:
    """Remote text that belongs on one line."""
    return clean(" ".join(text[:LONGEST_LINE].split()))


@lru_cache(maxsize=4096)
def fit(text: str, width: int) -> str:
    """Exactly `width` cells: cut with `…` or padded with spaces."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(_cut(text, width - 1) + "…", width)


def shorten(text: str, width: int) -> str:
    """At most `width` cells, cut with `…`."""
    if width <= 0:
        return ""
    return text if cell_len(text) <= width else _cut(text, width - 1) + "…"


def _cut(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += cell_len(char)
        if used > width:
            return text[:index]
    return text


@lru_cache(maxsize=2048)
def wrap(text: str, width: int) -> tuple[str, ...]:
    """Lines of at most `width` cells: Latin words stay whole where they fit, Chinese breaks between characters."""
    if width <= 1 or cell_len(text) <= width:
        return (text,)
    lines: list[str] = []
    line, used = "", 0
    for unit in _units(text):
        size = cell_len(unit)
        if used + size > width:
            if line.strip():
                lines.append(line.rstrip())
            unit = unit.lstrip()
            line, used, size = "", 0, cell_len(unit)
        if size > width:
            *full, unit = fold(unit, width)
            lines += full
            size = cell_len(unit)
        line, used = line + unit, used + size
    if line.strip() or not lines:
        lines.append(line.rstrip())
    return tuple(lines)


def _units(text: str) -> list[str]:
    """What must stay together: a Latin word, a wide character with the punctuation that clings to it, spaces."""
    units: list[str] = []
    for char in text:
        wide = cell_len(char) > 1
        last = units[-1] if units else ""
        clings = char in _NO_BREAK_BEFORE or (bool(last) and last[-1] in _NO_BREAK_AFTER)
        latin = not wide and char != " " and bool(last) and last[-1] != " " and cell_len(last[-1]) == 1
        if (last and last[-1] != " " and (clings or latin)) or (char == " " and last.endswith(" ")):
            units[-1] = last + char
        else:
            units.append(char)
    return units


def fold(text: str, width: int) -> list[str]:
    """A line of output cut into pieces of exactly `width` cells; unlike `wrap`, spaces stay where they are."""
    if width <= 1 or cell_len(text) <= width:
        return [text]
    pieces: list[str] = []
    start = used = 0
    for index, char in enumerate(text):
        size = cell_len(char)
        if used + size > width:
            pieces.append(text[start:index])
            start, used = index, 0
        used += size
    return [*pieces, text[start:]]
