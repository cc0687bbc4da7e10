"""YAML text → a tree that remembers where everything stands. Understands the YAML 1.2 core types only.

PyYAML gives the events; the tree is built here so that `no`, `12:30` and `2026-09-01` stay text (PyYAML would make
them False, 750 and a date), so that duplicate keys are found, and so that nothing in the file can cost more than it
weighs: depth, size and the number of nodes after aliases are all bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

MAX_BYTES = 2 * 1024 * 1024
"""A thousand hosts need about 200 KB."""
MAX_NODES = 200_000
"""Values after aliases have been followed; what stops an alias bomb."""
MAX_DEPTH = 40

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Line and column, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong with a file, and what to write instead."""

    at: Position
    text: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: None, bool, int, float or str. `text` is what the file says, without quotes."""

    value: object
    text: str
    at: Position
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    at: Position
    weight: int


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: tuple[tuple[Scalar, Node], ...]
    at: Position
    weight: int


Node = Scalar | Sequence | Mapping


class _UnreadableError(Exception):
    """The rest of the file cannot be made sense of; the fault has been noted."""


def read_tree(text: str) -> tuple[Node | None, list[Fault]]:
    """The first document of `text` and everything wrong with it as YAML; no node when it is empty or broken."""
    return _TreeReader(text).read()


@dataclass
class _TreeReader:
    text: str
    faults: list[Fault] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    _events: Iterator[yaml.Event] = field(default_factory=lambda: iter(()))

    def read(self) -> tuple[Node | None, list[Fault]]:
        root: Node | None = None
        try:
            self._events = iter(yaml.parse(self.text, Loader=_LOADER))
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if root is not None:
                        self._note(event, "a second document starts here; keep one document a file, without `---`")
                        break
                    root = self._node(next(self._events), depth=0)
        except _UnreadableError:
            root = None
        except yaml.MarkedYAMLError as error:
            self.faults.append(_syntax_fault(error, self.text))
            root = None
        except yaml.reader.ReaderError as error:
            self.faults.append(_character_fault(error, self.text))
            root = None
        return root, self.faults

    def _note(self, event: yaml.Event, text: str) -> None:
        self.faults.append(Fault(_position(event), text))

    def _stop(self, event: yaml.Event, text: str) -> _UnreadableError:
        self._note(event, text)
        return _UnreadableError(text)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        anchor: str | None = getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[anchor] = None
        if depth > MAX_DEPTH:
            raise self._stop(event, f"nested deeper than {MAX_DEPTH} levels; no inventory needs that")
        if getattr(event, "tag", None) not in (None, "!"):
            self._note(event, "tags such as `!!str` are not used here; quote a value to make it text")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if node.weight > MAX_NODES:
            raise self._stop(event, f"more than {MAX_NODES:,} values once aliases are followed; write fewer")
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        name = event.anchor or ""
        node = self.anchors.get(name)
        if node is None:
            why = "lies inside what it refers to" if name in self.anchors else f"has no anchor `&{name}` before it"
            self._note(event, f"alias `*{name}` {why}; write the values out")
            return Scalar(None, "", _position(event))
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        value: object = event.value
        if event.style is None or event.style == "":
            try:
                value = core_value(event.value)
            except ValueError:
                self._note(event, "this number has too many digits; put it in quotes if it is text")
                value = None
        return Scalar(value, event.value, _position(event))

    def _sequence(self, start: yaml.Event, depth: int) -> Sequence:
        items: list[Node] = []
        weight = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
            weight += items[-1].weight
            self._bound(event, weight)
        return Sequence(tuple(items), _position(start), weight)

    def _mapping(self, start: yaml.Event, depth: int) -> Mapping:
        entries: list[tuple[Scalar, Node]] = []
        first_at: dict[tuple[type, object], Position] = {}
        weight = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            weight += key.weight + value.weight
            self._bound(event, weight)
            if not isinstance(key, Scalar) or not isinstance(key.value, str | int) or isinstance(key.value, bool):
                self._note(event, "this key is not text; put it in quotes")
                continue
            if key.value == "<<":
                self._note(event, "merge keys (`<<`) are not used here; use `groups`, or write the keys out")
                continue
            identity = (type(key.value), key.value)
            if identity in first_at:
                earlier = first_at[identity].line
                self._note(event, f"`{_short(key.text)}` is given twice, first on line {earlier}; remove one of them")
                continue
            first_at[identity] = _position(event)
            entries.append((key, value))
        return Mapping(tuple(entries), _position(start), weight)

    def _bound(self, event: yaml.Event, weight: int) -> None:
        if weight > MAX_NODES:
            raise self._stop(event, f"more than {MAX_NODES:,} values once aliases are followed; write fewer")


_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBERISH = re.compile(r"[-+.0-9]")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 18


def core_value(text: str) -> object:
    """What a plain scalar means under the YAML 1.2 core schema; ValueError for a number of absurd length."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not _NUMBERISH.match(text):
        return text
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError("too many digits")
        return int(text)
    if _BASED.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError("too many digits")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)


