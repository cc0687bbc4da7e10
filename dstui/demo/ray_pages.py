"""What the made-up cluster's Ray dashboard answers: the paths and the JSON of the real one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from dstui.demo import gpus, hardware, ray_serve
from dstui.demo.cast import Character
from dstui.demo.life import MISSED, Copy, Life, Node, Phase, Work, hexed
from dstui.demo.processes import MODEL_PATH, engine_pid
from dstui.demo.ray_serve import CPUS_A_REPLICA, GPUS_A_REPLICA
from dstui.demo.software import RAY_VERSION, vllm_version
from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL
from dstui.demo.web import Response

Json = dict[str, object]

METRICS_PORT = 10_014
_JSON = "application/json; charset=utf-8"
_STORE_BYTES = 200_000_000_000
_USAGE_SECONDS = 5.0
"""How often Ray renews what its nodes have given out."""


_PLAIN: Mapping[str, Response] = {
    "/": Response(
        b'<!doctype html><html lang="en"><head><title>Ray Dashboard (simulated)</title>'
        b'<script defer="defer" src="./static/js/main.simulated.js"></script></head>'
        b'<body><div id="root"></div></body></html>',
        "text/html",
    ),
    "/static/js/main.simulated.js": Response(b"/* SIMULATED: no dashboard is drawn here */\n", "text/javascript"),
    "/api/gcs_healthz": Response(b"success", "application/text; charset=utf-8"),
    "/api/prometheus_health": Response(b'{"result":true,"msg":"prometheus running"}', _JSON),
    "/api/grafana_health": Response(b'{"result":true,"msg":"Grafana running"}', _JSON),
}


@dataclass(slots=True)
class Dashboard:
    """The dashboard of a fleet's head. `clock` is what the fleet lives by."""

    life: Life
    clock: Callable[[], float]

    def answer(self, path: str, query: str) -> Response:
        """A GET. Paths that Ray has and nobody asks for are not made up: 404."""
        now = self.clock()
        self.life.advance(now)
        plain = _PLAIN.get(path)
        if plain is not None:
            return plain
        if path == "/api/v0/logs/file":
            return self._log(query)
        found = self._page(path, query, now)
        if found is None:
            return Response(b"404: Not Found", "text/plain; charset=utf-8", 404)
        return Response(json.dumps(found, separators=(",", ":")).encode(), _JSON)

    def _page(self, path: str, query: str, now: float) -> object:
        match path:
            case "/api/version":
                return {"version": "4", "ray_version": RAY_VERSION, "ray_commit": hexed("ray", 40),
                        "session_name": _session(self.life.began)}  # fmt: skip
            case "/api/authentication_mode":
                return {"authentication_mode": "disabled"}
            case "/api/v0/nodes":
                return _listed([self._node(node) for node in self._nodes()])
            case "/api/v0/actors":
                rows = [*ray_serve.actors(self.life), *self._batch_actors()]
                return _listed(rows)
            case "/api/v0/placement_groups":
                return _listed(ray_serve.placement_groups(self.life))
            case "/api/serve/applications/":
                return ray_serve.applications(self.life, now)
            case "/api/cluster_status":
                return self._status_text(now) if "format=1" in query else self._usage(now)
            case "/nodes":
                return self._summary(now)
            case "/api/jobs/":
                return self._jobs()
            case "/api/prometheus/sd":
                targets = [f"{node.host.data_ip}:{METRICS_PORT}" for node in self._alive()]
                return [{"labels": {"job": "ray"}, "targets": targets}]
        return None

    def _log(self, query: str) -> Response:
        """The output of a replica's process, by the id of its actor."""
        actor = parse_qs(query).get("actor_id", [""])[0]
        for copy in self.life.copies:
            if copy.engine is not None and actor == ray_serve.actor_id(copy, copy.turn):
                return Response(engine_log(copy).encode(), "text/plain; charset=utf-8")
        return Response(b"404: Not Found", "text/plain; charset=utf-8", 404)

    def _nodes(self) -> Iterator[Node]:
        for body in self.life.bodies.values():
            yield from body.nodes

    def _alive(self) -> list[Node]:
        """What Ray believes to be alive."""
        return [node for node in self._nodes() if node.ended_at is None]

    def _node(self, node: Node) -> Json:
        ended = node.ended_at
        return {
            "node_id": node.node_id, "node_ip": node.host.data_ip, "is_head_node": node.host.number == 1,
            "state": "ALIVE" if ended is None else "DEAD", "state_message": None if ended is None else MISSED,
            "node_name": node.host.data_ip, "resources_total": _resources(node.host, internal="__internal_head__"),
            "labels": {"ray.io/node-id": node.node_id, "ray.io/accelerator-type": "H100"},
            "start_time_ms": int(node.started_at * 1000), "end_time_ms": 0 if ended is None else int(ended * 1000),
        }  # fmt: skip

    def _summary(self, now: float) -> Json:
        rows = [self._report(node, now) for node in self._alive()]
        return _said("Node summary fetched.", {"summary": rows, "nodeLogicalResources": {}})

    def _report(self, node: Node, now: float) -> Json:
        """As its agent last reported: a dead machine does not any more."""
        raylet = {
            "nodeId": node.node_id, "nodeManagerAddress": node.host.data_ip, "nodeManagerHostname": node.host.name,
            "metricsExportPort": METRICS_PORT, "isHeadNode": node.host.number == 1, "state": "ALIVE",
            "stateMessage": None, "startTimeMs": str(int(node.started_at * 1000)), "endTimeMs": "0",
            "resourcesTotal": {"CPU": float(hardware.THREADS), "GPU": float(node.host.traits.gpus_answering)},
        }  # fmt: skip
        at = (now if node.gone_at is None else node.gone_at) - 1.2
        return {"now": at, "hostname": node.host.name, "ip": node.host.data_ip, "raylet": raylet}

    def _given(self, node: Node) -> tuple[float, float]:
        """CPUs and GPUs that a node has given out, as Ray believes."""
        body = self.life.bodies[node.host.name]
        if body.work is Work.SERVING:
            copy = self.life.copy_on(node.host.name)
            here = node in ray_serve.believed(copy) if copy is not None else False
            return (CPUS_A_REPLICA, GPUS_A_REPLICA) if here else (0.0, 0.0)
        return (8.0, float(gpus.GPUS)) if body.work is Work.BATCH else (0.0, 0.0)

    def _usage(self, now: float) -> Json:
        by_node: Json = {}
        for node in self._alive():
            cpus, cards = self._given(node)
            total = _resources(node.host, internal="InternalHead")
            by_node[node.node_id] = {
                "CPU": [cpus, total["CPU"]], "GPU": [cards, total["GPU"]], "memory": [0.0, total["memory"]],
                "objectStoreMemory": [0.0, total["object_store_memory"]],
            }  # fmt: skip
        at = now - (now - self.life.began) % _USAGE_SECONDS
        return _said(
            "Got cluster status.", {"clusterStatus": {"time": at, "loadMetricsReport": {"usageByNode": by_node}}}
        )

    def _status_text(self, now: float) -> Json:
        alive = self._alive()
        given = [self._given(node) for node in alive]
        cards = sum(node.host.traits.gpus_answering for node in alive)
        waiting = sum(copy.phase is Phase.PENDING for copy in self.life.copies)
        asked = {"CPU": CPUS_A_REPLICA, "GPU": GPUS_A_REPLICA}
        pending = (
            f" {asked} * 1 (STRICT_PACK): {waiting}+ pending placement groups" if waiting else " (no resource demands)"
        )
        ended = [node for node in self._nodes() if node.ended_at is not None]
        failures = "".join(f" node_{node.node_id}: NodeTerminated (ip: {node.host.data_ip})\n" for node in ended)
        rule, none = "-" * 63, " (no failures)\n"
        text = (
            f"======== Autoscaler status: {_time(now)} ========\nNode status\n{rule}\nActive:\n"
            + "".join(f" 1 node_{node.node_id}\n" for node in alive)
            + f"Pending:\n (no pending nodes)\nRecent failures:\n{failures or none}\nResources\n{rule}\n"
            f"Total Usage:\n {sum(cpus for cpus, _ in given)}/{float(hardware.THREADS * len(alive))} CPU\n"
            f" {sum(used for _, used in given)}/{float(cards)} GPU\n\n"
            f"From request_resources:\n (none)\nPending Demands:\n{pending}"
        )
        return _said("Got formatted cluster status.", {"clusterStatus": text})

    def _batch_actors(self) -> Iterator[Json]:
        for body in self.life.bodies.values():
            node = next((node for node in reversed(body.nodes) if node.ended_at is None), None)
            if body.work is Work.BATCH and node is not None:
                number = body.nodes.index(node)
                for n in range(gpus.GPUS):
                    yield ray_serve.actor(
                        body, node, f"embed {body.host.name} {number} {n}", "EmbeddingWorker", number, n
                    )

    def _jobs(self) -> list[Json]:
        began = self.life.began
        jobs = [_job("warm-prefix-cache", "SUCCEEDED", "Job finished successfully.", began - 3_300.0, began - 3_141.0)]
        if any(body.work is Work.BATCH for body in self.life.bodies.values()):
            jobs.append(_job("embed-backfill", "RUNNING", "Job is currently running.", began - 3_000.0, None))
        return jobs


