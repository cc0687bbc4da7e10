"""Nodes of Ray from three places: who is alive (`/api/v0/nodes`), what is given out, and what their agents reported.

`/nodes` and the unformatted `/api/cluster_status` turn keys into camelCase and damage names on the way
(`acceleratorType:H100`, `node8A4A85…`); only keys that survive that are read from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dstui.telemetry.ray import DEAD, RayNode, Resources
from dstui.telemetry.ray_text import Scrubber, flag, moment, number, port, rows, table

_ACCELERATOR, _CAMEL_ACCELERATOR = "accelerator_type:", "acceleratorType:"
_USE = re.compile(r"([0-9.]+)([KMGT]?i?B)?/[0-9.]+(?:[KMGT]?i?B)? (CPU|GPU|memory|object_store_memory)(?: \(.*)?")
_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def resources(value: object) -> Resources:
    """Ray's resource table. One that names other things and no GPU has none; an empty or absent table says nothing."""
    if not isinstance(value, dict) or not value:
        return Resources()
    camel = "objectStoreMemory"
    return Resources(
        gpu=_amount(value, "GPU", 0.0),
        cpu=_amount(value, "CPU", 0.0),
        memory=_amount(value, "memory", None),
        object_store=_amount(value, camel if camel in value else "object_store_memory", None),
    )


def _amount(given: Mapping[str, object], name: str, absent: float | None) -> float | None:
    found = number(given[name]) if name in given else absent
    return found if found is None or found >= 0 else None


def nodes(listed: list[Mapping[str, object]], scrub: Scrubber) -> tuple[RayNode, ...]:
    """The rows of `/api/v0/nodes?detail=1`, in the order of their addresses. A row without an id is none."""
    found: dict[str, RayNode] = {}
    for row in listed:
        if node_id := scrub.label(row.get("node_id")):
            found[node_id] = _node(node_id, row, scrub)
    return tuple(sorted(found.values(), key=lambda node: (node.ip or "", node.started_at or 0.0, node.node_id)))


def _node(node_id: str, row: Mapping[str, object], scrub: Scrubber) -> RayNode:
    given = row.get("resources_total")
    accelerators = sorted(key for key in table(given) if key.startswith(_ACCELERATOR))
    return RayNode(
        node_id=node_id,
        ip=scrub.label(row.get("node_ip")),
        head=flag(row.get("is_head_node")),
        state=scrub.label(row.get("state")),
        message=scrub.line(row.get("state_message")),
        total=resources(given),
        accelerator=scrub.label(accelerators[0].removeprefix(_ACCELERATOR)) if accelerators else None,
        started_at=moment(row.get("start_time_ms"), 1000),
        ended_at=moment(row.get("end_time_ms"), 1000),
    )


def summarized(document: object, scrub: Scrubber) -> tuple[RayNode, ...]:
    """The same from `/nodes?view=summary`, for when that is all there is: its list may lag behind."""
    found: dict[str, RayNode] = {}
    for row in rows(table(table(document).get("data")).get("summary")):
        raylet = table(row.get("raylet"))
        if node_id := scrub.label(raylet.get("nodeId")):
            given = table(raylet.get("resourcesTotal"))
            names = sorted(key for key in given if key.startswith(_CAMEL_ACCELERATOR))
            found[node_id] = RayNode(
                node_id=node_id,
                ip=scrub.label(raylet.get("nodeManagerAddress")) or scrub.label(row.get("ip")),
                head=flag(raylet.get("isHeadNode")),
                state=scrub.label(raylet.get("state")),
                message=scrub.line(raylet.get("stateMessage")),
                total=resources(given),
                accelerator=scrub.label(names[0].removeprefix(_CAMEL_ACCELERATOR)) if names else None,
                started_at=moment(raylet.get("startTimeMs"), 1000),
                ended_at=moment(raylet.get("endTimeMs"), 1000),
            )
    return tuple(sorted(found.values(), key=lambda node: (node.ip or "", node.started_at or 0.0, node.node_id)))


