"""nginx on the first host, before all replicas: its configuration, its processes, and what `nginx` says there.

What it does with requests is `balancer.py`; both say the same of the limit, the room and the members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstui.demo.balancer import BURST, RATE
from dstui.demo.commands import Ran, Tool, choosing
from dstui.demo.processes import Process, proc_files, unit_row
from dstui.demo.tree import Entries
from dstui.demo.web import BODY_BYTES

VERSION = "1.30.1"
CONFIG = "/etc/nginx/nginx.conf"
UNIT = "nginx.service"
_MASTER_PID = 1_801
_CONFIGURATION = """\
user www-data;
worker_processes 1;
pid /run/nginx.pid;
events { worker_connections 4096; }
http {
  access_log /var/log/nginx/access.log;
  map $http_authorization $client { default $http_authorization; "" $binary_remote_addr; }
  limit_req_zone $client zone=users:10m rate=%(rate)dr/s;
  upstream vllm {
    zone vllm 256k;
    least_conn;
%(members)s    keepalive 64;
  }
  server {
    listen %(address)s;
    server_name _;
    client_max_body_size %(room)dm;
    location /v1/ {
      limit_req zone=users burst=%(burst)d nodelay;
      limit_req_status 429;
      proxy_pass http://vllm;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
    location ~ ^/(health|version|docs|openapi.json)$ { proxy_pass http://vllm; }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Address and port on which it listens, and to whom it passes requests on: URLs without a path."""

    address: str
    backends: Sequence[str]

    @property
    def configuration(self) -> str:
        members = "".join(f"    server {url.removeprefix('http://')};\n" for url in self.backends)
        return _CONFIGURATION % {
            "rate": RATE, "burst": BURST, "members": members, "address": self.address, "room": BODY_BYTES >> 20
        }  # fmt: skip


def _processes() -> tuple[Process, ...]:
    titles = (
        f"nginx: master process /usr/sbin/nginx -g daemon on; master_process on; -c {CONFIG}",
        "nginx: worker process",
    )
    return tuple(Process(_MASTER_PID + n, "nginx", (title,), UNIT) for n, title in enumerate(titles))


def files(proxy: Proxy) -> Entries:
    return {CONFIG: proxy.configuration, **proc_files(_processes())}


def tools(proxy: Proxy) -> dict[str, Tool]:
    good = (
        f"nginx: the configuration file {CONFIG} syntax is ok\nnginx: configuration file {CONFIG} test is successful\n"
    )
    dump = f"# configuration file {CONFIG}:\n{proxy.configuration}\n"
    return {
        "nginx": choosing({"-v": Ran(error=f"nginx version: nginx/{VERSION}\n"), "-T": Ran(dump, good, seconds=0.02)})
    }


def units() -> dict[str, dict[str, str]]:
    return {UNIT: unit_row()}


def listening(proxy: Proxy) -> list[tuple[str, str, int]]:
    """Address and port, process, pid."""
    return [(proxy.address, "nginx", _MASTER_PID)]
