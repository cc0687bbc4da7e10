"""stor.shared-service: is the directory a shared filesystem, the same one everywhere, mounted safely and for good."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from dstui.facts.case import FleetCase, HostSite, Site
from dstui.facts.mounts import AUTOFS, NFS_TYPES, Mount, under
from dstui.facts.raw import Missing
from dstui.facts.storage import StorageFacts
from dstui.judge.fleet import facts_of, listed, share_hosts
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.judge.stor_directory import exported, serves_elsewhere
from dstui.model import Reason, Ruling, Text, host_target, same

RETRANSMIT_WARN_PCT = 1.0
"""Share of NFS calls that were sent again (document catalogue, stor.shared-service)."""
LOCAL_TYPES = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "f2fs", "vfat", "rootfs", "ramfs", "bcachefs"}
)
SLOW_FOR_WEIGHTS = frozenset({"fuse.s3fs", "cifs"})
_PASSED = Text(
    "a shared filesystem, the same on all hosts, mounted again at boot", "共享文件系统，各主机一致，开机自动挂载"
)
_VERSION = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def judge(case: FleetCase) -> Sequence[Ruling]:
    inside = share_hosts(case.site)
    sources = {host.name: found for host in inside if (found := _source_on(case, host)) is not None}
    why = Text("does not use the shared storage (roles)", "该角色不使用共享存储")
    return [
        *(_ruling(case, host, sources) for host in inside),
        *(not_applicable(host_target(h.name), why) for h in case.site.hosts if h not in inside),
    ]


def _expected(case: FleetCase) -> Text:
    source = case.params.optional_text("shared_source")
    if source:
        return Text(f"{source} mounted hard and persistently", f"以 hard 方式持久挂载 {source}")
    return Text(
        "one shared filesystem on all hosts, mounted persistently", "各主机挂载同一共享文件系统，且开机自动挂载"
    )


def _mount_on(case: FleetCase, host: HostSite) -> Mount | None:
    facts = facts_of(case, host.name, StorageFacts)
    mount = None if isinstance(facts, Missing) else facts.mount(case.site.shared_path)
    return mount if isinstance(mount, Mount) else None


def _source_on(case: FleetCase, host: HostSite) -> str | None:
    """What a host's shared directory really is, comparable between hosts; None for local or unseen ones."""
    mount = _mount_on(case, host)
    if mount is None or mount.fstype in LOCAL_TYPES or mount.fstype == AUTOFS:
        return None
    facts = facts_of(case, host.name, StorageFacts)
    look = None if isinstance(facts, Missing) or isinstance(facts.share, Missing) else facts.share
    path = (look and look.real) or case.site.shared_path
    below = path[len(mount.point.rstrip("/")) :].strip("/")
    parts = [mount.source.rstrip("/"), mount.root.strip("/"), below]
    return normal_source("/".join(part for part in parts if part), case.site)


def normal_source(source: str, site: Site) -> str:
    """`NAS-01:/export/`, `198.51.100.23:/export` and `//nas/x/` in one spelling; inventory addresses become names."""
    servers, colon, path = source.partition(":/")
    if not colon:
        return source.rstrip("/")
    names = {ip: host.name for host in site.hosts for ip in (host.data_ip, host.mgmt_ip, host.address) if ip}
    bare = (server.strip("[]").lower() for server in servers.split(","))
    return f"{','.join(sorted(names.get(server, server) for server in bare))}:/{path.rstrip('/')}"


def _ruling(case: FleetCase, host: HostSite, sources: Mapping[str, str]) -> Ruling:
    target = host_target(host.name)
    facts = facts_of(case, host.name, StorageFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, _expected(case))
    causes = Causes(target, _expected(case))
    mount = facts.mount(case.site.shared_path)
    if serves_elsewhere(host, facts) or (isinstance(mount, Mount) and exported(case, host, facts)):
        return _server_ruling(case, host, facts, sources, causes)
    if isinstance(facts.share, Missing):
        causes.missing(facts.share, same(case.site.shared_path))
    elif facts.share.hung:
        _weigh_hung(case, facts, causes)
    if isinstance(mount, Missing):
        causes.missing(mount, same("/proc/self/mountinfo"))
        return causes.ruling(Text("mount not seen", "未取得挂载信息"), _PASSED)
    if mount is None:
        causes.unknown(Reason.CANNOT_TELL, Text("no mount covers the path", "没有挂载覆盖该路径"))
        return causes.ruling(Text("no mount", "无挂载"), _PASSED)
    _weigh_type(case, host, facts, mount, causes)
    if host.name in sources:
        _weigh_source(case, host, sources, causes)
        _weigh_nfs(case, facts, mount, causes)
        _weigh_persistence(case, facts, mount, causes)
    return causes.ruling(
        same(f"{quoted(mount.source, 80)} {mount.fstype} {quoted(','.join(mount.options), 120)}"),
        _PASSED,
        material={"source": sources.get(host.name, mount.source), "type": mount.fstype, "options": list(mount.options)},
    )


