"""Feeds: what is watched fills a live view, is recorded on demand, and comes back from the recording."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dstui.facts.case import HostSite
from dstui.model import UsageError
from dstui.telemetry.feed import LiveFeed, ReplayFeed
from dstui.telemetry.live_status import Status
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched

NOW = 1_795_000_000.0


def watched() -> Watched:
    host = HostSite("gpu-01", frozenset({"head"}), "10.0.0.1", None, "10.0.0.1", 22, "ops", gpu=True, gpus_per_host=0)
    return Watched("ds-test", (host,))


def sample(at: float, cpu: float = 5.0) -> Record:
    data = {"seq": 1, "lost": 0, "hz": 1.0, "cpu": cpu, "cpus": 4, "mem_total": 100, "mem_available": 50, "gpus": []}
    return Record(at, "host:gpu-01", RecordKind.SAMPLE, data)


class Given:
    """Sources that emit what they are given, then stay."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.emit: Any = None
        self.interval = 1.0
        self.emitted = asyncio.Event()

    def __call__(self, emit: Any) -> Any:
        self.emit = emit
        return self

    def set_interval(self, seconds: float) -> None:
        self.interval = seconds

    async def run(self) -> None:
        for record in self.records:
            self.emit(record)
        self.emitted.set()
        await asyncio.Event().wait()


async def running(feed: LiveFeed, given: Given) -> asyncio.Task[None]:
    task = asyncio.create_task(feed.run())
    await asyncio.wait_for(given.emitted.wait(), 5)
    return task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_recorded_is_seen_again(tmp_path: Path) -> None:
    given = Given([sample(NOW), sample(NOW + 1, 7.0)])
    feed = LiveFeed(watched(), given, lambda: NOW + 1.5)
    feed.record(tmp_path / "r.jsonl")
    task = await running(feed, given)
    assert feed.live.hosts["gpu-01"].pulse.status(feed.now()) is Status.LIVE
    await ended(task)
    assert feed.recorder is None, "ending closes the file"

    again = ReplayFeed(tmp_path / "r.jsonl", speed=100.0)
    await asyncio.wait_for(again.player.run(), 5)
    assert again.now() == NOW + 1
    fold = again.live.hosts["gpu-01"]
    assert fold.sample is not None
    assert fold.sample.cpu == 7.0


async def test_a_recording_that_cannot_go_on_is_said_and_the_watching_goes_on(tmp_path: Path) -> None:
    given = Given([])
    feed = LiveFeed(watched(), given, lambda: NOW)
    feed.record(tmp_path / "r.jsonl")
    assert feed.recorder is not None
    feed.recorder.close()
    task = await running(feed, given)
    given.emit(sample(NOW))
    assert isinstance(feed.recording_fault, UsageError)
    assert feed.recorder is None
    assert feed.live.hosts["gpu-01"].sample is not None
    await ended(task)


def test_a_recording_of_another_cluster_is_refused(tmp_path: Path) -> None:
    first = LiveFeed(watched(), Given([]), lambda: NOW)
    first.record(tmp_path / "r.jsonl")
    first.stop_recording()
    other = LiveFeed(Watched("ds-other"), Given([]), lambda: NOW)
    with pytest.raises(UsageError):
        other.record(tmp_path / "r.jsonl")
    assert other.recorder is None


async def test_silence_is_measured_with_the_interval_in_force() -> None:
    given = Given([sample(NOW)])
    feed = LiveFeed(watched(), given, lambda: NOW)
    task = await running(feed, given)
    pulse = feed.live.hosts["gpu-01"].pulse
    assert pulse.status(NOW + 5) is Status.LATE
    feed.set_interval(10.0)
    assert given.interval == 10.0
    assert pulse.status(NOW + 5) is Status.LIVE
    await ended(task)
