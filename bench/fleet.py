"""Many hosts on one machine: one real sshd on the loopback network, 127.0.0.2 to 127.0.0.65 being the hosts."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """\
Port {port}
ListenAddress 0.0.0.0
HostKey {home}/host_key
PidFile none
AuthorizedKeysFile {home}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxStartups 1000:30:2000
MaxSessions 100
LogLevel ERROR
PrintMotd no
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Fleet:
    """Where the hosts are: `addresses` all answer on `port`; `key` logs in as root."""

    home: Path
    port: int
    addresses: tuple[str, ...]

    @property
    def key(self) -> Path:
        return self.home / "client_key"

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"


@contextlib.contextmanager
def sshd_fleet(hosts: int) -> Iterator[Fleet]:
    """Starts sshd, waits until it answers, ends it by pid. Needs root and openssh-server."""
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    if os.geteuid() != 0 or not Path(sshd).exists():
        raise SystemExit("bench: needs root and openssh-server (apt install openssh-server)")
    with tempfile.TemporaryDirectory(prefix="dstui-bench-") as name:
        home = Path(name)
        port = _free_port()
        for key in ("host_key", "client_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / key)], check=True)
        shutil.copy(home / "client_key.pub", home / "authorized_keys")
        (home / "sshd_config").write_text(_CONFIG.format(port=port, home=home))
        addresses = tuple(f"127.0.0.{n}" for n in range(2, 2 + hosts))
        host_key = (home / "host_key.pub").read_text().split()[:2]
        lines = [f"[{address}]:{port} {' '.join(host_key)}" for address in addresses]
        (home / "known_hosts").write_text("\n".join(lines) + "\n")
        Path("/run/sshd").mkdir(exist_ok=True)
        server = subprocess.Popen([sshd, "-D", "-e", "-f", str(home / "sshd_config")])
        try:
            _wait_for(port)
            yield Fleet(home, port, addresses)
        finally:
            server.terminate()
            server.wait(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.2", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("bench: sshd did not start")
