"""An operator's evening in the app itself: run, walk to the red, sign, waive, note, export, leave; and a kill -9."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstui.events import Event, EventKind

from reallab.cluster import Lab, clean_environment
from reallab.machine import DOCKER, docker
from reallab.operator import DSTUI, Operator, events
from reallab.terminal import Terminal

pytestmark = pytest.mark.real

ODD = "gpu-02"
SIZE = (120, 40)


@pytest.fixture
def journal(operator: Operator) -> Path:
    return operator.journal()


@pytest.fixture
def one_red(lab: Lab) -> Iterator[None]:
    """Docker is too old on one machine, and nothing else is wrong."""
    with lab.hosts[ODD].changed(DOCKER, docker("20.10.24")):
        yield


def app(lab: Lab, journal: Path, home: Path) -> Terminal:
    argv = [DSTUI, "-i", str(lab.inventory()), "--journal", str(journal), "--lang", "en"]
    return Terminal(argv, clean_environment(home), home, size=SIZE)


def run_all(terminal: Terminal) -> str:
    terminal.wait_for(r"3 hosts · 24 GPU")
    terminal.press("R")
    return terminal.wait_for(r"run 1 finished")


def recorded_as(terminal: Terminal, words: str) -> int:
    """The number of the row that the screen says something was recorded as."""
    pattern = rf"Recorded as #(\d+): {words}"
    found = re.search(pattern, terminal.wait_for(pattern))
    assert found is not None
    return int(found[1])


def row(journal: Path, seq: int) -> Event:
    return next(event for event in events(journal) if event.seq == seq)


def sign(terminal: Terminal, check: str) -> int:
    terminal.press("/")
    terminal.wait_for("search: id, title")
    terminal.fill(check)
    terminal.press("Enter")
    terminal.wait_for(rf"╭─ {re.escape(check)} ─")
    terminal.press("s")
    terminal.wait_for("─ Sign off ─")
    terminal.fill("SRE lead", "counted the DIMMs")
    terminal.press("C-s")
    return recorded_as(terminal, rf"ops signed {re.escape(check)}")


def test_the_journey(lab: Lab, journal: Path, tmp_path: Path, one_red: None) -> None:
    with app(lab, journal, tmp_path) as terminal:
        screen = run_all(terminal)
        assert re.search(r"✗ \d", screen) and "SHUT" in screen
        assert "SSH 3/3" in screen

        terminal.press("n")
        screen = terminal.wait_for(r"╭─ sw\.docker ─")
        assert "FAIL on 1 of 3 hosts" in screen
        assert f"{ODD}  ✗ FAIL     server 20.10.24" in screen

        terminal.press("Enter")
        screen = terminal.wait_for(r"Rule +server 20\.10\.24 is older than 24\.0\.0")
        assert f"› ✗ {ODD}" in screen
        terminal.press("2")
        terminal.wait_for(r"\$ docker --version")
        terminal.press("Escape")
        terminal.wait_for("─ Checklist ─")

        terminal.press("w")
        terminal.wait_for("─ Waive ─")
        terminal.fill("zhang.wei", "replaced on Monday", "OPS-7", "+30d")
        terminal.press("C-s")
        waived = row(journal, recorded_as(terminal, r"sw\.docker is waived"))
        assert waived.kind == EventKind.WAIVER
        assert waived.payload["approver"] == "zhang.wei" and waived.payload["reason"] == "replaced on Monday"
        terminal.wait_for(r"w 1\b")

        terminal.press("o")
        terminal.wait_for("─ Add a note ─")
        terminal.fill("see the [b]change[/b] calendar")
        terminal.press("C-s")
        noted = row(journal, recorded_as(terminal, r"note on sw\.docker"))
        assert noted.kind == EventKind.NOTE
        assert noted.payload["text"] == "see the [b]change[/b] calendar"

        signed = row(journal, sign(terminal, "hw.memory"))
        assert signed.kind == EventKind.ATTESTATION
        assert signed.payload["person"] == "ops" and signed.payload["role"] == "SRE lead"
        terminal.wait_for(r"Memory +signed")

        terminal.press("e")
        terminal.wait_for("─ Export the report ─")
        terminal.press("C-s")
        exported = row(journal, recorded_as(terminal, "wrote"))
        assert exported.kind == EventKind.EXPORT

        terminal.press("q")
        assert terminal.exit_code() == 0

    (report,) = tmp_path.glob("*.md")
    text = report.read_text()
    assert "- [x] Every server has at least 256 GB of RAM" in text
    assert "signed by ops (SRE lead)" in text
    assert f"#{signed.seq}" in text and f"#{waived.seq}" in text
    assert "server 20.10.24, client 27.5.1" in text
    assert "zhang.wei" in text and "OPS-7" in text
    assert r"\[b\]change" in text or "[b]change[/b]" in text
    assert not any(line.startswith("- [x]") and "Docker Engine" in line for line in text.splitlines())


def test_the_app_killed_after_a_signature(lab: Lab, journal: Path, tmp_path: Path) -> None:
    """What the screen said is recorded is there when the app is started again."""
    with app(lab, journal, tmp_path) as terminal:
        run_all(terminal)
        seq = sign(terminal, "hw.memory")
        os.kill(terminal.program, signal.SIGKILL)
        assert terminal.exit_code() == 128 + signal.SIGKILL
    assert row(journal, seq).kind == EventKind.ATTESTATION
    with app(lab, journal, tmp_path) as terminal:
        terminal.wait_for(r"s 1\b")
        terminal.wait_for(r"Memory +signed")
        terminal.press("q")
        assert terminal.exit_code() == 0


def test_quit_asks_only_while_something_runs(lab: Lab, journal: Path, tmp_path: Path) -> None:
    """Stopped in the middle, what had settled is recorded, and the run can be gone on with."""
    listener = next(pid for pid, line in lab.hosts[ODD].processes().items() if "[listener]" in line)
    os.kill(listener, signal.SIGSTOP)
    try:
        with app(lab, journal, tmp_path) as terminal:
            terminal.wait_for(r"3 hosts · 24 GPU")
            terminal.press("R")
            terminal.wait_for(r"gpu-02.*connecting|connecting.*gpu-02|waits for gpu-02|gpu-02 …|waiting.*gpu-02")
            terminal.press("q")
            terminal.wait_for("y   ")
            terminal.press("y")
            assert terminal.exit_code() == 0
    finally:
        os.kill(listener, signal.SIGCONT)
    kinds = [event.kind for event in events(journal)]
    assert EventKind.RUN_STARTED in kinds and EventKind.RUN_FINISHED not in kinds
