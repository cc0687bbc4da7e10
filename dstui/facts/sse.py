"""Server-sent events (text/event-stream, WHATWG HTML 9.2) from bytes that may be split anywhere and mean anything."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from dstui.facts.raw import Missing
from dstui.model import Reason

MEDIA_TYPE = "text/event-stream"
DONE = "[DONE]"
"""The data of the last event of an OpenAI stream."""

LINE_LIMIT = 1024 * 1024
"""Bytes of a line that are kept; a longer one makes its event one that is not `whole`."""

_BOM = b"\xef\xbb\xbf"
_NEWLINE = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event. `data` are its data lines joined by newlines; `name` is `message` unless the server gave one.

    `end` is how many bytes of the stream had come when the event was complete, for `Exchange.when`. An event is not
    `whole` when a line of it is not UTF-8 or too long; what is no UTF-8 is then replaced in `data`.
    """

    data: str
    name: str = "message"
    id: str = ""
    end: int = 0
    whole: bool = True

    @property
    def done(self) -> bool:
        """Whether this is the mark that an OpenAI stream ends with."""
        return self.data.strip() == DONE

    def json(self) -> object | Missing:
        """The data as JSON; Missing(parse-error) when they are none, or when the event is not whole."""
        if not self.whole:
            return Missing(Reason.PARSE_ERROR, f"the event that ends at byte {self.end} is no valid UTF-8, or too long")
        try:
            found: object = json.loads(self.data)
        except (ValueError, RecursionError) as error:
            why = f"the data of the event that ends at byte {self.end} are no JSON ({type(error).__name__})"
            return Missing(Reason.PARSE_ERROR, why)
        return found


class SseParser:
    """Feed it the stream piece by piece; it never raises. Linear in the bytes fed, however they are split.

    `comments` counts comment lines (keep-alives), `ignored` lines with a field that the standard does not know: a body
    that is no event stream at all gives only those. `retry` is the last reconnection time asked for, in milliseconds.
    """

    __slots__ = (
        "_data", "_first", "_id", "_line", "_long", "_name", "_seen", "_skip_lf", "_whole", "comments", "ignored",
        "retry",
    )  # fmt: skip

    def __init__(self) -> None:
        self.comments = 0
        self.ignored = 0
        self.retry: int | None = None
        self._line = bytearray()
        self._long = False
        self._data: list[str] = []
        self._name = ""
        self._id = ""
        self._whole = True
        self._skip_lf = False
        self._seen = 0
        self._first = True

    @property
    def unfinished(self) -> bool:
        """Whether bytes have come after the last complete event that begin another: the stream was broken off."""
        return bool(self._line or self._long or self._data or self._name)

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that this piece completes."""
        complete: list[SseEvent] = []
        begin = 0
        if piece:
            if self._skip_lf and piece.startswith(b"\n"):
                begin = 1
            self._skip_lf = piece.endswith(b"\r")
        for newline in _NEWLINE.finditer(piece, begin):
            self._keep(piece[begin : newline.start()])
            begin = newline.end()
            event = self._take_line(self._seen + begin)
            if event is not None:
                complete.append(event)
        self._keep(piece[begin:])
        self._seen += len(piece)
        return complete

    def _keep(self, part: bytes) -> None:
        room = LINE_LIMIT - len(self._line)
        if len(part) > room:
            self._long = True
        self._line += part[:room]

    def _take_line(self, end: int) -> SseEvent | None:
        line, long = bytes(self._line), self._long
        self._line.clear()
        self._long = False
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch(end)
        if line.startswith(b":"):
            self.comments += 1
            return None
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("utf-8", "replace")
            self._whole = False
        self._whole = self._whole and not long
        field, _, value = text.partition(":")
        self._take_field(field, value.removeprefix(" "))
        return None

    def _take_field(self, field: str, value: str) -> None:
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id":
            if "\0" not in value:
                self._id = value
        elif field == "retry":
            if value.isascii() and value.isdigit() and len(value) <= 12:
                self.retry = int(value)
        else:
            self.ignored += 1

    def _dispatch(self, end: int) -> SseEvent | None:
        event = None
        if self._data:
            event = SseEvent("\n".join(self._data), self._name or "message", self._id, end, self._whole)
        self._data = []
        self._name = ""
        self._whole = True
        return event


def events(body: bytes) -> list[SseEvent]:
    """The complete events of a whole body. What comes after the last empty line was broken off and is none."""
    return SseParser().feed(body)
