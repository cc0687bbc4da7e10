"""The Ray panel: nodes beside inventory and NVML, Serve, what waits; every part with its own age and reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from dstui.model import Lang, Text
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_ray import RayView, Section
from dstui.telemetry.live_status import Shown, Status
from dstui.telemetry.ray import Application, Deployment
from dstui.telemetry.ray_compare import HostInRay, Joined, RayComparison
from screens import panel_words as words
from screens.lines import Line, Piece, cropped
from screens.plain import fit, one_line
from screens.times import span
from screens.tones import Tone

T = TypeVar("T")

LABEL_CELLS = 11
OLD_REPORT_SECONDS = 30.0
"""Ray's summary can be much older than its answer (81 s were seen after a quiet spell)."""

_GOOD = frozenset({"RUNNING", "HEALTHY"})
_UNDER_WAY = frozenset({"DEPLOYING", "UPDATING", "UPSCALING", "DOWNSCALING", "STARTING", "NOT_STARTED", "DELETING"})


class RayPanel:
    """Key of a row: what it is about, such as `host gpu-01` or `app llm`."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = ""
        self._rows: dict[str, tuple[str, Line]] = {}
        self._lang = Lang.EN
        self._title = ""

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look. With a `height`, hosts that are as they should be are left out."""
        self._lang = lang
        view = live_views.ray_view(live, now)
        rows = list(self._build(view, zoomed=height is None))
        self._rows = {key: (label, line) for key, label, line in rows}
        self.keys = list(self._rows)
        version = view.version.value
        self._title = words.RAY[lang] + (f" {one_line(version)}" if version else "")
        if view.shown.status is not Status.LIVE:
            self._title += f" · {self._how(view.shown)}"

    def title(self) -> str:
        return self._title or words.RAY[self._lang]

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        found = self._rows.get(key)
        if found is None:
            return ()
        label, line = found
        head: Line = (("› " if at_cursor else "  ", Tone.ACCENT), (fit(label, LABEL_CELLS), Tone.HEADING))
        return cropped((*head, *line), width)

    def replica(self, key: str) -> str | None:
        """None: Ray's replicas are found from vLLM's rows."""
        return None

    def host(self, key: str) -> str | None:
        """The inventory host of a node's row."""
        kind, _, name = key.partition(" ")
        return name if kind == "host" else None

    # Rows

    def _build(self, view: RayView, *, zoomed: bool) -> Iterator[tuple[str, str, Line]]:
        lang = self._lang
        if not view.shown.known and view.nodes.value is None:
            yield "lost", "", ((self._how(view.shown), Tone.UNKNOWN),)
            return
        yield "nodes", words.NODES[lang], self._nodes(view)
        for host, text in view.beliefs.items():
            yield f"host {host}", "", (("! ", Tone.WARN), (one_line(text[lang]), Tone.WARN))
        yield from self._hosts(view, zoomed=zoomed)
        yield "gpus", words.RESOURCES[lang], self._gpus(view)
        yield from self._serve(view, zoomed=zoomed)
        yield "demands", words.DEMANDS[lang], self._section(view.demands, self._demands)
        yield from self._groups(view)
        if zoomed:
            yield "jobs", words.JOBS[lang], self._section(view.jobs, self._jobs)

    def _nodes(self, view: RayView) -> Line:
        compared = view.comparison
        if compared is None:
            return ((self._how(view.nodes.shown), Tone.UNKNOWN),)
        told = words.ALIVE_OF[self._lang].format(alive=compared.alive, expected=len(compared.expected))
        good = compared.alive == len(compared.expected) and not view.beliefs
        pieces: list[Piece] = [(told if good else f"! {told}", Tone.PLAIN if good else Tone.WARN)]
        if compared.strangers:
            names = ", ".join(one_line(node.ip or node.node_id[:12]) for node in compared.strangers[:3])
            text = words.STRANGERS[self._lang].format(count=len(compared.strangers), names=names)
            pieces.append((f" · ! {text}", Tone.WARN))
        return self._aged(tuple(pieces), view.nodes)

    def _hosts(self, view: RayView, *, zoomed: bool) -> Iterator[tuple[str, str, Line]]:
        compared = view.comparison
        if compared is None:
            return
        for host in compared.hosts:
            if host.host in view.beliefs:
                continue
            if zoomed or host.joined is not Joined.ALIVE or host.gpus.agree is False or host.wrong_address:
                yield f"host {host.host}", "", self._aged(self._host(host), view.nodes, said=False)

    def _host(self, host: HostInRay) -> Line:
        lang = self._lang
        joined = host.joined
        sign, tone = "  ", Tone.PLAIN
        if joined in (Joined.DEAD, Joined.ABSENT) and host.expected:
            sign, tone = "✗ ", Tone.FAIL
        elif joined in (Joined.UNKNOWN, Joined.UNCLEAR):
            sign, tone = "? ", Tone.UNKNOWN
        elif joined is Joined.TWICE or host.gpus.agree is False or host.wrong_address:
            sign, tone = "! ", Tone.WARN
        pieces: list[Piece] = [(f"{sign}{fit(one_line(host.host), 12)} {words.JOINED[joined][lang]}", tone)]
        pieces.append((f"  {self._counts(host.gpus.ray, host.gpus.inventory, host.gpus.nvml)}", tone))
        if host.wrong_address:
            pieces.append((f"  {words.WRONG_ADDRESS[lang].format(address=one_line(host.wrong_address))}", Tone.WARN))
        if host.node is not None and host.node.message:
            pieces.append((f"  {one_line(host.node.message)}", tone))
        return tuple(pieces)

    def _counts(self, ray: float | None, inventory: int | None, nvml: int | None) -> str:
        told = {"ray": _count(ray), "inventory": _count(inventory), "nvml": _count(nvml)}
        return words.GPU_COUNTS[self._lang].format(**told)

    def _gpus(self, view: RayView) -> Line:
        compared: RayComparison | None = view.comparison
        if compared is None:
            return ((self._how(view.nodes.shown), Tone.UNKNOWN),)
        counts = compared.gpus
        bad = counts.agree is False
        told = self._counts(counts.ray, counts.inventory, counts.nvml)
        pieces: list[Piece] = [(f"✗ {told}" if bad else told, Tone.FAIL if bad else Tone.PLAIN)]
        snapshot = view.snapshot
        if snapshot is not None and snapshot.used is not None and snapshot.used.gpu is not None:
            text = words.USED[self._lang].format(used=_count(snapshot.used.gpu), total=_count(counts.ray))
            pieces.append((f" · {text}", Tone.PLAIN))
        if snapshot is not None and (age := snapshot.usage_age) is not None and age > OLD_REPORT_SECONDS:
            pieces.append((f" · ! {words.RAY_AGE[self._lang].format(age=span(age))}", Tone.WARN))
        return self._aged(tuple(pieces), view.nodes)

    def _serve(self, view: RayView, *, zoomed: bool) -> Iterator[tuple[str, str, Line]]:
        lang, section = self._lang, view.serve
        if section.value is None:
            yield "serve", words.SERVE[lang], ((self._how(section.shown), Tone.UNKNOWN),)
            return
        if not section.value.running or not section.value.applications:
            yield "serve", words.SERVE[lang], self._aged(((words.NO_SERVE[lang], Tone.DIM),), section)
            return
        for number, app in enumerate(section.value.applications):
            label = "" if number else words.SERVE[lang]
            yield f"app {app.name}", label, self._aged(self._app(app), section)
            for deployment in app.deployments:
                if zoomed or deployment.status != "HEALTHY" or deployment.dead_replicas:
                    key = f"deployment {app.name}/{deployment.name}"
                    yield key, "", self._aged(self._deployment(deployment), section, said=False)

    def _app(self, app: Application) -> Line:
        sign, tone = _judged(app.status)
        running = sum(deployment.running for deployment in app.deployments)
        targets = [deployment.target for deployment in app.deployments]
        known = [target for target in targets if target is not None]
        target = "?" if len(known) != len(targets) else str(sum(known))
        told = words.REPLICAS[self._lang].format(running=running, target=target)
        pieces: list[Piece] = [
            (f"{sign}{one_line(app.name)} {one_line(app.status or '?')}", tone),
            (f" · {told}", tone),
        ]
        if app.message and tone is not Tone.PLAIN:
            pieces.append((f" · {one_line(app.message)}", tone))
        return tuple(pieces)

    def _deployment(self, deployment: Deployment) -> Line:
        sign, tone = _judged(deployment.status)
        target = "?" if deployment.target is None else deployment.target
        told = words.REPLICAS[self._lang].format(running=deployment.running, target=target)
        states: dict[str, int] = {}
        for replica in deployment.replicas:
            states[replica.state or "?"] = states.get(replica.state or "?", 0) + 1
        listed = ", ".join(f"{count} {one_line(state)}" for state, count in sorted(states.items()))
        text = f"  {sign}{one_line(deployment.name)} {one_line(deployment.status or '?')} · {told}"
        text += f" ({listed})" if listed else ""
        text += f" · {one_line(deployment.message)}" if deployment.message else ""
        return ((text, tone),)

    def _demands(self, view: object) -> Line:
        from dstui.telemetry.ray import Demands

        assert isinstance(view, Demands)
        if not view.waiting and not view.failures:
            return ((words.NO_DEMANDS[self._lang], Tone.DIM),)
        told = "; ".join(one_line(text) for text in (*view.failures, *view.waiting)[:6])
        return ((f"! {told}", Tone.WARN),)

    def _groups(self, view: RayView) -> Iterator[tuple[str, str, Line]]:
        section = view.groups
        for number, group in enumerate(section.value or ()):
            if group.state == "CREATED":
                continue
            text = (
                f"{one_line(group.name or group.group_id[:12])} {one_line(group.state or '?')} {one_line(group.asks)}"
            )
            tone, sign = (Tone.FAIL, "✗ ") if group.infeasible else (Tone.WARN, "! ")
            if group.infeasible:
                text += f" · {words.INFEASIBLE[self._lang]}"
            label = "" if number else words.GROUPS[self._lang]
            yield f"group {group.group_id}", label, self._aged(((f"{sign}{text}", tone),), section, said=False)

    def _jobs(self, jobs: object) -> Line:
        from dstui.telemetry.ray import Jobs

        assert isinstance(jobs, Jobs)
        if not jobs.counts:
            return ((words.NO_JOBS[self._lang], Tone.DIM),)
        return (
            (", ".join(f"{count} {one_line(status)}" for status, count in sorted(jobs.counts.items())), Tone.PLAIN),
        )

    # How old

    def _section(self, section: Section[T], make: Callable[[T], Line]) -> Line:
        if section.value is None:
            return ((self._how(section.shown), Tone.UNKNOWN),)
        return self._aged(make(section.value), section)

    def _aged(self, line: Line, section: Section[T], *, said: bool = True) -> Line:
        """Grey and with its age when it is old; with what could not be read when it is not whole."""
        if section.shown.status is not Status.LIVE:
            grey = tuple((text, Tone.DIM) for text, _ in line)
            return (*grey, (f"  {self._how(section.shown)}", Tone.WARN)) if said else grey
        if section.fault is not None and said:
            why = words.INCOMPLETE[self._lang].format(why=one_line(section.fault.why[self._lang]))
            return (*line, (f"  ! {why}", Tone.WARN))
        return line

    def _how(self, shown: Shown) -> str:
        return how_old(shown, self._lang)


def how_old(shown: Shown, lang: Lang) -> str:
    """Why there is nothing, or how old it is; empty while it is current."""
    why = f": {one_line(shown.why[lang])}" if shown.why is not None else ""
    if shown.status is Status.LIVE:
        return ""
    if shown.status is Status.UNKNOWN:
        return words.UNKNOWN[lang] + why
    told: Text = words.OLD if shown.status is Status.LATE else words.LOST
    return told[lang].format(age=span(shown.age or 0.0)) + why


def _judged(status: str | None) -> tuple[str, Tone]:
    if status in _GOOD:
        return "", Tone.PLAIN
    return ("! ", Tone.WARN) if status in _UNDER_WAY else ("✗ ", Tone.FAIL)


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"
