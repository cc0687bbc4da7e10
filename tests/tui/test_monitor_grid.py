"""Rows of the GPU grid and lines of one host: columns hold still, gaps are where they are, unknown is no number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import fmean

import pytest

from dstui.facts.case import HostSite
from dstui.model import Lang
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridSort
from dstui.telemetry.live_rings import GpuColumn
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched
from screens.lines import Line, width_of
from screens.monitor_grid import Columns, GridPanel
from screens.monitor_host import host_lines
from screens.spark import CELL_SECONDS, MeanUse, history
from screens.tones import Tone

T = 1_763_956_800.0
SECONDS = 30
UUID = "GPU-8f6a3c5e-1f20-4b7a-9c1d-00000000000"
WHY = {"reason": "unreachable", "why": "connection refused", "zh": "连接被拒绝"}


def site(name: str, gpus: int = 8) -> HostSite:
    return HostSite(name, frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "ops", gpus > 0, gpus or None)


def gpu(index: int, **told: object) -> dict[str, object]:
    return {
        "index": index, "uuid": f"{UUID}{index}", "name": "H100", "util": 90 + index, "mem_used": 72e9,
        "mem_total": 80e9, "temp": 60, "power": 640.0, "power_limit": 700.0, "sm_mhz": 1755, "mem_mhz": 2619,
        "reasons": [], "ecc_uncorrected": 0, "pcie_gen": 5, "pcie_width": 16, "procs": [{"pid": 4000, "mem": 72e9}],
        "error": None,
    } | told  # fmt: skip


def sample(name: str, at: float, **told: object) -> Record:
    data: dict[str, object] = {
        "seq": int(at - T) + 1000, "lost": 0, "hz": 1.0, "cpu": 12.0, "load1": 18.2, "cpus": 192, "mem_total": 2e12,
        "mem_available": 1.5e12, "swap_used": 0, "swap_in": 0, "swap_out": 0, "oom_kill": 0,
        "net": {"bond0": {"rx": 2e8, "tx": 1e8, "speed": 2e11}}, "rdma": {}, "gpu_source": "nvml", "xids": [],
        "gpus": [gpu(index) for index in range(8)],
    }  # fmt: skip
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data | told)


def live_of(
    told: Mapping[str, Mapping[str, object]], *, gpus: int = 8, ended: Mapping[str, float] | None = None
) -> Live:
    """Hosts that each gave a sample a second until T, or until `ended` seconds before it."""
    live = Live(Watched("ds-prod", tuple(site(name, gpus) for name in told), False))
    for second in range(-SECONDS, 1):
        for name, more in told.items():
            if second <= -(ended or {}).get(name, 0.0):
                live.feed(sample(name, T + second, **more))
    return live


def rows(live: Live, width: int, *, lang: Lang = Lang.EN, now: float = T, fold: bool = False) -> dict[str, Line]:
    panel = GridPanel()
    panel.fold, panel.sort = fold, GridSort.NAME
    panel.look(live, now, lang)
    return {key: panel.row(key, width, False) for key in panel.keys}


def told_of(line: Line) -> str:
    return "".join(text for text, _ in line)


@pytest.fixture(scope="module")
def mixed() -> Live:
    """Every state a host can be in."""
    lost = [each for each in (gpu(index) for index in range(8)) if each["index"] != 2]
    gone = [gpu(0), gpu(1, util=None, mem_used=None, temp=None, power=None, error="GPU_IS_LOST"), gpu(2)]
    unreadable = {"gpus": [], "gpu_missing": {"reason": "missing-tool", "why": "libnvidia-ml.so.1 not found"}}
    watts = [gpu(index, power=90.0) for index in range(8)]
    slow = [gpu(index, reasons=["hw_thermal_slowdown"] if index == 5 else []) for index in range(8)]
    live = live_of(
        {
            "fine": {}, "late": {}, "lost": {}, "old": {}, "one-missing": {"gpus": lost}, "gone": {"gpus": gone},
            "unreadable": unreadable, "cool": {"gpus": watts}, "slow": {"gpus": slow},
            "a-host-with-a-very-long-name-indeed": {}, "silent": {"gpus": [gpu(0, util=None, power=None, temp=None)]},
        },
        ended={"late": 5.0, "lost": 8.0, "old": 25.0},
    )  # fmt: skip
    for name in ("lost", "old"):
        live.feed(Record(T - 7, f"host:{name}", RecordKind.LOST, WHY))
    return live


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
@pytest.mark.parametrize("width", [74, 77, 100, 117, 150, 197])
def test_every_row_is_as_wide_as_the_pane_and_numbers_stand_under_each_other(
    mixed: Live, width: int, lang: Lang
) -> None:
    found = rows(mixed, width, lang=lang)
    assert {width_of(line) for line in found.values()} == {width}
    places = {told_of(line).index("  mem ") for name, line in found.items() if name != "old"}
    degrees = {told_of(line).index(" °C ") for name, line in found.items() if name != "old"}
    assert len(places) == len(degrees) == 1, (places, degrees)


def test_every_gpu_has_its_own_use_where_there_is_room(mixed: Live) -> None:
    row = told_of(rows(mixed, 197)["fine"])
    for index in range(8):
        assert f" {index} {'█' if index > 2 else '▇'} {90 + index} " in row
    assert told_of(rows(mixed, 77)["fine"])[4 + 21 :][:9] == "▇▇▇█████ ", "one cell each where there is none"


def test_a_sick_gpu_is_marked_at_its_own_place(mixed: Live) -> None:
    row = told_of(rows(mixed, 197)["slow"])
    assert "5✗█ 95" in row
    assert "4 █ 94" in row
    assert "✗ GPU 5: hardware thermal slowdown" in row


def test_a_gap_stands_where_the_gpu_should_be(mixed: Live) -> None:
    cells = told_of(rows(mixed, 77)["one-missing"])[4 + 21 :][:8]
    assert [place for place, cell in enumerate(cells) if cell == "✗"] == [2]
    assert told_of(rows(mixed, 77)["gone"])[4 + 21 :][:8] == "▇✗▇✗✗✗✗✗"
    assert told_of(rows(mixed, 77)["unreadable"])[4 + 21 :][:8] == "????????", "what cannot be seen is not gone"


def test_what_is_old_is_grey_with_its_age_and_its_reason_once(mixed: Live) -> None:
    found = rows(mixed, 197)
    assert "! 5.0 s old" in told_of(found["late"])
    assert told_of(found["lost"]).count("connection refused") == 1
    assert "✗ lost 8.0 s: connection refused" in told_of(found["lost"])
    assert "stopped answering" not in told_of(found["lost"])
    assert "no new sample" not in told_of(found["late"])
    for name in ("late", "lost"):
        assert {tone for text, tone in found[name] if "mem" in text or "█" in text} == {Tone.DIM}


def test_an_unknown_host_has_a_reason_once_and_no_number(mixed: Live) -> None:
    line = rows(mixed, 197)["old"]
    assert told_of(line).split() == ["?", "old", "unknown:", "connection", "refused"]


def test_values_that_are_not_there_are_question_marks(mixed: Live) -> None:
    row = told_of(rows(mixed, 197)["silent"])
    assert "0 ?  ? " in row
    assert "   ?  mem" in row
    assert "  ? °C       ? " in row


def test_watts_take_the_same_cells_below_and_above_a_kilowatt(mixed: Live) -> None:
    found = rows(mixed, 117)
    assert "  720 W" in told_of(found["cool"])
    assert " 5.1 kW" in told_of(found["fine"])


@pytest.mark.parametrize(
    ("width", "wanted"), [(117, "host-1 … host-9 (9 hosts, alike)"), (77, "9 alike: host-1 … ")], ids=["wide", "narrow"]
)
def test_the_alike_keep_their_number_and_their_columns(width: int, wanted: str) -> None:
    live = live_of({f"host-{number}": {} for number in range(1, 10)} | {"sick": {"gpus": [gpu(0)]}})
    found = rows(live, width, fold=True)
    folded = told_of(found["host-1"])
    assert wanted in folded
    assert folded.index("  mem ") == told_of(found["sick"]).index("  mem ")
    assert "use 90-97%" in folded


def test_more_gpus_than_there_is_room_for_leave_the_numbers_in_view() -> None:
    live = live_of({"dense": {"gpus": [gpu(index) for index in range(64)]}}, gpus=64)
    for width in (77, 117, 197):
        assert "mem" in told_of(rows(live, width)["dense"])


@pytest.mark.parametrize("gpus", [0, 1, 4, 8, 16, 64])
def test_wider_panes_never_show_less(gpus: int) -> None:
    detail = [(Columns.at(width, 12, gpus).each > 0, Columns.at(width, 12, gpus).gpus) for width in range(60, 300)]
    assert all(narrow <= wide for narrow, wide in pairwise(detail))


def test_the_title_names_only_the_states_that_there_are(mixed: Live) -> None:
    panel = GridPanel()
    panel.look(mixed, T, Lang.EN)
    assert panel.title().startswith("GPU · 8 live, 1 late, 1 lost, 1 unknown · sort: trouble")
    panel.look(live_of({"a": {}}), T, Lang.EN)
    assert panel.title() == "GPU · all live · sort: trouble"


def whole(live: Live, now: float, cells: int) -> list[float | None]:
    """A host's mean use, looked up anew."""
    fold = live.hosts["a"]
    found = [fold.rings.gpu_column(index, GpuColumn.UTIL) for index in range(8)]
    each = [history(*column, now, cells) for column in found if column is not None]
    spans = ([value for value in span if value is not None] for span in zip(*each, strict=True))
    return [fmean(span) if span else None for span in spans]