def _weigh_hung(case: FleetCase, facts: StorageFacts, causes: Causes) -> None:
    ports = ", ".join(f"{quoted(server, 60)}:2049 {quoted(outcome, 20)}" for server, outcome in facts.server.items())
    said = f" ({ports})" if ports else ""
    causes.unknown(Reason.TIMEOUT, Text(f"{case.site.shared_path} hangs{said}", f"{case.site.shared_path} 挂死{said}"))


def _weigh_type(case: FleetCase, host: HostSite, facts: StorageFacts, mount: Mount, causes: Causes) -> None:
    allowed = case.params.texts("shared_fs_types")
    if mount.fstype == AUTOFS:
        causes.unknown(
            Reason.CANNOT_TELL, Text("autofs has not mounted it yet: run again", "autofs 尚未挂载：请重新运行")
        )
    elif mount.fstype in LOCAL_TYPES and "storage" in host.roles and isinstance(facts.exports, Missing):
        causes.missing(facts.exports, Text("exports", "导出列表"))
    elif mount.fstype in LOCAL_TYPES:
        causes.fail(
            Text(
                f"{mount.fstype} is a local filesystem ({quoted(mount.source, 60)} on {quoted(mount.point, 60)})",
                f"{mount.fstype} 是本地文件系统（{quoted(mount.source, 60)}，挂载于 {quoted(mount.point, 60)}）",
            )
        )
    elif mount.fstype not in allowed:
        kind = quoted(mount.fstype, 40)
        causes.fail(Text(f"{kind} is not one of shared_fs_types", f"{kind} 不在 shared_fs_types 之列"))
    elif mount.fstype in SLOW_FOR_WEIGHTS:
        causes.warn(Text(f"{mount.fstype} is unfit for model weights", f"{mount.fstype} 不适合存放模型权重"))


def _weigh_source(case: FleetCase, host: HostSite, sources: Mapping[str, str], causes: Causes) -> None:
    here = sources[host.name]
    wanted = case.params.optional_text("shared_source")
    if wanted:
        if normal_source(wanted, case.site) != here:
            causes.fail(Text(f"source is {quoted(here)}, not {wanted}", f"来源为 {quoted(here)}，应为 {wanted}"))
        return
    counts = Counter(sources.values())
    if len(counts) == 1:
        return
    shown = listed([f"{quoted(source, 60)} ×{count}" for source, count in counts.most_common()])
    text = Text(f"hosts mount different sources: {shown}", f"各主机挂载来源不同：{shown}")
    most, second = (count for _, count in counts.most_common(2))
    if counts[here] == most and most > second:
        causes.warn(text)
    else:
        causes.fail(text)


def _weigh_nfs(case: FleetCase, facts: StorageFacts, mount: Mount, causes: Causes) -> None:
    if mount.fstype not in NFS_TYPES:
        return
    soft = next((name for name in ("soft", "softerr") if mount.option(name) is not None), None)
    if soft and case.params.flag("nfs_hard"):
        causes.warn(Text(f"{soft} mount: reads fail under load instead of waiting", f"{soft} 挂载：高负载下读取会报错"))
    version = mount.option("vers") or mount.option("nfsvers")
    least = str(case.params.value("nfs_vers_min"))
    if version is None or not _VERSION.fullmatch(version):
        causes.warn(Text("the NFS version is not shown", "未显示 NFS 版本"))
    elif _numbers(version) < _numbers(least):
        causes.warn(Text(f"NFS {version} is older than {least}", f"NFS {version} 低于 {least}"))
    health = () if isinstance(facts.health, Missing) else facts.health
    seen = next((item for item in health if item.point == mount.point), None)
    if seen is None:
        causes.note(Text("no NFS statistics for this mount", "该挂载没有 NFS 统计"))
    elif seen.retransmit_pct > RETRANSMIT_WARN_PCT:
        share = f"{seen.retransmit_pct:.1f} % > {RETRANSMIT_WARN_PCT:g} %"
        causes.warn(Text(f"{share} of NFS calls were sent again", f"NFS 重传率 {share}"))
    for server, outcome in facts.server.items():
        if outcome != "ok":
            said = f"{quoted(server, 60)}:2049 {quoted(outcome, 20)}"
            causes.note(Text(f"the NFS port does not answer: {said}", f"NFS 端口无应答：{said}"))


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return (int(major), int(minor or 0)) if major.isdigit() and (minor or "0").isdigit() else (0, 0)


