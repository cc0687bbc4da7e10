"""`dstui watch` and `dstui replay`: what they print, what they record, how they end."""

import asyncio
import io
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from dstui.facts.case import HostSite
from dstui.model import Lang, UsageError
from dstui.options import Options
from dstui.telemetry.live import Live
from dstui.telemetry.record import Record, RecordKind, decode
from dstui.telemetry.recording import Recorder, Recording
from dstui.telemetry.watched import Watched
from dstui.watch import Emit, Wanted, Watching, replay, watch, watch_opened
from dstui.watch_lines import block, sparkline, summary

T = 1_800_000_000.0
HOST = HostSite("gpu-01", frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "ops", True, 1)
WATCHED = Watched("ds", (HOST,))


def sample(at: float, **more: object) -> Record:
    gpu = {"index": 0, "uuid": "GPU-0", "name": "NVIDIA H100", "util": 95, "temp": 60, **more}
    data = {"seq": 1, "hz": 1.0, "gpu_source": "nvml", "gpus": [gpu]}
    return Record(at, "host:gpu-01", RecordKind.SAMPLE, data)


def lost(at: float, why: str = "gpu-01: connection refused") -> Record:
    return Record(at, "host:gpu-01", RecordKind.LOST, {"reason": "unreachable", "why": why})


class Show:
    """Emits records and then waits until it is cancelled, or does what `then` says."""

    def __init__(self, *records: Record, then: Callable[[], None] = lambda: None, watched: Watched = WATCHED) -> None:
        self.records = records
        self.then = then
        self.watched = watched
        self.cancelled = self.closed = False

    async def opened(self) -> Watching:
        return Watching(self.watched, self.run, self.aclose)

    async def run(self, emit: Emit) -> None:
        for record in self.records:
            emit(record)
        self.then()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def aclose(self) -> None:
        assert self.cancelled
        self.closed = True


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_json_is_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(sample(T), lost(T + 1), then=interrupt)
    code = watch_opened(show.opened, Wanted("json", tmp_path / "r"))
    printed = capsys.readouterr().out
    assert (code, show.cancelled, show.closed) == (0, True, True)
    assert printed == (tmp_path / "r").read_text()
    header, *lines = printed.splitlines()
    assert json.loads(header)["format"] == "dstui-live"
    records = [decode(line, number) for number, line in enumerate(lines)]
    assert [record.kind for record in records] == [RecordKind.SAMPLE, RecordKind.LOST, RecordKind.EVENT]
    assert records[2].data["en"] == "gpu-01 stopped answering: connection refused"
    assert Recording(tmp_path / "r").watched == Watched("ds", (replace(HOST, user=""),))


def test_it_ends_by_itself_after_some_seconds() -> None:
    show = Show(sample(T))
    assert watch_opened(show.opened, Wanted(seconds=0.01)) == 0
    assert show.closed


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_times_that_are_none(seconds: float) -> None:
    with pytest.raises(UsageError, match="--seconds"):
        watch_opened(Show().opened, Wanted(seconds=seconds))


def test_nothing_that_answers_is_exit_2_with_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_opened(Show(lost(T), lost(T + 1)).opened, Wanted(seconds=0.01)) == 2
    assert capsys.readouterr().err == "dstui: nothing answered: gpu-01: connection refused\n"
    assert watch_opened(Show().opened, Wanted(seconds=0.01, lang=Lang.ZH)) == 2
    assert capsys.readouterr().err == "dstui: 没有任何来源应答\n"


def test_a_pipe_gets_a_line_for_each_event_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    records = (sample(T), sample(T + 1, reasons=["hw_thermal_slowdown"]))
    show = Show(*records, then=interrupt)
    assert watch_opened(show.opened, Wanted()) == 0
    event, line = capsys.readouterr().out.splitlines()
    assert event.endswith("✗ gpu-01:0 hardware thermal slowdown began")
    # By the real clock the samples are years from being current.
    assert " GPU unknown: " in line
    assert "\x1b" not in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_block_in_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "24")
    with Recorder(tmp_path / "r", Watched("ds", (HOST,), simulated=True, intervals={"host": 0.1})) as recorder:
        for record in (sample(T), sample(T + 0.3, reasons=["hw_slowdown"]), sample(T + 0.5)):
            recorder.write(record)
    assert replay(tmp_path / "r", speed=2) == 0
    first, *others = terminal.getvalue().split("\x1b[4F\x1b[J")
    assert others, "the block is drawn more than once"
    assert first.startswith("ds  ") and "SIMULATED" in first
    assert "1/1 · use 95%" in first
    assert any("✗ gpu-01:0 hardware slowdown began" in part.splitlines()[0] for part in (*others, first))
    assert all(len(line) <= 60 for part in (first, *others) for line in part.splitlines())


