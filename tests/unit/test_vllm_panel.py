"""From looks to alarms: the same state in every dialect of names, names missing, restarts, silence, balance."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dstui.model import Reason, UsageError, same
from dstui.telemetry.aliases import Thing
from dstui.telemetry.live_status import Loss, Status
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import VllmSample, parse_metrics
from dstui.telemetry.vllm_alarms import TITLES, Alarm, AlarmKind, AlarmState
from dstui.telemetry.vllm_fleet import VllmFleet
from dstui.telemetry.vllm_history import ReplicaHistory
from dstui.telemetry.vllm_panel import VllmPanel, summarise
from dstui.telemetry.vllm_records import record_of
from dstui.telemetry.windows import Absent, Estimate, Present, Why

PAGES = Path(__file__).parent.parent / "data" / "vllm"
BOUNDS = (0.1, 0.5, 1.0)
RAY = 'Component="core_worker",NodeAddress="10.0.0.7",ReplicaId="3r4e76ag",Version="2.60.0",WorkerId="6f8b9b",'


@dataclass(frozen=True)
class Dialect:
    """How one version writes its page. `names` are bare, of what it has; counters without `_total`."""

    prefix: str
    names: Mapping[Thing, tuple[str, ...]]
    labels: str = ""
    engine: str = 'engine="0",'
    model: str = "model_name"
    counters: tuple[str, ...] = ("_total",)
    outcomes: tuple[str, ...] = ("stop", "length", "abort", "error")


OLD_NAMES = {
    Thing.RUNNING: ("num_requests_running",),
    Thing.WAITING: ("num_requests_waiting",),
    Thing.KV_USAGE: ("gpu_cache_usage_perc",),
    Thing.PROMPT_TOKENS: ("prompt_tokens",),
    Thing.GENERATION_TOKENS: ("generation_tokens",),
    Thing.PREEMPTIONS: ("num_preemptions",),
    Thing.FINISHED: ("request_success",),
    Thing.TTFT: ("time_to_first_token_seconds",),
    Thing.ITL: ("time_per_output_token_seconds",),
    Thing.E2E: ("e2e_request_latency_seconds",),
    Thing.QUEUE: ("request_queue_time_seconds",),
}
BETWEEN_NAMES = OLD_NAMES | {
    Thing.KV_USAGE: ("gpu_cache_usage_perc", "kv_cache_usage_perc"),
    Thing.ITL: ("time_per_output_token_seconds", "inter_token_latency_seconds"),
}
NEW_NAMES = OLD_NAMES | {
    Thing.KV_USAGE: ("kv_cache_usage_perc",),
    Thing.ITL: ("inter_token_latency_seconds",),
    Thing.TPOT: ("request_time_per_output_token_seconds",),
    Thing.REJECTIONS: ("admission_rejections",),
}
OLD_OUTCOMES = ("stop", "length", "abort")
DIALECTS = {
    "0.6.6": Dialect("vllm:", OLD_NAMES, engine="", outcomes=OLD_OUTCOMES),
    "0.8.5": Dialect("vllm:", OLD_NAMES, outcomes=OLD_OUTCOMES),
    "0.10.2": Dialect("vllm:", BETWEEN_NAMES, outcomes=OLD_OUTCOMES),
    "0.33": Dialect("vllm:", NEW_NAMES),
    "0.33 federated": Dialect("vllm:", NEW_NAMES, labels='instance="10.0.0.7:8000",', model="exported_model_name"),
    "0.33 without colons": Dialect("vllm_", NEW_NAMES),
    "0.10.2 in Ray": Dialect("ray_vllm:", BETWEEN_NAMES, labels=RAY, counters=("",), outcomes=OLD_OUTCOMES),
    "0.33 in Ray": Dialect("ray_vllm_", NEW_NAMES, labels=RAY, counters=("", "_total")),
    "0.33 in Ray, no gauges of counters": Dialect("ray_vllm_", NEW_NAMES, labels=RAY),
}


@dataclass(frozen=True)
class State:
    """What an engine would say: counters since its start, `seen` observations per bucket of every histogram."""

    running: float = 8
    waiting: float = 0
    kv: float = 0.4
    prompt: float = 1000
    generation: float = 5000
    preemptions: float = 3
    errors: float = 1
    good: float = 200
    rejections: float = 2
    seen: tuple[int, ...] = (10, 0, 0, 0)

    def value(self, thing: Thing) -> float:
        return {
            Thing.RUNNING: self.running,
            Thing.WAITING: self.waiting,
            Thing.KV_USAGE: self.kv,
            Thing.PROMPT_TOKENS: self.prompt,
            Thing.GENERATION_TOKENS: self.generation,
            Thing.PREEMPTIONS: self.preemptions,
        }[thing]


HEALTHY = State()
LATER = State(prompt=1500, generation=9000, good=240, seen=(40, 10, 0, 0))
SICK = State(
    running=2,
    waiting=15,
    kv=0.95,
    prompt=1200,
    generation=5600,
    preemptions=15,
    errors=6,
    good=215,
    rejections=5,
    seen=(10, 5, 5, 10),
)


def render(dialect: Dialect, state: State, without: Iterable[str] = ()) -> str:
    """The page of an engine in this state, as this version writes it; `without` are bare names to leave out."""
    lines = ["# HELP process_open_fds Number of open file descriptors.", "process_open_fds 67.0"]
    labels = f'{dialect.labels}{dialect.engine}{dialect.model}="deepseek"'
    for thing, names in dialect.names.items():
        for name in names:
            if name in without:
                continue
            full = dialect.prefix + name
            if thing in (Thing.FINISHED, Thing.REJECTIONS):
                counts = {"capacity": state.rejections}
                if thing is Thing.FINISHED:
                    counts = {"stop": state.good, "length": 0, "abort": 0, "error": state.errors}
                    counts = {outcome: counts[outcome] for outcome in dialect.outcomes}
                key = "reason" if thing is Thing.REJECTIONS else "finished_reason"
                for ending in dialect.counters:
                    lines += [f'{full}{ending}{{{labels},{key}="{label}"}} {count}' for label, count in counts.items()]
            elif thing in (Thing.TTFT, Thing.ITL, Thing.TPOT, Thing.E2E, Thing.QUEUE):
                lines += histogram(full, labels, state.seen)
            elif thing in (Thing.RUNNING, Thing.WAITING, Thing.KV_USAGE):
                lines += [f"# TYPE {full} gauge", f"{full}{{{labels}}} {state.value(thing)}"]
            else:
                for ending in dialect.counters:
                    kind = "counter" if ending else "gauge"
                    lines += [f"# TYPE {full}{ending} {kind}", f"{full}{ending}{{{labels}}} {state.value(thing)}"]
    return "\n".join(lines) + "\n"


def histogram(full: str, labels: str, seen: tuple[int, ...]) -> list[str]:
    edges = [*(str(bound) for bound in BOUNDS), "+Inf"]
    rows = [f'{full}_bucket{{{labels},le="{edge}"}} {sum(seen[: at + 1])}' for at, edge in enumerate(edges)]
    return [f"# TYPE {full} histogram", *rows, f"{full}_count{{{labels}}} {sum(seen)}", f"{full}_sum{{{labels}}} 9"]


def look(text: str, at: float, replica: str = "gpu-01") -> VllmSample:
    (sample,) = parse_metrics(text, at=at, replica=replica)
    return replace(sample, replica=replica)


def watched(pages: Iterable[tuple[float, str]], replica: str = "gpu-01") -> ReplicaHistory:
    history = ReplicaHistory(replica)
    for at, text in pages:
        history.add(look(text, at, replica))
    return history


def panel_of(dialect: Dialect, *states: State, without: Iterable[str] = (), limit: int | None = 16) -> VllmPanel:
    """Looks 5 s apart at these states, summarised at the last one."""
    pages = [(5.0 * place, render(dialect, state, without)) for place, state in enumerate(states)]
    return summarise([watched(pages)], now=pages[-1][0], max_num_seqs=limit)


def states(panel: VllmPanel) -> dict[AlarmKind, AlarmState]:
    return {alarm.kind: alarm.state for alarm in panel.alarms}


def alarm(panel: VllmPanel, kind: AlarmKind) -> Alarm:
    (found,) = (each for each in panel.alarms if each.kind is kind)
    return found


def number(value: object) -> float:
    assert isinstance(value, Present)
    assert isinstance(value.value, float | int)
    return value.value


def estimate(value: Present[Estimate] | Absent) -> Estimate:
    assert isinstance(value, Present)
    return value.value


def why(value: object) -> Why:
    assert isinstance(value, Absent)
    return value.why


# The same state in every dialect


@pytest.mark.parametrize("version", DIALECTS)
def test_a_sick_state_gives_the_same_alarms_in_every_dialect(version: str) -> None:
    dialect = DIALECTS[version]
    found = states(panel_of(dialect, HEALTHY, SICK, replace(SICK, generation=5700)))
    for kind in (AlarmKind.KV_FULL, AlarmKind.PREEMPTING, AlarmKind.QUEUE_BELOW_LIMIT):
        assert found[kind] is AlarmState.RAISED, kind
    has = Thing.REJECTIONS in dialect.names
    assert found[AlarmKind.REJECTING] is (AlarmState.RAISED if has else AlarmState.UNKNOWN)
    assert found[AlarmKind.ERRORS] is (AlarmState.RAISED if "error" in dialect.outcomes else AlarmState.UNKNOWN)
    assert found[AlarmKind.STALLED] is AlarmState.CLEAR


@pytest.mark.parametrize("version", DIALECTS)
def test_the_numbers_are_the_same_in_every_dialect(version: str) -> None:
    (row,) = panel_of(DIALECTS[version], HEALTHY, LATER).rows
    assert number(row.running) == 8
    assert number(row.kv) == pytest.approx(0.4)
    assert number(row.generation_per_s) == pytest.approx(800)
    assert number(row.prompt_per_s) == pytest.approx(100)
    assert number(row.preemptions_per_min) == 0
    assert estimate(row.itl.p50).value == pytest.approx(0.1 * 20 / 30)
    assert estimate(row.ttft.p95).value == pytest.approx(0.1 + 0.4 * 0.8)
    assert estimate(row.e2e.p95).observations == 40


CASES = [
    (version, name) for version, dialect in DIALECTS.items() for name in sorted(set().union(*dialect.names.values()))
]


@pytest.mark.parametrize(("version", "name"), CASES)
def test_with_a_name_removed_nothing_turns_green_or_zero(version: str, name: str) -> None:
    dialect = DIALECTS[version]
    for series in ((HEALTHY, SICK, replace(SICK, generation=5700)), (HEALTHY, LATER, replace(LATER, generation=9100))):
        whole, less = panel_of(dialect, *series), panel_of(dialect, *series, without=(name,))
        before, after = states(whole), states(less)
        for kind, state in after.items():
            assert state in (before[kind], AlarmState.UNKNOWN), kind
        (row,), (full_row,) = less.rows, whole.rows
        for field in ("running", "waiting", "kv", "generation_per_s", "prompt_per_s", "preemptions_per_min"):
            value = getattr(row, field)
            assert isinstance(value, Absent) or value.value == pytest.approx(number(getattr(full_row, field))), field
        for field in ("ttft", "itl", "e2e", "queue"):
            value = getattr(row, field).p95
            assert isinstance(value, Absent) or value.value == getattr(full_row, field).p95.value, field


NEEDED = {
    Thing.KV_USAGE: AlarmKind.KV_FULL,
    Thing.PREEMPTIONS: AlarmKind.PREEMPTING,
    Thing.WAITING: AlarmKind.QUEUE_BELOW_LIMIT,
    Thing.FINISHED: AlarmKind.ERRORS,
    Thing.REJECTIONS: AlarmKind.REJECTING,
    Thing.RUNNING: AlarmKind.STALLED,
}


@pytest.mark.parametrize("version", DIALECTS)
@pytest.mark.parametrize("thing", NEEDED)
@pytest.mark.parametrize("later", [LATER, SICK], ids=["healthy", "sick"])
def test_an_alarm_without_its_names_is_unknown_and_lists_what_was_seen(
    version: str, thing: Thing, later: State
) -> None:
    dialect = DIALECTS[version]
    names = dialect.names.get(thing, ())
    found = alarm(panel_of(dialect, HEALTHY, later, replace(later, generation=9900), without=names), NEEDED[thing])
    assert found.state is AlarmState.UNKNOWN
    assert not found.evidence
    assert f"{dialect.prefix}time_to_first_token_seconds" in found.names
    assert found.text.en
    assert found.text.zh


def test_ray_says_that_its_counters_begin_late() -> None:
    found = panel_of(DIALECTS["0.33 in Ray"], HEALTHY, LATER, without=("num_preemptions",))
    assert "after its first increase" in alarm(found, AlarmKind.PREEMPTING).text.en


def test_a_healthy_state_is_clear_with_evidence() -> None:
    found = panel_of(DIALECTS["0.33"], HEALTHY, LATER)
    assert set(states(found).values()) == {AlarmState.CLEAR}
    assert found.pressure("gpu-01") is AlarmState.CLEAR
    assert all(each.evidence for each in found.alarms)
    assert not found.raised
    assert not found.unknown


def test_pressure_needs_all_three_to_be_clear_and_one_to_be_raised() -> None:
    dialect = DIALECTS["0.33"]
    assert panel_of(dialect, HEALTHY, LATER, without=("num_preemptions",)).pressure("gpu-01") is AlarmState.UNKNOWN
    assert panel_of(dialect, HEALTHY, SICK, without=("num_preemptions",)).pressure("gpu-01") is AlarmState.RAISED
    assert panel_of(dialect, HEALTHY, LATER).pressure("gpu-99") is AlarmState.UNKNOWN


def test_an_alarm_cannot_be_clear_without_evidence() -> None:
    with pytest.raises(ValueError, match="without evidence"):
        Alarm(AlarmKind.ERRORS, AlarmState.CLEAR, "gpu-01", same("fine"))


def test_every_kind_has_a_title() -> None:
    assert TITLES.keys() == set(AlarmKind)


@pytest.mark.parametrize(
    ("kv", "state"), [(0.8999, AlarmState.CLEAR), (0.9, AlarmState.RAISED), (1.0, AlarmState.RAISED)]
)
def test_the_threshold_of_kv(kv: float, state: AlarmState) -> None:
    found = panel_of(DIALECTS["0.33"], HEALTHY, replace(LATER, kv=kv))
    assert states(found)[AlarmKind.KV_FULL] is state


@pytest.mark.parametrize(
    ("errors", "state"), [(0, AlarmState.CLEAR), (0.99, AlarmState.CLEAR), (1.0, AlarmState.RAISED)]
)
def test_the_threshold_of_errors(errors: float, state: AlarmState) -> None:
    grown = replace(LATER, good=HEALTHY.good + 100 - errors, errors=HEALTHY.errors + errors)
    assert states(panel_of(DIALECTS["0.33"], HEALTHY, grown))[AlarmKind.ERRORS] is state


def test_no_request_ended_is_no_error_and_no_share() -> None:
    found = panel_of(DIALECTS["0.33"], HEALTHY, replace(HEALTHY, generation=5100))
    (row,) = found.rows
    assert why(row.error_share) is Why.IDLE
    assert why(row.ttft.p99) is Why.IDLE
    assert states(found)[AlarmKind.ERRORS] is AlarmState.CLEAR


@pytest.mark.parametrize(
    ("series", "limit", "state"),
    [
        ((SICK, SICK), 16, AlarmState.RAISED),
        ((LATER, SICK), 16, AlarmState.CLEAR),
        ((SICK,), 16, AlarmState.UNKNOWN),
        ((SICK, SICK), None, AlarmState.UNKNOWN),
        ((SICK, SICK), 2, AlarmState.CLEAR),
        ((SICK, SICK), 3, AlarmState.RAISED),
        ((LATER, LATER), None, AlarmState.CLEAR),
    ],
)
def test_requests_that_wait(series: tuple[State, ...], limit: int | None, state: AlarmState) -> None:
    rising = [replace(each, generation=20_000.0 + at, good=900.0, prompt=9000.0) for at, each in enumerate(series)]
    rising = [replace(each, preemptions=99, errors=99, rejections=99, seen=(99, 99, 99, 99)) for each in rising]
    assert states(panel_of(DIALECTS["0.33"], *rising, limit=limit))[AlarmKind.QUEUE_BELOW_LIMIT] is state


def test_the_fullest_engine_counts_and_others_cannot_hide_it() -> None:
    first = render(DIALECTS["0.33"], HEALTHY)
    second = render(DIALECTS["0.33"], replace(HEALTHY, kv=0.97)).replace('engine="0"', 'engine="1"')
    history = watched([(0.0, first + second)])
    found = summarise([history], now=0.0)
    (row,) = found.rows
    assert row.engines == 2
    assert number(row.running) == 16
    assert number(row.kv) == pytest.approx(0.97)
    assert states(found)[AlarmKind.KV_FULL] is AlarmState.RAISED
    blind = second.replace("vllm:kv_cache_usage_perc", "vllm:other")
    found = summarise([watched([(0.0, first + blind)])], now=0.0)
    assert why(found.rows[0].kv) is Why.NOT_EXPORTED
    assert states(found)[AlarmKind.KV_FULL] is AlarmState.UNKNOWN


# Captured runs


def test_captured_idle_load_and_after() -> None:
    pages = [(PAGES / f"{name}.txt").read_text() for name in ("metrics_idle", "metrics_during_load", "metrics_after")]
    history = watched([(0.0, pages[0]), (5.0, pages[1]), (10.0, pages[2])])
    (row,) = summarise([history], now=10.0).rows
    assert number(row.running) == 0
    assert number(row.generation_per_s) == pytest.approx(373.0)
    assert row.long_seconds == 10.0
    assert isinstance(row.finished_per_s, Present)
    assert row.finished_per_s.value["length"] == pytest.approx(12.3)
    assert number(row.error_share) == 0
    # As histogram_quantile has it for these buckets: 124 observations, 90 of them up to 0.5 s or less …
    assert 0.25 < estimate(row.ttft.p50).value < 0.5
    assert 1.0 < estimate(row.ttft.p95).value < 2.5
    assert why(row.prefix_hit_share) is Why.IDLE


def test_captured_saturation_and_its_end() -> None:
    pages = [(PAGES / f"llama_metrics_{name}.txt").read_text() for name in ("saturated", "after")]
    history = watched([(7.6, pages[0])])
    assert alarm(summarise([history], now=7.6), AlarmKind.PREEMPTING).state is AlarmState.UNKNOWN
    history.add(look(pages[1], 11.0))
    found = summarise([history], now=11.0, max_num_seqs=16)
    (row,) = found.rows
    assert number(row.preemptions_per_min) == pytest.approx(11 * 60 / 3.4)
    assert number(row.prefix_hit_share) == pytest.approx((19968 - 15872) / (21806 - 17439))
    assert states(found)[AlarmKind.PREEMPTING] is AlarmState.RAISED
    assert found.pressure("gpu-01") is AlarmState.RAISED


def test_captured_preemption_run() -> None:
    """Only four names were kept of each look; what they show is raised, everything else is UNKNOWN."""
    history = ReplicaHistory("gpu-01")
    found = {}
    for line in (PAGES / "preemption_run.txt").read_text().splitlines()[:4]:
        at, _, rest = line.partition(" ")
        lines: list[str] = ast.literal_eval(rest[: rest.index("] ") + 1])
        history.add(look("\n".join(lines) + "\n", float(at)))
        found[at] = states(summarise([history], now=float(at), max_num_seqs=16))
    assert found["2.6"][AlarmKind.KV_FULL] is AlarmState.RAISED
    assert found["5.1"][AlarmKind.PREEMPTING] is AlarmState.RAISED
    assert found["5.1"][AlarmKind.QUEUE_BELOW_LIMIT] is AlarmState.RAISED
    assert found["10.1"][AlarmKind.QUEUE_BELOW_LIMIT] is AlarmState.CLEAR
    assert found["10.1"][AlarmKind.PREEMPTING] is AlarmState.RAISED
    assert {looks[AlarmKind.ERRORS] for looks in found.values()} == {AlarmState.UNKNOWN}
    assert {looks[AlarmKind.STALLED] for looks in found.values()} == {AlarmState.UNKNOWN}


# Time


def moving(count: int, step: float = 1.0, start: float = 0.0) -> list[tuple[float, str]]:
    return [
        (start + step * at, render(DIALECTS["0.33"], replace(HEALTHY, generation=5000.0 + 100 * at)))
        for at in range(count)
    ]


def test_the_short_and_the_long_window() -> None:
    pages = moving(100)
    pages[-1] = (99.0, render(DIALECTS["0.33"], replace(HEALTHY, generation=5000.0 + 100 * 98 + 1100)))
    (row,) = summarise([watched(pages)], now=99.0).rows
    assert row.short_seconds == 10.0
    assert row.long_seconds is not None
    assert 60.0 <= row.long_seconds <= 65.0
    assert number(row.generation_per_s) == pytest.approx(200.0)


def test_through_ray_the_short_window_is_the_long_one() -> None:
    """Counters step every 10 s there: over the short window a rate would be nothing or double."""
    stepping = [replace(HEALTHY, generation=5000.0 + 1000 * (at // 10)) for at in range(70)]
    history = watched([(float(at), render(DIALECTS["0.33 in Ray"], state)) for at, state in enumerate(stepping)])
    (row,) = summarise([history], now=69.0).rows
    assert row.short_seconds == row.long_seconds
    assert number(row.generation_per_s) == pytest.approx(100, rel=0.1)


def test_memory_does_not_grow() -> None:
    history = watched(moving(40))
    kept = []
    for at, text in moving(400, start=40.0):
        history.add(look(text, at))
        kept.append(len(history._recent) + len(history._thinned))
    assert max(kept[-100:]) <= max(kept[100:200]) <= 32


def test_a_restart_begins_the_windows_anew_and_is_flagged() -> None:
    pages = moving(20)
    history = watched(pages)
    fresh = State(running=1, kv=0.1, prompt=10, generation=20, preemptions=0, errors=0, good=1, rejections=0)
    history.add(look(render(DIALECTS["0.33"], replace(fresh, seen=(1, 0, 0, 0))), 20.0))
    (row,) = summarise([history], now=20.0).rows
    assert row.restarted
    assert why(row.generation_per_s) is Why.RESTARTED
    assert why(row.ttft.p95) is Why.RESTARTED
    assert number(row.running) == 1
    history.add(look(render(DIALECTS["0.33"], replace(fresh, generation=70, seen=(1, 1, 0, 0))), 21.0))
    (row,) = summarise([history], now=21.0).rows
    assert number(row.generation_per_s) == pytest.approx(50.0)
    assert row.restarted
    (row,) = summarise([history], now=81.0).rows
    assert not row.restarted


@pytest.mark.parametrize("change", ["preemptions", "good", "rejections", "seen", "prompt"])
def test_any_counter_that_falls_is_a_restart(change: str) -> None:
    lower = {"preemptions": 2.0, "good": 199.0, "rejections": 1.0, "seen": (9, 1, 0, 0), "prompt": 999.0}[change]
    state = replace(HEALTHY, **{change: lower})  # type: ignore[arg-type]
    history = watched([(0.0, render(DIALECTS["0.33"], HEALTHY)), (1.0, render(DIALECTS["0.33"], state))])
    assert history.restarted_at == 1.0
    assert history.previous is None


def test_another_set_of_engines_begins_anew() -> None:
    one = render(DIALECTS["0.33"], HEALTHY)
    two = one + one.replace('engine="0"', 'engine="1"')
    history = watched([(0.0, one), (1.0, two)])
    assert history.previous is None
    (row,) = summarise([history], now=1.0).rows
    assert why(row.generation_per_s) is Why.RESTARTED
    history = watched([(0.0, "process_open_fds 1\n"), (1.0, one), (2.0, one)])
    assert history.restarted_at is None
    assert number(summarise([history], now=2.0).rows[0].generation_per_s) == 0


@pytest.mark.parametrize("at", [-5.0, 100.0])
def test_a_clock_set_back_or_a_long_gap_begins_anew(at: float) -> None:
    history = watched([*moving(3), (at, render(DIALECTS["0.33"], LATER))])
    assert history.previous is None
    (row,) = summarise([history], now=at).rows
    assert why(row.generation_per_s) is Why.TOO_NEW
    assert not row.restarted


def test_a_counter_that_appears_has_no_rate_yet() -> None:
    dialect = DIALECTS["0.33 in Ray"]
    pages = [
        (0.0, render(dialect, HEALTHY, without=("num_preemptions",))),
        (10.0, render(dialect, LATER)),
        (20.0, render(dialect, replace(LATER, preemptions=9))),
    ]
    history = watched(pages[:2])
    assert why(summarise([history], now=10.0).rows[0].preemptions_per_min) is Why.TOO_NEW
    assert states(summarise([history], now=10.0))[AlarmKind.PREEMPTING] is AlarmState.UNKNOWN


def test_an_outcome_that_appears_counts_from_nothing() -> None:
    dialect = replace(DIALECTS["0.33 in Ray"], outcomes=("stop",))
    pages = [(0.0, render(dialect, HEALTHY)), (10.0, render(DIALECTS["0.33 in Ray"], replace(LATER, errors=10)))]
    found = summarise([watched(pages)], now=10.0)
    assert number(found.rows[0].error_share) == pytest.approx(10 / 50)
    assert states(found)[AlarmKind.ERRORS] is AlarmState.RAISED


# Silence and staleness


def still(dialect: Dialect, seconds: float, state: State = SICK) -> VllmPanel:
    """An engine that moved once and then says the same for so long."""
    before = replace(state, generation=state.generation - 50)
    pages = [(0.0, render(dialect, before)), (1.0, render(dialect, state))]
    pages += [(1.0 + at, render(dialect, state)) for at in range(1, int(seconds) + 1)]
    return summarise([watched(pages)], now=pages[-1][0], max_num_seqs=16)


def test_a_hanging_engine_is_raised_on_vllms_own_page() -> None:
    assert states(still(DIALECTS["0.33"], 29))[AlarmKind.STALLED] is AlarmState.CLEAR
    found = still(DIALECTS["0.33"], 30)
    assert states(found)[AlarmKind.STALLED] is AlarmState.RAISED
    assert "hangs" in alarm(found, AlarmKind.STALLED).text.en
    assert states(found)[AlarmKind.KV_FULL] is AlarmState.RAISED


def test_a_counter_that_vanishes_is_no_movement() -> None:
    page = render(DIALECTS["0.33"], SICK)
    less = render(DIALECTS["0.33"], SICK, without=("inter_token_latency_seconds",))
    pages = [(0.0, render(DIALECTS["0.33"], replace(SICK, generation=5000))), (1.0, page)]
    pages += [(1.0 + at, less) for at in range(1, 31)]
    assert states(summarise([watched(pages)], now=31.0))[AlarmKind.STALLED] is AlarmState.RAISED


def test_rays_gauges_after_the_load_are_doubted_and_not_believed() -> None:
    found = still(DIALECTS["0.33 in Ray"], 8)
    assert found.rows[0].still_seconds == 8.0
    found = still(DIALECTS["0.33 in Ray"], 25)
    (row,) = found.rows
    assert row.doubt is not None
    assert "25 s" in row.doubt.en
    for kind in (AlarmKind.STALLED, AlarmKind.KV_FULL, AlarmKind.QUEUE_BELOW_LIMIT):
        assert states(found)[kind] is AlarmState.UNKNOWN
    healthy = still(DIALECTS["0.33 in Ray"], 25, LATER)
    assert states(healthy)[AlarmKind.KV_FULL] is AlarmState.UNKNOWN


def test_ray_without_gauges_while_idle_is_not_zero() -> None:
    gauges = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    found = panel_of(DIALECTS["0.33 in Ray"], HEALTHY, HEALTHY, without=gauges)
    (row,) = found.rows
    assert why(row.running) is Why.NOT_EXPORTED
    assert states(found)[AlarmKind.STALLED] is AlarmState.UNKNOWN
    assert number(row.generation_per_s) == 0


def test_an_idle_engine_that_is_still_is_not_stalled() -> None:
    found = still(DIALECTS["0.33"], 60, replace(HEALTHY, running=0, kv=0.0))
    assert states(found)[AlarmKind.STALLED] is AlarmState.CLEAR
    assert found.rows[0].doubt is None


def test_work_of_which_nothing_moved_yet_is_unknown() -> None:
    assert states(panel_of(DIALECTS["0.33"], HEALTHY))[AlarmKind.STALLED] is AlarmState.UNKNOWN
    assert states(panel_of(DIALECTS["0.33"], HEALTHY, HEALTHY))[AlarmKind.STALLED] is AlarmState.UNKNOWN


def test_one_engine_of_two_that_hangs_is_seen() -> None:
    pages = []
    for at in range(40):
        first = render(DIALECTS["0.33"], replace(HEALTHY, generation=5000.0 + at))
        second = render(DIALECTS["0.33"], replace(HEALTHY, generation=6000.0 + min(at, 2)))
        pages.append((float(at), first + second.replace('engine="0"', 'engine="1"')))
    assert states(summarise([watched(pages)], now=39.0))[AlarmKind.STALLED] is AlarmState.RAISED


def test_silence_turns_old_and_then_unknown() -> None:
    history = watched(moving(5))
    assert summarise([history], now=4.0).rows[0].shown.status is Status.LIVE
    late = summarise([history], now=9.0)
    assert late.rows[0].shown.status is Status.LATE
    assert late.rows[0].shown.age == 5.0
    assert alarm(late, AlarmKind.SILENT).text.en == "no new values for 5 s"
    assert number(late.rows[0].running) == 8
    assert set(states(late).values()) == {AlarmState.UNKNOWN}
    gone = summarise([history], now=40.0)
    (row,) = gone.rows
    assert row.shown.status is Status.UNKNOWN
    for value in (row.running, row.kv, row.generation_per_s, row.ttft.p95, row.error_share, row.preemptions_per_min):
        assert why(value) is Why.OLD
    assert set(states(gone).values()) == {AlarmState.UNKNOWN}


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (Reason.UNREACHABLE, AlarmState.RAISED),
        (Reason.TIMEOUT, AlarmState.RAISED),
        (Reason.NO_CREDENTIAL, AlarmState.UNKNOWN),
        (Reason.PARSE_ERROR, AlarmState.UNKNOWN),
        (None, AlarmState.UNKNOWN),
    ],
)
def test_a_loss_says_why_and_everything_else_is_unknown(reason: Reason | None, state: AlarmState) -> None:
    for history in (watched(moving(5)), ReplicaHistory("gpu-01")):
        history.lose(Loss(5.0, reason, same("connection refused")))
        found = summarise([history], now=5.5)
        by_kind = states(found)
        assert by_kind.pop(AlarmKind.SILENT) is state
        assert set(by_kind.values()) == {AlarmState.UNKNOWN}
        assert "connection refused" in alarm(found, AlarmKind.SILENT).text.en
        assert found.totals.running.counted == 0
        assert isinstance(found.totals.running.value, Absent)


def test_a_loss_that_nobody_renews_proves_nothing_any_more() -> None:
    history = watched(moving(5))
    history.lose(Loss(5.0, Reason.UNREACHABLE, same("connection refused")))
    assert states(summarise([history], now=500.0))[AlarmKind.SILENT] is AlarmState.UNKNOWN


def test_a_federated_page_is_as_old_as_it_says() -> None:
    text = render(DIALECTS["0.33"], HEALTHY)
    stamped = "\n".join(f"{line} 40000" if line.startswith("vllm:") else line for line in text.splitlines()) + "\n"
    history = watched([(100.0, stamped)])
    assert summarise([history], now=100.0).rows[0].shown.status is Status.UNKNOWN


def test_a_page_without_vllm_is_unknown_with_its_names() -> None:
    history = watched([(0.0, "sglang:num_running_reqs 3\n")])
    found = summarise([history], now=0.0)
    assert why(found.rows[0].running) is Why.NOT_EXPORTED
    assert set(states(found).values()) == {AlarmState.UNKNOWN}
    assert "sglang:num_running_reqs" in alarm(found, AlarmKind.SILENT).names


def test_no_replica_is_unknown_and_no_total_is_zero() -> None:
    found = summarise([], now=0.0)
    assert [each.state for each in found.alarms] == [AlarmState.UNKNOWN]
    assert isinstance(found.totals.generation_per_s.value, Absent)
    assert isinstance(found.totals.ttft.quantiles.p95, Absent)


# All replicas


def three(second: State, third: State) -> list[ReplicaHistory]:
    found = []
    for name, after in (("gpu-01", LATER), ("gpu-02", second), ("gpu-03", third)):
        pages = [(0.0, render(DIALECTS["0.33"], HEALTHY)), (5.0, render(DIALECTS["0.33"], after))]
        found.append(watched(pages, name))
    return found


def test_totals_and_merged_quantiles() -> None:
    slow = replace(LATER, seen=(10, 0, 10, 0))
    found = summarise(three(LATER, slow), now=5.0)
    totals = found.totals
    assert number(totals.running.value) == 24
    assert totals.running.whole
    assert number(totals.generation_per_s.value) == pytest.approx(2400)
    # 30 + 30 observations up to 0.1 s, 10 + 10 up to 0.5 s, 10 up to 1 s: the 95th of 90 is the 5.5th of the last 10.
    assert estimate(totals.ttft.quantiles.p95).value == pytest.approx(0.5 + 0.5 * 5.5 / 10)
    assert estimate(totals.ttft.quantiles.p95).observations == 90
    assert alarm(found, AlarmKind.IMBALANCE).state is AlarmState.CLEAR


def test_a_total_with_a_replica_missing_says_so() -> None:
    replicas = three(LATER, LATER)
    replicas[2].lose(Loss(5.0, Reason.UNREACHABLE, same("refused")))
    found = summarise(replicas, now=5.0)
    assert (found.totals.running.counted, found.totals.running.of) == (2, 3)
    assert not found.totals.running.whole
    assert (found.totals.ttft.counted, found.totals.ttft.of) == (2, 3)
    assert alarm(found, AlarmKind.IMBALANCE).state is AlarmState.UNKNOWN


def test_imbalance_names_the_replicas() -> None:
    found = summarise(three(LATER, replace(LATER, running=9, generation=5500)), now=5.0)
    raised = alarm(found, AlarmKind.IMBALANCE)
    assert raised.state is AlarmState.RAISED
    assert "gpu-03" in raised.text.en
    assert "gpu-03" in raised.text.zh
    (running, generated) = found.imbalances
    assert (running.thing, running.most) == (Thing.RUNNING, "gpu-03")
    assert generated.least == "gpu-03"
    assert generated.least_ratio == pytest.approx(100 * 3 / 1700)


def test_imbalance_of_the_busiest() -> None:
    found = summarise(three(LATER, replace(LATER, running=16)), now=5.0)
    assert "gpu-03" in alarm(found, AlarmKind.IMBALANCE).text.en
    assert alarm(found, AlarmKind.IMBALANCE).state is AlarmState.RAISED


def test_two_requests_on_one_of_two_replicas_are_no_imbalance() -> None:
    pages = {"gpu-01": 2.0, "gpu-02": 0.0}
    replicas = []
    for name, running in pages.items():
        states_of = [replace(HEALTHY, running=running), replace(LATER, running=running)]
        replicas.append(
            watched([(5.0 * at, render(DIALECTS["0.33"], each)) for at, each in enumerate(states_of)], name)
        )
    assert alarm(summarise(replicas, now=5.0), AlarmKind.IMBALANCE).state is AlarmState.CLEAR


def test_replicas_of_different_models_are_not_compared() -> None:
    text = render(DIALECTS["0.33"], replace(HEALTHY, running=90)).replace("deepseek", "qwen")
    replicas = [watched([(0.0, render(DIALECTS["0.33"], HEALTHY))]), watched([(0.0, text)], "gpu-02")]
    found = summarise(replicas, now=0.0)
    assert AlarmKind.IMBALANCE not in states(found)


# The fold of records


def test_the_fleet_takes_records_and_leaves_others_alone() -> None:
    fleet = VllmFleet(max_num_seqs=16)
    for at, text in moving(4):
        fleet.feed(record_of(look(text, at)))
    fleet.feed(Record(3.0, "ray", RecordKind.SAMPLE, {"nonsense": 1}))
    fleet.feed(Record(3.0, "host:gpu-01", RecordKind.SAMPLE, {}))
    (row,) = fleet.panel(3.0).rows
    assert number(row.generation_per_s) == pytest.approx(100)
    fleet.feed(Record(4.0, "vllm:gpu-01", RecordKind.LOST, {"reason": "unreachable", "why": "refused", "zh": "拒绝"}))
    (row,) = fleet.panel(4.0).rows
    assert row.shown.status is Status.LOST
    assert row.shown.why is not None
    assert row.shown.why.zh == "拒绝"
    assert fleet.panel(60.0).rows[0].shown.status is Status.UNKNOWN
    with pytest.raises(UsageError):
        fleet.feed(Record(5.0, "vllm:gpu-01", RecordKind.SAMPLE, {}))
    assert fleet.panel(5.0).rows[0].shown.status is Status.LOST


def node(at: float, replicas: str = "") -> list[Record]:
    text = (PAGES / "ray_node_without_vllm.txt").read_text() + replicas
    return [record_of(each) for each in parse_metrics(text, at=at, replica="gpu-07", node_page=True)]


def test_ray_node_pages_without_replicas_say_so() -> None:
    fleet = VllmFleet()
    for record in node(0.0):
        fleet.feed(record)
    found = fleet.panel(0.0)
    assert found.rows == ()
    assert [each.state for each in found.alarms] == [AlarmState.UNKNOWN]
    assert "1 Ray nodes" in found.alarms[0].text.en
    assert found.alarms[0].names


def test_ray_node_pages_with_replicas_are_no_rows_but_must_answer() -> None:
    fleet = VllmFleet()
    for record in node(0.0, render(DIALECTS["0.33 in Ray"], HEALTHY)):
        fleet.feed(record)
    found = fleet.panel(0.0)
    assert [row.replica for row in found.rows] == ["gpu-07/3r4e76ag"]
    assert found.rows[0].node == "10.0.0.7"
    fleet.feed(Record(1.0, "vllm:gpu-07", RecordKind.LOST, {"reason": "unreachable", "why": "refused"}))
    raised = [each for each in fleet.panel(1.0).raised if each.replica == "gpu-07"]
    assert [each.kind for each in raised] == [AlarmKind.SILENT]


def test_a_replica_that_left_is_forgotten_when_others_are_heard() -> None:
    fleet = VllmFleet()
    fleet.feed(record_of(look(render(DIALECTS["0.33"], HEALTHY), 0.0, "old")))
    fleet.feed(record_of(look(render(DIALECTS["0.33"], HEALTHY), 299.0, "new")))
    assert [row.replica for row in fleet.panel(299.0).rows] == ["new", "old"]
    fleet.feed(record_of(look(render(DIALECTS["0.33"], HEALTHY), 301.0, "new")))
    assert [row.replica for row in fleet.panel(301.0).rows] == ["new"]
    fleet.feed(record_of(look(render(DIALECTS["0.33"], HEALTHY), 302.0, "newest")))
    assert set(fleet._replicas) == {"new", "newest"}
