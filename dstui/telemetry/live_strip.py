"""The live strip: what of GPUs, Ray and vLLM fits into one line under the checklist."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.model import Text, same
from dstui.telemetry.live_grid import GridRow
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_marks import mark_text
from dstui.telemetry.live_ray import RayView, Section
from dstui.telemetry.live_status import LIVE_NOW, NEVER, Shown, Status
from dstui.telemetry.ray import Serve
from dstui.telemetry.vllm_panel import Total, VllmPanel
from dstui.telemetry.watched import VLLM, Watched
from dstui.telemetry.windows import Absent, Estimate, Present


@dataclass(frozen=True, slots=True)
class Worst:
    """What stands out most among the hosts: `host` and what it is."""

    host: str
    severity: Severity
    text: Text


@dataclass(frozen=True, slots=True)
class GpuLine:
    """`seen` GPUs on `live` of `hosts` hosts; the numbers are of these alone. `expected` is the inventory's count.

    `shown` is LIVE as soon as one host with GPUs is; `use` in %.
    """

    shown: Shown
    hosts: int
    live: int
    seen: int
    expected: int | None
    use: float | None
    worst: Worst | None

    @property
    def whole(self) -> bool:
        """Whether the numbers are of every host."""
        return self.live == self.hosts


@dataclass(frozen=True, slots=True)
class RayLine:
    """`alive` of the `expected` inventory hosts; `believed` of them are alive for Ray alone."""

    shown: Shown
    alive: int | None
    expected: int | None
    believed: int = 0


@dataclass(frozen=True, slots=True)
class ServeLine:
    """The worst application's status in Ray's words, and replicas that run of those that are wanted."""

    shown: Shown
    status: Text | None
    bad: bool
    running: int | None
    target: int | None


@dataclass(frozen=True, slots=True)
class VllmLine:
    """Totals of the replicas that are live; each may be absent for itself. TTFT in seconds."""

    shown: Shown
    replicas: int
    live: int
    running: Total
    waiting: Total
    kv: Total
    ttft_p95: Present[Estimate] | Absent


@dataclass(frozen=True, slots=True)
class StripView:
    """The four parts of the strip."""

    gpus: GpuLine
    ray: RayLine
    serve: ServeLine
    vllm: VllmLine


_SERVE_ORDER = ("DEPLOY_FAILED", "UNHEALTHY", "DELETING", "DEPLOYING", "NOT_STARTED", "RUNNING")
_BAD = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
NOT_WATCHED = Shown(
    Status.UNKNOWN,
    None,
    Text(
        "the inventory has no endpoints.backends and no ray.dashboard_url",
        "清单中没有 endpoints.backends 和 ray.dashboard_url",
    ),
)
_NO_SERVE = Text("not deployed", "未部署")


def gpu_line(rows: list[GridRow]) -> GpuLine:
    """From the rows of all hosts, unfolded. Hosts that are declared to have no GPU do not count."""
    with_gpus = [row for row in rows if row.expected != 0 or row.gpus]
    live = [row for row in with_gpus if row.shown.status is Status.LIVE]
    use = [row.mean_use * row.telling for row in live if row.mean_use is not None]
    told = sum(row.telling for row in live if row.mean_use is not None)
    declared = [row.expected for row in with_gpus if row.expected is not None]
    return GpuLine(
        shown=_best(with_gpus),
        hosts=len(with_gpus),
        live=len(live),
        seen=sum(row.gpus or 0 for row in live),
        expected=sum(declared) if declared and len(declared) == len(with_gpus) else None,
        use=sum(use) / told if told else None,
        worst=_worst(rows),
    )


def _best(rows: list[GridRow]) -> Shown:
    """LIVE when any is; else the status of the one that was heard last."""
    if any(row.shown.status is Status.LIVE for row in rows):
        return LIVE_NOW
    known = [row.shown for row in rows if row.shown.known]
    if known:
        return min(known, key=lambda how: how.age or 0.0)
    return rows[0].shown if rows else NEVER


def _worst(rows: list[GridRow]) -> Worst | None:
    marked = [row for row in rows if row.marks and row.marks[0].kind != "unseen"]
    if not marked:
        return None
    row = max(marked, key=lambda row: row.rank)
    mark = row.marks[0]
    return Worst(row.hosts[0], mark.severity, mark_text(mark))


def ray_line(view: RayView) -> RayLine:
    """Nodes alive beside the inventory."""
    compared = view.comparison
    if compared is None:
        return RayLine(view.nodes.shown, None, None)
    return RayLine(view.nodes.shown, compared.alive, len(compared.expected), len(view.beliefs))


def serve_line(section: Section[Serve]) -> ServeLine:
    """The state of Ray Serve as a whole."""
    serve = section.value
    if serve is None:
        return ServeLine(section.shown, None, False, None, None)
    if not serve.running or not serve.applications:
        return ServeLine(section.shown, _NO_SERVE, False, None, None)
    statuses = [app.status or "?" for app in serve.applications]
    status = min(statuses, key=lambda said: _SERVE_ORDER.index(said) if said in _SERVE_ORDER else -1)
    deployments = [deployment for app in serve.applications for deployment in app.deployments]
    targets = [deployment.target for deployment in deployments if deployment.target is not None]
    return ServeLine(
        section.shown,
        same(status),
        status in _BAD or status not in _SERVE_ORDER,
        sum(deployment.running for deployment in deployments),
        sum(targets) if len(targets) == len(deployments) else None,
    )


def vllm_line(panel: VllmPanel, watched: Watched) -> VllmLine:
    """The totals of all replicas."""
    shown = [row.shown for row in panel.rows]
    live = sum(how.status is Status.LIVE for how in shown)
    known = [how for how in shown if how.known]
    totals = panel.totals
    if live:
        best = LIVE_NOW
    elif known:
        best = min(known, key=lambda how: how.age or 0.0)
    else:
        best = shown[0] if shown else NEVER if watched.watches(VLLM) else NOT_WATCHED
    return VllmLine(best, len(shown), live, totals.running, totals.waiting, totals.kv, totals.ttft.quantiles.p95)
