"""A replica under Ray Serve, from pages of a real Ray 2.60 node: idle, under load, and dead while its counters stay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from dstui.model import Reason
from dstui.telemetry import live_views, ray
from dstui.telemetry.aliases import Family, Thing
from dstui.telemetry.live import Live
from dstui.telemetry.live_status import Status
from dstui.telemetry.ray import Application, Deployment, RaySnapshot, Replica, Serve
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import VllmSample, parse_metrics
from dstui.telemetry.vllm_alarms import AlarmState
from dstui.telemetry.vllm_fleet import GONE_SECONDS, SETTLE_SECONDS
from dstui.telemetry.vllm_panel import VllmPanel
from dstui.telemetry.vllm_records import record_of
from dstui.telemetry.vllm_row import ReplicaRow
from dstui.telemetry.watched import Watched
from dstui.telemetry.windows import Absent, Present, Why

PAGES = Path(__file__).parents[1] / "data" / "vllm"
BEFORE, LOAD, AFTER = (
    (PAGES / f"ray_serve_{name}.txt").read_text() for name in ("before_first_request", "under_load", "after_load")
)
ID = "1hoehqsw"
NAME = f"gpu-01/{ID}"


def page(text: str, at: float) -> tuple[VllmSample, ...]:
    return parse_metrics(text, at=at, replica="gpu-01", node_page=True)


def records(text: str, at: float) -> list[Record]:
    return [record_of(sample) for sample in page(text, at)]


def serve(ids: Iterable[str], at: float) -> Record:
    deployment = Deployment("LLMServer:deepseek-tiny", replicas=tuple(Replica(each, "RUNNING") for each in ids))
    return ray.record(RaySnapshot(at, serve=Serve(True, (Application("llm", deployments=(deployment,)),))))


def fed(*found: Record | list[Record]) -> Live:
    live = Live(Watched("lab", intervals={"host": 1.0, "ray": 2.0, "vllm": 5.0}))
    for each in found:
        for record in each if isinstance(each, list) else [each]:
            live.feed(record)
    return live


def panel(live: Live, now: float) -> VllmPanel:
    return live_views.vllm_view(live, now)


def row(live: Live, now: float) -> ReplicaRow:
    (found,) = panel(live, now).rows
    return found


def test_before_the_first_request_an_engine_is_there_and_nothing_is_known_of_it() -> None:
    _, sample = page(BEFORE, 1.0)
    assert (sample.replica, sample.family, sample.node, sample.replica_id) == (NAME, Family.RAY, "10.0.0.11", ID)
    (engine,) = sample.engines
    assert (engine.model, engine.engine) == ("deepseek-tiny", "0")
    assert all(isinstance(value, Absent) for value in (*engine.numbers.values(), *engine.histograms.values()))
    assert isinstance(engine.cache_config, Present)
    live = fed(records(BEFORE, 1.0))
    assert isinstance(row(live, 1.0).running, Absent)
    states = {alarm.kind.value: alarm.state for alarm in panel(live, 1.0).of(NAME)}
    assert states.pop("silent") is AlarmState.CLEAR
    assert set(states.values()) == {AlarmState.UNKNOWN}


def test_the_first_request_is_no_restart() -> None:
    live = fed(records(BEFORE, 1.0), records(LOAD, 6.0))
    shown = row(live, 6.0)
    assert not shown.restarted
    assert (shown.running, shown.waiting) == (
        Present(8.0, "ray_vllm_num_requests_running"),
        Present(4.0, "ray_vllm_num_requests_waiting"),
    )
    assert isinstance(shown.kv, Present) and shown.kv.value == pytest.approx(0.6544, abs=1e-4)
    # The counter was not there before: by how much it grew since is not known.
    assert isinstance(shown.generation_per_s, Absent) and shown.generation_per_s.why is Why.TOO_NEW


def test_after_the_load_gauges_are_gone_and_not_zero() -> None:
    shown = row(fed(records(LOAD, 1.0), records(AFTER, 6.0)), 6.0)
    for gauge in (shown.running, shown.waiting, shown.kv):
        assert isinstance(gauge, Absent) and gauge.why is Why.NOT_EXPORTED
    assert isinstance(shown.generation_per_s, Present) and shown.generation_per_s.value > 0
    _, sample = page(AFTER, 1.0)
    counted = sample.engines[0].numbers[Thing.GENERATION_TOKENS]
    assert isinstance(counted, Present)


def test_a_replica_that_ray_serve_does_not_have_any_more_is_not_live() -> None:
    """Its counters stay on the page for minutes, as still as an idle replica's."""
    live = fed(serve([ID], 0.0), records(AFTER, 0.0), records(AFTER, 5.0), serve([ID], 6.0))
    assert row(live, 6.0).shown.status is Status.LIVE
    live.feed(serve(["sj3bz4ry"], 8.0))
    assert row(live, 8.0).shown.status is Status.LOST
    for at in (10.0, 15.0, 20.0):
        for record in records(AFTER, at):
            live.feed(record)
        shown = row(live, at)
        assert shown.shown.status is Status.LOST
        assert shown.shown.why is not None and "does not have it any more" in shown.shown.why.en
        totals = panel(live, at).totals
        assert (totals.generation_per_s.counted, totals.generation_per_s.of) == (0, 1)
    for record in records(AFTER, 9.0 + GONE_SECONDS):
        live.feed(record)
    assert panel(live, 9.0 + GONE_SECONDS).rows == ()
    assert not [event for event in live_views.events(live) if "vLLM" in event.text.en]
    lost = {"reason": Reason.CANNOT_TELL.value, "why": "left"}
    live.feed(Record(10.0 + GONE_SECONDS, f"vllm:{NAME}", RecordKind.LOST, lost))
    assert panel(live, 10.0 + GONE_SECONDS).rows == ()


def test_one_that_was_dead_before_the_watching_began() -> None:
    live = fed(serve(["sj3bz4ry"], 0.0), records(AFTER, 0.0), records(AFTER, 5.0), serve(["sj3bz4ry"], 5.5))
    assert row(live, 5.5).shown.status is Status.LOST


@pytest.mark.parametrize(
    "said",
    [
        # Of before the replica was seen, or so shortly after that it may not be on the list yet.
        serve([], 0.0),
        serve([], 1.0 + SETTLE_SECONDS),
        # Nothing is known of Serve, or not all.
        ray.record(RaySnapshot(20.0)),
        Record(20.0, "ray", RecordKind.LOST, {"reason": "timeout", "why": "no answer"}),
    ],
    ids=["before", "too new", "no serve", "lost"],
)
def test_what_does_not_show_that_a_replica_is_gone(said: Record) -> None:
    live = fed(records(LOAD, 1.0), records(LOAD, 6.0), said)
    assert row(live, 6.0).shown.status is Status.LIVE


def test_a_replica_that_is_listed_again_is_live_again() -> None:
    live = fed(records(LOAD, 1.0), serve([], 10.0), records(LOAD, 11.0))
    assert row(live, 11.0).shown.status is Status.LOST
    live.feed(serve([ID], 12.0))
    for record in records(LOAD, 16.0):
        live.feed(record)
    assert row(live, 16.0).shown.status is Status.LIVE


def test_replicas_on_pages_of_their_own_are_none_of_ray_serves_business() -> None:
    text = (PAGES / "metrics_during_load.txt").read_text()
    own = [record_of(sample) for at in (1.0, 11.0) for sample in parse_metrics(text, at=at, replica="gpu-01")]
    assert row(fed(own, serve([], 12.0)), 12.0).shown.status is Status.LIVE
