"""Recordings: JSON lines, one header and then one Record a line, as `dstui watch --output json` prints them.

A recording is written line by line, so whatever ended the writer, all lines but the last are whole; the reader leaves
a last line without its newline out. More may be recorded into the same file later; a new header marks the place.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dstui.model import UsageError
from dstui.telemetry.live import Live
from dstui.telemetry.live_log import event_record
from dstui.telemetry.record import FORMAT, VERSION, Record, encode
from dstui.telemetry.record import decode as decode_record
from dstui.telemetry.watched import Watched, watched_of

MAX_LINE_BYTES = 32 * 1024 * 1024
"""No source says more than this at once; a longer line is damage, and is not read into memory."""

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_AT = re.compile(rb'\{"at":(-?[0-9]{1,15}(?:\.[0-9]{1,9})?),"source":')
_TAIL_BYTES = 64 * 1024


def header_line(watched: Watched) -> str:
    """The first line of a recording, without the newline."""
    row = {"format": FORMAT, "version": VERSION, **watched.plain()}
    return _printable(json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def record_line(record: Record) -> str:
    """A Record as a line of a recording, without the newline. Safe to print on a terminal.

    A number that JSON cannot carry (NaN, infinity) becomes null: absent.
    """
    try:
        return _printable(encode(record))
    except ValueError:
        finite = _finite(record.data)
        assert isinstance(finite, dict)
        return _printable(encode(Record(record.at, record.source, record.kind, finite)))


def _printable(line: str) -> str:
    if line.isascii() and "\x7f" not in line:
        return line
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


class Recorder:
    """Writes a recording, mode 0600; to a file that is there already it appends, if that is one of the same cluster.

    All methods raise UsageError with the file's name. Each record is one write to the file: nothing is held back.
    """

    def __init__(self, path: Path, watched: Watched) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._cannot(error) from None
        try:
            self._take(watched)
            self._put(header_line(watched))
        except OSError as error:
            os.close(self._descriptor)
            raise self._cannot(error) from None
        except BaseException:
            os.close(self._descriptor)
            raise
        self._open = True

    def write(self, record: Record) -> None:
        """Appends one record."""
        try:
            self._put(record_line(record))
        except OSError as error:
            raise self._cannot(error) from None

    def close(self) -> None:
        """May be called again."""
        if self._open:
            self._open = False
            os.close(self._descriptor)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, watched: Watched) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self._path}: another dstui is recording into it; name another file") from None
        if os.fstat(self._descriptor).st_size == 0:
            return
        before = read_header(self._path)
        if (before.cluster, before.simulated) != (watched.cluster, watched.simulated):
            raise UsageError(f"{self._path}: is a recording of {before.cluster}{_kind(before)}; name another file")
        os.ftruncate(self._descriptor, _whole_bytes(self._descriptor))

    def _put(self, line: str) -> None:
        rest = memoryview(line.encode() + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _cannot(self, error: OSError) -> UsageError:
        return UsageError(f"{self._path}: cannot be recorded into ({error.strerror or error}); name another file")


def _kind(watched: Watched) -> str:
    return " (simulated)" if watched.simulated else ""


def _whole_bytes(descriptor: int) -> int:
    """Where the last whole line ends: what comes after it was cut while it was written."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def with_events(live: Live, sink: Callable[[Record], None]) -> Callable[[Record], None]:
    """Feeds the live view and hands the record on, and after it the changes that the view found in it."""

    def emit(record: Record) -> None:
        before = live.log.total
        live.feed(record)
        sink(record)
        for event in reversed(live.log.newest(live.log.total - before)):
            sink(event_record(event))

    return emit


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record starts in the file: seconds since the epoch, byte offset, line number."""

    at: float
    offset: int
    line: int


class Recording:
    """A recording to read. Raises UsageError with file and line for a file that is none or that is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            self.watched = _header(path, _line(path, file, 1), 1)
            self.first = self._place_of_first(file)
        self.last_at = self._last_at()

    def lines(self, start: Place) -> Iterator[tuple[Place, bytes]]:
        """Every whole line of a record from a place on, undecoded; headers between them are left out."""
        with _opened(self.path) as file:
            file.seek(start.offset)
            offset, number = start.offset, start.line
            while line := _line(self.path, file, number):
                if line.startswith(b'{"format"'):
                    _header(self.path, line, number)
                else:
                    yield Place(self._at(line, number), offset, number), line
                offset += len(line)
                number += 1

    def decode(self, place: Place, line: bytes) -> Record:
        """The Record of a line that `lines` gave."""
        return _record(self.path, line, place.line)

    def records(self) -> Iterator[Record]:
        """All records, as they were written."""
        for place, line in self.lines(self.first):
            yield self.decode(place, line)

    def _place_of_first(self, file: BinaryIO) -> Place:
        offset, number = file.tell(), 2
        while line := _line(self.path, file, number):
            if not line.startswith(b'{"format"'):
                return Place(self._at(line, number), offset, number)
            offset, number = file.tell(), number + 1
        raise UsageError(f"{self.path}: holds no record; nothing had answered when it was made")

    def _at(self, line: bytes, number: int) -> float:
        """When a record arrived, from the beginning of its line: most lines that are passed over are never decoded."""
        found = _AT.match(line)
        return float(found[1]) if found else _record(self.path, line, number).at

    def _last_at(self) -> float:
        """When the last whole record arrived; the file is not read through for it."""
        with _opened(self.path) as file:
            size = file.seek(0, os.SEEK_END)
            span = _TAIL_BYTES
            while True:
                start = max(self.first.offset, size - span)
                file.seek(start)
                tail = file.read(size - start)
                whole = tail[: tail.rfind(b"\n") + 1].split(b"\n")
                for line in reversed(whole if start == self.first.offset else whole[1:]):
                    if found := _AT.match(line):
                        return float(found[1])
                if start == self.first.offset:
                    return self.first.at
                span *= 4


def read_header(path: Path) -> Watched:
    """The first line of a recording. Raises UsageError for a file that is none."""
    with _opened(path) as file:
        return _header(path, _line(path, file, 1), 1)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _line(path: Path, file: BinaryIO, number: int) -> bytes:
    """The next line with its newline; empty at the end, and for a last line that was cut."""
    try:
        line = file.readline(MAX_LINE_BYTES)
    except OSError as error:
        raise UsageError(f"{path}:{number}: cannot be read ({error.strerror or error})") from None
    if line.endswith(b"\n"):
        return line
    if len(line) == MAX_LINE_BYTES:
        raise UsageError(f"{path}:{number}: is longer than any line of a dstui recording")
    return b""


def _header(path: Path, line: bytes, number: int) -> Watched:
    none = UsageError(f"{path}:{number}: is no dstui recording; make one with `dstui watch --record FILE`")
    try:
        row = json.loads(_text(path, line, number))
    except (ValueError, RecursionError):
        raise none from None
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise none
    if row.get("version") != VERSION:
        raise UsageError(
            f"{path}:{number}: is a recording of version {str(row.get('version'))[:20]}, this dstui reads {VERSION}"
        )
    try:
        return watched_of(row)
    except ValueError as error:
        raise UsageError(f"{path}:{number}: has a header that cannot be read: {error}") from None


def _record(path: Path, line: bytes, number: int) -> Record:
    try:
        return decode_record(_text(path, line, number), number, str(path))
    except RecursionError:
        raise UsageError(f"{path}:{number}: is no line of a dstui recording") from None


def _text(path: Path, line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}:{number}: is not UTF-8") from None
