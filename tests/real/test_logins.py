"""SSH: host keys, refused logins, jump hosts, root logins, hosts that stop in the middle or have no Python."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reallab.cluster import ADDRESSES, NAMES, SSHD, SSHD_CONFIG, USER, Lab
from reallab.host import Host, command, wait_until
from reallab.operator import Operator, Outcome, recorded

pytestmark = pytest.mark.real

ODD = "gpu-02"
UNREACHABLE = "unknown(unreachable)"
CHECKS = ("sw.os-version", "hw.memory")
LOST = {(check, f"host:{ODD}"): UNREACHABLE for check in CHECKS}


def fingerprint(lab: Lab, host: Host) -> str:
    shown = command("ssh-keygen", "-l", "-f", "-", given=lab.host_key(host))
    return shown.split()[1]


@contextmanager
def known_hosts_kept(lab: Lab) -> Iterator[None]:
    before = lab.known_hosts.read_text()
    try:
        yield
    finally:
        lab.known_hosts.write_text(before)


def test_a_host_key_that_changed_is_never_accepted(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    host = lab.hosts[ODD]
    old = host.get("/etc/ssh/ssh_host_ed25519_key"), host.get("/etc/ssh/ssh_host_ed25519_key.pub")
    lab.new_host_key(host)
    try:
        lab.restart_sshd(host)
        known = lab.known_hosts.read_text()
        for words in ((), ("--accept-new-host-keys",)):
            outcome = operator.run(*CHECKS, *words)
            assert outcome.changes(healthy) == LOST
            said = outcome.of("sw.os-version", ODD).words
            assert fingerprint(lab, host) in said
            assert str(lab.known_hosts) in said
            assert lab.known_hosts.read_text() == known
        assert outcome.exit == 2
    finally:
        host.put("/etc/ssh/ssh_host_ed25519_key", old[0], 0o600)
        host.put("/etc/ssh/ssh_host_ed25519_key.pub", old[1])
        lab.restart_sshd(host)


def test_a_host_that_is_not_known_yet(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    host = lab.hosts[ODD]
    with known_hosts_kept(lab):
        others = [line for line in lab.known_hosts.read_text().splitlines() if not line.startswith(host.address)]
        without = "".join(f"{line}\n" for line in others)
        lab.known_hosts.write_text(without)
        outcome = operator.run(*CHECKS)
        assert outcome.changes(healthy) == LOST
        assert fingerprint(lab, host) in outcome.of("sw.os-version", ODD).words
        assert lab.known_hosts.read_text() == without
        accepted = operator.run(*CHECKS, "--accept-new-host-keys")
        assert accepted.changes(healthy) == {}
        added = lab.known_hosts.read_text().removeprefix(without).split()
        assert added[:3] == [host.address, *lab.host_key(host).split()]
        assert operator.run(*CHECKS).changes(healthy) == {}, "from now on it is known"


def test_a_login_that_is_refused(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with lab.hosts[ODD].changed(f"/home/{USER}/.ssh/authorized_keys", "# nobody\n"):
        outcome = operator.run(*CHECKS)
    assert outcome.changes(healthy) == LOST
    words = outcome.of("sw.os-version", ODD).words
    assert f"does not let {USER} in" in words
    assert "ssh-copy-id" in words


def test_an_sshd_that_does_not_run(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    host = lab.hosts[ODD]
    lab.stop_sshd(host)
    try:
        outcome = operator.run(*CHECKS)
    finally:
        lab.start_sshd(host)
    assert outcome.changes(healthy) == LOST
    assert f"{host.address}:22 refuses connections" in outcome.of("sw.os-version", ODD).words


@pytest.mark.parametrize(
    ("config", "verdict", "words"),
    [
        (SSHD.replace("PermitRootLogin no", "PermitRootLogin prohibit-password"), "fail", "without-password"),
        (SSHD.replace("PermitRootLogin no", "PermitRootLogin yes"), "fail", "root may log in: PermitRootLogin yes"),
        (SSHD.replace("PermitRootLogin no\n", ""), "fail", "without-password"),
        (SSHD + "Match Address 203.0.113.0/24\n  PermitRootLogin yes\n", "warn", "Address 203.0.113.0/24"),
        (SSHD + "Match Address 10.78.1.1\n  PermitRootLogin yes\n", "fail", "root may log in: PermitRootLogin yes"),
    ],
    ids=["prohibit-password", "yes", "not set", "a Match block for others", "a Match block for the controller"],
)
def test_root_logins(lab: Lab, operator: Operator, healthy: Outcome, config: str, verdict: str, words: str) -> None:
    with lab.sshd_config(lab.hosts[ODD], config):
        outcome = operator.run("hard.ssh-no-root", *CHECKS)
    assert outcome.changes(healthy) == {("hard.ssh-no-root", f"host:{ODD}"): verdict}
    assert words in outcome.of("hard.ssh-no-root", ODD).words


def test_a_root_login_that_succeeds(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """The file says no; the daemon that runs was started when it said yes."""
    host = lab.hosts[ODD]
    lab.authorize(host, "root")
    try:
        with lab.sshd_config(host, SSHD.replace("PermitRootLogin no", "PermitRootLogin yes")):
            host.put(SSHD_CONFIG, SSHD)
            outcome = operator.run("hard.ssh-no-root")
            host.put(SSHD_CONFIG, SSHD + "\n")
    finally:
        host.run("rm", "/root/.ssh/authorized_keys")
    assert outcome.changes(healthy) == {("hard.ssh-no-root", f"host:{ODD}"): "fail"}
    assert "a login as root with the operator's key succeeded" in outcome.of("hard.ssh-no-root", ODD).words


def test_passwords_that_are_still_accepted(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    with lab.sshd_config(lab.hosts[ODD], SSHD.replace("PasswordAuthentication no", "PasswordAuthentication yes")):
        outcome = operator.run("hard.ssh-keys")
    assert outcome.changes(healthy) == {("hard.ssh-keys", f"host:{ODD}"): "warn"}


def test_a_key_file_that_others_may_write(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    place = lab.hosts[ODD].place(f"/home/{USER}/.ssh/authorized_keys")
    with lab.sshd_config(lab.hosts[ODD], SSHD + "StrictModes no\n"):
        place.chmod(0o666)
        try:
            outcome = operator.run("hard.ssh-keys")
        finally:
            place.chmod(0o600)
    assert outcome.changes(healthy) == {("hard.ssh-keys", f"host:{ODD}"): "warn"}
    assert "authorized_keys" in outcome.of("hard.ssh-keys", ODD).words


def test_dstui_as_root_is_itself_the_proof(lab: Lab, operator: Operator) -> None:
    host = lab.hosts[ODD]
    lab.authorize(host, "root")
    hosts = [{"name": ODD, "group": "gpu", "roles": ["head"], "data_ip": host.address, "ssh": {"user": "root"}}]
    try:
        with lab.sshd_config(host, SSHD.replace("PermitRootLogin no", "PermitRootLogin yes")):
            outcome = operator.run("hard.ssh-no-root", inventory=lab.inventory("as-root", hosts=hosts))
    finally:
        host.run("rm", "/root/.ssh/authorized_keys")
    assert outcome.said() == {("hard.ssh-no-root", f"host:{ODD}"): "fail"}
    assert "dstui itself is logged in as root" in outcome.of("hard.ssh-no-root", ODD).words


def test_through_a_jump_host(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """The other hosts let only gpu-01 come near; the controller reaches them through it."""
    hop = {"host": ADDRESSES["gpu-01"]}
    hosts = [
        {"name": name, "group": "gpu", "roles": ["head" if name == "gpu-01" else "worker"],
         "data_ip": ADDRESSES[name], **({} if name == "gpu-01" else {"ssh": {"jump": [hop]}})}
        for name in NAMES
    ]  # fmt: skip
    away = "input ip saddr 10.78.1.0/24 tcp dport 22 drop"
    checks = (*CHECKS, "hard.ssh-no-root", "net.ports", "stor.rw-all-nodes", "hw.gpu-model")
    with lab.hosts["gpu-02"].packets(away), lab.hosts["gpu-03"].packets(away):
        blocked = operator.run(*CHECKS, inventory=lab.inventory("direct", ssh={"connect_timeout_s": 3}))
        outcome = operator.run(*checks, inventory=lab.inventory("jump", hosts=hosts))
    assert set(blocked.changes(healthy).values()) == {UNREACHABLE}
    assert outcome.changes(healthy) == {}
    assert "root login refused" in outcome.of("hard.ssh-no-root", ODD).words


def test_a_jump_host_that_is_down_is_what_is_named(lab: Lab, operator: Operator) -> None:
    inventory = lab.inventory("no-jump", jump=[{"host": ADDRESSES["gpu-01"]}], ssh={"connect_timeout_s": 3})
    with lab.link_down(lab.hosts["gpu-01"]):
        outcome = operator.run("sw.os-version", inventory=inventory)
    assert set(outcome.said().values()) == {UNREACHABLE}
    assert all(ADDRESSES["gpu-01"] in found.words and "jump host" in found.words for found in outcome)


def test_an_sshd_that_stops_in_the_middle(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """The host becomes UNKNOWN after its own deadline; what the others said is in the journal before that."""
    host = lab.hosts[ODD]
    log = host.place("/var/log/sshd.log")
    logins = log.read_text().count("Accepted publickey")
    inventory = lab.inventory("short", ssh={"host_timeout_s": 10})
    journal = operator.journal()
    checks = (*CHECKS, "hw.gpu-model", "hard.monitoring-logging")
    stopped: list[int] = []
    try:
        with operator.started(*checks, inventory=inventory, journal=journal) as run:
            wait_until(lambda: log.read_text().count("Accepted publickey") > logins, "the login")
            stopped = lab.sshd_processes(host)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            others = {f"host:{name}" for name in NAMES if name != ODD}
            wait_until(lambda: recorded(journal, "sw.os-version") >= others, "the findings of the other hosts", 30)
            assert run.process.poll() is None
            assert f"host:{ODD}" not in recorded(journal, "sw.os-version")
            outcome = run.outcome()
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    changes = outcome.changes(healthy)
    assert set(changes) == {(check, f"host:{ODD}") for check in checks}
    assert set(changes.values()) <= {UNREACHABLE, "unknown(timeout)"}
    assert outcome.exit == 2
    assert outcome.seconds < 60


def test_a_host_without_python(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """What sh can tell is judged; what needs Python is UNKNOWN(tool-missing), and nothing else."""
    host = lab.hosts[ODD]
    with no_python(host):
        outcome = operator.run("--section=hw", "--section=sw", "--section=net", "--section=stor", "--section=hard")
    missing = "unknown(tool-missing)"
    changes = outcome.changes(healthy)
    mine = {key: said for key, said in changes.items() if key[1] == f"host:{ODD}"}
    assert mine == {
        ("hw.gpu-model", f"host:{ODD}"): missing,
        # The shell sees the affinity of the real machine, which has fewer processors than the lab host claims.
        ("hw.cpu-cores", f"host:{ODD}"): "warn",
        # Only the kernel module says its version, NVML cannot be asked.
        ("sw.nvidia-driver", f"host:{ODD}"): "warn",
        ("sw.cuda", f"host:{ODD}"): missing,
        ("net.outbound", f"host:{ODD}"): missing,
        ("net.dns", f"host:{ODD}"): missing,
        ("hard.monitoring-logging", f"host:{ODD}"): missing,
    }
    rest = {key: said for key, said in changes.items() if key not in mine}
    pairs = {f"pair:{one}>{other}" for one in NAMES for other in NAMES if one != other and ODD in (one, other)}
    assert rest == {
        **{("net.ports", pair): missing for pair in pairs},
        ("stor.rw-all-nodes", "cluster:lab"): missing,
        ("stor.free-space", "cluster:lab"): missing,
    }


@contextmanager
def no_python(host: Host) -> Iterator[None]:
    """The system's Python gone; the service's own, in its venv, stays."""
    found = [f"/usr/bin/{place.name}" for place in host.place("/usr/bin").glob("python3.*[0-9]")]
    for path in found:
        host.run("mount", "--bind", "/dev/null", path)
    try:
        yield
    finally:
        for path in found:
            host.run("umount", path)


def test_a_slow_login_delays_no_other_host(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """As a shell start-up file that takes seconds does."""
    slow = SSHD + 'ForceCommand sleep 5; eval "$SSH_ORIGINAL_COMMAND"\n'
    with lab.sshd_config(lab.hosts[ODD], slow):
        outcome = operator.run("sw.os-version")
    assert outcome.changes(healthy) == {}
    at = {name: outcome.of("sw.os-version", name).observed_at for name in NAMES}
    assert at["gpu-01"] < at[ODD] - 2
    assert at["gpu-03"] < at[ODD] - 2
