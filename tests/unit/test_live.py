"""The fold of live records: how current a value is, what is told of a change, and that no old value is shown."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.case import HostSite
from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.live import FleetColumn, Live
from dstui.telemetry.live_rings import GpuColumn, HostColumn
from dstui.telemetry.live_status import Status
from dstui.telemetry.record import Record, RecordKind, decode
from dstui.telemetry.recording import record_line, with_events
from dstui.telemetry.watched import Watched

T = 1_800_000_000.0


def site(name: str = "gpu-01", number: int = 1, gpus: int | None = 2, gpu: bool = True) -> HostSite:
    ip = f"10.0.0.{number}"
    return HostSite(name, frozenset({"worker"}), ip, None, ip, 22, "ops", gpu, gpus)


def gpu(index: int = 0, **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H100 80GB HBM3", "util": 90, "mem_util": 50,
        "mem_used": 40e9, "mem_total": 80e9, "temp": 60, "power": 500.0, "power_limit": 700.0, "reasons": [],
        "ecc_uncorrected": 0, "procs": [], "error": None,
    }  # fmt: skip
    return row | more


def sample(at: float, name: str = "gpu-01", gpus: list[dict[str, object]] | None = None, **more: object) -> Record:
    data: dict[str, object] = {
        "seq": int(at - T), "lost": 0, "hz": 1.0, "cpu": 10.0, "mem_total": 100e9, "mem_available": 75e9,
        "oom_kill": 3, "net": {"eth0": {"rx": 1e6, "tx": 2e6, "speed": 1e9}}, "rdma": {}, "gpu_source": "nvml",
        "gpu_missing": None, "gpus": [gpu(0), gpu(1)] if gpus is None else gpus,
    }  # fmt: skip
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data | more)


def lost(at: float, source: str = "host:gpu-01", **data: object) -> Record:
    told: dict[str, object] = {"reason": "unreachable", "why": "gpu-01: connection refused", **data}
    return Record(at, source, RecordKind.LOST, told)


def live(*hosts: HostSite) -> Live:
    return Live(Watched("ds", hosts or (site(),)))


def told(view: Live) -> list[str]:
    """All events, oldest first, in English."""
    return [event.text.en for event in reversed(view.log.newest())]


@pytest.mark.parametrize(
    ("age", "status"),
    [
        (0, Status.LIVE),
        (3, Status.LIVE),
        (3.1, Status.LATE),
        (15, Status.LATE),
        (15.1, Status.UNKNOWN),
        (-3, Status.LIVE),
        (-3.1, Status.UNKNOWN),
    ],
)
def test_how_current_a_sample_is(age: float, status: Status) -> None:
    view = live()
    view.feed(sample(T))
    (row,) = live_views.grid(view, T + age).rows
    assert row.shown.status is status
    assert (row.sample is None) == (status is Status.UNKNOWN)
    assert row.shown.age == (None if status is Status.LIVE else pytest.approx(age))


def test_a_slow_stream_has_more_time() -> None:
    view = live()
    view.feed(sample(T, hz=0.2))
    assert live_views.grid(view, T + 14).rows[0].shown.status is Status.LIVE
    assert live_views.grid(view, T + 49).rows[0].shown.status is Status.LATE
    assert live_views.grid(view, T + 51).rows[0].shown.status is Status.UNKNOWN


def test_a_host_that_is_lost_keeps_its_values_with_age_and_reason_and_then_none() -> None:
    view = live()
    view.feed(sample(T))
    view.feed(lost(T + 2))
    (row,) = live_views.grid(view, T + 4).rows
    assert (row.shown.status, row.shown.age) == (Status.LOST, 4)
    assert row.shown.why is not None and row.shown.why.en == "connection refused"
    assert row.mean_use == 90
    (row,) = live_views.grid(view, T + 16).rows
    assert row.shown.status is Status.UNKNOWN
    assert row.shown.why is not None and row.shown.why.en == "connection refused"
    assert (row.sample, row.mean_use, row.use, row.temp, row.memory, row.power, row.gpus) == (None,) * 7


def test_a_host_that_was_never_heard_says_so() -> None:
    (row,) = live_views.grid(live(), T).rows
    assert row.shown.status is Status.UNKNOWN
    assert row.shown.why is not None and row.shown.why[Lang.EN] == "nothing received yet"


def test_a_host_that_never_answered_says_why() -> None:
    view = live()
    view.feed(lost(T))
    (row,) = live_views.grid(view, T).rows
    assert row.shown.status is Status.UNKNOWN
    assert [(mark.severity, mark.text.en) for mark in row.marks] == [("fail", "does not answer: connection refused")]
    assert told(view) == ["gpu-01 does not answer: connection refused"]


def test_a_sample_that_cannot_be_read_is_a_loss_with_its_reason() -> None:
    view = live()
    view.feed(sample(T))
    view.feed(Record(T + 1, "host:gpu-01", RecordKind.SAMPLE, {"noise": 1}))
    view.feed(Record(T + 1, "ray", RecordKind.SAMPLE, {"nodes": 7}))
    view.feed(Record(T + 1, "vllm:a", RecordKind.SAMPLE, {"engines": 7}))
    (row,) = live_views.grid(view, T + 1).rows
    assert row.shown.status is Status.LOST
    assert row.shown.why is not None and "cannot be read" in row.shown.why.en
    assert live_views.ray_view(view, T + 1).shown.status is Status.UNKNOWN
    assert sum("cannot be read" in line for line in told(view)) == 3


def test_lost_and_back_are_told_once() -> None:
    view = live()
    view.feed(sample(T))
    for second in (1, 2, 3):
        view.feed(lost(T + second))
    view.feed(sample(T + 13))
    assert told(view) == ["gpu-01 stopped answering: connection refused", "gpu-01 answers again after 12 s"]


@pytest.mark.parametrize(
    ("reason", "severity"),
    [("hw_thermal_slowdown", "fail"), ("hw_slowdown", "fail"), ("sw_thermal_slowdown", "warn"),
     ("sw_power_cap", "info"), ("bit_0x200", "info")],
)  # fmt: skip
def test_throttling_begins_and_ends_once_however_it_flickers(reason: str, severity: str) -> None:
    view = live()
    for second in range(40):
        on = 5 <= second < 20 and second % 3
        view.feed(sample(T + second, gpus=[gpu(0), gpu(1, reasons=[reason] if on else [])]))
    began, ended = view.log.newest()[::-1]
    assert (began.at, began.severity, began.subject) == (T + 5, severity, "gpu-01:1")
    assert began.what.en.endswith(" began") and ended.what.en.endswith(" ended")
    assert ended.at == T + 19 + 10


@pytest.mark.parametrize("reason", ["gpu_idle", "applications_clocks_setting"])
def test_idle_and_application_clocks_are_no_throttling(reason: str) -> None:
    view = live()
    for second in range(3):
        view.feed(sample(T + second, gpus=[gpu(0, reasons=[reason]), gpu(1)]))
    assert told(view) == []
    assert live_views.grid(view, T + 2).rows[0].marks == ()


def test_what_happens_to_all_gpus_of_a_host_is_one_line() -> None:
    view = live(site(gpus=4))
    view.feed(sample(T, gpus=[gpu(n) for n in range(4)]))
    view.feed(sample(T + 1, gpus=[gpu(n, reasons=["sw_power_cap"]) for n in (0, 1, 2)] + [gpu(3)]))
    assert told(view) == ["gpu-01:0-2 power cap began"]


def test_heat_is_told_at_the_margin_and_over_when_it_is_cool_again() -> None:
    view = live()
    for second, temp in enumerate([83, 84, 86, 82, 84, 80]):
        view.feed(sample(T + second, gpus=[gpu(0), gpu(1, temp=temp)]))
    assert told(view) == ["gpu-01:1 84 °C, close to the slowdown", "gpu-01:1 cooled down to 80 °C"]


def test_ecc_errors_that_grow() -> None:
    view = live()
    for second, errors in enumerate([2, 2, 5, 0, 1]):
        view.feed(sample(T + second, gpus=[gpu(0), gpu(1, ecc_uncorrected=errors)]))
    assert told(view) == [
        "gpu-01:1 uncorrectable ECC errors: 3 more, 5 by now (GPU-1)",
        "gpu-01:1 uncorrectable ECC errors: 1 more, 1 by now (GPU-1)",
    ]


def test_out_of_memory_kills_that_grow() -> None:
    view = live()
    for second, kills in enumerate([3, 3, 5, None, 5, 6]):
        view.feed(sample(T + second, oom_kill=kills))
    assert told(view) == [
        "gpu-01 ran out of memory: the kernel killed 2 processes",
        "gpu-01 ran out of memory: the kernel killed 1 process",
    ]


def test_a_gpu_that_falls_off_the_bus_and_comes_back() -> None:
    view = live()
    gone = gpu(1, util=None, temp=None, mem_used=None, error="GPU_IS_LOST")
    for second, row in enumerate([gpu(1), gone, gone, gpu(1)]):
        view.feed(sample(T + second, gpus=[gpu(0), row]))
    assert told(view) == ["gpu-01:1 is gone, NVML says GPU_IS_LOST (GPU-1)", "gpu-01:1 is there now (GPU-1)"]


def test_a_gpu_that_is_no_longer_listed() -> None:
    view = live()
    view.feed(sample(T))
    view.feed(sample(T + 1, gpus=[gpu(0)]))
    assert told(view) == ["gpu-01:1 is gone (GPU-1)"]
    (row,) = live_views.grid(view, T + 1).rows
    assert [mark.text.en for mark in row.marks] == ["1 of 2 GPUs"]


def test_fewer_gpus_than_declared_from_the_start() -> None:
    view = live(site(gpus=8))
    view.feed(sample(T))
    view.feed(sample(T + 1))
    assert told(view) == ["gpu-01 has 2 of 8 GPUs"]


def test_a_uuid_that_cannot_be_told_for_a_moment_is_no_other_gpu() -> None:
    view = live()
    for second, uuid in enumerate(["GPU-1", None, "GPU-1"]):
        view.feed(sample(T + second, gpus=[gpu(0), gpu(1, uuid=uuid)]))
    assert told(view) == []


def test_gpus_that_cannot_be_read_are_not_gone() -> None:
    view = live()
    missing = {"reason": "timeout", "why": "the GPU driver has not answered since 12:00:00 UTC", "for": 4.0}
    view.feed(sample(T))
    view.feed(sample(T + 1, gpus=[], gpu_source=None, gpu_missing=missing))
    view.feed(sample(T + 2, gpus=[], gpu_source=None, gpu_missing=missing))
    assert view.gpu_counts(T + 2) == {"gpu-01": None}
    (row,) = live_views.grid(view, T + 2).rows
    assert (row.mean_use, row.use, row.power) == (None, None, None)
    assert row.marks[0].text.en.startswith("GPUs cannot be read: the GPU driver")
    view.feed(sample(T + 3))
    assert told(view) == [
        "gpu-01 GPUs cannot be read: the GPU driver has not answered since 12:00:00 UTC",
        "gpu-01 GPUs can be read again",
    ]


def test_absent_values_are_gaps_and_never_zero() -> None:
    view = live()
    view.feed(sample(T, cpu=None, net={}, rdma=None, gpus=[gpu(0, util=None, power=None), gpu(1)]))
    view.feed(sample(T + 1))
    fold = view.hosts["gpu-01"]
    assert fold.totals.mean_use == 90
    place = fold.rings.gpu_column(0, GpuColumn.UTIL)
    assert place is not None
    rings, column = place
    assert list(rings.points(column)) == [(T, None), (T + 1, 90.0)]
    host = fold.rings.host
    assert [value for _, value in host.points(HostColumn.CPU)] == [None, 10.0]
    assert [value for _, value in host.points(HostColumn.NET_RX)] == [None, 1e6]
    assert [value for _, value in host.points(HostColumn.RDMA_RX)] == [None, None]
    assert [value for _, value in host.points(HostColumn.MEMORY)] == [0.25, 0.25]


def test_histories_are_by_index_and_survive_more_gpus() -> None:
    view = live()
    view.feed(sample(T, gpus=[gpu(1, util=11)]))
    view.feed(sample(T + 1, gpus=[gpu(0, util=20), gpu(3, util=23)]))
    rings = view.hosts["gpu-01"].rings

    def values(index: int) -> list[float | None]:
        place = rings.gpu_column(index, GpuColumn.UTIL)
        return [] if place is None else [value for _, value in place[0].points(place[1])]

    assert [values(index) for index in range(5)] == [[None, 20], [11, None], [None, None], [None, 23], []]


def test_the_fleet_has_a_history_of_live_hosts_only() -> None:
    view = live(site("gpu-01", 1), site("gpu-02", 2))
    view.feed(sample(T, "gpu-01", gpus=[gpu(0, util=100), gpu(1, util=100)]))
    view.feed(sample(T, "gpu-02", gpus=[gpu(0, util=50), gpu(1, util=50)]))
    view.feed(sample(T + 1, "gpu-01", gpus=[gpu(0, util=100), gpu(1, util=100)]))
    view.feed(sample(T + 9, "gpu-01", gpus=[gpu(0, util=100), gpu(1, util=100)]))
    assert [value for _, value in view.fleet.points(FleetColumn.USE)] == [100, 75, 100]


def test_listeners_are_told_and_can_stop() -> None:
    view = live()
    seen: list[int] = []
    stop = view.subscribe(lambda: seen.append(view.version))
    view.feed(sample(T))
    view.feed(lost(T + 1))
    stop()
    stop()
    view.feed(sample(T + 2))
    assert seen == [1, 2]


def test_clearing_forgets_everything_but_the_listeners() -> None:
    view = live()
    calls: list[int] = []
    view.subscribe(lambda: calls.append(1))
    view.feed(sample(T))
    view.feed(lost(T + 1))
    view.clear()
    assert (len(calls), told(view), len(view.fleet)) == (3, [], 0)
    assert live_views.grid(view, T).rows[0].shown.status is Status.UNKNOWN


def test_events_of_others_are_taken_and_derived_ones_are_not() -> None:
    view = live()
    view.feed(Record(T, "dstui", RecordKind.EVENT, {"en": "run 7 ended", "zh": "第 7 次运行结束", "severity": "info"}))
    view.feed(Record(T, "ray", RecordKind.EVENT, {"en": "again", "zh": "again", "severity": "fail", "derived": True}))
    view.feed(Record(T, "x", RecordKind.EVENT, {"en": 7}))
    assert told(view) == ["run 7 ended"]


def test_a_recording_with_its_events_gives_the_same_log_again() -> None:
    lines: list[str] = []
    first = live()
    emit = with_events(first, lambda record: lines.append(record_line(record)))
    for record in (sample(T), lost(T + 1), sample(T + 5), sample(T + 6, oom_kill=9)):
        emit(record)
    assert len(lines) == 4 + 3
    second = live()
    for number, line in enumerate(lines):
        second.feed(decode(line, number))
    assert told(second) == told(first) != []
    assert live_views.grid(second, T + 6) == live_views.grid(first, T + 6)


def test_what_happens_to_many_at_once_is_one_line_of_the_log() -> None:
    sites = [site(f"gpu-{n:02}", n) for n in range(1, 9)]
    view = live(*sites)
    for n, each in enumerate(sites):
        view.feed(sample(T + n / 10, each.name))
    for n, each in enumerate(sites):
        view.feed(lost(T + 1 + n / 10, f"host:{each.name}", why=f"{each.name}: no route to host"))
    view.feed(sample(T + 9, "gpu-03"))
    rows = live_views.events(view)
    assert [row.text.en for row in rows] == [
        "gpu-03 answers again after 8 s",
        "gpu-01, gpu-02, gpu-03 +5 stopped answering: no route to host",
    ]
    assert (rows[1].count, rows[1].at, len(rows[1].sources)) == (8, T + 1, 8)


def test_the_log_is_bounded() -> None:
    view = live()
    for second in range(3000):
        view.feed(sample(T + 20 * second, gpus=[gpu(0), gpu(1, reasons=["hw_slowdown"] if second % 2 else [])]))
    assert len(view.log.newest()) == 2000
    assert view.log.total > 2000


def test_hostile_words_cannot_steer_the_terminal() -> None:
    view = live()
    view.feed(sample(T))
    view.feed(lost(T + 1, why="\x1b]0;x\x07gone\nnow " + "y" * 5000, zh=7))
    (line,) = told(view)
    assert line.startswith("gpu-01 stopped answering: gone now y")
    assert len(line) < 400
    assert line.isprintable()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_KEYS = ["seq", "gpus", "gpu_missing", "net", "hz", "index", "uuid", "util", "reasons", "why", "zh", "reason", "procs"]
_ROWS = st.lists(st.dictionaries(st.sampled_from(_KEYS), _JSON), max_size=2)


@given(
    st.sampled_from(["host:gpu-01", "host:new", "ray", "vllm:a", "", "host:"]),
    st.sampled_from(list(RecordKind)),
    st.dictionaries(
        st.sampled_from(_KEYS), _JSON | st.lists(st.dictionaries(st.sampled_from(_KEYS), _JSON), max_size=2)
    ),
)
def test_nothing_that_a_source_says_breaks_the_view(source: str, kind: RecordKind, data: Mapping[str, object]) -> None:
    view = live()
    view.feed(sample(T))
    view.feed(replace(lost(T), source=source, kind=kind, data={"seq": 1, **data}))
    for now in (T, T + 5, T + 60):
        live_views.strip(view, now)
        live_views.grid(view, now)
        live_views.events(view)
        live_views.trail(view, "a", now)
    json.dumps([event.text.en for event in view.log.newest()]).encode()
