"""Runs dstui as an operator on the jump host would, and reads what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dstui.events import Event, EventKind
from dstui.journal import Journal

from reallab.cluster import Lab, clean_environment

DSTUI = str(Path(sys.executable).with_name("dstui"))
RUN_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Found:
    """One finding of a report: `words` is everything that is said about it in English, observation first."""

    check: str
    target: str
    verdict: str
    reason: str | None
    words: str
    observed_at: float

    @classmethod
    def read(cls, check: str, row: Mapping[str, object]) -> Found:
        said = [row["observed"], row["rule"], *_list(row["notes"])]
        words = "\n".join(str(text["en"]) for text in said if isinstance(text, dict))
        reason, at = row["reason"], row["observed_at"]
        assert isinstance(at, float)
        return cls(
            check, str(row["target"]), str(row["verdict"]), None if reason is None else str(reason),
            f"{words}\n{row['detail']}", at,
        )  # fmt: skip

    @property
    def said(self) -> str:
        return self.verdict if self.reason is None else f"{self.verdict}({self.reason})"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one `dstui run` came to. `seconds` is wall time."""

    exit: int
    seconds: float
    report: Mapping[str, object]
    errors: str

    def __iter__(self) -> Iterator[Found]:
        for check in _list(self.report["checks"]):
            assert isinstance(check, dict)
            yield from (Found.read(str(check["id"]), row) for row in _list(check["findings"]))

    def check(self, check_id: str) -> Mapping[str, object]:
        return next(c for c in _list(self.report["checks"]) if isinstance(c, dict) and c["id"] == check_id)

    def of(self, check: str, target: str) -> Found:
        """The finding on a host (`gpu-01`), a pair (`gpu-01>gpu-02`), or under a whole target key."""
        key = target if ":" in target else f"pair:{target}" if ">" in target else f"host:{target}"
        return next(found for found in self if found.check == check and found.target == key)

    def said(self) -> dict[tuple[str, str], str]:
        """Check and target → verdict, with the reason in brackets where there is one."""
        return {(found.check, found.target): found.said for found in self}

    def changes(self, healthy: Outcome) -> dict[tuple[str, str], str]:
        """What is not as it was while nothing was wrong; every other finding of this run is the same."""
        before = healthy.said()
        return {key: said for key, said in self.said().items() if before.get(key) != said}


class Operator:
    """Somebody with a terminal on the controller. Every run has a journal of its own unless one is named."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab = lab
        self.home = home
        self._runs = 0

    def argv(self, command: str, inventory: Path, journal: Path, *words: str) -> list[str]:
        return [DSTUI, command, "-i", str(inventory), "--journal", str(journal), *words]

    def journal(self) -> Path:
        self._runs += 1
        return self.home / f"journal-{self._runs}.db"

    def run(self, *words: str, inventory: Path | None = None, journal: Path | None = None) -> Outcome:
        """`dstui run` with a JSON report. `words` that are no options are check ids."""
        with self.started(*words, inventory=inventory, journal=journal) as run:
            return run.outcome()

    def started(self, *words: str, inventory: Path | None = None, journal: Path | None = None) -> Run:
        """The same, going on while the test does something else."""
        checks = [part for word in words if not word.startswith("-") for part in ("--check", word)]
        options = [word for word in words if word.startswith("-")]
        file = inventory or self.lab.inventory()
        argv = self.argv("run", file, journal or self.journal(), "--output=json", *checks, *options)
        return Run(argv, clean_environment(self.home))

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        env = clean_environment(self.home)
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, cwd=self.home)


class Run:
    """A `dstui run` under way; leaving it without an outcome ends it."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def outcome(self) -> Outcome:
        said, errors = self.process.communicate(timeout=RUN_SECONDS)
        assert said, f"dstui run said nothing, exit {self.process.returncode}: {errors}"
        return Outcome(self.process.returncode, time.monotonic() - self._started, json.loads(said), errors)


def events(file: Path) -> list[Event]:
    """The rows of a journal as another process reads them; none when it is not there yet."""
    if not file.exists():
        return []
    journal = Journal(file, "lab")
    try:
        return list(journal.read())
    finally:
        journal.close()


def recorded(file: Path, check: str) -> set[str]:
    """Targets of a check that have a finding in a journal."""
    findings = (event.payload for event in events(file) if event.kind == EventKind.FINDING)
    return {str(row["target"]) for row in findings if row["check"] == check}
