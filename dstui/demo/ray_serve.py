"""The made-up application on Ray: replicas, placement groups and actors, as Ray and Ray Serve tell of them."""

from __future__ import annotations

from collections.abc import Iterator

from dstui.demo.gpus import GPUS
from dstui.demo.life import (
    NOTICED_SECONDS,
    STOPPED_SECONDS,
    Body,
    Copy,
    Life,
    Node,
    Phase,
    hexed,
    life_number,
    worker_pid,
)
from dstui.demo.vllm_engine import MAX_NUM_SEQS
from dstui.demo.vllm_page import MODEL

Json = dict[str, object]

APPLICATION, DEPLOYMENT = "llm", f"LLMServer:{MODEL}"
CPUS_A_REPLICA, GPUS_A_REPLICA = 9.0, float(GPUS)
_UNHEALTHY = (
    "A replica's health check failed. This deployment will be UNHEALTHY until the replica recovers or a new deploy "
    "happens."
)
_MAIN_PROCESS = -1
"""In place of a GPU's number: the process of the replica itself."""


def replica_id(copy: Copy, turn: int) -> str:
    """Eight letters and digits, as Serve gives them."""
    return hexed(f"{copy.host.name} replica {turn}", 8)


def actor_id(copy: Copy, turn: int) -> str:
    """The actor that a replica is."""
    return hexed(f"actor {copy.host.name} {turn}", 32)


def believed(copy: Copy) -> list[Node]:
    """The nodes on which Ray has the replica, dead machines included that it does not know of yet."""
    last = copy.body.nodes[-1]
    if copy.phase in (Phase.RUNNING, Phase.LOADING):
        return [last]
    return [node for node in copy.body.nodes if node.gone_at is not None and node.ended_at is None]


def applications(life: Life, now: float) -> Json:
    """`/api/serve/applications/`."""
    head = next(iter(life.bodies.values())).nodes[-1]
    sick = any(copy.noticed for copy in life.copies)
    alive = [node for body in life.bodies.values() for node in body.nodes if node.ended_at is None]
    app = {
        "name": APPLICATION, "route_prefix": "/", "docs_path": "/docs", "status": "UNHEALTHY" if sick else "RUNNING",
        "message": f"The deployments ['{DEPLOYMENT}'] are UNHEALTHY." if sick else "",
        "last_deployed_time_s": life.began - 3_400.0, "deployed_app_config": None, "source": "declarative",
        "deployments": {DEPLOYMENT: _deployment(life, now, sick=sick)},
    }  # fmt: skip
    return {
        "controller_info": {
            "node_id": head.node_id, "node_ip": head.host.data_ip, "actor_id": hexed("serve controller", 32),
            "actor_name": "SERVE_CONTROLLER_ACTOR", "worker_id": hexed("serve controller worker", 56),
            "log_file_path": "/serve/controller_5858.log",
        },
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000, "root_path": ""},  # noqa: S104 - nothing is bound to it
        "grpc_options": {"port": 9000, "grpc_servicer_functions": []},
        "proxies": {node.node_id: _proxy(node, now) for node in alive},
        "applications": {APPLICATION: app},
        "target_capacity": None,
    }  # fmt: skip


def _proxy(node: Node, now: float) -> Json:
    well = node.gone_at is None or now - node.gone_at < NOTICED_SECONDS
    return {
        "node_id": node.node_id, "node_ip": node.host.data_ip, "actor_id": hexed(f"proxy {node.node_id}", 32),
        "actor_name": f"SERVE_PROXY_ACTOR-{node.node_id}", "worker_id": hexed(f"proxy worker {node.node_id}", 56),
        "log_file_path": f"/serve/proxy_{node.host.data_ip}.log", "status": "HEALTHY" if well else "UNHEALTHY",
    }  # fmt: skip


def _deployment(life: Life, now: float, *, sick: bool) -> Json:
    rows = [row for copy in life.copies for row in _replicas(copy, now)]
    dead = [_replica(copy, copy.turn - 1, "STOPPED", None) for copy in life.copies if copy.turn]
    return {
        "name": DEPLOYMENT, "status": "UNHEALTHY" if sick else "HEALTHY",
        "status_trigger": "HEALTH_CHECK_FAILED" if sick else "CONFIG_UPDATE_COMPLETED",
        "message": _UNHEALTHY if sick else "",
        "deployment_config": {"num_replicas": len(life.copies), "max_ongoing_requests": MAX_NUM_SEQS},
        "target_num_replicas": len(life.copies), "required_resources": {"CPU": CPUS_A_REPLICA, "GPU": GPUS_A_REPLICA},
        "replicas": rows, "recent_dead_replicas": dead,
    }  # fmt: skip


