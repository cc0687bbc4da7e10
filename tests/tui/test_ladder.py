"""The ladder's screen over a run that is stepped through its phases: what is seen, what keys do, who owns the run."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from dstui.catalogue import Catalogue
from dstui.load.ladder import Ladder, Phases, Stage, StageKind
from dstui.load.live import LiveLadder, LiveStage, Phase
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.window import GpuWindow, HostWindow, LinkWindow, Point, ReplicaWindow, Window
from dstui.model import Lang, UsageError
from screens.app import DstuiApp
from screens.checklist import ChecklistScreen
from screens.confirm import Question
from screens.keybar import KeyBar
from screens.ladder import LadderScreen
from screens.lines import Bar, LineView
from screens.livelist import LiveList
from screens.times import clock_time

T = 1_763_956_800.0 + 271
USERS = (1, 50, 100, 200, 500)
RATES = {1: 48.0, 50: 1400.0, 100: 2300.0, 200: 2480.0, 500: 2510.0}
TTFT = {1: 0.08, 50: 0.21, 100: 0.34, 200: 0.9, 500: 3.4}
USE = {1: 31.0, 50: 78.0, 100: 93.0, 200: 97.0, 500: 98.0}
WINDOW = 120.0


def stages() -> tuple[Stage, ...]:
    return (
        Stage(StageKind.SINGLE, 1, requests=30),
        Stage(StageKind.DIRECT, 1, requests=10, url="http://10.0.0.1:8000"),
        *(Stage(StageKind.LEVEL, users) for users in USERS),
        Stage(StageKind.BATCH, 282),
    )


def ladder(**more: Any) -> Ladder:
    return Ladder("https://llm.example.com/v1", "deepseek-v3", stages(), phases=Phases(), slo_ttft=1.0, **more)


def times(ttft: float, count: int = 400) -> Times:
    found = Times()
    for number in range(count):
        spread = 0.7 + 0.9 * number / count
        found.ttft.add(ttft * spread)
        found.late.add(ttft * spread)
        found.itl.add(0.02 + ttft * 0.02 * spread, 100)
        found.tpot.add(0.021)
        found.e2e.add(ttft * spread + 2.6)
    return found


def generator(cpu: float = 0.34, lag: float = 0.004) -> Generator:
    found = Generator(workers=4, cpu=cpu, nofile=65536)
    found.lag.add(lag, 1000)
    return found


def points(stage: Stage, began: float, seconds: int) -> tuple[Point, ...]:
    use, rate = USE.get(stage.users, 95.0), RATES.get(stage.users, 2400.0)
    return tuple(
        Point(
            began + second,
            gpu_use=min(100.0, use + 4 * math.sin(second / 5)),
            running=min(stage.users, 128) * min(1.0, (second + 3) / 10),
            waiting=max(0.0, stage.users - 128.0) if second % 9 else 0.0,
            kv=min(0.97, 0.1 + stage.users / 300),
            tokens_per_second=None if 40 <= second < 46 else rate * (1 + 0.08 * math.sin(second / 3)),
        )
        for second in range(seconds)
    )


def host(use: float, **more: Any) -> HostWindow:
    gpus = {index: GpuWindow(f"GPU-{index}", 120, use - index, use - 5, use - 9, 0.91, True) for index in range(4)}
    links = {"bond0": LinkWindow(120, 2e11, 2.4e10, 3.1e10, 4e10)}
    return replace(HostWindow(120, 120, 0.41, 0.44, gpus=gpus, links=links), **more)


def window(stage: Stage, began: float, seconds: int = 120, **more: Any) -> Window:
    use = USE.get(stage.users, 95.0)
    slow = GpuWindow("GPU-2", 120, 41.0, 30.0, 20.0, 0.91, True, ("hw_thermal_slowdown",))
    hosts = {"gpu-01": host(use), "gpu-02": host(use), "gpu-03": host(use)}
    hosts["gpu-03"] = replace(hosts["gpu-03"], gpus={**hosts["gpu-03"].gpus, 2: slow})
    kv = min(0.97, 0.1 + stage.users / 300)
    replicas = {
        name: ReplicaWindow(
            120, 120, min(stage.users, 64.0), min(stage.users, 60.0), max(0.0, stage.users - 128.0), kv, kv + 0.01,
            3.0 if stage.users >= 500 else 0.0, ttft_p50=TTFT.get(stage.users, 0.4), ttft_p95=1.1, queue_p95=0.2,
        )
        for name in ("gpu-01", "gpu-02")
    }  # fmt: skip
    return Window(hosts, replicas, points(stage, began, seconds), **more)


def result_of(stage: Stage, began: float, **more: Any) -> StageResult:
    users, seconds = stage.users, WINDOW
    errors = {"timeout": 31, "http-500": 4} if users >= 500 else {}
    shed = 212 if users >= 500 else 0
    ok = 30 if stage.requests else users * 24
    begun = ok + shed + sum(errors.values()) + 17
    return replace(
        StageResult(
            stage, began, began + seconds, Counts(begun, ok, shed, errors, 0, 17),
            times(TTFT.get(users, 0.5)), tokens_in=ok * 512, tokens_out=int(RATES.get(users, 2400.0) * seconds),
            good=ok, generator=generator(), window=window(stage, began),
            samples=("http-500: {\"error\": \"EngineDeadError\"}",) if errors else (),
        ),
        **more,
    )  # fmt: skip


def recorded(at: float = T - 3600, **more: Any) -> LadderResult:
    began = at - 8 * 200
    found = tuple(result_of(stage, began + 200 * number) for number, stage in enumerate(stages()))
    return replace(LadderResult(ladder(), found, at), **more)


class Run:
    """A run that goes where it is told to go."""

    def __init__(self, of: Ladder) -> None:
        self.live = LiveLadder.of(of)
        self.live.started_at = T
        self.stopped: list[str] = []
        self.over = asyncio.Event()
        self.error: Exception | None = None
        self.result: LadderResult | None = None
        self.listeners: list[Callable[[], None]] = []

    async def run(self) -> LadderResult:
        await self.over.wait()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        self.live.result = self.result
        return self.result

    def stop(self, why: str) -> None:
        self.stopped.append(why)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def tell(self) -> None:
        self.live.version += 1
        for listener in tuple(self.listeners):
            listener()

    def to(self, number: int, phase: Phase, *, since: float = T, until: float = 0.0, **more: Any) -> LiveStage:
        """The stages before are done; this one is in a phase."""
        for before, stage in enumerate(self.live.stages[:number]):
            if stage.result is None:
                stage.result = result_of(stage.stage, T - 400 + before)
            stage.phase = Phase.DONE
        stage = self.live.stages[number]
        stage.phase, stage.since, stage.until = phase, since, until
        for name, value in more.items():
            setattr(stage, name, value)
        self.tell()
        return stage

    def measure(self, number: int, seconds: int = 48) -> LiveStage:
        stage = self.live.stages[number].stage
        users = stage.users
        return self.to(
            number, Phase.WINDOW, since=T - seconds, until=T - seconds + WINDOW, in_flight=users,
            counts=Counts(users * 11, users * 10, 3, {"timeout": 2}, 0, users - 5), times=times(TTFT.get(users, 0.5)),
            tokens_out=int(RATES.get(users, 2000.0) * seconds), window_seconds=float(seconds), lag_p99=0.006, cpu=0.41,
            cluster=window(stage, T - seconds, seconds),
        )  # fmt: skip

    def end(self, stopped: str = "") -> None:
        found = tuple(
            stage.result or result_of(stage.stage, T - 300)
            for stage in self.live.stages
            if not stopped or stage.result is not None
        )
        self.result = LadderResult(self.live.ladder, found, T + 1, stopped)
        self.over.set()


class Ladders:
    """What an engine has for ladders, put onto the silent one."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.refusal = ""
        self.busy = ""
        self.runs: list[Run] = []
        self.recorded: list[LadderResult] = []
        self.ladder = ladder()
        engine.ladder_of = self.ladder_of
        engine.run_ladder = self.run_ladder
        engine.ladders = self.recorded
        engine.asks_first = lambda check_id: False

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def ladder_of(self) -> Ladder:
        if self.refusal:
            raise UsageError(self.refusal)
        return self.ladder

    def run_ladder(self, of: Ladder) -> Run:
        if self.busy:
            raise UsageError(self.busy)
        self.runs.append(Run(of))
        return self.run


