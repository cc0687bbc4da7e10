"""Reads the team's inference test cases on the controller: YAML or JSON lines, each fault with its place."""

from __future__ import annotations

import asyncio
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dstui.facts.model_cases import CaseFault, CaseFile, InferenceCase, ModelCases
from dstui.facts.raw import Missing
from dstui.gather.observing import Observing
from dstui.inventory import yaml_tree
from dstui.model import Reason, Text

READ_SECONDS = 5.0
MOST_FILES = 500
MOST_BYTES = 2 * 1024 * 1024
ENDINGS = (".yaml", ".yml", ".jsonl")
EXPECTATIONS = ("status", "contains", "not_contains", "regex", "json_path", "max_latency_s")
_KEYS = ("id", "category", "messages", "body", "params", "expect")
_ROLES = ("system", "developer", "user", "assistant", "tool")
_NAME = re.compile(r"[\w.:/-]{1,100}")
_MOST_PATTERN = 2_000


@dataclass(frozen=True, slots=True)
class Spot:
    """A value and where it stands; tables and lists hold Spots."""

    value: object
    line: int
    column: int

    @property
    def table(self) -> Mapping[str, Spot] | None:
        return self.value if isinstance(self.value, dict) else None

    @property
    def items(self) -> Sequence[Spot] | None:
        return self.value if isinstance(self.value, list) else None

    @property
    def text(self) -> str | None:
        return self.value if isinstance(self.value, str) and self.value.strip() else None


async def observe_model_cases(o: Observing) -> ModelCases:
    """All files of `model.test_cases`: a directory, a file or a pattern, relative to the inventory's folder."""
    pattern = o.params("model.test-cases", None).text("model_test_cases")
    place = str(o.inventory.path.parent / os.path.expanduser(pattern))  # noqa: ASYNC240, PTH111 - looks at no file
    began = time.monotonic()
    try:
        async with asyncio.timeout(READ_SECONDS):
            files, missing = await asyncio.to_thread(read_all, place)
    except TimeoutError:
        files, missing = (), Missing(Reason.TIMEOUT, f"{place}: not read within {READ_SECONDS:g} s")
    return ModelCases(pattern, place, files, missing, time.monotonic() - began)


def read_all(place: str) -> tuple[tuple[CaseFile, ...], Missing | None]:
    """Every case file of a place; Missing when the place itself cannot be looked at."""
    try:
        names = _names(Path(place))
    except OSError as error:
        return (), _missing(error, place)
    if len(names) > MOST_FILES:
        return (), Missing(Reason.BUDGET, f"{place}: {len(names)} files, more than {MOST_FILES}")
    return tuple(_read(name) for name in names), None


def _names(place: Path) -> list[Path]:
    found: Iterator[Path]
    if glob.has_magic(str(place)):
        found = (Path(name) for name in glob.glob(str(place), recursive=True))  # noqa: PTH207 - an absolute pattern
    elif place.is_dir():
        found = (entry for entry in place.iterdir() if entry.suffix in ENDINGS)
    else:
        # stat rather than exists(): a path that may not be looked at is not one that is not there.
        try:
            place.stat()
        except FileNotFoundError:
            return []
        found = iter((place,))
    return sorted(name for name in found if name.suffix in ENDINGS and not name.is_dir())


def _missing(error: OSError, place: str) -> Missing:
    reason = Reason.PERMISSION if isinstance(error, PermissionError) else Reason.CANNOT_TELL
    return Missing(reason, f"{place}: {error.strerror or error}")


def _read(path: Path) -> CaseFile:
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        return CaseFile(name, missing=_missing(error, name))
    if len(content) > MOST_BYTES:
        return CaseFile(name, missing=Missing(Reason.BUDGET, f"{name}: more than {MOST_BYTES >> 20} MiB"))
    return case_file(name, content)