def _replicas(copy: Copy, now: float) -> Iterator[Json]:
    last = copy.body.nodes[-1]
    if copy.phase in (Phase.RUNNING, Phase.GONE):
        yield _replica(copy, copy.turn, "RUNNING", last)
        return
    if copy.lost_at is not None and now - copy.lost_at < STOPPED_SECONDS:
        yield _replica(copy, copy.turn - 1, "STOPPING", last)
    yield _replica(copy, copy.turn, "STARTING", last if copy.phase is Phase.LOADING else None)


def _replica(copy: Copy, turn: int, state: str, node: Node | None) -> Json:
    short = replica_id(copy, turn)
    number = life_number(copy.body, copy) - (copy.turn - turn)
    began = copy.running_since if turn == copy.turn and copy.engine is not None else copy.placed_at or copy.lost_at
    return {
        "node_id": None if node is None else node.node_id, "node_ip": None if node is None else node.host.data_ip,
        "actor_id": actor_id(copy, turn),
        "actor_name": f"SERVE_REPLICA::{APPLICATION}#{DEPLOYMENT}#{short}",
        "worker_id": None if node is None else hexed(f"worker {copy.host.name} {turn}", 56),
        "log_file_path": None if node is None else f"/serve/replica_{APPLICATION}_{short}.log", "replica_id": short,
        "state": state, "pid": None if node is None else worker_pid(copy.host.name, number, _MAIN_PROCESS),
        "start_time_s": began or copy.running_since,
    }  # fmt: skip


def placement_groups(life: Life) -> list[Json]:
    """Each replica's, named after it; one that waits has no node."""
    return [_group(copy) for copy in life.copies]


def _group(copy: Copy) -> Json:
    held = believed(copy)
    node = held[-1].node_id if held else ""
    short = replica_id(copy, copy.turn)
    group = hexed(f"group {copy.host.name} {copy.turn}", 36)
    waits = not held or copy.phase is Phase.PENDING
    return {
        "placement_group_id": group, "name": f"SERVE_REPLICA::{APPLICATION}#{DEPLOYMENT}#{short}",
        "creator_job_id": "01000000", "state": "PENDING" if waits else "CREATED",
        "bundles": [{"bundle_id": {"placement_group_id": group, "bundle_index": 0},
                     "unit_resources": {"CPU": CPUS_A_REPLICA, "GPU": GPUS_A_REPLICA},
                     "node_id": "" if waits else node, "label_selector": {}}],
        "is_detached": True, "stats": {"scheduling_attempt": 1, "highest_retry_delay_ms": 1000.0 if waits else 0.0,
                                       "scheduling_state": "NO_RESOURCES" if waits else "FINISHED"},
    }  # fmt: skip


def actors(life: Life) -> Iterator[Json]:
    """The controller, a proxy on every node, and each replica with vLLM's workers: those that Ray believes to live."""
    bodies = list(life.bodies.values())
    yield actor(bodies[0], bodies[0].nodes[-1], "serve controller", "ServeController", 0, 9)
    for body in bodies:
        for node in body.nodes:
            if node.ended_at is None:
                yield actor(body, node, f"proxy {node.node_id}", "ProxyActor", body.nodes.index(node), 10)
    for copy in life.copies:
        turn = copy.turn - 1 if copy.phase is Phase.PENDING else copy.turn
        number = life_number(copy.body, copy) - (copy.turn - turn)
        for node in believed(copy):
            yield actor(copy.body, node, f"actor {copy.host.name} {turn}", f"ServeReplica:{APPLICATION}:{DEPLOYMENT}",
                        number, _MAIN_PROCESS)  # fmt: skip
            for n in range(GPUS):
                yield actor(copy.body, node, f"rank {copy.host.name} {turn} {n}", "RayWorkerWrapper", number, n)


def actor(body: Body, node: Node, what: str, kind: str, number: int, place: int) -> Json:
    """One living actor on a node. `number` and `place` are those of its process, see `worker_pid`."""
    return {
        "actor_id": hexed(what, 32),
        "class_name": kind, "state": "ALIVE", "job_id": "01000000", "name": "", "node_id": node.node_id,
        "pid": worker_pid(body.host.name, number, place), "ray_namespace": "serve",
    }  # fmt: skip