def _job(name: str, status: str, message: str, began: float, ended: float | None) -> Json:
    return {
        "type": "SUBMISSION", "job_id": None, "submission_id": name, "driver_info": None, "status": status,
        "entrypoint": f"python {name.replace('-', '_')}.py", "message": message, "error_type": None,
        "start_time": int(began * 1000), "end_time": None if ended is None else int(ended * 1000), "metadata": {},
        "runtime_env": {}, "driver_agent_http_address": None, "driver_node_id": None,
        "driver_exit_code": None if ended is None else 0,
    }  # fmt: skip


def engine_log(copy: Copy) -> str:
    """How a replica's engine says with which settings it begins."""
    settings = (
        f"model='{MODEL_PATH}', tokenizer='{MODEL_PATH}', dtype=torch.bfloat16, max_seq_len={MAX_MODEL_LEN}, "
        f"tensor_parallel_size={gpus.GPUS}, pipeline_parallel_size=1, data_parallel_size=1, quantization=None, "
        f"kv_cache_dtype=auto, served_model_name={MODEL}, enable_prefix_caching=True"
    )
    version = vllm_version(copy.host)
    return (
        f"INFO Chunked prefill is enabled with max_num_batched_tokens=8192.\n"
        f"(EngineCore pid={engine_pid(copy.host)}) INFO Initializing a V1 LLM engine (v{version}) with config: "
        f"{settings}, compilation_config=simulated\n"
    )


def _resources(host: Character, *, internal: str) -> dict[str, float]:
    own = {"node:" + host.data_ip: 1.0} | ({f"node:{internal}": 1.0} if host.number == 1 else {})
    return {
        "CPU": float(hardware.THREADS), "GPU": float(host.traits.gpus_answering), "accelerator_type:H100": 1.0,
        "memory": float(hardware.memory_total(host.traits.memory_gib) * 7 // 10),
        "object_store_memory": float(min(_STORE_BYTES, hardware.memory_total(host.traits.memory_gib) * 3 // 10)), **own,
    }  # fmt: skip


def _said(message: str, told: object) -> Json:
    return {"result": True, "msg": message, "data": told}


def _listed(rows: list[Json]) -> Json:
    count = len(rows)
    result = {"total": count, "num_after_truncation": count, "num_filtered": count, "result": rows,
              "partial_failure_warning": "", "warnings": None}  # fmt: skip
    return _said("", {"result": result})


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}"


def _session(began: float) -> str:
    return f"session_{time.strftime('%Y-%m-%d_%H-%M-%S', time.gmtime(began - 3_600.0))}_000000_1_simulated"
