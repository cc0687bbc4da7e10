"""A ladder over real worker processes against a server with known timing: stages, guard, stop, workers that die."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from dstui.load.access import access
from dstui.load.ladder import Ladder, Lengths, Phases, Prompts, Stage, StageKind
from dstui.load.live import Phase
from dstui.load.local import LoadError, Local, Worker, local_workers
from dstui.load.result import Counts
from dstui.load.runner import Emit, Guard, Means, Runner
from dstui.model import UsageError
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched

TOKENS = 5
QUICK = Phases(ramp=0.2, warm=0.2, window=1.0, drain=1.0, pause=0.1)


@asynccontextmanager
async def timed() -> AsyncIterator[str]:
    """The built-in server in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dstui.load.timed_server", "--port", "0", "--first", "0.01", "--gap", "0.002",
        "--tokens", str(TOKENS), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


def ladder(url: str, *stages: Stage, phases: Phases = QUICK) -> Ladder:
    return Ladder(
        url, "m", stages, prompts=Prompts(Lengths(8), Lengths(TOKENS)), phases=phases, workers=2, slo_ttft=5.0
    )


def means(*, records: Sequence[Record] = (), workers: Callable[[], object] | None = None, busy: bool = False) -> Means:
    async def two() -> Sequence[Worker]:
        return await local_workers(2)

    @asynccontextmanager
    async def watched(emit: Emit) -> AsyncIterator[None]:
        async def speak() -> None:
            while True:
                for record in records:
                    emit(record)
                await asyncio.sleep(0.1)

        task = asyncio.create_task(speak())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def once() -> AsyncIterator[None]:
        if busy:
            raise UsageError("a ladder is under way")
        yield

    async def way(url: str) -> object:
        return access(url, key="sk-0001")

    return Means(workers or two, way, watched, once, Watched("c"))  # type: ignore[arg-type]


def kill(run: Runner, made: Sequence[Worker], stage: int, phase: Phase) -> None:
    """Ends the first worker once a stage is in a phase."""
    worker = made[0] if made else None
    if run.live.stages[stage].phase is not phase:
        return
    assert isinstance(worker, Local) and worker.process is not None
    if worker.process.returncode is None:
        os.kill(worker.process.pid, signal.SIGKILL)


async def test_stages_one_after_the_other() -> None:
    async with timed() as url:
        plan = ladder(
            url,
            Stage(StageKind.SINGLE, 1, requests=4, window=10.0),
            Stage(StageKind.LEVEL, 1),
            Stage(StageKind.LEVEL, 6),
        )
        run = Runner(plan, means())
        phases: list[tuple[str, Phase]] = []
        run.subscribe(lambda: phases.extend((s.stage.name, s.phase) for s in run.live.stages))
        result = await run.run()
    assert [stage.stage.name for stage in result.stages] == ["single", "level-1", "level-6"]
    assert not result.stopped and run.live.result is result
    for stage in result.stages:
        assert stage.counts.adds_up and not stage.counts.failed and stage.counts.ok > 1, stage.counts
        assert stage.tokens_out == TOKENS * stage.counts.ok and not stage.unmetered
        assert stage.good == stage.counts.ok
        assert stage.generator.cpu is not None and stage.generator.lag.whole and not stage.generator.lost
        assert stage.window.why == ""
    assert result.stages[0].counts.ok == 4
    assert result.stages[2].generator.workers == 2
    assert {phase for _, phase in phases} >= {Phase.PAUSE, Phase.RAMP, Phase.WARM, Phase.WINDOW, Phase.DONE}
    assert "sk-0001" not in repr(result)


async def test_stopped_what_was_measured_stays() -> None:
    async with timed() as url:
        run = Runner(ladder(url, Stage(StageKind.LEVEL, 2), Stage(StageKind.LEVEL, 4)), means())

        def look() -> None:
            if run.live.stages[0].phase is Phase.WINDOW and run.live.stages[0].counts.ok:
                run.stop("enough")

        run.subscribe(look)
        result = await run.run()
    assert result.stopped == "enough" and len(result.stages) == 1
    assert result.stages[0].stopped == "enough" and result.stages[0].counts.adds_up
    assert run.live.stages[1].phase is Phase.WAITING


