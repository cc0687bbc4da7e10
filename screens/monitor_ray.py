"""The Ray panel: nodes beside inventory and NVML, Serve, what waits; every part with its own age and reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_ray import RayView, Section
from dstui.telemetry.live_status import Shown, Status
from dstui.telemetry.ray import Actor, Application, Demands, Deployment, Jobs, RayNode, RaySnapshot, Replica
from dstui.telemetry.ray_compare import HostInRay, Joined, RayComparison
from screens import panel_words as words
from screens.lines import Line, Piece, cropped
from screens.plain import fit, one_line
from screens.times import span
from screens.tones import Tone

T = TypeVar("T")

LABEL_CELLS = 11
NAME_CELLS = (8, 20)
OLD_REPORT_SECONDS = 30.0
"""Ray's summary can be much older than its answer (81 s were seen after a quiet spell)."""

MOST_HOSTS_SHARE = 2
"""Unless zoomed, hosts in trouble take at most one row in so many; the rest of Ray must stay in view."""

MOST_DEMANDS = 6
ASKED_SECONDS = 10.0
"""Some parts are asked for less often than others; from this age on it is said."""

_GOOD = frozenset({"RUNNING", "HEALTHY", "CREATED", "ALIVE", "SUCCEEDED", "STOPPED"})
_UNDER_WAY = frozenset(
    {"DEPLOYING", "UPDATING", "UPSCALING", "DOWNSCALING", "STARTING", "NOT_STARTED", "DELETING", "RECOVERING"}
    | {"STOPPING", "PENDING", "PENDING_CREATION", "DEPENDENCIES_UNREADY", "RESTARTING", "PENDING_MIGRATION"}
)
_BAD = frozenset({"UNHEALTHY", "DEPLOY_FAILED", "FAILED", "DEAD"})

Row = tuple[str, str, Line]
"""Key, label, line."""


