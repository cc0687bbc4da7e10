"""The lab: three GPU servers and a file server on a bridge, and the controller on the outside, which is this machine.

The cluster is 10.78.0.0/24. The controller is 10.78.1.1, on the same wire but in a network of its own, so that what it
reaches counts as reachable from outside the cluster.
"""

from __future__ import annotations

import copy
import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from dstui.facts.sudoers import sudoers_file

from reallab import machine, services
from reallab.host import FOLDER, Host, LabError, command, wait_until

BRIDGE = "dstui-lab"
CONTROLLER = "10.78.1.1"
SECOND_RESOLVER = "10.78.1.2"
CLUSTER = "10.78.0.0/24"
NAMES = ("gpu-01", "gpu-02", "gpu-03")
ADDRESSES = {"gpu-01": "10.78.0.11", "gpu-02": "10.78.0.12", "gpu-03": "10.78.0.13", "filer": "10.78.0.20"}
USER = "dstui"
UID = 2001
SHARE = "/mnt/deepseek-shared"
SOURCE = f"share@{ADDRESSES['filer']}:/export/deepseek"
MIRROR_PORT = 8081
SSHD_CONFIG = "/etc/ssh/sshd_config"

SSHD = """Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 100:30:200
MaxSessions 50
PrintMotd no
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""

FIREWALL = f"""table inet filter {{
  chain input {{
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iif lo accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
    ip saddr {CLUSTER} accept
    tcp dport 22 accept
  }}
}}
"""

INVENTORY: dict[str, object] = {
    "version": 1,
    "cluster": {"name": "lab", "environment": "lab", "phase": "auto"},
    "ssh": {
        "user": USER,
        "agent": False,
        "become": "sudo-n",
        "connect_timeout_s": 15,
        "max_parallel": 4,
    },
    "groups": {"gpu": {"gpu": True, "gpus_per_host": machine.GPUS}},
    "hosts": [
        {"name": "gpu-01", "group": "gpu", "roles": ["head"], "data_ip": ADDRESSES["gpu-01"]},
        {"name": "gpu-02", "group": "gpu", "roles": ["worker"], "data_ip": ADDRESSES["gpu-02"]},
        {"name": "gpu-03", "group": "gpu", "roles": ["worker"], "data_ip": ADDRESSES["gpu-03"]},
    ],
    # veth hides its speed.
    "expect": {"nic_declared_gbps": 25},
    "network": {
        "cluster_cidrs": [CLUSTER],
        "mirrors": {name: f"http://mirror.lab:{MIRROR_PORT}/{name}/" for name in ("pip", "hf", "docker", "apt")},
    },
    "storage": {"shared_path": SHARE, "source": SOURCE, "fs_types": ["fuse.sshfs"]},
    "runtime": {"mode": "bare-metal", "python": machine.PYTHON, "user": USER},
    "ray": {
        "ports": {
            "node_manager": 10010,
            "object_manager": 10011,
            "runtime_env_agent": 10012,
            "dashboard_agent_grpc": 10013,
            "metrics_export": 10014,
            "dashboard_agent_listen": 10015,
            "worker_min": 10020,
            "worker_max": 19999,
        }
    },
    "monitoring": {"log_dirs": ["/var/log"]},
    "cloud": {"provider": "none"},
    # Times on a busy test machine say nothing about the checks.
    "thresholds": {
        "net.peer-ping.rtt_warn_ms": 200,
        "net.dns.dns_slow_ms": 5000,
        "stor.rw-all-nodes.visible_within_s": 30,
    },
}


class Lab:
    """The running lab. `folder` is the controller's: its key, known_hosts, inventories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "id_ed25519"
        self.known_hosts = folder / "known_hosts"
        self._undo = ExitStack()
        self.hosts: dict[str, Host] = {}
        self._agents: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Lab:
        with ExitStack() as undo:
            self._undo = undo
            self._alone(undo)
            self._wire(undo)
            self._serve(undo)
            self._keys()
            libs = machine.libraries(self.folder)
            undo.callback(self._end_hosts)
            for name in (*NAMES, "filer"):
                host = self.hosts[name] = Host(name, ADDRESSES[name])
                self._connect(host)
                self._log_in(host)
            self._export(self.hosts["filer"])
            for name in NAMES:
                machine.furnish(self.hosts[name], libs)
                self._guard(self.hosts[name])
                self.mount_share(self.hosts[name])
                self.start_agents(self.hosts[name])
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _alone(self, undo: ExitStack) -> None:
        place = FOLDER.parent / "dstui-lab.lock"
        lock = place.open("w")
        undo.callback(lock.close)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another run of tests/real has the lab; wait for it to end") from None
        undo.callback(place.unlink)
        FOLDER.mkdir(parents=True, exist_ok=True)
        undo.callback(shutil.rmtree, FOLDER, ignore_errors=True)

    def _end_hosts(self) -> None:
        """All at once: the kernel takes seconds to take a host apart."""
        for host in self.hosts.values():
            host.kill()
        for host in self.hosts.values():
            host.wait()
        for agent in self._agents:
            agent.wait()

    def _wire(self, undo: ExitStack) -> None:
        """The bridge. One that an earlier run left behind goes first; its hosts died with that run."""
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)
        command("ip", "link", "add", BRIDGE, "type", "bridge")
        undo.callback(command, "ip", "link", "delete", BRIDGE)
        for address in (CONTROLLER, SECOND_RESOLVER):
            command("ip", "address", "add", f"{address}/24", "dev", BRIDGE)
        command("ip", "link", "set", BRIDGE, "up")
        command("ip", "route", "add", CLUSTER, "dev", BRIDGE, "src", CONTROLLER)

    def _serve(self, undo: ExitStack) -> None:
        """Name servers and the mirror, at the controller's addresses."""
        names = {**ADDRESSES, "mirror.lab": CONTROLLER, "pypi.org": CONTROLLER}
        running = [services.name_server(address, names) for address in (CONTROLLER, SECOND_RESOLVER)]
        for server in (*running, services.mirror(CONTROLLER, MIRROR_PORT)):
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(server.server_close)
            undo.callback(server.shutdown)

    def _keys(self) -> None:
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(self.key))
        self.known_hosts.write_text("")
        self.known_hosts.chmod(0o600)

    def _connect(self, host: Host) -> None:
        wire = f"dstui-{host.name}"
        command("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        command("ip", "link", "set", wire, "master", BRIDGE, "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "lo", "up")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "route", "add", "10.78.1.0/24", "dev", "eth0")

    def _log_in(self, host: Host) -> None:
        """Names, the login user with its sudoers, and a running sshd."""
        host.put("/etc/hosts", f"127.0.0.1 localhost\n{host.address} {host.name}\n")
        host.put("/etc/resolv.conf", f"nameserver {CONTROLLER}\nnameserver {SECOND_RESOLVER}\n")
        host.put("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
        self.add_user(host, USER, UID)
        for entry in host.place("/etc/sudoers.d").iterdir():
            entry.unlink()
        host.put(f"/etc/sudoers.d/{USER}", sudoers_file(USER, CONTROLLER), 0o440)
        host.run("rm", "-rf", "/etc/ssh/sshd_config.d", "/etc/alternatives/cuda")
        self.new_host_key(host)
        host.put(SSHD_CONFIG, SSHD)
        self.start_sshd(host)
        self.trust(host)

    def add_user(self, host: Host, name: str, uid: int) -> None:
        host.run("useradd", "--create-home", "--uid", str(uid), "--shell", "/bin/sh", "--password", "*", name)
        self.authorize(host, name)

    def authorize(self, host: Host, user: str, key: str | None = None) -> None:
        home = "/root" if user == "root" else f"/home/{user}"
        host.put(f"{home}/.ssh/authorized_keys", key or self.public_key, 0o600)
        host.place(f"{home}/.ssh").chmod(0o700)
        host.run("chown", "-R", f"{user}:", f"{home}/.ssh")

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text()

    def new_host_key(self, host: Host) -> None:
        file = "/etc/ssh/ssh_host_ed25519_key"
        host.run("rm", "-f", file, f"{file}.pub")
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", file)

    def host_key(self, host: Host) -> str:
        return " ".join(host.get("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    def trust(self, host: Host) -> None:
        """Put the host's key into the controller's known_hosts."""
        lines = [line for line in self.known_hosts.read_text().splitlines() if not line.startswith(f"{host.address} ")]
        self.known_hosts.write_text("".join(f"{line}\n" for line in (*lines, f"{host.address} {self.host_key(host)}")))

    def start_sshd(self, host: Host) -> None:
        host.run("/usr/sbin/sshd", "-t")
        host.run("/usr/sbin/sshd", "-E", "/var/log/sshd.log")
        # sshd creates the file before it writes the pid into it.
        wait_until(lambda: bool(self.sshd_pid(host)), f"sshd on {host.name}")

    def restart_sshd(self, host: Host) -> None:
        """As `systemctl restart ssh`: sessions that are open stay."""
        self.stop_sshd(host)
        self.start_sshd(host)

    def stop_sshd(self, host: Host) -> None:
        """Until it does not listen any more and its pid file is gone; sessions that are open stay."""
        pid = self.sshd_pid(host)
        host.run("kill", pid)
        wait_until(lambda: not host.place(f"/proc/{pid}").exists(), f"sshd of {host.name} to end")

    def sshd_pid(self, host: Host) -> str:
        """Empty while no sshd runs there."""
        file = host.place("/run/sshd.pid")
        return file.read_text().strip() if file.exists() else ""

    def sshd_processes(self, host: Host) -> list[int]:
        return [pid for pid, line in host.processes().items() if line.startswith(("sshd", "/usr/sbin/sshd"))]

    def _export(self, filer: Host) -> None:
        self.add_user(filer, "share", 2100)
        filer.run("mkdir", "-p", "/export/deepseek")
        filer.run("mount", "-t", "tmpfs", "-o", "size=2t,mode=755,uid=2100", "tmpfs", "/export/deepseek")

    def mount_share(self, host: Host) -> None:
        host.put("/root/.ssh/share", self.key.read_text(), 0o600)
        host.put("/root/.ssh/known_hosts", f"{ADDRESSES['filer']} {self.host_key(self.hosts['filer'])}\n", 0o600)
        options = f"allow_other,uid={UID},gid={UID},IdentityFile=/root/.ssh/share,dcache_timeout=1"
        host.put("/etc/fstab", f"{SOURCE} {SHARE} fuse.sshfs _netdev,{options} 0 0\n")
        host.place(SHARE).mkdir(parents=True, exist_ok=True)
        host.run("sshfs", SOURCE, SHARE, "-o", options)

    def abort_share(self, host: Host) -> None:
        """End a share whose server is gone: the kernel answers whoever hangs on it, and forgets the mount."""
        rows = (line.split() for line in host.get("/proc/1/mountinfo").splitlines())
        for row in rows:
            if row[4] == SHARE and "fuse.sshfs" in row:
                number = row[2].partition(":")[2]
                host.place(f"/sys/fs/fuse/connections/{number}/abort").write_text("1")
        host.run("umount", "--lazy", SHARE)

    def _guard(self, host: Host) -> None:
        host.run("nft", "-f", "-", given=FIREWALL)

    def start_agents(self, host: Host) -> None:
        """The exporters and the log shipper."""
        script = Path(services.__file__)
        host.put("/opt/agents/services.py", script.read_text())
        ports = (f"9100={machine.NODE_METRICS}", f"9400={machine.GPU_METRICS}")
        self._agents += [
            host.start("/usr/bin/python3", "-I", "/opt/agents/services.py", *ports),
            host.start("/usr/local/bin/fluent-bit", "infinity"),
        ]
        wait_until(lambda: ":9400" in host.run("ss", "-Hltn"), f"the exporters on {host.name}")

    def inventory(self, name: str = "inventory", **blocks: object) -> Path:
        """The lab's inventory as a file; `blocks` are top-level blocks that replace its own, or amend them."""
        document = copy.deepcopy(INVENTORY)
        ssh = document["ssh"]
        assert isinstance(ssh, dict)
        ssh |= {"identity_ref": f"file:{self.key}", "known_hosts": str(self.known_hosts)}
        for key, value in blocks.items():
            old = document.get(key)
            document[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return file

    @contextmanager
    def link_down(self, host: Host) -> Iterator[None]:
        """The host's cable pulled."""
        wire = f"dstui-{host.name}"
        command("ip", "link", "set", wire, "down")
        try:
            yield
        finally:
            command("ip", "link", "set", wire, "up")
            wait_until(lambda: host.run("ping", "-c1", "-W1", CONTROLLER), f"{host.name} to be back")

    @contextmanager
    def sshd_config(self, host: Host, text: str) -> Iterator[None]:
        """The host with another sshd_config, in the file and in the running daemon."""
        with host.changed(SSHD_CONFIG, text):
            self.restart_sshd(host)
            yield
        self.restart_sshd(host)


def clean_environment(home: Path) -> dict[str, str]:
    """The operator's environment: nothing of whoever runs the tests gets in the way."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "USER": "ops",
        "LOGNAME": "ops",
    }
