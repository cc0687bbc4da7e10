"""How a headless run shows itself: Rich progress on a terminal, one plain line per settled check in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dstui.engine import Engine
from dstui.model import Lang
from dstui.report.words import MARKS, REASONS, VERDICTS


class RunPrinter(Protocol):
    """Shown while a run goes on; `update` is called after any change."""

    def __enter__(self) -> RunPrinter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self) -> None: ...


def printer(engine: Engine, ids: Sequence[str], lang: Lang, *, quiet: bool) -> RunPrinter:
    """Progress goes to standard error when standard output carries JSON."""
    stream = sys.stderr if quiet else sys.stdout
    if stream.isatty():
        return _Bar(engine, lang, Console(file=stream))
    return _Lines(engine, ids, lang, quiet)


class _Lines:
    """Plain lines, each when its check has settled, so that a log reads in order of time."""

    def __init__(self, engine: Engine, ids: Sequence[str], lang: Lang, quiet: bool) -> None:
        self._engine = engine
        self._ids = ids
        self._lang = lang
        self._quiet = quiet
        self._said: set[str] = set()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def update(self) -> None:
        run = self._engine.state.runs.get(self._engine.progress.run)
        if self._quiet or run is None:
            return
        fresh = [check_id for check_id in self._ids if check_id in run.settled - self._said]
        if not fresh:
            return
        statuses = self._engine.checklist().statuses
        for check_id in fresh:
            self._said.add(check_id)
            status = statuses[check_id]
            reason = f" ({REASONS[status.reason][self._lang]})" if status.reason else ""
            word = VERDICTS[status.verdict][self._lang]
            title = status.check.title[self._lang]
            sys.stdout.write(f"{MARKS[status.verdict]} {word}{reason}\t{check_id}\t{title}\n")
        sys.stdout.flush()


class _Bar:
    """One bar with what it waits for."""

    def __init__(self, engine: Engine, lang: Lang, console: Console) -> None:
        self._engine = engine
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[waiting]}", markup=False),
            console=console,
            transient=True,
        )
        words = ("checks", "waiting for") if lang is Lang.EN else ("检查", "等待")
        self._waiting_word = words[1]
        self._task: TaskID = self._bar.add_task(words[0], total=None, waiting="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self) -> None:
        progress = self._engine.progress
        waiting = progress.waiting_hosts()
        shown = ", ".join(waiting[:3]) + (f" +{len(waiting) - 3}" if len(waiting) > 3 else "")
        text = f"{self._waiting_word} {shown}" if waiting else ""
        self._bar.update(self._task, total=progress.total or None, completed=progress.done, waiting=text)
