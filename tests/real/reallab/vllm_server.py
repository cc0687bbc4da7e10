"""A real `vllm serve` of the tiny model on a lab host, on its CPU. Everything is ended by process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from reallab import ray_mount, tiny_deepseek, vllm_venv
from reallab.firewall import reachable
from reallab.host import Host, LabError, wait_until

MODEL = "deepseek-tiny"
PLACE = "/models/deepseek-tiny"
PORT = 8000
MAX_NUM_SEQS = 8
BLOCK_TOKENS = 16
START_SECONDS, END_SECONDS = 240.0, 30.0
MARK = "VLLM::"
"""How the titles of vLLM's processes begin, but for the server's own."""

ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


REAL_CPUS = "/opt/vllm/real-cpus.sh"
"""Runs a command that sees the CPUs that are there, not those of the GPU server that the host looks like: vLLM binds
its threads by what lscpu says."""

_REAL_CPUS = """#!/bin/sh
mount --bind /run/sysfs /sys
mount --bind /dev/null /etc/ld.so.preload
umount /proc/cpuinfo
exec "$@"
"""


def furnish(host: Host) -> Path:
    """Put vLLM's Python and the model on a host. Gives the venv, which is at the same path there."""
    venv = vllm_venv.ready()
    ray_mount.bring(host, venv)
    shared = host.place("/dev/shm")
    shared.mkdir(exist_ok=True)
    shared.chmod(0o1777)
    host.put(REAL_CPUS, _REAL_CPUS, 0o755)
    if not host.place(PLACE).exists():
        shutil.copytree(tiny_deepseek.ready(), host.place(PLACE))
    return venv


def vllm_command(host: Host, **more: str) -> list[str]:
    """`vllm`, to be run on a lab host with the environment that a CPU build wants; `more` are further variables."""
    venv = furnish(host)
    path = {"PATH": f"{venv}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "VLLM_HOST_IP": "127.0.0.1"}
    known = [f"{name}={value}" for name, value in {**ENVIRONMENT, **path, **more}.items()]
    return ["unshare", "--mount", REAL_CPUS, "env", "-i", "--chdir=/root", *known, str(venv / "bin" / "vllm")]


class VllmServer:
    """One server. `kv_blocks` of 16 tokens are all the KV cache that it has; `extra` are more words for vLLM."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        *,
        port: int = PORT,
        api_key: str | None = None,
        max_num_seqs: int = MAX_NUM_SEQS,
        kv_blocks: int | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.port = port
        self.api_key = api_key
        self.log = folder / f"vllm-{host.name}-{port}.log"
        blocks = ("--num-gpu-blocks-override", str(kv_blocks)) if kv_blocks else ()
        self._options = (
            *("--host", "0.0.0.0", "--port", str(port), "--served-model-name", MODEL, "--dtype", "bfloat16"),
            *("--max-model-len", str(tiny_deepseek.CONTEXT), "--max-num-seqs", str(max_num_seqs)),
            *("--block-size", str(BLOCK_TOKENS), "--enforce-eager"),
            *(("--api-key", api_key) if api_key else ()),
            *blocks,
            *extra,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._gate = ExitStack()

    def __enter__(self) -> VllmServer:
        try:
            self._gate.enter_context(reachable(self.host, self.port))
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._gate.close()

    @property
    def url(self) -> str:
        """As the controller reaches it."""
        return f"http://{self.host.address}:{self.port}"

    def start(self) -> None:
        """Until `/health` says 200; may be called again after `stop`.

        LabError with the end of the log when it ends before, or takes too long.
        """
        argv = self.host.entered(*vllm_command(self.host), "serve", PLACE, *self._options)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: self._ended() or self.answers("/health") == 200, "vLLM to answer", START_SECONDS)
        except LabError as error:
            raise LabError(f"{error}\n{self.said()}") from None
        if self._ended():
            raise LabError(f"vLLM ended\n{self.said()}")

    def stop(self) -> None:
        """End all of it; nothing of it is left then."""
        wait_until(lambda: not self._kill_all(), f"vLLM on {self.host.name} to end", END_SECONDS)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def answers(self, path: str) -> int | None:
        """The HTTP status of a GET from the controller; None when nothing answers."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def server_pid(self) -> int:
        """Process id, on this machine, of the API server."""
        return self._pid(lambda line: f"serve {PLACE}" in line and f"--port {self.port}" in line)

    def engine_pid(self) -> int:
        """Process id, on this machine, of the engine core."""
        children = {pid for pid in self.host.processes() if _parent(pid) == self.server_pid()}
        return self._pid(lambda line: line.startswith(f"{MARK}EngineCore"), children)

    def signal_engine(self, number: signal.Signals) -> None:
        os.kill(self.engine_pid(), number)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _pid(self, is_it: Callable[[str], bool], among: set[int] | None = None) -> int:
        found = [pid for pid, line in self.host.processes().items() if is_it(line) and (among is None or pid in among)]
        if len(found) != 1:
            raise LabError(f"{self.host.name}: {len(found)} processes of vLLM where one was looked for\n{self.said()}")
        return found[0]

    def _kill_all(self) -> bool:
        """Whether there was any left. Children first by their titles, then the server itself."""
        mine = [
            pid
            for pid, line in self.host.processes().items()
            if line.startswith(MARK) or "/bin/vllm serve " in line or "multiprocessing.resource_tracker" in line
        ]
        for pid in mine:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(mine)


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