@pytest.mark.parametrize("step", [0.5, 1.0, CELL_SECONDS, 17.0, 400.0, -20.0], ids=lambda step: f"{step:g}s")
def test_what_is_kept_of_a_history_is_what_a_new_look_finds(step: float) -> None:
    live = live_of({"a": {}})
    kept, now = MeanUse(12), T
    for turn in range(8):
        assert kept.of(live.hosts["a"], now) == whole(live, now, 12)
        now += step
        if step > 0:
            live.feed(sample("a", now, gpus=[gpu(index, util=(turn * 13 + index) % 100) for index in range(8)]))


def lines(live: Live, name: str, width: int, lang: Lang = Lang.EN, now: float = T) -> list[str]:
    return [told_of(line) for line in host_lines(live, live.hosts[name], now, lang, width)]


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
@pytest.mark.parametrize("width", [77, 117, 197])
def test_no_line_of_a_host_is_cut_off(mixed: Live, width: int, lang: Lang) -> None:
    for name in mixed.hosts:
        found = list(host_lines(mixed, mixed.hosts[name], T, lang, width))
        assert max(map(width_of, found)) <= width, name


def test_a_host_shows_every_gpu_with_uuid_processes_and_errors(mixed: Live) -> None:
    told = "\n".join(lines(mixed, "fine", 117))
    for index in range(8):
        assert f"{UUID}{index} · 1 process: 4000 · ECC uncorrected 0 · PCIe 5 x16" in told
    assert "640/700  W" in told
    assert "history: the last 2 min 30 s" in told


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"gpus": [gpu(0, ecc_uncorrected=None)]}, "ECC errors not known"),
        ({"gpus": [gpu(0, ecc_uncorrected=3)]}, "✗ ECC uncorrected 3"),
        ({"gpus": [gpu(0, procs=None)]}, "processes not known"),
        ({"gpus": [gpu(0, procs=[])]}, "no processes"),
        ({"gpus": [gpu(0, reasons=None)]}, "reasons for slow clocks not known"),
        ({"gpus": [gpu(0, pcie_gen=None)]}, "PCIe link not known"),
        ({"gpus": [gpu(0, uuid=None)]}, "UUID not known"),
        ({"slow_age": 4.2}, "processes and limits 4.2 s old"),
        ({"gpu_age": 6.0}, "readings 6.0 s old"),
        ({"xids": None, "xid_missing": {"reason": "denied", "why": "dmesg: not permitted"}}, "dmesg: not permitted"),
        ({"xids": None}, "? XIDs cannot be read"),
        ({"oom_kill": None}, "OOM kills     ?"),
        ({"swap_used": None}, "swap          ?"),
        ({"mem_available": None}, "memory        ?"),
        ({"rdma": None}, "RDMA ports cannot be read"),
        ({"net": {"bond0": {"rx": 2e8, "tx": 1e8, "speed": None}}}, "?  link speed not known"),
        ({"net": {"bond0": {"rx": 5e9, "tx": 1e8, "speed": 2e11}}}, " 20%  of 200 Gb/s"),
        ({"lost": 2}, f"lost samples  ! {2 * (SECONDS + 1)}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_host_says_what_is_not_known_of_it(more: Mapping[str, object], wanted: str) -> None:
    assert wanted in "\n".join(lines(live_of({"a": more}), "a", 117))


def test_an_unknown_host_keeps_its_history_and_loses_its_numbers(mixed: Live) -> None:
    told = lines(mixed, "old", 117)
    assert any("last sample at" in line and "25 s ago" in line for line in told)
    spark = next(line for line in told if line.startswith("   0    ? "))
    assert "▇" in spark
    assert "%" not in "\n".join(told)
    assert "°C" not in "\n".join(told)


def test_a_host_that_never_spoke_says_so() -> None:
    live = Live(Watched("ds-prod", (site("a"),), False))
    assert "nothing received yet" in "\n".join(lines(live, "a", 77))
    assert list(host_lines(live, None, T, Lang.EN, 77)) == [(("Nothing was heard of this host.", Tone.UNKNOWN),)]


@pytest.mark.parametrize("make", [lambda s: f"\x1b[31m{s}", lambda s: s * 900, lambda s: f"[b]{s}\u202e"])
def test_hostile_names_stay_text(make: Callable[[str], str]) -> None:
    bad = make("evil")
    live = live_of({"a": {"gpus": [gpu(0, uuid=bad, error=bad, reasons=[bad])], "net": {bad: {"rx": 1, "tx": 1}}}})
    for line in (rows(live, 117)["a"], *host_lines(live, live.hosts["a"], T, Lang.EN, 117)):
        assert "\x1b" not in told_of(line)
        assert "\u202e" not in told_of(line)
