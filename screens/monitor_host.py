"""One host live: what stands out, its GPUs with their history, its memory and its links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from dstui.model import Lang
from dstui.telemetry import live_xids
from dstui.telemetry.host import GpuSample, HostSample, Traffic
from dstui.telemetry.live import Live
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_host_changes import HARMLESS_REASONS, reason_severity, reason_text
from dstui.telemetry.live_marks import mark_text, marks_of
from dstui.telemetry.live_rings import GpuColumn, HostColumn
from dstui.telemetry.live_status import Shown, Status, shown
from screens import monitor_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import BLANK, Bar, Line, LineView, Piece, line, paragraph, spread
from screens.monitor_grid import SEVERITY_SIGNS
from screens.monitor_ray import how_old
from screens.plain import fit, one_line
from screens.spark import history, sparkline
from screens.times import clock_time, span
from screens.tones import Tone

LABEL_CELLS = 14
GPU_CELLS = 52
"""Of one GPU's numbers."""

GIB = 1024**3
MOST_PIDS = 6
LEAST_SPARK, MOST_SPARK = 10, 36
SPARK_SECONDS = 10.0
"""Of one cell: two to six minutes in all."""

HISTORIES_FROM = 105
"""Columns from which on memory, temperature and power have their history too, and not only the use."""

OLD_PART_SECONDS = 2.0
"""Some parts are read less often than the rest; from this age on it is said."""


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
        feed = self.house.feed
        pieces: list[Piece] = [(f" {one_line(self.host_name)} ", Tone.ACCENT)]
        if feed is not None and feed.live.watched.simulated:
            pieces.append((" SIMULATED ", Tone.BADGE))
        if feed is not None and feed.replay is not None:
            pieces.append((f" {words.REPLAY[self.lang]} ", Tone.BADGE))
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
        sign, tone = ("?", Tone.UNKNOWN) if not how.known else SEVERITY_SIGNS[mark.severity]
        yield from paragraph(f"{sign} {one_line(mark_text(mark)[lang])}", width, tone, indent=2)
    if not marks:
        yield line((f"  {words.NOTHING_OUT[lang]}", Tone.DIM))
    cells = _spark_cells(width)
    sample = fold.sample
    if sample is None:
        return
    if not how.known:
        yield from _before(fold, now, cells, lang)
        return
    body = [*_gpu_part(fold, sample, now, lang, width), BLANK, *_machine_part(fold, sample, now, lang, cells)]
    current = how.status is Status.LIVE
    for each in body:
        yield each if current else tuple((text, Tone.DIM) for text, _ in each)


def _spark_cells(width: int) -> int:
    """Of each history, so that all of a screen are over the same time."""
    room = (width - GPU_CELLS - 4) // 4 if width >= HISTORIES_FROM else width - GPU_CELLS - 4
    return min(max(room, LEAST_SPARK), MOST_SPARK)


def _over(cells: int, lang: Lang) -> str:
    return words.HISTORY[lang].format(span=span(cells * SPARK_SECONDS))


