"""The append-only record of everything that happened: SQLite, WAL, synchronous=FULL, a hash chain over the rows.

What is shown as recorded is committed first, so `kill -9` at any moment loses nothing that anybody saw. Several
processes (two operators on one jump host) may append to one journal; each append takes the write lock, reads the
last hash and chains to it. One thread owns the writing connection and commits what has queued up in one transaction.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path

from dstui.events import NEXT_RUN, Draft, Event, canonical, digest
from dstui.model import JournalError

FORMAT = 1
GENESIS = "0" * 64
BUSY_SECONDS = 10.0
"""How long an append waits for another process's write lock; commits take milliseconds."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, run INTEGER NOT NULL, actor TEXT NOT NULL,
    payload TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL UNIQUE) STRICT;
CREATE TRIGGER IF NOT EXISTS events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_remain BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


def default_path(cluster: str) -> Path:
    """Where a cluster's journal lives: `$XDG_STATE_HOME/dstui/<cluster>.journal`."""
    return user_state_path("dstui") / f"{cluster}.journal"


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first row whose hash does not follow from the rows before it."""

    seq: int
    why: str


class Journal:
    """One journal file. Blocking calls; `record` is the asynchronous way in for the engine and the app."""

    def __init__(self, path: Path, cluster: str, *, simulated: bool = False) -> None:
        """Opens or creates the file, mode 0600. Raises JournalError when it is no journal, or another cluster's."""
        self.path = path
        self.cluster = cluster
        self.simulated = simulated
        self._queue: queue.SimpleQueue[tuple[Sequence[Draft], Future[list[Event]]] | None] = queue.SimpleQueue()
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._reader = self._connect()
            try:
                self._prepare()
            except BaseException:
                self._reader.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"{path}: cannot be used as a journal ({error}). Nothing in it was changed. "
                "Name another file with --journal, or move this one away."
            ) from error
        self._writer_thread = threading.Thread(target=self._write_loop, name="dstui-journal", daemon=True)
        self._writer_thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._refuse_foreign(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise JournalError(f"{self.path}: written by a newer dstui (format {version}, this one reads {FORMAT})")
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if names - {"about", "events"}:
            raise JournalError(f"{self.path}: is another program's database. Name another file with --journal.")

    def _prepare(self) -> None:
        if self._reader.execute("PRAGMA user_version").fetchone()[0] < FORMAT:
            self._create()
        row = self._reader.execute("SELECT value FROM about WHERE name='cluster'").fetchone()
        owner = row[0] if row else None
        if owner != self.cluster:
            raise JournalError(
                f"{self.path}: is the journal of cluster {owner!r}, the inventory says {self.cluster!r}. "
                "Name another file with --journal."
            )

    def _create(self) -> None:
        # Another process may be creating the same file at this moment; every statement tolerates that.
        self._reader.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(_SCHEMA):
                self._reader.execute(statement)
            self._reader.execute("INSERT OR IGNORE INTO about VALUES ('cluster', ?)", (self.cluster,))
            self._reader.execute(f"PRAGMA user_version={FORMAT:d}")
            self._reader.execute("COMMIT")
        except sqlite3.Error:
            self._reader.execute("ROLLBACK")
            raise

    def append(self, *drafts: Draft) -> list[Event]:
        """Records drafts and returns the rows, committed. Raises JournalError when they could not be recorded."""
        return self._submit(drafts).result(timeout=BUSY_SECONDS * 3)

    async def record(self, *drafts: Draft) -> list[Event]:
        """`append` for the event loop: returns when the rows are on disk."""
        return await asyncio.wrap_future(self._submit(drafts))

    def _submit(self, drafts: Sequence[Draft]) -> Future[list[Event]]:
        if self._closed:
            raise JournalError(f"{self.path}: the journal is closed")
        future: Future[list[Event]] = Future()
        # Once queued the rows will be written; a caller that gives up must not make the writer skip them.
        future.set_running_or_notify_cancel()
        self._queue.put((drafts, future))
        return future

    def _write_loop(self) -> None:
        connection: sqlite3.Connection | None = None
        stopping = False
        while not stopping:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            stopping = None in batch
            jobs = [job for job in batch if job is not None]
            if not jobs:
                continue
            try:
                connection = connection or self._connect()
                written = self._commit(connection, [drafts for drafts, _ in jobs])
            except (sqlite3.Error, ValueError) as error:
                if connection is not None:
                    connection.close()
                    connection = None
                sentence = f"{self.path}: not recorded ({error}). Free space or fix the file, then do it again."
                for _, future in jobs:
                    future.set_exception(JournalError(sentence))
                continue
            for (_, future), events in zip(jobs, written, strict=True):
                future.set_result(events)
        if connection is not None:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, jobs: Sequence[Sequence[Draft]]) -> list[list[Event]]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            seq, prev = row or (0, GENESIS)
            written = []
            for drafts in jobs:
                events = []
                for draft in drafts:
                    seq += 1
                    run = draft.run if draft.run != NEXT_RUN else _next_run(connection)
                    body = canonical(draft.payload)
                    own = digest(prev, seq, draft.at, draft.kind, run, draft.actor, body)
                    connection.execute(
                        "INSERT INTO events VALUES (?,?,?,?,?,?,?,?)",
                        (seq, draft.at, str(draft.kind), run, draft.actor, body, prev, own),
                    )
                    events.append(Event(seq, draft.at, draft.kind, run, draft.actor, draft.payload, prev, own))
                    prev = own
                written.append(events)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return written

    def read(self, after: int = 0) -> Iterator[Event]:
        """Rows after number `after`, in order, own and others'. Raises JournalError at an unreadable row."""
        try:
            rows = self._reader.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (after,))
            for seq, at, kind, run, actor, body, prev, own in rows:
                yield Event(seq, at, kind, run, actor, _payload(body, seq), prev, own)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read ({error})") from error

    def verify(self) -> ChainBreak | None:
        """The first row that breaks the chain, or None. Recomputes every hash from what is stored."""
        prev, expected = GENESIS, 1
        try:
            for seq, at, kind, run, actor, body, row_prev, own in self._reader.execute(
                "SELECT * FROM events ORDER BY seq"
            ):
                if seq != expected:
                    return ChainBreak(expected, f"row {expected} is missing")
                if row_prev != prev:
                    return ChainBreak(seq, f"row {seq} does not follow from row {seq - 1}")
                if digest(prev, seq, at, kind, run, actor, body) != own:
                    return ChainBreak(seq, f"row {seq} was changed after it was written")
                prev, expected = own, seq + 1
        except sqlite3.Error as error:
            return ChainBreak(expected, f"cannot be read ({error})")
        return None

    def close(self) -> None:
        """Writes what is queued, then closes."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer_thread.join(timeout=BUSY_SECONDS * 2)
        self._reader.close()


def _next_run(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(run), 0) + 1 FROM events").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _payload(body: str, seq: int) -> dict[str, object]:
    try:
        payload = json.loads(body)
    except ValueError:
        raise JournalError(f"journal row {seq}: is not JSON") from None
    if not isinstance(payload, dict):
        raise JournalError(f"journal row {seq}: is not a JSON object")
    return payload
