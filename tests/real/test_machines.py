"""One machine that is not as it should be: the catalogue's verdict there, and the same as ever on the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from reallab import machine
from reallab.cluster import ADDRESSES, NAMES, USER, Lab
from reallab.host import Host
from reallab.operator import Operator, Outcome

pytestmark = pytest.mark.real

ODD = "gpu-02"
CONTROLS = ("sw.os-version", "net.static-ip")
"""Checks that are run along with every twist, so that a change elsewhere would show."""


@dataclass(frozen=True)
class Twist:
    """Files of gpu-02 with another content, and what must come of it there: check → verdict, check → words."""

    name: str
    files: dict[str, str | Callable[[str], str]]
    verdicts: dict[str, str]
    words: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def on(self, host: Host) -> Iterator[None]:
        with ExitStack() as undo:
            for path, text in self.files.items():
                undo.enter_context(host.changed(path, text))
            yield


def os_release(name: str, number: str) -> str:
    return f'PRETTY_NAME="{name.title()} {number}"\nID={name}\nVERSION_ID="{number}"\n'


def nvml(extra: str = "", *, version: str = "570.172.08", cuda: int = 12080) -> str:
    return machine.nvml(version, cuda=cuda, extra=extra)


def without_sync(metrics: str) -> str:
    return metrics.replace("\nnode_timex_sync_status 1\n", "\nnode_timex_sync_status 0\n")


def unit_gone(name: str) -> Callable[[str], str]:
    return lambda units: "".join(line for line in units.splitlines(True) if not line.startswith(f"{name}.service "))


TWISTS = (
    Twist(
        "Ubuntu 18.04",
        {"/etc/os-release": os_release("ubuntu", "18.04")},
        {"sw.os-version": "fail"},
        {"sw.os-version": "18.04 is too old"},
    ),
    Twist(
        "Ubuntu 9.04, which is greater as text",
        {"/etc/os-release": os_release("ubuntu", "9.04")},
        {"sw.os-version": "fail"},
    ),
    Twist(
        "Ubuntu 20.04, out of support",
        {"/etc/os-release": os_release("ubuntu", "20.04")},
        {"sw.os-version": "warn"},
        {"sw.os-version": "ended in 2025-05"},
    ),
    Twist("another distribution", {"/etc/os-release": os_release("rocky", "9.4")}, {"sw.os-version": "fail"}),
    Twist(
        "an RTX A1000, whose name begins like an A100's",
        {machine.NVML: nvml("name=NVIDIA RTX A1000\n")},
        {"hw.gpu-model": "fail"},
        {"hw.gpu-model": "NVIDIA RTX A1000 is not an allowed model"},
    ),
    Twist(
        "a GPU that is lost",
        {machine.NVML: nvml("7.err=15\n")},
        {"hw.gpu-model": "fail"},
        {"hw.gpu-model": "GPU 7 does not answer"},
    ),
    Twist(
        "a GPU that fell off the bus",
        {machine.NVML: nvml("count=7\n")},
        {"hw.gpu-model": "fail"},
        {"hw.gpu-model": "8 GPUs on the PCI bus, 7 answer"},
    ),
    Twist(
        "libraries of another version than the module",
        {machine.NVML: nvml("init_err=18\n")},
        {"hw.gpu-model": "fail", "sw.nvidia-driver": "fail"},
        {"sw.nvidia-driver": "unusable until a reboot"},
    ),
    Twist(
        "MIG",
        {machine.NVML: nvml("3.mig=1\n")},
        {"hw.gpu-model": "warn"},
        {"hw.gpu-model": "MIG is on for GPU 3"},
    ),
    Twist(
        "a driver that waits for a reboot",
        {"/usr/local/sbin/modinfo": "#!/bin/sh\necho 580.95.05\n"},
        {"sw.nvidia-driver": "warn"},
        {"sw.nvidia-driver": "580.95.05 is on disk, 570.172.08 is loaded"},
    ),
    Twist(
        "a driver for CUDA 12.0",
        {machine.NVML: nvml(cuda=12000)},
        {"sw.cuda": "fail"},
        {"sw.cuda": "the driver supports CUDA 12.0 at most"},
    ),
    Twist(
        "Docker 20.10",
        {machine.DOCKER: machine.docker("20.10.24")},
        {"sw.docker": "fail"},
        {"sw.docker": "20.10.24 is older than 24.0.0"},
    ),
    Twist(
        "a candidate of Docker 24.0.0",
        {machine.DOCKER: machine.docker("24.0.0~rc.2")},
        {"sw.docker": "warn"},
        {"sw.docker": "24.0.0~rc.2 is a pre-release of the minimum"},
    ),
    Twist(
        "a Docker socket that is closed to the login user",
        {machine.DOCKER: machine.docker("27.5.1", denied=True)},
        {"sw.docker": "unknown(permission)", "sw.container-toolkit": "unknown(permission)"},
        {"sw.docker": "add the login user to group docker"},
    ),
    Twist(
        "container logs without end",
        {"/etc/docker/daemon.json": json.dumps({"data-root": "/data/docker"})},
        {"sw.docker": "warn"},
    ),
    Twist(
        "a container toolkit with known escapes",
        {f"{machine.MACHINE}/ctk": "1.16.1\n"},
        {"sw.container-toolkit": "warn"},
    ),
    Twist(
        "an old container toolkit",
        {f"{machine.MACHINE}/ctk": "1.12.0\n"},
        {"sw.container-toolkit": "fail"},
    ),
    Twist(
        "a GPU exporter without GPU series",
        {machine.GPU_METRICS: "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n"},
        {"hard.monitoring-logging": "fail"},
        {"hard.monitoring-logging": "answers 200 with no GPU series at all"},
    ),
    Twist(
        "a GPU exporter that misses a GPU",
        {machine.GPU_METRICS: machine.gpu_metrics(machine.GPUS - 1)},
        {"hard.monitoring-logging": "fail"},
        {"hard.monitoring-logging": "series for 7 of 8 GPUs"},
    ),
    Twist(
        "a clock that is not synchronised",
        {machine.NODE_METRICS: without_sync},
        {"hard.monitoring-logging": "warn"},
    ),
    Twist(
        "a journal that a reboot empties",
        {"/etc/systemd/journald.conf": "[Journal]\nStorage=volatile\n"},
        {"hard.monitoring-logging": "warn"},
        {"hard.monitoring-logging": "the journal is lost at a reboot"},
    ),
    Twist(
        "rules that a reboot forgets",
        {machine.UNITS: unit_gone("nftables")},
        {"hard.firewall": "warn"},
        {"hard.firewall": "no unit restores them at boot"},
    ),
    Twist(
        "an address from DHCP in netplan, and not in the kernel",
        {"/etc/netplan/01-data.yaml": "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n"},
        {"net.static-ip": "warn"},
        {"net.static-ip": "an endless lease"},
    ),
    Twist(
        "an own name on 127.0.1.1",
        {"/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {ODD}\n"},
        {"net.dns": "warn"},
        {"net.dns": "Gloo falls back to loopback"},
    ),
    Twist(
        "a peer at another address in /etc/hosts",
        {"/etc/hosts": f"127.0.0.1 localhost\n{ADDRESSES[ODD]} {ODD}\n10.78.0.99 gpu-01\n"},
        {"net.dns": "fail"},
        {"net.dns": "gpu-01 resolves to 10.78.0.99, not 10.78.0.11"},
    ),
    Twist("no name server", {"/etc/resolv.conf": "search lab\n"}, {"net.dns": "fail", "net.outbound": "fail"}),
)


@pytest.mark.parametrize("twist", TWISTS, ids=lambda twist: twist.name)
def test_twist(twist: Twist, lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with twist.on(lab.hosts[ODD]):
        outcome = operator.run(*dict.fromkeys((*twist.verdicts, *CONTROLS)))
    assert outcome.changes(healthy) == {(check, f"host:{ODD}"): said for check, said in twist.verdicts.items()}
    for check, words in twist.words.items():
        assert words in outcome.of(check, ODD).words
    codes = {"fail": 1, "unknown": 2, "warn": 0}
    assert outcome.exit == max(codes[said.partition("(")[0]] for said in twist.verdicts.values())


def test_a_driver_is_compared_number_by_number(lab: Lab, operator: Operator) -> None:
    """As text 535.104.05 would be less than 535.54.03."""
    with ExitStack() as undo:
        for name in NAMES:
            version = "535.54.03" if name == ODD else "535.104.05"
            host = lab.hosts[name]
            undo.enter_context(host.changed(machine.NVML, machine.nvml(version, cuda=12020)))
            undo.enter_context(host.changed("/usr/local/sbin/modinfo", f"#!/bin/sh\necho {version}\n"))
        outcome = operator.run("sw.nvidia-driver", *CONTROLS)
    drivers = {target: said for (check, target), said in outcome.said().items() if check == "sw.nvidia-driver"}
    assert drivers == {"host:gpu-01": "pass", f"host:{ODD}": "fail", "host:gpu-03": "pass"}
    words = outcome.of("sw.nvidia-driver", ODD).words
    assert "535.54.03 is older than 535.104.05" in words
    assert "differs from other hosts, which run 535.104.05" in words


@pytest.mark.parametrize(
    ("installed_gib", "total_kb", "verdict", "words"),
    [
        (256, 263_757_824, "pass", "251.5 GiB MemTotal, 256 GiB installed"),
        (248, 255_500_000, "warn", "only 248.0 GiB of 256 GiB are installed"),
        (128, 131_600_000, "fail", "128.0 GiB is below 243.2 GiB"),
    ],
    ids=["256 GiB", "248 GiB", "128 GiB"],
)
def test_memory(
    lab: Lab, operator: Operator, healthy: Outcome, installed_gib: int, total_kb: int, verdict: str, words: str
) -> None:
    """A machine of 256 GiB shows less than that as MemTotal."""
    with machine.less_memory(lab.hosts[ODD], installed_gib=installed_gib, total_kb=total_kb):
        outcome = operator.run("hw.memory", *CONTROLS)
    changed = {} if verdict == "pass" else {("hw.memory", f"host:{ODD}"): verdict}
    assert outcome.changes(healthy) == changed
    assert words in outcome.of("hw.memory", ODD).words


def test_what_the_inventory_declares_is_compared(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    inventory = lab.inventory("declared", expect={"driver": "580.95.05", "nic_declared_gbps": 10})
    outcome = operator.run("sw.nvidia-driver", "hw.nic-speed", *CONTROLS, inventory=inventory)
    both = [("sw.nvidia-driver", "570.172.08 is loaded, 580.95.05 is pinned"), ("hw.nic-speed", "declared as 10 Gb/s")]
    assert outcome.changes(healthy) == {(check, f"host:{name}"): "fail" for check, _ in both for name in NAMES}
    for check, words in both:
        assert words in outcome.of(check, ODD).words


def test_a_link_that_hides_its_speed_is_not_taken_for_a_fast_one(lab: Lab, operator: Operator) -> None:
    outcome = operator.run("hw.nic-speed", inventory=lab.inventory("undeclared", expect={"nic_declared_gbps": None}))
    assert set(outcome.said().values()) == {"unknown(cannot-tell)"}
    assert outcome.exit == 2


def test_thresholds_come_from_where_they_are_set(lab: Lab, operator: Operator) -> None:
    inventory = lab.inventory("thresholds", thresholds={"hw.cpu-cores.cpu_cores_min": 96})
    outcome = operator.run("hw.cpu-cores", "hw.memory", "--set=hw.memory.mem_min_gb=1024", inventory=inventory)
    assert set(outcome.said().values()) == {"fail"}
    checks = outcome.report["checks"]
    assert isinstance(checks, list)
    origins = {
        threshold["param"]: threshold["origin"] for check in checks for threshold in check["findings"][0]["thresholds"]
    }
    assert origins["cpu_cores_min"] == "inventory"
    assert origins["mem_min_gb"] == "command line"
    assert origins["mem_tolerance_pct"] == "document"


def test_without_sudo_root_facts_are_unknown(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """What needs root says so. What can be seen another way is judged by that, weaker where the catalogue has it so."""
    host = lab.hosts[ODD]
    with host.changed(f"/etc/sudoers.d/{USER}", "# nothing is granted\n"):
        outcome = operator.run("hard.firewall", "hard.ssh-no-root", "hard.ssh-keys", "hw.memory", *CONTROLS)
    assert outcome.changes(healthy) == {
        ("hard.firewall", f"host:{ODD}"): "unknown(permission)",
        ("net.static-ip", f"host:{ODD}"): "warn",
    }
    assert "grant" in outcome.of("hard.firewall", ODD).words
    assert "root login refused" in outcome.of("hard.ssh-no-root", ODD).words


def test_a_refused_root_login_alone_proves_nothing(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    host = lab.hosts[ODD]
    config = host.place("/etc/ssh/sshd_config")
    with host.changed(f"/etc/sudoers.d/{USER}", "# nothing is granted\n"):
        config.chmod(0o600)
        try:
            outcome = operator.run("hard.ssh-no-root")
        finally:
            config.chmod(0o644)
    assert outcome.changes(healthy) == {("hard.ssh-no-root", f"host:{ODD}"): "unknown(permission)"}
