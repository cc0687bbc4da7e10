"""Every text of the screens is there in both languages and fits the same placeholders."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dstui.model import Kind, Reason, Scope, SideEffect, Text, Verdict
from dstui.standing import Standing
from screens import keys, ladder_words, marks, monitor_words, panel_words, words
from screens.words import Plural

NUMBERS_ONLY = {
    "screens.monitor_words.FOUND",
    "screens.monitor_words.OF_GIB",
    "DONE_OF",
    "FOUND",
    "ON_OF",
    "AND_ALSO",
    "COLON",
    "BRACKETED",
}
NAMES = ("GPU", "GPUS", "CPU", "RAY", "VLLM", "SERVE", "STEP_GPU", "STEP_XID")
MEANT_SAME = {
    *(f"{module}.{name}" for module in ("screens.monitor_words", "screens.panel_words") for name in NAMES),
    "FORMATS.markdown",
    "FORMATS.json",
    "LANGUAGES.zh",
    "LANGUAGES.en",
}


def texts_of(name: str, value: object) -> Iterator[tuple[str, Text]]:
    if isinstance(value, Text):
        yield name, value
    elif isinstance(value, Plural):
        yield f"{name}.one", value.one
        yield f"{name}.many", value.many
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_of(f"{name}.{getattr(key, 'value', key)}", item)


ALL = [
    pair
    for module in (words, ladder_words, monitor_words, panel_words)
    for name, value in vars(module).items()
    if name.isupper()
    for pair in texts_of(f"{name}" if module is words else f"{module.__name__}.{name}", value)
]


def placeholders(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


@pytest.mark.parametrize(("name", "text"), ALL, ids=[name for name, _ in ALL])
def test_both_languages_say_it(name: str, text: Text) -> None:
    assert text.en.strip()
    assert text.zh.strip()
    assert (text.en == text.zh) == (name in MEANT_SAME)
    assert placeholders(text.en) == placeholders(text.zh)


def test_english_has_no_chinese_in_it() -> None:
    chinese = [name for name, text in ALL if name not in MEANT_SAME and any("\u4e00" <= c <= "\u9fff" for c in text.en)]
    assert chinese == []


def test_chinese_is_chinese() -> None:
    free = MEANT_SAME | NUMBERS_ONLY
    plain = [name for name, text in ALL if name not in free and not any("\u4e00" <= c <= "\u9fff" for c in text.zh)]
    assert plain == []


@pytest.mark.parametrize(
    ("table", "members"),
    [
        (words.REASONS, Reason),
        (words.KINDS, Kind),
        (words.SCOPES, Scope),
        (words.SIDE_EFFECTS, SideEffect),
        (marks.OF_STANDING, Standing),
        (marks.OF_VERDICT, Verdict),
    ],
)
def test_every_word_of_the_model_has_words(table: Mapping[object, object], members: type) -> None:
    assert set(table) == set(members)


def test_counting_knows_one_and_many() -> None:
    from dstui.model import Lang

    assert words.HOSTS.of(1, Lang.EN) == "1 host"
    assert words.HOSTS.of(3, Lang.EN) == "3 hosts"
    assert words.HOSTS.of(3, Lang.ZH) == "3 台主机"


def test_keys_are_named_in_both_languages() -> None:
    for key in keys.ALL:
        for text in (key.label, key.tip, key.face):
            assert text.en and text.zh, key.id


def test_marks_are_told_apart_without_colour() -> None:
    said = {(mark.sign, mark.word.en) for mark in marks.OF_STANDING.values()}
    assert len(said) == len(marks.OF_STANDING)
    # Two standings share the sign of "nothing decided yet"; their words differ.
    assert {m.sign for m in marks.OF_STANDING.values()} == set("✓✗!?·-~ws")


def test_no_sentence_is_left_over() -> None:
    sources = [p.read_text(encoding="utf-8") for p in Path(words.__file__).parent.glob("*.py") if p.name != "words.py"]
    used = set(re.findall(r"words\.([A-Z_0-9]+)", " ".join(sources)))
    assert {name for name in vars(words) if name.isupper()} - used == set()
