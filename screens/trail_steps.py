"""The lines of a trail: replica, application, Ray node, host, processes, GPUs, XIDs, each with what is against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dstui.model import Finding, Lang
from dstui.telemetry import live_views, live_xids
from dstui.telemetry.host import GpuSample, HostSample, Xid
from dstui.telemetry.live import Live
from dstui.telemetry.live_marks import Mark, mark_text
from dstui.telemetry.live_ray import RayView
from dstui.telemetry.live_status import Status, shown
from dstui.telemetry.live_trail import Trail, TrailGpu
from screens import panel_words as words
from screens.lines import Line, Piece, line
from screens.marks import OF_VERDICT, STALE
from screens.monitor_grid import SEVERITY_SIGNS
from screens.monitor_ray import how_old, judged
from screens.plain import fit, one_line
from screens.times import clock_time, moment, span
from screens.tones import Tone
from screens.vllm_columns import told

MOST_PIDS = 12
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Step:
    """One line. The key says what it is about: `gpu gpu-03 5`."""

    key: str
    label: str
    line: Line


def step_target(key: str) -> str | None:
    """The host that a step belongs to; None for one that belongs to none."""
    kind, _, rest = key.partition(" ")
    return rest.split(" ")[0] if kind in ("host", "gpu", "xid") and rest else None


def worst_step(trail: Trail) -> str:
    """Where the cursor begins: the GPU with the most against it, else the host, else the top."""
    against = {
        (gpu.host, gpu.index): sum(gpu.index in each.gpus for each in trail.marks.get(gpu.host, ()))
        for gpu in trail.gpus
    }
    worst = max(against, key=lambda gpu: against[gpu], default=None)
    if worst is not None and (against[worst] or len(against) == 1):
        return f"gpu {worst[0]} {worst[1]}"
    return f"host {trail.hosts[0]}" if trail.hosts else "replica"


def trail_steps(
    live: Live, trail: Trail, now: float, lang: Lang, checked: Iterable[tuple[Finding, bool]] = ()
) -> Iterator[Step]:
    """All lines, from the symptom down to the hardware. `checked` are findings about its hosts, each stale or not."""
    ray = live_views.ray_view(live, now)
    yield from _replica(trail, lang)
    yield Step("application", words.STEP_APPLICATION[lang], _application(ray, trail, lang))
    yield Step("node", words.STEP_NODE[lang], _node(ray, trail, lang))
    yield from _hosts(live, trail, now, lang)
    yield Step("processes", words.STEP_PROCESS[lang], _processes(trail, lang))
    yield from _gpus(live, trail, now, lang)
    yield from _xids(live, trail, now, lang)
    for number, (finding, stale) in enumerate(checked):
        label = "" if number else words.STEP_CHECK[lang]
        yield Step(f"host {finding.target.name} check {number}", label, _checked(finding, now, lang, stale=stale))


def _checked(finding: Finding, now: float, lang: Lang, *, stale: bool) -> Line:
    mark = OF_VERDICT[finding.verdict]
    pieces: list[Piece] = [(f"{finding.check_id} ", Tone.PLAIN)]
    if stale:
        pieces.append((f"{STALE.sign} {STALE.word[lang]} ", STALE.tone))
    tone = STALE.tone if stale else mark.tone
    pieces.append((f"{mark.sign} {one_line(finding.target.name)} {one_line(finding.observed[lang])}", tone))
    return (*pieces, (f"  {moment(finding.observed_at, now, lang)}", Tone.DIM))


def _replica(trail: Trail, lang: Lang) -> Iterator[Step]:
    row = trail.row
    name: Piece = (one_line(trail.replica), Tone.STRONG)
    if row is None or not row.shown.known:
        why = how_old(row.shown, lang) if row is not None else words.NOT_KNOWN[lang]
        yield Step("replica", words.STEP_REPLICA[lang], line(name, (f"  {why}", Tone.UNKNOWN)))
        return
    if row.shown.status is not Status.LIVE:
        yield Step("replica", words.STEP_REPLICA[lang], line(name, (f"  {how_old(row.shown, lang)}", Tone.WARN)))
    else:
        yield Step("replica", words.STEP_REPLICA[lang], line(name))
    tone = Tone.PLAIN if row.shown.status is Status.LIVE and row.doubt is None else Tone.DIM
    counts = words.COUNTS[lang].format(
        run=told(row.running)[0],
        wait=told(row.waiting)[0],
        kv=told(row.kv, "{:.0f}%", 100.0)[0],
        gen=told(row.generation_per_s)[0],
    )
    times = words.LATENCIES[lang].format(
        ttft=told(row.ttft.p95)[0], itl=told(row.itl.p95)[0], e2e=told(row.e2e.p95)[0], queue=told(row.queue.p95)[0]
    )
    yield Step("counts", "", line((f"{_INDENT}{counts}", tone)))
    yield Step("latencies", "", line((f"{_INDENT}{times}", tone)))
    if row.doubt is not None:
        yield Step("doubt", "", line((f"{_INDENT}? {one_line(row.doubt[lang])}", Tone.UNKNOWN)))
    for alarm in trail.alarms:
        yield Step(f"alarm {alarm.kind}", "", line((f"{_INDENT}! {one_line(alarm.text[lang])}", Tone.WARN)))


def _application(ray: RayView, trail: Trail, lang: Lang) -> Line:
    served = trail.served
    old = ray.serve.shown.status is not Status.LIVE
    age: Piece = (f"  {how_old(ray.serve.shown, lang)}" if old else "", Tone.WARN)
    if served is None:
        if ray.serve.value is None:
            return line((how_old(ray.serve.shown, lang), Tone.UNKNOWN))
        return line((words.NOT_IN_SERVE[lang], Tone.DIM), age)
    pieces: list[Piece] = []
    parts = (
        (served.application.name, served.application.status),
        (served.deployment.name, served.deployment.status),
        (served.replica.replica_id, served.replica.state),
    )
    for name, state in parts:
        sign, tone = judged(state)
        between = " / " if pieces else ""
        pieces.append((f"{between}{sign}{one_line(name)} {one_line(state or '?')}", Tone.DIM if old else tone))
    return line(*pieces, age)


def _node(ray: RayView, trail: Trail, lang: Lang) -> Line:
    node = next((node for node in ray.nodes.value or () if node.node_id == trail.node_id), None)
    if node is None:
        if ray.nodes.value is None:
            return line((how_old(ray.nodes.shown, lang), Tone.UNKNOWN))
        return line((words.NOT_KNOWN[lang], Tone.UNKNOWN))
    sign, tone = judged(node.state)
    pieces: list[Piece] = [
        (f"{sign}{one_line(node.state or '?')} ", tone),
        (f"{one_line(node.ip or '?')}  {one_line(node.node_id[:16])}", Tone.PLAIN),
    ]
    if node.message and not node.alive:
        pieces.append((f"  {one_line(node.message)}", tone))
    if ray.nodes.shown.status is not Status.LIVE:
        pieces = [(text, Tone.DIM) for text, _ in pieces]
        pieces.append((f"  {how_old(ray.nodes.shown, lang)}", Tone.WARN))
    return tuple(pieces)


def _hosts(live: Live, trail: Trail, now: float, lang: Lang) -> Iterator[Step]:
    if not trail.hosts:
        yield Step("no-host", words.STEP_HOST[lang], line((words.NOT_KNOWN[lang], Tone.UNKNOWN)))
    for number, name in enumerate(trail.hosts):
        label = "" if number else words.STEP_HOST[lang]
        fold = live.hosts.get(name)
        if fold is None:
            said = line((one_line(name), Tone.STRONG), (f"  {words.NOT_KNOWN[lang]}", Tone.UNKNOWN))
            yield Step(f"host {name}", label, said)
            continue
        pieces: list[Piece] = [(one_line(name), Tone.STRONG)]
        if fold.site is not None:
            pieces.append((f"  {one_line(fold.site.data_ip)}", Tone.PLAIN))
        how = shown(fold.pulse, now)
        if how.status is not Status.LIVE:
            pieces.append((f"  {how_old(how, lang)}", Tone.UNKNOWN if how.status is Status.UNKNOWN else Tone.WARN))
        yield Step(f"host {name}", label, tuple(pieces))
        if name in trail.beliefs:
            belief = one_line(trail.beliefs[name][lang])
            yield Step(f"host {name} belief", "", line((f"{_INDENT}! {belief}", Tone.WARN)))
        for each in trail.marks.get(name, ()):
            # How old it is stands beside its name already.
            if not each.gpus and each.kind not in ("lost", "late", "unseen"):
                yield Step(f"host {name} {each.kind}", "", _against(each, lang))


def _against(each: Mark, lang: Lang, *, which: bool = True) -> Line:
    sign, tone = SEVERITY_SIGNS[each.severity]
    text = mark_text(each) if which else each.text
    return line((f"{_INDENT}{sign} {one_line(text[lang])}", tone))


def _processes(trail: Trail, lang: Lang) -> Line:
    if not trail.pids:
        return line((words.NOT_KNOWN[lang], Tone.UNKNOWN))
    listed: list[str] = []
    for pid in trail.pids[:MOST_PIDS]:
        gpus = ", ".join(str(gpu.index) for gpu in trail.gpus if pid in gpu.pids)
        listed.append(words.ON_GPU[lang].format(pid=pid, gpus=gpus) if gpus else str(pid))
    rest = len(trail.pids) - MOST_PIDS
    more = f" {words.MORE[lang].format(count=rest)}" if rest > 0 else ""
    return line(words.listed(listed, lang) + more)


def _gpus(live: Live, trail: Trail, now: float, lang: Lang) -> Iterator[Step]:
    longest = max((len(f"{gpu.host}:{gpu.index}") for gpu in trail.gpus), default=0)
    label = words.STEP_GPU[lang]
    if not trail.gpus:
        yield Step("no-gpu", label, line((words.NOT_KNOWN[lang], Tone.UNKNOWN)))
    for gpu in trail.gpus:
        fold = live.hosts.get(gpu.host)
        sample = fold.sample if fold is not None else None
        how = shown(fold.pulse, now) if fold is not None else None
        found = next((each for each in sample.gpus if each.index == gpu.index), None) if sample is not None else None
        name = fit(one_line(f"{gpu.host}:{gpu.index}"), min(longest, 24))
        pieces: list[Piece] = [(f"{name}  ", Tone.STRONG)]
        pieces.append((one_line(gpu.uuid) if gpu.uuid else words.NO_UUID[lang], Tone.PLAIN))
        yield Step(f"gpu {gpu.host} {gpu.index}", label, tuple(pieces))
        label = ""
        current = how is not None and how.status is Status.LIVE
        if found is not None and how is not None and how.known and (trail.matched or _stands_out(trail, gpu)):
            numbers = line((f"{_INDENT}{_numbers(found, lang)}", Tone.PLAIN if current else Tone.DIM))
            # Why stands beside the host.
            age = (f"  {how_old(replace(how, why=None), lang)}", Tone.WARN)
            yield Step(f"gpu {gpu.host} {gpu.index} numbers", "", numbers if current else (*numbers, age))
        for each in trail.marks.get(gpu.host, ()):
            if gpu.index in each.gpus and each.kind != "xid":
                yield Step(f"gpu {gpu.host} {gpu.index} {each.kind}", "", _against(each, lang, which=False))


def _stands_out(trail: Trail, gpu: TrailGpu) -> bool:
    return any(gpu.index in each.gpus for each in trail.marks.get(gpu.host, ()))


def _numbers(gpu: GpuSample, lang: Lang) -> str:
    share = gpu.mem_used / gpu.mem_total * 100 if gpu.mem_used is not None and gpu.mem_total else None
    return words.GPU_NUMBERS[lang].format(
        use="?" if gpu.util is None else f"{gpu.util:.0f}%",
        mem="?" if share is None else f"{share:.0f}%",
        temp="?" if gpu.temp is None else f"{gpu.temp:.0f}",
        power="?" if gpu.power is None else f"{gpu.power:.0f}",
    )


def _xids(live: Live, trail: Trail, now: float, lang: Lang) -> Iterator[Step]:
    """The driver's errors of the last hour on the trail's GPUs, the newest first; or why nobody can tell."""
    label = words.STEP_XID[lang]
    for name in trail.hosts:
        for step in _xids_of(live, trail, name, now, lang):
            yield Step(step.key, label, step.line)
            label = ""
    if label:
        nothing = (words.NO_XID[lang], Tone.DIM) if trail.hosts else (words.NOT_KNOWN[lang], Tone.UNKNOWN)
        hows = [shown(live.hosts[name].pulse, now) for name in trail.hosts if name in live.hosts]
        old = next((how for how in hows if how.status is not Status.LIVE), None)
        age = f"  {how_old(replace(old, why=None), lang)}" if old is not None else ""
        yield Step("no-xid", label, line(nothing, (age, Tone.WARN)))


def _xids_of(live: Live, trail: Trail, name: str, now: float, lang: Lang) -> Iterator[Step]:
    fold = live.hosts.get(name)
    sample = fold.sample if fold is not None and shown(fold.pulse, now).known else None
    if sample is None:
        text = words.XID_NOT_SEEN[lang].format(host=one_line(name))
        yield Step(f"xid {name}", "", line((f"? {text}", Tone.UNKNOWN)))
        return
    if sample.xids is None:
        text = words.XID_UNKNOWN[lang].format(host=one_line(name))
        yield Step(f"xid {name}", "", line((f"? {text}", Tone.UNKNOWN)))
        if sample.xid_missing is not None:
            why = one_line(sample.xid_missing.why)
            yield Step(f"xid {name} why", "", line((f"{_INDENT}{why}", Tone.UNKNOWN)))
        return
    for xid in sorted(_own(sample, trail, name), key=lambda xid: -xid.at):
        key = f"xid {name} {xid.pci} {xid.number} {xid.at:.3f}"
        gpu = live_xids.gpu_of(xid, sample.gpus)
        sign, tone = SEVERITY_SIGNS[live_xids.severity(xid)]
        when = words.XID_AGO[lang].format(at=clock_time(xid.at), age=span(now - xid.at))
        head = line((f"{sign} {one_line(live_xids.told(xid)[lang])}", tone), (f"  {when}", Tone.DIM))
        yield Step(key, "", head)
        where = f"{name}:{gpu.index}  {gpu.uuid or words.NO_UUID[lang]}" if gpu is not None else f"{name}  {xid.pci}"
        yield Step(f"{key} where", "", line(f"{_INDENT}{one_line(where)}"))
        if xid.text:
            yield Step(f"{key} text", "", line((f"{_INDENT}{one_line(xid.text)}", Tone.DIM)))


def _own(sample: HostSample, trail: Trail, name: str) -> Iterator[Xid]:
    """Without those of GPUs that are not the trail's; one of a GPU that is not listed any more may be its own."""
    own = {gpu.index for gpu in trail.gpus if gpu.host == name}
    for xid in sample.xids or ():
        gpu = live_xids.gpu_of(xid, sample.gpus)
        if gpu is None or not trail.matched or gpu.index in own:
            yield xid
