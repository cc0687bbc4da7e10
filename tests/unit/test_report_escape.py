"""Whatever a host answered, the report keeps its structure."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dstui.report.escape import block, code, inline, table, visible

MARKDOWN = MarkdownIt("gfm-like")

HOSTILE = [
    "a | b || c",
    "`tick` ``two`` ```three",
    "<script>alert(1)</script> <!-- x -->",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b31m",
    "# heading",
    "- item",
    "1. item",
    "> quote",
    "[link](http://x) ![img](http://x) http://evil.example www.evil.example a@b.example",
    "**bold** _it_ ~~no~~ $x$ &amp; &lt;",
    "line\nbreak\r\n| new | row |\n\n# heading",
    "\\ \\| \\`",
    "机架三 \u202e gnp \u2066 \ufeff",
    "x" * 100_000,
    "",
    "```\n</details>\n```",
    "===",
    ":---:",
]


def kinds(text: str) -> list[str]:
    return [token.type for token in MARKDOWN.parse(text)]


@pytest.mark.parametrize("text", HOSTILE)
def test_inline_stays_one_plain_paragraph(text: str) -> None:
    tokens = MARKDOWN.parse(f"host: {inline(text)}")
    assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {c.type for c in tokens[1].children or []} <= {"text", "text_special"}


@pytest.mark.parametrize("text", HOSTILE)
def test_inline_at_the_start_of_a_list_item_makes_no_other_block(text: str) -> None:
    assert [k for k in kinds(f"- {inline(text)}") if k.endswith("_open")] in (
        ["bullet_list_open", "list_item_open", "paragraph_open"],
        ["bullet_list_open", "list_item_open"],
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_keeps_its_cells(text: str) -> None:
    lines = table(["host", "observed", "command"], [["gpu-01", inline(text), code(text)]])
    tokens = MARKDOWN.parse("\n".join(lines))
    assert sum(t.type == "td_open" for t in tokens) == 3
    assert sum(t.type == "tr_open" for t in tokens) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_a_block_is_one_fence(text: str) -> None:
    assert kinds("\n".join(block(text))) == ["fence"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_code_span_is_one_span(text: str) -> None:
    tokens = MARKDOWN.parse(f"x {code(text)} y")
    assert [c.type for c in tokens[1].children or []] == ["text", "code_inline", "text"]


def test_long_lines_are_cut_and_say_so() -> None:
    assert len(inline("y" * 100_000)) < 300
    assert inline("y" * 100_000).endswith("…")
    assert all(len(line) <= 400 for line in block("z" * 100_000))
    assert "more lines" in block("line\n" * 5000)[-2]


def test_ordinary_text_reads_as_it_is() -> None:
    assert inline("24.0 GiB is below 243.2 GiB (5 % tolerance)") == "24.0 GiB is below 243.2 GiB (5 % tolerance)"


@given(st.text())
def test_no_control_character_comes_through(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", visible(text))


@given(st.text())
def test_any_text_is_one_paragraph(text: str) -> None:
    assert kinds(f"host: {inline(text)}") == ["paragraph_open", "inline", "paragraph_close"]


@given(st.text())
def test_any_text_is_one_fence(text: str) -> None:
    assert kinds("\n".join(block(text))) == ["fence"]
