"""`dstui watch` and `dstui replay`: the live view without the app, as text or as the lines of a recording."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from dstui.model import DstuiError, Lang, UsageError
from dstui.options import Options
from dstui.telemetry import live_log
from dstui.telemetry.live import Live
from dstui.telemetry.live_status import loss_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.recording import Recorder, Recording, header_line, record_line, with_events
from dstui.telemetry.replay import Replay, checked_speed
from dstui.telemetry.watched import Watched
from dstui.watch_lines import block, event_line, summary, words

EXIT_FINE, EXIT_NOTHING_ANSWERED = 0, 2

SLOWEST_PAINT = 1.0
"""Text is renewed every interval, but not more often than this when nobody looks at a terminal."""

_CLOSE_SECONDS = 10.0
_REASONS_SHOWN = 3

Emit = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class Watching:
    """Something to watch: `run` emits records until it is cancelled, `aclose` ends what it was made of."""

    watched: Watched
    run: Callable[[Emit], Awaitable[None]]
    aclose: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of it: `output` text or json, a file to `record` into, for how many `seconds` (None: for ever)."""

    output: str = "text"
    record: Path | None = None
    seconds: float | None = None
    lang: Lang = Lang.EN


def watch(options: Options, wanted: Wanted, *, interval: float = 1.0) -> int:
    """Watches an inventory's hosts every `interval` seconds, its Ray and its vLLM. 2 when nothing ever answered.

    Raises UsageError, InventoryError.
    """
    if not options.inventory.exists():
        raise UsageError(f"{options.inventory}: no such file. Write one with `dstui init`, or name one with -i.")
    return watch_opened(lambda: _open(options, interval), wanted)


def watch_opened(opening: Callable[[], Awaitable[Watching]], wanted: Wanted) -> int:
    """The same for whatever `opening` gives: the embedded fleet has its own."""
    if wanted.seconds is not None and not 0 < wanted.seconds < float("inf"):
        raise UsageError(f"--seconds {wanted.seconds:g}: a number above 0")
    return asyncio.run(_watch(opening, wanted))


def replay(file: Path, *, speed: float = 1.0, output: str = "text", lang: Lang = Lang.EN) -> int:
    """Shows a recording as `watch` would have. Raises UsageError with file and line."""
    checked_speed(speed)
    return asyncio.run(_replay(Recording(file), speed, output, lang))


async def _open(options: Options, interval: float) -> Watching:
    """What an inventory has to be watched."""

    def put_together() -> Watching:
        # asyncssh and pydantic cost more to import than all else together.
        from dstui.gather.hoststream import FASTEST, SLOWEST
        from dstui.gather.ssh import Links
        from dstui.inventory import load_inventory
        from dstui.telemetry.sources import Sources, watched_of

        if not FASTEST <= interval <= SLOWEST:
            raise UsageError(f"--interval {interval:g}: hosts give a sample every {FASTEST:g} to {SLOWEST:g} s")
        inventory = load_inventory(options.inventory)
        watched = watched_of(inventory, interval=interval)
        links = Links(
            inventory.ssh_for,
            max_parallel=inventory.ssh.max_parallel,
            accept_new_host_keys=options.accept_new_host_keys,
        )

        def run(emit: Emit) -> Awaitable[None]:
            return Sources(inventory, watched, links, emit).run()

        return Watching(watched, run, links.aclose)

    return await asyncio.to_thread(put_together)


