"""vllm.serve-app: the application runs, judged by its deployments, replicas and proxies; never by `/-/healthz`.

Serve's word is compared with the nodes: a replica on a node that is dead, or without a raylet, is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.addresses import normal_ip
from dstui.facts.case import FleetCase
from dstui.facts.raw import Missing
from dstui.facts.ray_look import PREFIX, RayLook
from dstui.facts.serve_config import AppConfig
from dstui.facts.serve_processes import Role
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.ray_words import addresses_of, age, at_head, processes_of, raylet_runs
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.judge.vllm_plain import judge as judge_plain
from dstui.model import Reason, Ruling, Text
from dstui.telemetry.ray import Application, Deployment, Replica

_EVIDENCE = (f"{PREFIX}serve", f"{PREFIX}nodes", f"{PREFIX}demands")
_RESTART_SECONDS = 600.0
"""A replica that started so long after the application was deployed was started again."""
_DAY = 86_400.0
_NOT_YET = ("DEPLOYING", "NOT_STARTED")


def judge(case: FleetCase) -> Sequence[Ruling]:
    mode = case.params.text("serving_mode")
    if mode != "ray-serve":
        return judge_plain(case, mode)
    name = case.params.optional_text("serving_app_name")
    what = Text(f"application {name}", f"应用 {name}") if name else Text("every application", "每个应用")
    expected = Text(f"{what.en} RUNNING with all its replicas", f"{what.zh}为 RUNNING，副本齐全")
    target, look = cluster_target(case.site), case.get(RayLook)
    if isinstance(look, Missing):
        return [unknown(target, look, expected)]
    serve = look.snapshot.serve
    if serve is None:
        return [unknown(target, look.why_not("serve"), expected, evidence=_EVIDENCE)]
    return [_App(case, look, Causes(target, expected)).ruling(serve.applications, name)]


@dataclass(slots=True)
class _App:
    case: FleetCase
    look: RayLook
    causes: Causes

    def ruling(self, applications: Sequence[Application], name: str | None) -> Ruling:
        chosen = [app for app in applications if name is None or app.name == name]
        if not chosen:
            others = listed([quoted(app.name, 60) for app in applications])
            self.causes.fail(
                Text("nothing is deployed", "没有部署任何应用")
                if not applications
                else Text(f"there is no application {name}, only {others}", f"没有应用 {name}，只有 {others}")
            )
        for app in chosen:
            self._weigh_app(app)
        if self.look.snapshot.nodes is None:
            self.causes.missing(
                self.look.why_not("nodes"), Text("whether the replicas' nodes live", "副本所在节点是否存活")
            )
        self._weigh_processes(applications)
        self._weigh_replicas_expected(chosen)
        self._weigh_proxies()
        return self.causes.ruling(
            self._observed(chosen),
            Text(
                "RUNNING, all deployments HEALTHY, all replicas RUNNING",
                "RUNNING，deployment 全部 HEALTHY，副本全部 RUNNING",
            ),
            material={app.name: {"status": app.status, **_states(app)} for app in chosen},
            evidence=_EVIDENCE,
        )

    def _observed(self, chosen: Sequence[Application]) -> Text:
        if not chosen:
            return Text("no application", "没有应用")
        parts = []
        for app in chosen:
            rows = [f"{quoted(d.name, 60)} {self._counted(d)}/{d.target}" for d in app.deployments]
            parts.append(f"{quoted(app.name, 60)} {app.status}" + (f" ({listed(rows)})" if rows else ""))
        return Text("; ".join(parts), "；".join(parts))

    def _weigh_app(self, app: Application) -> None:
        name = quoted(app.name, 60)
        said = f": {quoted(app.message, 200)}" if app.message else ""
        if app.status in _NOT_YET:
            self._weigh_deploying(app, name, said)
        elif app.status != "RUNNING":
            known = app.status in ("DEPLOY_FAILED", "UNHEALTHY", "DELETING")
            text = Text(f"{name} is {app.status}{said}", f"{name} 为 {app.status}{said.replace(': ', '：', 1)}")
            if known:
                self.causes.fail(text)
            else:
                self.causes.unknown(Reason.CANNOT_TELL, text)
        if not app.deployments and app.status == "RUNNING":
            self.causes.fail(Text(f"{name} has no deployment", f"{name} 没有任何 deployment"))
        for deployment in app.deployments:
            self._weigh_deployment(app, deployment)

    def _weigh_deploying(self, app: Application, name: str, said: str) -> None:
        grace = self.case.params.number("deploy_grace_min")
        if app.deployed_at is None:
            self.causes.unknown(
                Reason.CANNOT_TELL,
                Text(
                    f"{name} is {app.status}, and Ray does not say since when",
                    f"{name} 为 {app.status}，Ray 没有说从何时开始",
                ),
            )
            return
        seconds = max(0.0, at_head(self.look) - app.deployed_at)
        words = age(seconds)
        text = Text(f"{name} is {app.status} since {words.en}{said}", f"{name} 为 {app.status}，已 {words.zh}{said}")
        if seconds > grace * 60:
            self.causes.fail(text)
        else:
            self.causes.warn(text)

    def _weigh_deployment(self, app: Application, deployment: Deployment) -> None:
        name = f"{quoted(app.name, 60)}/{quoted(deployment.name, 60)}"
        said = f": {quoted(deployment.message, 200)}" if deployment.message else ""
        deploying = app.status in _NOT_YET
        counted, target = self._counted(deployment), deployment.target
        if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED"):
            self.causes.fail(Text(f"{name} is {deployment.status}{said}", f"{name} 为 {deployment.status}{said}"))
        elif deployment.status != "HEALTHY" and not deploying:
            word = quoted(deployment.status or "?", 40)
            if deployment.status in ("UPDATING", "UPSCALING", "DOWNSCALING"):
                self.causes.warn(Text(f"{name} is {word}", f"{name} 为 {word}"))
            else:
                self.causes.unknown(Reason.CANNOT_TELL, Text(f"{name} is {word}", f"{name} 为 {word}"))
        if target is None:
            self.causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"how many replicas {name} should have is not told", f"未给出 {name} 应有的副本数"),
            )
        elif counted < target or target == 0:
            text = Text(f"{name}: {counted} of {target} replicas run", f"{name}：{target} 个副本中 {counted} 个在运行")
            if deploying or (counted and deployment.status in ("UPDATING", "UPSCALING")):
                self.causes.warn(text)
            else:
                self.causes.fail(text)
        self._weigh_lost(deployment, name)
        self._weigh_restarts(app, deployment, name)

    def _counted(self, deployment: Deployment) -> int:
        """RUNNING replicas whose node is there."""
        return sum(replica.state == "RUNNING" and self._lost(replica) is None for replica in deployment.replicas)

    def _lost(self, replica: Replica) -> Text | None:
        """Why a replica that Serve calls RUNNING cannot be; None when nothing speaks against it."""
        nodes = self.look.snapshot.nodes
        if nodes is None or replica.node_id is None:
            return None
        node = self.look.node(replica.node_id)
        where = quoted(replica.node_ip or replica.node_id[:8], 60)
        if node is not None and not node.alive:
            return Text(f"its node {where} is {node.state}", f"其节点 {where} 为 {node.state}")
        for host in self.case.site.hosts:
            own = {normal_ip(ip) for ip in addresses_of(self.case, host)}
            if node is not None and normal_ip(node.ip or "") in own and raylet_runs(self.case, host) is False:
                return Text(f"no raylet runs on {host.name}", f"{host.name} 上没有 raylet 进程")
        return None

    def _weigh_lost(self, deployment: Deployment, name: str) -> None:
        for replica in deployment.replicas:
            why = self._lost(replica) if replica.state == "RUNNING" else None
            if why is not None:
                shown = quoted(replica.replica_id, 40)
                self.causes.fail(
                    Text(
                        f"Serve still counts replica {shown} of {name} as RUNNING, but {why.en}",
                        f"Serve 仍认为 {name} 的副本 {shown} 为 RUNNING，但 {why.zh}",
                    )
                )

    def _weigh_processes(self, applications: Sequence[Application]) -> None:
        """Serve notices a replica that was killed within seconds; its host shows at once one process too few."""
        claimed = Counter(
            replica.node_id
            for app in applications
            for deployment in app.deployments
            for replica in deployment.replicas
            if replica.state == "RUNNING"
        )
        for host in self.case.site.hosts:
            processes = processes_of(self.case, host)
            if isinstance(processes, Missing) or not processes.runs(Role.RAYLET) or not processes.whole:
                continue
            own = {normal_ip(ip) for ip in addresses_of(self.case, host)}
            nodes = [n for n in self.look.snapshot.nodes or () if n.alive and normal_ip(n.ip or "") in own]
            wanted, seen = sum(claimed[node.node_id] for node in nodes), len(processes.of(Role.REPLICA))
            if seen < wanted:
                self.causes.fail(
                    Text(
                        f"Serve counts {wanted} replicas RUNNING on {host.name}, where {seen} such processes run",
                        f"Serve 认为 {host.name} 上有 {wanted} 个 RUNNING 副本，实际只有 {seen} 个进程",
                    )
                )

    def _weigh_restarts(self, app: Application, deployment: Deployment, name: str) -> None:
        if deployment.dead_replicas:
            count = len(deployment.dead_replicas)
            self.causes.warn(Text(f"{name}: {count} replicas died recently", f"{name}：最近有 {count} 个副本死亡"))
        if app.deployed_at is None or self._autoscaled(app, deployment):
            return
        now = at_head(self.look)
        again = [
            replica
            for replica in deployment.replicas
            if replica.started_at is not None
            and replica.started_at > app.deployed_at + _RESTART_SECONDS
            and now - replica.started_at < _DAY
        ]
        if again:
            words = age(max(0.0, now - max(replica.started_at or 0.0 for replica in again)))
            self.causes.warn(
                Text(
                    f"{name}: {len(again)} replicas were started again, {words.en} ago the last one",
                    f"{name}：{len(again)} 个副本被重新启动，最近一次在 {words.zh}前",
                )
            )

    def _autoscaled(self, app: Application, deployment: Deployment) -> bool:
        config = self._config(app.name)
        return any(each.autoscaled for each in config.deployments if each.name == deployment.name) if config else False

    def _config(self, name: str) -> AppConfig | None:
        return next((config for config in self.look.configs or () if config.name == name), None)

    def _weigh_replicas_expected(self, chosen: Sequence[Application]) -> None:
        value = self.case.params.value("replicas_expected")
        expected = value if isinstance(value, int) else None
        if expected is None or not chosen:
            return
        counted, names = 0, []
        for app in chosen:
            config = self._config(app.name)
            engines = {each.name for each in config.engine_deployments} if config else set()
            for deployment in app.deployments:
                if deployment.name in engines:
                    counted += self._counted(deployment)
                    names.append(quoted(deployment.name, 60))
        if counted < expected:
            self.causes.fail(
                Text(
                    f"{counted} replicas of {listed(names) or 'the model'} run, the inventory wants {expected}",
                    f"{listed(names) or '模型'} 有 {counted} 个副本在运行，清单要求 {expected} 个",
                )
            )

    def _weigh_proxies(self) -> None:
        serve = self.look.snapshot.serve
        proxies = () if serve is None else serve.proxies
        if not proxies:
            self.causes.fail(Text("Serve has no proxy: no request gets in", "Serve 没有代理：请求进不来"))
            return
        bad = [f"{quoted(p.node_ip or p.node_id[:8], 60)} {p.status}" for p in proxies if p.status != "HEALTHY"]
        if not bad:
            return
        text = Text(f"proxies not HEALTHY: {listed(bad)}", f"代理不是 HEALTHY：{listed(bad)}")
        if len(bad) == len(proxies):
            self.causes.fail(text)
        else:
            self.causes.warn(text)


def _states(app: Application) -> Mapping[str, object]:
    return {d.name: {"status": d.status, "target": d.target, "running": d.running} for d in app.deployments}


JUDGE = FleetJudge("vllm.serve-app", ("serve_processes", "addresses"), (), judge, needs=("ray", "vllm-backends"))
