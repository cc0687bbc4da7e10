"""Recordings: what was written is read back, whatever ended the writer; damage is named with file and line."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.case import HostSite
from dstui.model import UsageError
from dstui.telemetry.record import Record, RecordKind, decode
from dstui.telemetry.recording import Recorder, Recording, record_line
from dstui.telemetry.watched import Watched

GPU_01 = HostSite("gpu-01", frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "", True, 8)
WATCHED = Watched("ds-prod", (GPU_01,), False, {"host": 1.0, "ray": 5.0}, 256)


def sample(at: float, **more: object) -> Record:
    return Record(at, "host:gpu-01", RecordKind.SAMPLE, {"seq": 1, **more})


def written(path: Path, *records: Record, watched: Watched = WATCHED) -> Path:
    with Recorder(path, watched) as recorder:
        for record in records:
            recorder.write(record)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    lost = Record(1002.5, "ray", RecordKind.LOST, {"reason": "timeout", "why": "仪表盘无响应"})
    recording = Recording(written(tmp_path / "r.jsonl", sample(1000.0, cpu=None), lost))
    assert recording.watched == WATCHED
    assert list(recording.records()) == [sample(1000.0, cpu=None), lost]
    assert (recording.first.at, recording.last_at) == (1000.0, 1002.5)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", sample(1.0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_record_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r.jsonl", WATCHED) as recorder:
        recorder.write(sample(1.0))
        assert len(list(Recording(tmp_path / "r.jsonl").records())) == 1


def test_recording_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", sample(1.0))
    written(path, sample(5.0))
    assert [r.at for r in Recording(path).records()] == [1.0, 5.0]
    assert path.read_text().count('"format"') == 2


@pytest.mark.parametrize("lost_bytes", [1, 7, 30])
def test_a_cut_last_line_is_left_out_and_does_not_spoil_what_is_appended(tmp_path: Path, lost_bytes: int) -> None:
    path = written(tmp_path / "r.jsonl", sample(1.0), sample(2.0))
    os.truncate(path, path.stat().st_size - lost_bytes)
    assert [r.at for r in Recording(path).records()] == [1.0]
    assert Recording(path).last_at == 1.0
    written(path, sample(3.0))
    assert [r.at for r in Recording(path).records()] == [1.0, 3.0]


def test_recording_into_one_that_holds_no_record_yet(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl")
    with pytest.raises(UsageError, match="holds no record"):
        Recording(path)
    written(path, sample(3.0))
    assert [r.at for r in Recording(path).records()] == [3.0]


def test_what_is_no_recording_of_the_cluster_is_not_written_into(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", sample(1.0))
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"r\.jsonl: is a recording of ds-prod; name another"):
        Recorder(path, Watched("other"))
    with pytest.raises(UsageError, match="is a recording of ds-prod"):
        Recorder(path, Watched("ds-prod", simulated=True))
    assert path.read_bytes() == before
    notes = tmp_path / "notes.txt"
    notes.write_text("hosts to look at\n")
    with pytest.raises(UsageError, match=r"notes\.txt:1: is no dstui recording"):
        Recorder(notes, WATCHED)
    assert notes.read_text() == "hosts to look at\n"


def test_two_do_not_record_into_one_file(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r.jsonl", WATCHED), pytest.raises(UsageError, match="another dstui is recording"):
        Recorder(tmp_path / "r.jsonl", WATCHED)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be recorded into \(No such file"):
        Recorder(tmp_path / "no" / "r.jsonl", WATCHED)
    with pytest.raises(UsageError, match=r"cannot be recorded into \(Is a directory"):
        Recorder(tmp_path, WATCHED)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    with pytest.raises(UsageError, match=r"/dev/full: cannot be recorded into \(No space left"):
        Recorder(Path("/dev/full"), WATCHED)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ":1: is no dstui recording"),
        (b"{}\n", ":1: is no dstui recording"),
        (b"[" * 5000 + b"\n", ":1: is no dstui recording"),
        (b"\xff\xfe\n", ":1: is not UTF-8"),
        (b'{"format":"dstui-live","version":9}\n', ":1: is a recording of version 9, this dstui reads 1"),
        (
            b'{"format":"dstui-live","version":1,"cluster":7}\n',
            ":1: has a header that cannot be read: cluster or simulated",
        ),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        Recording(tmp_path / "r")


@pytest.mark.parametrize(
    "line",
    [b"garbage", b'{"at":1,"source":"ray","kind":"noise","data":{}}', b'{"at":1.0,"source":2}', b"\xff", b"[" * 5000],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path / "r", sample(1.0))
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UsageError, match=r"/r:3: (is no line|has fields|is not UTF-8)"):
        list(Recording(path).records())


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dstui.telemetry.recording.MAX_LINE_BYTES", 1000)
    path = written(tmp_path / "r", sample(1.0), sample(2.0, noise="x" * 2000))
    with pytest.raises(UsageError, match=r"/r:3: is longer than any line"):
        list(Recording(path).records())


def test_the_last_moment_is_found_behind_a_long_line(tmp_path: Path) -> None:
    path = written(tmp_path / "r", sample(1.0), sample(2.0, noise="x" * 300_000))
    assert Recording(path).last_at == 2.0


def test_numbers_that_json_cannot_carry_become_absent() -> None:
    line = record_line(sample(1.0, cpu=float("nan"), gpus=[{"power": float("inf"), "util": 3}]))
    assert decode(line, 1).data == {"seq": 1, "cpu": None, "gpus": [{"power": None, "util": 3}]}


@given(st.text(st.characters(blacklist_categories=())))
def test_any_text_makes_one_harmless_line(text: str) -> None:
    line = record_line(sample(1.0, why=text))
    assert line.encode().count(b"\n") == 0
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line)
    assert decode(line, 1).data["why"] == text
