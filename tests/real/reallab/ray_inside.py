"""Runs on the lab's head under Ray's own Python: a driver that does and tells what it is asked, a JSON line at a time.

What it tells comes from Ray's Python API and its state API on the head, not from the pages that dstui reads.
"""

from __future__ import annotations

import json
import os
import sys
import time

import ray
from ray import serve
from ray.job_submission import JobSubmissionClient
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors, list_nodes, list_placement_groups

APPLICATION, DEPLOYMENT, REPLICAS = "tiny", "Echo", 3


@ray.remote(num_cpus=0)
class Holder:
    """Holds its GPUs until it is killed."""

    def pid(self) -> int:
        return os.getpid()


@ray.remote(num_cpus=0)
def wait_for_ever() -> None:
    time.sleep(3600)


@serve.deployment(
    name=DEPLOYMENT,
    num_replicas=REPLICAS,
    max_replicas_per_node=1,
    ray_actor_options={
        "num_cpus": 0.1,
        "num_gpus": 1,
        "runtime_env": {"env_vars": {"LAB_SECRET": "s3cr3t-of-the-lab"}},
    },
)
class Echo:
    async def __call__(self) -> str:
        return "fine"


class Inside:
    def __init__(self, address: str) -> None:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
        self.held: list[ray.actor.ActorHandle] = []
        self.waiting: list[ray.ObjectRef] = []
        self.grouped: list[object] = []

    def nodes(self, row: dict) -> object:
        return [
            {key: node[key] for key in ("NodeID", "Alive", "NodeManagerAddress", "Resources", "DeathReasonMessage")}
            for node in ray.nodes()
        ]

    def state_nodes(self, row: dict) -> object:
        return [
            {"node_id": each.node_id, "ip": each.node_ip, "state": each.state, "head": each.is_head_node,
             "message": each.state_message}
            for each in list_nodes(limit=100)
        ]  # fmt: skip

    def resources(self, row: dict) -> object:
        return {"total": ray.cluster_resources(), "free": ray.available_resources()}

    def groups(self, row: dict) -> object:
        return [
            {"name": each.name, "scheduling": each.stats["scheduling_state"]}
            for each in list_placement_groups(limit=100, detail=True)
            if each.state != "REMOVED"
        ]

    def free_by_node(self, row: dict) -> object:
        from ray._private.state import available_resources_per_node

        return available_resources_per_node()

    def serve(self, row: dict) -> object:
        apps = serve.status().applications
        return {
            name: {
                "status": app.status.value,
                "deployments": {
                    each: {
                        "status": found.status.value,
                        "replicas": {str(k): v for k, v in found.replica_states.items()},
                    }
                    for each, found in app.deployments.items()
                },
            }
            for name, app in apps.items()
        }

    def actors(self, row: dict) -> object:
        return [
            {"name": each.name, "class": each.class_name, "state": each.state, "node": each.node_id, "pid": each.pid}
            for each in list_actors(limit=1000)
        ]

    def jobs(self, row: dict) -> object:
        client = JobSubmissionClient("http://127.0.0.1:8265")
        return [{"id": each.submission_id or each.job_id, "status": each.status.value} for each in client.list_jobs()]

    def deploy(self, row: dict) -> object:
        serve.start(http_options={"host": "127.0.0.1", "port": 8000, "location": "HeadOnly"})
        serve.run(Echo.bind(), name=APPLICATION, route_prefix="/tiny")
        return None

    def hold(self, row: dict) -> object:
        """`gpus` on each of the nodes `on`; gives node → process id."""
        made = {
            node: Holder.options(
                num_gpus=row["gpus"], scheduling_strategy=NodeAffinitySchedulingStrategy(node, False)
            ).remote()
            for node in row["on"]
        }
        self.held += made.values()
        return {node: ray.get(actor.pid.remote(), timeout=60) for node, actor in made.items()}

    def release(self, row: dict) -> object:
        for actor in self.held:
            ray.kill(actor)
        for ref in self.waiting:
            ray.cancel(ref, force=True)
        for group in self.grouped:
            remove_placement_group(group)
        self.held, self.waiting, self.grouped = [], [], []
        return None

    def want(self, row: dict) -> object:
        """A task that asks for what nobody has free, and a placement group that no nodes can hold."""
        self.waiting.append(wait_for_ever.options(num_gpus=row["gpus"]).remote())
        self.grouped.append(placement_group([{"GPU": row["group"]}], name="too-big"))
        return None

    def submit(self, row: dict) -> object:
        return JobSubmissionClient("http://127.0.0.1:8265").submit_job(
            entrypoint=row["entrypoint"],
            submission_id=row["id"],
            runtime_env={"env_vars": {"JOB_SECRET": "j0b-secret"}},
        )

    def end_job(self, row: dict) -> object:
        return JobSubmissionClient("http://127.0.0.1:8265").stop_job(row["id"])


def main() -> None:
    # What Ray prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    inside = Inside(sys.argv[1])
    for line in sys.stdin:
        row = json.loads(line)
        try:
            answer = {"said": getattr(inside, row["do"])(row)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
