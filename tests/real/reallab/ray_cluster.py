"""A real Ray cluster on the lab's hosts: head on the first, a worker on each of the others.

Ray counts the GPUs that NVML lists, so the hosts' `/etc/machine/nvml.conf` decides. Everything is ended by process id:
`ray stop` ends every Ray of the machine by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

from reallab import ray_mount, ray_venv
from reallab.cluster import INVENTORY, NAMES, Lab
from reallab.host import Host, LabError, wait_until

VERSION = "2.60.0"
GCS_PORT, DASHBOARD_PORT = 6379, 8265
CPUS = 3
OBJECT_STORE_BYTES = 100_000_000
MEMORY_BYTES = 4_000_000_000
START_SECONDS, ANSWER_SECONDS = 120.0, 90.0
TEMP = "/tmp/ray"
INSIDER = "/opt/ray/insider.py"
_MINE = ("ray::", "/core/src/ray/", "/ray/dashboard/", "/ray/_private/", "ray.scripts.scripts", INSIDER)


class RayCluster:
    """Ray on `hosts`, the first of them the head. `token` makes it ask for one."""

    def __init__(self, hosts: list[Host], folder: Path, *, token: str | None = None) -> None:
        self.head, *self.workers = hosts
        self.hosts = {host.name: host for host in hosts}
        self.venv = ray_venv.ready()
        self.python = str(self.venv / "bin" / "python")
        self._folder = folder
        self._token = token
        self._started: list[subprocess.Popen[bytes]] = []
        self._insider: Insider | None = None

    @property
    def address(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"

    @property
    def insider(self) -> Insider:
        """A driver on the head, connected to Ray, that does and tells what it is asked."""
        if self._insider is None:
            self._insider = Insider(self)
        return self._insider

    def start(self) -> None:
        """Until Ray lists every host. LabError with the end of the log when it does not."""
        for host in self.hosts.values():
            ray_mount.bring(host, self.venv)
            shared = host.place("/dev/shm")
            shared.mkdir(exist_ok=True)
            shared.chmod(0o1777)
        script = Path(__file__).with_name("ray_inside.py")
        self.head.put(INSIDER, script.read_text())
        self._begin(
            self.head,
            *("--head", f"--port={GCS_PORT}", "--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD_PORT}"),
            f"--temp-dir={TEMP}",
        )
        port = f":{GCS_PORT} "
        self._wait(lambda: port in self.head.run("ss", "-Hltn"), "Ray's head to listen")
        for host in self.workers:
            self.join(host)
        names = set(self.hosts)
        self._wait(lambda: self.alive() == names, "all nodes to join")

    def join(self, host: Host, *options: str) -> None:
        """A worker; it joins within seconds. `options` are more words for `ray start`."""
        self._started = [process for process in self._started if process.poll() is None]
        self._begin(host, f"--address={self.address}", *options)

    def alive(self) -> set[str]:
        """Hosts whose Ray node is alive, as Ray's own API says."""
        addresses = {host.address: host.name for host in self.hosts.values()}
        found = self.insider.ask("nodes")
        assert isinstance(found, list)
        return {addresses[row["NodeManagerAddress"]] for row in found if row["Alive"]}

    def stop(self) -> None:
        """End every process of Ray, by its id."""
        for host in self.hosts.values():
            wait_until(lambda host=host: not self._kill_all(host), f"Ray on {host.name} to end")  # type: ignore[misc]
        if self._insider is not None:
            self._insider.close()
            self._insider = None
        for process in self._started:
            process.wait()
        self._started.clear()
        for host in self.hosts.values():
            host.run("rm", "-rf", TEMP)

    def raylet(self, host: Host) -> int:
        """Process id, on this machine, of a host's raylet."""
        return self._pid(host, "/raylet/raylet")

    def dashboard(self) -> int:
        """Process id, on this machine, of the head's dashboard."""
        return self._pid(self.head, "/ray/dashboard/dashboard.py")

    def cli(self, *argv: str) -> str:
        """What Ray's command line on the head says."""
        return self.head.run(*self.command(*argv), seconds=ANSWER_SECONDS)

    def command(self, *argv: str) -> list[str]:
        return [*self.environment(), self.python, "-m", "ray.scripts.scripts", *argv]

    def environment(self) -> list[str]:
        known = {
            "PATH": f"{self.venv}/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        if self._token is not None:
            known |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        return ["env", "-i", "--chdir=/root", *(f"{name}={value}" for name, value in known.items())]

    def log(self, host: Host) -> Path:
        return self._folder / f"ray-{host.name}.log"

    def _begin(self, host: Host, *options: str) -> None:
        ray = INVENTORY["ray"]
        assert isinstance(ray, dict)
        ports: Mapping[str, int] = ray["ports"]
        argv = self.command(
            "start",
            "--block",
            "--disable-usage-stats",
            f"--node-ip-address={host.address}",
            f"--num-cpus={CPUS}",
            f"--memory={MEMORY_BYTES}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--node-manager-port={ports['node_manager']}",
            f"--object-manager-port={ports['object_manager']}",
            f"--runtime-env-agent-port={ports['runtime_env_agent']}",
            f"--dashboard-agent-grpc-port={ports['dashboard_agent_grpc']}",
            f"--dashboard-agent-listen-port={ports['dashboard_agent_listen']}",
            f"--metrics-export-port={ports['metrics_export']}",
            f"--min-worker-port={ports['worker_min']}",
            f"--max-worker-port={ports['worker_max']}",
            *options,
        )
        with self.log(host).open("ab") as log:
            self._started.append(
                subprocess.Popen(host.entered(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(lambda: self._ended() or condition(), what, START_SECONDS)
        except LabError as error:
            raise LabError(f"{error}\n{self._said()}") from None
        if self._ended():
            raise LabError(f"{what}: Ray ended\n{self._said()}")

    def _ended(self) -> bool:
        return any(process.poll() is not None for process in self._started)

    def _said(self) -> str:
        logs = (self.log(host) for host in self.hosts.values())
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-800:]}" for log in logs if log.exists())

    def _pid(self, host: Host, part: str) -> int:
        found = [pid for pid, line in host.processes().items() if part in line.split(" --")[0]]
        if len(found) != 1:
            raise LabError(f"{host.name}: {len(found)} processes {part}")
        return found[0]

    @staticmethod
    def _kill_all(host: Host) -> bool:
        """Whether there was any left."""
        mine = [pid for pid, line in host.processes().items() if any(part in line for part in _MINE)]
        for pid in mine:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return bool(mine)


class Insider:
    """The other side of `ray_inside.py`: one JSON line for one JSON line."""

    def __init__(self, cluster: RayCluster) -> None:
        argv = cluster.head.entered(*cluster.environment(), cluster.python, INSIDER, cluster.address)
        self._log = cluster.log(cluster.head).with_name("ray-insider.log")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self._lines: Queue[bytes] = Queue()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def ask(self, what: str, **more: object) -> object:
        """The answer. LabError when it fails or takes too long."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=ANSWER_SECONDS)
        except Empty:
            raise LabError(f"Ray's driver took more than {ANSWER_SECONDS:.0f} s for {what}") from None
        if not line:
            raise LabError(f"Ray's driver ended: {self._log.read_text(errors='replace')[-1500:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(f"Ray's driver: {what}: {answer['error']}")
        return answer["said"]

    def close(self) -> None:
        """After its process on the host was ended."""
        assert self._process.stdin
        self._process.kill()
        self._process.wait()
        self._reader.join()
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout
        with self._process.stdout as answers:
            for line in answers:
                self._lines.put(line)
        self._lines.put(b"")


class Clusters:
    """One cluster at a time: the hosts have room and ports for one."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._running: RayCluster | None = None
        self._token: str | None = None

    def get(self, token: str | None = None) -> RayCluster:
        """The cluster of three that anybody may look at, or one of a single node that asks for `token`."""
        if self._running is None or self._token != token:
            self.stop()
            hosts = [self._lab.hosts[name] for name in (NAMES if token is None else NAMES[:1])]
            self._running, self._token = RayCluster(hosts, self._lab.folder, token=token), token
            self._running.start()
            if token is None:
                self._running.insider.ask("deploy")
        return self._running

    def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()
