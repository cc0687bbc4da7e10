"""One thing that a source said, as it streams, is recorded, replayed and folded: the only way into the live view.

Host streams, Ray polls, vLLM scrapes, the embedded fleet and a file that is replayed all give Records; `Live.feed`
takes nothing else, so what is on the screen can be recorded and seen again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dstui.model import UsageError

FORMAT = "dstui-live"
VERSION = 1


class RecordKind(StrEnum):
    """A SAMPLE carries values; LOST says that the source stopped answering and why; EVENT is a change worth a line."""

    SAMPLE = "sample"
    LOST = "lost"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Record:
    """`at` is the controller's clock, seconds since the epoch, when it arrived.

    `source` is `host:<name>`, `ray`, or `vllm:<replica>`; `data` is JSON-able and holds no secret. An absent value is
    null or a missing key, never 0.
    """

    at: float
    source: str
    kind: RecordKind
    data: Mapping[str, object]


def encode(record: Record) -> str:
    """One JSON line, without the newline."""
    row = {"at": round(record.at, 3), "source": record.source, "kind": record.kind.value, "data": record.data}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode(line: str, number: int, name: str = "recording") -> Record:
    """A line back as a Record. Raises UsageError with `name:number` when it is none."""
    try:
        row = json.loads(line)
        at, source, kind, data = row["at"], row["source"], RecordKind(row["kind"]), row["data"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{name}:{number}: is no line of a dstui recording") from None
    if (
        isinstance(at, bool)
        or not isinstance(at, int | float)
        or not isinstance(source, str)
        or not isinstance(data, dict)
    ):
        raise UsageError(f"{name}:{number}: has fields of the wrong type")
    return Record(float(at), source, kind, data)
