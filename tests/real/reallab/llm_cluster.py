"""A real Ray of one node in vLLM's venv, with the tiny model deployed through Ray Serve's own LLM API."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from reallab import vllm_server, vllm_venv
from reallab.host import Host, LabError, wait_until
from reallab.pages import Page
from reallab.ray_cluster import RayCluster
from reallab.vllm_server import MAX_NUM_SEQS, MODEL, PLACE, REAL_CPUS

KV_BLOCKS = 600
PORT = 8000
DEPLOY_SECONDS = 300.0
_APP = "/opt/ray/llm_app.py"
_REPLICA = "ray::ServeReplica:llm:LLMServer"


class LlmCluster(RayCluster):
    """Ray on one host. `deploy` puts the model on it."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__([host], folder)
        self.venv = vllm_venv.ready()
        self.python = str(self.venv / "bin" / "python")

    def start(self) -> None:
        vllm_server.furnish(self.head)
        super().start()

    def stop(self) -> None:
        super().stop()
        wait_until(lambda: not self._kill_rest(), f"vLLM on {self.head.name} to end")

    def environment(self) -> list[str]:
        known = {**vllm_server.ENVIRONMENT, "VLLM_HOST_IP": self.head.address}
        return ["unshare", "--mount", REAL_CPUS, *super().environment(), *(f"{k}={v}" for k, v in known.items())]

    def deploy(self) -> None:
        """Until Serve says that the application runs. LabError when it does not."""
        self.head.put(_APP, Path(__file__).with_name("llm_app.py").read_text())
        words = (self.address, MODEL, PLACE, str(MAX_NUM_SEQS), str(KV_BLOCKS), str(PORT))
        self.head.run(*self.environment(), self.python, _APP, *words, seconds=DEPLOY_SECONDS)

    @property
    def url(self) -> str:
        """Serve's proxy, as it is reached on the head itself."""
        return f"http://127.0.0.1:{PORT}"

    def node_page(self, port: int) -> Page:
        """The page of metrics of the head's Ray node, as it is read on the head itself."""
        return Page(self.head.run(self.python, "-c", _GET, f"http://{self.head.address}:{port}/metrics"))

    def replica(self) -> int:
        """Process id, on this machine, of the Serve replica that has the engine."""
        mine = [pid for pid, line in self.head.processes().items() if line.startswith(_REPLICA)]
        if len(mine) != 1:
            raise LabError(f"{len(mine)} replicas of the model on {self.head.name}")
        return mine[0]

    def _kill_rest(self) -> bool:
        """Whether there was any process of the venv left: engines, and Python's own helpers of Ray's processes."""
        mine = [
            pid
            for pid, line in self.head.processes().items()
            if line.startswith((vllm_server.MARK, "ray-dashboard")) or str(self.venv) in line
        ]
        for pid in mine:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(mine)


_GET = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
