"""XIDs: from a record of the kernel's log to a mark on a GPU."""

from __future__ import annotations

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
from dstui.telemetry.live_log import Severity
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
