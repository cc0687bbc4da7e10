"""The processes of Ray and vLLM on a made-up host, as /proc, systemd and the kernel's list of listeners show them.

They are those of a host that has never died: what becomes of one that did is told by Ray and by the samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dstui.demo.cast import Character
from dstui.demo.commands import Ran, Tool, choosing
from dstui.demo.gpus import GPUS
from dstui.demo.life import Work, worker_pid
from dstui.demo.software import RUNTIME_PREFIX, RUNTIME_PYTHON, SITE_PACKAGES
from dstui.demo.storage import SHARE
from dstui.demo.tree import Entries, Entry
from dstui.demo.vllm_engine import MAX_NUM_SEQS
from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL

HEAD_PORTS = {6379: "gcs_server", 8265: "python", 10001: "python"}
"""What Ray holds on the head: GCS, dashboard, client server."""
NODE_PORTS = {10010: "raylet", 10011: "raylet", 10012: "python", 10013: "python", 10014: "python", 52365: "python"}
"""What Ray holds on every node, as the inventory pins it."""
MODEL_PATH = f"{SHARE}/models/{MODEL}"
API_PORT = 8000

_TICKS = 100
_RAN_SECONDS = 3_600
"""For how long everything has run; the system for two weeks."""
_UPTIME_SECONDS = 1_209_600
_MAIN = 11
"""In place of a GPU's number: vLLM's API server; the next is its engine."""
_FIRST_RAY_PID = 2_100


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its name as the kernel has it (15 characters), its command line, and the unit it belongs to."""

    pid: int
    name: str
    words: tuple[str, ...]
    unit: str


def ray_unit(host: Character) -> str:
    return "ray-head.service" if host.number == 1 else "ray-worker.service"


def engine_pid(host: Character) -> int:
    """The process of vLLM's engine."""
    return worker_pid(host.name, 0, _MAIN + 1)


def processes(host: Character, work: Work) -> tuple[Process, ...]:
    """All of them, by pid."""
    return (*_ray(host), *(_vllm(host) if work is Work.SERVING else ()))


def _ray(host: Character) -> tuple[Process, ...]:
    package, unit = f"{SITE_PACKAGES}/ray", ray_unit(host)
    head, own = "198.51.100.11:6379", f"--node_ip_address={host.data_ip}"
    raylet = (
        f"{package}/core/src/ray/raylet/raylet", own, f"--gcs-address={head}", "--object_manager_port=10011",
        "--node_manager_port=10010", "--min_worker_port=10020", "--max_worker_port=19999",
        "--metrics-export-port=10014", "--runtime_env_agent_port=10012", *(("--head",) if host.number == 1 else ()),
    )  # fmt: skip
    rows: list[tuple[str, tuple[str, ...]]] = [("raylet", raylet)]
    if host.number == 1:
        rows.append(("gcs_server", (f"{package}/core/src/ray/gcs/gcs_server", "--gcs_server_port=6379",
                                    f"--node-ip-address={host.data_ip}")))  # fmt: skip
        rows.append(("python", (RUNTIME_PYTHON, f"{package}/dashboard/dashboard.py", f"--host={host.data_ip}",
                                "--port=8265", f"--gcs-address={head}")))  # fmt: skip
    return tuple(Process(_FIRST_RAY_PID + n, name, words, unit) for n, (name, words) in enumerate(rows))


def _vllm(host: Character) -> tuple[Process, ...]:
    server = (
        RUNTIME_PYTHON, f"{RUNTIME_PREFIX}/bin/vllm", "serve", MODEL_PATH, "--served-model-name", MODEL, "--host",
        host.data_ip, "--port", str(API_PORT), "--distributed-executor-backend", "ray", "--tensor-parallel-size",
        str(GPUS), "--max-num-seqs", str(MAX_NUM_SEQS), "--max-model-len", str(MAX_MODEL_LEN),
        "--gpu-memory-utilization", "0.9", "--enable-prefix-caching",
    )  # fmt: skip
    unit = "vllm.service"
    return (
        Process(worker_pid(host.name, 0, _MAIN), "vllm", server, unit),
        Process(engine_pid(host), "VLLM::EngineCor", ("VLLM::EngineCore",), unit),
    )


def files(host: Character, work: Work) -> Entries:
    return proc_files(processes(host, work))


def proc_files(rows: Iterable[Process]) -> Entries:
    """What /proc has of processes that began when everything did."""
    started = (_UPTIME_SECONDS - _RAN_SECONDS) * _TICKS
    entries: dict[str, Entry | str] = {}
    for each in rows:
        place, group = f"/proc/{each.pid}", f"/system.slice/{each.unit}"
        entries |= {
            f"{place}/comm": f"{each.name}\n",
            f"{place}/cmdline": "\0".join(each.words) + "\0",
            f"{place}/stat": f"{each.pid} ({each.name}) S 1 {each.pid} {each.pid} 0 -1 4194560 "
            + "0 " * 11
            + f"8 0 {started} 9000000000 400000\n",
            f"{place}/cgroup": f"0::{group}\n",
            f"/sys/fs/cgroup{group}/memory.max": "max\n",
        }
    return entries


def listening(host: Character, work: Work) -> list[tuple[str, str, int]]:
    """Address and port, process, pid of every port that Ray and vLLM hold."""
    rows = [(f"{host.data_ip}:{port}", name, _FIRST_RAY_PID) for port, name in held(host).items()]
    if work is Work.SERVING:
        rows.append((f"{host.data_ip}:{API_PORT}", "vllm", worker_pid(host.name, 0, _MAIN)))
    return rows


def held(host: Character) -> dict[int, str]:
    """Ports that Ray holds on a host, and by which process."""
    return {**(HEAD_PORTS if host.number == 1 else {}), **NODE_PORTS}


def units(host: Character, work: Work) -> dict[str, dict[str, str]]:
    return dict.fromkeys((each.unit for each in processes(host, work)), unit_row())


def unit_row() -> dict[str, str]:
    """What systemd tells of a unit that began when everything did."""
    began = str((_UPTIME_SECONDS - _RAN_SECONDS) * 1_000_000)
    return {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0",
            "Restart": "on-failure", "ExecMainStartTimestampMonotonic": began,
            "ActiveEnterTimestampMonotonic": began}  # fmt: skip


def tools(host: Character) -> dict[str, Tool]:
    return {"pgrep": choosing({"-x raylet": Ran(f"{_FIRST_RAY_PID}\n")})}
