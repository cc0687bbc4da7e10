"""`dstui ladder`: the load ladder without the app. Says what it will do, does it, records it, judges perf.* by it."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dstui.engine import Engine
from dstui.ladder_printer import ladder_printer, table
from dstui.load.ladder import Ladder, Loop
from dstui.load.most import most
from dstui.load.options import LadderOptions
from dstui.load.result import LadderResult
from dstui.load.validity import limits
from dstui.load.wire import plain
from dstui.model import Lang, Text, UsageError, Verdict
from dstui.opening import open_engine
from dstui.options import Options
from dstui.report import write_atomically
from dstui.report.words import MARKS, REASONS, SIMULATED, VERDICTS
from dstui.standing import gate

if TYPE_CHECKING:
    from dstui.load.calibrate import Calibrated

SECTION = "perf."


@dataclass(frozen=True, slots=True)
class Wanted:
    """`yes` skips the question; `out` is a file for the result as JSON."""

    output: str = "text"
    lang: Lang = Lang.EN
    yes: bool = False
    out: Path | None = None


def run(options: Options, ladder: LadderOptions, wanted: Wanted) -> int:
    """Runs a ladder; the exit code is the gate over perf.*."""
    return run_opened(lambda: open_engine(options), ladder, wanted)


def run_opened(factory: Callable[[], Awaitable[Engine]], ladder: LadderOptions, wanted: Wanted) -> int:
    """The same for whatever `factory` opens: the embedded fleet has its own."""
    return asyncio.run(_run(factory, ladder, wanted))


def options_of(arguments: argparse.Namespace) -> LadderOptions:
    """What the command line named."""
    given = arguments
    return LadderOptions(
        levels=given.levels, rates=given.rates, loop=Loop(given.loop), url=given.url, model=given.model,
        ramp=given.ramp, warm=given.warm, window=given.window, drain=given.drain, pause=given.pause,
        think=given.think, timeout=given.timeout, tokens_in=given.input_tokens, tokens_out=given.output_tokens,
        fresh=not given.cached, fixed=not given.natural, turns=given.turns, file=given.prompts,
        workers=given.workers, engine=given.engine, single=not given.no_single, batch=not given.no_batch,
        search=given.find_most,
    )  # fmt: skip


def calibrate_here(workers: int, lang: Lang, output: str) -> int:
    """What this machine can make; 0 when the highest number of streams was within its reach, else 1."""
    from dstui.load.calibrate import calibrate, cores

    def tell(row: Calibrated) -> None:
        if output == "text":
            sys.stdout.write(_calibrated(row, lang) + "\n")
            sys.stdout.flush()

    if output == "text":
        said = Text(
            f"{cores()} cores, one of them the server's; 50 ms to the first token, 20 ms between",
            f"{cores()} 个核，其中一个给服务端；首 token 50 毫秒，间隔 20 毫秒",
        )
        sys.stdout.write(said[lang] + "\n")
    found = asyncio.run(calibrate(tell, workers=workers))
    if output == "json":
        rows = [
            {"streams": r.streams, "ttft_p50_error_s": r.off, "ttft_p99_s": r.p99, "itl_p99_error_s": r.gap_off,
             "chunks_per_s": r.chunks, "cpu": r.result.generator.cpu, "reached": r.reached}
            for r in found
        ]  # fmt: skip
        sys.stdout.write(json.dumps({"cores": cores(), "levels": rows}) + "\n")
    return 0 if found and found[-1].reached else 1


def _calibrated(row: Calibrated, lang: Lang) -> str:
    off = "–" if row.off is None else f"{row.off * 1000:+.1f} ms"
    gap = "–" if row.gap_off is None else f"{row.gap_off * 1000:+.1f} ms"
    cpu = "–" if row.result.generator.cpu is None else f"{row.result.generator.cpu:.0%}"
    limited = limits(row.result.generator, row.streams)
    fine = Text("within reach", "可以胜任") if row.reached else (limited or (Text("too late", "误差过大"),))[0]
    return Text(
        f"{row.streams} streams: TTFT p50 off by {off}, gaps at p99 by {gap}, {row.chunks:.0f} pieces/s, busiest "
        f"worker {cpu}: {fine.en}",
        f"{row.streams} 路流：TTFT p50 误差 {off}，间隔 p99 误差 {gap}，{row.chunks:.0f} 块/s，最忙进程 "
        f"{cpu}：{fine.zh}",
    )[lang]


async def _run(factory: Callable[[], Awaitable[Engine]], options: LadderOptions, wanted: Wanted) -> int:
    engine = await factory()
    try:
        ladder = engine.ladder_of(options)
        if not wanted.yes:
            _ask(ladder, wanted.lang)
        result = await _climb(engine, ladder, options, wanted)
        checks = [i for i in engine.built if i.startswith(SECTION)]
        await engine.run(sorted(checks))
        return _show(engine, result, sorted(checks), wanted)
    finally:
        await engine.aclose()


async def _climb(engine: Engine, ladder: Ladder, options: LadderOptions, wanted: Wanted) -> LadderResult:
    """The run, shown while it goes on; ctrl-C ends it in good order, and what was measured is recorded."""
    run = engine.run_ladder(ladder, search=options.search)
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        run.stop(Text("stopped by ctrl-C", "由 ctrl-C 停止")[wanted.lang])
        loop.remove_signal_handler(signal.SIGINT)

    with ExitStack() as undo:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupted)
            undo.callback(loop.remove_signal_handler, number)
        shown = undo.enter_context(ladder_printer(run.live, wanted.lang, quiet=wanted.output == "json"))
        undo.callback(run.subscribe(shown.update))
        return await run.run()


def _ask(ladder: Ladder, lang: Lang) -> None:
    """Names the address and the users; on a terminal the number of users has to be typed."""
    sys.stderr.write(about(ladder, lang) + "\n")
    most_users = str(ladder.most_users)
    if not sys.stdin.isatty():
        raise UsageError("a ladder makes load: say yes to it with --yes")
    ask = Text(
        f"Type {most_users} to put {ladder.url} under this load: ", f"输入 {most_users} 以对 {ladder.url} 施加该负载："
    )
    if input(ask[lang]).strip() != most_users:
        raise UsageError(Text("nothing was started", "未开始")[lang])


def about(ladder: Ladder, lang: Lang) -> str:
    """What it will do, in one or two lines."""
    names = ", ".join(stage.name for stage in ladder.stages)
    minutes = ladder.seconds / 60
    return Text(
        f"{ladder.url}, model {ladder.model}: {names}; up to {ladder.most_users} users at once, about "
        f"{minutes:.0f} min, {ladder.engine}",
        f"{ladder.url}，模型 {ladder.model}：{names}；最多 {ladder.most_users} 个并发用户，约 {minutes:.0f} 分钟，"
        f"{ladder.engine}",
    )[lang]


def _show(engine: Engine, result: LadderResult, checks: list[str], wanted: Wanted) -> int:
    checklist = engine.checklist()
    statuses = [checklist.statuses[check_id] for check_id in checks]
    code = gate(statuses, sound=checklist.sound).exit_code
    document = plain(result)
    if wanted.out is not None:
        write_atomically(wanted.out, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    if wanted.output == "json":
        verdicts = {s.check.id: {"verdict": s.verdict.value, "reason": s.reason and s.reason.value} for s in statuses}
        sys.stdout.write(json.dumps({**document, "checks": verdicts}, ensure_ascii=False) + "\n")
        return code
    lang = wanted.lang
    sys.stdout.write(table(result, lang))
    if (found := most(result.stages)) is not None:
        sys.stdout.write(_most_words(found.attained.users, found.attained.low, found.attained.high, lang) + "\n")
    for status in statuses:
        reason = f" ({REASONS[status.reason][lang]})" if status.reason else ""
        sys.stdout.write(f"{MARKS[status.verdict]} {VERDICTS[status.verdict][lang]}{reason}  {status.check.id}\n")
        if status.verdict is not Verdict.PASS:
            for finding in status.findings[:1]:
                sys.stdout.write(f"    {finding.observed[lang]} | {finding.rule[lang]}\n")
    if result.stopped:
        sys.stdout.write(Text(f"stopped: {result.stopped}", f"已停止：{result.stopped}")[lang] + "\n")
    if engine.simulated:
        sys.stdout.write(SIMULATED[lang] + "\n")
    return code


def _most_words(users: int, low: float, high: float, lang: Lang) -> str:
    return Text(
        f"most users within the objective: {users} ({low:.1%} to {high:.1%} of the requests are, at 95 %)",
        f"满足目标的最大并发用户数：{users}（95% 置信区间：{low:.1%} 至 {high:.1%} 的请求达标）",
    )[lang]
