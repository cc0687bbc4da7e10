"""The embedded fleet, over real SSH: what is wrong with each host shows, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dstui.catalogue import load_catalogue
from dstui.demo import open_demo
from dstui.demo.cast import Character, cast
from dstui.model import Lang, Reason, Target, TargetKind, UsageError, Verdict, host_target, pair_target
from dstui.report import render

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
SECTIONS = ("hw", "sw", "net", "stor", "hard")
CHECKS = tuple(check.id for check in load_catalogue().checks if check.section in SECTIONS)
PAIRWISE = ("net.peer-ping", "net.ports")
WHOLE = ("stor.rw-all-nodes", "stor.free-space", "hard.security-group")
EACH_HOST = tuple(check for check in CHECKS if check not in (*PAIRWISE, *WHOLE))
CLUSTER = Target(TargetKind.CLUSTER, "demo-fleet")
ORGANISATION = Target(TargetKind.ORGANISATION, "demo-fleet")
JUNE_2026 = 1_780_300_000.0
"""Verdicts on ends of support depend on the date."""

Key = tuple[str, Target]


@dataclass
class Seen:
    """What a run over a fleet left to look at."""

    verdicts: dict[Key, tuple[Verdict, Reason | None]] = field(default_factory=dict)
    rules: dict[Key, str] = field(default_factory=dict)
    phases: list[tuple[str, str]] = field(default_factory=list)
    simulated: list[bool] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()
    threads: set[str] = field(default_factory=set)


async def perform(hosts: int) -> Seen:
    seen = Seen()
    engine = await open_demo(hosts, clock=lambda: JUNE_2026)
    try:
        seen.folder = engine.journal_path.parent
        assert (seen.folder / "inventory.yaml").exists()

        def watch() -> None:
            for name, host in engine.progress.hosts.items():
                if (name, host.phase) not in seen.phases:
                    seen.phases.append((name, host.phase))

        engine.subscribe(watch)
        await engine.run(CHECKS)
        for check in CHECKS:
            for finding in engine.checklist().statuses[check].findings:
                seen.verdicts[check, finding.target] = (finding.verdict, finding.reason)
                said = " ".join(text.en for text in (finding.observed, finding.rule, *finding.notes))
                seen.rules[check, finding.target] = said
                seen.simulated.append(finding.simulated)
        seen.simulated += [engine.simulated, engine.site.simulated, engine.journal.simulated]
        seen.reports = {form: render(engine.snapshot(Lang.EN), form) for form in ("markdown", "json")}
    finally:
        await engine.aclose()
    seen.threads = {thread.name for thread in threading.enumerate()}
    return seen


def quickly(hosts: int) -> Seen:
    """As `perform`, with the hosts' hesitation cut to a quarter."""
    delay = Character.delay
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Character, "delay", lambda self, what: delay(self, what) / 4)
        return asyncio.run(perform(hosts))


@pytest.fixture(scope="module")
def eight() -> Seen:
    return quickly(8)


@pytest.fixture(scope="module")
def sixteen() -> Seen:
    return quickly(16)


def expected_of_eight() -> dict[Key, tuple[Verdict, Reason | None]]:
    """Every finding of the fleet of eight: PASS, but for what each host's story makes of it."""
    names = [f"gpu-{n:02d}" for n in range(1, 9)]
    lost, no_python = (UNKNOWN, Reason.UNREACHABLE), (UNKNOWN, Reason.TOOL_MISSING)
    expected: dict[Key, tuple[Verdict, Reason | None]] = {}
    for check in EACH_HOST:
        expected |= {(check, host_target(name)): (PASS, None) for name in names}
        expected[check, host_target("gpu-05")] = lost
    for source in names:
        for peer in names:
            if source != peer:
                pair = pair_target(source, peer)
                # gpu-05 refuses SSH, but is alive: the others ping it.
                expected["net.peer-ping", pair] = lost if source == "gpu-05" else (PASS, None)
                # Where both ends could not take part, the first of them is the reason.
                gone = [end for end in (source, peer) if end in ("gpu-05", "gpu-07")]
                holes = {"gpu-05": lost, "gpu-07": no_python}
                expected["net.ports", pair] = holes[gone[0]] if gone else (PASS, None)
    expected["net.ports", CLUSTER] = (PASS, None)
    expected["sw.nvidia-driver", host_target("gpu-02")] = (FAIL, None)
    expected["hw.memory", host_target("gpu-03")] = (FAIL, None)
    expected["stor.shared-dir", host_target("gpu-04")] = (FAIL, None)
    expected["stor.shared-service", host_target("gpu-04")] = (FAIL, None)
    expected["stor.rw-all-nodes", CLUSTER] = (FAIL, None)
    expected["stor.free-space", CLUSTER] = (UNKNOWN, Reason.BLOCKED_BY)
    expected["hard.security-group", ORGANISATION] = lost
    for check in ("net.outbound", "net.dns", "hard.monitoring-logging"):
        expected[check, host_target("gpu-07")] = no_python
    expected["hard.ssh-no-root", host_target("gpu-08")] = (FAIL, None)
    return expected


