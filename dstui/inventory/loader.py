"""Reads an inventory file: everything that is wrong with it is told at once, each fault with file:line:column."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from dstui.inventory import semantics
from dstui.inventory.inventory import Inventory
from dstui.inventory.schema import Document
from dstui.inventory.secrets import SecretStore
from dstui.inventory.unfold import Unfolded, unfold
from dstui.inventory.wording import faults_of
from dstui.inventory.yaml_tree import MAX_BYTES, Fault, Position, read_tree
from dstui.model import InventoryError
from dstui.redact import clean

MAX_FAULTS = 100
"""Faults listed in one message; beyond that their number is told."""
MAX_WORDED = 1000
"""Faults of the schema that are put into words at all; looking for the key that was meant takes time."""


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file; InventoryError lists every fault, sorted by line."""
    return parse_inventory(_read(path), path)


def parse_inventory(text: str, path: Path) -> Inventory:
    """The inventory in a text; `path` is used in messages and for what is relative to the file."""
    tree, faults = read_tree(text)
    if tree is None:
        if not faults:
            faults = [Fault(Position(1, 1), "the file is empty; `dstui init` writes one to start from")]
        raise _error(path, faults)
    file = unfold(tree)
    file.faults.extend(faults)
    if file.root is None:
        raise _error(path, [Fault(Position(1, 1), "the file is empty; `dstui init` writes one to start from")])
    if not isinstance(file.root, dict):
        wrong = "a list" if isinstance(file.root, tuple) else "a single value"
        start = "the file must be a block of `key: value` lines that starts with `version: 1`"
        raise _error(path, [*file.faults, Fault(file.at(()), f"{start}; this is {wrong}")])
    document = _validated(file)
    semantics.check(file)
    if document is None or file.faults:
        raise _error(path, file.faults)
    return Inventory(path=path, document=document, file=file, secrets=SecretStore(document.secrets))


def _validated(file: Unfolded) -> Document | None:
    try:
        return Document.model_validate(file.root)
    except ValidationError as error:
        file.faults.extend(faults_of(error.errors(include_url=False)[:MAX_WORDED], Document, file))
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InventoryError(f"{path}: there is no such file; `dstui init` writes one to start from") from None
    except OSError as error:
        raise InventoryError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise InventoryError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; that is no inventory")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        fault = Fault(Position(line, column), "this is not UTF-8 text; save the file as UTF-8")
        raise _error(path, [fault]) from None


def _one_line(text: str) -> str:
    return clean(text).replace("\n", " ").replace("\t", " ")


def _error(path: Path, faults: list[Fault]) -> InventoryError:
    told = sorted(set(faults))
    lines = [f"{path}:{fault.at.line}:{fault.at.column}: {_one_line(fault.text)}" for fault in told[:MAX_FAULTS]]
    if len(told) > MAX_FAULTS:
        lines.append(f"{path}: and {len(told) - MAX_FAULTS:,} more; correct these first")
    return InventoryError("\n".join(lines))
