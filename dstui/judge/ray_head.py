"""ray.head-started: the head answers, is alive under the address that others join, and is started by the system."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.addresses import AddressFacts, normal_ip
from dstui.facts.case import FleetCase, HostSite
from dstui.facts.listeners import ListenerFacts
from dstui.facts.raw import Missing
from dstui.facts.ray_look import HEALTH, PREFIX, RayLook
from dstui.facts.serve_processes import Holder, Role, ServeProcess, ServeProcesses
from dstui.judge.fleet import cluster_target, facts_of
from dstui.judge.ray_words import addresses_of, age, at_head, loopback, node_words, processes_of, without_ray
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.judge.versions import compare, version
from dstui.model import Reason, Ruling, Text, host_target
from dstui.telemetry.ray import RayNode

WILDCARDS = ("0.0.0.0", "::", "*", "[::]")  # noqa: S104 - what is looked for, not what is bound
_STATUS_WORDS = ("Node status", "Autoscaler status")
_EVIDENCE = (
    f"{PREFIX}version",
    f"{PREFIX}{HEALTH}",
    f"{PREFIX}nodes",
    f"{PREFIX}auth",
    f"{PREFIX}status",
    "listeners.ss",
)

_PASSED = Text(
    "Ray says that it is healthy, and one head is alive under its data_ip",
    "Ray 健康检查正常，且恰有一个存活的头节点，地址为其 data_ip",
)


def judge(case: FleetCase) -> Sequence[Ruling]:
    heads = [host for host in case.site.hosts if "head" in host.roles]
    if (why := without_ray(case.params)) is not None:
        return [not_applicable(host_target(heads[0].name) if heads else cluster_target(case.site), why)]
    expected = Text("one head, ALIVE and healthy, at its data_ip", "一个头节点，ALIVE 且健康，地址为其 data_ip")
    if not heads:
        why_none = Missing(Reason.NO_TARGETS, "no host of the inventory has the role head")
        return [unknown(cluster_target(case.site), why_none, expected)]
    look = case.get(RayLook)
    if isinstance(look, Missing):
        return [unknown(host_target(heads[0].name), look, expected)]
    return [_Head(case, heads[0], look, Causes(host_target(heads[0].name), expected)).ruling()]


class _Head:
    def __init__(self, case: FleetCase, host: HostSite, look: RayLook, causes: Causes) -> None:
        self.case, self.host, self.look, self.causes = case, host, look, causes
        self.port = case.params.count("ray_gcs_port")
        self.processes = processes_of(case, host)
        self.listeners = facts_of(case, host.name, ListenerFacts)

    def ruling(self) -> Ruling:
        observed = self._by_rest() if self.look.answered else self._without_rest()
        self._remark()
        version_ = self.look.snapshot.version
        node = self._alive()[:1]
        return self.causes.ruling(
            observed,
            _PASSED,
            material={
                "ray": version_,
                "session": self.look.snapshot.session,
                "address": node[0].ip if node else None,
                "answers": self.look.answered,
            },
            evidence=_EVIDENCE,
        )

    def _alive(self) -> list[RayNode]:
        return [node for node in self.look.snapshot.nodes or () if node.head and node.alive]

    def _by_rest(self) -> Text:
        self._weigh_health()
        alive = self._alive()
        self._weigh_nodes(alive)
        self._weigh_version()
        self._weigh_host()
        self._weigh_exposure()
        found = quoted(self.look.snapshot.version or "?", 30)
        if not alive:
            return Text(f"Ray {found}: no head is alive", f"Ray {found}：没有存活的头节点")
        return Text(
            f"Ray {found}, head {node_words(alive[0])} ALIVE", f"Ray {found}，头节点 {node_words(alive[0])} ALIVE"
        )

    def _weigh_health(self) -> None:
        exchange = self.look.get(PREFIX + HEALTH)
        what = Text("/api/gcs_healthz", "/api/gcs_healthz")
        if isinstance(exchange, Missing):
            self.causes.missing(exchange, what)
        elif exchange.status == 200 and exchange.text.strip() == "success":
            return
        elif exchange.status in (401, 403, 404):
            # Open without a token wherever it exists; what refuses it is no dashboard of Ray, or stands before it.
            reason = Reason.NO_CREDENTIAL if exchange.status != 404 else Reason.TOOL_MISSING
            self.causes.unknown(
                reason,
                Text(f"{what.en} answers HTTP {exchange.status}", f"{what.zh} 返回 HTTP {exchange.status}"),
            )
        else:
            said = quoted(exchange.text, 80)
            self.causes.fail(
                Text(
                    f"{what.en} says HTTP {exchange.status}: {said}, not success",
                    f"{what.zh} 返回 HTTP {exchange.status}：{said}，不是 success",
                )
            )

    def _weigh_nodes(self, alive: list[RayNode]) -> None:
        nodes, fault = self.look.snapshot.nodes, self.look.snapshot.fault("nodes")
        if nodes is None:
            self.causes.missing(self.look.why_not("nodes"), Text("Ray's nodes", "Ray 节点"))
            return
        if fault is not None and not alive:
            self.causes.unknown(fault.reason, fault.why)
        elif not alive:
            self.causes.fail(Text("no node is an ALIVE head", "没有 ALIVE 的头节点"))
        elif len(alive) > 1:
            listed = ", ".join(node_words(node) for node in alive[:4])
            self.causes.fail(
                Text(f"{len(alive)} nodes are an ALIVE head: {listed}", f"有 {len(alive)} 个 ALIVE 的头节点：{listed}")
            )
        if len(alive) == 1:
            self._weigh_address(alive[0])
            self._weigh_age(alive[0])

    def _weigh_address(self, node: RayNode) -> None:
        ip, wanted = node.ip, self.host.data_ip
        if ip is not None and normal_ip(ip) == normal_ip(wanted):
            return
        shown = quoted(ip or "?", 60)
        if ip is None:
            self.causes.unknown(
                Reason.CANNOT_TELL, Text("Ray does not tell the head's address", "Ray 没有给出头节点的地址")
            )
        elif loopback(ip):
            self.causes.fail(
                Text(
                    f"the head registered as {shown}: no other host can join it",
                    f"头节点以 {shown} 注册：其他主机无法加入",
                )
            )
        elif normal_ip(ip) in {normal_ip(each) for each in addresses_of(self.case, self.host)}:
            self.causes.warn(
                Text(
                    f"the head runs at {shown}, another of its addresses than data_ip {wanted}",
                    f"头节点使用 {shown}，不是 data_ip {wanted}（同一主机的另一地址）",
                )
            )
        else:
            self._weigh_stranger(shown)

    def _weigh_stranger(self, shown: str) -> None:
        held = facts_of(self.case, self.host.name, AddressFacts)
        read = held if isinstance(held, Missing) else held.interfaces
        name = self.host.name
        if isinstance(read, Missing):
            self.causes.missing(read, Text(f"whether {shown} is {name}'s", f"{shown} 是否属于 {name}"))
        else:
            self.causes.fail(
                Text(
                    f"the head of this Ray is at {shown}, which is no address of {name}",
                    f"该 Ray 的头节点在 {shown}，不是 {name} 的地址",
                )
            )

    def _weigh_age(self, node: RayNode) -> None:
        if node.started_at is None:
            return
        seconds = at_head(self.look) - node.started_at
        if seconds < self.case.params.number("settle_min") * 60:
            words = age(max(0.0, seconds))
            self.causes.warn(Text(f"started {words.en} ago: look again", f"{words.zh}前才启动：请稍后再看"))

    def _weigh_version(self) -> None:
        pinned, found = self.case.params.optional_text("ray_version"), self.look.snapshot.version
        if pinned is None:
            return
        wanted, parts = version(pinned), version(found or "")
        if wanted is None or parts is None:
            self.causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"Ray's version beside {pinned}: {quoted(found or '?', 30)}", f"无法把 Ray 版本与 {pinned} 比较"),
            )
        elif compare(wanted, parts):
            self.causes.fail(
                Text(
                    f"Ray {quoted(found or '', 30)} runs, {pinned} is pinned",
                    f"运行的是 Ray {found}，锁定的是 {pinned}",
                )
            )

    def _weigh_host(self) -> None:
        """What the head itself shows; where it cannot be looked at nothing speaks against it."""
        if isinstance(self.processes, Missing) or isinstance(self.processes.processes, Missing):
            self.causes.note(Text("the head's processes could not be looked at", "无法查看头节点上的进程"))
            return
        servers = self.processes.of(Role.GCS)
        if not servers:
            if self.processes.whole:
                self.causes.warn(
                    Text(
                        f"Ray answers, but no gcs_server is seen on {self.host.name}",
                        f"Ray 有应答，但在 {self.host.name} 上看不到 gcs_server",
                    )
                )
            return
        self._weigh_holder(servers[0])
        if self._listening() is False:
            self.causes.warn(
                Text(
                    f"nothing listens on port {self.port} of ray.gcs_port",
                    f"ray.gcs_port 的端口 {self.port} 没有监听",
                )
            )

    def _weigh_holder(self, server: ServeProcess) -> None:
        match server.holder:
            case Holder.SERVICE:
                self.causes.note(Text(f"held by {server.holder_name}", f"由 {server.holder_name} 管理"))
            case Holder.CONTAINER:
                self.causes.note(
                    Text(
                        "runs in a container; its restart policy was not looked at",
                        "运行在容器中；没有查看其重启策略",
                    )
                )
            case Missing():
                self.causes.note(Text("who restarts it was not seen", "没有看到由谁负责重启"))
            case _:
                self.causes.warn(
                    Text(
                        "gcs_server was started by hand, not by a systemd unit: it does not survive a reboot",
                        "gcs_server 是手工启动的，没有 systemd 单元：重启后起不来",
                    )
                )

    def _weigh_exposure(self) -> None:
        if self.look.open_without_token is not True:
            return
        bound = _dashboard_bound(self.processes, self.listeners)
        if bound in WILDCARDS:
            self.causes.warn(
                Text(
                    f"the dashboard listens on {bound} and asks for no token: whoever reaches it runs code here",
                    f"Dashboard 绑定 {bound} 且不要求令牌：谁能连上谁就能在此执行代码",
                )
            )

    def _listening(self) -> bool | None:
        """Whether anything listens on the GCS port; None when that is not known."""
        if isinstance(self.listeners, Missing) or isinstance(self.listeners.listening, Missing):
            return None
        return bool(self.listeners.on(self.port))

    def _without_rest(self) -> Text:
        listening = self._listening()
        running = None if isinstance(self.processes, Missing) else self.processes.runs(Role.GCS)
        if listening is False and running is not True:
            self.causes.fail(
                Text(
                    f"nothing listens on {self.port} and no gcs_server runs",
                    f"{self.port} 没有监听，也没有 gcs_server 进程",
                )
            )
            return Text("Ray does not run on the head", "头节点上没有运行 Ray")
        if listening is None and running is None:
            why = self.look.why_not("version")
            self.causes.missing(why, Text("the dashboard", "Dashboard"))
            return Text("neither the dashboard nor the head could be looked at", "Dashboard 和头节点都无法查看")
        if running is False and listening is None:
            self.causes.fail(Text("no gcs_server runs on the head", "头节点上没有 gcs_server 进程"))
            return Text("Ray does not run on the head", "头节点上没有运行 Ray")
        self._weigh_status()
        return Text(
            f"the dashboard does not answer; on the head {self._seen(listening, running)}",
            f"Dashboard 没有应答；头节点上 {self._seen(listening, running)}",
        )

    def _seen(self, listening: bool | None, running: bool | None) -> str:
        return f"gcs_server {_yes(running)}, :{self.port} {_yes(listening)}"

    def _weigh_status(self) -> None:
        """Without the dashboard only `ray status` shows that the GCS answers."""
        status = self.look.status
        if status is None or status.missing is not None:
            missing = (status.missing if status else None) or self.look.why_not("version")
            self.causes.missing(
                missing, Text("the dashboard does not answer, and ray status", "Dashboard 没有应答，ray status")
            )
            return
        if status.exit != 0 or not any(words in status.output for words in _STATUS_WORDS):
            said = quoted(
                (status.error or status.output).strip().splitlines()[-1] if status.error or status.output else "", 120
            )
            self.causes.unknown(
                Reason.CANNOT_TELL,
                Text(
                    f"the dashboard does not answer, and ray status fails (exit {status.exit}): {said}",
                    f"Dashboard 没有应答，ray status 也失败（退出码 {status.exit}）：{said}",
                ),
            )
            return
        self._weigh_flags()
        self.causes.warn(
            Text(
                "judged by ray status and the processes alone: the dashboard does not answer",
                "仅凭 ray status 和进程判断：Dashboard 没有应答",
            )
        )

    def _weigh_flags(self) -> None:
        servers = () if isinstance(self.processes, Missing) else self.processes.of(Role.GCS)
        ip = servers[0].flags.get("node-ip-address") if servers else None
        if ip is None:
            self.causes.unknown(
                Reason.CANNOT_TELL,
                Text("under which address the head registered is not seen", "看不到头节点以哪个地址注册"),
            )
        elif loopback(ip):
            self.causes.fail(
                Text(f"the head registered as {ip}: no other host can join it", f"头节点以 {ip} 注册：其他主机无法加入")
            )
        elif normal_ip(ip) != normal_ip(self.host.data_ip):
            self.causes.warn(
                Text(
                    f"the head runs at {quoted(ip, 60)}, not at data_ip {self.host.data_ip}",
                    f"头节点使用 {quoted(ip, 60)}，不是 data_ip {self.host.data_ip}",
                )
            )

    def _remark(self) -> None:
        if self.look.off_path:
            self.causes.note(
                Text(
                    "looked at through the head: the way of the operators is shut",
                    "经头节点查看：运维人员的访问方式不通",
                )
            )
        if isinstance(self.processes, Missing):
            return
        for process in (*self.processes.of(Role.GCS), *self.processes.of(Role.RAYLET)):
            flags = " ".join(f"--{name}={quoted(value, 120)}" for name, value in sorted(process.flags.items()))
            self.causes.note(Text(f"{process.role} {flags}", f"{process.role} {flags}"))


def _dashboard_bound(processes: ServeProcesses | Missing, listeners: ListenerFacts | Missing) -> str | None:
    """The address that the dashboard is bound to: as the kernel has it, else as its command line says."""
    found = [] if isinstance(processes, Missing) else list(processes.of(Role.DASHBOARD))
    if not found:
        return None
    port = found[0].flags.get("port", "8265")
    if port.isdecimal() and not isinstance(listeners, Missing):
        bound = [socket.address for socket in listeners.on(int(port))]
        if bound:
            return next((address for address in bound if address in WILDCARDS), bound[0])
    return found[0].flags.get("host")


def _yes(seen: bool | None) -> str:
    return {True: "✓", False: "✗", None: "?"}[seen]


JUDGE = FleetJudge(
    "ray.head-started", ("serve_processes", "listeners", "addresses"), ("listeners.ss",), judge, needs=("ray",)
)
