"""From the dashboard's answers to a snapshot: what is asked, and what a failure means to a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dstui.model import Reason, Text
from dstui.telemetry import ray_nodes, ray_serve, ray_work
from dstui.telemetry.ray import Demands, Fault, RayNode, RaySnapshot, Serve
from dstui.telemetry.ray_text import Scrubber, number, rows, secret_values, table

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of the dashboard. Asked again after `period` seconds; given up after `timeout` seconds or `limit` bytes.

    `optional` ones are missing in some versions of Ray, and nothing is lost without them.
    """

    section: str
    path: str
    period: float = 0.0
    timeout: float = 5.0
    limit: int = 8 * MIB
    optional: bool = False


# The state API cuts after 100 rows by default and after 10,000 in any case.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("version", "/api/version", timeout=3.0, limit=MIB),
    Endpoint("auth", "/api/authentication_mode", period=30.0, timeout=3.0, limit=MIB, optional=True),
    Endpoint("nodes", "/api/v0/nodes?detail=1&limit=10000"),
    Endpoint("serve", "/api/serve/applications/"),
    Endpoint("demands", "/api/cluster_status?format=1", limit=2 * MIB),
    Endpoint("usage", "/api/cluster_status"),
    Endpoint("groups", "/api/v0/placement_groups?detail=1&limit=2000"),
    Endpoint(
        "actors",
        "/api/v0/actors?limit=2000&filter_keys=state&filter_predicates=%21%3D&filter_values=DEAD",
        period=5.0,
    ),
    Endpoint("jobs", "/api/jobs/", period=10.0),
    Endpoint("reports", "/nodes?view=summary", period=10.0, timeout=20.0, limit=32 * MIB),
    Endpoint("targets", "/api/prometheus/sd", period=30.0, optional=True),
)
"""`/nodes?view=summary` has 15 to 18 kB a node, most of it about workers, and more than any other answer: 32 MiB are
about 1,900 nodes. Beyond that host names and report ages are unknown, and the metrics ports come from service
discovery."""

_IDS = {"nodes": "node_id", "groups": "placement_group_id", "actors": "actor_id"}
_TELLING = ("serve", "jobs")
"""Where Ray puts runtime environments into its answers."""


@dataclass(frozen=True, slots=True)
class RayAnswer:
    """What came back for one endpoint at `at` (controller) and `date` (the dashboard's clock), or why nothing did.

    `cut` says that the body is longer than the endpoint's limit; then none of it can be read. `size` is how many bytes
    came.
    """

    endpoint: Endpoint
    at: float
    status: int = 0
    body: bytes = b""
    cut: bool = False
    date: float | None = None
    failure: Fault | None = None
    size: int = 0


def slimmed(answer: RayAnswer) -> RayAnswer:
    """The answer without what nobody reads, where that is most of it; whatever is wrong with it stays to be told."""
    if answer.endpoint.section != "reports" or answer.status != 200 or answer.cut:
        return answer
    try:
        document = ray_nodes.slimmed(json.loads(answer.body))
    except (ValueError, RecursionError):
        return answer
    return replace(answer, body=json.dumps(document).encode())


@dataclass(frozen=True, slots=True)
class Credential:
    """What the poller knows of its token: where it comes from, if there is one, and why it could not be had."""

    label: str | None = None
    fault: Text | None = None


def snapshot_of(
    answers: Mapping[str, RayAnswer], at: float, redact: Callable[[str], str], credential: Credential | None = None
) -> RaySnapshot:
    """The snapshot of the answers by section. Never raises: what cannot be read is a Fault of its section."""
    credential = credential or Credential()
    documents: dict[str, object] = {}
    faults: dict[str, Fault] = {}
    plain = Scrubber(redact)
    for section, answer in answers.items():
        found = _document(answer, plain, credential)
        if isinstance(found, Fault):
            if not (answer.endpoint.optional and answer.status == 404):
                faults[section] = found
        else:
            documents[section] = found
    hidden = [value for section in _TELLING for value in secret_values(documents.get(section))]
    scrub = Scrubber(redact, hidden)
    asked_now = {section for section in documents if answers[section].endpoint.period == 0}
    if not asked_now - {"version"}:
        documents = {section: documents[section] for section in ("version", "auth") if section in documents}
        return replace(_Assembly(answers, documents, faults, scrub).snapshot(at), lost=_lost(faults))
    return _Assembly(answers, documents, faults, scrub).snapshot(at)