def test_every_finding_on_eight_hosts(eight: Seen) -> None:
    assert len(CHECKS) == 25
    assert eight.verdicts == expected_of_eight()


@pytest.mark.parametrize(
    ("check", "target", "words"),
    [
        ("sw.nvidia-driver", host_target("gpu-02"), "535.54.03 is older than 535.104.05"),
        ("hw.memory", host_target("gpu-03"), "125.8 GiB MemTotal"),
        ("stor.shared-dir", host_target("gpu-04"), "lies on the root filesystem"),
        ("stor.shared-service", host_target("gpu-04"), "ext4 is a local filesystem"),
        ("stor.rw-all-nodes", CLUSTER, "gpu-01 does not read: gpu-04 absent"),
        ("hw.gpu-model", host_target("gpu-05"), "refuses connections"),
        ("hw.gpu-model", host_target("gpu-07"), "8 × NVIDIA H100 80GB HBM3 (nvidia-smi)"),
        ("net.dns", host_target("gpu-07"), "python3"),
        ("hard.ssh-no-root", host_target("gpu-08"), "a login as root with the operator's key succeeded"),
        ("hard.ssh-no-root", host_target("gpu-01"), "root login refused"),
        ("hw.nic-speed", host_target("gpu-01"), "bond0 (ens6f0np0, ens6f1np1) 200 Gb/s"),
        ("hw.ssd-capacity", host_target("gpu-01"), "SSD"),
    ],
)
def test_the_reason_is_told(eight: Seen, check: str, target: Target, words: str) -> None:
    assert words in eight.rules[check, target]


def test_a_host_that_is_lost_or_slow_keeps_no_one_waiting(eight: Seen) -> None:
    ended = [name for name, phase in eight.phases if phase in ("done", "unreachable")]
    assert ended[0] == "gpu-05"
    assert ended[-1] == "gpu-06"
    assert sorted(ended) == [f"gpu-{n:02d}" for n in range(1, 9)]


def test_everything_is_marked_as_simulated(eight: Seen) -> None:
    assert all(eight.simulated)
    assert "SIMULATED" in eight.reports["markdown"]
    assert "SIMULATED" in eight.reports["json"] or '"simulated": true' in eight.reports["json"]


@pytest.mark.parametrize("form", ["markdown", "json"])
def test_no_key_or_address_of_the_operator_is_in_a_report(eight: Seen, form: str) -> None:
    assert "PRIVATE KEY" not in eight.reports[form]
    assert str(Path.home() / ".ssh") not in eight.reports[form]


def test_nothing_is_left_behind(eight: Seen) -> None:
    assert not eight.folder.exists()
    assert not {"dstui-demo", "dstui-journal"} & eight.threads


def test_one_host_is_healthy() -> None:
    seen = quickly(1)
    assert {verdict for verdict, _ in seen.verdicts.values()} <= {PASS, Verdict.NOT_APPLICABLE}
    assert {check for (check, _), (verdict, _) in seen.verdicts.items() if verdict is not PASS} == {
        "hw.nic-speed",
        "net.peer-ping",
        "hard.security-group",
    }
    assert {check for check, _ in seen.verdicts} == set(CHECKS)


