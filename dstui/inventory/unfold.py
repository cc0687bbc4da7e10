"""The YAML tree → plain values, with the place of each one, `${…}` filled in and secret-looking literals refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches

from dstui.inventory.yaml_tree import Fault, Mapping, Node, Position, Scalar, Sequence
from dstui.redact import secret_shape

Path = tuple[str | int, ...]

MAX_TEXT = 8192
"""Characters in one value after substitution."""

_SUBSTITUTION = re.compile(r"(\$?)\$\{([^}\n]{0,200})\}")
_SECRET_KEY = re.compile(r"(?:^|_)(?:password|passwd|passphrase|secret|api_?key|token|private_key)$", re.IGNORECASE)
_NULL_IS_A_VALUE = frozenset(
    {"secrets", "vars", "thresholds", "mirrors", "internal_mirrors", "os_alternatives", "alerts_required", "profiles"}
)


def spelled(path: Path) -> str:
    """A path as people write it: `hosts[3].data_ip`; a part that looks like a secret is not shown."""
    text = ""
    for part in path:
        shown = f"[{part}]" if isinstance(part, int) else "…" if secret_shape(part) else part
        text += shown if isinstance(part, int) or not text else f".{shown}"
    return text


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that was probably meant; one that looks like a secret is never suggested."""
    known = [candidate for candidate in known if not secret_shape(candidate)]
    return next(iter(get_close_matches(word.lower(), known, n=1, cutoff=0.6)), None)


def holds_secret(path: Path) -> bool:
    """Whether what stands at `path` may be a secret by mistake, so that no message may show it."""
    return path[:2] == ("auth", "keys") or any(
        isinstance(part, str) and (part == "secrets" or part.endswith("_ref") or _SECRET_KEY.search(part))
        for part in path
    )


@dataclass
class Unfolded:
    """The values of a file by path, their nodes, and what was wrong with them."""

    root: object = None
    nodes: dict[Path, Node] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refused: set[Position] = field(default_factory=set)

    def at(self, path: Path) -> Position:
        """Where a value stands, or the nearest thing around it."""
        while path and path not in self.nodes:
            path = path[:-1]
        return self.nodes[path].at if path in self.nodes else Position(1, 1)

    def key_at(self, path: Path) -> Position:
        return self.keys.get(path) or self.at(path)

    def fault(self, path: Path, text: str) -> None:
        """Note what is wrong at `path`, unless it looks like a secret there: one fault is enough, and shows nothing."""
        at = self.at(path)
        if at not in self.refused:
            self.faults.append(Fault(at, text))

    def refuse_literal(self, at: Position) -> None:
        """What stands at `at` looks like a secret."""
        self.faults.append(Fault(at, _LITERAL_REFUSED))
        self.refused.add(at)


def unfold(tree: Node) -> Unfolded:
    """Everything in the tree as dict, tuple and scalars. Empty values (`key:`) count as not written."""
    return _Unfolding(tree).run()


@dataclass
class _Unfolding:
    tree: Node
    found: Unfolded = field(default_factory=Unfolded)
    variables: dict[str, object] = field(default_factory=dict)

    def run(self) -> Unfolded:
        if isinstance(self.tree, Mapping):
            for key, node in self.tree.entries:
                if key.value == "vars":
                    self._collect_variables(node, "")
        self.found.root = self._value(self.tree, ())
        return self.found

    def _collect_variables(self, node: Node, prefix: str) -> None:
        if isinstance(node, Mapping):
            for key, child in node.entries:
                self._collect_variables(
                    child, f"{prefix}{key.text}" if isinstance(child, Scalar) else f"{prefix}{key.text}."
                )
        elif isinstance(node, Scalar) and prefix:
            if isinstance(node.value, str) and _SUBSTITUTION.search(node.value):
                self.found.faults.append(Fault(node.at, "a variable cannot use another one; write its value out"))
            else:
                self.variables[prefix] = node.value

    def _value(self, node: Node, path: Path) -> object:
        self.found.nodes[path] = node
        if isinstance(node, Scalar):
            return self._scalar(node, path)
        if isinstance(node, Sequence):
            return tuple(self._value(item, (*path, i)) for i, item in enumerate(node.items))
        return self._mapping(node, path)

    def _mapping(self, node: Mapping, path: Path) -> dict[str | int, object]:
        keep_nulls = not _NULL_IS_A_VALUE.isdisjoint(part for part in path if isinstance(part, str))
        values: dict[str | int, object] = {}
        for key, child in node.entries:
            name = key.value
            assert isinstance(name, str | int)
            inner = (*path, name)
            self.found.keys[inner] = key.at
            if isinstance(name, str) and secret_shape(name):
                self.found.refuse_literal(key.at)
            value = self._value(child, inner)
            if value is None and path == ("groups",):
                value = {}
            if value is not None or keep_nulls:
                values[name] = value
        return values

    def _scalar(self, node: Scalar, path: Path) -> object:
        value = node.value
        if not isinstance(value, str):
            return value
        if "${" in value and path[:1] != ("vars",):
            value = self._substituted(node, value)
            if not isinstance(value, str):
                return value
        if len(value) > MAX_TEXT:
            self.found.fault(path, f"this text has {len(value):,} characters; {MAX_TEXT:,} are allowed")
            return value[:1]
        if secret_shape(value) or _secret_by_name(path, value):
            self.found.refuse_literal(node.at)
        return value

    def _substituted(self, node: Scalar, text: str) -> object:
        whole = _SUBSTITUTION.fullmatch(text)
        if whole and not whole[1]:
            return self._variable(whole[2], node)
        pieces: list[str] = []
        size = end = 0
        for match in _SUBSTITUTION.finditer(text):
            filled = match[0][1:] if match[1] else str(self._variable(match[2], node))
            pieces += text[end : match.start()], filled
            size += len(filled)
            end = match.end()
            if size > MAX_TEXT:
                break
        return "".join((*pieces, text[end:]))

    def _variable(self, name: str, node: Scalar) -> object:
        plain = name.strip().removeprefix("vars.")
        if plain in self.variables:
            return self.variables[plain]
        if secret_shape(plain):
            self.found.refuse_literal(node.at)
            return "unknown"
        meant = nearest(plain, list(self.variables))
        hint = f"did you mean `${{{meant}}}`?" if meant else f"add `{plain}` to `vars:`"
        self.found.faults.append(Fault(node.at, f"`${{{plain}}}` is not among the `vars` of this file; {hint}"))
        return "unknown"


_LITERAL_REFUSED = (
    "this looks like a secret; never write one here, put it under `secrets:` as"
    " `env:NAME`, `file:/absolute/path` or `{cmd: [program]}` and rotate this one"
)


def _secret_by_name(path: Path, value: str) -> bool:
    """A literal under a key such as `db_password`. References and blocks of references are checked elsewhere."""
    name = path[-1] if path else ""
    if path[:1] == ("secrets",) or not isinstance(name, str) or not _SECRET_KEY.search(name):
        return False
    return not value.startswith(("env:", "file:", "secrets."))