def _short(text: str) -> str:
    cleaned = "".join(c if c.isprintable() else "?" for c in text)
    return cleaned if len(cleaned) <= 60 else cleaned[:59] + "…"


_SYNTAX = (
    ("mapping values are not allowed", "a `:` where no key can be; check the indentation, or put the value in quotes"),
    ("block sequence entries are not allowed", "a `-` cannot start here; put each item on a line of its own"),
    ("expected ',' or ']'", "the list that starts on line {line} has no `]`, or a comma is missing here"),
    ("expected ',' or '}'", "the block that starts on line {line} has no `}}`, or a comma is missing here"),
    ("unexpected end of stream", "the quote that starts on line {line} is never closed"),
    ("unknown escape character", "an unknown `\\` escape in double quotes; use single quotes, or write `\\\\`"),
    ("invalid Unicode character escape", "this escape is no character; write the character itself"),
    ("did not find expected '-' indicator", "the list from line {line} goes on here with something else than `- `"),
    ("expected <block end>", "this line does not fit the block from line {line}; check the indentation"),
    ("did not find expected key", "this line does not fit the block from line {line}; check the indentation"),
    ("did not find expected node content", "a value is missing or misplaced here; put text with symbols in quotes"),
    ("could not find expected ':'", "a key without its `:`; write `key: value`"),
    ("while scanning an anchor", "a `&` or `*` starts an anchor or alias here; put the value in quotes"),
    ("while scanning an alias", "a `&` or `*` starts an anchor or alias here; put the value in quotes"),
    ("directive", "lines that start with `%` are not used here; remove it, or put it in quotes"),
)


def _syntax_fault(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
    lines = text.splitlines()
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return Fault(Position(at.line, indent.index("\t") + 1), "a tab; YAML is indented with spaces only")
    said = f"{error.context or ''} {error.problem or ''}"
    if "cannot start any token" in said:
        found = line[at.column - 1 : at.column]
        if found == "\t":
            return Fault(at, "a tab; YAML is indented with spaces only")
        return Fault(at, f"a value cannot start with `{_short(found)}`; put it in quotes")
    opened = error.context_mark.line + 1 if error.context_mark else at.line
    for sign, wording in _SYNTAX:
        if sign in said:
            return Fault(at, wording.format(line=opened))
    return Fault(at, "this is not valid YAML; check indentation, quotes and colons here")


def _character_fault(error: yaml.reader.ReaderError, text: str) -> Fault:
    index = next((i for i, c in enumerate(text) if _forbidden(c)), 0)
    line = text.count("\n", 0, index) + 1
    column = index - (text.rfind("\n", 0, index) + 1) + 1
    code = ord(text[index]) if text else 0
    return Fault(Position(line, column), f"control character U+{code:04X}; delete it")


def _forbidden(c: str) -> bool:
    return not (c in "\t\n\r\x85" or " " <= c <= "~" or c >= "\xa0") or c in "\ufffe\uffff" or "\ud800" <= c <= "\udfff"