STORIES: Mapping[str, Mapping[str, tuple[Verdict, str]]] = {
    "gpu-09": {"sw.docker": (WARN, "24.0.0~rc1 is a pre-release")},
    "gpu-10": {},
    "gpu-11": {
        "hw.gpu-model": (FAIL, "8 GPUs on the PCI bus, 7 answer"),
        "hard.monitoring-logging": (FAIL, "series for 7 of 8 GPUs"),
    },
    "gpu-12": {"hard.firewall": (FAIL, "open from outside: 9100, 9400")},
    "gpu-13": {"net.static-ip": (FAIL, "is leased")},
    "gpu-14": {"hard.monitoring-logging": (FAIL, "no log agent works")},
    "gpu-15": {"hard.ssh-keys": (WARN, "passwords are still accepted")},
    "gpu-16": {"sw.python": (FAIL, "3.12.4 differs from other Ray nodes")},
}


def test_the_other_stories(sixteen: Seen) -> None:
    for name, points in STORIES.items():
        for check in EACH_HOST:
            verdict, words = points.get(check, (PASS, ""))
            assert sixteen.verdicts[check, host_target(name)] == (verdict, None), (check, name)
            assert words in sixteen.rules[check, host_target(name)]


def test_blocked_icmp_is_seen_by_the_others_only(sixteen: Seen) -> None:
    pings = {target.name: found for (check, target), found in sixteen.verdicts.items() if check == "net.peer-ping"}
    assert pings["gpu-01>gpu-10"] == (WARN, None)
    assert pings["gpu-10>gpu-01"] == (PASS, None)


def test_the_same_fleet_gives_the_same_verdicts(eight: Seen, sixteen: Seen) -> None:
    assert cast(8) == cast(16)[:8]
    common = [key for key in eight.verdicts if key[0] in EACH_HOST]
    assert {key: eight.verdicts[key] for key in common} == {key: sixteen.verdicts[key] for key in common}
    assert all(host.story == "healthy" for host in cast(64)[16:])


def test_hosts_take_their_time_and_the_same_time_always() -> None:
    for host in cast(64):
        delays = [host.delay(what) for what in ("os.self", "gpu.nvml", "sw.ctk", "storage.share")]
        assert delays == [host.delay(what) for what in ("os.self", "gpu.nvml", "sw.ctk", "storage.share")]
        low, high = (1.3, 1.6) if host.name == "gpu-06" else (0.05, 0.4)
        assert all(low <= delay <= high for delay in delays)
    assert len({host.delay("os.self") for host in cast(64)}) == 64


@pytest.mark.parametrize("hosts", [0, 65, -1])
async def test_a_fleet_has_1_to_64_hosts(hosts: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 64"):
        await open_demo(hosts)


def open_sockets() -> set[str]:
    """The sockets that this process has open, by their names in /proc."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return {name for name in found if name.startswith("socket:")}


def names_and_modes(place: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}


async def test_open_and_close_leave_no_socket_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_sockets()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = await open_demo(2)
    assert names_and_modes(tmp_path) == {engine.journal_path.parent.name: 0o700}
    await engine.aclose()
    await engine.aclose()
    assert names_and_modes(tmp_path) == {}
    assert open_sockets() == before
    assert not {"dstui-demo", "dstui-journal"} & {thread.name for thread in threading.enumerate()}


async def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_sockets()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("dstui.demo.stage.validate_thresholds", refuse)
    with pytest.raises(UsageError, match="refused"):
        await open_demo(3)
    assert names_and_modes(tmp_path) == {}
    assert open_sockets() == before
    assert "dstui-demo" not in {thread.name for thread in threading.enumerate()}


def refuse(*_: object) -> None:
    raise UsageError("refused")


LEFT_OPEN = """
import asyncio, sys
from dstui.demo import open_demo
engine = asyncio.run(open_demo(2))
print(engine.journal_path.exists())
"""


def test_an_interpreter_that_ends_without_closing_removes_it_all(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert list(tmp_path.iterdir()) == []
