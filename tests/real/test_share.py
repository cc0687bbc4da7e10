"""The shared storage: hung, not mounted, full, read-only, of another source. The file server is a real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reallab.cluster import ADDRESSES, NAMES, SHARE, Lab
from reallab.host import Host
from reallab.operator import Operator, Outcome

pytestmark = pytest.mark.real

ODD = "gpu-02"
CHECKS = ("stor.shared-dir", "stor.shared-service", "stor.rw-all-nodes", "stor.free-space")
PATIENCE = "--set=stor.rw-all-nodes.visible_max_s=6"
WHOLE = "cluster:lab"


@contextmanager
def hung(lab: Lab, host: Host) -> Iterator[None]:
    """The share's server silent, as when it has lost its power; afterwards the share is mounted anew."""
    with host.packets(f"output ip daddr {ADDRESSES['filer']} drop", f"input ip saddr {ADDRESSES['filer']} drop"):
        try:
            yield
        finally:
            lab.abort_share(host)
    lab.mount_share(host)


@contextmanager
def unmounted(lab: Lab, host: Host) -> Iterator[None]:
    host.run("umount", SHARE)
    try:
        yield
    finally:
        lab.mount_share(host)


def test_a_share_that_hangs(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """FAIL there, UNKNOWN where it hides something, and every other check of the host answers as quickly as ever."""
    host = lab.hosts[ODD]
    others = ("sw.os-version", "hw.memory", "hw.gpu-model", "hard.monitoring-logging", "sw.docker")
    with hung(lab, host):
        outcome = operator.run(*CHECKS, *others)
        left = [line for line in host.processes().values() if "dstui" in line and "python" in line]
    changes = outcome.changes(healthy)
    assert changes.pop(("stor.rw-all-nodes", WHOLE)) in {"fail", "unknown(timeout)"}
    assert changes == {
        ("stor.shared-dir", f"host:{ODD}"): "fail",
        ("stor.shared-service", f"host:{ODD}"): "unknown(timeout)",
        ("stor.free-space", WHOLE): "unknown(timeout)",
    }
    assert f"{SHARE} hangs" in outcome.of("stor.shared-dir", ODD).words
    hangs = outcome.of("stor.shared-dir", ODD).observed_at
    for check in others:
        assert outcome.of(check, ODD).observed_at < hangs, check
    assert outcome.exit == 1
    assert outcome.seconds < 90
    assert len(left) < 12, "children that hang are given up, not multiplied"
    assert operator.run(*CHECKS).changes(healthy) == {}, "the share is back"


def test_a_share_that_is_not_mounted(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """The directory is there, on the system disk: the fault that `mkdir` hides."""
    with unmounted(lab, lab.hosts[ODD]):
        outcome = operator.run(*CHECKS, PATIENCE)
        assert not list(lab.hosts[ODD].place(SHARE).iterdir()), "something was written to the directory below"
    assert outcome.changes(healthy) == {
        ("stor.shared-dir", f"host:{ODD}"): "fail",
        ("stor.shared-service", f"host:{ODD}"): "fail",
        ("stor.rw-all-nodes", WHOLE): "fail",
        ("stor.free-space", WHOLE): "unknown(blocked-by)",
    }
    assert "lies on the root filesystem" in outcome.of("stor.shared-dir", ODD).words
    assert "overlay is a local filesystem" in outcome.of("stor.shared-service", ODD).words


def test_a_directory_that_is_missing(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    host = lab.hosts[ODD]
    with unmounted(lab, host):
        host.place(SHARE).rmdir()
        outcome = operator.run("stor.shared-dir")
    assert outcome.changes(healthy) == {("stor.shared-dir", f"host:{ODD}"): "fail"}
    assert f"{SHARE} is missing" in outcome.of("stor.shared-dir", ODD).words


def test_another_disk_under_the_same_path(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """Writable, roomy, and not shared: only the nonces of the others show it."""
    host = lab.hosts[ODD]
    with unmounted(lab, host):
        host.run("mount", "-t", "tmpfs", "-o", "size=2t,mode=1777", "tmpfs", SHARE)
        try:
            outcome = operator.run(*CHECKS, PATIENCE)
        finally:
            host.run("umount", SHARE)
    assert outcome.changes(healthy) == {
        ("stor.shared-service", f"host:{ODD}"): "fail",
        ("stor.rw-all-nodes", WHOLE): "fail",
    }
    words = outcome.of("stor.rw-all-nodes", WHOLE).words
    assert f"{ODD} does not read: gpu-01 absent ENOENT, gpu-03 absent ENOENT" in words
    assert f"gpu-01 does not read: {ODD} absent ENOENT" in words


def test_another_source(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    inventory = lab.inventory("elsewhere", storage={"source": "nas-01:/export/deepseek"})
    outcome = operator.run("stor.shared-service", inventory=inventory)
    assert outcome.changes(healthy) == {("stor.shared-service", f"host:{name}"): "fail" for name in NAMES}
    assert "not nas-01:/export/deepseek" in outcome.of("stor.shared-service", ODD).words


def test_a_mount_that_is_not_in_fstab(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with lab.hosts[ODD].changed("/etc/fstab", "# nothing\n"):
        outcome = operator.run("stor.shared-service")
    assert outcome.changes(healthy) == {("stor.shared-service", f"host:{ODD}"): "warn"}


def test_a_share_that_may_not_be_written(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    filer = lab.hosts["filer"]
    filer.run("mount", "-o", "remount,ro", "/export/deepseek")
    try:
        outcome = operator.run("stor.rw-all-nodes", "stor.shared-dir")
    finally:
        filer.run("mount", "-o", "remount,rw", "/export/deepseek")
    assert outcome.changes(healthy) == {("stor.rw-all-nodes", WHOLE): "fail"}
    assert f"{ODD} cannot write" in outcome.of("stor.rw-all-nodes", WHOLE).words


@pytest.mark.parametrize(
    ("size", "said"), [("50g", "fail"), ("105g", "warn"), ("130g", "pass")], ids=["50 GiB", "105 GiB", "130 GiB"]
)
def test_free_space(lab: Lab, operator: Operator, healthy: Outcome, size: str, said: str) -> None:
    filer = lab.hosts["filer"]
    filer.run("mount", "-o", f"remount,size={size}", "/export/deepseek")
    try:
        outcome = operator.run("stor.free-space")
    finally:
        filer.run("mount", "-o", "remount,size=2t", "/export/deepseek")
    assert outcome.changes(healthy) == ({} if said == "pass" else {("stor.free-space", WHOLE): said})


def test_leftovers_of_an_earlier_run_are_named_and_removed(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    filer, probes = lab.hosts["filer"], "/export/deepseek/.dstui-probe"
    old = f"{probes}/{'0' * 32}"
    filer.run("mkdir", "-p", old)
    filer.run("touch", "-d", "3 hours ago", f"{old}/gpu-01.nonce", old)
    filer.run("chown", "-R", "share:", probes)
    outcome = operator.run("stor.rw-all-nodes")
    assert outcome.changes(healthy) == {("stor.rw-all-nodes", WHOLE): "warn"}
    assert "1 files of earlier runs were left behind" in outcome.of("stor.rw-all-nodes", WHOLE).words
    assert not filer.place(probes).exists()
    assert operator.run("stor.rw-all-nodes").changes(healthy) == {}, "at once, while clients still remember the folder"