def test_a_replay_prints_what_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(sample(T), lost(T + 1), sample(T + 2), then=interrupt)
    watch_opened(show.opened, Wanted("json", tmp_path / "r"))
    capsys.readouterr()
    assert replay(tmp_path / "r", speed=100, output="json") == 0
    assert capsys.readouterr().out == (tmp_path / "r").read_text()
    assert replay(tmp_path / "r", speed=100) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "✗ gpu-01 stopped answering: connection refused",
        "· gpu-01 answers again after 1 s",
        "GPU 1/1 · use 95% | Ray unknown: nothing received yet · Serve unknown | vLLM unknown: nothing received yet",
    ]


def test_a_damaged_recording_is_named_with_its_line(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r", WATCHED) as recorder:
        recorder.write(sample(T))
    with (tmp_path / "r").open("a") as file:
        file.write("noise\n")
    with pytest.raises(UsageError, match="/r:3: is no line"):
        replay(tmp_path / "r")
    with pytest.raises(UsageError, match="No such file"):
        replay(tmp_path / "none")
    with pytest.raises(UsageError, match="speed 1000"):
        replay(tmp_path / "r", speed=1000)


def test_a_file_that_cannot_be_written_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    show = Show(sample(T))
    monkeypatch.setattr(
        Recorder, "write", lambda self, record: (_ for _ in ()).throw(UsageError("r: No space left on device"))
    )
    with pytest.raises(UsageError, match="No space left"):
        watch_opened(show.opened, Wanted("json", tmp_path / "r"))
    assert show.closed


def test_a_recording_of_another_cluster_is_refused_and_everything_closed(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r", Watched("other")):
        pass
    show = Show(sample(T))
    show.cancelled = True
    with pytest.raises(UsageError, match="is a recording of other"):
        watch_opened(show.opened, Wanted("json", tmp_path / "r"))
    assert show.closed


class Pipe(io.StringIO):
    """Its reader leaves after the first line."""

    def write(self, text: str) -> int:
        if self.getvalue():
            raise BrokenPipeError
        return super().write(text)

    def fileno(self) -> int:
        raise OSError("no descriptor")


def test_a_reader_that_leaves_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Pipe())
    show = Show(sample(T), sample(T + 1))
    assert watch_opened(show.opened, Wanted("json")) == 0
    assert show.closed


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        watch(Options(tmp_path / "none.yaml"), Wanted())


def test_an_interval_that_no_host_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "version: 1\ncluster: {name: ds}\nssh: {user: ops}\n"
        "hosts:\n- {name: here, data_ip: 127.0.0.1, local: true, roles: [head]}\n"
    )
    with pytest.raises(UsageError, match=r"0\.2 to 10 s"):
        watch(Options(path), Wanted("json", seconds=1), interval=60)
    assert capsys.readouterr().out == ""


def test_this_machine_is_watched_for_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "version: 1\ncluster: {name: ds}\nssh: {user: ops}\n"
        "hosts:\n- {name: here, data_ip: 127.0.0.1, local: true, roles: [head], gpu: false}\n"
    )
    assert watch(Options(path), Wanted("json", seconds=1.5), interval=0.2) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert json.loads(header)["intervals"] == {"host": 0.2}
    records = [decode(line, number) for number, line in enumerate(lines)]
    assert {record.source for record in records} == {"host:here"}
    total = records[0].data["mem_total"]
    assert isinstance(total, int) and total > 1e8


def test_the_block_in_both_languages_and_narrow() -> None:
    live = Live(replace(WATCHED, cluster="生产集群" * 20))
    live.feed(sample(T, reasons=["hw_thermal_slowdown"]))
    live.feed(lost(T + 1))
    for lang, said in ((Lang.EN, "stopped answering: connection refused"), (Lang.ZH, "停止应答：connection refused")):
        wide = block(live, T + 2, lang, columns=200, lines=20)
        assert any(said in line for line in wide)
        narrow = block(live, T + 2, lang, columns=40, lines=20)
        assert all(cell_len(line) <= 40 for line in narrow)
    short = block(live, T + 2, Lang.EN, columns=80, lines=4)
    assert len(short) == 4 and short[-1] == "  … 2 more"


def test_old_values_say_how_old_and_unknown_ones_are_not_shown() -> None:
    live = Live(WATCHED)
    live.feed(sample(T))
    assert "GPU 1/1 · use 95% |" in summary(live, T + 1, Lang.EN)
    late = summary(live, T + 5, Lang.EN)
    assert "(5 s old)" in late and "95%" not in late
    live.feed(lost(T + 6))
    assert "(lost, 7 s old: connection refused)" in summary(live, T + 7, Lang.EN)
    unknown = summary(live, T + 60, Lang.EN)
    assert "GPU unknown: connection refused" in unknown and "95%" not in unknown


def test_a_sparkline_leaves_gaps() -> None:
    assert sparkline([0, None, 50, 100, 200, -5]) == "▁ ▅██▁"
