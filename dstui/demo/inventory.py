"""The inventory of the fleet, as an operator would have written it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dstui.demo.balancer import RATE
from dstui.demo.cast import Character
from dstui.demo.gpus import GPUS
from dstui.demo.network import DATA_NET, MGMT_NET
from dstui.demo.ray_serve import APPLICATION
from dstui.demo.software import RUNTIME_PYTHON, VLLM_VERSION
from dstui.demo.storage import RUNTIME_USER, SHARE, SOURCE
from dstui.demo.system import LOGIN
from dstui.demo.vllm_engine import MAX_NUM_SEQS
from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL

CLUSTER = "demo-fleet"
LADDER_USERS = (10, 25, 50)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the fleet's Ray dashboard, its load balancer and its vLLM servers are; and files with the API's keys."""

    dashboard: str
    api: str
    backends: Sequence[str]
    key: Path
    revoked_key: Path


def inventory_yaml(
    hosts: Sequence[Character], *, port: int, identity: Path, known_hosts: Path, served: Served | None = None
) -> str:
    """The text of inventory.yaml. Hosts are dialled on loopback; their other addresses are for documentation only."""
    listed = "".join(
        f"  - {{name: {host.name}, group: gpu, roles: [{'head, lb' if host.number == 1 else 'worker'}], "
        f"data_ip: {host.data_ip}, mgmt_ip: {host.mgmt_ip}, ssh: {{host: {host.ssh_ip}}}}}  # {host.story}\n"
        for host in hosts
    )
    dashboard = f'  dashboard_url: "{served.dashboard}"\n' if served is not None else ""
    return f"""\
# SIMULATED: the embedded fleet of `dstui demo`. None of these hosts exists.
version: 1
cluster: {{name: {CLUSTER}, environment: lab, phase: live}}
ssh:
  user: {LOGIN}
  port: {port}
  identity_ref: "file:{identity}"
  agent: false
  known_hosts: "{known_hosts}"
  connect_timeout_s: 8
  host_timeout_s: 30
  become: sudo-n
groups:
  gpu: {{roles: [ray], gpu: true, gpus_per_host: {GPUS}}}
hosts:
{listed}network: {{cluster_cidrs: [{DATA_NET}, {MGMT_NET}]}}
storage: {{shared_path: {SHARE}, source: "{SOURCE}", fs_types: [nfs4]}}
runtime: {{mode: bare-metal, python: {RUNTIME_PYTHON}, user: {RUNTIME_USER}, docker_required: true}}
model: {{path: {SHARE}/models/{MODEL}, served_name: {MODEL}, architecture: LlamaForCausalLM, size_gb: 135,
        test_cases: ./cases}}
ray:
{dashboard}  ports: {{node_manager: 10010, object_manager: 10011, runtime_env_agent: 10012, dashboard_agent_grpc: 10013,
          metrics_export: 10014, worker_min: 10020, worker_max: 19999}}
cloud: {{provider: none}}
""" + ("" if served is None else _service(served))


def _service(served: Served) -> str:
    """Every replica has a vLLM server of its own, and a load balancer is before all of them."""
    backends = ", ".join(f'"{url}"' for url in served.backends)
    return f"""\
engine: {{tensor_parallel_size: {GPUS}, max_num_seqs: {MAX_NUM_SEQS}, gpu_memory_utilization: 0.9,
         max_model_len: {MAX_MODEL_LEN}}}
serving: {{mode: vllm-ray, app_name: {APPLICATION}, replicas: {len(served.backends)}, vllm_version: "{VLLM_VERSION}"}}
endpoints: {{api: "{served.api}", backends: [{backends}]}}
auth: {{scheme: bearer, key_ref: "file:{served.key}", revoked_key_ref: "file:{served.revoked_key}"}}
limit: {{expected_rps: {RATE:g}}}
load: {{max_users: {LADDER_USERS[-1]}}}
slo: {{ttft_p95_s: 1.0}}
thresholds:
  perf.concurrent-users.levels: {list(LADDER_USERS)}
  perf.single-user-latency.samples: 10
"""
