"""Replays keep the spacing of what was recorded; time here is a loop's own and passes only when all wait."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from dstui.model import UsageError
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.recording import Recorder, Recording
from dstui.telemetry.replay import Replay
from dstui.telemetry.watched import Watched

BASE = 1_800_000_000.0


class _Waiting(selectors.DefaultSelector):
    """Waits without waiting: the time that was to pass has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for ever"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.waiting = _Waiting()
        super().__init__(self.waiting)

    def time(self) -> float:
        return self.waiting.now


class Stage:
    """A replay of records at `offsets` and what came out of it: seconds on the clock, seconds in the recording."""

    def __init__(self, path: Path, offsets: list[float], speed: float = 1.0) -> None:
        with Recorder(path, Watched("c")) as recorder:
            for number, offset in enumerate(offsets):
                recorder.write(Record(BASE + offset, "ray", RecordKind.SAMPLE, {"n": number}))
        self.out: list[tuple[float, float]] = []
        self.restarts = 0
        self.replay = Replay(Recording(path), self.emit, restart=self.restart, speed=speed)
        self.on_emit: Callable[[float], None] = lambda offset: None

    def emit(self, record: Record) -> None:
        offset = record.at - BASE
        self.out.append((round(asyncio.get_running_loop().time(), 3), offset))
        self.on_emit(offset)

    def restart(self) -> None:
        self.restarts += 1
        self.out.append((-1.0, -1.0))

    def run(self, also: Callable[[], Awaitable[None]] | None = None, *, stay: bool = False) -> None:
        async def go() -> None:
            running = asyncio.ensure_future(self.replay.run(stay=stay))
            if also is not None:
                await also()
            if stay:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            else:
                await running

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(go())


@pytest.mark.parametrize(("speed", "times"), [(1.0, [0, 1, 4]), (2.0, [0, 0.5, 2]), (0.1, [0, 10, 40])])
def test_spacing(tmp_path: Path, speed: float, times: list[float]) -> None:
    stage = Stage(tmp_path / "r", [0, 1, 4], speed)
    stage.run()
    assert stage.out == [(t, o) for t, o in zip(times, [0, 1, 4], strict=True)]
    assert stage.replay.ended


def test_records_of_a_clock_that_was_set_back_come_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [10, 11, 5, 12])
    stage.run()
    assert [offset for _, offset in stage.out] == [10, 11, 5, 12]
    assert stage.out[2][0] == stage.out[1][0]


def test_pause_and_resume(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 2])
    seen: Mapping[str, list[float]] = {"position": []}

    async def also() -> None:
        await asyncio.sleep(1)
        stage.replay.pause()
        await asyncio.sleep(50)
        seen["position"].append(stage.replay.position - BASE)
        assert stage.replay.paused
        stage.replay.resume()

    stage.run(also)
    assert seen["position"] == [1.0]
    assert stage.out == [(0, 0), (52, 2)]


def test_speed_changes_on_the_way(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 10])

    async def also() -> None:
        await asyncio.sleep(5)
        stage.replay.set_speed(5)

    stage.run(also)
    assert stage.out == [(0, 0), (6, 10)]


@pytest.mark.parametrize("speed", [0.0, 0.09, 101.0, float("nan"), -1.0])
def test_speeds_that_are_none(tmp_path: Path, speed: float) -> None:
    with pytest.raises(UsageError, match=r"from 0\.1 to 100 times"):
        Stage(tmp_path / "r", [0, 1], speed)


def test_seeking_forward_feeds_what_lies_between_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 10, 20, 100, 101])

    async def also() -> None:
        await asyncio.sleep(1)
        stage.replay.seek(BASE + 100.5)

    stage.run(also)
    assert stage.out == [(0, 0), (1, 10), (1, 20), (1, 100), (1.5, 101)]
    assert stage.restarts == 0


def test_seeking_far_forward_leaves_out_what_no_history_holds(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 10, 5000, 5001])

    async def also() -> None:
        await asyncio.sleep(1)
        stage.replay.seek(BASE + 5000)

    stage.run(also)
    assert [o for _, o in stage.out] == [0, 5000, 5001]


def test_seeking_back_starts_afresh(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 1, 2, 3])

    async def also() -> None:
        await asyncio.sleep(2.5)
        stage.replay.seek(BASE + 1)

    stage.run(also)
    assert [o for _, o in stage.out] == [0, 1, 2, -1, 0, 1, 2, 3]
    assert stage.out[-2:] == [(3.5, 2), (4.5, 3)]


def test_seeking_within_a_gap_feeds_nothing_twice(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 100])

    async def also() -> None:
        await asyncio.sleep(60)
        stage.replay.seek(BASE + 50)

    stage.run(also)
    assert stage.out == [(0, 0), (110, 100)]


def test_after_the_end_one_may_look_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 1])

    async def also() -> None:
        await asyncio.sleep(60)
        assert stage.replay.position == BASE + 1
        stage.replay.seek(BASE)
        await asyncio.sleep(60)

    stage.run(also, stay=True)
    assert [o for _, o in stage.out] == [0, 1, -1, 0, 1]


def test_the_position_waits_for_a_slow_fold(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0, 1, 2, 3, 4], speed=10)
    positions: list[float] = []

    def slow(offset: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.waiting.now += 5.0
        positions.append(stage.replay.position - BASE)

    stage.on_emit = slow
    stage.run()
    assert [o for _, o in stage.out] == [0, 1, 2, 3, 4]
    assert positions == [0, 1, 2, 3, 4]


def test_many_records_at_once_let_others_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0.0] * 1000)
    turns = 0

    async def also() -> None:
        nonlocal turns
        while not stage.replay.ended:
            turns += 1
            await asyncio.sleep(0)

    stage.run(also)
    assert len(stage.out) == 1000
    assert turns > 10


def test_a_damaged_line_ends_the_replay_with_its_place(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "r", [0])
    with (tmp_path / "r").open("a") as file:
        file.write("{}\n")
    with pytest.raises(UsageError, match="/r:3: is no line"):
        stage.run()
