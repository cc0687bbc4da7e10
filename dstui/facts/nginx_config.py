"""nginx's whole configuration as `nginx -T` prints it: every file after the other, put together as nginx reads them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

from dstui.facts.raw import Missing
from dstui.facts.untyped import rows, table, text, whole
from dstui.model import Reason

DUMP_LIMIT = 2 * 1024 * 1024
"""Bytes of a dump that are asked for; mime.types and a hundred sites are some 200 kB."""

_MARK, _MARK_END = "# configuration file ", ":"
_DEEPEST = 32
_MOST_DIRECTIVES = 200_000
_INCLUDE = "include"


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive; `block` is what stands in its braces, None when it has none. `line` counts from 1."""

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: tuple[Directive, ...] | None = None

    @property
    def first(self) -> str:
        """The first argument; empty when there is none."""
        return self.args[0] if self.args else ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def named(self, *names: str) -> Iterator[Directive]:
        """Those of its block with such a name."""
        return named(self.block or (), *names)


@dataclass(frozen=True, slots=True)
class NginxConfig:
    """The configuration as one tree, includes in their places. `files` are all that it was read from, main first."""

    directives: tuple[Directive, ...]
    files: tuple[str, ...]

    def every(self, *names: str) -> Iterator[Directive]:
        """All directives with such a name, however deep."""
        return _every(self.directives, names)


def named(block: Sequence[Directive], *names: str) -> Iterator[Directive]:
    """Those directives of a block with such a name."""
    return (directive for directive in block if directive.name in names)


def _every(block: Sequence[Directive], names: Sequence[str]) -> Iterator[Directive]:
    for directive in block:
        if directive.name in names:
            yield directive
        if directive.block:
            yield from _every(directive.block, names)


class _NotUnderstoodError(Exception):
    pass


def parse_dump(dump: str) -> NginxConfig | Missing:
    """The configuration in what `nginx -T` printed.

    Missing(parse-error) when there is none in it or a part cannot be read: half a configuration would say less than
    the other half does.
    """
    try:
        files = _files(dump)
        if not files:
            return Missing(Reason.PARSE_ERROR, "nginx -T: no configuration in its output")
        parsed = {path: _parsed(path, content) for path, content in files.items()}
        main = next(iter(files))
        return NginxConfig(_Assembly(parsed, posixpath.dirname(main)).block(parsed[main], (main,)), tuple(files))
    except _NotUnderstoodError as error:
        return Missing(Reason.PARSE_ERROR, f"nginx -T: {error}")
    except RecursionError:
        return Missing(Reason.PARSE_ERROR, "nginx -T: blocks within blocks without end")


def _files(dump: str) -> dict[str, str]:
    """Path → content, in the order of the dump."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in dump.split("\n"):
        if line.startswith(_MARK) and line.endswith(_MARK_END):
            path = line[len(_MARK) : -len(_MARK_END)]
            if path in found:
                raise _NotUnderstoodError(f"{path} is in it twice")
            current = found[path] = []
        elif current is not None:
            current.append(line)
    return {path: "\n".join(lines) for path, lines in found.items()}


def _parsed(path: str, content: str) -> tuple[Directive, ...]:
    """One file, its includes not followed: the parser would look for them on this machine."""
    from crossplane import parse_string  # type: ignore[import-untyped]  # it has no types

    parse = cast("Callable[..., object]", parse_string)
    payload = table(parse(content, filename=path, single=True, check_ctx=False, check_args=False)) or {}
    for fault in map(table, rows(payload.get("errors")) or ()):
        raise _NotUnderstoodError(str((fault or {}).get("error"))[:200])
    configs = [config for config in map(table, rows(payload.get("config")) or ()) if config is not None]
    if len(configs) != 1:
        raise _NotUnderstoodError(f"{path} gave {len(configs)} configurations")
    return _directives(path, rows(configs[0].get("parsed")) or (), 0)


def _directives(path: str, entries: Sequence[object], depth: int) -> tuple[Directive, ...]:
    if depth > _DEEPEST:
        raise _NotUnderstoodError(f"{path}: more than {_DEEPEST} blocks within each other")
    found: list[Directive] = []
    for entry in map(table, entries):
        name = text(entry.get("directive")) if entry is not None else None
        if entry is None or name is None:
            raise _NotUnderstoodError(f"{path}: an entry without a name")
        block = rows(entry.get("block"))
        found.append(
            Directive(
                name=name,
                args=tuple(str(arg) for arg in rows(entry.get("args")) or ()),
                file=path,
                line=whole(entry.get("line")) or 0,
                block=None if block is None else _directives(path, block, depth + 1),
            )
        )
    return tuple(found)


class _Assembly:
    """Puts the files into each other where they are included."""

    def __init__(self, files: Mapping[str, tuple[Directive, ...]], folder: str) -> None:
        self._files = files
        self._folder = folder
        self._count = 0

    def block(self, directives: Sequence[Directive], within: tuple[str, ...]) -> tuple[Directive, ...]:
        """`within` are the files that include each other down to here."""
        found: list[Directive] = []
        for directive in directives:
            self._count += 1
            if self._count > _MOST_DIRECTIVES:
                raise _NotUnderstoodError(f"more than {_MOST_DIRECTIVES} directives")
            if directive.name == _INCLUDE and directive.block is None:
                for path in self._included(directive):
                    if path in within or len(within) > _DEEPEST:
                        raise _NotUnderstoodError(f"{directive.where} includes {path}, which includes it")
                    found += self.block(self._files[path], (*within, path))
            elif directive.block is not None:
                inner = self.block(directive.block, within)
                found.append(Directive(directive.name, directive.args, directive.file, directive.line, inner))
            else:
                found.append(directive)
        return tuple(found)

    def _included(self, directive: Directive) -> list[str]:
        pattern = posixpath.join(self._folder, directive.first)
        if not any(sign in pattern for sign in "*?["):
            if pattern not in self._files:
                raise _NotUnderstoodError(f"{directive.where} includes {pattern}, which is not in the dump")
            return [pattern]
        wanted = pattern.split("/")
        return sorted(path for path in self._files if _matches(path.split("/"), wanted))


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """As glob(3): a star does not reach over slashes, nor to a leading dot."""
    return len(parts) == len(wanted) and all(
        fnmatchcase(part, pattern) and (not part.startswith(".") or pattern.startswith("."))
        for part, pattern in zip(parts, wanted, strict=True)
    )
