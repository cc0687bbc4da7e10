"""Goal A: a cluster with nothing wrong is green, for the reasons that the catalogue names."""

from __future__ import annotations

import pytest

from dstui.facts.sudoers import GRANTS

from reallab.cluster import CLUSTER, CONTROLLER, NAMES, USER, Lab
from reallab.machine import GPUS
from reallab.operator import Operator, Outcome

pytestmark = pytest.mark.real


def test_every_check_passes_and_the_gate_is_open(healthy: Outcome) -> None:
    expected = dict.fromkeys(healthy.said(), "pass")
    # No cloud: the hardware says Dell and the inventory says none.
    expected.update({key: "not-applicable" for key in expected if key[0] == "hard.security-group"})
    assert healthy.said() == expected
    assert healthy.exit == 0
    gate = healthy.report["gate"]
    assert gate == {"open": True, "exit_code": 0, "counts": {"pass": 24, "not-applicable": 1}}


def test_every_host_and_every_pair_was_looked_at(healthy: Outcome) -> None:
    targets = {check: {t for c, t in healthy.said() if c == check} for check, _ in healthy.said()}
    assert len(targets) == 25
    hosts = {f"host:{name}" for name in NAMES}
    pairs = {f"pair:{a}>{b}" for a in NAMES for b in NAMES if a != b}
    whole = {"cluster:lab"}
    by_shape = {
        "net.peer-ping": pairs,
        "net.ports": pairs | whole,
        "stor.rw-all-nodes": whole,
        "stor.free-space": whole,
        "hard.security-group": targets["hard.security-group"],
    }
    assert targets == {check: by_shape.get(check, hosts) for check in targets}


def test_what_passed_was_observed(healthy: Outcome) -> None:
    said = {check: healthy.of(check, "gpu-02").words for check, target in healthy.said() if target == "host:gpu-02"}
    assert f"{GPUS} × NVIDIA H100 80GB HBM3 (NVML), {GPUS} on the PCI bus" in said["hw.gpu-model"]
    assert "503.5 GiB MemTotal, 512 GiB installed" in said["hw.memory"]
    assert "64 cores in 2 sockets" in said["hw.cpu-cores"]
    assert "7.68 TB of SSD" in said["hw.ssd-capacity"]
    assert "570.172.08 loaded" in said["sw.nvidia-driver"]
    assert "toolkit 12.8" in said["sw.cuda"] and "runtime (torch) 12.8" in said["sw.cuda"]
    assert "27.5.1" in said["sw.docker"]
    assert "fuse.sshfs" in said["stor.shared-service"]
    assert "PermitRootLogin no" in said["hard.ssh-no-root"] and "root login refused" in said["hard.ssh-no-root"]
    assert "nftables" in said["hard.firewall"] or "nft" in said["hard.firewall"]
    assert "default deny" in said["hard.firewall"] and "9100, 9400" in said["hard.firewall"]
    assert f"{GPUS}/{GPUS} GPU" in said["hard.monitoring-logging"]


def test_the_sudoers_file_is_valid_and_grants_nothing_else(lab: Lab) -> None:
    host = lab.hosts["gpu-01"]
    assert "parsed OK" in host.run("visudo", "-c", "-f", f"/etc/sudoers.d/{USER}")
    assert "bad permissions" not in host.run("visudo", "-c")
    listed = host.run("sudo", "-l", "-U", USER).partition("commands on")[2]
    granted = [line.strip() for line in listed.splitlines()[1:] if line.strip()]
    assert len(granted) == len(GRANTS)
    assert all(line.startswith("(root) NOPASSWD: /usr/") for line in granted)


def test_the_controller_looks_from_outside_the_cluster(lab: Lab, healthy: Outcome) -> None:
    assert CONTROLLER not in CLUSTER
    assert "none open from outside" in healthy.of("hard.firewall", "gpu-01").words
    seen = lab.hosts["gpu-01"].run("ss", "-Hltn")
    assert "0.0.0.0:9100" in seen, "the exporter listens on every address, so only the rules keep the outside out"


def test_a_second_run_says_the_same(healthy: Outcome, operator: Operator) -> None:
    again = operator.run("hw.gpu-model", "net.ports", "stor.rw-all-nodes")
    assert again.said() == {key: said for key, said in healthy.said().items() if key in again.said()}