def case_file(name: str, content: bytes) -> CaseFile:
    """The cases of one file and everything that is wrong with it."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        fault = CaseFault(f"{name}:{line}:1", Text("not UTF-8: save the file as UTF-8", "不是 UTF-8：请存为 UTF-8"))
        return CaseFile(name, digest, faults=(fault,))
    reading = _Reading(name)
    found = _json_lines(text, reading) if name.endswith(".jsonl") else _yaml(text, reading)
    cases = tuple(case for spot in found if (case := reading.case(spot)) is not None)
    return CaseFile(name, digest, cases, tuple(reading.faults))


def _json_lines(text: str, reading: _Reading) -> Iterator[Spot]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield _of_json(json.loads(line), number)
        except json.JSONDecodeError as error:
            reading.note(Spot(None, number, error.colno), f"no JSON: {error.msg}", f"不是 JSON：{error.msg}")
        except (ValueError, RecursionError):
            reading.note(Spot(None, number, 1), "no JSON that can be read", "无法读取的 JSON")


def _of_json(value: object, line: int) -> Spot:
    if isinstance(value, dict):
        return Spot({key: _of_json(item, line) for key, item in value.items()}, line, 1)
    if isinstance(value, list):
        return Spot([_of_json(item, line) for item in value], line, 1)
    return Spot(value, line, 1)


def _yaml(text: str, reading: _Reading) -> Sequence[Spot]:
    node, faults = yaml_tree.read_tree(text)
    for fault in faults:
        reading.note(Spot(None, fault.at.line, fault.at.column), fault.text, fault.text)
    if node is None:
        return ()
    spot = _of_yaml(node)
    if spot.table is not None and set(spot.table) == {"cases"}:
        spot = spot.table["cases"]
    if spot.items is None:
        reading.note(spot, "a list of cases is wanted here: `- id: …`", "这里应为用例列表：`- id: …`")
        return ()
    return spot.items


def _of_yaml(node: yaml_tree.Node) -> Spot:
    at = node.at
    if isinstance(node, yaml_tree.Mapping):
        return Spot({str(key.value): _of_yaml(value) for key, value in node.entries}, at.line, at.column)
    if isinstance(node, yaml_tree.Sequence):
        return Spot([_of_yaml(item) for item in node.items], at.line, at.column)
    return Spot(node.value, at.line, at.column)


class _Reading:
    """One file being read; `faults` grow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[CaseFault] = []

    def note(self, at: Spot, en: str, zh: str) -> None:
        self.faults.append(CaseFault(f"{self.name}:{at.line}:{at.column}", Text(en, zh)))

    def case(self, spot: Spot) -> InferenceCase | None:
        """A case without a fault in it; None otherwise."""
        before = len(self.faults)
        cells = spot.table
        if cells is None:
            self.note(
                spot, "a case is a table: `id`, `category`, `messages`", "用例应为映射：`id`、`category`、`messages`"
            )
            return None
        self._known(cells, _KEYS)
        name, category = self._name(spot, cells, "id"), self._name(spot, cells, "category")
        if ("messages" in cells) == ("body" in cells):
            self.note(spot, "one of `messages` and `body` is wanted", "`messages` 和 `body` 须有且只有一个")
        if "messages" in cells:
            self._messages(cells["messages"])
        for key in ("body", "params"):
            if key in cells and cells[key].table is None:
                self.note(cells[key], f"`{key}` is a table", f"`{key}` 应为映射")
        expects = self._expect(cells["expect"]) if "expect" in cells else False
        if len(self.faults) > before or name is None or category is None:
            return None
        return InferenceCase(name, category, expects, f"{self.name}:{spot.line}")

    def _known(self, cells: Mapping[str, Spot], keys: Sequence[str]) -> None:
        for key, spot in cells.items():
            if key not in keys:
                known = ", ".join(keys)
                self.note(
                    spot, f"`{key[:60]}` is not known here; known: {known}", f"不认识 `{key[:60]}`；可用：{known}"
                )

    def _name(self, spot: Spot, cells: Mapping[str, Spot], key: str) -> str | None:
        found = cells.get(key)
        if found is None:
            self.note(spot, f"the case has no `{key}`", f"用例没有 `{key}`")
            return None
        text = found.text
        if text is None or not _NAME.fullmatch(text):
            self.note(
                found,
                f"`{key}` is a word of letters, digits, `.`, `-`, `_`",
                f"`{key}` 只能含字母、数字和 `.`、`-`、`_`",
            )
            return None
        return text

    def _messages(self, spot: Spot) -> None:
        if not spot.items:
            self.note(spot, "`messages` is a list with at least one message", "`messages` 应为至少一条消息的列表")
            return
        for message in spot.items:
            cells = message.table or {}
            role, content = cells.get("role"), cells.get("content")
            if role is None or role.value not in _ROLES:
                roles = ", ".join(_ROLES)
                self.note(role or message, f"a message has a `role`: one of {roles}", f"消息须有 `role`：{roles} 之一")
            if content is None or (content.text is None and not content.items):
                self.note(content or message, "a message has a `content`", "消息须有 `content`")

    def _expect(self, spot: Spot) -> bool:
        cells = spot.table
        if cells is None:
            self.note(spot, "`expect` is a table", "`expect` 应为映射")
            return False
        self._known(cells, EXPECTATIONS)
        for key, right, en, zh in _RULES:
            if key in cells and not right(cells[key]):
                self.note(cells[key], f"`{key}` is {en}", f"`{key}` 应为{zh}")
        if "regex" in cells and cells["regex"].text is not None:
            self._pattern(cells["regex"])
        return bool(set(cells) & set(EXPECTATIONS))

    def _pattern(self, spot: Spot) -> None:
        text = spot.text or ""
        if len(text) > _MOST_PATTERN:
            self.note(spot, "the pattern is too long", "正则过长")
            return
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            self.note(spot, f"no regular expression: {error}", f"不是合法正则：{error}")


def _texts(spot: Spot) -> bool:
    return spot.text is not None or (bool(spot.items) and all(each.text is not None for each in spot.items or ()))


def _status(spot: Spot) -> bool:
    return isinstance(spot.value, int) and not isinstance(spot.value, bool) and 100 <= spot.value <= 599


def _seconds(spot: Spot) -> bool:
    return isinstance(spot.value, int | float) and not isinstance(spot.value, bool) and 0 < spot.value < 1e6


_RULES: tuple[tuple[str, Callable[[Spot], bool], str, str], ...] = (
    ("status", _status, "an HTTP status such as 200", "HTTP 状态码，如 200"),
    ("contains", _texts, "a text or a list of texts", "文本或文本列表"),
    ("not_contains", _texts, "a text or a list of texts", "文本或文本列表"),
    ("regex", lambda spot: spot.text is not None, "a text", "文本"),
    ("json_path", lambda spot: spot.text is not None or bool(spot.table), "a path, or a table of path and value",
     "路径，或路径到值的映射"),
    ("max_latency_s", _seconds, "seconds, more than 0", "大于 0 的秒数"),
)  # fmt: skip
