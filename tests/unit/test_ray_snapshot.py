"""Snapshots of Ray from what real dashboards sent (Ray 2.60, three nodes, one raylet killed), and from worse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.model import Reason
from dstui.redact import Redactor
from dstui.telemetry import ray
from dstui.telemetry.ray import RaySnapshot, Resources
from dstui.telemetry.ray_answers import ENDPOINTS, Credential, RayAnswer, slimmed, snapshot_of
from dstui.telemetry.ray_text import MESSAGE_BYTES
from dstui.telemetry.record import RecordKind, decode, encode

DATA = Path(__file__).parents[1] / "data" / "ray"
BY_SECTION = {endpoint.section: endpoint for endpoint in ENDPOINTS}
FILES = {
    "version": "version",
    "auth": "authentication_mode",
    "nodes": "v0_nodes",
    "serve": "serve_applications",
    "demands": "cluster_status_format1",
    "usage": "cluster_status",
    "groups": "v0_placement_groups_detail",
    "actors": "v0_actors",
    "jobs": "jobs",
    "reports": "nodes_summary",
}
HEAD_TIME = 1795493333.0
W2, W3 = (
    "430f1e672660e54c847bc7ddc74420da81e0af664d4a279eae9cea4d",
    "bfb14a85475541fdf83ac38e604f4e1a3c714222f258e9afbc2d4460",
)


def bodies(folder: str) -> dict[str, bytes]:
    return {section: (DATA / folder / f"{name}.json").read_bytes() for section, name in FILES.items()}


def look(found: dict[str, bytes], *, status: dict[str, int] | None = None, **options: object) -> RaySnapshot:
    answers = {
        section: RayAnswer(BY_SECTION[section], 100.0, (status or {}).get(section, 200), body, date=HEAD_TIME)
        for section, body in found.items()
    }
    for section, change in options.items():
        answers[section] = replace(answers[section], **change)  # type: ignore[arg-type]
    return snapshot_of(answers, 100.0, Redactor().text)


def changed(folder: str, section: str, change: Callable[[object], object]) -> dict[str, bytes]:
    found = bodies(folder)
    return found | {section: json.dumps(change(json.loads(found[section]))).encode()}


def listing(rows: Sequence[object], **more: object) -> bytes:
    count = {"total": len(rows), "num_after_truncation": len(rows), "num_filtered": len(rows)}
    return json.dumps({"result": True, "data": {"result": {"result": rows, **count, **more}}}).encode()


def test_a_healthy_cluster() -> None:
    seen = look(bodies("before_kill"))
    assert (seen.version, seen.auth, seen.lost, seen.faults) == ("2.60.0", "disabled", None, ())
    assert seen.nodes is not None and seen.serve is not None and seen.groups is not None and seen.jobs is not None
    head, second, third = seen.nodes
    assert (head.ip, head.head, head.total.gpu, head.metrics_port) == ("10.77.0.11", True, 0.0, 8080)
    assert (second.ip, second.head, second.total.gpu, second.accelerator) == ("10.77.0.12", False, 8.0, "H100")
    assert second.used == Resources(gpu=5.0, cpu=1.5, memory=0.0, object_store=110937.0)
    assert third.node_id == W3
    assert seen.total == Resources(16.0, 12.0, 69894421760.0, 300000000.0)
    assert seen.used is not None and seen.used.gpu == 10.0
    assert seen.demands is not None
    assert seen.demands.waiting == ("{'GPU': 99.0} * 1 (PACK): 1+ pending placement groups",)
    assert seen.demands.failures == ()
    waiting, placed = seen.groups
    assert (waiting.name, waiting.state, waiting.infeasible, waiting.asks) == (
        "infeasible",
        "PENDING",
        True,
        "1 × {GPU 99}",
    )
    assert (placed.asks, placed.nodes) == ("2 × {CPU 1, GPU 4}", (W2, W3))
    (app,) = seen.serve.applications
    (echo,) = app.deployments
    assert (app.status, echo.status, echo.target, echo.running, echo.max_ongoing_requests) == (
        "RUNNING",
        "HEALTHY",
        2,
        2,
        5,
    )
    assert [(r.replica_id, r.node_ip, r.pid) for r in echo.replicas] == [
        ("tnof23t7", "10.77.0.13", 6089),
        ("er8edudr", "10.77.0.12", 6092),
    ]
    assert [proxy.status for proxy in seen.serve.proxies] == ["HEALTHY"] * 3
    assert seen.jobs.counts == {"SUCCEEDED": 1}
    assert seen.targets is not None
    assert [target.url for target in seen.targets] == [f"http://10.77.0.1{n}:8080/metrics" for n in (1, 2, 3)]


def test_the_node_reports_say_how_old_they_are() -> None:
    seen = look(bodies("before_kill"))
    assert seen.nodes is not None
    assert [round(node.report_age or 0) for node in seen.nodes] == [78, 78, 77]
    assert round(seen.usage_age or 0, 1) == 1.1


def test_after_a_raylet_was_killed_totals_are_those_of_the_living() -> None:
    seen = look(bodies("after_kill"))
    assert seen.nodes is not None and seen.serve is not None and seen.groups is not None and seen.actors is not None
    dead = seen.nodes[2]
    assert (dead.ip, dead.state, dead.total.gpu, dead.used) == ("10.77.0.13", "DEAD", 8.0, None)
    assert dead.message == "Unexpected termination: health check failed due to missing too many heartbeats"
    assert seen.total is not None and seen.total.gpu == 8.0
    (echo,) = seen.serve.applications[0].deployments
    assert [replica.node_id for replica in echo.replicas] == [W2, W2]
    assert [(r.replica_id, r.state, r.node_id) for r in echo.dead_replicas] == [("tnof23t7", "STOPPED", W3)]
    assert all(group.infeasible for group in seen.groups)
    assert {actor.state for actor in seen.actors} == {"ALIVE", "PENDING_CREATION"}
    assert seen.targets is not None and [target.ip for target in seen.targets] == ["10.77.0.11", "10.77.0.12"]


def test_totals_never_come_from_the_cluster_status() -> None:
    """The status text still counts 16 GPUs five seconds after Ray has called a node of 8 dead."""
    found = bodies("after_kill") | {name: bodies("before_kill")[name] for name in ("usage", "demands")}
    seen = look(found)
    assert seen.total is not None and seen.total.gpu == 8.0
    assert seen.used is not None and seen.used.gpu == 5.0


def test_one_address_alive_once_and_dead_twice() -> None:
    rows = [
        {"node_id": f"n{n}", "node_ip": "10.0.0.1", "state": state, "resources_total": {"GPU": 8.0}, "start_time_ms": n}
        for n, state in ((3, "ALIVE"), (1, "DEAD"), (2, "DEAD"))
    ]
    seen = look(bodies("before_kill") | {"nodes": listing(rows)})
    assert seen.nodes is not None
    assert [(node.node_id, node.state) for node in seen.nodes] == [("n1", "DEAD"), ("n2", "DEAD"), ("n3", "ALIVE")]
    assert seen.total is not None and seen.total.gpu == 8.0


def test_the_times_of_a_node_are_seconds_and_zero_is_none() -> None:
    row = {"node_id": "n", "node_ip": "10.0.0.1", "state": "ALIVE", "start_time_ms": 1795506105026, "end_time_ms": 0}
    seen = look({"nodes": listing([row])})
    assert seen.nodes is not None
    assert (seen.nodes[0].started_at, seen.nodes[0].ended_at) == (1795506105.026, None)


def test_a_failed_deployment_keeps_the_end_of_its_traceback() -> None:
    seen = look({"serve": (DATA / "serve_deploy_failed.json").read_bytes()})
    assert seen.serve is not None
    (app,) = seen.serve.applications
    assert app.status == "DEPLOY_FAILED"
    assert app.message.startswith("Deploying app 'llm' failed with exception:\n")
    assert app.message.endswith("ModuleNotFoundError: No module named 'pyarrow'")
    assert len(app.message.encode()) <= MESSAGE_BYTES
    assert "\x1b" not in app.message


def test_a_replica_knows_the_nodes_of_its_placement_group() -> None:
    found = {
        name: (DATA / f"{file}.json").read_bytes()
        for name, file in (("serve", "serve_llm"), ("groups", "serve_llm_groups"))
    }
    seen = look(found)
    assert seen.serve is not None
    server = seen.serve.applications[0].deployments[0]
    assert server.name == "LLMServer:deepseek-tiny"
    assert server.replicas[0].spans == ("b121236d16153746886bdc5bcb6cdb7d5276fdd5aaa0198bad751f31",)


def test_jobs_are_counted_and_their_command_lines_stay_behind() -> None:
    seen = look({"jobs": (DATA / "jobs_mixed.json").read_bytes(), "nodes": listing([])})
    assert seen.jobs is not None
    assert seen.jobs.counts == {"PENDING": 1, "STOPPED": 1, "SUCCEEDED": 2}
    assert seen.jobs.latest[0].job_id == "pend-1795493430"
    assert "sleep 300" not in encode(ray.record(seen))


def test_without_serve_nothing_is_deployed_and_that_is_known() -> None:
    seen = look({"serve": b'{"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": null}'})
    assert seen.serve == ray.Serve(running=False)


@pytest.mark.parametrize("folder", ["before_kill", "after_kill"])
def test_a_snapshot_survives_a_recording(folder: str) -> None:
    seen = look(bodies(folder))
    record = decode(encode(ray.record(seen)), 1)
    assert (record.source, record.kind, record.at) == ("ray", RecordKind.SAMPLE, 100.0)
    assert ray.snapshot(record.data) == seen


def test_a_lost_dashboard_survives_a_recording() -> None:
    seen = look({"version": b"Unauthorized"}, status={"version": 401})
    record = decode(encode(ray.record(seen)), 1)
    assert record.kind is RecordKind.LOST
    assert (record.data["reason"], record.data["why"]) == (
        "no-credential",
        "the dashboard wants a token: set ray.token_ref in the inventory",
    )
    assert ray.snapshot(record.data) == seen


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"nodes": 5}, "RaySnapshot.nodes is not a list"),
        ({"nodes": [{"ip": "10.0.0.1"}]}, "RaySnapshot.nodes.node_id is missing"),
        ({"at": True}, "RaySnapshot.at is not a number"),
        ({"version": 2}, "RaySnapshot.version is not text"),
        ({"serve": {"running": "yes"}}, "RaySnapshot.serve.running is not true or false"),
        (
            {"lost": {"section": "", "endpoint": "", "reason": "mood", "why": {"en": "", "zh": ""}}},
            "is not a word of Reason",
        ),
        ({"as_of": {"nodes": float("nan")}}, "RaySnapshot.as_of is not a number"),
    ],
)
def test_a_recording_that_was_tampered_with_is_refused(change: dict[str, object], where: str) -> None:
    with pytest.raises(ValueError, match=where):
        ray.snapshot({"at": 1.0, **change})


SECRETS = {
    "HF_TOKEN": "planted-hf-value",
    "DB_URL": "postgres://u:planted-db-value@db/x",
    "MESSAGE": "planted plain words",
}


def planted(document: object) -> object:
    """Secrets wherever Ray is known to return some, and a message that repeats one."""
    if isinstance(document, dict):
        found = {key: planted(item) for key, item in document.items()}
        if all(isinstance(item, dict) for item in document.values()):
            return found  # by name: whatever is added here would be one more thing
        for key in ("runtime_env", "metadata", "user_config", "config", "serialized_runtime_env"):
            found[key] = {"env_vars": SECRETS}
        found["entrypoint"] = "serve --api-key planted-argv-value"
        found["cmdline"] = ["vllm", "--api-key", "planted-argv-value"]
        if "message" in found:
            found["message"] = f"cannot start: {SECRETS} with token=planted-token-value"
        return found
    return [planted(item) for item in document] if isinstance(document, list) else document


@pytest.mark.parametrize("folder", ["before_kill", "after_kill"])
def test_secrets_do_not_leave_the_parser(folder: str) -> None:
    found = {name: json.dumps(planted(json.loads(body))).encode() for name, body in bodies(folder).items()}
    seen = look(found)
    told = encode(ray.record(seen))
    assert seen.serve is not None and seen.jobs is not None
    assert seen.serve.applications[0].message.startswith("cannot start: ")
    assert seen.jobs.latest[0].message
    assert "planted" not in told
    assert "/srv/lab/rayapp" not in told


def test_what_a_secret_holder_knows_is_masked_in_labels_too() -> None:
    found = changed("before_kill", "version", lambda _: {"ray_version": "2.60 topsecret"})
    answers = {name: RayAnswer(BY_SECTION[name], 1.0, 200, body) for name, body in found.items()}
    seen = snapshot_of(answers, 1.0, lambda text: text.replace("topsecret", "‹secrets.x›"))
    assert seen.version == "2.60 ‹secrets.x›"


def test_a_hostile_dashboard_cannot_steer_a_terminal() -> None:
    row = {
        "node_id": "a\x1b[2Jb",
        "node_ip": "10.0.0.1\n\r",
        "state": "ALIVE\x07",
        "state_message": "\x1b]0;owned\x07" + "x" * 100_000 + "\ud800",
        "resources_total": {"GPU": float("nan"), "CPU": "many", "memory": 10**400},
    }
    seen = look({"nodes": listing([row])})
    assert seen.nodes is not None
    node = seen.nodes[0]
    assert (node.node_id, node.ip, node.state) == ("ab", "10.0.0.1 \\x0d", "ALIVE\\x07")
    assert len(node.message.encode()) <= MESSAGE_BYTES
    assert node.total == Resources()
    encode(ray.record(seen)).encode()


def test_words_of_another_version_of_ray_are_kept_and_not_counted() -> None:
    row = {"node_id": "n", "node_ip": "10.0.0.1", "state": "HIBERNATING", "resources_total": {"GPU": 8}}
    seen = look({"nodes": listing([row])})
    assert seen.nodes is not None and seen.nodes[0].state == "HIBERNATING"
    assert seen.total is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_after_truncation": 3, "total": 12_000}, "Ray gave only part of the list (1/12,000)"),
        ({"num_filtered": 5, "total": 5}, "Ray gave only part of the list (1/5)"),
        (
            {"partial_failure_warning": "2 of 3 raylets\nfailed"},
            "Ray says that this list may be incomplete: 2 of 3 raylets failed",
        ),
    ],
)
def test_an_incomplete_list_says_so_and_gives_no_total(change: dict[str, object], words: str) -> None:
    row = {"node_id": "n", "node_ip": "10.0.0.1", "state": "ALIVE", "resources_total": {"GPU": 8}}
    seen = look({"nodes": listing([row], **change)})
    (fault,) = seen.faults
    assert (fault.section, fault.partial, fault.why.en) == ("nodes", True, words)
    assert seen.nodes is not None and len(seen.nodes) == 1
    assert seen.total is None


@pytest.mark.parametrize(
    ("section", "status", "body", "reason", "words"),
    [
        ("serve", 404, b"404: Not Found", Reason.TOOL_MISSING, "this version of Ray, or a dashboard"),
        ("serve", 501, b"Serve dependencies are not installed.\nmore", Reason.TOOL_MISSING, "Serve dependencies"),
        ("serve", 503, b"GCS may be down", Reason.CANNOT_TELL, "it answered HTTP 503: GCS may be down"),
        ("jobs", 302, b"", Reason.CANNOT_TELL, "redirects elsewhere"),
        ("jobs", 403, b"Forbidden", Reason.NO_CREDENTIAL, "refused (HTTP 403)"),
        ("jobs", 200, b"{}", Reason.PARSE_ERROR, "another shape"),
        ("jobs", 200, b"[1]", Reason.PARSE_ERROR, "another shape"),
        ("nodes", 200, b"<!doctype html><html>", Reason.PARSE_ERROR, "a web page, not JSON"),
        ("nodes", 200, b'{"result": tru', Reason.PARSE_ERROR, "not JSON"),
        ("nodes", 200, b"[" * 100_000, Reason.PARSE_ERROR, "not JSON"),
        ("nodes", 200, b"\xff\xfe\xfa", Reason.PARSE_ERROR, "not JSON"),
        (
            "nodes",
            200,
            b'{"result": false, "msg": "GCS is down"}',
            Reason.PARSE_ERROR,
            "Ray could not answer: GCS is down",
        ),
        ("nodes", 200, listing([{"node_ip": "10.0.0.1"}]), Reason.PARSE_ERROR, "another shape"),
        ("nodes", 200, b'{"data": {"result": {"result": null}}}', Reason.PARSE_ERROR, "another shape"),
        ("serve", 200, b'{"applications": []}', Reason.PARSE_ERROR, "another shape"),
        ("serve", 200, b'{"applications": {"a": {"deployments": {"d": {}}}}}', Reason.PARSE_ERROR, "another shape"),
        ("demands", 200, b'{"data": {"clusterStatus": "No cluster status."}}', Reason.PARSE_ERROR, "no status text"),
        ("reports", 200, b'{"data": {}}', Reason.PARSE_ERROR, "another shape"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_the_rest_is_there(
    section: str, status: int, body: bytes, reason: Reason, words: str
) -> None:
    found = bodies("before_kill") | {section: body}
    if section == "nodes":
        del found["reports"]
    seen = look(found, status={section: status})
    (fault,) = seen.faults
    assert (fault.section, fault.reason, fault.partial) == (section, reason, False)
    assert words in fault.why.en
    assert seen.lost is None
    known = {
        "nodes": seen.nodes,
        "serve": seen.serve,
        "jobs": seen.jobs,
        "demands": seen.demands,
        "actors": seen.actors,
    }
    assert [name for name, value in known.items() if value is None] == [section] * (section in known)


@pytest.mark.parametrize(("status", "body"), [(500, b"boom"), (404, b"404: Not Found"), (200, b"<html>")])
def test_nodes_are_taken_from_the_summary_where_the_state_api_has_none(status: int, body: bytes) -> None:
    whole = look(bodies("before_kill"))
    seen = look(bodies("before_kill") | {"nodes": body}, status={"nodes": status})
    assert seen.nodes is not None and whole.nodes is not None
    # Captured without detail=1: only the summary has the times.
    assert tuple(replace(node, started_at=None) for node in seen.nodes) == whole.nodes
    assert all(node.started_at for node in seen.nodes)
    (fault,) = seen.faults
    assert (fault.section, fault.partial) == ("nodes", True)
    assert "the nodes are taken from /nodes?view=summary, 0 s old, which may lack some" in fault.why.en
    assert "节点取自 /nodes?view=summary（0 秒前）" in fault.why.zh
    assert seen.total is None, "a list that may lack some has no total"
    assert seen.as_of["nodes"] == seen.as_of["reports"]


def test_dead_nodes_are_in_the_summary_too() -> None:
    seen = look(bodies("after_kill") | {"nodes": b"boom"}, status={"nodes": 500})
    whole = look(bodies("after_kill"))
    assert seen.nodes is not None and whole.nodes is not None
    assert [(node.node_id, node.state, node.ip) for node in seen.nodes] == [
        (node.node_id, node.state, node.ip) for node in whole.nodes
    ]
    assert any(node.state == "DEAD" and "health check failed" in node.message for node in seen.nodes)


def test_a_summary_without_what_nobody_reads_says_the_same() -> None:
    found = bodies("before_kill")
    endpoint = next(each for each in ENDPOINTS if each.section == "reports")
    slim = slimmed(RayAnswer(endpoint, at=1.0, status=200, body=found["reports"], size=len(found["reports"])))
    assert len(slim.body) < len(found["reports"]) / 4
    assert slim.size == len(found["reports"])
    assert look(found | {"reports": slim.body}) == look(found)
    for nodes in (b"boom", found["nodes"]):
        assert look(found | {"reports": slim.body, "nodes": nodes}).nodes == look(found | {"nodes": nodes}).nodes


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"data": {"summary": [1]}}', b'{"data": {}}', b'{"result": false}'])
def test_a_strange_summary_stays_to_be_told(body: bytes) -> None:
    endpoint = next(each for each in ENDPOINTS if each.section == "reports")
    answer = RayAnswer(endpoint, at=1.0, status=200, body=body)
    before, after = look(bodies("before_kill") | {"reports": body}), slimmed(answer).body
    assert look(bodies("before_kill") | {"reports": after}) == before


def test_an_old_ray_without_the_optional_endpoints_is_no_fault() -> None:
    found = bodies("before_kill") | {"auth": b"404: Not Found", "targets": b"404: Not Found"}
    seen = look(found, status={"auth": 404, "targets": 404})
    assert (seen.auth, seen.faults) == (None, ())
    assert seen.targets is not None and len(seen.targets) == 3


def test_metrics_ports_from_service_discovery_when_the_reports_are_too_big() -> None:
    targets = [
        {"labels": {"job": "ray"}, "targets": ["10.77.0.11:8080", "10.77.0.11:44217", "10.77.0.9:8080", "x:y", 5]}
    ]
    found = bodies("before_kill") | {"targets": json.dumps(targets).encode()}
    seen = look(found, reports={"cut": True})
    assert [(fault.section, fault.reason) for fault in seen.faults] == [("reports", Reason.BUDGET)]
    assert seen.targets is not None
    assert [target.url for target in seen.targets] == ["http://10.77.0.11:8080/metrics"]


def test_no_metrics_target_is_known_when_nothing_names_any() -> None:
    found = bodies("before_kill")
    del found["reports"]
    assert look(found).targets is None


def test_a_dashboard_that_answers_no_question_is_lost_whatever_was_kept() -> None:
    statuses = {name: 500 for name in FILES if BY_SECTION[name].period == 0 and name != "version"}
    seen = look(bodies("before_kill"), status=statuses)
    assert seen.lost is not None and "HTTP 500" in seen.lost.why.en
    assert (seen.version, seen.jobs, seen.actors, seen.nodes) == ("2.60.0", None, None, None)


def test_the_token_is_spoken_of_by_its_reference() -> None:
    answer = RayAnswer(BY_SECTION["version"], 1.0, 403, b"Forbidden: Invalid authentication token")
    seen = snapshot_of({"version": answer}, 1.0, str, Credential("secrets.ray_token"))
    assert seen.lost is not None
    assert (
        seen.lost.why.en
        == "the token of secrets.ray_token is wrong (HTTP 403): it is not this cluster's, or was changed"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_gives_a_snapshot_that_can_be_recorded(section: str, body: bytes) -> None:
    seen = look(bodies("before_kill") | {section: body})
    assert ray.snapshot(json.loads(encode(ray.record(seen)))["data"]) == seen


def mangled(document: object, draw: Callable[[], object], keep: float) -> object:
    if isinstance(document, dict):
        return {key: mangled(item, draw, keep) for key, item in document.items()}
    if isinstance(document, list):
        return [mangled(item, draw, keep) for item in document]
    return document if crc32(str(document).encode()) % 100 < keep * 100 else draw()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(FILES)), st.floats(0, 1))
def test_leaves_of_any_type_in_the_right_places(data: st.DataObject, section: str, keep: float) -> None:
    document = json.loads(bodies("after_kill")[section])
    odd = data.draw(st.lists(JSON, min_size=3, max_size=3))
    pick = iter(odd * 10_000)
    body = json.dumps(mangled(document, lambda: next(pick), keep)).encode()
    seen = look(bodies("after_kill") | {section: body})
    assert ray.snapshot(json.loads(encode(ray.record(seen)))["data"]) == seen