def _weigh_persistence(case: FleetCase, facts: StorageFacts, mount: Mount, causes: Causes) -> None:
    if not case.params.flag("persistent_mount"):
        return
    if other := _other_source(case, facts, mount):
        causes.warn(
            Text(
                f"after a reboot fstab mounts {quoted(other, 80)} here, not {quoted(mount.source, 80)}",
                f"重启后 fstab 将在此挂载 {quoted(other, 80)}，而非 {quoted(mount.source, 80)}",
            )
        )
    if _is_persistent(facts, mount):
        return
    if isinstance(facts.fstab, Missing):
        causes.missing(facts.fstab, same("/etc/fstab"))
    else:
        causes.warn(
            Text(
                f"{quoted(mount.point)} is in neither fstab nor systemd: gone after a reboot",
                f"{quoted(mount.point)} 不在 fstab 或 systemd 中：重启后丢失",
            )
        )


def _other_source(case: FleetCase, facts: StorageFacts, mount: Mount) -> str | None:
    """The NFS export that fstab names for the mount point, when it is not what is mounted there now."""
    entries = () if isinstance(facts.fstab, Missing) else facts.fstab
    entry = next((entry for entry in entries if entry.point == mount.point), None)
    if entry is None or entry.fstype not in NFS_TYPES or mount.fstype not in NFS_TYPES:
        return None
    same_export = normal_source(entry.source, case.site) == normal_source(mount.source, case.site)
    return None if same_export else entry.source


def _is_persistent(facts: StorageFacts, mount: Mount) -> bool:
    """An fstab line without `noauto` (or with an automount), an enabled mount unit, or autofs above the mount."""
    entries = () if isinstance(facts.fstab, Missing) else facts.fstab
    for entry in entries:
        if entry.point == mount.point:
            return "noauto" not in entry.options or "x-systemd.automount" in entry.options
    units = () if isinstance(facts.units, Missing) else facts.units
    if any(unit.persistent for unit in units):
        return True
    table = () if isinstance(facts.mounts, Missing) else facts.mounts
    return any(m.fstype == AUTOFS and m.point != "/" and under(m.point, mount.point) for m in table)


def _server_ruling(
    case: FleetCase, host: HostSite, facts: StorageFacts, sources: Mapping[str, str], causes: Causes
) -> Ruling:
    """The storage server: the path is local there and legitimate when the others mount what it exports."""
    exports = () if isinstance(facts.exports, Missing) else facts.exports
    open_root = [e for e in exports if e.to_the_world and "no_root_squash" in e.options]
    if open_root:
        said = listed(sorted({export.path for export in open_root}))
        causes.warn(Text(f"no_root_squash to the world: {said}", f"no_root_squash 对所有客户端开放：{said}"))
    served = {s.partition(":")[2] for s in sources.values() if host.name in s.partition(":/")[0].split(",")}
    # NFSv4 clients may name a path below the pseudo root (fsid=0), so only the tail has to agree.
    lost = [path for path in served if not any(under(e.path, path) or "fsid=0" in e.options for e in exports)]
    if lost:
        said = listed(sorted(lost))
        causes.fail(Text(f"clients mount {said}, which is not exported", f"客户端挂载了未导出的 {said}"))
    shown = listed(sorted({f"{quoted(e.path, 60)} {quoted(e.client, 40)}" for e in exports}))
    return causes.ruling(
        Text(f"exports {shown}", f"导出 {shown}"),
        Text("this host serves the share", "本机提供该共享"),
        material={"exports": sorted(f"{e.path} {e.client} {','.join(e.options)}" for e in exports)},
    )


JUDGE = FleetJudge("stor.shared-service", ("storage",), ("storage",), judge)
