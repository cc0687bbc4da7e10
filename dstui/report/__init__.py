"""Exports, made from the state alone: Markdown for people, JSON for programs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from dstui.model import UsageError
from dstui.report.snapshot import Snapshot

FORMATS = ("markdown", "json")

__all__ = ["FORMATS", "Snapshot", "render", "write_atomically"]


def render(snapshot: Snapshot, format: str) -> str:
    """The report as text. Raises UsageError for a format that there is not."""
    if format == "markdown":
        from dstui.report import markdown

        return markdown.render(snapshot)
    if format == "json":
        from dstui.report.json_report import report

        return json.dumps(report(snapshot), ensure_ascii=False, indent=2) + "\n"
    raise UsageError(f"format {format!r}: there are {' and '.join(FORMATS)}")


def write_atomically(path: Path, text: str) -> str:
    """Writes a file whole or not at all and returns its SHA-256. Raises UsageError when it cannot be written."""
    data = text.encode("utf-8", "replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); choose another file") from error
    return hashlib.sha256(data).hexdigest()
