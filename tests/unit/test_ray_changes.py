"""Events from two looks at Ray: each change is told once, and not being able to look is not a change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.model import Reason, same
from dstui.redact import Redactor
from dstui.telemetry.ray import (
    Application,
    Demands,
    Deployment,
    Fault,
    PlacementGroup,
    Proxy,
    RayNode,
    RaySnapshot,
    Replica,
    Serve,
)
from dstui.telemetry.ray_answers import ENDPOINTS, RayAnswer, snapshot_of
from dstui.telemetry.ray_changes import Change, RaySeen, follow, names_of

DATA = Path(__file__).parents[1] / "data" / "ray"
FILES = {"version": "version", "nodes": "v0_nodes", "serve": "serve_applications", "demands": "cluster_status_format1"}
NAMED = names_of({"10.0.0.2": "gpu-02", "10.0.0.3": "gpu-03", "10.77.0.13": "gpu-03"})


def captured(folder: str, at: float) -> RaySnapshot:
    by_section = {endpoint.section: endpoint for endpoint in ENDPOINTS}
    answers = {
        section: RayAnswer(by_section[section], at, 200, (DATA / folder / f"{name}.json").read_bytes())
        for section, name in (FILES | {"groups": "v0_placement_groups_detail"}).items()
    }
    return snapshot_of(answers, at, Redactor().text)


def told(*snapshots: RaySnapshot) -> list[tuple[str, str]]:
    """(severity, sentence) of all changes after the first snapshot."""
    return [(change.severity, change.text.en) for change in changes(*snapshots)]


def changes(*snapshots: RaySnapshot) -> list[Change]:
    seen = RaySeen()
    found: list[Change] = []
    for number, snapshot in enumerate(snapshots):
        seen, new = follow(seen, replace(snapshot, at=100.0 + number), NAMED)
        found += new
    assert all(change.text.zh for change in found)
    return found


def test_a_killed_raylet_as_it_was_seen() -> None:
    before, after = captured("before_kill", 1.0), captured("after_kill", 2.0)
    found = told(before, before, after, after)
    assert found == [
        ("fail", "gpu-03 left the cluster, health check failed due to missing too many heartbeats"),
        ("info", "tiny/Echo replica igunjjjv on 10.77.0.12 is RUNNING"),
        ("fail", "tiny/Echo replica tnof23t7 on gpu-03 died with its node"),
        ("warn", "no nodes can hold placement group tp8-pp2: it asks for 2 × {CPU 1, GPU 4}"),
        ("warn", "waits for resources: {'GPU': 64.0}: 1+ pending tasks/actors"),
        ("warn", "waits for resources: {'CPU': 1.0, 'GPU': 4.0} * 2 (STRICT_SPREAD): 1+ pending placement groups"),
    ]


def test_the_first_look_tells_nothing() -> None:
    assert told(captured("after_kill", 1.0)) == []


ALIVE, DEAD = RayNode("a", "10.0.0.2", state="ALIVE"), RayNode("a", "10.0.0.2", state="DEAD")
OTHER = RayNode("b", "10.0.0.3", state="ALIVE")


def nodes(*rows: RayNode) -> RaySnapshot:
    return RaySnapshot(0.0, session="s1", version="2.60.0", nodes=rows)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((ALIVE,), (ALIVE, OTHER), [("info", "gpu-03 joined the cluster")]),
        ((DEAD,), (DEAD, replace(ALIVE, node_id="a2")), [("info", "gpu-02 is back in the cluster, as a new Ray node")]),
        ((ALIVE,), (ALIVE, replace(ALIVE, node_id="a2")), [("warn", "gpu-02 has a second Ray node alive at once")]),
        (
            (ALIVE,),
            (replace(DEAD, message="Expected termination: received SIGTERM"),),
            [("warn", "gpu-02 left the cluster, received SIGTERM")],
        ),
        ((ALIVE,), (DEAD,), [("fail", "gpu-02 left the cluster")]),
        ((ALIVE, OTHER), (OTHER,), [("fail", "gpu-02 is no longer listed by Ray")]),
        ((DEAD, OTHER), (OTHER,), []),
        ((ALIVE,), (replace(ALIVE, state="DRAINING"),), [("warn", "gpu-02 is DRAINING now, says Ray")]),
        (
            (ALIVE,),
            (
                ALIVE,
                RayNode(
                    "c",
                    "10.0.0.3",
                    state="DEAD",
                    message="Unexpected termination: crash",
                    started_at=99.0,
                    ended_at=100.5,
                ),
            ),
            [("fail", "gpu-03 joined the cluster and left it at once, crash")],
        ),
        ((ALIVE,), (ALIVE, RayNode("c", "10.0.0.3", state="DEAD", started_at=9.0, ended_at=10.0)), []),
    ],
)
def test_nodes(before: tuple[RayNode, ...], after: tuple[RayNode, ...], words: list[tuple[str, str]]) -> None:
    assert told(nodes(*before), nodes(*after), nodes(*after)) == words


def test_a_node_that_an_incomplete_list_lacks_did_not_leave() -> None:
    fault = Fault("nodes", "/api/v0/nodes?detail=1", Reason.CANNOT_TELL, same("only part"), partial=True)
    assert told(nodes(ALIVE, OTHER), replace(nodes(ALIVE), faults=(fault,))) == [("warn", "/api/v0/nodes: only part")]


def test_what_was_unknown_in_between_is_compared_with_what_was_known() -> None:
    fault = Fault("nodes", "/api/v0/nodes", Reason.TIMEOUT, same("no answer within 5 s"))
    gap = RaySnapshot(0.0, session="s1", version="2.60.0", faults=(fault,))
    assert told(nodes(ALIVE, OTHER), gap, gap, nodes(DEAD, OTHER)) == [
        ("warn", "Ray's /api/v0/nodes cannot be read: no answer within 5 s"),
        ("info", "Ray answers /api/v0/nodes again"),
        ("fail", "gpu-02 left the cluster"),
    ]


def lost(reason: Reason, why: str) -> RaySnapshot:
    fault = Fault("version", "/api/version", reason, same(why))
    return RaySnapshot(0.0, faults=(fault, replace(fault, section="nodes")), lost=fault)


def test_a_dashboard_lost_and_back_is_two_lines() -> None:
    gone = lost(Reason.UNREACHABLE, "nothing listens on gpu-01:8265")
    slow = Fault("jobs", "/api/jobs/", Reason.TIMEOUT, same("slow"))
    before = replace(nodes(ALIVE), faults=(slow,))
    assert told(before, gone, replace(gone), lost(Reason.UNREACHABLE, "other words"), before) == [
        ("warn", "Ray's /api/jobs/ cannot be read: slow"),
        ("fail", "the Ray dashboard cannot be read: nothing listens on gpu-01:8265"),
        ("info", "the Ray dashboard answers again"),
    ]


def test_a_node_that_died_while_the_dashboard_was_away() -> None:
    assert told(nodes(ALIVE), lost(Reason.TIMEOUT, "x"), nodes(DEAD))[1:] == [
        ("info", "the Ray dashboard answers again"),
        ("fail", "gpu-02 left the cluster"),
    ]


def test_a_dashboard_that_was_never_there() -> None:
    assert told(lost(Reason.UNREACHABLE, "x"), nodes(ALIVE)) == [
        ("fail", "the Ray dashboard cannot be read: x"),
        ("info", "the Ray dashboard answers again"),
    ]


def test_no_token_a_wrong_token_and_the_right_one() -> None:
    wanted, wrong = lost(Reason.NO_CREDENTIAL, "the dashboard wants a token"), lost(Reason.NO_CREDENTIAL, "it is wrong")
    assert told(wanted, wanted, wrong, nodes(ALIVE)) == [
        ("fail", "Ray cannot be looked at: the dashboard wants a token"),
        ("fail", "Ray cannot be looked at: it is wrong"),
        ("info", "Ray takes the token now"),
    ]


def test_a_new_session_is_one_line_and_not_a_funeral() -> None:
    after = replace(nodes(replace(OTHER, node_id="z")), session="s2", version="2.61.0")
    assert told(nodes(ALIVE, OTHER), after, after) == [
        ("warn", "Ray is 2.61.0 now, it was 2.60.0"),
        ("warn", "Ray was restarted: a new session began"),
    ]


def test_authentication_turned_off_is_worth_a_warning() -> None:
    assert told(RaySnapshot(0.0, auth="token"), RaySnapshot(0.0), RaySnapshot(0.0, auth="disabled")) == [
        ("warn", "Ray's authentication is disabled now")
    ]


RUNNING = Replica("r1", "RUNNING", "b", "10.0.0.3", 7)


def serving(
    *replicas: Replica, app: str = "RUNNING", deployment: str = "HEALTHY", target: int = 1, why: str = ""
) -> RaySnapshot:
    server = Deployment("LLM", deployment, message=why, target=target, replicas=replicas)
    return RaySnapshot(0.0, serve=Serve(True, (Application("llm", app, why, deployments=(server,)),)))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            serving(RUNNING),
            serving(RUNNING, app="UNHEALTHY", deployment="UNHEALTHY", why="Traceback\n\nValueError: no"),
            [("fail", "llm is UNHEALTHY: ValueError: no"), ("fail", "llm/LLM is UNHEALTHY: ValueError: no")],
        ),
        (serving(RUNNING), serving(RUNNING, app="DELETING"), [("warn", "llm is DELETING")]),
        (serving(RUNNING), serving(RUNNING, app="SLEEPING"), [("warn", "llm is SLEEPING")]),
        (serving(RUNNING, deployment="UPDATING"), serving(RUNNING), [("info", "llm/LLM is HEALTHY")]),
        (
            serving(),
            serving(replace(RUNNING, state="STARTING", node_ip=None)),
            [("info", "llm/LLM replica r1 is STARTING")],
        ),
        (
            serving(RUNNING),
            serving(replace(RUNNING, state="STOPPING")),
            [("warn", "llm/LLM replica r1 on gpu-03 stopped")],
        ),
        (serving(RUNNING), serving(), [("warn", "llm/LLM replica r1 on gpu-03 stopped")]),
        (serving(replace(RUNNING, state="STOPPING")), serving(), []),
        (serving(RUNNING, target=2), serving(target=1), [("info", "llm/LLM replica r1 on gpu-03 is taken away")]),
        (serving(RUNNING), RaySnapshot(0.0, serve=Serve(True)), [("warn", "llm is gone from Ray Serve")]),
        (RaySnapshot(0.0, serve=Serve(False)), serving(), [("info", "llm is RUNNING"), ("info", "llm/LLM is HEALTHY")]),
        (
            RaySnapshot(0.0, serve=Serve(True, proxies=(Proxy("b", "10.0.0.3", "HEALTHY"),))),
            RaySnapshot(0.0, serve=Serve(True, proxies=(Proxy("b", "10.0.0.3", "UNHEALTHY"),))),
            [("fail", "gpu-03 has its Serve proxy UNHEALTHY")],
        ),
    ],
)
def test_serve(before: RaySnapshot, after: RaySnapshot, words: list[tuple[str, str]]) -> None:
    assert told(before, after, after) == words


def test_a_replica_that_stops_and_then_is_gone_is_told_once() -> None:
    found = told(
        serving(RUNNING),
        serving(replace(RUNNING, state="STOPPING")),
        serving(replace(RUNNING, state="STOPPED")),
        serving(),
    )
    assert found == [("warn", "llm/LLM replica r1 on gpu-03 stopped")]


def test_resources_that_are_waited_for() -> None:
    stuck = PlacementGroup("g", "tp8", "PENDING", "INFEASIBLE", "1 × {GPU 99}")
    placed = replace(stuck, state="CREATED", scheduling="FINISHED")
    waiting = RaySnapshot(0.0, groups=(stuck,), demands=Demands(("{'GPU': 99.0}: 1+ pending",)))
    calm = RaySnapshot(0.0, groups=(), demands=Demands())
    assert told(calm, waiting, waiting, replace(calm, groups=(placed,))) == [
        ("warn", "no nodes can hold placement group tp8: it asks for 1 × {GPU 99}"),
        ("warn", "waits for resources: {'GPU': 99.0}: 1+ pending"),
        ("info", "placement group tp8 found its nodes"),
        ("info", "nothing waits for resources any more"),
    ]


def test_a_host_is_who_and_the_change_is_what() -> None:
    (change,) = changes(nodes(ALIVE), nodes(DEAD))
    assert (change.key, change.who, change.what.zh, change.text.zh) == (
        "node:a",
        "gpu-02",
        "离开集群",
        "gpu-02 离开集群",
    )


def test_what_was_known_last_keeps_its_age() -> None:
    seen, _ = follow(RaySeen(), replace(nodes(ALIVE), as_of={"nodes": 100.0}))
    seen, _ = follow(seen, replace(lost(Reason.TIMEOUT, "x"), at=130.0))
    assert seen.latest is not None and seen.latest.nodes is None
    assert seen.known is not None and seen.known.nodes == (ALIVE,) and seen.known.as_of["nodes"] == 100.0
    assert json.dumps(seen.known.as_of)
