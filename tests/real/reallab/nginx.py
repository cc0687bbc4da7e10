"""nginx of the Debian package with a configuration of its own, on a lab host, where `nginx -T` shows it."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack, suppress

from reallab.firewall import reachable
from reallab.host import Host, LabError, wait_until

CONFIG = "/etc/nginx/nginx.conf"
FOLDER = "/run/nginx-lab"
START_SECONDS = 20.0

_AROUND = """user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{http}
}}
"""


class Nginx:
    """One nginx on a host. `http` is what stands in its http block; it must listen on `port`, on every address.

    `inside` leaves the host's firewall as it is, so that only the cluster reaches the port. Certificates and other
    files are put on the host (`Host.put`) by whoever names them in `http`.
    """

    def __init__(self, host: Host, http: str, *, port: int, inside: bool = False) -> None:
        self.host = host
        self.port = port
        self._http = http
        self._inside = inside
        self._process: subprocess.Popen[bytes] | None = None
        self._gate = ExitStack()

    def __enter__(self) -> Nginx:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Until it takes connections. LabError with nginx's own words when the configuration is wrong."""
        self.host.run("mkdir", "-p", FOLDER)
        self._write(self._http)
        self._process = self.host.start("/usr/sbin/nginx", "-g", "daemon off;")
        if not self._inside:
            self._gate.enter_context(reachable(self.host, self.port))
        wait_until(self._listens, f"nginx on {self.host.name} to listen on {self.port}", START_SECONDS)

    def change(self, http: str) -> None:
        """Another configuration in the running nginx. Returns when its new worker serves."""
        before = self._workers()
        self._write(http)
        self.host.run("/usr/sbin/nginx", "-s", "reload")
        wait_until(lambda: (now := self._workers()) and not now & before, "nginx to reload", START_SECONDS)

    def stop(self) -> None:
        """End it; its port is shut again then."""
        if self._process is not None:
            with suppress(LabError):
                self.host.run("/usr/sbin/nginx", "-s", "stop")
            wait_until(lambda: not self._running(), f"nginx on {self.host.name} to end", START_SECONDS)
            self._process.wait()
            self._process = None
        self._gate.close()

    def _write(self, http: str) -> None:
        self.host.put(CONFIG, _AROUND.format(folder=FOLDER, http=http))
        self.host.run("/usr/sbin/nginx", "-t")

    def _running(self) -> set[int]:
        return {pid for pid, line in self.host.processes().items() if line.startswith("nginx: ")}

    def _workers(self) -> set[int]:
        lines = self.host.processes().items()
        return {pid for pid, line in lines if line.startswith("nginx: worker process") and "shutting" not in line}

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"nginx on {self.host.name} ended: {self.host.get(f'{FOLDER}/error.log')[-1000:]}")
        if self._inside:
            return f":{self.port} " in self.host.run("ss", "-Hltn")
        try:
            socket.create_connection((self.host.address, self.port), timeout=1).close()
        except OSError:
            return False
        return True