async def test_a_worker_that_dies_is_told_and_the_others_go_on() -> None:
    made: list[Worker] = []

    async def workers() -> Sequence[Worker]:
        made.extend(await local_workers(2))
        return made

    async with timed() as url:
        run = Runner(ladder(url, Stage(StageKind.LEVEL, 4)), means(workers=workers))

        run.subscribe(lambda: kill(run, made, 0, Phase.WINDOW))
        result = await run.run()
    [stage] = result.stages
    assert len(stage.generator.lost) == 1 and "worker 1" in stage.generator.lost[0]
    assert stage.generator.workers == 2 and stage.counts.adds_up and stage.counts.ok > 0


async def test_all_workers_gone_is_no_result_of_the_server() -> None:
    made: list[Worker] = []

    async def workers() -> Sequence[Worker]:
        made.extend(await local_workers(1))
        return made

    async with timed() as url:
        run = Runner(ladder(url, Stage(StageKind.LEVEL, 2), Stage(StageKind.LEVEL, 3)), means(workers=workers))

        run.subscribe(lambda: kill(run, made, 0, Phase.RAMP))
        result = await run.run()
    assert "no worker came through" in result.stopped
    [stage] = result.stages
    assert stage.counts == Counts() and stage.generator.lost


async def test_a_worker_that_dies_between_two_stages_loses_nothing_of_the_first() -> None:
    made: list[Worker] = []

    async def workers() -> Sequence[Worker]:
        made.extend(await local_workers(1))
        return made

    async with timed() as url:
        run = Runner(ladder(url, Stage(StageKind.LEVEL, 2), Stage(StageKind.LEVEL, 3)), means(workers=workers))

        run.subscribe(lambda: kill(run, made, 1, Phase.PAUSE))
        result = await run.run()
    assert len(result.stages) == 1 and result.stages[0].counts.ok > 0
    assert "worker 1" in result.stopped


async def test_another_one_is_under_way() -> None:
    with pytest.raises(UsageError, match="under way"):
        await Runner(ladder("http://127.0.0.1:9"), means(busy=True)).run()


async def test_a_login_in_the_address_is_kept_nowhere() -> None:
    run = Runner(ladder("http://ops:hunter22@127.0.0.1:9/v1?token=x", Stage(StageKind.LEVEL, 1)), means())
    result = await run.run()
    assert result.ladder.url == "http://127.0.0.1:9/v1"
    assert result.stages[0].counts.ok == 0 and "hunter22" not in repr(result)


async def test_a_name_that_nobody_knows() -> None:
    run = Runner(ladder("http://no-such-host.invalid:8000", Stage(StageKind.LEVEL, 1)), means())
    result = await run.run()
    assert "no-such-host.invalid" in result.stopped


async def test_the_cluster_is_looked_at_in_the_window_alone() -> None:
    lost = Record(0.0, "host:gpu-09", RecordKind.LOST, {"reason": "unreachable", "why": "no route"})
    async with timed() as url:
        result = await Runner(ladder(url, Stage(StageKind.LEVEL, 1)), means(records=[lost])).run()
    assert result.stages[0].window.hosts == {}


def test_the_guard() -> None:
    guard = Guard(0.2, 15.0)
    assert guard.look(0.0, Counts()) == ""
    assert guard.look(10.0, Counts(ok=10, errors={"http-500": 90})) == "", "not for long enough"
    assert "90%" in guard.look(15.0, Counts(ok=10, errors={"http-500": 90}))
    assert guard.look(20.0, Counts(ok=900, errors={"http-500": 90})) == ""
    few = Guard(0.2, 15.0)
    few.look(0.0, Counts())
    assert few.look(15.0, Counts(errors={"refused": 9})) == "", "nine say nothing"
    shed = Guard(0.2, 15.0)
    shed.look(0.0, Counts())
    assert shed.look(15.0, Counts(shed=100)) == "", "a limiter that acts is no fault"
    outside = Guard(0.2, 15.0)
    outside.look(0.0, Counts())
    assert outside.look(16.0, Counts(outside=100, outside_errors=90)), "nor need it wait for the window"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://h:8000", ("h", 8000, "/v1/chat/completions", "h:8000", False)),
        ("https://api.example.com/v1/", ("api.example.com", 443, "/v1/chat/completions", "api.example.com", True)),
        ("http://[::1]:80/llm/v1", ("::1", 80, "/llm/v1/chat/completions", "[::1]:80", False)),
    ],
)
def test_the_way_to_an_address(url: str, found: tuple[object, ...]) -> None:
    made = access(url)
    assert (made.host, made.port, made.path, made.authority, made.tls) == found


@pytest.mark.parametrize("url", ["ftp://h", "h:8000", "http://", "http://h:99999"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(LoadError):
        access(url)