def _lost(faults: Mapping[str, Fault]) -> Fault:
    """The failure that says most: a token that is wanted, else what the first endpoint met."""
    wanted = [fault for fault in faults.values() if fault.reason is Reason.NO_CREDENTIAL]
    told = wanted or list(faults.values())
    if told:
        return told[0]
    return Fault("version", "", Reason.NOT_RUN, Text("the Ray dashboard was not asked", "没有询问 Ray Dashboard"))


@dataclass(slots=True)
class _Assembly:
    answers: Mapping[str, RayAnswer]
    documents: dict[str, object]
    faults: dict[str, Fault]
    scrub: Scrubber

    def snapshot(self, at: float) -> RaySnapshot:
        version = table(self.documents.get("version"))
        used, usage_at = ray_nodes.usage(self.documents.get("usage"))
        told = ray_nodes.reports(self.documents.get("reports"), self.scrub)
        if not used:
            used, usage_at = ray_nodes.logical_usage(self.documents.get("reports")), None
        listed = self.listed("nodes")
        found = ray_nodes.nodes(listed, self.scrub) if listed is not None else self.summarized()
        nodes = None if found is None else ray_nodes.joined(found, used, told, self.head_time("reports"))
        groups = self.listed("groups")
        placed = None if groups is None else ray_work.placement_groups(groups, self.scrub)
        serve = self.serve()
        actors = self.listed("actors")
        jobs = self.documents.get("jobs")
        discovered = self.documents.get("targets")
        return RaySnapshot(
            at=at,
            version=self.scrub.label(version.get("ray_version")),
            session=self.scrub.label(version.get("session_name")),
            auth=self.scrub.label(table(self.documents.get("auth")).get("authentication_mode")),
            head_time=self.head_time("version"),
            usage_at=usage_at,
            nodes=nodes,
            serve=ray_serve.spanning(serve, placed) if serve and placed else serve,
            demands=self.demands(usage_at),
            groups=placed,
            actors=None if actors is None else ray_work.actors(actors, self.scrub),
            jobs=ray_work.jobs(jobs, self.scrub) if isinstance(jobs, list) else None,
            targets=None if nodes is None or not (told or discovered) else ray_work.metrics_targets(discovered, nodes),
            faults=tuple(self.faults.values()),
            as_of=self.as_of(nodes is not None),
        )

    def as_of(self, nodes_known: bool) -> dict[str, float]:
        times = {name: self.answers[name].at for name in self.documents}
        return times if "nodes" in times or not nodes_known else times | {"nodes": times["reports"]}

    def summarized(self) -> tuple[RayNode, ...] | None:
        """The nodes from the agents' summary where the state API gives none; a Fault says that, and why."""
        why = self.faults.get("nodes")
        if why is None or "reports" not in self.documents:
            return None
        seconds = max(0, round(self.answers["nodes"].at - self.answers["reports"].at))
        path = self.answers["reports"].endpoint.path
        told = Text(
            f"{why.why.en}; the nodes are taken from {path}, {seconds} s old, which may lack some",
            f"{why.why.zh}；节点取自 {path}（{seconds} 秒前），可能不完整",
        )
        self.faults["nodes"] = replace(why, why=told, partial=True)
        return ray_nodes.summarized(self.documents["reports"], self.scrub)

    def head_time(self, section: str) -> float | None:
        answer = self.answers.get(section)
        return answer.date if answer is not None else None

    def listed(self, section: str) -> list[Mapping[str, object]] | None:
        """The rows of a state API answer; what it says of being incomplete becomes a Fault."""
        if section not in self.documents:
            return None
        result = table(table(table(self.documents[section]).get("data")).get("result"))
        found = rows(result.get("result"))
        fault = self.incomplete(section, result, len(found))
        if fault is not None:
            self.faults[section] = fault
        return found

    def incomplete(self, section: str, result: Mapping[str, object], count: int) -> Fault | None:
        path = self.answers[section].endpoint.path
        warning = self.scrub.line(result.get("partial_failure_warning"))
        if warning:
            why = Text(f"Ray says that this list may be incomplete: {warning}", f"Ray 称此列表可能不完整：{warning}")
            return Fault(section, path, Reason.CANNOT_TELL, why, partial=True)
        total, kept, matching = (number(result.get(key)) for key in ("total", "num_after_truncation", "num_filtered"))
        most = max((each for each in (matching if matching is not None else total,) if each is not None), default=0.0)
        if count < most or (total is not None and kept is not None and kept < total):
            what = f"{count:,}/{max(most, total or 0.0):,.0f}"
            why = Text(f"Ray gave only part of the list ({what})", f"Ray 只返回了列表的一部分（{what}）")
            return Fault(section, path, Reason.CANNOT_TELL, why, partial=True)
        return None

    def serve(self) -> Serve | None:
        document = self.documents.get("serve")
        return ray_serve.serve(document, self.scrub) if isinstance(document, dict) else None

    def demands(self, usage_at: float | None) -> Demands | None:
        if "demands" not in self.documents:
            return None
        found = ray_work.demands(self.documents["demands"], usage_at, self.scrub)
        if found is None:
            path = self.answers["demands"].endpoint.path
            self.faults["demands"] = Fault("demands", path, Reason.PARSE_ERROR, _NO_STATUS)
        return found


