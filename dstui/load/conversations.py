"""A file of prompts: ShareGPT's form, OpenAI messages or a plain prompt, a JSON object a line or one JSON list."""

from __future__ import annotations

import json
from pathlib import Path

from dstui.facts.untyped import rows, table, text
from dstui.model import UsageError

MOST_BYTES = 256 * 1024 * 1024
MOST = 20_000
"""Conversations that are kept; more make no better mix, and every worker gets them."""


def conversations(path: Path) -> tuple[tuple[str, ...], ...]:
    """What people say in each conversation, turn by turn. Raises UsageError with file and line."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path}: more than {MOST_BYTES >> 20} MiB; take a part of it")
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is no UTF-8") from error
    found = [turns for number, row in _rows(path, content) if (turns := _turns(path, number, row))]
    if not found:
        raise UsageError(f"{path}: no conversation in it")
    return tuple(found[:MOST])


def _rows(path: Path, content: str) -> list[tuple[int, object]]:
    if content.lstrip().startswith("["):
        try:
            whole = rows(json.loads(content))
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            raise UsageError(f"{path}:{line}: {error}") from error
        return [(number, row) for number, row in enumerate(whole or [], 1)]
    found: list[tuple[int, object]] = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append((number, json.loads(line)))
        except ValueError as error:
            raise UsageError(f"{path}:{number}: {error}") from error
    return found


def _turns(path: Path, number: int, row: object) -> tuple[str, ...]:
    """Empty where nobody asks anything: ShareGPT has such rows."""
    held = table(row)
    if held is None:
        raise UsageError(f"{path}:{number}: a conversation is a table")
    if (prompt := text(held.get("prompt"))) is not None:
        return (prompt,) if prompt.strip() else ()
    said = rows(held.get("messages", held.get("conversations")))
    if said is None:
        raise UsageError(f"{path}:{number}: has no `messages`, `conversations` or `prompt`")
    turns = []
    for each in said:
        message = table(each) or {}
        who = message.get("role", message.get("from"))
        what = text(message.get("content", message.get("value")))
        if who in ("user", "human") and what is not None and what.strip():
            turns.append(what)
    return tuple(turns)
