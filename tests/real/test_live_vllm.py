"""The live view against a real `vllm serve`: idle, under load, short of memory, hanging, killed and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import quantiles

import pytest

from dstui.telemetry import live_views
from dstui.telemetry.aliases import Family, Thing
from dstui.telemetry.live_status import Status
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import VllmSample
from dstui.telemetry.vllm_alarms import AlarmKind, AlarmState
from dstui.telemetry.vllm_panel import VllmPanel
from dstui.telemetry.vllm_records import sample_of
from dstui.telemetry.vllm_row import STILL_SECONDS, ReplicaRow
from dstui.telemetry.windows import Absent, Present, Why

from reallab import vllm_load
from reallab.cluster import Lab, clean_environment
from reallab.operator import DSTUI
from reallab.pages import Page, bucket_of, page
from reallab.ray_watch import Watch, watching
from reallab.vllm_load import burst, finished, streaming
from reallab.vllm_server import MAX_NUM_SEQS, MODEL, VllmServer
from reallab.vllm_truth import absent, differences, reading

pytestmark = pytest.mark.real

REPLICA = "gpu-01"
KEY = "key-of-the-lab"
KV_BLOCKS = 300
"""Eight long answers of 16-token blocks need half as much again."""

STREAMS, LONG = 12, 1000
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
GENERATED, PROMPTED = "vllm:generation_tokens_total", "vllm:prompt_tokens_total"
FINISHED, PREEMPTED = "vllm:request_success_total", "vllm:num_preemptions_total"
KV = "vllm:kv_cache_usage_perc"
CLIENT_SECONDS = 0.5
"""What a client on a busy machine may see later than the server."""


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[VllmServer]:
    made = VllmServer(lab.hosts[REPLICA], lab.folder, api_key=KEY, kv_blocks=KV_BLOCKS)
    with made:
        yield made


@pytest.fixture
def inventory(lab: Lab, server: VllmServer) -> Path:
    return lab.inventory(
        "vllm",
        serving={"mode": "vllm"},
        engine={"max_num_seqs": MAX_NUM_SEQS},
        endpoints={"api": server.url, "backends": [server.url]},
    )


@asynccontextmanager
async def looking(file: Path) -> AsyncIterator[Watch]:
    """From the first two looks on."""
    async with watching(file) as watch:
        await watch.until(lambda: len(samples(watch)) > 1, "two looks at vLLM", 30.0)
        yield watch


def samples(watch: Watch) -> list[VllmSample]:
    return [sample_of(each) for each in watch.records if of_vllm(each) and each.kind is RecordKind.SAMPLE]


def of_vllm(record: Record) -> bool:
    return record.source == f"vllm:{REPLICA}"


def panel(watch: Watch) -> VllmPanel:
    return live_views.vllm_view(watch.live, time.time())


def row(watch: Watch) -> ReplicaRow:
    (found,) = panel(watch).rows
    return found


def status(watch: Watch) -> Status:
    return row(watch).shown.status


def alarm(watch: Watch, kind: AlarmKind) -> AlarmState:
    (found,) = (each for each in panel(watch).of(REPLICA) if each.kind is kind)
    return found.state


def number(value: Present[float] | Absent) -> float:
    assert isinstance(value, Present), value
    return value.value


async def test_while_idle_it_says_what_the_page_says(inventory: Path, server: VllmServer) -> None:
    async with looking(inventory) as watch:
        said = page(f"{server.url}/metrics")
        shown = row(watch)
        assert (shown.replica, shown.models, shown.engines, shown.family) == (REPLICA, (MODEL,), 1, Family.NATIVE)
        assert shown.shown.status is Status.LIVE
        (engine,) = samples(watch)[-1].engines
        assert differences(engine, said, "vllm:") == []
        # vLLM 0.32 has neither: not there is not 0.
        assert absent(engine) == {Thing.SWAPPED, Thing.PREFIX_HIT_RATE}
        assert isinstance(shown.swapped, Absent) and shown.swapped.why is Why.NOT_EXPORTED
        assert (number(shown.running), number(shown.waiting), number(shown.kv)) == (0.0, 0.0, 0.0)
        assert (number(shown.generation_per_s), number(shown.prompt_per_s)) == (0.0, 0.0)
        for held in (shown.ttft, shown.itl, shown.e2e, shown.queue):
            assert isinstance(held.p95, Absent) and held.p95.why is Why.IDLE
        assert panel(watch).raised == ()
        told = engine.cache_config
        assert isinstance(told, Present) and told.value["num_gpu_blocks_override"] == str(KV_BLOCKS)


async def test_a_burst_is_counted_as_the_client_counted_it(inventory: Path, server: VllmServer) -> None:
    async with looking(inventory) as watch:
        before = page(f"{server.url}/metrics")
        answers = await burst(server.url, key=KEY, length=6, stop=3)
        after = page(f"{server.url}/metrics")
        assert finished(answers) == {"length": 6, "stop": 3}
        ended = time.time()
        await watch.until(lambda: samples(watch)[-1].at > ended + 0.5, "a look after the burst", 10.0)
        (engine,) = samples(watch)[-1].engines
        assert differences(engine, after, "vllm:") == []
        shown = row(watch)
        assert shown.short_seconds is not None and shown.long_seconds is not None and shown.short_seconds < 12
        generated, prompted = (sum(counts) for counts in zip(*(each.counted for each in answers), strict=True))
        assert number(shown.generation_per_s) * shown.short_seconds == pytest.approx(generated)
        assert number(shown.prompt_per_s) * shown.short_seconds == pytest.approx(prompted)
        ends = shown.finished_per_s
        assert isinstance(ends, Present)
        counted = {reason: round(rate * shown.long_seconds, 6) for reason, rate in ends.value.items()}
        assert {reason: count for reason, count in counted.items() if count} == finished(answers)
        assert number(shown.error_share) == 0.0
        for thing, held in ((Thing.TTFT, shown.ttft), (Thing.ITL, shown.itl), (Thing.E2E, shown.e2e)):
            measured = engine.histograms[thing]
            assert isinstance(measured, Present)
            for q, shown_q in ((0.5, held.p50), (0.95, held.p95)):
                lower, upper = bucket_of(q, before.buckets(measured.name), after.buckets(measured.name))
                assert isinstance(shown_q, Present)
                assert lower <= shown_q.value.value <= upper
        firsts = quantiles([each.first or 0.0 for each in answers], n=2)
        lower, upper = bucket_of(0.5, *(each.buckets("vllm:time_to_first_token_seconds") for each in (before, after)))
        assert lower <= firsts[0] <= upper + CLIENT_SECONDS


async def test_watch_prints_it_as_json(lab: Lab, inventory: Path, server: VllmServer) -> None:
    argv = [DSTUI, "watch", "-i", str(inventory), "--output=json", "--seconds=40"]
    watching_it = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=clean_environment(lab.folder), limit=1 << 22
    )
    assert watching_it.stdout is not None
    try:
        async with asyncio.timeout(60.0):
            header = json.loads(await watching_it.stdout.readline())
            assert header["intervals"]["vllm"] == 1.0
            first = await _next_look(watching_it.stdout, 0.0)
            answers = await burst(server.url, key=KEY, length=4, stop=2)
            last = await _next_look(watching_it.stdout, time.time() + 0.5)
    finally:
        watching_it.send_signal(signal.SIGINT)
        assert await watching_it.wait() == 0
    said = page(f"{server.url}/metrics")
    assert _value(last, "generation_tokens") == said.total(GENERATED)
    assert last["finished"]["value"] == said.by(FINISHED, "finished_reason")
    grown = [_value(last, name) - _value(first, name) for name in ("prompt_tokens", "generation_tokens")]
    assert grown == [sum(each.prompt or 0 for each in answers), sum(each.completion or 0 for each in answers)]
    assert last["histograms"]["ttft"]["counts"][-1] - first["histograms"]["ttft"]["counts"][-1] == len(answers)
    assert last["numbers"]["swapped"]["absent"] == "not-exported"


async def _next_look(lines: asyncio.StreamReader, since: float) -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    """The engine in the next sample of the replica that is not older."""
    while True:
        found = json.loads(await lines.readline())
        if found["source"] == f"vllm:{REPLICA}" and found["kind"] == "sample" and found["at"] > since:
            return found["data"]["engines"][0]


def _value(engine: Mapping[str, Mapping[str, Mapping[str, object]]], name: str) -> float:
    value = engine["numbers"][name]["value"]
    assert isinstance(value, int | float)
    return value


async def test_under_load_it_says_what_the_page_says_and_that_memory_is_short(
    inventory: Path, server: VllmServer
) -> None:
    async with looking(inventory) as watch, reading(f"{server.url}/metrics") as pages:
        # From here on every look has pages of before and after it.
        await watch.until(lambda: pages.has_around(samples(watch)[-1].at), "pages", 10.0)
        begin = samples(watch)[-1].at
        async with streaming(server.url, STREAMS, tokens=LONG, key=KEY):
            await watch.until(lambda: panel(watch).pressure(REPLICA) is AlarmState.RAISED, "KV pressure", 60.0)
            await watch.until(lambda: alarm(watch, AlarmKind.PREEMPTING) is AlarmState.RAISED, "preemptions", 60.0)
            await watch.until(lambda: samples(watch)[-1].at - begin > 12, "windows that are full of load", 20.0)
            shown, newest = row(watch), samples(watch)[-1]
            await watch.until(lambda: pages.has_around(newest.at), "a page after it", 10.0)
        seen = [each for each in samples(watch) if begin <= each.at <= newest.at]
        gauges = 0
        for look in seen:
            older, newer = pages.around(look.at)
            numbers = look.engines[0].numbers
            for thing, name in ((Thing.GENERATION_TOKENS, GENERATED), (Thing.PROMPT_TOKENS, PROMPTED)):
                assert older.total(name) <= number(numbers[thing]) <= newer.total(name)
            same = {name: older.total(name) == newer.total(name) for name in (RUNNING, WAITING, PREEMPTED)}
            ends = older.by(FINISHED, "finished_reason") == newer.by(FINISHED, "finished_reason")
            if all(same.values()) and ends and older.total(RUNNING) > 0:
                gauges += 1
                assert number(numbers[Thing.RUNNING]) == older.total(RUNNING)
                assert number(numbers[Thing.WAITING]) == older.total(WAITING)
                assert older.total(KV) <= number(numbers[Thing.KV_USAGE]) <= newer.total(KV)
        assert gauges, "no moment at which nothing changed"
        assert shown.short_seconds is not None
        lowest, highest = _between(pages.around(newest.at - shown.short_seconds), pages.around(newest.at), GENERATED)
        assert lowest <= number(shown.generation_per_s) * shown.short_seconds <= highest
        assert any(number(look.engines[0].numbers[Thing.WAITING]) > 0 for look in seen)
        events = watch.events()
        assert any("preempted per minute" in event for event in events), events
        await watch.until(lambda: alarm(watch, AlarmKind.KV_FULL) is AlarmState.CLEAR, "the KV cache to be free", 20.0)
        await watch.until(lambda: number(row(watch).running) == 0.0, "nothing to run", 20.0)


def _between(older: tuple[Page, Page], newer: tuple[Page, Page], name: str) -> tuple[float, float]:
    """The least and the most that a counter can have grown from one look to another."""
    return newer[0].total(name) - older[1].total(name), newer[1].total(name) - older[0].total(name)


async def test_an_engine_that_hangs_is_told_from_one_that_works(inventory: Path, server: VllmServer) -> None:
    async with looking(inventory) as watch:
        async with streaming(server.url, 2, tokens=LONG, key=KEY):
            await watch.until(lambda: alarm(watch, AlarmKind.STALLED) is AlarmState.CLEAR
                              and number(row(watch).running) == 2.0, "two to run", 20.0)  # fmt: skip
            server.signal_engine(signal.SIGSTOP)
            stopped = time.time()
            try:
                await watch.until(lambda: alarm(watch, AlarmKind.STALLED) is AlarmState.RAISED, "the alarm", 60.0)
                took = time.time() - stopped
                hangs = "the engine hangs"
                await watch.until(lambda: any(hangs in event for event in watch.events()), "the event", 5.0)
                # The page itself goes on saying that two run, and the server that it is well.
                assert page(f"{server.url}/metrics").total(RUNNING) == number(row(watch).running) == 2.0
                assert server.answers("/health") == 200
            finally:
                server.signal_engine(signal.SIGCONT)
            assert STILL_SECONDS - 2 <= took <= STILL_SECONDS + 5
            await watch.until(lambda: alarm(watch, AlarmKind.STALLED) is AlarmState.CLEAR, "it to go on", 20.0)
        await watch.until(lambda: any("is fine again" in event for event in watch.events()), "its end", 30.0)


async def test_a_killed_engine_is_never_shown_as_working(inventory: Path, server: VllmServer) -> None:
    async with looking(inventory) as watch:
        load = asyncio.create_task(_load_until_it_fails(server))
        await watch.until(lambda: number(row(watch).running) > 0, "load", 20.0)
        server.signal_engine(signal.SIGKILL)
        await watch.until(lambda: status(watch) is Status.LOST, "a word about the engine", 5.0)
        lost, first = time.time(), row(watch).shown
        assert first.why is not None and server.url in first.why.en
        seen = []
        while status(watch) is not Status.UNKNOWN:
            shown, total = row(watch), panel(watch).totals
            seen.append(shown.shown.status)
            assert shown.shown.why is not None and shown.shown.age is not None and shown.shown.age > 0
            assert (total.running.counted, total.running.of) == (0, 1)
            assert isinstance(total.running.value, Absent)
            assert alarm(watch, AlarmKind.SILENT) is AlarmState.RAISED
            assert time.time() - lost < 30
            await asyncio.sleep(0.1)
        assert set(seen) == {Status.LOST}
        shown = row(watch)
        for value in (shown.running, shown.waiting, shown.kv, shown.generation_per_s, shown.prompt_per_s):
            assert isinstance(value, Absent) and value.why is Why.OLD
        assert shown.shown.why is not None and "refused" in shown.shown.why.en
        await load
        server.stop()
        await asyncio.to_thread(server.start)
        await watch.until(lambda: status(watch) is Status.LIVE, "the new server", 10.0)
        assert any("gives metrics again" in event for event in watch.events())
        answers = await burst(server.url, key=KEY, length=2)
        assert finished(answers) == {"length": 2}
        await watch.until(lambda: isinstance(row(watch).finished_per_s, Present)
                          and number(row(watch).generation_per_s) >= 0, "windows of the new server", 20.0)  # fmt: skip
        (engine,) = samples(watch)[-1].engines
        assert differences(engine, page(f"{server.url}/metrics"), "vllm:") == []
        counters = [number(each.engines[0].numbers[Thing.GENERATION_TOKENS]) for each in samples(watch)]
        assert any(newer < older for older, newer in pairwise(counters))


async def _load_until_it_fails(server: VllmServer) -> None:
    async with vllm_load.client() as http:
        answers = (vllm_load.ask(http, server.url, tokens=LONG, key=KEY) for _ in range(4))
        for found in await asyncio.gather(*answers, return_exceptions=True):
            assert isinstance(found, Exception)