_NO_STATUS = Text("Ray gave no status text: its autoscaler may not run", "Ray 没有给出状态文本：自动伸缩器可能没有运行")


def _document(answer: RayAnswer, scrub: Scrubber, credential: Credential) -> object:
    """The JSON of an answer, or the Fault that keeps it from being read."""
    endpoint = answer.endpoint
    if answer.failure is not None:
        return answer.failure
    if answer.status != 200:
        return _refusal(answer, scrub, credential)
    if answer.cut:
        return Fault(endpoint.section, endpoint.path, Reason.BUDGET, _too_large(endpoint))
    try:
        document: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return Fault(endpoint.section, endpoint.path, Reason.PARSE_ERROR, _garbled(answer.body))
    if (wrong := _shape_fault(endpoint.section, document, scrub)) is not None:
        return Fault(endpoint.section, endpoint.path, Reason.PARSE_ERROR, wrong)
    return document


def _too_large(endpoint: Endpoint) -> Text:
    size = f"{endpoint.limit // MIB} MiB"
    if endpoint.section != "reports":
        return Text(f"its answer is larger than {size} and is not read", f"回答超过 {size}，未读取")
    return Text(
        f"its answer is larger than {size} and is not read: node host names, the age of their reports and metrics "
        "ports that service discovery does not name are unknown",
        f"回答超过 {size}，未读取：节点主机名、上报时间及服务发现未列出的指标端口未知",
    )


def _garbled(body: bytes) -> Text:
    if body.lstrip()[:1] == b"<":
        return Text(
            "it answered with a web page, not JSON: is ray.dashboard_url the Ray dashboard?",
            "返回的是网页而不是 JSON：ray.dashboard_url 是 Ray Dashboard 吗？",
        )
    return Text("its answer is not JSON", "返回的不是 JSON")