@pytest.fixture
def ladders(mixed_engine: Any) -> Ladders:
    return Ladders(mixed_engine)


@asynccontextmanager
async def opened(
    ladders: Ladders, catalogue: Catalogue, hands: Any, *, size: tuple[int, int] = (120, 40), lang: Lang = Lang.EN
) -> AsyncIterator[tuple[DstuiApp, Pilot[str]]]:
    """The ladder's screen."""
    async with hands.driven(ladders.engine, catalogue, size, lang) as (app, pilot):
        await pilot.press("L")
        await still(app, pilot)
        yield app, pilot
        for run in ladders.runs:
            run.result = run.result or LadderResult(run.live.ladder, (), T)
            run.over.set()


async def still(app: DstuiApp, pilot: Pilot[Any]) -> None:
    if app.ladder is not None:
        app.ladder.clock.spinning = False
    await pilot.pause()


async def started(app: DstuiApp, pilot: Pilot[str]) -> None:
    await pilot.press("r", "y")
    await pilot.pause()


async def seen(app: DstuiApp, pilot: Pilot[Any]) -> None:
    """The screen has taken note of what the run told."""
    await pilot.pause()
    assert isinstance(app.screen, LadderScreen)
    app.screen.look()
    await pilot.pause()


def text(app: DstuiApp, name: str) -> str:
    pane = app.screen.query_one(f"#{name}")
    if isinstance(pane, LiveList):
        lines = [pane._compose_row(key, pane.line_width, key == pane.cursor) for key in pane.keys]  # type: ignore[misc]
        return "\n".join("".join(part for part, _ in line) for line in lines)
    assert isinstance(pane, Bar | LineView)
    return "\n".join("".join(part for part, _ in line) for line in pane.lines)


