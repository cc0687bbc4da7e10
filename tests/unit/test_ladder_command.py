"""`dstui ladder`: what it asks, what it prints, what it comes to. Over the embedded fleet, with a ladder of seconds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from dstui import cli, ladder_command
from dstui.demo import open_demo
from dstui.ladder_command import Wanted, about
from dstui.ladder_printer import Printer, bar, line, table
from dstui.load.agent.histogram import Histogram
from dstui.load.calibrate import FIRST, Calibrated
from dstui.load.ladder import Ladder, Stage, StageKind
from dstui.load.live import LiveLadder, LiveStage, Phase
from dstui.load.options import LadderOptions
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.wire import ladder_of
from dstui.model import Lang, UsageError

QUICK = LadderOptions(levels=(2,), ramp=0.2, warm=0.2, window=3.0, drain=8.0, pause=0.0, single=False, batch=False,
                      tokens_in=16, tokens_out=8, workers=1)  # fmt: skip


def times(seconds: float = 0.1) -> Times:
    made = Times()
    for histogram in (made.ttft, made.late, made.itl, made.tpot, made.e2e):
        histogram.add(seconds, 40)
    return made


def result(*, lag: float = 0.001, lost: tuple[str, ...] = (), stopped: str = "") -> LadderResult:
    late = Histogram()
    late.add(lag, 100)
    generator = Generator(1, late, 0.3, 65_536, 0.0, lost)
    stage = StageResult(
        Stage(StageKind.LEVEL, 2), 100.0, 110.0, Counts(begun=44, ok=40, shed=1, errors={"http-500": 2}, outside=1),
        times(), 640, 320, generator=generator, stopped=stopped,
    )  # fmt: skip
    return LadderResult(Ladder("http://h", "m", (stage.stage,)), (stage,), 110.0, stopped)


def test_over_the_embedded_fleet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "ladder.json"
    code = ladder_command.run_opened(lambda: open_demo(2), QUICK, Wanted("json", Lang.EN, True, out))
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    checks = document.pop("checks")
    found = ladder_of(document)
    assert found == ladder_of(json.loads(out.read_text()))
    assert found.simulated and [stage.stage.name for stage in found.stages] == ["level-2"]
    counts = found.stages[0].counts
    assert counts.adds_up and counts.ok > 0 and not counts.failed
    assert found.stages[0].tokens_out == 8 * counts.ok
    assert set(found.stages[0].window.hosts) == {"gpu-01", "gpu-02"}
    assert found.stages[0].window.hosts["gpu-01"].samples > 0
    assert sorted(checks) == ["perf.concurrent-users", "perf.gpu-util", "perf.max-batch", "perf.memory",
                              "perf.network", "perf.single-user-latency"]  # fmt: skip
    # Two users for three seconds prove nothing.
    assert "pass" not in {row["verdict"] for row in checks.values()} and code in (1, 2)
    assert "sk-demo" not in printed.out + printed.err + out.read_text()


def test_nothing_is_loaded_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="--yes"):
        ladder_command.run_opened(lambda: open_demo(1), QUICK, Wanted())
    said = capsys.readouterr().err
    assert "up to 2 users at once" in said and "http://127.0.0.8:" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--levels", "a"], "write numbers of users"),
        (["--levels", "0,5"], "from 1"),
        (["--rates", "0"], "above 0"),
        (["--loop", "open"], "invalid choice"),
    ],
)
def test_flags_that_are_none(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["ladder", *words])
    assert error.value.code == 3
    assert said in capsys.readouterr().err


def test_no_inventory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ladder", "-i", str(tmp_path / "none.yaml"), "--yes"]) == 3
    assert "no such file" in capsys.readouterr().err


def test_what_it_will_do_is_named() -> None:
    ladder = Ladder("http://h", "m", (Stage(StageKind.LEVEL, 5), Stage(StageKind.LEVEL, 50)), engine="ray:gpu-01")
    said = about(ladder, Lang.EN)
    assert "http://h, model m: level-5, level-50; up to 50 users at once, about 6 min, ray:gpu-01" in said
    assert "最多 50 个并发用户" in about(ladder, Lang.ZH)


def test_the_table() -> None:
    said = table(result(), Lang.EN)
    assert "43" in said and "100 ms" in said and "32" in said and "fine" in said
    assert "1024 ms late at p99" in table(result(lag=1.024), Lang.EN) or "ms late at p99" in table(
        result(lag=1), Lang.EN
    )
    assert "1 workers ended by themselves" in table(result(lost=("worker 1: signal 9",)), Lang.EN)
    assert "TTFT p50" in table(result(), Lang.ZH) and "正常" in table(result(), Lang.ZH)


def test_a_line_says_what_it_waits_for() -> None:
    stage = LiveStage(Stage(StageKind.LEVEL, 5), Phase.WINDOW, since=100.0, until=120.0, counts=Counts(begun=3, ok=3))
    assert "level-5: measures 15 s, 3 ok, 0 errors, 0 shed, TTFT p95 –, – tokens/s" in line(stage, Lang.EN, 105.0)
    assert bar(stage, 105.0) == "███░░░░░░░░░"
    assert bar(LiveStage(stage.stage), 105.0) == "░" * 12


def test_in_a_pipe_each_phase_is_told_once() -> None:
    ladder = Ladder("http://h", "m", (Stage(StageKind.LEVEL, 5),))
    live, out = LiveLadder.of(ladder), io.StringIO()
    with Printer(live, Lang.EN, out, quiet=False, clock=lambda: 100.0) as printer:
        for phase in (Phase.RAMP, Phase.RAMP, Phase.WINDOW, Phase.WINDOW, Phase.DONE, Phase.DONE):
            live.stages[0].phase = phase
            printer.update()
    assert [row.split(",")[0] for row in out.getvalue().splitlines()] == [
        "level-5: users come 0 s", "level-5: measures 0 s", "level-5: done"
    ]  # fmt: skip
    quiet = io.StringIO()
    Printer(live, Lang.EN, quiet, quiet=True).update()
    assert quiet.getvalue() == ""


@pytest.mark.parametrize(
    ("off", "lag", "errors", "reached"),
    [(0.001, 0.001, {}, True), (0.02, 0.001, {}, False), (0.001, 0.2, {}, False), (None, 0.001, {}, False),
     (0.001, 0.001, {"refused": 1}, False)],
)  # fmt: skip
def test_what_is_within_reach(off: float | None, lag: float, errors: dict[str, int], reached: bool) -> None:
    late = Histogram()
    late.add(lag, 10)
    stage = StageResult(
        Stage(StageKind.LEVEL, 10), 0.0, 6.0, Counts(begun=10 + len(errors), ok=10, errors=errors), times(FIRST),
        generator=Generator(1, late, 0.2, 65_536),
    )  # fmt: skip
    assert Calibrated(10, off, 0.06, 0.001, 100.0, stage).reached is reached