def _before(fold: HostFold, now: float, cells: int, lang: Lang) -> Iterator[Line]:
    """What a host did before nothing was known of it: a history with its end missing, and no number."""
    at = fold.pulse.sample_at
    if at is not None:
        age = span(abs(now - at))
        yield line((f"  {words.LAST_HEARD[lang].format(at=clock_time(at), age=age)}", Tone.DIM))
    rings = fold.rings.gpus
    if rings is None:
        return
    yield BLANK
    yield line((f"{words.USE_BEFORE[lang]} · {_over(cells, lang)}", Tone.HEADING))
    for index in range(rings.columns // len(GpuColumn)):
        use = _gpu_spark(fold, index, GpuColumn.UTIL, now, cells, 100.0)
        yield line((f"  {index:2} ", Tone.DIM), ("   ? ", Tone.UNKNOWN), (use, Tone.DIM))


def _gpu_part(fold: HostFold, sample: HostSample, now: float, lang: Lang, width: int) -> Iterator[Line]:
    yield BLANK
    if sample.gpu_missing is not None:
        why = one_line(sample.gpu_missing.why)
        yield from paragraph(f"? {words.GPUS_MISSING[lang].format(why=why)}", width, Tone.UNKNOWN)
    cells = _spark_cells(width)
    if sample.gpu_source is not None:
        told = [words.GPUS_OF[lang].format(source=one_line(sample.gpu_source)), _over(cells, lang)]
        if (sample.gpu_age or 0.0) >= OLD_PART_SECONDS:
            told.append(words.GPU_AGE[lang].format(age=span(sample.gpu_age or 0.0)))
        if (sample.slow_age or 0.0) >= OLD_PART_SECONDS:
            told.append(words.SLOW_AGE[lang].format(age=span(sample.slow_age or 0.0)))
        yield from _packed(told, width, 0, Tone.HEADING)
    for gpu in sample.gpus:
        yield _gpu_line(fold, gpu, now, cells, every=width >= HISTORIES_FROM)
        yield from _gpu_notes(sample, gpu, lang, width)
    if sample.xids is None and (sample.gpus or fold.expected_gpus):
        missing = sample.xid_missing
        why = words.XIDS_UNREADABLE[lang]
        if missing is not None and missing.why:
            why = words.XIDS_UNREADABLE_BECAUSE[lang].format(why=one_line(missing.why))
        yield from paragraph(f"? {why}", width, Tone.UNKNOWN)


def _gpu_line(fold: HostFold, gpu: GpuSample, now: float, cells: int, *, every: bool) -> Line:
    """Use, memory, temperature, power and clock, each with its history where there is room for `every` one."""

    def lately(column: GpuColumn, top: float) -> Piece:
        return (f"{_gpu_spark(fold, gpu.index, column, now, cells, top)} " if every else "", Tone.ACCENT)

    power, limit = _told(gpu.power), _told(gpu.power_limit)
    share = gpu.mem_used / gpu.mem_total * 100 if gpu.mem_used is not None and gpu.mem_total else None
    use = _gpu_spark(fold, gpu.index, GpuColumn.UTIL, now, cells, 100.0)
    return line(
        (f"  {gpu.index:2} ", Tone.STRONG),
        (f"{_told(gpu.util):>3}% ", Tone.STRONG),
        (f"{use} ", Tone.ACCENT),
        f" mem {_told(share):>3}% ",
        lately(GpuColumn.MEMORY, 1.0),
        f" {_told(gpu.temp):>3} °C ",
        lately(GpuColumn.TEMP, 100.0),
        f" {power:>4}/{limit:<4} W ",
        lately(GpuColumn.POWER, gpu.power_limit or gpu.power or 1.0),
        f" {_told(gpu.sm_mhz):>4} MHz",
    )


def _gpu_spark(fold: HostFold, index: int, column: GpuColumn, now: float, cells: int, top: float) -> str:
    found = fold.rings.gpu_column(index, column)
    return " " * cells if found is None else sparkline(history(*found, now, cells, seconds=SPARK_SECONDS), top)


def _gpu_notes(sample: HostSample, gpu: GpuSample, lang: Lang, width: int) -> Iterator[Line]:
    """UUID, processes, link and error count, each said to be unknown where it is; and whatever is wrong, in words."""
    ecc = gpu.ecc_uncorrected
    notes = [
        one_line(gpu.uuid) if gpu.uuid else words.UUID_UNKNOWN[lang],
        _processes(gpu, lang),
        words.ECC_UNKNOWN[lang] if ecc is None else words.ECC[lang].format(count=ecc),
        words.CLOCKS_UNKNOWN[lang] if gpu.reasons is None else "",
        words.PCIE_UNKNOWN[lang] if gpu.pcie_gen is None else f"PCIe {gpu.pcie_gen:.0f} x{_told(gpu.pcie_width)}",
    ]
    yield from _packed([note for note in notes if note], width, 5, Tone.DIM)
    if gpu.error is not None:
        yield line((f"     ✗ NVML: {one_line(gpu.error)}", Tone.FAIL))
    reasons = [reason for reason in gpu.reasons or () if reason not in HARMLESS_REASONS]
    if reasons:
        sign, tone = SEVERITY_SIGNS[max(map(reason_severity, reasons), key=list(SEVERITY_SIGNS).index)]
        told = ", ".join(one_line(reason_text(reason)[lang]) for reason in reasons)
        yield from paragraph(f"{sign} {words.SLOWED[lang].format(reasons=told)}", width, tone, indent=5)
    if ecc:
        yield line((f"     ✗ {words.ECC[lang].format(count=ecc)}", Tone.FAIL))
    for xid in live_xids.on_gpu(sample, gpu.index):
        sign, tone = SEVERITY_SIGNS[live_xids.severity(xid)]
        told = f"{sign} {clock_time(xid.at)} {live_xids.told(xid)[lang]}  {one_line(xid.text)}"
        yield from paragraph(told, width, tone, indent=5)


def _processes(gpu: GpuSample, lang: Lang) -> str:
    if gpu.procs is None:
        return words.PROCESSES_UNKNOWN[lang]
    if not gpu.procs:
        return words.NO_PROCESSES[lang]
    pids = ", ".join(str(each.pid) for each in gpu.procs[:MOST_PIDS])
    if len(gpu.procs) > MOST_PIDS:
        pids += ", …"
    return (words.PROCESSES if len(gpu.procs) > 1 else words.PROCESS)[lang].format(count=len(gpu.procs), pids=pids)


def _packed(parts: Sequence[str], width: int, indent: int, tone: Tone) -> Iterator[Line]:
    """Parts beside each other, as many on a line as fit whole."""
    told = ""
    for part in parts:
        longer = f"{told} · {part}" if told else part
        if told and cell_len(longer) > width - indent:
            yield line((" " * indent + told, tone))
            longer = part
        told = longer
    if told:
        yield line((" " * indent + told, tone))


def _machine_part(fold: HostFold, sample: HostSample, now: float, lang: Lang, cells: int) -> Iterator[Line]:
    cpu = _host_spark(fold, HostColumn.CPU, now, cells, 100.0)
    load = ""
    if sample.load1 is not None and sample.cpus is not None:
        load = words.LOAD[lang].format(load=sample.load1, cpus=sample.cpus)
    yield _labelled(words.CPU[lang], (f"{_told(sample.cpu):>3}% ", Tone.STRONG), (cpu, Tone.ACCENT), f"  {load}")
    if sample.mem_total and sample.mem_available is not None:
        used = sample.mem_total - sample.mem_available
        memory = _host_spark(fold, HostColumn.MEMORY, now, cells, 1.0)
        told = words.OF_GIB[lang].format(used=used / GIB, total=sample.mem_total / GIB)
        share = used / sample.mem_total * 100
        yield _labelled(words.MEMORY[lang], (f"{share:3.0f}% ", Tone.STRONG), (memory, Tone.ACCENT), f"  {told}")
    else:
        yield _unknown(words.MEMORY[lang])
    if sample.swap_used is not None and sample.swap_in is not None and sample.swap_out is not None:
        told = words.SWAP_TOLD[lang].format(used=sample.swap_used / GIB, into=sample.swap_in, out=sample.swap_out)
        yield _labelled(words.SWAP[lang], told)
    else:
        yield _unknown(words.SWAP[lang])
    if sample.oom_kill is not None:
        yield _labelled(words.OOM[lang], words.SINCE_BOOT[lang].format(count=sample.oom_kill))
    else:
        yield _unknown(words.OOM[lang])
    lost = f"! {fold.lost_samples}" if fold.lost_samples else "0"
    yield _labelled(words.LOST_SAMPLES[lang], (lost, Tone.WARN if fold.lost_samples else Tone.PLAIN))
    yield from _links(fold, "NIC", sample.net, (HostColumn.NET_RX, HostColumn.NET_TX), now, lang, cells)
    if sample.rdma is None:
        yield _labelled("RDMA", (f"? {words.RDMA_UNREADABLE[lang]}", Tone.UNKNOWN))
    elif not sample.rdma:
        yield _labelled("RDMA", (words.NO_RDMA[lang], Tone.DIM))
    else:
        yield from _links(fold, "RDMA", sample.rdma, (HostColumn.RDMA_RX, HostColumn.RDMA_TX), now, lang, cells)


def _links(
    fold: HostFold,
    label: str,
    links: Mapping[str, Traffic],
    columns: tuple[HostColumn, HostColumn],
    now: float,
    lang: Lang,
    cells: int,
) -> Iterator[Line]:
    """The history over all links of a kind, as high as its own highest, then each link against its speed."""
    if not links:
        return
    for direction, column in zip(("rx", "tx"), columns, strict=True):
        values = history(fold.rings.host, column, now, cells, seconds=SPARK_SECONDS)
        highest = max((value for value in values if value is not None), default=None)
        told = words.HIGHEST[lang].format(rate=_bytes(highest))
        yield _labelled(f"{label} {direction}", (sparkline(values, highest or 1.0), Tone.ACCENT), f"  {told}")
    for name, traffic in links.items():
        yield _link(name, traffic, lang)


def _host_spark(fold: HostFold, column: HostColumn, now: float, cells: int, top: float) -> str:
    return sparkline(history(fold.rings.host, column, now, cells, seconds=SPARK_SECONDS), top)


def _link(name: str, traffic: Traffic, lang: Lang) -> Line:
    speed = words.NO_SPEED[lang] if traffic.speed is None else words.LINK_SPEED[lang].format(speed=_bits(traffic.speed))
    busy = "   ?" if traffic.busiest is None else f"{traffic.busiest * 100:3.0f}%"
    rates = f"rx {_bytes(traffic.rx):>10}  tx {_bytes(traffic.tx):>10}"
    return _labelled(f"  {one_line(name)}", rates, (f"  {busy}  {speed}", Tone.DIM))


def _labelled(label: str, *pieces: str | Piece) -> Line:
    return line((f"{fit(label, LABEL_CELLS - 1)} ", Tone.HEADING), *pieces)


def _unknown(label: str) -> Line:
    return _labelled(label, ("?", Tone.UNKNOWN))


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
