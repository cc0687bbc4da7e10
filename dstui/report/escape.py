"""Makes any text safe inside Markdown: whatever a host answered cannot change the structure of the report."""

from __future__ import annotations

import re
import unicodedata

LINE_LIMIT = 240
"""Characters of one observed line in the body of a report; the evidence appendix has more."""

CODE_LINE_LIMIT = 400
CODE_LINES_LIMIT = 60

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&$@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Signs that mean something anywhere in a line; the last two would make GitHub link an address by itself."""

_AT_START = re.compile(r"^(?:[#+\-=>:]|\d+(?=[.)](?:\s|$)))")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def visible(text: str) -> str:
    """The text without ANSI sequences; other control and formatting characters (bidi overrides too) become spaces."""
    plain = _ANSI.sub("", text)
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else " " for c in plain)


def inline(text: str, limit: int = LINE_LIMIT) -> str:
    """One line of running text: white space folded, cut at `limit` characters, every Markdown sign escaped."""
    line = " ".join(visible(text[: limit * 8]).split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    line = _SPECIAL.sub(r"\\\g<0>", line)
    return _AT_START.sub(lambda found: found[0] + "\\" if found[0].isdigit() else "\\" + found[0], line)


def code(text: str, limit: int = LINE_LIMIT) -> str:
    """An inline code span that the text cannot leave, whatever backticks or pipes it holds."""
    line = " ".join(visible(text[: limit * 8]).split()) or " "
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    # A pipe ends a table cell even inside a code span; GitHub and CommonMark tables both take the backslash.
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def block(text: str, language: str = "text", indent: str = "") -> list[str]:
    """A fenced block that the text cannot leave; long lines and long outputs are cut, and say so."""
    lines = visible(text).expandtabs(4).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    shown = [ln if len(ln) <= CODE_LINE_LIMIT else ln[: CODE_LINE_LIMIT - 1] + "…" for ln in lines[:CODE_LINES_LIMIT]]
    if len(lines) > CODE_LINES_LIMIT:
        shown.append(f"… {len(lines) - CODE_LINES_LIMIT} more lines")
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", "\n".join(shown))), default=0) + 1)
    return [f"{indent}{fence}{language}", *(f"{indent}{line}".rstrip() for line in shown), f"{indent}{fence}"]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A pipe table of cells that are Markdown already (made by `inline` or `code`)."""
    return [
        "| " + " | ".join(header) + " |",
        "| " + " | ".join("---" for _ in header) + " |",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
