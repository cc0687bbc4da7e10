"""kill -9 at any moment loses nothing that was shown as recorded, and leaves nothing behind on the hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from dstui.events import Event, EventKind

from reallab.cluster import NAMES, Lab, clean_environment
from reallab.host import Host, wait_until
from reallab.operator import Operator, Outcome, events

pytestmark = pytest.mark.real

ODD = "gpu-02"
SECTIONS = tuple(f"--section={section}" for section in ("hw", "sw", "net", "stor", "hard"))
PLACES = ("/tmp", "/var/tmp", "/dev", "/home/dstui", "/run", "/mnt/deepseek-shared")


def traces(host: Host) -> dict[str, object]:
    """Files where a program might leave some, processes and listeners."""
    # On the share files of other hosts may go while it looks.
    find = 'find "$@" -xdev ! -path "/run/sysfs/*" ! -path "/run/sudo*" 2>/dev/null || true'
    files = host.run("sh", "-c", find, "sh", *PLACES).split()
    listeners = {line.split()[3] for line in host.run("ss", "-Hltun").splitlines()}
    return {"files": set(files), "processes": sorted(host.processes().values()), "listeners": listeners}


def quiet(host: Host) -> bool:
    """No session is open: sshd has only its listener."""
    return not any(line.startswith("sshd: dstui") for line in host.processes().values())


def wait_until_quiet(lab: Lab) -> None:
    for name in NAMES:
        wait_until(lambda name=name: quiet(lab.hosts[name]), f"the sessions on {name} to end")


def test_a_run_leaves_nothing_behind(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    wait_until_quiet(lab)
    before = {name: traces(lab.hosts[name]) for name in NAMES}
    assert operator.run(*SECTIONS).changes(healthy) == {}
    wait_until_quiet(lab)
    assert {name: traces(lab.hosts[name]) for name in NAMES} == before


def test_killed_in_the_middle(lab: Lab, operator: Operator, healthy: Outcome) -> None:
    """Port listeners and nonces are out when it dies. The hosts clean up; the next run goes on where this one was."""
    wait_until_quiet(lab)
    before = {name: traces(lab.hosts[name]) for name in NAMES}
    journal = operator.journal()
    # Without echo replies the run stays open for some seconds, so that it is killed for certain before its end.
    silence = lab.hosts[ODD].packets("input icmp type echo-request drop")
    with silence, operator.started(*SECTIONS, journal=journal) as run:
        wait_until(lambda: settled(events(journal)), "a check that has settled")
        assert run.process.poll() is None
        os.kill(run.process.pid, signal.SIGKILL)
        run.process.wait()
    shown = events(journal)
    assert not any(event.kind == EventKind.RUN_FINISHED for event in shown)
    wait_until_quiet(lab)
    for name in NAMES:
        wait_until(lambda name=name: traces(lab.hosts[name]) == before[name], f"{name} to be clean again")

    outcome = operator.run(*SECTIONS, journal=journal)

    assert outcome.changes(healthy) == {}
    after = events(journal)
    assert after[: len(shown)] == shown, "every row is as it was"
    assert after[len(shown)].kind == EventKind.RUN_RESUMED
    assert {event.run for event in after if event.run} == {1}
    again = {event.payload["check"] for event in after[len(shown) :] if event.kind == EventKind.FINDING}
    assert not again & settled(shown), "what had settled was not asked again"
    verified = operator.call(*operator.argv("verify", lab.inventory(), journal))
    assert verified.returncode == 0, verified.stdout
    assert "chain intact" in verified.stdout


def settled(rows: Sequence[Event]) -> set[object]:
    return {row.payload["check"] for row in rows if row.kind == EventKind.CHECK_SETTLED}


SIGN_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from dstui.opening import Options, open_engine

async def sign():
    engine = await open_engine(Options(Path(sys.argv[1]), journal=Path(sys.argv[2])))
    await engine.run(["hw.memory"])
    event = await engine.sign("hw.memory", person=engine.identity.person, role="SRE", note="counted them", link="")
    print(event.seq, event.hash, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(sign())
"""


def test_killed_right_after_a_signature(lab: Lab, operator: Operator) -> None:
    """What `sign` returned is on disk."""
    journal = operator.journal()
    argv = [sys.executable, "-c", SIGN_AND_DIE, str(lab.inventory()), str(journal)]
    died = subprocess.run(argv, env=clean_environment(operator.home), capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr
    seq, digest = died.stdout.split()
    row = next(event for event in events(journal) if event.seq == int(seq))
    assert row.hash == digest
    assert row.kind == EventKind.ATTESTATION

    outcome = operator.run("hw.memory", journal=journal)

    (signature,) = outcome.check("hw.memory")["signatures"]
    assert signature["person"] == "ops"
    assert signature["note"] == "counted them"
    assert signature["seq"] == int(seq)
    assert operator.call(*operator.argv("verify", lab.inventory(), journal)).returncode == 0
