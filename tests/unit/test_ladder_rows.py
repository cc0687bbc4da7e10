"""The ladder's rows, columns, charts and header: what is not known stays unknown, every line is as wide as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dstui.load.ladder import Ladder, Loop, Phases, Prompts, Stage, StageKind
from dstui.load.live import LiveLadder, LiveStage, Phase
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.window import GpuWindow, HostWindow, LinkWindow, Point, ReplicaWindow, Window
from dstui.model import Lang
from screens.ladder_charts import Bar, bars, over_time, over_users
from screens.ladder_columns import (
    COLUMNS,
    Look,
    columns_for,
    generator,
    head_lines,
    milliseconds,
    name_cells,
    percent,
    row_line,
    share,
)
from screens.ladder_detail import stage_lines
from screens.ladder_guard import guard_lines
from screens.ladder_header import Standing, header_lines
from screens.ladder_rows import (
    LevelRow,
    LiveRows,
    Seen,
    State,
    Timeline,
    gpu_use,
    kv,
    left,
    memory,
    network,
    row_of_live,
    row_of_result,
    standing,
    timeline_of_live,
    view_of,
    view_of_plan,
    view_of_result,
)
from screens.lines import Line, width_of
from screens.times import clock_left

T = 1_800_000_000.0
FIFTY = Stage(StageKind.LEVEL, 50)
LEVELS = tuple(Stage(StageKind.LEVEL, users) for users in (1, 50, 100, 200))
LADDER = Ladder("https://llm.example.com", "deepseek", LEVELS)


def plain(line: Line) -> str:
    return "".join(text for text, _ in line)


def healthy(**more: object) -> Generator:
    found = Generator(workers=2, cpu=0.3, nofile=65536)
    found.lag.add(0.002, 100)
    return replace(found, **more)  # type: ignore[arg-type]


def result(stage: Stage = FIFTY, ok: int = 100, tokens: int = 12_000, **more: object) -> StageResult:
    found = StageResult(
        stage, T, T + 120, Counts(begun=ok, ok=ok), Times(), tokens_out=tokens, generator=healthy()
    )  # fmt: skip
    for name in ("ttft", "late", "itl", "tpot", "e2e"):
        getattr(found.times, name).add(0.2, 10)
    return replace(found, **more)  # type: ignore[arg-type]


# States


def lagging() -> Generator:
    found = healthy()
    found.lag.add(0.4, 50)
    return found


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, State.DONE),
        ({"counts": Counts(begun=110, ok=100, shed=10)}, State.SHED),
        ({"counts": Counts(begun=110, ok=100, errors={"timeout": 4}, shed=6)}, State.ERRORS),
        ({"counts": Counts(begun=4, errors={"timeout": 4})}, State.NOTHING),
        ({"counts": Counts()}, State.NOTHING),
        ({"counts": Counts(begun=7, ok=5)}, State.SUMS),
        ({"generator": healthy(cpu=0.95)}, State.GENERATOR),
        ({"generator": lagging()}, State.GENERATOR),
        ({"generator": Generator()}, State.GENERATOR),
        ({"generator": healthy(lost=("node-2 died",))}, State.LOST),
        ({"generator": healthy(lost=("node-2 died",)), "stopped": "a worker was lost"}, State.STOPPED),
        ({"counts": Counts(begun=4, errors={"timeout": 4}), "stopped": "error rate 100 %"}, State.STOPPED),
    ],
)
def test_what_makes_figures_worthless_comes_before_what_must_only_be_known(
    more: dict[str, object], state: State
) -> None:
    found, _ = standing(result(**more))
    assert found is state


def test_why_is_said_the_most_frequent_first() -> None:
    counts = Counts(begun=110, ok=100, errors={"http-500": 1, "timeout": 9})
    assert [text.en for text in standing(result(counts=counts))[1]] == ["9 timeout", "1 http-500"]


def test_no_ended_stage_has_the_sign_of_a_pass() -> None:
    look = Look(9, T, "*", Lang.EN)
    assert "✓" not in plain(row_line(row_of_result(result()), look, 120, at_cursor=False))


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_a_row(phase: Phase) -> None:
    row = row_of_live(LiveStage(FIFTY, phase, T, T + 30))
    assert row.state.value == phase.value
    assert row.begun is (phase not in (Phase.WAITING, Phase.PAUSE))
    for lang in Lang:
        assert plain(row_line(row, Look(9, T, "*", lang), 120, at_cursor=True)).strip()


def test_a_live_stage_without_anything_gives_no_number() -> None:
    row = row_of_live(LiveStage(FIFTY, Phase.WINDOW))
    assert (row.ttft_p50, row.itl_p95, row.tokens_per_second, row.gpu_use.value, row.lag) == (None,) * 5


def test_no_rate_before_the_first_answer_is_whole() -> None:
    stage = LiveStage(FIFTY, Phase.WINDOW, counts=Counts(begun=5, outside=5), window_seconds=3.0)
    assert row_of_live(stage).tokens_per_second is None


def test_what_ended_is_worked_out_once() -> None:
    live = LiveLadder.of(LADDER)
    live.stages[0].result, live.stages[0].phase = result(LEVELS[0]), Phase.DONE
    rows = LiveRows()
    first = rows.view(live).rows[0]
    live.version += 1
    assert rows.view(live).rows[0] is first
    other = LiveLadder.of(LADDER)
    assert rows.view(other).rows[0].state is State.WAITING


# The knee


def rates(*each: float, doubted: int = -1) -> list[LevelRow]:
    rows = [row_of_result(result(stage, tokens=int(rate * 120))) for stage, rate in zip(LEVELS, each, strict=True)]
    return [replace(row, state=State.GENERATOR) if n == doubted else row for n, row in enumerate(rows)]


def test_the_knee_is_the_last_level_that_paid() -> None:
    assert view_of(LADDER, rates(40, 1400, 2400, 2500)).knee == 2
    assert view_of(LADDER, rates(40, 1400, 2800, 5600)).knee is None


def test_what_the_generator_flattened_is_no_knee() -> None:
    assert view_of(LADDER, rates(40, 1400, 2400, 2500, doubted=3)).knee is None


def test_a_stage_that_runs_makes_no_knee() -> None:
    rows = rates(40, 1400, 2400, 100)
    assert view_of(LADDER, [*rows[:3], replace(rows[3], state=State.WINDOW)]).knee is None


def test_stages_that_are_no_levels_are_not_in_it() -> None:
    ladder = replace(LADDER, stages=(Stage(StageKind.SINGLE, 1, requests=30), *LEVELS, Stage(StageKind.BATCH, 282)))
    single, batch = (row_of_result(result(stage, tokens=10)) for stage in (ladder.stages[0], ladder.stages[-1]))
    view = view_of(ladder, [single, *rates(40, 1400, 2400, 2500), batch])
    assert view.knee_row is not None
    assert view.knee_row.name == "level-100"


def test_a_recorded_ladder_shows_what_it_did_not_come_to() -> None:
    view = view_of_result(LadderResult(LADDER, (result(LEVELS[0]), result(LEVELS[1])), T, "stopped"))
    assert [row.state for row in view.rows] == [State.DONE, State.DONE, State.NOT_RUN, State.NOT_RUN]


# The cluster


def gpu(use: float | None, serving: bool | None = True) -> GpuWindow:
    return GpuWindow("GPU-1", 120, use, use, use, 0.9, serving)


def host(**more: object) -> HostWindow:
    return replace(HostWindow(120, 120, 0.4, 0.5), **more)  # type: ignore[arg-type]


def test_gpu_use_is_of_those_that_serve() -> None:
    hosts = [host(gpus={0: gpu(90.0), 1: gpu(80.0, None), 2: gpu(0.0, False)})]
    assert gpu_use(hosts) == Seen(85.0)


@pytest.mark.parametrize("more", [{"why": "unreachable"}, {"gpu_why": "no NVML"}, {"gpus": {0: gpu(None)}}])
def test_gpu_use_without_all_of_them_is_not_whole(more: dict[str, object]) -> None:
    seen = gpu_use([host(gpus={0: gpu(90.0)}), host(**more)])
    assert seen == Seen(90.0, whole=False)
    assert percent(seen, most=False)[0] == "90%?"


def test_nothing_seen_is_no_number() -> None:
    assert gpu_use([]) == memory(Window()) == kv(Window()) == network(Window()) == Seen()
    assert percent(Seen())[0] == "?"


def test_the_fullest_is_at_least_that_full_when_another_was_not_seen() -> None:
    window = Window({"a": host(memory_peak=0.91), "b": host(memory_peak=None, why="unreachable")})
    assert percent(memory(window), 100.0)[0] == "≥91%"


def test_a_link_of_unknown_speed_is_not_nothing() -> None:
    links = {"a": LinkWindow(120, 1e9, 2e8, 3e8, 4e8), "b": LinkWindow(120, -1.0, 9e9, 9e9, 9e9)}
    assert network(Window({"a": host(links=links)})) == Seen(0.2, whole=False)


def test_the_kv_cache_is_judged_as_the_check_does() -> None:
    window = Window(
        replicas={"a": ReplicaWindow(9, 9, kv_p95=0.7, kv_peak=0.99), "b": ReplicaWindow(9, 9, kv_peak=0.8)}
    )
    assert kv(window) == Seen(0.8)


# Times


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.0084, "8.4"), (0.31, "310"), (12.345, "12,345"), (0.00996, "10")]
)
def test_milliseconds(seconds: float | None, text: str) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (0.0, "0.0%"), (0.0004, "<0.1%"), (0.031, "3.1%"), (0.4, "40%"), (0.9999, "99%"), (1.0, "100%")],
)
def test_a_share_never_reads_as_none_or_all(value: float | None, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(-3, "0:00"), (7.2, "0:07"), (72, "1:12"), (3732, "1:02:12")])
def test_what_is_left_on_the_clock(seconds: float, text: str) -> None:
    assert clock_left(seconds) == text


@pytest.mark.parametrize(
    ("lag", "cpu", "text"),
    [
        (None, None, "?"),
        (0.012, 0.34, "12ms 34%"),
        (0.05, 0.1, "50ms 10%!"),
        (2.0, 0.8, "2.0s 80%!"),
        (None, 0.9, "? 90%!"),
    ],
)
def test_the_generators_own_health(lag: float | None, cpu: float | None, text: str) -> None:
    assert generator(LevelRow(FIFTY, State.WINDOW, lag=lag, cpu=cpu))[0] == text


def test_what_is_left_of_a_ladder() -> None:
    ladder = replace(LADDER, stages=LEVELS[:2], phases=Phases(ramp=10, warm=30, window=120, pause=60))
    live = LiveLadder.of(ladder)
    assert left(live, T) == ladder.seconds
    live.stages[0].phase, live.stages[0].until = Phase.WARM, T + 12
    assert left(live, T) == 12 + 120 + 60 + 160
    live.stages[0].phase, live.stages[0].until = Phase.WINDOW, 0.0
    assert left(live, T) is None
    live.stages[0].phase = Phase.DONE
    live.stages[1].phase, live.stages[1].until = Phase.DRAIN, T - 5
    assert left(live, T) == 0.0


# Lines


ROWS = st.sampled_from(
    [
        LevelRow(FIFTY, State.WAITING),
        row_of_live(LiveStage(FIFTY, Phase.RAMP, T, T + 9)),
        row_of_live(LiveStage(FIFTY, Phase.WINDOW)),
        row_of_result(result()),
        row_of_result(result(stopped="机架三 的错误率为 34 %，持续 15 s")),
        row_of_result(result(Stage(StageKind.LEVEL, 200_000, rate=12.5), ok=10**9, tokens=10**12)),
    ]
)


@given(ROWS, st.integers(20, 220), st.sampled_from(list(Lang)), st.booleans())
def test_a_row_is_exactly_as_wide_as_asked(row: LevelRow, width: int, lang: Lang, knee: bool) -> None:
    look = Look(name_cells((row,)), T, "⠙", lang, knee)
    assert width_of(row_line(row, look, width, at_cursor=True)) == width
    assert {width_of(line) for line in head_lines(width, look.names, lang)} == {width}


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("width", [77, 117, 197])
def test_heads_stand_over_their_columns(width: int, lang: Lang) -> None:
    row = row_of_result(result())
    _, head = head_lines(width, 9, lang)
    body = row_line(row, Look(9, T, "*", lang), width, at_cursor=False)
    count = len(columns_for(width, 9))
    heads = [width_of(head[: n + 2]) for n in range(count)]
    cells = [width_of(body[: n + 4]) for n in range(count)]
    assert heads == cells


def test_the_columns_that_matter_most_stay() -> None:
    heads = [each.over.en + each.head.en for each in columns_for(77, 9)]
    assert heads == ["users", "ok", "errors", "TTFTp50", "msp95", "tokens/s", "GPUuse"]
    assert columns_for(197, 9) == COLUMNS


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.over.en + column.head.en)
def test_no_head_is_cut(column: object, lang: Lang) -> None:
    over, head, cells = column.over[lang], column.head[lang], column.cells  # type: ignore[attr-defined]
    assert max(cell_len(over), cell_len(head)) <= cells


# Charts


@given(
    st.lists(
        st.builds(
            Bar,
            st.integers(1, 99_999).map(str),
            st.none() | st.floats(0, 1e9),
            st.none() | st.floats(0, 1e9),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(14, 90),
    st.integers(1, 12),
    st.sampled_from(list(Lang)),
)
def test_any_bars_fit(found: list[Bar], width: int, height: int, lang: Lang) -> None:
    lines = bars("TTFT", found, lang, width, height, top=None)
    assert len(lines) == height + 3
    assert {width_of(line) for line in lines} == {width}


def test_solid_to_p50_and_shaded_to_p95() -> None:
    lines = [plain(line) for line in bars("t", [Bar("50", 25.0, 100.0, knee=True)], Lang.EN, 30, 4, top=100.0)]
    assert [line[5:8] for line in lines[1:5]] == ["░░░", "░░░", "░░░", "███"]
    assert "^ knee" in lines[-1]


def test_what_was_not_seen_is_a_dot_and_not_a_zero() -> None:
    lines = [plain(line) for line in bars("t", [Bar("1", None), Bar("50", 0.0)], Lang.EN, 30, 2, top=10.0)]
    assert "··" in lines[2]
    assert "▁▁" in lines[2]


def test_the_labels_of_the_knee_and_of_the_last_level_stay() -> None:
    found = [Bar(str(users), 1.0, knee=users == 4000) for users in (1000, 2000, 4000, 8000, 16000)]
    labels = plain(bars("t", found, Lang.EN, 20, 2, top=None)[-2]).split()
    assert "4000" in labels
    assert labels[-1] == "16000"


def test_there_is_no_chart_before_the_first_answer() -> None:
    assert over_users(view_of_plan(LADDER), Lang.EN, 76, 7) == []


def test_three_charts_beside_each_other_fit() -> None:
    view = view_of(LADDER, rates(40, 1400, 2400, 2500))
    for width in (76, 116, 120):
        assert all(width_of(line) <= width for line in over_users(view, Lang.ZH, width, 10))


def test_the_timeline_stands_still_while_it_fills() -> None:
    points = tuple(Point(T + second, gpu_use=50.0) for second in range(60))
    begun = over_time(Timeline(points[:30], T, T + 60), T + 30, Lang.EN, 90, 6)
    ended = over_time(Timeline(points, T, T + 60), None, Lang.EN, 90, 6)
    assert plain(ended[0]).startswith(plain(begun[0]).rstrip())


def test_a_gap_in_the_timeline_is_seen_but_not_what_is_still_to_come() -> None:
    points = tuple(Point(T + second, gpu_use=None if 10 <= second < 20 else 50.0) for second in range(30))
    line = plain(over_time(Timeline(points, T, T + 60), T + 30, Lang.EN, 90, 6)[0])
    assert line.count("·") == 10
    assert line.rstrip()[-1] in "▁▂▃▄▅▆▇█"


@given(
    st.lists(st.none() | st.floats(0, 1e7), max_size=200),
    st.integers(30, 200),
    st.integers(1, 30),
    st.none() | st.integers(0, 300),
)
def test_any_timeline_fits(values: list[float | None], width: int, height: int, now: int | None) -> None:
    points = tuple(Point(T + n, value, value, value, value, value) for n, value in enumerate(values))
    at = None if now is None else T + now
    for line in over_time(Timeline(points, T, T + 120), at, Lang.EN, width, height):
        assert width_of(line) == width


def test_the_timeline_has_room_for_the_whole_window() -> None:
    stage = LiveStage(FIFTY, Phase.WINDOW, T, T + 120, cluster=Window(timeline=(Point(T + 1),)))
    assert timeline_of_live(stage).ended == T + 120
    stage.phase = Phase.DRAIN
    assert timeline_of_live(stage).began == T + 1
    assert timeline_of_live(LiveStage(FIFTY)).points == ()


# Header, details, guard


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_headers_fit(width: int, lang: Lang) -> None:
    live = LiveLadder.of(LADDER)
    live.stages[0].phase, live.stages[0].since, live.stages[0].until = Phase.WINDOW, T - 10, T + 110
    view = LiveRows().view(live)
    recorded = LadderResult(LADDER, (), T - 99, "机架三 掉电" * 20)
    for standing_of in (
        Standing("ds-prod", True, view, live, spinner="⠙"),
        Standing("ds-prod", True, view, live, spinner="⠙", stopping="zhang.wei pressed x"),
        Standing("ds-prod", True, view_of_result(recorded), recorded=recorded, cannot="no window is open" * 9),
        Standing("ds-prod", True, None, cannot="no endpoint" * 30),
        Standing("ds-prod", True, view, fault="boom" * 90),
    ):
        lines = header_lines(standing_of, T, lang, width)
        assert [width_of(line) for line in lines] == [width, width]
        if width >= 80:
            assert "SIMULATED" in plain(lines[0])


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("width", [34, 76, 118])
def test_details_fit_and_add_up(width: int, lang: Lang) -> None:
    counts = Counts(
        begun=20, ok=3, shed=4, errors={"timeout": 5, "http-500": 1}, aborted=2, outside=5, outside_errors=1
    )
    window = Window({f"gpu-{n:02}": host(gpus={0: gpu(90.0)}, oom=1.0) for n in range(40)}, {"r": ReplicaWindow(1, 2)})
    ended = result(counts=counts, window=window, samples=("[/foo]",), unmetered=2, good=3)
    for stage in (ended, LiveStage(FIFTY), LiveStage(FIFTY, Phase.RAMP), LiveStage(FIFTY, Phase.WINDOW)):
        lines = stage_lines(replace(LADDER, slo_ttft=1.0), stage, lang, width)
        assert max(width_of(line) for line in lines) <= width
    told = " ".join(plain(line) for line in stage_lines(LADDER, ended, lang, 200))
    for number in ("20", "3 ", "4 ", "6 ", "2 ", "5"):
        assert number in told
    assert "28" in told, "hosts that are not shown are counted"


def test_details_say_when_the_sum_does_not_hold() -> None:
    told = " ".join(plain(line) for line in stage_lines(LADDER, result(counts=Counts(begun=9, ok=5)), Lang.EN, 120))
    assert "? the parts are 5: do not trust this stage" in told


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize(
    "ladder",
    [LADDER, replace(LADDER, loop=Loop.POISSON, engine="ray:gpu-01", prompts=Prompts(file="talks.jsonl", fresh=False))],
)
def test_the_guard_fits_and_names_the_end(ladder: Ladder, lang: Lang) -> None:
    lines = guard_lines(ladder, "production", T, lang, 66)
    assert max(width_of(line) for line in lines) <= 66
    told = "".join(plain(line) for line in lines)
    assert ladder.url in told
    assert "level-200" in told
    assert "200" in told
