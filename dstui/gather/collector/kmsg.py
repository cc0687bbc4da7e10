"""XIDs, the NVIDIA driver's error numbers, as the kernel's log has them; read in a child."""

import os
import re
import time

from dstui.gather.collector.wire import os_missing, text

PATH = "/dev/kmsg"
KEPT_SECONDS = 3600.0
MOST_XIDS = 16
MOST_CHARS = 160
RETRY_SECONDS = 60.0
_RECORD_BYTES = 8192
_RECORDS_A_LOOK = 200000
"""More than a kernel's log holds; a flood is gone on with in the next look."""

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]{4,24})\): (\d{1,4})(?:, ?(.*))?")


class XidWatch:
    """Remembers the XIDs of the last hour, the newest 16."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._descriptor = -1
        self._tried_at = None  # type: float | None
        self._missing: "dict[str, object] | None" = None
        self._xids: "list[dict[str, object]]" = []

    def look(self) -> "dict[str, object]":
        """`{"xids": [{"at", "pci", "xid", "text"}] | None, "xid_missing": None | {"reason", "why"}}`, oldest first."""
        now = time.time()
        if self._descriptor < 0 and (self._tried_at is None or now - self._tried_at >= RETRY_SECONDS):
            self._tried_at = now
            self._open()
        if self._descriptor < 0:
            return {"xids": None, "xid_missing": self._missing}
        self._read(now - uptime())
        self._xids = [xid for xid in self._xids if now - number_of(xid) <= KEPT_SECONDS][-MOST_XIDS:]
        return {"xids": self._xids, "xid_missing": None}

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            self._missing = None
        except OSError as error:
            said = os_missing(error, self._path)
            self._missing = {"reason": said["missing"], "why": said["why"]}

    def _read(self, booted_at: float) -> None:
        for _ in range(_RECORDS_A_LOOK):
            try:
                record = os.read(self._descriptor, _RECORD_BYTES)
            except BrokenPipeError:
                # Records were overwritten before they were read; the next read goes on behind them.
                continue
            except BlockingIOError:
                return
            except OSError as error:
                os.close(self._descriptor)
                said = os_missing(error, self._path)
                self._descriptor, self._missing = -1, {"reason": said["missing"], "why": said["why"]}
                return
            if not record:
                return
            xid = parsed(record, booted_at)
            if xid is not None:
                self._xids = self._xids[-MOST_XIDS:] + [xid]


def parsed(record: bytes, booted_at: float) -> "dict[str, object] | None":
    """The XID in one record of /dev/kmsg (`priority,sequence,microseconds,flags;message`); None when it holds none."""
    head, _, message = record.partition(b";")
    found = _XID.search(text(message.split(b"\n", 1)[0]))
    fields = head.split(b",")
    if found is None or len(fields) < 3 or not fields[2].isdigit():
        return None
    return {
        "at": round(booted_at + int(fields[2]) / 1e6, 3),
        "pci": found.group(1).lower(),
        "xid": int(found.group(2)),
        "text": (found.group(3) or "").strip()[:MOST_CHARS],
    }


def number_of(xid: "dict[str, object]") -> float:
    """When it was."""
    at = xid["at"]
    return at if isinstance(at, float) else 0.0


def uptime() -> float:
    """Seconds since the kernel started, by the clock that its log uses."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