def row(app: DstuiApp, name: str) -> str:
    return next(line for line in text(app, "levels").splitlines() if f" {name} " in line)


# What is seen


async def test_before_the_first_it_says_what_to_press(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, _):
        assert "no ladder recorded yet · press r to start" in text(app, "top")
        assert "https://llm.example.com/v1 · deepseek-v3" in text(app, "top")
        assert [line.split()[1] for line in text(app, "levels").splitlines()[1:]] == [s.name for s in stages()[1:]]
        assert "Press r to run these levels" in text(app, "users")


async def test_why_none_can_be_run(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    ladders.refusal = "no load window is open now; the next opens at 22:00"
    async with opened(ladders, catalogue, hands) as (app, pilot):
        assert "No ladder can be run now: no load window is open now" in text(app, "head")
        await pilot.press("r")
        assert isinstance(app.screen, LadderScreen), "there is nothing to agree to"
        assert "no load window is open now" in hands.told(app)
        ladders.refusal = ""
        await pilot.press("r")
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        assert not ladders.runs


async def test_the_guard_names_what_it_does_and_only_yes_starts_it(
    ladders: Ladders, catalogue: Catalogue, hands: Any
) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await pilot.press("r")
        assert isinstance(app.screen, Question)
        told = text(app, "body")
        for wanted in (
            "real load on production", "500 users", "https://llm.example.com/v1", "http://10.0.0.1:8000",
            "deepseek-v3", "level-200", "batch-282", "512 ± 20%", "about 24 min, until 12:28", "20% errors for 15 s",
        ):  # fmt: skip
            assert wanted in " ".join(told.split()), wanted
        await pilot.press("enter")
        assert isinstance(app.screen, Question), "enter answers nothing by accident"
        await pilot.press("escape")
        assert not ladders.runs
        await pilot.press("r", "y")
        await pilot.pause()
        assert len(ladders.runs) == 1
        assert "starting" in text(app, "top")
        await pilot.press("r")
        assert isinstance(app.screen, LadderScreen), "never two at once"
        assert "x stops it" in hands.told(app)


async def test_when_the_engine_refuses_the_run_it_is_said(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    ladders.busy = "a ladder of li.na is under way"
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        assert "a ladder of li.na is under way" in hands.told(app)
        assert app.ladder is not None
        assert not app.ladder.running


async def test_levels_fill_in_as_phases_pass(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        run = ladders.run
        run.to(2, Phase.RAMP, since=T - 2, until=T + 8, in_flight=1, counts=Counts(1, outside=1))
        await seen(app, pilot)
        assert "level-1 ramp" in text(app, "top")
        assert "ramp 0:08" in row(app, "level-1")
        assert "waiting" in row(app, "level-50")
        run.to(2, Phase.WARM, since=T, until=T + 30)
        await seen(app, pilot)
        assert "warm-up 0:30" in row(app, "level-1")
        run.measure(2)
        await seen(app, pilot)
        assert "window 1:12" in row(app, "level-1")
        assert "1:12 left" in text(app, "top")
        assert "stage 3 of 8" in text(app, "top")
        run.to(2, Phase.DRAIN, since=T, until=T + 60, in_flight=1)
        await seen(app, pilot)
        assert "drain 1:00" in row(app, "level-1")
        run.to(3, Phase.PAUSE, since=T, until=T + 45)
        await seen(app, pilot)
        assert "done" in row(app, "level-1")
        assert "rest 0:45" in row(app, "level-50")
        assert row(app, "level-50").startswith("› "), "the cursor goes on with the stage that runs"


async def test_the_cursor_stays_where_somebody_put_it(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(3)
        await seen(app, pilot)
        await pilot.press("up")
        ladders.run.measure(4)
        await seen(app, pilot)
        assert row(app, "level-1").startswith("› ")


async def test_figures_of_the_window(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands, size=(200, 60)) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(5)
        await seen(app, pilot)
        cells = row(app, "level-200").split()
        assert cells[2:16] == [
            "level-200", "200", "2,000", "2", "3", "1,032", "1,397", "48", "2,480", "91%", "44%", "77%", "12%", "6ms",
        ]  # fmt: skip
        assert "TTFT ms" in text(app, "users")
        over_time = text(app, "time")
        for name in ("GPU use", "running", "waiting", "KV cache", "tokens/s"):
            assert name in over_time
        assert clock_time(T - 48) in over_time
        assert clock_time(T - 48 + WINDOW) in over_time
        detail = text(app, "detail")
        assert "2,200 begun = 2,000 ok + 3 shed + 2 errors + 0 cut off + 195 outside" in " ".join(detail.split())
        assert "! 2 timeout" in detail
        assert "GPU 2 throttled: hw_thermal_slowdown" in " ".join(detail.split())


async def test_nothing_known_reads_as_nothing_known(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands, size=(200, 60)) as (app, pilot):
        await started(app, pilot)
        ladders.run.to(3, Phase.WINDOW, since=0.0, until=0.0, cluster=Window(why="nobody watches the cluster"))
        await seen(app, pilot)
        cells = row(app, "level-50").split()
        assert cells[4:16] == ["0", "0", "0", "-", "-", "-", "-", "?", "?", "?", "?", "?"]
        assert cells[16:] == ["window"]
        assert "? The cluster was not seen in the window of level-50: nobody watches" in text(app, "time")
        assert "? nobody watches the cluster" in text(app, "detail")
        assert "event loop late by ? unknown" in text(app, "detail")


async def test_the_knee_is_marked_without_colour(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    ladders.recorded.append(recorded())
    async with opened(ladders, catalogue, hands) as (app, _):
        assert "ended 11:04:31, 1 h ago · knee at level-100, 2,300 tokens/s" in text(app, "top")
        assert "^ knee" in row(app, "level-100")
        assert row(app, "level-100").startswith("› ")
        assert text(app, "users").count("^ knee") == 3
        assert "! level-500" in row(app, "level-500")
        assert "errors 0.3%" in row(app, "level-500")


async def test_a_stage_that_the_generator_limited_is_no_proof(
    ladders: Ladders, catalogue: Catalogue, hands: Any
) -> None:
    whole = recorded()
    busy = replace(whole.stages[5], generator=generator(cpu=0.97))
    ladders.recorded.append(replace(whole, stages=(*whole.stages[:5], busy, *whole.stages[6:])))
    async with opened(ladders, catalogue, hands, size=(200, 60)) as (app, pilot):
        assert "? level-200" in row(app, "level-200")
        assert "generator" in row(app, "level-200")
        assert "97%!" in row(app, "level-200")
        assert "knee" not in row(app, "level-100"), "what flattened may have been the generator"
        await pilot.press("home", *["down"] * 5)
        assert "? why this stage proves nothing" in text(app, "detail")


async def test_a_worker_that_was_lost(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    whole = recorded(stopped="a worker was lost")
    lost = replace(
        whole.stages[3], generator=replace(generator(), lost=("node-2: the raylet died",)), stopped="a worker was lost"
    )
    ladders.recorded.append(replace(whole, stages=(*whole.stages[:3], lost)))
    async with opened(ladders, catalogue, hands, size=(200, 60)) as (app, pilot):
        assert "! stopped: a worker was lost" in text(app, "top")
        assert "! level-50" in row(app, "level-50")
        assert "node-2: the raylet died" in row(app, "level-50")
        assert "not run" in row(app, "level-100")
        await pilot.press("end")
        assert "has not begun" in text(app, "time")


# Whose the run is


async def test_stopping_is_told_until_it_has_drained(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(4)
        await pilot.press("x")
        assert ladders.run.stopped == ["zhang.wei pressed x"]
        ladders.run.to(4, Phase.DRAIN, since=T, until=T + 60, in_flight=37)
        await seen(app, pilot)
        assert "37 under way" in text(app, "top")
        assert "! stopping (zhang.wei pressed x)" in text(app, "top")
        ladders.run.end(stopped="zhang.wei pressed x")
        await seen(app, pilot)
        assert "! stopped: zhang.wei pressed x" in text(app, "top")
        assert "The ladder stopped after 4 of 8 stages: zhang.wei pressed x" in hands.told(app)
        assert "not run" in row(app, "level-500")
        await pilot.press("x")
        assert "No ladder is running." in hands.told(app)


async def test_leaving_the_screen_does_not_end_the_ladder(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands, size=(80, 24)) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(4)
        await seen(app, pilot)
        await pilot.press("escape")
        home = app.screen
        assert isinstance(home, ChecklistScreen)
        app.repaint()
        assert "ladder level-100 window 1:12 L │ run 7 finished" in text(app, "strip")
        await pilot.press("enter", "L")
        assert isinstance(app.screen, LadderScreen)
        assert not ladders.run.stopped
        assert "window 1:12" in row(app, "level-100")
        ladders.run.end()
        await seen(app, pilot)
        await pilot.press("escape", "escape")
        app.repaint()
        assert "ladder" not in text(app, "strip")


async def test_l_comes_back_from_what_stands_over_it(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        below = app.screen
        app.open_finding("hw.nic-speed")
        await pilot.pause()
        await pilot.press("L")
        await pilot.pause()
        assert app.screen is below


async def test_the_checks_are_judged_when_it_has_ended(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    engine = ladders.engine
    perf = [check.id for check in catalogue.checks if check.id.startswith("perf.")]
    engine.built |= set(perf[:4])
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        app.run_checks(["hw.memory"])
        await pilot.pause()
        ladders.run.end()
        await seen(app, pilot)
        assert engine.asked == [("hw.memory",)], "one run after the other"
        engine.finish.set()
        await seen(app, pilot)
        assert engine.asked == [("hw.memory",), tuple(perf[:4])]
        assert "The ladder ended: 8 of 8 stages measured." in hands.told(app)


async def test_a_ladder_that_could_not_begin_says_why(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        ladders.run.error = UsageError("Ray 2.40 here, 2.44 there: the versions must be the same")
        ladders.run.over.set()
        await seen(app, pilot)
        assert "✗ The ladder ended with an error: Ray 2.40 here" in text(app, "top")
        assert "Ray 2.40 here" in hands.told(app)
        await started(app, pilot)
        assert len(ladders.runs) == 2
        assert "error" not in text(app, "top")


async def test_quitting_asks_and_waits_for_the_end(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(4)
        await pilot.press("q")
        assert isinstance(app.screen, Question)
        assert "The ladder is at level-100" in text(app, "body")
        await pilot.press("n", "q", "y")
        assert app.is_running
        assert ladders.run.stopped == ["zhang.wei left dstui"]
        assert "q again leaves at once" in hands.told(app)
        ladders.run.end(stopped="zhang.wei left dstui")
        await pilot.pause()
    assert app.return_code == 0
    assert ladders.engine.closed


async def test_quitting_twice_leaves_at_once(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(ladders.engine, catalogue) as (app, pilot):
        await pilot.press("L")
        await started(app, pilot)
        await pilot.press("q", "y", "q")
        await pilot.pause()
    assert app.return_code == 0
    assert not ladders.run.listeners
    assert ladders.engine.closed


async def test_an_app_that_is_ended_stops_the_ladder_first(
    ladders: Ladders, catalogue: Catalogue, hands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screens.ladder_run.END_SECONDS", 0.01)
    async with hands.driven(ladders.engine, catalogue) as (app, pilot):
        await pilot.press("L")
        await started(app, pilot)
        app.exit(return_code=143)
    assert ladders.run.stopped == ["dstui was ended"]
    assert ladders.engine.closed


async def test_quit_may_stop_the_ladder_and_stay(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        await pilot.press("q", "x")
        assert ladders.run.stopped == ["zhang.wei pressed x"]
        assert app.is_running


async def test_an_engine_without_ladders_says_so(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("L")
        assert "No load ladder can be run here." in hands.told(app)


# Keys, places and sizes


async def test_pages_one_after_the_other_where_there_is_no_room(
    ladders: Ladders, catalogue: Catalogue, hands: Any
) -> None:
    ladders.recorded.append(recorded())
    async with opened(ladders, catalogue, hands, size=(80, 24)) as (app, pilot):
        for key, page in (("1", "users"), ("tab", "time"), ("tab", "detail"), ("tab", "users"), ("3", "detail")):
            await pilot.press(key)
            await pilot.pause()
            assert [name for name in ("users", "time", "detail") if app.screen.query_one(f"#{name}").display] == [page]
        await pilot.press("2", "enter")
        assert app.screen.query_one("#detail").has_focus
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query_one("#time").display
        await pilot.press("escape")
        assert isinstance(app.screen, ChecklistScreen)


async def test_the_footer_shows_the_key_that_helps(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands, size=(80, 24)) as (app, pilot):
        bar = app.screen.query_one(KeyBar)
        assert hands.text_of(bar).startswith(" r run the ladder")
        await started(app, pilot)
        assert hands.text_of(bar).startswith(" x stop")
        ladders.run.end()
        await seen(app, pilot)
        assert hands.text_of(bar).startswith(" r run the ladder")


@pytest.mark.parametrize("lang", list(Lang), ids=str)
@pytest.mark.parametrize("size", [(40, 12), (80, 24), (120, 40), (200, 60)], ids=str)
async def test_every_line_fits(
    lang: Lang, size: tuple[int, int], ladders: Ladders, catalogue: Catalogue, hands: Any
) -> None:
    async with opened(ladders, catalogue, hands, size=size, lang=lang) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(6)
        await seen(app, pilot)
        for page in ("1", "2", "3"):
            await pilot.press(page)
            await pilot.pause()
            for pane in app.screen.query(LineView):
                for line in pane.lines if pane.display else ():
                    assert sum(cell_len(part) for part, _ in line) <= pane.size.width
            for bar in app.screen.query(Bar):
                for line in bar.lines:
                    assert sum(cell_len(part) for part, _ in line) <= bar.size.width


async def test_another_language_in_the_middle_of_it(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    async with opened(ladders, catalogue, hands) as (app, pilot):
        await started(app, pilot)
        ladders.run.measure(5)
        await seen(app, pilot)
        await pilot.press("l")
        await pilot.pause()
        assert "level-200 窗口" in text(app, "top")
        assert "窗口 1:12" in row(app, "level-200")
        assert "GPU 利用率" in text(app, "time")


async def test_hostile_words_stay_words(ladders: Ladders, catalogue: Catalogue, hands: Any) -> None:
    whole = recorded()
    nasty = "[/foo]\x1b[31m\u202e" + "机架" * 400
    worst = replace(whole.stages[6], samples=(nasty,), stopped=nasty)
    ladders.recorded.append(replace(whole, stages=(*whole.stages[:6], worst), stopped=nasty))
    ladders.ladder = replace(ladders.ladder, url=nasty, model=nasty)
    async with opened(ladders, catalogue, hands, size=(80, 24)) as (app, pilot):
        await pilot.press("end", "up", "3")
        await pilot.pause()
        assert "\x1b" not in text(app, "top") + text(app, "levels") + text(app, "detail")
        await pilot.press("r")
        await pilot.pause()
        assert "\x1b" not in text(app, "body")


# Pictures

LOOKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("empty", ()),
    "running": ("running", ()),
    "time": ("running", ("2",)),
    "details": ("running", ("3",)),
    "recorded": ("recorded", ()),
    "guard": ("empty", ("r",)),
    "home": ("running", ("escape",)),
}


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables of the machine that change colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)


def picture(
    ladders: Ladders, catalogue: Catalogue, hands: Any, lang: Lang, state: str, keys: tuple[str, ...]
) -> tuple[DstuiApp, Callable[[Any], Any]]:
    app = hands.app(ladders.engine, catalogue, lang)
    if state == "recorded":
        ladders.recorded.append(recorded())

    async def ready(pilot: Pilot[Any]) -> None:
        await hands.opened(app, pilot)
        await pilot.press("L")
        await still(app, pilot)
        if state == "running":
            await started(app, pilot)
            ladders.run.measure(5)
            await seen(app, pilot)
        await pilot.press(*keys)
        await pilot.pause()

    return app, ready


@pytest.mark.parametrize("lang", list(Lang), ids=str)
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("look", list(LOOKS))
def test_looks(
    look: str,
    size: tuple[int, int],
    lang: Lang,
    ladders: Ladders,
    catalogue: Catalogue,
    hands: Any,
    snap_compare: Callable[..., bool],
) -> None:
    app, ready = picture(ladders, catalogue, hands, lang, *LOOKS[look])
    assert snap_compare(app, terminal_size=size, run_before=ready)


def test_looks_without_colour(
    ladders: Ladders,
    catalogue: Catalogue,
    hands: Any,
    monkeypatch: pytest.MonkeyPatch,
    snap_compare: Callable[..., bool],
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app, ready = picture(ladders, catalogue, hands, Lang.EN, "recorded", ())
    assert snap_compare(app, terminal_size=(120, 40), run_before=ready)
