"""One host live: what stands out, its GPUs with their history, its memory and its links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from dstui.model import Lang
from dstui.telemetry import live_xids
from dstui.telemetry.host import GpuSample, HostSample, Traffic
from dstui.telemetry.live import Live
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_host_changes import HARMLESS_REASONS, reason_text
from dstui.telemetry.live_marks import mark_text, marks_of
from dstui.telemetry.live_rings import GpuColumn, HostColumn
from dstui.telemetry.live_status import Shown, Status, shown
from screens import monitor_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import BLANK, Bar, Line, LineView, Piece, line, spread
from screens.monitor_grid import SEVERITY_SIGNS
from screens.monitor_ray import how_old
from screens.plain import fit, one_line
from screens.spark import gpu_history, history, sparkline
from screens.times import clock_time
from screens.tones import Tone

LABEL_CELLS = 14
GIB = 1024**3
MOST_PIDS = 6
LEAST_SPARK, MOST_SPARK = 12, 48
"""Cells of five seconds: one to four minutes."""


class MonitorHostScreen(HouseScreen):
    """Opened with enter on a host."""

    CSS_PATH = "trail.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#steps"
    FOOTER = ("back", "host", "language", "help")

    BINDINGS: ClassVar[list[BindingType]] = bindings("back", "host")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.host_name = name

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        yield LineView(id="steps", classes="pane")
        yield KeyBar()

    def repaint(self) -> None:
        self.repaint_live()

    def repaint_live(self) -> None:
        feed = self.house.feed
        if feed is None:
            return
        live, now, lang = feed.live, feed.now(), self.lang
        fold = live.hosts.get(self.host_name)
        how = shown(fold.pulse, now) if fold is not None else None
        self.query_one("#top", Bar).show(lambda width: [self._header(fold, how, now, width)])
        view = self.query_one("#steps", LineView)
        view.border_title = Content(words.HOST_TITLE[lang].format(name=one_line(self.host_name)))
        view.show(lambda width: list(host_lines(live, fold, now, lang, width)))

    def _header(self, fold: HostFold | None, how: Shown | None, now: float, width: int) -> Line:
        pieces: list[Piece] = [(f" {one_line(self.host_name)} ", Tone.ACCENT)]
        if fold is not None and fold.site is not None:
            roles = ", ".join(sorted(fold.site.roles))
            pieces.append((f" {roles} · {one_line(fold.site.data_ip)}", Tone.PLAIN))
        if how is not None and how.status is not Status.LIVE:
            tone = Tone.UNKNOWN if how.status is Status.UNKNOWN else Tone.WARN
            pieces.append((f"  {how_old(how, self.lang)}", tone))
        return spread(tuple(pieces), ((f"{clock_time(now)} ", Tone.PLAIN),), width)

    def action_host(self) -> None:
        """Everything the checks know of this host, where there is a checklist."""
        if self.engine is not None:
            self.house.open_host(self.host_name)

    def action_back(self) -> None:
        self.app.pop_screen()


def host_lines(live: Live, fold: HostFold | None, now: float, lang: Lang, width: int) -> Iterator[Line]:
    """The whole screen for a width; numbers of a host that is not current are grey, unknown ones are not there."""
    if fold is None:
        yield line((words.NOT_HEARD[lang], Tone.UNKNOWN))
        return
    how = shown(fold.pulse, now)
    norm = live.grid_cache.norm_now(live.hosts.values(), now)
    yield line((words.STANDS_OUT[lang], Tone.HEADING))
    marks = marks_of(fold, how, norm)
    for mark in marks:
        sign, tone = SEVERITY_SIGNS[mark.severity]
        yield line((f"  {sign} {one_line(mark_text(mark)[lang])}", tone))
    if not marks:
        yield line((f"  {words.NOTHING_OUT[lang]}", Tone.DIM))
    sample = fold.sample
    if sample is None or not how.known:
        return
    current = how.status is Status.LIVE
    body = [*_gpu_part(fold, sample, now, lang, width), BLANK, *_machine_part(fold, sample, now, lang, width)]
    for each in body:
        yield each if current else tuple((text, Tone.DIM) for text, _ in each)


def _spark_cells(width: int) -> int:
    return min(max(width - 72, LEAST_SPARK), MOST_SPARK)


def _gpu_part(fold: HostFold, sample: HostSample, now: float, lang: Lang, width: int) -> Iterator[Line]:
    yield BLANK
    if sample.gpu_missing is not None:
        why = one_line(sample.gpu_missing.why)
        yield line((f"? {words.GPUS_MISSING[lang].format(why=why)}", Tone.UNKNOWN))
    if sample.gpu_source is not None:
        yield line((words.GPUS_OF[lang].format(source=one_line(sample.gpu_source)), Tone.HEADING))
    cells = _spark_cells(width)
    for gpu in sample.gpus:
        yield _gpu_line(fold, gpu, now, cells)
        yield from _gpu_notes(sample, gpu, lang)


def _gpu_line(fold: HostFold, gpu: GpuSample, now: float, cells: int) -> Line:
    use = sparkline(gpu_history(fold, gpu.index, GpuColumn.UTIL, now, cells), 100.0)
    power = "?" if gpu.power is None else f"{gpu.power:.0f}"
    limit = "?" if gpu.power_limit is None else f"{gpu.power_limit:.0f}"
    share = gpu.mem_used / gpu.mem_total * 100 if gpu.mem_used is not None and gpu.mem_total else None
    clocks = f"{_told(gpu.sm_mhz)} MHz"
    return line(
        (f"  {gpu.index:2} ", Tone.STRONG),
        (f"{_told(gpu.util):>3}% ", Tone.STRONG),
        (use, Tone.ACCENT),
        f"  mem {_told(share):>3}%  {_told(gpu.temp):>3} °C  {power:>3}/{limit} W  {clocks}",
    )


def _gpu_notes(sample: HostSample, gpu: GpuSample, lang: Lang) -> Iterator[Line]:
    """UUID, processes, and whatever is wrong with it, each in words."""
    if gpu.procs is None:
        processes = words.PROCESSES_UNKNOWN[lang]
    elif gpu.procs:
        pids = ", ".join(str(each.pid) for each in gpu.procs[:MOST_PIDS])
        processes = words.PROCESSES[lang].format(count=len(gpu.procs), pids=pids)
    else:
        processes = words.NO_PROCESSES[lang]
    link = "" if gpu.pcie_gen is None else f" · PCIe {gpu.pcie_gen:.0f} x{_told(gpu.pcie_width)}"
    yield line((f"     {one_line(gpu.uuid or '?')} · {processes}{link}", Tone.DIM))
    if gpu.error is not None:
        yield line((f"     ✗ NVML: {one_line(gpu.error)}", Tone.FAIL))
    reasons = [reason_text(reason)[lang] for reason in gpu.reasons or () if reason not in HARMLESS_REASONS]
    if reasons:
        yield line((f"     ! {words.SLOWED[lang].format(reasons=', '.join(map(one_line, reasons)))}", Tone.WARN))
    if gpu.ecc_uncorrected:
        yield line((f"     ✗ {words.ECC[lang].format(count=gpu.ecc_uncorrected)}", Tone.FAIL))
    for xid in live_xids.on_gpu(sample, gpu.index):
        sign, tone = SEVERITY_SIGNS[live_xids.severity(xid)]
        yield line((f"     {sign} {clock_time(xid.at)} {live_xids.told(xid)[lang]}  {one_line(xid.text)}", tone))


def _machine_part(fold: HostFold, sample: HostSample, now: float, lang: Lang, width: int) -> Iterator[Line]:
    cells = _spark_cells(width)
    rings = fold.rings.host
    cpu = sparkline(history(rings, HostColumn.CPU, now, cells), 100.0)
    load = ""
    if sample.load1 is not None and sample.cpus is not None:
        load = words.LOAD[lang].format(load=sample.load1, cpus=sample.cpus)
    yield _labelled(words.CPU[lang], (f"{_told(sample.cpu):>3}% ", Tone.STRONG), (cpu, Tone.ACCENT), f"  {load}")
    if sample.mem_total and sample.mem_available is not None:
        used = sample.mem_total - sample.mem_available
        memory = sparkline([v and v * 100 for v in history(rings, HostColumn.MEMORY, now, cells)], 100.0)
        told = words.OF_GIB[lang].format(used=used / GIB, total=sample.mem_total / GIB)
        share = used / sample.mem_total * 100
        yield _labelled(words.MEMORY[lang], (f"{share:3.0f}% ", Tone.STRONG), (memory, Tone.ACCENT), f"  {told}")
    else:
        yield _labelled(words.MEMORY[lang], ("?", Tone.UNKNOWN))
    if sample.swap_used is not None and sample.swap_in is not None and sample.swap_out is not None:
        told = words.SWAP_TOLD[lang].format(used=sample.swap_used / GIB, into=sample.swap_in, out=sample.swap_out)
        yield _labelled(words.SWAP[lang], told)
    if sample.oom_kill is not None:
        yield _labelled(words.OOM[lang], words.SINCE_BOOT[lang].format(count=sample.oom_kill))
    yield _labelled(words.LOST_SAMPLES[lang], (f"{fold.lost_samples}", Tone.WARN if fold.lost_samples else Tone.PLAIN))
    for name, traffic in sample.net.items():
        yield _link(name, traffic, lang)
    if sample.rdma is None:
        yield _labelled("RDMA", (f"? {words.RDMA_UNREADABLE[lang]}", Tone.UNKNOWN))
    elif not sample.rdma:
        yield _labelled("RDMA", (words.NO_RDMA[lang], Tone.DIM))
    for name, traffic in (sample.rdma or {}).items():
        yield _link(name, traffic, lang)


def _link(name: str, traffic: Traffic, lang: Lang) -> Line:
    speed = words.NO_SPEED[lang] if traffic.speed is None else words.LINK_SPEED[lang].format(speed=_bits(traffic.speed))
    busy = "" if traffic.busiest is None else f"  {traffic.busiest * 100:3.0f}%"
    rates = f"rx {_bytes(traffic.rx):>10}  tx {_bytes(traffic.tx):>10}"
    return _labelled(one_line(name), rates, (f"{busy}  {speed}", Tone.DIM))


def _labelled(label: str, *pieces: str | Piece) -> Line:
    return line((fit(label, LABEL_CELLS), Tone.HEADING), *pieces)


def _told(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _bytes(rate: float | None) -> str:
    """Bytes each second, decimal units as links have."""
    if rate is None:
        return "?"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if rate >= size:
            return f"{rate / size:.1f} {unit}/s"
    return f"{rate:.0f} B/s"


def _bits(speed: float) -> str:
    return f"{speed / 1e9:g} Gb/s" if speed >= 1e9 else f"{speed / 1e6:g} Mb/s"
