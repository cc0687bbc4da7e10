"""Looks into a host's structured answer, which may be of any shape, without trusting it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dstui.facts.raw import Answer, Missing, Raw, cut_short
from dstui.model import Reason

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def table(value: object) -> Mapping[str, object] | None:
    """A JSON object with text keys; None for anything else."""
    return value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else None


def rows(value: object) -> list[object] | None:
    """A JSON array; None for anything else."""
    return value if isinstance(value, list) else None


def text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def whole(value: object) -> int | None:
    """A whole number that is not a boolean; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def real(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def command(raw: Raw, key: str) -> Answer | Missing:
    """A command that ran, whatever its exit code; a shell's 126 and 127 mean that it did not run.

    An output that was cut off is Missing(budget).
    """
    found = raw.answer(key)
    if isinstance(found, Missing):
        return found
    if found.exit == _NOT_FOUND:
        return Missing(Reason.TOOL_MISSING, f"{found.source}: command not found")
    if found.exit == _NOT_EXECUTABLE:
        return Missing(Reason.PERMISSION, f"{found.source}: may not be run")
    return cut_short(found) or found


def garbled(raw: Raw, key: str, what: str) -> Missing:
    """The Missing for an answer that came and could not be understood."""
    found = raw.answers.get(key)
    return Missing(Reason.PARSE_ERROR, f"{found.source if found else key}: {what}")