_ROW_KEYS = ("now", "hostname", "ip")
_RAYLET_KEYS = (
    "nodeId", "metricsExportPort", "nodeManagerAddress", "isHeadNode", "state", "stateMessage", "startTimeMs",
    "endTimeMs", "resourcesTotal",
)  # fmt: skip


def slimmed(document: object) -> object:
    """`/nodes?view=summary` with only what is read of it, a thirtieth: it is read again at every look."""
    data = table(table(document).get("data"))
    listed = data.get("summary")
    if not isinstance(listed, list) or len(rows(listed)) < len(listed):
        return document
    kept = [
        {key: row[key] for key in _ROW_KEYS if key in row}
        | {"raylet": {key: value for key, value in table(row.get("raylet")).items() if key in _RAYLET_KEYS}}
        for row in rows(listed)
    ]
    return {**table(document), "data": {"summary": kept, "nodeLogicalResources": data.get("nodeLogicalResources")}}


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent of a node last told the dashboard, and when by the node's clock."""

    hostname: str | None
    at: float | None
    ip: str | None
    metrics_port: int | None


def reports(document: object, scrub: Scrubber) -> dict[str, Report]:
    """`/nodes?view=summary` by node id. The dashboard answers from what it remembers: look at `at`."""
    found: dict[str, Report] = {}
    for row in rows(table(table(document).get("data")).get("summary")):
        raylet = table(row.get("raylet"))
        if node_id := scrub.label(raylet.get("nodeId")):
            found[node_id] = Report(
                hostname=scrub.label(row.get("hostname")),
                at=moment(row.get("now")),
                ip=scrub.label(row.get("ip")),
                metrics_port=port(raylet.get("metricsExportPort")),
            )
    return found


def usage(document: object) -> tuple[dict[str, Resources], float | None]:
    """What each node has given out, by node id, and as of when (`/api/cluster_status`; Ray refreshes it every 5 s)."""
    status = table(table(table(document).get("data")).get("clusterStatus"))
    by_node = table(table(status.get("loadMetricsReport")).get("usageByNode"))
    used = {
        node_id: resources({name: _first(pair) for name, pair in table(each).items()})
        for node_id, each in by_node.items()
    }
    return used, moment(status.get("time"))


def _first(pair: object) -> object:
    return pair[0] if isinstance(pair, list) and pair else None


def logical_usage(document: object) -> dict[str, Resources]:
    """The same from the text beside `/nodes?view=summary`, which other versions of Ray have; it may be old."""
    lines = table(table(table(document).get("data")).get("nodeLogicalResources"))
    return {node_id: _from_text(text) for node_id, text in lines.items() if isinstance(text, str)}


def _from_text(text: str) -> Resources:
    found: dict[str, object] = {}
    for line in text[:4096].splitlines():
        if match := _USE.fullmatch(line.strip()):
            amount = number(match[1])
            found[match[3]] = amount * _UNITS.get(match[2] or "", 1) if amount is not None else None
    return resources(found)


def joined(
    listed: tuple[RayNode, ...],
    used: Mapping[str, Resources],
    told: Mapping[str, Report],
    head_time: float | None,
) -> tuple[RayNode, ...]:
    """The nodes with what else is known of them. A dead node has given out nothing that could be counted."""
    return tuple(_joined(node, used.get(node.node_id), told.get(node.node_id), head_time) for node in listed)


def _joined(node: RayNode, used: Resources | None, report: Report | None, head_time: float | None) -> RayNode:
    if node.state != DEAD:
        node = replace(node, used=used)
    if report is None:
        return node
    age = None if report.at is None or head_time is None else max(0.0, head_time - report.at)
    return replace(
        node,
        hostname=report.hostname,
        reported_at=report.at,
        report_age=age,
        metrics_port=report.metrics_port,
    )
