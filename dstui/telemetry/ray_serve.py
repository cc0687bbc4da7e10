"""Ray Serve from `/api/serve/applications/`: a list of what is read, because its configurations hold secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dstui.telemetry.ray import Application, Deployment, PlacementGroup, Proxy, Replica, Serve
from dstui.telemetry.ray_nodes import resources
from dstui.telemetry.ray_text import Scrubber, moment, port, rows, table, whole

_MAX_DEAD = 20


def serve(document: Mapping[str, object], scrub: Scrubber) -> Serve:
    """What is deployed. Ray without a Serve controller answers with empty objects."""
    applications = table(document.get("applications"))
    proxies = table(document.get("proxies"))
    return Serve(
        running=bool(table(document.get("controller_info")).get("actor_id") or applications or proxies),
        applications=tuple(_application(name, table(app), scrub) for name, app in sorted(applications.items())),
        proxies=tuple(_proxy(node_id, table(proxy), scrub) for node_id, proxy in sorted(proxies.items())),
        http_port=port(table(document.get("http_options")).get("port")),
    )


def _application(name: str, row: Mapping[str, object], scrub: Scrubber) -> Application:
    deployments = sorted(table(row.get("deployments")).items())
    return Application(
        name=scrub.name(name),
        status=scrub.label(row.get("status")),
        message=scrub.message(row.get("message")),
        route=scrub.label(row.get("route_prefix")),
        deployed_at=moment(row.get("last_deployed_time_s")),
        deployments=tuple(_deployment(each, table(deployment), scrub) for each, deployment in deployments),
    )


def _deployment(name: str, row: Mapping[str, object], scrub: Scrubber) -> Deployment:
    asks = row.get("required_resources")
    return Deployment(
        name=scrub.name(name),
        status=scrub.label(row.get("status")),
        trigger=scrub.label(row.get("status_trigger")),
        message=scrub.message(row.get("message")),
        target=whole(row.get("target_num_replicas")),
        asks=resources(asks) if isinstance(asks, dict) else None,
        max_ongoing_requests=whole(table(row.get("deployment_config")).get("max_ongoing_requests")),
        replicas=_replicas(row.get("replicas"), scrub),
        dead_replicas=_replicas(row.get("recent_dead_replicas"), scrub)[-_MAX_DEAD:],
    )


def _replicas(value: object, scrub: Scrubber) -> tuple[Replica, ...]:
    found = []
    for row in rows(value):
        replica_id = scrub.label(row.get("replica_id")) or _id_of(scrub.label(row.get("actor_name")))
        if replica_id:
            found.append(
                Replica(
                    replica_id=replica_id,
                    state=scrub.label(row.get("state")),
                    node_id=scrub.label(row.get("node_id")),
                    node_ip=scrub.label(row.get("node_ip")),
                    pid=whole(row.get("pid")),
                    actor_id=scrub.label(row.get("actor_id")),
                    started_at=moment(row.get("start_time_s")),
                )
            )
    return tuple(sorted(found, key=lambda replica: (replica.started_at or 0.0, replica.replica_id)))


def _id_of(actor_name: str | None) -> str | None:
    return actor_name.rsplit("#", 1)[1] if actor_name and "#" in actor_name else None


def _proxy(node_id: str, row: Mapping[str, object], scrub: Scrubber) -> Proxy:
    return Proxy(scrub.name(node_id), scrub.label(row.get("node_ip")), scrub.label(row.get("status")))


def spanning(found: Serve, groups: tuple[PlacementGroup, ...]) -> Serve:
    """With the nodes that each replica's placement group lies on: Serve names the group after the replica."""
    nodes = {group.name: group.nodes for group in groups if group.nodes}

    def of(app: str, deployment: str, replica: Replica) -> Replica:
        return replace(replica, spans=nodes.get(f"SERVE_REPLICA::{app}#{deployment}#{replica.replica_id}", ()))

    return replace(
        found,
        applications=tuple(
            replace(
                app,
                deployments=tuple(
                    replace(each, replicas=tuple(of(app.name, each.name, replica) for replica in each.replicas))
                    for each in app.deployments
                ),
            )
            for app in found.applications
        ),
    )
