"""Changes worth a line between two looks at Ray, each told once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from dstui.model import Reason, Text
from dstui.telemetry.ray import (
    ALIVE,
    DEAD,
    Application,
    Deployment,
    Fault,
    PlacementGroup,
    RayNode,
    RaySnapshot,
    Replica,
    Serve,
)
from dstui.telemetry.ray_text import cut

INFO, WARN, FAIL = "info", "warn", "fail"

_APPLICATION = {"RUNNING": INFO, "DEPLOYING": INFO, "DELETING": WARN, "NOT_STARTED": INFO}
_BAD = {"UNHEALTHY": FAIL, "DEPLOY_FAILED": FAIL}
_DEPLOYMENT = {"HEALTHY": INFO, "UPDATING": INFO, "UPSCALING": INFO, "DOWNSCALING": INFO}
_PROXY = {"HEALTHY": INFO, "STARTING": INFO, "DRAINING": WARN, "DRAINED": WARN}
_END_BYTES = 300
_CLOCKS_APART = 60.0
_ENDING = frozenset({"STOPPING", "STOPPED"})

Named = Callable[[str | None], str]
"""The host's name for an address of Ray; the address itself when it is nobody's."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the event log. `key` is what changed: `node:<id>`, `app:<name>`, `replica:<id>` …

    `who` is a host, an application or a deployment, and `what` goes on from it; empty when `what` is a sentence.
    """

    at: float
    key: str
    severity: str
    what: Text
    who: str = ""

    @property
    def text(self) -> Text:
        return Text(f"{self.who} {self.what.en}", f"{self.who} {self.what.zh}") if self.who else self.what


@dataclass(frozen=True, slots=True)
class RaySeen:
    """What has been seen so far. `known` holds the last known value of every section, however old (`known.as_of`).

    For comparing and for showing what was known last, greyed; never to be shown as current.
    """

    latest: RaySnapshot | None = None
    known: RaySnapshot | None = None


def follow(seen: RaySeen, snapshot: RaySnapshot, named: Named | None = None) -> tuple[RaySeen, tuple[Change, ...]]:
    """One more snapshot: what is known now, and what changed. A section that is unknown in between is no change.

    The first look tells nothing but what is wrong with the looking.
    """
    name = named or (lambda ip: ip or "?")
    found = list(_Changes(snapshot.at, name).all(seen, snapshot))
    restarted = _restarted(seen.known, snapshot)
    return RaySeen(snapshot, _carried(None if restarted else seen.known, snapshot)), tuple(found)


def _carried(known: RaySnapshot | None, new: RaySnapshot) -> RaySnapshot:
    """While the dashboard is lost, every endpoint fails; the faults of before are what comes back with it."""
    if new.lost is not None:
        new = replace(new, lost=None, faults=known.faults if known is not None else ())
    if known is None:
        return new
    old = {each.name: getattr(known, each.name) for each in fields(RaySnapshot)}
    fill = {name: value for name, value in old.items() if getattr(new, name) is None}
    return replace(new, **fill, as_of={**known.as_of, **new.as_of})


def _restarted(known: RaySnapshot | None, new: RaySnapshot) -> bool:
    return known is not None and None not in (known.session, new.session) and known.session != new.session


@dataclass(slots=True)
class _Changes:
    at: float
    name: Named
    told: set[tuple[str, str]] = field(default_factory=set)

    def all(self, seen: RaySeen, new: RaySnapshot) -> Iterator[Change]:
        for change in self._everything(seen, new):
            if (told := (change.key, change.text.en)) not in self.told:
                self.told.add(told)
                yield change

    def _everything(self, seen: RaySeen, new: RaySnapshot) -> Iterator[Change]:
        yield from self.looking(seen, new)
        old = seen.known
        if old is None:
            return
        yield from self.version(old, new)
        if _restarted(old, new):
            text = Text("Ray was restarted: a new session began", "Ray 已重启：开始了新的会话")
            yield self.change("session", WARN, text)
            return
        if old.nodes is not None and new.nodes is not None:
            whole = not any(fault.section == "nodes" for fault in new.faults)
            yield from self.nodes(old.nodes, new.nodes, whole, old.at)
        if old.serve is not None and new.serve is not None:
            dead = {node.node_id for node in new.nodes or () if node.state == DEAD}
            yield from self.serve(old.serve, new.serve, dead)
        if old.groups is not None and new.groups is not None:
            yield from self.groups(old.groups, new.groups)
        if old.demands is not None and new.demands is not None:
            yield from self.waiting(old.demands.waiting, new.demands.waiting)

    def change(self, key: str, severity: str, what: Text, who: str = "") -> Change:
        return Change(self.at, key, severity, what, who)

    def looking(self, seen: RaySeen, new: RaySnapshot) -> Iterator[Change]:
        """The dashboard lost or back, a token wanted, one endpoint that fails or works again."""
        before = seen.latest.lost if seen.latest is not None else None
        if new.lost is not None:
            if before is None or _kind(before) != _kind(new.lost):
                yield self.change("dashboard", FAIL, _lost_text(new.lost))
            return
        if before is not None:
            wanted = before.reason is Reason.NO_CREDENTIAL
            back = Text("Ray takes the token now", "Ray 已接受令牌") if wanted else _BACK
            yield self.change("dashboard", INFO, back)
        then = {fault.section: fault for fault in (seen.known.faults if seen.known is not None else ())}
        now = {fault.section: fault for fault in new.faults}
        for section, fault in now.items():
            if section not in then or then[section].reason is not fault.reason:
                yield self.change(f"endpoint:{section}", WARN, _fault_text(fault))
        for section, fault in then.items():
            if section not in now:
                text = Text(f"Ray answers {fault.endpoint} again", f"Ray 的 {fault.endpoint} 恢复应答")
                yield self.change(f"endpoint:{section}", INFO, text)

    def version(self, old: RaySnapshot, new: RaySnapshot) -> Iterator[Change]:
        if old.version is not None and new.version is not None and old.version != new.version:
            text = Text(
                f"Ray is {new.version} now, it was {old.version}", f"Ray 版本由 {old.version} 变为 {new.version}"
            )
            yield self.change("version", WARN, text)
        if old.auth is not None and new.auth is not None and old.auth != new.auth:
            severity = WARN if new.auth == "disabled" else INFO
            text = Text(f"Ray's authentication is {new.auth} now", f"Ray 的认证方式变为 {new.auth}")
            yield self.change("auth", severity, text)

    def nodes(
        self, old: tuple[RayNode, ...], new: tuple[RayNode, ...], whole: bool, seen_at: float
    ) -> Iterator[Change]:
        then = {node.node_id: node for node in old}
        now = {node.node_id: node for node in new}
        for node_id, node in now.items():
            before = then.get(node_id)
            if before is None:
                yield from self.new_node(node, [each for each in new if each.ip == node.ip], seen_at)
            elif before.state != node.state:
                yield self.node_state(before, node)
            elif node.raylet_gone_at is not None and before.raylet_gone_at is None:
                yield self.change(f"raylet:{node_id}", FAIL, _RAYLET_GONE, self.name(node.ip))
        if whole:
            for node_id, node in then.items():
                if node.alive and node_id not in now:
                    text = Text("is no longer listed by Ray", "不再被 Ray 列出")
                    yield self.change(f"node:{node_id}", FAIL, text, self.name(node.ip))

    def new_node(self, node: RayNode, same_ip: list[RayNode], seen_at: float) -> Iterator[Change]:
        who, key = self.name(node.ip), f"node:{node.node_id}"
        if node.state == DEAD:
            if node.started_at is not None and node.started_at > seen_at - _CLOCKS_APART:
                en, zh = _because(node)
                text = Text(f"joined the cluster and left it at once{en}", f"加入集群后随即离开{zh}")
                yield self.change(key, FAIL, text, who)
        elif sum(each.alive for each in same_ip) > 1:
            text = Text("has a second Ray node alive at once", "同时有第二个 Ray 节点存活")
            yield self.change(key, WARN, text, who)
        elif len(same_ip) > 1:
            text = Text("is back in the cluster, as a new Ray node", "以新的 Ray 节点重新加入集群")
            yield self.change(key, INFO, text, who)
        else:
            yield self.change(key, INFO, Text("joined the cluster", "加入集群"), who)

    def node_state(self, before: RayNode, node: RayNode) -> Change:
        who, key = self.name(node.ip or before.ip), f"node:{node.node_id}"
        if node.state == DEAD:
            en, zh = _because(node)
            severity = WARN if node.message.startswith("Expected termination") else FAIL
            return self.change(key, severity, Text(f"left the cluster{en}", f"离开集群{zh}"), who)
        severity = INFO if node.state == ALIVE else WARN
        said = node.state or "?"
        return self.change(key, severity, Text(f"is {said} now, says Ray", f"被 Ray 标为 {said}"), who)

    def serve(self, old: Serve, new: Serve, dead: set[str]) -> Iterator[Change]:
        then = {app.name: app for app in old.applications}
        now = {app.name: app for app in new.applications}
        for name, app in now.items():
            before = then.get(name, Application(name))
            if before.status != app.status:
                severity = _severity(app.status, _APPLICATION)
                yield self.change(f"app:{name}", severity, _status(app.status, app.message), name)
            yield from self.deployments(before, app, dead)
        for name in then.keys() - now.keys():
            yield self.change(f"app:{name}", WARN, Text("is gone from Ray Serve", "已不在 Ray Serve 中"), name)
        proxies = {proxy.node_id: proxy.status for proxy in old.proxies}
        for proxy in new.proxies:
            if proxy.node_id in proxies and proxies[proxy.node_id] != proxy.status:
                text = Text(f"has its Serve proxy {proxy.status}", f"的 Serve 代理变为 {proxy.status}")
                severity = _severity(proxy.status, _PROXY)
                yield self.change(f"proxy:{proxy.node_id}", severity, text, self.name(proxy.node_ip))

    def deployments(self, old: Application, new: Application, dead: set[str]) -> Iterator[Change]:
        then = {each.name: each for each in old.deployments}
        for each in new.deployments:
            before = then.get(each.name, Deployment(each.name))
            full = f"{new.name}/{each.name}"
            if before.status != each.status:
                text = _status(each.status, each.message)
                yield self.change(f"deployment:{full}", _severity(each.status, _DEPLOYMENT), text, full)
            shrinking = (each.target or 0) < (before.target or 0) or new.status == "DELETING"
            yield from self.replicas(full, before, each, dead, shrinking)
        now = {each.name for each in new.deployments}
        for name in then.keys() - now:
            full = f"{new.name}/{name}"
            yield self.change(f"deployment:{full}", WARN, Text("is gone", "已移除"), full)

    def replicas(
        self, full: str, old: Deployment, new: Deployment, dead: set[str], shrinking: bool
    ) -> Iterator[Change]:
        then = {replica.replica_id: replica for replica in old.replicas}
        now = {replica.replica_id: replica for replica in new.replicas}
        for replica_id, replica in now.items():
            before = then.get(replica_id)
            if before is not None and before.state == replica.state:
                continue
            if replica.state in _ENDING:
                if before is None or before.state not in _ENDING:
                    yield self.ended(full, replica, dead, shrinking)
            else:
                en, zh = self.at_host(replica)
                said = replica.state or "?"
                text = Text(f"replica {replica_id}{en} is {said}", f"副本 {replica_id}{zh}变为 {said}")
                yield self.change(f"replica:{replica_id}", INFO, text, full)
        for replica_id, replica in then.items():
            if replica_id not in now and replica.state not in _ENDING:
                yield self.ended(full, replica, dead, shrinking)

    def ended(self, full: str, replica: Replica, dead: set[str], shrinking: bool) -> Change:
        en, zh = self.at_host(replica)
        key, which = f"replica:{replica.replica_id}", replica.replica_id
        if replica.node_id in dead:
            severity, text = FAIL, Text(f"replica {which}{en} died with its node", f"副本 {which}{zh}随节点一起终止")
        elif shrinking:
            severity, text = INFO, Text(f"replica {which}{en} is taken away", f"副本 {which}{zh}被缩减")
        else:
            severity, text = WARN, Text(f"replica {which}{en} stopped", f"副本 {which}{zh}已停止")
        return self.change(key, severity, text, full)

    def at_host(self, replica: Replica) -> tuple[str, str]:
        if replica.node_ip is None:
            return "", " "
        host = self.name(replica.node_ip)
        return f" on {host}", f"（{host}）"

    def groups(self, old: tuple[PlacementGroup, ...], new: tuple[PlacementGroup, ...]) -> Iterator[Change]:
        then = {group.group_id: group for group in old}
        for group in new:
            before = then.get(group.group_id)
            name = group.name or group.group_id[:8]
            if group.infeasible and (before is None or not before.infeasible):
                text = Text(
                    f"no nodes can hold placement group {name}: it asks for {group.asks}",
                    f"没有节点能容纳放置组 {name}：它请求 {group.asks}",
                )
                yield self.change(f"group:{group.group_id}", WARN, text)
            elif before is not None and before.infeasible and group.state == "CREATED":
                text = Text(f"placement group {name} found its nodes", f"放置组 {name} 已分配到节点")
                yield self.change(f"group:{group.group_id}", INFO, text)

    def waiting(self, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
        for line in new:
            if line not in old:
                yield self.change(f"demand:{line}", WARN, Text(f"waits for resources: {line}", f"等待资源：{line}"))
        if old and not new:
            yield self.change("demand", INFO, Text("nothing waits for resources any more", "已没有等待资源的请求"))


_RAYLET_GONE = Text(
    "has no raylet any more, though the host answers; Ray still counts it as alive",
    "的 raylet 已不在运行，主机本身有应答；Ray 仍认为它存活",
)
_BACK = Text("the Ray dashboard answers again", "Ray Dashboard 恢复应答")


def _kind(fault: Fault) -> tuple[Reason, Text | None]:
    """What makes two losses the same: no token and a wrong token are two, another error text is not."""
    return fault.reason, fault.why if fault.reason is Reason.NO_CREDENTIAL else None


def _lost_text(fault: Fault) -> Text:
    if fault.reason is Reason.NO_CREDENTIAL:
        return Text(f"Ray cannot be looked at: {fault.why.en}", f"无法查看 Ray：{fault.why.zh}")
    return Text(f"the Ray dashboard cannot be read: {fault.why.en}", f"无法读取 Ray Dashboard：{fault.why.zh}")


def _fault_text(fault: Fault) -> Text:
    path = fault.endpoint.split("?", 1)[0]
    if fault.partial:
        return Text(f"{path}: {fault.why.en}", f"{path}：{fault.why.zh}")
    return Text(f"Ray's {path} cannot be read: {fault.why.en}", f"无法读取 Ray 的 {path}：{fault.why.zh}")


def _because(node: RayNode) -> tuple[str, str]:
    """Ray's reason without its preamble."""
    reason = node.message.removeprefix("Unexpected termination: ").removeprefix("Expected termination: ")
    return (f", {reason}", f"：{reason}") if reason else ("", "")


def _severity(status: str | None, usual: Mapping[str, str]) -> str:
    return _BAD.get(status or "", usual.get(status or "", WARN))


def _status(status: str | None, message: str) -> Text:
    said = status or "?"
    end = cut(message.strip().rsplit("\n", 1)[-1].strip(), _END_BYTES, end=True) if status in _BAD else ""
    return Text(f"is {said}: {end}", f"变为 {said}：{end}") if end else Text(f"is {said}", f"变为 {said}")


def names_of(hosts: Mapping[str, str]) -> Named:
    """A `Named` from address → host name."""
    return lambda ip: hosts.get(ip or "", ip or "?")
