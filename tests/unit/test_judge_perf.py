"""perf.single-user-latency, perf.max-batch and perf.concurrent-users: every rule, on both sides of every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from perf_worlds import (
    API,
    BACKEND,
    MODEL,
    NOW,
    SITE,
    batch,
    case,
    enough,
    generator,
    histogram,
    ladder,
    level,
    levels,
    ruling,
    single,
)

from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Lengths, Loop, Prompts, Stage, StageKind
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.window import HostWindow, Point, ReplicaWindow, Window
from dstui.model import Reason, Ruling, Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
USERS, SINGLE, BATCH = "perf.concurrent-users", "perf.single-user-latency", "perf.max-batch"
CHECKS = (SINGLE, BATCH, USERS, "perf.gpu-util", "perf.memory", "perf.network")
DAY = 86_400.0


def words(found: Ruling) -> str:
    return "\n".join(text.en for text in (found.observed, found.rule, *found.notes))


def bilingual(found: Ruling) -> bool:
    texts = (found.observed, found.expected, found.rule, *found.notes)
    return all(text.en and text.zh for text in texts)


def users_of(*stages: StageResult, **changes: Any) -> Ruling:
    """perf.concurrent-users when some of the levels are as given."""
    given = {stage.stage.users: stage for stage in stages}
    whole = [given.get(stage.stage.users, stage) for stage in levels()]
    return ruling(USERS, ladder(*whole, **changes))


# The ladder itself


@pytest.mark.parametrize("check", CHECKS)
def test_a_ladder_that_is_well_passes(check: str) -> None:
    found = ruling(check, ladder(single(), batch(), *levels()))
    assert (found.verdict, found.rule.en) == (PASS, found.rule.en), words(found)
    assert bilingual(found)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("ladders", "said"),
    [
        ([], "no ladder"),
        ([ladder(single(), batch(), *levels(), at=NOW - 30 * DAY - 1)], "30 days old (at most 30)"),
        ([ladder(single(), batch(), *levels(), at=NOW + 301)], "a time to come"),
        ([ladder(single(), batch(), *levels(), url="http://other:8000")], "was on http://other:8000"),
        ([ladder(single(), batch(), *levels(), model="other")], "asked the model other"),
        ([replace(ladder(single(), batch(), *levels()), simulated=True)], "simulated"),
    ],
)
def test_a_ladder_that_does_not_count(check: str, ladders: Sequence[LadderResult], said: str) -> None:
    found = ruling(check, *ladders)
    assert found.verdict is UNKNOWN
    assert said in found.observed.en
    assert "run `dstui ladder` or press L" in found.observed.en
    assert bilingual(found)


@pytest.mark.parametrize("check", CHECKS)
def test_no_endpoint_and_a_row_that_cannot_be_read(check: str) -> None:
    assert ruling(check, ladder(single(), batch(), *levels()), api=None).reason is Reason.NO_TARGETS
    found = ruling(check, ladder(single(), batch(), *levels()), fault="journal row 7: version is 2")
    assert (found.verdict, found.reason) == (UNKNOWN, Reason.PARSE_ERROR)


@pytest.mark.parametrize("check", CHECKS)
def test_the_last_moment_and_other_ways_to_write_the_address(check: str) -> None:
    assert ruling(check, ladder(single(), batch(), *levels(), at=NOW - 30 * DAY)).verdict is PASS
    assert ruling(check, ladder(single(), batch(), *levels(), url=f"{API}/v1/")).verdict is PASS
    assert ruling(check, replace(ladder(single(), batch(), *levels()), simulated=True), simulated=True).verdict is PASS


def test_the_newest_of_a_kind_counts_and_a_ladder_elsewhere_does_not() -> None:
    well, bad = ladder(single(), *levels()), ladder(level(1, ttft=9.0), *levels()[1:])
    assert ruling(USERS, well, bad).verdict is FAIL
    assert ruling(USERS, bad, well).verdict is PASS
    assert ruling(SINGLE, well, bad).verdict is PASS, "the second did not set out to do it"
    assert ruling(USERS, well, replace(bad, ladder=replace(bad.ladder, url="http://other"))).verdict is PASS


@pytest.mark.parametrize(("check", "kind"), [(SINGLE, StageKind.SINGLE), (BATCH, StageKind.BATCH)])
def test_a_stage_that_was_not_reached(check: str, kind: StageKind) -> None:
    cut = ladder(single(), batch(), *levels())
    cut = replace(cut, stages=tuple(s for s in cut.stages if s.stage.kind is not kind), stopped="by li.na")
    found = ruling(check, cut)
    assert found.verdict is UNKNOWN
    assert "by li.na" in words(found)


# Every stage


BAD_GENERATORS = {
    "cpu": (generator(cpu=0.8), generator(cpu=0.79)),
    "no cpu": (generator(cpu=None), generator()),
    "lag": (generator(lag=0.05), generator(lag=0.049)),
    "no lag": (replace(generator(), lag=Histogram()), generator()),
    "nofile": (generator(nofile=200), generator()),
    "no nofile": (generator(nofile=None), generator()),
    "clock": (replace(generator(), clock_jump=0.051), replace(generator(), clock_jump=0.05)),
    "clock back": (replace(generator(), clock_jump=-0.051), replace(generator(), clock_jump=-0.05)),
    "lost": (replace(generator(), lost=("worker 2: killed",)), generator()),
    "no worker": (replace(generator(), workers=0), generator()),
    "nothing": (Generator(), generator()),
}


@pytest.mark.parametrize("name", BAD_GENERATORS)
def test_a_generator_that_was_the_bottleneck(name: str) -> None:
    bad, good = BAD_GENERATORS[name]
    for made, verdict in ((bad, UNKNOWN), (good, PASS)):
        assert ruling(SINGLE, ladder(replace(single(), generator=made))).verdict is verdict
        assert ruling(BATCH, ladder(replace(batch(), generator=made))).verdict is verdict
        assert users_of(replace(level(50), generator=made)).verdict is verdict


def test_nofile_is_for_every_user_and_two_hundred_more() -> None:
    assert users_of(replace(level(500), generator=generator(nofile=699))).verdict is UNKNOWN
    assert users_of(replace(level(500), generator=generator(nofile=700))).verdict is PASS


def test_a_slow_service_under_a_limited_generator_is_not_failed() -> None:
    slow = replace(level(50, ttft=9.0), generator=generator(cpu=0.99))
    assert users_of(slow).verdict is UNKNOWN
    assert "generator" in words(users_of(slow))


@pytest.mark.parametrize("check", [SINGLE, BATCH, USERS])
def test_counts_that_do_not_add_up(check: str) -> None:
    def short(stage: StageResult) -> StageResult:
        return replace(stage, counts=replace(stage.counts, begun=stage.counts.begun + 1))

    found = ruling(check, ladder(short(single()), short(batch()), *map(short, levels())))
    assert found.verdict is UNKNOWN
    assert "accounted for" in words(found)


@pytest.mark.parametrize("check", [SINGLE, BATCH, USERS])
def test_a_stage_that_was_stopped(check: str) -> None:
    stages = [replace(stage, stopped="by li.na") for stage in (single(), batch(), *levels())]
    found = ruling(check, ladder(*stages))
    assert found.verdict is UNKNOWN
    assert "stopped: by li.na" in words(found)


# perf.concurrent-users


def test_users_errors() -> None:
    assert users_of(enough(level(50), errors={"http-500": 1}, per=100)).verdict is PASS
    found = users_of(enough(level(50), errors={"http-500": 2}, per=100))
    assert found.verdict is FAIL
    assert "2 % errors" in words(found)
    assert "highest passing level: 500" in words(found)


def test_users_ttft_limit_of_each_level() -> None:
    for users, limit in {1: 1.0, 50: 2.0, 100: 3.0, 200: 5.0, 500: 10.0}.items():
        assert users_of(level(users, ttft=limit)).verdict is PASS
        found = users_of(level(users, ttft=limit * 1.02))
        assert found.verdict is FAIL
        assert f"level {users}: TTFT p95" in found.rule.en


def test_users_between_two_limits_the_lower_holds() -> None:
    for users, limit in {20: 1.0, 75: 2.0, 1000: 10.0}.items():
        own = {"levels": (users,)}
        assert ruling(USERS, ladder(level(users, ttft=limit)), params=own).verdict is PASS
        assert ruling(USERS, ladder(level(users, ttft=limit * 1.02)), params=own).verdict is FAIL


def test_users_names_the_highest_passing_level() -> None:
    found = users_of(level(200, ttft=6.0), level(500, ttft=20.0))
    assert found.verdict is FAIL
    assert "highest passing level: 100" in found.rule.en
    assert "100 of 500 users pass" in found.observed.en
    nothing = users_of(*(level(users, ttft=30.0) for users in (1, 50, 100, 200, 500)))
    assert "highest passing level: none" in nothing.rule.en


def test_users_shed_by_the_service() -> None:
    queue = Window(replicas={"r": ReplicaWindow(120, 120, waiting_peak=9.0)})
    for window, samples in ((queue, ()), (Window(), ("503 Request dropped due to backpressure (num_queued…)",))):
        some = replace(enough(level(200), shed=6, per=100), window=window, samples=samples)
        found = users_of(some)
        assert found.verdict is FAIL, words(found)
        assert "by the service" in words(found)


def test_users_shed_by_a_limiter() -> None:
    idle = Window(replicas={"r": ReplicaWindow(120, 120, waiting_peak=0.0)})
    for window in (idle, Window()):
        stage = replace(enough(level(200), shed=6, per=100), window=window, samples=("429 Too Many Requests",))
        found = users_of(stage)
        assert found.verdict is UNKNOWN
        assert "rate-limit zone" in words(found)
    assert users_of(enough(level(200), shed=5, per=100)).verdict is PASS


def test_users_levels_that_are_missing() -> None:
    found = ruling(USERS, ladder(*levels()[:-1]))
    assert (found.verdict, found.reason) == (UNKNOWN, Reason.NOT_RUN)
    assert "level 500" in found.rule.en
    assert ruling(USERS, ladder(*levels()), params={"levels": (1, 300)}).verdict is UNKNOWN
    assert ruling(USERS, ladder(*levels()), params={"levels": ()}).verdict is UNKNOWN
    assert ruling(USERS, ladder(*levels()), params={"ttft_p95_max_s": {"50": 2}}).verdict is UNKNOWN
    for limit in (True, "5", 0, -1, None):
        table = {"1": 1, "50": 2, "100": 3, "200": 5, "500": limit}
        assert ruling(USERS, ladder(*levels()), params={"ttft_p95_max_s": table}).verdict is UNKNOWN


def test_users_a_failed_level_outweighs_one_that_is_missing() -> None:
    assert ruling(USERS, ladder(level(1), level(50, ttft=9.0))).verdict is FAIL


def test_users_stopped_by_the_guard() -> None:
    stage = replace(enough(level(200), errors={"http-503": 30}, per=100), stopped="errors above 20 % for 15 s")
    found = users_of(stage)
    assert found.verdict is FAIL, "what it showed until then breaks the limit"
    few = Counts(begun=10, ok=0, errors={"http-503": 10})
    assert users_of(replace(stage, counts=few)).verdict is UNKNOWN
    slow = replace(level(200, ttft=30.0), stopped="the engine's health is lost")
    assert users_of(slow).verdict is UNKNOWN


def test_users_throughput_that_collapses() -> None:
    base = level(100)
    assert base.tokens_per_second is not None
    for part, verdict in ((0.79, WARN), (0.81, PASS)):
        fallen = replace(level(200), tokens_out=int(base.tokens_out * part))
        top = replace(level(500), tokens_out=int(base.tokens_out * part))
        found = users_of(fallen, top)
        assert found.verdict is verdict, words(found)
    assert "congestion collapse" in words(users_of(replace(level(200), tokens_out=1)))


def test_users_a_long_tail() -> None:
    for tail, verdict in ((5.2, WARN), (4.8, PASS)):
        times = replace(level(200).times, ttft=histogram((0.2, 96), (0.2 * tail, 4)))
        stage = replace(level(200), times=times)
        times.ttft.merge(histogram((0.2, stage.counts.ok)))
        times.ttft.merge(histogram((0.2 * tail, stage.counts.ok // 20)))
        assert users_of(stage).verdict is verdict


def test_users_who_hang() -> None:
    whole = level(500)
    some = replace(whole, times=replace(whole.times, e2e=histogram((3.0, whole.counts.ok // 2))))
    found = users_of(some)
    assert found.verdict is UNKNOWN
    assert "some hang" in words(found)


@pytest.mark.parametrize(("cut", "verdict"), [(1, PASS), (2, UNKNOWN)])
def test_users_requests_without_an_end(cut: int, verdict: Verdict) -> None:
    counts = level(200).counts
    cut = counts.ok * cut // 100 - 1
    stage = replace(level(200), counts=replace(counts, begun=counts.begun + cut, aborted=cut))
    assert users_of(stage).verdict is verdict


def test_users_errors_at_the_edges_are_told() -> None:
    stage = level(200)
    found = users_of(replace(stage, counts=replace(stage.counts, outside_errors=3)))
    assert found.verdict is WARN
    assert "edges" in found.rule.en


def test_users_a_window_that_is_too_short() -> None:
    for users, ended, verdict in ((500, 499, UNKNOWN), (1, 4, UNKNOWN), (50, 49, UNKNOWN)):
        times = Times(ttft=histogram((0.1, ended)), e2e=histogram((3.0, ended)))
        stage = replace(level(users), counts=Counts(ended, ended), times=times, ended=NOW + 6.0, began=NOW)
        assert users_of(stage).verdict is verdict
    assert users_of(replace(level(50), ended=level(50).began)).verdict is UNKNOWN


def test_users_nothing_measured() -> None:
    assert users_of(replace(level(50), times=replace(level(50).times, ttft=Histogram()))).verdict is UNKNOWN
    assert users_of(replace(level(50), tokens_out=0)).verdict is UNKNOWN


def test_users_open_loop_and_pauses() -> None:
    assert ruling(USERS, ladder(*levels(), loop=Loop.POISSON)).verdict is UNKNOWN
    rated = [replace(s, stage=replace(s.stage, rate=5.0)) for s in levels()]
    assert ruling(USERS, ladder(*rated)).verdict is UNKNOWN
    found = ruling(USERS, ladder(*levels(), think=1.0))
    assert found.verdict is UNKNOWN
    assert "paused" in words(found)
    assert ruling(USERS, ladder(*levels(), think=1.0), params={"think_time_s": 1.0}).verdict is PASS


def test_users_levels_that_went_elsewhere_do_not_count() -> None:
    aside = [replace(s, stage=replace(s.stage, url=BACKEND)) for s in levels()]
    assert ruling(USERS, ladder(*aside)).verdict is UNKNOWN


@pytest.mark.parametrize(
    ("prompts", "verdict"),
    [
        (Prompts(), PASS),
        (Prompts(fresh=False), WARN),
        (Prompts(Lengths(511), Lengths(128)), WARN),
        (Prompts(Lengths(512), Lengths(127)), WARN),
        (Prompts(Lengths(1), Lengths(1), file="talk.jsonl"), PASS),
    ],
)
def test_users_prompts_that_are_lighter(prompts: Prompts, verdict: Verdict) -> None:
    assert ruling(USERS, ladder(*levels(), prompts=prompts)).verdict is verdict
    own = [replace(s, stage=replace(s.stage, prompts=prompts)) for s in levels()]
    assert ruling(USERS, ladder(*own)).verdict is verdict


def test_users_the_knee_and_where_the_time_goes() -> None:
    flat = replace(level(500), tokens_out=int(level(200).tokens_out))
    assert "knee at 200 users" in words(users_of(flat))
    told = Window(replicas={"r": ReplicaWindow(120, 120, ttft_p50=0.1)})
    slow = replace(level(500, ttft=3.0), window=told)
    assert "queueing at the balancer or Serve's router" in words(users_of(slow))
    near = replace(level(500, ttft=0.14), window=told)
    assert "queueing" not in words(users_of(near))
    late = replace(level(500, ttft=0.26), window=told, generator=generator(lag=0.09))
    assert "the generator itself is 90 ms late" in words(users_of(late))


# Regressions


def before(**changes: Any) -> LadderResult:
    return ladder(*levels(), at=NOW - 10 * DAY, **changes)


def slower(times: float) -> LadderResult:
    return ladder(*(level(s.stage.users, ttft=0.2 * times) if s.stage.users == 50 else s for s in levels()))


def less(part: float) -> LadderResult:
    stages = [replace(s, tokens_out=int(s.tokens_out * part)) if s.stage.users == 500 else s for s in levels()]
    return ladder(*stages)


@pytest.mark.parametrize(
    ("newest", "verdict", "said"),
    [
        (slower(1.0), PASS, "no worse than the ladder of"),
        (slower(1.08), PASS, "no worse"),
        (slower(1.13), WARN, "level 50 is"),
        (slower(1.3), WARN, "REGRESSION: level 50 is"),
        (slower(0.5), PASS, "no worse"),
        (less(0.91), PASS, "no worse"),
        (less(0.89), WARN, "level 500 is 11 % worse than on"),
        (less(0.76), WARN, "level 500 is 24 % worse than on"),
        (less(0.74), WARN, "REGRESSION: level 500 is 26 % worse than on"),
    ],
)
def test_against_the_last_accepted_ladder(newest: LadderResult, verdict: Verdict, said: str) -> None:
    found = ruling(USERS, before(), newest)
    assert found.verdict is verdict, words(found)
    assert said in words(found)
    assert bilingual(found)


def test_levels_of_a_search_do_not_hinder_the_comparison() -> None:
    searched = ladder(*before().stages, level(270), at=NOW - DAY)
    assert "no worse than the ladder of" in words(ruling(USERS, searched, ladder(*levels())))


def test_mildly_worse_is_not_called_a_regression() -> None:
    assert "REGRESSION" not in words(ruling(USERS, before(), slower(1.13)))


@pytest.mark.parametrize(
    "other",
    [
        before(prompts=Prompts(Lengths(513))),
        before(loop=Loop.CONSTANT),
        before(think=0.5),
        before(url="http://other"),
        before(model="other"),
        replace(before(), stopped="by li.na"),
        replace(before(), simulated=True),
        ladder(*levels()[:-1], at=NOW - DAY),
        ladder(*(replace(s, generator=generator(cpu=0.9)) for s in levels()), at=NOW - DAY),
        ladder(*(replace(s, stopped="x") for s in levels()), at=NOW - DAY),
    ],
)
def test_what_a_ladder_is_not_compared_with(other: LadderResult) -> None:
    found = ruling(USERS, other, slower(3.0))
    assert found.verdict is PASS
    assert "no earlier ladder of the same" in words(found)
    assert "REGRESSION" in words(ruling(USERS, before(), other, slower(3.0))), "the one before it is"


# perf.single-user-latency


def alone(stage: StageResult, *more: StageResult, params: Mapping[str, object] | None = None) -> Ruling:
    return ruling(SINGLE, ladder(stage, *more), params=params)


def test_single_p95() -> None:
    assert alone(single(ttft=0.98)).verdict is PASS
    found = alone(single(ttft=1.01))
    assert found.verdict is FAIL
    assert "TTFT p95 1.01 s (below 1 s)" in found.rule.en
    exact = single(ttft=1.0)
    assert alone(exact).verdict is FAIL


def test_single_errors() -> None:
    assert alone(enough(single(), errors={"cut": 1})).verdict is FAIL
    assert alone(enough(single(), shed=1)).verdict is WARN


@pytest.mark.parametrize(("ok", "verdict"), [(0, UNKNOWN), (19, UNKNOWN), (20, WARN), (29, WARN), (30, PASS)])
def test_single_successes(ok: int, verdict: Verdict) -> None:
    assert alone(single(ok=ok)).verdict is verdict
    slow = alone(single(ok=ok, ttft=2.0)).verdict
    assert slow is (UNKNOWN if ok < 20 else FAIL)


def test_single_tail() -> None:
    for tail, verdict in ((3.1, WARN), (2.9, PASS)):
        times = replace(single().times, ttft=histogram((0.2, 29), (0.2 * tail, 1)))
        assert alone(replace(single(), times=times)).verdict is verdict


def test_single_short_answer() -> None:
    assert alone(single(e2e=0.9)).verdict is PASS
    found = alone(single(e2e=1.1))
    assert found.verdict is WARN
    assert "an answer of 16 tokens takes" in found.rule.en
    long = single(tokens=128, e2e=9.0)
    assert alone(replace(long, times=replace(long.times, tpot=histogram((0.02, 30))))).verdict is PASS
    guessed = alone(replace(long, times=replace(long.times, tpot=histogram((0.08, 30)))))
    assert guessed.verdict is WARN
    assert "by estimate" in guessed.rule.en
    assert "was not measured" in words(alone(replace(long, times=replace(long.times, tpot=Histogram()))))


def test_single_other_metrics() -> None:
    assert alone(single(e2e=0.9), params={"metric": "e2e_short"}).verdict is PASS
    assert alone(single(e2e=1.1), params={"metric": "e2e_short"}).verdict is FAIL
    assert alone(single(e2e=0.9, tokens=8), params={"metric": "e2e_short"}).verdict is UNKNOWN
    assert alone(single(e2e=0.9, tokens=16), params={"metric": "e2e"}).verdict is UNKNOWN
    assert alone(single(e2e=0.9, tokens=128), params={"metric": "e2e"}).verdict is PASS
    assert alone(single(e2e=1.1, tokens=128), params={"metric": "e2e"}).verdict is FAIL
    assert alone(single(ttft=0.9), params={"limit_s": 0.5}).verdict is FAIL


def test_single_the_balancer() -> None:
    straight = replace(single(ttft=0.1, ok=10), stage=Stage(StageKind.DIRECT, 1, requests=10, url=BACKEND))
    assert alone(single(ttft=0.19), straight).verdict is PASS
    found = alone(single(ttft=0.22), straight)
    assert found.verdict is WARN
    assert "the balancer adds" in found.rule.en
    lame = replace(straight, generator=Generator())
    assert alone(single(ttft=0.9), lame).verdict is PASS
    assert "straight to a backend: generator" in words(alone(single(ttft=0.9), lame))
    assert "straight to a backend: not measured" in words(alone(single()))


def test_single_other_traffic() -> None:
    def seen(window: Window) -> Verdict:
        return alone(replace(single(), window=window)).verdict

    assert seen(Window(timeline=(Point(1.0, running=1.0),))) is PASS
    assert seen(Window(timeline=(Point(1.0), Point(2.0, running=2.0)))) is UNKNOWN
    twice_in_one_second = (Point(1.0, running=2.0), Point(2.0, running=1.0), Point(3.0, running=9.0))
    assert seen(Window(timeline=twice_in_one_second)) is PASS
    assert seen(Window(replicas={"r": ReplicaWindow(60, 60, running_peak=1.0, running_mean=0.9)})) is PASS
    assert seen(Window(replicas={"r": ReplicaWindow(60, 60, running_peak=2.0)})) is UNKNOWN
    one = ReplicaWindow(60, 60, running_peak=1.0, running_mean=0.6)
    assert seen(Window(replicas={"r": one, "s": one})) is UNKNOWN
    assert "was not seen" in words(alone(replace(single(), window=Window(why="not watched"))))


def test_single_requests_that_hang_and_prompts_that_flatter() -> None:
    stage = single()
    hung = replace(stage.counts, begun=stage.counts.begun + 1, aborted=1)
    assert alone(replace(stage, counts=hung)).verdict is UNKNOWN
    for prompts in (Prompts(Lengths(63), Lengths(16)), Prompts(Lengths(64), Lengths(16), fresh=False)):
        assert alone(replace(stage, stage=replace(stage.stage, prompts=prompts))).verdict is WARN


# perf.max-batch


def full(params: Mapping[str, object] | None = None, **changes: Any) -> Ruling:
    stage = batch()
    replicas = {name: replace(seen, **changes) for name, seen in stage.window.replicas.items()}
    return ruling(BATCH, ladder(replace(stage, window=replace(stage.window, replicas=replicas))), params=params)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"running_peak": 244.0}, PASS, "reached and held"),
        ({"running_peak": 243.0, "waiting_peak": 0.0}, WARN, "throttles earlier"),
        ({"running_peak": 5.0, "waiting_peak": 0.0}, WARN, "Serve (max_ongoing_requests)"),
        ({"running_peak": 200.0, "waiting_peak": 1.0}, WARN, "KV cache full before the batch limit"),
        ({"running_peak": 200.0, "waiting_peak": 0.0, "preemptions": 1.0}, WARN, "KV cache full"),
        ({"running_peak": 200.0, "waiting_peak": 0.0, "kv_peak": 0.99}, WARN, "KV cache full"),
        ({"running_peak": 200.0, "waiting_peak": None, "kv_peak": None}, UNKNOWN, "was not seen"),
        ({"preemptions": 2.0}, PASS, "reached"),
        ({"preemptions": 3.0}, WARN, "preemptions a minute"),
        ({"preemptions": None}, UNKNOWN, "not seen"),
        ({"at_limit": 60.0}, PASS, "reached"),
        ({"at_limit": 59.0}, WARN, "held it for 59 s"),
        ({"at_limit": None}, UNKNOWN, "held"),
        ({"running_peak": None}, UNKNOWN, "not seen"),
        ({"restarted": True}, FAIL, "began anew"),
        ({"samples": 113}, UNKNOWN, "samples came"),
        ({"samples": 114}, PASS, "reached"),
        ({"samples": 0, "why": "HTTP 403"}, UNKNOWN, "HTTP 403"),
        ({"expected": 0}, UNKNOWN, "samples came"),
    ],
)
def test_batch_replicas(changes: dict[str, Any], verdict: Verdict, said: str) -> None:
    found = full(**changes)
    assert found.verdict is verdict, words(found)
    assert said in words(found)
    assert bilingual(found)


def test_batch_one_replica_of_two() -> None:
    stage = batch()
    shy = replace(stage.window.replicas["replica-2"], running_peak=9.0, waiting_peak=0.0)
    window = replace(stage.window, replicas={**stage.window.replicas, "replica-2": shy})
    found = ruling(BATCH, ladder(replace(stage, window=window)))
    assert found.verdict is WARN
    assert "replica-2" in found.rule.en


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [({}, PASS), ({"http-500": 1}, FAIL), ({"timeout": 1}, FAIL), ({"http-404": 1}, UNKNOWN), ({"http-500": 0}, PASS)],
)
def test_batch_errors(errors: Mapping[str, int], verdict: Verdict) -> None:
    assert ruling(BATCH, ladder(enough(batch(), errors=errors))).verdict is verdict


def test_batch_what_fails_whoever_was_limited() -> None:
    limited = replace(enough(batch(), errors={"http-502": 3}), generator=Generator())
    assert ruling(BATCH, ladder(limited)).verdict is FAIL
    killed = Window(hosts={"gpu-01": HostWindow(120, 120, oom=1.0)}, replicas=batch().window.replicas)
    assert ruling(BATCH, ladder(replace(batch(), window=killed))).verdict is FAIL
    assert ruling(BATCH, ladder(replace(batch(), stopped="deep health lost"))).verdict is FAIL


def test_batch_cannot_tell() -> None:
    assert full({"max_num_seqs": None}).verdict is UNKNOWN
    assert full({"replicas_expected": 3}).verdict is UNKNOWN
    assert full({"replicas_expected": None}).verdict is PASS
    dark = ruling(BATCH, ladder(replace(batch(), window=Window(why="no metrics port"))))
    assert dark.verdict is UNKNOWN
    assert "no metrics port" in words(dark)
    planned = batch()
    planned = replace(planned, stage=replace(planned.stage, users=563))
    shy = {n: replace(r, running_peak=50.0, waiting_peak=0.0) for n, r in planned.window.replicas.items()}
    assert ruling(BATCH, ladder(replace(planned, window=Window(replicas=shy)))).verdict is WARN
    few = replace(planned, stage=replace(planned.stage, users=562))
    shy = {n: replace(r, running_peak=50.0, waiting_peak=0.0) for n, r in few.window.replicas.items()}
    found = ruling(BATCH, ladder(replace(few, window=Window(replicas=shy))))
    assert found.verdict is UNKNOWN
    assert "too few users" in words(found)
    assert "563 fill every batch" in words(found)
    nobody = replace(batch(), counts=Counts())
    assert ruling(BATCH, ladder(nobody)).verdict is UNKNOWN
    hung = replace(batch(), counts=replace(batch().counts, begun=batch().counts.begun + 1, aborted=1))
    assert ruling(BATCH, ladder(hung)).verdict is UNKNOWN
    brief = replace(batch(), began=NOW, ended=NOW + 30.0)
    assert ruling(BATCH, ladder(brief)).verdict is UNKNOWN


# Nothing in it


HOSTILE = {
    "no stages": (),
    "empty": tuple(StageResult(s.stage, 0.0, 0.0, Counts(), Times()) for s in (single(), batch(), *levels())),
    "windows of nothing": tuple(
        StageResult(s, NOW, NOW + 120.0, Counts(), Times(), generator=generator())
        for s in ladder(single(), batch(), *levels()).ladder.stages
    ),
    "no words": tuple(
        replace(s, times=Times(), window=Window(), tokens_out=0) for s in (single(), batch(), *levels())
    ),
    "hosts of nothing": tuple(
        replace(
            s,
            window=Window(
                hosts={h.name: HostWindow(0, 0) for h in SITE.hosts}, replicas={"r": ReplicaWindow(0, 0)}
            ),
        )
        for s in (single(ok=0), replace(batch(), counts=Counts()), *levels())
    ),
    "unseen hosts": tuple(
        replace(
            s,
            window=Window(
                hosts={h.name: HostWindow(120, 120) for h in SITE.hosts}, replicas={"r": ReplicaWindow(120, 120)}
            ),
        )
        for s in (single(ok=0), replace(batch(), counts=Counts()), *levels())
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("check", CHECKS)
def test_nothing_green_comes_of_nothing(check: str, name: str) -> None:
    asked = ladder(single(), batch(), *levels())
    found = ruling(check, replace(asked, stages=HOSTILE[name]))
    if check == USERS and "hosts" in name:
        assert found.verdict is PASS, "it rests on requests alone"
        return
    assert found.verdict is UNKNOWN, words(found)
    assert bilingual(found)


def test_evidence_is_a_table_for_each_check() -> None:
    seen = case(USERS, ladder(single(), batch(), *levels())).observed
    (ladders,) = seen.values()
    pieces = ladders.evidence(ruling(USERS, ladder(*levels())).target)  # type: ignore[attr-defined]
    keys = [piece.key for piece in pieces]
    assert len(set(keys)) == len(keys) == 9
    table = next(piece for piece in pieces if piece.key == "ladder.levels")
    assert [line.split()[0] for line in table.output.splitlines()] == [
        "stage", "level-1", "level-50", "level-100", "level-200", "level-500",
    ]  # fmt: skip
    assert all(len(piece.output.encode()) <= 4096 for piece in pieces)
    assert MODEL in table.source
