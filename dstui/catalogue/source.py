"""A YAML file that can say where each of its values stands.

The good path reads plain values with libyaml and nothing else; positions are worked out only when there is a fault
to report, or when somebody asks for the line of a value, by composing the text a second time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dstui.model import CatalogueError

try:
    from yaml import CSafeLoader as FastLoader
except ImportError:  # PyYAML built without libyaml: slower, the same values
    from yaml import SafeLoader as FastLoader  # type: ignore[assignment]

Step = str | int
YamlPath = tuple[Step, ...]
"""Keys and list positions that lead to a value, from the top of the file."""


class _Twice(yaml.YAMLError):
    """A mapping has a key twice."""


class _Loader(FastLoader):
    """Plain values; a key that stands twice is an error, and dates stay text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        table = super().construct_mapping(node, deep)
        if len(table) != len(node.value):
            raise _Twice("a key stands twice")
        return table


def _as_written(_: _Loader, node: yaml.ScalarNode) -> str:
    return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with the value at `path`, in words."""

    path: YamlPath
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a YAML file and the name under which faults and origins mention it."""

    name: str
    text: str
    _root: list[yaml.Node | None] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> Source:
        """The file at `path`; CatalogueError when it cannot be read or is not UTF-8."""
        try:
            return cls(name or str(path), path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CatalogueError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise CatalogueError(f"{path}: is not UTF-8 text (byte {error.start})") from error

    def values(self) -> object:
        """The plain values; CatalogueError with file:line:column for bad YAML or for keys that stand twice."""
        try:
            return yaml.load(self.text, Loader=_Loader)  # noqa: S506 - a safe loader
        except _Twice:
            self.refuse([Fault(path, "this key already stands above") for path in self._twice()])
        except yaml.YAMLError as error:
            raise CatalogueError(f"{self.name}{_where(error)}: is not valid YAML ({_what(error)})") from error
        raise AssertionError("refuse() always raises")

    def line(self, path: YamlPath) -> int:
        """The line of the key or list item at `path`, from 1; the nearest parent's when it is not there."""
        return self._mark(path)[0]

    def refuse(self, faults: Sequence[Fault]) -> None:
        """Raise one CatalogueError that names every fault with its file:line:column, in the order of the file."""
        located = sorted({(*self._mark(fault.path), _dotted(fault.path), fault.message) for fault in faults})
        raise CatalogueError(
            "\n".join(
                f"{self.name}:{line}:{column}: {where + ': ' if where else ''}{message}"
                for line, column, where, message in located
            )
        )

    def _node(self) -> yaml.Node | None:
        if not self._root:
            self._root.append(yaml.compose(self.text, Loader=FastLoader))
        return self._root[0]

    def _mark(self, path: YamlPath) -> tuple[int, int]:
        node = self._node()
        mark = node.start_mark if node is not None else None
        repeated = path[-1:] == (_TWICE,)
        for step in path[:-1] if repeated else path:
            found = list(_children(node, step))
            if not found:
                break
            mark, node = found[-1]
        return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)

    def _twice(self) -> Iterator[YamlPath]:
        return ((*path, _TWICE) for path in _repeated_keys(self._node(), ()))


_TWICE = "\0twice"


def _children(node: yaml.Node | None, step: Step) -> Iterator[tuple[yaml.Mark, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((key.start_mark, value) for key, value in node.value if key.value == str(step))
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value):
        yield node.value[step].start_mark, node.value[step]


def _repeated_keys(node: yaml.Node | None, path: YamlPath) -> Iterator[YamlPath]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*path, key.value)
            seen.add(key.value)
            yield from _repeated_keys(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _repeated_keys(value, (*path, position))


def _dotted(path: YamlPath) -> str:
    text = ""
    for step in path:
        if step == _TWICE:
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = getattr(mark, "line", None), getattr(mark, "column", None)
    return f":{line + 1}:{column + 1}" if isinstance(line, int) and isinstance(column, int) else ""


def _what(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None)
    return str(problem) if problem else str(error).splitlines()[0]