class RayPanel:
    """Key of a row: what it is about, such as `host gpu-01`, `app llm` or `replica llm/LLMServer/x1`."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.first = ""
        self._rows: dict[str, tuple[str, Line]] = {}
        self._compared: dict[str, HostInRay] = {}
        self._old = False
        self._lang = Lang.EN
        self._title = ""
        self._head_time: float | None = None
        self._ages: dict[str, float] = {}
        self._name_cells = NAME_CELLS[0]
        self._vllm: tuple[str, ...] = ()
        self._hosts_by_node: dict[str, str] = {}
        self._homes: dict[str, str] = {}
        """The host of each replica's row."""

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None:
        """Takes a new look. With a `height`, what is as it should be is summed up."""
        self._lang = lang
        view = live_views.ray_view(live, now)
        compared = view.comparison
        self._compared = {} if compared is None else {host.host: host for host in compared.hosts}
        self._old = view.nodes.shown.status is not Status.LIVE
        self._head_time = view.snapshot.head_time if view.snapshot is not None else None
        as_of = view.snapshot.as_of if view.snapshot is not None else {}
        self._ages = {name: now - at for name, at in as_of.items() if now - at > ASKED_SECONDS}
        longest = max((len(host) for host in self._compared), default=0)
        self._name_cells = min(max(longest, NAME_CELLS[0]), NAME_CELLS[1])
        self._hosts_by_node = {
            host.node.node_id: host.host for host in self._compared.values() if host.node is not None
        }
        self._vllm = tuple(row.replica for row in live_views.vllm_view(live, now).rows)
        self._rows = {key: (label, line) for key, label, line in self._build(view, height)}
        self.keys = list(self._rows)
        self._title = self._entitle(view)

    def title(self) -> str:
        return self._title or words.RAY[self._lang]

    def row(self, key: str, width: int, at_cursor: bool) -> Line:
        found = self._rows.get(key)
        if found is None:
            return ()
        label, line = found
        if not line and (host := self._compared.get(key.removeprefix("host "))) is not None:
            line = self._host(host)
        head: Line = (("› " if at_cursor else "  ", Tone.ACCENT), (fit(label, LABEL_CELLS), Tone.HEADING))
        return cropped((*head, *line), width)

    def replica(self, key: str) -> str | None:
        """The replica in the vLLM panel that a Serve replica's row is; None where none has its id in its name."""
        kind, _, path = key.partition(" ")
        replica_id = path.rpartition("/")[2]
        if kind != "replica" or not replica_id:
            return None
        return next((name for name in self._vllm if name.rpartition("/")[2].endswith(replica_id)), None)

    def host(self, key: str) -> str | None:
        """The inventory host of a node's row, or of the node that a replica is on."""
        kind, _, name = key.partition(" ")
        if kind == "replica":
            return self._homes.get(name)
        return name if kind == "host" else None

    # Rows

    def _entitle(self, view: RayView) -> str:
        lang = self._lang
        parts = [words.RAY[lang] + (f" {one_line(view.version.value)}" if view.version.value else "")]
        if view.shown.status is not Status.LIVE:
            return f"{parts[0]} · {how_old(view.shown, lang)}"
        head = next((node for node in view.nodes.value or () if node.head and node.alive), None)
        if head is not None and head.started_at is not None and self._head_time is not None:
            parts.append(words.UP_FOR[lang].format(age=span(self._head_time - head.started_at)))
        if view.snapshot is not None and (told := self._own_age(view.snapshot)):
            parts.append(told)
        return " · ".join(parts)

    def _build(self, view: RayView, height: int | None) -> Iterator[Row]:
        lang, zoomed = self._lang, height is None
        self._homes = {}
        if not view.shown.known and view.nodes.value is None:
            yield "lost", "", ((how_old(view.shown, lang), Tone.UNKNOWN),)
            return
        yield "nodes", words.NODES[lang], self._nodes(view)
        yield from self._hosts(view, height)
        yield "gpus", words.RESOURCES[lang], self._gpus(view)
        yield from self._serve(view, zoomed=zoomed)
        yield "demands", words.DEMANDS[lang], self._section("demands", view.demands, self._demands)
        yield from self._groups(view)
        if zoomed:
            yield "actors", words.ACTORS[lang], self._section("actors", view.actors, self._actors)
        jobs = view.jobs.value
        if zoomed or (jobs is not None and jobs.counts.get("FAILED")):
            yield "jobs", words.JOBS[lang], self._section("jobs", view.jobs, self._jobs)
            for job in (jobs.latest if jobs is not None else ()) if zoomed else ():
                if job.status == "FAILED":
                    text = f"✗ {one_line(job.job_id)} {one_line(job.message)}"
                    yield f"job {job.job_id}", "", self._aged(((text, Tone.FAIL),), view.jobs, said=False)

    def _nodes(self, view: RayView) -> Line:
        compared, lang = view.comparison, self._lang
        if compared is None:
            return ((how_old(view.nodes.shown, lang), Tone.UNKNOWN),)
        told = words.ALIVE_OF[lang].format(alive=compared.alive, expected=len(compared.expected))
        good = compared.alive == len(compared.expected) and not view.beliefs
        pieces: list[Piece] = [(told if good else f"! {told}", Tone.PLAIN if good else Tone.WARN)]
        if compared.strangers:
            names = ", ".join(one_line(node.ip or node.node_id[:12]) for node in compared.strangers[:3])
            text = words.STRANGERS[lang].format(count=len(compared.strangers), names=names)
            pieces.append((f" · ! {text}", Tone.WARN))
        return self._aged(tuple(pieces), view.nodes, "nodes")

    def _hosts(self, view: RayView, height: int | None) -> Iterator[Row]:
        """Those in trouble first; the others only when zoomed, and their lines are made when they come into view."""
        bad: list[tuple[str, Line]] = []
        good: list[str] = []
        for name, host in self._compared.items():
            if name in view.beliefs:
                bad.append((name, (("! ", Tone.WARN), (one_line(view.beliefs[name][self._lang]), Tone.WARN))))
            elif host.joined is not Joined.ALIVE or host.gpus.agree is False or host.wrong_address:
                bad.append((name, ()))
            else:
                good.append(name)
        most = len(bad) if height is None else max(1, height // MOST_HOSTS_SHARE)
        if len(bad) > most:
            bad, rest = bad[: most - 1], len(bad) - most + 1
        else:
            rest = 0
        for name, line in bad:
            yield f"host {name}", "", line
        if rest:
            yield "more hosts", "", ((f"! {words.MORE[self._lang].format(count=rest)}", Tone.WARN),)
        if height is None:
            for name in good:
                yield f"host {name}", "", ()

    def _host(self, host: HostInRay) -> Line:
        lang, joined = self._lang, host.joined
        sign, tone = "  ", Tone.PLAIN
        if joined in (Joined.DEAD, Joined.ABSENT) and host.expected:
            sign, tone = "✗ ", Tone.FAIL
        elif joined in (Joined.UNKNOWN, Joined.UNCLEAR):
            sign, tone = "? ", Tone.UNKNOWN
        elif joined is Joined.TWICE or host.gpus.agree is False or host.wrong_address:
            sign, tone = "! ", Tone.WARN
        state = fit(words.JOINED[joined][lang], 8 if joined is not Joined.TWICE else 20)
        pieces: list[Piece] = [(f"{sign}{fit(one_line(host.host), self._name_cells)} {state} ", tone)]
        node = host.node
        if node is not None and node.message and not node.alive:
            pieces.append((f"{one_line(node.message)} · ", tone))
        pieces.append((self._counts(host.gpus.ray, host.gpus.inventory, host.gpus.nvml), tone))
        if host.wrong_address:
            pieces.append((f" · {words.WRONG_ADDRESS[lang].format(address=one_line(host.wrong_address))}", Tone.WARN))
        if node is not None and node.alive:
            pieces += self._alive(node)
        if host.deaths and joined is not Joined.DEAD:
            told = words.DIED_ONCE[lang] if host.deaths == 1 else words.DEATHS[lang].format(count=host.deaths)
            pieces.append((f" · {told}", Tone.DIM))
        return tuple((text, Tone.DIM) for text, _ in pieces) if self._old else tuple(pieces)

    def _alive(self, node: RayNode) -> Iterator[Piece]:
        lang = self._lang
        if node.used is not None and node.used.gpu is not None:
            yield f" · {words.USED[lang].format(used=_count(node.used.gpu))}", Tone.PLAIN
        if node.head:
            yield f" · {words.HEAD[lang]}", Tone.ACCENT
        if node.report_age is not None and node.report_age > OLD_REPORT_SECONDS:
            yield f" · ! {words.REPORTED[lang].format(age=span(node.report_age))}", Tone.WARN

    def _counts(self, ray: float | None, inventory: int | None, nvml: int | None) -> str:
        told = {"ray": _count(ray), "inventory": _count(inventory), "nvml": _count(nvml)}
        return words.GPU_COUNTS[self._lang].format(**told)

    def _own_age(self, snapshot: RaySnapshot) -> str:
        """How old Ray's own view was when Ray answered; empty while that is fresh, or not known."""
        age = snapshot.usage_age
        if age is None or age <= OLD_REPORT_SECONDS:
            return ""
        return f"! {words.RAY_AGE[self._lang].format(age=span(age))}"

    def _gpus(self, view: RayView) -> Line:
        compared: RayComparison | None = view.comparison
        lang = self._lang
        if compared is None:
            return ((how_old(view.nodes.shown, lang), Tone.UNKNOWN),)
        counts = compared.gpus
        sign, tone = ("✗ ", Tone.FAIL) if counts.agree is False else ("", Tone.PLAIN)
        pieces: list[Piece] = [(f"{sign}{self._counts(counts.ray, counts.inventory, counts.nvml)}", tone)]
        snapshot = view.snapshot
        if snapshot is not None:
            used, total = snapshot.used, snapshot.total
            if used is not None and used.gpu is not None:
                pieces.append((f" · {words.USED[lang].format(used=_count(used.gpu))}", Tone.PLAIN))
            if used is not None and total is not None and used.cpu is not None and total.cpu is not None:
                text = words.USED_CPU[lang].format(used=_count(used.cpu), total=_count(total.cpu))
                pieces.append((f" · {text}", Tone.PLAIN))
            if told := self._own_age(snapshot):
                pieces.append((f" · {told}", Tone.WARN))
        return self._aged(tuple(pieces), view.nodes, "nodes")

    def _serve(self, view: RayView, *, zoomed: bool) -> Iterator[Row]:
        lang, section = self._lang, view.serve
        if section.value is None:
            yield "serve", words.SERVE[lang], ((how_old(section.shown, lang), Tone.UNKNOWN),)
            return
        if not section.value.running or not section.value.applications:
            yield "serve", words.SERVE[lang], self._aged(((words.NO_SERVE[lang], Tone.DIM),), section, "serve")
            return
        for number, app in enumerate(section.value.applications):
            label = "" if number else words.SERVE[lang]
            yield f"app {app.name}", label, self._aged(self._app(app), section, "serve")
            for deployment in app.deployments:
                key = f"{app.name}/{deployment.name}"
                if zoomed or deployment.status != "HEALTHY" or deployment.dead_replicas:
                    line = self._aged(self._deployment(deployment), section, said=False)
                    yield f"deployment {key}", "", line
                    yield from self._copies(key, deployment, section, zoomed=zoomed)

    def _app(self, app: Application) -> Line:
        sign, tone = judged(app.status)
        running = sum(deployment.running for deployment in app.deployments)
        targets = [deployment.target for deployment in app.deployments]
        wanted = "?" if None in targets else sum(target for target in targets if target is not None)
        told = words.REPLICAS[self._lang].format(running=running, target=wanted)
        pieces: list[Piece] = [(f"{sign}{one_line(app.name)} {one_line(app.status or '?')} · {told}", tone)]
        if app.message and tone is not Tone.PLAIN:
            pieces.append((f" · {one_line(app.message)}", tone))
        return tuple(pieces)

    def _deployment(self, deployment: Deployment) -> Line:
        sign, tone = judged(deployment.status)
        target = "?" if deployment.target is None else deployment.target
        told = words.REPLICAS[self._lang].format(running=deployment.running, target=target)
        text = f"  {sign}{one_line(deployment.name)} {one_line(deployment.status or '?')} · {told}"
        text += f" · {one_line(deployment.message)}" if deployment.message else ""
        return ((text, tone),)

    def _copies(self, key: str, deployment: Deployment, section: Section[T], *, zoomed: bool) -> Iterator[Row]:
        """Its replicas, those that died too; unless zoomed only the ones that do not run."""
        for replica in (*deployment.replicas, *deployment.dead_replicas):
            dead = replica in deployment.dead_replicas
            if zoomed or dead or replica.state != "RUNNING":
                path = f"{key}/{replica.replica_id}"
                home = self._hosts_by_node.get(replica.node_id or "")
                if home is not None:
                    self._homes[path] = home
                line = self._copy(replica, home, dead=dead)
                yield f"replica {path}", "", self._aged((line,), section, said=False)

    def _copy(self, replica: Replica, home: str | None, *, dead: bool) -> Piece:
        lang = self._lang
        state = replica.state or ("DEAD" if dead else None)
        sign, tone = judged(state)
        where = one_line(home or replica.node_ip or "?")
        text = f"    {sign}{one_line(replica.replica_id)} {one_line(state or '?')}"
        text += f" {words.ON_NODE[lang].format(node=where)}"
        if replica.pid is not None:
            text += f" · {words.PID[lang].format(pid=replica.pid)}"
        return text, tone

    def _demands(self, demands: Demands) -> Line:
        said = (*demands.failures, *demands.waiting)
        if not said:
            return ((words.NO_DEMANDS[self._lang], Tone.DIM),)
        told = words.one_after_another((one_line(text) for text in said[:MOST_DEMANDS]), self._lang)
        rest = len(said) - MOST_DEMANDS
        told += f" {words.MORE[self._lang].format(count=rest)}" if rest > 0 else ""
        return ((f"! {told}", Tone.WARN),)

    def _groups(self, view: RayView) -> Iterator[Row]:
        section, label = view.groups, words.GROUPS[self._lang]
        if section.value is None:
            yield "groups", label, ((how_old(section.shown, self._lang), Tone.UNKNOWN),)
        for group in section.value or ():
            if group.state in ("CREATED", "REMOVED"):
                continue
            name = one_line(group.name or group.group_id[:12])
            text = f"{name} {one_line(group.state or '?')} {one_line(group.asks)}"
            sign, tone = ("✗ ", Tone.FAIL) if group.infeasible else ("! ", Tone.WARN)
            if group.infeasible:
                text += f" · {words.INFEASIBLE[self._lang]}"
            yield f"group {group.group_id}", label, self._aged(((f"{sign}{text}", tone),), section, said=False)
            label = ""

    def _actors(self, actors: tuple[Actor, ...]) -> Line:
        counts: dict[str, int] = {}
        for actor in actors:
            counts[actor.state or "?"] = counts.get(actor.state or "?", 0) + 1
        return self._states(counts)

    def _jobs(self, jobs: Jobs) -> Line:
        return self._states(dict(jobs.counts))

    def _states(self, counts: dict[str, int]) -> Line:
        """`3 RUNNING, ✗ 1 FAILED`."""
        if not counts:
            return ((words.NO_JOBS[self._lang], Tone.DIM),)
        pieces: list[Piece] = []
        for state, count in sorted(counts.items()):
            sign, tone = judged(state)
            pieces.append((f"{', ' if pieces else ''}{sign}{count} {one_line(state)}", tone))
        return tuple(pieces)

    # How old

    def _section(self, name: str, section: Section[T], make: Callable[[T], Line]) -> Line:
        if section.value is None:
            return ((how_old(section.shown, self._lang), Tone.UNKNOWN),)
        return self._aged(make(section.value), section, name)

    def _aged(self, line: Line, section: Section[T], name: str = "", *, said: bool = True) -> Line:
        """Grey and with its age when it is old; with what could not be read when it is not whole.

        `name` is the section's, for the age of what is current and was asked for a while ago.
        """
        if section.shown.status is not Status.LIVE:
            grey = tuple((text, Tone.DIM) for text, _ in line)
            return (*grey, (f"  {how_old(section.shown, self._lang)}", Tone.WARN)) if said else grey
        if section.fault is not None and said:
            why = words.INCOMPLETE[self._lang].format(why=one_line(section.fault.why[self._lang]))
            line = (*line, (f"  ! {why}", Tone.WARN))
        if name in self._ages:
            line = (*line, (f"  ({words.ASKED[self._lang].format(age=span(self._ages[name]))})", Tone.DIM))
        return line


def how_old(shown: Shown, lang: Lang) -> str:
    """Why there is nothing, or how old it is; empty while it is current."""
    if shown.status is Status.LIVE:
        return ""
    if shown.status is Status.UNKNOWN:
        told = words.UNKNOWN[lang]
    else:
        age = span(shown.age or 0.0)
        told = (words.OLD if shown.status is Status.LATE else words.LOST)[lang].format(age=age)
    return words.because(told, one_line(shown.why[lang]), lang) if shown.why is not None else told


def judged(state: str | None) -> tuple[str, Tone]:
    """The sign and tone of a state in Ray's words; one that is not known to dstui is neither good nor bad."""
    if state in _GOOD:
        return "", Tone.PLAIN
    if state in _BAD:
        return "✗ ", Tone.FAIL
    return ("! ", Tone.WARN) if state in _UNDER_WAY else ("? ", Tone.UNKNOWN)


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"