@dataclass(slots=True)
class _Session:
    """One watching or replaying: where lines go, and what ends it. Nothing here raises into a source's task."""

    out: TextIO
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    fault: DstuiError | None = None
    answered: bool = False
    losses: dict[str, str] = field(default_factory=dict)

    def line(self, text: str) -> None:
        """Prints a line; when the reader has gone, that is the end and no fault."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError:
            self.ended.set()
            # What is still buffered would be written, and fail, when the interpreter ends.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())

    def guarded(self, emit: Emit, lang: Lang) -> Emit:
        """Ends the session when a record cannot be written; notes who answers."""

        def take(record: Record) -> None:
            if record.kind is RecordKind.SAMPLE:
                self.answered = True
            elif record.kind is RecordKind.LOST:
                self.losses[record.source] = loss_of(record.at, record.data).why[lang]
            if self.ended.is_set():
                return
            try:
                emit(record)
            except DstuiError as error:
                self.fault = error
                self.ended.set()

        return take

    def outcome(self, lang: Lang) -> int:
        """The exit code; says what did not answer when nothing did."""
        if self.fault is not None:
            raise self.fault
        if self.answered:
            return EXIT_FINE
        say = words(lang)
        reasons = list(dict.fromkeys(self.losses.values()))
        more = f" (+{len(reasons) - _REASONS_SHOWN})" if len(reasons) > _REASONS_SHOWN else ""
        because = ": " + "; ".join(reasons[:_REASONS_SHOWN]) + more if reasons else ""
        sys.stderr.write("dstui: " + say("nothing answered", "没有任何来源应答") + because + "\n")
        return EXIT_NOTHING_ANSWERED


async def _watch(opening: Callable[[], Awaitable[Watching]], wanted: Wanted) -> int:
    session = _Session(sys.stdout)
    with _until_interrupted(session):
        watching = await opening()
        try:
            live = Live(watching.watched)
            with contextlib.ExitStack() as open_files:
                sinks: list[Emit] = []
                if wanted.record is not None:
                    sinks.append(open_files.enter_context(Recorder(wanted.record, watching.watched)).write)
                if wanted.output == "json":
                    session.line(header_line(watching.watched))
                    sinks.append(lambda record: session.line(record_line(record)))
                emit = session.guarded(with_events(live, lambda record: _to_all(sinks, record)), wanted.lang)
                async with _painted(session, live, wanted, time.time):
                    await _first_of(watching.run(emit), session.ended.wait(), seconds=wanted.seconds)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await watching.aclose()
    return session.outcome(wanted.lang)


def _to_all(sinks: list[Emit], record: Record) -> None:
    for sink in sinks:
        sink(record)


async def _replay(recording: Recording, speed: float, output: str, lang: Lang) -> int:
    session = _Session(sys.stdout, answered=True)
    live = Live(recording.watched)

    def emit(record: Record) -> None:
        live.feed(record)
        if output == "json":
            session.line(record_line(record))

    if output == "json":
        session.line(header_line(recording.watched))
    running = Replay(recording, session.guarded(emit, lang), restart=live.clear, speed=speed)
    with _until_interrupted(session):
        async with _painted(session, live, Wanted(output, lang=lang), lambda: running.position):
            await _first_of(running.run(), session.ended.wait(), seconds=None)
    return session.outcome(lang)


async def _first_of(*waiting: Awaitable[object], seconds: float | None) -> None:
    """Waits for the first to end, or for the time to pass; cancels the others and waits for their end."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _until_interrupted(session: _Session) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the session in good order; a second one ends the process as usual."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)

    def end() -> None:
        session.ended.set()
        for number in caught:
            loop.remove_signal_handler(number)

    for number in caught:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _painted(session: _Session, live: Live, wanted: Wanted, now: Callable[[], float]) -> AsyncIterator[None]:
    """Shows the live view as text meanwhile, and once more at the end."""
    if wanted.output != "text":
        yield
        return
    interval = live.watched.interval("host")
    terminal = session.out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    painter = _Painter(session, live, wanted.lang, now, in_place=terminal)
    task = asyncio.create_task(painter.keep_painting(interval if terminal else max(interval, SLOWEST_PAINT)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        painter.paint()


class _Painter:
    """Events as lines that stay; below them a block that is drawn anew in place, or a line each time in a pipe."""

    def __init__(self, session: _Session, live: Live, lang: Lang, now: Callable[[], float], *, in_place: bool) -> None:
        self._session = session
        self._live = live
        self._lang = lang
        self._now = now
        self._in_place = in_place
        self._drawn = 0
        self._told = 0

    async def keep_painting(self, interval: float) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(interval)
            self.paint()

    def paint(self) -> None:
        if self._live.fed_at is None or (self._session.ended.is_set() and not self._in_place and self._session.fault):
            return
        events = self._events()
        if not self._in_place:
            for line in [*events, summary(self._live, self._now(), self._lang)]:
                self._session.line(line)
            return
        size = shutil.get_terminal_size()
        lines = block(self._live, self._now(), self._lang, columns=size.columns, lines=max(4, size.lines - 2))
        # Up to the first line of the block before, and everything from there on cleared.
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._session.write(back + "".join(f"{line}\n" for line in (*events, *lines)))
        self._drawn = len(lines)

    def _events(self) -> list[str]:
        log = self._live.log
        fresh, self._told = max(0, log.total - self._told), log.total
        return [event_line(row, self._lang) for row in reversed(live_log.rows(log.newest(fresh), fresh))]