def _shape_fault(section: str, document: object, scrub: Scrubber) -> Text | None:
    """Why a document cannot be what the section needs, so that a strange answer is unknown, and not an empty list."""
    if section in {"jobs", "targets"}:
        return None if _objects(document) else _UNEXPECTED
    if not isinstance(document, dict):
        return _UNEXPECTED
    if document.get("result") is False:
        said = scrub.line(document.get("msg"))
        return Text(f"Ray could not answer: {said}", f"Ray 无法回答：{said}")
    if section in _IDS:
        listed = table(table(document.get("data")).get("result")).get("result")
        fits = _objects(listed) and all(_named(row, _IDS[section]) for row in rows(listed))
    elif section == "reports":
        fits = isinstance(table(document.get("data")).get("summary"), list)
    elif section == "serve":
        fits = _serve_fits(document)
    elif section == "usage":
        fits = isinstance(document.get("data"), dict)
    else:
        fits = True
    return None if fits else _UNEXPECTED


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _named(row: Mapping[str, object], key: str) -> bool:
    found = row.get(key)
    return isinstance(found, str) and bool(found.strip())


def _serve_fits(document: Mapping[str, object]) -> bool:
    apps = document.get("applications")
    if not isinstance(apps, dict):
        return False
    deployments = [table(app).get("deployments") for app in apps.values()]
    return all(
        isinstance(each, dict) and all(_objects(table(deployment).get("replicas")) for deployment in each.values())
        for each in deployments
    )


_UNEXPECTED = Text("its answer has another shape than Ray's", "回答的结构与 Ray 的不同")


def _refusal(answer: RayAnswer, scrub: Scrubber, credential: Credential) -> Fault:
    endpoint, status = answer.endpoint, answer.status
    said = scrub.first_line(answer.body[:4096].decode("utf-8", "replace"))
    reason = Reason.CANNOT_TELL
    if status == 401:
        reason, why = Reason.NO_CREDENTIAL, _token_wanted(credential)
    elif status == 403:
        reason, why = Reason.NO_CREDENTIAL, _token_refused(credential)
    elif status == 404:
        reason = Reason.TOOL_MISSING
        why = Text(
            "this version of Ray, or a dashboard installed without its extras, does not have it (HTTP 404); "
            "`pip install 'ray[default,serve]'` on the head brings all",
            "此 Ray 版本或未装全的 Dashboard 没有该接口（HTTP 404）；在 head 上执行 `pip install 'ray[default,serve]'`",
        )
    elif status == 501:
        reason = Reason.TOOL_MISSING
        why = Text(f"not installed on the head (HTTP 501): {said}", f"head 上没有安装（HTTP 501）：{said}")
    elif 300 <= status < 400:
        why = Text(
            f"it redirects elsewhere (HTTP {status}): is ray.dashboard_url the dashboard itself?",
            f"被重定向到别处（HTTP {status}）：ray.dashboard_url 是 Dashboard 本身吗？",
        )
    else:
        why = Text(f"it answered HTTP {status}: {said}", f"返回 HTTP {status}：{said}")
    return Fault(endpoint.section, endpoint.path, reason, why)


def _token_wanted(credential: Credential) -> Text:
    if credential.fault is not None:
        return Text(
            f"the dashboard wants a token, and there is none: {credential.fault.en}",
            f"Dashboard 需要令牌，但拿不到：{credential.fault.zh}",
        )
    if credential.label is None:
        return Text(
            "the dashboard wants a token: set ray.token_ref in the inventory",
            "Dashboard 需要令牌：请在清单中设置 ray.token_ref",
        )
    return Text(
        f"the dashboard did not take the token of {credential.label} (HTTP 401)",
        f"Dashboard 没有接受 {credential.label} 的令牌（HTTP 401）",
    )


def _token_refused(credential: Credential) -> Text:
    if credential.label is None:
        return Text(
            "access is refused (HTTP 403): if Ray wants a token, set ray.token_ref in the inventory",
            "访问被拒绝（HTTP 403）：如果 Ray 需要令牌，请在清单中设置 ray.token_ref",
        )
    return Text(
        f"the token of {credential.label} is wrong (HTTP 403): it is not this cluster's, or was changed",
        f"{credential.label} 的令牌不正确（HTTP 403）：不是该集群的令牌，或已更换",
    )
