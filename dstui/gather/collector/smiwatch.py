"""The GPUs of a host where NVML cannot be used by Python: one run of nvidia-smi per sample, at most one a second."""

import os
import select
import time

from dstui.gather.collector.commands import find, spawn
from dstui.gather.collector.gpuwatch import EMPTY, MOST_GPUS, nothing, words
from dstui.gather.collector.loop import abandon, read_some, reap
from dstui.gather.collector.wire import os_missing, text

EVERY_SECONDS = 1.0
RUN_SECONDS = 20.0
"""Without the persistence daemon nvidia-smi starts the driver first, which takes seconds."""
ABSENT_SECONDS = 60.0
MOST_BYTES = 256 * 1024
MIB = 1024 * 1024

COLUMNS = (
    ("index", "index"),
    ("uuid", "uuid"),
    ("name", "name"),
    ("util", "utilization.gpu"),
    ("mem_util", "utilization.memory"),
    ("mem_used", "memory.used"),
    ("mem_total", "memory.total"),
    ("temp", "temperature.gpu"),
    ("power", "power.draw"),
    ("power_limit", "enforced.power.limit"),
    ("sm_mhz", "clocks.sm"),
    ("mem_mhz", "clocks.mem"),
    ("ecc_uncorrected", "ecc.errors.uncorrected.volatile.total"),
    ("pcie_gen", "pcie.link.gen.current"),
    ("pcie_width", "pcie.link.width.current"),
    ("pci", "pci.bus_id"),
)
REASON_COLUMNS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active", "")
"""The newer name, the older one, and for drivers that know neither: none."""


class SmiWatch:
    """Remembers which column names this nvidia-smi knows, and its last answer."""

    def __init__(self) -> None:
        self._reasons = 0
        self._last: "dict[str, object]" = {}
        self._next_at = 0.0

    def look(self, why: str) -> "dict[str, object]":
        """The GPU part of a sample; `why` is what speaks against NVML."""
        now = time.monotonic()
        if now >= self._next_at:
            self._last = dict(self._ask(why), read_at=now)
            absent = self._last["gpu_source"] is None
            self._next_at = now + (ABSENT_SECONDS if absent else EVERY_SECONDS * 0.9)
        elif self._last["gpu_source"] is None:
            self._last["read_at"] = now
        return self._last

    def _ask(self, why: str) -> "dict[str, object]":
        try:
            program = find("nvidia-smi")
        except OSError as error:
            return nothing("permission", "%s; nvidia-smi: %s" % (why, error.strerror))
        if program is None:
            return nothing("tool-missing", "%s; nvidia-smi is not on the host" % why)
        while True:
            extra = REASON_COLUMNS[self._reasons]
            columns = ",".join([column for _, column in COLUMNS] + ([extra] if extra else []))
            argv = ["nvidia-smi", "--query-gpu=" + columns, "--format=csv,noheader,nounits"]
            try:
                code, output = run(program, argv)
            except OSError as error:
                return nothing(str(os_missing(error, "")["missing"]), "%s; nvidia-smi: %s" % (why, error.strerror))
            if code and "not a valid field" in output and self._reasons + 1 < len(REASON_COLUMNS):
                self._reasons += 1
                continue
            return told(code, output)


def told(code: "int | None", output: str) -> "dict[str, object]":
    """The GPU part of a sample from what nvidia-smi said; `code` None means that it did not end in time."""
    rows = []
    noise = ""
    for line in output.splitlines()[: 4 * MOST_GPUS]:
        row = gpu(line)
        if row is not None:
            rows.append(row)
        elif line.strip():
            noise = noise or line.strip()[:200]
    answer: "dict[str, object]" = {"gpu_source": "nvidia-smi", "gpu_missing": None, "gpus": rows[:MOST_GPUS]}
    if code is None:
        answer.update(gpus=[], gpu_missing={"reason": "timeout", "why": "nvidia-smi did not end in %g s" % RUN_SECONDS})
    elif code or noise or not rows:
        said = noise or "no GPUs"
        answer["gpu_missing"] = {"reason": "cannot-tell", "why": "nvidia-smi: exit %d: %s" % (code, said)}
    return answer


def gpu(line: str) -> "dict[str, object] | None":
    """One line of the CSV; None when it is none."""
    cells = [cell.strip() for cell in line.split(", ")]
    if len(cells) not in (len(COLUMNS), len(COLUMNS) + 1) or not cells[0].isdigit():
        return None
    row: "dict[str, object]" = dict.fromkeys(EMPTY)
    for (name, _), cell in zip(COLUMNS, cells):  # noqa: B905 - newer than Python 3.6
        if name in ("uuid", "name") or (name == "pci" and ":" in cell):
            row[name] = cell or None
            continue
        value = _number(cell)
        if name in ("mem_used", "mem_total") and value is not None:
            value = int(value) * MIB
        row[name] = value
        if "lost" in cell.lower():
            row["error"] = "GPU_IS_LOST"
        elif "requires reset" in cell.lower():
            row["error"] = row["error"] or "RESET_REQUIRED"
        elif "error" in cell.lower() or cell == "ERR!":
            row["error"] = row["error"] or "UNKNOWN"
    if len(cells) > len(COLUMNS):
        try:
            row["reasons"] = words(int(cells[-1], 16))
        except ValueError:
            row["reasons"] = None
    return row


def _number(cell: str) -> "int | float | None":
    for kind in (int, float):
        try:
            value = kind(cell)
        except ValueError:
            continue
        return value if abs(value) < 1e18 else None
    return None


def run(program: str, argv: "list[str]") -> "tuple[int | None, str]":
    """Exit code and output (then error output) of a command; the code is None when it did not end in RUN_SECONDS."""
    pid, pipes = spawn(program, argv)
    due = time.monotonic() + RUN_SECONDS
    kept = dict.fromkeys(pipes, b"")
    left = set(pipes)
    poll = select.poll()
    for fd in pipes:
        poll.register(fd, select.POLLIN)
    status = None
    try:
        while left or status is None:
            seconds = due - time.monotonic()
            if seconds <= 0:
                break
            if not left:
                status = reap(pid)
                if status is None:
                    time.sleep(0.005)
                continue
            for fd, _ in poll.poll(seconds * 1000):
                chunk = read_some(fd)
                if chunk == b"":
                    poll.unregister(fd)
                    left.discard(fd)
                elif chunk and len(kept[fd]) < MOST_BYTES:
                    kept[fd] += chunk
    finally:
        for fd in pipes:
            os.close(fd)
        if status is None:
            abandon(pid)
    output = text(b"\n".join(kept[fd] for fd in pipes))
    if status is None:
        return None, output
    return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)), output
