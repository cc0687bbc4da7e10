"""What runs and what waits in Ray: demands, placement groups, actors, jobs, and where metrics are served."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from dstui.telemetry.ray import Actor, Demands, Job, Jobs, MetricsTarget, PlacementGroup, RayNode
from dstui.telemetry.ray_text import Scrubber, counts, cut, moment, rows, table, whole

MAX_LINES = 50
MAX_JOBS = 20
_MAX_GROUPS = 2000
_MAX_ACTORS = 2000
_MAX_SPAN = 256
_MAX_TARGETS = 4096

_DEMANDS = "Pending Demands:"
_FAILURES = "Recent failures:"
_OTHER_PORTS = frozenset({44217, 44227})
"""Ray's autoscaler and dashboard serve their own metrics there; no node's."""


def demands(document: object, at: float | None, scrub: Scrubber) -> Demands | None:
    """From the text of `ray status` (`/api/cluster_status?format=1`); None when it is not that text."""
    text = table(table(document).get("data")).get("clusterStatus")
    if not isinstance(text, str) or _DEMANDS not in text:
        return None
    return Demands(_below(text, _DEMANDS, scrub), _below(text, _FAILURES, scrub), at)


def _below(text: str, heading: str, scrub: Scrubber) -> tuple[str, ...]:
    """The indented lines below a heading, without `(no …)`."""
    _, _, rest = text.partition(heading)
    found: list[str] = []
    for line in rest[:262_144].splitlines()[1:]:
        if not line.startswith(" ") or len(found) == MAX_LINES:
            break
        if not re.match(r"\s+\(no ", line):
            found.append(scrub.line(line))
    return tuple(found)


def placement_groups(listed: list[Mapping[str, object]], scrub: Scrubber) -> tuple[PlacementGroup, ...]:
    """The groups that are not removed, the waiting ones first."""
    found = [_group(row, scrub) for row in listed]
    kept = [group for group in found if group.group_id and group.state != "REMOVED"]
    return tuple(sorted(kept, key=lambda group: (group.state == "CREATED", group.group_id))[:_MAX_GROUPS])


def _group(row: Mapping[str, object], scrub: Scrubber) -> PlacementGroup:
    bundles = rows(row.get("bundles"))
    nodes = {scrub.name(bundle.get("node_id")) for bundle in bundles} - {""}
    return PlacementGroup(
        group_id=scrub.name(row.get("placement_group_id")),
        name=scrub.name(row.get("name")),
        state=scrub.label(row.get("state")),
        scheduling=scrub.label(table(row.get("stats")).get("scheduling_state")),
        asks=_asks(bundles, scrub),
        nodes=tuple(sorted(nodes)[:_MAX_SPAN]),
    )


def _asks(bundles: list[Mapping[str, object]], scrub: Scrubber) -> str:
    """`2 × {CPU 1, GPU 4}`."""
    shapes = [_shape(bundle, scrub) for bundle in bundles]
    return cut(", ".join(f"{count} × {{{shape}}}" for shape, count in counts(shapes).items()), 256)


def _shape(bundle: Mapping[str, object], scrub: Scrubber) -> str:
    wanted = sorted(table(bundle.get("unit_resources")).items())
    return ", ".join(
        f"{scrub.name(name)} {amount:g}"
        for name, amount in wanted
        if isinstance(amount, int | float) and abs(amount) < 1e18
    )


def actors(listed: list[Mapping[str, object]], scrub: Scrubber) -> tuple[Actor, ...]:
    """The actors that live or wait to; the dead are left out."""
    found = (
        Actor(
            actor_id=scrub.name(row.get("actor_id")),
            kind=scrub.name(row.get("class_name")),
            name=scrub.name(row.get("name")),
            state=scrub.label(row.get("state")),
            node_id=scrub.label(row.get("node_id")),
            pid=whole(row.get("pid")) or None,
        )
        for row in listed[:_MAX_ACTORS]
    )
    return tuple(actor for actor in found if actor.actor_id and actor.state != "DEAD")


def jobs(document: list[object], scrub: Scrubber) -> Jobs:
    """`/api/jobs/` without command lines: how many in each state, and the latest with the first line of the message."""
    listed = rows(document)
    latest = sorted(listed, key=lambda row: moment(row.get("start_time"), 1000) or 0.0, reverse=True)[:MAX_JOBS]
    return Jobs(
        counts=counts([scrub.label(row.get("status")) for row in listed]),
        latest=tuple(_job(row, scrub) for row in latest),
    )


def _job(row: Mapping[str, object], scrub: Scrubber) -> Job:
    return Job(
        job_id=scrub.label(row.get("submission_id")) or scrub.name(row.get("job_id")),
        status=scrub.label(row.get("status")),
        message=scrub.first_line(row.get("message")),
        started_at=moment(row.get("start_time"), 1000),
        ended_at=moment(row.get("end_time"), 1000),
        exit=whole(row.get("driver_exit_code")),
    )


def metrics_targets(discovered: object, nodes: tuple[RayNode, ...]) -> tuple[MetricsTarget, ...]:
    """The metrics page of every ALIVE node: from the node's own report, else from `/api/prometheus/sd`.

    Addresses that belong to no node that is alive are passed over: the discovery list may be old.
    """
    alive = [(node.ip, node) for node in nodes if node.alive and node.ip]
    found = {(ip, node.metrics_port): node.node_id for ip, node in alive if node.metrics_port}
    silent = {ip: node.node_id for ip, node in alive if node.metrics_port is None}
    for ip, port in _discovered(discovered):
        if ip in silent and port not in _OTHER_PORTS:
            found[ip, port] = silent[ip]
    return tuple(
        MetricsTarget(f"http://{_bracketed(ip)}:{port}/metrics", ip, port, node_id)
        for (ip, port), node_id in sorted(found.items())
    )


def _discovered(document: object) -> list[tuple[str, int]]:
    lists = [group.get("targets") for group in rows(document)]
    targets = [target for each in lists if isinstance(each, list) for target in each[:_MAX_TARGETS]]
    found = [_address(target) for target in targets if isinstance(target, str)]
    return [address for address in found if address is not None]


def _address(target: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(f"//{target[:300]}")
        ip, port = ipaddress.ip_address(parts.hostname or ""), parts.port
    except ValueError:
        return None
    return (str(ip), port) if port else None


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
