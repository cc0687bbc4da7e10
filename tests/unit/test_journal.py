"""The journal on real SQLite files: chained, append-only, shared between processes, whole after kill -9."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dstui.events import NEXT_RUN, Draft, EventKind
from dstui.journal import GENESIS, Journal
from dstui.model import JournalError


def _note(text: str, at: float = 1.0) -> Draft:
    return Draft(EventKind.NOTE, {"check": "hw.memory", "target": None, "person": "li.na", "text": text}, "li.na", at)


@pytest.fixture
def journal(tmp_path: Path):
    opened = Journal(tmp_path / "state" / "a.journal", "ds-prod")
    yield opened
    opened.close()


def test_rows_are_numbered_and_chained(journal: Journal) -> None:
    first, second = journal.append(_note("one"), _note("two"))
    assert (first.seq, second.seq) == (1, 2)
    assert first.prev == GENESIS
    assert second.prev == first.hash
    assert [e.payload["text"] for e in journal.read()] == ["one", "two"]
    assert [e.seq for e in journal.read(after=1)] == [2]
    assert journal.verify() is None


def test_the_file_is_private(journal: Journal) -> None:
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_rows_survive_closing(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with_rows = Journal(path, "ds-prod")
    with_rows.append(_note("kept"))
    with_rows.close()
    again = Journal(path, "ds-prod")
    assert [e.payload["text"] for e in again.read()] == ["kept"]
    again.append(_note("more"))
    assert again.verify() is None
    again.close()


def test_sqlite_itself_refuses_to_change_or_delete_a_row(journal: Journal) -> None:
    journal.append(_note("stays"))
    other = sqlite3.connect(journal.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute("UPDATE events SET payload='{}'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute("DELETE FROM events")
    other.close()


@pytest.mark.parametrize(
    ("tampering", "row", "word"),
    [
        ("UPDATE events SET payload=replace(payload, 'two', 'TWO') WHERE seq=2", 2, "changed"),
        ("UPDATE events SET actor='somebody.else' WHERE seq=2", 2, "changed"),
        ("DELETE FROM events WHERE seq=2", 2, "missing"),
        ("UPDATE events SET prev=hash WHERE seq=3", 3, "follow"),
    ],
)
def test_tampering_is_found_at_its_row(journal: Journal, tampering: str, row: int, word: str) -> None:
    journal.append(_note("one"), _note("two"), _note("three"))
    other = sqlite3.connect(journal.path)
    other.executescript("DROP TRIGGER events_stay; DROP TRIGGER events_remain;")
    other.execute(tampering)
    other.commit()
    other.close()
    broken = journal.verify()
    assert broken is not None
    assert broken.seq == row
    assert word in broken.why


def test_run_numbers_are_given_at_commit(journal: Journal) -> None:
    start = Draft(EventKind.RUN_STARTED, {"checks": [], "hosts": []}, "li.na", 1.0, NEXT_RUN)
    assert [e.run for e in journal.append(start)] == [1]
    assert [e.run for e in journal.append(start, start)] == [2, 3]


async def test_concurrent_records_all_arrive_in_one_chain(journal: Journal) -> None:
    events = await asyncio.gather(*(journal.record(_note(str(n))) for n in range(200)))
    assert sorted(e.seq for (e,) in events) == list(range(1, 201))
    assert journal.verify() is None


async def test_a_caller_that_gives_up_leaves_its_row_recorded(journal: Journal) -> None:
    task = asyncio.create_task(journal.record(_note("given up")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    journal.append(_note("after"))
    assert [e.payload["text"] for e in journal.read()] == ["given up", "after"]


_WRITER = """
import sys
from pathlib import Path
from dstui.events import Draft, EventKind
from dstui.journal import Journal
journal = Journal(Path(sys.argv[1]), "ds-prod")
for n in range(int(sys.argv[3])):
    row = {"check": "hw.memory", "target": None, "person": sys.argv[2], "text": str(n)}
    event, = journal.append(Draft(EventKind.NOTE, row, sys.argv[2], 1.0))
    print(event.seq, event.hash, flush=True)
journal.close()
"""


def test_two_processes_share_one_chain(journal: Journal) -> None:
    argv = [sys.executable, "-c", _WRITER, str(journal.path)]
    both = [subprocess.Popen([*argv, who, "40"], stdout=subprocess.DEVNULL) for who in ("zhang.wei", "li.na")]
    for process in both:
        assert process.wait(timeout=60) == 0
    events = list(journal.read())
    assert len(events) == 80
    assert {e.actor for e in events} == {"zhang.wei", "li.na"}
    assert journal.verify() is None


def test_kill_9_loses_nothing_that_was_said_to_be_recorded(journal: Journal) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(journal.path), "li.na", "100000"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [process.stdout.readline().split() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    said += [line.split() for line in process.stdout.read().splitlines() if len(line.split()) == 2]
    process.wait(timeout=30)
    process.stdout.close()
    kept = {str(e.seq): e.hash for e in journal.read()}
    assert all(kept.get(seq) == digest for seq, digest in said if len(digest) == 64)
    assert journal.verify() is None
    assert journal.append(_note("life goes on"))[0].seq == len(kept) + 1


def test_another_clusters_journal_is_refused(journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"'ds-prod'.*'other'"):
        Journal(journal.path, "other")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, long enough to be looked at as a database header by anybody who tries\n" * 20)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="--journal"):
        Journal(path, "ds-prod")
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "grafana.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE dashboards (id INTEGER)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another program"):
        Journal(path, "ds-prod")
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.journal"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.commit()
    database.close()
    with pytest.raises(JournalError, match="newer dstui"):
        Journal(path, "ds-prod")


def test_a_row_that_is_not_json_is_named(journal: Journal) -> None:
    journal.append(_note("fine"))
    other = sqlite3.connect(journal.path)
    other.execute("INSERT INTO events VALUES (2, 1.0, 'note', 0, 'x', 'not json', 'p', 'h')")
    other.commit()
    other.close()
    with pytest.raises(JournalError, match="row 2"):
        list(journal.read())


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        Journal(blocker / "a.journal", "ds-prod")


def test_after_closing_nothing_is_taken(journal: Journal) -> None:
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append(_note("late"))


def test_text_of_every_kind_survives(journal: Journal) -> None:
    text = "机架三 \x1b[31m`|` \U0001f600 \u202e | </script>"
    journal.append(_note(text))
    assert next(iter(journal.read())).payload["text"] == text
    assert journal.verify() is None
