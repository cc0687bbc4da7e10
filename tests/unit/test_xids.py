"""XIDs: from a record of the kernel's log to a mark on a GPU."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.case import HostSite
from dstui.gather.collector import kmsg
from dstui.model import Reason
from dstui.telemetry import host as host_sample
from dstui.telemetry import live_views, live_xids
from dstui.telemetry.live import Live
from dstui.telemetry.live_host_changes import HostChanges
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_status import Pulse
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched

T = 1_800_000_000.0
FALLEN = (
    b"3,1803,98000000,-;NVRM: Xid (PCI:0000:4e:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n"
)
OLDER_FORM = b"4,12,5000000,-;NVRM: Xid (0000:1b:00.0): 31, Ch 0000001b, intr 10000000. MMU Fault\n SUBSYSTEM=pci\n"


def test_records_of_the_kernels_log() -> None:
    assert kmsg.parsed(FALLEN, T) == {
        "at": T + 98, "pci": "0000:4e:00", "xid": 79,
        "text": "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    }  # fmt: skip
    found = kmsg.parsed(OLDER_FORM, T)
    assert found is not None
    assert (found["pci"], found["xid"], found["text"]) == ("0000:1b:00.0", 31, "Ch 0000001b, intr 10000000. MMU Fault")


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b";",
        b"3,1,1,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
        b"3,1,x,-;NVRM: Xid (PCI:0000:4e:00): 79, pid=1",
        b"NVRM: Xid (PCI:0000:4e:00): 79, pid=1",
        b"3,1,1,-;NVRM: Xid (PCI:\xff\xfe): 79, pid=1",
    ],
)
def test_what_is_no_xid(record: bytes) -> None:
    assert kmsg.parsed(record, T) is None


@given(st.binary(max_size=300))
def test_no_record_breaks_it(record: bytes) -> None:
    kmsg.parsed(record, T)
    kmsg.parsed(b"3,1,5,-;NVRM: Xid (PCI:0000:4e:00): 79, " + record, T)


def test_a_log_that_may_not_be_read(tmp_path: Path) -> None:
    watch = kmsg.XidWatch(str(tmp_path / "absent"))
    found = watch.look()
    assert found["xids"] is None
    missing = found["xid_missing"]
    assert isinstance(missing, dict)
    assert missing["reason"]
    assert watch.look() == found, "it is not asked again at once"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (errno.EPERM, "EPERM: /dev/kmsg: Operation not permitted"),  # kernel.dmesg_restrict without the capability
        (errno.EACCES, "EACCES: /dev/kmsg: Permission denied"),  # the device's own mode
    ],
)
def test_who_may_not_read_the_log_is_told_why_and_asked_again_later(
    error: int, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: str, flags: int) -> int:
        tries.append(path)
        raise OSError(error, os.strerror(error))

    tries: list[str] = []
    now = [T]
    monkeypatch.setattr("dstui.gather.collector.kmsg.os.open", refuse)
    monkeypatch.setattr("dstui.gather.collector.kmsg.time.time", lambda: now[0])
    watch = kmsg.XidWatch()
    assert watch.look() == {"xids": None, "xid_missing": {"reason": "permission", "why": why}}
    now[0] += kmsg.RETRY_SECONDS - 1
    watch.look()
    assert len(tries) == 1
    monkeypatch.undo()
    allowed = tmp_path / "kmsg"
    allowed.write_bytes(b"")
    watch = kmsg.XidWatch(str(allowed))
    assert watch.look() == {"xids": [], "xid_missing": None}, "none, which is not the same as not known"


def test_records_that_were_overwritten_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A flood of other messages: the kernel answers EPIPE once, then goes on with the oldest that it still has."""
    path = tmp_path / "kmsg"
    path.write_bytes(b"")
    answers: list[bytes | OSError] = [
        recent(48), BrokenPipeError(), b"\xff\x00garbled", recent(79), BlockingIOError(),
    ]  # fmt: skip

    def read(descriptor: int, size: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("dstui.gather.collector.kmsg.os.read", read)
    xids = kmsg.XidWatch(str(path)).look()["xids"]
    assert isinstance(xids, list)
    assert [xid["xid"] for xid in xids] == [48, 79]


def test_a_log_that_breaks_off_is_not_known_any_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(b"")
    watch = kmsg.XidWatch(str(path))
    assert watch.look()["xids"] == []

    def fail(descriptor: int, size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dstui.gather.collector.kmsg.os.read", fail)
    watch.look()
    found = watch.look()
    assert found["xids"] is None
    assert found["xid_missing"] == {"reason": "cannot-tell", "why": f"EIO: {path}: Input/output error"}


def test_only_the_newest_of_the_last_hour_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(b"")
    old = int((kmsg.uptime() - kmsg.KEPT_SECONDS - 60) * 1e6)
    answers = [b"3,1,%d,-;NVRM: Xid (PCI:0000:4e:00): 31, pid=1\n" % old] if old > 0 else []
    answers += [recent(number) for number in range(100, 100 + kmsg.MOST_XIDS + 4)]

    def read(descriptor: int, size: int) -> bytes:
        if not answers:
            raise BlockingIOError
        return answers.pop(0)

    monkeypatch.setattr("dstui.gather.collector.kmsg.os.read", read)
    xids = kmsg.XidWatch(str(path)).look()["xids"]
    assert isinstance(xids, list)
    assert [xid["xid"] for xid in xids] == list(range(104, 104 + kmsg.MOST_XIDS))


def test_records_are_kept_and_more_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    ready = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(recent(79))
            ready.set()
            done.wait(10)

    done = threading.Event()
    watch = kmsg.XidWatch(str(path))
    watch.look()
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert ready.wait(10)
    xids = watch.look()["xids"]
    assert isinstance(xids, list)
    assert [xid["xid"] for xid in xids] == [79]
    assert watch.look()["xids"] == xids, "nothing new is no loss"
    done.set()
    writer.join(10)


def recent(number: int) -> bytes:
    return b"3,1,%d,-;NVRM: Xid (PCI:0000:4e:00): %d, pid=1\n" % (int(kmsg.uptime() * 1e6), number)


def sample(*xids: dict[str, object], missing: object = None) -> dict[str, object]:
    gpu = {
        "index": 3, "uuid": "GPU-3", "name": "H100", "util": 90, "mem_used": 1e9, "mem_total": 8e10, "temp": 60,
        "reasons": [], "procs": [], "error": None, "pci": "00000000:4E:00.0",
    }  # fmt: skip
    listed = None if missing else list(xids)
    return {"seq": 1, "hz": 1.0, "gpu_source": "nvml", "gpus": [gpu], "xids": listed, "xid_missing": missing}


def xid(number: int, at: float = T - 60, pci: str = "0000:4e:00") -> dict[str, object]:
    return {"at": at, "pci": pci, "xid": number, "text": "pid=1"}


def live(*records: dict[str, object]) -> Live:
    site = HostSite("gpu-01", frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "ops", True, 1)
    watching = Live(Watched("ds", (site,)))
    for number, data in enumerate(records):
        watching.feed(Record(T + number, "host:gpu-01", RecordKind.SAMPLE, data))
    return watching


@pytest.mark.parametrize(
    ("number", "severity"), [(79, Severity.FAIL), (48, Severity.FAIL), (94, Severity.WARN), (31, Severity.INFO)]
)
def test_a_new_xid_is_told_once_with_its_gpu(number: int, severity: Severity) -> None:
    watching = live(sample(), sample(xid(number)), sample(xid(number)))
    told = [row for row in live_views.events(watching) if "XID" in row.text.en]
    assert [(row.severity, row.text.en.split(" ")[0], row.count) for row in told] == [(severity, "gpu-01:3", 1)]
    assert "0000:4e:00" in told[0].text.en


def test_a_stream_that_begins_anew_tells_nothing_twice() -> None:
    """It reckons the times anew from the host's clock, which was set a little since."""
    watching = live(sample(xid(79, T - 60), xid(48, T - 60)), sample(xid(79, T - 59.2), xid(48, T - 60.7)))
    assert sorted(row.text.en[9:15] for row in live_views.events(watching) if "XID" in row.text.en) == [
        "XID 48",
        "XID 79",
    ]
    watching.feed(Record(T + 2, "host:gpu-01", RecordKind.SAMPLE, sample(xid(79, T - 59.2), xid(79, T + 1))))
    assert sum("XID 79" in row.text.en for row in live_views.events(watching)) == 2, "it happened again"


def test_a_host_that_makes_xids_up_costs_no_memory() -> None:
    changes = HostChanges("gpu-01", 1)
    for number in range(400):
        parsed = host_sample.parse(sample(xid(79, T + number, f"{number:04x}:00:00")))
        told = changes.sampled(T + number, None, parsed, Pulse(1.0), odd=False)
        assert sum("XID" in event.what.en for event in told) == 1
    assert len(changes._xids_told) <= 128


def test_what_the_hardware_did_is_marked_and_what_a_program_did_is_not() -> None:
    (row,) = live_views.grid(live(sample(xid(79), xid(79, T - 50), xid(31))), T).rows
    assert [(mark.kind, mark.severity, mark.gpus, mark.text.en) for mark in row.marks] == [
        ("xid", Severity.FAIL, (3,), "XID 79, fell off the bus")
    ]


def test_one_of_a_gpu_that_is_not_listed_any_more_is_still_the_hosts() -> None:
    (row,) = live_views.grid(live(sample(xid(79, pci="0000:9d:00"))), T).rows
    assert [(mark.kind, mark.gpus) for mark in row.marks] == [("xid", ())]


def test_a_log_that_cannot_be_read_is_absent_not_empty() -> None:
    parsed = host_sample.parse(sample(missing={"reason": "permission", "why": "/dev/kmsg: Operation not permitted"}))
    assert parsed.xids is None
    assert parsed.xid_missing is not None
    assert parsed.xid_missing.reason is Reason.PERMISSION
    assert host_sample.parse(sample()).xids == ()


def test_a_sample_stays_the_same_through_a_recording() -> None:
    parsed = host_sample.parse(sample(xid(79)))
    assert host_sample.parse(host_sample.to_json(parsed)) == parsed
    assert live_xids.on_gpu(parsed, 3) == parsed.xids
    assert live_xids.on_gpu(parsed, 2) == ()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["at", "pci", "xid", "text"]), inner),
    max_leaves=12,
)


@given(ANYTHING)
def test_whatever_a_host_says_is_parsed(said: object) -> None:
    host_sample.parse({"seq": 1, "xids": said, "xid_missing": said, "gpus": [{"index": 0, "pci": said}]})
